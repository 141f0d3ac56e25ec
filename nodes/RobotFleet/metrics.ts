/** How the fleet is doing: the record of today, series of minutes, and jobs by what they have in common. */
import type { INodeProperties } from 'n8n-workflow';
import { type Breakdown, series, type SeriesName } from '../../protocol';
import { titleOf } from '../shared/choices';
import { instantOf } from './fields';
import { type Ask, type Found, found, type Resource } from './operation';

const time: INodeProperties = {
	displayName: 'Time',
	name: 'time',
	type: 'collection',
	placeholder: 'Add Field',
	default: {},
	options: [
		{
			displayName: 'From',
			name: 'from',
			type: 'dateTime',
			default: '',
		},
		{
			displayName: 'To',
			name: 'to',
			type: 'dateTime',
			default: '',
		},
	],
};

function timeOf(ask: Ask): [from?: number, to?: number] {
	const { from, to } = ask.value<{ from?: unknown; to?: unknown }>('time', {});
	return [instantOf(ask, from, 'From'), instantOf(ask, to, 'To')];
}

export const metrics: Resource = {
	title: 'Metric',
	value: 'metric',
	first: 'get',
	operations: [
		{
			name: 'Get',
			value: 'get',
			action: 'Get the metrics of today',
			description: 'Get how many robots and jobs there are, and how the jobs of today have ended',
			fields: [
				{
					displayName: 'Time Zone',
					name: 'timezone',
					type: 'string',
					default: '',
					placeholder: 'e.g. Europe/Berlin',
					description:
						'The time zone whose midnight starts the day, an IANA name. The time zone of the workflow when empty.',
				},
			],
			run: async (ask) =>
				found(await ask.client.metrics(ask.text('timezone') || ask.context.getTimezone())),
		},
		{
			name: 'Get Breakdown',
			value: 'getBreakdown',
			action: 'Get a breakdown of jobs',
			description:
				'Get how jobs have ended, grouped by what they have in common; today unless a time is set',
			fields: [
				{
					displayName: 'By',
					name: 'by',
					type: 'options',
					options: [
						{ name: 'Cause', value: 'cause', description: 'Why they ended' },
						{ name: 'Hour', value: 'hour' },
						{ name: 'Kind', value: 'kind' },
						{
							name: 'Owner',
							value: 'owner',
							description: 'The API key or schedule that submitted them',
						},
						{ name: 'Robot', value: 'robot' },
					],
					default: 'robot',
				},
				time,
			],
			run: async (ask) =>
				found(
					await ask.client.metricBreakdown(ask.value<Breakdown>('by', 'robot'), ...timeOf(ask)),
				),
		},
		{
			name: 'Get Series',
			value: 'getSeries',
			action: 'Get a series of a metric',
			description: 'Get one metric over time; the last day unless a time is set',
			fields: [
				{
					displayName: 'Metric',
					name: 'metric',
					type: 'options',
					options: Object.entries(series)
						.map(([value, { text }]) => ({ name: titleOf(text), value }))
						.sort((a, b) => a.name.localeCompare(b.name)),
					default: 'completed',
				},
				time,
			],
			run: seriesOf,
		},
	],
};

/** One item for each point. */
async function seriesOf(ask: Ask): Promise<Found[]> {
	const name = ask.value<SeriesName>('metric', 'completed');
	const { metric, stepMs, points } = await ask.client.metricSeries(name, ...timeOf(ask));
	return found(points.map(([at, value]) => ({ metric, at, value, stepMs })));
}
