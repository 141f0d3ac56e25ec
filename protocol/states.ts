/**
 * The life of a job as one table. A move that is not written here cannot happen: the store's
 * CHECKs, the engine's guards, docs/states.md and the property tests are all made from it.
 */

export const jobStates = [
	'pending',
	'queued',
	'dispatched',
	'running',
	'completed',
	'failed',
	'timeout',
	'cancelled',
] as const;

/**
 * - `pending`    accepted, not yet eligible: not-before, back-off, hold, restored
 * - `queued`     eligible; waits for a robot that fits and is free
 * - `dispatched` sent to one robot, which has not accepted it yet
 * - `running`    the robot accepted it and journalled that it starts it; of a parent: it has children
 * - the other four are final and never change
 */
export type JobState = (typeof jobStates)[number];

export const finalStates = ['completed', 'failed', 'timeout', 'cancelled'] as const;
export type FinalState = (typeof finalStates)[number];

export const moves = {
	pending: ['queued', 'failed', 'timeout', 'cancelled'],
	// Only a parent goes straight to running: it has no attempt, its children do the work. The guards of
	// assign and start keep all other jobs from that.
	queued: ['dispatched', 'running', 'pending', 'failed', 'timeout', 'cancelled'],
	dispatched: ['running', 'queued', 'pending', 'completed', 'failed', 'timeout', 'cancelled'],
	running: ['completed', 'failed', 'timeout', 'cancelled', 'pending'],
	completed: [],
	failed: [],
	timeout: [],
	cancelled: [],
} as const satisfies Record<JobState, readonly JobState[]>;

export function isFinal(state: JobState): state is FinalState {
	return moves[state].length === 0;
}

export function canMove(from: JobState, to: JobState): boolean {
	return (moves[from] as readonly JobState[]).includes(to);
}

/** Why a job ended the way it did. A closed list: programs may switch over it. */
export const causes = {
	exit_code: 'The command ended with an exit code other than 0.',
	signal: 'The command was ended by a signal that nobody asked for.',
	run_timeout: 'The job ran longer than `timeouts.runMs`.',
	silence_timeout:
		'The job printed nothing for `timeouts.silenceMs`, or hung, or its question was not answered.',
	queue_timeout:
		'No robot took the job within `timeouts.queueMs`, or its robot stayed away, as `offline` says.',
	start_timeout: 'The robot did not answer the assignment in time.',
	deadline: 'The job did not end before `timeouts.deadlineAt`.',
	robot_lost:
		'The robot was lost and `onLoss` says fail, or it was lost three times, or it stopped the job when it lost its link.',
	refused: 'The robot refused the job.',
	policy: 'No robot is left that may run this job, or it used more than its `caps` allow.',
	denied: 'A person or a rule denied the job.',
	dependency: 'Not all parts of this job for several robots completed.',
	cancelled: 'Somebody cancelled the job.',
	spawn_error: 'The command could not be started on the robot.',
	invalid: 'The robot could not make sense of the job.',
	infrastructure: 'The robot failed through no fault of the job.',
	clock: 'The clock of the robot or the dispatcher made a limit meaningless.',
	restored: 'The job came back from a backup.',
	unknown:
		'Nobody can know whether the command ran to its end, for example because its robot was lost.',
} as const;
export type Cause = keyof typeof causes;

/** The four levels, highest first. Numbers 3…0 are accepted wherever a name is. */
export const priorities = ['critical', 'high', 'normal', 'low'] as const;
export type Priority = (typeof priorities)[number];
export const priorityLevel = { critical: 3, high: 2, normal: 1, low: 0 } as const satisfies Record<
	Priority,
	number
>;
