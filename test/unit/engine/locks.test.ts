/** Locks, limits of keys, rates and slots, in a real engine with robots that are played. */
import { limits, type Submit } from '../../../protocol';
import { admin, exit, heldAs, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const submit = async (job: Partial<Submit>) => {
	const id = await h.submit(job);
	await settled();
	return id;
};
const states = (jobIds: string[]) => Promise.all(jobIds.map((id) => h.state(id)));
const why = async (jobId: string) => (await h.engine.why(jobId)).text;
const lock = (...names: string[]) => ({ locks: names.map((name) => ({ name })) });
const gate = async (name: string, of = 'lock') =>
	(await h.engine.locks()).find((one) => one.name === name && one.of === of);
const put = async (name: string, max: number) => {
	await h.engine.putLimit(name, { max }, admin);
	await settled();
};
/** Ends the job wherever it runs. */
const end = async (robots: PlayedRobot[], jobId: string, ending = {}) => {
	for (const robot of robots) {
		const job = robot.assigned.findLast(({ job_id }) => job_id === jobId);
		if (job) await robot.end(ending, job);
	}
};

test('a lock is one job’s on the whole fleet; the next one gets it with the commit that ends the first, and what needs no lock goes past', async () => {
	const robots = [await h.robot('r1', { slots: 4 }), await h.robot('r2', { slots: 4 })];
	const first = await submit(lock('db'));
	const second = await submit(lock('db'));
	const third = await submit({ ...lock('db'), priority: 'high' });
	const free = await submit({});
	expect(await states([first, second, third, free])).toEqual([
		'dispatched',
		'queued',
		'queued',
		'dispatched',
	]);
	await end(robots, first);
	expect(await states([second, third])).toEqual(['queued', 'dispatched']);
	await end(robots, third, exit(3));
	expect(await h.state(second)).toBe('dispatched');
	await end(robots, second);
	expect(await h.engine.locks()).toEqual([]);
});

test('why, and the list of locks, say who has it, where, since when, and who is next', async () => {
	await h.robot('build-01', { slots: 4 });
	const since = h.clock.now();
	const holder = await submit(lock('db-prod'));
	await h.clock.advance(1_000);
	const next = await submit(lock('db-prod'));
	const last = await submit(lock('db-prod', 'other'));
	const iso = new Date(since).toISOString();
	expect(await why(next)).toBe(
		`The job waits for lock db-prod, held by job ${holder} on robot build-01 since ${iso}.`,
	);
	expect(await gate('db-prod')).toEqual({
		of: 'lock',
		name: 'db-prod',
		max: 1,
		limit: null,
		used: 1,
		holders: [{ jobId: holder, robot: 'build-01', slots: 1, since }],
		waiting: 2,
		next: [
			{ jobId: next, slots: 1, since: since + 1_000 },
			{ jobId: last, slots: 1, since: since + 1_000 },
		],
		opensAt: null,
	});
	expect(await gate('other')).toMatchObject({ used: 0, waiting: 1 });
});

test('a limit makes a lock one of several; 0 closes it, and taking it away makes it one again', async () => {
	const robot = await h.robot('r', { slots: 8 });
	await put('licence', 3);
	const jobs = [];
	for (let i = 0; i < 4; i += 1) jobs.push(await submit(lock('licence')));
	expect(await states(jobs)).toEqual(['dispatched', 'dispatched', 'dispatched', 'queued']);
	expect(await why(jobs[3]!)).toContain('lock licence (all 3 are taken), held by job');
	await put('licence', 0);
	await end([robot], jobs[0]!);
	expect(await why(jobs[3]!)).toBe(
		'The job waits for lock licence, which is closed by its limit; open it with: robot-fleet limits put licence 1.',
	);
	await put('licence', 3);
	expect(await h.state(jobs[3]!)).toBe('dispatched');
	await h.engine.removeLimit('licence');
	const fifth = await submit(lock('licence'));
	for (const id of jobs.slice(1, 3)) await end([robot], id);
	expect(await h.state(fifth)).toBe('queued');
	await end([robot], jobs[3]!);
	expect(await h.state(fifth)).toBe('dispatched');
	await expect(h.engine.removeLimit('licence')).rejects.toMatchObject({ code: 'no-such-limit' });
});

test('a job takes as much of a lock as it says, and more than there is is refused with the command that helps', async () => {
	await h.robot('r', { slots: 8 });
	await put('licence', 3);
	const two = { locks: [{ name: 'licence', slots: 2 }] };
	const jobs = [await submit(two), await submit(two), await submit(lock('licence'))];
	expect(await states(jobs)).toEqual(['dispatched', 'queued', 'dispatched']);
	expect(await why(jobs[1]!)).toContain('lock licence (it takes 2 of 3), held by job');
	await expect(h.submit({ locks: [{ name: 'licence', slots: 4 }] })).rejects.toThrow(
		'robot-fleet limits put licence 4',
	);
	await expect(h.submit({ locks: [{ name: 'new', slots: 2 }] })).rejects.toMatchObject({
		code: 'lock-too-small',
	});
	// One that was set lower later says so.
	await put('licence', 1);
	expect(await why(jobs[1]!)).toBe(
		'The job waits for lock licence, of which it takes 2, but there is only 1; set more with: robot-fleet limits put licence 2.',
	);
});

test('two locks are taken together or not at all, so that crosswise wishes never lock each other out', async () => {
	const robot = await h.robot('r', { slots: 8 });
	const a = await submit(lock('a'));
	const ab = await submit(lock('a', 'b'));
	const ba = await submit(lock('b', 'a'));
	const b = await submit(lock('b'));
	expect(await states([a, ab, ba, b])).toEqual(['dispatched', 'queued', 'queued', 'dispatched']);
	expect(await why(ab)).toMatch(/lock a, held by job .*; and for lock b, held by job /);
	await end([robot], b);
	expect(await states([ab, ba])).toEqual(['queued', 'queued']);
	await end([robot], a);
	expect(await states([ab, ba])).toEqual(['dispatched', 'queued']);
	await end([robot], ab);
	expect(await h.state(ba)).toBe('dispatched');
});

test('at most so many jobs of a key at once, each by its own number; other keys go on', async () => {
	const robots = [await h.robot('r1', { slots: 4 }), await h.robot('r2', { slots: 4 })];
	const of = (key: string, max: number) => submit({ concurrency: { key, max } });
	const jobs = [await of('crm', 2), await of('crm', 2), await of('crm', 2), await of('erp', 1)];
	expect(await states(jobs)).toEqual(['dispatched', 'dispatched', 'queued', 'dispatched']);
	const wide = await of('crm', 3);
	expect(await h.state(wide)).toBe('dispatched');
	expect(await why(jobs[2]!)).toContain('a place of the key crm (all 2 are taken), held by job');
	await end(robots, jobs[0]!);
	expect(await h.state(jobs[2]!)).toBe('queued');
	await end(robots, wide);
	expect(await h.state(jobs[2]!)).toBe('dispatched');
	await put('crm', 1);
	const next = await of('crm', 9);
	await end(robots, jobs[1]!);
	expect(await h.state(next)).toBe('queued');
	await end(robots, jobs[2]!);
	expect(await h.state(next)).toBe('dispatched');
	expect(await gate('crm', 'concurrency')).toMatchObject({ max: 1, limit: 1, used: 1 });
});

test('a lock outlives the link, the agent’s silence and the service, until it is known what became of the attempt', async () => {
	const robot = await h.robot('r1');
	await h.robot('r2');
	const first = await submit({ ...lock('db'), onLoss: { waitMs: 600_000 } });
	const second = await submit(lock('db'));
	await robot.accept();
	await robot.vanish();
	await h.clock.advance(200_000);
	expect(await h.state(second)).toBe('queued');
	await h.restart();
	expect(await gate('db')).toMatchObject({ used: 1, holders: [{ jobId: first, robot: 'r1' }] });
	const back = robot.reconnectable(() => h.engine);
	await back.connect({ attempts: [heldAs('running', robot.last)] });
	const other = await h.robot('r3');
	expect(await h.state(second)).toBe('queued');
	await back.end({}, robot.last);
	expect(await states([first, second])).toEqual(['completed', 'dispatched']);
	expect(other.assigned.length + back.assigned.length).toBe(1);
});

test('a lock is given back when its attempt is lost, refused, cancelled or taken by nobody', async () => {
	const robot = await h.robot('r1');
	const lost = await submit({ ...lock('db'), onLoss: { waitMs: 1_000, then: 'fail' } });
	await robot.accept();
	await robot.vanish();
	await h.clock.advance(120_000);
	expect(await h.state(lost)).toBe('failed');
	await robot.connect();
	const refused = await submit(lock('db'));
	const next = await submit(lock('db'));
	await robot.reject('paused');
	expect(await states([refused, next])).toEqual(['queued', 'dispatched']);
	await h.engine.cancel(next, admin);
	await robot.end({ state: 'cancelled', cause: 'cancelled' });
	const waits = await submit({ ...lock('db'), target: { labels: { no: 'where' } } });
	const last = await submit(lock('db'));
	expect(await states([waits, last])).toEqual(['queued', 'dispatched']);
});

test('children of one parent take the lock one after the other', async () => {
	const robots = [];
	for (const name of ['r1', 'r2', 'r3']) robots.push(await h.robot(name));
	const parent = await submit({ ...lock('rolling'), target: { mode: 'all' } });
	const running = async () => {
		const { items } = await h.engine.jobs({ parentId: parent, state: 'dispatched', limit: 9 });
		return items;
	};
	for (let left = 3; left > 0; left -= 1) {
		const [child, ...more] = await running();
		expect(more).toEqual([]);
		expect(child).toMatchObject({ locks: [{ name: 'rolling' }] });
		await end(robots, child!.jobId);
	}
	expect(await h.state(parent)).toBe('completed');
});

test('a retry, a replay and a new try need what the first one needed', async () => {
	const robot = await h.robot('r', { slots: 4 });
	const job = await submit({
		...lock('db'),
		retry: { maxAttempts: 2, on: ['exit:3'], initialDelayMs: 1_000 },
	});
	await robot.end(exit(3));
	const other = await submit(lock('db'));
	await h.clock.advance(5_000);
	expect(await states([job, other])).toEqual(['queued', 'dispatched']);
	await end([robot], other);
	expect(await h.state(job)).toBe('dispatched');
	await robot.end(exit(3));
	const holder = await submit(lock('db'));
	const { jobId } = await h.engine.retry(job, admin);
	await settled();
	expect(await h.state(jobId)).toBe('queued');
	expect(await h.engine.job(jobId)).toMatchObject(lock('db'));
	await end([robot], holder);
	expect(await h.state(jobId)).toBe('dispatched');
});

test('jobs behind a lock stay in line through a restart, and a thousand of them cost no others their place', async () => {
	const robot = await h.robot('r', { slots: 2 });
	const holder = await submit(lock('db'));
	await h.engine.submit(
		Array.from({ length: 1_000 }, () => ({
			kind: 'command',
			spec: { command: 'true' },
			...lock('db'),
		})),
		admin,
	);
	expect(await gate('db')).toMatchObject({ waiting: 1_000 });
	await h.restart();
	const back = robot.reconnectable(() => h.engine);
	await back.connect({ attempts: [heldAs('running', robot.last)] });
	const free = await submit({});
	expect(await h.state(free)).toBe('dispatched');
	const [next] = (await gate('db'))!.next;
	await back.end({}, robot.last);
	expect(await states([holder, next!.jobId])).toEqual(['completed', 'dispatched']);
	expect(await gate('db')).toMatchObject({ used: 1, waiting: 999 });
});

test('who needs two locks is passed for a minute, and then no more: it starts when those that run have ended', async () => {
	const robot = await h.robot('r', { slots: 9 });
	let [a, b] = [await submit(lock('a')), await submit(lock('b'))];
	const both = await submit(lock('a', 'b'));
	// One always has the other lock when one comes free: without the rule it would never start.
	const swap = async () => {
		const [nextA, nextB] = [await submit(lock('a')), await submit(lock('b'))];
		await end([robot], a);
		await end([robot], b);
		[a, b] = [nextA, nextB];
		return states([a, b]);
	};
	expect(await swap()).toEqual(['dispatched', 'dispatched']);
	await h.clock.advance(limits.patienceMs);
	const [nextA, nextB] = [await submit(lock('a')), await submit(lock('b'))];
	await end([robot], a);
	expect(await states([both, nextA])).toEqual(['queued', 'queued']);
	expect(await why(nextA)).toContain(
		`lock a, which is kept for job ${both}: that has been in line since`,
	);
	// Who stands before it goes before it.
	const urgent = await submit({ ...lock('a'), priority: 'critical' });
	expect(await h.state(urgent)).toBe('dispatched');
	await end([robot], urgent);
	expect(await states([both, nextA])).toEqual(['queued', 'queued']);
	await end([robot], b);
	expect(await states([both, nextA, nextB])).toEqual(['dispatched', 'queued', 'queued']);
	await end([robot], both);
	expect(await states([nextA, nextB])).toEqual(['dispatched', 'dispatched']);
});

test('nothing is kept for a job that could not start anyway', async () => {
	const robot = await h.robot('r', { slots: 9 });
	const away = await h.robot('away');
	await away.vanish();
	await put('closed', 0);
	const holder = await submit(lock('a'));
	await submit({ ...lock('a'), target: { robot: 'away' } });
	await submit(lock('a', 'closed'));
	await h.clock.advance(2 * limits.patienceMs);
	const next = await submit(lock('a'));
	await end([robot], holder);
	expect(await h.state(next)).toBe('dispatched');
});

test('while its robot is busy a lock is kept for nobody, until it has waited for ten minutes', async () => {
	const robots = [await h.robot('r1'), await h.robot('r2', { slots: 4 })];
	const busy = await submit({ target: { robot: 'r1' } });
	let holder = await submit({ ...lock('a'), target: { robot: 'r2' } });
	for (const robot of robots) await robot.accept();
	const pinned = await submit({ ...lock('a'), target: { robot: 'r1' } });
	const swap = async () => {
		const next = await submit({ ...lock('a'), target: { robot: 'r2' } });
		await end(robots, holder);
		holder = next;
		return h.state(next);
	};
	await h.clock.advance(2 * limits.patienceMs);
	expect(await swap()).toBe('dispatched');
	await robots[1]!.accept();
	await h.clock.advance(limits.longPatienceMs - 2 * limits.patienceMs);
	expect(await swap()).toBe('queued');
	expect((await h.engine.why(holder)).text).toContain(`lock a, which is kept for job ${pinned}`);
	await end(robots, busy);
	expect(await states([pinned, holder])).toEqual(['dispatched', 'queued']);
	// A look through old records began at that very moment, and sleeps.
	await h.clock.advance(1_000);
});

test('what was kept for a job that is cancelled is the next one’s', async () => {
	const robot = await h.robot('r', { slots: 9 });
	const [a, b] = [await submit(lock('a')), await submit(lock('b'))];
	const both = await submit(lock('a', 'b'));
	await h.clock.advance(limits.patienceMs);
	const next = await submit(lock('a'));
	await end([robot], a);
	expect(await h.state(next)).toBe('queued');
	await h.engine.cancel(both, admin);
	await settled();
	expect(await states([next, b])).toEqual(['dispatched', 'dispatched']);
});
