/** n8n fetches the pokes of a real service that cannot reach it. n8n is played: it answers what the test says. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Collector, startCollector } from '../../../dispatcher/collect';
import { CallbackDoor } from '../../../dispatcher/server/callbacks';
import { certificate } from '../../support/certificates';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(60_000);

const taken = { status: 200, text: '{"resumed":true}' };
let house: WholeHouse;
let folder: string;
let n8n: Server;
let heard: { path: string; body: { waitId: string; nonce: string } }[];
let answers: { status: number; text: string }[];
/** What n8n says of itself. */
let readiness: { status: number; text: string };
let readinessAsked: number;
let collectors: Collector[];

beforeEach(async () => {
	house = await WholeHouse.open();
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-collect-'));
	[heard, answers, collectors] = [[], [], []];
	readiness = { status: 200, text: '{"status":"ok"}' };
	readinessAsked = 0;
	n8n = createServer((request, response) => {
		if (request.method === 'GET' && request.url === '/healthz/readiness') {
			readinessAsked += 1;
			const { status, text } = readiness;
			response.writeHead(status, { 'content-type': 'application/json' }).end(text);
			return;
		}
		let text = '';
		request.on('data', (piece) => (text += String(piece)));
		request.on('end', () => {
			heard.push({ path: request.url!, body: JSON.parse(text) });
			const answer = answers.shift() ?? taken;
			response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.text);
		});
	});
	await new Promise<void>((resolve) => n8n.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
	for (const collector of collectors) collector.close();
	n8n.closeAllConnections();
	await new Promise((resolve) => n8n.close(resolve));
	await house[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true });
});

const file = () => join(folder, 'user', 'collector.json');
const kept = () => JSON.parse(readFileSync(file(), 'utf8')) as { services: string[] };
function collector(): Collector {
	const made = startCollector({
		file: file(),
		n8nUrl: `http://127.0.0.1:${(n8n.address() as AddressInfo).port}`,
		endpoint: 'webhook-waiting',
		log: () => undefined,
	});
	collectors.push(made);
	return made;
}
const submit = async () =>
	(await house.client.submit({ kind: 'command', spec: { command: 'true' } })).jobId;
/** As n8n calls itself outside; nobody here resolves that name. */
const resumeUrl = 'https://n8n.example.com/a/path/webhook-waiting/7/node-1?signature=s';
async function park(collects: Collector, jobId: string, url = resumeUrl): Promise<string> {
	collects.begin(house.service.url);
	const request = { jobIds: [jobId], resumeUrl: url, collector: collects.secret };
	const { waitId } = await house.client.createWait(request);
	collects.begin(house.service.url);
	return waitId;
}
async function until(what: string, look: () => Promise<boolean> | boolean): Promise<void> {
	const lateAt = Date.now() + 30_000;
	while (!(await look())) {
		if (Date.now() > lateAt) throw new Error(`there never was ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}
const stateOf = async (waitId: string) => (await house.client.wait(waitId)).state;

test('a wait comes back to n8n’s own address, and polling ends when no wait is open', async () => {
	const collects = collector();
	const jobId = await submit();
	const waitId = await park(collects, jobId);
	await house.client.cancel(jobId);
	await until('a closed wait', async () => (await stateOf(waitId)) === 'closed');
	expect(heard).toHaveLength(1);
	expect(heard[0]).toMatchObject({
		path: '/webhook-waiting/7/node-1?signature=s',
		body: { waitId },
	});
	await until('an end of polling', () => kept().services.length === 0);
	expect(statSync(file()).mode & 0o077).toBe(0);
	expect(existsSync(`${file()}.new`)).toBe(false);
});

test('while n8n starts, or has not parked yet, the poke comes again', async () => {
	answers = [
		{ status: 200, text: 'n8n is starting up. Please wait' },
		{ status: 404, text: '<html>Cannot POST</html>' },
		{ status: 409, text: '{"code":409,"message":"The execution \\"7\\" is running already."}' },
	];
	const jobId = await submit();
	const waitId = await park(collector(), jobId);
	await house.client.cancel(jobId);
	await until('a closed wait', async () => (await stateOf(waitId)) === 'closed');
	expect(heard).toHaveLength(4);
	expect((await house.client.wait(waitId)).tries).toBe(3);
});

test('an n8n that starts gets no poke before it says that it is ready', async () => {
	readiness = { status: 503, text: '{"status":"error"}' };
	const jobId = await submit();
	const waitId = await park(collector(), jobId);
	await house.client.cancel(jobId);
	await until('a second try', async () => (await house.client.wait(waitId)).tries >= 2);
	expect((await house.client.wait(waitId)).lastError).toBe('n8n is starting up');
	expect(readinessAsked).toBeGreaterThan(0);
	expect(heard).toEqual([]);
	readiness = { status: 200, text: '{"status":"ok"}' };
	await until('a closed wait', async () => (await stateOf(waitId)) === 'closed');
	expect(heard).toHaveLength(1);
});

test('an n8n that says too early that it is ready is given a while after it came up', async () => {
	readiness = { status: 502, text: '<html>Bad Gateway</html>' };
	const collects = collector();
	await until('a first look', () => readinessAsked > 0);
	readiness = { status: 200, text: '{"status":"ok"}' };
	const upAt = performance.now();
	const jobId = await submit();
	const waitId = await park(collects, jobId);
	await house.client.cancel(jobId);
	await until('a closed wait', async () => (await stateOf(waitId)) === 'closed');
	expect(performance.now() - upAt).toBeGreaterThan(5_000);
	expect(heard).toHaveLength(1);
});

test('after a restart of n8n it goes on by itself, with the same secret', async () => {
	const first = collector();
	const jobId = await submit();
	const waitId = await park(first, jobId);
	first.close();
	await house.client.cancel(jobId);
	expect(kept().services).toEqual([house.service.url]);
	const second = collector();
	expect(second.secret).toBe(first.secret);
	await until('a closed wait', async () => (await stateOf(waitId)) === 'closed');
	expect(heard).toHaveLength(1);
});

test('a service that is taken over cannot have anything else called on this machine', async () => {
	for (const url of [
		'http://127.0.0.1/rest/owner/setup',
		'http://127.0.0.1/webhook/secret-flow',
		'http://127.0.0.1/webhook-waiting',
	]) {
		const jobId = await submit();
		const waitId = await park(collector(), jobId, url);
		await house.client.cancel(jobId);
		await until('an answer', async () => (await house.client.wait(waitId)).tries > 0);
		expect((await house.client.wait(waitId)).lastError).toBe('no resume URL of n8n');
		await house.client.closeWait(waitId);
	}
	expect(heard).toEqual([]);
});

test('many waits come back, each once, and none is lost', async () => {
	const collects = collector();
	const jobId = await submit();
	const waits = await Promise.all(Array.from({ length: 300 }, () => park(collects, jobId)));
	await house.client.cancel(jobId);
	await until('nothing more to collect', () => kept().services.length === 0);
	expect(heard.map(({ body }) => body.waitId).sort()).toEqual(waits.sort());
	const { items } = await house.client.waits({ limit: 1_000 });
	expect(items.every(({ state }) => state === 'closed')).toBe(true);
});

test('a file that cannot be written is said at once, with what to do instead', () => {
	expect(() =>
		startCollector({
			file: '/dev/null/collector.json',
			n8nUrl: 'http://127.0.0.1:1',
			endpoint: 'webhook-waiting',
			log: () => undefined,
		}),
	).toThrow(/cannot be written.*choose "The Service Calls n8n"/);
});

test('a file that is there and cannot be read is left as it is: its secret is the only way back', () => {
	mkdirSync(file(), { recursive: true });
	expect(() =>
		startCollector({
			file: file(),
			n8nUrl: 'http://127.0.0.1:1',
			endpoint: 'webhook-waiting',
			log: () => undefined,
		}),
	).toThrow(/cannot be read/);
	expect(statSync(file()).isDirectory()).toBe(true);
});

test('an n8n with a certificate for its name outside is reached over loopback', async () => {
	const { cert, key } = await certificate({ names: ['n8n.example.com'] });
	const server = createTlsServer({ cert, key }, (_request, response) => response.end('{"ok":1}'));
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	const origin = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
	const door = new CallbackDoor([origin]);
	expect(await door.post(`${origin}/webhook-waiting/1/n`, {})).toEqual({
		status: 200,
		body: { ok: 1 },
	});
	door.close();
	server.closeAllConnections();
	await new Promise((resolve) => server.close(resolve));
});
