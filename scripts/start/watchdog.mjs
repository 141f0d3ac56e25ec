/**
 * Outlives a killed `npm start` just long enough to stop what that had started. Its input tells it
 * which process groups run (`+123`) and which have ended (`-123`); the input ends when the writer
 * does, however it died.
 *
 *   node scripts/start/watchdog.mjs NOTE_FILE     the file is there while something is being stopped
 */
import { rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { until } from '../n8n/until.mjs';

const politeMs = 8_000;
const hurryMs = 3_000;
const noteFile = /** @type {string} */ (process.argv[2]);
/** @type {Set<number>} */
const groups = new Set();

// Whoever stops us wants the others stopped, and that begins when our input ends.
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
	process.on(signal, () => undefined);
}

for await (const line of createInterface({ input: process.stdin })) {
	const pid = Number(line.slice(1));
	if (line.startsWith('+')) groups.add(pid);
	else groups.delete(pid);
}
if (groups.size > 0) {
	writeFileSync(noteFile, `${[...groups].join('\n')}\n`);
	try {
		// An agent that is asked twice kills its jobs; killed itself, it would leave them behind.
		(await endAll('SIGTERM', politeMs)) ||
			(await endAll('SIGTERM', hurryMs)) ||
			(await endAll('SIGKILL', hurryMs));
	} finally {
		rmSync(noteFile, { force: true });
	}
}

/**
 * @param {NodeJS.Signals} signal
 * @param {number} deadlineMs
 * @returns {Promise<boolean>} whether they are gone
 */
async function endAll(signal, deadlineMs) {
	groups.forEach((group) => send(group, signal));
	const allGone = () => [...groups].every((group) => !send(group, 0));
	return await until(allGone, { deadlineMs, what: () => 'them to end' }).catch(() => false);
}

/** @param {number} group @param {NodeJS.Signals | 0} signal @returns {boolean} whether it is there */
function send(group, signal) {
	try {
		return process.kill(process.platform === 'win32' ? group : -group, signal);
	} catch {
		return false;
	}
}
