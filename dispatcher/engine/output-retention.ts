/**
 * Lets go of what has been kept long enough: the output of jobs that ended long ago, and of the oldest
 * ones while there is too much of it in all. What a purge leaves half empty is packed together.
 */
import type { Context } from './context';

const purgeMs = 60_000;
/** Per commit: everybody else's waits for it. */
const maxJobs = 500;
const mostBytes = 8 * 1024 * 1024;
const maxMovedBytes = 4 * 1024 * 1024;
/** Per visit: what is left waits for the next one, which comes at once. */
const maxRounds = 20;

export class OutputRetention {
	readonly #context: Context;
	#lookedAt: number;

	constructor(context: Context) {
		this.#context = context;
		this.#lookedAt = context.clock.monotonic();
	}

	/** Called often; does something once a minute. */
	async look(): Promise<void> {
		const { clock } = this.#context;
		if (clock.monotonic() - this.#lookedAt < purgeMs) return;
		this.#lookedAt = clock.monotonic();
		if ((await this.purgeOutput()).more) this.#lookedAt = -Infinity;
	}

	async purgeOutput(): Promise<{ jobs: number; bytes: number; more: boolean }> {
		const { clock, turns, settings, log } = this.#context;
		const purged = { jobs: 0, bytes: 0, more: true };
		const limits = {
			endedBefore: clock.now() - settings.keepOutputMs,
			maxBytes: settings.keepOutputBytes,
			maxJobs,
			mostBytes,
		};
		for (let round = 0; round < maxRounds && purged.more; round += 1) {
			const { jobs, bytes, more } = await turns.deed('purgeOutput', limits);
			purged.jobs += jobs;
			purged.bytes += bytes;
			purged.more = more;
		}
		if (purged.jobs > 0) log.info('output purged', purged);
		for (let round = 0; round < maxRounds; round += 1) {
			const { moved, damaged } = await turns.deed('compactOutput', { maxBytes: maxMovedBytes });
			if (damaged > 0) log.error('stored output is damaged', { records: damaged });
			if (moved === 0) break;
		}
		return purged;
	}
}
