/** What becomes of a job while its robot is away, before and after it has begun: the fields, and how they become part of a `Submit`. */
import type { IExecuteFunctions, INodeProperties } from 'n8n-workflow';
import type { Offline, OfflineEnd, OnLoss, Submit } from '../../protocol';
import { readInstant } from './instants';
import { BadParameter } from './refusals';
import { inMillis } from './text';

export const awayFields: INodeProperties[] = [
	{
		displayName: 'When the Robot Is Away',
		name: 'whenAway',
		type: 'collection',
		placeholder: 'Add rule',
		default: {},
		description: 'How long the job waits for its robot, and what happens then',
		options: [
			{
				displayName: 'If the Robot Is Lost',
				name: 'lostThen',
				type: 'options',
				options: [
					{
						name: 'Fail',
						value: 'fail',
						description: 'The job ends as failed, cause robot_lost',
					},
					{
						name: 'Run Again',
						value: 'retry',
						description: 'The job may run twice: only for work that can be repeated safely',
					},
					{
						name: 'Say That Nobody Knows',
						value: 'unknown',
						description: 'The job ends as failed, cause unknown, and is never run twice silently',
					},
				],
				default: 'unknown',
				description:
					'What happens when the robot goes away while the job runs there, and does not come back',
			},
			{
				displayName: 'Lost After (Seconds)',
				name: 'lostSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 300,
				description: 'How long a robot that runs the job may stay away before it counts as lost',
			},
			{
				displayName: 'Start Within (Seconds)',
				name: 'forSeconds',
				type: 'number',
				typeOptions: { minValue: 0 },
				default: 3600,
				description:
					'How long a job for one robot waits for that robot before it starts; 0 for not at all. When not set, it waits as long as Queue Time Limit says.',
			},
			{
				displayName: 'Start Within: Until',
				name: 'until',
				type: 'dateTime',
				default: '',
				description: 'The same as a date and time, used instead of the seconds',
			},
			{
				displayName: 'Then',
				name: 'then',
				type: 'options',
				options: [
					{
						name: 'Ask',
						value: 'ask',
						description: 'Hold the job until somebody answers: wait, other robot, or end',
					},
					{ name: 'End as Timed Out', value: 'expire' },
					{
						name: 'Use Another Robot',
						value: 'other',
						description: 'Any robot that the other conditions allow',
					},
				],
				default: 'expire',
				description: 'What happens when the robot is still away by then',
			},
			{
				displayName: 'While Disconnected',
				name: 'onDisconnect',
				type: 'options',
				options: [
					{ name: 'Run On', value: 'continue' },
					{ name: 'Stop', value: 'stop', description: 'The robot stops the job by itself' },
				],
				default: 'continue',
				description: 'What a robot does with a running job when it loses the service',
			},
		],
	},
];

interface WhenAway {
	lostThen?: OnLoss['then'];
	lostSeconds?: number;
	forSeconds?: number;
	until?: unknown;
	then?: OfflineEnd;
	onDisconnect?: Submit['onDisconnect'];
}

export function readAway(
	context: IExecuteFunctions,
	itemIndex: number,
): Pick<Submit, 'offline' | 'onLoss' | 'onDisconnect'> {
	const said = context.getNodeParameter('whenAway', itemIndex, {}) as WhenAway;
	const { lostThen, then, onDisconnect } = said;
	const forMs = inMillis(said.forSeconds);
	const waitMs = inMillis(said.lostSeconds);
	const until = readInstant(said.until, context.getTimezone(), 'Start Within: Until');
	if (then !== undefined && until === undefined && forMs === undefined) {
		throw new BadParameter(
			'"Then" has no time',
			'Add "Start Within (Seconds)" to "When the Robot Is Away"',
		);
	}
	const time: Offline | undefined =
		until !== undefined ? { until } : forMs === undefined ? undefined : { forMs };
	const onLoss: OnLoss = {
		...(waitMs === undefined ? {} : { waitMs }),
		...(lostThen === undefined ? {} : { then: lostThen }),
	};
	return {
		...(time ? { offline: { ...time, ...(then ? { then } : {}) } } : {}),
		...(Object.keys(onLoss).length > 0 ? { onLoss } : {}),
		...(onDisconnect ? { onDisconnect } : {}),
	};
}
