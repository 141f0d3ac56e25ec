/** A schedule on the command line: its flags, and what they mean. */
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import {
	overlaps,
	type ScheduleRequest,
	type Submit,
	type Weekday,
	weekdays,
	type When,
} from '../../protocol';
import { jobFlag } from './schedule-job';
import { jobOf, type SubmitFlags, withJob } from './submit';
import { durationOf, instantOf, listOf, UsageMistake, wholeOf } from './terminal';

export interface Flags {
	json?: boolean;
	data?: string;
}

export interface ScheduleFlags extends Flags, Omit<SubmitFlags, 'json' | 'data'> {
	name?: string;
	cron?: string;
	once?: string;
	every?: number;
	hourly?: number;
	daily?: string[];
	weekly?: Weekday[];
	monthly?: number[];
	nth?: When['nth'];
	at?: string[];
	step?: number;
	zone?: string;
	start?: string;
	end?: string;
	maxRuns?: number;
	jitter?: number;
	gap?: ScheduleRequest['gap'];
	fold?: ScheduleRequest['fold'];
	missed?: ScheduleRequest['missed'];
	catchUp?: number;
	catchUpMax?: number;
	overlap?: ScheduleRequest['overlap'];
	blackout?: string[];
	pauseAfter?: number;
	job?: string;
	paused?: boolean;
	preview?: boolean;
	clear?: string[];
}

export function withDefinition(command: Command): Command {
	command
		.option('--cron <expression>', 'minute hour day month weekday; with six fields seconds first')
		.option(
			'--once <time>',
			'2026-05-01T06:00 (by the clock here, not by --zone), …T06:00+02:00, or 2h (from now)',
		)
		.option('--every <duration>', 'from one run to the next: 30s, 15m', durationOf)
		.option('--hourly <minute>', 'at this minute of every hour', wholeOf)
		.option('--daily <times>', 'at these times of day: 02:30 or 02:30,14:30', timesOf)
		.option('--weekly <weekdays>', 'on these days, with --at: mon,thu', weekdaysOf)
		.option('--monthly <days>', 'on these days, with --at: 1,15,last', daysOf)
		.option('--nth <which>', 'on one weekday of the month, with --at: 2:tue, last:fri', nthOf)
		.option(
			'--at <times>',
			'times of day for --weekly, --monthly and --nth (default 00:00)',
			timesOf,
		)
		.option('--step <number>', 'only every n-th hour, day, week or month', wholeOf)
		.option('--zone <name>', 'time zone, an IANA name (default UTC)')
		.option('--name <name>', 'what people call it')
		.option('--start <time>', 'no run before: a date, or 2h (from now)')
		.option('--end <time>', 'no run after')
		.option('--max-runs <count>', 'it ends after this many runs', wholeOf)
		.option('--jitter <duration>', 'each run starts up to this much later', durationOf)
		.addOption(
			new Option('--gap <choice>', 'a time of day that the clock leaves out').choices([
				'shift',
				'skip',
			]),
		)
		.addOption(
			new Option('--fold <choice>', 'a time of day that comes twice').choices(['first', 'both']),
		)
		.addOption(
			new Option('--missed <policy>', 'times that passed while the service was off').choices([
				'none',
				'last',
				'all',
			]),
		)
		.option('--catch-up <duration>', 'oldest missed time that is made up (default 1h)', durationOf)
		.option('--catch-up-max <count>', 'with --missed all: at most this many', wholeOf)
		.addOption(
			new Option('--overlap <policy>', 'a run is due and the one before has not ended').choices([
				...overlaps,
			]),
		)
		.option('--blackout <calendar>', 'never while this calendar says so (repeatable)', listOf)
		.option('--pause-after <count>', 'pause it when this many runs in a row have failed', wholeOf)
		.option('--paused', 'paused until it is resumed')
		.option('--job <file>', 'the job as JSON, instead of a command');
	return withJob(command);
}

/** What the flags say; for a change, only that. */
export function requestOf(
	flags: ScheduleFlags,
	now: number,
	job: Submit | undefined,
	change = false,
): ScheduleRequest {
	const due = whenOf(flags, now);
	if (!due && !change) {
		throw new UsageMistake(
			'Say when: --cron, --once, --every, --hourly, --daily, --weekly, --monthly or --nth.',
		);
	}
	const { zone, start, end, name, blackout } = flags;
	if (!job && !change) {
		throw new UsageMistake('Say what: a command behind --, or --job FILE.');
	}
	const said: ScheduleRequest = {
		when: due,
		job,
		name,
		timezone: zone,
		startAt: start === undefined ? undefined : laterOf(start, now),
		endAt: end === undefined ? undefined : laterOf(end, now),
		maxRuns: flags.maxRuns,
		jitterMs: flags.jitter,
		gap: flags.gap,
		fold: flags.fold,
		missed: flags.missed,
		catchUpMs: flags.catchUp,
		catchUpMax: flags.catchUpMax,
		overlap: flags.overlap,
		blackouts: blackout,
		pauseAfterFailures: flags.pauseAfter,
		enabled: flags.paused ? false : undefined,
	};
	return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
}

function whenOf(flags: ScheduleFlags, now: number): When | undefined {
	const { cron, once, every, hourly, daily, weekly, monthly, nth, at, step } = flags;
	const said: When[] = [
		...(cron === undefined ? [] : [{ frequency: 'cron' as const, cron }]),
		...(once === undefined ? [] : [{ frequency: 'once' as const, at: laterOf(once, now) }]),
		...(every === undefined ? [] : [{ frequency: 'interval' as const, everyMs: every }]),
		...(hourly === undefined ? [] : [{ frequency: 'hourly' as const, minute: hourly }]),
		...(daily === undefined ? [] : [{ frequency: 'daily' as const, times: daily }]),
		...(weekly === undefined ? [] : [{ frequency: 'weekly' as const, weekdays: weekly }]),
		...(monthly === undefined ? [] : [{ frequency: 'monthly' as const, days: monthly }]),
		...(nth === undefined ? [] : [{ frequency: 'monthly' as const, nth }]),
	];
	if (said.length > 1) throw new UsageMistake('Say in only one way when it is due.');
	const [due] = said;
	if (!due) {
		if (at ?? step)
			throw new UsageMistake('--at and --step go with one of the ways when it is due.');
		return undefined;
	}
	return { ...due, ...(at && { times: at }), ...(step !== undefined && { every: step }) };
}

export function templateOf(words: string[], flags: ScheduleFlags, now: number): Submit | undefined {
	if (flags.job === undefined) {
		const { job: _, json: _json, data: _data, ...rest } = flags;
		return words.length === 0 ? undefined : jobOf(words, rest, now);
	}
	if (words.length > 0) throw new UsageMistake('Give a command or --job, not both.');
	const flag = jobFlag(flags);
	if (flag !== undefined) {
		const typed = flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
		throw new UsageMistake(`--${typed} goes with a command; with --job write it into the file.`);
	}
	try {
		return JSON.parse(textOf(flags.job)) as Submit;
	} catch (error) {
		if (error instanceof UsageMistake) throw error;
		throw new UsageMistake(`${flags.job} is not valid JSON.`);
	}
}

export function textOf(file: string): string {
	try {
		return readFileSync(file, 'utf8');
	} catch (error) {
		throw new UsageMistake(`${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
	}
}

/** `2h` is in two hours. */
export function laterOf(text: string, now: number): number {
	return /^[\d.]+(ms|s|m|h|d)$/.test(text) ? now + durationOf(text) : instantOf(text, now);
}

const timesOf = (text: string) => text.split(',').map((time) => time.trim().padStart(5, '0'));

function weekdaysOf(text: string): Weekday[] {
	return text.split(',').map((name) => weekdayOf(name));
}

function weekdayOf(name: string): Weekday {
	const short = name.trim().toLowerCase().slice(0, 3) as Weekday;
	if (!weekdays.includes(short)) {
		throw new InvalidArgumentError(`"${name}" is not a weekday; write ${weekdays.join(', ')}.`);
	}
	return short;
}

function daysOf(text: string): number[] {
	return text.split(',').map((day) => (day.trim() === 'last' ? -1 : wholeOf(day.trim())));
}

function nthOf(text: string): NonNullable<When['nth']> {
	const [week = '', weekday = ''] = text.split(':');
	return { week: week === 'last' ? -1 : wholeOf(week), weekday: weekdayOf(weekday) };
}
