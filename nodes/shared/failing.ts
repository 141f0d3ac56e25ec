/**
 * Lets a parked node fail when its execution is resumed. n8n supports that since 2.30
 * (`metadata.resumeError`). An older one only passes items on: there the node, which n8n had switched off for the
 * resume, is switched on again, so that `execute()` is called once more and finds why it must fail.
 */
import {
	type IExecuteData,
	type IExecuteFunctions,
	type IWebhookFunctions,
	NodeOperationError,
} from 'n8n-workflow';
import type { Refusal } from './refusals';

/** Left in the metadata of the stack entry, which n8n hands on to `execute()`. */
const failureKey = 'robotFleetFailure';

interface Failure {
	/** A retry of the whole execution in n8n starts with the same metadata, and must not fail at once. */
	executionId: string;
	message: string;
	description?: string;
}

/** From `webhook()`: the node fails with this, and its workflow stops. */
export function failOnResume(context: IWebhookFunctions, { message, description }: Refusal): void {
	const { executeData } = context as unknown as { executeData?: IExecuteData };
	if (!executeData) return;
	const failure: Failure = { executionId: context.getExecutionId(), message, description };
	executeData.metadata = {
		...executeData.metadata,
		resumeError: { name: 'NodeOperationError', message, description },
		[failureKey]: failure,
	} as unknown as IExecuteData['metadata'];
	executeData.node.disabled = false;
}

/** From `execute()`, first of all: throws what `failOnResume` has left. */
export function failAsResumed(context: IExecuteFunctions): void {
	const { metadata } = context.getExecuteData();
	const failure = (metadata as Record<string, Failure | undefined> | undefined)?.[failureKey];
	// A tool that an MCP Server Trigger calls has no execution, and no failure either.
	if (!failure || failure.executionId !== context.getExecutionId()) return;
	const { message, description } = failure;
	throw new NodeOperationError(context.getNode(), message, { description });
}
