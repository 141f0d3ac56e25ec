/**
 * Finding what is old enough to be forgotten, and forgetting it. Looks are bounded by their limit and
 * walk an index from its oldest end, so that each takes about a millisecond; deeds are guarded again,
 * so that nothing is forgotten because it was old a moment ago.
 */
import { finalStates, type Purgeable } from '../../protocol';
import type { Ends } from './ends';
import { isEnded } from './scans';
import type { Statements } from './statements';
import type { Deeds, Reads } from './store';

/** Parked executions still want to see these. */
const namedByWaits = `SELECT DISTINCT value AS id FROM waits, json_each(waits.job_ids) WHERE waits.state IN ('open','due')`;
/** A robot that missed the answer to its enrolment shows the same token again. */
const namedByRobots = `SELECT token_id AS id FROM robots WHERE removed_at IS NULL AND token_id IS NOT NULL`;
const namedBy: Partial<Record<Purgeable, string>> = { jobs: namedByWaits, tokens: namedByRobots };
/** The parent it belongs to has not ended. */
const parentLives = `EXISTS (SELECT 1 FROM jobs p WHERE p.id = jobs.parent_id AND p.ended_at IS NULL)`;
const mayGo = `ended_at < ? AND NOT ${parentLives}`;
const noMoreGood = 'min(expires_at, coalesce(revoked_at, expires_at)) < ?';

/** Not what still waits or runs; and a schedule limited to so many runs must be able to count them. */
const maySlip = `state <> 'waiting' AND (job_id IS NULL OR outcome IS NOT NULL) AND NOT (state IN ('ran','made_up')
 AND EXISTS (SELECT 1 FROM schedules s WHERE s.id = schedule_id AND json_extract(s.definition, '$.maxRuns') IS NOT NULL))`;

/** Everything that goes with a job. Output that is still there is dropped by its own purge, which finds the job gone. */
const tablesOfJob = ['requests', 'attempts', 'health', 'job_files', 'output_holes'] as const;

/** Without `ends` it only looks. */
export function purgeOn(sql: Statements, ends?: Ends) {
	const looks: Record<
		Purgeable,
		(before: number, limit: number, cursor: string | null) => { key: string; old: number }[]
	> = {
		// Ids begin with the time of their making: younger ones need no look at all.
		jobs: (before, limit, cursor) =>
			sql.all(
				`SELECT id AS key, (${mayGo} AND id NOT IN (${namedByWaits})) AS old FROM jobs
				 WHERE id > ? AND id < ? ORDER BY id LIMIT +?`,
				before,
				cursor ?? '',
				firstIdAt(before),
				limit,
			),
		waits: (before, limit, cursor) =>
			sql.all(
				`SELECT id AS key, (state IN ('closed','dead') AND ended_at < ?) AS old FROM waits
				 WHERE id > ? AND id < ? ORDER BY id LIMIT +?`,
				before,
				cursor ?? '',
				firstIdAt(before),
				limit,
			),
		occurrences: (before, limit, cursor) =>
			sql.all(
				`SELECT json_array(schedule_id, origin, planned_at) AS key, (at < ? AND ${maySlip}) AS old FROM occurrences
				 WHERE (schedule_id, origin, planned_at) > (?, ?, ?)
				 ORDER BY schedule_id, origin, planned_at LIMIT +?`,
				before,
				...(cursor === null
					? (['', '', 0] as const)
					: (JSON.parse(cursor) as [string, string, number])),
				limit,
			),
		// 2 = later than the last one: the clock was ahead then, and has been set back.
		events: (before, limit, cursor) =>
			sql.all(
				`SELECT CAST(cursor AS TEXT) AS key,
				  CASE WHEN at < ? THEN 1 WHEN at > (SELECT at FROM events ORDER BY cursor DESC LIMIT 1) THEN 2 ELSE 0 END AS old
				 FROM events WHERE cursor > ? ORDER BY cursor LIMIT +?`,
				before,
				Number(cursor ?? 0),
				limit,
			),
		// An idempotency key lives as long as its job, and a day at least. A bare `key` in ORDER BY would be the column
		// that is selected under that name: in no index, and in another order.
		keys: (before, limit, cursor) =>
			sql.all(
				`SELECT json_array(scope, key) AS key,
				  (job_id < ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = job_id)) AS old
				 FROM idempotency i WHERE (scope, key) > (?, ?) ORDER BY i.scope, i.key LIMIT +?`,
				firstIdAt(before),
				...(cursor === null ? (['', ''] as const) : (JSON.parse(cursor) as [string, string])),
				limit,
			),
		subscriptions: (before, limit, cursor) =>
			sql.all(
				'SELECT key, used_at < ? AS old FROM subscriptions WHERE key > ? ORDER BY key LIMIT +?',
				before,
				cursor ?? '',
				limit,
			),
		// Those that were removed; by then the jobs and events that told of them are forgotten, too.
		robots: (before, limit, cursor) =>
			sql.all(
				'SELECT id AS key, coalesce(removed_at < ?, 0) AS old FROM robots WHERE id > ? ORDER BY id LIMIT +?',
				before,
				cursor ?? '',
				limit,
			),
		tokens: (before, limit, cursor) =>
			sql.all(
				`SELECT id AS key, (${noMoreGood} AND id NOT IN (${namedByRobots})) AS old FROM tokens
				 WHERE id > ? ORDER BY id LIMIT +?`,
				before,
				cursor ?? '',
				limit,
			),
	};

	const forget: Record<Purgeable, (key: string, before: number) => boolean> = {
		jobs: (id, before) => {
			const gone = sql.run(`DELETE FROM jobs WHERE id = ? AND ${mayGo}`, id, before);
			if (gone)
				for (const table of tablesOfJob) sql.run(`DELETE FROM ${table} WHERE job_id = ?`, id);
			if (gone) sql.run('DELETE FROM fan_outs WHERE parent_id = ?', id);
			return gone;
		},
		waits: (id, before) =>
			sql.run(
				`DELETE FROM waits WHERE id = ? AND state IN ('closed','dead') AND ended_at < ?`,
				id,
				before,
			),
		occurrences: (key, before) =>
			sql.run(
				`DELETE FROM occurrences WHERE schedule_id = ? AND origin = ? AND planned_at = ? AND at < ? AND ${maySlip}`,
				...(JSON.parse(key) as [string, string, number]),
				before,
			),
		events: (cursor, before) =>
			sql.run('DELETE FROM events WHERE cursor = ? AND at < ?', Number(cursor), before),
		keys: (key, before) =>
			sql.run(
				`DELETE FROM idempotency WHERE scope = ? AND key = ? AND job_id < ?
				 AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = job_id)`,
				...(JSON.parse(key) as [string, string]),
				firstIdAt(before),
			),
		subscriptions: (key, before) => {
			const gone = sql.run('DELETE FROM subscriptions WHERE key = ? AND used_at < ?', key, before);
			if (gone) ends?.doubt();
			return gone;
		},
		robots: (id, before) => {
			const gone = sql.run('DELETE FROM robots WHERE id = ? AND removed_at < ?', id, before);
			if (gone) sql.run('DELETE FROM turns WHERE robot_id = ?', id);
			return gone;
		},
		tokens: (id, before) =>
			sql.run(`DELETE FROM tokens WHERE id = ? AND ${noMoreGood}`, id, before),
	};

	return {
		old: ({ what, before, limit, cursor }: Reads['old']['in']): Reads['old']['out'] => {
			const rows = looks[what](before, limit, cursor);
			const old = rows.filter((row) => row.old === 1).map(({ key }) => key);
			// Events lie in order of time: no old one follows a young one, unless the clock was ahead.
			const young = what === 'events' && old.length === 0 && rows.at(-1)?.old === 0;
			const isAll = rows.length < limit || young;
			return { old, cursor: isAll ? null : rows.at(-1)!.key };
		},

		/** So many final jobs behind `cursor`, at most `limit`. */
		finals: ({ limit, cursor }: Reads['finals']['in']): Reads['finals']['out'] => {
			const [state = finalStates[0], id = ''] = cursor?.split(' ') ?? [];
			const rows = sql.all<{ id: string }>(
				`SELECT id FROM jobs WHERE state = ? AND ${isEnded} AND id > ? ORDER BY id LIMIT +?`,
				state,
				id,
				limit,
			);
			const next = finalStates[finalStates.indexOf(state as (typeof finalStates)[number]) + 1];
			return {
				count: rows.length,
				cursor:
					rows.length === limit
						? `${state} ${rows.at(-1)!.id}`
						: next === undefined
							? null
							: `${next} `,
			};
		},

		purge: ({ what, keys, before }: Deeds['purge']['in']): Deeds['purge']['out'] => {
			const naming = namedBy[what];
			const named =
				naming === undefined
					? undefined
					: new Set(sql.all<{ id: string }>(naming).map(({ id }) => id));
			return keys.filter((key) => !named?.has(key) && forget[what](key, before));
		},
	};
}

/** The least UUIDv7 of an instant. */
export function firstIdAt(at: number): string {
	const hex = Math.max(0, at).toString(16).padStart(12, '0');
	return `${hex.slice(0, 8)}-${hex.slice(8)}`;
}
