import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
	callbackBase,
	dataFolder,
	type Host,
	hostOptions,
	type HostOptions,
	HostOwner,
	neighbour,
	type Owner,
	owner,
	processRefusal,
	sendTo,
	sendToOne,
} from '../../../nodes/shared/embedded';
import { nodeError } from '../../../nodes/shared/refusals';
import { Problem } from '../../../protocol';

const n8n = ['node', 'n8n'];

describe('where the service may run', () => {
	test.each([[[]], [['start']], [['--tunnel']]])('n8n %p is a main process', (args) => {
		expect(processRefusal([...n8n, ...args], {})).toBeUndefined();
	});

	test.each([
		[['worker'], {}, 'this is a worker process'],
		[['webhook'], {}, 'this is a webhook process'],
		[
			['execute', '--id', '1'],
			{},
			'this is the one-shot command "execute", and no n8n with the service runs beside it',
		],
		[['execute', '--id', '1'], { EXECUTIONS_MODE: 'queue' }, 'n8n runs in queue mode'],
		[['worker'], { EXECUTIONS_MODE: 'queue' }, 'this is a worker process'],
		[['start'], { EXECUTIONS_MODE: 'queue' }, 'n8n runs in queue mode'],
	])('n8n %p with %p is not: %s', (args, env, reason) => {
		expect(processRefusal([...n8n, ...args], env)).toBe(reason);
	});
});

describe('a one-shot command beside a running n8n', () => {
	const folders: string[] = [];
	afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

	function beside(pid: number) {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-'));
		folders.push(folder);
		writeFileSync(join(folder, 'service.json'), JSON.stringify({ url: 'http://127.0.0.1:1', pid }));
		writeFileSync(join(folder, 'n8n.key'), 'secret\n');
		return { ROBOT_FLEET_DATA: folder };
	}

	test('calls the service of that one', () => {
		expect(neighbour([...n8n, 'execute', '--id', '1'], beside(process.pid))).toEqual({
			url: 'http://127.0.0.1:1',
			key: 'secret',
		});
	});

	test.each([[[]], [['start']], [['worker']], [['webhook']]])('n8n %p does not', (args) => {
		expect(neighbour([...n8n, ...args], beside(process.pid))).toBeUndefined();
	});

	test('in queue mode there is none', () => {
		const env = { ...beside(process.pid), EXECUTIONS_MODE: 'queue' };
		expect(neighbour([...n8n, 'execute'], env)).toBeUndefined();
	});

	test('what a killed service left behind is no service', () => {
		// Above what Linux and macOS give to anybody.
		expect(neighbour([...n8n, 'execute'], beside(2 ** 30))).toBeUndefined();
		expect(neighbour([...n8n, 'execute'], { ROBOT_FLEET_DATA: '/nowhere' })).toBeUndefined();
	});
});

describe('settings', () => {
	test('defaults are loopback, 8765 and the folder of n8n', () => {
		expect(hostOptions({ N8N_USER_FOLDER: '/srv/n8n' })).toEqual({
			dataFolder: '/srv/n8n/.n8n/robot-fleet',
			host: '127.0.0.1',
			port: 8765,
			robotsListen: undefined,
			publicUrl: undefined,
			callbackUrl: 'http://127.0.0.1:5678',
		});
		expect(dataFolder({ ROBOT_FLEET_DATA: '/data' })).toBe('/data');
	});

	test.each([
		[{ N8N_PORT: '80' }, 'http://127.0.0.1:80'],
		[{ N8N_LISTEN_ADDRESS: '10.0.0.5' }, 'http://10.0.0.5:5678'],
		[{ N8N_LISTEN_ADDRESS: '::1' }, 'http://[::1]:5678'],
		// TLS that a proxy in front of n8n provides.
		[{ N8N_PROTOCOL: 'https' }, 'http://127.0.0.1:5678'],
		[{ N8N_PROTOCOL: 'https', N8N_SSL_KEY: 'k', N8N_SSL_CERT: 'c' }, 'https://127.0.0.1:5678'],
		[{ ROBOT_FLEET_N8N_URL: 'http://n8n:5678/' }, 'http://n8n:5678'],
	])('with %p n8n is called at %s', (env, url) => {
		expect(callbackBase(env)).toBe(url);
	});

	test('a port that is none is said with its name', () => {
		expect(() => hostOptions({ ROBOT_FLEET_PORT: 'http' })).toThrow('ROBOT_FLEET_PORT is "http"');
	});
});

describe('the owner of the service', () => {
	const folders: string[] = [];
	afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

	function setup(argv = n8n) {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-'));
		folders.push(folder);
		const events: string[] = [];
		let fault: Error | undefined;
		const startHost = async (options: HostOptions): Promise<Host> => {
			events.push('start');
			if (fault) throw fault;
			const close = async () => void events.push('close');
			return { url: `http://127.0.0.1:${options.port}`, key: 'k', version: '1', close };
		};
		const around = { argv, env: { ROBOT_FLEET_DATA: folder }, load: () => ({ startHost }) };
		return {
			folder,
			events,
			around,
			owner: new HostOwner('1.0.0', around),
			fail: (error?: Error) => (fault = error),
		};
	}

	test('starts once for all who ask, notes it, and stops once', async () => {
		const { owner, events, folder } = setup();
		expect(await owner.start()).toBe(await owner.start());
		expect(existsSync(join(folder, 'autostart'))).toBe(true);
		await Promise.all([owner.close(), owner.close()]);
		expect(events).toEqual(['start', 'close']);
	});

	test('a start that failed is tried again, and notes nothing', async () => {
		const { owner, events, folder, fail } = setup();
		fail(
			new Problem('port-taken', { port: 8765, host: '127.0.0.1', variable: 'ROBOT_FLEET_PORT' }),
		);
		await expect(owner.start()).rejects.toMatchObject({ code: 'port-taken' });
		expect(existsSync(join(folder, 'autostart'))).toBe(false);
		fail(undefined);
		await owner.start();
		expect(events).toEqual(['start', 'start']);
		await owner.close();
	});

	test('a newer version waits until the older one has let go', async () => {
		const { owner, events, around } = setup();
		await owner.start();
		const newer = new HostOwner('1.1.0', around, owner);
		await newer.start();
		expect(events).toEqual(['start', 'close', 'start']);
		await newer.close();
		await expect(owner.start()).rejects.toMatchObject({ code: 'not-ready' });
	});

	test('an older version that does not stop in order is said, and does not keep the newer from starting', async () => {
		const { owner: newest, events, around } = setup();
		const stuck: Owner = {
			version: '1.0.0',
			start: () => Promise.reject(new Error('no')),
			close: () => Promise.reject(new Error('stuck')),
			ready: undefined,
		};
		await newest.close();
		const newer = new HostOwner('1.1.0', around, stuck);
		await newer.start();
		expect(events).toEqual(['start']);
		await newer.close();
	});

	test('code of before an update goes through the code that was loaded last', () => {
		const codeKey = Symbol.for('robot-fleet.code.v1');
		const place = globalThis as { [codeKey]?: { version: string; owner(): Owner } };
		const { owner: newest } = setup();
		const before = place[codeKey];
		place[codeKey] = { version: '9.9.9', owner: () => newest };
		try {
			expect(owner()).toBe(newest);
		} finally {
			place[codeKey] = before;
		}
	});

	test.each([
		[['worker'], {}],
		[['start'], { EXECUTIONS_MODE: 'queue' }],
	])(
		'what a node says of it in n8n %p with %p is one sentence, and one that says what to do',
		async (args, env) => {
			const { around } = setup([...n8n, ...args]);
			const refused = new HostOwner('1.0.0', { ...around, env: { ...around.env, ...env } });
			const error = await refused.start().catch((reason: unknown) => reason);
			const node = { name: 'Submit', type: 'x', typeVersion: 1, parameters: {} };
			const said = nodeError({ ...node, id: '1', position: [0, 0] }, error, 0);
			expect(said.constructor.name).toBe('NodeOperationError');
			expect(said).toMatchObject({
				message: expect.stringMatching(
					/^"This n8n" works only in the main process of a regular n8n \(.+\)$/,
				),
				description: 'Run robot-fleet serve and choose "Robot Fleet Server" in the credential.',
			});
		},
	);

	test('a worker never loads it', async () => {
		const { owner, events } = setup([...n8n, 'worker']);
		await expect(owner.start()).rejects.toMatchObject({ code: 'wrong-process' });
		expect(events).toEqual([]);
	});

	test('leaves no handler on the process', async () => {
		const before = process.listenerCount('SIGTERM');
		const { owner } = setup();
		await owner.start();
		expect(process.listenerCount('SIGTERM')).toBe(before + 1);
		await owner.close();
		expect(process.listenerCount('SIGTERM')).toBe(before);
	});
});

describe('talking to it', () => {
	async function serve(handle: (request: IncomingMessage) => { status: number; text: string }) {
		const server = createServer((request, response) => {
			request.resume().on('end', () => {
				const { status, text } = handle(request);
				response.writeHead(status, { connection: 'close' }).end(text);
			});
		});
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
		return { url, close: () => new Promise((resolve) => server.close(resolve)) };
	}

	test('goes straight there, whatever proxy is set, with the key in the header', async () => {
		const seen: IncomingMessage[] = [];
		const server = await serve((request) => {
			seen.push(request);
			return { status: 200, text: '{"ok":true}' };
		});
		process.env.HTTP_PROXY = 'http://127.0.0.1:9';
		try {
			const answer = await sendTo(
				{ url: server.url, key: 'secret' },
				{ method: 'POST', path: '/api/v1/jobs', body: { a: 1 } },
			);
			expect(answer).toEqual({ status: 200, body: { ok: true } });
			expect(seen[0]!.headers.authorization).toBe('Bearer secret');
		} finally {
			delete process.env.HTTP_PROXY;
			await server.close();
		}
	});

	test('bytes go out as bytes, and come in as a stream that is not waited for', async () => {
		const heard: Buffer[] = [];
		let last = '';
		const server = createServer((request, response) => {
			last = String(request.headers['content-type']);
			request
				.on('data', (piece: Buffer) => heard.push(piece))
				.on('end', () => response.writeHead(200, { 'x-output-have': '3' }).end('{"a":1}'));
		});
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const host = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: 'k' };
		const bytes = new Uint8Array([0, 1, 2]).subarray(1);
		expect(await sendTo(host, { method: 'PUT', path: '/', bytes })).toEqual({
			status: 200,
			body: { a: 1 },
		});
		expect([last, Buffer.concat(heard)]).toEqual(['application/octet-stream', Buffer.from([1, 2])]);
		const answer = await sendTo(host, { method: 'GET', path: '/', stream: true });
		expect(answer.headers).toMatchObject({ 'x-output-have': '3' });
		let text = '';
		for await (const piece of answer.body as AsyncIterable<Uint8Array>) text += String(piece);
		expect(text).toBe('{"a":1}');
		server.closeAllConnections();
		await new Promise((resolve) => server.close(resolve));
	});

	test('a service that is gone, and an answer that is no JSON, are one clear problem', async () => {
		const server = await serve(() => ({ status: 200, text: '<html>' }));
		const host = { url: server.url, key: 'k' };
		await expect(sendTo(host, { method: 'GET', path: '/' })).rejects.toMatchObject({
			code: 'service-away',
		});
		await server.close();
		await expect(sendTo(host, { method: 'GET', path: '/' })).rejects.toMatchObject({
			code: 'service-away',
			message: expect.stringContaining('connection refused'),
		});
	});

	test('who calls while an update of the package goes on reaches the service that comes next', async () => {
		const gone = await serve(() => ({ status: 200, text: '{}' }));
		await gone.close();
		const leaving = await serve(() => ({
			status: 503,
			text: JSON.stringify({ error: new Problem('not-ready', { state: 'stopping' }).toBody() }),
		}));
		const next = await serve(() => ({ status: 200, text: '{"next":true}' }));
		const { url } = next;
		const then = { url, key: 'k' };
		for (const first of [
			{ url: gone.url, key: 'k' },
			{ url: leaving.url, key: 'k' },
		]) {
			const places = [first, then];
			const where = async () => places.shift() ?? then;
			const answer = await sendToOne(where, { method: 'POST', path: '/', body: {} });
			expect(answer.body).toEqual({ next: true });
		}
		// Nothing comes next: what the one there is says, stays.
		const stays = { url: leaving.url, key: 'k' };
		const answer = await sendToOne(async () => stays, { method: 'POST', path: '/', body: {} });
		expect(answer.status).toBe(503);
		await leaving.close();
		await next.close();
	});

	test('an abort ends the long poll', async () => {
		const stop = new AbortController();
		const server = createServer(() => stop.abort(new Error('enough')));
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
		const polling = sendTo(
			{ url, key: 'k' },
			{ method: 'GET', path: '/', waitMs: 30_000, signal: stop.signal },
		);
		await expect(polling).rejects.toThrow('enough');
		await new Promise((resolve) => server.close(resolve));
	});
});
