/** When schedules are due: calendars, and clocks that are set forward and back. */
import { CronExpressionParser } from 'cron-parser';
import { Recurrence, type Timing } from '../../../dispatcher/core/recurrence';
import { checkCron, defined, timingOf } from '../../../dispatcher/core/schedule';
import { zoneOf } from '../../../dispatcher/core/zone';
import type { ScheduleRequest } from '../../../protocol';
import { transitionsOf } from '../../support/wall-oracle';
import { disagreements, patterns, zones } from '../../support/wall-patterns';

const anchor = Date.UTC(2026, 0, 1);
const berlin = 'Europe/Berlin';

function local(request: ScheduleRequest, from: string, count = 4): string[] {
	const definition = defined(request);
	const recurrence = new Recurrence(timingOf(definition, definition.startAt ?? anchor));
	const zone = zoneOf(definition.timezone);
	return recurrence.list(Date.parse(from), count).map(({ at }) => zone.text(at).slice(0, 22));
}

test('a zone is kept once, however its name is spelled', () => {
	expect(zoneOf('EUROPE/berlin')).toBe(zoneOf(berlin));
	for (let i = 0; i < 2 ** 13; i += 1) {
		const bits = i.toString(2).padStart(13, '0');
		const name = [...berlin].map((c, at) => (bits[at] === '1' ? c.toUpperCase() : c)).join('');
		if (i % 1_000 === 0) expect(zoneOf(name)).toBe(zoneOf(berlin));
	}
});

test("defect 26: the seed's two cron examples mean nine o'clock on Monday to Friday", () => {
	for (const cron of ['0 9 * * 1-5', '0 0 9 * * 1-5']) {
		expect(local({ cron, timezone: berlin }, '2026-06-05T12:00Z', 6)).toEqual([
			'2026-06-08T09:00:00+02',
			'2026-06-09T09:00:00+02',
			'2026-06-10T09:00:00+02',
			'2026-06-11T09:00:00+02',
			'2026-06-12T09:00:00+02',
			'2026-06-15T09:00:00+02',
		]);
	}
});

test('an expression that can never come due is refused', () => {
	expect(() => checkCron('0 0 30 2 *')).toThrow(/cron/);
});

test('what cron leaves to chance (H) is the same for whoever asks, also after a restart', () => {
	const { when } = defined({ cron: 'H H(0-5) * * *' });
	const times = () => local({ when }, '2026-06-05T12:00Z');
	for (let asked = 0; asked < 20; asked += 1) expect(times()).toEqual(times());
	// There is one that is a day of February now and then, and an earlier version took it.
	const cron = '0 0 H(29-31) 2 *';
	for (let asked = 0; asked < 20; asked += 1) expect(() => checkCron(cron)).toThrow(/cron/);
	const stored = timingOf({ ...defined({ when }), when: { frequency: 'cron', cron } }, anchor);
	expect(new Recurrence(stored).after(anchor)).toBeUndefined();
});

test('monthly on the 31st is the last day of a short month', () => {
	const request: ScheduleRequest = {
		when: { frequency: 'monthly', days: [31], times: ['06:00'] },
		timezone: berlin,
	};
	expect(local(request, '2028-01-01T00:00Z')).toEqual([
		'2028-01-31T06:00:00+01',
		'2028-02-29T06:00:00+01',
		'2028-03-31T06:00:00+02',
		'2028-04-30T06:00:00+02',
	]);
});

test('the last day, the second Tuesday and the last Friday of a month are found', () => {
	const monthly = (more: object) =>
		local({ when: { frequency: 'monthly', ...more } }, '2026-01-31T12:00Z', 3).map((text) =>
			text.slice(0, 10),
		);
	expect(monthly({ days: [-1] })).toEqual(['2026-02-28', '2026-03-31', '2026-04-30']);
	expect(monthly({ nth: { week: 2, weekday: 'tue' } })).toEqual([
		'2026-02-10',
		'2026-03-10',
		'2026-04-14',
	]);
	expect(monthly({ nth: { week: -1, weekday: 'fri' } })).toEqual([
		'2026-02-27',
		'2026-03-27',
		'2026-04-24',
	]);
});

test('every second day, week and month is counted from the start', () => {
	const startAt = Date.UTC(2026, 0, 6);
	const dates = (when: ScheduleRequest['when']) =>
		local({ when, startAt } as ScheduleRequest, '2026-01-05T00:00Z', 3).map((text) =>
			text.slice(0, 10),
		);
	expect(dates({ frequency: 'daily', every: 2 })).toEqual([
		'2026-01-06',
		'2026-01-08',
		'2026-01-10',
	]);
	expect(dates({ frequency: 'weekly', weekdays: ['mon', 'wed'], every: 2 })).toEqual([
		'2026-01-07',
		'2026-01-19',
		'2026-01-21',
	]);
	expect(dates({ frequency: 'monthly', days: [1], every: 2 })).toEqual([
		'2026-03-01',
		'2026-05-01',
		'2026-07-01',
	]);
});

test('an interval is counted from its start, and no clock on a wall concerns it', () => {
	const request: ScheduleRequest = {
		when: { frequency: 'interval', everyMs: 45 * 60_000 },
		timezone: berlin,
		startAt: Date.parse('2026-03-29T00:00Z'),
	};
	expect(local(request, '2026-03-29T00:00Z', 3)).toEqual([
		'2026-03-29T01:45:00+01',
		'2026-03-29T03:30:00+02',
		'2026-03-29T04:15:00+02',
	]);
	expect(local(request, '2026-03-01T00:00Z', 1)).toEqual(['2026-03-29T01:00:00+01']);
});

test('once is once, and nothing is due after the end', () => {
	const at = Date.UTC(2026, 4, 1);
	expect(local({ when: { frequency: 'once', at } }, '2026-01-01T00:00Z')).toHaveLength(1);
	expect(local({ when: { frequency: 'once', at } }, '2026-05-01T00:00Z')).toEqual([]);
	const endAt = Date.UTC(2026, 0, 3, 12);
	expect(local({ when: { frequency: 'daily' }, endAt }, '2026-01-01T00:00Z')).toHaveLength(2);
});

test('a time of day that is not there is shifted to the first instant behind the gap, or skipped', () => {
	const nightly = (gap: 'shift' | 'skip') =>
		local(
			{ when: { frequency: 'daily', times: ['02:30'] }, timezone: berlin, gap },
			'2026-03-28T12:00Z',
			2,
		);
	expect(nightly('shift')).toEqual(['2026-03-29T03:00:00+02', '2026-03-30T02:30:00+02']);
	expect(nightly('skip')).toEqual(['2026-03-30T02:30:00+02', '2026-03-31T02:30:00+02']);
});

test('a time of day that comes twice runs the first time, or both', () => {
	const nightly = (fold: 'first' | 'both') =>
		local({ cron: '30 2 * * *', timezone: berlin, fold }, '2026-10-24T12:00Z', 2);
	expect(nightly('first')).toEqual(['2026-10-25T02:30:00+02', '2026-10-26T02:30:00+01']);
	expect(nightly('both')).toEqual(['2026-10-25T02:30:00+02', '2026-10-25T02:30:00+01']);
});

test('what runs in every hour goes on through gap and fold, an hour apart', () => {
	for (const when of [
		{ frequency: 'hourly', minute: 15 },
		{ frequency: 'cron', cron: '15 * * * *' },
	] as const) {
		for (const day of ['2026-03-29', '2026-10-25']) {
			const recurrence = new Recurrence(timingOf(defined({ when, timezone: berlin }), anchor));
			const runs = recurrence.list(Date.parse(`${day}T00:00Z`) - 1, 5).map(({ at }) => at);
			expect(runs.slice(1).map((at, i) => at - runs[i]!)).toEqual([
				3_600_000, 3_600_000, 3_600_000, 3_600_000,
			]);
		}
	}
});

test('whoever asks in the very millisecond before a gap is told what is shifted behind it', () => {
	const gap = Date.parse('2026-03-29T01:00Z');
	const recurrence = new Recurrence(timingOf(defined({ cron: '30 2 * * *', timezone: berlin }), 0));
	expect(recurrence.after(gap - 1)).toEqual({ at: gap, mark: 'shifted' });
	expect(recurrence.after(gap)!.at).toBeGreaterThan(gap + 80_000_000);
});

test('the latest of a long time are found without counting all of it', () => {
	const timing: Timing = timingOf(defined({ cron: '* * * * * *' }), anchor);
	const recurrence = new Recurrence(timing);
	const year = 365 * 86_400_000;
	const { planned, older } = recurrence.latest(anchor, anchor + year, 3);
	expect(older).toBe(true);
	expect(planned.map(({ at }) => at - anchor - year)).toEqual([-2_000, -1_000, 0]);
	const seldom = new Recurrence(timingOf(defined({ cron: '0 0 29 2 *' }), anchor));
	expect(seldom.latest(anchor, anchor + 4 * year, 3)).toMatchObject({
		planned: [{ at: Date.UTC(2028, 1, 29) }],
		older: false,
	});
});

test('wrong definitions are refused with the field and what to do', () => {
	const refused = (request: object) => {
		try {
			defined(request as ScheduleRequest);
		} catch (error) {
			return (error as Error).message;
		}
		return 'taken';
	};
	expect(refused({})).toContain('say when it is due');
	expect(refused({ cron: '* * * * *', when: { frequency: 'daily' } })).toContain('either');
	expect(refused({ when: { frequency: 'daily', days: [1] } })).toContain('when.days: does not go');
	expect(refused({ when: { frequency: 'daily', times: ['24:00'] } })).toContain('"24:00"');
	expect(refused({ when: { frequency: 'weekly' } })).toContain('when.weekdays: is needed');
	expect(refused({ when: { frequency: 'monthly' } })).toContain('when.days: is needed');
	expect(refused({ when: { frequency: 'hourly', every: 5 } })).toContain('must divide 24');
	expect(refused({ cron: '* * * * *', timezone: 'Mars/Olympus' })).toContain('Mars/Olympus');
	const job = { kind: 'command', spec: {}, notBefore: 5 };
	expect(refused({ cron: '* * * * *', job })).toContain('job.notBefore');
});

// All zones × all transitions 2020–2037 × 40 patterns: npm run chaos -- --row 37.
test('a sample of zones and transitions follows the written rule, minute by minute', () => {
	expect(patterns).toHaveLength(40);
	let looked = 0;
	for (const [i, zone] of zones().entries()) {
		if (i % 19 !== 0) continue;
		const transitions = transitionsOf(zone, 2020, 2038);
		const transition = transitions[i % transitions.length];
		if (transition === undefined) continue;
		looked += 1;
		const tried = patterns.filter((_, j) => (i + j) % 4 === 0);
		expect(disagreements(tried, zone, transition)).toEqual([]);
	}
	expect(looked).toBeGreaterThan(5);
});

test('half an hour, three hours and Ramadan: unusual clocks follow it too', () => {
	for (const zone of ['Australia/Lord_Howe', 'Antarctica/Troll', 'Africa/Casablanca']) {
		for (const transition of transitionsOf(zone, 2026, 2027).slice(0, 2)) {
			expect(disagreements(patterns, zone, transition)).toEqual([]);
		}
	}
});

test('away from clocks that are set, an independent library has the same runs', () => {
	const from = Date.UTC(2026, 5, 1, 3, 17);
	for (const timezone of ['America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe', 'UTC']) {
		for (const { cron } of patterns) {
			const other = CronExpressionParser.parse(cron, { tz: timezone, currentDate: new Date(from) });
			const recurrence = new Recurrence(timingOf(defined({ cron, timezone }), anchor));
			expect([cron, ...recurrence.list(from, 4).map(({ at }) => at)]).toEqual([
				cron,
				...Array.from({ length: 4 }, () => other.next().getTime()),
			]);
		}
	}
});
