/**
 * Schedules, their occurrences, and calendars in SQLite. Every planned time is one row, written in the
 * commit that submits its job and moves its schedule on.
 */
import { camel, type Row, type Statements } from './statements';
import type {
	Deeds,
	NewOccurrence,
	OccurrenceTotals,
	OpenOccurrence,
	Reads,
	StoredCalendar,
	StoredEvent,
	StoredOccurrence,
	StoredSchedule,
} from './store';

type DeedsHere =
	'putSchedule' | 'removeSchedule' | 'fire' | 'occurrenceEnded' | 'putCalendar' | 'removeCalendar';
type ReadsHere =
	| 'schedules'
	| 'occurrences'
	| 'occurrence'
	| 'openOccurrences'
	| 'waitingOccurrences'
	| 'endedOccurrences'
	| 'ranBetween'
	| 'dealtBetween'
	| 'occurrenceTotals'
	| 'countedOccurrences'
	| 'calendars';

const isRun = `state IN ('ran','made_up')`;
const cameToNothing = `occurrences.state IN ('refused','skipped')`;
const takes = `UPDATE SET generation = excluded.generation, at = excluded.at, state = excluded.state, reason = excluded.reason, job_id = excluded.job_id,
 outcome = NULL, ended_at = NULL, ran_ms = NULL WHERE`;
const takesPlace = {
	nothing: `${takes} ${cameToNothing}`,
	ended: `${takes} ${cameToNothing} OR (occurrences.${isRun} AND (occurrences.job_id IS NULL OR occurrences.outcome IS NOT NULL))`,
};

export function schedulesOn(
	sql: Statements,
	record: (event: Omit<StoredEvent, 'cursor'>) => void,
): {
	deal(occurrence: NewOccurrence): boolean;
	deeds: { [N in DeedsHere]: (input: Deeds[N]['in']) => Deeds[N]['out'] };
} {
	function deal(one: NewOccurrence): boolean {
		const { scheduleId, origin, plannedAt, at, state, reason, jobId } = one;
		const became = [at, state, reason, jobId];
		const fresh = one.waited
			? sql.run(
					`UPDATE occurrences SET at = ?, state = ?, reason = ?, job_id = ?
					 WHERE schedule_id = ? AND origin = ? AND planned_at = ? AND state = 'waiting'`,
					...became,
					scheduleId,
					origin,
					plannedAt,
				)
			: sql.run(
					// A schedule that was just removed has no generation; nobody counts what it leaves.
					`INSERT INTO occurrences (at, state, reason, job_id, schedule_id, origin, planned_at, generation)
					 VALUES (?1,?2,?3,?4,?5,?6,?7, coalesce((SELECT generation FROM schedules WHERE id = ?5), -1)) ON CONFLICT DO ${one.over === undefined ? 'NOTHING' : takesPlace[one.over]}`,
					...became,
					scheduleId,
					origin,
					plannedAt,
				);
		if (one.nextRunAt !== undefined) {
			sql.run(
				`UPDATE schedules SET next_run_at = CASE WHEN ?2 IS NULL THEN ?1 END, state = CASE WHEN ?2 IS NULL THEN state ELSE 'ended' END,
				 reason = coalesce(?2, reason) WHERE id = ?3 AND state = 'active'`,
				one.nextRunAt,
				one.ended ?? null,
				scheduleId,
			);
		}
		if (fresh && (state === 'ran' || state === 'made_up')) {
			sql.run(
				'UPDATE schedules SET last_run_at = max(coalesce(last_run_at, 0), ?) WHERE id = ?',
				plannedAt,
				scheduleId,
			);
		}
		if (fresh && one.event) record({ at, subject: scheduleId, ...one.event });
		return fresh;
	}

	return {
		deal,
		deeds: {
			putSchedule: (schedule) => {
				sql.put('schedules', schedule as unknown as Row);
				return true;
			},

			removeSchedule: ({ id, at }) => {
				sql.run(
					`UPDATE occurrences SET state = 'skipped', reason = 'the schedule was removed', at = ?
					 WHERE schedule_id = ? AND state = 'waiting'`,
					at,
					id,
				);
				// The totals of a new schedule under the same name start from nothing.
				sql.run('DELETE FROM occurrence_totals WHERE schedule_id = ?', id);
				return sql.run('DELETE FROM schedules WHERE id = ?', id);
			},

			fire: deal,

			occurrenceEnded: ({ scheduleId, origin, plannedAt, outcome, endedAt, ranMs, ...more }) => {
				const fresh = sql.run(
					`UPDATE occurrences SET outcome = ?, ended_at = ?, ran_ms = ?
					 WHERE schedule_id = ? AND origin = ? AND planned_at = ? AND outcome IS NULL`,
					outcome,
					endedAt,
					ranMs,
					scheduleId,
					origin,
					plannedAt,
				);
				if (!fresh) return false;
				if (more.pause !== undefined) {
					sql.run(
						`UPDATE schedules SET state = 'paused', reason = ?, next_run_at = NULL WHERE id = ? AND state = 'active'`,
						more.pause,
						scheduleId,
					);
				}
				if (more.event) record(more.event);
				return true;
			},

			putCalendar: (calendar) => {
				sql.put('calendars', calendar as unknown as Row);
				return true;
			},

			removeCalendar: ({ name }) => sql.run('DELETE FROM calendars WHERE name = ?', name),
		},
	};
}

const occurrenceColumns =
	'schedule_id origin planned_at at state reason job_id outcome ended_at ran_ms';
const selectOccurrence = `SELECT ${camel(occurrenceColumns)} FROM occurrences`;

export function scheduleReadsOn(sql: Statements): {
	[N in ReadsHere]: (args: Reads[N]['in']) => Reads[N]['out'];
} {
	return {
		schedules: () =>
			sql.all<StoredSchedule>(
				`SELECT ${camel('id name definition state reason anchor_at resumed_at next_run_at last_run_at created_by created_at generation')} FROM schedules`,
			),

		occurrences: ({ scheduleId, limit, before }) =>
			sql.all<StoredOccurrence>(
				`${selectOccurrence} WHERE schedule_id = ? AND (planned_at, origin) < (?, ?)
				 ORDER BY planned_at DESC, origin DESC LIMIT +?`,
				scheduleId,
				before?.plannedAt ?? Number.MAX_SAFE_INTEGER,
				before?.origin ?? '',
				limit,
			),

		occurrence: ({ scheduleId, origin, plannedAt }) =>
			sql.all<StoredOccurrence>(
				`${selectOccurrence} WHERE schedule_id = ? AND origin = ? AND planned_at = ?`,
				scheduleId,
				origin,
				plannedAt,
			)[0],

		openOccurrences: ({ scheduleId }) =>
			sql
				.all<StoredOccurrence & { jobId: string }>(
					`${selectOccurrence} WHERE job_id IS NOT NULL AND outcome IS NULL ${scheduleId === null ? '' : 'AND schedule_id = ?'}`,
					...(scheduleId === null ? [] : [scheduleId]),
				)
				.map((one) => ({
					...one,
					job:
						sql.all<NonNullable<OpenOccurrence['job']>>(
							`SELECT ${camel('state started_at ended_at')} FROM jobs WHERE id = ?`,
							one.jobId,
						)[0] ?? null,
				})),

		waitingOccurrences: ({ scheduleId }) =>
			sql.all<StoredOccurrence>(
				`${selectOccurrence} WHERE state = 'waiting' ${scheduleId === null ? '' : 'AND schedule_id = ?'}
				 ORDER BY schedule_id, at, planned_at`,
				...(scheduleId === null ? [] : [scheduleId]),
			),

		endedOccurrences: ({ scheduleId, limit }) =>
			sql.all<StoredOccurrence>(
				`${selectOccurrence} WHERE schedule_id = ? AND outcome IS NOT NULL ORDER BY ended_at DESC, planned_at DESC LIMIT +?`,
				scheduleId,
				limit,
			),

		ranBetween: ({ scheduleId, from, to, underWay }) =>
			sql
				.all<{ at: number }>(
					`SELECT DISTINCT planned_at AS at FROM occurrences WHERE schedule_id = ? AND planned_at >= ? AND planned_at < ?
					 AND ${
							underWay
								? `origin = 'backfill' AND (state = 'waiting' OR (job_id IS NOT NULL AND outcome IS NULL))`
								: `origin <> 'manual' AND (${isRun} OR state = 'waiting')`
						}`,
					scheduleId,
					from,
					to,
				)
				.map(({ at }) => at),

		dealtBetween: ({ scheduleId, from, to }) =>
			sql
				.all<{ at: number }>(
					`SELECT planned_at AS at FROM occurrences
					 WHERE schedule_id = ? AND origin = 'planned' AND planned_at >= ? AND planned_at <= ?`,
					scheduleId,
					from,
					to,
				)
				.map(({ at }) => at),

		occurrenceTotals: ({ scheduleId }) =>
			sql.all<OccurrenceTotals>(
				`SELECT runs, succeeded, failed, running, waiting, skipped, missed, planned FROM occurrence_totals
				 WHERE schedule_id = ?`,
				scheduleId,
			)[0] ?? noTotals,

		countedOccurrences: ({ scheduleId }) =>
			sql.all<OccurrenceTotals>(
				`SELECT ${totalsOf((is) => `count(*) FILTER (WHERE ${is})`)} FROM occurrences
				 WHERE schedule_id = ?1 AND generation = (SELECT generation FROM schedules WHERE id = ?1)`,
				scheduleId,
			)[0]!,

		calendars: () =>
			sql.all<StoredCalendar>(
				`SELECT ${camel('name entries created_by updated_at')} FROM calendars ORDER BY name`,
			),
	};
}

const noTotals: OccurrenceTotals = {
	runs: 0,
	succeeded: 0,
	failed: 0,
	running: 0,
	waiting: 0,
	skipped: 0,
	missed: 0,
	planned: 0,
};

/** What each total counts, as conditions on the columns of an occurrence. */
const totals: Record<keyof OccurrenceTotals, string> = {
	runs: isRun,
	succeeded: `outcome IS 'completed'`,
	failed: `coalesce(outcome IN ('failed','timeout'), 0)`,
	running: `job_id IS NOT NULL AND outcome IS NULL`,
	waiting: `state = 'waiting'`,
	skipped: `state = 'skipped'`,
	missed: `state = 'missed'`,
	planned: `origin = 'planned' AND state IN ('ran','made_up','waiting')`,
};

const totalsOf = (count: (is: string) => string) =>
	Object.entries(totals)
		.map(([name, is]) => `${count(is)} AS ${name}`)
		.join(', ');
