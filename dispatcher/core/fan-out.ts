/**
 * Which robots get a child when one job is meant for several. The choice is made once, when the job
 * starts, and frozen in the children: who comes later gets none, who is away is waited for.
 */
import type { Target, TargetMode } from '../../protocol';

export type FanOut = Exclude<TargetMode, 'one'>;

/** On how many robots the job shall run; `undefined` = on one, it is a job like any other. */
export function fanOutOf({ mode }: Target): FanOut | undefined {
	return mode === 'one' ? undefined : mode;
}

/** A robot that matches. */
export interface Candidate {
	robotId: string;
	/** Connected, and not told to take no work. */
	open: boolean;
	/** Slots a job could have now. */
	free: number;
	/** Share of its slots that is in use. */
	load: number;
	/** What it is worth to the job; absent = as good as any. */
	preference?: number;
}

/**
 * All of them, or the best so many: free ones first, then those that will be, then those that are away;
 * among equals those it prefers, then the least loaded, then in the order given. `undefined` when there are too few.
 */
export function chooseRobots(mode: FanOut, candidates: readonly Candidate[]): string[] | undefined {
	const wanted = mode === 'all' ? Math.max(1, candidates.length) : mode.count;
	if (candidates.length < wanted) return undefined;
	return [...candidates]
		.sort(
			(a, b) =>
				distance(a) - distance(b) || (b.preference ?? 0) - (a.preference ?? 0) || a.load - b.load,
		)
		.slice(0, wanted)
		.map(({ robotId }) => robotId);
}

function distance({ open, free }: Candidate): number {
	if (!open) return 2;
	return free > 0 ? 0 : 1;
}
