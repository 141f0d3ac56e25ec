/** Wait for Execution with more than "all of them": what it asks the service for, and what its items say. */
import type { INodeExecutionData, IWebhookResponseData } from 'n8n-workflow';
import { type Children, jobStates } from '../../../protocol';
import { DispatchToRobot } from '../../../nodes/DispatchToRobot/DispatchToRobot.node';
import { SubmitJob } from '../../../nodes/SubmitJob/SubmitJob.node';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';
import { FakeExecution, type Parameters } from './fake-n8n';
import { FakeService, robots } from './fake-service';

const node = new WaitForExecution();
const base: Parameters = {
	jobId: (item: INodeExecutionData) => item.json.jobId,
	limitWaitTime: true,
	waitAmount: 1,
	waitUnit: 'hours',
	whenTimeIsUp: 'continue',
};

function setup(
	parameters: Parameters,
	onError?: 'continueErrorOutput' | 'continueRegularOutput',
	jobs = 3,
) {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	execution.node = { ...execution.node, onError };
	const jobIds = Array.from({ length: jobs }, () => service.addJob());
	execution.items = jobIds.map((jobId, n) => ({ json: { n, jobId } }));
	const execute = async () =>
		(await node.execute.call(execution.asExecute({ ...base, ...parameters })))[0]!;
	const poke = async () => {
		const [waitId] = service.waits.keys();
		const context = execution.asWebhook({ waitId });
		const answer: IWebhookResponseData = await node.webhook.call(context);
		return { ...answer, metadata: context.executeData.metadata };
	};
	const request = () => [...service.waits.values()][0]!.request;
	return { service, execution, jobIds, execute, poke, request };
}

const any = { waitFor: 'any' };
const completed = { waitOptions: { completedOnly: true } };
const two = { waitFor: 'count', waitForCount: 2 };

test('without a word it waits for all, however they end', async () => {
	const { execute, request } = setup({});
	await execute();
	expect(request()).toMatchObject({ until: 'all', counts: 'ended' });
	expect(request()).not.toHaveProperty('cancelRest');
});

test('what the builder chose goes to the service', async () => {
	const { execute, request } = setup({
		...two,
		waitOptions: { completedOnly: true, eachRobot: true, cancelRest: true, cancelOnStop: true },
	});
	await execute();
	expect(request()).toMatchObject({
		until: { count: 2 },
		counts: 'completed',
		eachRobot: true,
		cancelRest: true,
		cancelOnStop: true,
	});
});

test.each([0, 1.5, 1_001, 'x'])('%p is no number of jobs, and nothing is sent', async (count) => {
	const { service, execute } = setup({ waitFor: 'count', waitForCount: count });
	await expect(execute()).rejects.toMatchObject({
		message: 'The number of jobs to wait for is not a number of jobs',
		description: expect.stringContaining('Number of Jobs'),
	});
	expect(service.requests).toHaveLength(0);
});

test('items of jobs that are not over say the state they are in, and stop nothing', async () => {
	const { service, jobIds, execute, execution } = setup(any);
	service.end(jobIds[1]!, 'completed', null, { stdout: 'first home' });
	const items = await execute();
	expect(execution.waitTill).toBeUndefined();
	expect(items.map(({ json }) => json.job)).toMatchObject([
		{ id: jobIds[0], state: 'queued', timedOut: false },
		{ id: jobIds[1], state: 'completed', stdout: 'first home' },
		{ id: jobIds[2], state: 'queued', timedOut: false },
	]);
});

test('"Follow On Error" is about time that is up, not about jobs nobody waits for any more', async () => {
	const { service, jobIds, execute } = setup({ ...any, whenTimeIsUp: 'onError' });
	service.end(jobIds[1]!, 'completed');
	const items = await execute();
	expect((items[0]!.json.job as { state: string }).state).toBe('queued');
});

test('jobs that were cancelled because enough others had ended are no failures', async () => {
	const { service, jobIds, execute, poke } = setup({
		...any,
		waitOptions: { cancelRest: true },
	});
	await execute();
	service.end(jobIds[0]!, 'completed');
	service.end(jobIds[1]!, 'cancelled', 'cancelled');
	const { workflowData, metadata } = await poke();
	expect(metadata).not.toHaveProperty('resumeError');
	expect(workflowData![0]!.map(({ json }) => (json.job as { state: string }).state)).toEqual([
		'completed',
		'cancelled',
		'queued',
	]);
});

test('one that a person cancelled is a failure like any other', async () => {
	const { service, jobIds, execute, poke } = setup(any);
	await execute();
	service.end(jobIds[1]!, 'cancelled', 'cancelled');
	expect((await poke()).metadata).toMatchObject({ resumeError: { name: 'NodeOperationError' } });
});

test('failures do not stop the node while enough jobs complete; they go to an error output', async () => {
	for (const onError of [undefined, 'continueErrorOutput'] as const) {
		const { service, jobIds, execute, poke } = setup({ ...two, ...completed }, onError);
		await execute();
		service.end(jobIds[0]!, 'failed', 'exit_code', { exitCode: 3 });
		expect((await poke()).workflowData).toBeUndefined();
		service.end(jobIds[1]!, 'completed');
		service.end(jobIds[2]!, 'completed');
		const { workflowData, metadata } = await poke();
		expect(metadata).not.toHaveProperty('resumeError');
		const [first] = workflowData![0]!;
		if (onError) expect(first!.json).toMatchObject({ error: expect.any(String), details: {} });
		else expect(first!.json).toMatchObject({ n: 0, job: { state: 'failed', exitCode: 3 } });
	}
});

test('when too many have failed the node fails, though one still runs', async () => {
	const { service, jobIds, execute } = setup({ ...two, ...completed });
	service.end(jobIds[0]!, 'failed', 'exit_code', { exitCode: 3 });
	service.end(jobIds[1]!, 'failed', 'exit_code', { exitCode: 4 });
	await expect(execute()).rejects.toMatchObject({
		message: 'The command ended with exit code 3',
		context: { itemIndex: 0 },
	});
});

describe('a wait that failed stops the node', () => {
	const cancelRest = { completedOnly: true, cancelRest: true };
	const childrenOf = (counts: Partial<Children>): Children => ({
		...(Object.fromEntries(jobStates.map((state) => [state, 0])) as unknown as Children),
		total: 5,
		unknown: 0,
		...counts,
	});
	const stopped = { resumeError: { name: 'NodeOperationError' } };

	test('when too many robots of a job have failed it, though it runs on', async () => {
		const { service, jobIds, execute, poke } = setup(
			{
				waitFor: 'count',
				waitForCount: 3,
				waitOptions: { completedOnly: true, eachRobot: true },
			},
			undefined,
			1,
		);
		await execute();
		const job = service.jobs.get(jobIds[0]!)!;
		job.state = 'running';
		job.children = childrenOf({ running: 1, completed: 1, failed: 3 });
		expect((await poke()).metadata).toMatchObject({
			resumeError: { message: 'The job completed on 1 of 5 robots' },
		});
	});

	test('when the job itself copes with robots that failed, but the wait does not', async () => {
		const { service, jobIds, execute } = setup(
			{ waitOptions: { completedOnly: true, eachRobot: true } },
			undefined,
			2,
		);
		for (const jobId of jobIds) service.end(jobId, 'completed');
		service.jobs.get(jobIds[1]!)!.children = childrenOf({ completed: 4, failed: 1 });
		await expect(execute()).rejects.toMatchObject({
			message: 'The job completed on 4 of 5 robots',
			context: { itemIndex: 1 },
		});
	});

	test('when a robot failed and the others were cancelled for it', async () => {
		const { service, jobIds, execute } = setup(
			{ waitOptions: { ...cancelRest, eachRobot: true } },
			undefined,
			2,
		);
		service.jobs.get(jobIds[1]!)!.children = childrenOf({ failed: 1, cancelled: 4 });
		for (const jobId of jobIds) service.end(jobId, 'cancelled', 'cancelled');
		await expect(execute()).rejects.toMatchObject({ context: { itemIndex: 1 } });
	});

	test('when a person cancelled one and the rest were cancelled for it', async () => {
		const { service, jobIds, execute, poke } = setup({ waitOptions: cancelRest });
		await execute();
		for (const jobId of jobIds) service.end(jobId, 'cancelled', 'cancelled');
		expect((await poke()).metadata).toMatchObject(stopped);
	});

	test('when the one that decided was cancelled by a person', async () => {
		const { service, jobIds, execute, poke } = setup({ ...any, waitOptions: { cancelRest: true } });
		await execute();
		for (const jobId of jobIds) service.end(jobId, 'cancelled', 'cancelled');
		expect((await poke()).metadata).toMatchObject(stopped);
	});

	test('but those that were cancelled because one failed are no failures of their own', async () => {
		const { service, jobIds, execute } = setup({ waitOptions: cancelRest }, 'continueErrorOutput');
		service.end(jobIds[0]!, 'failed', 'exit_code', { exitCode: 3 });
		for (const jobId of jobIds.slice(1)) service.end(jobId, 'cancelled', 'cancelled');
		const items = await execute();
		expect(items.map(({ json }) => 'error' in json)).toEqual([true, false, false]);
	});
});

describe('an execution that is stopped', () => {
	const stop = (execution: FakeExecution, service: FakeService) => {
		service.onGrace = (signal) => {
			execution.cancel.abort();
			signal?.throwIfAborted();
		};
	};
	const cancels = (service: FakeService) =>
		service.calls(/\/cancel$/).map(({ path }) => path.split('/').at(-2));

	test('while it waits takes its jobs along when that is asked for', async () => {
		const { service, execution, jobIds, execute } = setup({
			waitOptions: { cancelOnStop: true },
		});
		stop(execution, service);
		await expect(execute()).rejects.toThrow('The wait was canceled');
		expect(cancels(service)).toEqual(jobIds);
	});

	test('leaves them running when it is not', async () => {
		const { service, execution, execute } = setup({});
		stop(execution, service);
		await expect(execute()).rejects.toThrow('The wait was canceled');
		expect(cancels(service)).toEqual([]);
	});

	test('later, when the wait was over, leaves alone what still runs', async () => {
		const { service, execution, jobIds, execute } = setup({
			...any,
			waitOptions: { cancelOnStop: true },
		});
		service.end(jobIds[0]!, 'completed');
		await execute();
		execution.cancel.abort();
		expect(cancels(service)).toEqual([]);
	});

	test('takes the jobs of Dispatch to Robot along, as a tool too', async () => {
		for (const type of ['dispatchToRobot', 'dispatchToRobotTool']) {
			const service = new FakeService();
			const execution = new FakeExecution(service);
			execution.node = { ...execution.node, type: `n8n-nodes-robot-fleet.${type}` };
			stop(execution, service);
			const run = new DispatchToRobot().execute.call(
				execution.asExecute({
					robot: robots[0]!.robotId,
					commandType: 'program',
					program: 'uname',
					waitForCompletion: true,
					cancelOnStop: true,
				}),
			);
			await expect(run).rejects.toThrow();
			expect(cancels(service)).toEqual([...service.jobs.keys()]);
		}
	});

	test('in a step after Submit Job takes its jobs along', async () => {
		const service = new FakeService();
		const execution = new FakeExecution(service);
		const parameters = { commandType: 'program', program: 'uname', cancelOnStop: true };
		await new SubmitJob().execute.call(execution.asExecute(parameters));
		expect(cancels(service)).toEqual([]);
		execution.cancel.abort();
		expect(cancels(service)).toEqual([...service.jobs.keys()]);
	});
});

test('an n8n that cannot collect says so before anything is registered', async () => {
	const { service, execution, execute } = setup({});
	execution.credential.reach = 'collect';
	const argv = process.argv[2];
	process.argv[2] = 'worker';
	try {
		await expect(execute()).rejects.toMatchObject({
			message: 'This n8n cannot collect its waits (this is a worker process)',
			description: expect.stringContaining('The Service Calls n8n'),
		});
	} finally {
		if (argv === undefined) process.argv.splice(2, 1);
		else process.argv[2] = argv;
	}
	expect(service.waits.size).toBe(0);
});
