/** The real agent with clients, and the real service: which profile ran what, one job at a time each. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FleetClient } from '../../../client';
import { jobOf } from '../../../dispatcher/cli/submit';
import { httpSend } from '../../../dispatcher/cli/transport';
import { readConfig } from '../../../dispatcher/config';
import { type Service, startService } from '../../../dispatcher/startup';
import type { Job } from '../../../protocol';
import { quietPort } from '../../support/programs';
import { AgentProcess, bundleAgent, removeBundle } from './agent-process';

jest.setTimeout(60_000);

const silent = { debug() {}, info() {}, warn() {}, error() {} };

let folder: string;
let port: number;
let service: Service;
let client: FleetClient;
const agents: AgentProcess[] = [];

beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-clients-'));
	port = await quietPort();
	await serve();
});
afterEach(async () => {
	await Promise.all(agents.splice(0).map((agent) => agent.stop()));
	await service.close();
	rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

async function serve(): Promise<void> {
	service = await startService({
		config: readConfig({ flags: { data: join(folder, 'service'), port: String(port) } }),
		log: silent,
		onFatal: (error) => {
			throw error;
		},
	});
	client = new FleetClient(httpSend({ url: service.url, key: key() }));
}

const key = () => readFileSync(join(folder, 'service/admin.key'), 'utf8').trim();

async function connect(name: string, ...more: string[]): Promise<AgentProcess> {
	const { token } = await client.createToken({});
	const data = join(folder, name);
	const where = ['--server', service.url, '--data', data, '--token', token, '--name', name];
	const agent = new AgentProcess([...where, ...more]);
	agents.push(agent);
	await agent.untilPrinted(/^connected as /m);
	return agent;
}

const whoRan = { shell: 'echo "$ROBOT_FLEET_CLIENT"' };

async function submit(name?: string, spec: object = whoRan, target: object = {}): Promise<string> {
	const job = { kind: 'command', spec, target: { ...target, ...(name && { client: name }) } };
	return (await client.submit(job)).jobId;
}

const ended = async (jobId: string): Promise<Job> => await client.job(jobId, 20_000);

async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
	for (const late = Date.now() + 20_000; ;) {
		const found = await look();
		if (found) return found;
		if (Date.now() > late) throw new Error(`waited for ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

const running = (jobId: string) =>
	until(`${jobId} to run`, async () => (await client.job(jobId)).state === 'running');

/** Runs until its file is there. */
const gate = (name: string) => ({
	shell: `echo "$ROBOT_FLEET_CLIENT"; while [ ! -e "$GATE" ]; do sleep 0.05; done`,
	env: { GATE: join(folder, name) },
});
const open = (name: string) => writeFileSync(join(folder, name), '');

test('two tasks that name a profile each, and two that name none: results say which profile ran it', async () => {
	await connect('r1', '--client', 'work', '--client', 'home');
	const named = [await submit('work'), await submit('home')];
	const free = [await submit(), await submit()];
	for (const [i, profile] of ['work', 'home'].entries()) {
		const job = await ended(named[i]!);
		expect(job).toMatchObject({ state: 'completed', client: profile });
		expect(job.result!.stdout).toBe(`${profile}\n`);
		expect(await client.attempts(job.jobId)).toMatchObject([{ client: profile }]);
	}
	for (const id of free) {
		const job = await ended(id);
		expect(['work', 'home']).toContain(job.client);
		expect(job.result!.stdout).toBe(`${job.client}\n`);
	}
	expect(await client.robot('r1')).toMatchObject({
		slots: 2,
		clients: [
			{ name: 'work', jobId: null },
			{ name: 'home', jobId: null },
		],
	});
});

test('three jobs for one profile go one after the other, while the other one is free for the rest', async () => {
	await connect('r1', '--client', 'a', '--client', 'b');
	const first = await submit('a', gate('first'));
	const second = await submit('a', gate('second'));
	const third = await submit('a');
	await running(first);
	for (const id of [await submit(), await submit('b'), await submit()]) {
		expect((await ended(id)).result!.stdout).toBe('b\n');
	}
	expect(await client.why(second)).toEqual({
		text: `The job waits: client a of robot r1 is busy with job ${first}.`,
	});
	expect((await client.robot('r1')).clients[0]).toEqual({ name: 'a', jobId: first });
	open('first');
	await running(second);
	expect((await client.job(third)).state).toBe('queued');
	open('second');
	for (const id of [first, second, third]) {
		expect((await ended(id)).result!.stdout).toBe('a\n');
	}
});

test('service and agent die in between: whose profile is taken is known, and nothing runs beside it', async () => {
	const agent = await connect('r1', '--client', 'a', '--client', 'b');
	const first = await submit('a', gate('first'));
	await running(first);
	const second = await submit('a');
	await service.close();
	await agent.kill();
	await serve();
	const back = new AgentProcess([
		...['--server', service.url, '--data', join(folder, 'r1'), '--client', 'a', '--client', 'b'],
	]);
	agents.push(back);
	await back.untilPrinted(/^connected as /m);
	expect((await client.robot('r1')).clients).toEqual([
		{ name: 'a', jobId: first },
		{ name: 'b', jobId: null },
	]);
	expect((await ended(await submit())).result!.stdout).toBe('b\n');
	expect((await client.job(second)).state).toBe('queued');
	open('first');
	expect((await ended(first)).result!.stdout).toBe('a\n');
	expect((await ended(second)).result!.stdout).toBe('a\n');
});

test('a profile brings its own environment, which a job may change for itself', async () => {
	const config = join(folder, 'agent.json');
	const clients = [{ name: 'phone', env: { SERIAL: 'emulator-5554', LANG: 'C' } }, 'tablet'];
	writeFileSync(config, JSON.stringify({ clients }));
	await connect('r1', '--config', config);
	const spec = { shell: 'echo "$ROBOT_FLEET_CLIENT $SERIAL $LANG"', env: { LANG: 'de' } };
	expect((await ended(await submit('phone', spec))).result!.stdout).toBe(
		'phone emulator-5554 de\n',
	);
	expect((await ended(await submit('tablet', spec))).result!.stdout).toBe('tablet  de\n');
});

test('robots without clients do what names none, and are told no name', async () => {
	await connect('plain');
	const job = await ended(await submit());
	expect(job).toMatchObject({ state: 'completed', client: null });
	expect(job.result!.stdout).toBe('\n');
	const waiting = await submit('a', whoRan, { robot: 'plain' });
	expect((await client.why(waiting)).text).toBe(
		'Robot plain announces no client a; an agent announces one with: --client NAME.',
	);
	await connect('other', '--client', 'a');
	await client.change(waiting, { target: { client: 'a' } });
	expect((await ended(waiting)).result!.stdout).toBe('a\n');
});

test('every robot that has the profile gets its part of one job', async () => {
	await connect('r1', '--client', 'a', '--client', 'b');
	await connect('r2', '--client', 'a');
	await connect('r3');
	const parent = await ended(await submit('a', whoRan, { mode: 'all' }));
	expect(parent).toMatchObject({ state: 'completed', children: { total: 2, completed: 2 } });
	const { items } = await client.jobs({ parent: parent.jobId });
	expect(items.map((job) => job.client)).toEqual(['a', 'a']);
});

test('the command line says --client, and the seeds say device_id, in the body or in the query', async () => {
	await connect('r1', '--client', 'a', '--client', 'b');
	const words = ['sh', '-c', whoRan.shell];
	const { jobId } = await client.submit(jobOf(words, { client: 'b' }, 0));
	expect((await ended(jobId)).result!.stdout).toBe('b\n');
	const execute = async (query: string, body: object) => {
		const answer = await fetch(`${service.url}/server/command/execute${query}`, {
			method: 'POST',
			headers: { authorization: `Bearer ${key()}`, 'content-type': 'application/json' },
			body: JSON.stringify({ ...whoRan, ...body }),
		});
		expect(answer.status).toBe(202);
		const { execution_id } = (await answer.json()) as { execution_id: string };
		return (await ended(execution_id)).client;
	};
	expect(await execute('', { device_id: 'b', host_name: 'r1' })).toBe('b');
	expect(await execute('?device_id=b&host_name=r1', {})).toBe('b');
	expect(await execute('?device_id=a', { device_id: 'b' })).toBe('b');
});
