/** Robots that were registered before their agents came, and the limit that a constellation shares. */
import type { Constellation, DeviceConfig, Robot } from '../../../protocol';
import { fingerprintOfKey } from '../../../dispatcher/engine/hub-key';
import { dice } from '../../support/dice';
import { settled } from '../../support/fake-clock';
import { admin, house, type House, PlayedRobot } from '../../support/engine';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const operator = { keyId: 'o', name: 'operator', scopes: ['operate'] as const };
const device = (deviceId: string, more: Partial<DeviceConfig> = {}): DeviceConfig => ({
	deviceId,
	serverUrl: null,
	fingerprint: null,
	clientIds: [],
	capabilities: [],
	metadata: {},
	autoConnect: true,
	maxRetries: 5,
	...more,
});
const file = (devices: DeviceConfig[], more: Partial<Constellation> = {}): Constellation => ({
	constellationId: 'c',
	heartbeatInterval: null,
	reconnectDelay: 5,
	maxConcurrentTasks: 4,
	devices,
	...more,
});
const names = async () => (await h.engine.robots()).map(({ name }) => name);
const enrol = async (name: string, key = `key of ${name}`) => {
	const { token } = await h.engine.createToken({ labels: { site: 'berlin' } }, admin);
	return h.engine.enrol(token, key, name);
};
const playedBy = (robotId: string, hello = {}) => new PlayedRobot(() => h.engine, robotId, hello);
const url = 'wss://192.168.1.100:8765';
const fingerprint = fingerprintOfKey('the key');

describe('a registered device', () => {
	test('that people close while its agent enrolls stays closed, after a restart too', async () => {
		await h.engine.registerRobot({ name: 'd' }, admin);
		const { token } = await h.engine.createToken({}, admin);
		await Promise.all([
			h.engine.pauseRobot('d', admin, { reason: 'disk swap' }),
			h.engine.enrol(token, 'key of d', 'd'),
		]);
		const closed = { as: 'paused', reason: 'disk swap' };
		expect(await h.engine.robot('d')).toMatchObject({ closed });
		await h.restart();
		expect(await h.engine.robot('d')).toMatchObject({ closed });
		expect((await enrol('d', 'key of d')).name).not.toBe('d');
	});

	test('waits, offline, until its agent enrolls by its name, and is that robot then', async () => {
		const made = await h.engine.registerRobot(
			{ name: 'd', capabilities: ['terminal'], metadata: { os: 'Linux', rack: 4, deep: {} } },
			admin,
		);
		expect(made).toMatchObject({
			status: 'offline',
			capabilities: ['terminal'],
			labels: { os: 'Linux', rack: '4' },
			device: { serverUrl: null, dial: null, metadata: { deep: {} } },
		});
		const jobId = await h.submit({ target: { capabilities: ['terminal'] } });
		const { robotId, name } = await enrol('d');
		expect([robotId, name]).toEqual([made.robotId, 'd']);
		const robot = playedBy(robotId);
		await robot.connect({ capabilities: ['os:linux'], labels: { os: 'mine', own: '1' } });
		expect(await h.state(jobId)).toBe('dispatched');
		expect(await h.engine.robot('d')).toMatchObject({
			capabilities: ['os:linux', 'terminal'],
			labels: { os: 'Linux', own: '1', site: 'berlin' },
		});
		// Its name is taken now.
		expect((await enrol('d', 'another')).name).toBe('d-2');
	});

	test('with a fingerprint becomes only the robot that has this key', async () => {
		await h.engine.registerRobot({ name: 'd', fingerprint }, admin);
		expect((await enrol('d', 'another key')).name).toBe('d-2');
		expect((await enrol('d', 'the key')).name).toBe('d');
	});

	test('of two agents that come at once one becomes it, and the other a robot of its own', async () => {
		const { robotId } = await h.engine.registerRobot({ name: 'd' }, admin);
		const both = await Promise.all([enrol('d', 'one'), enrol('d', 'two')]);
		expect(both.filter((one) => one.robotId === robotId)).toHaveLength(1);
		expect(new Set(both.map((one) => one.name))).toEqual(new Set(['d', 'd-2']));
	});

	test('is not got by a token that is not good', async () => {
		await h.engine.registerRobot({ name: 'd' }, admin);
		const bad = h.engine.enrol('rf1.00.no.-', 'key', 'd');
		await expect(bad).rejects.toMatchObject({ code: 'bad-token' });
		expect((await h.engine.robot('d')).robotId).toBe((await enrol('d')).robotId);
	});

	test('is the same one after a restart, and when it is registered again', async () => {
		const request = { name: 'd', serverUrl: url, fingerprint, clientIds: ['x'] };
		const first = await h.engine.registerRobot(request, admin);
		await h.restart();
		expect(await h.engine.robot('d')).toEqual(first);
		const again = await Promise.all([
			h.engine.registerRobot(request, admin),
			h.engine.registerRobot({ ...request, maxRetries: 1 }, admin),
		]);
		expect(again.map(({ robotId }) => robotId)).toEqual([first.robotId, first.robotId]);
		expect((await h.engine.robot('d')).device).toMatchObject({ maxRetries: 1 });
	});

	test('is changed by a call in what the call names, and no further', async () => {
		const request = { name: 'd', serverUrl: url, fingerprint, capabilities: ['x'], maxRetries: 1 };
		const made = await h.engine.registerRobot({ ...request, autoConnect: false }, admin);
		const changed = await h.engine.registerRobot({ name: 'd', metadata: { a: 'b' } }, operator);
		expect(changed).toEqual({
			...made,
			labels: { a: 'b' },
			device: { ...made.device!, metadata: { a: 'b' } },
		});
		// An address that an admin named may lie inside; another one may not, because an operator says so.
		await h.engine.registerRobot({ name: 'd', autoConnect: true }, operator);
		expect(h.engine.dialling.plans()).toMatchObject([{ inside: true }]);
		await h.engine.dialling.proved(made.robotId, 'the key');
		await h.engine.registerRobot({ name: 'd', serverUrl: 'wss://a.test' }, operator);
		expect(h.engine.dialling.plans()).toMatchObject([{ inside: false }]);
	});

	test('gets a key, or an address before it has proved one, from an admin only', async () => {
		const code = (request: object) =>
			h.engine.registerRobot({ name: 'd', ...request }, operator).then(
				() => 'taken',
				(error: { code: string }) => error.code,
			);
		expect(await code({ fingerprint })).toBe('no-scope');
		expect(await code({ serverUrl: 'wss://a.test' })).toBe('no-scope');
		expect(await names()).toEqual([]);
		// An awaited one needs a token, which admins make.
		expect(await code({ metadata: { a: 'b' }, autoConnect: false, maxRetries: 1 })).toBe('taken');
		const request = { serverUrl: 'wss://a.test', fingerprint };
		await h.engine.registerRobot({ name: 'd', ...request }, admin);
		expect(await code({ fingerprint: 'ab'.repeat(32) })).toBe('no-scope');
		expect(await code({ serverUrl: 'wss://b.test' })).toBe('no-scope');
		expect(await code(request)).toBe('taken');
		expect((await h.engine.robot('d')).device).toMatchObject(request);
	});

	test('that is removed is gone with its robot, after a restart too', async () => {
		await h.engine.registerRobot({ name: 'd', serverUrl: url, fingerprint }, admin);
		await h.engine.removeRobot('d', admin);
		expect(h.engine.dialling.plans()).toEqual([]);
		await h.restart();
		expect(await names()).toEqual([]);
		expect(await h.store.read('devices', null)).toEqual([]);
	});

	test('may be a robot that enrolled before, and goes by the key that it has proved', async () => {
		const { robotId } = await enrol('d', 'the key');
		const made = await h.engine.registerRobot({ name: 'd', serverUrl: url }, operator);
		expect(made).toMatchObject({ robotId, device: { fingerprint, dial: { state: 'waiting' } } });
		const other = { name: 'd', fingerprint: 'ab'.repeat(32) };
		await expect(h.engine.registerRobot(other, operator)).rejects.toMatchObject({
			code: 'robot-taken',
		});
	});

	test('that has got another key keeps its name when an admin says so', async () => {
		await h.engine.registerRobot({ name: 'd', serverUrl: url, fingerprint }, admin);
		const { robotId } = await enrol('d', 'the key');
		const request = { name: 'd', serverUrl: url, fingerprint: fingerprintOfKey('new key') };
		expect((await h.engine.registerRobot(request, admin)).robotId).toBe(robotId);
		await h.engine.dialling.proved(robotId, 'new key');
		expect(await h.engine.robotKey(robotId)).toBe('new key');
		await h.restart();
		expect(await h.engine.robotKey(robotId)).toBe('new key');
	});

	test('whose key was replaced does not come to have the old one again, by a call that was under way', async () => {
		const request = { name: 'd', serverUrl: url, fingerprint };
		const { robotId } = await h.engine.registerRobot(request, admin);
		await h.engine.dialling.proved(robotId, 'the key');
		const other = { ...request, fingerprint: fingerprintOfKey('new key') };
		const [, late] = await Promise.allSettled([
			h.engine.registerRobot(other, admin),
			h.engine.dialling.proved(robotId, 'the key'),
		]);
		expect(late).toMatchObject({ status: 'rejected', reason: { code: 'wrong-key' } });
		const robot = playedBy(robotId);
		await expect(robot.connect()).rejects.toMatchObject({ code: 'bad-proof' });
		await h.restart();
		expect(await h.engine.robotKey(robotId)).toBe('');
		await h.engine.dialling.proved(robotId, 'new key');
		await robot.connect();
	});

	test('has its name while it is written down, and does not come back when it is removed meanwhile', async () => {
		const { token } = await h.engine.createToken({}, admin);
		const registered = h.engine.registerRobot({ name: 'd' }, admin);
		// By then its turn has begun.
		await Promise.resolve();
		const enrolled = await h.engine.enrol(token, 'its own', 'd');
		expect([(await registered).name, enrolled.name]).toEqual(['d', 'd-2']);
		const [gone, changed] = await Promise.allSettled([
			h.engine.removeRobot('d', admin),
			h.engine.registerRobot({ name: 'd', maxRetries: 1 }, admin),
		]);
		expect(gone.status).toBe('fulfilled');
		expect(changed).toMatchObject({ status: 'rejected', reason: { code: 'no-such-robot' } });
		const [, paused] = await Promise.allSettled([
			h.engine.removeRobot('d-2', admin),
			h.engine.pauseRobot('d-2', admin),
		]);
		expect(paused).toMatchObject({ status: 'rejected', reason: { code: 'no-such-robot' } });
		expect(await names()).toEqual([]);
		await h.restart();
		expect(await names()).toEqual([]);
		expect(await h.store.read('devices', null)).toEqual([]);
	});

	test('gets no other key than the one that is said of it while its agent enrolls', async () => {
		const { robotId } = await h.engine.registerRobot({ name: 'd' }, admin);
		const { token } = await h.engine.createToken({}, admin);
		await Promise.all([
			h.engine.enrol(token, 'another key', 'd'),
			h.engine.registerRobot({ name: 'd', fingerprint }, admin),
		]);
		await h.restart();
		expect((await h.engine.robot(robotId)).device).toMatchObject({ fingerprint });
		expect(await h.engine.robotKey(robotId)).toBe('');
	});

	test('that is dialled by a key is the only one; another one that has it is told its name', async () => {
		await h.engine.registerRobot({ name: 'a', serverUrl: url, fingerprint }, admin);
		const b = { name: 'b', serverUrl: 'wss://192.168.1.101:8765', fingerprint };
		await expect(h.engine.registerRobot(b, admin)).rejects.toMatchObject({
			code: 'key-taken',
			message: expect.stringMatching(/^The device a already has this fingerprint/),
		});
		expect(await names()).toEqual(['a']);
		// One that dials the service by itself is not fought for.
		await h.engine.registerRobot({ name: 'b', fingerprint }, admin);
	});

	test('has no key that anybody could prove before its agent came', async () => {
		const { robotId } = await h.engine.registerRobot({ name: 'd' }, admin);
		expect(await h.engine.robotKey(robotId)).toBe('');
	});
});

describe('the devices of the file', () => {
	test('are registered once, however often the service starts', async () => {
		const devices = [device('a'), device('b', { serverUrl: url, fingerprint })];
		await h.engine.settleConstellation(file(devices));
		const first = await h.engine.robots();
		await h.restart();
		await h.engine.settleConstellation(file(devices));
		expect(await h.engine.robots()).toEqual(first);
		expect(h.engine.dialling.plans()).toEqual([
			{
				robotId: first[1]!.robotId,
				name: 'b',
				url,
				fingerprint,
				maxRetries: 5,
				inside: true,
			},
		]);
	});

	test('that it names no more are robots like any other, or, if they never came, none', async () => {
		await h.engine.settleConstellation(file([device('came'), device('never'), device('stays')]));
		await h.engine.registerRobot({ name: 'by-call' }, admin);
		await enrol('came');
		await h.restart();
		await h.engine.settleConstellation(file([device('stays')]));
		expect(new Set(await names())).toEqual(new Set(['came', 'stays', 'by-call']));
		expect((await h.engine.robot('came')).device).toBeUndefined();
		await h.restart();
		await h.engine.settleConstellation(undefined);
		expect(new Set(await names())).toEqual(new Set(['came', 'by-call']));
	});

	test('may be named anew, and may change their keys with each other', async () => {
		const [one, two] = [fingerprint, 'ab'.repeat(32)];
		const files = [
			[device('a', { serverUrl: url, fingerprint: one })],
			[device('b', { serverUrl: url, fingerprint: one })],
			['one', 'two'].map((name, i) =>
				device(name, { serverUrl: url, fingerprint: [one, two][i]! }),
			),
			['one', 'two'].map((name, i) =>
				device(name, { serverUrl: url, fingerprint: [two, one][i]! }),
			),
		];
		for (const devices of files) {
			await h.restart();
			await h.engine.settleConstellation(file(devices));
			expect(h.engine.dialling.plans().map((plan) => [plan.name, plan.fingerprint])).toEqual(
				devices.map((named) => [named.deviceId, named.fingerprint]),
			);
		}
	});

	test('whose name another robot has, with another key, are told of; the others are registered', async () => {
		await enrol('a', 'its own key');
		await h.engine.settleConstellation(file([device('a', { fingerprint }), device('b')]));
		expect((await h.engine.robot('a')).device).toBeUndefined();
		expect((await h.engine.robot('b')).device).toBeDefined();
	});
});

describe('max_concurrent_tasks', () => {
	async function fleetOf(count: number, limit: number, slots = 4): Promise<PlayedRobot[]> {
		const devices = Array.from({ length: count }, (_, i) => device(`d${i}`));
		await h.engine.settleConstellation(file(devices, { maxConcurrentTasks: limit }));
		return Promise.all(
			devices.map(async ({ deviceId }) => {
				const robot = playedBy((await enrol(deviceId)).robotId, { slots });
				await robot.connect();
				return robot;
			}),
		);
	}
	const held = async () =>
		(await h.engine.robots()).reduce((sum, robot: Robot) => sum + robot.held, 0);

	test('is the most that all devices together run; what ends makes room, on whichever device', async () => {
		const robots = await fleetOf(2, 3);
		const jobs = [];
		for (let i = 0; i < 6; i += 1) jobs.push(await h.submit());
		expect(await held()).toBe(3);
		const states = await Promise.all(jobs.map((id) => h.state(id)));
		expect(states.filter((state) => state === 'queued')).toHaveLength(3);
		expect((await h.engine.why(jobs[5]!)).text).toMatch(
			/2 waits for its constellation c, which runs 3 jobs at most/,
		);
		const running = robots.flatMap((robot) => robot.assigned.map((job) => ({ robot, job })));
		for (const { robot, job } of running) await robot.end({}, job);
		expect(await held()).toBe(3);
	});

	test('does not concern robots outside of it', async () => {
		await fleetOf(1, 1);
		await h.submit();
		const outside = await h.robot('outside');
		const jobId = await h.submit();
		expect(outside.last.job_id).toBe(jobId);
	});

	test('is counted from what is held: a robot that is away, and a restart, change nothing', async () => {
		const robots = await fleetOf(2, 2);
		await h.submit();
		await h.submit();
		for (const robot of robots) await robot.vanish();
		await h.restart();
		await h.engine.settleConstellation(
			file([device('d0'), device('d1')], { maxConcurrentTasks: 2 }),
		);
		await h.submit();
		const back = robots[1]!.reconnectable(() => h.engine);
		const attempts = robots[1]!.assigned.map((job) => ({
			job_id: job.job_id,
			attempt: job.attempt,
			epoch: job.epoch,
			token: job.token,
			state: 'running' as const,
			output: { stdout: 0, stderr: 0 },
		}));
		await back.connect({ attempts });
		expect(back.assigned).toEqual([]);
		expect(await held()).toBe(2);
	});

	test('holds for devices that were registered by a call, after a restart too', async () => {
		const limit = () => h.engine.settleConstellation(file([], { maxConcurrentTasks: 1 }));
		await limit();
		for (const name of ['a', 'b']) {
			await h.engine.registerRobot({ name, constellationId: 'c' }, admin);
			await enrol(name);
		}
		await h.restart();
		await limit();
		for (const { robotId } of await h.engine.robots()) await playedBy(robotId).connect();
		await h.submit();
		await h.submit();
		expect(await held()).toBe(1);
	});

	test.each([1, 2, 3, 4, 5])(
		'is kept in any history, and leaves no room unused (%i)',
		async (seed) => {
			const limit = 3;
			const robots = await fleetOf(3, limit, 2);
			const roll = dice(seed);
			const open = new Map<string, { robot: PlayedRobot; job: PlayedRobot['last'] }>();
			let submitted = 0;
			let ended = 0;
			for (let step = 0; step < 60; step += 1) {
				if (roll() < 0.5) {
					await h.submit();
					submitted += 1;
				} else {
					const [next] = open.values();
					if (next) {
						await next.robot.end({}, next.job);
						open.delete(next.job.job_id);
						ended += 1;
					}
				}
				await settled();
				for (const robot of robots) {
					for (const job of robot.assigned.splice(0)) open.set(job.job_id, { robot, job });
				}
				expect(open.size).toBe(Math.min(limit, submitted - ended));
				expect(await held()).toBe(open.size);
			}
		},
	);
});

describe('dialling', () => {
	const told: string[] = [];
	const dialled = { name: 'd', serverUrl: url, fingerprint };
	beforeEach(() => {
		told.length = 0;
		h.engine.dialling.onChange((robotId) => void told.push(robotId));
	});

	test('is wanted of what has an address and connects by itself, and is told when that changes', async () => {
		const { robotId } = await h.engine.registerRobot(dialled, admin);
		await h.engine.registerRobot({ name: 'dials' }, admin);
		const other = { serverUrl: url, fingerprint: 'cd'.repeat(32) };
		await h.engine.registerRobot({ ...other, name: 'by-hand', autoConnect: false }, admin);
		expect(h.engine.dialling.plans().map(({ name }) => name)).toEqual(['d']);
		told.length = 0;
		// The same again, and what does not concern dialling, disturbs nobody.
		await h.engine.registerRobot(dialled, admin);
		await h.engine.registerRobot({ ...dialled, metadata: { a: 'b' } }, admin);
		expect(told).toEqual([]);
		await h.engine.registerRobot({ ...dialled, serverUrl: 'wss://192.168.1.7:1' }, admin);
		expect(told).toEqual([robotId]);
	});

	test('by hand answers with how the first try went', async () => {
		const { robotId } = await h.engine.registerRobot({ ...dialled, autoConnect: false }, admin);
		const asked = h.engine.connectRobot('d', operator);
		await settled();
		expect(told.at(-1)).toBe(robotId);
		expect(h.engine.dialling.plan(robotId)).toBeDefined();
		const dial = { reason: 'nothing listens there', failures: 1, nextTryAt: 7 };
		h.engine.dialling.fared(robotId, { ...dial, state: 'waiting' });
		expect((await asked).device!.dial).toEqual({ ...dial, state: 'waiting' });
	});

	test('by hand answers in time when nobody dials', async () => {
		await h.engine.registerRobot(dialled, admin);
		const asked = h.engine.connectRobot('d', operator);
		await settled();
		await h.clock.advance(15_000);
		expect((await asked).device!.dial!.state).toBe('dialling');
	});

	test('by hand of one that is removed meanwhile answers at once', async () => {
		await h.engine.registerRobot(dialled, admin);
		const asked = h.engine
			.connectRobot('d', operator)
			.catch((error: { code: string }) => error.code);
		await settled();
		await h.engine.removeRobot('d', admin);
		expect(await asked).toBe('no-such-robot');
	});

	test('ends when a person disconnects, until one connects it or the service starts anew', async () => {
		const { robotId } = await h.engine.registerRobot(dialled, admin);
		await h.engine.disconnectRobot('d', operator);
		expect(h.engine.dialling.plan(robotId)).toBeUndefined();
		expect((await h.engine.robot('d')).device!.dial!.state).toBe('off');
		await h.restart();
		expect(h.engine.dialling.plan(robotId)).toBeDefined();
	});

	test('is refused of what is not dialled, and of what nobody could know', async () => {
		await h.engine.registerRobot({ name: 'dials' }, admin);
		await h.engine.registerRobot({ name: 'unknown', serverUrl: url }, admin);
		await h.robot('r');
		const code = (name: string) =>
			h.engine.connectRobot(name, admin).catch((error: { code: string }) => error.code);
		expect(await code('dials')).toBe('not-dialled');
		expect(await code('r')).toBe('not-dialled');
		expect(await code('unknown')).toBe('no-fingerprint');
		expect(await code('nobody')).toBe('no-such-robot');
	});

	test('may reach private networks only for those whom an admin or the file has named', async () => {
		await enrol('by-operator');
		await h.engine.registerRobot({ name: 'by-operator', serverUrl: url }, operator);
		await h.engine.registerRobot({ ...dialled, name: 'by-admin' }, admin);
		const inside = h.engine.dialling.plans().map((plan) => [plan.name, plan.inside]);
		expect(inside).toEqual([
			['by-operator', false],
			['by-admin', true],
		]);
	});

	test('goes by one key of the service, which a restart does not change', async () => {
		const { fingerprint: ours } = await h.engine.hubKey();
		await h.restart();
		expect((await h.engine.hubKey()).fingerprint).toBe(ours);
		expect((await h.engine.service()).hubFingerprint).toBe(ours);
	});
});
