/** What the hook does with n8n's own listener; n8n's server is a real one, the service behind it is played. */
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Front, Host, Owner } from '../../../nodes/shared/embedded';
import { ready, stop } from '../../../nodes/shared/hook';

const codeKey = Symbol.for('robot-fleet.code.v1');
const ownerKey = Symbol.for('robot-fleet.host.v1');
interface Place {
	[codeKey]?: { version: string; owner(): Owner };
	[ownerKey]?: Owner;
}
const place = globalThis as Place;
const { argv } = process;
let before: Place[typeof codeKey];

beforeEach(() => {
	before = place[codeKey];
	process.argv = ['node', 'n8n'];
});
afterEach(() => {
	place[codeKey] = before;
	delete place[ownerKey];
	process.argv = argv;
});

/** n8n, with all it answers, and an owner whose service says what it was handed. */
async function setup() {
	const n8n = createServer((request, answer) => answer.end(`n8n ${request.url}`));
	n8n.on('upgrade', (request, socket) => {
		if (request.url === '/rest/push') socket.end('HTTP/1.1 101 n8n\r\n\r\n');
	});
	await new Promise<void>((resolve) => n8n.listen(0, '127.0.0.1', resolve));
	const events: string[] = [];
	const front: Front = {
		request: async (_request, answer, path) => void answer.end(`service ${path}`),
		upgrade: async (_request, socket, _head, path) =>
			void socket.end(`HTTP/1.1 101 ${path}\r\n\r\n`),
	};
	const host = { url: '', key: '', version: '1', front, close: async () => undefined };
	const owner: Owner = {
		version: '1',
		ready: undefined,
		start() {
			events.push('start');
			return (owner.ready = Promise.resolve<Host>(host));
		},
		async close() {
			events.push('close');
			owner.ready = undefined;
		},
	};
	place[codeKey] = { version: '1', owner: () => owner };
	place[ownerKey] = owner;
	return { n8n, owner, events, close: () => new Promise((resolve) => n8n.close(resolve)) };
}

const portOf = (server: Server) => (server.address() as AddressInfo).port;

function ask(server: Server, path: string): Promise<{ status: number; text: string }> {
	return new Promise((resolve, reject) => {
		const options = { port: portOf(server), host: '127.0.0.1', path, agent: false as const };
		get(options, (answer: IncomingMessage) => {
			let text = '';
			answer.setEncoding('utf8').on('data', (piece: string) => (text += piece));
			answer.on('end', () => resolve({ status: answer.statusCode!, text }));
		}).on('error', reject);
	});
}

/** The first line that comes back. */
function upgrade(server: Server, path: string): Promise<string> {
	return new Promise((resolve, reject) => {
		const socket = connect(portOf(server), '127.0.0.1');
		socket.write(
			`GET ${path} HTTP/1.1\r\nHost: n8n\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n`,
		);
		let text = '';
		socket.on('data', (piece) => (text += piece.toString()));
		socket.on('error', reject);
		socket.on('close', () => resolve(text.split('\r\n', 1)[0]!));
	});
}

test('what begins with /robot-fleet/ is the service’s, all else stays n8n’s', async () => {
	const { n8n, events, close } = await setup();
	ready({ server: n8n });
	expect(events).toEqual(['start']);
	expect((await ask(n8n, '/robot-fleet/healthz')).text).toBe('service /healthz');
	for (const path of ['/', '/robot-fleet', '/robot-fleets/x', '/webhook/robot-fleet/']) {
		expect((await ask(n8n, path)).text).toBe(`n8n ${path}`);
	}
	expect(await upgrade(n8n, '/robot-fleet/api/v1/robots/link')).toBe(
		'HTTP/1.1 101 /api/v1/robots/link',
	);
	expect(await upgrade(n8n, '/rest/push')).toBe('HTTP/1.1 101 n8n');
	await close();
});

test('twice is once', async () => {
	const { n8n, events, close } = await setup();
	ready({ server: n8n });
	ready({ server: n8n });
	expect(events).toEqual(['start']);
	expect(n8n.listenerCount('request')).toBe(1);
	await close();
});

test('while no service runs, robots are told to come again, and a stranger starts none', async () => {
	const { n8n, owner, events, close } = await setup();
	ready({ server: n8n });
	owner.ready = Promise.reject(new Error('port taken'));
	owner.ready.catch(() => undefined);
	for (const running of [owner.ready, undefined]) {
		owner.ready = running;
		const { status, text } = await ask(n8n, '/robot-fleet/healthz');
		expect(status).toBe(503);
		expect(JSON.parse(text)).toMatchObject({ error: { code: 'not-ready', retry: true } });
		expect(await upgrade(n8n, '/robot-fleet/api/v1/robots/link')).toBe('HTTP/1.1 503 Refused');
	}
	expect(events).toEqual(['start']);
	await close();
});

test('after an update of the package, what comes in goes to the service of that', async () => {
	const { n8n, owner, close } = await setup();
	ready({ server: n8n });
	const front: Front = {
		request: async (_request, answer) => void answer.end('the next one'),
		upgrade: async (_request, socket) => void socket.end(),
	};
	const host: Host = { url: '', key: '', version: '2', front, close: async () => undefined };
	const next: Owner = { ...owner, version: '2', ready: Promise.resolve(host) };
	place[codeKey] = { version: '2', owner: () => next };
	expect((await ask(n8n, '/robot-fleet/healthz')).text).toBe('the next one');
	await close();
});

test.each([[['worker']], [['webhook']]])('n8n %p is left as it is', async (args) => {
	const { n8n, events, close } = await setup();
	process.argv = ['node', 'n8n', ...args];
	ready({ server: n8n });
	expect(events).toEqual([]);
	expect((await ask(n8n, '/robot-fleet/healthz')).text).toBe('n8n /robot-fleet/healthz');
	await close();
});

test('n8n.stop stops the service that runs, and one that does not is no mistake', async () => {
	const { events, close } = await setup();
	await stop();
	expect(events).toEqual(['close']);
	delete place[ownerKey];
	await stop();
	await close();
});
