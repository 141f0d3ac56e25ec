/** Hands jobs to the service in as few calls as possible, with one answer for each. */
import { type IExecuteFunctions, isToolType } from 'n8n-workflow';
import type { BulkAnswer, FleetClient } from '../../client';
import { type JobState, limits, Problem, type Submit, type SubmitAnswer } from '../../protocol';
import type { Fleet } from './connection';
import { sha256 } from './digest';
import { isRefused, type Settled } from './items';
import { memoryOf } from './memory';
import { nodeError, onErrorOf, refusalOf } from './refusals';

/** Half the limit: JSON may grow on its way (escapes, envelope). */
const maxBatchBytes = limits.maxBodyBytes / 2;
/** Jobs that are looked up at the same time. */
const atOnce = 20;
/** Key in the context of the execution. */
const secretKey = 'robotFleetSecret';
/** Key in the context of the node. */
const failedKey = 'robotFleetFailed';

interface Asked {
	/** Of the item. */
	index: number;
	submit: Submit;
	/** The key is ours, and belongs to this item of this step alone. */
	ours: boolean;
	/** Keeps the key for a call that asks for the same again. */
	failed?: () => void;
}

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
	const jobs: Asked[] = [];
	const isTool = isToolType(context.getNode().type);
	for (const [index, item] of items.entries()) {
		if (isRefused(item)) continue;
		const own = item.value.idempotencyKey;
		if (own === undefined && isTool) {
			// An agent that works on several items at once calls its tools with the same numbers for each of them.
			const call = JSON.stringify(item.value);
			const failed = await failedCalls(context, call);
			const key = failed.take() ?? (await idempotencyKey(context, index, call));
			const submit = { ...item.value, idempotencyKey: key };
			jobs.push({ index, submit, ours: false, failed: () => failed.keep(key) });
			continue;
		}
		const key = own ?? (await idempotencyKey(context, index));
		jobs.push({ index, submit: { ...item.value, idempotencyKey: key }, ours: own === undefined });
	}
	const stopped = context.getExecutionCancelSignal();
	for (const batch of inBatches(jobs)) {
		// Nothing goes on in an execution that somebody stops.
		if (stopped?.aborted) break;
		const settled = await submitBatch(fleet, batch);
		batch.forEach(({ index }, position) => {
			const answer = settled[position];
			if (answer !== undefined) answers[index] = answer;
		});
	}
	// What was submitted may have to be cancelled with it.
	if (stopped?.aborted) return answers;
	for (const { index, failed } of jobs) if (isRefused(answers[index]!)) failed?.();
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
 * the execution is random, so it tells those apart. `call`: what else tells this call from others.
 */
export async function idempotencyKey(
	context: IExecuteFunctions,
	itemIndex: number,
	call = '',
): Promise<string> {
	const resumeUrl = new URL(String(context.evaluateExpression('{{ $execution.resumeUrl }}', 0)));
	const facts = [
		context.getInstanceId(),
		context.getExecutionId(),
		resumeUrl.searchParams.get('signature') ?? secretOf(context),
		context.getNode().id,
		context.evaluateExpression('{{ $runIndex }}', itemIndex),
		itemIndex,
		...(call === '' ? [] : [call]),
	];
	return `n8n-${await sha256(JSON.stringify(facts))}`;
}

/**
 * Keys of failed calls of a tool that asked for the same. Under Retry On Fail n8n calls a tool again as another run of
 * the node: with a new key, what was made but whose answer got lost would be made twice. So it is when a model retries.
 */
export async function failedCalls(context: IExecuteFunctions, call: string) {
	const memory = memoryOf(context, 'node') as Record<string, string[] | undefined>;
	// A retry of the whole execution in n8n starts with the memory of the first one.
	const name = `${failedKey}${await sha256(`${context.getExecutionId()} ${call}`)}`;
	return {
		take: () => memory[name]?.pop(),
		keep: (key: string) => void (memory[name] ??= []).push(key),
	};
}

/** n8n before 2.14 gives its executions no token: this one gets one of ours, which n8n keeps with it. */
function secretOf(context: IExecuteFunctions): string {
	const kept = memoryOf(context, 'flow');
	kept[secretKey] ??= crypto.randomUUID();
	return String(kept[secretKey]);
}

async function submitBatch(
	{ client }: Fleet,
	batch: Asked[],
): Promise<Array<Settled<SubmitAnswer>>> {
	let answers: BulkAnswer[];
	try {
		answers = await client.submitMany(batch.map(({ submit }) => submit));
	} catch (error) {
		return batch.map(() => ({ refusal: refusalOf(error) }));
	}
	const settled: Array<Settled<SubmitAnswer>> = [];
	for (let at = 0; at < answers.length; at += atOnce) {
		const settling = answers
			.slice(at, at + atOnce)
			.map(async (answer, i) => await settledBy(client, answer, batch[at + i]?.ours === true));
		settled.push(...(await Promise.all(settling)));
	}
	return settled;
}

async function settledBy(
	client: FleetClient,
	answer: BulkAnswer,
	ours: boolean,
): Promise<Settled<SubmitAnswer>> {
	if (!('error' in answer)) return { value: answer };
	const problem = Problem.fromBody(answer);
	const jobId = ours ? jobOfEarlierTry(problem) : undefined;
	if (jobId === undefined) return { refusal: refusalOf(problem ?? new Error(answer.error.text)) };
	return { value: { jobId, state: await stateOf(client, jobId), duplicate: true } };
}

/**
 * Our key is this item of this step, and nothing else. So when n8n repeats the step and an expression gives another
 * instant than before ("$now"), the job of the earlier try is the one that was asked for.
 */
function jobOfEarlierTry(problem: Problem | undefined): string | undefined {
	if (problem?.code !== 'key-conflict') return undefined;
	const { jobId } = problem.details;
	return typeof jobId === 'string' ? jobId : undefined;
}

/** A key that may not read is told nothing; then the job counts as just submitted. */
async function stateOf(client: FleetClient, jobId: string): Promise<JobState> {
	return await client.job(jobId).then(
		({ state }) => state,
		() => 'queued',
	);
}

function inBatches(jobs: Asked[]): Asked[][] {
	const batches: Asked[][] = [];
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
