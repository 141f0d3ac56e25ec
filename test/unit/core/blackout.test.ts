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
	expect(mistake('hello')).toContain('line 1: it is no NAME:VALUE');
	expect(mistake('BEGIN:VCALENDAR\nEND:VCALENDAR')).toContain('no event');
	expect(mistake('BEGIN:VCALENDAR\nBEGIN:VEVENT\n')).toContain('has no end');
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
