/** A real agent before a real service, with a gateway between them that lets no WebSocket through. */
import { createHash, randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal, type Job, limits, Problem, type Submit } from '../../../protocol';
import { certificate } from '../../support/certificates';
import { type Cut, CuttingProxy } from '../../support/cutting-proxy';
import { dice } from '../../support/dice';
import { Gateway, type Handshakes } from '../../support/gateway';
import { WholeHouse } from '../../support/whole-house';
import { AgentProcess, bundleAgent, newDataFolder, removeBundle } from './agent-process';

jest.setTimeout(120_000);

beforeAll(bundleAgent);
afterAll(removeBundle);

let house: WholeHouse;
let data: string;
const ends: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
	house = await WholeHouse.open();
	data = newDataFolder();
});
afterEach(async () => {
	for (const end of ends.splice(0).reverse()) await end();
	await house[Symbol.asyncDispose]();
	rmSync(data, { recursive: true, force: true });
});

const noProxy = { HTTPS_PROXY: '', https_proxy: '', ALL_PROXY: '', all_proxy: '' };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function gatewayThat(handshakes: Handshakes, tls?: { cert: string; key: string }) {
	const gateway = await Gateway.before(house.service.url, handshakes, tls);
	ends.push(() => gateway.close());
	return gateway;
}

/** An agent that dials `url`; connected when it answers. */
async function agentAt(url: string, ...more: string[]): Promise<AgentProcess> {
	const { token } = await house.client.createToken({});
	const args = ['--server', url, '--token', token, '--name', 'r1', '--data', data, ...more];
	const agent = new AgentProcess(args, noProxy);
	ends.push(() => agent.stop());
	await agent.untilPrinted(/^connected as r1/m, 60_000);
	return agent;
}

async function until<T>(
	what: string,
	look: () => Promise<T | false | null | undefined>,
	ms = 30_000,
) {
	const lateAt = performance.now() + ms;
	for (;;) {
		const found = await look();
		if (found) return found;
		if (performance.now() > lateAt) throw new Error(`there never was ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

async function submit(shell: string, more: Partial<Submit> = {}, interactive = false) {
	const spec = { shell, ...(interactive ? { interactive } : {}) };
	return (await house.client.submit({ kind: 'command', spec, ...more })).jobId;
}

const running = (jobId: string) =>
	until('a running job', async () => (await house.client.job(jobId)).state === 'running');

const complete = (jobId: string, ms?: number): Promise<Job> =>
	until(
		'all output of a job that has ended',
		async () => {
			const job = await house.client.job(jobId);
			return isFinal(job.state) && job.output.complete && job;
		},
		ms,
	);

/** Prints all of it, byte by byte equal. */
async function prints(size: number, deadlineMs?: number): Promise<void> {
	const printed = randomBytes(size);
	const file = join(house.folder, `printed-${size}`);
	writeFileSync(file, printed);
	const jobId = await submit(`cat "${file}"`);
	const job = await complete(jobId, deadlineMs);
	expect(job).toMatchObject({ state: 'completed', attempt: 1, output: { stdout: size } });
	const { bytes } = await house.output(jobId);
	expect([sha256(bytes), job.result!.sha256!.stdout]).toEqual([sha256(printed), sha256(printed)]);
}

describe('a gateway that', () => {
	test.each<[string, Handshakes]>([
		['takes the Upgrade out of a handshake', 'strip'],
		['answers a handshake with 400', 400],
		['answers a handshake with 403', 403],
		['answers a handshake with 404', 404],
		['answers a handshake with 426', 426],
		['answers a handshake with 502', 502],
		['answers a handshake with a page', 200],
		['never answers a handshake', 'hang'],
	])('%s does not keep a robot away: it polls, and does its work', async (_, handshakes) => {
		const gateway = await gatewayThat(handshakes);
		const agent = await agentAt(gateway.url);
		expect(gateway.asked).toBe(2);
		expect(agent.stderr).toContain('no WebSocket comes through to the service');
		expect(await house.client.robot('r1')).toMatchObject({ connected: true, transport: 'poll' });
		const job = await complete(await submit('echo done'));
		expect(job.result).toMatchObject({ exitCode: 0, stdout: 'done\n' });
	});

	test('passes WebSockets never sees a poll', async () => {
		const gateway = await gatewayThat('pass');
		await agentAt(gateway.url);
		await prints(2_000_000);
		expect(await house.client.robot('r1')).toMatchObject({ transport: 'websocket' });
		expect([gateway.asked, gateway.polls]).toEqual([1, 0]);
	});

	test('lets nobody in by WebSocket keeps away who wants nothing else', async () => {
		const gateway = await gatewayThat(403);
		const { token } = await house.client.createToken({});
		const args = ['--server', gateway.url, '--token', token, '--data', data];
		const agent = new AgentProcess([...args, '--transport', 'websocket'], noProxy);
		ends.push(() => agent.stop());
		await until('a fourth handshake', async () => gateway.asked >= 4);
		expect(gateway.polls).toBe(0);
	});
});

describe('a robot that polls', () => {
	const poll = ['--transport', 'poll'];

	test('says so to its owner, who can want it from the start', async () => {
		const gateway = await gatewayThat(403);
		await agentAt(gateway.url, ...poll);
		expect(gateway.asked).toBe(0);
		const status = new AgentProcess(['status', '--data', data]);
		expect(await status.exit).toBe(0);
		expect(status.stdout).toMatch(/^connected +yes, for \d+ s, by polling$/m);
	});

	test('delivers what a job prints while it prints it, and all of it', async () => {
		const gateway = await gatewayThat(403);
		await agentAt(gateway.url, ...poll);
		const jobId = await submit('echo first; read line; echo "$line"', {}, true);
		await until('the first line', async () => (await house.output(jobId)).bytes.includes('first'));
		expect((await house.client.job(jobId)).state).toBe('running');
		await house.client.input(jobId, { text: 'typed\n' });
		expect((await complete(jobId)).result!.stdout).toContain('typed');
		await prints(20_000_000);
	});

	test('ends a job that is cancelled', async () => {
		const gateway = await gatewayThat(403);
		await agentAt(gateway.url, ...poll);
		const jobId = await submit('sleep 300');
		await running(jobId);
		await house.client.cancel(jobId);
		// By the request that waits, not by the one after it.
		const job = await house.client.job(jobId, limits.pollWaitMs / 2);
		expect(job.state).toBe('cancelled');
	});

	test('is told by the request that waits that it was removed', async () => {
		const gateway = await gatewayThat(403);
		const agent = await agentAt(gateway.url, ...poll);
		const from = performance.now();
		await house.client.removeRobot('r1');
		expect(await agent.exit).toBe(3);
		// By itself that request would have ended much later.
		expect(performance.now() - from).toBeLessThan(limits.pollWaitMs / 2);
		expect(agent.stderr).toContain('does not accept the key of this robot');
	});

	test('loses and doubles nothing when its connections are cut at any byte', async () => {
		const gateway = await gatewayThat(403);
		const chance = dice(Number(process.env.SEED ?? 1));
		let left = 80;
		const next = (): Cut | undefined =>
			left-- > 0
				? chance() < 0.7
					? { direction: 'up', afterBytes: 1 + Math.floor(chance() * 400_000) }
					: { direction: 'down', afterBytes: 1 + Math.floor(chance() * 3_000) }
				: undefined;
		// Enrolled without cuts: the token is asked for once.
		const agent = await agentAt(gateway.url, ...poll);
		await agent.kill();
		const proxy = await CuttingProxy.start(gateway.url, next);
		ends.push(() => proxy.close());
		const again = new AgentProcess(['--server', proxy.url, '--data', data, ...poll], noProxy);
		ends.push(() => again.stop());
		await again.untilPrinted(/^connected as r1/m, 90_000);
		await prints(20_000_000, 90_000);
		expect(proxy.cuts).toBeGreaterThan(30);
	});

	test('outlives a gateway that answers for the service for a while', async () => {
		const gateway = await gatewayThat(403);
		const agent = await agentAt(gateway.url, ...poll);
		const jobId = await submit('read line; echo "$line"', {}, true);
		await running(jobId);
		gateway.away = 502;
		const before = gateway.polls;
		gateway.cutNow();
		await until('polls that come to nothing', async () => gateway.polls > before + 2);
		gateway.away = undefined;
		await until('a robot that is back', async () => (await house.client.robot('r1')).connected);
		await until('a call that reaches it', async () => {
			try {
				return await house.client.input(jobId, { text: 'typed\n' });
			} catch (error) {
				if (error instanceof Problem && error.retry) return undefined;
				throw error;
			}
		});
		expect((await complete(jobId)).result!.stdout).toContain('typed');
		expect(agent.child.exitCode).toBeNull();
	});

	test('trusts no other certificate than one that dials a socket', async () => {
		const pair = await certificate();
		const gateway = await gatewayThat(403, pair);
		const first = await agentAt(gateway.url, ...poll, '--fingerprint', pair.fingerprint);
		const job = await complete(await submit('echo safe'));
		expect(job.result!.stdout).toBe('safe\n');
		await first.kill();
		await until('the end of its line', async () => !(await house.client.robot('r1')).connected);
		const { polls } = gateway;
		const other = new AgentProcess(
			['--server', gateway.url, '--data', data, ...poll, '--fingerprint', 'ab'.repeat(32)],
			noProxy,
		);
		ends.push(() => other.stop());
		await other.untilPrinted(
			/does not show the certificate that this robot trusts \(found [0-9a-f]{64}, trusted is (ab){32}\)/,
		);
		expect(gateway.polls).toBe(polls);
	});

	test('brings what it has to say in pieces as small as the way needs them', async () => {
		const gateway = await gatewayThat(403);
		gateway.maxBodyBytes = 20_000;
		await agentAt(gateway.url, ...poll);
		await prints(2_000_000);
		expect(gateway.brokeOff).toBeGreaterThan(0);
	});

	test('polls again when its line has ended, without a handshake before', async () => {
		const gateway = await gatewayThat(403);
		const agent = await agentAt(gateway.url);
		expect(gateway.asked).toBe(2);
		await house.client.disconnectRobot('r1');
		await until(
			'another line',
			async () => (agent.stdout.match(/^connected as r1/gm) ?? []).length > 1,
		);
		expect(gateway.asked).toBe(2);
	});
});
