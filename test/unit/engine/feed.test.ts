import { LiveView } from '../../../client';
import type { Context } from '../../../dispatcher/engine/context';
import { Feed, type LiveText, type Viewer } from '../../../dispatcher/engine/feed';
import { Meter } from '../../../dispatcher/engine/meter';
import { Watchers } from '../../../dispatcher/engine/watchers';
import type { LiveCounts, LiveJob, LiveMessage } from '../../../protocol';
import { liveLimits } from '../../../protocol';
import { admin, exit, type House, house, ref } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let home: House;
afterEach(() => home.close());

class Onlooker implements Viewer {
	/** All but the counts. */
	readonly heard: LiveMessage[] = [];
	readonly counts: LiveCounts[] = [];
	readonly view = new LiveView();
	ready = async () => true;

	take(messages: readonly LiveText[]): void {
		for (const { text } of messages) {
			const message = JSON.parse(text) as LiveMessage;
			this.view.apply(message);
			if (message.event === 'jobs.counted') this.counts.push(message.data);
			else this.heard.push(message);
		}
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
			{
				more: false,
				items: [expect.objectContaining({ jobId: first, state: 'pending' })],
				counts: { waiting: 1, running: 0 },
			},
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

test('how far a job is that goes out in batches is told when a batch ends', async () => {
	home = await house();
	const robot = await home.robot('r1');
	await home.robot('r2');
	const id = await home.submit({ target: { mode: 'all' }, rollout: { batch: 1 } });
	await flushed();
	const viewer = await look(`progress:${id}`);
	await robot.end();
	await home.clock.advance(200);
	expect(viewer.view.jobs.get(id)).toMatchObject({ progress: 50, message: 'batch 2 of 2' });
	viewer.leave();
});

test('what is told of a job, laid over what was known, is all that a fresh look at it shows', async () => {
	home = await house();
	const robots = [
		await home.robot('r1', { slots: 2, clients: ['a', 'b'] }),
		await home.robot('r2', { slots: 2 }),
	];
	const [r1] = robots;
	const viewer = await look('jobs:default');
	const agree = async (jobs: number) => {
		// What is read for parents is told by the flush behind the next one.
		await home.clock.advance(200);
		const fresh = await look('jobs:default');
		fresh.leave();
		expect(fresh.view.jobs.size).toBe(jobs);
		const sorted = ({ view }: Onlooker) =>
			[...view.jobs.values()].sort((x, y) => (x.jobId < y.jobId ? -1 : 1));
		expect(sorted(viewer)).toEqual(sorted(fresh));
	};
	// A parent and its children, half way and at its end.
	await home.submit({ target: { mode: 'all' } });
	await agree(3);
	for (const robot of robots) await robot.accept();
	await r1!.end(exit(1));
	await agree(3);
	await robots[1]!.end();
	await agree(3);
	// One that is cancelled while its children run, twice at once.
	const parent = await home.submit({ target: { mode: 'all' }, priority: 'high' });
	for (const robot of robots) await robot.accept();
	await Promise.all([home.engine.cancel(parent, admin), home.engine.cancel(parent, admin)]);
	await agree(6);
	for (const robot of robots) await robot.end({ state: 'cancelled', cause: 'cancelled' });
	await agree(6);
	// Two attempts; in the first one it says how far it is, and asks something.
	const retried = await home.submit({
		target: { robot: r1!.robotId },
		retry: { maxAttempts: 2, on: ['exit_code'] },
	});
	await r1!.accept();
	r1!.session.status({ ...ref(r1!.last), progress: 40, message: 'half way' });
	const prompt = {
		kind: 'question',
		text: 'Go on?',
		hidden: false,
		asked_at: '',
		offset: 0,
	} as const;
	r1!.session.prompt({ ...ref(r1!.last), prompt });
	await settled();
	await agree(7);
	expect(viewer.view.jobs.get(retried)!.waitingFor).toMatchObject({ text: 'Go on?' });
	r1!.session.prompt({ ...ref(r1!.last), prompt: null });
	await agree(7);
	expect(viewer.view.jobs.get(retried)!.waitingFor).toBeNull();
	r1!.session.prompt({ ...ref(r1!.last), prompt });
	await r1!.end(exit(1));
	await agree(7);
	await home.clock.advance(60_000);
	await agree(7);
	expect(viewer.view.jobs.get(retried)).toMatchObject({ state: 'dispatched', attempt: 2 });
	await r1!.accept();
	await agree(7);
	await r1!.end();
	await agree(7);
	// One that was refused, and one whose result overtakes its acceptance in a second attempt.
	await home.submit({
		target: { robot: r1!.robotId },
		retry: { maxAttempts: 2, on: ['exit_code'] },
	});
	await r1!.reject('paused');
	await agree(8);
	await home.clock.advance(60_000);
	await r1!.end(exit(1));
	await home.clock.advance(60_000);
	await r1!.end();
	await agree(8);
	// Those that wait: changed, held, moved by hand, released, cancelled.
	const held = await home.submit({ notBefore: home.clock.now() + 60_000 });
	await home.engine.change(held, { priority: 'critical', hold: true }, admin);
	await agree(9);
	await home.engine.moveJob(held, 'queued', admin);
	await home.engine.cancel(held, admin);
	await agree(9);
	const late = await home.submit({ notBefore: home.clock.now() + 3_600_000 });
	await home.engine.change(late, { hold: 'not yet' }, admin);
	await home.engine.moveJob(late, 'failed', admin);
	const other = await home.submit({ notBefore: home.clock.now() + 3_600_000 });
	await home.engine.cancel(other, admin);
	await agree(11);
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

test('what happened while a channel was forgotten is in a snapshot, not left out', async () => {
	home = await house();
	const viewer = await look('jobs:default');
	// Somebody else looks on all the time.
	await look('robots:default');
	const { seq } = viewer;
	viewer.leave();
	await home.clock.advance(2 * liveLimits.keepMs);
	const missed = await home.submit({ notBefore: home.clock.now() + 60_000 });
	const again = await look('jobs:default', seq);
	expect([...again.view.jobs.keys()]).toEqual([missed]);
	again.leave();
	const second = await look('jobs:default', again.seq);
	expect(second.since()).toEqual([]);
});

test('who joins between what happened and its telling hears it once, and numbers only rise', async () => {
	home = await house();
	const first = await look('jobs:default');
	const before = await home.submit({ notBefore: home.clock.now() + 60_000 });
	const second = await look('jobs:default', first.seq);
	const third = await look('jobs:default');
	const behind = await home.submit({ notBefore: home.clock.now() + 60_000 });
	await flushed();
	const told = ({ heard }: Onlooker) =>
		heard.flatMap(({ event, data }) =>
			event === 'snapshot' ? [] : [(data as { jobId: string }).jobId],
		);
	expect([told(first), told(second), told(third)]).toEqual([
		[before, behind],
		[before, behind],
		[behind],
	]);
	for (const { heard } of [first, second, third]) {
		const seqs = heard.map(({ seq }) => seq);
		expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
	}
});

test('a job from far back in the queue is told whole when it is given away, and all are counted', async () => {
	home = await house();
	const many = (count: number) =>
		Array.from({ length: count }, () => ({ kind: 'command', spec: { command: 'true' } }));
	const oldest = await home.submit({ priority: 'high' });
	await home.engine.submit(many(300), admin);
	const viewer = await look('jobs:default');
	expect(viewer.view.jobs.size).toBe(liveLimits.newest);
	expect(viewer.view.jobs.has(oldest)).toBe(false);
	expect(viewer.view.counts).toEqual({ waiting: 301, running: 0 });
	const robot = await home.robot('r1', { slots: 2 });
	await home.clock.advance(1_000);
	const fresh = await look(`progress:${oldest}`);
	expect(viewer.view.jobs.get(oldest)).toEqual(fresh.view.jobs.get(oldest));
	expect(viewer.view.jobs.get(oldest)).toMatchObject({
		kind: 'command',
		state: 'dispatched',
		robotId: robot.robotId,
		priority: 'high',
		createdBy: 'key:test',
	} satisfies Partial<LiveJob>);
	expect(viewer.counts.at(-1)).toEqual({ waiting: 299, running: 2 });
	await home.clock.advance(5_000);
	expect(viewer.counts).toHaveLength(1);
});

test('a snapshot goes as fast as it is read; what happens meanwhile comes behind it', async () => {
	home = await house();
	const size = liveLimits.piece + 100;
	await home.robot('r1', { slots: size });
	await home.engine.submit(
		Array.from({ length: size }, () => ({ kind: 'command', spec: { command: 'true' } })),
		admin,
	);
	const viewer = new Onlooker();
	let read = (_isHere: boolean) => {};
	viewer.ready = () => new Promise<boolean>((resolve) => (read = resolve));
	const looking = home.engine.look('jobs:default', undefined, viewer);
	await home.clock.advance(2_000);
	expect(viewer.heard).toHaveLength(1);
	expect(viewer.view.since('jobs:default')).toBeUndefined();
	const late = await home.submit({ notBefore: home.clock.now() + 60_000 });
	await flushed();
	expect(viewer.heard).toHaveLength(1);
	read(true);
	await looking;
	expect(viewer.heard.map(({ event }) => event)).toEqual(['snapshot', 'snapshot', 'job.submitted']);
	expect(viewer.view.jobs.size).toBe(size + 1);
	expect(viewer.view.jobs.has(late)).toBe(true);
	// Who goes half way through is sent nothing more.
	const gone = new Onlooker();
	gone.ready = async () => false;
	const left = home.engine.look('jobs:default', undefined, gone);
	await home.clock.advance(1_000);
	(await left)();
	expect(gone.heard).toHaveLength(1);
});

test('whoever asks for jobs that there are not leaves nothing behind', async () => {
	home = await house();
	const { store, clock } = home;
	const feed = new Feed({ store, clock, watchers: new Watchers() } as unknown as Context);
	for (let i = 0; i < 100; i += 1) {
		await expect(feed.watch(`progress:nobody-${i}`, 7, new Onlooker())).rejects.toMatchObject({
			code: 'no-such-job',
		});
	}
	expect(feed.size).toBe(0);
});

test('a commit that could not be counted or told is a commit all the same', async () => {
	home = await house();
	const robot = await home.robot('r1');
	await look('jobs:default');
	const broken = (): never => {
		throw new Error('this must not be seen');
	};
	const faults = [
		jest.spyOn(Meter.prototype, 'committed').mockImplementationOnce(broken),
		jest.spyOn(Feed.prototype, 'committed').mockImplementationOnce(broken),
		jest.spyOn(Meter.prototype, 'settled').mockImplementationOnce(broken),
		jest.spyOn(Feed.prototype, 'settled').mockImplementationOnce(broken),
	];
	const jobId = await home.submit();
	for (const fault of faults) {
		expect(fault).toHaveBeenCalled();
		fault.mockRestore();
	}
	await robot.accept();
	await robot.end();
	expect(await home.state(jobId)).toBe('completed');
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
