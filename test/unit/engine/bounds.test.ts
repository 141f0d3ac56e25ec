/** What a job says of how it is looked at and what it may use: kept with it, and told to its robot. */
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;

beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

test('what is normal for a job is told to its robot, also after a restart, and shown with the job', async () => {
	const watch = {
		class: 'compile',
		noOutputMs: 600_000,
		totalMs: 7_200_000,
		idleMs: 60_000,
	} as const;
	const id = await h.submit({ watch });
	const plain = await h.submit();
	await h.restart();
	const robot = await h.robot('r1', { slots: 2 });
	await settled();
	expect(robot.assigned[0]).toMatchObject({
		job_id: id,
		watch: { class: 'compile', no_output_ms: 600_000, total_ms: 7_200_000, idle_ms: 60_000 },
	});
	expect(robot.assigned[1]).not.toHaveProperty('watch');
	expect((await h.engine.job(id)).watch).toEqual(watch);
	expect(await h.engine.job(plain)).not.toHaveProperty('watch');
});

describe('what a job may use', () => {
	const caps = { memoryBytes: 512 * 2 ** 20, cpuSeconds: 60 };
	const able = { capabilities: ['cap:cpu', 'cap:memory'] };

	test('is told to its robot, and asked of it: no other is given the job', async () => {
		const old = await h.robot('old');
		const id = await h.submit({ caps });
		await settled();
		expect(old.assigned).toHaveLength(0);
		const robot = await h.robot('new', able);
		expect(robot.last).toMatchObject({
			job_id: id,
			caps: { memory_bytes: 512 * 2 ** 20, cpu_seconds: 60 },
		});
		expect(await h.engine.job(id)).toMatchObject({ caps, target: {} });
	});

	test('is asked of the next robot too when the job is to run elsewhere, or again', async () => {
		const old = await h.robot('old', { labels: { site: 'a' } });
		const id = await h.submit({ caps });
		await h.engine.change(id, { target: { labels: { site: 'a' } } }, admin);
		expect((await h.engine.why(id)).text).toContain('lacks the capability cap:cpu');
		const robot = await h.robot('new', { ...able, labels: { site: 'a' } });
		expect(robot.last.job_id).toBe(id);
		await robot.end({ state: 'failed', cause: 'policy', result: { exit_code: null } });
		expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'policy' });
		await h.engine.replay({ jobIds: [id], target: { robot: 'old' } }, admin);
		await settled();
		expect(old.assigned).toHaveLength(0);
	});

	test('holds for the children of a parent, and decides who gets one', async () => {
		const old = await h.robot('old');
		const robot = await h.robot('new', able);
		const id = await h.submit({ caps, target: { mode: 'all' } });
		await settled();
		expect(old.assigned).toHaveLength(0);
		expect(robot.last.caps).toEqual({ memory_bytes: 512 * 2 ** 20, cpu_seconds: 60 });
		await robot.end();
		expect(await h.engine.job(id)).toMatchObject({ state: 'completed', children: { total: 1 } });
	});
});
