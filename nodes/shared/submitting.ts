/** Hands jobs to the service, as few calls as possible, one answer for each. */
import type { IExecuteFunctions } from 'n8n-workflow';
import { limits, Problem, type Submit, type SubmitAnswer } from '../../protocol';
import type { Fleet } from './connection';
import { sha256 } from './digest';
import { isRefused, type Settled } from './items';
import { nodeError, onErrorOf, refusalOf } from './refusals';

/** Half the limit: JSON may grow on its way (escapes, envelope). */
const maxBatchBytes = limits.maxBodyBytes / 2;
/** Key in the context of the execution. */
const secretKey = 'robotFleetSecret';

/**
 * One job per item that is not refused already. Jobs of a call that got no answer may exist: their
 * idempotency keys make a repetition harmless.
 */
export async function submitItems(
	context: IExecuteFunctions,
	fleet: Fleet,
	items: Array<Settled<Submit>>,
): Promise<Array<Settled<SubmitAnswer>>> {
	const answers: Array<Settled<SubmitAnswer>> = items.map((item) =>
		isRefused(item) ? item : { refusal: { message: 'Not submitted' } },
	);
	const jobs: Array<{ index: number; submit: Submit }> = [];
	for (const [index, item] of items.entries()) {
		if (isRefused(item)) continue;
		const key = item.value.idempotencyKey ?? (await idempotencyKey(context, index));
		jobs.push({ index, submit: { ...item.value, idempotencyKey: key } });
	}
	for (const batch of inBatches(jobs)) {
		const settled = await submitBatch(
			fleet,
			batch.map(({ submit }) => submit),
		);
		batch.forEach(({ index }, position) => {
			const answer = settled[position];
			if (answer !== undefined) answers[index] = answer;
		});
	}
	const first = answers.findIndex((answer) => isRefused(answer));
	const refused = answers[first];
	if (refused && isRefused(refused) && onErrorOf(context.getNode()) === 'stop') {
		throw nodeError(context.getNode(), refused.refusal, first);
	}
	return answers;
}

/**
 * The same step of the same execution is the same job, however often n8n repeats it. Execution ids
 * are small integers that another n8n, or this one after a reset, uses again; the resume token of
 * the execution is random, so it tells those apart.
 */
export async function idempotencyKey(
	context: IExecuteFunctions,
	itemIndex: number,
): Promise<string> {
	const resumeUrl = new URL(String(context.evaluateExpression('{{ $execution.resumeUrl }}', 0)));
	const facts = [
		context.getInstanceId(),
		context.getExecutionId(),
		resumeUrl.searchParams.get('signature') ?? secretOf(context),
		context.getNode().id,
		context.evaluateExpression('{{ $runIndex }}', itemIndex),
		itemIndex,
	];
	return `n8n-${await sha256(JSON.stringify(facts))}`;
}

/** n8n before 2.14 gives its executions no token: this one gets one of ours, which n8n keeps with it. */
function secretOf(context: IExecuteFunctions): string {
	const kept = context.getContext('flow');
	kept[secretKey] ??= crypto.randomUUID();
	return String(kept[secretKey]);
}

async function submitBatch(
	{ client }: Fleet,
	submits: Submit[],
): Promise<Array<Settled<SubmitAnswer>>> {
	try {
		return (await client.submitMany(submits)).map((answer) => {
			if (!('error' in answer)) return { value: answer };
			const problem = Problem.fromBody(answer);
			return { refusal: refusalOf(problem ?? new Error(answer.error.text)) };
		});
	} catch (error) {
		return submits.map(() => ({ refusal: refusalOf(error) }));
	}
}

function inBatches<T extends { submit: Submit }>(jobs: T[]): T[][] {
	const batches: T[][] = [];
	let bytes = Infinity;
	for (const job of jobs) {
		const size = Buffer.byteLength(JSON.stringify(job.submit));
		let batch = batches.at(-1);
		if (!batch || batch.length >= limits.maxSubmitBatch || bytes + size > maxBatchBytes) {
			batch = [];
			batches.push(batch);
			bytes = 0;
		}
		batch.push(job);
		bytes += size;
	}
	return batches;
}
