/** When a job is tried again: the fields, and how they become a `Retry`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import { causes, type Retry, type Submit } from '../../protocol';
import { optionsOf } from './choices';
import { BadParameter } from './refusals';
import { inMillis, namesOf, wordsOf } from './text';

export const retryFields: INodeProperties[] = [
	{
		displayName: 'Retry',
		name: 'retry',
		type: 'collection',
		placeholder: 'Add rule',
		default: {},
		description:
			'When the job is tried again. The option "Max Attempts" limits how often. By default it is tried again when the robot refused it or could not start it, and after exit code 75.',
		options: [
			{
				displayName: 'Causes',
				name: 'causes',
				type: 'multiOptions',
				options: optionsOf(causes),
				default: ['refused', 'spawn_error', 'infrastructure'],
				description:
					'Which causes of an ended attempt are worth another one. For a lost robot, "If the Robot Is Lost" decides.',
			},
			{
				displayName: 'Delay Factor',
				name: 'factor',
				type: 'number',
				typeOptions: { minValue: 1, maxValue: 100 },
				default: 2,
				description: 'By how much each delay is longer than the one before',
			},
			{
				displayName: 'Exit Codes',
				name: 'exitCodes',
				type: 'string',
				default: '75',
				placeholder: 'e.g. 75, 111',
				description: 'Exit codes that are worth another attempt, separated by commas',
			},
			{
				displayName: 'First Delay (Seconds)',
				name: 'firstDelaySeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 1,
				description: 'How long to wait before the second attempt',
			},
			{
				displayName: 'Longest Delay (Seconds)',
				name: 'longestDelaySeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 60,
				description: 'How long to wait before any later attempt, at most',
			},
			{
				displayName: 'On Another Robot',
				name: 'otherRobot',
				type: 'boolean',
				default: true,
				description:
					'Whether the next attempt goes to another robot, as long as one that fits is there',
			},
			{
				displayName: 'Safe to Repeat',
				name: 'idempotent',
				type: 'boolean',
				default: true,
				description:
					'Whether the work may run more than once. Then it is tried again whatever went wrong; for a lost robot, "If the Robot Is Lost" decides.',
			},
		],
	},
];

interface RetryOptions {
	/** An expression may give one line. */
	causes?: unknown;
	exitCodes?: string | number;
	factor?: number;
	firstDelaySeconds?: number;
	longestDelaySeconds?: number;
	otherRobot?: boolean;
	idempotent?: boolean;
}

export function readRetry(
	context: IExecuteFunctions,
	itemIndex: number,
	maxAttempts?: number,
): Pick<Submit, 'retry' | 'idempotent'> {
	const said = context.getNodeParameter('retry', itemIndex, {}) as RetryOptions;
	const { factor, otherRobot, idempotent } = said;
	const initialDelayMs = inMillis(said.firstDelaySeconds);
	const maxDelayMs = inMillis(said.longestDelaySeconds);
	const on = onOf(said);
	const retry: Retry = {
		...(maxAttempts ? { maxAttempts } : {}),
		...(on === undefined ? {} : { on }),
		...(factor === undefined ? {} : { factor }),
		...(initialDelayMs === undefined ? {} : { initialDelayMs }),
		...(maxDelayMs === undefined ? {} : { maxDelayMs }),
		...(otherRobot ? { otherRobot } : {}),
	};
	return {
		...(Object.keys(retry).length > 0 ? { retry } : {}),
		...(idempotent ? { idempotent } : {}),
	};
}

/** What is not set stays at the service's default, a list of causes and exit code 75. */
function onOf({ causes: chosen, exitCodes }: RetryOptions): string[] | undefined {
	if (chosen === undefined && exitCodes === undefined) return undefined;
	const codes = wordsOf(String(exitCodes ?? '75')).map((word) => {
		if (/^\d{1,3}$/.test(word)) return `exit:${Number(word)}`;
		throw new BadParameter(
			`"${word}" is not an exit code`,
			'Write exit codes as numbers separated by commas, e.g. 75, 111',
		);
	});
	return [...namesOf(chosen ?? ['refused', 'spawn_error', 'infrastructure']), ...codes];
}
