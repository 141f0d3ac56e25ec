/** How long a job may wait, and what becomes of one that is changed while it waits. */
import type { JobState, Priority } from '../../protocol';
import { patienceEndsAt } from './patience';
import { rerank } from './rank';
import type { Policy } from './retry';

/** The due instant of a job that waits for a person, not for time. */
export const never = Number.MAX_SAFE_INTEGER;

/**
 * When a job that still waits is over. The queue limit is for jobs that were never tried: one that was
 * has shown that it can start.
 */
export function waitEndsAt(
	{ timeouts, queueSince }: Policy,
	job: { createdAt: number; tries: number },
): { queueEndsAt: number; deadlineAt: number } {
	const counts = timeouts.queueMs !== undefined && job.tries === 0 && queueSince !== null;
	return {
		queueEndsAt: counts ? (queueSince ?? job.createdAt) + timeouts.queueMs! : Infinity,
		deadlineAt: timeouts.deadlineAt ?? Infinity,
	};
}

/** When a job that is queued needs a look; null = never. */
export function queuedDueAt(
	policy: Policy,
	job: { createdAt: number; tries: number },
): number | null {
	const { queueEndsAt, deadlineAt } = waitEndsAt(policy, job);
	const dueAt = Math.min(queueEndsAt, deadlineAt, patienceEndsAt(policy.offline));
	return Number.isFinite(dueAt) ? dueAt : null;
}

interface WaitingJob {
	state: JobState;
	cause: string | null;
	priority: Priority;
	rank: number;
	lane: string;
	target: string;
	bars: string | null;
	hold: string | null;
	readyAt: number;
	createdAt: number;
	tries: number;
	children: number | null;
	/** 1 = its batch was not let go yet. */
	shut?: number | null;
}

export interface Change {
	priority?: Priority;
	/** Null = released. A hold without a reason leaves the one that is there. */
	hold?: { by: string; why?: string } | null;
	target?: { lane: string; target: string };
}

export interface Changed {
	state: 'pending' | 'queued';
	priority: Priority;
	rank: number;
	lane: string;
	target: string;
	bars: string | null;
	hold: string | null;
	dueAt: number | null;
	/** Another policy; absent = the one it has. */
	policy?: string;
	/** For the timeline. */
	reason: string;
}

/** A job that waits, changed; `undefined` when it is so already. */
export function changed(
	job: WaitingJob,
	change: Change,
	policy: Policy,
	now: number,
): Changed | undefined {
	const reasons: string[] = [];
	const { priority = job.priority, target = job } = change;
	const hold = holdOf(job.hold, change.hold);
	if (priority !== job.priority) reasons.push(`priority ${job.priority} → ${priority}`);
	if (hold !== job.hold) reasons.push(hold === null ? 'released' : `held by ${hold}`);
	const moved = target.lane !== job.lane || target.target !== job.target;
	if (moved) reasons.push('new target');
	if (reasons.length === 0) return undefined;
	const state = stateOf(job, hold, now);
	const { queueEndsAt, deadlineAt } = waitEndsAt(policy, job);
	const endsAt = Math.min(queueEndsAt, deadlineAt);
	const dueAt =
		state === 'queued'
			? (queuedDueAt(policy, job) ?? Infinity)
			: Math.min(endsAt, waitsForPerson(job, hold) ? never : job.readyAt);
	return {
		state,
		priority,
		rank: rerank(job.rank, job.priority, priority),
		lane: target.lane,
		target: target.target,
		bars: moved ? null : job.bars,
		hold,
		dueAt: Number.isFinite(dueAt) ? dueAt : null,
		reason: reasons.join(', '),
	};
}

function holdOf(held: string | null, wish: Change['hold']): string | null {
	if (wish === undefined) return held;
	if (wish === null) return null;
	return wish.why === undefined ? (held ?? wish.by) : `${wish.by}: ${wish.why}`;
}

/** Not only a hold keeps a job back: one from a backup waits for a person too, one of a later batch for that batch. */
function waitsForPerson(job: WaitingJob, hold: string | null): boolean {
	return hold !== null || job.cause === 'restored' || job.shut === 1;
}

function stateOf(job: WaitingJob, hold: string | null, now: number): 'pending' | 'queued' {
	if (waitsForPerson(job, hold)) return 'pending';
	// Its own instant, not the duty's: only a release lets a pending job go.
	if (job.hold === null) return job.state === 'queued' ? 'queued' : 'pending';
	// A parent never stands in a queue: when it is due it starts.
	return job.readyAt > now || job.children !== null ? 'pending' : 'queued';
}
