/**
 * What a parent is: a job whose work is done by its children. How they stand is how it stands, and
 * when none of them is open any more it ends, in one of three ways.
 */
import {
	type Cause,
	causes,
	type Children,
	type FinalState,
	finalStates,
	type JobError,
	type JobState,
	jobStates,
} from '../../protocol';
import { resultText } from './result';

/** Numbers by state as a store counts them; losses that nobody can judge are counted apart as `unknown`. */
export type Counted = Partial<Record<JobState | 'unknown', number>>;

export function childrenOf(counted: Counted): Children {
	const unknown = counted.unknown ?? 0;
	const byState = Object.fromEntries(
		jobStates.map((state) => [state, counted[state] ?? 0]),
	) as Record<JobState, number>;
	byState.failed += unknown;
	const total = jobStates.reduce((sum, state) => sum + byState[state], 0);
	return { total, ...byState, unknown };
}

export function openOf(children: Children): number {
	return finalStates.reduce((open, state) => open - children[state], children.total);
}

/** Percentage of the children that have ended, 0…100; 100 only when all have. */
export function progressOf(children: Children): number {
	if (children.total === 0) return 0;
	return Math.floor((100 * (children.total - openOf(children))) / children.total);
}

/** `2 running, 1 failed`: only the states that occur, in the order of a job's life. */
export function tellChildren(children: Children, states: readonly JobState[] = jobStates): string {
	const counted: Counted = { ...children, failed: children.failed - children.unknown };
	return states
		.flatMap((state) => (state === 'failed' ? (['failed', 'unknown'] as const) : [state]))
		.filter((state) => counted[state]! > 0)
		.map((state) => `${counted[state]} ${state}`)
		.join(', ');
}

export interface ParentEnding {
	to: FinalState;
	cause: Cause | null;
	reason: string;
	/** `{children}` in it becomes the numbers by state. */
	error: JobError | null;
}

/** The ending for each case; the first that applies counts. */
export interface ParentEndings {
	allCompleted: ParentEnding;
	/** Not all of them completed, and somebody had cancelled the parent. */
	cancelRequested: ParentEnding;
	otherwise: ParentEnding;
}

export const parentEndings: ParentEndings = {
	allCompleted: { to: 'completed', cause: null, reason: 'all children completed', error: null },
	cancelRequested: {
		to: 'cancelled',
		cause: 'cancelled',
		reason: 'cancelled',
		error: { type: 'cancelled', message: `${causes.cancelled} Its children: {children}.` },
	},
	otherwise: {
		to: 'failed',
		cause: 'dependency',
		reason: 'dependency',
		error: { type: 'dependency', message: 'Not all children completed: {children}.' },
	},
};

export function endingOf(
	endings: ParentEndings,
	children: Children,
	cancelRequested: boolean,
): ParentEnding {
	const ending =
		children.completed === children.total
			? endings.allCompleted
			: cancelRequested
				? endings.cancelRequested
				: endings.otherwise;
	if (ending.error === null) return ending;
	const message = ending.error.message.replace('{children}', tellChildren(children));
	return { ...ending, error: { ...ending.error, message } };
}

/** One child, in the result of its parent. */
export interface ResultCell {
	cell: string;
	jobId: string;
	state: JobState;
	cause: Cause | null;
	robotId: string | null;
	startedAt: number | null;
	endedAt: number | null;
	/** Of a rollout. */
	batch?: number;
}

/**
 * The result of a parent as text. Only so many cells fit in; the numbers count all children. `skipped` = robots that
 * got no child because they were away.
 */
export function parentResultText(
	children: Children,
	cells: ResultCell[],
	durationMs: number,
	skipped: string[],
): string {
	return resultText({
		exitCode: null,
		signal: null,
		stdout: '',
		stderr: '',
		truncated: false,
		outputs: {
			children,
			cells,
			cellsLeftOut: children.total - cells.length,
			...(skipped.length === 0 ? {} : { skipped }),
		},
		durationMs,
		error: null,
		processGone: true,
	});
}
