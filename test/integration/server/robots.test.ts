import { encodeOutput } from '../../../protocol/frames';
import { enrolProof, Problem, protocolRange } from '../../../protocol';
import type { Engine, RobotSink } from '../../../dispatcher/engine';
import { systemClock } from '../../../dispatcher/engine/clock';
import { FakeClock } from '../../support/fake-clock';
import {
	type FakeRobot,
	fakeSession,
	helloOf,
	makeRobot,
	openHouse,
	RawLink,
	signText,
	within,
} from './house';

const ref = { job_id: 'job-1', attempt: 1, epoch: 7, token: 'secret' };

function setup(more: Partial<Engine> = {}) {
	const robot: FakeRobot = makeRobot();
	const fake = fakeSession();
	let sink: RobotSink | undefined;
	const engine: Partial<Engine> = {
		robotKey: async (id) => {
			if (id !== robot.robotId) throw new Problem('bad-proof');
			return robot.publicKey;
		},
		connect: async (_hello, given) => {
			sink = given;
			return fake.session;
		},
		...more,
	};
	return { robot, fake, engine, sink: () => sink! };
}

test('a robot that proves its key is registered', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine, { heartbeatMs: 20_000 });
	await using link = new RawLink(house.server.url);
	const { payload } = await link.register(robot);
	expect(payload).toMatchObject({
		robot_id: 'robot-1',
		name: 'build-01',
		hub_id: 'hub-1',
		heartbeat_interval: 20,
		verdicts: [],
	});
	link.socket.close();
	await fake.wait('closed');
});

test('a wrong key ends with 4001, and the engine never hears of it', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	const { payload } = await link.next('connected');
	link.say('hello', helloOf(makeRobot(), payload.nonce));
	expect((await link.next('error')).payload.code).toBe('bad-proof');
	expect((await within('the close', link.closed)).code).toBe(4001);
	expect(house.asked.map(({ call }) => call)).not.toContain('connect');
});

test('a signature over another nonce proves nothing: it cannot be replayed', async () => {
	const { robot, engine } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	await link.next('connected');
	link.say('hello', helloOf(robot, 'the-nonce-of-yesterday'));
	expect((await within('the close', link.closed)).code).toBe(4001);
});

test('a second agent with the same identity is told so and closed with 4004', async () => {
	const { robot, engine } = setup({
		connect: async () => {
			throw new Problem('robot-elsewhere');
		},
	});
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	const { payload } = await link.next('connected');
	link.say('hello', helloOf(robot, payload.nonce));
	expect((await link.next('error')).payload.code).toBe('robot-elsewhere');
	expect((await within('the close', link.closed)).code).toBe(4004);
});

describe('versions of the protocol', () => {
	const { min, max } = protocolRange;

	test.each([
		['too new', { min: max + 1, max: max + 3 }, `${max + 1} to ${max + 3}`, 'update the service'],
		['too old', { min: 0, max: min - 1 }, '0', 'update the agent'],
	])(
		'an agent that is %s is told both ranges and who must be updated',
		async (_, range, said, older) => {
			const { robot, engine } = setup();
			await using house = await openHouse(engine);
			await using link = new RawLink(house.server.url);
			const { payload } = await link.next('connected');
			link.say(
				'hello',
				helloOf(robot, payload.nonce, { protocol: range.max, protocol_range: range }),
			);
			const { text } = (await link.next('error')).payload;
			expect(text).toContain(`protocol ${said}, the service ${min} to ${max}`);
			expect(text).toContain(older);
			expect((await within('the close', link.closed)).code).toBe(4005);
			expect(house.asked.map(({ call }) => call)).not.toContain('connect');
		},
	);

	test('an agent of the version before is served in its own, and says all it has to say', async () => {
		const { robot, engine, fake } = setup();
		await using house = await openHouse(engine);
		await using link = new RawLink(house.server.url);
		const { payload } = await link.next('connected');
		// As the first release says it: no range, no features of the wire.
		link.say(
			'hello',
			helloOf(robot, payload.nonce, { protocol: max - 1, features: ['kind:command'] }),
		);
		const registered = await link.next('robot_registered');
		expect(registered.payload).toMatchObject({ protocol: max - 1, features: ['kind:command'] });
		link.say('job_accepted', { ...ref, started_at: 'now' });
		await fake.wait('accepted');
		// It has not said that it knows more: a message we do not know is a mistake.
		link.say('telepathy', {});
		expect((await link.next('error')).payload.code).toBe('unknown-message');
	});

	test('of an agent that knows more than we do the rest is ignored, and the highest version both know is spoken', async () => {
		const { robot, engine, fake } = setup();
		await using house = await openHouse(engine);
		await using link = new RawLink(house.server.url);
		const { payload } = await link.next('connected');
		const hello = helloOf(robot, payload.nonce, {
			protocol: max + 2,
			protocol_range: { min: max, max: max + 2 },
			features: ['kind:command', 'kind:dreams', 'goodbye-within', 'levitation'],
		});
		link.say('hello', { ...hello, mood: 'good' });
		const registered = await link.next('robot_registered');
		expect(registered.payload).toMatchObject({
			protocol: max,
			features: ['goodbye-within', 'kind:command'],
		});
		link.say('telepathy', { of: 'things' });
		link.say('control', { action: 'levitate' });
		link.say('job_accepted', { ...ref, started_at: 'now', altitude: 3 });
		await fake.wait('accepted');
		const beat = link.say('heartbeat', {});
		// Nothing was complained about: the next word is the answer to this one.
		expect(await link.next()).toMatchObject({ type: 'heartbeat', correlation_id: beat });
	});
});

test('before it is registered a robot may say nothing but hello', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	const { payload } = await link.next('connected');
	const id = link.say('job_accepted', { ...ref, started_at: 'now' });
	expect(await link.next('error')).toMatchObject({
		correlation_id: id,
		payload: { code: 'bad-message' },
	});
	link.socket.send(
		encodeOutput({
			jobId: '0190f6c2-0000-7000-8000-000000000000',
			epoch: 7,
			stream: 'stdout',
			offset: 0,
			data: Buffer.from('x'),
		}),
	);
	expect((await link.next('error')).payload.code).toBe('bad-message');
	link.say('hello', helloOf(robot, payload.nonce));
	await link.next('robot_registered');
	expect(fake.told).toEqual([]);
});

test('whoever talks nonsense and proves nothing is not listened to for long', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	const { payload } = await link.next('connected');
	for (let i = 0; i < 8; i += 1) link.socket.send('nonsense');
	link.say('hello', helloOf(robot, payload.nonce));
	for (let i = 0; i < 8; i += 1) await link.next('error');
	expect(await within('the close', link.closed)).toEqual({ code: 1013, reason: 'bad-message' });
	expect(house.asked).toEqual([]);
	expect(fake.told).toEqual([]);
});

test('a robot may talk nonsense now and then; without end it is hung up on', async () => {
	const { robot, engine, fake } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	const nonsense = async (times: number) => {
		for (let i = 0; i < times; i += 1) link.socket.send('nonsense');
		for (let i = 0; i < times; i += 1) await link.next('error');
	};
	const heard = async () => {
		link.say('heartbeat', {});
		await link.next('heartbeat');
	};
	await nonsense(999);
	for (let half = 0; half < 2; half += 1) {
		await clock.advance(30_000);
		await heard();
	}
	await nonsense(999);
	await heard();
	link.socket.send('nonsense');
	expect(await within('the close', link.closed)).toEqual({ code: 1013, reason: 'bad-message' });
	await fake.wait('closed');
	expect(house.logged.at(-1)).toMatchObject({
		text: 'a robot that sends nonsense is disconnected',
		facts: { robotId: 'robot-1', code: 'bad-message' },
	});
});

test('whoever talks nonsense while a signature is checked is not listened to for long either', async () => {
	const { robot, engine, fake } = setup({ robotKey: () => new Promise(() => undefined) });
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	const { payload } = await link.next('connected');
	link.say('hello', helloOf(robot, payload.nonce));
	for (let i = 0; i < 8; i += 1) link.socket.send('nonsense');
	expect((await within('the close', link.closed)).code).toBe(1013);
	expect(fake.told).toEqual([]);
});

test('junk is answered and the socket stays', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	const junk: [string | Buffer, string][] = [
		['{', 'bad-message'],
		['null', 'bad-message'],
		['[]', 'bad-message'],
		['{"type":7}', 'bad-message'],
		['{"type":"dance","payload":{}}', 'unknown-message'],
		['{"type":"__proto__","payload":{}}', 'unknown-message'],
		['{"type":"job_accepted"}', 'bad-message'],
		['{"type":"job_accepted","payload":{"job_id":1}}', 'bad-message'],
		['{"type":"heartbeat","id":{},"payload":{}}', 'bad-message'],
		[Buffer.from([]), 'bad-message'],
		[Buffer.from([1, 2, 3]), 'bad-message'],
		[Buffer.alloc(300 * 1024), 'bad-message'],
		['{"type":"hello","payload":{}}', 'bad-message'],
	];
	for (const [data, code] of junk) {
		link.socket.send(data);
		expect([String(data).slice(0, 40), (await link.next('error')).payload.code]).toEqual([
			String(data).slice(0, 40),
			code,
		]);
	}
	const id = link.say('heartbeat', { cpu_percent: 3, memory_percent: 4 });
	expect(await link.next('heartbeat')).toMatchObject({ correlation_id: id });
	expect(fake.told).toEqual([['heartbeat', { cpu_percent: 3, memory_percent: 4 }]]);
});

test('what a robot says of itself is logged in short, and much of it as a number', async () => {
	const { robot, engine, fake } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	const complain = (details: object) =>
		link.say('error', { code: 'odd', text: 'oh', retry: false, details });
	const heard = async () => {
		link.say('heartbeat', {});
		await link.next('heartbeat');
	};
	const logged = () => house.logged.filter(({ text }) => text.startsWith('a robot '));
	complain({ of: 'x'.repeat(500_000) });
	for (let i = 1; i < 30; i += 1) complain({ i });
	link.say('control', { action: 'note', text: 'and more' });
	await heard();
	expect(logged()).toHaveLength(20);
	expect(JSON.stringify(logged()[0]).length).toBeLessThan(1_000);
	expect(logged()[1]!.facts).toEqual({
		robotId: 'robot-1',
		problem: { code: 'odd', text: 'oh', retry: false, details: { i: 1 } },
	});
	for (let half = 0; half < 2; half += 1) {
		await clock.advance(30_000);
		await heard();
	}
	link.say('control', { action: 'note', text: 'x'.repeat(5_000) });
	await heard();
	expect(logged()).toHaveLength(21);
	const { facts } = logged().at(-1)!;
	expect(facts).toEqual({ robotId: 'robot-1', text: 'x'.repeat(500), leftOut: 11 });
	link.socket.close();
	await fake.wait('closed');
});

test('a frame over the limit ends the connection', async () => {
	const { robot, engine } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	link.socket.send('x'.repeat(1024 * 1024 + 1));
	expect((await within('the close', link.closed)).code).toBe(1009);
});

test('messages reach the session as they are, fields of newer agents included', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	link.say('job_accepted', { ...ref, started_at: '2026-01-01T00:00:00Z', newer: true });
	expect(await fake.wait('accepted')).toMatchObject({ job_id: 'job-1', newer: true });
	link.say('job_rejected', { ...ref, reason: 'paused', message: 'not now', permanent: false });
	expect(await fake.wait('rejected')).toMatchObject({ reason: 'paused' });
	link.say('status_update', { ...ref, progress: 50 });
	expect(await fake.wait('status')).toMatchObject({ progress: 50 });
	const result = {
		exit_code: 0,
		signal: null,
		stdout: '',
		stderr: '',
		truncated: false,
		outputs: {},
		duration_ms: 3,
		error: null,
		process_gone: true,
	};
	link.say('job_result', {
		...ref,
		state: 'completed',
		cause: null,
		result,
		output: { stdout: 0, stderr: 0 },
	});
	expect(await fake.wait('result')).toMatchObject({ state: 'completed' });
	link.socket.send(
		encodeOutput({
			jobId: '0190f6c2-0000-7000-8000-000000000000',
			epoch: 7,
			stream: 'stderr',
			offset: 5,
			data: Buffer.from('hi'),
		}),
	);
	expect(await fake.wait('output')).toMatchObject({ offset: 5, stream: 'stderr' });
	link.say('control', { action: 'goodbye' });
	await fake.wait('takesNoMore');
	link.say('control', { action: 'ping' });
	expect((await link.next('control')).payload).toEqual({ action: 'pong' });
});

test('an order has an id, and what the robot says to it names that id', async () => {
	const { robot, engine, fake, sink } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	const id = sink().control({ action: 'ping' });
	expect(await link.next('control')).toMatchObject({ id, payload: { action: 'ping' } });
	link.say('control', { action: 'pong' }, id);
	expect(await fake.wait('pong')).toBe(id);
	link.say('facts', { capabilities: ['tool:git'], info: { cpus: 2 } }, id);
	expect(await fake.wait('facts')).toMatchObject({ capabilities: ['tool:git'] });
	link.say('facts', { capabilities: 'all' });
	expect((await link.next('error')).payload.code).toBe('bad-message');
});

test('what the engine says before registration is over comes after robot_registered', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse({
		...engine,
		connect: async (_hello, sink) => {
			sink.assign({
				...ref,
				kind: 'command',
				spec: {},
				variables: {},
				timeouts: { grace_ms: 1 },
				on_disconnect: 'continue',
			});
			sink.cancel({ ...ref, reason: 'cancelled', grace_ms: 100 });
			return fake.session;
		},
	});
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	expect((await link.next('job_assignment')).payload).toMatchObject(ref);
	expect((await link.next('cancel_job')).payload).toEqual({
		...ref,
		reason: 'cancelled',
		grace_ms: 100,
	});
});

test('ids of messages never repeat and the engine can end a connection', async () => {
	const { robot, engine, sink } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	const first = await link.register(robot);
	sink().resultAck({
		job_id: 'job-1',
		epoch: 7,
		output: { stdout: 0, stderr: 0 },
		complete: true,
	});
	sink().outputAck({ job_id: 'job-1', epoch: 7, stream: 'stdout', have: 3 });
	sink().revoke({ job_id: 'job-1', attempt: 1, epoch: 7, token: 't' });
	const heard = [
		first,
		await link.next('result_ack'),
		await link.next('output_ack'),
		await link.next('revoke'),
	];
	expect(new Set(heard.map(({ id }) => id)).size).toBe(4);
	sink().close(4001, 'this robot was removed');
	expect(await within('the close', link.closed)).toEqual({
		code: 4001,
		reason: 'this robot was removed',
	});
});

test('a robot that falls silent is let go, one that still answers pings is kept', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine, { heartbeatMs: 40 });
	await using quiet = new RawLink(house.server.url);
	await quiet.register(robot);
	// `ws` answers pings by itself; a half-open robot does not.
	(
		quiet.socket as unknown as { _receiver: { removeAllListeners(event: string): void } }
	)._receiver.removeAllListeners('ping');
	expect((await within('the close', quiet.closed)).code).toBe(1006);
	await fake.wait('closed');
	await using polite = new RawLink(house.server.url);
	await polite.register(robot);
	for (let pings = 0; pings < 5; pings++) {
		await within('a ping', new Promise((resolve) => polite.socket.once('ping', resolve)));
	}
	expect(polite.socket.readyState).toBe(polite.socket.OPEN);
});

test('a silent robot is let go when three heartbeats are over: no later, and hardly earlier', async () => {
	const { robot, engine, fake } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	await using quiet = new RawLink(house.server.url);
	await quiet.register(robot);
	// It hears nothing any more, so it answers no ping either.
	quiet.socket.pause();
	await clock.advance(43_900);
	expect(fake.told).toEqual([]);
	await clock.advance(1_100);
	await fake.wait('closed');
});

test('a robot that says more than the engine takes up is not read for a while, is not silent for that, and loses no word', async () => {
	const { robot, engine, fake } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	const portions: (() => void)[] = [];
	const full = new Promise<void>((resolve) => {
		fake.session.takenUp = () =>
			new Promise((takeUp) => {
				if (portions.push(takeUp) === 4) resolve();
			});
	});
	const pinged = new Promise((resolve) => link.socket.once('ping', resolve));
	const said = 5_000;
	for (let n = 0; n < said; n += 1) link.say('status_update', { ...ref, progress: n % 100 });
	await within('four portions that wait', full);
	await clock.advance(60_000);
	await within('a ping', pinged);
	// Four portions, and what had arrived by then.
	expect(fake.told.length).toBeLessThan(said / 2);
	expect(link.socket.readyState).toBe(link.socket.OPEN);
	fake.session.takenUp = async () => undefined;
	for (const takeUp of portions) takeUp();
	link.say('job_accepted', { ...ref, started_at: 'now' });
	await fake.wait('accepted');
	expect(fake.told).toHaveLength(said + 1);
	expect(fake.told[said - 1]).toMatchObject(['status', { progress: 99 }]);
	link.socket.close();
	await fake.wait('closed');
});

test('a service that stood still for a minute lets no robot go for it: what they said is still to be read', async () => {
	const { robot, engine } = setup();
	let stoodStillMs = 0;
	const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + stoodStillMs };
	await using house = await openHouse(engine, { heartbeatMs: 200, clock });
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	stoodStillMs = 60_000;
	for (let pings = 0; pings < 3; pings++) {
		await within('a ping', new Promise((resolve) => link.socket.once('ping', resolve)));
	}
	expect(link.socket.readyState).toBe(link.socket.OPEN);
});

test('a browser cannot open a link', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url, { origin: 'https://evil.com' });
	expect((await within('the close', link.closed)).code).toBe(1006);
	expect((await house.ask('GET', '/api/v1/robots/link', { key: '' })).body.error.text).toContain(
		'this is a WebSocket',
	);
});

test('strangers get 256 seats; the next one waits in line until one of them is free', async () => {
	const { robot, engine } = setup();
	// A seat is given back after ten seconds, which do not go by here.
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	const links = Array.from({ length: 256 }, () => new RawLink(house.server.url));
	await Promise.all(links.map((link) => link.next('connected')));
	await using late = new RawLink(house.server.url);
	const greeted = late.next('connected');
	const first = await Promise.race([greeted.then(() => 'late'), fullHouseAnswers(house)]);
	expect(first).toBe('the house');
	links.pop()!.socket.terminate();
	const { payload } = await within('the seat', greeted);
	late.say('hello', helloOf(robot, payload.nonce));
	await late.next('robot_registered');
	await Promise.all(links.map((link) => (link.socket.terminate(), link.closed)));
	const stopped = house.server.close();
	await clock.advance(2_000);
	await stopped;
});

/** Something that comes after the late one's knock, and goes through the same event loop. */
async function fullHouseAnswers(house: { server: { url: string } }): Promise<string> {
	for (let i = 0; i < 20; i += 1) await (await fetch(`${house.server.url}/healthz`)).text();
	return 'the house';
}

test('who waits in line when the service stops is told to come back', async () => {
	const { engine } = setup();
	const house = await openHouse(engine);
	const links = Array.from({ length: 256 }, () => new RawLink(house.server.url));
	await Promise.all(links.map((link) => link.next('connected')));
	await using late = new RawLink(house.server.url);
	const refused = new Promise((resolve) =>
		late.socket.once('unexpected-response', (request, { statusCode, headers }) => {
			resolve({ statusCode, retryAfter: headers['retry-after'] });
			request.destroy();
		}),
	);
	await fullHouseAnswers(house);
	await house[Symbol.asyncDispose]();
	expect(await within('the refusal', refused)).toEqual({ statusCode: 429, retryAfter: '10' });
	await Promise.all(links.map((link) => (link.socket.terminate(), link.closed)));
});

test('stopping says goodbye with 1001', async () => {
	const { robot, engine } = setup();
	await using house = await openHouse(engine);
	await using link = new RawLink(house.server.url);
	await link.register(robot);
	await house.server.close();
	expect((await within('the close', link.closed)).code).toBe(1001);
});

describe('enrollment', () => {
	const robot = makeRobot();
	const body = {
		token: 'rf1.a.b.-',
		publicKey: robot.publicKey,
		signature: signText(robot.privateKey, enrolProof('rf1.a.b.-', robot.publicKey)),
		name: 'build-01',
	};

	test('a robot that proves the key it registers is handed to the engine', async () => {
		await using house = await openHouse({
			enrol: async () => ({ robotId: 'r1', name: 'build-01', hubId: 'hub-1' }),
		});
		const answer = await house.ask('POST', '/api/v1/robots/enrol', { key: '', body });
		expect(answer).toMatchObject({ status: 200, body: { robotId: 'r1' } });
		expect(house.asked[0]).toEqual({
			call: 'enrol',
			args: ['rf1.a.b.-', robot.publicKey, 'build-01'],
		});
	});
	test('a proof for another token or key is refused before the token is touched', async () => {
		await using house = await openHouse();
		for (const wrong of [
			{ token: 'rf1.a.c.-' },
			{ publicKey: makeRobot().publicKey },
			{ publicKey: 'A'.repeat(60) },
		]) {
			const { status, body: said } = await house.ask('POST', '/api/v1/robots/enrol', {
				key: '',
				body: { ...body, ...wrong },
			});
			expect({ status, code: said.error.code }).toEqual({ status: 401, code: 'bad-proof' });
		}
		expect(house.asked).toEqual([]);
	});
});

describe('the door for robots only', () => {
	test('it serves enrollment and the link, and nothing else', async () => {
		const { robot, engine } = setup();
		await using house = await openHouse(engine, { robotsListen: '127.0.0.1:0' });
		const url = house.server.robotsUrl!;
		for (const path of [
			'/healthz',
			'/api/v1/jobs',
			'/api/v1/me',
			'/api/v1/openapi.json',
			'/server/command/execute',
			'/readyz',
		]) {
			expect([
				path,
				(await fetch(url + path, { headers: { authorization: 'Bearer admin' } })).status,
			]).toEqual([path, 404]);
		}
		await using link = new RawLink(url);
		await link.register(robot);
	});
	test('on another address it goes without TLS only for who says --insecure', async () => {
		await using house = await openHouse({}, { robotsListen: '0.0.0.0:0', insecure: true });
		expect(house.server.robotsUrl).toMatch(/^http:/);
	});
});
