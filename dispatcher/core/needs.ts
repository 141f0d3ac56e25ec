/**
 * What jobs share besides robots. A *need* is what one job takes of one gate: of a lock, of the places that a key
 * has, of the starts that a rate allows. Jobs that need the same wait in one queue, so their needs, as one canonical
 * text, are part of its name. Slots are not among them: they are a term of the lane. Pure.
 */
import type { GateKind, Priority, Takes } from '../../protocol';
import { limits } from '../../protocol';
import { before, inLineSince, type Ranked } from './rank';

export interface Need {
	/** Names the gate. */
	readonly key: string;
	readonly of: GateKind;
	readonly name: string;
	readonly take: number;
	/** What the job itself says of a key: this many at once, or this many in `perMs`. */
	readonly max: number;
	readonly perMs: number;
}
export type Needs = readonly Need[];

/** What most jobs need. */
export const nothing = '';
const none: Needs = [];

type Row = [of: GateKind, name: string, take: number, max?: number, perMs?: number];

export const gateKey = (of: GateKind, name: string) => `${of}:${name}`;

/** Equal wishes give equal texts, in whatever order they were written. A lock that is named twice is taken once. */
export function needsText({ locks = [], concurrency, rate }: Takes): string {
	const wanted = new Map<string, number>();
	for (const { name, slots = 1 } of locks) {
		wanted.set(name, Math.max(slots, wanted.get(name) ?? 0));
	}
	const rows: Row[] = [...wanted].map(([name, slots]): Row => ['lock', name, slots]);
	rows.sort(([, a], [, b]) => (a < b ? -1 : 1));
	if (concurrency) rows.push(['concurrency', concurrency.key, 1, concurrency.max]);
	if (rate) rows.push(['rate', rate.key, 1, rate.max, rate.perMs]);
	return rows.length === 0 ? nothing : JSON.stringify(rows);
}

const remembered = new Map<string, Needs>();
const maxRemembered = 10_000;

/** The same object for the same text. */
export function needsOf(text: string): Needs {
	if (text === nothing) return none;
	const known = remembered.get(text);
	if (known) return known;
	const needs = (JSON.parse(text) as Row[]).map(([of, name, take, max = 0, perMs = 0]): Need => ({
		key: gateKey(of, name),
		of,
		name,
		take,
		max,
		perMs,
	}));
	if (remembered.size >= maxRemembered) remembered.clear();
	remembered.set(text, needs);
	return needs;
}

/** The start that a job takes of a rate, if it takes one. */
export const rateOf = (text: string) => needsOf(text).find(({ of }) => of === 'rate');

/** How much of it there is in all; `limit` is what an operator has set. */
export function capacityOf({ of, max }: Need, limit: number | undefined): number {
	if (of === 'lock') return limit ?? 1;
	return of === 'concurrency' && limit !== undefined ? Math.min(max, limit) : max;
}

/** What a job says it takes, without the defaults. */
export function takesOf({ locks, concurrency, rate, slots }: Takes): Takes {
	return {
		...(locks === undefined || locks.length === 0 ? {} : { locks }),
		...(concurrency === undefined ? {} : { concurrency }),
		...(rate === undefined ? {} : { rate }),
		...(slots === undefined || slots === 1 ? {} : { slots }),
	};
}

/**
 * Whether a waiting job is owed what it waits for: it has been in line so long that nobody behind it may take that any
 * more. Until then, whoever can use it passes.
 */
export function isOwed(
	{ rank, priority }: { rank: number; priority: Priority },
	now: number,
	patienceMs: number = limits.patienceMs,
): boolean {
	return now - inLineSince(rank, priority) >= patienceMs;
}

/** Whether a job may take from a gate that another is owed: it stands before that one, or leaves it enough `room`. */
export function passes(
	job: Ranked & { take: number },
	owed: Ranked & { take: number; room: number },
): boolean {
	return job.id === owed.id || before(job, owed) || owed.room - job.take >= owed.take;
}
