/** When a schedule is due, and what else there is to say about it: the fields, and how they become a request. */
import type { INodeProperties } from 'n8n-workflow';
import type { Frequency, Overlap, ScheduleRequest, Weekday, When } from '../../protocol';
import { readInstant } from './instants';
import { BadParameter } from './refusals';
import { inMillis, textOf, wordsOf } from './text';

/** Reads the fields of a node, wherever it stands: in an execution, in a trigger, in the editor. */
export interface Reader {
	/** Of the workflow. */
	readonly timezone: string;
	value<T>(name: string, fallback: T): T;
}

const days: Record<Weekday, string> = {
	mon: 'Monday',
	tue: 'Tuesday',
	wed: 'Wednesday',
	thu: 'Thursday',
	fri: 'Friday',
	sat: 'Saturday',
	sun: 'Sunday',
};
const dayOptions = Object.entries(days).map(([value, name]) => ({ name, value }));

const shown = (...frequency: Frequency[]) => ({ show: { frequency } });

export const whenFields: INodeProperties[] = [
	{
		displayName: 'Runs',
		name: 'frequency',
		type: 'options',
		options: [
			{ name: 'By Cron Expression', value: 'cron' },
			{ name: 'Every Day', value: 'daily' },
			{ name: 'Every Hour', value: 'hourly' },
			{ name: 'Every Month', value: 'monthly' },
			{ name: 'Every Week', value: 'weekly' },
			{ name: 'In an Interval', value: 'interval' },
			{ name: 'Once', value: 'once' },
		],
		default: 'daily',
	},
	{
		displayName: 'Cron Expression',
		name: 'cron',
		type: 'string',
		default: '0 * * * *',
		required: true,
		placeholder: 'e.g. 0 6 * * 1-5',
		description:
			'Minute, hour, day of month, month, day of week; with six fields, the first is for seconds',
		displayOptions: shown('cron'),
	},
	{
		displayName: 'At',
		name: 'onceAt',
		type: 'dateTime',
		default: '',
		required: true,
		description: 'When the job runs, once',
		displayOptions: shown('once'),
	},
	{
		displayName: 'Every',
		name: 'intervalAmount',
		type: 'number',
		typeOptions: { minValue: 1 },
		default: 1,
		description: 'From one run to the next',
		displayOptions: shown('interval'),
	},
	{
		displayName: 'Unit',
		name: 'intervalUnit',
		type: 'options',
		options: [
			{ name: 'Days', value: 'days' },
			{ name: 'Hours', value: 'hours' },
			{ name: 'Minutes', value: 'minutes' },
			{ name: 'Seconds', value: 'seconds' },
		],
		default: 'hours',
		displayOptions: shown('interval'),
	},
	{
		displayName: 'Minute',
		name: 'minute',
		type: 'number',
		typeOptions: { minValue: 0, maxValue: 59 },
		default: 0,
		description: 'The minute of every hour',
		displayOptions: shown('hourly'),
	},
	{
		displayName: 'Weekdays',
		name: 'weekdays',
		type: 'multiOptions',
		options: dayOptions,
		default: ['mon'],
		displayOptions: shown('weekly'),
	},
	{
		displayName: 'On',
		name: 'monthlyOn',
		type: 'options',
		options: [
			{ name: 'Days of the Month', value: 'days' },
			{ name: 'One Weekday', value: 'nth', description: 'The second Tuesday, say' },
		],
		default: 'days',
		displayOptions: shown('monthly'),
	},
	{
		displayName: 'Days of the Month',
		name: 'monthDays',
		type: 'string',
		default: '1',
		placeholder: 'e.g. 1, 15, last',
		description:
			'Separated by commas. A month that is too short for one of them uses its last day instead.',
		displayOptions: { show: { frequency: ['monthly'], monthlyOn: ['days'] } },
	},
	{
		displayName: 'Which',
		name: 'nthWeek',
		type: 'options',
		options: [
			{ name: 'Fifth', value: 5, description: 'A month without one is left out' },
			{ name: 'First', value: 1 },
			{ name: 'Fourth', value: 4 },
			{ name: 'Last', value: -1 },
			{ name: 'Second', value: 2 },
			{ name: 'Third', value: 3 },
		],
		default: 1,
		displayOptions: { show: { frequency: ['monthly'], monthlyOn: ['nth'] } },
	},
	{
		displayName: 'Weekday',
		name: 'nthWeekday',
		type: 'options',
		options: dayOptions,
		default: 'mon',
		displayOptions: { show: { frequency: ['monthly'], monthlyOn: ['nth'] } },
	},
	{
		displayName: 'Times of Day',
		name: 'times',
		type: 'string',
		default: '06:00',
		placeholder: 'e.g. 02:30, 14:00',
		description: 'Separated by commas, in the time zone of the schedule',
		displayOptions: shown('daily', 'weekly', 'monthly'),
	},
	{
		displayName: 'Only Every Nth',
		name: 'every',
		type: 'number',
		typeOptions: { minValue: 1, numberPrecision: 0 },
		default: 1,
		description:
			'2 for every second hour, day, week or month, counted from the start of the schedule',
		displayOptions: shown('hourly', 'daily', 'weekly', 'monthly'),
	},
];

/** In the order of their names, as collections want it. */
export const optionFields: INodeProperties[] = [
	{
		displayName: 'Calendar Names',
		name: 'blackouts',
		type: 'string',
		default: '',
		placeholder: 'e.g. holidays, freeze',
		description: 'Nothing runs while one of these calendars says so; separated by commas',
	},
	{
		displayName: 'End',
		name: 'endAt',
		type: 'dateTime',
		default: '',
		description: 'No run is planned after this time',
	},
	{
		displayName: 'Jitter (Seconds)',
		name: 'jitterSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 0,
		description: 'Each run starts up to this much later than planned',
	},
	{
		displayName: 'Latest Catch-Up (Seconds)',
		name: 'catchUpSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 3600,
		description: 'How long ago a missed time may be and still be made up for',
	},
	{
		displayName: 'Max Catch-Up Runs',
		name: 'catchUpMax',
		type: 'number',
		typeOptions: { minValue: 1, maxValue: 1000, numberPrecision: 0 },
		default: 100,
		description: 'With Missed Times set to Run All: at most this many, the newest',
	},
	{
		displayName: 'Max Runs',
		name: 'maxRuns',
		type: 'number',
		typeOptions: { minValue: 1, numberPrecision: 0 },
		default: 1,
		description: 'The schedule ends after this many runs',
	},
	{
		displayName: 'Missed Times',
		name: 'missed',
		type: 'options',
		options: [
			{ name: 'Run All', value: 'all' },
			{ name: 'Run the Last One', value: 'last' },
			{ name: 'Skip', value: 'none' },
		],
		default: 'last',
		description: 'What happens to times that passed while the service was off',
	},
	{
		displayName: 'Overlap',
		name: 'overlap',
		type: 'options',
		options: [
			{ name: 'Cancel the Old One', value: 'cancel-old' },
			{ name: 'Queue All', value: 'queue-all', description: 'One after the other' },
			{ name: 'Queue One', value: 'queue-one', description: 'Further ones are left out' },
			{ name: 'Run Both', value: 'allow' },
			{ name: 'Skip', value: 'skip', description: 'The new one is left out' },
		],
		default: 'skip',
		description: 'What happens when a run is due and the one before has not ended',
	},
	{
		displayName: 'Pause After Failures',
		name: 'pauseAfterFailures',
		type: 'number',
		typeOptions: { minValue: 1, numberPrecision: 0 },
		default: 3,
		description: 'The schedule is paused when this many runs in a row have failed',
	},
	{
		displayName: 'Repeated Times',
		name: 'fold',
		type: 'options',
		options: [
			{ name: 'Run Both Times', value: 'both' },
			{ name: 'Run the First Time', value: 'first' },
		],
		default: 'first',
		description: 'What happens at a time of day that comes twice when the clock is set back',
	},
	{
		displayName: 'Skipped Times',
		name: 'gap',
		type: 'options',
		options: [
			{ name: 'Run Right After', value: 'shift' },
			{ name: 'Skip', value: 'skip' },
		],
		default: 'shift',
		description: 'What happens at a time of day that is left out when the clock is set forward',
	},
	{
		displayName: 'Start',
		name: 'startAt',
		type: 'dateTime',
		default: '',
		description: 'No run is planned before this time',
	},
	{
		displayName: 'Time Zone',
		name: 'timezone',
		type: 'string',
		default: '',
		placeholder: 'e.g. Europe/Berlin',
		description: 'An IANA name. A new schedule has the time zone of the workflow when empty.',
	},
];

export interface ScheduleOptions {
	blackouts?: unknown;
	endAt?: unknown;
	jitterSeconds?: number;
	catchUpSeconds?: number;
	catchUpMax?: number;
	maxRuns?: number;
	missed?: 'none' | 'last' | 'all';
	overlap?: Overlap;
	pauseAfterFailures?: number;
	fold?: 'first' | 'both';
	gap?: 'shift' | 'skip';
	startAt?: unknown;
	timezone?: unknown;
}

/** Only what was set. */
export function readOptions(reader: Reader, options: ScheduleOptions): ScheduleRequest {
	const { blackouts, endAt, jitterSeconds, catchUpSeconds, startAt, timezone, ...plain } = options;
	const said: ScheduleRequest = {
		...plain,
		blackouts: blackouts === undefined ? undefined : wordsOf(blackouts),
		endAt: readInstant(endAt, reader.timezone, 'End'),
		startAt: readInstant(startAt, reader.timezone, 'Start'),
		jitterMs: inMillis(jitterSeconds),
		catchUpMs: inMillis(catchUpSeconds),
		timezone: textOf(timezone) || undefined,
	};
	return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
}

const unitMs: Record<string, number> = {
	seconds: 1_000,
	minutes: 60_000,
	hours: 3_600_000,
	days: 86_400_000,
};

const readers: Record<Frequency, (reader: Reader) => Omit<When, 'frequency'>> = {
	cron: (reader) => ({ cron: saidIn(reader, 'cron') }),
	once: (reader) => {
		const at = readInstant(reader.value('onceAt', ''), reader.timezone, 'At');
		if (at !== undefined) return { at };
		throw new BadParameter('No time is given', 'Set "At" to a date with its time');
	},
	interval: (reader) => {
		const amount = Number(reader.value('intervalAmount', 1));
		const everyMs = amount * (unitMs[reader.value('intervalUnit', 'hours')] ?? Number.NaN);
		if (everyMs > 0) return { everyMs: Math.round(everyMs) };
		throw new BadParameter('The interval is not a time', 'Set "Every" to a number above 0');
	},
	hourly: (reader) => ({ minute: Number(reader.value('minute', 0)), ...everyOf(reader) }),
	daily: (reader) => ({ ...timesOf(reader), ...everyOf(reader) }),
	weekly: (reader) => ({
		...weekdaysOf(reader),
		...timesOf(reader),
		...everyOf(reader),
	}),
	monthly: (reader) => ({ ...monthDaysOf(reader), ...timesOf(reader), ...everyOf(reader) }),
};

export function readWhen(reader: Reader): When {
	const frequency = reader.value<Frequency>('frequency', 'daily');
	if (Object.hasOwn(readers, frequency)) return { frequency, ...readers[frequency](reader) };
	throw new BadParameter(
		`"${String(frequency)}" is no way to run`,
		`Set "Runs" to one of: ${Object.keys(readers).join(', ')}`,
	);
}

const saidIn = (reader: Reader, name: string) => textOf(reader.value(name, ''));

function timesOf(reader: Reader): Pick<When, 'times'> {
	const times = wordsOf(saidIn(reader, 'times'));
	if (times.length > 0) return { times };
	throw new BadParameter('No time of day is given', 'Write some in "Times of Day", e.g. 02:30');
}

function weekdaysOf(reader: Reader): Pick<When, 'weekdays'> {
	const weekdays = reader.value<Weekday[]>('weekdays', []);
	if (weekdays.length > 0) return { weekdays };
	throw new BadParameter('No weekday is chosen', 'Choose some in "Weekdays"');
}

function everyOf(reader: Reader): Pick<When, 'every'> {
	const every = Number(reader.value('every', 1));
	return every === 1 ? {} : { every };
}

function monthDaysOf(reader: Reader): Pick<When, 'days' | 'nth'> {
	if (reader.value<string>('monthlyOn', 'days') === 'nth') {
		const week = Number(reader.value('nthWeek', 1));
		return { nth: { week, weekday: reader.value<Weekday>('nthWeekday', 'mon') } };
	}
	const days = wordsOf(saidIn(reader, 'monthDays')).map((word) => {
		const day = word.toLowerCase() === 'last' ? -1 : Number(word);
		if (Number.isInteger(day)) return day;
		throw new BadParameter(
			`"${word}" is not a day of a month`,
			'Write days as numbers separated by commas, e.g. 1, 15, last',
		);
	});
	return { days };
}
