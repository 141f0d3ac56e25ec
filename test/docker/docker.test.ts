/**
 * Robots and a service in real containers, as docs/second-machine.md says. Only with `npm run test:docker`: a machine
 * need not have Docker.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import type { FleetClient } from '../../client';
import { isFinal, type Job } from '../../protocol';
import { eventually } from '../fault/one-service';
import { Docker } from '../support/docker';
import {
	AgentProgram,
	type Bundles,
	builtPrograms,
	quietPort,
	ServiceProgram,
} from '../support/programs';

const root = resolve(__dirname, '../..');
const robotsPort = 8766;

jest.setTimeout(300_000);

let docker: Docker;
let image: string;
let folder: string;
let bundles: Bundles;
let service: ServiceProgram | undefined;
let client: FleetClient;
let server: string;

beforeAll(async () => {
	docker = new Docker();
	const node = await docker.nodeImage();
	image = await docker.build('agent', join(root, 'examples/docker/Dockerfile'), root, node);
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-docker-'));
	bundles = builtPrograms(folder);
	const [port, door] = [await quietPort(), await quietPort()];
	const probe = await docker.container('probe', '--entrypoint', 'sleep', image, '300');
	const { host: address } = await docker.addresses(probe);
	server = `https://${address}:${door}`;
	service = new ServiceProgram(bundles, join(folder, 'service'), port, {
		ROBOT_FLEET_ROBOTS_LISTEN: `${address}:${door}`,
	});
	service.start();
	await service.ready();
	client = service.client;
});

afterAll(async () => {
	await docker[Symbol.asyncDispose]();
	await service?.kill();
	rmSync(folder, { recursive: true, force: true });
});

async function robot(name: string, volume: string, ...more: string[]): Promise<string> {
	const { token } = await client.createToken({});
	const mount = ['--init', '-v', `${volume}:/data`];
	const say = ['--server', server, '--token', token, '--name', name];
	const container = await docker.container(
		`${name}-${Date.now()}`,
		...mount,
		...more,
		image,
		...say,
	);
	await eventually(
		'the robot',
		async () => (await client.robot(name).catch(() => undefined))?.connected,
	);
	return container;
}

const run = async (robot: string, shell: string): Promise<string> =>
	(await client.submit({ kind: 'command', spec: { shell }, target: { robot } })).jobId;

const ended = (jobId: string): Promise<Job> =>
	eventually('the end of the job', async () => {
		const job = await client.job(jobId);
		return isFinal(job.state) && job.output.complete && job;
	});

const running = (jobId: string) =>
	eventually('the job to run', async () => (await client.job(jobId)).state === 'running');

test('a robot in a container joins over TLS, runs jobs as nobody special, and is the same robot in the next container over its volume', async () => {
	const volume = await docker.volume('r1');
	const first = await robot('r1', volume);
	const { robotId } = await client.robot('r1');
	const job = await ended(await run('r1', 'id -u; uname'));
	expect(job).toMatchObject({ state: 'completed', result: { stdout: '1000\nLinux\n' } });
	await docker.run('rm', '-f', first);
	await eventually('it to be missed', async () => !(await client.robot('r1')).connected);
	await docker.container('r1-next', '--init', '-v', `${volume}:/data`, image, '--server', server);
	await eventually('the same robot', async () => (await client.robot('r1')).connected);
	expect((await client.robot('r1')).robotId).toBe(robotId);
	expect(await client.robots()).toHaveLength(1);
	expect((await ended(await run('r1', 'echo again'))).state).toBe('completed');
});

test('docker stop lets the job come to its end and brings its result', async () => {
	const container = await robot('r2', await docker.volume('r2'));
	const jobId = await run('r2', 'echo begun; sleep 3; echo done');
	await running(jobId);
	await docker.run('stop', '-t', '40', container);
	expect(await ended(jobId)).toMatchObject({
		state: 'completed',
		result: { stdout: 'begun\ndone\n' },
	});
});

test('docker kill takes the job with it: the next container says that nobody can know, and what was printed is there', async () => {
	const volume = await docker.volume('r3');
	const container = await robot('r3', volume);
	const jobId = await run('r3', 'echo begun; sleep 60; echo never');
	await eventually('its output', async () => (await client.job(jobId)).output.stdout > 0);
	await docker.run('kill', container);
	await docker.container('r3-next', '--init', '-v', `${volume}:/data`, image, '--server', server);
	const job = await ended(jobId);
	expect(job).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(await text((await client.output(jobId)).bytes)).toBe('begun\n');
});

test('a service in a container takes in a robot of this machine', async () => {
	const programs = join(folder, 'programs');
	const container = await docker.container(
		...['service', '-v', `${programs}:/programs:ro`, '--entrypoint', 'node', image],
		...['/programs/robot-fleet.js', 'serve', '--robots-listen', `0.0.0.0:${robotsPort}`],
		...['--data', '/data/service'],
	);
	const cli = (...args: string[]) =>
		docker.run(
			...['exec', '-e', 'ROBOT_FLEET_DATA=/data/service', container],
			...['node', '/programs/robot-fleet.js', ...args],
		);
	const token = await eventually('the service', () =>
		cli('token', 'create').then(
			({ out }) => out.split('\n')[0],
			() => undefined,
		),
	);
	const url = `https://${(await docker.addresses(container)).own}:${robotsPort}`;
	const agent = new AgentProgram(bundles, url, {
		...{ name: 'host', data: join(folder, 'host'), slots: 1, env: {} },
	});
	try {
		agent.start(token);
		await agent.connected();
		const { out } = await cli('submit', '--robot', 'host', '--wait', '--', 'echo', 'from inside');
		expect(out).toContain('from inside');
	} finally {
		await agent.kill();
		agent.killKeeper();
	}
});
