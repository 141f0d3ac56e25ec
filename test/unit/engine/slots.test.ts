/** Jobs that take several slots of one robot. */
import { limits, type Submit } from '../../../protocol';
import { admin, heldAs, house, type House } from '../../support/engine';
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

test('a job takes as many slots of one robot as it says; what is left others take', async () => {
	const robot = await h.robot('r', { slots: 4 });
	const heavy = await submit({ slots: 3 });
	const light = await submit({});
	const more = await submit({});
	expect(await states([heavy, light, more])).toEqual(['dispatched', 'dispatched', 'queued']);
	expect(await h.engine.robot('r')).toMatchObject({ held: 2, slotsUsed: 4, status: 'busy' });
	const second = await submit({ slots: 2 });
	await robot.end({}, robot.assigned[1]);
	expect(await states([more, second])).toEqual(['dispatched', 'queued']);
	expect((await h.engine.why(second)).text).toBe('1 of 1 robots match: 1 is busy.');
	await robot.end({}, robot.assigned[2]);
	expect((await h.engine.why(second)).text).toBe(
		'1 of 1 robots match: 1 has 1 free of the 2 slots that the job takes.',
	);
	await robot.end({}, robot.assigned[0]);
	expect(await h.state(second)).toBe('dispatched');
	expect(await h.engine.job(second)).toMatchObject({ slots: 2 });
});

test('slots stay held over a restart, and a smaller robot is none for a heavy job', async () => {
	const large = await h.robot('large', { slots: 4 });
	await h.robot('small', { slots: 1 });
	const heavy = await submit({ slots: 3 });
	await h.restart();
	const back = large.reconnectable(() => h.engine);
	await back.connect({ attempts: [heldAs('running', large.last)] });
	const next = await submit({ slots: 2 });
	expect(await states([heavy, next])).toEqual(['running', 'queued']);
	expect(await h.engine.robot('large')).toMatchObject({ slotsUsed: 3 });
	await back.end({}, large.last);
	expect(await h.state(next)).toBe('dispatched');
});

test('more slots than any robot has are refused with a sentence; of one that never came nobody knows', async () => {
	await expect(submit({ slots: 8 })).resolves.toBeDefined();
	await h.robot('r1', { slots: 4, labels: { os: 'linux' } });
	await h.robot('r2', { slots: 2 });
	const target = { labels: { os: 'linux' } };
	await expect(h.submit({ slots: 8, target })).rejects.toThrow(
		'The job takes 8 slots of one robot, and no robot that matches (label os=linux) has more than 4',
	);
	await expect(h.submit({ slots: 3, target: { robot: 'r2' } })).rejects.toMatchObject({
		code: 'too-few-slots',
	});
	await h.enrol('never-came');
	await expect(submit({ slots: 8 })).resolves.toBeDefined();
});

test('least loaded counts slots, not jobs', async () => {
	const a = await h.robot('a', { slots: 4 });
	const b = await h.robot('b', { slots: 4 });
	await submit({ slots: 3, target: { robot: 'a' } });
	for (let i = 0; i < 2; i += 1) await submit({});
	expect([a.assigned.length, b.assigned.length]).toEqual([1, 2]);
});

test('light jobs pass a heavy one for a minute; then one robot is kept for it until enough slots are free', async () => {
	const r1 = await h.robot('r1', { slots: 2 });
	const r2 = await h.robot('r2', { slots: 2 });
	for (let i = 0; i < 3; i += 1) await submit({});
	// One slot is free: the light one takes it, though the heavy one stands before it.
	const heavy = await submit({ slots: 2 });
	const light = await submit({});
	expect(await states([heavy, light])).toEqual(['queued', 'dispatched']);
	await r1.end();
	const passes = await submit({});
	expect(await states([heavy, passes])).toEqual(['queued', 'dispatched']);
	await h.clock.advance(limits.patienceMs);
	// From now on one of them takes no newcomer, the other one does.
	const newcomers = [];
	for (const robot of [r1, r2]) {
		await robot.end({}, robot.assigned[0]);
		newcomers.push(await submit({}));
	}
	expect((await states(newcomers)).sort()).toEqual(['dispatched', 'queued']);
	const stuck = newcomers[(await states(newcomers)).indexOf('queued')]!;
	expect((await h.engine.why(stuck)).text).toContain(
		`is kept for job ${heavy}, which takes several slots and has been in line longer`,
	);
	const holding = async (robot: typeof r1) => {
		const { currentJobs } = await h.engine.robot(robot.robotId);
		return robot.assigned.filter(({ job_id }) => currentJobs.includes(job_id));
	};
	const kept = (await holding(r1)).length < 2 ? r1 : r2;
	for (const job of await holding(kept)) await kept.end({}, job);
	expect(kept.last.job_id).toBe(heavy);
	expect(await states([heavy, stuck])).toEqual(['dispatched', 'queued']);
	await kept.end();
	expect(await h.state(stuck)).toBe('dispatched');
});

test('a kept robot that goes away is kept no more: another one is', async () => {
	const r1 = await h.robot('r1', { slots: 2 });
	const r2 = await h.robot('r2', { slots: 2 });
	await submit({ target: { robot: 'r1' } });
	for (let i = 0; i < 2; i += 1) await submit({ target: { robot: 'r2' } });
	const heavy = await submit({ slots: 2 });
	await h.clock.advance(limits.patienceMs);
	const light = await submit({});
	expect(await states([heavy, light])).toEqual(['queued', 'queued']);
	await r1.vanish();
	await r2.end({}, r2.assigned[0]);
	expect(await states([heavy, light])).toEqual(['queued', 'queued']);
	await r2.end({}, r2.assigned[1]);
	expect(r2.last.job_id).toBe(heavy);
});

test('a heavy job that waits for a lock keeps no robot idle', async () => {
	const robot = await h.robot('r', { slots: 3 });
	const holder = await submit({ locks: [{ name: 'db' }] });
	const heavy = await submit({ locks: [{ name: 'db' }], slots: 3 });
	await h.clock.advance(2 * limits.patienceMs);
	const light = [await submit({}), await submit({})];
	expect(await states([heavy, ...light])).toEqual(['queued', 'dispatched', 'dispatched']);
	await robot.end({}, robot.assigned[0]);
	// Now it waits for slots alone.
	const last = await submit({});
	expect(await states([holder, heavy, last])).toEqual(['completed', 'queued', 'queued']);
	await robot.end({}, robot.assigned[1]);
	await robot.end({}, robot.assigned[2]);
	expect(await states([heavy, last])).toEqual(['dispatched', 'queued']);
});

test('all robots with enough slots get their child, and each takes what the job takes', async () => {
	await h.robot('r1', { slots: 2 });
	await h.robot('r2', { slots: 1 });
	const parent = await submit({ slots: 2, target: { mode: 'all' } });
	expect((await h.engine.job(parent)).children).toMatchObject({ total: 1, dispatched: 1 });
	expect(await h.engine.robot('r1')).toMatchObject({ slotsUsed: 2, status: 'busy' });
});

test('a job in a pool takes one of its jobs, however many slots it takes', async () => {
	await h.robot('r', { slots: 4 });
	await h.engine.putPool('p', { maxJobs: 2 }, admin);
	const jobs = [await submit({ slots: 2 }), await submit({}), await submit({})];
	expect(await states(jobs)).toEqual(['dispatched', 'dispatched', 'queued']);
	expect(await h.engine.pool('p')).toMatchObject({ jobs: 2 });
});
