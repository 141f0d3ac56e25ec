/**
 * What keeps a node from its work as a whole, under an On Error that goes on: each item says it, so that nothing
 * that failed leaves by the output of what succeeded.
 */
import { type INode, type INodeExecutionData, type INodeType, NodeApiError } from 'n8n-workflow';
import { DispatchToRobot } from '../../../nodes/DispatchToRobot/DispatchToRobot.node';
import { SubmitJob } from '../../../nodes/SubmitJob/SubmitJob.node';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';
import { Problem } from '../../../protocol';
import { FakeExecution, outputsOf, type Parameters } from './fake-n8n';
import { FakeService, robots } from './fake-service';

const uname: Parameters = { commandType: 'program', program: 'uname', robot: robots[0]!.robotId };
const byJobId: Parameters = { jobId: (item: INodeExecutionData) => item.json.jobId };

interface Case {
	name: string;
	node: INodeType;
	parameters: Parameters;
}
const waiting: Case = {
	name: 'Wait for Execution',
	node: new WaitForExecution(),
	parameters: byJobId,
};
const submitting: Case = { name: 'Submit Job', node: new SubmitJob(), parameters: uname };
const dispatching: Case = {
	name: 'Dispatch to Robot',
	node: new DispatchToRobot(),
	parameters: { ...uname, waitForCompletion: true },
};

function setup({ node, parameters }: Case, onError?: INode['onError']) {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	execution.node = { ...execution.node, onError };
	execution.items = Array.from({ length: 2 }, (_, n) => ({
		json: { n, jobId: service.addJob() },
		binary: { data: { mimeType: 'text/plain', data: 'aGk=' } },
	}));
	const run = async (more: Parameters = {}) =>
		(await node.execute!.call(
			execution.asExecute({ ...parameters, ...more }),
		)) as INodeExecutionData[][];
	const outputs = (more?: Parameters) => outputsOf(execution, () => run(more));
	return { service, execution, run, outputs };
}

const noScope = new Problem('no-scope', { scope: 'cancel' });

describe.each([waiting, submitting, dispatching])('$name', (each) => {
	test('with an error output: a service that is away is told there, by each item with all it had', async () => {
		const { service, outputs } = setup(each, 'continueErrorOutput');
		service.away = true;
		const { success, error } = await outputs();
		expect(success).toEqual([]);
		expect(error).toMatchObject([
			{ json: { n: 0, error: expect.any(String) }, binary: { data: {} }, pairedItem: { item: 0 } },
			{ json: { n: 1, error: expect.any(String) }, binary: { data: {} }, pairedItem: { item: 1 } },
		]);
		expect(error[0]!.json.details).toMatchObject({ code: 'service-away' });
	});

	test('with an error output: a credential that leads nowhere is told there', async () => {
		const { execution, outputs } = setup(each, 'continueErrorOutput');
		execution.credential.url = 'nowhere';
		const { success, error } = await outputs();
		expect(success).toEqual([]);
		expect(error.map(({ json }) => json.error)).toHaveLength(2);
	});

	test('under Continue each item says what happened, and keeps its fields', async () => {
		const { execution, outputs } = setup(each, 'continueRegularOutput');
		execution.credential.url = 'nowhere';
		const { success } = await outputs();
		expect(success).toMatchObject([
			{ json: { n: 0, error: expect.stringContaining('nowhere') } },
			{ json: { n: 1, error: expect.stringContaining('nowhere') } },
		]);
	});

	test('under Stop the node fails as before', async () => {
		const { execution, run } = setup(each);
		execution.credential.url = 'nowhere';
		await expect(run()).rejects.toThrow('nowhere');
	});
});

test.each<[string, Parameters]>([
	['a time that is none', { waitAmount: 0, waitUnit: 'hours', limitWaitTime: true }],
	['a number of jobs that is none', { waitFor: 'count', waitForCount: 0 }],
])('Wait for Execution: %s is told by the error output', async (_what, parameters) => {
	const { outputs } = setup(waiting, 'continueErrorOutput');
	const { success, error } = await outputs(parameters);
	expect([success.length, error.length]).toEqual([0, 2]);
});

test('a wait that the service refuses opens no barrier, and names the jobs that run on', async () => {
	for (const each of [waiting, dispatching]) {
		const { service, outputs } = setup(each, 'continueErrorOutput');
		service.refuses = ({ path, method }) =>
			method === 'POST' && path.endsWith('/waits')
				? new Problem('callback-refused', {})
				: undefined;
		const { success, error } = await outputs();
		expect([each.name, success]).toEqual([each.name, []]);
		const ids = [...service.jobs.keys()].slice(-2);
		expect(error.map(({ json }) => json.details)).toEqual(
			ids.map((id) => ({ code: 'callback-refused', id })),
		);
	}
});

test('an item that was refused before says its own reason, not that of all', async () => {
	const { service, execution, outputs } = setup(waiting, 'continueErrorOutput');
	execution.items[0]!.json.jobId = '17';
	service.away = true;
	const { error } = await outputs();
	expect(error[0]!.json.error).toBe('"17" is not a job ID');
	expect(error[1]!.json.details).toMatchObject({ code: 'service-away' });
});

test('somebody who stops the execution stops the node, whatever On Error says', async () => {
	const { service, execution, run } = setup(waiting, 'continueErrorOutput');
	service.onGrace = (signal) => {
		execution.cancel.abort();
		signal?.throwIfAborted();
	};
	await expect(run()).rejects.toThrow('The wait was canceled');
});

describe('items that come by an error output', () => {
	const failed = (execution: FakeExecution) => {
		for (const item of execution.items) {
			item.error = new NodeApiError(execution.node, {}, { message: 'an earlier node failed' });
		}
	};

	test('get a job like any other', async () => {
		const { execution, outputs } = setup(submitting, 'continueErrorOutput');
		failed(execution);
		const { success, error } = await outputs();
		expect(error).toEqual([]);
		expect(success).toMatchObject([
			{ json: { n: 0, jobId: expect.stringContaining('0192') } },
			{ json: { n: 1, jobId: expect.stringContaining('0192') } },
		]);
	});

	test('are waited for like any other, at once and after a resume, and keep their fields meanwhile', async () => {
		const { service, execution, run, outputs } = setup(waiting, 'continueErrorOutput');
		failed(execution);
		const parked = (await run())[0]!;
		expect(parked.map((item) => item.error)).toEqual([undefined, undefined]);
		for (const jobId of service.jobs.keys()) service.end(jobId, 'completed');
		const [waitId] = service.waits.keys();
		const answer = await (waiting.node as WaitForExecution).webhook.call(
			execution.asWebhook({ waitId }),
		);
		const resumed = await outputsOf(execution, async () => answer.workflowData!);
		const atOnce = await outputs();
		for (const { success, error } of [resumed, atOnce]) {
			expect(error).toEqual([]);
			expect(success).toMatchObject([
				{ json: { n: 0, job: { state: 'completed' } } },
				{ json: { n: 1, job: { state: 'completed' } } },
			]);
		}
	});
});

test('what stands in the output while parked looks like no failure: n8n would run the node again', async () => {
	const { execution, run } = setup(waiting);
	execution.items[0]!.json.error = 'an earlier step said this';
	const parked = (await run())[0]!;
	expect(execution.waitTill).toBeDefined();
	expect(parked[0]!.json).toEqual({ n: 0, jobId: execution.items[0]!.json.jobId });
	expect(execution.items[0]!.json.error).toBe('an earlier step said this');
});

describe('Dispatch to Robot that cannot wait submits nothing', () => {
	const submitted = (service: FakeService) => service.calls(/\/jobs$/).length;

	test('more jobs than one wait takes', async () => {
		const { service, execution, run } = setup(dispatching);
		execution.items = Array.from({ length: 1_001 }, () => ({ json: {} }));
		await expect(run()).rejects.toThrow('One wait takes at most 1000 jobs, here are 1001');
		expect(submitted(service)).toBe(0);
		execution.node = { ...execution.node, type: `${execution.node.type}Tool` };
		await expect(run()).rejects.toThrow('One wait takes at most 1000 jobs, here are 1001');
		expect(submitted(service)).toBe(0);
		await expect(run({ waitForCompletion: false })).resolves.toHaveLength(1);
	});

	test('a callback URL that is none', async () => {
		const { service, execution, run } = setup(dispatching);
		execution.credential.callbackUrl = 'n8n.internal';
		await expect(run()).rejects.toThrow('"n8n.internal" is not a URL');
		expect(submitted(service)).toBe(0);
	});

	test('a key that may not cancel, where stopping the execution is to', async () => {
		const { service, run } = setup(dispatching);
		service.scopes = ['submit', 'read'];
		await expect(run({ cancelOnStop: true })).rejects.toThrow(noScope.message.split(';')[0]);
		expect(submitted(service)).toBe(0);
		service.scopes = ['admin'];
		await run({ cancelOnStop: true });
		expect(submitted(service)).toBe(1);
	});
});
