/**
 * When a calendar says that nothing runs. An entry is a span of the clock on the wall, in a zone of its own
 * or in that of whoever asks, once or again and again.
 */
import { type CalendarSpan, type NthWeekday, type Weekday, weekdays } from '../../protocol';
import { isZone, zoneOf } from './zone';

export interface CalendarEntry {
	/** Wall times of its zone: `from` ≤ wall < `to`. */
	from: number;
	to: number;
	/** Null = the zone of whoever asks. */
	zone: string | null;
	text: string | null;
	again?: Again;
	/** Beginnings that are left out. */
	except?: number[];
}

export interface Again {
	unit: 'day' | 'week' | 'month' | 'year';
	/** Every n-th of them. */
	every: number;
	/** No beginning is later than this. */
	until?: number;
	/** With weeks only. */
	weekdays?: Weekday[];
	/** With months and years, instead of the day of the month. */
	nth?: NthWeekday;
}

const dayMs = 86_400_000;

/** The entry that forbids this instant, or none. */
export function blackoutAt(
	entries: readonly CalendarEntry[],
	zone: string,
	at: number,
): CalendarEntry | undefined {
	// Of thousands of entries, most share one zone.
	let shown: { zone: string; wall: number } | undefined;
	return entries.find((entry) => {
		const name = entry.zone ?? zone;
		if (shown?.zone !== name) shown = { zone: name, wall: at + zoneOf(name).offsetAt(at) };
		return beginningAt(entry, shown.wall) !== undefined;
	});
}

/** The next spans that end after `from`, as instants, at most `count`, looking a year ahead. */
export function nextSpans(
	entries: readonly CalendarEntry[],
	zone: string,
	from: number,
	count: number,
): CalendarSpan[] {
	const spans: CalendarSpan[] = [];
	for (const entry of entries) {
		const name = entry.zone ?? zone;
		if (!isZone(name)) continue;
		const place = zoneOf(name);
		const instant = (wall: number) => wall - place.offsetAt(wall - place.offsetAt(wall));
		const wall = from + place.offsetAt(from);
		const begins = entry.again ? beginnings(entry, wall, wall + 366 * dayMs, count) : [entry.from];
		for (const begin of begins) {
			const span = { from: instant(begin), to: instant(begin + entry.to - entry.from) };
			if (span.to > from)
				spans.push({ ...span, ...(entry.text === null ? {} : { text: entry.text }) });
		}
	}
	return spans.sort((a, b) => a.from - b.from).slice(0, count);
}

/** The beginning of the span that holds this wall time. */
function beginningAt(entry: CalendarEntry, wall: number): number | undefined {
	const length = entry.to - entry.from;
	if (!entry.again) return wall >= entry.from && wall < entry.to ? entry.from : undefined;
	return beginnings(entry, wall - length + 1, wall, 1)[0];
}

/** Beginnings with `from` ≤ beginning ≤ `to`, at most `count`. */
export function beginnings(
	{ from: first, again, except = [] }: CalendarEntry,
	from: number,
	to: number,
	count: number,
): number[] {
	const found: number[] = [];
	const firstDay = Math.floor(first / dayMs);
	const time = first - firstDay * dayMs;
	const last = Math.min(to, again?.until ?? Infinity);
	const take = (begin: number) => {
		if (begin >= from && begin <= last && !except.includes(begin)) found.push(begin);
	};
	// The first one counts whether its own rule names it or not.
	take(first);
	if (!again) return found;
	const lastDay = Math.floor((last - time) / dayMs);
	for (const day of daysOf(again, firstDay, Math.ceil((from - time) / dayMs), lastDay)) {
		if (found.length >= count) break;
		take(day * dayMs + time);
	}
	return found.slice(0, count);
}

/** Days after the first that the rule names, in order, `from` to `to`; costs what it yields, not what lies between. */
function* daysOf(
	{ unit, every, nth, weekdays: named }: Again,
	firstDay: number,
	from: number,
	to: number,
): Generator<number> {
	const least = Math.max(firstDay + 1, from);
	if (unit === 'day') {
		const step = Math.ceil((least - firstDay) / every);
		for (let day = firstDay + step * every; day <= to; day += every) yield day;
		return;
	}
	const first = new Date(firstDay * dayMs);
	if (unit === 'week') {
		// Weeks begin on Monday; 1970-01-01 was a Thursday.
		const monday = (day: number) => Math.floor((day + 3) / 7) * 7 - 3;
		const wanted = (named ?? [weekdays[first.getUTCDay()]!])
			.map((name) => (weekdays.indexOf(name) + 6) % 7)
			.sort((a, b) => a - b);
		const weeks = Math.floor((monday(least) - monday(firstDay)) / 7 / every);
		for (let week = monday(firstDay) + weeks * every * 7; week <= to; week += every * 7) {
			for (const weekday of wanted) {
				const day = week + weekday;
				if (day >= least && day <= to) yield day;
			}
		}
		return;
	}
	const step = unit === 'month' ? every : every * 12;
	const start = monthOf(first);
	const passed = Math.floor((monthOf(new Date(least * dayMs)) - start) / step);
	for (let month = start + Math.max(0, passed) * step; ; month += step) {
		const begin = Date.UTC(Math.floor(month / 12), month % 12) / dayMs;
		if (begin > to) return;
		const length = Date.UTC(Math.floor(month / 12), (month % 12) + 1) / dayMs - begin;
		const date = nth ? nthDate(nth, begin, length) : first.getUTCDate();
		const day = begin + date - 1;
		if (date >= 1 && date <= length && day >= least && day <= to) yield day;
	}
}

/** The date of a month's second Tuesday, last Friday and so on; past the end of the month if there is none. */
function nthDate({ week, weekday }: NthWeekday, begin: number, length: number): number {
	// 1970-01-01 was a Thursday.
	const first = 1 + ((((weekdays.indexOf(weekday) - 4 - begin) % 7) + 7) % 7);
	return week === -1 ? first + Math.floor((length - first) / 7) * 7 : first + (week - 1) * 7;
}

const monthOf = (date: Date) => date.getUTCFullYear() * 12 + date.getUTCMonth();

/** Whether a date is its month's second Tuesday, last Friday and so on. */
export function isNth({ week, weekday }: NthWeekday, date: Date): boolean {
	if (weekdays[date.getUTCDay()] !== weekday) return false;
	const day = date.getUTCDate();
	const length = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
	return week === -1 ? day > length - 7 : Math.ceil(day / 7) === week;
}
