/** Calendars that say when nothing runs; schedules name them. */
import { type Calendar, type CalendarRequest, Problem } from '../../protocol';
import { blackoutAt, type CalendarEntry, nextSpans } from '../core/blackout';
import { entriesOfIcal } from '../core/ical';
import { isZone, unknownZoneText } from '../core/zone';
import type { StoredCalendar } from '../store/store';
import type { Context } from './context';
import type { Caller } from './index';
import type { ScheduleBook } from './schedule-book';

const shownSpans = 5;

interface KnownCalendar {
	stored: StoredCalendar;
	entries: CalendarEntry[];
	/** A zone of its entries that only the Node which stored it knew. */
	unknownZone: string | null | undefined;
}

export class Calendars {
	readonly #context: Context;
	readonly #book: ScheduleBook;
	readonly #calendars = new Map<string, KnownCalendar>();

	constructor(context: Context, book: ScheduleBook) {
		this.#context = context;
		this.#book = book;
	}

	async load(): Promise<void> {
		for (const stored of await this.#context.store.read('calendars', null)) this.#remember(stored);
	}

	all(): Calendar[] {
		return [...this.#calendars.keys()].map((name) => this.one(name));
	}

	one(name: string): Calendar {
		const { stored, entries } = this.#find(name);
		return {
			name,
			entries: entries.length,
			usedBy: this.#usedBy(name),
			next: nextSpans(entries, 'UTC', this.#context.clock.now(), shownSpans),
			updatedAt: stored.updatedAt,
		};
	}

	async put(name: string, { ical, spans }: CalendarRequest, by: Caller): Promise<Calendar> {
		if ((ical === undefined) === (spans === undefined)) {
			throw new Problem('bad-field', { path: 'ical', reason: 'give either ical or spans' });
		}
		const backwards = spans?.findIndex(({ from, to }) => to <= from) ?? -1;
		if (backwards >= 0) {
			throw new Problem('bad-field', {
				path: `spans[${backwards}].to`,
				reason: 'must be later than from',
			});
		}
		const entries =
			ical === undefined
				? spans!.map(({ from, to, text = null }) => ({ from, to, zone: 'UTC', text }))
				: entriesOfIcal(ical);
		const stored = {
			name,
			entries: JSON.stringify(entries),
			createdBy: `key:${by.name}`,
			updatedAt: this.#context.clock.now(),
		};
		await this.#context.turns.deed('putCalendar', stored);
		this.#remember(stored);
		return this.one(name);
	}

	async remove(name: string): Promise<void> {
		this.#find(name);
		const [id] = this.#usedBy(name);
		if (id !== undefined) throw new Problem('calendar-used', { id, name });
		await this.#context.turns.deed('removeCalendar', { name });
		this.#calendars.delete(name);
	}

	/** Throws `no-such-calendar` unless all of them are there. */
	check(names: readonly string[]): void {
		for (const name of names) this.#find(name);
	}

	/** The one of these calendars that forbids this instant, with its reason. */
	forbids(names: readonly string[], zone: string, at: number): string | null {
		for (const name of names) {
			const calendar = this.#calendars.get(name);
			// Removed just as a schedule came to name it: nobody knows what it forbade.
			if (!calendar) return `${name}: there is no such calendar any more`;
			if (calendar.unknownZone) return `${name}: ${unknownZoneText(calendar.unknownZone)}`;
			const entry = blackoutAt(calendar.entries, zone, at);
			if (entry) return entry.text === null ? name : `${name}: ${entry.text}`;
		}
		return null;
	}

	#usedBy(name: string): string[] {
		return this.#book
			.all()
			.filter(({ definition }) => definition.blackouts.includes(name))
			.map(({ stored }) => stored.id);
	}

	#remember(stored: StoredCalendar): void {
		const entries = JSON.parse(stored.entries) as CalendarEntry[];
		const zones = entries.map(({ zone }) => zone);
		const unknownZone = zones.find((zone) => zone !== null && !isZone(zone));
		this.#calendars.set(stored.name, { stored, entries, unknownZone });
	}

	#find(name: string) {
		const found = this.#calendars.get(name);
		if (!found) throw new Problem('no-such-calendar', { name });
		return found;
	}
}
