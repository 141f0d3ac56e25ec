/**
 * How many jobs wait, whose they are, and for which robots: kept in memory, so that a submit and a look
 * at the queue cost the same with ten jobs waiting as with a million.
 *
 * After a start the store is counted in the background, a stretch of ids a turn. Until the count has
 * come past a job's id, what happens to that job is not counted here: the count will find the job as it
 * is by then. A turn's reads come after its commit and before the next one, so nothing is missed and
 * nothing counted twice. Until the count is through, limits are those of the part that was counted.
 */
import { limits, type Priority, Problem } from '../../protocol';
import { inLineSince } from '../core/rank';
import type { StoredJob, Waiting } from '../store/store';
import type { Context } from './context';
import type { Turn } from './turns';

const scan = 2_000;
const second = 1_000;
const retryMs = 1_000;

/** What one key has waiting. */
interface Share {
	jobs: number;
	bytes: number;
	/** Of the turns under way, not yet committed. */
	planned: { jobs: number; bytes: number };
}

interface WaitCounts {
	pending: number;
	queued: Record<Priority, number>;
}

export class Backlog {
	readonly #context: Context;
	readonly #shares = new Map<string, Share>();
	readonly #lanes = new Map<string, number>();
	/** Queued jobs by the second since which they have been in line. */
	readonly #since = new Map<number, number>();
	readonly #waits: WaitCounts = {
		pending: 0,
		queued: { critical: 0, high: 0, normal: 0, low: 0 },
	};
	/** Ids below are counted; `undefined` = all of them. */
	#countedTo: string | undefined = '';
	readonly #counted = Promise.withResolvers<void>();
	readonly #over = new AbortController();

	constructor(context: Context) {
		this.#context = context;
		this.#counted.promise.catch(() => undefined);
	}

	/** Starts the count; call once, when the first turns may run. */
	start(): void {
		this.#ask((turn) =>
			turn.ask('oldestWaiting', null, (oldest) => {
				// Nothing older than that waits by now; what goes back to waiting is counted when it does.
				if (oldest === null) this.#done();
				else this.#count(oldest);
			}),
		);
	}

	/** Resolves when every job that waits is counted. */
	get counted(): Promise<void> {
		return this.#counted.promise;
	}

	/**
	 * Takes room for a job that is about to wait; throws `queue-full`. Give it back with the returned
	 * function when the commit is answered or has failed.
	 */
	admit(owner: string, bytes: number, count = 1): () => void {
		const share = this.#share(owner);
		const { maxWaitingJobs, maxWaitingBytes } = this.#context.settings;
		const jobs = share.jobs + share.planned.jobs;
		const full =
			jobs + count > maxWaitingJobs
				? `${jobs} jobs`
				: share.bytes + share.planned.bytes + bytes > maxWaitingBytes
					? `${Math.round(maxWaitingBytes / 1024 / 1024)} MiB of jobs`
					: undefined;
		if (full !== undefined) {
			this.#tidy(owner, share);
			throw new Problem('queue-full', {
				key: owner.replace(/^key:/, ''),
				what: full,
				retryMs: limits.queueFullRetryMs,
			});
		}
		share.planned.jobs += count;
		share.planned.bytes += bytes;
		return () => {
			share.planned.jobs -= count;
			share.planned.bytes -= bytes;
			this.#tidy(owner, share);
		};
	}

	/** A commit made the job wait. */
	enter(job: Waiting): void {
		if (this.#isCounted(job.id)) this.#add(job, 1);
	}

	/** A commit ended its wait: it was given to a robot, or ended. `job` is what it was while it waited. */
	leave(job: Waiting): void {
		if (this.#isCounted(job.id)) this.#add(job, -1);
	}

	get waits(): WaitCounts {
		return { pending: this.#waits.pending, queued: { ...this.#waits.queued } };
	}

	/** The second since which the first queued job has been in line. */
	get oldestQueuedAt(): number | null {
		let oldest = Infinity;
		for (const at of this.#since.keys()) if (at < oldest) oldest = at;
		return Number.isFinite(oldest) ? oldest * second : null;
	}

	/** The longest lanes with the number of their queued jobs. */
	longest(count: number): { lane: string; queued: number }[] {
		const longest: { lane: string; queued: number }[] = [];
		for (const [lane, queued] of this.#lanes) {
			if (longest.length === count && queued <= longest.at(-1)!.queued) continue;
			const at = longest.findLastIndex((other) => other.queued >= queued) + 1;
			longest.splice(at, 0, { lane, queued });
			if (longest.length > count) longest.pop();
		}
		return longest;
	}

	shareOf(owner: string): { jobs: number; bytes: number } {
		const { jobs = 0, bytes = 0 } = this.#shares.get(owner) ?? {};
		return { jobs, bytes };
	}

	/** What is not counted yet stays so: the next life counts anew. */
	stop(): void {
		this.#over.abort();
	}

	#count(from: string): void {
		this.#countedTo = from;
		this.#ask((turn) =>
			turn.ask('waiting', { from, scan }, ({ jobs, next }) => {
				for (const job of jobs) this.#add(job, 1);
				if (next === undefined) this.#done();
				else this.#count(next);
			}),
		);
	}

	#done(): void {
		this.#countedTo = undefined;
		this.#counted.resolve();
	}

	/** A full disk fails turns for a while; anything else ends the service. */
	#ask(plan: (turn: Turn) => void): void {
		const { turns, clock } = this.#context;
		turns.push({
			plan,
			fail: (error) => {
				if (!(error instanceof Problem)) return this.#counted.reject(error);
				const { signal } = this.#over;
				void clock.sleep(retryMs, signal).then(() => {
					if (!signal.aborted) this.#ask(plan);
				});
			},
		});
	}

	#isCounted(jobId: string): boolean {
		return this.#countedTo === undefined || jobId < this.#countedTo;
	}

	#add({ state, lane, priority, rank, owner, bytes }: Waiting, by: 1 | -1): void {
		const share = this.#share(owner);
		share.jobs += by;
		share.bytes += by * bytes;
		this.#tidy(owner, share);
		if (state === 'pending') {
			this.#waits.pending += by;
			return;
		}
		this.#waits.queued[priority] += by;
		grow(this.#lanes, lane, by);
		grow(this.#since, Math.floor(inLineSince(rank, priority) / second), by);
	}

	#share(owner: string): Share {
		let share = this.#shares.get(owner);
		if (!share) {
			share = { jobs: 0, bytes: 0, planned: { jobs: 0, bytes: 0 } };
			this.#shares.set(owner, share);
		}
		return share;
	}

	#tidy(owner: string, { jobs, bytes, planned }: Share): void {
		if (jobs === 0 && bytes === 0 && planned.jobs === 0) this.#shares.delete(owner);
	}
}

function grow<K>(counts: Map<K, number>, key: K, by: number): void {
	const count = (counts.get(key) ?? 0) + by;
	if (count === 0) counts.delete(key);
	else counts.set(key, count);
}

/** What counts of a stored job while it waits. */
export function waitingOf(job: StoredJob): Waiting {
	return {
		id: job.id,
		state: job.state === 'pending' ? 'pending' : 'queued',
		lane: job.lane,
		priority: job.priority,
		rank: job.rank,
		owner: job.createdBy,
		bytes: bytesOf(job),
	};
}

export function bytesOf({ spec, variables }: Pick<StoredJob, 'spec' | 'variables'>): number {
	return Buffer.byteLength(spec) + Buffer.byteLength(variables);
}
