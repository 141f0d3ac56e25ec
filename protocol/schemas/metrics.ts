/** Questions and answers about metrics. */
import { type Static, Type } from 'typebox';
import {
	type BreakdownRow,
	breakdowns,
	type MetricsRecord,
	type PlannedToday,
	type SeriesAnswer,
	seriesNames,
} from '../metrics';
import { nullable, type Same, strict } from './words';

const whole = Type.Integer();
const at = Type.Integer({ description: 'Epoch milliseconds' });
const share = nullable(Type.Number({ description: '0 to 1; null = nothing has ended' }));
const from = Type.Optional(Type.Integer({ description: 'Epoch milliseconds', minimum: 0 }));
const to = from;

export const metricsQuery = Type.Object(
	{
		timezone: Type.Optional(
			Type.String({ description: 'IANA zone in which today begins. Default UTC.', maxLength: 64 }),
		),
		names: Type.Optional(
			Type.Enum(['seed'], { description: 'seed = the record with the names of the seed.' }),
		),
	},
	strict,
);

export const seriesQuery = Type.Object({ metric: Type.Enum(seriesNames), from, to }, strict);

export const breakdownQuery = Type.Object({ by: Type.Enum([...breakdowns]), from, to }, strict);

const planned = Type.Object({
	due: whole,
	completed: whole,
	failed: whole,
	notRun: whole,
	open: whole,
});
true satisfies Same<Static<typeof planned>, PlannedToday>;

export const metricsRecord = Type.Object({
	at,
	since: at,
	timezone: Type.String(),
	totalRobots: whole,
	onlineRobots: whole,
	offlineRobots: whole,
	slots: whole,
	slotsUsed: whole,
	totalJobsToday: whole,
	completedJobsToday: whole,
	failedJobsToday: whole,
	cancelledJobsToday: whole,
	pendingJobs: whole,
	runningJobs: whole,
	oldestQueuedMs: nullable(whole),
	averageExecutionMs: nullable(Type.Number()),
	successRate: share,
	plannedSuccessRate: share,
	planned,
});
true satisfies Same<Static<typeof metricsRecord>, MetricsRecord>;

export const seriesAnswer = Type.Object({
	metric: Type.Enum(seriesNames),
	how: Type.Enum(['sum', 'level']),
	stepMs: whole,
	points: Type.Array(Type.Tuple([at, Type.Number()])),
});
true satisfies Same<
	Static<typeof seriesAnswer>,
	Omit<SeriesAnswer, 'points'> & { points: [number, number][] }
>;

export const breakdownRow = Type.Object({
	of: Type.String(),
	name: nullable(Type.String()),
	jobs: whole,
	completed: whole,
	failed: whole,
	cancelled: whole,
	averageExecutionMs: nullable(Type.Number()),
	successRate: share,
});
true satisfies Same<Static<typeof breakdownRow>, BreakdownRow>;
