import { LiveView } from '../../../client';
import type { LiveMessage } from '../../../protocol';

const message = (event: string, seq: number, data: object, channel = 'jobs:default') =>
	({ channel, event, seq, data }) as LiveMessage;

test('changes are laid over the snapshot; what is only known in part is not shown', () => {
	const view = new LiveView();
	const job = { jobId: 'a', kind: 'command', state: 'queued' };
	view.apply(message('snapshot', 7, { items: [job], more: true }));
	expect([view.isWhole, view.since('jobs:default')]).toEqual([false, undefined]);
	view.apply(message('snapshot', 7, { items: [{ ...job, jobId: 'b' }], more: false }));
	view.apply(message('job.moved', 8, { jobId: 'a', state: 'running' }));
	view.apply(message('job.moved', 9, { jobId: 'old', state: 'completed' }));
	expect([...view.jobs.values()]).toEqual([
		{ ...job, state: 'running' },
		{ ...job, jobId: 'b' },
	]);
	expect([view.isWhole, view.since('jobs:default')]).toEqual([true, 9]);
});

test('a second snapshot takes the place of all before it, and a removed robot is gone', () => {
	const view = new LiveView();
	const robots = 'robots:default';
	const items = [{ robotId: 'r1', name: 'one' }];
	view.apply(message('snapshot', 1, { items, more: false }, robots));
	view.apply(message('robot.changed', 2, { robotId: 'r2', name: 'two' }, robots));
	expect([...view.robots.keys()]).toEqual(['r1', 'r2']);
	view.apply(message('robot.removed', 3, { robotId: 'r1' }, robots));
	expect([...view.robots.keys()]).toEqual(['r2']);
	view.apply(message('snapshot', 9, { items, more: false }, robots));
	expect([...view.robots.keys()]).toEqual(['r1']);
});

test('jobs that have ended are remembered up to a number, however long one looks on', () => {
	const view = new LiveView();
	for (let i = 0; i < 5_000; i += 1) {
		view.apply(
			message('job.submitted', 2 * i, { jobId: `j${i}`, kind: 'command', state: 'queued' }),
		);
		view.apply(message('job.moved', 2 * i + 1, { jobId: `j${i}`, state: 'completed' }));
	}
	expect(view.jobs.size).toBeLessThanOrEqual(1_001);
	expect(view.jobs.has('j4999')).toBe(true);
});

test('jobs that wait are remembered up to a number, and come back whole when they are given away', () => {
	const view = new LiveView();
	let seq = 0;
	const told = (event: string, data: object) => view.apply(message(event, (seq += 1), data));
	for (let i = 0; i < 20_000; i += 1) {
		told('job.submitted', { jobId: `j${i}`, kind: 'command', state: 'queued' });
	}
	expect(view.jobs.size).toBeLessThanOrEqual(2_000);
	expect(view.jobs.has('j19999')).toBe(true);
	// Of one that was forgotten a change says too little.
	told('job.changed', { jobId: 'j0', state: 'queued', priority: 'high' });
	expect(view.jobs.has('j0')).toBe(false);
	told('job.moved', { jobId: 'j0', kind: 'command', state: 'dispatched' });
	told('job.moved', { jobId: 'j19999', state: 'running' });
	for (let i = 20_000; i < 25_000; i += 1) {
		told('job.submitted', { jobId: `j${i}`, kind: 'command', state: 'queued' });
	}
	expect(view.jobs.get('j0')).toMatchObject({ state: 'dispatched' });
	expect(view.jobs.get('j19999')).toMatchObject({ state: 'running' });
});

test('a snapshot that was cut off half way begins anew: what has gone meanwhile is not kept', () => {
	const view = new LiveView();
	const robots = 'robots:default';
	const snapshot = (seq: number, names: string[], more: boolean) =>
		view.apply(
			message(
				'snapshot',
				seq,
				{ items: names.map((name) => ({ robotId: name, name })), more },
				robots,
			),
		);
	snapshot(5, ['gone', 'r1'], true);
	expect(view.since(robots)).toBeUndefined();
	snapshot(9, ['r1'], true);
	snapshot(9, ['r2'], false);
	expect([...view.robots.keys()]).toEqual(['r1', 'r2']);
	expect(view.since(robots)).toBe(9);
});

test('all jobs are counted by the service, however few are remembered', () => {
	const view = new LiveView();
	const counts = { waiting: 70_000, running: 300 };
	view.apply(message('snapshot', 1, { items: [], more: false, counts }));
	expect(view.counts).toEqual(counts);
	view.apply(message('jobs.counted', 2, { waiting: 69_999, running: 301 }));
	expect(view.counts).toEqual({ waiting: 69_999, running: 301 });
	expect(view.since('jobs:default')).toBe(2);
});
