/**
 * Tells a waiting person what goes on: one line per step with the seconds it took and, meanwhile, a
 * hint that something still moves. On a terminal the hint is rewritten in place; elsewhere (a log, a
 * test report) it is a plain line now and then.
 */

const liveEveryMs = 500;
const plainEveryMs = 15_000;

/**
 * @typedef {object} Progress
 * @property {(line: string) => void} say a line of its own
 * @property {<T>(name: string, work: () => Promise<T>, hint?: () => string) => Promise<T>} step
 */

/**
 * @param {((line: string) => void) | undefined} log receives whole lines; without it, stderr does
 * @returns {Progress}
 */
export function createProgress(log) {
	const live = !log && process.stderr.isTTY === true;
	const say = log ?? ((line) => void process.stderr.write(`${line}\n`));

	/** @type {Progress['step']} */
	async function step(name, work, hint = () => '') {
		const began = performance.now();
		const line = () => [`${name} (${elapsed(began)})`, hint()].filter(Boolean).join(': ');
		const show = () => (live ? process.stderr.write(`\r\x1b[2K${line()}`) : say(line()));
		if (live) show();
		else say(`${name} …`);
		const timer = setInterval(show, live ? liveEveryMs : plainEveryMs);
		try {
			const result = await work();
			if (live) process.stderr.write('\r\x1b[2K');
			say(`${name}: done in ${elapsed(began)}`);
			return result;
		} catch (error) {
			if (live) process.stderr.write('\n');
			throw error;
		} finally {
			clearInterval(timer);
		}
	}

	return { say, step };
}

/** @param {number} began @returns {string} such as '4 s' or '2 min 05 s' */
function elapsed(began) {
	const seconds = Math.round((performance.now() - began) / 1000);
	if (seconds < 60) return `${seconds} s`;
	return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`;
}
