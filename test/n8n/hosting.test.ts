/**
 * The service inside a real n8n: its hook, n8n's own port as the robots' door, an update of the package under running
 * work, commands beside it, and its end. The order of the tests is that of the life of one n8n.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { request } from '../../scripts/n8n/loopback.mjs';
import { until } from '../../scripts/n8n/until.mjs';
import type { Job } from '../../protocol';
import { packedTarball } from '../support/n8n-runtime';
import { Fleet } from './fleet';
import { openRegistry, packageName, pathWithRegistry, type Registry } from './registry';

const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const shell = (text: string) => ({ commandType: 'shell', shell: text });
const root = join(__dirname, '../..');

describe('the service inside a real n8n', () => {
	let fleet: Fleet;
	let registry: Registry;
	const packageFolder = () => join(fleet.folder, 'n8n/.n8n/nodes/node_modules', packageName);
	const told = () => fleet.n8n.lines.join('\n');
	const ran = async (workflowId: string, deadlineMs?: number) => {
		const { executionId } = await fleet.n8n.runManually(workflowId, 'Manual');
		return await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && ['success', 'error'].includes(each.status),
			deadlineMs,
		);
	};
	const ended = async (jobId: string) =>
		await until(
			async () => {
				const job = await fleet.job(jobId);
				return ['completed', 'failed', 'cancelled'].includes(job.state) ? job : undefined;
			},
			{ deadlineMs: 60_000, what: () => `the end of job ${jobId}` },
		);
	const isUp = async (deadlineMs = 30_000) =>
		await until(() => fleet.serviceIsUp(), {
			deadlineMs,
			what: () => `the service; n8n said:\n${fleet.n8n.lines.slice(-30).join('\n')}`,
		});

	beforeAll(async () => {
		let userFolder = '';
		fleet = await Fleet.create((folder) => {
			userFolder = folder;
			return {
				EXTERNAL_HOOK_FILES: join(folder, '.n8n/robot-fleet-hook.js'),
				PATH: pathWithRegistry(dirname(folder)),
			};
		});
		registry = await openRegistry(fleet.folder, packedTarball(fleet.folder));
		registry.publish('0.1.1');
		registry.publish('0.1.2');
		mkdirSync(join(userFolder, '.n8n'), { recursive: true });
		const cli = join(root, 'dispatcher/dist/robot-fleet.js');
		execFileSync(process.execPath, [cli, 'hook', 'install', '--n8n-folder', userFolder]);
	}, 600_000);
	afterAll(async () => {
		await fleet?.stop();
		await registry?.close();
	}, 60_000);

	test('n8n starts with a hook whose package throws', async () => {
		mkdirSync(join(packageFolder(), 'dist/nodes/shared'), { recursive: true });
		const manifest = { name: packageName, version: '0.0.1', n8n: { nodes: [], credentials: [] } };
		writeFileSync(join(packageFolder(), 'package.json'), JSON.stringify(manifest));
		const hook = join(packageFolder(), 'dist/nodes/shared/hook.js');
		writeFileSync(hook, `throw new Error('this package is broken');`);
		await fleet.n8n.start();
		await fleet.n8n.setupOwner({ email: 'owner@example.com', password: 'Robots1234' });
		expect(told()).toContain('the hook does nothing: this package is broken');
		await fleet.n8n.stop();
		expect(await fleet.n8n.gone).toBe('exit code 0');
	}, 240_000);

	test('n8n starts with a hook whose package is gone, and installs it then', async () => {
		rmSync(packageFolder(), { recursive: true });
		await fleet.n8n.start();
		await fleet.n8n.login();
		expect(told()).toContain('the hook does nothing: n8n-nodes-robot-fleet is not installed');
		await fleet.n8n.rest('POST', '/community-packages', { name: packageName, version: '0.1.1' });
		await fleet.useThisN8n();
		expect(await fleet.serviceIsUp()).toBe(false);
	}, 240_000);

	test('a port that is taken is said by the node, n8n lives on, and the next try works when it is free', async () => {
		const { id } = await fleet.workflow([manual, fleet.ours('Submit', 'submitJob', shell('true'))]);
		const other = createServer();
		await new Promise<void>((resolve) =>
			other.listen(fleet.servicePort, '127.0.0.1', () => resolve()),
		);
		const refused = await ran(id);
		expect(refused.data.resultData.error).toMatchObject({
			name: 'NodeOperationError',
			message: `Port ${fleet.servicePort} on 127.0.0.1 is in use`,
			description: 'Stop the other program or set ROBOT_FLEET_PORT to a free port.',
		});
		await new Promise((resolve) => other.close(resolve));
		const execution = await ran(id);
		expect(execution.status).toBe('success');
		await fleet.startAgent('berlin-1');
	}, 120_000);

	test('an update of the package hands the service over: the robot, its job and the parked execution go on', async () => {
		const counter = join(fleet.folder, 'starts');
		const command = `echo started >> "${counter}"; sleep 20; echo done at last`;
		const { id } = await fleet.workflow([
			manual,
			fleet.ours('Submit', 'submitJob', shell(command)),
			fleet.ours('Wait', 'waitForExecution', {}),
		]);
		const { executionId } = await fleet.n8n.runManually(id, 'Manual');
		const parked = await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && each.status === 'waiting',
		);
		const jobId = Fleet.output(parked, 'Submit')[0]!.json.jobId as string;
		await until(async () => (await fleet.job(jobId)).state === 'running', {
			deadlineMs: 30_000,
			what: () => 'the job to run',
		});
		const pid = fleet.n8n.pid;

		await fleet.n8n.rest('PATCH', '/community-packages', { name: packageName, version: '0.1.2' });
		const marker = join(fleet.dataFolder, 'autostart');
		await until(() => readFileSync(marker, 'utf8').trim() === '0.1.2', {
			deadlineMs: 30_000,
			what: () => `the newer version to have started; n8n said:\n${told().slice(-3_000)}`,
		});
		await until(() => told().includes('the service goes over to another version of the package'), {
			deadlineMs: 30_000,
			what: () => `n8n to have told of it; it said:\n${told().slice(-3_000)}`,
		});
		await isUp();
		await fleet.connected('berlin-1');
		const [installed] = await fleet.n8n.rest('GET', '/community-packages');
		expect(installed).toMatchObject({ packageName, installedVersion: '0.1.2' });

		const execution = await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && ['success', 'error'].includes(each.status),
			90_000,
		);
		expect(execution.status).toBe('success');
		expect(Fleet.output(execution, 'Wait')[0]!.json.job).toMatchObject({
			state: 'completed',
			stdout: 'done at last\n',
		});
		expect(await fleet.attempts(jobId)).toHaveLength(1);
		expect(readFileSync(counter, 'utf8')).toBe('started\n');
		expect(fleet.n8n.pid).toBe(pid);
		// One service, one owner: nothing goes back to the older one.
		expect(told().split('the service goes over to another version').length - 1).toBe(1);
	}, 180_000);

	let running: string;

	test('SIGTERM ends n8n in order with a job running, a consumer listening and calls waiting', async () => {
		const schedule = fleet.ours('Yearly', 'scheduleTrigger', { cron: '0 0 1 1 *' });
		const { id } = await fleet.workflow([schedule, noOp('After')]);
		await fleet.n8n.activate(id);
		const { jobId } = await fleet.service<Job>('POST', '/jobs', {
			kind: 'command',
			spec: { command: 'sleep', args: ['25'] },
		});
		running = jobId;
		await until(async () => (await fleet.job(jobId)).state === 'running', {
			deadlineMs: 30_000,
			what: () => 'the job to run',
		});
		const waiting = fleet.service<Job>('GET', `/jobs/${jobId}?waitMs=60000`).catch(() => undefined);
		await fleet.n8n.kill('SIGTERM');
		// What keeps it longer than its own time for that ends it with another code.
		expect(await fleet.n8n.gone).toBe('exit code 0');
		await waiting;
		// It told robots, wrote everything down, and took away what says where it is.
		expect(existsSync(join(fleet.dataFolder, 'service.json'))).toBe(false);
	}, 240_000);

	test('with the hook the service starts with n8n, whatever ran before, and the job has gone on', async () => {
		rmSync(join(fleet.dataFolder, 'autostart'), { force: true });
		await fleet.n8n.start();
		await fleet.n8n.login();
		await isUp();
		await fleet.connected('berlin-1');
		expect(await ended(running)).toMatchObject({ state: 'completed' });
		expect(await fleet.attempts(running)).toHaveLength(1);
	}, 240_000);

	test('a robot enrolls and works through n8n’s own port, where nothing else of the service is', async () => {
		const base = `${fleet.n8n.baseUrl}/robot-fleet`;
		expect((await request(`${base}/healthz`)).status).toBe(200);
		const robot = await fleet.startAgent('kiosk-1', 1, base);
		const { jobId } = await fleet.service<Job>('POST', '/jobs', {
			kind: 'command',
			target: { robot: robot.robotId },
			spec: { command: 'echo', args: ['by n8n’s own port'] },
		});
		expect((await ended(jobId)).result).toMatchObject({ stdout: 'by n8n’s own port\n' });
		const key = readFileSync(join(fleet.dataFolder, 'admin.key'), 'utf8').trim();
		const headers = { authorization: `Bearer ${key}` };
		for (const path of ['/api/v1/jobs', '/api/v1/robots', '/metrics', '/']) {
			const answer = await request(base + path, { headers });
			expect([path, answer.status, JSON.parse(answer.text).error.code]).toEqual([
				path,
				404,
				'no-such-route',
			]);
		}
		// n8n's own paths are n8n's.
		expect((await fleet.n8n.request('GET', '/healthz')).text).toBe('{"status":"ok"}');
		expect((await fleet.n8n.rest('GET', '/community-packages')).length).toBe(1);
	}, 120_000);

	test('"n8n execute" beside it calls the service that is there, and starts none', async () => {
		const { id } = await fleet.workflow([
			manual,
			fleet.ours('Submit', 'submitJob', shell('echo from the command line')),
		]);
		const { code, output } = await fleet.n8n.command(['execute', '--id', id, '--rawOutput']);
		expect([code, output]).toEqual([0, expect.stringContaining('jobId')]);
		const jobId = /"jobId":\s*"([^"]+)"/.exec(output)![1]!;
		expect((await ended(jobId)).result).toMatchObject({ stdout: 'from the command line\n' });
		const { pid } = JSON.parse(readFileSync(join(fleet.dataFolder, 'service.json'), 'utf8'));
		expect(pid).toBe(fleet.n8n.pid);

		await fleet.n8n.stop();
		const alone = await fleet.n8n.command(['execute', '--id', id]);
		expect(alone.output).toContain('"This n8n" works only in the main process of a regular n8n');
		expect(alone.output).toContain('no n8n with the service runs beside it');
		expect(existsSync(join(fleet.dataFolder, 'service.json'))).toBe(false);
	}, 240_000);

	test('on a Node that is too old the hook says so, and nothing more', async () => {
		const program = `
			Object.defineProperty(process.versions, 'node', { value: '20.19.0' });
			process.argv = ['node', 'n8n', 'start'];
			const hooks = require('${join(fleet.folder, 'n8n/.n8n/robot-fleet-hook.js')}');
			const server = require('node:http').createServer();
			(async () => {
				for (const hook of hooks.n8n.ready) await hook({ server });
				await globalThis[Symbol.for('robot-fleet.host.v1')].start().catch(() => undefined);
				for (const hook of hooks.n8n.stop) await hook();
				console.log('n8n goes on');
			})();`;
		const env = {
			...process.env,
			N8N_USER_FOLDER: join(fleet.folder, 'n8n'),
			// As n8n gives its own packages to ours.
			NODE_PATH: join(root, 'node_modules'),
		};
		const said = execFileSync('sh', ['-c', '"$0" -e "$1" 2>&1', process.execPath, program], {
			env,
		});
		expect(String(said)).toMatch(/Node 20\.19\.0 is too old[^]*\nn8n goes on\n/);
	}, 60_000);
});
