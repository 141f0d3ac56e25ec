/**
 * What every contender can do: the same work, each in its own best way. A contender is started anew,
 * with an empty private folder on the same disk, for every round; only one is alive at a time.
 */
export interface Contender {
	readonly name: string;
	readonly title: string;
	readonly version: string;
	/** In one line: durability, and what was tuned. */
	readonly settings: string;
	/** `workers` robots, or the peer's jobs at once. */
	start(workers: number): Promise<Rig>;
}

export interface Rig {
	/** Submits in bulks of `bulkSize`, each awaited; resolves when the last result is durably recorded. */
	bulk(count: number): Promise<void>;
	/** The same one by one, `inFlight` at a time. */
	single(count: number): Promise<void>;
	/** One job on an idle system: milliseconds from submit to start; resolves when it is recorded. */
	latency(): Promise<number>;
	/** The processes that keep the queue: a service, a database. */
	readonly serverPids: readonly number[];
	/** The processes that do the work: simulated robots, or the peer's workers. */
	readonly workerPids: readonly number[];
	stop(): Promise<void>;
}

export const bulkSize = 1_000;
export const inFlight = 200;

/** What a job carries: 200 bytes. */
export const padding = 'x'.repeat(200);

/** The moment of submit, in the clock that all processes of this machine share. */
export const now = () => String(process.hrtime.bigint());

export async function inBulks(
	count: number,
	submit: (size: number) => Promise<unknown>,
): Promise<void> {
	for (let i = 0; i < count; i += bulkSize) await submit(Math.min(bulkSize, count - i));
}

/** So many callers, each with its next call as soon as its last is answered. */
export async function inParallel(
	count: number,
	call: () => Promise<unknown>,
	callers = inFlight,
): Promise<void> {
	let left = count;
	const caller = async () => {
		while (left > 0) {
			left -= 1;
			await call();
		}
	};
	await Promise.all(Array.from({ length: Math.min(callers, count) }, caller));
}
