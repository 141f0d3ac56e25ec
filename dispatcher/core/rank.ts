/**
 * The order of a queue: priority with ageing, as one stored number on a plain index.
 * A level is worth ten minutes of waiting, so low work cannot starve; critical is always first,
 * among itself by time.
 */
import { type Priority, priorities, priorityLevel } from '../../protocol';

const levelMs = 600_000;
/** Puts critical before anything that can ever age towards it. */
const criticalMs = 1e15;

export function rank(readyAt: number, priority: Priority): number {
	const level = priorityLevel[priority];
	return priority === 'critical' ? readyAt - criticalMs : readyAt - level * levelMs;
}

/** Names and numbers are accepted at every edge; inside there are only names. */
export function priorityOf(value: Priority | number | undefined): Priority {
	if (typeof value === 'number') return priorities[3 - value] ?? 'normal';
	return value ?? 'normal';
}
