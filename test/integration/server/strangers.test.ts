/** What those can do to the service who have no key: little, and not for long. */
import { connect, type Socket } from 'node:net';
import { createApp } from '../../../dispatcher/server/app';
import type { House as ServedBy } from '../../../dispatcher/server/door';
import { systemClock } from '../../../dispatcher/engine/clock';
import { limits, paths, Problem } from '../../../protocol';
import { FakeClock } from '../../support/fake-clock';
import { fakeEngine, openHouse, within } from './house';

/** Says something, hears the answer, and never hangs up by itself. */
class Clinger {
	readonly socket: Socket;
	heard = '';
	readonly #ended: Promise<void>;

	constructor(url: string, text: string) {
		const { hostname, port } = new URL(url);
		this.socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
		this.socket.on('data', (piece) => (this.heard += String(piece)));
		this.socket.on('error', () => undefined);
		this.#ended = new Promise((resolve) => this.socket.once('end', resolve));
		this.socket.write(text);
	}

	async answer(): Promise<string> {
		await within('an answer', this.#ended);
		return this.heard;
	}

	async status(): Promise<number> {
		while (!this.heard.includes('\r\n')) await systemClock.sleep(5);
		return Number(this.heard.split(' ')[1]);
	}
}

const upgrade = (path: string) =>
	`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;

const clingers: [string, string, number][] = [
	['a WebSocket where there is none', upgrade('/nowhere'), 404],
	['what is no HTTP', 'hello there\r\n\r\n', 400],
	[
		'headers without end',
		`GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
		431,
	],
];

test.each(clingers)(
	'%s is answered and hung up on, though the other side does not',
	async (_what, text, status) => {
		await using house = await openHouse();
		const clinger = new Clinger(house.server.url, text);
		expect(await clinger.answer()).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
		// Who has hung up says so to the next word.
		const asking = setInterval(() => clinger.socket.write('are you still there?'), 20);
		const gone = new Promise((resolve) => clinger.socket.once('close', resolve));
		await within('the end of the connection', gone).finally(() => clearInterval(asking));
	},
);

test('a stop waits for none of those who stay on the line', async () => {
	const clock = new FakeClock();
	const house = await openHouse({}, { robotsListen: '127.0.0.1:0', clock });
	const { url, robotsUrl } = house.server;
	const held = clingers.map(([, text]) => new Clinger(url, text));
	held.push(new Clinger(robotsUrl!, ''), new Clinger(robotsUrl!, upgrade(paths.robotLink)));
	await Promise.all(held.slice(0, clingers.length).map((one) => one.answer()));
	const stopped = house.server.close();
	await clock.advance(3_000);
	await within('the stop', stopped);
	for (const { socket } of held) socket.destroy();
});

test('a request that does not come whole in time is worth another try', async () => {
	const { engine } = fakeEngine();
	const app = createApp({
		house: { engine } as ServedBy,
		doors: {},
		hostGate: () => undefined,
	});
	await app.listen({ host: '127.0.0.1', port: 0 });
	app.server.once('connection', (socket) => {
		const late = Object.assign(new Error('late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });
		app.server.emit('clientError', late, socket);
	});
	const { port } = app.server.address() as { port: number };
	const said = await new Clinger(`http://127.0.0.1:${port}`, '').answer();
	expect(said).toMatch(/^HTTP\/1.1 408 /);
	expect(Problem.fromBody(JSON.parse(said.split('\r\n\r\n')[1]!))).toMatchObject({
		code: 'request-late',
		retry: true,
	});
	await app.close();
});

test('a call that needs no key takes a small body, and says how small', async () => {
	await using house = await openHouse({}, { robotsListen: '127.0.0.1:0' });
	const raw = JSON.stringify({ token: 'x'.repeat(limits.maxStrangerBodyBytes) });
	for (const path of [paths.robotEnrol, '/api/v1/collect']) {
		expect(await house.ask('POST', path, { key: '', raw })).toMatchObject({
			status: 413,
			body: { error: { code: 'too-large', details: { maxBytes: limits.maxStrangerBodyBytes } } },
		});
	}
	expect(house.asked).toEqual([]);
});

test('where nothing is, nothing is read', async () => {
	await using house = await openHouse();
	const head = 'Host: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 9000000';
	const clinger = new Clinger(house.server.url, `POST /nowhere HTTP/1.1\r\n${head}\r\n\r\n`);
	expect(await within('an answer', clinger.status())).toBe(404);
	clinger.socket.destroy();
});
