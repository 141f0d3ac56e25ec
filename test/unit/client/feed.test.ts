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
