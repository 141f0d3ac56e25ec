/**
 * The order of a queue: priority with ageing, as one stored number on a plain index.
 * A level is worth ten minutes of waiting, so low work cannot starve; critical work always comes first,
 * and in order of time among itself.
 */
import { type Priority, priorities, priorityLevel } from '../../protocol';

const levelMs = 600_000;
/** Puts critical before anything that can ever age towards it. */
const criticalMs = 1e15;

export function rank(readyAt: number, priority: Priority): number {
	const level = priorityLevel[priority];
	return priority === 'critical' ? readyAt - criticalMs : readyAt - level * levelMs;
}

/** Since when a job has been in line: its rank with the priority taken out. */
export function inLineSince(stored: number, priority: Priority): number {
	return stored - rank(0, priority);
}

/** The same place in time under another priority. */
export function rerank(stored: number, from: Priority, to: Priority): number {
	return rank(inLineSince(stored, from), to);
}

/** Names and numbers are accepted at every edge; inside there are only names. */
export function priorityOf(value: Priority | number | undefined): Priority {
	if (typeof value === 'number') return priorities[3 - value] ?? 'normal';
	return value ?? 'normal';
}

export interface Ranked {
	id: string;
	rank: number;
}

export function before(a: Ranked, b: Ranked): boolean {
	return a.rank < b.rank || (a.rank === b.rank && a.id < b.id);
}

/**
 * Fair share: among jobs that are equally urgent (less than one level apart), those whose share
 * key was served least go first. Jobs without a key keep their plain place in the order.
 */
export class Shares {
	readonly #served = new Map<string, { count: number; queues: number }>();
	/** Where the one served last stood; newcomers start there. */
	#level = 0;

	/** A queue of this key has work. Absence earns no credit: a newcomer starts level with the others. */
	join(key: string): void {
		if (key === '') return;
		const known = this.#served.get(key);
		if (known) known.queues += 1;
		else this.#served.set(key, { count: this.#level, queues: 1 });
	}

	leave(key: string): void {
		const known = this.#served.get(key);
		if (known && (known.queues -= 1) === 0) this.#served.delete(key);
	}

	served(key: string): void {
		const known = this.#served.get(key);
		if (!known) return;
		this.#level = known.count;
		known.count += 1;
	}

	/** Whether `a` goes before `b`, each being the head of its queue. */
	before(a: Ranked & { shareKey: string }, b: Ranked & { shareKey: string }): boolean {
		const keyed = a.shareKey !== '' && b.shareKey !== '' && a.shareKey !== b.shareKey;
		if (!keyed || Math.abs(a.rank - b.rank) >= levelMs) return before(a, b);
		const served = (key: string) => this.#served.get(key)?.count ?? this.#level;
		const difference = served(a.shareKey) - served(b.shareKey);
		return difference === 0 ? before(a, b) : difference < 0;
	}
}
