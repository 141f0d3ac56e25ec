/**
 * The deeds about parents in SQLite. A child that ends and the end of its parent are one transaction,
 * so that a parent is never stuck and never ends twice, whenever the service is killed.
 */
import { isFinal, jobStates, limits } from '../../protocol';
import { type Cell, childrenOf, type Counted, endingOf, parentResultText } from '../core/parents';
import { writeJob } from './new-job';
import { asItWas, asRead, type Statements } from './statements';
import type { Deeds } from './store';
import { moveLine } from './timeline';

export function startParent(
	sql: Statements,
	{ parentId, from, was, at, common, children }: Deeds['startParent']['in'],
): boolean {
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
	for (const { attempt, ...child } of children) {
		writeJob(sql, { ...common, ...child, parentId, children: null }, attempt);
	}
	return true;
}

export function settleParent(
	sql: Statements,
	{ parentId, at, endings }: Deeds['settleParent']['in'],
): Deeds['settleParent']['out'] {
	if (sql.get(`SELECT 1 FROM ${family} AND state IN (${open}) LIMIT 1`, parentId)) return null;
	const parent = sql.get(
		`SELECT started_at, cancel_requested_at, ${countedFamily} AS family FROM jobs
		 WHERE id = ? AND state = 'running' AND children IS NOT NULL`,
		parentId,
	);
	if (!parent) return null;
	const children = childrenOf(JSON.parse(parent['family'] as string) as Counted);
	const ending = endingOf(endings, children, parent['cancel_requested_at'] !== null);
	// What did not go well comes first, in case not all of them find room.
	const cells = sql.all<Cell>(
		`SELECT cell, id AS jobId, state, robot_id AS robotId FROM ${family} ORDER BY state = 'completed', cell LIMIT +?`,
		parentId,
		limits.maxResultCells,
	);
	sql.run(
		`UPDATE jobs SET was = state, state = ?, cause = ?, error = ?, result = ?, ended_at = ?, progress = 100, output_done = 1,
		 timeline = timeline || ? WHERE id = ?`,
		ending.to,
		ending.cause,
		ending.error && JSON.stringify(ending.error),
		parentResultText(children, cells, at - (parent['started_at'] as number)),
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

const open = jobStates
	.filter((state) => !isFinal(state))
	.map((state) => `'${state}'`)
	.join(',');

/** The index is named: by its other words the planner could take one that holds all live jobs. */
const family = 'jobs INDEXED BY jobs_family WHERE parent_id = ?';

/** How the children of the row stand, as JSON; `unknown` apart from the other failures. */
export const countedFamily = `(SELECT json_group_object(state, count) FROM (
	SELECT CASE WHEN child.cause = 'unknown' THEN 'unknown' ELSE child.state END AS state, count(*) AS count
	FROM jobs child INDEXED BY jobs_family WHERE child.parent_id = jobs.id GROUP BY 1))`;
