/** What a simulation needs besides a terminal: waits that can be cut short, and word when it is to end. */
export interface Stage {
	/** Milliseconds that never jump. */
	monotonic(): number;
	/** Resolves after `ms`, or at once when the signal aborts. Never rejects; keeps the process alive meanwhile. */
	sleep(ms: number, signal?: AbortSignal): Promise<void>;
	/** 0 ≤ x < 1; only for a seed where none is given. */
	chance(): number;
	/** The person wants it to end. Once this has been read, the first Ctrl+C aborts it; a second one ends the process. */
	readonly interrupted: AbortSignal;
}

/** Seeds that people can read aloud. */
const seedsBelow = 10_000;

export function drawnSeed(stage: Stage): number {
	return Math.floor(stage.chance() * seedsBelow);
}

export function stageOf({ stage }: { stage?: Stage }): Stage {
	if (!stage) throw new Error('There is no clock to play by.');
	return stage;
}

/** Aborts when the person says so, or by itself after `afterMs`. */
export function endOf(stage: Stage, afterMs: number | undefined): AbortController {
	const over = new AbortController();
	const { interrupted } = stage;
	if (interrupted.aborted) over.abort();
	else interrupted.addEventListener('abort', () => over.abort(), { once: true });
	if (afterMs !== undefined) void stage.sleep(afterMs, over.signal).then(() => over.abort());
	return over;
}
