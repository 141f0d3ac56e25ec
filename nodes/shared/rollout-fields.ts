/** How a job goes out to several robots: the fields, and how they become a `Rollout`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Rollout, Submit, Target } from '../../protocol';
import { BadParameter } from './refusals';

export const rolloutFields: INodeProperties[] = [
	{
		displayName: 'Rollout',
		name: 'rollout',
		type: 'collection',
		placeholder: 'Add setting',
		default: {},
		description: 'Go out in batches instead of all at once, and stop when too many robots fail',
		displayOptions: {
			show: {
				runOn: ['any', 'matching'],
				howMany: ['all', 'number', 'perGroup', 'perLabel', 'these'],
			},
		},
		options: [
			{
				displayName: 'Batch Size',
				name: 'batch',
				type: 'string',
				default: '25%',
				placeholder: 'e.g. 10 or 25%',
				description: 'How many robots go at the same time: a number, or a share of all of them',
			},
			{
				displayName: 'Canary Robots',
				name: 'canary',
				type: 'number',
				typeOptions: { minValue: 0, numberPrecision: 0 },
				default: 1,
				description: 'How many go first and alone; when one of them fails, nothing more starts',
			},
			{
				displayName: 'Max Failures',
				name: 'maxFailures',
				type: 'string',
				default: '0',
				placeholder: 'e.g. 2 or 10%',
				description:
					'When more robots than this have failed, nothing more starts until somebody resumes or cancels the job',
			},
			{
				displayName: 'Pause Between Batches (Seconds)',
				name: 'pauseSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 60,
				description: 'How long to wait between two batches',
			},
			{
				displayName: 'Skip Robots That Are Away',
				name: 'skipAway',
				type: 'boolean',
				default: false,
				description: 'Whether to skip robots that are not connected instead of waiting for them',
			},
			{
				displayName: 'Stagger (Seconds)',
				name: 'staggerSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 0,
				description: 'How long after the one before it each robot of a batch starts',
			},
		],
	},
];

interface RolloutOptions {
	batch?: string | number;
	canary?: number;
	maxFailures?: string | number;
	pauseSeconds?: number;
	skipAway?: boolean;
	staggerSeconds?: number;
}

/** Adds it to a job for several robots; any other stays as it is. */
export function withRollout(context: IExecuteFunctions, itemIndex: number, submit: Submit): Submit {
	const { target } = submit;
	if (target?.mode === undefined || target.mode === 'one') return submit;
	const said = context.getNodeParameter('rollout', itemIndex, {}) as RolloutOptions;
	const { batch, canary, maxFailures, pauseSeconds, skipAway, staggerSeconds } = said;
	const wish: Partial<Rollout> = {
		...(canary ? { canary } : {}),
		...(maxFailures === undefined ? {} : { maxFailures: shareOf(maxFailures, 'Max Failures') }),
		...(pauseSeconds ? { pauseBetween: Math.round(pauseSeconds * 1000) } : {}),
		...(staggerSeconds ? { staggerMs: Math.round(staggerSeconds * 1000) } : {}),
	};
	if (batch === undefined && Object.keys(wish).length > 0) {
		throw new BadParameter(
			'The rollout has no batch size',
			'Add "Batch Size" to "Rollout", e.g. 10 or 25%',
		);
	}
	const away: Target = skipAway ? { ...target, away: 'skip' } : target;
	return {
		...submit,
		target: away,
		...(batch === undefined ? {} : { rollout: { ...wish, batch: shareOf(batch, 'Batch Size') } }),
	};
}

/** `10`, `25%`; the service decides whether it makes sense. */
function shareOf(value: string | number, field: string): number | string {
	const text = String(value).trim();
	if (/^\d+%$/.test(text)) return text;
	if (/^\d+$/.test(text)) return Number(text);
	throw new BadParameter(
		`"${field}" is neither a number nor a share`,
		`Set "${field}" to a whole number or a share, e.g. 10 or 25%`,
	);
}
