/**
 * Children that must not outlive us: when this process ends, by itself or by a signal, they get
 * theirs. (Nobody can do that for a process killed with SIGKILL.)
 */

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/** @type {Map<ChildProcess, NodeJS.Signals>} */
const children = new Map();
const endAll = () => children.forEach((signal, child) => child.kill(signal));

process.on('exit', endAll);
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
	process.once(signal, () => {
		// Whoever else listens decides how we end; alone, we end as if nobody had listened.
		if (process.listenerCount(signal) > 0) return;
		endAll();
		process.kill(process.pid, signal);
	});
}

/**
 * @template {ChildProcess} C
 * @param {C} child
 * @param {NodeJS.Signals} signal
 * @returns {C}
 */
export function endWithUs(child, signal) {
	children.set(child, signal);
	child.once('close', () => children.delete(child));
	return child;
}
