import { once } from 'node:events';
import { WebSocket } from 'ws';
import { LiveText, type Viewer } from '../../../dispatcher/engine/feed';
import { liveCloseCodes, liveLimits, type LiveMessage } from '../../../protocol';
import { FakeClock } from '../../support/fake-clock';
import { type House, openHouse, type Said, within } from './house';

let house: House;
const sockets: WebSocket[] = [];
afterEach(async () => {
	for (const socket of sockets.splice(0)) socket.terminate();
	await house.server.close();
});

/** The engine's feed, played: viewers are told what the test says. */
function played() {
	const viewers: { channel: string; since: number | undefined; viewer: Viewer; left: boolean }[] =
		[];
	return {
		viewers,
		look: async (channel: string, since: number | undefined, viewer: Viewer) => {
			const one = { channel, since, viewer, left: false };
			viewers.push(one);
			viewer.take([textOf('snapshot', 1, { items: [], more: false })]);
			return () => void (one.left = true);
		},
	};
}

const textOf = (event: string, seq: number, data: object) =>
	new LiveText({ channel: 'jobs:default', event, seq, data } as LiveMessage);

function open(headers: Record<string, string> = {}) {
	const url = `${house.server.url.replace('http', 'ws')}/api/v1/live`;
	const socket = new WebSocket(url, { headers });
	sockets.push(socket);
	socket.on('error', () => undefined);
	const heard: Said[] = [];
	let wake = () => {};
	socket.on('message', (data) => {
		heard.push(JSON.parse(String(data)));
		wake();
	});
	const next = async (): Promise<Said> => {
		while (heard.length === 0) await new Promise<void>((resolve) => (wake = resolve));
		return heard.shift();
	};
	const closed = new Promise<number>((resolve) => socket.on('close', (code) => resolve(code)));
	return {
		socket,
		heard,
		say: (message: object) => socket.send(JSON.stringify(message)),
		next: () => within('a live message', next()),
		closed: () => within('the live socket to close', closed),
		refused: () =>
			within(
				'the handshake to be refused',
				once(socket, 'unexpected-response').then(([, response]) => response.statusCode),
			),
	};
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const subscribe = { type: 'subscribe', channel: 'jobs:default' };

test('a key in the header, then snapshot and events, until it unsubscribes', async () => {
	const feed = played();
	house = await openHouse({ look: feed.look });
	const live = open(bearer('read'));
	expect(await live.next()).toEqual({ type: 'ready' });
	live.say({ ...subscribe, since: 5 });
	expect(await live.next()).toMatchObject({ channel: 'jobs:default', event: 'snapshot', seq: 1 });
	const [one] = feed.viewers;
	expect(one).toMatchObject({ channel: 'jobs:default', since: 5 });
	one!.viewer.take([textOf('job.moved', 6, { jobId: 'j', state: 'running' })]);
	expect(await live.next()).toEqual({
		channel: 'jobs:default',
		event: 'job.moved',
		seq: 6,
		data: { jobId: 'j', state: 'running' },
	});
	live.say({ type: 'unsubscribe', channel: 'jobs:default' });
	expect(await live.next()).toEqual({ type: 'unsubscribed', channel: 'jobs:default' });
	expect(one!.left).toBe(true);
	live.say({ type: 'ping' });
	expect(await live.next()).toEqual({ type: 'pong' });
});

test('a browser shows its key in the first message; before it nothing is told', async () => {
	house = await openHouse({ look: played().look });
	const live = open();
	await once(live.socket, 'open');
	live.say({ type: 'auth', key: 'read' });
	expect(await live.next()).toEqual({ type: 'ready' });
	live.say(subscribe);
	expect(await live.next()).toMatchObject({ event: 'snapshot' });
	const mute = open();
	await once(mute.socket, 'open');
	mute.say(subscribe);
	expect(await mute.next()).toMatchObject({ type: 'error', error: { code: 'no-key' } });
	expect(await mute.closed()).toBe(liveCloseCodes.badKey);
	const noisy = open();
	await once(noisy.socket, 'open');
	noisy.socket.send('not JSON');
	expect(await noisy.next()).toMatchObject({ type: 'error', error: { code: 'bad-message' } });
	expect(await noisy.closed()).toBe(liveCloseCodes.badKey);
});

test('a wrong key, one without the scope, a foreign page and a foreign name are turned away', async () => {
	house = await openHouse({ look: played().look });
	expect(await open(bearer('bad')).refused()).toBe(401);
	expect(await open(bearer('submit')).refused()).toBe(403);
	expect(await open({ ...bearer('read'), origin: 'https://elsewhere.example' }).refused()).toBe(
		403,
	);
	expect(await open({ ...bearer('read'), host: 'rebound.example' }).refused()).toBe(403);
	const late = open();
	await once(late.socket, 'open');
	late.say({ type: 'auth', key: 'bad' });
	expect(await late.next()).toMatchObject({ type: 'error', error: { code: 'bad-key' } });
	expect(await late.closed()).toBe(liveCloseCodes.badKey);
});

test('a key that is revoked ends its live sockets at once, and no others', async () => {
	const feed = played();
	house = await openHouse({ look: feed.look, revokeKey: async () => undefined });
	const [mine, other] = [open(bearer('read')), open(bearer('admin'))];
	await mine.next();
	await other.next();
	mine.say(subscribe);
	await mine.next();
	expect((await house.ask('DELETE', '/api/v1/keys/read')).status).toBe(204);
	expect(await mine.closed()).toBe(liveCloseCodes.badKey);
	other.say({ type: 'ping' });
	expect(await other.next()).toEqual({ type: 'pong' });
});

test('a viewer that does not read is cut off, and others hear everything', async () => {
	const feed = played();
	house = await openHouse({ look: feed.look, families: async () => [] });
	const [slow, quick] = [open(bearer('read')), open(bearer('read'))];
	for (const live of [slow, quick]) {
		await live.next();
		live.say(subscribe);
		await live.next();
	}
	slow.socket.pause();
	const long = textOf('job.progress', 2, { jobId: 'j', message: 'x'.repeat(100_000) });
	let told = 0;
	while (!feed.viewers[0]!.left && told < 1_000) {
		for (const { viewer, left } of feed.viewers) if (!left) viewer.take([long]);
		told += 1;
		await quick.next();
	}
	expect([feed.viewers[0]!.left, feed.viewers[1]!.left]).toEqual([true, false]);
	const { body } = await house.ask('GET', '/metrics');
	expect(body).toContain('robot_fleet_live_viewers_cut_total 1\n');
	expect(body).toContain('robot_fleet_live_viewers 1\n');
});

test('a viewer that was cut off is told why, and that it may come back', async () => {
	const feed = played();
	// It has two seconds to hear it, which do not go by here.
	house = await openHouse({ look: feed.look }, { clock: new FakeClock() });
	const live = open(bearer('read'));
	await live.next();
	live.say(subscribe);
	await live.next();
	live.socket.pause();
	const long = textOf('job.progress', 2, { jobId: 'j', message: 'x'.repeat(100_000) });
	for (let told = 0; !feed.viewers[0]!.left && told < 1_000; told += 1) {
		feed.viewers[0]!.viewer.take([long]);
	}
	expect(feed.viewers[0]!.left).toBe(true);
	live.socket.resume();
	expect(await live.closed()).toBe(liveCloseCodes.tooSlow);
});

test('a snapshot larger than may be unread arrives whole over a slow line', async () => {
	const piece = (seq: number) =>
		new LiveText({
			channel: 'jobs:default',
			event: 'snapshot',
			seq,
			data: { items: ['x'.repeat(1_000_000)] as never, more: seq < 30 },
		});
	house = await openHouse({
		look: async (_channel, _since, viewer) => {
			for (let seq = 1; seq <= 30; seq += 1) {
				viewer.take([piece(seq)]);
				if (!(await viewer.ready())) break;
			}
			return () => undefined;
		},
	});
	const live = open(bearer('read'));
	await live.next();
	live.say(subscribe);
	live.socket.pause();
	await house.ask('GET', '/healthz');
	live.socket.resume();
	for (let seq = 1; seq <= 30; seq += 1) {
		// As somebody who is busy with each piece.
		live.socket.pause();
		await house.ask('GET', '/healthz');
		live.socket.resume();
		expect((await live.next()).seq).toBe(seq);
	}
});

test('what is asked over the live socket counts like calls, and so do keys that are wrong', async () => {
	const feed = played();
	const rates = { perKey: 4, perAddress: 2, spareLoopback: false };
	house = await openHouse({ look: feed.look }, { rates });
	const live = open(bearer('read'));
	await live.next();
	for (const channel of ['progress:a', 'progress:b', 'progress:c']) {
		live.say({ type: 'subscribe', channel });
		expect(await live.next()).toMatchObject({ event: 'snapshot' });
	}
	live.say({ type: 'subscribe', channel: 'progress:d' });
	expect(await live.next()).toMatchObject({
		type: 'error',
		channel: 'progress:d',
		error: { code: 'rate-limited' },
	});
	expect(feed.viewers).toHaveLength(3);
	live.socket.send('not JSON');
	expect(await live.next()).toMatchObject({ error: { code: 'rate-limited' } });
	expect(await open(bearer('read')).refused()).toBe(429);
	expect((await house.ask('GET', '/api/v1/me', { key: 'read' })).status).toBe(429);
	expect(await open(bearer('bad')).refused()).toBe(401);
	const wrong = open();
	await once(wrong.socket, 'open');
	wrong.say({ type: 'auth', key: 'bad' });
	expect(await wrong.next()).toMatchObject({ error: { code: 'bad-key' } });
	expect(await open(bearer('bad')).refused()).toBe(429);
	expect((await house.ask('GET', '/api/v1/me', { key: 'bad' })).status).toBe(429);
});

test('one key cannot take the live sockets of all others', async () => {
	house = await openHouse({ look: played().look });
	for (let n = 0; n < liveLimits.viewersOfKey; n += 1) await open(bearer('read')).next();
	expect(await open(bearer('read')).refused()).toBe(429);
	const byMessage = open();
	await once(byMessage.socket, 'open');
	byMessage.say({ type: 'auth', key: 'read' });
	const { error } = await byMessage.next();
	expect(error).toMatchObject({ code: 'too-many', retry: true });
	expect(error.text).toContain('live sockets of the key "read"');
	expect(await byMessage.closed()).toBe(liveCloseCodes.tooMany);
	expect(await open(bearer('admin')).next()).toEqual({ type: 'ready' });
});

test('what makes no sense is refused in words, and the socket stays', async () => {
	house = await openHouse({ look: played().look });
	const live = open(bearer('read'));
	await live.next();
	live.socket.send('not JSON');
	expect(await live.next()).toMatchObject({ type: 'error', error: { code: 'bad-message' } });
	live.say({ type: 'shout' });
	expect(await live.next()).toMatchObject({ type: 'error' });
	live.say({ type: 'ping' });
	expect(await live.next()).toEqual({ type: 'pong' });
	expect((await house.ask('GET', '/api/v1/live')).status).toBe(400);
});

test('who looks on leaves when the service stops', async () => {
	house = await openHouse({ look: played().look });
	const live = open(bearer('read'));
	await live.next();
	await house.server.close();
	expect(await live.closed()).toBe(liveCloseCodes.stopping);
});
