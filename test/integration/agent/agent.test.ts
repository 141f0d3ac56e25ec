import { randomBytes, randomUUID } from 'node:crypto';
import {
	closeSync,
	existsSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { protocolRange } from '../../../protocol';
import { type HubAttempt, ScriptedHub } from '../../support/scripted-hub';
import { AgentProcess, bundleAgent, lives, newDataFolder, removeBundle } from './agent-process';

jest.setTimeout(30_000);

let hub: ScriptedHub;
let data: string;
const agents: AgentProcess[] = [];

beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(async () => {
	hub = await ScriptedHub.start();
	data = newDataFolder();
});
afterEach(async () => {
	await Promise.all(agents.splice(0).map((agent) => agent.stop()));
	await hub.close();
	rmSync(data, { recursive: true, force: true });
});

function start(more: string[] = [], env: Record<string, string> = {}): AgentProcess {
	const args = ['--server', hub.url, '--data', data, '--token', hub.token, '--name', 'r1', ...more];
	const agent = new AgentProcess(args, env);
	agents.push(agent);
	return agent;
}

async function connect(
	more: string[] = [],
	env: Record<string, string> = {},
): Promise<AgentProcess> {
	const untilHere = hub.nextRobot();
	const agent = start(more, env);
	await untilHere();
	return agent;
}

/** A shell job that says the pids of itself and of a child tree which ignores SIGTERM. */
const stubbornTree = {
	shell: `trap '' TERM; sh -c 'trap "" TERM; echo child $$; while :; do sleep 0.2; done' & echo parent $$; while :; do sleep 0.2; done`,
};

function pidsIn(text: string): number[] {
	return [...text.matchAll(/(?:parent|child) (\d+)/g)].map(([, pid]) => Number(pid));
}

async function untilTree(job: HubAttempt): Promise<number[]> {
	return await hub.until('the pids of the tree', () => {
		const pids = pidsIn(job.output.stdout.toString());
		return pids.length === 2 && pids;
	});
}

/** What was said with the last job that was not taken; heartbeats come when they like. */
const refusal = () => hub.said.findLast(({ type }) => type === 'job_rejected')!.payload;

describe('joining', () => {
	test('a robot enrolls once, says who it is, and comes back without a token', async () => {
		const first = await connect([
			'--label',
			'os=linux',
			'--label',
			'room=a',
			'--capability',
			'git',
		]);
		await first.untilPrinted(/^connected as r1 \([0-9a-f-]{36}\)$/m);
		expect(hub.hellos[0]).toMatchObject({
			labels: { os: 'linux', room: 'a' },
			capabilities: expect.arrayContaining(['git', 'os:linux']),
			slots: 1,
			attempts: [],
		});
		first.signal('SIGTERM');
		expect(await first.exit).toBe(0);

		const second = new AgentProcess(['--server', hub.url, '--data', data]);
		agents.push(second);
		await second.untilPrinted(/^connected as r1/m);
		expect(hub.enrolments).toBe(1);
		expect(hub.hellos[1]!.journal_id).toBe(hub.hellos[0]!.journal_id);
		expect(hub.hellos[1]!.boot_id).not.toBe(hub.hellos[0]!.boot_id);
		expect(statSync(join(data, 'identity.json')).mode & 0o777).toBe(0o600);
	});

	test('an enrolment whose answer got lost is repeated by the same robot', async () => {
		hub.loseEnrolAnswers = 1;
		await connect();
		expect(hub.enrolments).toBe(2);
		expect(hub.robots.size).toBe(1);
	});

	test('a refused token is one sentence and exit code 3', async () => {
		hub.refuseEnrolment = 'bad-token';
		const agent = start();
		expect(await agent.exit).toBe(3);
		expect(agent.stderr).toMatch(/^This enrollment token is unknown, expired, used up or revoked/m);
		expect(agent.stderr).not.toContain(hub.token);
	});

	test('a new token that cannot be written down ends nothing', async () => {
		const first = await connect();
		await first.kill();
		// As on a full disk: no other file takes the place of the old one.
		mkdirSync(join(data, 'identity.json.new'));
		const back = new AgentProcess(['--server', hub.url, '--data', data], {
			API_KEY: 'rf1.0a.another.-',
		});
		agents.push(back);
		await back.untilPrinted(/^connected as r1/m);
		expect(hub.enrolments).toBe(1);
	});

	test('a service that is not there yet is tried again until it is', async () => {
		await hub.close();
		const agent = start();
		await agent.untilPrinted(/enrolment failed, will try again/);
		await hub.open();
		await hub.untilConnected();
		expect(agent.stderr).not.toContain(hub.token);
	});

	test('a robot that the service removed says so and exits with 3', async () => {
		const first = await connect();
		await first.kill();
		hub.robots.clear();
		const agent = new AgentProcess(['--server', hub.url, '--data', data]);
		agents.push(agent);
		expect(await agent.exit).toBe(3);
		expect(agent.stderr).toMatch(/^The service does not accept the key of this robot/m);
	});

	test('a robot that the service removed enrolls anew when it is started with a token', async () => {
		const first = await connect();
		await first.kill();
		hub.robots.clear();
		await connect();
		expect(hub.enrolments).toBe(2);
	});

	test('a service that began anew takes the robot again when it is started with a token', async () => {
		const first = await connect();
		await first.kill();
		const { url } = hub;
		await hub.close();
		hub = await ScriptedHub.start();
		expect(hub.url).not.toBe(url);
		await connect();
		expect(hub.enrolments).toBe(1);
	});

	test('a service that is not its own for a while costs a robot nothing, though its first token still lies around', async () => {
		const { token } = hub;
		const first = await connect();
		await first.kill();
		const identity = () => readFileSync(join(data, 'identity.json'), 'utf8');
		const before = identity();
		await hub.close();
		hub = await ScriptedHub.start();
		// As an installed agent has it, in its environment.
		const back = new AgentProcess(['--server', hub.url, '--data', data], { API_KEY: token });
		agents.push(back);
		await back.untilPrinted(/^The service that answers there is not/m);
		await back.untilPrinted(/"waitMs":30000/);
		expect(hub.enrolments).toBe(0);
		expect(identity()).toBe(before);
	});

	test('a second agent on the same data folder ends with one sentence and exit code 2', async () => {
		await connect();
		const second = start();
		expect(await second.exit).toBe(2);
		expect(second.stderr).toMatch(/in use by another robot-fleet-agent/);
		expect(second.stderr.trim().split('\n')).toHaveLength(1);
	});

	test('an address to listen on that is not there yet is one sentence, and no mistake in the settings', async () => {
		// Of no machine: for documentation alone.
		const where = ['--listen', '192.0.2.1:9765', '--hub', 'ab'.repeat(32)];
		const agent = new AgentProcess(['--data', data, ...where]);
		agents.push(agent);
		expect(await agent.exit).toBe(1);
		expect(agent.stderr).toMatch(/^Cannot listen on 192\.0\.2\.1:9765 \(.*EADDRNOTAVAIL/m);
	});

	test('plain http to another machine is refused with exit code 2', async () => {
		const agent = new AgentProcess(['--server', 'http://robots.example:8765', '--data', data]);
		agents.push(agent);
		expect(await agent.exit).toBe(2);
		expect(agent.stderr).toMatch(/--insecure/);
	});

	test('a robot without identity and token says how to get one, exit code 2', async () => {
		const agent = new AgentProcess(['--server', hub.url, '--data', data]);
		agents.push(agent);
		expect(await agent.exit).toBe(2);
		expect(agent.stderr).toMatch(/robot-fleet token create/);
	});
});

describe('commands', () => {
	test('a command runs, and its output and exit code come back', async () => {
		await connect();
		const job = hub.assign({ command: 'sh', args: ['-c', 'echo out; echo err >&2; exit 3'] });
		const result = await hub.untilComplete(job);
		expect(result).toMatchObject({
			state: 'failed',
			cause: 'exit_code',
			result: { exit_code: 3, stdout: 'out\n', stderr: 'err\n', process_gone: true },
		});
		expect(job.output.stdout.toString()).toBe('out\n');
		expect(job.said).toEqual(['job_accepted', 'job_result']);
	});

	test('the token of the agent is not in the environment of a job', async () => {
		await connect([], { API_KEY: 'very-secret' });
		const job = hub.assign({ command: 'env' }, { variables: { 'build-id': 7 } });
		const { result } = await hub.untilComplete(job);
		expect(result.stdout).not.toContain('very-secret');
		expect(result.stdout).toContain('ROBOT_FLEET_VAR_BUILD_ID=7\n');
	});

	test('output comes while the command still runs', async () => {
		await connect();
		const job = hub.assign({ shell: 'echo first; sleep 60' });
		await hub.until('the first line', () => job.output.stdout.toString() === 'first\n');
		expect(job.result).toBeUndefined();
		hub.cancel(job);
		expect(await hub.untilResult(job)).toMatchObject({ state: 'cancelled' });
	});

	test('a cancelled tree that ignores SIGTERM is killed whole, and that is verified', async () => {
		await connect();
		const job = hub.assign(stubbornTree);
		const pids = await untilTree(job);
		hub.cancel(job);
		const result = await hub.untilResult(job);
		expect(result).toMatchObject({
			state: 'cancelled',
			cause: 'cancelled',
			result: { process_gone: true, signal: 'SIGKILL' },
		});
		expect(pids.filter(lives)).toEqual([]);
	});

	test('a job that runs too long ends as timeout', async () => {
		await connect();
		const job = hub.assign(
			{ command: 'sleep', args: ['60'] },
			{ timeouts: { run_ms: 100, grace_ms: 500 } },
		);
		expect(await hub.untilResult(job)).toMatchObject({ state: 'timeout', cause: 'run_timeout' });
	});

	test('a job that is silent too long ends as timeout', async () => {
		await connect();
		const job = hub.assign(
			{ shell: 'echo a; sleep 60' },
			{ timeouts: { silence_ms: 150, grace_ms: 500 } },
		);
		expect(await hub.untilResult(job)).toMatchObject({
			state: 'timeout',
			cause: 'silence_timeout',
		});
	});

	test('one slot takes one job; the next is refused, and taken again under a new epoch', async () => {
		await connect();
		const first = hub.assign({ command: 'sleep', args: ['60'] });
		await hub.untilSaid(first, 'job_accepted');
		const second = hub.assign({ command: 'true' });
		await hub.untilSaid(second, 'job_rejected');
		expect(refusal()).toMatchObject({ reason: 'no-slot', permanent: false });
		hub.cancel(first);
		await hub.untilResult(first);
		const third = hub.assign({ command: 'true' });
		expect(await hub.untilResult(third)).toMatchObject({ state: 'completed' });
	});

	test.each([
		['an unknown kind', { kind: 'dance' }, { command: 'true' }, 'unsupported-kind'],
		['a spec that is none', {}, { command: 7 }, 'invalid'],
		[
			'a time-out that is none',
			{ timeouts: { grace_ms: 'soon' } as never },
			{ command: 'true' },
			'invalid',
		],
	])('%s is refused for good', async (_, more, spec, reason) => {
		await connect();
		const job = hub.assign(spec, more);
		await hub.untilSaid(job, 'job_rejected');
		expect(refusal()).toMatchObject({ reason, permanent: true });
	});
});

describe('promises', () => {
	test('the same assignment twice runs once and is answered twice', async () => {
		await connect();
		const job = hub.assign({
			shell: `echo ran >> ${data}/ran; until [ -e ${data}/go ]; do sleep 0.05; done`,
		});
		hub.send('job_assignment', job.assignment);
		await hub.untilSaid(job, 'job_accepted');
		hub.send('job_assignment', job.assignment);
		await hub.until(
			'a second answer',
			() => job.said.filter((one) => one === 'job_accepted').length > 1,
		);
		writeFileSync(join(data, 'go'), '');
		await hub.untilResult(job);
		hub.send('job_assignment', job.assignment);
		await hub.until('word that it is over', () => hub.said.some((said) => said.type === 'error'));
		expect(readFileSync(join(data, 'ran'), 'utf8')).toBe('ran\n');
	});

	test('an attempt revoked before it came is never started', async () => {
		// Nobody is there yet, so the assignment gets lost.
		const job = hub.assign({ shell: `touch ${data}/ran` });
		const agent = await connect();
		hub.revoke(job);
		await hub.untilSaid(job, 'job_rejected');
		expect(refusal()).toMatchObject({ reason: 'not-started' });
		hub.send('job_assignment', job.assignment);
		await hub.until(
			'a second no',
			() => job.said.filter((one) => one === 'job_rejected').length === 2,
		);
		await agent.kill();
		await connect();
		hub.send('job_assignment', job.assignment);
		await hub.until(
			'a third no',
			() => job.said.filter((one) => one === 'job_rejected').length === 3,
		);
		expect(job.said).not.toContain('job_accepted');
		expect(existsSync(join(data, 'ran'))).toBe(false);
	});

	test('a revoke that comes too late is answered with job_accepted', async () => {
		await connect();
		const job = hub.assign({ command: 'sleep', args: ['60'] });
		await hub.untilSaid(job, 'job_accepted');
		hub.revoke(job);
		await hub.until('a second answer', () => job.said.length === 2);
		expect(job.said).toEqual(['job_accepted', 'job_accepted']);
	});

	test('a revoke or cancel of an attempt that never came is answered by name', async () => {
		await connect();
		const never = { job_id: randomUUID(), epoch: 900, attempt: 2, token: 't' };
		hub.send('revoke', never);
		const found = await hub.until('the answer', () =>
			hub.said.find((said) => said.type === 'job_rejected'),
		);
		expect(found.payload).toMatchObject({ ...never, reason: 'not-started' });
	});

	test('a result made while the service is away is kept and delivered when it is back', async () => {
		await connect();
		const job = hub.assign({
			shell: `echo begun; until [ -e ${data}/go ]; do sleep 0.05; done; echo done`,
		});
		await hub.untilSaid(job, 'job_accepted');
		await hub.close();
		writeFileSync(join(data, 'go'), '');
		await agents[0]!.untilPrinted(/job ended/);
		await hub.open();
		const result = await hub.untilComplete(job);
		expect(result.state).toBe('completed');
		expect(job.output.stdout.toString()).toBe('begun\ndone\n');
	});

	test('a result that is not acknowledged outlives the agent and comes again', async () => {
		const first = await connect();
		hub.ackResults = false;
		const job = hub.assign({ command: 'echo', args: ['kept'] });
		await hub.untilResult(job);
		await first.kill();
		job.output.stdout = Buffer.alloc(0);
		job.result = undefined;
		hub.ackResults = true;
		await connect();
		expect(hub.hellos[1]!.attempts).toMatchObject([
			{ state: 'ended', output: { stdout: 5, stderr: 0 } },
		]);
		await hub.untilComplete(job);
		expect(job.output.stdout.toString()).toBe('kept\n');
		await hub.until('an empty spool', () => readdirSync(join(data, 'spool')).length === 0);
	});

	test('a job outlives the kill of its agent, can be stopped by the next one, and leaves nothing behind', async () => {
		const first = await connect();
		const job = hub.assign(stubbornTree);
		const pids = await untilTree(job);
		await first.kill();
		expect(pids.filter(lives)).toEqual(pids);
		await connect();
		expect(hub.hellos[1]!.attempts).toMatchObject([{ state: 'running' }]);
		hub.cancel(job);
		const result = await hub.untilComplete(job);
		expect(result).toMatchObject({
			state: 'cancelled',
			result: { signal: 'SIGKILL', process_gone: true },
		});
		// What was printed under the first agent, whoever of the two came first.
		expect(pidsIn(result.result.stdout)).toEqual(pids);
		expect(pids.filter(lives)).toEqual([]);
		// The slot is free again.
		expect(await hub.untilResult(hub.assign({ command: 'true' }))).toMatchObject({
			state: 'completed',
		});
	});

	test('time goes on while there is no agent: a job that ran too long meanwhile is stopped', async () => {
		// On a busy machine its time may be over before it is up, or before its agent is killed: then once more.
		const leftRunning = async (): Promise<HubAttempt> => {
			for (;;) {
				const first = await connect();
				const job = hub.assign(
					{ shell: 'echo parent $$; exec sleep 60' },
					{ timeouts: { run_ms: 1_500, grace_ms: 500 } },
				);
				const isUp = () => job.output.stdout.length > 0;
				const isOver = () => job.result !== undefined || job.said.includes('job_rejected');
				await hub.until('the job to be up, or over', () => isUp() || isOver());
				await first.kill();
				if (pidsIn(job.output.stdout.toString()).some(lives)) return job;
			}
		};
		const job = await leftRunning();
		const untilBack = hub.nextRobot();
		start();
		await untilBack();
		const result = await hub.untilResult(job);
		expect(result).toMatchObject({ state: 'timeout', cause: 'run_timeout' });
		expect(result.result.duration_ms).toBeGreaterThanOrEqual(1_500);
	});

	test('a command goes on while the line is away, unless the job says stop', async () => {
		const agent = await connect(['--slots', '2']);
		const goesOn = hub.assign({ command: 'sleep', args: ['60'] });
		const stops = hub.assign({ command: 'sleep', args: ['60'] }, { on_disconnect: 'stop' });
		await hub.untilSaid(goesOn, 'job_accepted');
		await hub.untilSaid(stops, 'job_accepted');
		// Only now: a line with such heartbeats is cut whenever this process does not run for a moment.
		hub.heartbeatS = 0.1;
		hub.cut();
		await agent.untilPrinted(/^connected as r1.*\nconnected as r1/m);
		await hub.close();
		await agent.untilPrinted(/job ended/);
		await hub.open();
		expect(await hub.untilResult(stops)).toMatchObject({ state: 'failed', cause: 'robot_lost' });
		const { job_id } = goesOn.assignment;
		const held = hub.hellos.at(-1)!.attempts.find((attempt) => attempt.job_id === job_id);
		expect(held).toMatchObject({ state: 'running' });
		expect(goesOn.result).toBeUndefined();
	});

	test('an attempt that nobody knows at the service goes on, and its result is kept until somebody does', async () => {
		await connect();
		const job = hub.assign({
			shell: `until [ -e ${data}/go ]; do sleep 0.05; done; echo kept`,
		});
		await hub.untilSaid(job, 'job_accepted');
		hub.verdict = () => 'hold';
		hub.cut();
		await hub.until('a second hello', () => hub.hellos.length === 2);
		writeFileSync(join(data, 'go'), '');
		await agents[0]!.untilPrinted(/job ended/);
		hub.cut();
		await hub.until('a third hello', () => hub.hellos.length === 3);
		expect(hub.hellos[2]!.attempts).toMatchObject([{ state: 'ended' }]);
		expect(job.result).toBeUndefined();
		hub.verdict = () => undefined;
		hub.cut();
		const result = await hub.untilComplete(job);
		expect(result).toMatchObject({ state: 'completed', result: { stdout: 'kept\n' } });
	});

	test('an attempt that the service calls over is stopped and reported', async () => {
		await connect();
		const job = hub.assign({ command: 'sleep', args: ['60'] });
		await hub.untilSaid(job, 'job_accepted');
		hub.verdict = () => 'kill';
		hub.cut();
		expect(await hub.untilResult(job)).toMatchObject({
			state: 'cancelled',
			result: { process_gone: true },
		});
	});
});

describe('the line', () => {
	test('junk is answered with an error and the socket stays', async () => {
		await connect();
		for (const junk of [
			'{',
			'[]',
			'"x"',
			'{"type":7}',
			'{"type":"dance","id":"1","payload":{}}',
			'\u0000',
		]) {
			hub.sendRaw(junk);
		}
		hub.sendRaw(
			'{"type":"job_assignment","id":"1","payload":{"job_id":"../../etc/passwd","epoch":1}}',
		);
		hub.sendRaw('{"type":"error","id":"1","payload":{}}');
		hub.sendRaw(Buffer.from([1, 2, 3]));
		await hub.until(
			'eight complaints',
			() => hub.said.filter((said) => said.type === 'error').length === 8,
		);
		expect(await hub.untilResult(hub.assign({ command: 'true' }))).toMatchObject({
			state: 'completed',
		});
		expect(hub.hellos).toHaveLength(1);
	});

	test('a service that plays dead on an open socket is left and dialled again', async () => {
		hub.heartbeatS = 0.1;
		const agent = await connect();
		hub.alive = false;
		await agent.untilPrinted(/nothing was heard for three heartbeats/);
		hub.alive = true;
		await hub.until('a second hello', () => hub.hellos.length > 1);
	});

	test('4002 and 4003 are told to the owner and retried slowly', async () => {
		hub.refuseHello = 4002;
		const agent = start();
		await agent.untilPrinted(/belongs to another machine/);
		await agent.untilPrinted(/"waitMs":30000/);
	});

	test('5 MB of output arrive byte by byte equal across cuts', async () => {
		await connect();
		const bytes = randomBytes(5_000_000);
		writeFileSync(join(data, 'big'), bytes);
		let frames = 0;
		hub.takeFrame = () => {
			frames++;
			if (frames === 4 || frames === 12) hub.cut();
			return true;
		};
		const job = hub.assign({ command: 'cat', args: [join(data, 'big')] });
		const result = await hub.untilComplete(job);
		expect(result).toMatchObject({
			state: 'completed',
			output: { stdout: bytes.length, stderr: 0 },
		});
		expect(hub.hellos.length).toBe(3);
		expect(job.output.stdout.equals(bytes)).toBe(true);
		await hub.until('an empty spool', () => readdirSync(join(data, 'spool')).length === 0);
	});

	test('a frame that the service dropped is sent again', async () => {
		await connect();
		const bytes = randomBytes(2_000_000);
		writeFileSync(join(data, 'big'), bytes);
		let dropped = false;
		hub.takeFrame = (_, __, offset) => {
			if (dropped || offset === 0) return true;
			dropped = true;
			return false;
		};
		const job = hub.assign({ command: 'cat', args: [join(data, 'big')] });
		await hub.untilComplete(job);
		expect(dropped).toBe(true);
		expect(job.output.stdout.equals(bytes)).toBe(true);
	});
});

describe('stopping', () => {
	test('SIGTERM lets a short job end, then the agent leaves', async () => {
		const agent = await connect();
		const job = hub.assign({ shell: 'sleep 0.4; echo end' });
		await hub.untilSaid(job, 'job_accepted');
		agent.signal('SIGTERM');
		expect(await agent.exit).toBe(0);
		// It waits two seconds for us to take it; what it has said by then is still to be read here.
		expect(await hub.untilResult(job)).toMatchObject({
			state: 'completed',
			result: { stdout: 'end\n' },
		});
		expect(
			hub.said.some((said) => said.type === 'control' && said.payload.action === 'goodbye'),
		).toBe(true);
	});

	test('a job that outlasts the grace is stopped, and its result is kept', async () => {
		const agent = await connect(['--stop-grace', '0.1']);
		const job = hub.assign({ command: 'sleep', args: ['60'] });
		await hub.untilSaid(job, 'job_accepted');
		agent.signal('SIGTERM');
		expect(await agent.exit).toBe(0);
		expect(await hub.untilResult(job)).toMatchObject({
			state: 'failed',
			cause: 'signal',
			result: { process_gone: true },
		});
	});

	test.each([
		['SIGUSR2', []],
		['SIGTERM', ['--leave-jobs']],
	] as const)('%s %s ends the agent and leaves its jobs to the next one', async (signal, flags) => {
		const agent = await connect(['--stop-grace', '60', ...flags]);
		const job = hub.assign({
			shell: `echo up; until [ -e ${data}/go ]; do sleep 0.05; done; echo whole; exit 7`,
		});
		await hub.until('the job to be up', () => job.output.stdout.length > 0);
		agent.signal(signal);
		expect(await agent.exit).toBe(0);
		expect(job.result).toBeUndefined();
		writeFileSync(join(data, 'go'), '');
		await connect();
		const result = await hub.untilComplete(job);
		expect(result.result).toMatchObject({ exit_code: 7, stdout: 'up\nwhole\n' });
	});

	test('a second signal takes nothing back: what was left to go on goes on', async () => {
		const agent = await connect(['--leave-jobs']);
		const job = hub.assign({ shell: `echo up; until [ -e ${data}/go ]; do sleep 0.05; done` });
		await hub.until('the job to be up', () => job.output.stdout.length > 0);
		// Nobody answers its goodbye, so that it is still there when the second one comes.
		hub.turnDeaf();
		agent.signal('SIGTERM');
		await agent.untilPrinted(/"msg":"stopping"/);
		agent.signal('SIGINT');
		expect(await agent.exit).toBe(0);
		writeFileSync(join(data, 'go'), '');
		await connect();
		expect(await hub.untilComplete(job)).toMatchObject({ state: 'completed' });
	});

	test('an agent that has nothing running leaves no keeper behind', async () => {
		const agent = await connect();
		await hub.untilResult(hub.assign({ command: 'true' }));
		const keepers = (): string[] =>
			readdirSync('/proc').filter((pid) => {
				try {
					return readlinkSync(`/proc/${pid}/cwd`) === join(data, 'keeper');
				} catch {
					return false;
				}
			});
		expect(keepers()).toHaveLength(1);
		agent.signal('SIGTERM');
		expect(await agent.exit).toBe(0);
		await hub.until('the keeper to be gone', () => keepers().length === 0);
	});

	test('the signal by which Node opens a debugger, to whoever can reach it, opens none', async () => {
		const agent = await connect();
		const job = hub.assign({ shell: `kill -USR1 $PPID; echo said; sleep 0.5` });
		await hub.until('the job to be up', () => job.output.stdout.length > 0);
		agent.signal('SIGUSR1');
		expect(await hub.untilComplete(job)).toMatchObject({ state: 'completed' });
		expect(agent.stderr).not.toContain('Debugger');
		expect(readFileSync(join(data, 'keeper/log'), 'utf8')).toBe('');
	});

	test('a second signal does not wait', async () => {
		const agent = await connect(['--stop-grace', '60']);
		const job = hub.assign(stubbornTree, { timeouts: { grace_ms: 60_000 } });
		const pids = await untilTree(job);
		agent.signal('SIGTERM');
		await agent.untilPrinted(/stopping/);
		agent.signal('SIGINT');
		expect(await agent.exit).toBe(0);
		expect(pids.filter(lives)).toEqual([]);
	});
});

describe('versions of the protocol', () => {
	const { min, max } = protocolRange;

	test('a service of the version before is spoken to in its own', async () => {
		hub.protocol = { min: max - 1, max: max - 1 };
		await connect();
		expect(hub.hellos[0]).toMatchObject({
			protocol: max - 1,
			protocol_range: protocolRange,
			features: expect.arrayContaining(['kind:command', 'goodbye-within']),
		});
		const job = hub.assign({ shell: 'echo old' });
		expect((await hub.untilComplete(job)).result.stdout).toBe('old\n');
	});

	test('what a newer service says beyond the version both know is ignored', async () => {
		hub.protocol = { min: max, max: max + 2 };
		await connect();
		expect(hub.hellos[0]).toMatchObject({ protocol: max });
		hub.sendRaw(
			JSON.stringify({ type: 'telepathy', id: 'x', timestamp: '', payload: { of: 'things' } }),
		);
		const job = hub.assign({ shell: 'echo new' }, { altitude: 3 } as object);
		expect((await hub.untilComplete(job)).result.stdout).toBe('new\n');
		expect(hub.said.map(({ type }) => type)).not.toContain('error');
	});

	test.each([
		['newer', { min: max + 1, max: max + 3 }, `${max + 1} to ${max + 3}`, 'update this agent'],
		['older', { min: 0, max: min - 1 }, '0', 'update the service'],
	])(
		'a service too much %s is refused with both ranges and what to do',
		async (_, range, said, todo) => {
			hub.protocol = range;
			const agent = start();
			await hub.until('the agent to say so', () => agent.stderr.includes('speaks protocol'));
			expect(agent.stderr).toContain(`protocol ${min} to ${max}, the service ${said}; ${todo}`);
			expect(hub.hellos).toEqual([]);
			// It goes on trying: one of the two may be updated without the other.
			await agent.untilPrinted(/will try again/);
		},
	);

	test('told to go and come back within a time it does, at a moment of its own', async () => {
		const agent = await connect();
		hub.send('control', { action: 'goodbye', text: 'a restart', reconnect_within_ms: 40 });
		hub.cut();
		await hub.until('it to be back', () => hub.hellos.length === 2);
		const line = agent.stderr.split('\n').find((text) => text.includes('will try again'))!;
		expect((JSON.parse(line) as { waitMs: number }).waitMs).toBeLessThanOrEqual(40);
	});
});

(existsSync('/dev/full') ? test : test.skip)(
	'a disk without room for its log is no end of an agent',
	async () => {
		const full = openSync('/dev/full', 'w');
		const args = ['--server', hub.url, '--data', data, '--token', hub.token, '--name', 'r1'];
		const untilHere = hub.nextRobot();
		agents.push(new AgentProcess(args, {}, full));
		closeSync(full);
		await untilHere();
		const result = await hub.untilComplete(hub.assign({ shell: 'echo well' }));
		expect(result.result.stdout).toBe('well\n');
	},
);
