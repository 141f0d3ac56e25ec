/**
 * What people do to a job after it was submitted: cancel, try again, move by hand. Changes of one that
 * waits: edits.ts.
 */
import {
	canMove,
	isFinal,
	type Job,
	type JobState,
	Problem,
	type RetryRequest,
	type SubmitAnswer,
	type Target,
} from '../../protocol';
import { laneRule, laneWith } from '../core/matching';
import { openOf } from '../core/parents';
import { rank } from '../core/rank';
import { policyOf } from '../core/retry';
import { renewed } from '../core/patience';
import { never, queuedDueAt, waitEndsAt } from '../core/waiting';
import type { StoredJob } from '../store/store';
import type { Attempts } from './attempts';
import type { Context } from './context';
import type { Live } from './fleet';
import type { Caller } from './index';
import { filesOf, type Home, type Jobs } from './jobs';
import type { Parents } from './parents';
import { type Prepared, startOf } from './placing';
import type { Rollouts } from './rollouts';
import type { Turn } from './turns';
import { childrenView, jobView } from './views';
import type { WaitingJobs, WaitingMove } from './waiting';

/** How often to look at a job that moves on while it is being cancelled; beyond that, nobody is moving it. */
const maxLooks = 20;
/** Between two tries to cancel the children of a parent: the disk may be full. */
const againMs = 1_000;

export class Changes {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #attempts: Attempts;
	readonly #parents: Parents;
	readonly #waiting: WaitingJobs;
	readonly #rollouts: Rollouts;
	/** Children of cancelled parents may be left over, from before the service started or because its disk was full. */
	#behind = true;
	#catchingUp: Promise<void> | undefined;

	constructor(
		context: Context,
		jobs: Jobs,
		attempts: Attempts,
		parents: Parents,
		waiting: WaitingJobs,
		rollouts: Rollouts,
	) {
		this.#context = context;
		this.#jobs = jobs;
		this.#attempts = attempts;
		this.#parents = parents;
		this.#waiting = waiting;
		this.#rollouts = rollouts;
	}

	/** Cancelling twice, or after the end, is harmless: the job is answered as it is. */
	async cancel(jobId: string, by: Caller): Promise<Job> {
		return jobView(await this.#cancel(jobId, { by: `key:${by.name}`, how: `by ${by.name}` }));
	}

	/** A new run of a schedule takes the place of this one. */
	async giveWay(jobId: string, scheduleId: string): Promise<void> {
		await this.#cancel(jobId, {
			by: `schedule:${scheduleId}`,
			how: 'for the next run of its schedule',
		});
	}

	/** Nobody waits for it any more. */
	async notNeeded(jobId: string, waitId: string, how: string): Promise<void> {
		await this.#cancel(jobId, { by: `wait:${waitId}`, how });
	}

	/** Cancels the children left of cancelled parents; what the disk does not take now is tried again. Never rejects. */
	catchUp(): Promise<void> {
		return (this.#catchingUp ??= this.#catchUp().finally(() => (this.#catchingUp = undefined)));
	}

	look(now: number): number | null {
		if (!this.#behind) return null;
		void this.catchUp();
		return now + againMs;
	}

	async #catchUp(): Promise<void> {
		this.#behind = false;
		try {
			for (const parentId of await this.#context.store.read('cancelledParents', null)) {
				await this.#cancelChildren(parentId, { by: 'dispatcher', how: 'with its parent' });
			}
		} catch (error) {
			this.#behind = true;
			this.#context.log.warn('children of a cancelled job are not cancelled yet', { error });
		}
	}

	async #cancel(jobId: string, who: Canceller): Promise<StoredJob> {
		for (let looks = 0; looks < maxLooks; looks += 1) {
			const job = await this.#jobs.read(jobId);
			if (isFinal(job.state)) return job;
			const running = job.children !== null && job.state === 'running';
			if (job.cancelRequestedAt === null) await this.#wishCancelled(job, running, who);
			else if (!running) return job;
			if (!running) continue;
			await this.#cancelChildren(jobId, who);
			return this.#jobs.read(jobId);
		}
		throw new Error(`job ${jobId} is neither waiting nor with a robot, and has not ended`);
	}

	/** Puts the cancel on record, or ends a job that waits; if the job has moved on meanwhile, the caller looks again. */
	#wishCancelled(job: StoredJob, runningParent: boolean, who: Canceller): Promise<unknown> {
		return this.#onTurn<boolean>(job.id, (turn, done) => {
			const live = this.#context.fleet.live(job.id);
			if (live && live.cancelRequestedAt !== null) done(true);
			else if (live) this.#tellRobot(turn, live, done);
			else if (runningParent) {
				turn.add('requestCancel', { jobId: job.id, epoch: job.epoch, at: turn.now }, done);
			} else if (waits(job)) this.#waiting.move(turn, job, cancelledBy(who, turn.now), done);
			else done(false);
		});
	}

	#tellRobot(turn: Turn, live: Live, done: (wished: boolean) => void): void {
		const wish = { jobId: live.jobId, epoch: live.epoch, at: turn.now };
		turn.add('requestCancel', wish, (wished) => {
			if (wished) {
				live.cancelRequestedAt = wish.at;
				this.#attempts.stop(live, 'cancelled');
			}
			done(wished);
		});
	}

	/** Each is cancelled like any other job: the last to end, now or when its robot has answered, ends the parent. */
	async #cancelChildren(parentId: string, who: Canceller): Promise<void> {
		const { clock, store } = this.#context;
		try {
			const open = await store.read('openChildren', { parentId });
			await Promise.all(open.map((jobId) => this.#cancel(jobId, who)));
		} catch (error) {
			// Whoever asked may not ask again.
			this.#behind = true;
			this.#context.dueAt(clock.now() + againMs);
			throw error;
		}
	}

	/**
	 * `only`: a parent once more, for those of its robots on which it did not complete. Safe to repeat: while a retry is
	 * under way, that retry is the answer.
	 */
	async retry(
		jobId: string,
		{ only }: RetryRequest,
		by: Caller,
	): Promise<SubmitAnswer & { retryOf: string }> {
		const job = await this.#jobs.read(jobId);
		if (!isFinal(job.state)) throw new Problem('not-final', { state: job.state });
		// A robot that it only excluded or preferred may be gone by now.
		const home = only && this.#jobs.place(await this.#rollouts.failedOnly(job), true);
		const earlier = await this.#retryOf(job);
		if (earlier && !isFinal(earlier.state)) return repeated(job, earlier);
		const again = this.again(job, by, home);
		const [answer] = await this.#jobs.insert([
			job.retriedAs === null ? { ...again, only: 'unretried' } : again,
		]);
		if (!(answer instanceof Problem)) return { ...answer!, retryOf: job.id };
		// Asked twice at once: the other one was first.
		const first =
			answer.code === 'already-retried' && (await this.#retryOf(await this.#jobs.read(jobId)));
		if (first) return repeated(job, first);
		throw answer;
	}

	async #retryOf({ retriedAs }: StoredJob): Promise<StoredJob | undefined> {
		return retriedAs === null
			? undefined
			: await this.#context.store.read('job', { id: retriedAs });
	}

	/** The same job once more, or the same for other robots. */
	again(job: StoredJob, by: Caller, home = this.#newHome(job)): Prepared {
		const now = this.#context.clock.now();
		const { queueSince: _, ...policy } = policyOf(job.policy);
		// The limits are the same, counted from now; a deadline that has passed would only end it again.
		const { deadlineAt, ...timeouts } = policy.timeouts;
		const offline = policy.offline && renewed(policy.offline, now);
		return {
			job: {
				...startOf(
					{
						...policy,
						offline,
						timeouts: { ...timeouts, ...(deadlineAt && deadlineAt > now ? { deadlineAt } : {}) },
					},
					now,
					now,
				),
				id: this.#context.ids.next(),
				kind: job.kind,
				rank: rank(now, job.priority),
				priority: job.priority,
				createdAt: now,
				createdBy: `key:${by.name}`,
				retryOf: job.id,
				parentId: null,
				cell: null,
				shareKey: job.shareKey,
				needs: job.needs,
				spec: job.spec,
				variables: job.variables,
				affinity: job.affinity,
				...(home
					? { ...home, lane: laneWith(home.lane, policy) }
					: {
							lane: job.lane,
							target: job.target,
							children: job.children === null ? null : 0,
						}),
			},
			...filesOf(job.kind, JSON.parse(job.spec)),
		};
	}

	/** Its robot was removed, and another one now has the name by which the job asked for it. */
	#newHome({ lane, target }: StoredJob): Home | undefined {
		const { robot } = laneRule(lane);
		if (robot === undefined || this.#context.fleet.get(robot)) return undefined;
		try {
			return this.#jobs.place(JSON.parse(target) as Target, true);
		} catch (error) {
			// There is none: it is told why it cannot start.
			if (error instanceof Problem) return undefined;
			throw error;
		}
	}

	async moveJob(jobId: string, to: JobState, by: Caller): Promise<Job> {
		for (;;) {
			const job = await this.#jobs.read(jobId);
			if (!canMove(job.state, to)) throw new Problem('illegal-move', { from: job.state, to });
			if (to === 'cancelled') return this.cancel(jobId, by);
			if (job.children !== null && job.state === 'running' && isFinal(to)) {
				throw new Problem('open-children', { open: openOf(childrenView(job)!) });
			}
			if (job.children !== null && to === 'queued') {
				await this.#parents.start(job);
				return this.#jobs.job(jobId);
			}
			const live = this.#context.fleet.live(jobId);
			if (live && isFinal(to)) {
				await this.#attempts.forced(live, to, `key:${by.name}`);
				return this.#jobs.job(jobId);
			}
			if (to === 'queued' && job.shut === 1) {
				throw new Problem('waits-for-batch', { batch: job.batch, parent: job.parentId });
			}
			// What is left needs a robot's word (dispatched, running), or is a move of a waiting job.
			if (live || to === 'dispatched' || to === 'running' || !waits(job)) {
				throw new Problem('illegal-move', { from: job.state, to });
			}
			const moved = await this.#onTurn<boolean>(jobId, (turn, done) =>
				this.#waiting.move(turn, job, byHand(job, to, by), done),
			);
			if (moved) return this.#jobs.job(jobId);
		}
	}

	/** One piece of work on one job, which no other turn is changing. */
	#onTurn<T>(jobId: string, work: (turn: Turn, done: (answer: T) => void) => void): Promise<T> {
		return new Promise((resolve, reject) => {
			this.#context.turns.push({
				plan: (turn) => {
					if (!turn.touch(jobId)) return 'later';
					work(turn, resolve);
				},
				fail: reject,
			});
		});
	}
}

/** Who cancels: for the timeline, and for people. */
interface Canceller {
	by: string;
	how: string;
}

const waits = ({ state }: StoredJob) => state === 'pending' || state === 'queued';

function cancelledBy({ by, how }: Canceller, at: number): WaitingMove {
	return {
		to: 'cancelled',
		cause: 'cancelled',
		reason: 'cancelled',
		by,
		cancelRequestedAt: at,
		error: JSON.stringify({ type: 'cancelled', message: `Cancelled ${how} before it started.` }),
	};
}

/** Held or waiting, its limits keep running; nothing else wakes a job that is held. */
function byHand(job: StoredJob, to: JobState, by: Caller): WaitingMove {
	const { queueEndsAt, deadlineAt } = waitEndsAt(policyOf(job.policy), job);
	const endsAt = Math.min(queueEndsAt, deadlineAt);
	return {
		to,
		cause: to === 'failed' ? 'denied' : null,
		reason: 'set by hand',
		by: `key:${by.name}`,
		...(to === 'queued' ? { dueAt: queuedDueAt(policyOf(job.policy), job) } : {}),
		...(to === 'pending' ? { dueAt: Math.min(endsAt, never), hold: by.name } : {}),
	};
}

function repeated(job: StoredJob, again: StoredJob): SubmitAnswer & { retryOf: string } {
	return { jobId: again.id, state: again.state, duplicate: true, retryOf: job.id };
}
