/**
 * May this robot take this job, now? Answers with the refusal, or with nothing. `permanent` means
 * that asking again cannot help: the robot does not know the kind, cannot do what the job asks, or
 * the job makes no sense.
 */
import { Check } from 'typebox/schema';
import { kinds, wishesOf } from '../kinds';
import { needsWorkspace } from '../kinds/files';
import type { JobAssignment, JobRejected, Variables } from '../protocol';
import { capBeyond } from './caps';
import type { Executor } from './executors/executor';
import { wrongIn } from './hub-messages';

export type Refusal = Pick<JobRejected, 'reason' | 'message' | 'permanent'>;

export interface House {
	executors: ReadonlyMap<string, Executor>;
	stopping: boolean;
	paused: boolean;
	freeSlots: number;
	/** Files can be placed and collected here. */
	files: boolean;
	/** Why it cannot have a client now. */
	noClient?: string | undefined;
}

export function refusalOf(assignment: JobAssignment, house: House): Refusal | undefined {
	const wrong = wrongIn(assignment);
	if (wrong !== undefined) return never('invalid', `The assignment makes no sense: ${wrong}.`);
	const kind = kinds.get(assignment.kind);
	if (kind === undefined || !house.executors.has(assignment.kind)) {
		return never('unsupported-kind', `This agent cannot run jobs of kind "${assignment.kind}".`);
	}
	if (!Check(kind.schema, assignment.spec)) {
		return never('invalid', `The spec is not one of a ${assignment.kind} job.`);
	}
	const problem = kind.check(assignment.spec, assignment.variables as Variables);
	if (problem !== undefined) return never('invalid', problem.message);
	if (!house.files && needsWorkspace(wishesOf(assignment.kind, assignment.spec))) {
		return never('unsupported-kind', 'This agent can neither place files nor collect them.');
	}
	const cap = capBeyond(assignment.caps);
	if (cap !== undefined) {
		return never('policy', `This robot cannot hold a job to a cap on ${cap}.`);
	}
	if (house.stopping) return notNow('stopping', 'The agent is being stopped.');
	if (house.paused) return notNow('paused', 'The robot is paused.');
	if (house.freeSlots <= 0) return notNow('no-slot', 'Every slot of the robot is taken.');
	if (house.noClient !== undefined) return notNow('no-slot', house.noClient);
	return undefined;
}

function never(reason: Refusal['reason'], message: string): Refusal {
	return { reason, message, permanent: true };
}

function notNow(reason: Refusal['reason'], message: string): Refusal {
	return { reason, message, permanent: false };
}
