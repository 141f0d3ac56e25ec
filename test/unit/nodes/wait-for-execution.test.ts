import {
	type IDataObject,
	type INodeExecutionData,
	type IWebhookResponseData,
	WAIT_INDEFINITELY,
} from 'n8n-workflow';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';
import { childrenOf } from '../../../dispatcher/core/parents';
import type { WaitRequest } from '../../../protocol';
import { FakeExecution, type Parameters } from './fake-n8n';
import { FakeService, robots } from './fake-service';

const byJobId: Parameters = {
	jobId: (item: INodeExecutionData) => item.json.jobId,
	limitWaitTime: true,
	waitAmount: 1,
	waitUnit: 'hours',
	whenTimeIsUp: 'continue',
};
const node = new WaitForExecution();

function setup({
	jobs = 2,
	onError,
}: { jobs?: number; onError?: 'continueErrorOutput' | 'continueRegularOutput' } = {}) {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	execution.node = { ...execution.node, onError };
	const jobIds = Array.from({ length: jobs }, () => service.addJob());
	execution.items = jobIds.map((jobId, n) => ({ json: { n, jobId } }));
	const execute = async (parameters: Parameters = byJobId) =>
		(await node.execute.call(execution.asExecute(parameters)))[0]!;
	const park = async (parameters: Parameters = byJobId) => {
		await execute(parameters);
		return [...service.waits.keys()].at(-1)!;
	};
	const poke = async (body: unknown) => {
		const context = execution.asWebhook(body);
		const answer: IWebhookResponseData = await node.webhook.call(context);
		return { ...answer, context };
	};
	return { service, execution, jobIds, execute, park, poke };
}

describe('Wait for Execution: execute()', () => {
	test('jobs that have ended are answered at once, one item each, in order', async () => {
		const { service, execution, jobIds, execute } = setup();
		service.end(jobIds[1]!, 'completed', null, { stdout: 'second' });
		service.end(jobIds[0]!, 'completed', null, { stdout: 'first' });
		const items = await execute();
		expect(execution.waitTill).toBeUndefined();
		expect(items.map(({ json }) => json)).toMatchObject([
			{ n: 0, job: { id: jobIds[0], state: 'completed', stdout: 'first', timedOut: false } },
			{ n: 1, job: { id: jobIds[1], state: 'completed', stdout: 'second', timedOut: false } },
		]);
		expect(items.map(({ pairedItem }) => pairedItem)).toEqual([{ item: 0 }, { item: 1 }]);
		expect((items[0]!.json.job as { robot: string }).robot).toBe(robots[0]!.name);
	});

	test('the names of its robots are asked for, not the whole fleet', async () => {
		const { service, jobIds, execute } = setup();
		for (const jobId of jobIds) service.end(jobId, 'completed');
		const items = await execute();
		expect(service.calls(/\/robots$/, 'GET')).toEqual([]);
		expect(service.calls(/\/robots\/[^/]+$/, 'GET')).toHaveLength(1);
		expect(items[1]!.json.job).toMatchObject({ robot: robots[0]!.name });
	});

	test('what the job has collected is listed, with the ID of each file', async () => {
		const { service, jobIds, execute } = setup();
		const files = [{ path: 'out/a', bytes: 3, sha256: null, fileId: 'f-1' }];
		service.end(jobIds[0]!, 'completed', null, { files });
		service.end(jobIds[1]!, 'completed');
		const items = await execute();
		expect(items.map(({ json }) => (json.job as IDataObject).files)).toEqual([files, []]);
	});

	test('a job that ends within the grace does not park the execution', async () => {
		const { service, execution, jobIds, execute } = setup({ jobs: 1 });
		service.onGrace = () => service.end(jobIds[0]!, 'completed');
		await execute();
		expect(execution.waitTill).toBeUndefined();
		expect([...service.waits.values()][0]!.state).toBe('closed');
	});

	test('all items share one wait, which names execution, node and resume URL', async () => {
		const { service, execution, jobIds, execute } = setup();
		execution.items.push({ json: { n: 2, jobId: jobIds[0] } });
		const items = await execute();
		expect(items).toEqual(execution.items);
		// n8n empties what it is given when the node has an error output.
		expect(items).not.toBe(execution.items);
		const requests = service.calls(/\/waits$/).map(({ body }) => body as WaitRequest);
		expect(requests).toHaveLength(1);
		expect(requests[0]).toMatchObject({
			jobIds,
			until: 'all',
			executionId: '17',
			nodeId: execution.node.id,
			resumeUrl: `https://n8n.example.com/webhook-waiting/17/${execution.node.id}?signature=token-1`,
		});
		expect(execution.metadata.resumeUrl).toBe(requests[0]!.resumeUrl);
	});

	test('n8n wakes up by itself only some minutes after the service should have', async () => {
		const { execution, execute } = setup();
		const begun = Date.now();
		await execute();
		const wakesInMs = execution.waitTill!.getTime() - begun;
		expect(wakesInMs).toBeGreaterThanOrEqual(75 * 60_000);
		expect(wakesInMs).toBeLessThan(76 * 60_000);
	});

	test('the service is told how long to wait, not until when: its clock may be another one', async () => {
		const { service, execute } = setup();
		await execute();
		const { limitMs, deadlineAt } = [...service.waits.values()][0]!.request;
		expect({ limitMs, deadlineAt }).toEqual({ limitMs: 3_600_000, deadlineAt: undefined });
	});

	test('without a limit the execution waits for ever', async () => {
		const { service, execution, execute } = setup();
		await execute({ ...byJobId, limitWaitTime: false });
		expect([...service.waits.values()][0]!.deadlineAt).toBeNull();
		expect(execution.waitTill).toEqual(WAIT_INDEFINITELY);
	});

	test('a service that goes away during the grace finds the execution parked', async () => {
		const { service, execution, execute } = setup();
		service.onGrace = () => {
			throw new TypeError('socket hang up');
		};
		await execute();
		expect(execution.waitTill).toBeDefined();
	});

	test('of very many executions all but fifty park at once: each that runs costs n8n megabytes', async () => {
		let inMemory = 0;
		let end = () => {};
		const over = new Promise<void>((resolve) => (end = resolve));
		const begin = () => {
			const { service, execution, execute } = setup({ jobs: 1 });
			service.onGrace = () => {
				inMemory += 1;
				return over;
			};
			return { execution, done: execute() };
		};
		const fifty = Array.from({ length: 50 }, begin);
		const last = begin();
		await last.done;
		expect(last.execution.waitTill).toBeDefined();
		expect(inMemory).toBe(50);
		end();
		await Promise.all(fifty.map(({ done }) => done));
		// There is room again.
		await begin().done;
		expect(inMemory).toBe(51);
	});

	test('a cancelled execution closes its wait', async () => {
		const { service, execution, execute } = setup();
		service.onGrace = (signal) => {
			execution.cancel.abort();
			signal?.throwIfAborted();
		};
		await expect(execute()).rejects.toThrow('The wait was canceled');
		expect([...service.waits.values()][0]!.state).toBe('closed');
		expect(execution.waitTill).toBeUndefined();
	});

	test('the callback goes to the URL of the credential when it has one', async () => {
		const { service, execution, execute } = setup();
		execution.credential.callbackUrl = 'http://10.0.0.5:5678/';
		await execute();
		expect([...service.waits.values()][0]!.request.resumeUrl).toBe(
			`http://10.0.0.5:5678/webhook-waiting/17/${execution.node.id}?signature=token-1`,
		);
	});

	test('more jobs than one wait takes are said with the way out', async () => {
		const { execute } = setup({ jobs: 1_001 });
		await expect(execute()).rejects.toMatchObject({
			message: 'One wait takes at most 1000 jobs, here are 1001',
			description: expect.stringContaining('Loop Over Items'),
		});
	});

	test('a callback URL that is none is said with the field to correct', async () => {
		const { execution, execute } = setup();
		execution.credential.callbackUrl = 'n8n.internal';
		await expect(execute()).rejects.toMatchObject({
			message: '"n8n.internal" is not a URL',
			description: 'Correct "URL of This n8n" in the credential',
		});
	});

	test.each<[unknown, string]>([
		[undefined, 'The item has no job ID'],
		['17', '"17" is not a job ID'],
	])('the job ID %p stops the node before anything is sent', async (jobId, message) => {
		const { service, execution, execute } = setup();
		execution.items[1]!.json.jobId = jobId as string;
		await expect(execute()).rejects.toMatchObject({
			message,
			description: expect.stringContaining('Submit Job'),
			context: { itemIndex: 1 },
		});
		expect(service.requests).toHaveLength(0);
	});

	test('items without a job go to the error output, the others are waited for', async () => {
		const { service, execution, jobIds, execute } = setup({
			jobs: 1,
			onError: 'continueErrorOutput',
		});
		const unknown = '0192ffff-0000-7000-8000-999999999999';
		execution.items = [{ json: {} }, { json: { jobId: unknown } }, { json: { jobId: jobIds[0] } }];
		service.end(jobIds[0]!, 'completed');
		const items = await execute();
		expect(items.map(({ json }) => json)).toMatchObject([
			{ error: 'The item has no job ID' },
			{ error: `No job has the id ${unknown}`, details: { code: 'no-such-job' } },
			{ job: { state: 'completed' } },
		]);
	});
});

describe('Wait for Execution: a failed job', () => {
	const exit3 = { exitCode: 3, stderr: 'warming up\nno such volume\n' };

	test('stops the node with exit code and last words', async () => {
		const { service, jobIds, execute } = setup();
		service.end(jobIds[0]!, 'completed');
		service.end(jobIds[1]!, 'failed', 'exit_code', exit3);
		await expect(execute()).rejects.toMatchObject({
			message: 'The command ended with exit code 3',
			description: expect.stringContaining('no such volume'),
			context: { itemIndex: 1 },
		});
	});

	test('goes to the error output with the whole job, and with no other keys', async () => {
		const { service, jobIds, execute } = setup({ onError: 'continueErrorOutput' });
		service.end(jobIds[0]!, 'completed');
		service.end(jobIds[1]!, 'failed', 'exit_code', exit3);
		const [good, bad] = await execute();
		expect(good!.json).toMatchObject({ n: 0, job: { exitCode: 0 } });
		expect(Object.keys(bad!.json).sort()).toEqual(['details', 'error', 'message']);
		expect(bad!.json).toMatchObject({
			error: 'The command ended with exit code 3',
			details: { id: jobIds[1], exitCode: 3, stderr: exit3.stderr, cause: 'exit_code' },
		});
	});

	test('of several robots is one item, which says on how many it completed', async () => {
		const { service, execution, jobIds, execute } = setup({
			jobs: 1,
			onError: 'continueRegularOutput',
		});
		const children = childrenOf({ completed: 1, failed: 1 });
		const cells = [{ cell: 'r2', jobId: 'c2', state: 'failed', robotId: 'r2' }];
		service.end(jobIds[0]!, 'failed', 'dependency', {
			exitCode: null,
			outputs: { children, cells, cellsLeftOut: 1 },
		});
		const error = {
			type: 'dependency',
			message: 'Not all children completed: 1 completed, 1 failed.',
		};
		Object.assign(service.jobs.get(jobIds[0]!)!, { robotId: null, children, error });
		const items = await execute();
		expect(items).toHaveLength(1);
		expect(items[0]!.json).toMatchObject({
			job: { id: jobIds[0], state: 'failed', robot: null, exitCode: null, children },
		});
		expect((items[0]!.json.job as { outputs: object }).outputs).toMatchObject({ cells });
		execution.node = { ...execution.node, onError: undefined };
		await expect(execute()).rejects.toMatchObject({
			message: 'The job completed on 1 of 2 robots',
			description: `Job ${jobIds[0]}: ${error.message}`,
		});
	});

	test('passes on with its job under Continue', async () => {
		const { service, jobIds, execute } = setup({ jobs: 1, onError: 'continueRegularOutput' });
		service.end(jobIds[0]!, 'failed', 'exit_code', exit3);
		const [item] = await execute();
		expect(item!.json).toMatchObject({ n: 0, job: { state: 'failed', exitCode: 3 } });
		expect(item!.json.error).toBeUndefined();
	});
});

describe('Wait for Execution: webhook()', () => {
	test('resumes with exactly one item for each input item, in order', async () => {
		const { service, execution, jobIds, park, poke } = setup();
		execution.items[0]!.binary = { data: { mimeType: 'text/plain', data: 'aGk=' } };
		const waitId = await park();
		service.end(jobIds[1]!, 'completed', null, { stdout: 'second' });
		service.end(jobIds[0]!, 'completed', null, { stdout: 'first' });
		const { webhookResponse, workflowData } = await poke({ waitId, nonce: 'x' });
		expect(webhookResponse).toEqual({ resumed: true });
		expect(workflowData).toHaveLength(1);
		expect(workflowData![0]).toMatchObject([
			{ json: { n: 0, job: { stdout: 'first' } }, pairedItem: { item: 0 }, binary: { data: {} } },
			{ json: { n: 1, job: { stdout: 'second' } }, pairedItem: { item: 1 } },
		]);
	});

	test('items refused before the wait keep their place', async () => {
		const { service, execution, jobIds, park, poke } = setup({
			jobs: 1,
			onError: 'continueErrorOutput',
		});
		execution.items.unshift({ json: {} });
		const waitId = await park();
		service.end(jobIds[0]!, 'completed');
		const { workflowData } = await poke({ waitId });
		expect(workflowData![0]).toMatchObject([
			{ json: { error: 'The item has no job ID' } },
			{ json: { n: 0, job: { state: 'completed' } } },
		]);
	});

	test('a failed job fails the node on resume, through the metadata n8n reads', async () => {
		const { service, jobIds, park, poke } = setup();
		const waitId = await park();
		service.end(jobIds[0]!, 'completed');
		service.end(jobIds[1]!, 'failed', 'exit_code', { exitCode: 3, stderr: 'boom' });
		const { context, webhookResponse } = await poke({ waitId });
		expect(webhookResponse).toEqual({ resumed: true });
		expect(context.executeData.metadata).toMatchObject({
			resumeError: {
				name: 'NodeOperationError',
				message: 'The command ended with exit code 3',
				description: expect.stringContaining('boom'),
			},
		});
	});

	test('a failed job goes to the error output on resume', async () => {
		const { service, jobIds, park, poke } = setup({ jobs: 1, onError: 'continueErrorOutput' });
		const waitId = await park();
		service.end(jobIds[0]!, 'failed', 'exit_code', { exitCode: 3, stderr: 'boom' });
		const { workflowData, context } = await poke({ waitId });
		expect(Object.keys(workflowData![0]![0]!.json).sort()).toEqual(['details', 'error', 'message']);
		expect(context.executeData.metadata).not.toHaveProperty('resumeError');
	});

	test('when the time is up the item passes with timedOut, and the job runs on', async () => {
		const { service, park, poke } = setup({ jobs: 1 });
		const waitId = await park();
		service.expire(waitId);
		const { workflowData } = await poke({ waitId });
		expect(workflowData![0]![0]!.json.job).toMatchObject({ state: 'queued', timedOut: true });
	});

	test('when the time is up the item may follow On Error instead', async () => {
		const { service, park, poke } = setup({ jobs: 1 });
		const waitId = await park({ ...byJobId, whenTimeIsUp: 'onError' });
		service.expire(waitId);
		const { context } = await poke({ waitId });
		expect(context.executeData.metadata).toMatchObject({
			resumeError: { message: 'The job is still queued and the wait time is over' },
		});
	});

	test('a poke before the wait is over is declined', async () => {
		const { park, poke } = setup();
		const { webhookResponse, workflowData } = await poke({ waitId: await park() });
		expect(webhookResponse).toEqual({ resumed: false, reason: 'the wait is not over' });
		expect(workflowData).toBeUndefined();
	});

	test('a poke for the round before is declined', async () => {
		const { service, jobIds, park, poke } = setup();
		const first = await park();
		const second = await park();
		for (const jobId of jobIds) service.end(jobId, 'completed');
		expect((await poke({ waitId: first })).workflowData).toBeUndefined();
		expect((await poke({ waitId: second })).webhookResponse).toEqual({ resumed: true });
	});

	test('a wait of another execution is declined', async () => {
		const { service, jobIds, park, poke } = setup();
		const waitId = await park();
		for (const jobId of jobIds) service.end(jobId, 'completed');
		service.waits.get(waitId)!.executionId = '99';
		const { webhookResponse, workflowData } = await poke({ waitId });
		expect(webhookResponse).toMatchObject({ resumed: false });
		expect(workflowData).toBeUndefined();
	});

	test.each([[undefined], [null], ['text'], [{}], [{ waitId: 7 }], [{ waitId: 'forged' }]])(
		'the body %p is declined without asking the service',
		async (body) => {
			const { service, park, poke } = setup();
			await park();
			const before = service.requests.length;
			const { webhookResponse, workflowData } = await poke(body);
			expect(webhookResponse).toMatchObject({ resumed: false });
			expect(workflowData).toBeUndefined();
			expect(service.requests).toHaveLength(before);
		},
	);

	test('an execution that is not parked by us is left alone', async () => {
		const { poke } = setup();
		const { workflowData, webhookResponse } = await poke({ waitId: 'wait-1' });
		expect(webhookResponse).toMatchObject({ resumed: false });
		expect(workflowData).toBeUndefined();
	});

	test('a wait that the service has lost is declined', async () => {
		const { service, park, poke } = setup();
		const waitId = await park();
		service.waits.clear();
		expect((await poke({ waitId })).webhookResponse).toMatchObject({ resumed: false });
	});

	test('while the service is away the poke is answered 503, so that it comes again', async () => {
		const { service, park, poke } = setup();
		const waitId = await park();
		service.away = true;
		const { noWebhookResponse, workflowData, context } = await poke({ waitId });
		expect(noWebhookResponse).toBe(true);
		expect(workflowData).toBeUndefined();
		expect(context.response).toMatchObject({ code: 503, body: { resumed: false } });
	});

	test('never throws, whatever n8n does', async () => {
		const { execution, park } = setup();
		const waitId = await park();
		const names = [
			'getBodyData',
			'getNode',
			'getCredentials',
			'evaluateExpression',
			'getExecutionId',
		];
		for (const name of names) {
			const context = execution.asWebhook({ waitId });
			Object.assign(context, {
				[name]: () => {
					throw new Error('n8n is in a bad way');
				},
			});
			const answer: IWebhookResponseData = await node.webhook.call(context);
			expect(answer.workflowData).toBeUndefined();
		}
	});
});
