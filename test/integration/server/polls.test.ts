/** The robots' door for those that no WebSocket reaches, over real requests. */
import { randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import { systemClock as agentClock } from '../../../agent/clock';
import { dial } from '../../../agent/dial';
import type { Engine, RobotSink } from '../../../dispatcher/engine';
import { PolledSocket } from '../../../dispatcher/server/poll-lines';
import { paths } from '../../../protocol';
import { decodePoll, encodePoll, type PollBody } from '../../../protocol/poll';
import { FakeClock, settled } from '../../support/fake-clock';
import { fakeSession, type House, helloOf, makeRobot, openHouse, RawLink, within } from './house';

const quiet = () => undefined;
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

function setup() {
	const robot = makeRobot();
	const fake = fakeSession();
	const sinks: RobotSink[] = [];
	const engine: Partial<Engine> = {
		robotKey: async () => robot.publicKey,
		connect: async (_hello, sink) => {
			sinks.push(sink);
			return fake.session;
		},
	};
	return { robot, fake, engine, sinks };
}

const polled = (url: string) =>
	new RawLink(url, {}, dial('poll', { server: url, clock: agentClock, log }).socket);

const someName = () => randomBytes(32).toString('base64url');
const bodyOf = (more: Partial<PollBody> = {}) =>
	encodePoll({
		opens: false,
		ends: false,
		waitMs: 0,
		from: 0,
		have: 0,
		data: Buffer.alloc(0),
		...more,
	});
const handshake = Buffer.from(
	[
		`GET ${paths.robotLink} HTTP/1.1`,
		'Host: 127.0.0.1',
		'Connection: Upgrade',
		'Upgrade: websocket',
		'Sec-WebSocket-Version: 13',
		'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
		'',
		'',
	].join('\r\n'),
);
const opening = bodyOf({ opens: true, waitMs: 10_000, data: handshake });

/** One request of a line, as it goes over the wire. */
async function poll(house: House, name: string, body: Buffer, more: RequestInit = {}) {
	const answer = await fetch(house.server.url + paths.robotPoll, {
		method: 'POST',
		headers: { authorization: `Bearer ${name}`, 'content-type': 'application/octet-stream' },
		body: new Uint8Array(body),
		...more,
	});
	const bytes = Buffer.from(await answer.arrayBuffer());
	const said = answer.status === 200 ? decodePoll(bytes) : undefined;
	const code = said ? undefined : JSON.parse(bytes.toString()).error?.code;
	return { status: answer.status, said, code };
}

test('a robot that polls says and hears what it would on a socket, close codes included', async () => {
	const { robot, engine, fake, sinks } = setup();
	await using house = await openHouse(engine);
	await using link = polled(house.server.url);
	await link.register(robot);
	const [sink] = sinks;
	expect(sink!.transport).toBe('poll');
	link.say('job_accepted', {
		job_id: 'job-1',
		attempt: 1,
		epoch: 7,
		token: 't',
		started_at: 'now',
	});
	await fake.wait('accepted');
	for (let have = 0; have < 200; have += 1) {
		sink!.outputAck({ job_id: 'job-1', epoch: 7, stream: 'stdout', have });
	}
	for (let have = 0; have < 200; have += 1) {
		expect((await link.next('output_ack')).payload.have).toBe(have);
	}
	sink!.close(4001, 'this robot was removed');
	expect(await within('the close', link.closed)).toEqual({
		code: 4001,
		reason: 'this robot was removed',
	});
	await fake.wait('closed');
});

test('the agent ends its line with a code of its own, and the session is over at once', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = polled(house.server.url);
	await link.register(robot);
	link.socket.close(1001, 'the agent is stopping');
	await fake.wait('closed');
	expect((await within('the close', link.closed)).code).toBe(1001);
});

test('a robot that is silent for three heartbeats is let go, one that answers pings is kept', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine, { heartbeatMs: 200 });
	await using link = polled(house.server.url);
	await link.register(robot);
	for (let pings = 0; pings < 5; pings += 1) {
		await within('a ping', new Promise((resolve) => link.socket.once('ping', resolve)));
	}
	expect(fake.told).toEqual([]);
	// It hears nothing any more, so it answers no ping either.
	link.socket.pause();
	await fake.wait('closed');
});

test('a robot that polls and says more than the engine takes up is not read for a while, and loses no word', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = polled(house.server.url);
	await link.register(robot);
	const portions: (() => void)[] = [];
	const full = new Promise<void>((resolve) => {
		fake.session.takenUp = () =>
			new Promise((takeUp) => {
				if (portions.push(takeUp) === 4) resolve();
			});
	});
	const ref = { job_id: 'job-1', attempt: 1, epoch: 7, token: 't' };
	const said = 10_000;
	for (let n = 0; n < said; n += 1) link.say('status_update', { ...ref, progress: n % 100 });
	await within('four portions that wait', full);
	await answersAll(house);
	expect(fake.told.length).toBeLessThan(said / 2);
	fake.session.takenUp = async () => undefined;
	for (const takeUp of portions) takeUp();
	link.say('job_accepted', { ...ref, started_at: 'now' });
	await fake.wait('accepted');
	expect(fake.told).toHaveLength(said + 1);
});

test('stopping says goodbye with 1001, and does not wait for requests that wait', async () => {
	const { robot, engine } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	await using link = polled(house.server.url);
	await link.register(robot);
	const stopped = house.server.close();
	expect((await within('the close', link.closed)).code).toBe(1001);
	await clock.advance(1_500);
	await within('the end of the service', stopped);
});

test('a wrong key ends with 4001', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	await using link = polled(house.server.url);
	const { payload } = await link.next('connected');
	link.say('hello', helloOf(makeRobot(), payload.nonce));
	expect((await link.next('error')).payload.code).toBe('bad-proof');
	expect((await within('the close', link.closed)).code).toBe(4001);
});

test('a line that nobody knows is over, and only who opens one may bring a handshake, and no more', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	const much = Buffer.alloc(100_000);
	expect(await poll(house, someName(), bodyOf())).toMatchObject({
		status: 410,
		code: 'no-such-line',
	});
	expect(await poll(house, someName(), bodyOf({ opens: true, data: much }))).toMatchObject({
		status: 410,
	});
	expect(await poll(house, someName(), Buffer.from('<html>'))).toMatchObject({
		code: 'bad-message',
	});
	for (const name of ['', 'short', `${someName()}x`]) {
		expect(await poll(house, name, opening)).toMatchObject({ status: 400, code: 'bad-message' });
	}
	const json = { 'content-type': 'application/json', authorization: `Bearer ${someName()}` };
	expect(await poll(house, '', Buffer.from('{}'), { headers: json })).toMatchObject({
		status: 400,
	});
	// Whoever tries another request on a line has no answer but its end.
	const other = bodyOf({
		opens: true,
		waitMs: 10_000,
		data: Buffer.from('GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'),
	});
	expect(await poll(house, someName(), other)).toMatchObject({ status: 410 });
	const page = { headers: { ...json, origin: 'https://evil.com' } };
	expect(await poll(house, '', opening, page)).toMatchObject({ status: 403 });
});

test('a request that opens and comes twice opens one line; what was answered is answered again until it is acknowledged', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	const name = someName();
	const first = await poll(house, name, opening);
	const again = await poll(house, name, opening);
	const text = first.said!.data.toString('latin1');
	expect(text).toMatch(/^HTTP\/1\.1 101 /);
	expect(again.said!.data.toString('latin1').startsWith(text)).toBe(true);
	expect([first.said!.have, again.said!.have]).toEqual([handshake.length, handshake.length]);
	// An acknowledgement of what was never said: it means another line.
	expect(await poll(house, name, bodyOf({ have: 1_000_000 }))).toMatchObject({ status: 410 });
});

/** Opens a line, and hears all that a stranger is told; gives its length. */
async function greeted(house: House, name: string): Promise<number> {
	let heard = Buffer.alloc(0);
	let body = opening;
	while (!heard.includes('"type":"connected"')) {
		const { said } = await poll(house, name, body);
		heard = Buffer.concat([heard, said!.data]);
		body = bodyOf({ have: heard.length, from: handshake.length, waitMs: 25_000 });
	}
	return heard.length;
}

/** Something that comes after all that was sent before, through the same event loop. */
async function answersAll(house: House): Promise<void> {
	for (let i = 0; i < 20; i += 1) await (await fetch(`${house.server.url}/healthz`)).text();
}

test('a newer request that waits takes the place of an older one', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	const name = someName();
	const have = await greeted(house, name);
	const waiting = bodyOf({ have, from: handshake.length, waitMs: 25_000 });
	const older = poll(house, name, waiting);
	await answersAll(house);
	const broken = new AbortController();
	const newer = poll(house, name, waiting, { signal: broken.signal }).catch(() => 'broken');
	expect((await within('the older one', older)).said!.data).toHaveLength(0);
	broken.abort();
	expect(await newer).toBe('broken');
});

test('how long robots let us wait says nothing about how fast we answer', async () => {
	await using house = await openHouse({ ...setup().engine, families: async () => [] });
	const name = someName();
	const have = await greeted(house, name);
	const asking = bodyOf({ have, from: handshake.length, waitMs: 50 });
	expect(await poll(house, name, asking)).toMatchObject({ status: 200 });
	const { body } = await house.ask('GET', '/metrics', { key: 'read' });
	expect(body).toContain('robot_fleet_http_request_seconds_count 0\n');
});

test('a robot whose waiting request breaks off has two seconds to ask again; then it is gone', async () => {
	const { engine } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	const name = someName();
	const have = await greeted(house, name);
	const asking = bodyOf({ have, from: handshake.length, waitMs: 25_000 });
	const breaksOff = async () => {
		const broken = new AbortController();
		const waiting = poll(house, name, asking, { signal: broken.signal }).catch(() => 'broken');
		await answersAll(house);
		broken.abort();
		expect(await waiting).toBe('broken');
		await answersAll(house);
	};
	const word = bodyOf({ have, from: handshake.length });
	for (let times = 0; times < 3; times += 1) {
		await breaksOff();
		await clock.advance(1_500);
		expect((await poll(house, name, word)).status).toBe(200);
	}
	await breaksOff();
	await clock.advance(4_100);
	expect((await poll(house, name, word)).status).toBe(410);
});

test.each([
	['says nothing of the robot when it is closed behind the answer', true, 'behind', false],
	['tells that the robot is gone when it breaks before', true, 'before', true],
	['that is kept open tells so whenever it breaks', false, 'behind', true],
] as const)('a connection for one request alone %s', async (_what, once, when, lost) => {
	const clock = new FakeClock();
	const line = new PolledSocket(clock, '127.0.0.1');
	const wire = new Socket();
	const breaks = async () => {
		const closed = new Promise((resolve) => wire.once('close', resolve));
		wire.destroy();
		await within('the close', closed);
	};
	const waiting = line.exchange(decodePoll(bodyOf({ waitMs: 1_000 }))!, wire, once);
	await settled();
	if (when === 'before') await breaks();
	await clock.advance(1_000);
	expect(await within('the answer', waiting)).toBeDefined();
	if (when === 'behind') await breaks();
	expect(wire.listenerCount('close')).toBe(once ? 0 : 1);
	await clock.advance(10_000);
	expect(line.isLost(clock.monotonic())).toBe(lost);
	line.destroy();
});

test('nobody is taken for gone because the service itself did not run for a while', async () => {
	const { engine } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	const name = someName();
	const have = await greeted(house, name);
	const broken = new AbortController();
	const asking = bodyOf({ have, from: handshake.length, waitMs: 25_000 });
	const waiting = poll(house, name, asking, { signal: broken.signal }).catch(() => 'broken');
	await answersAll(house);
	broken.abort();
	expect(await waiting).toBe('broken');
	await answersAll(house);
	await clock.pause(5_000);
	const word = bodyOf({ have, from: handshake.length });
	expect((await poll(house, name, word)).status).toBe(200);
	await clock.advance(1_500);
	expect((await poll(house, name, word)).status).toBe(200);
	// It proves nothing, so its seat has an end.
	await clock.advance(5_000);
	expect((await poll(house, name, word)).status).toBe(410);
});

test('who opens a line brings a whole handshake, or has none: nothing waits outside of the seats', async () => {
	const { engine } = setup();
	await using house = await openHouse(engine);
	const opens = (data: Buffer | string) =>
		poll(house, someName(), bodyOf({ opens: true, waitMs: 10_000, data: Buffer.from(data) }));
	for (const data of ['', '\r\n\r\n', 'GET / HTTP/1.1\r\n', handshake.subarray(0, -2)]) {
		expect(await opens(data)).toMatchObject({ status: 400, code: 'bad-message' });
	}
	const long = `GET / HTTP/1.1\r\nX: ${'x'.repeat(8_192)}\r\n\r\n`;
	expect((await opens(long)).status).toBe(410);
	// What is no handshake has no line, whatever it is answered.
	const name = someName();
	const data = Buffer.from('GET / HTTP/1.1\r\nA: b\r\n\r\n');
	await poll(house, name, bodyOf({ opens: true, waitMs: 10_000, data }));
	expect(await poll(house, name, bodyOf())).toMatchObject({ status: 410 });
	expect((await poll(house, someName(), opening)).status).toBe(200);
});

test('what a line brings is taken when it is read; a newer request takes the place of one that waits for that', async () => {
	const line = new PolledSocket(new FakeClock(), '127.0.0.1');
	const wire = new Socket();
	const data = Buffer.alloc(200_000);
	const bring = async (from: number) =>
		decodePoll((await line.exchange({ ...decodePoll(bodyOf({ from, data }))! }, wire))!)!.have;
	expect(await bring(0)).toBe(data.length);
	const older = bring(data.length);
	const newer = bring(data.length);
	expect(await within('the older one', older)).toBe(data.length);
	expect(line.readableLength).toBe(data.length);
	line.resume();
	expect(await within('the newer one', newer)).toBe(2 * data.length);
	line.destroy();
});

test('a robot that is killed is known to be gone soon, without any clock', async () => {
	const { robot, engine, fake } = setup();
	await using house = await openHouse(engine);
	await using link = polled(house.server.url);
	await link.register(robot);
	link.socket.terminate();
	await fake.wait('closed');
});

test('strangers who poll hold seats as all others do, and lose them when they prove nothing', async () => {
	const { engine } = setup();
	const clock = new FakeClock();
	await using house = await openHouse(engine, { clock });
	const names = Array.from({ length: 257 }, someName);
	const seated = await Promise.all(
		names.slice(0, 256).map(async (name) => (await poll(house, name, opening)).status),
	);
	expect(new Set(seated)).toEqual(new Set([200]));
	const late = poll(house, names[256]!, opening);
	await answersAll(house);
	await clock.advance(9_500);
	// Its time in line is over; it is told so in the answer to its handshake.
	expect((await within('an answer', late)).said!.data.toString('latin1')).toMatch(
		/^HTTP\/1\.1 429 /,
	);
	await clock.advance(5_000);
	for (const name of names) {
		expect((await poll(house, name, bodyOf({ from: handshake.length }))).status).toBe(410);
	}
});
