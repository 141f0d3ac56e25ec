/** What a builder says about a wait: for how many jobs, which of them count, and what becomes of the others. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import { limits, type WaitRequest } from '../../protocol';
import { BadParameter } from './refusals';

export type WaitAsked = Pick<
	WaitRequest,
	'until' | 'counts' | 'eachRobot' | 'cancelRest' | 'cancelOnStop'
>;

export const cancelOnStopField: INodeProperties = {
	displayName: 'Cancel Jobs When Stopped',
	name: 'cancelOnStop',
	type: 'boolean',
	default: false,
	description:
		'Whether stopping the n8n execution cancels its jobs: at once while the execution runs, within five minutes while it waits. By default they run on.',
};

export const waitForFields: INodeProperties[] = [
	{
		displayName: 'Wait For',
		name: 'waitFor',
		type: 'options',
		options: [
			{
				name: 'All Jobs',
				value: 'all',
				description: 'Until the jobs of all items have ended',
			},
			{
				name: 'Any Job',
				value: 'any',
				description: 'Until the first of them has ended',
			},
			{
				name: 'At Least This Many Jobs',
				value: 'count',
				description: 'Until so many of them have ended',
			},
		],
		default: 'all',
		description:
			'How many of the jobs must have ended. Items of jobs that have not ended yet go on with the state they are in.',
	},
	{
		displayName: 'Number of Jobs',
		name: 'waitForCount',
		type: 'number',
		typeOptions: { minValue: 1, maxValue: limits.maxSubmitBatch },
		default: 2,
		description: 'How many jobs, or all if there are fewer',
		displayOptions: { show: { waitFor: ['count'] } },
	},
];

export const waitOptions: INodeProperties = {
	displayName: 'Options',
	name: 'waitOptions',
	type: 'collection',
	placeholder: 'Add Option',
	default: {},
	options: [
		cancelOnStopField,
		{
			displayName: 'Cancel Other Jobs',
			name: 'cancelRest',
			type: 'boolean',
			default: false,
			description:
				'Whether jobs that have not ended are cancelled as soon as enough others have. By default they run on. When only the time is up nothing is cancelled.',
		},
		{
			displayName: 'Count Each Robot',
			name: 'eachRobot',
			type: 'boolean',
			default: false,
			description:
				'Whether a job for several robots counts as one job for each of them. By default it is one job, which ends with the last robot.',
		},
		{
			displayName: 'Count Only Completed Jobs',
			name: 'completedOnly',
			type: 'boolean',
			default: false,
			description:
				'Whether failed jobs do not count. The wait is over when enough jobs have completed, or so many have failed that they cannot any more; failures do not stop the node as long as enough jobs complete.',
		},
	],
};

/** Read for the first item: all items share one wait. */
export function readWaitAsked(context: IExecuteFunctions): WaitAsked {
	const options = context.getNodeParameter('waitOptions', 0, {}) as Record<string, unknown>;
	const until = untilOf(context);
	const counts = options.completedOnly === true ? 'completed' : 'ended';
	return {
		until,
		counts,
		...(options.eachRobot === true ? { eachRobot: true } : {}),
		// Once all have ended nothing is left to cancel.
		...(options.cancelRest === true && (until !== 'all' || counts === 'completed')
			? { cancelRest: true }
			: {}),
		...(options.cancelOnStop === true ? { cancelOnStop: true } : {}),
	};
}

function untilOf(context: IExecuteFunctions): NonNullable<WaitRequest['until']> {
	const waitFor = context.getNodeParameter('waitFor', 0, 'all');
	if (waitFor !== 'count') return waitFor === 'any' ? 'any' : 'all';
	const count = Number(context.getNodeParameter('waitForCount', 0, 2));
	if (Number.isInteger(count) && count >= 1 && count <= limits.maxSubmitBatch) return { count };
	throw new BadParameter(
		'The number of jobs to wait for is not a number of jobs',
		`Set "Number of Jobs" to a whole number from 1 to ${limits.maxSubmitBatch}`,
	);
}
