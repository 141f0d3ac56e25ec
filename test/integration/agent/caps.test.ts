/** The real agent holds real programs that eat memory, processor time, processes and disk to what they may. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Caps, Job, Submit } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';
import { AgentProcess, bundleAgent, removeBundle } from './agent-process';

jest.setTimeout(60_000);

const MiB = 1024 * 1024;

let house: WholeHouse;
let folder: string;
const agents: AgentProcess[] = [];

beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(async () => {
	house = await WholeHouse.open();
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-caps-'));
});
afterEach(async () => {
	await Promise.all(agents.splice(0).map((agent) => agent.stop()));
	await house[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

async function connect(token?: string): Promise<AgentProcess> {
	const where = ['--server', house.service.url, '--data', join(folder, 'data'), '--name', 'r1'];
	const agent = new AgentProcess([...where, ...(token === undefined ? [] : ['--token', token])]);
	agents.push(agent);
	await agent.untilPrinted(/^connected as r1/m);
	return agent;
}

async function robot(): Promise<AgentProcess> {
	return await connect((await house.client.createToken({})).token);
}

async function submit(spec: object, caps: Caps, more: Partial<Submit> = {}): Promise<string> {
	return (await house.client.submit({ kind: 'command', spec, caps, ...more })).jobId;
}

const ended = async (jobId: string): Promise<Job> => await house.client.job(jobId, 45_000);

const node = (program: string) => ({ command: process.execPath, args: ['-e', program] });
/** About 80 MiB a second, up to 600. */
const eater =
	'const all = []; setInterval(() => all.length < 75 && all.push(Buffer.alloc(8 << 20, 1)), 100);';

test('a program that eats memory is stopped, told how much it had of how much, and not tried again', async () => {
	await robot();
	const caps = { memoryBytes: 150 * MiB };
	const job = await ended(await submit(node(eater), caps, { idempotent: true }));
	expect(job).toMatchObject({ state: 'failed', cause: 'policy', attempt: 1, caps });
	expect(job.error!.message).toMatch(
		/^The job used [\d.]+ MiB of the 150 MiB of memory it may have \(caps\.memoryBytes\), and was stopped\.$/,
	);
	// Politely, unless this machine was too busy to look in time.
	const signal = expect.stringMatching(/^SIG(TERM|KILL)$/);
	expect(job.result).toMatchObject({ processGone: true, signal });
	expect(job.dead).not.toBeNull();
});

test('one that ignores the polite signal and goes on eating gets no more time', async () => {
	await robot();
	// It would have ten seconds from the first signal on. They are counted where they are had: on a busy machine all else takes long.
	const stubborn = `let tenths = 0;
		const count = () => (tenths += 1) === 60 && console.log('more time');
		process.on('SIGTERM', () => setInterval(count, 100));
		${eater}`;
	const job = await ended(await submit(node(stubborn), { memoryBytes: 120 * MiB }));
	expect(job).toMatchObject({ state: 'failed', cause: 'policy' });
	expect(job.result).toMatchObject({ processGone: true, signal: 'SIGKILL', stdout: '' });
});

test('processor time of children counts, of those too that have ended', async () => {
	await robot();
	const short = 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done';
	const spec = { shell: `while :; do sh -c '${short}'; done` };
	const job = await ended(await submit(spec, { cpuSeconds: 2 }));
	expect(job).toMatchObject({ state: 'failed', cause: 'policy' });
	const said = /^The job used ([\d.]+) s of the 2 s of processor time/.exec(job.error!.message);
	expect(Number(said?.[1])).toBeGreaterThanOrEqual(2);
});

test('a program with too many processes is stopped with all of them', async () => {
	await robot();
	const spec = { shell: 'for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait' };
	const job = await ended(await submit(spec, { processes: 6 }));
	expect(job).toMatchObject({ state: 'failed', cause: 'policy', result: { processGone: true } });
	expect(job.error!.message).toMatch(/^The job had \d+ processes of the 6 it may have/);
});

test('who keeps within the caps notices nothing of them', async () => {
	await robot();
	const caps = { memoryBytes: 1024 * MiB, cpuSeconds: 100, processes: 50, outputBytes: MiB };
	const job = await ended(await submit({ shell: 'sleep 1.5; echo done' }, caps));
	expect(job).toMatchObject({ state: 'completed', result: { stdout: 'done\n', truncated: false } });
	expect((await house.output(job.jobId)).bytes.toString()).toBe('done\n');
});

test('an agent that was killed and started again goes on holding the job to its caps', async () => {
	const first = await robot();
	const spec = node(`console.log('up'); setTimeout(() => { ${eater} }, 2_000);`);
	const jobId = await submit(spec, { memoryBytes: 150 * MiB });
	for (let have = 0; have === 0;) have = (await house.client.job(jobId)).output.stdout;
	await first.kill();
	await connect();
	expect(await ended(jobId)).toMatchObject({ state: 'failed', cause: 'policy', attempt: 1 });
});

test.each([
	['at once', `head -c 300000 /dev/zero | tr '\\0' x`],
	[
		'while people look on',
		`for i in 1 2 3 4 5 6 7 8 9 10; do head -c 30000 /dev/zero | tr '\\0' x; sleep 0.15; done`,
	],
])(
	'of output printed %s no more is kept than the job may have, here and there',
	async (_how, shell) => {
		await robot();
		const job = await ended(await submit({ shell }, { outputBytes: 65_536 }));
		expect(job).toMatchObject({ state: 'completed', result: { truncated: true } });
		const late = Date.now() + 15_000;
		for (;;) {
			const { output } = await house.client.job(job.jobId);
			if (output.complete) {
				expect(output.stdout).toBe(300_000);
				expect(output.holes).toEqual({ stdout: [{ from: 8_192, to: 242_656, reason: 'limit' }] });
				break;
			}
			if (Date.now() > late) throw new Error(`never complete: ${JSON.stringify(output)}`);
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
		expect((await house.output(job.jobId)).bytes).toHaveLength(65_536);
	},
);

test('a robot that cannot hold a cap is never given the job', async () => {
	await house.robot('old');
	const jobId = await submit({ command: 'true' }, { memoryBytes: 512 * MiB });
	expect((await house.client.why(jobId)).text).toBe(
		'None of the 1 robots matches capability cap:memory (old lacks the capability cap:memory).',
	);
	await robot();
	expect(await ended(jobId)).toMatchObject({ state: 'completed' });
});
