/** What people do to a job after it was submitted: cancel, try again, move by hand. */
import {
	canMove,
	isFinal,
	type Job,
	type JobState,
	limits,
	Problem,
	type SubmitAnswer,
} from '../../protocol';
import { openOf } from '../core/parents';
import { rank } from '../core/rank';
import { policyOf } from '../core/retry';
import type { NewJob, StoredJob } from '../store/store';
import type { Attempts } from './attempts';
import type { Context } from './context';
import { refOf } from './fleet';
import type { Caller } from './index';
import type { Jobs } from './jobs';
import type { Parents } from './parents';
import { startOf } from './placing';
import type { Turn } from './turns';
import { childrenView, jobView } from './views';

export class Changes {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #attempts: Attempts;
	readonly #parents: Parents;

	constructor(context: Context, jobs: Jobs, attempts: Attempts, parents: Parents) {
		this.#context = context;
		this.#jobs = jobs;
		this.#attempts = attempts;
		this.#parents = parents;
	}

	/** Cancelling twice, or after the end, is harmless: the job is answered as it is. */
	async cancel(jobId: string, by: Caller): Promise<Job> {
		return jobView(await this.#cancel(jobId, { by: `key:${by.name}`, how: `by ${by.name}` }));
	}

	/** Children whose parent was cancelled, and the service died before they were. */
	async resume(): Promise<void> {
		const withParent = { by: 'dispatcher', how: 'with its parent' };
		for (const parentId of await this.#context.store.read('cancelledParents', null)) {
			await this.#cancelChildren(parentId, withParent);
		}
	}

	async #cancel(jobId: string, who: Canceller): Promise<StoredJob> {
		for (;;) {
			const job = await this.#jobs.read(jobId);
			if (isFinal(job.state)) return job;
			const running = job.children !== null && job.state === 'running';
			if (job.cancelRequestedAt === null) await this.#requestCancel(job, running, who);
			else if (!running) return job;
			if (!running) continue;
			await this.#cancelChildren(jobId, who);
			return this.#jobs.read(jobId);
		}
	}

	#requestCancel(job: StoredJob, runningParent: boolean, who: Canceller): Promise<void> {
		const { turns, fleet } = this.#context;
		return new Promise((resolve, reject) => {
			turns.push({
				plan: (turn) => {
					if (!turn.touch(job.id)) return 'later';
					const live = fleet.live(job.id);
					if (runningParent) {
						const wish = { jobId: job.id, epoch: job.epoch, at: turn.now };
						turn.add('requestCancel', wish, () => resolve());
					} else if (!live) this.#end(turn, job, who, resolve);
					else if (live.cancelRequestedAt !== null) resolve();
					else {
						const wish = { jobId: job.id, epoch: live.epoch, at: turn.now };
						turn.add('requestCancel', wish, (wished) => {
							if (wished) {
								live.cancelRequestedAt = wish.at;
								this.#attempts.stop(live, 'cancelled');
							}
							resolve();
						});
					}
				},
				fail: reject,
			});
		});
	}

	/** Each like any other job: the last of them to end, now or when its robot has answered, ends the parent. */
	async #cancelChildren(parentId: string, who: Canceller): Promise<void> {
		const open = await this.#context.store.read('openChildren', { parentId });
		await Promise.all(open.map((jobId) => this.#cancel(jobId, who)));
	}

	async retry(jobId: string, by: Caller): Promise<SubmitAnswer & { retryOf: string }> {
		const job = await this.#jobs.read(jobId);
		if (!isFinal(job.state)) throw new Problem('not-final', { state: job.state });
		const now = this.#context.clock.now();
		const policy = policyOf(job.policy);
		// The limits are the same; a deadline that has passed would only end it again.
		const { deadlineAt, ...timeouts } = policy.timeouts;
		const again: NewJob = {
			...startOf(
				{
					...policy,
					timeouts: { ...timeouts, ...(deadlineAt && deadlineAt > now ? { deadlineAt } : {}) },
				},
				now,
				now,
			),
			id: this.#context.ids.next(),
			kind: job.kind,
			lane: job.lane,
			rank: rank(now, job.priority),
			priority: job.priority,
			createdAt: now,
			createdBy: `key:${by.name}`,
			retryOf: job.id,
			parentId: null,
			cell: null,
			children: job.children === null ? null : 0,
			shareKey: job.shareKey,
			spec: job.spec,
			variables: job.variables,
			target: job.target,
		};
		const [answer] = await this.#jobs.insert([{ job: again }]);
		if (answer instanceof Problem) throw answer;
		return { ...answer!, retryOf: job.id };
	}

	async moveJob(jobId: string, to: JobState, by: Caller): Promise<Job> {
		const { fleet, turns, lanes, clock } = this.#context;
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
		const live = fleet.live(jobId);
		if (live && isFinal(to)) {
			await this.#attempts.forced(live, to, `key:${by.name}`);
			return this.#jobs.job(jobId);
		}
		// What is left needs a robot's word (dispatched, running), or is a move of a waiting job.
		if (live || to === 'dispatched' || to === 'running' || job.state === 'running') {
			throw new Problem('illegal-move', { from: job.state, to });
		}
		const at = clock.now();
		const moved = await this.#parents.moveJob(job.parentId, {
			jobId,
			from: [job.state],
			to,
			cause: to === 'failed' ? 'denied' : null,
			reason: 'set by hand',
			by: `key:${by.name}`,
			at,
			// Held or waiting, its limits go on; nothing else wakes a job that is held.
			dueAt: isFinal(to) ? null : (endsAt(job) ?? (to === 'pending' ? never : null)),
		});
		if (!moved)
			throw new Problem('illegal-move', { from: (await this.#jobs.read(jobId)).state, to });
		if (isFinal(to)) this.#context.watchers.ended(jobId);
		else this.#context.dueAt(endsAt(job));
		if (to === 'queued') {
			lanes.push(job, { id: job.id, rank: job.rank, bars: job.bars, attempt: job.attempt });
			turns.nudge();
		}
		return this.#jobs.job(jobId);
	}

	/** pending or queued → cancelled; when the job has moved on meanwhile, the caller looks again. */
	#end(turn: Turn, { id: jobId, parentId }: StoredJob, who: Canceller, done: () => void): void {
		turn.add(
			'moveJob',
			{
				jobId,
				from: ['pending', 'queued'],
				to: 'cancelled',
				cause: 'cancelled',
				reason: 'cancelled',
				by: who.by,
				at: turn.now,
				cancelRequestedAt: turn.now,
				error: JSON.stringify({
					type: 'cancelled',
					message: `Cancelled ${who.how} before it started.`,
				}),
			},
			(moved) => {
				if (moved) this.#context.watchers.ended(jobId);
				done();
			},
		);
		this.#parents.childEnds(turn, parentId);
	}
}

/** Who cancels: for the timeline, and for people. */
interface Canceller {
	by: string;
	how: string;
}

/** The instant of a hold that nobody ends. */
const never = Number.MAX_SAFE_INTEGER;

/** When the limits of a job that waits end it. One that was tried has shown that it can start. */
function endsAt({ policy, tries, createdAt }: StoredJob): number | null {
	const { queueMs, deadlineAt = Infinity } = policyOf(policy).timeouts;
	const queueEndsAt = queueMs === undefined || tries > 0 ? Infinity : createdAt + queueMs;
	const at = Math.min(queueEndsAt, deadlineAt);
	return Number.isFinite(at) ? at : null;
}
