/** Robots that fail job after job: kept from more, probed, and back. */
import { limits } from '../../../protocol';
import { admin, exit, heldAs, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house({ settings: { quarantineAfter: 3 } });
});
afterEach(() => h.close());

const broken = {
	state: 'failed',
	cause: 'infrastructure',
	result: { exit_code: null, error: { type: 'infrastructure', message: 'No space left.' } },
} as const;
const once = { retry: { maxAttempts: 1 } };

/** So many new jobs fail on the robot for a reason of its own, one after the other. */
async function fail(robot: PlayedRobot, jobs: number, ending: object = broken): Promise<string[]> {
	const ids = [];
	for (let i = 0; i < jobs; i += 1) {
		const given = robot.assigned.length;
		ids.push(await h.submit({ ...once, target: { robot: robot.robotId } }));
		await settled();
		if (robot.assigned.length === given) break;
		await robot.accept();
		await robot.end(ending);
	}
	return ids;
}

const view = (robot: PlayedRobot) => h.engine.robot(robot.robotId);

test('after three jobs in a row that failed for its own reasons a robot gets no more, not even in the same commit', async () => {
	const robot = await h.robot('r1');
	const waiting = await h.submit({ ...once, priority: 'low' });
	await settled();
	await robot.accept();
	const more = await Promise.all([1, 2, 3].map(() => h.submit({ ...once, priority: 'low' })));
	for (let i = 0; i < 3; i += 1) {
		if (i > 0) await robot.accept();
		await robot.end(broken);
	}
	expect(robot.assigned).toHaveLength(3);
	expect(await view(robot)).toMatchObject({
		status: 'quarantined',
		closed: null,
		quarantine: {
			by: 'dispatcher',
			since: h.clock.now(),
			probes: 0,
			nextProbeAt: h.clock.now() + limits.probeMinMs,
			reason: "3 jobs in a row failed for reasons of the robot's own, the last one: No space left",
		},
	});
	expect(await h.state(waiting)).toBe('failed');
	expect(await h.state(more.at(-1)!)).toBe('queued');
	expect((await h.engine.why(more.at(-1)!)).text).toMatch(
		/^1 of 1 robots match: 1 is in quarantine \(3 jobs in a row .* and is probed at 2026-01-01 00:01 UTC\.$/,
	);
});

test('however many failures are enough, so many put it there', async () => {
	await h.close();
	h = await house({ settings: { quarantineAfter: 25 } });
	const robot = await h.robot('r1');
	await fail(robot, 24);
	expect((await view(robot)).quarantine).toBeNull();
	await fail(robot, 1);
	expect((await view(robot)).quarantine?.reason).toMatch(/^25 jobs in a row failed/);
});

test('jobs that fail by themselves keep nobody away, and one that ends shows that the robot can work', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 10, exit(1));
	await fail(robot, 2);
	await fail(robot, 1, exit(1));
	await fail(robot, 2);
	await fail(robot, 1, {});
	await fail(robot, 2);
	expect(await view(robot)).toMatchObject({ status: 'online', quarantine: null });
	await fail(robot, 1);
	expect(await view(robot)).toMatchObject({ status: 'quarantined' });
});

test('a program that is not there is no fault of the robot', async () => {
	const robot = await h.robot('r1');
	const message = 'This robot has no program "sl" (looked in PATH).';
	const mistake = {
		state: 'failed',
		cause: 'spawn_error',
		result: { exit_code: null, error: { type: 'spawn_error', message } },
	};
	await fail(robot, 10, mistake);
	expect((await view(robot)).quarantine).toBeNull();
});

test('one bad job does not put a robot away, however often it is tried', async () => {
	const robot = await h.robot('r1');
	const jobId = await h.submit({ retry: { maxAttempts: 6, initialDelayMs: 1, maxDelayMs: 1 } });
	for (let i = 0; i < 6; i += 1) {
		await h.clock.advance(2_000);
		await robot.accept();
		await robot.end(broken);
	}
	expect(await h.state(jobId)).toBe('failed');
	expect(await h.outcomes(jobId)).toHaveLength(6);
	expect((await view(robot)).quarantine).toBeNull();
});

test('bad jobs that fail on one robot after the other put none of them away', async () => {
	const robots = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => h.robot(name)));
	for (let i = 0; i < 5; i += 1) {
		await h.submit({
			retry: { maxAttempts: 6, otherRobot: true, initialDelayMs: 1, maxDelayMs: 1 },
		});
		for (let tries = 0; tries < 6; tries += 1) {
			await h.clock.advance(2_000);
			for (const robot of robots) {
				if ((await view(robot)).held === 0) continue;
				await robot.accept();
				await robot.end(broken);
			}
		}
	}
	for (const robot of robots) expect((await view(robot)).quarantine).toBeNull();
});

test('the children of one bad parent are one job', async () => {
	const robots = await Promise.all(['a', 'b', 'c', 'd'].map((name) => h.robot(name)));
	for (let i = 0; i < 5; i += 1) {
		await h.submit({ ...once, target: { mode: 'all' } });
		await settled();
		for (const robot of robots) {
			await robot.accept();
			await robot.end(broken);
		}
	}
	for (const robot of robots) expect((await view(robot)).quarantine).toBeNull();
});

test('the service puts half of the robots away at most, and says so', async () => {
	const robots = await Promise.all(['a', 'b', 'c', 'd'].map((name) => h.robot(name)));
	for (const robot of robots) await fail(robot, 3);
	const away = (await h.engine.robots()).filter(({ quarantine }) => quarantine !== null);
	expect(away.map(({ name }) => name)).toEqual(['a', 'b']);
	expect(h.warnings).toContainEqual(
		expect.objectContaining({
			text: 'job after job fails on a robot, but half of the robots are in quarantine already',
		}),
	);
});

test('what a robot held when it went away counts once', async () => {
	const robot = await h.robot('r1', { slots: 4 });
	const jobs = [];
	for (let i = 0; i < 4; i += 1) jobs.push(await h.submit({ ...once, onLoss: 'fail' }));
	await settled();
	for (const job of robot.assigned) await robot.accept(job);
	await robot.vanish();
	await h.clock.advance(90_000 + limits.lossWaitMs + 5_000);
	expect(await h.state(jobs[3]!)).toBe('failed');
	expect((await view(robot)).quarantine).toBeNull();
});

test('a robot that goes away under job after job is put away, too', async () => {
	const robot = await h.robot('r1');
	await h.clock.advance(90_000);
	for (let i = 0; i < 3; i += 1) {
		await h.submit({ ...once, onLoss: { waitMs: 1_000, then: 'fail' } });
		await settled();
		await robot.accept();
		await robot.vanish();
		await h.clock.advance(5_000);
		await robot.connect();
	}
	expect(await view(robot)).toMatchObject({ status: 'quarantined' });
});

test('a probe that succeeds brings the robot back, and its jobs go on', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	const waits = await h.submit();
	await h.clock.advance(limits.probeMinMs - 1);
	expect(robot.assigned).toHaveLength(3);
	await h.clock.advance(1_001);
	expect(robot.last).toMatchObject({ kind: 'probe', spec: {} });
	// One at a time.
	await h.clock.advance(5_000);
	expect(robot.assigned).toHaveLength(4);
	await robot.accept();
	await robot.end();
	expect(await view(robot)).toMatchObject({ held: 1, quarantine: null });
	expect(robot.last.job_id).toBe(waits);
	const { epoch } = await h.engine.subscribe(
		'k',
		{ filter: { event: 'robot.opened' }, from: 'start' },
		admin,
	);
	expect((await h.engine.events('k', epoch, admin, 0)).map(({ data }) => data)).toEqual([
		{
			robotId: robot.robotId,
			name: 'r1',
			was: 'quarantine',
			reason: 'a probe succeeded',
			by: 'dispatcher',
		},
	]);
	// Its failures of before are forgotten.
	await robot.end();
	await fail(robot, 2);
	expect((await view(robot)).quarantine).toBeNull();
});

test('probes that fail come at growing intervals, across restarts, and are no dead letters', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	const { items } = await h.engine.deadLetters({ limit: 10 });
	const dead = items.reduce((sum, { count }) => sum + count, 0);
	for (const [i, waitMs] of [60_000, 120_000, 240_000].entries()) {
		await h.clock.advance(waitMs - 1_000);
		expect(robot.assigned).toHaveLength(3 + i);
		await h.clock.advance(2_500);
		expect(robot.assigned).toHaveLength(4 + i);
		expect(robot.last.kind).toBe('probe');
		await robot.accept();
		await robot.end(broken);
		expect((await view(robot)).quarantine).toMatchObject({
			probes: i + 1,
			lastProbe: 'No space left',
			nextProbeAt: h.clock.now() + waitMs * 2,
		});
		await h.restart();
		await robot.connect();
	}
	const after = await h.engine.deadLetters({ limit: 10 });
	expect(after.items.reduce((sum, { count }) => sum + count, 0)).toBe(dead);
});

test('a service that dies while a probe is under way learns of it from the robot', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	await h.clock.advance(61_000);
	await robot.accept();
	const probe = robot.last;
	await h.restart();
	expect((await view(robot)).quarantine).not.toBeNull();
	await robot.connect({ attempts: [heldAs('running', probe)] });
	await h.clock.advance(3_000);
	expect(robot.last).toBe(probe);
	await robot.end();
	expect((await view(robot)).quarantine).toBeNull();
});

test('a probe that its robot refuses has failed, and is not tried again before its time', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	await h.clock.advance(61_000);
	const probe = robot.last;
	await robot.reject('unsupported-kind', true);
	expect((await view(robot)).quarantine).toMatchObject({ probes: 1 });
	expect(await h.state(probe.job_id)).toBe('failed');
	await h.clock.advance(60_000);
	expect(robot.last).toBe(probe);
	await h.clock.advance(62_000);
	await robot.reject('paused');
	expect((await view(robot)).quarantine).toMatchObject({ probes: 2 });
	const id = robot.last.job_id;
	await h.clock.advance(3_000);
	expect(await h.state(id)).toBe('timeout');
});

test('a probe waits for a robot that is away, full, or closed by people', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	await robot.vanish();
	await h.clock.advance(300_000);
	expect(robot.assigned).toHaveLength(3);
	await h.engine.maintainRobot('r1', admin, { reason: 'disk swap', forMs: 600_000 });
	await robot.connect();
	await h.clock.advance(10_000);
	expect(robot.assigned).toHaveLength(3);
	expect(await view(robot)).toMatchObject({ status: 'maintenance', quarantine: { probes: 0 } });
	await h.clock.advance(595_000);
	expect(robot.last.kind).toBe('probe');
});

test('people lift a quarantine, put one there, and have it probed', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	expect(await h.engine.resumeRobot('r1', admin)).toMatchObject({ quarantine: null });
	const jobId = await h.submit();
	expect(await h.state(jobId)).toBe('dispatched');
	await robot.accept();
	await robot.end();
	await h.engine.quarantineRobot('r1', { reason: 'smells of smoke' }, admin);
	expect(await view(robot)).toMatchObject({
		quarantine: { by: 'test', reason: 'smells of smoke', nextProbeAt: null },
	});
	const given = robot.assigned.length;
	await h.clock.advance(2 * limits.probeMaxMs);
	expect(robot.assigned).toHaveLength(given);
	await h.engine.probeRobot('r1', admin);
	await h.clock.advance(1_001);
	expect(robot.last.kind).toBe('probe');
	await robot.accept();
	await robot.end(broken);
	expect((await view(robot)).quarantine).toMatchObject({ probes: 1, nextProbeAt: null });
	await h.engine.probeRobot('r1', admin);
	await h.clock.advance(1_001);
	await robot.accept();
	await robot.end();
	expect((await view(robot)).quarantine).toBeNull();
	await expect(h.engine.probeRobot('r1', admin)).rejects.toMatchObject({ code: 'not-quarantined' });
});

test('failures before a restart count behind it', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 2);
	await h.restart();
	await robot.connect();
	await fail(robot, 1);
	expect(await view(robot)).toMatchObject({ status: 'quarantined' });
	await h.restart();
	await robot.connect();
	const jobId = await h.submit();
	await settled();
	expect(await h.state(jobId)).toBe('queued');
});

test('a disk that is full takes the failure later, and then it counts once', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 2);
	await h.submit(once);
	await settled();
	await robot.accept();
	h.store.full = true;
	await robot.end(broken);
	expect((await view(robot)).quarantine).toBeNull();
	h.store.full = false;
	await robot.end(broken);
	await robot.end(broken);
	expect((await view(robot)).quarantine).toMatchObject({ probes: 0 });
});

test('a probe that the store could not take is sent later', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	h.store.full = true;
	await h.clock.advance(90_000);
	h.store.full = false;
	await h.clock.advance(2_000);
	expect(robot.last.kind).toBe('probe');
	await robot.accept();
	await robot.end();
	const jobId = await h.submit();
	expect(await h.state(jobId)).toBe('dispatched');
});

test('it is off unless the settings say otherwise, and lets go of all it kept when it is switched off', async () => {
	const off = await house();
	const robot = await off.robot('r1');
	for (let i = 0; i < 6; i += 1) {
		await off.submit(once);
		await settled();
		await robot.accept();
		await robot.end(broken);
	}
	expect((await off.engine.robot('r1')).quarantine).toBeNull();
	const kept = {
		reason: 'three jobs failed',
		by: 'dispatcher',
		since: 0,
		probes: 0,
		nextProbeAt: off.clock.now() + 1_000_000,
		lastProbe: null,
	};
	const quarantine = JSON.stringify(kept);
	await off.store.commit([{ do: 'changeRobot', with: { id: robot.robotId, quarantine } }]);
	await off.restart();
	await off.clock.advance(2_000);
	expect((await off.engine.robot('r1')).quarantine).toBeNull();
	await off.close();
});

test('scrapers are told of robots in quarantine, and how often one was put there', async () => {
	const robot = await h.robot('r1');
	await fail(robot, 3);
	const families = await h.engine.families();
	const samples = (name: string) => families.find((family) => family.name === name);
	expect(samples('robot_fleet_quarantines_total')).toMatchObject({ samples: [{ value: 1 }] });
	expect(JSON.stringify(samples('robot_fleet_robots'))).toContain('quarantined');
});
