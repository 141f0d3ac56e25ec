/** The commands about schedules and calendars. */
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import {
	type ClockChange,
	type Forecast,
	type Occurrence,
	overlaps,
	type PlannedRun,
	type Preview,
	Problem,
	type Schedule,
	type ScheduleChange,
	type ScheduleRequest,
	type Submit,
	type Weekday,
	weekdays,
	type When,
} from '../../protocol';
import type { CommandKit } from './job-changes';
import { jobFlag, jobOver } from './schedule-job';
import { jobOf, type SubmitFlags } from './submit';
import {
	card,
	durationOf,
	instantOf,
	json,
	listOf,
	pairOf,
	plural,
	printable,
	table,
	UsageMistake,
	when,
	wholeOf,
} from './terminal';

interface Flags {
	json?: boolean;
	data?: string;
}

interface ScheduleFlags extends Flags, Omit<SubmitFlags, 'json' | 'data'> {
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

export function addSchedules(
	program: Command,
	{ terminal, client, group, sub }: CommandKit,
	exit: (code: number) => void,
): void {
	const tell = <T>(flags: Flags, value: T, text: (value: T) => string) =>
		terminal.out(flags.json ? json(value) : text(value));
	const schedules = group(
		'schedules',
		'run jobs at planned times, and see what became of each',
		'robot-fleet schedules add nightly --daily 02:30 --zone Europe/Berlin -- backup.sh',
	);
	sub(schedules, 'list', 'list schedules', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).schedules(), scheduleTable),
	);
	sub(schedules, 'show <id>', 'show one schedule with its next runs', 'show nightly').action(
		async (id: string, flags: Flags) => tell(flags, await client(flags).schedule(id), scheduleCard),
	);
	withDefinition(
		sub(
			schedules,
			'add <id> [command...]',
			'add a schedule; the command stands behind --',
			'add nightly --daily 02:30 --zone Europe/Berlin --robot kiosk-1 -- backup.sh',
		),
	)
		.option('--preview', 'only print when it would run, and what it does when clocks are set')
		.addHelpText(
			'after',
			"  $ robot-fleet schedules add report --cron '0 9 * * 1-5' --label os=linux -- report --mail\n  $ robot-fleet schedules add beat --every 30s --overlap skip --shell -- 'date >> /tmp/beat'\n  $ robot-fleet schedules add payroll --monthly 31 --at 06:00 --blackout holidays -- payroll\n  $ robot-fleet schedules add patch --nth 2:tue --at 22:00 --job patch.json",
		)
		.action(async (id: string, words: string[], flags: ScheduleFlags) => {
			const service = client(flags);
			const request = requestOf(flags, terminal.now(), templateOf(words, flags, terminal.now()));
			if (flags.preview) {
				const preview = await service.previewSchedule({ schedule: request });
				tell(flags, preview, previewText);
				return;
			}
			const known = await service.schedule(id).catch((error: unknown) => {
				if (error instanceof Problem && error.code === 'no-such-schedule') return undefined;
				throw error;
			});
			if (known) {
				throw new UsageMistake(
					`There is a schedule "${id}"; change it with: robot-fleet schedules update ${id}.`,
				);
			}
			tell(flags, await service.putSchedule(id, request), scheduleCard);
		});
	withDefinition(
		sub(
			schedules,
			'update <id> [command...]',
			'change what is named, and leave the rest',
			'update nightly --daily 03:30 --overlap queue-one',
		),
	)
		.option('--clear <field>', 'the default again, by its name in the API (repeatable)', listOf)
		.addHelpText(
			'after',
			'  $ robot-fleet schedules update nightly --robot kiosk-2\n  $ robot-fleet schedules update nightly -- backup.sh --full\n  $ robot-fleet schedules update nightly --clear endAt --clear maxRuns',
		)
		.action(async (id: string, words: string[], flags: ScheduleFlags) => {
			const service = client(flags);
			const now = terminal.now();
			let job = templateOf(words, flags, now);
			if (flags.job === undefined && (words.length > 0 || jobFlag(flags) !== undefined)) {
				job = jobOver((await service.schedule(id)).job, words, flags, now);
			}
			const change: ScheduleChange = {
				...requestOf(flags, now, job, true),
				...Object.fromEntries((flags.clear ?? []).map((field) => [field, null])),
			};
			tell(flags, await service.changeSchedule(id, change), scheduleCard);
		});
	for (const [verb, summary] of [
		['pause', 'fire no more until resumed'],
		['resume', 'fire again from now on'],
	] as const) {
		sub(schedules, `${verb} [id]`, summary, `${verb} nightly`)
			.option(
				'--all',
				verb === 'pause' ? 'all that are active' : 'all that --all, or a restore, had paused',
			)
			.action(async (id: string | undefined, flags: Flags & { all?: boolean }) => {
				const service = client(flags);
				if ((id === undefined) === !flags.all) {
					throw new UsageMistake('Name one schedule, or say --all.');
				}
				if (id === undefined) {
					const done = await (verb === 'pause'
						? service.pauseSchedules()
						: service.resumeSchedules());
					tell(flags, done, ({ changed }) => `${plural(changed, 'schedule')} ${verb}d\n`);
				} else {
					const one =
						verb === 'pause' ? await service.pauseSchedule(id) : await service.resumeSchedule(id);
					tell(flags, one, scheduleCard);
				}
			});
	}
	sub(schedules, 'remove <id>', 'remove a schedule', 'remove nightly').action(
		async (id: string, flags: Flags) => {
			await client(flags).removeSchedule(id);
			tell(flags, { removed: id }, () => `${id} is removed\n`);
		},
	);
	sub(schedules, 'run <id>', 'run it now, whatever is planned', 'run nightly')
		.addOption(new Option('--overlap <policy>', 'for this run only').choices([...overlaps]))
		.action(async (id: string, flags: Flags & { overlap?: ScheduleRequest['overlap'] }) => {
			const { overlap } = flags;
			const ran = await client(flags).runSchedule(id, overlap === undefined ? {} : { overlap });
			const { jobId, state, reason } = ran;
			const text = `${state}${reason === null ? '' : `: ${printable(reason)}`}\n`;
			const leftOut = state === 'refused' || state === 'skipped';
			if (leftOut) exit(1);
			if (leftOut && !flags.json) terminal.err(text);
			else tell(flags, ran, () => (jobId === null ? text : `${jobId}\n`));
		});
	sub(
		schedules,
		'backfill <id>',
		'list planned times of the past that did not run; with --yes run them now',
		'backfill nightly --from 2026-05-01 --to 2026-05-08 --yes',
	)
		.requiredOption('--from <time>', 'a date, or 2d (ago)')
		.option('--to <time>', 'end of the window, not included (default now)')
		.option('--all-times', 'also those that have run')
		.option('--at-once', 'not one after the other')
		.option('--yes', 'run them')
		.action(
			async (
				id: string,
				flags: Flags & {
					from: string;
					to?: string;
					allTimes?: boolean;
					atOnce?: boolean;
					yes?: boolean;
				},
			) => {
				const now = terminal.now();
				const window = {
					from: instantOf(flags.from, now),
					...(flags.to !== undefined && { to: instantOf(flags.to, now) }),
					...(flags.allTimes && { all: true }),
					...(flags.atOnce && { overlap: 'allow' as const }),
				};
				const service = client(flags);
				const seen = await service.backfill(id, window);
				if (!flags.yes) {
					tell(flags, seen, ({ plannedAt }) =>
						[
							...plannedAt.map(when),
							`${plural(plannedAt.length, 'run')}; run them with --yes`,
							'',
						].join('\n'),
					);
					return;
				}
				// Those that were seen, and none that came due since.
				const to = window.to ?? (seen.plannedAt.at(-1) ?? window.from) + 1;
				const expect = seen.plannedAt.length;
				const done = await service.backfill(id, { ...window, to, expect });
				tell(flags, done, ({ started }) => `${plural(started, 'run')} started\n`);
			},
		);
	sub(schedules, 'occurrences <id>', 'what became of its planned times', 'occurrences nightly')
		.option('--limit <count>', 'at most so many', wholeOf, 50)
		.option('--cursor <cursor>', 'go on where the page before ended')
		.action(async (id: string, flags: Flags & { limit: number; cursor?: string }) => {
			const { limit, cursor } = flags;
			const page = await client(flags).occurrences(id, {
				limit,
				...(cursor !== undefined && { cursor }),
			});
			tell(
				flags,
				page,
				() => occurrenceTable(page.items) + (page.cursor ? `more: --cursor ${page.cursor}\n` : ''),
			);
		});
	sub(schedules, 'upcoming', 'the next runs of all schedules together', 'upcoming --limit 20')
		.option('--limit <count>', 'so many', wholeOf, 10)
		.action(async (flags: Flags & { limit: number }) =>
			tell(flags, await client(flags).upcoming(flags.limit), (runs) =>
				table(
					['WHEN', 'SCHEDULE', 'NAME', 'NOTE'],
					runs.map((run) => [run.local, run.scheduleId, run.name, noteOf(run)]),
				),
			),
		);
	sub(
		schedules,
		'forecast',
		'what is planned for the next days, and where it will not fit',
		'forecast --days 7',
	)
		.option('--days <count>', 'so many', wholeOf, 7)
		.action(async (flags: Flags & { days: number }) =>
			tell(flags, await client(flags).forecast(flags.days), forecastText),
		);

	const calendars = group(
		'calendars',
		'say when nothing runs: holidays, maintenance',
		'robot-fleet calendars put holidays holidays.ics',
	);
	sub(calendars, 'list', 'list calendars', 'list').action(async (flags: Flags) =>
		tell(flags, await client(flags).calendars(), (all) =>
			table(
				['NAME', 'ENTRIES', 'NEXT', 'USED BY'],
				all.map(({ name, entries, next, usedBy }) => [
					name,
					entries,
					when(next[0]?.from),
					usedBy.join(','),
				]),
			),
		),
	);
	sub(calendars, 'show <name>', 'show one calendar with its next spans', 'show holidays').action(
		async (name: string, flags: Flags) =>
			tell(flags, await client(flags).calendar(name), ({ next, ...rest }) =>
				card({
					...rest,
					updatedAt: when(rest.updatedAt),
					next: next
						.map(({ from, to, text }) => `${when(from)} to ${when(to)}${text ? ` (${text})` : ''}`)
						.join(', '),
				}),
			),
	);
	sub(
		calendars,
		'put <name> <file>',
		'read it from an .ics file, or replace it',
		'put holidays holidays.ics',
	).action(async (name: string, file: string, flags: Flags) =>
		tell(
			flags,
			await client(flags).putCalendar(name, { ical: textOf(file) }),
			({ entries }) => `${name} has ${plural(entries, 'entry').replace('entrys', 'entries')}\n`,
		),
	);
	sub(
		calendars,
		'remove <name>',
		'remove a calendar that no schedule uses',
		'remove holidays',
	).action(async (name: string, flags: Flags) => {
		await client(flags).removeCalendar(name);
		tell(flags, { removed: name }, () => `${name} is removed\n`);
	});
}

function withDefinition(command: Command): Command {
	return command
		.option('--cron <expression>', 'minute hour day month weekday; with six fields seconds first')
		.option('--once <time>', 'a date with its time, or 2h (from now)')
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
		.option('--name <name>', 'how people call it')
		.option('--start <time>', 'no run before: a date, or 2h (from now)')
		.option('--end <time>', 'no run after')
		.option('--max-runs <count>', 'so many runs, then it has ended', wholeOf)
		.option('--jitter <duration>', 'each run up to so much later', durationOf)
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
			new Option('--missed <policy>', 'times that passed while nobody was there').choices([
				'none',
				'last',
				'all',
			]),
		)
		.option('--catch-up <duration>', 'oldest missed time that is made up (default 1h)', durationOf)
		.option('--catch-up-max <count>', 'with --missed all: so many at most', wholeOf)
		.addOption(
			new Option('--overlap <policy>', 'a run is due and the one before has not ended').choices([
				...overlaps,
			]),
		)
		.option('--blackout <calendar>', 'never while this calendar says so (repeatable)', listOf)
		.option('--pause-after <count>', 'pause it when so many runs failed in a row', wholeOf)
		.option('--paused', 'put it paused')
		.option('--job <file>', 'the job as JSON, instead of a command')
		.option('--shell', 'the words after -- are one line of shell text')
		.option('--robot <name>', 'run on this robot, by name or id')
		.option('--label <name=value>', 'run where this label is set (repeatable)', pairOf)
		.option('--capability <name>', 'run where this is offered (repeatable)', listOf)
		.option('--client <name>', 'run on this client of a robot: a profile, session or emulator')
		.addOption(
			new Option('--all', 'run on every robot that matches, not on one').conflicts('count'),
		)
		.option('--count <number>', 'run on so many different robots', wholeOf)
		.option('--priority <level>', 'critical, high, normal, low or 3…0')
		.option('--var <name=value>', 'a variable (repeatable)', pairOf)
		.option('--env <name=value>', 'an environment variable (repeatable)', pairOf)
		.option('--cwd <folder>', 'folder on the robot to run in')
		.option('--timeout <duration>', 'longest run: 30s, 15m, 2h', durationOf)
		.option(
			'--watch <name=value>',
			'what is normal for it: class=compile, silent=10m, total=1h, idle=1m (repeatable)',
			pairOf,
		)
		.option(
			'--cap <name=value>',
			'what it may use: memory=512M, cpu=10m, processes=50, output=1M (repeatable)',
			pairOf,
		);
}

/** What was said; of a change only that. */
function requestOf(
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
	if (said.length > 1) throw new UsageMistake('Say only one way when it is due.');
	const [due] = said;
	if (!due) {
		if (at ?? step)
			throw new UsageMistake('--at and --step go with one of the ways when it is due.');
		return undefined;
	}
	return { ...due, ...(at && { times: at }), ...(step !== undefined && { every: step }) };
}

function templateOf(words: string[], flags: ScheduleFlags, now: number): Submit | undefined {
	if (flags.job === undefined) {
		const { job: _, json: _json, data: _data, ...rest } = flags;
		return words.length === 0 ? undefined : jobOf(words, rest, now);
	}
	if (words.length > 0) throw new UsageMistake('Give a command or --job, not both.');
	const flag = jobFlag(flags);
	if (flag !== undefined) {
		throw new UsageMistake(`--${flag} goes with a command; with --job write it into the file.`);
	}
	try {
		return JSON.parse(textOf(flags.job)) as Submit;
	} catch (error) {
		if (error instanceof UsageMistake) throw error;
		throw new UsageMistake(`${flags.job} is no valid JSON.`);
	}
}

function textOf(file: string): string {
	try {
		return readFileSync(file, 'utf8');
	} catch (error) {
		throw new UsageMistake(`${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
	}
}

/** `2h` is in two hours. */
function laterOf(text: string, now: number): number {
	return /^[\d.]+(ms|s|m|h|d)$/.test(text) ? now + durationOf(text) : instantOf(text, now);
}

const timesOf = (text: string) => text.split(',').map((time) => time.trim().padStart(5, '0'));

function weekdaysOf(text: string): Weekday[] {
	return text.split(',').map((name) => weekdayOf(name));
}

function weekdayOf(name: string): Weekday {
	const short = name.trim().toLowerCase().slice(0, 3) as Weekday;
	if (!weekdays.includes(short)) {
		throw new InvalidArgumentError(`"${name}" is no weekday; write ${weekdays.join(', ')}.`);
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

function scheduleTable(schedules: Schedule[]): string {
	return table(
		['ID', 'NAME', 'WHEN', 'ZONE', 'STATE', 'NEXT', 'LAST', 'OK', 'FAILED'],
		schedules.map((one) => [
			one.scheduleId,
			one.name,
			whenText(one.when),
			one.timezone,
			one.state,
			when(one.nextRunAt),
			when(one.lastRunAt),
			one.counts.succeeded,
			one.counts.failed,
		]),
	);
}

function whenText({ frequency, at, everyMs, cron, ...rest }: When): string {
	switch (frequency) {
		case 'cron':
			return cron!;
		case 'once':
			return `once ${when(at)}`;
		case 'interval':
			return `every ${everyMs! / 1000} s`;
		default:
			return [
				frequency,
				...Object.entries(rest).map(
					([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
				),
			].join(' ');
	}
}

function scheduleCard({ when: due, counts, ...rest }: Schedule): string {
	const { upcoming, nextRunAt, lastRunAt, createdAt, startAt, endAt, cron: _, ...plain } = rest;
	return card({
		...plain,
		when: whenText(due),
		startAt: when(startAt),
		endAt: when(endAt),
		lastRunAt: when(lastRunAt),
		nextRunAt: when(nextRunAt),
		upcoming: upcoming.map(when).join(', '),
		...Object.fromEntries(Object.entries(counts).map(([name, n]) => [`occurrences ${name}`, n])),
		createdAt: when(createdAt),
	});
}

function occurrenceTable(occurrences: Occurrence[]): string {
	return table(
		['PLANNED', 'ORIGIN', 'WHAT', 'SLIP', 'JOB', 'ENDED', 'WHY'],
		occurrences.map((one) => [
			when(one.plannedAt),
			one.origin,
			one.state.replace('_', ' '),
			`${Math.round((one.at - one.plannedAt) / 1000)} s`,
			one.jobId,
			one.outcome ?? (one.jobId === null ? null : 'not yet'),
			one.reason,
		]),
	);
}

const markTexts = {
	shifted: 'its time of day is not there that day',
	repeated: 'the second time the clock shows it',
};

function noteOf({ mark, blackout }: PlannedRun): string {
	return [
		...(mark === null ? [] : [markTexts[mark]]),
		...(blackout === null ? [] : [`does not run: ${blackout}`]),
	].join('; ');
}

const runTable = (runs: PlannedRun[]) =>
	table(
		['WHEN', 'UTC', 'NOTE'],
		runs.map((run) => [run.local, when(run.at), noteOf(run)]),
	);

function previewText({ runs, changes }: Preview): string {
	return runTable(runs) + changes.map(changeText).join('');
}

function changeText({ kind, at, from, to, runs }: ClockChange): string {
	const way = kind === 'gap' ? 'forward' : 'back';
	const head = `\n${when(at)} UTC: the clock is set ${way} from ${from} to ${to}. Runs around it:\n`;
	return head + (runs.length === 0 ? 'none\n' : runTable(runs));
}

function forecastText({ schedules, clashes }: Forecast): string {
	const planned = table(
		['SCHEDULE', 'NAME', 'RUNS', 'EACH', 'FOR'],
		schedules.map((one) => [
			one.scheduleId,
			one.name,
			one.more ? `more than ${one.runs}` : one.runs,
			`${Math.round(one.runMs / 1000)} s`,
			one.target,
		]),
	);
	if (clashes.length === 0) return `${planned}\neverything fits\n`;
	return `${planned}\n${table(
		['FROM', 'TO', 'FOR', 'NEEDS', 'HAS', 'SCHEDULES'],
		clashes.map((one) => [
			when(one.from),
			when(one.to),
			one.target,
			one.needs,
			one.has,
			one.scheduleIds.join(','),
		]),
	)}`;
}
