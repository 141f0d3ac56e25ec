/** When a schedule is due, and what else there is to say of it: the fields, and how they become a request. */
import type { INodeProperties } from 'n8n-workflow';
import type { Frequency, Overlap, ScheduleRequest, Weekday, When } from '../../protocol';
import { wordsOf } from '../shared/matching-fields';
import { BadParameter } from '../shared/refusals';
import { instantOf } from './fields';
import type { Ask } from './operation';

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
			'Minute, hour, day of month, month, day of week; with six fields the first one is the second',
		displayOptions: shown('cron'),
	},
	{
		displayName: 'At',
		name: 'onceAt',
		type: 'dateTime',
		default: '',
		required: true,
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
			'Separated by commas. A month that is too short for one of them has it on its last day.',
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
		description: 'No run after',
	},
	{
		displayName: 'Jitter (Seconds)',
		name: 'jitterSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 0,
		description: 'Each run up to so much later than planned',
	},
	{
		displayName: 'Latest Catch-Up (Seconds)',
		name: 'catchUpSeconds',
		type: 'number',
		typeOptions: { minValue: 0 },
		default: 3600,
		description: 'Oldest missed time that is still made up for',
	},
	{
		displayName: 'Max Runs',
		name: 'maxRuns',
		type: 'number',
		typeOptions: { minValue: 1, numberPrecision: 0 },
		default: 1,
		description: 'After so many runs it has ended',
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
		description: 'So many runs failed one after the other: the schedule is paused',
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
		description: 'A time of day that comes twice when the clock is set back',
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
		description: 'A time of day that is not there when the clock is set forward',
	},
	{
		displayName: 'Start',
		name: 'startAt',
		type: 'dateTime',
		default: '',
		description: 'No run before',
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

export interface Options {
	blackouts?: string;
	endAt?: unknown;
	jitterSeconds?: number;
	catchUpSeconds?: number;
	maxRuns?: number;
	missed?: 'none' | 'last' | 'all';
	overlap?: Overlap;
	pauseAfterFailures?: number;
	fold?: 'first' | 'both';
	gap?: 'shift' | 'skip';
	startAt?: unknown;
	timezone?: string;
}

/** Only what was said. */
export function readOptions(ask: Ask, options: Options): ScheduleRequest {
	const { blackouts, endAt, jitterSeconds, catchUpSeconds, startAt, timezone, ...plain } = options;
	const said: ScheduleRequest = {
		...plain,
		blackouts: blackouts === undefined ? undefined : wordsOf(blackouts),
		endAt: instantOf(ask, endAt, 'End'),
		startAt: instantOf(ask, startAt, 'Start'),
		jitterMs: inMs(jitterSeconds),
		catchUpMs: inMs(catchUpSeconds),
		timezone: timezone?.trim() || undefined,
	};
	return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
}

const inMs = (seconds: number | undefined) =>
	seconds === undefined ? undefined : Math.round(seconds * 1000);

const unitMs: Record<string, number> = {
	seconds: 1_000,
	minutes: 60_000,
	hours: 3_600_000,
	days: 86_400_000,
};

const readers: Record<Frequency, (ask: Ask) => Omit<When, 'frequency'>> = {
	cron: (ask) => ({ cron: ask.text('cron') }),
	once: (ask) => {
		const at = instantOf(ask, ask.value('onceAt', ''), 'At');
		if (at !== undefined) return { at };
		throw new BadParameter('No time is given', 'Set "At" to a date with its time');
	},
	interval: (ask) => {
		const amount = Number(ask.value('intervalAmount', 1));
		const everyMs = amount * (unitMs[ask.value('intervalUnit', 'hours')] ?? Number.NaN);
		if (everyMs > 0) return { everyMs: Math.round(everyMs) };
		throw new BadParameter('The interval is no time', 'Set "Every" to a number above 0');
	},
	hourly: (ask) => ({ minute: Number(ask.value('minute', 0)), ...everyOf(ask) }),
	daily: (ask) => ({ ...timesOf(ask), ...everyOf(ask) }),
	weekly: (ask) => ({
		weekdays: ask.value<Weekday[]>('weekdays', []),
		...timesOf(ask),
		...everyOf(ask),
	}),
	monthly: (ask) => ({ ...monthDaysOf(ask), ...timesOf(ask), ...everyOf(ask) }),
};

export function readWhen(ask: Ask): When {
	const frequency = ask.value<Frequency>('frequency', 'daily');
	if (Object.hasOwn(readers, frequency)) return { frequency, ...readers[frequency](ask) };
	throw new BadParameter(
		`"${String(frequency)}" is no way to run`,
		`Set "Runs" to one of: ${Object.keys(readers).join(', ')}`,
	);
}

const timesOf = (ask: Ask) => ({ times: wordsOf(ask.text('times')) });

function everyOf(ask: Ask): Pick<When, 'every'> {
	const every = Number(ask.value('every', 1));
	return every === 1 ? {} : { every };
}

function monthDaysOf(ask: Ask): Pick<When, 'days' | 'nth'> {
	if (ask.value<string>('monthlyOn', 'days') === 'nth') {
		const week = Number(ask.value('nthWeek', 1));
		return { nth: { week, weekday: ask.value<Weekday>('nthWeekday', 'mon') } };
	}
	const days = wordsOf(ask.text('monthDays')).map((word) => {
		const day = word.toLowerCase() === 'last' ? -1 : Number(word);
		if (Number.isInteger(day)) return day;
		throw new BadParameter(
			`"${word}" is not a day of a month`,
			'Write days as numbers separated by commas, e.g. 1, 15, last',
		);
	});
	return { days };
}
