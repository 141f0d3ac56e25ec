/**
 * The defects that the systems before this one had (requirements, section 9), where only the whole way
 * shows that they are not here: the engine, its doors, a real socket, a real agent, real programs.
 */
import { enrolProof, isFinal, type Job, paths, type Submit } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';
import { rmSync, symlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { helloOf, makeRobot, RawLink, signText } from '../server/house';
import {
	agentBundle,
	AgentProcess,
	bundleAgent,
	lives,
	newDataFolder,
	removeBundle,
} from './agent-process';

jest.setTimeout(60_000);

let house: WholeHouse;
let data: string;
const agents: AgentProcess[] = [];

beforeAll(async () => {
	await bundleAgent();
	// What makes terminals is no part of a bundle.
	symlinkSync(
		resolve(__dirname, '../../../node_modules'),
		join(dirname(agentBundle), 'node_modules'),
	);
});
afterAll(removeBundle);
beforeEach(async () => {
	house = await WholeHouse.open();
	data = newDataFolder();
});
afterEach(async () => {
	await Promise.all(agents.splice(0).map((agent) => agent.stop()));
	await house[Symbol.asyncDispose]();
	rmSync(data, { recursive: true, force: true });
});

async function robot(slots = 1): Promise<void> {
	const { token } = await house.client.createToken({});
	const { url } = house.service;
	const args = ['--server', url, '--data', data, '--token', token, '--name', 'r1'];
	const agent = new AgentProcess([...args, '--slots', String(slots)]);
	agents.push(agent);
	await agent.untilPrinted(/^connected as r1/m);
}

async function submit(spec: object, more: Partial<Submit> = {}): Promise<string> {
	return (await house.client.submit({ kind: 'command', spec, ...more })).jobId;
}

async function ended(jobId: string): Promise<Job> {
	const job = await house.client.job(jobId, 30_000);
	if (!isFinal(job.state)) throw new Error(`waited 30 s for the end of a job that is ${job.state}`);
	return job;
}

test('defect 3: a handler that fails sends no result and the device stays busy — the failure is a result, and the slot is free', async () => {
	await robot();
	const broken = [
		await submit({ command: '/no/such/program' }, { retry: { maxAttempts: 1 } }),
		await submit({ command: 'true', cwd: '/no/such/folder' }, { retry: { maxAttempts: 1 } }),
		await submit(
			{ command: 'true', cwd: `/${'long'.repeat(100)}`, interactive: true },
			{ retry: { maxAttempts: 1 } },
		),
	];
	for (const id of broken) {
		expect(await ended(id)).toMatchObject({ state: 'failed', cause: 'spawn_error' });
	}
	expect(await ended(await submit({ command: 'true' }))).toMatchObject({ state: 'completed' });
	expect(await house.client.robot('r1')).toMatchObject({ held: 0, status: 'online' });
});

test('defect 8: a time-out leaves the process running — the whole tree is gone', async () => {
	await robot();
	let pids: number[];
	// On a busy machine one may be stopped before both have said a word.
	do {
		const id = await submit(
			{ shell: `sh -c 'echo child $$; sleep 600' & echo parent $$; sleep 600` },
			{ timeouts: { silenceMs: 1_500 } },
		);
		const job = await ended(id);
		expect(job).toMatchObject({
			state: 'timeout',
			cause: 'silence_timeout',
			result: { processGone: true },
		});
		pids = [...job.result!.stdout.matchAll(/(?:child|parent) (\d+)/g)].map((found) =>
			Number(found[1]),
		);
		expect(pids.filter(lives)).toEqual([]);
	} while (pids.length < 2);
});

test('defect 11: variables are not delivered — they arrive in args, in stdin and in the environment', async () => {
	await robot();
	const spec = {
		command: 'sh',
		args: ['-c', 'echo "$1"; cat; echo "$ROBOT_FLEET_VAR_CITY"', 'sh', 'arg {{city}}'],
		stdin: 'stdin {{city}}\n',
	};
	const job = await ended(await submit(spec, { variables: { city: 'São Paulo; rm -rf /' } }));
	expect(job.result!.stdout).toBe(
		'arg São Paulo; rm -rf /\nstdin São Paulo; rm -rf /\nSão Paulo; rm -rf /\n',
	);
});

test('defect 12: a heartbeat with an unknown status breaks its handler — it is answered, and the robot stays', async () => {
	const fake = makeRobot();
	const { token } = await house.client.createToken({});
	const { publicKey, privateKey } = fake;
	const signature = signText(privateKey, enrolProof(token, publicKey));
	const enrolled = await fetch(house.service.url + paths.robotEnrol, {
		method: 'POST',
		headers: { 'content-type': 'application/json' },
		body: JSON.stringify({ token, publicKey, signature, name: 'r2' }),
	});
	const { robotId, hubId } = (await enrolled.json()) as { robotId: string; hubId: string };
	await using link = new RawLink(house.service.url);
	const { payload } = await link.next('connected');
	link.say('hello', helloOf({ ...fake, robotId }, payload.nonce, {}, hubId));
	await link.next('robot_registered');
	for (const status of ['hibernating', '', '💤', 'online']) {
		const id = link.say('heartbeat', { status, active_jobs: ['nobody knows it'], mood: 7 });
		expect(await link.next('heartbeat')).toMatchObject({ correlation_id: id });
	}
	expect(await house.client.robot('r2')).toMatchObject({ connected: true, status: 'online' });
});

test('defect 13: results of parallel jobs are swapped — each has its own', async () => {
	await robot(8);
	const jobs = await Promise.all(
		Array.from({ length: 40 }, async (_, n) => ({
			n,
			id: await submit(
				{ shell: `sleep 0.0${n % 7}; echo "$ROBOT_FLEET_VAR_N"; exit $((ROBOT_FLEET_VAR_N % 3))` },
				{ variables: { n } },
			),
		})),
	);
	for (const { n, id } of jobs) {
		const { result } = await ended(id);
		expect([id, result!.stdout, result!.exitCode]).toEqual([id, `${n}\n`, n % 3]);
	}
});
