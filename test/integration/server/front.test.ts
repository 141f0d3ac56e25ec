/** Robots that come in by a port of somebody else: n8n's, played here by a bare server as n8n has one. */
import { createServer, request as ask } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { systemClock as agentClock } from '../../../agent/clock';
import { dial } from '../../../agent/dial';
import type { Engine } from '../../../dispatcher/engine';
import type { ServerOptions } from '../../../dispatcher/server';
import { Front, type FrontOptions, type Relay } from '../../../dispatcher/server/front';
import { enrolProof, Problem } from '../../../protocol';
import { fakeSession, makeRobot, openHouse, RawLink, signText, within } from './house';

const quiet = () => undefined;
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

interface Said {
	status: number;
	body: ReturnType<typeof JSON.parse>;
	headers: NodeJS.Dict<string | string[]>;
}

/** A house, and a server whose requests all go to its front. */
async function setup(
	engineMore: Partial<Engine> = {},
	{
		server: serverMore = {},
		...frontMore
	}: Partial<FrontOptions> & { server?: Partial<ServerOptions> } = {},
) {
	const robot = makeRobot();
	const fake = fakeSession();
	const house = await openHouse(
		{ robotKey: async () => robot.publicKey, connect: async () => fake.session, ...engineMore },
		serverMore,
	);
	const front = new Front({ relay: () => house.server.relay(), ...frontMore });
	const n8n = createServer((request, answer) => void front.request(request, answer, request.url!));
	n8n.on(
		'upgrade',
		(request, socket, head) => void front.upgrade(request, socket, head, request.url!),
	);
	await new Promise<void>((resolve) => n8n.listen(0, '127.0.0.1', resolve));
	const { port } = n8n.address() as AddressInfo;
	return {
		house,
		robot,
		fake,
		port,
		url: `http://127.0.0.1:${port}`,
		ask: (method: string, path: string, more: Parameters<typeof send>[3] = {}) =>
			send(port, method, path, more),
		async [Symbol.asyncDispose]() {
			n8n.closeAllConnections();
			await new Promise((resolve) => n8n.close(resolve));
			await house.server.close();
		},
	};
}

function send(
	port: number,
	method: string,
	path: string,
	{ body, headers = {} }: { body?: unknown; headers?: Record<string, string> },
): Promise<Said> {
	return new Promise((resolve, reject) => {
		const text = body === undefined ? undefined : JSON.stringify(body);
		const all = { ...(text !== undefined && { 'content-type': 'application/json' }), ...headers };
		const request = ask({ port, host: '127.0.0.1', method, path, headers: all, agent: false });
		request.on('error', reject).on('response', (response) => {
			let said = '';
			response.setEncoding('utf8').on('data', (piece: string) => (said += piece));
			response.on('end', () =>
				resolve({
					status: response.statusCode!,
					body: said === '' ? undefined : JSON.parse(said),
					headers: response.headers,
				}),
			);
		});
		request.end(text);
	});
}

const enrolment = (robot = makeRobot(), token = 'rf1.a.b.-') => ({
	token,
	publicKey: robot.publicKey,
	signature: signText(robot.privateKey, enrolProof(token, robot.publicKey)),
	name: 'build-01',
});

test('a robot registers, says and hears what it would at the robots’ own door', async () => {
	await using it = await setup();
	await using link = new RawLink(it.url);
	await link.register(it.robot);
	const ref = { job_id: 'job-1', attempt: 1, epoch: 7, token: 'secret' };
	link.say('job_accepted', { ...ref, started_at: '2026-01-01T00:00:00Z' });
	link.socket.close(1000);
	await it.fake.wait('closed');
});

test('one that polls does, too', async () => {
	await using it = await setup();
	const { socket } = dial('poll', { server: it.url, clock: agentClock, log });
	await using link = new RawLink(it.url, {}, socket);
	await link.register(it.robot);
	link.socket.close(1000);
	await it.fake.wait('closed');
});

test('a close of the service arrives with its code', async () => {
	await using it = await setup();
	await using link = new RawLink(it.url);
	await link.register(it.robot);
	const closing = it.house.server.close();
	expect((await within('the close', link.closed)).code).toBe(1001);
	await closing;
});

test('a robot enrolls; of everything else only health is there, and nothing of n8n’s goes along', async () => {
	await using it = await setup({
		enrol: async () => ({ robotId: 'r1', name: 'build-01', hubId: 'hub-1' }),
	});
	const enrolled = await it.ask('POST', '/api/v1/robots/enrol', {
		body: enrolment(),
		headers: { cookie: 'n8n-auth=secret' },
	});
	expect(enrolled).toMatchObject({ status: 200, body: { robotId: 'r1' } });
	expect((await it.ask('GET', '/healthz')).status).toBe(200);
	const headers = { authorization: 'Bearer admin' };
	for (const path of [
		'/api/v1/jobs',
		'/api/v1/live',
		'/readyz',
		'/metrics',
		'/api/v1/openapi.json',
		'/',
	]) {
		const { status, body } = await it.ask('GET', path, { headers });
		expect([path, status, body.error.code]).toEqual([path, 404, 'no-such-route']);
	}
});

test('pages in browsers are refused as at the robots’ own door', async () => {
	await using it = await setup();
	const headers = { origin: 'https://n8n.example.com' };
	expect((await it.ask('GET', '/healthz', { headers })).body.error.code).toBe('bad-host');
	await using link = new RawLink(it.url, headers);
	expect((await within('the refusal', link.closed)).code).toBe(1006);
});

test('nobody else on the machine can use the way in between', async () => {
	await using it = await setup();
	const { port } = await it.house.server.relay();
	for (const host of ['127.0.0.1', 'localhost', '']) {
		const { status, body } = await send(port, 'GET', '/healthz', { headers: { host } });
		expect([status, body.error.code]).toEqual([403, 'bad-host']);
	}
	await using link = new RawLink(`http://127.0.0.1:${port}`);
	expect((await within('the refusal', link.closed)).code).toBe(1006);
});

describe('who it was', () => {
	const server = { rates: { perKey: 0, perAddress: 1, spareLoopback: true } };
	const refusing: Partial<Engine> = {
		enrol: () => Promise.reject(new Problem('bad-token')),
	};
	const guess = async (it: Awaited<ReturnType<typeof setup>>, headers: Record<string, string>) =>
		(await it.ask('POST', '/api/v1/robots/enrol', { body: enrolment(), headers })).body.error;

	test('is told by so many proxies as n8n believes: guesses at tokens are counted where they come from', async () => {
		await using it = await setup(refusing, { server, proxyHops: 1 });
		const from = (address: string) => ({ 'x-forwarded-for': `1.2.3.4, ${address}` });
		expect((await guess(it, from('10.0.0.1'))).code).toBe('bad-token');
		const { code, text } = await guess(it, from('10.0.0.1'));
		expect([code, text]).toEqual(['rate-limited', expect.stringContaining('10.0.0.1')]);
		expect((await guess(it, from('10.0.0.2'))).code).toBe('bad-token');
	});

	test('is what the connection says where n8n believes none, and never what a robot says', async () => {
		await using it = await setup(refusing, { server });
		for (let i = 0; i < 3; i += 1) {
			// From this machine, which is not counted.
			const headers = { 'x-forwarded-for': '10.0.0.1', 'x-robot-fleet-from': '10.0.0.1' };
			expect((await guess(it, headers)).code).toBe('bad-token');
		}
	});

	test('what is no address is not believed', async () => {
		await using it = await setup(refusing, { server, proxyHops: 1 });
		for (let i = 0; i < 3; i += 1) {
			expect((await guess(it, { 'x-forwarded-for': 'unknown' })).code).toBe('bad-token');
		}
	});
});

describe('while the service is away', () => {
	const away = () => Promise.reject(new Problem('not-ready', { state: 'starting again' }));
	const nobody = async (): Promise<Relay> => ({ port: 1, secret: 'x' });

	test.each([
		['it is not there', away],
		['nobody answers behind it', nobody],
	])('%s: robots are told to come again', async (_what, relay) => {
		await using it = await setup({}, { relay });
		const { status, body, headers } = await it.ask('POST', '/api/v1/robots/enrol', {
			body: enrolment(),
		});
		expect([status, body.error.code, body.error.retry]).toEqual([503, 'not-ready', true]);
		expect(headers['retry-after']).toBe('10');
		const said = await new Promise<string>((resolve) => {
			const socket = connect(it.port, '127.0.0.1');
			socket.write(
				'GET /api/v1/robots/link HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
			);
			let text = '';
			socket.on('data', (piece) => (text += piece.toString())).on('close', () => resolve(text));
		});
		expect(said).toMatch(/^HTTP\/1\.1 503 [^]*"not-ready"/);
	});

	test('one that was closed opens no way in any more', async () => {
		const it = await setup();
		await it[Symbol.asyncDispose]();
		await expect(it.house.server.relay()).rejects.toMatchObject({ code: 'not-ready' });
	});

	test('a request whose robot left while it was not there is not brought to it any more', async () => {
		let connections = 0;
		const service = createServer((_request, answer) => void answer.end());
		service.on('connection', () => (connections += 1));
		await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
		const { port } = service.address() as AddressInfo;
		const there = Promise.withResolvers<Relay>();
		const front = new Front({ relay: () => there.promise });
		const gone = Promise.withResolvers<void>();
		const dealtWith: Promise<void>[] = [];
		const n8n = createServer((request, answer) => {
			answer.on('close', () => gone.resolve());
			dealtWith.push(front.request(request, answer, request.url!));
			if (request.url === '/leaves') leaving.destroy();
		});
		await new Promise<void>((resolve) => n8n.listen(0, '127.0.0.1', resolve));
		const outer = (n8n.address() as AddressInfo).port;
		const leaving = connect(outer, '127.0.0.1');
		leaving.on('error', () => undefined).write('GET /leaves HTTP/1.1\r\nHost: a\r\n\r\n');
		await within('the robot to leave', gone.promise);
		there.resolve({ port, secret: 's' });
		await Promise.all(dealtWith);
		await send(outer, 'GET', '/stays', {});
		expect(connections).toBe(1);
		for (const server of [n8n, service]) {
			server.closeAllConnections();
			await new Promise((resolve) => server.close(resolve));
		}
	});

	test('a robot that goes away half-way leaves no connection to the service behind', async () => {
		await using it = await setup();
		const link = new RawLink(it.url);
		await link.register(it.robot);
		link.socket.terminate();
		await it.fake.wait('closed');
	});
});
