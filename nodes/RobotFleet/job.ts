/** Jobs: find them, read them, change what becomes of them, type into them. Files and output have their own files. */
import type { INodeProperties } from 'n8n-workflow';
import {
	type Cause,
	causes,
	type HoldAnswer,
	type Job,
	type JobChange,
	type JobState,
	jobStates,
	type Priority,
} from '../../protocol';
import { optionsOf, titleOf } from '../shared/choices';
import { BadParameter } from '../shared/refusals';
import { nameOf } from '../shared/robots';
import { plainText, textOf } from '../shared/text';
import {
	asFound,
	chosenJob,
	fromPages,
	instantOf,
	jobLocator,
	locator,
	manyFields,
	simplifyField,
} from './fields';
import { getCells } from './job-cells';
import { downloadFile, uploadFile } from './job-files';
import { getOutput } from './job-output';
import { type Ask, type Found, found, type Resource, shownFor } from './operation';

const priority: INodeProperties = {
	displayName: 'Priority',
	name: 'priority',
	type: 'options',
	options: [
		{ name: 'Critical', value: 'critical' },
		{ name: 'High', value: 'high' },
		{ name: 'Low', value: 'low' },
		{ name: 'Normal', value: 'normal' },
	],
	default: 'normal',
};

const filters: INodeProperties = {
	displayName: 'Filters',
	name: 'filters',
	type: 'collection',
	placeholder: 'Add Filter',
	default: {},
	options: [
		{
			displayName: 'Cause',
			name: 'cause',
			type: 'options',
			options: optionsOf(causes),
			default: 'exit_code',
			description: 'Why it ended the way it did',
		},
		{ displayName: 'Created After', name: 'createdAfter', type: 'dateTime', default: '' },
		{ displayName: 'Created Before', name: 'createdBefore', type: 'dateTime', default: '' },
		{
			displayName: 'Dead Letters Only',
			name: 'dead',
			type: 'boolean',
			default: true,
			description: 'Whether to find only jobs that failed for good and that nobody has dealt with',
		},
		{
			displayName: 'Kind',
			name: 'kind',
			type: 'string',
			default: '',
			placeholder: 'e.g. command',
		},
		{
			displayName: 'Parent Job ID',
			name: 'parent',
			type: 'string',
			default: '',
			description: 'Only the parts of this job, one for each of its robots',
		},
		priority,
		{
			displayName: 'Robot Name or ID',
			name: 'robot',
			type: 'string',
			default: '',
			placeholder: 'e.g. warehouse-3',
		},
		{ displayName: 'Share Key', name: 'shareKey', type: 'string', default: '' },
		{
			displayName: 'State',
			name: 'state',
			type: 'options',
			options: jobStates
				.map((state) => ({ name: titleOf(state), value: state }))
				.sort((a, b) => a.name.localeCompare(b.name)),
			default: 'running',
		},
	],
};

interface Filters {
	cause?: Cause;
	createdAfter?: unknown;
	createdBefore?: unknown;
	dead?: boolean;
	kind?: string;
	parent?: string;
	priority?: Priority;
	robot?: string;
	shareKey?: string;
	state?: JobState;
}

export const jobs: Resource = {
	title: 'Job',
	value: 'job',
	first: 'getAll',
	operations: [
		{
			name: 'Answer',
			value: 'answer',
			action: 'Answer a job that asks',
			description: 'Decide what happens to a job that asks because its robot stays away',
			fields: [
				jobLocator,
				{
					displayName: 'Answer',
					name: 'answer',
					type: 'options',
					options: [
						{
							name: 'End as Timed Out',
							value: 'expire',
							description: 'The job ends without having run',
						},
						{
							name: 'Keep Waiting',
							value: 'wait',
							description: 'The job keeps waiting for its robot',
						},
						{
							name: 'Use Another Robot',
							value: 'other',
							description: 'Any robot that the other conditions of the job allow',
						},
					],
					default: 'wait',
				},
				shownFor(
					{
						displayName: 'Ask Again After (Seconds)',
						name: 'askAgainSeconds',
						type: 'number',
						typeOptions: { minValue: 0 },
						default: 0,
						description:
							'How long to wait before the job asks again; 0 to wait without limit. A job that is no longer asking refuses a second answer.',
					},
					{ answer: ['wait'] },
				),
				simplifyField,
			],
			run: answer,
		},
		{
			name: 'Cancel',
			value: 'cancel',
			action: 'Cancel a job',
			description:
				'Cancel a job: one that waits ends at once, one that runs is stopped with all its processes',
			fields: [jobLocator, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.cancel(chosenJob(ask)), simple),
		},
		downloadFile,
		{
			name: 'Get',
			value: 'get',
			action: 'Get a job',
			description: 'Get a job with its state and result',
			fields: [
				jobLocator,
				{
					displayName: 'Include',
					name: 'include',
					type: 'multiOptions',
					options: [
						{
							name: 'Attempts',
							value: 'attempts',
							description: 'Each try: where, and how it ended',
						},
						{ name: 'Reason It Waits', value: 'why', description: 'In one sentence' },
						{ name: 'Timeline', value: 'timeline', description: 'All that has happened to it' },
					],
					default: [],
					description: 'What else to get; each becomes a field of the output',
				},
				simplifyField,
			],
			run: get,
		},
		{
			name: 'Get Many',
			value: 'getAll',
			action: 'Get many jobs',
			description: 'Get many jobs, newest first',
			fields: [...manyFields, filters, simplifyField],
			run: async (ask) => {
				const filter = filterOf(ask);
				return await fromPages(ask, (page) => ask.client.jobs({ ...filter, ...page }), simple);
			},
		},
		getOutput,
		getCells,
		{
			name: 'Pause',
			value: 'pause',
			action: 'Pause a job that goes out in batches',
			description: 'Start nothing more of a job that goes out in batches; what runs goes on',
			fields: [jobLocator, simplifyField],
			run: async (ask) => asFound(ask, await ask.client.pauseJob(chosenJob(ask)), simple),
		},
		{
			name: 'Resume',
			value: 'resume',
			action: 'Resume a job that goes out in batches',
			description:
				'Continue a job that goes out in batches and was paused, or stopped because too many robots failed',
			fields: [
				jobLocator,
				{
					displayName: 'Only Before Batch',
					name: 'beforeBatch',
					type: 'number',
					typeOptions: { minValue: 0, numberPrecision: 0 },
					default: 0,
					description:
						'Resume only if this batch is the next one, which makes the step safe to repeat; 0 for whichever is next',
				},
				simplifyField,
			],
			run: resume,
		},
		{
			name: 'Retry',
			value: 'retry',
			action: 'Retry a job',
			description:
				'Submit the same job again under a new ID; repeating the step returns that new job while it has not ended',
			fields: [
				jobLocator,
				{
					displayName: 'Only Failed Robots',
					name: 'onlyFailed',
					type: 'boolean',
					default: false,
					description:
						'Whether to repeat a job for several robots only on those where it did not complete',
				},
			],
			run: async (ask) => {
				const request = ask.value('onlyFailed', false) ? { only: 'failed' as const } : undefined;
				return found(await ask.client.retry(chosenJob(ask), request));
			},
		},
		{
			name: 'Retry Delivery',
			value: 'retryDelivery',
			action: 'Retry the delivery of a wait',
			description:
				'Tell n8n again that the jobs of a parked execution have ended, if it could not be reached before',
			fields: [
				locator(
					'waitId',
					'Wait',
					'The wait of a parked execution; those that nobody took come first',
					'searchWaits',
					{ displayName: 'By ID', placeholder: 'e.g. 019f2b1c-7d3e-7a10-9c55-0d4c8a1b2e3f' },
				),
			],
			run: retryDelivery,
		},
		{
			name: 'Send Input',
			value: 'sendInput',
			action: 'Send input to a job',
			description: 'Type into a running job that was submitted as interactive',
			fields: [
				jobLocator,
				{
					displayName: 'Text',
					name: 'text',
					type: 'string',
					default: '',
					placeholder: 'e.g. yes',
					description: 'The text to type',
				},
				{
					displayName: 'Press Enter',
					name: 'pressEnter',
					type: 'boolean',
					default: true,
					description: 'Whether to press Enter after the text',
				},
				{
					displayName: 'Only as an Answer',
					name: 'onlyAnswer',
					type: 'boolean',
					default: true,
					description:
						'Whether to type only while the program asks for something. The text then answers that question and no later one, however often the step is repeated.',
				},
				{
					displayName: 'Close Input',
					name: 'closeInput',
					type: 'boolean',
					default: false,
					description: 'Whether to close the input of the program after the text',
				},
			],
			run: sendInput,
		},
		{
			name: 'Update',
			value: 'update',
			action: 'Update a job',
			description: 'Change a job that waits: its priority, its robot, or whether it is held back',
			fields: [
				jobLocator,
				{
					displayName: 'Update Fields',
					name: 'updateFields',
					type: 'collection',
					placeholder: 'Add Field',
					default: {},
					options: [
						{
							displayName: 'Hold',
							name: 'hold',
							type: 'boolean',
							default: true,
							description: 'Whether to hold the job until it is released; off releases it',
						},
						{
							displayName: 'Hold Reason',
							name: 'holdReason',
							type: 'string',
							default: '',
							description: 'Why it is held, for people',
						},
						priority,
						{
							displayName: 'Robot Name or ID',
							name: 'robot',
							type: 'string',
							default: '',
							placeholder: 'e.g. warehouse-3',
							description: 'Where it runs instead',
						},
					],
				},
				simplifyField,
			],
			run: update,
		},
		uploadFile,
	],
};

async function get(ask: Ask): Promise<Found[]> {
	const job = await ask.client.job(chosenJob(ask));
	const { jobId } = job;
	const include = ask.value<string[]>('include', []);
	const wants = (what: string) => include.includes(what);
	const more = {
		...(wants('attempts') ? { attempts: await ask.client.attempts(jobId) } : {}),
		...(wants('timeline') ? { timeline: await ask.client.timeline(jobId) } : {}),
		...(wants('why') ? { why: (await ask.client.why(jobId)).text } : {}),
	};
	const simplified = ask.value('simplify', true);
	const robot = simplified && job.robotId !== null ? await nameOf(ask.client, job.robotId) : null;
	return asFound(ask, { ...job, ...more }, (whole) => ({ ...simple(whole), robot, ...more }));
}

async function answer(ask: Ask): Promise<Found[]> {
	const said = ask.value<HoldAnswer['answer']>('answer', 'wait');
	const seconds = said === 'wait' ? Number(ask.value('askAgainSeconds', 0)) : 0;
	if (!(seconds >= 0)) {
		throw new BadParameter(
			'"Ask Again After" is not a number of seconds',
			'Set "Ask Again After" to 0 or more',
		);
	}
	const forMs = Math.round(seconds * 1000);
	const given: HoldAnswer = { answer: said, ...(forMs > 0 ? { forMs } : {}) };
	return asFound(ask, await ask.client.answer(chosenJob(ask), given), simple);
}

async function resume(ask: Ask): Promise<Found[]> {
	const batch = Number(ask.value('beforeBatch', 0));
	if (!Number.isInteger(batch) || batch < 0) {
		throw new BadParameter(
			'The batch is not a batch number',
			'Set "Only Before Batch" to a whole number, or 0',
		);
	}
	const request = batch > 0 ? { batch } : {};
	return asFound(ask, await ask.client.resumeJob(chosenJob(ask), request), simple);
}

function filterOf(ask: Ask) {
	const { createdAfter, createdBefore, dead, ...plain } = ask.value<Filters>('filters', {});
	const said = {
		...plain,
		createdAfter: instantOf(ask, createdAfter, 'Created After'),
		createdBefore: instantOf(ask, createdBefore, 'Created Before'),
		dead: dead ? (true as const) : undefined,
	};
	// A filter that was added and left empty asks for nothing.
	return Object.fromEntries(
		Object.entries(said).filter(([, value]) => value !== undefined && value !== ''),
	) as typeof said;
}

async function retryDelivery(ask: Ask): Promise<Found[]> {
	const id = ask.chosen('waitId', 'Wait');
	await ask.client.deliverWait(id);
	const { waitId, state, timedOut, tries, lastError, executionId, jobs } =
		await ask.client.wait(id);
	const jobIds = jobs.map(({ jobId }) => jobId);
	return found({ waitId, state, timedOut, tries, lastError, executionId, jobIds });
}

async function sendInput(ask: Ask): Promise<Found[]> {
	const jobId = chosenJob(ask);
	const text = plainText(ask.value('text', ''), '"Text"');
	const enter = ask.value('pressEnter', true) ? '\n' : '';
	const eof = ask.value('closeInput', false);
	const from = ask.value('onlyAnswer', true) ? await promptOf(ask, jobId) : undefined;
	const typed = `${text}${enter}`;
	const answer = await ask.client.input(
		jobId,
		{
			...(typed === '' ? {} : { text: typed }),
			...(eof ? { eof } : {}),
			...(from === undefined ? {} : { from, writer: `n8n-${ask.context.getExecutionId()}` }),
		},
		ask.signal,
	);
	return found({ jobId, ...answer });
}

const memoryKey = 'robotFleetAnswer';

/**
 * Where the answer to the program's current question begins; the same however often n8n repeats this step. What was
 * typed before the service's reply got lost is then recognized by its place, and does not answer the next question.
 */
async function promptOf({ context, itemIndex, client }: Ask, jobId: string): Promise<number> {
	const memory = context.getContext('node');
	const key = `${memoryKey}${itemIndex}`;
	const round = String(context.evaluateExpression('{{ $runIndex }}', itemIndex));
	// A retry of the whole execution in n8n starts with the memory of the first one.
	const step = `${context.getExecutionId()} ${round} ${jobId} `;
	const known = String(memory[key] ?? '');
	if (known.startsWith(step)) return Number(known.slice(step.length));
	const { waitingFor } = await client.job(jobId);
	if (waitingFor) {
		memory[key] = `${step}${waitingFor.offset}`;
		return waitingFor.offset;
	}
	throw new BadParameter(
		'The program of this job is not asking for anything now',
		'Wait until it does, or switch "Only as an Answer" off',
	);
}

async function update(ask: Ask): Promise<Found[]> {
	const fields = ask.value<{
		hold?: boolean;
		holdReason?: string;
		priority?: Priority;
		robot?: string;
	}>('updateFields', {});
	const reason = textOf(fields.holdReason);
	const robot = textOf(fields.robot);
	const hold = fields.hold ?? (reason ? true : undefined);
	const change: JobChange = {
		...(hold === undefined ? {} : { hold: hold && reason ? reason : hold }),
		...(fields.priority === undefined ? {} : { priority: fields.priority }),
		...(robot ? { target: { robot } } : {}),
	};
	if (Object.keys(change).length === 0) {
		throw new BadParameter('There is nothing to change', 'Add a field in "Update Fields"');
	}
	return asFound(ask, await ask.client.change(chosenJob(ask), change), simple);
}

function simple(job: Job) {
	const { jobId, kind, state, cause, robotId, result, createdAt, endedAt } = job;
	return {
		jobId,
		kind,
		state,
		cause,
		robotId,
		exitCode: result?.exitCode ?? null,
		stdout: result?.stdout ?? '',
		stderr: result?.stderr ?? '',
		files: result?.files ?? [],
		message: job.error?.message ?? result?.error?.message ?? job.message,
		createdAt,
		endedAt,
	};
}
