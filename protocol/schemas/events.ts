/** Which events a consumer wants, and what they tell. */
import { type Static, Type } from 'typebox';
import {
	type EventFilter,
	eventKinds,
	type JobEnded,
	type RobotPresence,
	type ScheduleGone,
} from '../events';
import { type Cause, causes, type FinalState, finalStates } from '../states';
import { id, labels, name, nullable, robotName, type Same, shareKey, strict } from './words';

const most = 1_000;
const state = Type.Enum([...finalStates] as FinalState[]);
const cause = Type.Enum(Object.keys(causes) as Cause[]);
const text = Type.String();
const whole = Type.Integer();
const at = Type.Integer({ description: 'Epoch milliseconds' });

const endedFilter = Type.Object(
	{
		states: Type.Optional(Type.Array(state, { minItems: 1, maxItems: finalStates.length })),
		causes: Type.Optional(Type.Array(cause, { minItems: 1, maxItems: most })),
		kinds: Type.Optional(
			Type.Array(name('A kind of job', ['command']), { minItems: 1, maxItems: most }),
		),
		shareKey: Type.Optional(shareKey('Only jobs with this share key.')),
		dead: Type.Optional(Type.Boolean({ description: 'Only jobs that failed for good.' })),
		whole: Type.Optional(
			Type.Boolean({
				description: 'Leave out the parts of jobs for several robots, not those jobs themselves.',
			}),
		),
	},
	{ ...strict, description: 'Narrows job.ended; all that is set must hold.' },
);

export const eventFilter = Type.Object(
	{
		scheduleId: Type.Optional(id('The schedule whose occurrences are wanted')),
		event: Type.Optional(
			Type.Enum([...eventKinds], {
				description: 'The kind of event wanted, whatever job or robot it is about.',
			}),
		),
		events: Type.Optional(
			Type.Array(Type.Enum([...eventKinds]), {
				description: 'Several kinds, in the order in which they happen.',
				minItems: 1,
				maxItems: eventKinds.length,
			}),
		),
		robots: Type.Optional(
			Type.Array(robotName('Id or name of one robot'), {
				description: 'Of events about jobs and robots, only those about these robots.',
				minItems: 1,
				maxItems: most,
			}),
		),
		labels: Type.Optional(
			labels(
				'Of events about jobs and robots, only those about robots that have these labels when the event is handed out.',
			),
		),
		schedules: Type.Optional(
			Type.Array(id('A schedule'), {
				description: 'Of events about schedules and ended jobs, only those about these schedules.',
				minItems: 1,
				maxItems: most,
			}),
		),
		ended: Type.Optional(endedFilter),
	},
	strict,
);
true satisfies Same<Static<typeof eventFilter>, EventFilter>;

export const jobEnded = Type.Object({
	jobId: text,
	kind: text,
	state,
	cause: nullable(cause),
	robotId: nullable(text),
	robot: nullable(text),
	attempt: whole,
	parentId: nullable(text),
	parts: nullable(whole),
	scheduleId: nullable(text),
	shareKey: nullable(text),
	dead: Type.Boolean(),
	createdBy: text,
	createdAt: at,
	startedAt: nullable(at),
	endedAt: at,
});
true satisfies Same<Static<typeof jobEnded>, JobEnded>;

export const robotPresence = Type.Object({
	robotId: text,
	name: text,
	labels: Type.Record(Type.String(), Type.String()),
	awaySince: nullable(at),
});
true satisfies Same<Static<typeof robotPresence>, RobotPresence>;

export const scheduleGone = Type.Object({
	scheduleId: text,
	name: text,
	state: Type.Enum(['missed', 'skipped', 'refused']),
	plannedAt: at,
	count: whole,
	reason: text,
});
true satisfies Same<Static<typeof scheduleGone>, ScheduleGone>;
