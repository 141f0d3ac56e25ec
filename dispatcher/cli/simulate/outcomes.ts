/**
 * What becomes of the jobs that were sent, according to the live socket. A job may end before the answer to its submit
 * arrives, and the socket may be cut: what it did not tell is asked for.
 */
import type { FleetClient } from '../../../client';
import {
	defaultOrg,
	type FinalState,
	isFinal,
	type JobState,
	type LiveJob,
	type LiveMessage,
	Problem,
} from '../../../protocol';
import { liveMessages } from '../live';
import type { Address } from '../transport';
import type { Stage } from './stage';

/** States of jobs that are not known to be ours; most are somebody else's. */
const maxStrangers = 20_000;
/** How many times are kept for the percentiles: the latest ones. */
const maxTimes = 200_000;
const comeBackMs = 1_000;
const asksTogether = 8;

const channel = `jobs:${defaultOrg}`;

export class Outcomes {
	readonly ended: Record<FinalState, number> = {
		completed: 0,
		failed: 0,
		timeout: 0,
		cancelled: 0,
	};
	/** From the submit to the end as it was seen here, in milliseconds. */
	readonly times: number[] = [];
	readonly #client: FleetClient;
	readonly #stage: Pick<Stage, 'monotonic' | 'sleep'>;
	/** Those that have not ended: when they were sent, and how they stand. */
	readonly #open = new Map<string, { sentAt: number; state: JobState }>();
	readonly #strangers = new Map<string, JobState>();
	#timesSeen = 0;
	/** The last event that was heard. */
	#seq: number | undefined;
	#changed = () => {};

	constructor(client: FleetClient, stage: Pick<Stage, 'monotonic' | 'sleep'>) {
		this.#client = client;
		this.#stage = stage;
	}

	get open(): number {
		return this.#open.size;
	}

	get running(): number {
		let running = 0;
		for (const { state } of this.#open.values()) if (atWork(state)) running += 1;
		return running;
	}

	sent(jobId: string, sentAt: number): void {
		this.#open.set(jobId, { sentAt, state: 'queued' });
		const state = this.#strangers.get(jobId);
		this.#strangers.delete(jobId);
		if (state !== undefined) this.#stands(jobId, state);
	}

	/** Listens until it is over, and comes back when the socket is cut. Calls `ready` once it hears for the first time. */
	async listen(address: Address, over: AbortSignal, ready: () => void): Promise<void> {
		const since = () => this.#seq;
		for (;;) {
			try {
				for await (const message of liveMessages(address, [channel], since, over)) {
					ready();
					await this.#hear(message, over);
				}
			} catch (error) {
				if (!(error instanceof Problem) || !error.retry) throw error;
			}
			if (over.aborted) return;
			await this.#stage.sleep(comeBackMs, over);
		}
	}

	/** Resolves when none is open any more, or when it is over. */
	async settled(over: AbortSignal): Promise<void> {
		const stop = new Promise<void>((resolve) => {
			if (over.aborted) resolve();
			else over.addEventListener('abort', () => resolve(), { once: true });
		});
		while (this.#open.size > 0 && !over.aborted) {
			await Promise.race([stop, new Promise<void>((resolve) => (this.#changed = resolve))]);
		}
	}

	/** Asks about each open job: the socket has not told its end, or not yet. */
	async ask(over?: AbortSignal): Promise<void> {
		const ids = this.#open.keys();
		const one = async () => {
			for (const jobId of ids) {
				if (over?.aborted) return;
				try {
					this.#stands(jobId, (await this.#client.job(jobId)).state);
				} catch (error) {
					// Purged, or nobody there: it stays open, and is asked for again.
					if (!(error instanceof Problem)) throw error;
				}
			}
		};
		await Promise.all(Array.from({ length: asksTogether }, one));
	}

	async #hear({ event, seq, data }: LiveMessage, over: AbortSignal): Promise<void> {
		if (event !== 'snapshot') {
			this.#seq = seq;
			return this.#take(data as Partial<LiveJob>);
		}
		const { items, more } = data as { items: LiveJob[]; more: boolean };
		for (const item of items) this.#take(item);
		if (more) return;
		this.#seq = seq;
		// The snapshot lacks what ended while nobody listened.
		await this.ask(over);
	}

	#take({ jobId, state }: Partial<LiveJob>): void {
		if (jobId === undefined || state === undefined) return;
		if (this.#open.has(jobId)) return this.#stands(jobId, state);
		this.#strangers.delete(jobId);
		this.#strangers.set(jobId, state);
		if (this.#strangers.size <= maxStrangers) return;
		const [oldest] = this.#strangers.keys();
		this.#strangers.delete(oldest!);
	}

	#stands(jobId: string, state: JobState): void {
		const job = this.#open.get(jobId);
		if (!job) return;
		job.state = state;
		if (!isFinal(state)) return;
		this.#open.delete(jobId);
		this.ended[state] += 1;
		this.times[this.#timesSeen % maxTimes] = this.#stage.monotonic() - job.sentAt;
		this.#timesSeen += 1;
		this.#changed();
	}
}

const atWork = (state: JobState) => state === 'dispatched' || state === 'running';

/** Of numbers in any order. */
export function percentileOf(values: readonly number[], share: number): number | null {
	if (values.length === 0) return null;
	const sorted = [...values].sort((a, b) => a - b);
	return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!);
}
