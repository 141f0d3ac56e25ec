/**
 * What a builder relies on, on an older n8n with the Node that belongs to it: submit, wait, a kill of n8n,
 * error output, stop, trigger. `npm run test:n8n-versions` runs it for each folder of test/n8n/versions.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/n8n/until.mjs';
import { Fleet } from '../n8n/fleet';

const version = process.env.ROBOT_FLEET_N8N_VERSION ?? 'the usual';
/** Earlier ones leave an item with `details` at the ordinary output (docs/n8n-versions.md). */
const movesDetails = !/^2\.([0-9]|[12]\d|3[0-4])\./.test(version);
const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const shell = (text: string) => ({ commandType: 'shell', shell: text });
const webhook = (path: string) => ({
	name: 'Webhook',
	type: 'n8n-nodes-base.webhook',
	typeVersion: 2,
	webhookId: path,
	parameters: { path, httpMethod: 'POST', responseMode: 'onReceived', options: {} },
});

describe(`n8n ${version}`, () => {
	let fleet: Fleet;

	beforeAll(async () => {
		// Names of modules that came later are an error to it.
		fleet = await Fleet.start({ N8N_DISABLED_MODULES: undefined });
		const { credential, n8n } = fleet;
		const result = await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data: { connection: 'embedded' } },
		});
		expect(result).toMatchObject({ status: 'OK' });
		await fleet.startAgent('berlin-1');
	}, 600_000);
	afterAll(async () => await fleet?.stop(), 60_000);

	const submitAndWait = (command: object, more: object = {}) => [
		fleet.ours('Submit', 'submitJob', command),
		fleet.ours('Wait', 'waitForExecution', {}, more),
	];
	const finished = async (workflowId: string) =>
		await fleet.n8n.waitForExecution(
			(each) => each.workflowId === workflowId && ['success', 'error'].includes(each.status),
			120_000,
		);

	test('a webhook submits a job, and its result comes to the next node', async () => {
		const { id } = await fleet.workflow([
			webhook('quick'),
			...submitAndWait(shell('echo quick')),
			noOp('After'),
		]);
		await fleet.n8n.activate(id);
		expect((await fleet.n8n.request('POST', '/webhook/quick', { body: {} })).status).toBe(200);
		const execution = await finished(id);
		expect(execution.status).toBe('success');
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({ stdout: 'quick\n' });
	}, 180_000);

	test('a parked execution outlives a kill -9 of n8n and goes on once', async () => {
		const counter = join(fleet.folder, 'starts');
		const command = shell(`echo started >> "${counter}"; sleep 30; echo done at last`);
		const { id } = await fleet.workflow([manual, ...submitAndWait(command), noOp('After')]);
		const { executionId } = await fleet.n8n.runManually(id, 'Manual');
		await fleet.n8n.waitForExecution(
			(each) => each.id === executionId && each.status === 'waiting',
			120_000,
		);
		await fleet.n8n.kill('SIGKILL');
		await fleet.n8n.start();
		await until(() => fleet.serviceIsUp(), {
			deadlineMs: 120_000,
			what: () => 'the service to come back by itself',
		});
		await fleet.n8n.login();
		const execution = await finished(id);
		expect(execution).toMatchObject({ id: executionId, status: 'success' });
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({
			state: 'completed',
			stdout: 'done at last\n',
		});
		expect(execution.data.resultData.runData.After).toHaveLength(1);
		expect(readFileSync(counter, 'utf8')).toBe('started\n');
	}, 300_000);

	test.each([
		['within the grace', 0],
		['after a resume', 12],
	])(
		`a command that exits 3 %s goes to the ${movesDetails ? 'error' : 'ordinary'} output with its error`,
		async (_when, seconds) => {
			const command = shell(`sleep ${seconds}; echo broken >&2; exit 3`);
			const { id } = await fleet.workflow(
				[
					manual,
					...submitAndWait(command, { onError: 'continueErrorOutput' }),
					noOp('Good'),
					noOp('Bad'),
				],
				{ from: 'Wait', to: 'Bad' },
			);
			await fleet.n8n.runManually(id, 'Manual');
			const execution = await finished(id);
			expect(execution.status).toBe('success');
			const [where, other] = movesDetails ? ['Bad', 'Good'] : ['Good', 'Bad'];
			expect(Fleet.output(execution, other!)).toEqual([]);
			expect(Fleet.output(execution, where!)[0]!.json).toMatchObject({
				error: 'The command ended with exit code 3',
				details: { exitCode: 3, stderr: 'broken\n' },
			});
		},
		180_000,
	);

	test.each([
		['Wait for Execution', 0],
		['Wait for Execution', 12],
		['Dispatch to Robot', 12],
	])(
		'with %s a command that exits 3 after %d s stops the workflow with its reason, and ran once',
		async (name, seconds) => {
			const counter = join(fleet.folder, `stop-${name}-${seconds}`);
			const command = shell(`echo ran >> "${counter}"; sleep ${seconds}; echo broken >&2; exit 3`);
			const robot = { __rl: true, mode: 'id', value: 'berlin-1' };
			const dispatch = fleet.ours('Dispatch', 'dispatchToRobot', { robot, ...command });
			const nodes = name === 'Dispatch to Robot' ? [dispatch] : submitAndWait(command);
			const { id } = await fleet.workflow([manual, ...nodes, noOp('After')]);
			await fleet.n8n.runManually(id, 'Manual');
			const execution = await finished(id);
			const { error, lastNodeExecuted, runData } = execution.data.resultData;
			expect(execution.status).toBe('error');
			expect(lastNodeExecuted).toBe(nodes.at(-1)!.name);
			expect(error).toMatchObject({
				name: 'NodeOperationError',
				message: 'The command ended with exit code 3',
				description: expect.stringContaining('broken'),
			});
			expect(runData.After).toBeUndefined();
			expect(readFileSync(counter, 'utf8')).toBe('ran\n');
		},
		180_000,
	);

	test('two executions of one workflow never share a job', async () => {
		const { id } = await fleet.workflow([manual, fleet.ours('Submit', 'submitJob', shell('true'))]);
		const jobs: string[] = [];
		for (const _ of [1, 2]) {
			const { executionId } = await fleet.n8n.runManually(id, 'Manual');
			const execution = await fleet.n8n.waitForExecution(
				(each) => each.id === executionId && each.status === 'success',
				120_000,
			);
			jobs.push(Fleet.output(execution, 'Submit')[0]!.json.jobId as string);
		}
		expect(new Set(jobs).size).toBe(2);
	}, 180_000);

	test('a schedule starts the workflow at its planned times, each once', async () => {
		const trigger = fleet.ours('Every two seconds', 'scheduleTrigger', { cron: '*/2 * * * * *' });
		const { id } = await fleet.workflow([trigger, noOp('After')]);
		await fleet.n8n.activate(id);
		const fired = await until(
			async () => {
				const all = await fleet.n8n.executions({ workflowId: id, status: 'success' });
				return all.length >= 3 ? all : undefined;
			},
			{ deadlineMs: 120_000, what: () => 'three runs of the schedule' },
		);
		await fleet.n8n.deactivate(id);
		const times = await Promise.all(
			fired.map(async (each) => {
				const [item] = Fleet.output(await fleet.n8n.execution(each.id), 'Every two seconds');
				return item!.json.plannedAt as number;
			}),
		);
		expect(new Set(times).size).toBe(times.length);
		expect(times.every((time) => time % 2_000 === 0)).toBe(true);
	}, 180_000);
});
