/** What is forgotten, when, and what never is. */
import { admin, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import type { RetentionSettings } from '../../../dispatcher/engine/context';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
let h: House;
let robot: PlayedRobot;

async function open(retention: Partial<RetentionSettings> = {}): Promise<void> {
	h = await house({ retention });
	robot = await h.robot('r1');
}
afterEach(() => h.close());

async function ended(key?: string): Promise<string> {
	const id = await h.submit(key === undefined ? {} : { idempotencyKey: key });
	await settled();
	await robot.end();
	return id;
}
const isThere = (id: string) =>
	h.engine.job(id).then(
		() => true,
		() => false,
	);
async function purge(dryRun = false) {
	const answer = h.engine.purge(dryRun);
	await h.clock.advance(2_000);
	return answer;
}
/** Longer than the service can be left to itself in a test. */
const pass = (ms: number) => h.clock.jump(ms);

test('an ended job is forgotten when its time is over, with all that belongs to it, and not before', async () => {
	await open({ jobsMs: 2 * dayMs });
	const old = await ended();
	pass(dayMs);
	const young = await ended();
	expect(await purge()).toMatchObject({ jobs: 0, more: false });
	pass(dayMs + hourMs);
	expect(await purge(true)).toMatchObject({ dryRun: true, jobs: 1 });
	expect(await isThere(old)).toBe(true);
	expect(await purge()).toMatchObject({ dryRun: false, jobs: 1 });
	expect(await isThere(old)).toBe(false);
	expect(await isThere(young)).toBe(true);
	expect(await h.store.read('timeline', { jobId: old })).toEqual([]);
	expect(await h.store.read('attempts', { jobId: old })).toEqual([]);
	expect((await h.engine.service()).retention).toMatchObject({ purged: 1, backlog: 0 });
});

test('the age of a job counts from its end, however long ago it was submitted', async () => {
	await open({ jobsMs: dayMs });
	const id = await h.submit();
	await settled();
	await robot.accept();
	pass(10 * dayMs);
	await robot.end();
	await purge();
	expect(await isThere(id)).toBe(true);
	pass(dayMs + 1);
	await purge();
	expect(await isThere(id)).toBe(false);
});

test('no job that has not ended is ever forgotten, nor one that a parked execution still wants', async () => {
	await open({ jobsMs: dayMs, maxJobs: 0 });
	const wanted = await ended();
	const waiting = await h.submit({
		target: { robot: 'r1' },
		notBefore: h.clock.now() + 400 * dayMs,
	});
	const running = await h.submit();
	await settled();
	await robot.accept();
	const { waitId } = await h.engine.createWait(
		{ jobIds: [wanted, running], resumeUrl: 'http://127.0.0.1:5678/webhook-waiting/1' },
		admin,
	);
	pass(100 * dayMs);
	expect(await purge()).toMatchObject({ jobs: 0 });
	for (const id of [wanted, waiting, running]) expect(await isThere(id)).toBe(true);
	await h.engine.closeWait(waitId);
	expect(await purge()).toMatchObject({ jobs: 1 });
	expect(await isThere(wanted)).toBe(false);
	pass(2 * dayMs);
	expect(await purge()).toMatchObject({ waits: 1 });
	await expect(h.engine.wait(waitId)).rejects.toMatchObject({ code: 'no-such-wait' });
});

test('of more ended jobs than are kept the oldest go', async () => {
	await open({ maxJobs: 3 });
	const ids: string[] = [];
	for (let i = 0; i < 7; i++) {
		ids.push(await ended());
		await h.clock.advance(10);
	}
	expect(await purge(true)).toMatchObject({ jobs: 4 });
	expect(await purge()).toMatchObject({ jobs: 4, more: false });
	expect(await Promise.all(ids.map(isThere))).toEqual([
		false,
		false,
		false,
		false,
		true,
		true,
		true,
	]);
	expect(await purge()).toMatchObject({ jobs: 0 });
});

test('robots that were removed and tokens that have ended go as jobs do, those of robots that are there stay', async () => {
	await open({ jobsMs: 2 * dayMs, eventsMs: 2 * dayMs });
	const stays = await h.enrol('r2');
	await h.engine.createToken({}, admin);
	await h.engine.removeRobot('r1', admin);
	pass(dayMs);
	expect(await purge()).toMatchObject({ robots: 0, tokens: 0 });
	pass(dayMs + hourMs);
	expect(await purge(true)).toMatchObject({ robots: 1, tokens: 2 });
	expect(await purge()).toMatchObject({ robots: 1, tokens: 2 });
	expect(await h.engine.tokens()).toHaveLength(1);
	expect(await h.store.read('isRobot', { id: robot.robotId })).toBe(false);
	expect(await h.store.read('isRobot', { id: stays })).toBe(true);
});

test('a robot that was removed is known as long as events tell of it, after a restart too', async () => {
	await open({ jobsMs: dayMs, eventsMs: 5 * dayMs });
	const filter = { event: 'job.ended', labels: { site: 'berlin' } } as const;
	const berlin = await h.robot('berlin', { labels: { site: 'berlin' } });
	const { epoch } = await h.engine.subscribe('trigger', { filter }, admin);
	const jobId = await h.submit({ target: { robot: 'berlin' } });
	await settled();
	await berlin.end();
	await settled();
	await h.engine.removeRobot('berlin', admin);
	pass(2 * dayMs);
	expect(await purge()).toMatchObject({ jobs: 1, robots: 0 });
	await h.restart();
	expect(await h.engine.events('trigger', epoch, admin, 0)).toMatchObject([{ data: { jobId } }]);
	pass(4 * dayMs);
	expect(await purge()).toMatchObject({ robots: 1 });
});

test('an idempotency key lives as long as its job, and a day at least', async () => {
	await open({ maxJobs: 0, jobsMs: 10 * dayMs });
	const id = await ended('key-1');
	await h.clock.advance(10);
	expect(await purge()).toMatchObject({ jobs: 1, keys: 0 });
	const again = () =>
		h.engine.submit(
			[{ kind: 'command', spec: { command: 'true' }, idempotencyKey: 'key-1' }],
			admin,
		);
	expect(await again()).toMatchObject([{ jobId: id, duplicate: true }]);
	pass(dayMs - hourMs);
	expect(await purge()).toMatchObject({ keys: 0 });
	expect(await again()).toMatchObject([{ jobId: id, duplicate: true }]);
	pass(2 * hourMs);
	expect(await purge()).toMatchObject({ keys: 1 });
	const [fresh] = await again();
	expect(fresh).not.toMatchObject({ jobId: id });
});

test('a key stays while its job does', async () => {
	await open({ jobsMs: 100 * dayMs });
	const id = await ended('key-1');
	pass(50 * dayMs);
	expect(await purge()).toMatchObject({ keys: 0 });
	expect(
		await h.engine.submit(
			[{ kind: 'command', spec: { command: 'true' }, idempotencyKey: 'key-1' }],
			admin,
		),
	).toMatchObject([{ jobId: id, duplicate: true }]);
});

test('runs of schedules and events go by their own ages', async () => {
	await open({ occurrencesMs: 10 * dayMs, eventsMs: 5 * dayMs });
	await h.engine.putSchedule('s', { cron: '* * * * * *' }, admin);
	await h.clock.advance(3_500);
	await h.engine.pauseSchedule('s', admin);
	pass(6 * dayMs);
	const first = await purge();
	expect(first.events).toBeGreaterThanOrEqual(3);
	expect(first.occurrences).toBe(0);
	pass(5 * dayMs);
	// One of the events told that the robot had come.
	expect((await purge()).occurrences).toBe(first.events - 1);
});

test('a caller whose time is over goes on where that was, and comes to the end', async () => {
	await open();
	const jobs = Array.from({ length: 1_000 }, (_, i) => ({
		kind: 'command',
		spec: { command: 'true' },
		idempotencyKey: `key-${i}`,
	}));
	await h.engine.submit(jobs, admin);
	await h.engine.submit(
		jobs.map((job) => ({ ...job, idempotencyKey: `more-${job.idempotencyKey}` })),
		admin,
	);
	// The store is slow: one call is as long as two looks.
	let behindMs = 0;
	const monotonic = h.clock.monotonic.bind(h.clock);
	jest.spyOn(h.clock, 'monotonic').mockImplementation(() => monotonic() + behindMs);
	const read = h.store.read.bind(h.store);
	jest.spyOn(h.store, 'read').mockImplementation((what, args) => {
		if (what === 'old') behindMs += 11_000;
		return read(what, args);
	});
	let calls = 0;
	while ((await purge()).more) expect((calls += 1)).toBeLessThan(20);
	expect(calls).toBeGreaterThan(2);
});

test('by itself it looks every few minutes, and its bites stay small while others work', async () => {
	await open({ maxJobs: 10 });
	for (let i = 0; i < 120; i++) await ended();
	const commits: number[] = [];
	const commit = h.store.commit.bind(h.store);
	h.store.commit = (deeds) => {
		for (const deed of deeds) if (deed.do === 'purge') commits.push(deed.with.keys.length);
		return commit(deeds);
	};
	await h.clock.advance(11 * 60_000);
	expect(commits.reduce((sum, n) => sum + n, 0)).toBe(110);
	expect(Math.max(...commits)).toBeLessThanOrEqual(125);
	expect((await h.engine.service()).retention).toMatchObject({ purged: 110, backlog: 0 });
	expect((await h.engine.queueStats()).byState.completed).toBe(10);
	expect((await h.engine.service()).retention.lastAt).not.toBeNull();
});
