/** The commands about schedules and calendars. */
import { type Command, Option } from 'commander';
import { overlaps, Problem, type ScheduleChange, type ScheduleRequest } from '../../protocol';
import type { CommandKit } from './job-changes';
import {
	type Flags,
	type ScheduleFlags,
	withDefinition,
	requestOf,
	templateOf,
	textOf,
} from './schedule-flags';
import { jobFlag, jobOver } from './schedule-job';
import {
	scheduleTable,
	scheduleCard,
	occurrenceTable,
	previewText,
	forecastText,
	noteOf,
} from './schedule-texts';
import {
	card,
	instantOf,
	json,
	listOf,
	plural,
	printable,
	table,
	UsageMistake,
	when,
	wholeOf,
} from './terminal';

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
			'add a schedule; the command comes after --',
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
			'change the given settings, and leave the rest',
			'update nightly --daily 03:30 --overlap queue-one',
		),
	)
		.option('--clear <field>', 'back to the default, by its name in the API (repeatable)', listOf)
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
				// Only those that were shown, none that came due since.
				const to = window.to ?? (seen.plannedAt.at(-1) ?? window.from) + 1;
				const expect = seen.plannedAt.length;
				const done = await service.backfill(id, { ...window, to, expect });
				tell(flags, done, ({ started }) => `${plural(started, 'run')} started\n`);
			},
		);
	sub(schedules, 'occurrences <id>', 'what became of its planned times', 'occurrences nightly')
		.option('--limit <count>', 'at most so many', wholeOf, 50)
		.option('--cursor <cursor>', 'continue where the previous page ended')
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
