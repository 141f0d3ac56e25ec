/** The real agent and the real service: what people ask of a robot, and what it says of itself. */
import { execFile } from 'node:child_process';
import {
	chmodSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readFileSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { memoryLimit, memoryShare } from '../../../agent/memory';
import type { Robot } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';
import { eventually } from '../../fault/one-service';
import { AgentProcess, agentBundle, bundleAgent, removeBundle } from './agent-process';

jest.setTimeout(60_000);

let house: WholeHouse;
let folder: string;
const agents: AgentProcess[] = [];

beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(async () => {
	house = await WholeHouse.open();
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-orders-'));
	// What is installed on this machine is not the test's: here is all that its robot can find.
	mkdirSync(join(folder, 'bin'));
	for (const name of ['sh', 'true', 'sleep', 'df'])
		symlinkSync(`/bin/${name}`, join(folder, 'bin', name));
	symlinkSync(process.execPath, join(folder, 'bin/node'));
});
afterEach(async () => {
	await Promise.all(agents.splice(0).map((agent) => agent.stop()));
	await house[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

const data = () => join(folder, 'data');

/** The fields of a process from its state on; undefined when it has ended, buried or not. */
function statOf(pid: number): string[] | undefined {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ');
		return stat[0] === 'Z' ? undefined : stat;
	} catch {
		return undefined;
	}
}

async function connect(more: string[] = [], { keeper = true } = {}): Promise<AgentProcess> {
	// Where its log should be stands a folder.
	if (!keeper) mkdirSync(join(data(), 'keeper/log'), { recursive: true });
	const { token } = await house.client.createToken({});
	const agent = new AgentProcess(
		['--server', house.service.url, '--data', data(), '--token', token, '--name', 'r1', ...more],
		{ PATH: join(folder, 'bin') },
	);
	agents.push(agent);
	await agent.untilPrinted(/^connected as r1/m);
	return agent;
}

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

function tool(name: string, version: string): void {
	writeFileSync(join(folder, 'bin', name), `#!/bin/sh\necho ${name} version ${version}\n`);
	chmodSync(join(folder, 'bin', name), 0o755);
}

/** Another call of the agent's program. */
async function call(...args: string[]): Promise<{ code: number; out: string; err: string }> {
	return await new Promise((resolve) => {
		execFile(process.execPath, [agentBundle, ...args], (error, out, err) =>
			resolve({ code: error === null ? 0 : Number(error.code), out, err }),
		);
	});
}

test('a robot finds out what it can do, and a job that asks for it runs there', async () => {
	tool('terraform', '1.9.5');
	await connect(['--capability', 'gpu']);
	const robot = await until('what it found', ({ capabilities }) =>
		capabilities.includes('tool:terraform'),
	);
	expect(robot.capabilities[0]).toBe('gpu');
	expect(robot.capabilities).toEqual(
		expect.arrayContaining(['os:linux', 'shell:sh', 'runtime:node']),
	);
	expect(new Set(robot.capabilities).size).toBe(robot.capabilities.length);
	expect(robot.info).toMatchObject({
		os: 'linux',
		hostname: expect.any(String),
		runtimes: { node: expect.stringMatching(/^\d+\.\d+/) },
		tools: { terraform: '1.9.5' },
		disks: expect.arrayContaining([expect.objectContaining({ mount: '/' })]),
	});
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'true' },
		target: { capabilities: ['tool:terraform', 'gpu'] },
	});
	expect((await house.client.job(jobId, 15_000)).state).toBe('completed');
});

test('a refresh sees what was installed since, and what was removed', async () => {
	tool('terraform', '1.9.5');
	await connect();
	await until('the first look', ({ capabilities }) => capabilities.includes('tool:terraform'));
	rmSync(join(folder, 'bin/terraform'));
	tool('kubectl', '1.31.0');
	const { capabilities, info } = await house.client.refreshRobot('r1');
	expect(capabilities).toContain('tool:kubectl');
	expect(capabilities).not.toContain('tool:terraform');
	expect(info.tools).toMatchObject({ kubectl: '1.31.0' });
	expect(await house.client.robot('r1')).toMatchObject({ capabilities });
});

// Whose child a process is, and whether it is there, /proc says.
(process.platform === 'linux' ? test : test.skip)(
	'a look at the machine ends with the agent that asked for it, a kill included',
	async () => {
		// Tools that do not answer, each of which it gives 5 s, and four at a time: it would take more than half a minute.
		const mute = [
			...['ruby', 'php', 'perl', 'deno', 'bun', 'dotnet', 'python3', 'java', 'go', 'rustc'],
			...['chromium', 'google-chrome', 'firefox', 'microsoft-edge'],
			...['git', 'docker', 'podman', 'kubectl', 'terraform', 'ansible', 'make', 'cmake'],
			...['gcc', 'curl', 'rsync', 'jq', 'adb', 'ffmpeg', 'ssh'],
		];
		const asked = join(folder, 'asked');
		for (const name of mute) {
			const first = name === 'ruby' ? `printf %s $$ > '${asked}'\n` : '';
			writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${first}exec sleep 600\n`);
			chmodSync(join(folder, 'bin', name), 0o755);
		}
		const agent = await connect();
		// The file is there before its number is.
		const pid = await eventually(
			'a tool to be asked',
			() => existsSync(asked) && (Number(readFileSync(asked, 'utf8')) || undefined),
		);
		const [, look] = statOf(pid)!;
		expect(readFileSync(`/proc/${look}/cmdline`, 'latin1')).toContain('facts');
		agent.signal('SIGKILL');
		await agent.exit;
		await eventually(
			'the look to end with its agent',
			() => statOf(pid) === undefined && statOf(Number(look)) === undefined,
		);
	},
);

test('a restarted agent knows at once what it found before', async () => {
	tool('terraform', '1.9.5');
	const first = await connect();
	await until('the first look', ({ capabilities }) => capabilities.includes('tool:terraform'));
	first.signal('SIGTERM');
	expect(await first.exit).toBe(0);
	// Were it looked for only now, a program that hangs would keep it unknown.
	tool('terraform', '1.9.5; exec sleep 20');
	await connect();
	expect((await house.client.robot('r1')).capabilities).toContain('tool:terraform');
});

test('a ping goes there and back on the line that carries the work', async () => {
	await connect();
	const askedAt = performance.now();
	const { ms, name } = await house.client.pingRobot('r1');
	expect(name).toBe('r1');
	expect(ms).toBeGreaterThan(0);
	expect(ms).toBeLessThan(performance.now() - askedAt);
});

test('a stopped agent does not answer a ping, however healthy its socket is', async () => {
	const agent = await connect();
	agent.signal('SIGSTOP');
	try {
		await expect(house.client.pingRobot('r1')).rejects.toMatchObject({ code: 'robot-silent' });
	} finally {
		agent.signal('SIGCONT');
	}
});

test('its heartbeats tell how full processor, memory and disk are, as the system says it', async () => {
	await connect();
	// A container with a limit is looked at alone: that it is looked at right is for test/unit/agent/memory.test.ts to say.
	const isLimited = memoryLimit() < totalmem();
	const memory = async () => {
		const meminfo = readFileSync('/proc/meminfo', 'utf8');
		const kB = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(meminfo)![1]);
		return 100 * (isLimited ? await memoryShare() : 1 - kB('MemAvailable') / kB('MemTotal'));
	};
	const disk = async () => {
		const df = await new Promise<string>((resolve) =>
			execFile('df', ['--output=pcent', data()], (_error, out) => resolve(out)),
		);
		return Number(/(\d+)%/.exec(df)![1]);
	};
	// Others use this machine, too, and a heartbeat tells of its own moment: there comes one at which little changes.
	const { metrics, health } = await eventually(
		'a heartbeat that agrees with the system',
		async () => {
			const robot = await house.client.refreshRobot('r1');
			const { memoryPercent, diskPercent } = robot.metrics ?? {};
			if (memoryPercent == null || diskPercent == null) return false;
			const isNear = Math.abs(memoryPercent - (await memory())) < 10;
			return isNear && Math.abs(diskPercent - (await disk())) < 2 && robot;
		},
	);
	expect(metrics!.cpuPercent).toBeGreaterThanOrEqual(0);
	expect(metrics!.keeperMissing).toBe(false);
	expect(health).not.toBeNull();
});

test('its heartbeats tell how long a round trip takes, and how busy the agent itself is', async () => {
	const begunAt = performance.now();
	await connect();
	const told = until(
		'a round trip and a look at the agent',
		({ metrics }) => metrics?.roundTripMs != null && metrics.agentBusyPercent !== null,
	);
	let over = false;
	const asking = (async () => {
		while (!over) await house.client.refreshRobot('r1');
	})();
	const { metrics } = await told.finally(() => (over = true));
	await asking;
	expect(metrics!.roundTripMs).toBeGreaterThan(0);
	expect(metrics!.roundTripMs).toBeLessThan(performance.now() - begunAt);
	expect(metrics!.agentBusyPercent).toBeGreaterThanOrEqual(0);
	expect(metrics!.agentBusyPercent).toBeLessThanOrEqual(100);
});

test('an agent that can start no keeper says so, and its robot is not as it should be', async () => {
	await connect([], { keeper: false });
	const { jobId } = await house.client.submit({ kind: 'command', spec: { command: 'true' } });
	expect((await house.client.job(jobId, 20_000)).state).toBe('completed');
	await house.client.refreshRobot('r1');
	const { health } = await until('the trouble', ({ metrics }) => metrics?.keeperMissing === true);
	expect(health!.level).not.toBe('normal');
	expect(health!.reasons.join(' ')).toContain('cannot start a keeper');
});

test('a drain ends when the job does, and a resumed robot works again', async () => {
	await connect();
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: {
			shell: 'while [ ! -e "$GO" ]; do sleep 0.05; done',
			env: { GO: join(folder, 'go') },
		},
	});
	await until('the job', ({ held }) => held === 1);
	const draining = house.client.drainRobot('r1', 20_000);
	writeFileSync(join(folder, 'go'), '');
	expect(await draining).toMatchObject({ held: 0, status: 'paused' });
	expect((await house.client.job(jobId)).endedAt).not.toBeNull();
	expect(await house.client.resumeRobot('r1')).toMatchObject({ status: 'online' });
});

test('a disconnected robot comes back by itself', async () => {
	const agent = await connect();
	expect((await house.client.disconnectRobot('r1')).connected).toBe(false);
	await until('the robot to come back', ({ connected }) => connected);
	await agent.untilPrinted(/^connected as r1.*\nconnected as r1/m);
});

test('a shutdown lets the job end, one at once does not', async () => {
	const gentle = await connect();
	await house.client.shutdownRobot('r1');
	expect(await gentle.exit).toBe(0);
	const hasty = await connect(['--stop-grace', '3600']);
	const { jobId } = await house.client.submit({
		kind: 'command',
		spec: { command: 'sleep', args: ['600'] },
	});
	await until('the job', ({ held }) => held === 1);
	await house.client.shutdownRobot('r1', true);
	expect(await hasty.exit).toBe(0);
	expect(await house.client.job(jobId, 10_000)).toMatchObject({
		state: 'failed',
		cause: 'signal',
	});
});

test('a broadcast is a note in the log of each agent', async () => {
	const agent = await connect();
	expect(await house.client.broadcast({ text: 'maintenance at noon' })).toEqual({ told: 1 });
	await agent.untilPrinted(/maintenance at noon/);
});

describe('status', () => {
	test('says who runs, what, and to whom it is connected, and its exit code says it too', async () => {
		await connect();
		const { robotId } = await house.client.robot('r1');
		const { jobId } = await house.client.submit({
			kind: 'command',
			spec: { command: 'sleep', args: ['600'] },
		});
		await until('the job', ({ held }) => held === 1);
		let shown = await call('status', '--data', data(), '--json');
		const late = Date.now() + 10_000;
		while (!shown.out.includes(jobId) && Date.now() < late) {
			shown = await call('status', '--data', data(), '--json');
		}
		expect(shown.code).toBe(0);
		expect(JSON.parse(shown.out)).toMatchObject({
			running: true,
			connected: true,
			agent: { robotId, name: 'r1', server: house.service.url, status: 'busy', jobs: [jobId] },
		});
		const { code, out } = await call('status', '--data', data());
		expect(code).toBe(0);
		expect(out).toMatch(/^running +yes, process \d+/m);
		expect(out).toContain(jobId);
	});

	test('of an agent that was killed it says that it does not run', async () => {
		const agent = await connect();
		await agent.kill();
		const { code, out } = await call('status', '--data', data());
		expect(code).toBe(3);
		expect(out).toMatch(/^running +no$/m);
		expect(out).toMatch(/^robot +r1 /m);
	});

	test('of one without a service it says since when, and why', async () => {
		const agent = await connect();
		await house.service.close();
		await agent.untilPrinted(/no link to the service/);
		const { code, out } = await call('status', '--data', data());
		expect(code).toBe(1);
		expect(out).toMatch(/^connected +no, since/m);
		expect(out).toMatch(/^last error +\S/m);
	});

	test('where no agent ever was it says so', async () => {
		const { code, out } = await call('status', '--data', join(folder, 'nothing'));
		expect(code).toBe(3);
		expect(out).toMatch(/^running +no$/m);
	});
});

test('install shows what it would do, with the settings of this call', async () => {
	const { code, out } = await call(
		...['install', '--user', '--dry-run', '--server', house.service.url, '--token', 'rf1.a.b.-'],
	);
	expect(code).toBe(0);
	expect(out).toContain(`ExecStart=${process.execPath} ${agentBundle} --config `);
	expect(out).toContain(house.service.url);
	expect(out).not.toContain('rf1.');
});

test('what is wrong with the settings is told before anything is installed', async () => {
	const { code, err } = await call(
		'install',
		'--user',
		'--dry-run',
		'--slots',
		'0',
		'--server',
		'x',
	);
	expect(code).toBe(2);
	expect(err).toContain('--slots');
	expect(err).toContain('--server');
});
