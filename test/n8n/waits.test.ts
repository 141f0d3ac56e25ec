/** The wait that cannot be lost, in the real n8n: what first-job.ts does not show. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/n8n/until.mjs';
import type { WaitRecord } from '../../protocol';
import { quietPort, AgentProgram, builtPrograms, ServiceProgram } from '../support/programs';
import { Fleet } from './fleet';

/** Executions parked at once in the test of many; 1,000 before a release. */
const many = Number(process.env.ROBOT_FLEET_TEST_PARKED ?? '200');

const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const shell = (text: string) => ({ commandType: 'shell', shell: text });
const webhook = (path: string, responseMode = 'onReceived') => ({
	name: 'Webhook',
	type: 'n8n-nodes-base.webhook',
	typeVersion: 2,
	webhookId: path,
	parameters: { path, httpMethod: 'POST', responseMode, options: {} },
});
const respond = {
	name: 'Respond',
	type: 'n8n-nodes-base.respondToWebhook',
	typeVersion: 1.1,
	parameters: { respondWith: 'allIncomingItems', options: {} },
};

type Execution = Awaited<ReturnType<Fleet['n8n']['execution']>>;

/** What a parked execution remembers. */
function waitIdOf(execution: Execution, node = 'Wait'): string {
	const context = execution.data.executionData.contextData[`node:${node}`];
	return (JSON.parse(context.robotFleetWait) as { waitId: string }).waitId;
}

describe('with the service in n8n', () => {
	let fleet: Fleet;
	beforeAll(async () => {
		fleet = await Fleet.start({ N8N_CONCURRENCY_PRODUCTION_LIMIT: '-1' });
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		await fleet.startAgent('berlin-1', 32);
	}, 600_000);
	afterAll(async () => await fleet?.stop(), 60_000);

	const api = async <T>(method: string, path: string, body?: unknown) =>
		await fleet.service<T>(method, path, body);
	const submit = async (text: string) =>
		(
			await api<{ jobId: string }>('POST', '/jobs', {
				kind: 'command',
				spec: { shell: text },
			})
		).jobId;
	/** A job that ends when the test says so, by its exit code. */
	const held = async (name: string) => {
		const file = join(fleet.folder, `held-${name}`);
		const jobId = await submit(
			`while [ ! -e "${file}" ]; do sleep 0.1; done; exit $(cat "${file}")`,
		);
		return { jobId, end: (exitCode = 0) => writeFileSync(file, String(exitCode)) };
	};
	const waitOn = (jobId: string, parameters: object = {}) =>
		fleet.ours('Wait', 'waitForExecution', { jobId, ...parameters });
	const run = async (nodes: Array<{ name: string }>) => {
		const { id } = await fleet.workflow([manual, ...nodes]);
		const { executionId } = await fleet.n8n.runManually(id, 'Manual');
		return { workflowId: id, executionId: executionId! };
	};
	const reached = async (executionId: string, status: string, deadlineMs = 60_000) =>
		await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && each.status === status,
			deadlineMs,
		);
	const closed = async (waitId: string) =>
		await until(async () => ['closed', 'dead'].includes((await fleet.wait(waitId)).state), {
			deadlineMs: 20_000,
			what: () => 'the wait to be over',
		});
	const isStateOf = async (jobId: string, state: string) =>
		await until(async () => (await fleet.job(jobId)).state === state, {
			deadlineMs: 20_000,
			what: () => `job ${jobId} to be ${state}`,
		});

	test('jobs that end in the very moment in which n8n parks are not lost', async () => {
		// The grace ends after 10 s; each of these ends a little before, at, or after it.
		const seconds = Array.from({ length: 12 }, (_, i) => 9.4 + i * 0.15);
		const executions: string[] = [];
		for (const each of seconds) {
			const { executionId } = await run([
				fleet.ours('Submit', 'submitJob', shell(`sleep ${each}`)),
				fleet.ours('Wait', 'waitForExecution', {}),
			]);
			executions.push(executionId);
		}
		for (const id of executions) {
			const execution = await reached(id, 'success');
			expect(execution.data.resultData.runData.Wait).toHaveLength(1);
			expect(Fleet.output(execution, 'Wait')[0]!.json.job.state).toBe('completed');
		}
	}, 120_000);

	test('a poke that comes too early, twice or too late changes nothing', async () => {
		const { jobId, end } = await held('early');
		const { executionId } = await run([waitOn(jobId), noOp('After')]);
		const parked = await reached(executionId, 'waiting');
		const node = parked.data.executionData.nodeExecutionStack[0].node as { id: string };
		const path = `/webhook-waiting/${executionId}/${node.id}?signature=${parked.data.resumeToken}`;
		const body = { waitId: waitIdOf(parked), nonce: 'any' };
		const poke = async () => await fleet.n8n.request('POST', path, { body });
		expect(JSON.parse((await poke()).text)).toEqual({
			resumed: false,
			reason: 'the wait is not over',
		});
		end();
		await isStateOf(jobId, 'completed');
		const answers = await Promise.all([poke(), poke(), poke()]);
		expect(answers.filter(({ text }) => text === '{"resumed":true}').length).toBeLessThanOrEqual(1);
		const execution = await reached(executionId, 'success');
		expect(execution.data.resultData.runData.After).toHaveLength(1);
		expect((await poke()).status).toBe(409);
		await closed(body.waitId);
	}, 90_000);

	test('any of several jobs resumes the execution, the others are cancelled, nothing fails', async () => {
		const [slow, fast] = [await held('slow'), await held('fast')];
		const items = {
			name: 'Items',
			type: 'n8n-nodes-base.set',
			typeVersion: 3.4,
			parameters: {
				mode: 'raw',
				jsonOutput: JSON.stringify({ jobs: [slow.jobId, fast.jobId] }),
				options: {},
			},
		};
		const split = {
			name: 'Split',
			type: 'n8n-nodes-base.splitOut',
			typeVersion: 1,
			parameters: { fieldToSplitOut: 'jobs', options: {} },
		};
		const wait = fleet.ours('Wait', 'waitForExecution', {
			jobId: '={{ $json.jobs }}',
			waitFor: 'any',
			waitOptions: { cancelRest: true },
		});
		const { executionId } = await run([items, split, wait, noOp('After')]);
		await reached(executionId, 'waiting');
		fast.end();
		const execution = await reached(executionId, 'success');
		const jobs = Fleet.output(execution, 'After').map(({ json }) => json.job);
		expect(jobs[1]).toMatchObject({ id: fast.jobId, state: 'completed' });
		expect(jobs[0]).toMatchObject({ id: slow.jobId, timedOut: false });
		await isStateOf(slow.jobId, 'cancelled');
	}, 90_000);

	test('stopping a parked execution cancels its jobs when that was asked for', async () => {
		const { jobId } = await held('stopped');
		const { executionId } = await run([waitOn(jobId, { waitOptions: { cancelOnStop: true } })]);
		const waitId = waitIdOf(await reached(executionId, 'waiting'));
		// Asked while it still waits, it goes on waiting.
		await api('POST', `/waits/${waitId}/deliver`);
		await fleet.n8n.stopExecution(executionId);
		// By itself within five minutes; now, because we ask.
		await api('POST', `/waits/${waitId}/deliver`);
		await isStateOf(jobId, 'cancelled');
		await closed(waitId);
	}, 90_000);

	test('stopping an execution that still runs cancels its jobs at once', async () => {
		const dispatch = fleet.ours('Dispatch', 'dispatchToRobot', {
			robot: { __rl: true, mode: 'id', value: 'berlin-1' },
			...shell('sleep 600; echo robot-fleet-stopped'),
			cancelOnStop: true,
		});
		const { executionId } = await run([dispatch]);
		const job = await until(
			async () => {
				const { items } = await api<{
					items: Array<{ jobId: string; spec: { shell?: string } }>;
				}>('GET', '/jobs?state=running');
				return items.find(({ spec }) => spec.shell?.includes('robot-fleet-stopped'));
			},
			{ deadlineMs: 20_000, what: () => 'the job to run' },
		);
		expect((await fleet.n8n.execution(executionId)).status).toBe('running');
		await fleet.n8n.stopExecution(executionId);
		await isStateOf(job.jobId, 'cancelled');
	}, 90_000);

	test('a parked execution whose workflow was deleted leaves a dead letter that can be found', async () => {
		const { jobId, end } = await held('deleted');
		const { workflowId, executionId } = await run([waitOn(jobId)]);
		const waitId = waitIdOf(await reached(executionId, 'waiting'));
		await fleet.n8n.rest('POST', `/workflows/${workflowId}/archive`, {});
		await fleet.n8n.rest('DELETE', `/workflows/${workflowId}`);
		end();
		await closed(waitId);
		const { items } = await api<{ items: WaitRecord[] }>('GET', '/waits?state=dead');
		expect(items.find((each) => each.waitId === waitId)).toMatchObject({
			executionId,
			jobIds: [jobId],
			lastError: expect.stringContaining('does not exist'),
		});
	}, 90_000);

	test('a sub-workflow that waits gives its parent the real result', async () => {
		const { jobId, end } = await held('child');
		const called = {
			name: 'Called',
			type: 'n8n-nodes-base.executeWorkflowTrigger',
			typeVersion: 1.1,
			parameters: { inputSource: 'passthrough' },
		};
		const child = await fleet.workflow([called, waitOn(jobId)]);
		// A sub-workflow is used as it was published.
		await fleet.n8n.activate(child.id).catch(() => undefined);
		const call = {
			name: 'Call',
			type: 'n8n-nodes-base.executeWorkflow',
			typeVersion: 1.2,
			parameters: {
				workflowId: { __rl: true, mode: 'id', value: child.id },
				options: { waitForSubWorkflow: true },
			},
		};
		const { executionId } = await run([call, noOp('After')]);
		await reached(executionId, 'waiting');
		end();
		const execution = await reached(executionId, 'success', 90_000);
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({
			id: jobId,
			state: 'completed',
		});
	}, 150_000);

	test('an update of the package while an execution is parked does not disturb it', async () => {
		const { jobId, end } = await held('update');
		const { executionId } = await run([waitOn(jobId), noOp('After')]);
		await reached(executionId, 'waiting');
		await fleet.n8n.stop();
		const { dir } = await fleet.reinstall();
		const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'));
		writeFileSync(join(dir, 'package.json'), JSON.stringify({ ...manifest, version: '9.9.9' }));
		await fleet.n8n.start();
		await fleet.n8n.login();
		await fleet.connected('berlin-1');
		end();
		const execution = await reached(executionId, 'success');
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({ state: 'completed' });
		expect(execution.data.resultData.runData.After).toHaveLength(1);
	}, 180_000);

	test(`${many} parked executions come back, each once and none lost`, async () => {
		const { jobId, end } = await held('many');
		const wait = fleet.ours('Wait', 'waitForExecution', { jobId: '={{ $json.body.jobId }}' });
		const { id } = await fleet.workflow([webhook('many', 'responseNode'), wait, respond]);
		await fleet.n8n.activate(id);
		const before = performance.now();
		const timeoutMs = 1_200_000;
		const calls: ReturnType<typeof fleet.n8n.request>[] = [];
		while (calls.length < many) {
			// n8n has a JavaScript engine for each execution that runs, and of a thousand some never begin.
			for (const end = Math.min(many, calls.length + 200); calls.length < end;) {
				const body = { n: calls.length, jobId };
				const call = fleet.n8n.request('POST', '/webhook/many', { body, timeoutMs });
				// Told of once, at the end, and not by whatever runs then.
				call.catch(() => undefined);
				calls.push(call);
			}
			let waiting = 0;
			const isParked = async () => (waiting = await countOf(id, 'waiting')) === calls.length;
			await until(isParked, {
				deadlineMs: 300_000,
				what: () => `${calls.length} parked executions, ${waiting} are`,
			});
		}
		const { items: open } = await api<{ items: WaitRecord[] }>(
			'GET',
			'/waits?state=open&limit=1000',
		);
		expect(open.filter(({ jobIds }) => jobIds.includes(jobId))).toHaveLength(many);
		const parkedMs = performance.now() - before;
		end();
		const answers = await Promise.all(calls);
		const resumedMs = performance.now() - before - parkedMs;
		const numbers = answers.map(({ text }) => {
			const [item] = JSON.parse(text) as [{ body: { n: number }; job: { state: string } }];
			expect(item.job.state).toBe('completed');
			return item.body.n;
		});
		expect(numbers).toEqual(Array.from({ length: many }, (_, n) => n));
		await until(async () => (await countOf(id, 'success')) === many, {
			deadlineMs: 60_000,
			what: () => `${many} successes`,
		});
		expect(await countOf(id)).toBe(many);
		// The service hears of it a moment later.
		await until(
			async () => {
				const { items } = await api<{ items: WaitRecord[] }>('GET', `/waits?limit=${many}`);
				return items.length === many && items.every(({ state }) => state === 'closed');
			},
			{ deadlineMs: 60_000, what: () => `${many} closed waits` },
		);
		const secs = (ms: number) => (ms / 1000).toFixed(1);
		process.stdout.write(
			`${many} executions: parked in ${secs(parkedMs)} s, resumed in ${secs(resumedMs)} s\n`,
		);
	}, 1_500_000);

	async function countOf(workflowId: string, status?: string): Promise<number> {
		const filter = JSON.stringify({ workflowId, ...(status ? { status: [status] } : {}) });
		const query = new URLSearchParams({ filter, limit: '1' });
		const { count } = await fleet.n8n.rest('GET', `/executions?${query}`);
		return count as number;
	}
});

/** A service of its own, which may not call n8n: its address is a private one, and nobody allowed it. */
describe('with a service that cannot reach n8n, one execution at a time', () => {
	let fleet: Fleet;
	let service: ServiceProgram;
	let agent: AgentProgram;
	let server: { id: string; name: string };

	beforeAll(async () => {
		fleet = await Fleet.start({ N8N_CONCURRENCY_PRODUCTION_LIMIT: '1' });
		const bundles = builtPrograms(fleet.folder);
		service = new ServiceProgram(bundles, join(fleet.folder, 'remote'), await quietPort());
		service.start();
		await service.ready();
		const { token } = await service.client.createToken({});
		const data = join(fleet.folder, 'remote-robot');
		agent = new AgentProgram(bundles, service.url, { name: 'rome-1', data, slots: 16 });
		agent.start(token);
		await agent.connected();
		server = await fleet.n8n.createCredential({
			name: 'Server',
			type: 'robotFleetApi',
			data: {
				connection: 'server',
				url: service.url,
				apiKey: readFileSync(join(service.data, 'n8n.key'), 'utf8').trim(),
				reach: 'collect',
			},
		});
	}, 600_000);
	afterAll(async () => {
		await agent?.kill();
		await service?.kill();
		await fleet?.stop();
	}, 60_000);

	const held = async (name: string) => {
		const file = join(fleet.folder, `held-${name}`);
		const text = `while [ ! -e "${file}" ]; do sleep 0.1; done; exit $(cat "${file}")`;
		const { jobId } = await service.client.submit({ kind: 'command', spec: { shell: text } });
		return { jobId, end: (exitCode = 0) => writeFileSync(file, String(exitCode)) };
	};
	const ours = (name: string, type: string, parameters: object) => ({
		...fleet.ours(name, type, parameters),
		credentials: { robotFleetApi: server },
	});
	const parked = async (jobId: string) => {
		const wait = ours('Wait', 'waitForExecution', { jobId });
		const { id } = await fleet.workflow([manual, wait, noOp('After')]);
		const { executionId } = await fleet.n8n.runManually(id, 'Manual');
		const execution = await reached(executionId!, 'waiting');
		return { executionId: executionId!, waitId: waitIdOf(execution) };
	};
	const reached = async (executionId: string, status: string, deadlineMs = 60_000) =>
		await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && each.status === status,
			deadlineMs,
		);
	const cameBack = async (executionId: string) => {
		const execution = await reached(executionId, 'success', 90_000);
		expect(execution.data.resultData.runData.After).toHaveLength(1);
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({ state: 'completed' });
	};
	const startN8n = async () => {
		await fleet.n8n.start();
		await fleet.n8n.login();
	};
	const startService = async () => {
		service.start();
		await service.ready();
	};

	test('n8n collects, and the execution comes back', async () => {
		const { jobId, end } = await held('collected');
		const { executionId, waitId } = await parked(jobId);
		end();
		await cameBack(executionId);
		await until(async () => (await service.client.wait(waitId)).state === 'closed', {
			deadlineMs: 20_000,
			what: () => 'the wait to be closed',
		});
		// The service that n8n hosts was never started: nothing asked for it.
		expect(await fleet.serviceIsUp()).toBe(false);
	}, 120_000);

	test('several parked executions come back though only one may run at a time', async () => {
		const { jobId, end } = await held('limited');
		const wait = ours('Wait', 'waitForExecution', { jobId: '={{ $json.body.jobId }}' });
		const { id } = await fleet.workflow([webhook('limited'), wait, noOp('After')]);
		await fleet.n8n.activate(id);
		for (let n = 0; n < 3; n++) {
			await fleet.n8n.request('POST', '/webhook/limited', { body: { jobId } });
		}
		const inState = async (status: string) =>
			(await fleet.n8n.executions({ workflowId: id, status })).length === 3;
		await until(async () => await inState('waiting'), {
			deadlineMs: 90_000,
			what: () => 'three parked executions',
		});
		end();
		await until(async () => await inState('success'), {
			deadlineMs: 120_000,
			what: () => 'three that came back',
		});
	}, 240_000);

	test.each([
		['the service is killed while it waits', 'service'],
		['n8n is killed while it waits', 'n8n'],
		['both are killed, and the service is back first', 'service first'],
		['both are killed, and n8n is back first', 'n8n first'],
	])(
		'%s, and the execution comes back once',
		async (_what, who) => {
			const { jobId, end } = await held(who.replace(' ', '-'));
			const { executionId } = await parked(jobId);
			if (who !== 'n8n') await service.kill();
			if (who !== 'service') await fleet.n8n.kill('SIGKILL');
			end();
			if (who === 'n8n first') await startN8n();
			if (who !== 'n8n') await startService();
			if (who === 'n8n' || who === 'service first') await startN8n();
			await cameBack(executionId);
		},
		240_000,
	);
});
