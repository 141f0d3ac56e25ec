/** Which robot gets a job, beyond labels and capabilities: the fields, and how they become part of a `Submit`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Prefer, Strategy, Submit, Target } from '../../protocol';
import { BadParameter } from './refusals';
import { namesOf, textOf, wordsOf } from './text';

export const matchingField: INodeProperties = {
	displayName: 'Matching',
	name: 'matching',
	type: 'collection',
	placeholder: 'Add Condition or Preference',
	default: {},
	description:
		'Which robots may run the job, which are preferred, and how one is chosen among them',
	options: [
		{
			displayName: 'Affinity Key',
			name: 'affinityKey',
			type: 'string',
			default: '',
			placeholder: 'e.g. nightly',
			description:
				'For the strategy Affinity: what jobs have in common that should run where such jobs went well. The same command when empty.',
		},
		{
			displayName: 'Environment',
			name: 'environment',
			type: 'string',
			default: '',
			placeholder: 'e.g. production',
			description: 'The value that the label "environment" of the robot must have',
		},
		{
			displayName: 'Exclude Robot Names or IDs',
			name: 'exclude',
			type: 'multiOptions',
			typeOptions: { loadOptionsMethod: 'getRobots' },
			default: [],
			description:
				'Robots that do not get the job. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Group Name or ID',
			name: 'group',
			type: 'options',
			typeOptions: { loadOptionsMethod: 'getGroups' },
			default: '',
			description:
				'The robot must be in this group, or in one inside it. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Pool Name or ID',
			name: 'pool',
			type: 'options',
			typeOptions: { loadOptionsMethod: 'getPools' },
			default: '',
			description:
				'The robot must be in this pool, whose jobs share a limit. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		},
		{
			displayName: 'Prefer',
			name: 'prefer',
			type: 'fixedCollection',
			typeOptions: { multipleValues: true },
			placeholder: 'Add Preference',
			default: {},
			description: 'Robots that the job prefers; it takes others as well',
			options: [
				{
					displayName: 'Preference',
					name: 'preference',
					values: [
						{
							displayName: 'Labels or Robot',
							name: 'what',
							type: 'string',
							default: '',
							placeholder: 'e.g. disk=ssd, or warehouse-3',
							description: 'Labels, all of them, or the name or ID of one robot',
						},
						{
							displayName: 'Weight',
							name: 'weight',
							type: 'number',
							typeOptions: { minValue: -100, maxValue: 100, numberPrecision: 0 },
							default: 1,
							description: 'How much it counts; weights add up. Below 0 for robots to avoid.',
						},
					],
				},
			],
		},
		{
			displayName: 'Prefer Wait (Seconds)',
			name: 'preferWaitSeconds',
			type: 'number',
			typeOptions: { minValue: 0 },
			default: 0,
			description: 'How long to wait for a preferred robot while only others are free',
		},
		{
			displayName: 'Strategy',
			name: 'strategy',
			type: 'options',
			options: [
				{
					name: 'Affinity',
					value: 'affinity',
					description: 'Where jobs like this one went well before',
				},
				{ name: 'As the Service Says', value: '' },
				{ name: 'Least Loaded', value: 'least_loaded' },
				{ name: 'Random', value: 'random' },
				{
					name: 'Round Robin',
					value: 'round_robin',
					description: 'Whose last turn is longest ago',
				},
			],
			default: '',
			description: 'How one is chosen among robots that are free',
		},
		{
			displayName: 'Tags',
			name: 'tags',
			type: 'string',
			default: '',
			placeholder: 'e.g. gpu, ssd',
			description: 'Names of labels that the robot must carry, whatever their value',
		},
	],
};

interface Preference {
	what?: unknown;
	weight?: number;
}

/** An expression may give something other than text. */
export interface Matching {
	affinityKey?: unknown;
	environment?: unknown;
	exclude?: unknown;
	group?: unknown;
	pool?: unknown;
	prefer?: { preference?: Preference[] } | null;
	preferWaitSeconds?: number;
	strategy?: Strategy | '';
	tags?: unknown;
}

export function readMatching(context: IExecuteFunctions, itemIndex: number): Matching {
	return context.getNodeParameter('matching', itemIndex, {}) as Matching;
}

/** The part that belongs to the target. */
export function conditionsOf(matching: Matching): Target {
	const exclude = namesOf(matching.exclude);
	const environment = textOf(matching.environment);
	const group = textOf(matching.group);
	const pool = textOf(matching.pool);
	const tags = wordsOf(matching.tags);
	const prefer = (matching.prefer?.preference ?? []).map(preferOf);
	return {
		...(group ? { group } : {}),
		...(pool ? { pool } : {}),
		...(tags.length > 0 ? { tags } : {}),
		...(environment ? { environment } : {}),
		...(exclude.length > 0 ? { exclude } : {}),
		...(prefer.length > 0 ? { prefer } : {}),
	};
}

/** The part that belongs to the job itself. */
export function choiceOf(
	matching: Matching,
): Pick<Submit, 'strategy' | 'affinityKey' | 'preferWaitMs'> {
	const { strategy, preferWaitSeconds } = matching;
	const affinityKey = textOf(matching.affinityKey);
	return {
		...(strategy ? { strategy } : {}),
		...(affinityKey ? { affinityKey } : {}),
		...(preferWaitSeconds ? { preferWaitMs: Math.round(preferWaitSeconds * 1000) } : {}),
	};
}

function preferOf({ what, weight = 1 }: Preference): Prefer {
	const text = textOf(what);
	if (text === '') {
		throw new BadParameter(
			'A preference names no robot and no labels',
			'Write e.g. disk=ssd, or the name of a robot, in "Labels or Robot"',
		);
	}
	return text.includes('=') ? { labels: parseLabels(text), weight } : { robot: text, weight };
}

/** `site=berlin, os=linux` */
export function parseLabels(line: unknown): Record<string, string> {
	const pairs = wordsOf(line).map((part) => {
		const [, name, value] = /^([^=\s]+)\s*=\s*(.+)$/.exec(part) ?? [];
		if (name === undefined || value === undefined) {
			throw new BadParameter(
				`"${part}" is not a label`,
				'Write labels as name=value, separated by commas, e.g. site=berlin, os=linux',
			);
		}
		return [name, value] as const;
	});
	return Object.fromEntries(pairs);
}
