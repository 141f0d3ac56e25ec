/**
 * When a wait for several jobs is decided: enough of them have ended, or completed, or too many
 * cannot complete any more.
 */
import type { WaitCounts } from '../../protocol';

export interface WaitCondition {
	until: 'all' | 'any' | { count: number };
	counts: WaitCounts;
}

/** How a job stands; one for several robots may count as one for each of them. */
export interface Tally {
	total: number;
	ended: number;
	completed: number;
	/** Its robots are not chosen yet: there may be more of it. */
	unsure?: boolean;
}

/** `failed`: what was asked for cannot come about any more. */
export type Verdict = 'open' | 'met' | 'failed';

export function verdictOf({ until, counts }: WaitCondition, tallies: Iterable<Tally>): Verdict {
	let total = 0;
	let ended = 0;
	let completed = 0;
	let unsure = false;
	for (const tally of tallies) {
		total += tally.total;
		ended += tally.ended;
		completed += tally.completed;
		unsure ||= tally.unsure ?? false;
	}
	const have = counts === 'completed' ? completed : ended;
	// While one job is unsure, nobody knows how many "all" are; a number is just that number.
	if (unsure) return until !== 'all' && have >= wanted(until) ? 'met' : 'open';
	const need = until === 'all' ? total : Math.min(wanted(until), total);
	if (have >= need) return 'met';
	return counts === 'completed' && completed + (total - ended) < need ? 'failed' : 'open';
}

function wanted(until: 'any' | { count: number }): number {
	return until === 'any' ? 1 : until.count;
}
