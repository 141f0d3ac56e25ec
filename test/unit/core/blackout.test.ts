/** Calendars: what an .ics file forbids, and what it is refused for. */
import { blackoutAt, nextSpans } from '../../../dispatcher/core/blackout';
import { entriesOfIcal } from '../../../dispatcher/core/ical';

const ics = (...events: string[]) =>
	[
		'BEGIN:VCALENDAR',
		'VERSION:2.0',
		...events.flatMap((event) => ['BEGIN:VEVENT', ...event.split('\n'), 'END:VEVENT']),
		'END:VCALENDAR',
	].join('\r\n');
const forbidden = (text: string, zone: string, at: string) =>
	blackoutAt(entriesOfIcal(text), zone, Date.parse(at))?.text;

test('a day without a zone is that day in the zone of the schedule', () => {
	const xmas = ics(
		'DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227\nSUMMARY:Christmas\\, both days',
	);
	expect(forbidden(xmas, 'Europe/Berlin', '2026-12-24T23:00Z')).toBe('Christmas, both days');
	expect(forbidden(xmas, 'Europe/Berlin', '2026-12-24T22:59Z')).toBeUndefined();
	expect(forbidden(xmas, 'America/New_York', '2026-12-24T23:00Z')).toBeUndefined();
	expect(forbidden(xmas, 'America/New_York', '2026-12-27T04:59Z')).toBe('Christmas, both days');
});

test('times have the zone they name, or UTC', () => {
	const zoned = ics(
		'DTSTART;TZID=Europe/Berlin:20260701T200000\nDTEND;TZID=Europe/Berlin:20260701T220000\nSUMMARY:a',
	);
	expect(forbidden(zoned, 'Asia/Tokyo', '2026-07-01T18:00Z')).toBe('a');
	expect(forbidden(zoned, 'Asia/Tokyo', '2026-07-01T20:00Z')).toBeUndefined();
	const utc = ics('DTSTART:20260701T200000Z\nDURATION:PT1H30M\nSUMMARY:b');
	expect(forbidden(utc, 'Asia/Tokyo', '2026-07-01T21:29Z')).toBe('b');
	expect(forbidden(utc, 'Asia/Tokyo', '2026-07-01T21:30Z')).toBeUndefined();
});

test('days, weeks, months and years come again, with interval, end and exceptions', () => {
	const weekly = ics(
		'DTSTART;TZID=UTC:20260105T000000\nDURATION:PT4H\nRRULE:FREQ=WEEKLY;BYDAY=MO,WE;INTERVAL=2;UNTIL=20260228\nEXDATE;TZID=UTC:20260121T000000\nSUMMARY:w',
	);
	expect(forbidden(weekly, 'UTC', '2026-01-07T03:00Z')).toBe('w');
	expect(forbidden(weekly, 'UTC', '2026-01-12T03:00Z')).toBeUndefined();
	expect(forbidden(weekly, 'UTC', '2026-01-21T03:00Z')).toBeUndefined();
	expect(forbidden(weekly, 'UTC', '2026-03-04T03:00Z')).toBeUndefined();
	const yearly = ics(
		'DTSTART;VALUE=DATE:20201126\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH\nSUMMARY:t',
	);
	expect(forbidden(yearly, 'UTC', '2027-11-25T12:00Z')).toBe('t');
	expect(forbidden(yearly, 'UTC', '2027-11-26T12:00Z')).toBeUndefined();
	const three = ics('DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=MONTHLY;COUNT=3\nSUMMARY:m');
	expect(forbidden(three, 'UTC', '2026-03-01T12:00Z')).toBe('m');
	expect(forbidden(three, 'UTC', '2026-04-01T12:00Z')).toBeUndefined();
});

test('long lines, cancelled and free events are read as they are meant', () => {
	const text = ics(
		'DTSTART;VALUE=DATE:20260101\nSUMMARY:a long\n  name\nDESCRIPTION:x',
		'DTSTART;VALUE=DATE:20260102\nSTATUS:CANCELLED',
		'DTSTART:20260103T000000Z\nDTEND:20260104T000000Z\nTRANSP:TRANSPARENT',
	);
	expect(entriesOfIcal(text)).toMatchObject([{ text: 'a long name' }]);
});

test('what is not understood in full is refused with its line', () => {
	const mistake = (text: string) => {
		try {
			entriesOfIcal(text);
		} catch (error) {
			return (error as Error).message;
		}
		return 'taken';
	};
	const day = 'DTSTART;VALUE=DATE:20260101';
	expect(mistake(ics(`${day}\nRRULE:FREQ=YEARLY;BYSETPOS=-1;BYDAY=MO`))).toContain('line 5: B');
	expect(mistake(ics(`${day}\nRRULE:FREQ=HOURLY`))).toContain('FREQ=HOURLY');
	expect(mistake(ics('DTSTART;TZID=Mars:20260101T000000'))).toContain('"Mars"');
	expect(mistake(ics('SUMMARY:no start'))).toContain('no DTSTART');
	expect(mistake(ics('DTSTART:20260230T000000Z'))).toContain('no such day');
	expect(mistake('hello')).toContain('line 1: it is not NAME:VALUE');
	expect(mistake('BEGIN:VCALENDAR\nEND:VCALENDAR')).toContain('no event');
	expect(mistake('BEGIN:VCALENDAR\nBEGIN:VEVENT\n')).toContain('has no end');
});

// Where a pattern tries every way to cut such a line, this test never ends.
test('a line of commas is refused like any other', () => {
	expect(() => entriesOfIcal(`BEGIN:VCALENDAR\nX;A=${','.repeat(10_000)}`)).toThrow('NAME:VALUE');
	expect(() => entriesOfIcal(`BEGIN:VCALENDAR\nX;A=${'a,b;A='.repeat(10_000)}`)).toThrow();
});

test('an exception in another zone is the same instant, and one in another form is refused', () => {
	const weekly = (exdate: string) =>
		ics(
			`DTSTART;TZID=Europe/Berlin:20260105T100000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY\n${exdate}\nSUMMARY:w`,
		);
	const utc = weekly('EXDATE:20260112T090000Z');
	expect(forbidden(utc, 'UTC', '2026-01-05T09:00Z')).toBe('w');
	expect(forbidden(utc, 'UTC', '2026-01-12T09:00Z')).toBeUndefined();
	const tokyo = weekly('EXDATE;TZID=Asia/Tokyo:20260112T180000');
	expect(forbidden(tokyo, 'UTC', '2026-01-12T09:00Z')).toBeUndefined();
	expect(() => entriesOfIcal(weekly('EXDATE;VALUE=DATE:20260112'))).toThrow('line 7: EXDATE');
	expect(() => entriesOfIcal(weekly('EXDATE:20260112T100000'))).toThrow(
		'EXDATE must have a time zone',
	);
});

test('what would be misread is refused with its line, not taken for something else', () => {
	const day = 'DTSTART;VALUE=DATE:20260130';
	const refused = (event: string) => {
		try {
			entriesOfIcal(ics(event));
		} catch (error) {
			return (error as Error).message;
		}
		return 'taken';
	};
	expect(refused(`${day}\nRRULE:FREQ=YEARLY;BYDAY=-1FR`)).toContain('only understood with BYMONTH');
	expect(refused(`${day}\nRRULE:FREQ=YEARLY;BYMONTH=1;BYDAY=-1FR`)).toBe('taken');
	expect(refused(`${day}\nRRULE:FREQ=DAILY\nRRULE:FREQ=WEEKLY`)).toContain(
		'line 6: a second RRULE',
	);
	expect(refused(`${day}\nRRULE:FREQ=MONTHLY;BYDAY=5FR;BYMONTHDAY=30`)).toContain('BYMONTHDAY');
	expect(refused(`${day}\nDTEND:20260131T000000Z`)).toContain('time zone');
	expect(refused('DTSTART;VALUE=DATE:20260130T000000')).toContain('VALUE says it is a date');
	expect(refused(`${day}\nRRULE:FREQ=DAILY;COUNT=99999`)).toContain('COUNT');
	expect(refused(`${day}\nRECURRENCE-ID:20260130\nSTATUS:CANCELLED`)).toContain('RECURRENCE-ID');
	// A day is a day by its form, free or not.
	expect(entriesOfIcal(ics('DTSTART:20260130\nTRANSP:TRANSPARENT\nSUMMARY:x'))).toHaveLength(1);
});

// By walking over days it would take minutes, which is what the limit of a test is for.
test('a calendar of as many events as there may be, each counted out, is read and asked', () => {
	const rules = ['FREQ=DAILY', 'FREQ=WEEKLY;BYDAY=MO,FR', 'FREQ=MONTHLY', 'FREQ=YEARLY'];
	const event = (i: number) =>
		`DTSTART;VALUE=DATE:202601${String(1 + (i % 28)).padStart(2, '0')}\nRRULE:${rules[i % 4]};COUNT=1000`;
	const entries = entriesOfIcal(ics(...Array.from({ length: 2_000 }, (_, i) => event(i))));
	for (let i = 0; i < 100; i += 1) blackoutAt(entries, 'UTC', Date.UTC(2090, 0, i, 12));
	expect(entries).toHaveLength(2_000);
	expect(() => entriesOfIcal(ics(...Array.from({ length: 2_001 }, (_, i) => event(i))))).toThrow(
		'2000',
	);
}, 60_000);

test('what comes again falls on the days that a walk over every day finds', () => {
	const rules = [
		'FREQ=DAILY;INTERVAL=3',
		'FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,WE,MO',
		'FREQ=MONTHLY;INTERVAL=5',
		'FREQ=MONTHLY;BYDAY=5SA',
		'FREQ=MONTHLY;BYDAY=-1SA;INTERVAL=2',
		'FREQ=YEARLY;INTERVAL=3',
		'FREQ=YEARLY;BYMONTH=1;BYDAY=5SA',
	];
	const first = new Date(Date.UTC(2026, 0, 31));
	const months = (day: Date) => (day.getUTCFullYear() - 2026) * 12 + day.getUTCMonth();
	const sat = (day: Date) => day.getUTCDay() === 6;
	const fifth = (day: Date) => sat(day) && day.getUTCDate() > 28;
	const lastOne = (day: Date) =>
		sat(day) && new Date(day.getTime() + 7 * 86_400_000).getUTCMonth() !== day.getUTCMonth();
	const week = (day: Date) => Math.floor((day.getTime() / 86_400_000 + 3) / 7);
	const wanted: ((day: Date) => boolean)[] = [
		(day) => ((day.getTime() - first.getTime()) / 86_400_000) % 3 === 0,
		(day) => (week(day) - week(first)) % 2 === 0 && [0, 1, 3].includes(day.getUTCDay()),
		(day) => months(day) % 5 === 0 && day.getUTCDate() === 31,
		fifth,
		(day) => months(day) % 2 === 0 && lastOne(day),
		(day) => months(day) % 36 === 0 && day.getUTCDate() === 31,
		(day) => months(day) % 12 === 0 && fifth(day),
	];
	for (const [i, rule] of rules.entries()) {
		const entries = entriesOfIcal(ics(`DTSTART;VALUE=DATE:20260131\nRRULE:${rule}\nSUMMARY:x`));
		const wrong: string[] = [];
		for (let at = first.getTime(); at < Date.UTC(2036, 0); at += 86_400_000) {
			const day = new Date(at);
			const says = blackoutAt(entries, 'UTC', at + 3_600_000) !== undefined;
			if (says !== (at === first.getTime() || wanted[i]!(day))) wrong.push(day.toISOString());
		}
		expect([rule, ...wrong]).toEqual([rule]);
	}
});

test('the next spans are told, those that come again too', () => {
	const daily = ics(
		'DTSTART:20260101T220000Z\nDTEND:20260102T020000Z\nRRULE:FREQ=DAILY\nSUMMARY:n',
	);
	const spans = nextSpans(entriesOfIcal(daily), 'UTC', Date.parse('2026-05-01T00:00Z'), 2);
	expect(spans.map(({ from, to }) => [from, to].map((at) => new Date(at).toISOString()))).toEqual([
		['2026-05-01T22:00:00.000Z', '2026-05-02T02:00:00.000Z'],
		['2026-05-02T22:00:00.000Z', '2026-05-03T02:00:00.000Z'],
	]);
});
