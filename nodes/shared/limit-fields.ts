/** What a job takes besides a robot: the fields, and how they become part of a `Submit`. See docs/limits.md. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Submit, Takes } from '../../protocol';
import { BadParameter } from './refusals';
import { textOf } from './text';

export const limitFields: INodeProperties[] = [
	{
		displayName: 'Limits',
		name: 'limits',
		type: 'collection',
		placeholder: 'Add limit',
		default: {},
		description: 'What the job needs besides a robot, and waits for until it is free',
		options: [
			{
				displayName: 'Concurrency Limit',
				name: 'concurrency',
				type: 'fixedCollection',
				placeholder: 'Add Concurrency Limit',
				default: {},
				description: 'How many jobs with the same key run at the same time, over the whole fleet',
				options: [
					{
						displayName: 'Limit',
						name: 'limit',
						values: [
							{
								displayName: 'Key',
								name: 'key',
								type: 'string',
								default: '',
								placeholder: 'e.g. crm-api',
								description: 'What these jobs have in common',
							},
							{
								displayName: 'Max Jobs',
								name: 'max',
								type: 'number',
								typeOptions: { minValue: 1, numberPrecision: 0 },
								default: 1,
							},
						],
					},
				],
			},
			{
				displayName: 'Locks',
				name: 'locks',
				type: 'fixedCollection',
				typeOptions: { multipleValues: true },
				placeholder: 'Add Lock',
				default: {},
				description:
					'What no other job may have while this one runs. A lock does not have to be created: jobs that name the same one take turns.',
				options: [
					{
						displayName: 'Lock',
						name: 'lock',
						values: [
							{
								displayName: 'Name',
								name: 'name',
								type: 'string',
								default: '',
								placeholder: 'e.g. db-prod',
								description: 'May hold letters, digits and some signs (such as - and _)',
							},
							{
								displayName: 'Share',
								name: 'slots',
								type: 'number',
								typeOptions: { minValue: 1, numberPrecision: 0 },
								default: 1,
								description:
									'How much of it to take, where an operator has said that there is more than 1',
							},
						],
					},
				],
			},
			{
				displayName: 'Rate Limit',
				name: 'rate',
				type: 'fixedCollection',
				placeholder: 'Add Rate Limit',
				default: {},
				description: 'How many jobs with the same key start within a time, over the whole fleet',
				options: [
					{
						displayName: 'Limit',
						name: 'limit',
						values: [
							{
								displayName: 'Key',
								name: 'key',
								type: 'string',
								default: '',
								placeholder: 'e.g. crm-api',
								description: 'What these jobs have in common',
							},
							{
								displayName: 'Max Starts',
								name: 'max',
								type: 'number',
								typeOptions: { minValue: 1, numberPrecision: 0 },
								default: 10,
							},
							{
								displayName: 'Within (Seconds)',
								name: 'perSeconds',
								type: 'number',
								typeOptions: { minValue: 0.001 },
								default: 60,
								description: 'Any stretch of this length, a day at most',
							},
						],
					},
				],
			},
			{
				displayName: 'Share Key',
				name: 'shareKey',
				type: 'string',
				default: '',
				placeholder: 'e.g. team-a',
				description:
					'Jobs of one key share the robots fairly with those of other keys that are as urgent',
			},
			{
				displayName: 'Slots',
				name: 'slots',
				type: 'number',
				typeOptions: { minValue: 1, maxValue: 256, numberPrecision: 0 },
				default: 1,
				description: 'How many slots of its robot the job takes',
			},
		],
	},
];

interface Keyed {
	key?: unknown;
	max?: number;
}

interface Limits {
	concurrency?: { limit?: Keyed };
	locks?: { lock?: { name?: unknown; slots?: number }[] };
	rate?: { limit?: Keyed & { perSeconds?: number } };
	shareKey?: unknown;
	slots?: number;
}

export function readLimits(
	context: IExecuteFunctions,
	itemIndex: number,
): Takes & Pick<Submit, 'shareKey'> {
	const said = context.getNodeParameter('limits', itemIndex, {}) as Limits;
	const { concurrency, rate, slots } = said;
	const locks = (said.locks?.lock ?? []).map(({ name: said, slots: share = 1 }, index) => {
		const name = textOf(said);
		if (name !== '') {
			return { name, ...(share === 1 ? {} : { slots: share }) };
		}
		throw new BadParameter(
			`"Locks" has no name in line ${index + 1}`,
			'Give the lock a name, e.g. db-prod',
		);
	});
	const shareKey = textOf(said.shareKey);
	return {
		...(locks.length > 0 ? { locks } : {}),
		...(concurrency?.limit
			? {
					concurrency: {
						key: keyOf(concurrency.limit, 'Concurrency Limit'),
						max: concurrency.limit.max ?? 1,
					},
				}
			: {}),
		...(rate?.limit
			? {
					rate: {
						key: keyOf(rate.limit, 'Rate Limit'),
						max: rate.limit.max ?? 10,
						perMs: Math.round((rate.limit.perSeconds ?? 60) * 1000),
					},
				}
			: {}),
		...(slots !== undefined && slots !== 1 ? { slots } : {}),
		...(shareKey ? { shareKey } : {}),
	};
}

function keyOf({ key: said }: Keyed, field: string): string {
	const key = textOf(said);
	if (key !== '') return key;
	throw new BadParameter(
		`"${field}" has no key`,
		'Write what these jobs have in common in "Key", e.g. crm-api',
	);
}
