/** Where a job may run: the fields, and how they become a `Target`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Target } from '../../protocol';
import { BadParameter } from './refusals';

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
		displayName: 'Matching Robots Name or ID',
		name: 'matchingRobots',
		type: 'options',
		typeOptions: {
			loadOptionsMethod: 'getMatchingRobots',
			loadOptionsDependsOn: ['labels', 'capabilities'],
		},
		default: '',
		noDataExpression: true,
		description:
			'Open to see which robots match now; the choice changes nothing. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
		displayOptions: { show: { runOn: ['matching'] } },
	},
];

export function readRobot(context: IExecuteFunctions, itemIndex: number): Target {
	const robot = String(
		context.getNodeParameter('robot', itemIndex, '', { extractValue: true }) ?? '',
	).trim();
	if (robot === '') throw new BadParameter('No robot is chosen', 'Choose one in "Robot"');
	return { robot };
}

export function readTarget(context: IExecuteFunctions, itemIndex: number): Target | undefined {
	const runOn = context.getNodeParameter('runOn', itemIndex, 'any');
	if (runOn === 'robot') return readRobot(context, itemIndex);
	if (runOn !== 'matching') return undefined;
	const labels = parseLabels(context.getNodeParameter('labels', itemIndex, '') as string);
	const capabilities = context.getNodeParameter('capabilities', itemIndex, []) as string[];
	return {
		...(Object.keys(labels).length > 0 ? { labels } : {}),
		...(capabilities.length > 0 ? { capabilities } : {}),
	};
}

/** `site=berlin, os=linux` */
export function parseLabels(line: string): Record<string, string> {
	const pairs = line
		.split(',')
		.map((part) => part.trim())
		.filter((part) => part !== '')
		.map((part) => {
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
