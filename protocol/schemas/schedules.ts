/** Bodies, queries and answers of the calls about schedules and calendars. */
import { type Static, type TSchema, Type } from 'typebox';
import { limits } from '../limits';
import {
	type BackfillAnswer,
	type BackfillRequest,
	type Calendar,
	type CalendarRequest,
	type Forecast,
	frequencies,
	type Occurrence,
	occurrenceStates,
	origins,
	overlaps,
	type Preview,
	type PreviewRequest,
	type RunRequest,
	type Schedule,
	scheduleStates,
	type ScheduleRequest,
	type UpcomingRun,
	weekdays,
	type When,
} from '../schedules';
import { finalStates } from '../states';
import { submit } from './submit';
import { duration, id, instant, name, nullable, type Same, strict } from './words';

const whole = (description: string, minimum: number, maximum: number) =>
	Type.Integer({ description, minimum, maximum });

export const when = Type.Object(
	{
		frequency: Type.Enum([...frequencies], { description: 'Which of the other fields are used.' }),
		at: Type.Optional(instant('For once.')),
		everyMs: Type.Optional(
			duration('For interval: time from one run to the next, counted from startAt.', 1000),
		),
		cron: Type.Optional(
			Type.String({
				description: 'For cron: 5 fields, or 6 with seconds first.',
				minLength: 1,
				maxLength: 256,
				examples: ['0 6 * * 1-5'],
			}),
		),
		minute: Type.Optional(whole('For hourly. Default 0.', 0, 59)),
		times: Type.Optional(
			Type.Array(Type.String({ minLength: 5, maxLength: 8, examples: ['02:30'] }), {
				description: 'For daily, weekly and monthly: times of day. Default 00:00.',
				minItems: 1,
				maxItems: 288,
			}),
		),
		weekdays: Type.Optional(
			Type.Array(Type.Enum([...weekdays]), {
				description: 'For weekly.',
				minItems: 1,
				maxItems: 7,
				examples: [['mon', 'thu']],
			}),
		),
		days: Type.Optional(
			Type.Array(Type.Integer({ minimum: -1, maximum: 31 }), {
				description:
					'For monthly: 1 to 31, and -1 for the last day. In a month that is too short, its last day.',
				minItems: 1,
				maxItems: 31,
			}),
		),
		nth: Type.Optional(
			Type.Object(
				{
					week: Type.Integer({
						description: '1 to 5, or -1 for the last.',
						minimum: -1,
						maximum: 5,
					}),
					weekday: Type.Enum([...weekdays]),
				},
				{
					...strict,
					description: 'For monthly, instead of days: the 2nd Tuesday, the last Friday (week -1).',
				},
			),
		),
		every: Type.Optional(
			whole(
				'Only every n-th hour (a divisor of 24), day (up to 366), week (53) or month (60), counted from startAt. Default 1.',
				1,
				366,
			),
		),
	},
	{ ...strict, description: 'When it is due. Times of day are local time in its zone.' },
);
true satisfies Same<Static<typeof when>, When>;

const overlap = (description: string) => Type.Enum([...overlaps], { description });

export const scheduleRequest = Type.Object(
	{
		name: Type.Optional(name('For people. Default: the id.')),
		cron: Type.Optional(
			Type.String({
				description: 'Short for when = {frequency: cron, cron}: 5 fields, or 6 with seconds first.',
				minLength: 1,
				maxLength: 256,
				examples: ['0 6 * * 1-5'],
			}),
		),
		when: Type.Optional(when),
		timezone: Type.Optional(
			Type.String({
				description: 'IANA name. Default UTC.',
				minLength: 1,
				maxLength: 64,
				examples: ['Europe/Berlin'],
			}),
		),
		job: Type.Optional({
			...submit,
			description:
				'What is submitted at each planned time. Absent = nothing; consumers get the event all the same.',
		} as typeof submit),
		enabled: Type.Optional(Type.Boolean({ description: 'Default true.' })),
		startAt: Type.Optional(instant('No run before this. Default: when the schedule was put.')),
		endAt: Type.Optional(instant('No run after this.')),
		maxRuns: Type.Optional(whole('The schedule ends after this many runs.', 1, 1_000_000)),
		jitterMs: Type.Optional(
			Type.Integer({
				description:
					'Delays each run by up to this much, always by the same for that run. Default 0. Milliseconds.',
				minimum: 0,
				maximum: 86_400_000,
			}),
		),
		gap: Type.Optional(
			Type.Enum(['shift', 'skip'], {
				description:
					'A time of day that the clock skips: run at the first instant after the gap (default), or not at all.',
			}),
		),
		fold: Type.Optional(
			Type.Enum(['first', 'both'], {
				description: 'A time of day that comes twice: run the first time (default), or both.',
			}),
		),
		missed: Type.Optional(
			Type.Enum(['none', 'last', 'all'], {
				description:
					'Which planned times to make up of those that passed while nobody could run them. Default last.',
			}),
		),
		catchUpMs: Type.Optional(
			duration('Age of the oldest missed time that is still made up. Default 3,600,000; 0 = none.'),
		),
		catchUpMax: Type.Optional(
			whole('With missed = all: at most this many, the newest. Default 100.', 1, 1_000),
		),
		overlap: Type.Optional(
			overlap('What happens to a run due while an earlier one has not ended. Default skip.'),
		),
		blackouts: Type.Optional(
			Type.Array(id('Name of a calendar'), {
				description: 'Nothing runs while one of these calendars says so.',
				maxItems: 32,
			}),
		),
		pauseAfterFailures: Type.Optional(
			whole('Pause it after this many failed runs in a row. Default: never.', 1, 1_000),
		),
	},
	strict,
);
true satisfies Same<Static<typeof scheduleRequest>, ScheduleRequest>;

/** The same fields, each of which may be null. */
export const scheduleChange = Type.Object(
	Object.fromEntries(
		Object.entries(scheduleRequest.properties).map(([field, schema]) => [
			field,
			Type.Optional(nullable(schema as TSchema)),
		]),
	),
	{ ...strict, description: 'Fields to change; null = the default again.' },
);

export const runRequest = Type.Object({ overlap: Type.Optional(overlap('For this run.')) }, strict);
true satisfies Same<Static<typeof runRequest>, RunRequest>;

export const backfillRequest = Type.Object(
	{
		from: instant('First planned time of the window.'),
		to: Type.Optional(instant('End of the window, not included. Default now.')),
		all: Type.Optional(
			Type.Boolean({
				description:
					'Also times that have run, except what is under way. Default: only those that have not.',
			}),
		),
		expect: Type.Optional(
			Type.Integer({
				description: 'The count the preview gave; absent = a preview.',
				minimum: 0,
			}),
		),
		overlap: Type.Optional(
			Type.Enum(['queue-all', 'allow'], {
				description: 'One after the other (queue-all, the default), or all at once (allow).',
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof backfillRequest>, BackfillRequest>;

export const previewRequest = Type.Object(
	{
		schedule: scheduleRequest,
		from: Type.Optional(instant('Default now.')),
		count: Type.Optional(whole('Default 10.', 1, 1_000)),
	},
	strict,
);
true satisfies Same<Static<typeof previewRequest>, PreviewRequest>;

export const calendarRequest = Type.Object(
	{
		spans: Type.Optional(
			Type.Array(
				Type.Object(
					{
						from: instant('Start.'),
						to: instant('End, not included.'),
						text: Type.Optional(name('Why nothing runs then.')),
					},
					strict,
				),
				{ description: 'Spans between instants.', maxItems: limits.maxCalendarEntries },
			),
		),
		ical: Type.Optional(
			Type.String({
				description:
					'The text of an .ics file. Days and times without a zone are in that of the schedule that asks.',
				minLength: 1,
				maxLength: limits.maxBodyBytes,
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof calendarRequest>, CalendarRequest>;

export const upcomingQuery = Type.Object(
	{ limit: Type.Optional(whole('Default 10.', 1, limits.maxListLimit)) },
	strict,
);

export const forecastQuery = Type.Object(
	{ days: Type.Optional(whole('Default 7.', 1, 31)) },
	strict,
);

const at = Type.Integer({ description: 'Epoch milliseconds' });
const count = Type.Integer();
const text = Type.String();
const texts = Type.Array(text);
const origin = Type.Enum([...origins]);

const counts = Type.Object({
	runs: count,
	succeeded: count,
	failed: count,
	running: count,
	waiting: count,
	skipped: count,
	missed: count,
});

export const schedule = Type.Object({
	scheduleId: text,
	name: text,
	when,
	cron: nullable(text),
	timezone: text,
	state: Type.Enum([...scheduleStates]),
	reason: nullable(text),
	enabled: Type.Boolean(),
	job: nullable(submit),
	startAt: nullable(at),
	endAt: nullable(at),
	maxRuns: nullable(count),
	jitterMs: count,
	gap: Type.Enum(['shift', 'skip']),
	fold: Type.Enum(['first', 'both']),
	missed: Type.Enum(['none', 'last', 'all']),
	catchUpMs: count,
	catchUpMax: count,
	overlap: Type.Enum([...overlaps]),
	blackouts: texts,
	pauseAfterFailures: nullable(count),
	nextRunAt: nullable(at),
	lastRunAt: nullable(at),
	upcoming: Type.Array(at),
	counts,
	createdAt: at,
	createdBy: text,
});
true satisfies Same<Static<typeof schedule>, Schedule>;

export const occurrence = Type.Object({
	scheduleId: text,
	origin,
	plannedAt: at,
	at,
	state: Type.Enum([...occurrenceStates]),
	reason: nullable(text),
	jobId: nullable(text),
	outcome: nullable(Type.Enum([...finalStates])),
	endedAt: nullable(at),
});
true satisfies Same<Static<typeof occurrence>, Occurrence>;

const plannedRun = {
	at,
	local: text,
	mark: nullable(Type.Enum(['shifted', 'repeated'])),
	blackout: nullable(text),
};

export const upcomingRun = Type.Object({ ...plannedRun, scheduleId: text, name: text });
true satisfies Same<Static<typeof upcomingRun>, UpcomingRun>;

export const preview = Type.Object({
	runs: Type.Array(Type.Object(plannedRun)),
	changes: Type.Array(
		Type.Object({
			kind: Type.Enum(['gap', 'fold']),
			at,
			from: text,
			to: text,
			runs: Type.Array(Type.Object(plannedRun)),
		}),
	),
});
true satisfies Same<Static<typeof preview>, Preview>;

export const forecast = Type.Object({
	from: at,
	to: at,
	schedules: Type.Array(
		Type.Object({
			scheduleId: text,
			name: text,
			runs: count,
			more: Type.Boolean(),
			runMs: count,
			target: nullable(text),
		}),
	),
	clashes: Type.Array(
		Type.Object({
			from: at,
			to: at,
			target: text,
			needs: count,
			has: count,
			scheduleIds: texts,
		}),
	),
});
true satisfies Same<Static<typeof forecast>, Forecast>;

export const backfillAnswer = Type.Object({
	preview: Type.Boolean(),
	plannedAt: Type.Array(at),
	started: count,
});
true satisfies Same<Static<typeof backfillAnswer>, BackfillAnswer>;

export const schedulesChanged = Type.Object({ changed: count });

export const calendar = Type.Object({
	name: text,
	entries: count,
	usedBy: texts,
	next: Type.Array(Type.Object({ from: at, to: at, text: Type.Optional(text) })),
	updatedAt: at,
});
true satisfies Same<Static<typeof calendar>, Calendar>;
