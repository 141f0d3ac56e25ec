/**
 * `robot-fleet-agent install` on a machine that is really run by systemd: a container whose first process it is. What the
 * unit promises (docs/machine-owner.md) is done to it here.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { FleetClient } from '../../client';
import { isFinal, type Job } from '../../protocol';
import { eventually } from '../fault/one-service';
import { Docker } from '../support/docker';
import { builtPrograms, quietPort, ServiceProgram } from '../support/programs';

jest.setTimeout(600_000);

const unit = 'robot-fleet-agent';
let docker: Docker;
let folder: string;
let service: ServiceProgram | undefined;
let client: FleetClient;
let machine: string;
let server: string;

/** Typed as root on the machine; answers all that was printed. */
async function type(...line: string[]): Promise<string> {
	const { out, err } = await docker.run('exec', machine, ...line);
	return out + err;
}

const agent = (...args: string[]) => type('node', '/opt/agent/agent.js', ...args);

const mainPid = () => type('systemctl', 'show', '-p', 'MainPID', '--value', unit);

beforeAll(async () => {
	docker = new Docker();
	const image = await docker.systemdImage(resolve(__dirname, 'systemd.Dockerfile'));
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-systemd-'));
	const bundles = builtPrograms(folder);
	machine = await docker.machine(
		'machine',
		image,
		...['-v', `${join(folder, 'programs')}:/opt/agent:ro`],
		...['-v', `${process.execPath}:/usr/local/bin/node:ro`],
	);
	await booted();
	const [port, door] = [await quietPort(), await quietPort()];
	const { host } = await docker.addresses(machine);
	server = `https://${host}:${door}`;
	const env = { ROBOT_FLEET_ROBOTS_LISTEN: `${host}:${door}` };
	service = new ServiceProgram(bundles, join(folder, 'service'), port, env);
	service.start();
	await service.ready();
	client = service.client;
});

afterAll(async () => {
	await docker[Symbol.asyncDispose]();
	await service?.kill();
	rmSync(folder, { recursive: true, force: true });
});

const booted = () =>
	eventually('systemd', () =>
		type('systemctl', 'is-system-running').then(
			(state) => state.trim() === 'running',
			() => false,
		),
	);

const connected = () =>
	eventually('the robot', async () => (await client.robot('m1').catch(() => undefined))?.connected);

const run = async (shell: string): Promise<string> => {
	const spec = { shell };
	const { jobId } = await client.submit({ kind: 'command', spec, target: { robot: 'm1' } });
	await eventually('its first word', async () => (await client.job(jobId)).output.stdout > 0);
	return jobId;
};

const ended = (jobId: string): Promise<Job> =>
	eventually('the end of the job', async () => {
		const job = await client.job(jobId);
		return isFinal(job.state) && job.output.complete && job;
	});

/** Says something, and goes on while `/tmp/NAME` is not there. */
const until = (name: string) =>
	run(`echo begun; while [ ! -e /tmp/${name} ]; do sleep 0.1; done; echo done`);

const done = { state: 'completed', attempt: 1, result: { stdout: 'begun\ndone\n' } };

test('install makes a user, a unit and a robot that is there after the machine was started again', async () => {
	const { token } = await client.createToken({});
	const install = ['install', '--server', server, '--token', token, '--name', 'm1', '--slots', '4'];
	expect(await agent(...install)).toContain('installed; the agent runs');
	await connected();
	expect(await agent('status')).toMatch(/^connected +yes/m);
	const who = await ended(await run('id -un'));
	expect(who.result!.stdout).toBe('robot-fleet-agent\n');
	const lost = await until('never');
	await docker.run('restart', '-t', '20', machine);
	await booted();
	await connected();
	// A machine that goes down takes its jobs with it.
	expect(await ended(lost)).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect((await client.robots()).length).toBe(1);
});

test('systemctl restart, stop, and kill -9 of the agent are nothing that a job notices', async () => {
	const restarted = await until('restarted');
	const before = await mainPid();
	await type('systemctl', 'restart', unit);
	expect(await mainPid()).not.toBe(before);
	await connected();
	await type('touch', '/tmp/restarted');
	expect(await ended(restarted)).toMatchObject(done);

	const killed = await until('killed');
	await type('systemctl', 'kill', '--kill-who=main', '--signal=SIGKILL', unit);
	await type('touch', '/tmp/killed');
	expect(await ended(killed)).toMatchObject(done);

	const stopped = await until('stopped');
	await type('systemctl', 'stop', unit);
	await expect(agent('status')).rejects.toThrow();
	await type('touch', '/tmp/stopped');
	await type('systemctl', 'start', unit);
	expect(await ended(stopped)).toMatchObject(done);
});

test('uninstall names the jobs that run on, and a later install brings their results', async () => {
	await connected();
	const jobId = await until('uninstalled');
	const said = await agent('uninstall');
	expect(said).toContain(`Still running without the agent: ${jobId}.`);
	expect(said).toContain('identity and results stay in /var/lib/robot-fleet-agent');
	await type('touch', '/tmp/uninstalled');
	await agent('install', '--server', server, '--name', 'm1');
	expect(await ended(jobId)).toMatchObject(done);
});

test('uninstall --purge leaves nothing: no unit, no folder, no user, no process of a job', async () => {
	await connected();
	await until('never');
	await agent('uninstall', '--purge', '--yes');
	const left = await type(
		...[
			'sh',
			'-c',
			`ls -d /var/lib/${unit} /etc/${unit} /etc/systemd/system/${unit}*; ps -eo args`,
		],
	);
	expect(left).not.toContain('/agent.js');
	expect(left).not.toContain('/keeper.js');
	expect(left).not.toContain('/tmp/never');
	expect(left.match(/^\/(var|etc)\/.*/gm)).toBeNull();
	await expect(type('id', unit)).rejects.toThrow('no such user');
});
