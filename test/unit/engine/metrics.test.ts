import { exposed } from '../../../dispatcher/core/exposition';
import { midnight } from '../../../dispatcher/engine/metrics';
import type { ReadName } from '../../../dispatcher/store/store';
import { admin, exit, type House, house } from '../../support/engine';
import { settled } from '../../support/fake-clock';

const minute = 60_000;
let home: House;
afterEach(() => home.close());

/** What a scraper finds under a name with its labels. */
async function scraped(sample: string): Promise<number> {
	const lines = exposed(await home.engine.families()).split('\n');
	return Number(lines.find((line) => line.startsWith(`${sample} `))?.slice(sample.length));
}

/** How often the store is asked this, and by how many at once. */
function readsOf(name: ReadName) {
	const reads = { asked: 0, most: 0 };
	let now = 0;
	const { store } = home;
	const read = store.read.bind(store);
	store.read = async (asked, args) => {
		if (asked !== name) return read(asked, args);
		reads.asked += 1;
		reads.most = Math.max(reads.most, (now += 1));
		try {
			return await read(asked, args);
		} finally {
			now -= 1;
		}
	};
	return reads;
}

/** Lets go on what can, until that is so. */
async function settledOnce(done: () => boolean): Promise<void> {
	for (let i = 0; i < 1_000 && !done(); i += 1) await Promise.resolve();
	expect(done()).toBe(true);
}

const daily = (job: object) => ({
	when: { frequency: 'interval' as const, everyMs: 10 * minute },
	job: { kind: 'command', spec: { command: 'true' }, ...job },
});

describe('scrapers', () => {
	test('are told what is on disk: jobs by state and cause, attempts, robots, slots, times', async () => {
		home = await house();
		const robot = await home.robot('r1', { slots: 2 });
		await home.enrol('r2');
		await home.submit();
		await robot.accept();
		await home.clock.advance(2_000);
		await robot.end();
		await home.submit();
		await robot.accept();
		await robot.end(exit(3));
		await home.submit({ notBefore: home.clock.now() + minute });
		await home.submit({ priority: 'high' });
		await home.submit();
		await home.submit({ priority: 'low' });
		await robot.accept();
		await home.clock.advance(1_000);
		for (const [sample, value] of Object.entries({
			'robot_fleet_jobs_submitted_total{kind="command"}': 6,
			'robot_fleet_jobs_ended_total{state="completed"}': 1,
			'robot_fleet_jobs_ended_total{state="failed"}': 1,
			'robot_fleet_jobs_ended_cause_total{cause="exit_code"}': 1,
			'robot_fleet_jobs{state="pending"}': 1,
			'robot_fleet_jobs{state="queued"}': 1,
			'robot_fleet_jobs{state="dispatched"}': 1,
			'robot_fleet_jobs{state="running"}': 1,
			'robot_fleet_jobs_queued{priority="low"}': 1,
			robot_fleet_attempts_assigned_total: 4,
			'robot_fleet_attempts_ended_total{outcome="completed"}': 1,
			'robot_fleet_robots{status="busy"}': 1,
			'robot_fleet_robots{status="offline"}': 1,
			robot_fleet_slots: 2,
			robot_fleet_slots_used: 2,
			robot_fleet_queue_oldest_seconds: 1,
			robot_fleet_run_seconds_count: 2,
			robot_fleet_run_seconds_sum: 2,
			robot_fleet_dispatch_seconds_count: 4,
		})) {
			expect([sample, await scraped(sample)]).toEqual([sample, value]);
		}
		expect(await scraped('robot_fleet_store_commit_seconds_count')).toBeGreaterThan(5);
	});

	test('count a parent that failed by its cause, too', async () => {
		home = await house();
		const robot = await home.robot('r1');
		await home.submit({ target: { mode: 'all' } });
		await robot.end(exit(3));
		const of = (cause: string) => scraped(`robot_fleet_jobs_ended_cause_total{cause="${cause}"}`);
		expect([await of('exit_code'), await of('dependency')]).toEqual([1, 1]);
		expect(await scraped('robot_fleet_jobs_ended_total{state="failed"}')).toBe(2);
	});

	test('find every kind and every way an attempt can end from the start: a rate sees the first of them', async () => {
		home = await house();
		for (const sample of [
			'robot_fleet_jobs_submitted_total{kind="command"}',
			'robot_fleet_jobs_ended_total{state="timeout"}',
			...[
				'completed',
				'failed',
				'timeout',
				'cancelled',
				'lost',
				'refused',
				'not-started',
				'forced',
			].map((outcome) => `robot_fleet_attempts_ended_total{outcome="${outcome}"}`),
		]) {
			expect([sample, await scraped(sample)]).toEqual([sample, 0]);
		}
	});

	test('see from ready to given away, however long a job was not due', async () => {
		home = await house();
		await home.submit({ notBefore: home.clock.now() + 60 * minute });
		await home.clock.advance(60 * minute);
		await home.clock.advance(3_000);
		await home.robot('r1');
		const sum = await scraped('robot_fleet_dispatch_seconds_sum');
		expect(sum).toBeGreaterThanOrEqual(3);
		expect(sum).toBeLessThan(5);
	});
});

describe('the record', () => {
	test('counts every job of today as it stands, also behind a restart', async () => {
		home = await house();
		const robot = await home.robot('r1');
		for (const ending of [{}, exit(1), {}, {}]) {
			await home.submit();
			await robot.accept();
			await home.clock.advance(4_000);
			await robot.end(ending);
		}
		const cancelled = await home.submit({ notBefore: home.clock.now() + minute });
		await home.engine.cancel(cancelled, admin);
		await home.submit();
		await home.submit();
		const before = await home.engine.metrics();
		expect(before).toMatchObject({
			totalRobots: 1,
			onlineRobots: 1,
			offlineRobots: 0,
			slots: 1,
			slotsUsed: 1,
			totalJobsToday: 7,
			completedJobsToday: 3,
			failedJobsToday: 1,
			cancelledJobsToday: 1,
			pendingJobs: 1,
			runningJobs: 1,
			averageExecutionMs: 4_000,
			successRate: 0.75,
			plannedSuccessRate: null,
		});
		await home.restart();
		const { onlineRobots, slots, slotsUsed, ...after } = await home.engine.metrics();
		expect([onlineRobots, slots, slotsUsed]).toEqual([0, 0, 0]);
		expect(before).toMatchObject({ ...after, offlineRobots: 0 });
	});

	test('what has ended in a full stretch is not read again, and what ends later is seen', async () => {
		home = await house();
		const robot = await home.robot('r1', { slots: 1 });
		const jobs = Array.from({ length: 6_000 }, () => ({
			kind: 'command',
			spec: { command: 'true' },
			notBefore: home.clock.now() + 60 * minute,
		}));
		const answers = await home.engine.submit(jobs, admin);
		const ids = answers.map((answer) => (answer as { jobId: string }).jobId);
		expect(await home.engine.metrics()).toMatchObject({
			totalJobsToday: 6_000,
			pendingJobs: 6_000,
		});
		for (const id of ids.slice(0, 3)) await home.engine.cancel(id, admin);
		await home.submit();
		await robot.accept();
		await robot.end();
		expect(await home.engine.metrics()).toMatchObject({
			totalJobsToday: 6_001,
			completedJobsToday: 1,
			cancelledJobsToday: 3,
			pendingJobs: 5_997,
		});
	});

	test('planned_success_rate: what should have run and did not counts against it', async () => {
		home = await house();
		const robot = await home.robot('r1');
		await home.engine.putSchedule('nightly', daily({}), admin);
		await home.clock.advance(10 * minute);
		await robot.accept();
		await robot.end();
		await home.clock.advance(10 * minute);
		await robot.accept();
		await robot.end(exit(1));
		expect(await home.engine.metrics()).toMatchObject({
			successRate: 0.5,
			plannedSuccessRate: 0.5,
			planned: { due: 2, completed: 1, failed: 1, notRun: 0, open: 0 },
		});
		// Nobody was there for two of them; the newest is made up.
		await home.clock.pause(30 * minute);
		await home.clock.advance(2_000);
		await settled();
		const record = await home.engine.metrics();
		expect(record.planned).toEqual({ due: 4, completed: 1, failed: 1, notRun: 2, open: 1 });
		expect([record.successRate, record.plannedSuccessRate]).toEqual([0.5, 0.25]);
	});

	test('planned_success_rate: a run that was cancelled is neither, also one that gave its place to the next', async () => {
		home = await house();
		const robot = await home.robot('r1');
		await home.engine.putSchedule('nightly', { ...daily({}), overlap: 'cancel-old' }, admin);
		await home.clock.advance(10 * minute);
		await robot.accept();
		await home.clock.advance(10 * minute);
		await robot.end({ state: 'cancelled', cause: 'cancelled' });
		await robot.accept();
		await robot.end();
		await settled();
		const { planned, plannedSuccessRate, successRate } = await home.engine.metrics();
		expect(planned).toEqual({ due: 1, completed: 1, failed: 0, notRun: 0, open: 0 });
		expect([successRate, plannedSuccessRate]).toEqual([1, 1]);
	});

	test('who asks for the same day before it is read shares one reading, and is told what was so by then', async () => {
		home = await house();
		const reads = readsOf('tallies');
		await home.submit();
		const records = await Promise.all(Array.from({ length: 20 }, () => home.engine.metrics()));
		expect(records.map(({ totalJobsToday }) => totalJobsToday)).toEqual(Array(20).fill(1));
		expect(reads.asked).toBe(1);
		// While one is read, those who come later share the next one.
		const first = home.engine.metrics();
		await Promise.resolve();
		await Promise.resolve();
		await home.submit();
		const later = await Promise.all([home.engine.metrics(), home.engine.metrics()]);
		expect(later.map(({ totalJobsToday }) => totalJobsToday)).toEqual([2, 2]);
		await first;
		expect(reads.asked).toBe(3);
	});

	test('today begins at midnight of the zone that is asked for', async () => {
		home = await house();
		const now = Date.UTC(2026, 2, 29, 0, 30);
		expect(midnight('UTC', now)).toBe(Date.UTC(2026, 2, 29));
		expect(midnight('America/New_York', now)).toBe(Date.UTC(2026, 2, 28, 4));
		// Clocks are set forward at 2 that night: midnight was an hour further from noon.
		expect(midnight('Europe/Berlin', Date.UTC(2026, 2, 29, 10))).toBe(Date.UTC(2026, 2, 28, 23));
		await expect(home.engine.metrics('Mars/Olympus')).rejects.toMatchObject({
			code: 'bad-timezone',
		});
	});

	test('jobs of a time are told apart by robot, kind, hour, owner and cause', async () => {
		home = await house();
		const robots = [await home.robot('r1'), await home.robot('r2')];
		for (const [i, robot] of [robots[0]!, robots[1]!, robots[1]!].entries()) {
			await home.submit({ target: { robot: robot.robotId } });
			await robot.accept();
			await robot.end(i === 2 ? exit(1) : {});
		}
		expect(await home.engine.metricBreakdown('robot')).toEqual([
			expect.objectContaining({ name: 'r2', jobs: 2, completed: 1, failed: 1, successRate: 0.5 }),
			expect.objectContaining({ name: 'r1', jobs: 1, completed: 1, failed: 0, successRate: 1 }),
		]);
		const of = async (by: 'kind' | 'hour' | 'owner' | 'cause') =>
			(await home.engine.metricBreakdown(by)).map((row) => [row.of, row.jobs]);
		expect(await of('kind')).toEqual([['command', 3]]);
		expect(await of('hour')).toEqual([[String(Date.UTC(2026, 0, 1)), 3]]);
		expect(await of('owner')).toEqual([['key:test', 3]]);
		expect(await of('cause')).toEqual([
			['', 2],
			['exit_code', 1],
		]);
	});
});

describe('jobs of a time', () => {
	test('are read for one caller at a time, and for nobody who has gone; more than a few are sent away', async () => {
		home = await house();
		const jobs = Array.from({ length: 5_001 }, () => ({
			kind: 'command',
			spec: { command: 'true' },
			notBefore: home.clock.now() + minute,
		}));
		await home.engine.submit(jobs, admin);
		const reads = readsOf('breakdown');
		const gone = new AbortController();
		const ask = (signal?: AbortSignal) =>
			home.engine.metricBreakdown('kind', undefined, home.clock.now() + minute, signal);
		const asked = [ask(), ask(gone.signal), ...Array.from({ length: 7 }, () => ask())];
		gone.abort();
		const answers = await Promise.allSettled(asked);
		expect(answers.map(({ status }) => status)).toEqual([
			'fulfilled',
			'rejected',
			...Array(6).fill('fulfilled'),
			'rejected',
		]);
		expect(answers[0]).toMatchObject({ value: [{ of: 'command', jobs: 5_001 }] });
		expect(answers.at(-1)).toMatchObject({ reason: { code: 'too-many' } });
		expect(reads).toEqual({ asked: 2 * 7, most: 1 });
		// Half way through.
		const leaves = new AbortController();
		const left = ask(leaves.signal);
		await settledOnce(() => reads.asked === 15);
		leaves.abort();
		await expect(left).rejects.toMatchObject({ name: 'AbortError' });
		expect(reads.asked).toBe(15);
		expect(await ask()).toHaveLength(1);
	});
});

describe('series', () => {
	test('each minute is a sample; steps add sums up and take the mean of levels', async () => {
		home = await house();
		const start = home.clock.now();
		const robot = await home.robot('r1');
		await home.submit();
		await robot.accept();
		await home.clock.advance(minute);
		await robot.end();
		await home.submit();
		await home.submit();
		await home.clock.advance(minute);
		const points = async (metric: 'submitted' | 'completed' | 'running' | 'waiting') =>
			(await home.engine.metricSeries(metric, start, home.clock.now())).points;
		expect(await points('submitted')).toEqual([
			[start, 1],
			[start + minute, 2],
		]);
		expect(await points('completed')).toEqual([
			[start, 0],
			[start + minute, 1],
		]);
		expect(await points('running')).toEqual([
			[start, 1],
			[start + minute, 1],
		]);
		expect(await points('waiting')).toEqual([
			[start, 0],
			[start + minute, 1],
		]);
		const coarse = await home.engine.metricSeries('submitted', 0, home.clock.now());
		expect(coarse.stepMs % minute).toBe(0);
		expect(coarse.points).toEqual([[Math.floor(start / coarse.stepMs) * coarse.stepMs, 3]]);
	});

	test('a minute without dispatch says nothing about how long one takes', async () => {
		home = await house();
		const start = home.clock.now();
		await home.submit();
		await home.submit();
		await home.clock.advance(10_000);
		await home.robot('r1', { slots: 2 });
		await home.clock.advance(3 * minute);
		const dispatchMs = async (from: number) =>
			(await home.engine.metricSeries('dispatchMs', from, home.clock.now())).points;
		expect(await dispatchMs(start)).toEqual([[start, 10_000]]);
		// Over many minutes the mean is that of those that had one.
		expect((await dispatchMs(0)).map(([, value]) => value)).toEqual([10_000]);
	});

	test('outlive a restart, and a minute that two lives share is one sample', async () => {
		home = await house();
		const start = home.clock.now();
		await home.submit();
		await home.clock.advance(minute);
		await home.submit();
		await home.clock.advance(10_000);
		await home.engine.stop();
		await home.restart();
		await home.submit();
		await home.clock.advance(minute);
		const { points } = await home.engine.metricSeries('submitted', start, home.clock.now());
		expect(points).toEqual([
			[start, 1],
			[start + minute, 2],
		]);
	});

	test('older samples than are kept are forgotten', async () => {
		home = await house();
		const start = home.clock.now();
		await home.clock.advance(minute);
		await home.clock.pause(32 * 24 * 60 * minute);
		await home.clock.advance(minute);
		const { points } = await home.engine.metricSeries('robots', start, home.clock.now());
		expect(points[0]![0]).toBeGreaterThan(start + 31 * 24 * 60 * minute);
	});
});
