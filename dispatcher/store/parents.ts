/**
 * The deeds about parents in SQLite. The end of a child and that of its parent are one transaction, so
 * that a parent never gets stuck and never ends twice, whenever the service is killed.
 */
import { isFinal, jobStates, limits } from '../../protocol';
import {
	childrenOf,
	type Counted,
	endingOf,
	parentResultText,
	type ResultCell,
} from '../core/parents';
import { writeJob } from './new-job';
import { advance, noteFanOut, skippedOf } from './rollouts';
import { asItWas, asRead, type Statements } from './statements';
import type { Deeds, Reads, StoredCell } from './store';
import { moveLine } from './timeline';

export function startParent(sql: Statements, start: Deeds['startParent']['in']): boolean {
	const { parentId, from, was, at, common, children } = start;
	const fresh = 'children = 0 AND started_at IS NULL';
	if (from === 'pending') {
		sql.run(
			`UPDATE jobs SET was = state, state = 'queued', timeline = timeline || ?
			 WHERE id = ? AND state = 'pending' AND ${fresh} ${was ? asItWas : ''}`,
			moveLine(at, 'queued', 'its time has come', 'dispatcher', null),
			parentId,
			...(was ? asRead(was) : []),
		);
	}
	const reason = `started with ${children.length} ${children.length === 1 ? 'child' : 'children'}`;
	const started = sql.run(
		`UPDATE jobs SET was = state, state = 'running', started_at = ?, due_at = NULL, children = ?, timeline = timeline || ?
		 WHERE id = ? AND state = 'queued' AND ${fresh}`,
		at,
		children.length,
		moveLine(at, 'running', reason, 'dispatcher', null),
		parentId,
	);
	if (!started) return false;
	noteFanOut(sql, start);
	const held = start.plan ? { shut: 1 as const } : {};
	for (const { attempt, ...child } of children) {
		writeJob(sql, { ...common, ...child, ...held, parentId, children: null }, attempt);
	}
	return true;
}

export function settleParent(
	sql: Statements,
	{ parentId, at, endings }: Deeds['settleParent']['in'],
): Deeds['settleParent']['out'] {
	if (sql.get(`SELECT 1 FROM ${family} AND state IN (${open}) LIMIT 1`, parentId)) {
		return advance(sql, parentId, at);
	}
	const parent = sql.get(
		`SELECT started_at, cancel_requested_at, ${countedFamily} AS family FROM jobs
		 WHERE id = ? AND state = 'running' AND children IS NOT NULL`,
		parentId,
	);
	if (!parent) return null;
	const children = childrenOf(JSON.parse(parent['family'] as string) as Counted);
	const ending = endingOf(endings, children, parent['cancel_requested_at'] !== null);
	// What did not go well comes first, in case not all of them find room.
	const cells = sql.all<ResultCell & { batch: number | null }>(
		`SELECT cell, id AS jobId, state, cause, robot_id AS robotId, started_at AS startedAt, ended_at AS endedAt, batch
		 FROM ${family} ORDER BY state = 'completed', cell LIMIT +?`,
		parentId,
		limits.maxResultCells,
	);
	const shown = cells.map(({ batch, ...cell }): ResultCell => ({
		...cell,
		...(batch === null ? {} : { batch }),
	}));
	const ranMs = at - (parent['started_at'] as number);
	sql.run(
		`UPDATE jobs SET was = state, state = ?, cause = ?, error = ?, result = ?, ended_at = ?, progress = 100, output_done = 1,
		 timeline = timeline || ? WHERE id = ?`,
		ending.to,
		ending.cause,
		ending.error && JSON.stringify(ending.error),
		parentResultText(children, shown, ranMs, skippedOf(sql, parentId)),
		at,
		moveLine(at, ending.to, ending.reason, 'dispatcher', null),
		parentId,
	);
	return ending.to;
}

export function openChildren(sql: Statements, parentId: string): string[] {
	return sql
		.all<{ id: string }>(`SELECT id FROM ${family} AND state IN (${open}) ORDER BY id`, parentId)
		.map(({ id }) => id);
}

export function cellsOf(
	sql: Statements,
	{ parentId, after, limit }: Reads['cells']['in'],
): StoredCell[] {
	return sql.all<StoredCell>(
		`SELECT id AS jobId, cell, state, cause, batch, shut, started_at AS startedAt, ended_at AS endedAt,
		 CASE WHEN result IS NULL THEN NULL WHEN json_type(result, '$.exitCode') IS NULL THEN 0
		  ELSE json_extract(result, '$.exitCode') END AS exitCode
		 FROM jobs WHERE id IN (SELECT id FROM ${family} AND id > ? ORDER BY id LIMIT +?) ORDER BY id`,
		parentId,
		after,
		limit,
	);
}

export function batchesOf(
	sql: Statements,
	{ parentId }: Reads['batches']['in'],
): Reads['batches']['out'] {
	return sql.all(
		`SELECT batch, json_group_object(state, count) AS family FROM (
		 SELECT batch, CASE WHEN cause = 'unknown' THEN 'unknown' ELSE state END AS state, count(*) AS count
		 FROM ${family} AND batch IS NOT NULL GROUP BY 1, 2) GROUP BY batch ORDER BY batch`,
		parentId,
	);
}

const open = jobStates
	.filter((state) => !isFinal(state))
	.map((state) => `'${state}'`)
	.join(',');

/** The index is named, lest the planner go by the other conditions and pick one that holds all live jobs. */
const family = 'jobs INDEXED BY jobs_family WHERE parent_id = ?';

/** How the children of the row stand, as JSON; `unknown` apart from the other failures. */
export const countedFamily = `(SELECT json_group_object(state, count) FROM (
	SELECT CASE WHEN child.cause = 'unknown' THEN 'unknown' ELSE child.state END AS state, count(*) AS count
	FROM jobs child INDEXED BY jobs_family WHERE child.parent_id = jobs.id GROUP BY 1))`;

/** What was decided when the row, a parent, started, as JSON: a `FanOutState`. */
export const decidedFanOut = `(SELECT json_object('skipped', json(skipped), 'plan', json(plan), 'state', f.state, 'batch', f.batch,
	'reason', reason) FROM fan_outs f WHERE f.parent_id = jobs.id)`;
