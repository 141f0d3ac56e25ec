/** What the nodes do where n8n cannot yet: fail a parked node (before 2.30), and name an execution (before 2.14). */
import type { IExecuteFunctions } from 'n8n-workflow';
import { failAsResumed, failOnResume } from '../../../nodes/shared/failing';
import { idempotencyKey } from '../../../nodes/shared/submitting';
import { FakeExecution } from './fake-n8n';

const noService = { send: () => Promise.reject(new Error('nobody is asked')) };
const failure = { message: 'The command ended with exit code 3', description: 'Job 1: boom' };

describe('a parked node whose job failed', () => {
	function resumed() {
		const execution = new FakeExecution(noService);
		const context = execution.asWebhook({});
		// n8n switches it off for the resume.
		context.executeData.node.disabled = true;
		failOnResume(context, failure);
		execution.metadata = context.executeData.metadata;
		return { execution, context };
	}

	test('is called once more, and fails with the reason', () => {
		const { execution, context } = resumed();
		expect(context.executeData.node.disabled).toBe(false);
		expect(() => failAsResumed(execution.asExecute({}))).toThrow(
			expect.objectContaining({ name: 'NodeOperationError', ...failure }),
		);
	});

	test('does not fail at once when n8n retries the whole execution', () => {
		const { execution } = resumed();
		execution.id = '18';
		expect(() => failAsResumed(execution.asExecute({}))).not.toThrow();
	});

	test('is nothing to a node that was never parked', () => {
		expect(() => failAsResumed(new FakeExecution(noService).asExecute({}))).not.toThrow();
	});
});

describe('an execution without a token of n8n', () => {
	class OldExecution extends FakeExecution {
		override get resumeUrl() {
			return `https://n8n.example.com/webhook-waiting/${this.id}`;
		}
	}
	const keyIn = async (execution: FakeExecution) => {
		const context = execution.asExecute({}) as IExecuteFunctions;
		return await idempotencyKey(context, 0);
	};

	test('has the same key when a step is repeated', async () => {
		const execution = new OldExecution(noService);
		expect(await keyIn(execution)).toBe(await keyIn(execution));
	});

	test('has another key than one with the same id in a database that was reset', async () => {
		expect(await keyIn(new OldExecution(noService))).not.toBe(
			await keyIn(new OldExecution(noService)),
		);
	});
});
