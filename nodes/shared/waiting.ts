/**
 * Waiting for jobs without holding anything open, for Wait for Execution and Dispatch to Robot.
 *
 *   execute():  register one wait for all items → a short grace in memory → park the execution
 *   service:    condition met or time over → POST {waitId, nonce} to the resume URL ("poke")
 *   webhook():  is this the wait we are parked on? → pull the outcome → resume
 *
 * Nothing in a poke is trusted and a doubled, late or forged one does nothing: what counts is the
 * wait remembered in the execution itself, and what the service says about it when asked. A loop
 * parks the same node many times; each round remembers its own wait in place of the one before.
 */
import {
	type IDataObject,
	type IExecuteFunctions,
	type INode,
	type INodeExecutionData,
	type INodeProperties,
	isToolType,
	type IWebhookDescription,
	type IWebhookFunctions,
	type IWebhookResponseData,
	NodeOperationError,
	WAIT_INDEFINITELY,
} from 'n8n-workflow';
import {
	isFinal,
	limits,
	type Poke,
	type PokeAnswer,
	Problem,
	type Wait,
	type WaitRequest,
} from '../../protocol';
import { now } from './clock';
import { type Collecting, connect, type Fleet } from './connection';
import { failAsResumed, failOnResume } from './failing';
import { isRefused, parkedItem, passItem, refusedItem, together, type Settled } from './items';
import { type AfterLimit, type Outcome, outcomesOf } from './outcome';
import { asProblem, BadParameter, nodeError, onErrorOf, type Refusal, refusalOf } from './refusals';
import { cancelWhenStopped } from './stopping';
import type { WaitAsked } from './wait-fields';

/** In-memory waits delay the shutdown of n8n, so this one is short. */
const graceMs = 10_000;
/** At most this many at once: each execution that n8n runs costs it some 6 MB, a parked one nothing. */
const maxInGrace = 50;
let inGrace = 0;
/**
 * The service owns the time limit. n8n's own is a safety net for when the service is gone. It is wide, because n8n resumes
 * what is overdue as it starts, before the service can, and then without an outcome: an update of n8n may take minutes.
 */
const marginMs = 15 * 60_000;
/** Key in the node's context, which n8n stores with the parked execution. */
const memoryKey = 'robotFleetWait';

// ---------------------------------------------------------------------------- fields

export const waitingNodeTooltip = 'Waiting for jobs on robots to end';

/** Frozen: executions parked by an earlier version come back through it. */
export const resumeWebhooks: IWebhookDescription[] = [
	{
		name: 'default',
		httpMethod: 'POST',
		responseMode: 'onReceived',
		// Without it n8n answers the poke with a text of its own instead of ours.
		responseData: '',
		path: '={{ $nodeId }}',
		restartWebhook: true,
		isFullPath: true,
	},
];

export const waitFields: INodeProperties[] = [
	{
		displayName: 'Limit Wait Time',
		name: 'limitWaitTime',
		type: 'boolean',
		default: true,
		description:
			'Whether to go on after some time even if jobs still run. They run on all the same.',
	},
	{
		displayName: 'Amount',
		name: 'waitAmount',
		type: 'number',
		typeOptions: { minValue: 1 },
		default: 1,
		description: 'How long to wait at most',
		displayOptions: { show: { limitWaitTime: [true] } },
	},
	{
		displayName: 'Unit',
		name: 'waitUnit',
		type: 'options',
		options: [
			{ name: 'Days', value: 'days' },
			{ name: 'Hours', value: 'hours' },
			{ name: 'Minutes', value: 'minutes' },
			{ name: 'Seconds', value: 'seconds' },
		],
		default: 'hours',
		description: 'Unit of the amount',
		displayOptions: { show: { limitWaitTime: [true] } },
	},
	{
		displayName: 'When Time Is Up',
		name: 'whenTimeIsUp',
		type: 'options',
		options: [
			{
				name: 'Continue',
				value: 'continue',
				description: 'Pass the item on with the field "timedOut" of the job set',
			},
			{
				name: 'Follow On Error',
				value: 'onError',
				description: 'Treat the item like one whose job failed, as the node settings say',
			},
		],
		default: 'continue',
		description: 'What happens to items whose job still runs',
		displayOptions: { show: { limitWaitTime: [true] } },
	},
];

const unitMs: Record<string, number> = {
	seconds: 1_000,
	minutes: 60_000,
	hours: 3_600_000,
	days: 86_400_000,
};

export interface WaitLimit {
	/** Undefined = for ever. */
	limitMs: number | undefined;
	afterLimit: AfterLimit;
}

/** Read for the first item: all items share one wait. */
export function readWaitLimit(context: IExecuteFunctions): WaitLimit {
	if (context.getNodeParameter('limitWaitTime', 0, true) !== true) {
		return { limitMs: undefined, afterLimit: 'continue' };
	}
	const amount = Number(context.getNodeParameter('waitAmount', 0, 1));
	const unit = unitMs[String(context.getNodeParameter('waitUnit', 0, 'hours'))];
	if (unit === undefined || !(amount > 0)) {
		throw new BadParameter('The wait time is not a time', 'Set "Amount" to a number above 0');
	}
	const after = context.getNodeParameter('whenTimeIsUp', 0, 'continue');
	return {
		limitMs: Math.round(amount * unit),
		afterLimit: after === 'onError' ? 'onError' : 'continue',
	};
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function readJobId(context: IExecuteFunctions, itemIndex: number): string {
	const jobId = String(context.getNodeParameter('jobId', itemIndex, '') ?? '').trim();
	if (uuid.test(jobId)) return jobId.toLowerCase();
	throw new BadParameter(
		jobId === '' ? 'The item has no job ID' : `"${jobId}" is not a job ID`,
		'Set "Job ID" to what Submit Job returned, e.g. {{ $json.jobId }}',
	);
}

// ---------------------------------------------------------------------------- execute()

/** What a parked execution remembers. */
interface Parked {
	waitId: string;
	/** One for each input item, in order. */
	entries: Array<Settled<string>>;
	afterLimit: AfterLimit;
}

/** Ends with exactly one item for each input item, in order, now or after a resume. */
export async function waitForJobs(
	context: IExecuteFunctions,
	fleet: Fleet,
	jobIds: Array<Settled<string>>,
	{ limitMs, afterLimit }: WaitLimit,
	asked: WaitAsked = {},
): Promise<INodeExecutionData[][]> {
	const disarm = asked.cancelOnStop ? cancelWhenStopped(context, fleet, jobIds) : undefined;
	const wait = async () =>
		await parkedOrOver(context, fleet, jobIds, { limitMs, afterLimit }, asked);
	try {
		return await together(context, jobIds, wait, jobOf);
	} finally {
		// After a stop this changes nothing: it has been heard.
		disarm?.();
	}
}

/** They run on, though nobody waits for them. */
export const jobOf = (id: string) => ({ id });

/** Throws what would keep the node from waiting for jobs that it is about to submit. */
export async function mayWait(
	context: IExecuteFunctions,
	fleet: Fleet,
	submits: Array<Settled<{ idempotencyKey?: string }>>,
	{ cancelOnStop }: WaitAsked,
): Promise<void> {
	// Items with the same key from the builder are one job.
	const jobs = submits.flatMap((submit, i) =>
		isRefused(submit) ? [] : [submit.value.idempotencyKey ?? i],
	);
	checkNumber(new Set(jobs).size);
	// A tool waits in memory, and cancels by itself.
	if (!isToolType(context.getNode().type)) {
		callbackOf(context, fleet);
		fleet.collect?.();
	}
	if (!cancelOnStop) return;
	// Only a key that may read is told what it may do.
	const key = await fleet.client.me().catch(() => undefined);
	if (key && !['cancel', 'admin'].some((scope) => key.scopes.includes(scope as never))) {
		throw new Problem('no-scope', { scope: 'cancel' });
	}
}

function checkNumber(jobs: number): void {
	if (jobs <= limits.maxSubmitBatch) return;
	throw new BadParameter(
		`One wait takes at most ${limits.maxSubmitBatch} jobs, here are ${jobs}`,
		'Put the items through Loop Over Items first',
	);
}

async function parkedOrOver(
	context: IExecuteFunctions,
	fleet: Fleet,
	jobIds: Array<Settled<string>>,
	{ limitMs, afterLimit }: WaitLimit,
	asked: WaitAsked,
): Promise<INodeExecutionData[][]> {
	failAsResumed(context);
	const items = context.getInputData();
	// By n8n's clock, and for n8n alone: the service has its own.
	const wakeAt = limitMs === undefined ? WAIT_INDEFINITELY : new Date(now() + limitMs + marginMs);
	const resumeUrl = callbackOf(context, fleet);
	// Where n8n fetches its pokes: what keeps it from that is reported before anything is registered.
	const collecting = fleet.collect?.();
	const { entries, waitId } = await register(context, fleet, jobIds, {
		...asked,
		limitMs,
		resumeUrl: resumeUrl.toString(),
		...(collecting ? { collector: collecting.secret } : {}),
		executionId: context.getExecutionId(),
		nodeId: context.getNode().id,
	});
	if (waitId === undefined) return [itemsOf(context.getNode(), items, entries, new Map())];
	await beginCollecting(fleet, collecting, waitId);

	const wait = await graceful(context, fleet, waitId);
	if (wait !== undefined) {
		const outcomes = await outcomesOf(fleet, wait, afterLimit);
		// Taken, so nothing is left to deliver. If this call is lost, a poke meets a finished execution.
		await fleet.client.closeWait(waitId).catch(() => undefined);
		return [itemsOf(context.getNode(), items, entries, outcomes)];
	}

	const parked: Parked = { waitId, entries, afterLimit };
	context.getContext('node')[memoryKey] = JSON.stringify(parked);
	context.setMetadata({ resumeUrl: resumeUrl.toString() });
	await context.putExecutionToWait(wakeAt);
	// Copies: with an error output n8n empties the list it is given, and would lose the parked input.
	return [items.map(parkedItem)];
}

/** In memory only, for tools: answers with what is known when the jobs have ended or the time is up. */
export async function waitInMemory(
	context: IExecuteFunctions,
	fleet: Fleet,
	jobIds: Array<Settled<string>>,
	limitMs: number,
): Promise<INodeExecutionData[][]> {
	const wait = async () => await overInMemory(context, fleet, jobIds, limitMs);
	return await together(context, jobIds, wait, jobOf);
}

async function overInMemory(
	context: IExecuteFunctions,
	fleet: Fleet,
	jobIds: Array<Settled<string>>,
	limitMs: number,
): Promise<INodeExecutionData[][]> {
	const items = context.getInputData();
	const signal = context.getExecutionCancelSignal();
	let heard: { entries: Array<Settled<string>>; outcomes: Map<string, Outcome> };
	try {
		const { entries, waitId } = await register(context, fleet, jobIds, { limitMs });
		const outcomes = waitId === undefined ? new Map() : await followed(fleet, waitId, signal);
		heard = { entries, outcomes };
	} catch (error) {
		if (signal?.aborted) throw asProblem(error) ?? error;
		// Not as a failure: a model would submit the jobs once more.
		heard = { entries: jobIds, outcomes: unheard(jobIds, refusalOf(error)) };
	}
	for (const { job } of heard.outcomes.values()) {
		if (job.timedOut) {
			const known =
				job.state === null ? 'Nothing is known about the job now' : 'The job is not over';
			job.hint = `${known}. Ask for job ${String(job.id)} again later; do not submit it again.`;
		}
	}
	const onError = onErrorOf(context.getNode());
	// A failed job is an answer: of an error, n8n tells the model one sentence, and nothing that the command printed.
	const mode = onError === 'stop' ? 'continue' : onError;
	return [makeItems(mode, items, heard.entries, heard.outcomes)];
}

async function followed(
	fleet: Fleet,
	waitId: string,
	signal: AbortSignal | undefined,
): Promise<Map<string, Outcome>> {
	let wait: Wait;
	try {
		do wait = await fleet.client.wait(waitId, sliceMs, signal);
		while (wait.state === 'open');
	} finally {
		await fleet.client.closeWait(waitId).catch(() => undefined);
	}
	return await outcomesOf(fleet, wait, 'continue');
}

/** What is known of jobs that were submitted and that nobody could wait for. */
function unheard(jobIds: Array<Settled<string>>, { message }: Refusal): Map<string, Outcome> {
	const ids = jobIds.flatMap((entry) => (isRefused(entry) ? [] : [entry.value]));
	return new Map(
		ids.map((id) => [id, { job: { id, state: null, timedOut: true, error: { message } } }]),
	);
}

const sliceMs = 20_000;

/**
 * One wait for all. A job that the service does not know concerns only its item, so it is left out
 * and the others are waited for.
 */
async function register(
	context: IExecuteFunctions,
	{ client }: Fleet,
	jobIds: Array<Settled<string>>,
	rest: Omit<WaitRequest, 'jobIds'>,
): Promise<{ entries: Array<Settled<string>>; waitId?: string }> {
	const node = context.getNode();
	let entries = jobIds;
	for (;;) {
		const wanted = new Set(entries.flatMap((entry) => (isRefused(entry) ? [] : [entry.value])));
		if (wanted.size === 0) return { entries };
		checkNumber(wanted.size);
		try {
			const { waitId } = await client.createWait({ until: 'all', ...rest, jobIds: [...wanted] });
			return { entries, waitId };
		} catch (error) {
			const problem = asProblem(error);
			const unknown = problem?.code === 'no-such-job' ? String(problem.details.id) : undefined;
			const at = entries.findIndex((entry) => !isRefused(entry) && entry.value === unknown);
			if (at < 0) throw asProblem(error) ?? error;
			if (onErrorOf(node) === 'stop') throw nodeError(node, error, at);
			const refusal = refusalOf(error);
			entries = entries.map((entry) =>
				!isRefused(entry) && entry.value === unknown ? { refusal } : entry,
			);
		}
	}
}

/** The wait if it ended within the grace; undefined when it is time to park. */
async function graceful(
	context: IExecuteFunctions,
	{ client }: Fleet,
	waitId: string,
): Promise<Wait | undefined> {
	const signal = context.getExecutionCancelSignal();
	const ms = inGrace < maxInGrace ? graceMs : 0;
	inGrace += 1;
	try {
		const wait = await client.wait(waitId, ms, signal);
		return wait.state === 'open' ? undefined : wait;
	} catch (error) {
		if (signal?.aborted) {
			await client.closeWait(waitId).catch(() => undefined);
			throw new NodeOperationError(context.getNode(), 'The wait was canceled');
		}
		// The wait is registered: a service that is away for a moment will poke when it is back.
		if (asProblem(error)?.retry) return undefined;
		throw asProblem(error) ?? error;
	} finally {
		inGrace -= 1;
	}
}

/** The resume URL of this execution and node, as the service reaches it. */
function callbackOf(context: IExecuteFunctions, fleet: Fleet): URL {
	const url = new URL(String(context.evaluateExpression('{{ $execution.resumeUrl }}', 0)));
	url.pathname = `${url.pathname}/${encodeURIComponent(context.getNode().id)}`;
	return fleet.callback(url);
}

/**
 * Only now that the service has answered: a wrong URL would be asked for ever. An n8n that is killed before
 * this has no parked execution either.
 */
async function beginCollecting(
	{ client }: Fleet,
	collecting: Collecting | undefined,
	waitId: string,
): Promise<void> {
	try {
		collecting?.begin();
	} catch (error) {
		await client.closeWait(waitId).catch(() => undefined);
		throw asProblem(error) ?? error;
	}
}

// ---------------------------------------------------------------------------- webhook()

/**
 * Answers a poke. Must never throw: n8n would run the execution with its data wiped. Whatever is
 * not the outcome of the wait we are parked on leaves the execution parked.
 */
export async function resumeParked(context: IWebhookFunctions): Promise<IWebhookResponseData> {
	try {
		const { waitId } = (context.getBodyData() ?? {}) as Partial<Poke>;
		const parked = recall(context);
		if (parked === undefined) return decline('this execution waits for no jobs', true);
		if (waitId !== parked.waitId) {
			return decline('this execution waits for something else now', true);
		}
		const fleet = await connect(context);
		const wait = await fleet.client.wait(parked.waitId);
		if (wait.executionId !== context.getExecutionId() || wait.nodeId !== context.getNode().id) {
			return decline('this wait belongs to another execution', true);
		}
		const over = wait.state !== 'open' || wait.jobs.every(({ state }) => isFinal(state));
		if (!over) return decline('the wait is not over');
		return await resume(context, fleet, wait, parked);
	} catch (error) {
		if (asProblem(error)?.code === 'no-such-wait') return decline('the service has no such wait');
		return unavailable(context, refusalOf(error).message);
	}
}

async function resume(
	context: IWebhookFunctions,
	fleet: Fleet,
	wait: Wait,
	{ entries, afterLimit }: Parked,
): Promise<IWebhookResponseData> {
	const node = context.getNode();
	const items = context.evaluateExpression('{{ $input.all() }}', 0) as unknown;
	const outcomes = await outcomesOf(fleet, wait, afterLimit);
	const failure = onErrorOf(node) === 'stop' ? firstFailure(entries, outcomes) : undefined;
	// Under the other On Error modes the items tell of it.
	if (failure) failOnResume(context, failure);
	const answer: PokeAnswer = { resumed: true };
	const mode = failure ? 'continue' : onErrorOf(node);
	return {
		webhookResponse: answer,
		workflowData: [makeItems(mode, items as INodeExecutionData[], entries, outcomes)],
	};
}

/** What the last round stored; it is read through a proxy of n8n, which a text passes whole. */
function recall(context: IWebhookFunctions): Parked | undefined {
	// Braces in a name would end the expression.
	const name = JSON.stringify(context.getNode().name).replace(
		/[{}]/g,
		(brace) => `\\u00${brace.charCodeAt(0).toString(16)}`,
	);
	const text = context.evaluateExpression(`{{ $node[${name}].context["${memoryKey}"] }}`, 0);
	return typeof text === 'string' ? (JSON.parse(text) as Parked) : undefined;
}

function decline(reason: string, stale = false): IWebhookResponseData {
	const answer: PokeAnswer = { resumed: false, reason, ...(stale ? { stale } : {}) };
	return { webhookResponse: answer };
}

/** Anything but our 2xx makes the service try again later. */
function unavailable(context: IWebhookFunctions, reason: string): IWebhookResponseData {
	const answer: PokeAnswer = { resumed: false, reason };
	try {
		context.getResponseObject().status(503).json(answer);
		return { noWebhookResponse: true };
	} catch {
		return { webhookResponse: answer };
	}
}

// ---------------------------------------------------------------------------- items

function itemsOf(
	node: INode,
	items: INodeExecutionData[],
	entries: Array<Settled<string>>,
	outcomes: Map<string, Outcome>,
): INodeExecutionData[] {
	const onError = onErrorOf(node);
	if (onError === 'stop') {
		const at = entries.findIndex((entry) => failureIn(entry, outcomes) !== undefined);
		const refusal = at < 0 ? undefined : failureIn(entries[at], outcomes);
		if (refusal) throw nodeError(node, refusal, at);
	}
	return makeItems(onError, items, entries, outcomes);
}

function makeItems(
	onError: ReturnType<typeof onErrorOf>,
	items: INodeExecutionData[],
	entries: Array<Settled<string>>,
	outcomes: Map<string, Outcome>,
): INodeExecutionData[] {
	return entries.map((entry, index) => {
		const item = items[index] ?? { json: {} };
		const outcome = isRefused(entry) ? undefined : outcomes.get(entry.value);
		const refusal = refusalIn(entry, outcomes);
		// A job that failed is a result like any other unless the node has an error output.
		if (refusal && (outcome === undefined || onError === 'output')) {
			return refusedItem(onError, item, index, refusal);
		}
		return passItem(item, index, { job: (outcome?.job ?? null) as IDataObject | null });
	});
}

function firstFailure(entries: Array<Settled<string>>, outcomes: Map<string, Outcome>) {
	return entries.map((entry) => failureIn(entry, outcomes)).find((refusal) => refusal);
}

/** What stops the node under "On Error: Stop". */
function failureIn(entry: Settled<string> | undefined, outcomes: Map<string, Outcome>) {
	if (entry === undefined) return undefined;
	if (isRefused(entry)) return entry.refusal;
	const outcome = outcomes.get(entry.value);
	return outcome?.tolerated ? undefined : outcome?.refusal;
}

function refusalIn(entry: Settled<string> | undefined, outcomes: Map<string, Outcome>) {
	if (entry === undefined) return undefined;
	return isRefused(entry) ? entry.refusal : outcomes.get(entry.value)?.refusal;
}
