/** The fields of the trigger, of both its versions, and what they ask for. */
import type { INodeProperties, ITriggerFunctions } from 'n8n-workflow';
import type { ScheduleRequest } from '../../protocol';
import { shownFor } from '../shared/choices';
import { BadParameter } from '../shared/refusals';
import {
	optionFields,
	type Reader,
	readOptions,
	readWhen,
	type ScheduleOptions,
	whenFields,
} from '../shared/schedule-fields';
import { textOf } from '../shared/text';
import type { CatchUp } from './backlog';
import type { WhileRunning } from './overlap';

const hourMs = 3_600_000;
const maxCatchUp = 100;

const first = { '@version': [1] };
const later = { '@version': [{ _cnd: { gte: 1.1 } }] };

const firstFields: INodeProperties[] = [
	{
		displayName: 'Cron Expression',
		name: 'cron',
		type: 'string',
		default: '0 * * * *',
		required: true,
		placeholder: 'e.g. 0 6 * * 1-5',
		description:
			'Minute, hour, day of month, month, day of week; with six fields, the first is for seconds',
	},
	{
		displayName: 'Time Zone',
		name: 'timezone',
		type: 'string',
		default: '',
		placeholder: 'e.g. Europe/Berlin',
		description: 'An IANA name. The time zone of the workflow when empty.',
	},
	{
		displayName: 'Missed Times',
		name: 'missed',
		type: 'options',
		options: [
			{
				name: 'Run the Last One Late',
				value: 'last',
				description: 'Up to one hour late, once, however many were missed',
			},
			{ name: 'Skip', value: 'skip', description: 'Go on with the next time' },
		],
		default: 'last',
		description: 'What happens to times that passed while n8n or the service was off',
	},
];

const whileRunning: INodeProperties = {
	displayName: 'While an Execution Runs',
	name: 'whileRunning',
	type: 'options',
	options: [
		{
			name: 'Queue All',
			value: 'queue-all',
			description: 'Start the next execution when the one before has ended, one after the other',
		},
		{
			name: 'Queue One',
			value: 'queue-one',
			description: 'Start one more when it has ended, and leave further times out',
		},
		{ name: 'Run Both', value: 'allow', description: 'Start another execution beside it' },
		{ name: 'Skip', value: 'skip', description: 'Leave out the times that come meanwhile' },
	],
	default: 'skip',
	description:
		'What happens at a planned time while an execution that this trigger has started still runs. One that waits (Wait for Execution, for example) counts as ended, because n8n tells nobody when it goes on.',
};

const missedHere: INodeProperties = {
	displayName: 'Missed Times',
	name: 'missed',
	type: 'options',
	options: [
		{ name: 'Run All', value: 'all' },
		{ name: 'Run the Last One', value: 'last' },
		{ name: 'Skip', value: 'none' },
	],
	default: 'last',
	description:
		'What happens to times that passed while n8n or the service was off. Up to a minute late still counts as on time.',
};

const nameField: INodeProperties = {
	displayName: 'Name',
	name: 'name',
	type: 'string',
	default: '',
	placeholder: 'e.g. Nightly report',
	description: 'What the schedule is called. The names of workflow and node when empty.',
};

const named = (name: string) => optionFields.find((field) => field.name === name)!;
/** If the schedule is the trigger's own, its executions overlap and fail, not jobs. */
const notHere = ['overlap', 'pauseAfterFailures', 'missed'];

const ownOptions: INodeProperties[] = [
	...optionFields.filter(({ name }) => !notHere.includes(name)),
	missedHere,
	nameField,
	whileRunning,
].sort((a, b) => a.displayName.localeCompare(b.displayName));

const whenNames = whenFields.map(({ name }) => name);
const optionNames = ownOptions.map(({ name }) => `scheduleOptions.${name}`);

const laterFields: INodeProperties[] = [
	{
		displayName: 'Schedule',
		name: 'source',
		type: 'options',
		options: [
			{
				name: 'Existing Schedule',
				value: 'existing',
				description: 'Follow a schedule that already exists, with or without a job of its own',
			},
			{
				name: 'Of This Node',
				value: 'own',
				description: 'The service keeps a schedule for this node, with the times set here',
			},
		],
		default: 'own',
	},
	{
		displayName: 'Schedule to Follow',
		name: 'schedule',
		type: 'resourceLocator',
		default: { mode: 'list', value: '' },
		required: true,
		description:
			'Each of its runs starts the workflow, including manual runs and backfills. The schedule stays as it is.',
		modes: [
			{
				displayName: 'From List',
				name: 'list',
				type: 'list',
				placeholder: 'Select a schedule...',
				typeOptions: { searchListMethod: 'searchSchedules', searchable: true },
			},
			{
				displayName: 'By ID',
				name: 'id',
				type: 'string',
				placeholder: 'e.g. nightly-backup',
			},
		],
		displayOptions: { show: { source: ['existing'] } },
	},
	...whenFields.map((field) => shownFor(field, { source: ['own'] })),
	{
		displayName: 'Next Runs Name or ID',
		name: 'nextRuns',
		type: 'options',
		typeOptions: {
			loadOptionsMethod: 'getNextRuns',
			loadOptionsDependsOn: ['source', 'schedule.value', ...whenNames, ...optionNames],
		},
		default: '',
		noDataExpression: true,
		description:
			'Open to see when it runs next, and what it does when clocks are set; the choice changes nothing. Choose from the list, or specify an ID using an <a href="https://docs.n8n.io/code/expressions/">expression</a>.',
	},
	{
		displayName: 'Options',
		name: 'scheduleOptions',
		type: 'collection',
		placeholder: 'Add option',
		default: {},
		options: ownOptions,
		displayOptions: { show: { source: ['own'] } },
	},
	{
		displayName: 'Options',
		name: 'followOptions',
		type: 'collection',
		placeholder: 'Add option',
		default: {},
		options: [named('catchUpSeconds'), named('catchUpMax'), missedHere, whileRunning],
		displayOptions: { show: { source: ['existing'] } },
	},
];

export const fields: INodeProperties[] = [
	{
		displayName:
			'The schedule takes effect once the workflow is published. To try it out now, execute the workflow: it starts once, right away.',
		name: 'notice',
		type: 'notice',
		default: '',
	},
	...firstFields.map((field) => shownFor(field, first)),
	...laterFields.map((field) => shownFor(field, later)),
];

/** What the fields ask for: a schedule of this node's own, or one that is there. */
export type Wish = {
	whileRunning: WhileRunning;
	/** What the trigger itself says about missed times; the rest is as the schedule has it. */
	catchUp: Partial<CatchUp>;
} & (
	{ request: ScheduleRequest; scheduleId?: undefined } | { request?: undefined; scheduleId: string }
);

export function readTrigger(context: ITriggerFunctions): Wish {
	const reader: Reader = {
		timezone: context.getTimezone(),
		value: <T>(name: string, fallback: T) =>
			(context.getNodeParameter(name, fallback) ?? fallback) as T,
	};
	const name = `${context.getWorkflow().name ?? 'Workflow'}: ${context.getNode().name}`;
	if (context.getNode().typeVersion < 1.1) return readFirst(reader, name);
	if (reader.value<string>('source', 'own') === 'existing') return readExisting(context, reader);
	const { whileRunning: running = 'allow', ...said } = reader.value<
		ScheduleOptions & { name?: string; whileRunning?: WhileRunning }
	>('scheduleOptions', {});
	const request: ScheduleRequest = {
		timezone: reader.timezone,
		missed: 'last',
		catchUpMs: hourMs,
		catchUpMax: maxCatchUp,
		...readOptions(reader, said),
		name: textOf(said.name) || name,
		when: readWhen(reader),
	};
	return { request, catchUp: {}, whileRunning: running };
}

function readExisting(context: ITriggerFunctions, reader: Reader): Wish {
	const chosen = context.getNodeParameter('schedule', '', { extractValue: true });
	const scheduleId = String(chosen ?? '').trim();
	if (scheduleId === '') {
		throw new BadParameter('No schedule is chosen', 'Choose one in "Schedule to Follow"');
	}
	const { whileRunning: running = 'allow', ...said } = reader.value<
		Pick<ScheduleOptions, 'missed' | 'catchUpSeconds' | 'catchUpMax'> & {
			whileRunning?: WhileRunning;
		}
	>('followOptions', {});
	return { scheduleId, catchUp: readOptions(reader, said), whileRunning: running };
}

/** As version 1 had it. */
function readFirst(reader: Reader, name: string): Wish {
	const text = (field: string) => String(reader.value(field, '')).trim();
	const skips = reader.value<string>('missed', 'last') === 'skip';
	const request: ScheduleRequest = {
		name,
		cron: text('cron'),
		timezone: text('timezone') || reader.timezone,
		catchUpMs: skips ? 0 : hourMs,
	};
	return { request, catchUp: { missed: skips ? 'none' : 'last' }, whileRunning: 'allow' };
}
