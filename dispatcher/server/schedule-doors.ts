/** The doors to schedules, their occurrences, and calendars. */
import { type Schedule, type ScheduleChange, toSeedNames } from '../../protocol';
import {
	answers,
	backfillRequest,
	calendarRequest,
	forecastQuery,
	namesQuery,
	pageQuery,
	previewRequest,
	runRequest,
	scheduleChange,
	scheduleRequest,
	upcomingQuery,
} from '../../protocol/schemas';
import { type Door, door } from './door';
import { specMistake } from './job-doors';

const { listOf, pageOf } = answers;

/** The body has the shape of a submit; what its kind says of the spec is looked at here. */
function checkSpec({ job }: Pick<ScheduleChange, 'job'>, path = 'job'): void {
	const mistake = job && specMistake(job.kind, job.spec, `${path}.spec`);
	if (mistake) throw mistake;
}

/** The seed's record has the rule, the variables and the robot beside each other. */
function seedRecord(schedule: Schedule): unknown {
	const { when, job } = schedule;
	return toSeedNames({
		...schedule,
		frequency: when.frequency,
		variables: job?.variables ?? {},
		robotId: job?.target?.robot ?? null,
	});
}

export const scheduleDoors = {
	schedules: door({
		query: namesQuery,
		answer: listOf(answers.schedule),
		async run({ query }, { engine }) {
			const items = await engine.schedules();
			return { items: query.names === 'seed' ? items.map(seedRecord) : items };
		},
	}),
	schedulesUpcoming: door({
		query: upcomingQuery,
		answer: listOf(answers.upcomingRun),
		run: async ({ query }, { engine }) => ({ items: await engine.upcoming(query.limit ?? 10) }),
	}),
	schedulesForecast: door({
		query: forecastQuery,
		answer: answers.forecast,
		run: ({ query }, { engine }) => engine.forecast(query.days ?? 7),
	}),
	schedulePreview: door({
		body: previewRequest,
		answer: answers.preview,
		run({ body }, { engine }) {
			checkSpec(body.schedule, 'schedule.job');
			return engine.previewSchedule(body);
		},
	}),
	schedulesPause: door({
		answer: answers.schedulesChanged,
		run: ({ caller }, { engine }) => engine.pauseSchedules(caller),
	}),
	schedulesResume: door({
		answer: answers.schedulesChanged,
		run: ({ caller }, { engine }) => engine.resumeSchedules(caller),
	}),
	schedule: door({
		query: namesQuery,
		answer: answers.schedule,
		async run({ id, query }, { engine }) {
			const schedule = await engine.schedule(id);
			return query.names === 'seed' ? seedRecord(schedule) : schedule;
		},
	}),
	schedulePut: door({
		body: scheduleRequest,
		answer: answers.schedule,
		run({ id, body, caller }, { engine }) {
			checkSpec(body);
			return engine.putSchedule(id, body, caller);
		},
	}),
	scheduleChange: door({
		body: scheduleChange,
		answer: answers.schedule,
		run({ id, body, caller }, { engine }) {
			const change = body as ScheduleChange;
			checkSpec(change);
			return engine.changeSchedule(id, change, caller);
		},
	}),
	scheduleRemove: door({ run: ({ id, caller }, { engine }) => engine.removeSchedule(id, caller) }),
	schedulePause: door({
		answer: answers.schedule,
		run: ({ id, caller }, { engine }) => engine.pauseSchedule(id, caller),
	}),
	scheduleResume: door({
		answer: answers.schedule,
		run: ({ id, caller }, { engine }) => engine.resumeSchedule(id, caller),
	}),
	scheduleRun: door({
		body: runRequest,
		bodyOptional: true,
		answer: answers.occurrence,
		status: 202,
		run: ({ id, body, caller }, { engine }) => engine.runSchedule(id, body, caller),
	}),
	scheduleBackfill: door({
		body: backfillRequest,
		answer: answers.backfillAnswer,
		run: ({ id, body, caller }, { engine }) => engine.backfill(id, body, caller),
	}),
	scheduleOccurrences: door({
		query: pageQuery,
		answer: pageOf(answers.occurrence),
		run: ({ id, query: { limit = 100, cursor } }, { engine }) =>
			engine.occurrences(id, { limit, ...(cursor === undefined ? {} : { cursor }) }),
	}),

	calendars: door({
		answer: listOf(answers.calendar),
		run: async (_ask, { engine }) => ({ items: await engine.calendars() }),
	}),
	calendar: door({ answer: answers.calendar, run: ({ id }, { engine }) => engine.calendar(id) }),
	calendarPut: door({
		body: calendarRequest,
		answer: answers.calendar,
		run: ({ id, body, caller }, { engine }) => engine.putCalendar(id, body, caller),
	}),
	calendarRemove: door({ run: ({ id }, { engine }) => engine.removeCalendar(id) }),
} as const satisfies Record<string, Door>;
