/**
 * Where a new job goes: to a robot that is free for it, in the same commit, or into its queue. The
 * slot is reserved while the turn plans and becomes a hold when it is committed.
 */
import { policyText, type Policy } from '../core/retry';
import {
	type Asked,
	type Deeds,
	maxAskedLength,
	type NewAttempt,
	type NewJob,
} from '../store/store';
import type { Assigning } from './assigning';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
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

	constructor(context: Context, assigning: Assigning) {
		this.#context = context;
		this.#assigning = assigning;
	}

	/** A slot of a robot that is free for the job now; none when it has to wait. */
	reserve(turn: Turn, job: Pick<NewJob, 'state' | 'lane'>): Place | undefined {
		if (job.state !== 'queued') return undefined;
		const robot = this.#assigning.robotFor(this.#context.lanes.get(job.lane));
		return robot && { robot, attempt: this.#assigning.reserve(turn, robot, 1) };
	}

	/** The job was not stored after all: its slot is for the next one. */
	release({ robot }: Place): void {
		this.#assigning.unreserve(robot);
		this.#context.turns.nudge();
	}

	/** The commit carried the job. */
	placed(job: NewJob, place: Place | undefined): void {
		if (place) {
			this.#assigning.assigned(place.robot, place.attempt, { ...job, ...fresh(job), bars: null });
			return;
		}
		this.#context.dueAt(job.dueAt);
		if (job.state !== 'queued') return;
		const head = { id: job.id, rank: job.rank, bars: null, attempt: 0 };
		// A job too big to be kept in memory is read again when it is given away.
		const small = job.spec.length + job.variables.length <= maxAskedLength;
		this.#context.lanes.push(job, small ? { ...head, asked: fresh(job) } : head);
	}
}

/** The state a job starts in and when it next needs a look. */
export function startOf(
	policy: Policy,
	now: number,
	readyAt: number,
): Pick<NewJob, 'state' | 'readyAt' | 'dueAt' | 'policy'> {
	const { queueMs, deadlineAt } = policy.timeouts;
	const instants = [
		...(readyAt > now ? [readyAt] : []),
		...(queueMs === undefined ? [] : [now + queueMs]),
		...(deadlineAt === undefined ? [] : [deadlineAt]),
	];
	return {
		state: readyAt > now ? 'pending' : 'queued',
		readyAt,
		dueAt: instants.length > 0 ? Math.min(...instants) : null,
		policy: policyText(policy),
	};
}

/** What a new job asks for. */
function fresh({ kind, spec, variables, policy, createdAt, parentId }: NewJob): Asked {
	return { kind, spec, variables, policy, createdAt, parentId, tries: 0, losses: 0 };
}
