/**
 * Where a new job goes: to a robot that is free for it, in the same commit, or into its queue. The
 * slot is reserved while the turn plans and becomes a hold when it is committed.
 */
import { type FileState, Problem, type SubmitAnswer } from '../../protocol';
import { patienceEndsAt } from '../core/patience';
import { policyText, type Policy } from '../core/retry';
import { waitEndsAt } from '../core/waiting';
import {
	type Asked,
	type Deeds,
	type Earlier,
	maxAskedLength,
	type NewAttempt,
	type NewJob,
} from '../store/store';
import type { Assigning, NewQueued } from './assigning';
import { bytesOf } from './backlog';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Lane } from './lanes';
import type { Turn } from './turns';

/** A job that is ready to be stored. */
export type Prepared = Omit<Deeds['insertJob']['in'], 'attempt'>;

/** A slot that is reserved for a new job. */
export interface Place {
	robot: RobotEntry;
	attempt: NewAttempt;
}

export class Placing {
	readonly #context: Context;
	readonly #assigning: Assigning;
	/** A robot was free for a new job, or may have been, and others stood before it. */
	#passed = false;

	constructor(context: Context, assigning: Assigning) {
		this.#context = context;
		this.#assigning = assigning;
	}

	/**
	 * Room in the queue for a job that may have to wait, or for `count` like it, until the turn is over; or why
	 * there is none.
	 */
	admit(turn: Turn, job: NewJob, count = 1): Problem | (() => void) {
		try {
			const release = this.#context.backlog.admit(job.createdBy, bytesOf(job) * count, count);
			turn.undo.push(release);
			return release;
		} catch (error) {
			if (error instanceof Problem) return error;
			throw error;
		}
	}

	/** Why there is no room in the queue for one more job; `undefined` when there is some. */
	full(job: NewJob): Problem | undefined {
		try {
			this.#context.backlog.admit(job.createdBy, bytesOf(job))();
			return undefined;
		} catch (error) {
			if (error instanceof Problem) return error;
			throw error;
		}
	}

	/** A slot of a robot that is free for the job now; none when it has to wait. */
	reserve(
		turn: Turn,
		job: NewQueued & Pick<NewJob, 'state' | 'lane' | 'shareKey'>,
	): Place | undefined {
		if (job.state !== 'queued') return undefined;
		const lane = this.#context.lanes.get(job.lane);
		const robot = this.#assigning.robotFor(lane, job, turn.now);
		if (!robot) {
			this.#passed ||= hasBarred(lane);
			return undefined;
		}
		if (this.#assigning.hasWorkBefore(robot, job, turn.now)) {
			this.#passed = true;
			return undefined;
		}
		return { robot, attempt: this.#assigning.reserve(turn, robot, 1, lane, job.needs) };
	}

	/** The job was not stored after all: its slot is for the next one. */
	release({ robot, attempt }: Place): void {
		this.#assigning.unreserve(robot, attempt);
		this.#context.turns.nudge();
	}

	/** The commit carried the job. */
	placed(job: NewJob, place: Place | undefined): void {
		const { id, rank, priority, lane, shareKey, needs, state } = job;
		const affinity = job.affinity ?? null;
		const waiting = { id, rank, priority, owner: job.createdBy, bytes: bytesOf(job) };
		if (place) {
			const given = { ...waiting, ...fresh(job), lane, shareKey, needs, affinity, bars: null };
			this.#assigning.assigned(place.robot, place.attempt, given);
			return;
		}
		this.#context.backlog.enter({ ...waiting, state, lane });
		this.#context.dueAt(job.dueAt);
		if (state !== 'queued') return;
		const head = { ...waiting, affinity, bars: null, attempt: 0 };
		// A job too big to be kept in memory is read again when it is given away.
		const small = job.spec.length + job.variables.length <= maxAskedLength;
		this.#context.lanes.push(job, small ? { ...head, asked: fresh(job) } : head);
		// It did not pass a job that was to have the robot or is barred from it, or that waits for a gate or for a robot
		// it prefers; now it may.
		const { lanes, turns } = this.#context;
		if (!this.#passed && !lanes.hasSpecial && lanes.get(lane).rule.preferWaitMs === undefined)
			return;
		this.#passed = false;
		turns.nudge();
	}
}

/** The state a job starts in and when it next needs a look. */
export function startOf(
	policy: Policy,
	now: number,
	readyAt: number,
): Pick<NewJob, 'state' | 'readyAt' | 'dueAt' | 'policy'> {
	const { queueEndsAt, deadlineAt } = waitEndsAt(policy, { createdAt: now, tries: 0 });
	const instants = [
		...(readyAt > now ? [readyAt] : []),
		queueEndsAt,
		deadlineAt,
		// Before it can start nobody waits for its robot.
		...(policy.offline === undefined || readyAt > now ? [] : [patienceEndsAt(policy.offline)]),
	].filter(Number.isFinite);
	return {
		state: readyAt > now ? 'pending' : 'queued',
		readyAt,
		dueAt: instants.length > 0 ? Math.min(...instants) : null,
		policy: policyText(policy),
	};
}

/** What the store said of an earlier job, as an answer to the submit. */
export function earlierAnswer(
	earlier: NonNullable<Deeds['insertJob']['out']>,
	{ job, idempotency }: Prepared,
): SubmitAnswer | Problem {
	if (earlier === 'fired') return new Problem('already-fired');
	if (earlier === 'passed') return new Problem('already-retried', { id: job.retryOf });
	if ('noFile' in earlier) return unusableFile(earlier);
	if ('sameAs' in earlier) return new Problem('duplicate-job', { jobId: earlier.sameAs });
	return keyedAnswer(earlier, idempotency!.key);
}

/** The job that was made with this key, if by the same request. */
export function keyedAnswer(
	{ duplicateOf: jobId, sameRequest, state }: Earlier,
	key: string,
): SubmitAnswer | Problem {
	return sameRequest
		? { jobId, state, duplicate: true }
		: new Problem('key-conflict', { key, jobId });
}

function unusableFile({ noFile: file, have }: { noFile: string; have: FileState | null }): Problem {
	const reasons = { open: 'is not whole yet', lost: 'has lost its bytes', ready: 'is busy' };
	const reason = have === null ? 'is not known here (any more)' : reasons[have];
	return new Problem('file-unusable', { file, reason });
}

/** How many queues of a lane a submit looks at. */
const maxLooked = 64;

/** Whether a robot may be free all the same: the first of a queue is barred from some. */
function hasBarred({ open }: Lane): boolean {
	let looked = 0;
	for (const { heads } of open) {
		if ((heads[0]?.bars ?? null) !== null) return true;
		// With very many queues the next sweep finds the robot: a submit must not cost more the more wait.
		if (++looked === maxLooked) return false;
	}
	return false;
}

/** What a new job asks for. */
function fresh({ kind, spec, variables, policy, createdAt, parentId }: NewJob): Asked {
	return {
		kind,
		spec,
		variables,
		policy,
		createdAt,
		startedAt: null,
		parentId,
		tries: 0,
		losses: 0,
	};
}
