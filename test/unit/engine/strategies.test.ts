/** Who gets a job, by strategy: in a real engine, with robots that are played. */
import type { Submit } from '../../../protocol';
import { house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const three = (slots = 4): Promise<PlayedRobot[]> =>
	Promise.all(['r1', 'r2', 'r3'].map((name) => h.robot(name, { slots })));
const submit = async (job: Partial<Submit>) => {
	const id = await h.submit(job);
	await settled();
	return id;
};
const counts = (robots: PlayedRobot[]) => robots.map(({ assigned }) => assigned.length);
const names = async (jobIds: string[]) =>
	Promise.all(
		jobIds.map(async (id) => (await h.engine.robot((await h.engine.job(id)).robotId!)).name),
	);

test('round robin gives nine equal jobs to three robots in turn, across a restart', async () => {
	const robots = await three();
	const first: string[] = [];
	for (let i = 0; i < 5; i += 1) first.push(await submit({ strategy: 'round_robin' }));
	await h.restart();
	for (const robot of robots) {
		await robot
			.reconnectable(() => h.engine)
			.connect({
				attempts: robot.assigned.map(({ job_id, attempt, epoch, token }) => ({
					job_id,
					attempt,
					epoch,
					token,
					state: 'running',
					output: { stdout: 0, stderr: 0 },
				})),
			});
	}
	const rest: string[] = [];
	for (let i = 0; i < 4; i += 1) rest.push(await submit({ strategy: 'round_robin' }));
	const order = [...(await names(first)), ...(await names(rest))];
	expect(order).toEqual([...order.slice(0, 3), ...order.slice(0, 3), ...order.slice(0, 3)]);
	expect(new Set(order.slice(0, 3)).size).toBe(3);
});

test('round robin is fair to who joins and who was away: nobody gets what others had meanwhile', async () => {
	const robots = await three(20);
	for (let i = 0; i < 6; i += 1) await submit({ strategy: 'round_robin' });
	const late = await h.robot('late', { slots: 20 });
	for (let i = 0; i < 8; i += 1) await submit({ strategy: 'round_robin' });
	expect(counts([...robots, late])).toEqual([4, 4, 4, 2]);
});

test('round robin takes its turn for the job that is stored only', async () => {
	const robots = await three();
	const job = { strategy: 'round_robin', idempotencyKey: 'k' } as const;
	await submit(job);
	for (let i = 0; i < 4; i += 1) await submit(job);
	await submit({ strategy: 'round_robin' });
	await submit({ strategy: 'round_robin' });
	expect(counts(robots)).toEqual([1, 1, 1]);
});

test('least loaded goes by the share of used slots, then by the processor', async () => {
	const small = await h.robot('small', { slots: 2 });
	const large = await h.robot('large', { slots: 8 });
	small.session.heartbeat({ cpu_percent: 5 });
	large.session.heartbeat({ cpu_percent: 95 });
	await submit({});
	expect(counts([small, large])).toEqual([1, 0]);
	for (let i = 0; i < 4; i += 1) await submit({});
	expect(counts([small, large])).toEqual([1, 4]);
});

test('what waits is spread over robots that come free together', async () => {
	const robots = await three(4);
	await h.engine.drain({ keyId: 'k', name: 'test', scopes: [] });
	await Promise.all(robots.map((robot) => robot.vanish()));
	await h.engine.takeWork({ keyId: 'k', name: 'test', scopes: [] });
	for (let i = 0; i < 6; i += 1) await submit({});
	await h.engine.drain({ keyId: 'k', name: 'test', scopes: [] });
	const back = robots.map((robot) => robot.reconnectable(() => h.engine));
	for (const robot of back) await robot.connect();
	await h.engine.takeWork({ keyId: 'k', name: 'test', scopes: [] });
	await settled();
	expect(counts(back)).toEqual([2, 2, 2]);
});

test('random is as the dice fall, and the same for the same dice', async () => {
	const played = async (sides: number[]) => {
		await h.close();
		h = await house({ chance: () => sides.shift()! });
		const robots = await three();
		for (let i = 0; i < 2; i += 1) await submit({ strategy: 'random' });
		return counts(robots);
	};
	// Two dice a job: does the second robot replace the first, does the third.
	const never = [0.9, 0.9, 0.9, 0.9];
	const always = [0.1, 0.1, 0.1, 0.1];
	expect(await played([...never])).toEqual([1, 1, 0]);
	expect(await played([...never])).toEqual([1, 1, 0]);
	expect(await played([...always])).toEqual([0, 0, 2]);
});

test('affinity goes back to where the same work went well, after a restart too; labels go on to hold', async () => {
	const robots = await three(2);
	const job = { strategy: 'affinity', spec: { command: 'build' } } as const;
	const once = await submit(job);
	const [home] = await names([once]);
	const robot = robots.find(({ assigned }) => assigned.length > 0)!;
	await robot.end();
	expect(await h.engine.job(once)).toMatchObject({ strategy: 'affinity' });
	// The other two are idle for longer; the affine one is not.
	const busy = await submit({ target: { robot: home! } });
	expect(await names([await submit(job)])).toEqual([home]);
	expect(await names([await submit({ ...job, spec: { command: 'other' } })])).not.toEqual([home]);
	const elsewhere = await submit({ ...job, target: { exclude: [home!] } });
	expect(await names([elsewhere])).not.toEqual([home]);
	await h.restart();
	const { store } = h;
	expect(await store.read('affinities', { limit: 10 })).toMatchObject([
		{ robotId: robot.robotId, successes: 1 },
	]);
	expect(await h.state(busy)).toBe('dispatched');
});

test('affinity keys put different work together', async () => {
	await three(2);
	const first = await submit({ strategy: 'affinity', affinityKey: 'nightly' });
	const [home] = await names([first]);
	const robot = (await h.engine.robot(home!)).robotId;
	await submit({});
	expect((await h.engine.job(first)).affinityKey).toBe('nightly');
	expect(robot).toBe((await h.engine.job(first)).robotId);
});

test('the robot that is preferred most goes first while it is free, and others are taken when it is not', async () => {
	await h.robot('plain', { slots: 4 });
	const ssd = await h.robot('ssd', { slots: 2, labels: { disk: 'ssd' } });
	const best = await h.robot('best', { slots: 1, labels: { disk: 'ssd' } });
	const target = {
		prefer: [
			{ labels: { disk: 'ssd' }, weight: 2 },
			{ robot: 'best', weight: 5 },
		],
	};
	const jobs = [];
	for (let i = 0; i < 4; i += 1) jobs.push(await submit({ target }));
	expect(await names(jobs)).toEqual(['best', 'ssd', 'ssd', 'plain']);
	expect(counts([ssd, best])).toEqual([2, 1]);
});

test('a job waits for a robot it prefers as long as it says, and no longer', async () => {
	const best = await h.robot('best');
	const other = await h.robot('other');
	await submit({ target: { robot: 'best' } });
	const job = { target: { prefer: [{ robot: 'best' }] }, preferWaitMs: 30_000 };
	const first = await submit(job);
	const second = await submit(job);
	expect(await h.state(first)).toBe('queued');
	expect((await h.engine.why(first)).text).toBe(
		'2 of 2 robots match: 1 is busy, 1 is free, but left to others while the job waits for a robot it prefers.',
	);
	await best.end();
	expect(best.last.job_id).toBe(first);
	expect(other.assigned).toHaveLength(0);
	await h.clock.advance(29_000);
	expect(await h.state(second)).toBe('queued');
	await h.clock.advance(1_500);
	expect(other.last.job_id).toBe(second);
});

test('nobody waits for a robot that is not there', async () => {
	const best = await h.robot('best');
	await h.robot('other');
	await best.vanish();
	const job = await submit({ target: { prefer: [{ robot: 'best' }] }, preferWaitMs: 30_000 });
	expect(await names([job])).toEqual(['other']);
});

test('the service says the strategy of jobs that say none', async () => {
	await h.close();
	h = await house({ settings: { strategy: 'round_robin' } });
	const small = await h.robot('small', { slots: 2 });
	const large = await h.robot('large', { slots: 8 });
	for (let i = 0; i < 4; i += 1) await submit({});
	expect(counts([small, large])).toEqual([2, 2]);
});

test('a job that is more urgent goes first to the robot that another job would have got', async () => {
	const robots = await three(1);
	for (const name of ['r1', 'r2', 'r3']) await submit({ target: { robot: name } });
	const low = await submit({ target: { prefer: [{ robot: 'r2' }] }, priority: 'low' });
	const pinned = await submit({ target: { robot: 'r2' } });
	await robots[1]!.end();
	expect(robots[1]!.last.job_id).toBe(pinned);
	await robots[0]!.end();
	expect(robots[0]!.last.job_id).toBe(low);
});

test('a target that names nobody, or two environments, is refused with one sentence', async () => {
	await expect(h.submit({ target: { exclude: ['nobody'] } })).rejects.toThrow('nobody');
	await expect(
		h.submit({ target: { environment: 'a', labels: { environment: 'b' } } }),
	).rejects.toThrow('target.environment');
});
