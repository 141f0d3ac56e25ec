/**
 * Which robots get a child when one job is meant for several. The choice is made once, when the job starts, and frozen
 * in the children: a robot that comes later gets none. One that is away is waited for or left out, as the job says.
 */
import type { Away, Target, TargetMode } from '../../protocol';

export type FanOut = Exclude<TargetMode, 'one'>;

/** On how many robots the job is to run; `undefined` = on one, like any other job. */
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
	/** Not connected. */
	away?: boolean;
	/** The parts it is in, where one robot of each part is wanted. */
	parts?: readonly string[];
}

export interface Chosen {
	/** In the order in which they go out. */
	robots: string[];
	/** Would have been chosen, but were left out because they are away. */
	skipped: string[];
}

/**
 * All of them, the best few, the best of each part, or those that are named: free ones first, then those that will be,
 * then those that are away or closed; among equals those the job prefers, then the least loaded, then in the order
 * given. `undefined` when there are too few.
 */
export function chooseRobots(
	mode: FanOut,
	candidates: readonly Candidate[],
	away: Away = 'wait',
): Chosen | undefined {
	const ranked = [...candidates].sort(
		(a, b) =>
			distance(a) - distance(b) || (b.preference ?? 0) - (a.preference ?? 0) || a.load - b.load,
	);
	const all = pick(mode, ranked);
	if (away === 'wait') return all && { robots: all, skipped: [] };
	const here = ranked.filter(({ away }) => !away);
	// Robots that are named are wanted whether or not they are here: those that are away are left out knowingly.
	const wanted = typeof mode === 'object' && 'robots' in mode ? all && within(mode, here) : mode;
	const robots = wanted && pick(wanted, here);
	const skipped = (all ?? []).filter((robotId) => !robots?.includes(robotId));
	return robots && { robots, skipped };
}

/** Whether the mode could mean a robot at all. */
export function meantBy(mode: FanOut): (robotId: string, parts: readonly string[]) => boolean {
	if (mode === 'all' || 'count' in mode) return () => true;
	const named = 'robots' in mode ? new Set(mode.robots) : undefined;
	return (robotId, parts) => named?.has(robotId) ?? parts.length > 0;
}

/** How many robots the mode comes to, if so many match, in so many parts. */
export function widthOf(mode: FanOut, matching: number, parts: number): number {
	if (mode === 'all') return matching;
	if ('count' in mode) return mode.count;
	return 'robots' in mode ? mode.robots.length : Math.min(matching, parts);
}

/** What the mode asks for, in words. */
export function describeFanOut(mode: FanOut): string {
	if (mode === 'all') return 'all';
	if ('count' in mode) return String(mode.count);
	if ('robots' in mode) return `${mode.robots.length} that it names`;
	return 'perLabel' in mode
		? `one for each value of the label ${mode.perLabel}`
		: `one for each group in ${mode.perGroup}`;
}

function pick(mode: FanOut, ranked: readonly Candidate[]): string[] | undefined {
	const ids = ranked.map(({ robotId }) => robotId);
	if (mode === 'all') return some(ids);
	if ('count' in mode) return ids.length < mode.count ? undefined : ids.slice(0, mode.count);
	if ('robots' in mode) {
		const named = new Set(mode.robots);
		const found = ids.filter((id) => named.has(id));
		return found.length < named.size ? undefined : some(found);
	}
	const taken = new Set<string>();
	const parts = [...new Set(ranked.flatMap((candidate) => candidate.parts ?? []))].sort();
	for (const part of parts) {
		// A robot in two parts stands for only one of them.
		const best = ranked.find(
			(candidate) => candidate.parts?.includes(part) && !taken.has(candidate.robotId),
		);
		if (best) taken.add(best.robotId);
	}
	return some(ids.filter((id) => taken.has(id)));
}

const some = (ids: string[]) => (ids.length === 0 ? undefined : ids);

function within(mode: { robots: string[] }, here: readonly Candidate[]): FanOut {
	return { robots: mode.robots.filter((id) => here.some(({ robotId }) => robotId === id)) };
}

function distance({ open, free }: Candidate): number {
	if (!open) return 2;
	return free > 0 ? 0 : 1;
}
