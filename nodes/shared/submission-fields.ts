/** What concerns a single submit: when it starts and ends, and what counts as the same. Schedules have no such fields. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Submit } from '../../protocol';
import { now } from './clock';
import { readInstant } from './instants';
import { memoryOf } from './memory';
import { BadParameter } from './refusals';
import { textOf } from './text';

export const submissionFields: INodeProperties[] = [
	{
		displayName: 'Start and End',
		name: 'submission',
		type: 'collection',
		placeholder: 'Add option',
		default: {},
		description: 'When the job may start, when it ends at the latest, and what is not done twice',
		options: [
			{
				displayName: 'Deadline',
				name: 'deadlineAt',
				type: 'dateTime',
				default: '',
				description: 'The job ends by then, whatever it is doing',
			},
			{
				displayName: 'Explain Waiting',
				name: 'explain',
				type: 'boolean',
				default: true,
				description:
					'Whether to add the field "whyWaiting": one sentence that says why the job does not start at once, or null',
			},
			{
				displayName: 'Idempotency Key',
				name: 'idempotencyKey',
				type: 'string',
				default: '',
				placeholder: 'e.g. deploy-2026-05-01',
				description:
					'The same key with the same request gives the same job, even from another workflow. When empty, each step of each execution has its own key.',
			},
			{
				displayName: 'Refuse If No Robot Matches',
				name: 'strict',
				type: 'boolean',
				default: true,
				description:
					'Whether to refuse the job when no enrolled robot has all that it asks for, instead of waiting for one',
			},
			{
				displayName: 'Refuse Repeats Within (Seconds)',
				name: 'dedupeSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 300,
				description:
					'Refuse the job when one with the same command, target and variables was submitted within this time; 0 to allow it',
			},
			{
				displayName: 'Start After (Seconds)',
				name: 'delaySeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 60,
				description: 'How long to wait before the job may start. It has its ID at once.',
			},
			{
				displayName: 'Start At',
				name: 'startAt',
				type: 'dateTime',
				default: '',
				description: 'The job starts then, or as soon as a robot is free. It has its ID at once.',
			},
		],
	},
];

interface Submission {
	deadlineAt?: unknown;
	dedupeSeconds?: number;
	delaySeconds?: number;
	explain?: boolean;
	idempotencyKey?: unknown;
	startAt?: unknown;
	strict?: boolean;
}

const read = (context: IExecuteFunctions, itemIndex: number) =>
	context.getNodeParameter('submission', itemIndex, {}) as Submission;

export function withSubmission(
	context: IExecuteFunctions,
	itemIndex: number,
	submit: Submit,
): Submit {
	const said = read(context, itemIndex);
	const { delaySeconds, dedupeSeconds, strict } = said;
	const zone = context.getTimezone();
	const deadlineAt = readInstant(said.deadlineAt, zone, 'Deadline');
	const startAt = readInstant(said.startAt, zone, 'Start At');
	if (startAt !== undefined && delaySeconds) {
		throw new BadParameter(
			'The job has two times to start at',
			'Remove "Start After (Seconds)" or "Start At"',
		);
	}
	const notBefore =
		startAt ?? (delaySeconds ? begunAt(context) + Math.round(delaySeconds * 1000) : undefined);
	const idempotencyKey = textOf(said.idempotencyKey);
	return {
		...submit,
		...(notBefore === undefined ? {} : { notBefore }),
		...(deadlineAt === undefined ? {} : { timeouts: { ...submit.timeouts, deadlineAt } }),
		...(dedupeSeconds ? { dedupe: { windowMs: Math.round(dedupeSeconds * 1000) } } : {}),
		...(strict ? { strict } : {}),
		...(idempotencyKey ? { idempotencyKey } : {}),
	};
}

/** Whether the item wants to know why its job waits. */
export function wantsReason(context: IExecuteFunctions, itemIndex: number): boolean {
	return read(context, itemIndex).explain === true;
}

const memoryKey = 'robotFleetBegun';

/**
 * When this step began, the same however often n8n repeats it: the request behind a key must not change, or the service
 * takes the repetition for another job. A retry of the whole execution in n8n starts with the memory of the first one,
 * but is another execution.
 */
function begunAt(context: IExecuteFunctions): number {
	const memory = memoryOf(context, 'node');
	const runIndex = String(context.evaluateExpression('{{ $runIndex }}', 0));
	const round = `${context.getExecutionId()}:${runIndex}`;
	const [known, at] = String(memory[memoryKey] ?? '').split(' ');
	if (known === round && at !== undefined) return Number(at);
	const begun = now();
	memory[memoryKey] = `${round} ${begun}`;
	return begun;
}
