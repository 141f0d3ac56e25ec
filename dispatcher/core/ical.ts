/**
 * Reads an .ics file as a calendar of blackouts (RFC 5545). What it does not understand in full it refuses
 * with the line and the reason: a holiday that is silently not one would run the work.
 */
import { limits, Problem, type Weekday } from '../../protocol';
import { type Again, beginnings, type CalendarEntry } from './blackout';
import { isZone, zoneOf } from './zone';

/** Events, and dates that are left out of them. Each planned time is checked against all of them. */
const maxEntries = limits.maxCalendarEntries;
/** COUNT is counted out up to this. */
const maxCount = 1_000;
const farMs = 100 * 366 * 86_400_000;
const dayMs = 86_400_000;

interface Line {
	number: number;
	name: string;
	parameters: Record<string, string>;
	value: string;
}

type Event = Record<string, Line | undefined> & { begin: Line };

/** What an event says once. A second one would silently take the place of the first. */
const saidOnce = new Set(['DTSTART', 'DTEND', 'DURATION', 'RRULE', 'STATUS', 'TRANSP']);

/** Throws `bad-calendar`. */
export function entriesOfIcal(text: string): CalendarEntry[] {
	const entries: CalendarEntry[] = [];
	const open: string[] = [];
	let event: Event | undefined;
	let excluded: Line[] = [];
	let dates = 0;
	for (const line of linesOf(text)) {
		if (line.name === 'BEGIN') {
			open.push(line.value.toUpperCase());
			if (open.at(-1) === 'VEVENT') {
				event = { begin: line } as Event;
				excluded = [];
			}
		} else if (line.name === 'END') {
			if (open.pop() !== line.value.toUpperCase()) wrong(line, `END:${line.value} ends nothing`);
			if (line.value.toUpperCase() !== 'VEVENT' || !event) continue;
			const entry = entryOf(event, excluded);
			if (entry) entries.push(entry);
			dates += 1 + (entry?.except?.length ?? 0);
			if (dates > maxEntries) {
				wrong(line, `it has more than ${maxEntries} events and EXDATEs; make it several calendars`);
			}
			event = undefined;
		} else if (open.at(-1) === 'VEVENT' && event) {
			if (line.name === 'EXDATE') excluded.push(line);
			else if (saidOnce.has(line.name) && event[line.name]) {
				wrong(line, `a second ${line.name} is not understood; make it an event of its own`);
			} else event[line.name] = line;
		}
	}
	if (open.length > 0 || entries.length === 0) {
		throw new Problem('bad-calendar', {
			line: 1,
			reason: open.length > 0 ? `${open.at(-1)} has no end` : 'there is no event in it',
		});
	}
	return entries;
}

function* linesOf(text: string): Generator<Line> {
	const raw = text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/);
	for (let i = 0; i < raw.length; i += 1) {
		const number = i + 1;
		let whole = raw[i]!;
		// A long line continues after a blank.
		while (/^[ \t]/.test(raw[i + 1] ?? '')) whole += raw[(i += 1)]!.slice(1);
		if (whole.trim() === '') continue;
		const found =
			/^([A-Za-z0-9-]+)((?:;[A-Za-z0-9-]+=(?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)*):(.*)$/s.exec(
				whole,
			);
		if (!found) throw new Problem('bad-calendar', { line: number, reason: 'it is not NAME:VALUE' });
		const parameters = Object.fromEntries(
			[...found[2]!.matchAll(/;([A-Za-z0-9-]+)=("[^"]*"|[^;]*)/g)].map(([, name, value]) => [
				name!.toUpperCase(),
				value!.replaceAll('"', ''),
			]),
		);
		yield { number, name: found[1]!.toUpperCase(), parameters, value: found[3]!.trim() };
	}
}

function entryOf(event: Event, excluded: Line[]): CalendarEntry | undefined {
	for (const name of ['RECURRENCE-ID', 'RDATE', 'EXRULE']) {
		const line = event[name];
		if (line) wrong(line, `${name} is not understood; list the dates as events of their own`);
	}
	if (event.STATUS?.value.toUpperCase() === 'CANCELLED') return undefined;
	const start = event.DTSTART;
	if (!start) wrong(event.begin, 'the event has no DTSTART');
	const from = timeOf(start);
	// Free time is no blackout; a whole day may be a holiday all the same.
	if (event.TRANSP?.value.toUpperCase() === 'TRANSPARENT' && !from.day) return undefined;
	if (event.DTEND && event.DURATION) wrong(event.DURATION, 'DURATION does not go with DTEND');
	const to = event.DTEND
		? timeOf(event.DTEND)
		: { ...from, wall: from.wall + lengthOf(event.DURATION, from.day) };
	if (to.zone !== from.zone) wrong(event.DTEND!, 'DTEND must be in the time zone of DTSTART');
	if (to.day !== from.day) wrong(event.DTEND!, 'DTEND must be a day or a time, as DTSTART is');
	if (to.wall <= from.wall) wrong(event.DTEND ?? start, 'the event ends before it begins');
	const entry: CalendarEntry = {
		from: from.wall,
		to: to.wall,
		zone: from.zone,
		text: event.SUMMARY ? textOf(event.SUMMARY.value) : null,
	};
	if (event.RRULE) againOf(event.RRULE, entry);
	if (excluded.length > 0) {
		entry.except = excluded.flatMap((line) =>
			line.value.split(',').map((value) => exceptOf({ ...line, value }, from)),
		);
	}
	return entry;
}

/** A beginning that is left out, on the wall of the event; another zone's clock shows the same instant. */
function exceptOf(line: Line, start: ReturnType<typeof timeOf>): number {
	const { wall, zone, day } = timeOf(line);
	if (day !== start.day) wrong(line, 'EXDATE must be a day or a time, as DTSTART is');
	if (zone === start.zone) return wall;
	if (zone === null || start.zone === null) {
		wrong(line, 'EXDATE must have a time zone when DTSTART has one, and none when it has none');
	}
	const from = zoneOf(zone);
	const at = wall - from.offsetAt(wall - from.offsetAt(wall));
	return at + zoneOf(start.zone).offsetAt(at);
}

function timeOf(line: Line): { wall: number; zone: string | null; day: boolean } {
	const found = /^(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z)?)?$/.exec(line.value);
	if (!found) wrong(line, `"${line.value.slice(0, 40)}" is not a date or time`);
	const [year, month, date, hour = 0, minute = 0, second = 0] = found
		.slice(1, 7)
		.map((part) => Number(part ?? 0)) as [number, number, number, number?, number?, number?];
	const wall = Date.UTC(year, month - 1, date, hour, minute, second);
	if (new Date(wall).getUTCDate() !== date) wrong(line, 'there is no such day');
	const isDay = found[4] === undefined;
	if (line.parameters.VALUE?.toUpperCase() === 'DATE' && !isDay) {
		wrong(line, `"${line.value}" is a time, but VALUE says it is a date`);
	}
	const named = line.parameters.TZID;
	if (named !== undefined && !isZone(named)) {
		wrong(line, `no time zone is called "${named.slice(0, 60)}"; use an IANA name`);
	}
	return { wall, zone: found[7] ? 'UTC' : (named ?? null), day: isDay };
}

function lengthOf(line: Line | undefined, day: boolean): number {
	if (!line) return day ? dayMs : 0;
	const found = /^\+?P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/.exec(
		line.value,
	);
	if (!found) wrong(line, `"${line.value.slice(0, 40)}" is not a duration`);
	const [weeks, days, hours, minutes, seconds] = found
		.slice(1)
		.map((part) => Number(part ?? 0)) as [number, number, number, number, number];
	return ((weeks * 7 + days) * 86_400 + hours * 3_600 + minutes * 60 + seconds) * 1000;
}

const units = { DAILY: 'day', WEEKLY: 'week', MONTHLY: 'month', YEARLY: 'year' } as const;
const dayNames: Record<string, Weekday> = {
	SU: 'sun',
	MO: 'mon',
	TU: 'tue',
	WE: 'wed',
	TH: 'thu',
	FR: 'fri',
	SA: 'sat',
};

/** What can be done right is done; the rest is refused. */
function againOf(line: Line, entry: CalendarEntry): void {
	const said = line.value
		.toUpperCase()
		.split(';')
		.map((part) => part.split('=', 2) as [string, string]);
	const parts = new Map(said);
	if (parts.size < said.length) wrong(line, 'RRULE has the same part twice');
	const without = (name: string, other: string) => {
		if (parts.has(name) && parts.has(other)) wrong(line, `${name} does not go with ${other}`);
	};
	without('COUNT', 'UNTIL');
	without('BYDAY', 'BYMONTHDAY');
	const unit = units[parts.get('FREQ') as keyof typeof units];
	if (!unit) wrong(line, `RRULE with FREQ=${parts.get('FREQ')} is not understood`);
	const every = Number(parts.get('INTERVAL') ?? 1);
	if (!Number.isInteger(every) || every < 1 || every > 1_000) {
		wrong(line, 'INTERVAL must be a whole number up to 1000');
	}
	const again: Again = { unit, every };
	const first = new Date(entry.from);
	for (const [name, value] of parts) {
		switch (name) {
			case 'FREQ':
			case 'INTERVAL':
			case 'COUNT':
				break;
			case 'UNTIL':
				again.until = untilOf(timeOf({ ...line, value }), entry);
				break;
			case 'WKST':
				if (value !== 'MO' && unit === 'week' && every > 1) {
					wrong(line, 'weeks that do not begin on Monday are not understood with INTERVAL');
				}
				break;
			case 'BYDAY':
				// Alone it would be the last Friday of the year, not of its month.
				if (unit === 'year' && !parts.has('BYMONTH')) {
					wrong(line, 'BYDAY with FREQ=YEARLY is only understood with BYMONTH');
				}
				byDay(line, value, again);
				break;
			case 'BYMONTHDAY':
				if (Number(value) !== first.getUTCDate() || (unit !== 'month' && unit !== 'year')) {
					wrong(line, 'BYMONTHDAY other than the day of DTSTART is not understood');
				}
				break;
			case 'BYMONTH':
				if (Number(value) !== first.getUTCMonth() + 1 || unit !== 'year') {
					wrong(line, 'BYMONTH other than the month of DTSTART is not understood');
				}
				break;
			default:
				wrong(line, `${name} is not understood; list the dates as events of their own`);
		}
	}
	entry.again = again;
	const count = parts.get('COUNT');
	if (count === undefined) return;
	if (!/^[1-9]\d*$/.test(count) || Number(count) > maxCount) {
		wrong(line, `COUNT must be a whole number up to ${maxCount}; say UNTIL instead`);
	}
	again.until = beginnings(entry, entry.from, entry.from + farMs, Number(count)).at(-1)!;
}

/** The last moment at which it may begin, on the wall of the entry. */
function untilOf({ wall, zone, day }: ReturnType<typeof timeOf>, entry: CalendarEntry): number {
	if (day) return wall + dayMs - 1;
	return zone === 'UTC' && entry.zone !== null ? wall + zoneOf(entry.zone).offsetAt(wall) : wall;
}

function byDay(line: Line, value: string, again: Again): void {
	const days = value.split(',').map((day) => /^([+-]?\d)?(SU|MO|TU|WE|TH|FR|SA)$/.exec(day));
	if (days.some((day) => !day)) wrong(line, `BYDAY=${value.slice(0, 40)} is not understood`);
	const found = days.map((day) => ({ week: day![1], weekday: dayNames[day![2]!]! }));
	if (again.unit === 'week' && found.every(({ week }) => week === undefined)) {
		again.weekdays = found.map(({ weekday }) => weekday);
		return;
	}
	const week = Number(found[0]!.week);
	const one = found.length === 1 && ((week >= 1 && week <= 5) || week === -1);
	if (!one || (again.unit !== 'month' && again.unit !== 'year')) {
		wrong(line, `BYDAY=${value.slice(0, 40)} is not understood here; list the dates`);
	}
	again.nth = { week, weekday: found[0]!.weekday };
}

const textOf = (value: string) =>
	value.replace(/\\([nN,;\\])/g, (_, one: string) => (/n/i.test(one) ? ' ' : one)).slice(0, 256);

function wrong(line: Pick<Line, 'number'>, reason: string): never {
	throw new Problem('bad-calendar', { line: line.number, reason });
}
