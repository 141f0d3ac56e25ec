/** Schedules submit jobs: one for each planned time, in the commit that records it. */
import type { Occurrence, Overlap, ScheduleRequest } from '../../../protocol';
import type { Caller } from '../../../dispatcher/engine';
import { admin, exit, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let robot: PlayedRobot;

beforeEach(async () => {
	h = await house();
	robot = await h.robot('r1');
});
afterEach(() => h.close());

const job = { kind: 'command', spec: { command: 'backup' } };
type Command = { command: string };
const minuteMs = 60_000;
const put = (more: Partial<ScheduleRequest> = {}, id = 's') => {
	const cron = more.when ? {} : { cron: '* * * * *' };
	return h.engine.putSchedule(id, { ...cron, job, ...more }, admin);
};
const occurrences = async (id = 's') =>
	(await h.engine.occurrences(id, { limit: 100 })).items.reverse();
const states = async (id = 's') => (await occurrences(id)).map(({ state }) => state).join(' ');
const timeOf = ({ plannedAt }: Occurrence) => new Date(plannedAt).toISOString().slice(11, 16);
const accepted = async () => {
	await robot.accept();
	await settled();
};
const ends = async (ending: Parameters<PlayedRobot['end']>[0] = {}) => {
	await robot.accept();
	await robot.end(ending);
	await settled();
};

test('a planned time submits its job, and its end is on record', async () => {
	await put({ job: { ...job, variables: { site: 'berlin' } } });
	await h.clock.advance(minuteMs);
	const [first] = await occurrences();
	expect(first).toMatchObject({ state: 'ran', origin: 'planned', outcome: null });
	expect(robot.last).toMatchObject({ job_id: first!.jobId, variables: { site: 'berlin' } });
	expect(await h.engine.job(first!.jobId!)).toMatchObject({ createdBy: 'schedule:s' });
	await ends();
	expect((await occurrences())[0]).toMatchObject({ outcome: 'completed' });
	expect(await h.engine.schedule('s')).toMatchObject({
		lastRunAt: first!.plannedAt,
		counts: { runs: 1, succeeded: 1, failed: 0, running: 0 },
	});
});

test('two schedules of one command with different variables run it with theirs', async () => {
	await put({ job: { ...job, variables: { site: 'a' } } }, 'a');
	await put({ job: { ...job, variables: { site: 'b' } } }, 'b');
	await h.clock.advance(minuteMs);
	await ends();
	await ends();
	expect(robot.assigned.map(({ variables }) => variables)).toEqual([{ site: 'a' }, { site: 'b' }]);
});

test('defect 9: deduplication does not eat the runs of a schedule, however alike they are', async () => {
	await put({ job: { ...job, dedupe: true } });
	for (let minute = 0; minute < 4; minute += 1) {
		await h.clock.advance(minuteMs);
		await ends();
	}
	expect(await states()).toBe('ran ran ran ran');
	expect(new Set((await occurrences()).map(({ jobId }) => jobId)).size).toBe(4);
});

test.each(['before', 'after'] as const)(
	'a service that dies %s the commit of a run fires that time once',
	async (moment) => {
		await put();
		const died = h.store.dieAt('insertJob', moment);
		await h.clock.advance(minuteMs);
		await died;
		await h.restart();
		await h.clock.advance(2_000);
		expect(await states()).toBe('ran');
		expect((await h.engine.jobs({ limit: 9 })).items).toHaveLength(1);
	},
);

test('a service that dies before the end of a job is on record puts it there when it is back', async () => {
	await put({ pauseAfterFailures: 1 });
	await h.clock.advance(minuteMs);
	const died = h.store.dieAt('occurrenceEnded', 'before');
	await robot.accept();
	await robot.end(exit(1));
	await died;
	await h.restart();
	await settled();
	expect((await occurrences())[0]).toMatchObject({ outcome: 'failed' });
	expect(await h.engine.schedule('s')).toMatchObject({ state: 'paused' });
});

test('a job for several robots is a run too: its end is that of the parent', async () => {
	const second = await h.robot('r2');
	await put({ job: { ...job, target: { mode: 'all' } } });
	await h.clock.advance(minuteMs);
	await ends();
	expect((await occurrences())[0]).toMatchObject({ outcome: null });
	await second.accept();
	await second.end();
	await settled();
	expect((await occurrences())[0]).toMatchObject({ outcome: 'completed' });
});

test('a job that cannot be submitted any more is refused with its reason, and the schedule goes on', async () => {
	await put({ job: { ...job, target: { robot: 'r1' } } });
	await robot.vanish();
	await h.engine.removeRobot('r1', admin);
	await h.clock.advance(minuteMs);
	const [first] = await occurrences();
	expect(first).toMatchObject({ state: 'refused', jobId: null, outcome: 'failed' });
	expect(first!.reason).toContain('[unknown-robot]');
	await h.clock.advance(minuteMs);
	expect(await states()).toBe('refused refused');
});

test('a schedule whose job could never be submitted is refused at once', async () => {
	await expect(put({ job: { ...job, target: { robot: 'nobody' } } })).rejects.toMatchObject({
		code: 'unknown-robot',
	});
	await expect(put({ job: { kind: 'dance', spec: {} } })).rejects.toMatchObject({
		code: 'unknown-kind',
	});
	await expect(put({ blackouts: ['holidays'] })).rejects.toMatchObject({
		code: 'no-such-calendar',
	});
	await expect(put({}, 'upcoming')).rejects.toMatchObject({ code: 'bad-field' });
});

describe('a run that is due while the one before it runs', () => {
	const begun = async (overlap: Overlap) => {
		await put({ overlap });
		await h.clock.advance(minuteMs);
		await accepted();
	};

	test('is skipped, and the reason names the job', async () => {
		await begun('skip');
		const running = robot.last.job_id;
		await h.clock.advance(minuteMs);
		expect((await occurrences())[1]).toMatchObject({
			state: 'skipped',
			reason: `overlap: job ${running} has not ended`,
		});
		await robot.end();
		await h.clock.advance(minuteMs);
		expect(await states()).toBe('ran skipped ran');
	});

	test('waits for its end, one at a time, with queue-one', async () => {
		await begun('queue-one');
		await h.clock.advance(3 * minuteMs);
		expect(await states()).toBe('ran waiting skipped skipped');
		await robot.end();
		await settled();
		expect(await states()).toBe('ran ran skipped skipped');
		expect(robot.assigned).toHaveLength(2);
	});

	test('waits with all the others, and they run one after the other, with queue-all', async () => {
		await begun('queue-all');
		await h.clock.advance(2 * minuteMs);
		expect(await states()).toBe('ran waiting waiting');
		await robot.end();
		await settled();
		expect(await states()).toBe('ran ran waiting');
		await ends();
		expect(await states()).toBe('ran ran ran');
		expect((await occurrences()).map(timeOf)).toEqual(['00:01', '00:02', '00:03']);
	});

	test('takes its place when it has ended, with cancel-old', async () => {
		await begun('cancel-old');
		const old = robot.last.job_id;
		await h.clock.advance(minuteMs);
		expect(robot.cancels.map(({ jobId }) => jobId)).toEqual([old]);
		expect(await states()).toBe('ran waiting');
		await robot.end({ state: 'cancelled', cause: 'cancelled' });
		await settled();
		expect(await states()).toBe('ran ran');
		expect((await occurrences())[0]).toMatchObject({ outcome: 'cancelled' });
	});

	test('cancels nothing of a backfill and takes no place in it, with cancel-old', async () => {
		const now = h.clock.now();
		await put({ overlap: 'cancel-old', startAt: now - 10 * minuteMs });
		const window = { from: now - 3 * minuteMs, to: now, expect: 3 };
		expect(await h.engine.backfill('s', window, admin)).toMatchObject({ started: 3 });
		await accepted();
		await h.clock.advance(2 * minuteMs);
		expect(robot.cancels).toEqual([]);
		expect(await states()).toBe('made_up waiting waiting skipped waiting');
		await robot.end();
		await settled();
		await ends();
		await ends();
		expect(await states()).toBe('made_up made_up made_up skipped ran');
	});

	test('runs beside it, with allow', async () => {
		await begun('allow');
		await h.clock.advance(minuteMs);
		expect(await states()).toBe('ran ran');
	});

	test('goes on waiting through a death of the service, and runs when the one before has ended', async () => {
		await begun('queue-one');
		await h.clock.advance(minuteMs);
		const last = robot.last;
		await h.restart();
		robot = robot.reconnectable(() => h.engine);
		await robot.connect({ attempts: [] });
		await h.engine.cancel(last.job_id, admin);
		await h.clock.advance(300_000);
		expect((await states()).startsWith('ran ran')).toBe(true);
	});
});

test('while the service is drained nothing runs; afterwards the policy for missed times decides', async () => {
	await put({ missed: 'all', catchUpMax: 2, overlap: 'allow' });
	await h.engine.drain(admin);
	await h.clock.advance(3 * minuteMs);
	expect(await states()).toBe('');
	await h.engine.takeWork(admin);
	await h.clock.advance(1_000);
	expect(await states()).toBe('missed made_up ran');
});

test('a clock that is set back fires no time again, and goes on behind the last one', async () => {
	await put({ overlap: 'allow' });
	await h.clock.advance(2 * minuteMs + 1_000);
	h.clock.jump(-90_000);
	await h.clock.advance(3 * minuteMs);
	expect((await occurrences()).map(timeOf)).toEqual(['00:01', '00:02', '00:03']);
	expect((await h.engine.jobs({ limit: 9 })).items).toHaveLength(3);
});

test('a long catching up goes in pieces, and all of it', async () => {
	await put({ cron: '* * * * * *', missed: 'all', catchUpMax: 120, overlap: 'allow' });
	await h.engine.drain(admin);
	await h.clock.advance(150_500);
	await h.engine.takeWork(admin);
	await h.clock.advance(499);
	for (let round = 0; round < 100; round += 1) {
		await settled();
		if (round % 25 === 0) await h.clock.advance(1);
	}
	const { counts } = await h.engine.schedule('s');
	expect(counts).toMatchObject({ runs: 120, missed: 31 });
});

test('so many runs, and it has ended; no more after its end', async () => {
	await put({ maxRuns: 2, overlap: 'allow' });
	await h.clock.advance(5 * minuteMs);
	expect(await states()).toBe('ran ran');
	expect(await h.engine.schedule('s')).toMatchObject({
		state: 'ended',
		reason: 'it has run 2 times',
		nextRunAt: null,
		upcoming: [],
	});
	await put({ overlap: 'allow', endAt: h.clock.now() + minuteMs }, 'e');
	await h.clock.advance(5 * minuteMs);
	expect(await states('e')).toBe('ran');
	expect(await h.engine.schedule('e')).toMatchObject({ state: 'ended' });
	await put({ when: { frequency: 'once', at: h.clock.now() + 5_000 } }, 'o');
	await h.clock.advance(minuteMs);
	expect(await states('o')).toBe('ran');
});

test('with jitter a run comes later, by the same amount after a restart, and is still that planned time', async () => {
	await put({ cron: '0 * * * *', jitterMs: 600_000, overlap: 'allow' });
	await h.clock.advance(3_600_000 - 1_000);
	await h.restart();
	expect(await states()).toBe('');
	await h.clock.advance(600_000 + 1_000);
	const [first] = await occurrences();
	expect(timeOf(first!)).toBe('01:00');
	expect(first!.state).toBe('ran');
	expect(first!.at - first!.plannedAt).toBeLessThanOrEqual(600_000);
	expect(first!.at).toBeGreaterThan(first!.plannedAt);
});

test('after so many failures in a row it pauses itself and says so; the first success after failures is told', async () => {
	await put({ pauseAfterFailures: 3 });
	const follow = (event: 'schedule.paused' | 'schedule.recovered') =>
		h.engine.subscribe(event, { filter: { event } }, admin);
	const paused = await follow('schedule.paused');
	const recovered = await follow('schedule.recovered');
	for (const ending of [exit(1), {}, exit(1), exit(1), exit(1)]) {
		await h.clock.advance(minuteMs);
		await ends(ending);
	}
	expect(await h.engine.events('schedule.recovered', recovered.epoch, admin, 0)).toMatchObject([
		{ data: { scheduleId: 's', failures: 1 } },
	]);
	expect(await h.engine.events('schedule.paused', paused.epoch, admin, 0)).toMatchObject([
		{ type: 'schedule.paused', data: { scheduleId: 's', failures: 3 } },
	]);
	expect(await h.engine.schedule('s')).toMatchObject({
		state: 'paused',
		enabled: false,
		nextRunAt: null,
		counts: { succeeded: 1, failed: 4 },
	});
	// Somebody looked after it: failures from before do not count any more.
	await h.engine.resumeSchedule('s', admin);
	for (let i = 0; i < 2; i += 1) {
		await h.clock.advance(minuteMs);
		await ends(exit(1));
	}
	expect(await h.engine.schedule('s')).toMatchObject({ state: 'active' });
});

test('run now answers with its job, leaves the plan alone, and does not run beside a live one unasked', async () => {
	const before = await put();
	const run = await h.engine.runSchedule('s', {}, admin);
	expect(run).toMatchObject({ origin: 'manual', state: 'ran' });
	await accepted();
	expect(robot.last.job_id).toBe(run.jobId);
	await expect(h.engine.runSchedule('s', {}, admin)).rejects.toMatchObject({
		code: 'schedule-busy',
		details: { jobId: run.jobId },
	});
	const beside = await h.engine.runSchedule('s', { overlap: 'allow' }, admin);
	expect(beside).toMatchObject({ state: 'ran' });
	expect((await h.engine.schedule('s')).nextRunAt).toBe(before.nextRunAt);
	await h.engine.pauseSchedule('s', admin);
	await robot.end();
	await settled();
	await ends();
	expect(await h.engine.runSchedule('s', {}, admin)).toMatchObject({ state: 'ran' });
});

test('a backfill lists first, then runs what did not run, one after the other, once', async () => {
	await put({ missed: 'none' });
	await h.clock.advance(minuteMs);
	await ends();
	h.clock.jump(3.5 * minuteMs);
	await h.restart();
	robot = robot.reconnectable(() => h.engine);
	await robot.connect();
	await h.clock.advance(1_000);
	await ends();
	const window = { from: h.clock.now() - 10 * minuteMs, to: h.clock.now() };
	const seen = await h.engine.backfill('s', window, admin);
	expect(seen).toMatchObject({ preview: true, started: 0 });
	const times = seen.plannedAt.map((at) => new Date(at).toISOString().slice(11, 16));
	expect(times.slice(-2)).toEqual(['00:02', '00:03']);
	const some = { from: Date.UTC(2026, 0, 1, 0, 1), to: h.clock.now(), expect: 2 };
	expect(await h.engine.backfill('s', some, admin)).toMatchObject({ preview: false, started: 2 });
	expect(await h.engine.backfill('s', some, admin)).toMatchObject({ started: 0 });
	await ends();
	await ends();
	const filled = (await occurrences()).filter(({ origin }) => origin === 'backfill');
	expect(filled.map(timeOf)).toEqual(['00:02', '00:03']);
	expect(filled.map(({ state, outcome }) => [state, outcome])).toEqual([
		['made_up', 'completed'],
		['made_up', 'completed'],
	]);
	await expect(h.engine.backfill('s', { from: 0 }, admin)).rejects.toMatchObject({
		code: 'bad-field',
	});
});

test('a backfill leaves to the schedule a time that comes later by its jitter', async () => {
	await put({ cron: '0 * * * *', jitterMs: 600_000, overlap: 'allow' });
	await h.clock.advance(60 * minuteMs + 1_000);
	expect(await states()).toBe('');
	const window = { from: h.clock.now() - minuteMs, expect: 1, overlap: 'allow' } as const;
	expect(await h.engine.backfill('s', window, admin)).toMatchObject({ plannedAt: [], started: 0 });
	await h.clock.advance(10 * minuteMs);
	expect((await occurrences()).map(({ origin, state }) => [origin, state])).toEqual([
		['planned', 'ran'],
	]);
});

test('nothing runs in a blackout, and each planned time says why', async () => {
	const spans = [
		{ from: Date.UTC(2026, 0, 1, 0, 2), to: Date.UTC(2026, 0, 1, 0, 4), text: 'moving house' },
	];
	await h.engine.putCalendar('moving', { spans }, admin);
	await put({ blackouts: ['moving'], overlap: 'allow' });
	expect(await h.engine.upcoming(3)).toMatchObject([
		{ blackout: null },
		{ blackout: 'moving: moving house' },
		{ blackout: 'moving: moving house' },
	]);
	await h.clock.advance(4 * minuteMs);
	expect(await states()).toBe('ran skipped skipped ran');
	expect((await occurrences())[1]).toMatchObject({ reason: 'blackout moving: moving house' });
	await expect(h.engine.removeCalendar('moving')).rejects.toMatchObject({ code: 'calendar-used' });
	await h.engine.removeSchedule('s', admin);
	await h.engine.removeCalendar('moving');
	expect(await h.engine.calendars()).toEqual([]);
});

test('what was missed is not made up in a blackout', async () => {
	const spans = [{ from: Date.UTC(2026, 0, 1, 0, 2, 30), to: Date.UTC(2026, 0, 1, 0, 6) }];
	await h.engine.putCalendar('freeze', { spans }, admin);
	await put({ cron: '2 * * * *', blackouts: ['freeze'] });
	h.clock.jump(3 * minuteMs);
	await h.restart();
	await h.clock.advance(1_000);
	expect(await states()).toBe('skipped');
});

test('all can be paused and resumed; who was paused alone stays so', async () => {
	await put({}, 'a');
	await put({}, 'b');
	await put({}, 'c');
	await h.engine.pauseSchedule('a', admin);
	expect(await h.engine.pauseSchedules(admin)).toEqual({ changed: 2 });
	await h.clock.advance(2 * minuteMs);
	expect(await states('b')).toBe('');
	expect(await h.engine.resumeSchedules(admin)).toEqual({ changed: 2 });
	const all = await h.engine.schedules();
	expect(all.map(({ state, reason }) => [state, reason])).toEqual([
		['paused', 'test paused it'],
		['active', null],
		['active', null],
	]);
});

test('a change touches only what it names, and null is the default again', async () => {
	await put({ name: 'nightly', overlap: 'allow', endAt: h.clock.now() + 10 * minuteMs });
	const changed = await h.engine.changeSchedule('s', { jitterMs: 5_000, endAt: null }, admin);
	expect(changed).toMatchObject({
		name: 'nightly',
		overlap: 'allow',
		jitterMs: 5_000,
		endAt: null,
		job: { spec: { command: 'backup' } },
	});
	expect(await h.engine.changeSchedule('s', { cron: '5 * * * *' }, admin)).toMatchObject({
		cron: '5 * * * *',
		nextRunAt: Date.UTC(2026, 0, 1, 0, 5),
	});
});

test('upcoming runs of all schedules come in their order', async () => {
	await put({ cron: '*/2 * * * *' }, 'a');
	await put({ cron: '3 * * * *' }, 'b');
	const runs = await h.engine.upcoming(4);
	expect(runs.map(({ scheduleId, at }) => `${scheduleId} ${(at / minuteMs) % 60}`)).toEqual([
		'a 2',
		'b 3',
		'a 4',
		'a 6',
	]);
});

test('the forecast knows how long runs take, and tells where they will not fit', async () => {
	await put({ cron: '0 * * * *', overlap: 'allow' }, 'a');
	await put({ cron: '0 * * * *', overlap: 'allow', job: { ...job, target: { robot: 'r1' } } }, 'b');
	const forecast = await h.engine.forecast(1);
	expect(forecast.schedules).toMatchObject([
		{ scheduleId: 'a', runs: 24, runMs: 60_000, target: 'any robot' },
		{ scheduleId: 'b', runs: 24, target: 'robot r1' },
	]);
	expect(forecast.clashes).toHaveLength(24);
	expect(forecast.clashes[0]).toMatchObject({
		from: Date.UTC(2026, 0, 1, 1),
		needs: 2,
		has: 1,
		scheduleIds: ['a', 'b'],
	});
});

test('a preview shows the next dates, and both days on which clocks are set', async () => {
	const preview = await h.engine.previewSchedule({
		schedule: { when: { frequency: 'daily', times: ['02:30'] }, timezone: 'Europe/Berlin' },
		count: 2,
	});
	expect(preview.runs.map(({ local }) => local)).toEqual([
		'2026-01-01T02:30:00+01:00',
		'2026-01-02T02:30:00+01:00',
	]);
	expect(preview.changes).toMatchObject([
		{
			kind: 'gap',
			from: '02:00:00',
			to: '03:00:00',
			runs: [{ local: '2026-03-29T03:00:00+02:00', mark: 'shifted' }],
		},
		{
			kind: 'fold',
			from: '03:00:00',
			to: '02:00:00',
			runs: [{ local: '2026-10-25T02:30:00+02:00', mark: null }],
		},
	]);
});

test('an instant until which its robot is waited for would end all runs behind it, and is refused', async () => {
	const pinned = { ...job, target: { robot: 'r1' } };
	const until = h.clock.now() + minuteMs;
	await expect(put({ job: { ...pinned, offline: { until } } })).rejects.toMatchObject({
		code: 'bad-field',
		details: { path: 'job.offline.until' },
	});
	await put({ job: { ...pinned, offline: { forMs: minuteMs } } });
});

test('the end of a run that a full disk did not take is on record when there is room', async () => {
	await put();
	await h.clock.advance(minuteMs);
	h.store.fullAt('occurrenceEnded', 0);
	await ends();
	expect((await occurrences())[0]).toMatchObject({ outcome: null });
	await h.clock.advance(6_000);
	expect((await occurrences())[0]).toMatchObject({ outcome: 'completed' });
});

test('a calendar that is removed while a schedule comes to name it forbids everything, and that is said', async () => {
	await h.engine.putCalendar('night', { spans: [] }, admin);
	await Promise.all([h.engine.removeCalendar('night'), put({ blackouts: ['night'] })]);
	await h.clock.advance(minuteMs);
	expect(await occurrences()).toMatchObject([
		{ state: 'skipped', reason: 'blackout night: there is no such calendar any more' },
	]);
	await h.engine.putCalendar('night', { spans: [] }, admin);
	await h.clock.advance(minuteMs);
	expect(await states()).toBe('skipped ran');
});

describe('a time zone that this Node does not know, but the one before did,', () => {
	const strange = 'Mars/Olympus';
	const unknown = `this Node does not know the time zone "${strange}"`;
	const storedOf = async (id: string) =>
		(await h.store.read('schedules', null)).find((one) => one.id === id)!;
	const zoned = async (timezone: string) => {
		const stored = await storedOf('s');
		const definition = JSON.stringify({ ...JSON.parse(stored.definition), timezone });
		await h.store.commit([{ do: 'putSchedule', with: { ...stored, definition } }]);
		await h.restart();
	};

	test('keeps its schedule from running, and that is said; the others run', async () => {
		await put();
		await put({}, 'other');
		await zoned(strange);
		await h.clock.advance(minuteMs + 1_000);
		expect([await states(), await states('other')]).toEqual(['', 'ran']);
		const reason = `nothing runs: ${unknown}`;
		const held = { state: 'active', reason, nextRunAt: null, upcoming: [] };
		expect(await h.engine.schedule('s')).toMatchObject(held);
		expect((await h.engine.upcoming(2)).map(({ scheduleId }) => scheduleId)).not.toContain('s');
		const refused = { code: 'bad-timezone' };
		await expect(h.engine.backfill('s', { from: 0 }, admin)).rejects.toMatchObject(refused);
		await expect(h.engine.runSchedule('s', {}, admin)).rejects.toMatchObject(refused);
		await h.engine.pauseSchedules(admin);
		expect(await h.engine.resumeSchedules(admin)).toEqual({ changed: 2 });
		expect(await h.engine.schedule('s')).toMatchObject(held);
		// A Node that knows it.
		await zoned('UTC');
		await h.clock.advance(minuteMs + 1_000);
		expect(await states()).toBe('ran');
	});

	test('makes its calendar forbid everything, and that is said', async () => {
		const spans = [{ from: 0, to: 1 }];
		await h.engine.putCalendar('freeze', { spans }, admin);
		await put({ blackouts: ['freeze'] });
		const [calendar] = await h.store.read('calendars', null);
		const entries = JSON.stringify([{ from: 0, to: 1, zone: strange, text: null }]);
		await h.store.commit([{ do: 'putCalendar', with: { ...calendar!, entries } }]);
		await h.restart();
		await h.clock.advance(minuteMs + 1_000);
		expect(await occurrences()).toMatchObject([
			{ state: 'skipped', reason: `blackout freeze: ${unknown}` },
		]);
		expect(await h.engine.calendar('freeze')).toMatchObject({ entries: 1, next: [] });
	});
});

test('a schedule that is removed skips what waits, and its jobs go on', async () => {
	await put({ overlap: 'queue-one' });
	await h.clock.advance(minuteMs);
	await accepted();
	await h.clock.advance(minuteMs);
	await h.engine.removeSchedule('s', admin);
	await robot.end();
	await h.clock.advance(10_000);
	expect(robot.assigned).toHaveLength(1);
	await put();
	expect(await states()).toBe('ran skipped');
});

test('a schedule of so many runs can count them after the oldest would be forgotten', async () => {
	await h.close();
	h = await house({ retention: { occurrencesMs: minuteMs } });
	// Without a job: nothing else keeps a row.
	await h.engine.putSchedule('s', { cron: '* * * * *', maxRuns: 3 }, admin);
	await h.clock.advance(2 * minuteMs + 1);
	await h.engine.pauseSchedule('s', admin);
	h.clock.jump(10 * minuteMs);
	const purged = h.engine.purge(false);
	await h.clock.advance(2_000);
	expect(await purged).toMatchObject({ occurrences: 0 });
	await h.engine.resumeSchedule('s', admin);
	await h.clock.advance(5 * minuteMs);
	expect(await states()).toBe('ran ran ran');
	expect(await h.engine.schedule('s')).toMatchObject({ state: 'ended' });
});

test('what came due within a minute is in time: all of it runs, as the overlap rule says', async () => {
	for (const missed of ['none', 'last', 'all'] as const) {
		await put({ cron: '*/20 * * * * *', missed, catchUpMax: 1, overlap: 'allow' }, missed);
	}
	h.clock.jump(3 * minuteMs + 5_000);
	await h.restart();
	await h.clock.advance(1);
	for (const id of ['none', 'last', 'all']) {
		expect(await states(id)).toBe(`${'missed '.repeat(6)}ran ran ran`);
	}
});

test('jitter longer than the time between two runs loses none, and they keep their order', async () => {
	await put({ cron: '* * * * *', jitterMs: 600_000, overlap: 'allow' });
	await h.clock.advance(30 * minuteMs);
	const all = await occurrences();
	expect(all.length).toBeGreaterThan(27);
	expect(all.every(({ state }) => state === 'ran')).toBe(true);
	expect(all.every(({ at, plannedAt }) => at - plannedAt < minuteMs)).toBe(true);
	expect(new Set(all.map(({ at, plannedAt }) => at - plannedAt)).size).toBeGreaterThan(20);
});

test('a death while a long absence is written down forgets none of its times', async () => {
	await h.engine.putSchedule('s', { cron: '* * * * *', missed: 'last' }, admin);
	await h.clock.advance(500);
	h.clock.jump(700 * minuteMs);
	const died = h.store.dieAt('fire', 'before', 1);
	await h.clock.advance(1_000);
	await died;
	await h.restart();
	await h.clock.advance(1_000);
	const { counts } = await h.engine.schedule('s');
	expect(counts).toMatchObject({ missed: 699, runs: 1 });
});

test('after a long absence a few schedules at a time are dealt with, and in the end all', async () => {
	for (let i = 0; i < 80; i += 1) await put({ missed: 'none' }, `s${i}`);
	h.clock.jump(10.5 * minuteMs);
	const read = jest.spyOn(h.store, 'read');
	const commit = jest.spyOn(h.store, 'commit');
	await h.clock.advance(1_000);
	for (let round = 0; round < 50; round += 1) await settled();
	const first = commit.mock.calls.findIndex(([deeds]) => deeds.some((deed) => deed.do === 'fire'));
	const written = commit.mock.invocationCallOrder[first]!;
	const begun = read.mock.calls.filter(
		([name], i) => name === 'dealtBetween' && read.mock.invocationCallOrder[i]! < written,
	);
	expect(begun).toHaveLength(64);
	for (const id of ['s0', 's79']) {
		expect((await h.engine.schedule(id)).counts).toMatchObject({ missed: 9, runs: 1 });
	}
});

test('a schedule that has run as often as it may stays ended, whoever pauses, resumes or changes it', async () => {
	await put({ maxRuns: 2, overlap: 'allow' });
	await h.clock.advance(2 * minuteMs);
	expect(await h.engine.pauseSchedule('s', admin)).toMatchObject({ state: 'ended' });
	expect(await h.engine.resumeSchedule('s', admin)).toMatchObject({ state: 'ended' });
	await put({ maxRuns: 3, overlap: 'allow' }, 'late');
	await h.clock.advance(2 * minuteMs);
	expect((await h.engine.schedule('late')).upcoming).toHaveLength(1);
	expect(await h.engine.upcoming(5)).toHaveLength(1);
	expect((await h.engine.forecast(1)).schedules).toMatchObject([{ scheduleId: 'late', runs: 1 }]);
	await h.engine.pauseSchedule('late', admin);
	await h.engine.changeSchedule('late', { maxRuns: 1 }, admin);
	expect(await h.engine.resumeSchedule('late', admin)).toMatchObject({
		state: 'ended',
		reason: 'it has run 2 times',
	});
	await h.clock.advance(2 * minuteMs);
	expect(await states('late')).toBe('ran ran');
	const more = await h.engine.changeSchedule('late', { maxRuns: 4 }, admin);
	expect(more).toMatchObject({ state: 'active' });
	expect(more.upcoming).toHaveLength(2);
});

test('a clock that was years ahead and is set back carries no schedule along', async () => {
	await put({ cron: '0 * * * *', missed: 'none', overlap: 'allow' });
	await put({ cron: '0 * * * *', endAt: h.clock.now() + 100 * 86_400_000, missed: 'none' }, 'e');
	const years = 4 * 365 * 86_400_000;
	h.clock.jump(years);
	await h.clock.advance(2_000);
	expect((await h.engine.schedule('e')).state).toBe('ended');
	h.clock.jump(-years);
	await h.clock.advance(2_000);
	const next = Date.UTC(2026, 0, 1, 1);
	expect(await h.engine.schedule('s')).toMatchObject({ nextRunAt: next });
	expect(await h.engine.schedule('e')).toMatchObject({ state: 'active', nextRunAt: next });
	// The same when it was set while the service was away.
	h.clock.jump(years);
	await h.clock.advance(2_000);
	h.clock.jump(-years);
	await h.restart();
	expect(await h.engine.schedule('s')).toMatchObject({ nextRunAt: next });
});

test('a schedule that was made while the clock was ahead runs as often as it may, and pauses when it fails', async () => {
	const years = 4 * 365 * 86_400_000;
	h.clock.jump(years);
	await h.clock.advance(2_000);
	await put({ maxRuns: 2 });
	await put({ pauseAfterFailures: 2, job: { ...job, spec: { command: 'fails' } } }, 'f');
	h.clock.jump(-years);
	const next = () => ends((robot.last.spec as Command).command === 'fails' ? exit(1) : {});
	for (let minute = 0; minute < 2; minute += 1) {
		await h.clock.advance(minuteMs);
		await next();
		await next();
	}
	expect(await h.engine.schedule('s')).toMatchObject({
		state: 'ended',
		reason: 'it has run 2 times',
		counts: { runs: 2, succeeded: 2 },
	});
	expect(await h.engine.schedule('f')).toMatchObject({ state: 'paused' });
});

test('a schedule that was made while the clock was ahead goes on now when it was set back in our absence', async () => {
	const years = 4 * 365 * 86_400_000;
	h.clock.jump(years);
	await h.clock.advance(2_000);
	await put();
	h.clock.jump(-years);
	await h.restart();
	expect(await h.engine.schedule('s')).toMatchObject({ nextRunAt: Date.UTC(2026, 0, 1, 0, 1) });
	await h.clock.advance(minuteMs);
	expect(await states()).toBe('ran');
});

test('a run of a schedule that was removed does not count for the next one of its name', async () => {
	await put({ overlap: 'allow' });
	await h.clock.advance(minuteMs);
	await h.engine.removeSchedule('s', admin);
	h.clock.jump(-3_600_000);
	await put({ overlap: 'allow', maxRuns: 1 });
	await ends();
	expect((await h.engine.schedule('s')).counts).toMatchObject({ runs: 0, succeeded: 0 });
	await h.clock.advance(minuteMs);
	expect(await h.engine.schedule('s')).toMatchObject({ state: 'ended', counts: { runs: 1 } });
});

test('a refusal of a time that was dealt with says nothing about the run that it had', async () => {
	await h.close();
	h = await house({ maxWaitingJobs: 1 });
	const began = Date.UTC(2026, 0, 1);
	await put({ startAt: began - 60 * minuteMs, overlap: 'allow' });
	const window = { from: began - minuteMs, to: began, expect: 1, overlap: 'allow' } as const;
	// Two find the same time open. The job of the first one waits, and for that of the second there is no room.
	const started = await Promise.all([
		h.engine.backfill('s', window, admin),
		h.engine.backfill('s', window, admin),
	]);
	expect(started.map((answer) => answer.started)).toEqual([1, 0]);
	const [run] = await occurrences();
	expect(run).toMatchObject({ state: 'made_up', outcome: null });
	robot = await h.robot('r1');
	await ends();
	expect((await occurrences())[0]).toMatchObject({ jobId: run!.jobId, outcome: 'completed' });
});

test('a clock that is set back cancels nothing for a time that is over', async () => {
	await put({ overlap: 'cancel-old' });
	await h.clock.advance(minuteMs);
	await accepted();
	h.clock.jump(-30_000);
	await h.clock.advance(31_000);
	expect(robot.cancels).toEqual([]);
	expect(await states()).toBe('ran');
});

describe('a backfill', () => {
	const began = Date.UTC(2026, 0, 1);
	const fill = (more: object = {}) =>
		h.engine.backfill('s', { from: began, to: began + 3 * minuteMs, ...more }, admin);

	beforeEach(async () => {
		await put({
			cron: '* * * * *',
			startAt: began - 60 * minuteMs,
			job: { ...job, target: { robot: 'r1' } },
		});
		await h.engine.pauseSchedule('s', admin);
		await h.clock.advance(3 * minuteMs);
	});

	test('that came to nothing can be done again', async () => {
		await robot.vanish();
		await h.engine.removeRobot('r1', admin);
		expect(await fill({ expect: 3, overlap: 'allow' })).toMatchObject({ started: 0 });
		expect(await states()).toBe('refused refused refused');
		await h.engine.changeSchedule('s', { job: { ...job } }, admin);
		robot = await h.robot('r2');
		expect((await fill()).plannedAt).toHaveLength(3);
		expect(await fill({ expect: 3 })).toMatchObject({ started: 3 });
		for (let i = 0; i < 3; i += 1) await ends();
		expect((await occurrences()).map(({ outcome }) => outcome)).toEqual([
			'completed',
			'completed',
			'completed',
		]);
		expect((await h.engine.schedule('s')).counts).toMatchObject({
			runs: 3,
			succeeded: 3,
			failed: 0,
		});
	});

	test('of all times runs again what has ended, and lists no other', async () => {
		expect(await fill({ expect: 3 })).toMatchObject({ started: 3 });
		expect((await fill({ all: true })).plannedAt).toHaveLength(0);
		await ends();
		await settled();
		expect((await fill({ all: true })).plannedAt).toHaveLength(1);
		expect((await fill()).plannedAt).toHaveLength(0);
		await ends();
		await ends();
		expect(await fill({ all: true, expect: 3 })).toMatchObject({ started: 3 });
		for (let i = 0; i < 3; i += 1) await ends();
		expect(robot.assigned).toHaveLength(6);
	});

	test('of which only a part could be written runs that part', async () => {
		const times = 600;
		await h.engine.changeSchedule('s', { startAt: began - times * minuteMs }, admin);
		h.store.fullAt('fire', 1);
		const window = { from: began - times * minuteMs, to: began };
		await expect(fill({ ...window, expect: times })).rejects.toMatchObject({ code: 'store-full' });
		// Nothing else tells it: neither an end nor a restart.
		await h.clock.advance(10_000);
		await ends();
		const { counts } = await h.engine.schedule('s');
		expect(counts).toMatchObject({ runs: 2, succeeded: 1, waiting: 510 });
	});
});

test('a schedule of another key is changed and run only with the scope operate', async () => {
	const key = (name: string, ...scopes: Caller['scopes'][number][]): Caller => ({
		keyId: name,
		name,
		scopes,
	});
	const n8n = key('n8n', 'submit', 'read', 'cancel');
	const other = key('other', 'submit');
	const operator = key('op', 'submit', 'operate');
	const mine = { cron: '* * * * *', job };
	await h.engine.putSchedule('s', mine, n8n);
	const refused = { code: 'not-your-schedule' };
	const { engine } = h;
	await expect(engine.putSchedule('s', mine, other)).rejects.toMatchObject(refused);
	await expect(engine.changeSchedule('s', { maxRuns: 1 }, other)).rejects.toMatchObject(refused);
	await expect(engine.pauseSchedule('s', other)).rejects.toMatchObject(refused);
	await expect(engine.resumeSchedule('s', other)).rejects.toMatchObject(refused);
	await expect(engine.runSchedule('s', {}, other)).rejects.toMatchObject(refused);
	await expect(engine.backfill('s', { from: 0 }, other)).rejects.toMatchObject(refused);
	await expect(engine.removeSchedule('s', other)).rejects.toMatchObject(refused);
	expect(await engine.changeSchedule('s', { maxRuns: 5 }, operator)).toMatchObject({
		createdBy: 'key:n8n',
	});
	expect(await engine.putSchedule('s', mine, n8n)).toMatchObject({ maxRuns: null });
	await engine.pauseSchedule('s', n8n);
	await engine.resumeSchedule('s', n8n);
	await expect(engine.runSchedule('s', { overlap: 'cancel-old' }, operator)).rejects.toMatchObject({
		code: 'no-scope',
		details: { scope: 'cancel' },
	});
	await engine.runSchedule('s', { overlap: 'cancel-old' }, n8n);
	await engine.removeSchedule('s', operator);
});

test('run now says that the schedule is busy when a run of it waits, too', async () => {
	const spans = [{ from: h.clock.now(), to: h.clock.now() + 60 * minuteMs }];
	await put({ overlap: 'queue-one' });
	await h.clock.advance(minuteMs);
	await accepted();
	await h.clock.advance(minuteMs);
	expect(await states()).toBe('ran waiting');
	await h.engine.putCalendar('freeze', { spans }, admin);
	await put({ overlap: 'skip', blackouts: ['freeze'] });
	await robot.end();
	await settled();
	await expect(h.engine.runSchedule('s', {}, admin)).rejects.toMatchObject({
		code: 'schedule-busy',
		message: expect.stringContaining('a run of it waits'),
	});
});

test('lists end where nobody plans, and what is planned for the year 9998 breaks none', async () => {
	const schedule: ScheduleRequest = { when: { frequency: 'monthly', days: [1], every: 60 } };
	const { runs } = await h.engine.previewSchedule({ schedule, count: 1_000 });
	expect(runs.length).toBeLessThan(13);
	const seldom: ScheduleRequest = { when: { frequency: 'monthly', days: [1], every: 600 } };
	await expect(h.engine.previewSchedule({ schedule: seldom })).rejects.toMatchObject({
		code: 'bad-field',
	});
	const at = Date.UTC(9998, 0);
	await put({ when: { frequency: 'once', at } }, 'far');
	expect(await h.engine.upcoming(10)).toEqual([]);
	expect(await h.engine.schedule('far')).toMatchObject({ nextRunAt: at, upcoming: [at] });
	const from = Date.UTC(9000, 0);
	expect(await h.engine.previewSchedule({ schedule, from })).toEqual({ runs: [], changes: [] });
});

test('a forecast looks at so many runs of all schedules together', async () => {
	for (let i = 0; i < 12; i += 1) await put({ cron: '* * * * *', missed: 'none' }, `s${i}`);
	const { schedules } = await h.engine.forecast(7);
	const runs = schedules.map((one) => one.runs);
	expect(runs.reduce((a, b) => a + b)).toBe(20_000);
	expect(schedules.every(({ more }) => more)).toBe(true);
});
