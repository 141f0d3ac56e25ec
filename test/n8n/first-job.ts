/** "Done when" 2, as promises; run once as it is and once with a proxy setting that leads nowhere. */
import { readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { until } from '../../scripts/n8n/until.mjs';
import { Fleet } from './fleet';

const webhook = (path: string, responseMode = 'responseNode') => ({
	name: 'Webhook',
	type: 'n8n-nodes-base.webhook',
	typeVersion: 2,
	webhookId: path,
	parameters: { path, httpMethod: 'POST', responseMode, options: {} },
});
const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const respond = {
	name: 'Respond',
	type: 'n8n-nodes-base.respondToWebhook',
	typeVersion: 1.1,
	parameters: { respondWith: 'allIncomingItems', options: {} },
};
const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const shell = (text: string) => ({ commandType: 'shell', shell: text });
const uname = { commandType: 'program', program: 'uname', args: ['-a'] };

export function firstJobSuite(env: Record<string, string>) {
	let fleet: Fleet;
	/** The job that runs while n8n is killed, and the execution that is parked on it. */
	let long: { executionId: string; jobId: string; waitId: string; counter: string; end(): void };

	beforeAll(async () => {
		fleet = await Fleet.start(env);
	}, 600_000);
	afterAll(async () => await fleet?.stop(), 60_000);

	const submitAndWait = (command: object, more: object = {}) => [
		fleet.ours('Submit', 'submitJob', command),
		fleet.ours('Wait', 'waitForExecution', {}, more),
	];
	const finished = async (workflowId: string, deadlineMs = 60_000) =>
		await fleet.n8n.waitForExecution(
			(each) => each.workflowId === workflowId && ['success', 'error'].includes(each.status),
			deadlineMs,
		);
	const call = async (path: string, body: unknown = {}) => {
		const answer = await fleet.n8n.request('POST', `/webhook/${path}`, { body });
		return { ...answer, json: JSON.parse(answer.text) as unknown };
	};

	test('the test of the credential starts the service in n8n', async () => {
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		const result = await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		expect(result).toMatchObject({ status: 'OK', message: expect.stringContaining('submit') });
		expect(await fleet.serviceIsUp()).toBe(true);
		await fleet.startAgent('berlin-1');
	}, 60_000);

	test('a long job outlives a kill -9 of n8n, with nothing active and nothing asked', async () => {
		const counter = join(fleet.folder, 'starts');
		const go = join(fleet.folder, 'go');
		// Longer than n8n needs to come back, and to be poked in vain.
		const command = `echo started >> "${counter}"; until [ -e "${go}" ]; do sleep 0.2; done; echo done at last`;
		const { id } = await fleet.workflow([manual, ...submitAndWait(shell(command))]);
		const { executionId } = await fleet.n8n.runManually(id, 'Manual');
		const parked = await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && each.status === 'waiting',
		);
		const jobId = Fleet.output(parked, 'Submit')[0]!.json.jobId as string;
		const context = parked.data.executionData.contextData['node:Wait'] as {
			robotFleetWait: string;
		};
		const { waitId } = JSON.parse(context.robotFleetWait) as { waitId: string };
		const end = () => writeFileSync(go, '');
		long = { executionId: executionId!, jobId, waitId, counter, end };

		await fleet.n8n.kill('SIGKILL');
		expect(await fleet.serviceIsUp()).toBe(false);
		await fleet.n8n.start();
		await until(() => fleet.serviceIsUp(), {
			deadlineMs: 30_000,
			what: () =>
				`the service to come back by itself; n8n said:\n${fleet.n8n.lines.slice(-20).join('\n')}`,
		});
		await fleet.connected('berlin-1');
		await fleet.n8n.login();
		expect((await fleet.n8n.execution(long.executionId)).status).toBe('waiting');
	}, 120_000);

	test('a forged poke leaves the execution parked', async () => {
		const { data } = await fleet.n8n.execution(long.executionId);
		const node = data.executionData.nodeExecutionStack[0].node as { id: string };
		const path = `/webhook-waiting/${long.executionId}/${node.id}?signature=${data.resumeToken}`;
		for (const body of [{}, { waitId: 'forged' }, { waitId: long.waitId, nonce: 'forged' }]) {
			const answer = await fleet.n8n.request('POST', path, { body });
			expect(JSON.parse(answer.text)).toMatchObject({ resumed: false });
		}
		const wrong = path.replace(/signature=.*/, 'signature=00');
		const answer = await fleet.n8n.request('POST', wrong, { body: { waitId: long.waitId } });
		expect(answer.status).toBe(401);
		expect((await fleet.n8n.execution(long.executionId)).status).toBe('waiting');
	});

	test('a webhook gets the real uname of a real agent process', async () => {
		const { id } = await fleet.workflow([webhook('uname'), ...submitAndWait(uname), respond]);
		await fleet.n8n.activate(id);
		const { status, json } = await call('uname');
		expect(status).toBe(200);
		expect(json).toMatchObject([{ job: { state: 'completed', exitCode: 0, robot: 'berlin-1' } }]);
		expect((json as [{ job: { stdout: string } }])[0].job.stdout).toContain(release());
	}, 60_000);

	test('a webhook gets the result of a job that outlasts the grace, too', async () => {
		const nodes = [webhook('slow'), ...submitAndWait(shell('sleep 12; echo slow')), respond];
		const { id } = await fleet.workflow(nodes);
		await fleet.n8n.activate(id);
		const { json } = await call('slow');
		expect(json).toMatchObject([{ job: { stdout: 'slow\n' } }]);
	}, 60_000);

	test('two items make two jobs and two items, in order, though the second ends first', async () => {
		const split = {
			name: 'Split',
			type: 'n8n-nodes-base.splitOut',
			typeVersion: 1,
			parameters: { fieldToSplitOut: 'body.runs', options: {} },
		};
		const command = shell('sleep "$ROBOT_FLEET_VAR_SECONDS"; echo "$ROBOT_FLEET_VAR_NAME"');
		const variables = {
			variable: [
				{ name: 'seconds', value: '={{ $json.seconds }}' },
				{ name: 'name', value: '={{ $json.name }}' },
			],
		};
		const nodes = [webhook('two'), split, ...submitAndWait({ ...command, variables }), respond];
		const { id } = await fleet.workflow(nodes);
		await fleet.n8n.activate(id);
		const runs = [
			{ name: 'first', seconds: 12 },
			{ name: 'second', seconds: 0 },
		];
		const { json } = await call('two', { runs });
		expect(json).toMatchObject([
			{ name: 'first', job: { stdout: 'first\n' } },
			{ name: 'second', job: { stdout: 'second\n' } },
		]);
	}, 60_000);

	test.each([
		['within the grace', 0],
		['after a resume', 12],
	])(
		'a command that exits 3 %s goes to the error output, and ran once',
		async (_when, seconds) => {
			const counter = join(fleet.folder, `exit3-${seconds}`);
			const command = shell(`echo ran >> "${counter}"; sleep ${seconds}; echo broken >&2; exit 3`);
			const wait = { onError: 'continueErrorOutput' };
			const path = `exit3-${seconds}`;
			const { id } = await fleet.workflow(
				[webhook(path, 'onReceived'), ...submitAndWait(command, wait), noOp('Good'), noOp('Bad')],
				{ from: 'Wait', to: 'Bad' },
			);
			await fleet.n8n.activate(id);
			await call(path, { order: 7 });
			const execution = await finished(id);
			expect(execution.status).toBe('success');
			expect(Fleet.output(execution, 'Good')).toEqual([]);
			const [item] = Fleet.output(execution, 'Bad');
			expect(item!.json).toMatchObject({
				error: 'The command ended with exit code 3',
				details: { exitCode: 3, stderr: 'broken\n', state: 'failed', cause: 'exit_code' },
				body: { order: 7 },
			});
			expect(readFileSync(counter, 'utf8')).toBe('ran\n');
			expect(await fleet.attempts(item!.json.details.id as string)).toHaveLength(1);
		},
		60_000,
	);

	test.each([
		['within the grace', 0],
		['after a resume', 12],
	])(
		'a command that exits 3 %s stops a workflow that has no error output',
		async (_when, seconds) => {
			const command = shell(`sleep ${seconds}; echo broken >&2; exit 3`);
			const path = `stop-${seconds}`;
			const { id } = await fleet.workflow([
				webhook(path, 'onReceived'),
				...submitAndWait(command),
				noOp('After'),
			]);
			await fleet.n8n.activate(id);
			await call(path);
			const execution = await finished(id);
			expect(execution.status).toBe('error');
			const { error, lastNodeExecuted } = execution.data.resultData;
			expect(lastNodeExecuted).toBe('Wait');
			expect(error).toMatchObject({
				name: 'NodeOperationError',
				message: 'The command ended with exit code 3',
				description: expect.stringContaining('broken'),
			});
		},
		60_000,
	);

	test('Dispatch to Robot answers with the result, parked meanwhile', async () => {
		const command = shell('sleep 12; echo "on $(hostname)"');
		const robot = { __rl: true, mode: 'id', value: 'berlin-1' };
		const { id } = await fleet.workflow([
			manual,
			fleet.ours('Dispatch', 'dispatchToRobot', { robot, ...command }),
		]);
		await fleet.n8n.runManually(id, 'Manual');
		const execution = await finished(id);
		expect(execution.status).toBe('success');
		expect(Fleet.output(execution, 'Dispatch')[0]!.json.job).toMatchObject({
			state: 'completed',
			robot: 'berlin-1',
			stdout: expect.stringMatching(/^on /),
		});
	}, 60_000);

	test('each round of a loop waits for its own jobs', async () => {
		const loop = {
			name: 'Loop',
			type: 'n8n-nodes-base.splitInBatches',
			typeVersion: 3,
			parameters: { batchSize: 1, options: {} },
		};
		const split = {
			name: 'Split',
			type: 'n8n-nodes-base.splitOut',
			typeVersion: 1,
			parameters: { fieldToSplitOut: 'body.rounds', options: {} },
		};
		const variables = { variable: [{ name: 'n', value: '={{ $json["body.rounds"] }}' }] };
		const command = { ...shell('sleep 11; echo "$ROBOT_FLEET_VAR_N"'), variables };
		const to = (node: string) => [{ node, type: 'main', index: 0 }];
		const { id } = await fleet.n8n.createWorkflow({
			settings: { executionOrder: 'v1' },
			nodes: [webhook('loop', 'onReceived'), split, loop, ...submitAndWait(command), noOp('Done')],
			connections: {
				Webhook: { main: [to('Split')] },
				Split: { main: [to('Loop')] },
				Loop: { main: [to('Done'), to('Submit')] },
				Submit: { main: [to('Wait')] },
				Wait: { main: [to('Loop')] },
			},
		});
		await fleet.n8n.activate(id);
		await call('loop', { rounds: [1, 2] });
		const execution = await finished(id, 90_000);
		expect(execution.status).toBe('success');
		const outs = Fleet.output(execution, 'Done').map(({ json }) => json.job.stdout as string);
		expect(outs).toEqual(['1\n', '2\n']);
	}, 120_000);

	test('a cron trigger fires, and its executions carry the planned time', async () => {
		const trigger = fleet.ours('Every two seconds', 'scheduleTrigger', { cron: '*/2 * * * * *' });
		const { id } = await fleet.workflow([trigger, noOp('After')]);
		await fleet.n8n.activate(id);
		const fired = await until(
			async () => {
				const all = await fleet.n8n.executions({ workflowId: id, status: 'success' });
				return all.length >= 2 ? all : undefined;
			},
			{ deadlineMs: 60_000, what: () => 'two runs of the schedule' },
		);
		await fleet.n8n.deactivate(id);
		const times = await Promise.all(
			fired.map(async ({ id }) => {
				const [item] = Fleet.output(await fleet.n8n.execution(id), 'Every two seconds');
				return item!.json.plannedAt as number;
			}),
		);
		expect(new Set(times).size).toBe(times.length);
		expect(times.every((time) => time % 2_000 === 0)).toBe(true);
	}, 90_000);

	test('a wrong cron expression is said when the workflow is activated', async () => {
		const trigger = fleet.ours('Never', 'scheduleTrigger', { cron: 'every day' });
		const { id } = await fleet.workflow([trigger, noOp('After')]);
		await expect(fleet.n8n.activate(id)).rejects.toThrow(/cron expression is wrong/i);
		await fleet.n8n.rest('POST', `/workflows/${id}/deactivate`, {});
	}, 90_000);

	test('a test run of the trigger starts once and stores no schedule', async () => {
		const before = await fleet.service<{ items: unknown[] }>('GET', '/schedules');
		const trigger = fleet.ours('Now', 'scheduleTrigger', { cron: '0 0 1 1 *' });
		const { id } = await fleet.workflow([trigger, noOp('After')]);
		await fleet.n8n.runManually(id, 'Now');
		const execution = await finished(id);
		expect(Fleet.output(execution, 'Now')[0]!.json.origin).toBe('manual');
		const after = await fleet.service<{ items: unknown[] }>('GET', '/schedules');
		expect(after.items).toHaveLength(before.items.length);
	}, 60_000);

	// What goes to a server goes through n8n's own request helper, which obeys the proxy settings.
	const throughHelper = env.HTTP_PROXY === undefined ? describe : describe.skip;
	throughHelper('through a credential for a Robot Fleet Server', () => {
		let server: { id: string; name: string };
		const data = () => ({
			connection: 'server',
			url: `http://127.0.0.1:${fleet.servicePort}/`,
			apiKey: readFileSync(join(fleet.dataFolder, 'n8n.key'), 'utf8').trim(),
			callbackUrl: fleet.n8n.baseUrl,
		});
		const tested = async (more: object = {}) =>
			await fleet.n8n.rest('POST', '/credentials/test', {
				credentials: { ...server, type: 'robotFleetApi', data: { ...data(), ...more } },
			});

		beforeAll(async () => {
			server = await fleet.n8n.createCredential({
				name: 'Server',
				type: 'robotFleetApi',
				data: data(),
			});
		});

		test('the test says who we are, and a wrong key in words', async () => {
			expect(await tested()).toMatchObject({ status: 'OK' });
			expect(await tested({ apiKey: 'rfk.wrong' })).toMatchObject({
				status: 'Error',
				message: expect.stringContaining('API key'),
			});
		});

		test('a job runs, parks and resumes', async () => {
			const credentials = { robotFleetApi: server };
			const { id } = await fleet.workflow([
				manual,
				{ ...fleet.ours('Submit', 'submitJob', shell('sleep 12; echo far')), credentials },
				{ ...fleet.ours('Wait', 'waitForExecution', {}), credentials },
			]);
			await fleet.n8n.runManually(id, 'Manual');
			const execution = await finished(id);
			expect(Fleet.output(execution, 'Wait')[0]!.json.job).toMatchObject({ stdout: 'far\n' });
		}, 60_000);

		test('a schedule fires, and lets go at once when the workflow is switched off', async () => {
			const credentials = { robotFleetApi: server };
			const trigger = fleet.ours('Each second', 'scheduleTrigger', { cron: '* * * * * *' });
			const { id } = await fleet.workflow([{ ...trigger, credentials }, noOp('After')]);
			await fleet.n8n.activate(id);
			await finished(id);
			const before = performance.now();
			await fleet.n8n.deactivate(id);
			expect(performance.now() - before).toBeLessThan(10_000);
		}, 90_000);
	});

	test.each([
		['uname-on-a-click.json', 'Wait for Execution', { job: { state: 'completed', exitCode: 0 } }],
		[
			'failed-command-to-error-output.json',
			'It failed',
			{ exitCode: 3, stderr: 'no such volume\n' },
		],
		['disk-space-every-morning.json', 'Wait for Execution', { job: { state: 'completed' } }],
	])(
		'the example %s runs by a click',
		async (file, last, json) => {
			const workflow = fleet.example(file);
			const { id } = await fleet.n8n.createWorkflow(workflow);
			await fleet.n8n.runManually(id, workflow.nodes[0]!.name);
			const execution = await finished(id);
			expect(execution.status).toBe('success');
			expect(Fleet.output(execution, last)[0]!.json).toMatchObject(json);
		},
		60_000,
	);

	test('the example with a webhook answers with the uname of the robot', async () => {
		const { id } = await fleet.n8n.createWorkflow(fleet.example('webhook-to-robot-and-back.json'));
		await fleet.n8n.activate(id);
		const { text } = await fleet.n8n.request('POST', '/webhook/robot-fleet-uname');
		expect(text).toContain(release());
	}, 60_000);

	test('the long job ran once, and resumed its execution once', async () => {
		long.end();
		const execution = await fleet.n8n.waitForExecution(
			(each) => each.id === long.executionId && each.status === 'success',
			60_000,
		);
		expect(readFileSync(long.counter, 'utf8')).toBe('started\n');
		expect(await fleet.attempts(long.jobId)).toHaveLength(1);
		const items = Fleet.output(execution, 'Wait');
		expect(items).toHaveLength(1);
		expect(items[0]!.json.job).toMatchObject({ state: 'completed', stdout: 'done at last\n' });
		expect(execution.data.resultData.runData.Wait).toHaveLength(1);
		await until(async () => (await fleet.wait(long.waitId)).state === 'closed', {
			deadlineMs: 10_000,
			what: () => 'the wait to be closed',
		});
	}, 120_000);
}
