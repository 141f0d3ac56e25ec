/** Where a job may run: the fields, and how they become a `Target`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Target, TargetMode } from '../../protocol';
import {
	conditionsOf,
	type Matching,
	matchingField,
	parseLabels,
	readMatching,
} from './matching-fields';
import { BadParameter } from './refusals';
import { namesOf, textOf } from './text';

export const robotField: INodeProperties = {
	displayName: 'Robot',
	name: 'robot',
	type: 'resourceLocator',
	default: { mode: 'list', value: '' },
	required: true,
	description: 'The robot that runs the job. While it is away, the job waits for it.',
	modes: [
		{
			displayName: 'From List',
			name: 'list',
			type: 'list',
			placeholder: 'Select a robot...',
			typeOptions: { searchListMethod: 'searchRobots', searchable: true },
		},
		{
			displayName: 'By Name or ID',
			name: 'id',
			type: 'string',
			placeholder: 'e.g. warehouse-3',
		},
	],
};

/** Conditions that matter for the list of matching robots. */
const watched = ['environment', 'exclude', 'group', 'pool', 'tags'].map(
	(name) => `matching.${name}`,
);

export const targetFields: INodeProperties[] = [
	{
		displayName: 'Run On',
		name: 'runOn',
		type: 'options',
		options: [
			{ name: 'Any Robot', value: 'any', description: 'The next robot that is free' },
			{
				name: 'Matching Robot',
				value: 'matching',
				description: 'The next free robot that has the labels and capabilities given',
			},
			{ name: 'Robot', value: 'robot', description: 'One robot of your choice' },
		],
		default: 'any',
	},
	{ ...robotField, displayOptions: { show: { runOn: ['robot'] } } },
	{
		displayName: 'Labels',
		name: 'labels',
		type: 'string',
		default: '',
		placeholder: 'e.g. site=berlin, os=linux',
		description: 'Labels that the robot must carry, all of them, separated by commas',
		displayOptions: { show: { runOn: ['matching'] } },
	},
	{
		displayName: 'Capability Names or IDs',
		name: 'capabilities',
		type: 'multiOptions',
		typeOptions: { loadOptionsMethod: 'getCapabilities' },
		default: [],
		description:
			'What the robot must be able to do, all of it. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { runOn: ['matching'] } },
	},
	{
		displayName: 'How Many Robots',
		name: 'howMany',
		type: 'options',
		options: [
			{ name: 'A Number', value: 'number', description: 'This many different robots get the job' },
			{
				name: 'All',
				value: 'all',
				description: 'Every robot gets the job; those that are away get it when they are back',
			},
			{ name: 'One', value: 'one', description: 'The job runs once' },
			{
				name: 'One per Group',
				value: 'perGroup',
				description: 'The best robot of each group that lies directly in a group',
			},
			{
				name: 'One per Label Value',
				value: 'perLabel',
				description: 'The best robot for each value of a label, such as one for each site',
			},
			{ name: 'These Robots', value: 'these', description: 'Exactly the robots that are chosen' },
		],
		default: 'one',
		description:
			'On how many of these robots the job runs. It stays one job with one ID, and ends when it has ended on all of them.',
		displayOptions: { show: { runOn: ['any', 'matching'] } },
	},
	{
		displayName: 'Number of Robots',
		name: 'robotCount',
		type: 'number',
		typeOptions: { minValue: 1, numberPrecision: 0 },
		default: 2,
		description: 'Free robots are taken first. If fewer match, the job is refused.',
		displayOptions: { show: { runOn: ['any', 'matching'], howMany: ['number'] } },
	},
	{
		displayName: 'Group of Groups Name or ID',
		name: 'perGroup',
		type: 'options',
		typeOptions: { loadOptionsMethod: 'getGroups' },
		default: '',
		required: true,
		description:
			'The group whose own groups get one job each. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { runOn: ['any', 'matching'], howMany: ['perGroup'] } },
	},
	{
		displayName: 'Label',
		name: 'perLabel',
		type: 'string',
		default: '',
		required: true,
		placeholder: 'e.g. site',
		description: 'The name of the label; robots without it are left out',
		displayOptions: { show: { runOn: ['any', 'matching'], howMany: ['perLabel'] } },
	},
	{
		displayName: 'Robot Names or IDs',
		name: 'theseRobots',
		type: 'multiOptions',
		typeOptions: { loadOptionsMethod: 'getRobots' },
		default: [],
		required: true,
		description:
			'The robots that get the job. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { runOn: ['any', 'matching'], howMany: ['these'] } },
	},
	{ ...matchingField, displayOptions: { show: { runOn: ['any', 'matching'] } } },
	{
		displayName: 'Matching Robots Name or ID',
		name: 'matchingRobots',
		type: 'options',
		typeOptions: {
			loadOptionsMethod: 'getMatchingRobots',
			loadOptionsDependsOn: ['runOn', 'labels', 'capabilities', ...watched],
		},
		default: '',
		noDataExpression: true,
		description:
			'Open to see which robots match now; the choice changes nothing. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { runOn: ['any', 'matching'] } },
	},
];

export function readRobot(context: IExecuteFunctions, itemIndex: number): Target {
	const robot = textOf(context.getNodeParameter('robot', itemIndex, '', { extractValue: true }));
	if (robot === '') throw new BadParameter('No robot is chosen', 'Choose one in "Robot"');
	return { robot };
}

export function readTarget(context: IExecuteFunctions, itemIndex: number): Target | undefined {
	const runOn = context.getNodeParameter('runOn', itemIndex, 'any');
	if (runOn === 'robot') return readRobot(context, itemIndex);
	const mode = readMode(context, itemIndex);
	const must =
		runOn === 'matching'
			? {
					labels: context.getNodeParameter('labels', itemIndex, ''),
					capabilities: context.getNodeParameter('capabilities', itemIndex, []),
				}
			: {};
	const target = {
		...targetOf({ ...must, matching: readMatching(context, itemIndex) }),
		...(mode ? { mode } : {}),
	};
	// A job without a target means any robot.
	return runOn === 'matching' || Object.keys(target).length > 0 ? target : undefined;
}

/** What robots must have, as the fields say it. */
export function targetOf(fields: {
	labels?: unknown;
	capabilities?: unknown;
	matching?: Matching;
}): Target {
	const labels = parseLabels(fields.labels);
	const { matching = {} } = fields;
	const capabilities = namesOf(fields.capabilities);
	return {
		...(Object.keys(labels).length > 0 ? { labels } : {}),
		...(capabilities.length > 0 ? { capabilities } : {}),
		...conditionsOf(matching),
	};
}

function readMode(context: IExecuteFunctions, itemIndex: number): TargetMode | undefined {
	const howMany = context.getNodeParameter('howMany', itemIndex, 'one');
	if (howMany === 'all') return 'all';
	if (howMany === 'perGroup') {
		const perGroup = textOf(context.getNodeParameter('perGroup', itemIndex, ''));
		if (perGroup !== '') return { perGroup };
		throw new BadParameter('No group is chosen', 'Choose one in "Group of Groups"');
	}
	if (howMany === 'perLabel') {
		const perLabel = textOf(context.getNodeParameter('perLabel', itemIndex, ''));
		if (perLabel !== '') return { perLabel };
		throw new BadParameter('No label is given', 'Write its name in "Label", e.g. site');
	}
	if (howMany === 'these') {
		const robots = namesOf(context.getNodeParameter('theseRobots', itemIndex, []));
		if (robots.length > 0) return { robots };
		throw new BadParameter('No robots are chosen', 'Choose some in "Robots"');
	}
	if (howMany !== 'number') return undefined;
	const count = Number(context.getNodeParameter('robotCount', itemIndex, 2));
	if (Number.isInteger(count) && count > 0) return { count };
	throw new BadParameter(
		'The number of robots is not a number',
		'Set "Number of Robots" to a whole number above 0',
	);
}
