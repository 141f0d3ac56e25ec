/** Robots that people close, and when they open again. */
import { settled } from '../../support/fake-clock';
import { admin, house, type House } from '../../support/engine';
import type { Caller } from '../../../dispatcher/engine';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const anna: Caller = { ...admin, name: 'anna' };
const spell = 580_000;

async function eventsOf(key: string, event: 'robot.closed' | 'robot.opened') {
	const { epoch } = await h.engine.subscribe(key, { filter: { event }, from: 'start' }, admin);
	return (await h.engine.events(key, epoch, admin, 0)).map(({ data }) => data);
}

test('a robot in maintenance gets no jobs, and why says how long, why and by whom', async () => {
	const robot = await h.robot('kiosk-3');
	const until = h.clock.now() + 2 * spell;
	const closed = await h.engine.maintainRobot('kiosk-3', anna, { reason: 'disk swap', until });
	expect(closed).toMatchObject({
		status: 'maintenance',
		closed: { as: 'maintenance', reason: 'disk swap', by: 'anna', since: h.clock.now(), until },
	});
	const jobId = await h.submit({ target: { robot: 'kiosk-3' } });
	await settled();
	expect(robot.assigned).toHaveLength(0);
	expect((await h.engine.why(jobId)).text).toBe(
		'The job waits for robot kiosk-3, which is in maintenance until 2026-01-01 00:19 UTC: disk swap (by anna).',
	);
	const anyId = await h.submit();
	expect((await h.engine.why(anyId)).text).toContain('is in maintenance until');
});

test('it opens by itself when its time is over, and not before', async () => {
	const robot = await h.robot('r1');
	await h.engine.pauseRobot('r1', anna, { forMs: spell });
	const jobId = await h.submit();
	await h.clock.advance(spell - 1);
	expect(robot.assigned).toHaveLength(0);
	await h.clock.advance(1_001);
	expect(robot.last.job_id).toBe(jobId);
	expect(await h.engine.robot('r1')).toMatchObject({ closed: null });
	expect(await eventsOf('k', 'robot.opened')).toEqual([
		{
			robotId: robot.robotId,
			name: 'r1',
			was: 'paused',
			reason: 'its time is over',
			by: 'dispatcher',
		},
	]);
});

test('it opens at the next start when its time came while the service was down', async () => {
	const robot = await h.robot('r1');
	await h.engine.pauseRobot('r1', admin, { reason: 'for good' });
	await h.engine.maintainRobot('r1', anna, { reason: 'disk', forMs: spell });
	await h.restart();
	expect(await h.engine.robot('r1')).toMatchObject({
		closed: { as: 'maintenance', reason: 'disk', by: 'anna' },
	});
	h.store.die();
	await h.clock.pause(2 * spell);
	await h.restart();
	await h.clock.advance(1_000);
	expect(await h.engine.robot('r1')).toMatchObject({ closed: null });
	await robot.connect();
	const jobId = await h.submit();
	expect(await h.state(jobId)).toBe('dispatched');
});

test('a pause without an end outlives restarts until somebody resumes it', async () => {
	const robot = await h.robot('r1');
	await h.engine.pauseRobot('r1', anna);
	await h.restart();
	await robot.connect();
	const jobId = await h.submit();
	await h.clock.advance(spell);
	expect(await h.state(jobId)).toBe('queued');
	await h.engine.resumeRobot('r1', admin);
	await settled();
	expect(await h.state(jobId)).toBe('dispatched');
	expect(await eventsOf('k', 'robot.closed')).toMatchObject([
		{ name: 'r1', as: 'paused', by: 'anna', reason: null, until: null },
	]);
});

test('what somebody says at the moment its time is over is what counts', async () => {
	await h.robot('r1');
	await h.engine.pauseRobot('r1', anna, { forMs: spell });
	await h.clock.advance(spell - 1);
	const said = h.engine.maintainRobot('r1', anna, { reason: 'longer' });
	await h.clock.advance(2_000);
	await said;
	expect(await h.engine.robot('r1')).toMatchObject({
		closed: { as: 'maintenance', reason: 'longer', until: null },
	});
});

test('said twice it is said once; a drain that is asked again keeps its reason and end', async () => {
	await h.robot('r1');
	const until = h.clock.now() + spell;
	await h.engine.drainRobot('r1', 0, anna, undefined, { reason: 'move', until });
	await h.clock.advance(60_000);
	const again = await h.engine.drainRobot('r1', 0, admin);
	expect(again.closed).toMatchObject({ as: 'draining', reason: 'move', by: 'anna', until });
	expect(await eventsOf('k', 'robot.closed')).toHaveLength(1);
	await h.engine.resumeRobot('r1', admin);
	await h.engine.resumeRobot('r1', admin);
	expect(await eventsOf('l', 'robot.opened')).toHaveLength(1);
});

test('a robot may be closed while it is away, and is when it comes', async () => {
	const robot = await h.robot('r1');
	await robot.vanish();
	const closed = await h.engine.maintainRobot('r1', anna, { reason: 'in the workshop' });
	expect(closed).toMatchObject({ status: 'offline', closed: { as: 'maintenance' } });
	await robot.connect();
	const jobId = await h.submit();
	expect(await h.state(jobId)).toBe('queued');
	expect((await h.engine.robot('r1')).status).toBe('maintenance');
});

test('an end that has passed, or two ends, are refused', async () => {
	await h.robot('r1');
	const now = h.clock.now();
	for (const request of [{ until: now }, { until: now + 1, forMs: 1 }]) {
		await expect(h.engine.pauseRobot('r1', anna, request)).rejects.toMatchObject({
			code: 'bad-field',
		});
	}
	await expect(h.engine.pauseRobot('nobody', anna)).rejects.toMatchObject({
		code: 'no-such-robot',
	});
});

test('a disk that is full changes nothing; the end comes when there is room', async () => {
	const robot = await h.robot('r1');
	await h.engine.pauseRobot('r1', anna, { forMs: spell });
	const jobId = await h.submit();
	h.store.full = true;
	await expect(h.engine.resumeRobot('r1', anna)).rejects.toMatchObject({ code: 'store-full' });
	expect(await h.engine.robot('r1')).toMatchObject({ closed: { as: 'paused' } });
	await h.clock.advance(2 * spell);
	expect(await h.engine.robot('r1')).toMatchObject({ closed: { as: 'paused' } });
	h.store.full = false;
	await h.clock.advance(2_000);
	expect(await h.engine.robot('r1')).toMatchObject({ closed: null });
	expect(robot.last.job_id).toBe(jobId);
});

test('all robots of a label are closed by one call, behind a preview with their number', async () => {
	for (const name of ['a', 'b', 'c']) {
		await h.robot(name, { labels: { site: name === 'c' ? 'rome' : 'berlin' } });
	}
	await h.engine.maintainRobot('b', anna, { reason: 'power cut' });
	const request = {
		action: 'maintenance',
		filter: { labels: { site: 'berlin' } },
		reason: 'power cut',
	} as const;
	const preview = await h.engine.changeRobots(request, anna);
	expect(preview).toEqual({ dryRun: true, matched: 2, changed: 1, skipped: 1, robots: ['a'] });
	expect((await h.engine.robot('a')).closed).toBeNull();
	await h.engine.changeRobots({ ...request, expect: 2 }, anna);
	const statuses = (await h.engine.robots()).map(({ name, status }) => `${name} ${status}`);
	expect(statuses.sort()).toEqual(['a maintenance', 'b maintenance', 'c online']);
	const filter = { robots: ['a', 'b', 'c'] };
	expect(await h.engine.changeRobots({ action: 'resume', filter, expect: 3 }, anna)).toMatchObject({
		changed: 2,
		skipped: 1,
	});
	await expect(h.engine.changeRobots({ ...request, dryRun: false }, anna)).rejects.toMatchObject({
		code: 'bad-field',
	});
	await expect(
		h.engine.changeRobots(
			{ action: 'quarantine', filter: { group: 'nowhere' }, reason: 'x' },
			anna,
		),
	).rejects.toMatchObject({ code: 'no-such-group' });
});

test('a robot that is removed just then is left out, and the others are told', async () => {
	for (const name of ['a', 'b']) await h.robot(name);
	const filter = { robots: ['a', 'b'] };
	const [, answer] = await Promise.all([
		h.engine.removeRobot('b', admin),
		h.engine.changeRobots({ action: 'pause', filter, expect: 2 }, anna),
	]);
	expect(answer).toMatchObject({ matched: 2, changed: 1, skipped: 1, robots: ['a'] });
	expect((await h.engine.robot('a')).status).toBe('paused');
});

test('far more robots than the preview said are left alone', async () => {
	for (let i = 0; i < 13; i += 1) await h.robot(`r${i}`, { labels: { os: 'linux' } });
	const pause = { action: 'pause', filter: { labels: { os: 'linux' } }, expect: 2 } as const;
	await expect(h.engine.changeRobots(pause, anna)).rejects.toMatchObject({ code: 'bulk-grown' });
	expect((await h.engine.robots()).every(({ closed }) => closed === null)).toBe(true);
});
