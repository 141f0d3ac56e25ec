/**
 * When a calendar says that nothing runs. An entry is a span of the clock on the wall, in a zone of its own
 * or in that of whoever asks, once or again and again.
 */
import { type CalendarSpan, type NthWeekday, type Weekday, weekdays } from '../../protocol';
import { zoneOf } from './zone';

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
	/** The last beginning there can be. */
	until?: number;
	/** Of week. */
	weekdays?: Weekday[];
	/** Of month and year, instead of the day of the month. */
	nth?: NthWeekday;
}

const dayMs = 86_400_000;

/** The entry that forbids this instant, or none. */
export function blackoutAt(
	entries: readonly CalendarEntry[],
	zone: string,
	at: number,
): CalendarEntry | undefined {
	return entries.find((entry) => {
		const wall = at + zoneOf(entry.zone ?? zone).offsetAt(at);
		return beginningAt(entry, wall) !== undefined;
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
		const place = zoneOf(entry.zone ?? zone);
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
	const last = Math.min(to, again?.until ?? (again ? Infinity : first));
	for (let day = Math.max(firstDay, Math.floor((from - time) / dayMs)); ; day += 1) {
		const begin = day * dayMs + time;
		if (begin > last || found.length >= count) return found;
		if (begin < from) continue;
		const falls = day === firstDay ? true : again !== undefined && isAgain(again, firstDay, day);
		if (falls && !except.includes(begin)) found.push(begin);
	}
}

function isAgain({ unit, every, nth, ...rest }: Again, firstDay: number, day: number): boolean {
	const first = new Date(firstDay * dayMs);
	const date = new Date(day * dayMs);
	const sameDay = nth ? isNth(nth, date) : date.getUTCDate() === first.getUTCDate();
	switch (unit) {
		case 'day':
			return (day - firstDay) % every === 0;
		case 'week': {
			const wanted = rest.weekdays ?? [weekdays[first.getUTCDay()]!];
			// Weeks begin on Monday; 1970-01-01 was a Thursday.
			const weeks = Math.floor((day + 3) / 7) - Math.floor((firstDay + 3) / 7);
			return weeks % every === 0 && wanted.includes(weekdays[date.getUTCDay()]!);
		}
		case 'month': {
			const months = monthOf(date) - monthOf(first);
			return months % every === 0 && sameDay;
		}
		case 'year': {
			const years = date.getUTCFullYear() - first.getUTCFullYear();
			return years % every === 0 && date.getUTCMonth() === first.getUTCMonth() && sameDay;
		}
	}
}

const monthOf = (date: Date) => date.getUTCFullYear() * 12 + date.getUTCMonth();

/** Whether a date is its month's second Tuesday, last Friday and so on. */
export function isNth({ week, weekday }: NthWeekday, date: Date): boolean {
	if (weekdays[date.getUTCDay()] !== weekday) return false;
	const day = date.getUTCDate();
	const length = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
	return week === -1 ? day > length - 7 : Math.ceil(day / 7) === week;
}
