import { settled } from '../../support/fake-clock';
import { admin, exit, house, type House, ref } from '../../support/engine';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const features = ['facts'];

test('a ping is answered with the time it took there and back', async () => {
	const robot = await h.robot('r1');
	const pinged = h.engine.pingRobot('r1');
	await settled();
	expect(robot.orders).toMatchObject([{ action: 'ping' }]);
	await h.clock.advance(12);
	robot.session.pong(robot.orders[0]!.id);
	expect(await pinged).toEqual({ robotId: robot.robotId, name: 'r1', ms: 12 });
});

test('two pings under way are not taken for each other', async () => {
	const robot = await h.robot('r1');
	const first = h.engine.pingRobot('r1');
	await settled();
	await h.clock.advance(5);
	const second = h.engine.pingRobot('r1');
	await settled();
	await h.clock.advance(2);
	robot.session.pong(robot.orders[1]!.id);
	expect((await second).ms).toBe(2);
	robot.session.pong(robot.orders[0]!.id);
	expect((await first).ms).toBe(7);
});

test('a robot that does not answer within ten seconds is silent, one that leaves meanwhile is away', async () => {
	const robot = await h.robot('r1');
	const silent = expect(h.engine.pingRobot('r1')).rejects.toMatchObject({ code: 'robot-silent' });
	await settled();
	await h.clock.advance(10_000);
	await silent;
	const left = expect(h.engine.pingRobot('r1')).rejects.toMatchObject({ code: 'robot-away' });
	await settled();
	robot.session.closed();
	await left;
	await expect(h.engine.pingRobot('r1')).rejects.toMatchObject({ code: 'robot-away' });
	await expect(h.engine.pingRobot('nobody')).rejects.toMatchObject({ code: 'no-such-robot' });
});

test('a refresh answers with what the robot found, and jobs that wait for it go out', async () => {
	const robot = await h.robot('r1', { features });
	const jobId = await h.submit({ target: { capabilities: ['runtime:go'] } });
	expect(await h.state(jobId)).toBe('queued');
	const refreshed = h.engine.refreshRobot('r1');
	await settled();
	robot.session.facts({ capabilities: ['runtime:go'], info: { cpus: 8 } }, robot.orders[0]!.id);
	expect(await refreshed).toMatchObject({ capabilities: ['runtime:go'], info: { cpus: 8 } });
	await settled();
	expect(await h.state(jobId)).toBe('dispatched');
});

test('facts that change all the time are noted once a second, the last ones count, and whoever asked hears of it', async () => {
	const robot = await h.robot('r1', { features });
	const { session } = robot;
	const known = async () => (await h.engine.robot('r1')).info;
	for (let n = 0; n < 100; n += 1) session.facts({ capabilities: [], info: { n } });
	await settled();
	expect(await known()).toMatchObject({ n: 0 });
	const refreshed = h.engine.refreshRobot('r1');
	await settled();
	session.facts({ capabilities: ['tool:git'], info: { n: 100 } }, robot.orders[0]!.id);
	session.facts({ capabilities: ['tool:git'], info: { n: 101 } });
	await settled();
	expect(await known()).toMatchObject({ n: 0 });
	await h.clock.advance(1_000);
	const now = { capabilities: ['tool:git'], info: { n: 101 } };
	expect(await refreshed).toMatchObject(now);
	// What was said before is no news, and is answered at once.
	await h.clock.advance(1_000);
	const again = h.engine.refreshRobot('r1');
	await settled();
	session.facts(now, robot.orders[1]!.id);
	expect(await again).toMatchObject(now);
});

test('what a robot found out outlives the service', async () => {
	const robot = await h.robot('r1', { features });
	robot.session.facts({ capabilities: ['tool:git'], info: { cpus: 4 } });
	await settled();
	await h.restart();
	expect(await h.engine.robot('r1')).toMatchObject({
		capabilities: ['tool:git'],
		info: { cpus: 4 },
		connected: false,
	});
});

test('a capability that is gone takes the robot out of the lanes that need it', async () => {
	const robot = await h.robot('r1', { features, capabilities: ['browser:chromium'] });
	robot.session.facts({ capabilities: [], info: {} });
	await settled();
	const jobId = await h.submit({ target: { capabilities: ['browser:chromium'] } });
	expect(await h.state(jobId)).toBe('queued');
});

test('facts that come on a line that is over change nothing', async () => {
	const robot = await h.robot('r1', { features });
	const old = robot.session;
	old.closed();
	await robot.connect({ capabilities: ['now'] });
	old.facts({ capabilities: ['before'], info: {} });
	await settled();
	expect((await h.engine.robot('r1')).capabilities).toEqual(['now']);
});

test('an agent that cannot tell facts is asked for a heartbeat, and nobody waits for it', async () => {
	const robot = await h.robot('r1');
	expect(await h.engine.refreshRobot('r1')).toMatchObject({ name: 'r1' });
	expect(robot.orders).toMatchObject([{ action: 'refresh' }]);
});

test('a drain waits for what the robot holds, gives it nothing more, and says what is left', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const held = await h.submit();
	const draining = h.engine.drainRobot('r1', 60_000, admin);
	await settled();
	const waits = await h.submit();
	expect(await h.state(waits)).toBe('queued');
	await robot.accept();
	await robot.end();
	expect(await draining).toMatchObject({ held: 0, status: 'paused' });
	expect(await h.state(held)).toBe('completed');
	expect(await h.state(waits)).toBe('queued');
	await h.engine.resumeRobot('r1', admin);
	await settled();
	expect(await h.state(waits)).toBe('dispatched');
	const impatient = h.engine.drainRobot('r1', 1_000, admin);
	await settled();
	await h.clock.advance(1_000);
	expect(await impatient).toMatchObject({ held: 1, status: 'paused' });
});

test('a drain is over with the last try on its robot, also when the job of that is tried again', async () => {
	const robot = await h.robot('r1');
	const job = await h.submit({ idempotent: true });
	const held: number[] = [];
	void h.engine.drainRobot('r1', 60_000, admin).then((drained) => held.push(drained.held));
	await settled();
	await robot.accept();
	await robot.end(exit(1));
	expect(await h.state(job)).toBe('pending');
	expect(held).toEqual([0]);
});

test('a drain waits no longer when somebody says something else of the robot', async () => {
	await h.robot('r1');
	await h.submit();
	const draining = h.engine.drainRobot('r1', 60_000, admin);
	await settled();
	await h.engine.resumeRobot('r1', admin);
	expect(await draining).toMatchObject({ held: 1, closed: null });
	const again = h.engine.drainRobot('r1', 60_000, admin);
	await settled();
	await h.engine.maintainRobot('r1', admin, { reason: 'disk swap' });
	expect(await again).toMatchObject({ held: 1, closed: { as: 'maintenance' } });
});

test('a disconnected robot is away, keeps its job, and may come back', async () => {
	const robot = await h.robot('r1');
	const jobId = await h.submit();
	await robot.accept();
	expect(await h.engine.disconnectRobot('r1', admin)).toMatchObject({ connected: false, held: 1 });
	expect(robot.closedWith).toBe(1001);
	expect(await h.state(jobId)).toBe('running');
	// Once more, with nobody there, is what was wanted.
	expect(await h.engine.disconnectRobot('r1', admin)).toMatchObject({ connected: false });
});

test('a shutdown is told, gently or at once; a robot that is away cannot be told', async () => {
	const robot = await h.robot('r1');
	await h.engine.shutdownRobot('r1', false, admin);
	await h.engine.shutdownRobot('r1', true, admin);
	expect(robot.orders.map(({ action, at_once }) => [action, at_once])).toEqual([
		['shutdown', undefined],
		['shutdown', true],
	]);
	robot.session.closed();
	await expect(h.engine.shutdownRobot('r1', true, admin)).rejects.toMatchObject({
		code: 'robot-away',
	});
});

test('a broadcast reaches the connected robots that carry the labels, and counts them', async () => {
	const berlin = await h.robot('r1', { labels: { site: 'berlin' } });
	const rome = await h.robot('r2', { labels: { site: 'rome' } });
	const away = await h.robot('r3', { labels: { site: 'berlin' } });
	away.session.closed();
	const labels = { site: 'berlin' };
	expect(await h.engine.broadcast({ text: 'lunch', labels }, admin)).toEqual({ told: 1 });
	expect(berlin.orders).toMatchObject([{ action: 'note', text: 'lunch' }]);
	expect(rome.orders).toEqual([]);
	expect(away.orders).toEqual([]);
	expect(await h.engine.broadcast({ action: 'refresh' }, admin)).toEqual({ told: 2 });
});

test('a robot shows how its machine feels while it is here, and nothing old when it is not', async () => {
	const robot = await h.robot('r1');
	expect((await h.engine.robot('r1')).metrics).toEqual({
		cpuPercent: null,
		memoryPercent: null,
		diskPercent: null,
		roundTripMs: null,
		agentBusyPercent: null,
		keeperMissing: null,
	});
	robot.session.heartbeat({ cpu_percent: 20, memory_percent: 96, disk_percent: 30 });
	expect(await h.engine.robot('r1')).toMatchObject({
		metrics: { cpuPercent: 20, memoryPercent: 96, diskPercent: 30 },
		health: { level: 'critical', reasons: ['The memory is 96 % used.'] },
	});
	robot.session.closed();
	expect(await h.engine.robot('r1')).toMatchObject({ metrics: null, health: null });
});

test('line, agent, keeper, jobs and tries of a robot count for its health, each with its reason', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	robot.session.heartbeat({ round_trip_ms: 1_200, agent_busy_percent: 95, keeper_missing: 1 });
	await h.submit();
	await h.submit();
	await settled();
	await robot.accept();
	const hangs = { state: 'hanging', cpu_percent: 0, memory_bytes: 1, processes: 1 } as const;
	robot.session.status({
		...ref(robot.last),
		health: { ...hangs, quiet_ms: 31_000, output_bytes: 0 },
	});
	expect((await h.engine.robot('r1')).health).toEqual({
		level: 'warning',
		reasons: [
			'A round trip between agent and service takes 1200 ms.',
			'The agent itself is busy 95 % of the time.',
			'Its agent cannot start a keeper, so jobs end when the agent does.',
			'1 of its 2 jobs hang: neither output nor work for a while.',
		],
	});
	await h.clock.advance(31_000);
	expect(await h.engine.robot('r1')).toMatchObject({
		status: 'suspect',
		health: { level: 'critical' },
	});
});

test('the last tries of a robot are counted by how they came out, and known after a restart', async () => {
	const robot = await h.robot('r1');
	const endings = [{}, exit(1), {}, { state: 'cancelled', cause: 'cancelled' } as const, exit(2)];
	for (const ending of [...endings, ...endings]) {
		await h.submit();
		await settled();
		await robot.end(ending);
	}
	await h.submit({ onLoss: { waitMs: 1_000, then: 'fail' } });
	await settled();
	await robot.accept();
	await robot.vanish();
	await robot.connect({ journal_id: 'another', boot_id: 'another' });
	await settled();
	const counted = { completed: 4, failed: 4, lost: 1, successPercent: 44.4 };
	expect((await h.engine.robot('r1')).record).toEqual(counted);
	await h.restart();
	expect((await h.engine.robot('r1')).record).toEqual(counted);
	expect((await h.robot('r2')).robotId).toBeDefined();
	expect((await h.engine.robot('r2')).record.successPercent).toBeNull();
});

describe('how an attempt looks from outside', () => {
	const health = {
		state: 'hanging',
		cpu_percent: 0,
		memory_bytes: 4_096,
		processes: 1,
		quiet_ms: 31_000,
		output_bytes: 0,
		command_class: 'info',
		overdue: 'no_output',
	} as const;

	test('what its robot saw is kept with the job, oldest first, the last twenty of it', async () => {
		const robot = await h.robot('r1');
		const jobId = await h.submit();
		expect((await h.engine.job(jobId)).health).toBeUndefined();
		await robot.accept();
		robot.session.status({ ...ref(robot.last), health });
		await settled();
		expect((await h.engine.job(jobId)).health).toEqual([
			{
				at: h.clock.now(),
				state: 'hanging',
				cpuPercent: 0,
				memoryBytes: 4_096,
				processes: 1,
				quietMs: 31_000,
				outputBytes: 0,
				commandClass: 'info',
				overdue: 'no_output',
			},
		]);
		for (let n = 1; n <= 24; n++) {
			robot.session.status({ ...ref(robot.last), health: { ...health, output_bytes: n } });
		}
		await settled();
		await robot.end();
		await h.restart();
		const kept = (await h.engine.job(jobId)).health!;
		expect(kept.map(({ outputBytes }) => outputBytes)).toEqual(
			Array.from({ length: 20 }, (_, n) => n + 5),
		);
	});

	test('the next attempt begins with nothing seen, and words about the one before count for nothing', async () => {
		const robot = await h.robot('r1');
		const jobId = await h.submit({ idempotent: true, retry: { initialDelayMs: 0 } });
		await robot.accept();
		const first = robot.last;
		robot.session.status({ ...ref(first), health });
		await settled();
		await robot.end({ state: 'failed', cause: 'exit_code', result: { exit_code: 1 } });
		await h.clock.advance(10_000);
		await robot.accept();
		robot.session.status({ ...ref(first), health });
		await settled();
		expect(await h.engine.job(jobId)).toMatchObject({ attempt: 2 });
		expect((await h.engine.job(jobId)).health).toBeUndefined();
		robot.session.status({ ...ref(robot.last), health: { ...health, state: 'healthy' } });
		await settled();
		expect((await h.engine.job(jobId)).health).toMatchObject([{ state: 'healthy' }]);
	});

	test('a job that shall be stopped when it hangs says so to its robot, others say nothing', async () => {
		const robot = await h.robot('r1', { slots: 2 });
		await h.submit();
		expect(robot.last).not.toHaveProperty('on_hang');
		await h.submit({ onHang: 'stop' });
		expect(robot.last).toMatchObject({ on_hang: 'stop' });
	});
});
