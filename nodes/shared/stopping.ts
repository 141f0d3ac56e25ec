/** Jobs that end with the n8n execution that asked for them. */
import type { IExecuteFunctions } from 'n8n-workflow';
import type { Fleet } from './connection';
import { isRefused, type Settled } from './items';

/** Calls at once: somebody who stops an execution with a thousand jobs still needs the service. */
const atOnce = 20;

/**
 * Cancels these jobs as soon as somebody stops the execution, until the returned function is called. n8n tells
 * us only while the execution runs in this process; for a parked one the service finds out (`cancelOnStop`).
 */
export function cancelWhenStopped(
	context: IExecuteFunctions,
	{ client }: Fleet,
	jobIds: Array<Settled<string>>,
): () => void {
	const ids = [...new Set(jobIds.flatMap((each) => (isRefused(each) ? [] : [each.value])))];
	let armed = ids.length > 0;
	const cancel = async () => {
		if (!armed) return;
		armed = false;
		for (let i = 0; i < ids.length; i += atOnce) {
			// One that has ended, or that nobody knows, has nothing to cancel.
			await Promise.allSettled(ids.slice(i, i + atOnce).map((id) => client.cancel(id)));
		}
	};
	if (context.getExecutionCancelSignal()?.aborted) void cancel();
	else context.onExecutionCancellation(() => void cancel());
	return () => {
		armed = false;
	};
}
