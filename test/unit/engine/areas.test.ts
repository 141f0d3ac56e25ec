/** Groups and pools as targets and limits, in a real engine. */
import { limits, type Submit } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';
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
const robotOf = async (jobId: string) => {
	const { robotId } = await h.engine.job(jobId);
	return robotId === null ? null : (await h.engine.robot(robotId)).name;
};

test('a group is its robots and those of the groups inside it, after a restart too', async () => {
	for (const name of ['r1', 'r2', 'r3']) await h.robot(name, { slots: 2 });
	await h.engine.putGroup('site', { robots: ['r1'] }, admin);
	await h.engine.putGroup('hall', { parent: 'site', robots: ['r2'] }, admin);
	await h.restart();
	expect(await h.engine.group('site')).toMatchObject({
		groups: ['hall'],
		robots: ['r1'],
		allRobots: ['r1', 'r2'],
	});
	for (const id of ['r1', 'r2', 'r3']) {
		const { robotId } = await h.engine.robot(id);
		expect(robotId).toBeDefined();
	}
	const waiting = await submit({ target: { group: 'hall' } });
	expect(await h.engine.why(waiting)).toEqual({ text: '1 of 3 robots match: 1 is not connected.' });
});

test('a job for a group runs there only, and goes where the group goes', async () => {
	await h.robot('r1', { slots: 2 });
	await h.robot('r2', { slots: 2 });
	await h.engine.putGroup('site', { robots: ['r1'] }, admin);
	const jobs = [
		await submit({ target: { group: 'site' } }),
		await submit({ target: { group: 'site' } }),
	];
	expect(await Promise.all(jobs.map(robotOf))).toEqual(['r1', 'r1']);
	const waits = await submit({ target: { group: 'site' } });
	expect(await h.state(waits)).toBe('queued');
	await h.engine.putGroup('site', { robots: ['r1', 'r2'] }, admin);
	await settled();
	expect(await robotOf(waits)).toBe('r2');
	const all = await submit({ target: { group: 'site', mode: 'all' } });
	expect((await h.engine.job(all)).children).toMatchObject({ total: 2 });
});

test('groups cannot lie in themselves, nor go while something lies in them', async () => {
	await h.engine.putGroup('a', {}, admin);
	await h.engine.putGroup('b', { parent: 'a' }, admin);
	await expect(h.engine.putGroup('a', { parent: 'b' }, admin)).rejects.toMatchObject({
		code: 'group-ring',
	});
	await expect(h.engine.removeGroup('a', admin)).rejects.toMatchObject({ code: 'group-used' });
	await h.engine.removeGroup('b', admin);
	await h.engine.removeGroup('a', admin);
	expect(await h.engine.groups()).toEqual([]);
	await expect(submit({ target: { group: 'a' } })).rejects.toMatchObject({ code: 'no-such-group' });
	await expect(submit({ target: { pool: 'a' } })).rejects.toMatchObject({ code: 'no-such-pool' });
});

test('a pool with a cap of two runs two jobs on all its robots together; the third waits and says why', async () => {
	const labels = { environment: 'prod' };
	const robots = [
		await h.robot('r1', { slots: 2, labels }),
		await h.robot('r2', { slots: 2, labels }),
	];
	await h.robot('other', { slots: 1 });
	await h.engine.putPool('prod', { labels, maxJobs: 2 }, admin);
	const target = { pool: 'prod' };
	// A job that names one of its robots takes room as well.
	const first = await submit({ target: { robot: 'r1' } });
	const second = await submit({ target });
	const third = await submit({ target });
	expect(await robotOf(second)).toBe('r2');
	expect(await h.state(third)).toBe('queued');
	expect((await h.engine.why(third)).text).toBe(
		'2 of 3 robots match: 2 waits for its pool prod, which runs 2 jobs at most.',
	);
	expect(await h.engine.pool('prod')).toMatchObject({ jobs: 2, maxJobs: 2, robots: ['r1', 'r2'] });
	expect(await robotOf(await submit({}))).toBe('other');
	await robots[0]!.end();
	expect(await h.state(third)).toBe('dispatched');
	expect(await h.state(first)).toBe('completed');
	const fourth = await submit({ target });
	expect(await h.state(fourth)).toBe('queued');
	await h.engine.putPool('prod', { labels, maxJobs: 3 }, admin);
	await settled();
	expect(await h.state(fourth)).toBe('dispatched');
	const fifth = await submit({ target: { environment: 'prod' } });
	expect(await h.state(fifth)).toBe('queued');
	await h.engine.removePool('prod', admin);
	await settled();
	expect(await h.state(fifth)).toBe('dispatched');
});

test('a robot is in a pool as long as it has the terms', async () => {
	const robot = await h.robot('r1', { labels: { gpu: 'a100' } });
	await h.engine.putPool('gpus', { tags: ['gpu'] }, admin);
	expect((await h.engine.pool('gpus')).robots).toEqual(['r1']);
	await robot.vanish();
	await robot.connect({ labels: {} });
	expect((await h.engine.pool('gpus')).robots).toEqual([]);
	const job = await submit({ target: { pool: 'gpus' } });
	expect(await h.state(job)).toBe('queued');
	await robot.vanish();
	await robot.connect({ labels: { gpu: 'h100' } });
	expect(await h.state(job)).toBe('dispatched');
});

test('a pool closes as soon as it is full, whoever of its robots come free together', async () => {
	for (const name of ['r1', 'r2', 'r3', 'r4']) await h.robot(name);
	const maxJobs = (most: number) => h.engine.putPool('all', { maxJobs: most }, admin);
	const running = async () => (await h.engine.pool('all')).jobs;
	await maxJobs(0);
	const jobs = [];
	for (let i = 0; i < 4; i += 1) jobs.push(await submit({}));
	expect(await running()).toBe(0);
	await maxJobs(2);
	await settled();
	expect(await running()).toBe(2);
	await maxJobs(3);
	await settled();
	expect(await running()).toBe(3);
	expect(await h.state(jobs[3]!)).toBe('queued');
});

test('a schedule goes on without the robots it excludes or prefers when they are gone, and misses those it must have', async () => {
	await h.robot('r1');
	await h.robot('old');
	await h.engine.putGroup('site', {}, admin);
	const of = (target: Submit['target']) => ({
		cron: '* * * * *',
		job: { kind: 'command', spec: { command: 'true' }, target },
	});
	await expect(h.engine.putSchedule('typo', of({ exclude: ['odl'] }), admin)).rejects.toMatchObject(
		{ code: 'unknown-robot' },
	);
	const gone = { exclude: ['old'], prefer: [{ robot: 'old' }] };
	await h.engine.putSchedule('goes-on', of(gone), admin);
	await h.engine.putSchedule('misses', of({ group: 'site' }), admin);
	await h.engine.removeRobot('old', admin);
	await h.engine.removeGroup('site', admin);
	await h.clock.advance(60_000);
	const last = async (id: string) => (await h.engine.occurrences(id, { limit: 1 })).items[0];
	expect(await last('goes-on')).toMatchObject({ state: 'ran' });
	expect(await last('misses')).toMatchObject({
		state: 'refused',
		reason: expect.stringContaining('site') as string,
	});
	// One that goes nowhere does not keep the others from being foreseen.
	const { schedules } = await h.engine.forecast(1);
	expect(schedules).toMatchObject([{ target: 'any robot' }, { target: null }]);
});

test('so many groups and pools there are at most, and those that are there can still be changed', async () => {
	for (let i = 0; i < limits.maxPools; i += 1) await h.engine.putPool(`p${i}`, {}, admin);
	await expect(h.engine.putPool('more', {}, admin)).rejects.toMatchObject({
		code: 'too-many-areas',
	});
	await h.engine.putPool('p0', { maxJobs: 1 }, admin);
	await h.engine.removePool('p1', admin);
	await h.engine.putPool('more', {}, admin);
	expect(await h.engine.pools()).toHaveLength(limits.maxPools);
});
