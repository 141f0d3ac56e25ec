/** Rates: how many jobs of a key start within a time, across restarts, refusals and clocks that are set. */
import type { Submit } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const minute = 60_000;
const rate = (max: number, perMs = minute, key = 'crm') => ({ rate: { key, max, perMs } });
const submit = async (job: Partial<Submit>) => {
	const id = await h.submit(job);
	await settled();
	return id;
};
const states = (jobIds: string[]) => Promise.all(jobIds.map((id) => h.state(id)));
const many = async (count: number, job: Partial<Submit>) => {
	const jobs: string[] = [];
	for (let i = 0; i < count; i += 1) jobs.push(await submit(job));
	return jobs;
};

test('so many start within any stretch of that length, the next one at the very instant at which it may', async () => {
	await h.robot('r', { slots: 9 });
	const start = h.clock.now();
	const jobs = [await submit(rate(2))];
	await h.clock.advance(20_000);
	jobs.push(await submit(rate(2)), await submit(rate(2)), await submit(rate(2)));
	const free = await submit({});
	expect(await states([...jobs, free])).toEqual([
		'dispatched',
		'dispatched',
		'queued',
		'queued',
		'dispatched',
	]);
	expect((await h.engine.why(jobs[2]!)).text).toBe(
		`The job waits for the rate of crm, which lets 2 start within 1 min: the next one at ${new Date(start + minute).toISOString()}.`,
	);
	await h.clock.advance(39_999);
	expect(await states(jobs.slice(2))).toEqual(['queued', 'queued']);
	await h.clock.advance(1);
	expect(await states(jobs.slice(2))).toEqual(['dispatched', 'queued']);
	await h.clock.advance(19_999);
	expect(await h.state(jobs[3]!)).toBe('queued');
	await h.clock.advance(1);
	expect(await h.state(jobs[3]!)).toBe('dispatched');
	const [first] = await h.engine.attempts(jobs[2]!);
	expect(first!.assignedAt).toBe(start + minute);
});

test('other keys, and what has no rate, do not wait', async () => {
	await h.robot('r', { slots: 9 });
	const [, second] = await many(2, rate(1));
	const others = [await submit(rate(1, minute, 'erp')), await submit({})];
	expect(await states([second!, ...others])).toEqual(['queued', 'dispatched', 'dispatched']);
	const gates = await h.engine.locks();
	expect(gates.map(({ of, name, used, max, waiting }) => [of, name, used, max, waiting])).toEqual([
		['rate', 'crm', 1, 1, 1],
		['rate', 'erp', 1, null, 0],
	]);
	expect(gates[0]!.opensAt).toBe(h.clock.now() + minute);
});

test('a restart allows nothing double: starts are in the store', async () => {
	const robot = await h.robot('r', { slots: 9 });
	const jobs = await many(3, rate(2));
	await h.clock.advance(10_000);
	await h.restart();
	await robot.reconnectable(() => h.engine).connect();
	await settled();
	expect(await h.state(jobs[2]!)).toBe('queued');
	const more = await submit(rate(2));
	await h.clock.advance(49_999);
	expect(await states([jobs[2]!, more])).toEqual(['queued', 'queued']);
	await h.clock.advance(1);
	const open = await states([...jobs, more]);
	expect(open.filter((state) => state === 'dispatched')).toHaveLength(2);
});

test('nobody gains by setting the wall clock, forward or back', async () => {
	await h.robot('r', { slots: 9 });
	const jobs = await many(2, rate(1));
	h.clock.jump(3_600_000);
	await h.clock.advance(30_000);
	expect(await h.state(jobs[1]!)).toBe('queued');
	h.clock.jump(-7_200_000);
	await h.clock.advance(29_999);
	expect(await h.state(jobs[1]!)).toBe('queued');
	// Whoever wakes us goes by the wall; the safety sweep finds it.
	await h.clock.advance(2_001);
	expect(await h.state(jobs[1]!)).toBe('dispatched');
});

test('who was proved not to have started is no start; a try that ran is one, and so is the next', async () => {
	const robot = await h.robot('r', { slots: 9 });
	const other = await h.robot('other', { slots: 9 });
	const [first, second] = await many(2, rate(1));
	expect(await h.state(second!)).toBe('queued');
	const on = [robot, other].find(({ assigned }) => assigned.length > 0)!;
	await on.reject('paused');
	expect(await h.store.read('starts', { after: 0 })).toHaveLength(1);
	expect((await states([first!, second!])).sort()).toEqual(['dispatched', 'queued']);
	await h.clock.advance(minute);
	expect(await states([first!, second!])).toEqual(['dispatched', 'dispatched']);
});

test('a job that was cancelled before it started makes room for the next one at once', async () => {
	const away = await h.robot('away', { slots: 9 });
	await h.robot('here', { slots: 9 });
	const first = await submit({ ...rate(1), target: { robot: 'away' } });
	away.session.closed();
	await h.engine.cancel(first, admin);
	const second = await submit({ ...rate(1), target: { robot: 'here' } });
	expect(await h.state(second)).toBe('queued');
	// It comes back and does not know it.
	await away.connect();
	await settled();
	expect(await states([first, second])).toEqual(['cancelled', 'dispatched']);
});

test('starts that count no more are forgotten', async () => {
	await h.robot('r', { slots: 9 });
	await many(2, rate(2, 1_000));
	expect(await h.store.read('starts', { after: 0 })).toHaveLength(2);
	await h.clock.advance(3 * minute);
	expect(await h.store.read('starts', { after: 0 })).toEqual([]);
	expect(await h.engine.locks()).toEqual([]);
});

test('a commit that failed was no start', async () => {
	const robot = await h.robot('r', { slots: 1 });
	const busy = await submit({});
	const [first, second] = await many(2, rate(1));
	h.store.fullAt('assign', 0);
	await robot.end();
	await robot.end();
	await h.clock.advance(2_000);
	expect(await states([busy, first!, second!])).toEqual(['completed', 'dispatched', 'queued']);
	expect(await h.store.read('starts', { after: 0 })).toHaveLength(1);
});
