/** The real agent and the real service: a robot that fails job after job, its probes, and maintenance that ends by itself. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Job, Robot } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';
import { AgentProcess, bundleAgent, removeBundle } from './agent-process';

jest.setTimeout(60_000);

let house: WholeHouse;
let folder: string;
let agent: AgentProcess;

beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(async () => {
	house = await WholeHouse.open();
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-quarantine-'));
	const { token } = await house.client.createToken({});
	agent = new AgentProcess([
		...['--server', house.service.url, '--data', join(folder, 'data')],
		...['--token', token, '--name', 'r1'],
	]);
	await agent.untilPrinted(/^connected as r1/m);
});
afterEach(async () => {
	await agent.stop();
	await house[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

/** Asks until it is so. */
async function until(what: string, good: (robot: Robot) => boolean): Promise<Robot> {
	const late = Date.now() + 20_000;
	for (;;) {
		const robot = await house.client.robot('r1');
		if (good(robot)) return robot;
		if (Date.now() > late) throw new Error(`waited for ${what}: ${JSON.stringify(robot)}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

async function run(more = {}): Promise<Job> {
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'true' },
		retry: { maxAttempts: 1 },
		...more,
	});
	return house.client.job(jobId, 20_000);
}

/** The process that calls the programs. */
function keeperOf(data: string): number {
	const keeper = readdirSync('/proc')
		.map(Number)
		.find((pid) => {
			try {
				return (
					readlinkSync(`/proc/${pid}/cwd`) === join(data, 'keeper') &&
					readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('keeper.js')
				);
			} catch {
				return false;
			}
		});
	if (keeper === undefined) throw new Error('there is no keeper');
	return keeper;
}

/** To take open files away from a process that runs needs prlimit, which Linux alone has. */
const canLimit = () => {
	try {
		execFileSync('prlimit', ['--version']);
		return process.platform === 'linux';
	} catch {
		return false;
	}
};

(canLimit() ? test : test.skip)(
	'a robot that has run out of open files is put away after three jobs, and a probe brings it back when that is mended',
	async () => {
		expect(await run()).toMatchObject({ state: 'completed' });
		const keeper = keeperOf(join(folder, 'data'));
		const openFiles = (limit: string) =>
			execFileSync('prlimit', ['--pid', String(keeper), `--nofile=${limit}`]);
		const used = readdirSync(`/proc/${keeper}/fd`).length;
		openFiles(`${used}:`);
		for (let i = 0; i < 3; i += 1) {
			const { state, cause, error } = await run();
			expect({ state, cause, message: error?.message }).toMatchObject({
				state: 'failed',
				cause: 'spawn_error',
				message: expect.stringContaining('EMFILE'),
			});
		}
		const away = await until('the quarantine', ({ quarantine }) => quarantine !== null);
		expect(away).toMatchObject({ status: 'quarantined', quarantine: { by: 'dispatcher' } });
		const { jobId } = await house.client.submit({ kind: 'command', spec: { command: 'true' } });
		expect((await house.client.why(jobId)).text).toContain('is in quarantine (3 jobs in a row');
		await house.client.probeRobot('r1');
		await until('a probe that failed', ({ quarantine }) => quarantine?.probes === 1);
		expect((await house.client.job(jobId)).state).toBe('queued');
		openFiles('1024:');
		await house.client.probeRobot('r1');
		await until('a probe that succeeded', ({ quarantine }) => quarantine === null);
		expect(await house.client.job(jobId, 20_000)).toMatchObject({ state: 'completed' });
		const probes = (await house.client.jobs({ kind: 'probe' })).items;
		expect(probes.map(({ state }) => state)).toEqual(['completed', 'failed']);
	},
);

test('anybody may probe: it starts a program as any job does', async () => {
	const job = await run({ kind: 'probe', spec: {} });
	expect(job).toMatchObject({
		state: 'completed',
		result: { exitCode: 0, stdout: `${process.version}\n` },
	});
});

test('maintenance ends by itself, and what waited runs', async () => {
	const closed = await house.client.maintainRobot('r1', { reason: 'disk swap', forMs: 2_000 });
	expect(closed).toMatchObject({ status: 'maintenance', closed: { reason: 'disk swap' } });
	const submitted = run();
	await until('its end', (robot) => robot.closed === null);
	expect(await submitted).toMatchObject({ state: 'completed' });
});

test('a job that says how long it waits runs on a robot that is there, and asks nothing', async () => {
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'true' },
		target: { robot: 'r1' },
		offline: { forMs: 86_400_000, then: 'ask' },
	});
	expect(await house.client.job(jobId, 20_000)).toMatchObject({
		state: 'completed',
		offline: { then: 'ask' },
	});
	await expect(house.client.answer(jobId, { answer: 'other' })).rejects.toMatchObject({
		code: 'nothing-asked',
	});
});
