/**
 * Whoever starts a thing hands in how to stop it. The end of the run, a failure and Ctrl+C undo all
 * that is left, last first, so that nothing runs on and no folder stays behind.
 */
type Undo = () => Promise<void> | void;

const undos: Undo[] = [];
let undoing: Promise<void> | undefined;

/** Returns the undo itself, which does its work once however often it is called. */
export function onExit(undo: Undo): () => Promise<void> {
	let done: Promise<void> | undefined;
	const once = () => {
		const at = undos.indexOf(once);
		if (at >= 0) undos.splice(at, 1);
		return (done ??= Promise.resolve(undo()));
	};
	undos.push(once);
	return once;
}

export function undoAll(): Promise<void> {
	return (undoing ??= (async () => {
		for (let undo = undos.at(-1); undo; undo = undos.at(-1)) {
			try {
				await undo();
			} catch (error) {
				console.error('stopping a part of the benchmark failed:', error);
			}
		}
	})());
}

/** Ctrl+C, a polite kill, or the end of who started us: everything is undone. A second signal ends it at once. */
export function undoOnSignals(): void {
	const stop = (why: string) => {
		console.error(`\n${why}: stopping what was started`);
		void undoAll().finally(() => process.exit(130));
	};
	for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
	// Servers that nobody stops any more would be worse than a lost trace.
	process.once('uncaughtException', (error) => stop(error.stack ?? String(error)));
	process.once('disconnect', () => stop('whoever started it is gone'));
	// Only to hear of that; it must not keep us alive.
	process.channel?.unref();
}
