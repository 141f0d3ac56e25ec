import type { LiveText, Viewer } from '../../../dispatcher/engine/feed';
import type { LiveMessage } from '../../../protocol';
import { liveLimits } from '../../../protocol';
import { admin, exit, type House, house } from '../../support/engine';

let home: House;
afterEach(() => home.close());

class Onlooker implements Viewer {
	readonly heard: LiveMessage[] = [];

	take(messages: readonly LiveText[]): void {
		this.heard.push(...messages.map(({ text }) => JSON.parse(text) as LiveMessage));
	}

	/** The last number it saw. */
	get seq(): number {
		return this.heard.at(-1)!.seq;
	}

	/** What it has heard since the last call, in short. */
	since(): unknown[] {
		return this.heard.splice(0).map(({ event, data }) => [event, data]);
	}
}

const look = async (channel: string, since?: number) => {
	const onlooker = new Onlooker();
	const leave = await home.engine.look(channel, since, onlooker);
	return Object.assign(onlooker, { leave });
};
const flushed = () => home.clock.advance(100);

test('jobs: a snapshot of what there is, then each move as it is on disk', async () => {
	home = await house();
	const robot = await home.robot('r1');
	const first = await home.submit({ notBefore: home.clock.now() + 60_000 });
	const viewer = await look('jobs:default');
	expect(viewer.since()).toEqual([
		[
			'snapshot',
			{ more: false, items: [expect.objectContaining({ jobId: first, state: 'pending' })] },
		],
	]);
	const jobId = await home.submit({ priority: 'high' });
	await robot.accept();
	await robot.end(exit(3));
	await home.engine.cancel(first, admin);
	await flushed();
	expect(viewer.since()).toEqual([
		['job.submitted', expect.objectContaining({ jobId, kind: 'command', priority: 'high' })],
		['job.moved', { jobId, state: 'dispatched', attempt: 1, robotId: robot.robotId, client: null }],
		['job.moved', { jobId, state: 'running', startedAt: expect.any(Number) }],
		['job.moved', expect.objectContaining({ jobId, state: 'failed', cause: 'exit_code' })],
		['job.moved', expect.objectContaining({ jobId: first, state: 'cancelled' })],
	]);
	viewer.leave();
	await home.submit();
	await flushed();
	expect(viewer.since()).toEqual([]);
});

test('the last word of every job is its state in the store, whatever happened in between', async () => {
	home = await house();
	const robots = [await home.robot('r1', { slots: 2 }), await home.robot('r2', { slots: 2 })];
	const viewer = await look('jobs:default');
	const parent = await home.submit({ target: { mode: 'all' } });
	await home.submit({ retry: { maxAttempts: 2, on: ['exit_code'] } });
	for (const robot of robots) {
		for (const job of [...robot.assigned]) {
			await robot.accept(job);
			await robot.end(exit(1), job);
		}
	}
	await home.clock.advance(5_000);
	const held = await home.submit({ notBefore: home.clock.now() + 60_000 });
	await home.engine.change(held, { priority: 'critical', hold: true }, admin);
	await flushed();
	const known = new Map<string, object>();
	for (const { event, data } of viewer.heard) {
		if (event === 'snapshot') continue;
		const { jobId } = data as { jobId: string };
		known.set(jobId, { ...known.get(jobId), ...data });
	}
	expect(known.size).toBe(5);
	expect(known.get(parent)).toMatchObject({ state: 'failed' });
	for (const [jobId, told] of known) {
		const { state, priority, hold, parentId, robotId } = await home.engine.job(jobId);
		expect(told).toMatchObject({ state, priority, parentId, ...(robotId && { robotId }) });
		if (jobId === held) expect(told).toMatchObject({ hold });
	}
});

test('who comes back with the last number it saw gets what it missed, and no snapshot', async () => {
	home = await house();
	const viewer = await look('jobs:default');
	await home.submit({ notBefore: home.clock.now() + 60_000 });
	await flushed();
	const { seq } = viewer;
	viewer.leave();
	const missed = await home.submit({ notBefore: home.clock.now() + 60_000 });
	await home.clock.advance(liveLimits.keepMs / 2);
	const again = await look('jobs:default', seq);
	expect(again.since()).toEqual([['job.submitted', expect.objectContaining({ jobId: missed })]]);
});

test('when it is too late for that, it gets a snapshot: nothing is left out silently', async () => {
	home = await house();
	const viewer = await look('jobs:default');
	const { seq } = viewer;
	for (let i = 0; i < 3; i += 1) {
		const notBefore = home.clock.now() + 60_000;
		const many = Array.from({ length: 1_000 }, () => ({
			kind: 'command',
			spec: { command: 'true' },
			notBefore,
		}));
		await home.engine.submit(many, admin);
	}
	await flushed();
	expect(viewer.heard).toHaveLength(3_001);
	expect((await look('jobs:default', seq)).heard[0]).toMatchObject({ event: 'snapshot' });
	expect((await look('jobs:default', viewer.seq - 900)).heard).toHaveLength(900);
	// Nobody looked for a while, and it was forgotten.
	viewer.leave();
	await home.restart();
	const later = await look('jobs:default', viewer.seq);
	expect(later.heard[0]).toMatchObject({ event: 'snapshot' });
	expect(later.seq).toBeGreaterThan(viewer.seq);
});

test('robots: who comes, works, goes and is removed is told within a second', async () => {
	home = await house();
	const robot = await home.robot('r1');
	const viewer = await look('robots:default');
	expect(viewer.since()).toEqual([
		[
			'snapshot',
			{ more: false, items: [expect.objectContaining({ name: 'r1', status: 'online' })] },
		],
	]);
	await home.clock.advance(2_000);
	expect(viewer.since()).toEqual([]);
	const jobId = await home.submit();
	await home.clock.advance(1_000);
	expect(viewer.since()).toEqual([
		['robot.changed', expect.objectContaining({ status: 'busy', currentJobs: [jobId] })],
	]);
	robot.session.heartbeat({ cpu_percent: 12 });
	await home.clock.advance(1_000);
	expect(viewer.since()).toEqual([
		[
			'robot.changed',
			expect.objectContaining({ metrics: expect.objectContaining({ cpuPercent: 12 }) }),
		],
	]);
	await robot.vanish();
	await home.clock.advance(1_000);
	expect(viewer.since()).toEqual([
		['robot.changed', expect.objectContaining({ status: 'offline', connected: false })],
	]);
	await home.engine.removeRobot('r1', admin);
	await home.clock.advance(1_000);
	expect(viewer.since()).toEqual([['robot.removed', { robotId: robot.robotId }]]);
});

test('progress: one job alone, with what it says and asks', async () => {
	home = await house();
	const robot = await home.robot('r1', { slots: 2 });
	const jobId = await home.submit();
	await home.submit();
	const viewer = await look(`progress:${jobId}`);
	const [mine] = robot.assigned;
	for (const job of robot.assigned) await robot.accept(job);
	robot.session.status({
		job_id: jobId,
		attempt: mine!.attempt,
		epoch: mine!.epoch,
		token: mine!.token,
		progress: 40,
		message: 'half way',
	});
	await flushed();
	await robot.end({}, mine);
	await flushed();
	expect(viewer.since()).toEqual([
		['snapshot', { more: false, items: [expect.objectContaining({ jobId, state: 'dispatched' })] }],
		['job.moved', expect.objectContaining({ state: 'running' })],
		['job.progress', { jobId, progress: 40, message: 'half way' }],
		['job.moved', expect.objectContaining({ state: 'completed' })],
	]);
});

test('a channel or job that there is not is refused with what there is', async () => {
	home = await house();
	await expect(look('everything')).rejects.toMatchObject({ code: 'bad-field' });
	await expect(look('jobs:elsewhere')).rejects.toMatchObject({ code: 'bad-field' });
	await expect(look('progress:nobody')).rejects.toMatchObject({ code: 'no-such-job' });
});
