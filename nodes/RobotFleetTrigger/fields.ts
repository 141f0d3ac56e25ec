/** What a person says about the events that start the workflow, and how it becomes the filter of a subscription. */
import type { INodeProperties, INodePropertyOptions, ITriggerFunctions } from 'n8n-workflow';
import {
	type Cause,
	causes,
	type EndedFilter,
	type EventFilter,
	type EventKind,
	type FinalState,
} from '../../protocol';
import { optionsOf } from '../shared/choices';
import { parseLabels } from '../shared/matching-fields';
import { BadParameter } from '../shared/refusals';
import { namesOf, textOf, wordsOf } from '../shared/text';

/** In the order of their names. */
const events: Array<INodePropertyOptions & { value: EventKind }> = [
	{
		name: 'Job Asks What to Do',
		value: 'job.asks',
		description: 'The robot of a job stays away, and the job is set to ask then',
	},
	{ name: 'Job Ended', value: 'job.ended', description: 'A job has completed, failed, …' },
	{
		name: 'Job Waits for Input',
		value: 'job.prompt',
		description: 'A running program asks for something, e.g. a password or yes or no',
	},
	{
		name: 'Late Result',
		value: 'job.late-result',
		description: 'A robot reports how an attempt ended that had already been given up',
	},
	{
		name: 'Robot Back',
		value: 'robot.back',
		description: 'A robot that was lost is connected again',
	},
	{
		name: 'Robot Closed',
		value: 'robot.closed',
		description: 'A robot no longer gets jobs: paused, drained, in maintenance or quarantine',
	},
	{
		name: 'Robot Connected',
		value: 'robot.connected',
		description: 'A new robot has connected for the first time',
	},
	{
		name: 'Robot Lost',
		value: 'robot.lost',
		description: 'A robot has been disconnected for 45 seconds',
	},
	{
		name: 'Robot Opened',
		value: 'robot.opened',
		description: 'A robot that was closed gets jobs again',
	},
	{
		name: 'Schedule Missed',
		value: 'schedule.missed',
		description:
			'Times of a schedule passed while the service was off, and will not be made up for',
	},
	{
		name: 'Schedule Paused',
		value: 'schedule.paused',
		description: 'A schedule has paused itself because its runs failed',
	},
	{
		name: 'Schedule Recovered',
		value: 'schedule.recovered',
		description: 'A run of a schedule succeeded after failed ones',
	},
	{
		name: 'Schedule Skipped',
		value: 'schedule.skipped',
		description: 'A run of a schedule was left out: the one before it still ran, a blackout, …',
	},
];

const endings: Array<INodePropertyOptions & { value: FinalState }> = [
	{ name: 'Cancelled', value: 'cancelled' },
	{ name: 'Completed', value: 'completed' },
	{ name: 'Failed', value: 'failed' },
	{ name: 'Timed Out', value: 'timeout' },
];

export const fields: INodeProperties[] = [
	{
		displayName:
			'Events count from when the workflow is published, and none is lost while n8n restarts. To try it out, execute the workflow: it waits for the next event and leaves the published workflow alone.',
		name: 'notice',
		type: 'notice',
		default: '',
	},
	{
		displayName: 'Events',
		name: 'events',
		type: 'multiOptions',
		options: events,
		default: ['job.ended'],
		required: true,
		description: 'What starts the workflow, once for each event',
	},
	{
		displayName: 'How It Ended',
		name: 'states',
		type: 'multiOptions',
		options: endings,
		default: [],
		description: 'Only jobs that ended like this. All jobs when empty.',
		displayOptions: { show: { events: ['job.ended'] } },
	},
	{
		displayName: 'Robot Names or IDs',
		name: 'robots',
		type: 'multiOptions',
		typeOptions: { loadOptionsMethod: 'getRobots' },
		default: [],
		description:
			'Only events about these robots. All robots when empty. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
	},
	{
		displayName: 'Filters',
		name: 'filters',
		type: 'collection',
		placeholder: 'Add Filter',
		default: {},
		options: [
			{
				displayName: 'Causes',
				name: 'causes',
				type: 'multiOptions',
				options: optionsOf(causes),
				default: [],
				description: 'For the event Job Ended: only jobs that ended for one of these reasons',
			},
			{
				displayName: 'Dead Letters Only',
				name: 'dead',
				type: 'boolean',
				default: true,
				description:
					'Whether the event Job Ended starts the workflow only for jobs that failed for good',
			},
			{
				displayName: 'Job Kinds',
				name: 'kinds',
				type: 'string',
				default: '',
				placeholder: 'e.g. command, probe',
				description: 'For the event Job Ended: only jobs of these kinds, separated by commas',
			},
			{
				displayName: 'Labels of the Robot',
				name: 'labels',
				type: 'string',
				default: '',
				placeholder: 'e.g. site=berlin, os=linux',
				description: 'Only events about robots that have all of these labels',
			},
			{
				displayName: 'Parts of Jobs',
				name: 'parts',
				type: 'boolean',
				default: true,
				description:
					'Whether the event Job Ended also starts the workflow for each robot of a job that runs on several. Without this, only the end of the whole job counts.',
			},
			{
				displayName: 'Schedule Names or IDs',
				name: 'schedules',
				type: 'multiOptions',
				typeOptions: { loadOptionsMethod: 'getSchedules' },
				default: [],
				description:
					'Only events about these schedules and their jobs. Choose from the list, or specify IDs using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
			},
			{
				displayName: 'Share Key',
				name: 'shareKey',
				type: 'string',
				default: '',
				placeholder: 'e.g. team-a',
				description: 'For the event Job Ended: only jobs that were submitted with this share key',
			},
		],
	},
	{
		displayName: 'Missed Events',
		name: 'missed',
		type: 'options',
		options: [
			{
				name: 'Deliver All',
				value: 'all',
				description: 'The workflow runs for each of them, in order',
			},
			{
				name: 'Deliver Recent Ones',
				value: 'recent',
				description: 'The workflow runs for those that are not too old',
			},
			{ name: 'Skip', value: 'skip', description: 'Go on with events from then on' },
		],
		default: 'all',
		description:
			'What to do with events that happened while n8n was off. After a break in the connection, all of them are delivered.',
	},
	{
		displayName: 'Not Older Than (Hours)',
		name: 'recentHours',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 1,
		description: 'Older ones are left out',
		displayOptions: { show: { missed: ['recent'] } },
	},
	{
		displayName: 'Options',
		name: 'options',
		type: 'collection',
		placeholder: 'Add Option',
		default: {},
		options: [
			{
				displayName: 'Include Output',
				name: 'output',
				type: 'boolean',
				default: true,
				description:
					'Whether to add what an ended job printed last, as "stdout" and "stderr" of the job',
			},
			{
				displayName: 'Runs at Once',
				name: 'runsAtOnce',
				type: 'number',
				typeOptions: { minValue: 1, numberPrecision: 0 },
				default: 50,
				description:
					'How many executions that this trigger has started may run at the same time. Further events wait in the service until one has ended or is parked.',
			},
		],
	},
];

interface Filters {
	causes?: Cause[];
	dead?: boolean;
	kinds?: string;
	labels?: string;
	parts?: boolean;
	schedules?: string[];
	shareKey?: string;
}

export interface Wanted {
	filter: EventFilter;
	/** Of what happened while n8n was off, only what is at most this old; undefined = all of it. */
	missedMs: number | undefined;
	output: boolean;
	runsAtOnce: number;
}

export function readWanted(context: ITriggerFunctions): Wanted {
	const options = context.getNodeParameter('options', {}) as {
		output?: boolean;
		runsAtOnce?: number;
	};
	return {
		filter: filterOf(context),
		missedMs: missedOf(context),
		output: options.output === true,
		runsAtOnce: Math.max(1, Math.floor(Number(options.runsAtOnce ?? 50)) || 1),
	};
}

function filterOf(context: ITriggerFunctions): EventFilter {
	const wanted = listOf<EventKind>(context.getNodeParameter('events', []));
	if (wanted.length === 0) {
		throw new BadParameter('No event is chosen', 'Choose what starts the workflow in "Events"');
	}
	const states = listOf<FinalState>(context.getNodeParameter('states', []));
	const robots = listOf<string>(context.getNodeParameter('robots', []));
	const filters = context.getNodeParameter('filters', {}) as Filters;
	const labels = parseLabels(filters.labels);
	const schedules = listOf<string>(filters.schedules);
	const causes = listOf<Cause>(filters.causes);
	const kinds = wordsOf(filters.kinds);
	const shareKey = textOf(filters.shareKey);
	const ended: EndedFilter = {
		...(states.length > 0 ? { states } : {}),
		...(causes.length > 0 ? { causes } : {}),
		...(kinds.length > 0 ? { kinds } : {}),
		...(shareKey ? { shareKey } : {}),
		...(filters.dead ? { dead: true } : {}),
		...(filters.parts ? {} : { whole: true }),
	};
	if (!wanted.includes('job.ended')) {
		const idle = idleFilter({ ...filters, causes, kinds, shareKey });
		if (idle) refuseIdle(context, idle);
	}
	return {
		events: wanted,
		...(robots.length > 0 ? { robots } : {}),
		...(Object.keys(labels).length > 0 ? { labels } : {}),
		...(schedules.length > 0 ? { schedules } : {}),
		...(wanted.includes('job.ended') ? { ended } : {}),
	};
}

/** The first set filter that narrows only Job Ended: without that event it would be shown and do nothing. */
function idleFilter(said: {
	causes: string[];
	dead?: boolean;
	kinds: string[];
	parts?: boolean;
	shareKey: string;
}): string | undefined {
	const set: Array<[string, boolean]> = [
		['Causes', said.causes.length > 0],
		['Dead Letters Only', said.dead === true],
		['Job Kinds', said.kinds.length > 0],
		['Parts of Jobs', said.parts === true],
		['Share Key', said.shareKey !== ''],
	];
	return set.find(([, isSet]) => isSet)?.[0];
}

function refuseIdle(context: ITriggerFunctions, name: string): void {
	const text = `"${name}" only filters the event Job Ended, which is not chosen`;
	if (isRestart(context.getActivationMode())) {
		// Nobody is there to fix it, and what is published continues as before.
		context.logger.warn(`${context.getNode().name}: ${text}`);
		return;
	}
	throw new BadParameter(text, `Choose it in "Events", or remove "${name}" from "Filters"`);
}

/** At a start of n8n, or of another leader: for what was published before. */
export const isRestart = (mode: string) => mode === 'init' || mode === 'leadershipChange';

/** An expression may give one value, several in one line, or nothing. */
const listOf = <T extends string>(value: unknown): T[] => namesOf(value) as T[];

const hourMs = 3_600_000;

function missedOf(context: ITriggerFunctions): number | undefined {
	const missed = context.getNodeParameter('missed', 'all');
	if (missed === 'all') return undefined;
	if (missed === 'skip') return 0;
	const hours = Number(context.getNodeParameter('recentHours', 1));
	if (hours >= 0) return Math.round(hours * hourMs);
	throw new BadParameter(
		'The age of missed events is not a number of hours',
		'Set "Not Older Than" to 0 or more',
	);
}
