/**
 * Looking through many jobs without stopping the store for long: a stretch at a time. A stretch costs
 * what `scan` rows cost, whether they match or not; the caller comes back for the next one, and commits
 * go on in between.
 */
import type { SQLInputValue } from 'node:sqlite';
import { finalStates, type JobState, Problem } from '../../protocol';
import type { Row, Statements } from './statements';
import type { JobQuery, ReadName, Reads, Scan, Waiting } from './store';

/** The schema sees to it that these are the final ones. */
export const isEnded = 'ended_at IS NOT NULL';
export const isLive = "state IN ('dispatched','running')";
export const isDue = "due_at IS NOT NULL AND state IN ('pending','queued')";

type Names = 'scan' | 'countState' | 'deadGroups' | 'deadCount' | 'oldestWaiting' | 'waiting';
type ScansOfStore = {
	[N in Names & ReadName]: (args: Reads[N]['in']) => Reads[N]['out'];
};

export function scansOn(sql: Statements): ScansOfStore {
	return {
		scan({ query, order, after, idFrom, idBefore, scan, want = scan }) {
			const { from, where, values, key } = pathOf(query, order);
			const condition = conditionOf(query);
			const limits: [string, SQLInputValue][] = [
				...(idFrom === undefined ? [] : [['id >= ?', idFrom] as [string, SQLInputValue]]),
				...(idBefore === undefined ? [] : [['id < ?', idBefore] as [string, SQLInputValue]]),
			];
			const start = after === null ? [] : placeOf(after, key);
			const [beyond, direction] = order === 'newest' ? ['<', 'DESC'] : ['>', 'ASC'];
			const parts = [
				...where,
				...limits.map(([part]) => part),
				...(after === null
					? []
					: [`(${key.join(', ')}) ${beyond} (${key.map(() => '?').join(', ')})`]),
			];
			const rows = sql.all<Row>(
				`SELECT ${[...new Set([...key, 'id'])].join(', ')}, ${condition.text} AS hit FROM ${from}
				 ${parts.length > 0 ? `WHERE ${parts.join(' AND ')}` : ''}
				 ORDER BY ${key.map((column) => `${column} ${direction}`).join(', ')} LIMIT +?`,
				...condition.values,
				...values,
				...limits.map(([, value]) => value),
				...start,
				scan,
			);
			const hits = rows.filter((row) => row['hit'] === 1).slice(0, want);
			const last =
				hits.length === want ? hits.at(-1) : rows.length === scan ? rows.at(-1) : undefined;
			return {
				ids: hits.map((row) => row['id'] as string),
				...(last ? { next: JSON.stringify(key.map((column) => last[column])) } : {}),
			};
		},

		countState: ({ state, after, scan }) => {
			const { from, where, values } = pathOf({ state }, 'any');
			const row = sql.get(
				`SELECT count(*) AS count, max(id) AS last FROM
				 (SELECT id FROM ${from} WHERE ${[...where, 'state = ?', 'id > ?'].join(' AND ')} ORDER BY id LIMIT +?)`,
				...values,
				state,
				after,
				scan,
			)!;
			const count = row['count'] as number;
			return { count, ...(count === scan ? { next: row['last'] as string } : {}) };
		},

		// Walks from group to group on the index: the cost is the number of groups, not of jobs.
		deadGroups: ({ after, limit, samples }) => {
			const groups: Reads['deadGroups']['out'] = [];
			for (let last = after; groups.length < limit;) {
				const next = sql.get(
					'SELECT dead FROM jobs INDEXED BY jobs_dead WHERE dead > ? AND dead IS NOT NULL ORDER BY dead LIMIT 1',
					last,
				);
				if (!next) break;
				last = next['dead'] as string;
				const newest = sql.all<{ id: string }>(
					'SELECT id FROM jobs INDEXED BY jobs_dead WHERE dead = ? ORDER BY id DESC LIMIT +?',
					last,
					samples,
				);
				groups.push({ fingerprint: last, jobIds: newest.map(({ id }) => id) });
			}
			return groups;
		},

		deadCount: ({ fingerprint, after, scan }) => {
			const row = sql.get(
				`SELECT count(*) AS count, min(ended_at) AS firstAt, max(ended_at) AS lastAt, max(id) AS last FROM
				 (SELECT id, ended_at FROM jobs INDEXED BY jobs_dead WHERE dead = ? AND id > ? ORDER BY id LIMIT +?)`,
				fingerprint,
				after,
				scan,
			)!;
			const count = row['count'] as number;
			return {
				count,
				firstAt: (row['firstAt'] as number | null) ?? Infinity,
				lastAt: (row['lastAt'] as number | null) ?? -Infinity,
				...(count === scan ? { next: row['last'] as string } : {}),
			};
		},

		oldestWaiting: () =>
			sql.get(
				`SELECT min(id) AS id FROM (SELECT min(id) AS id FROM jobs INDEXED BY jobs_queue WHERE state = 'queued'
				 UNION ALL SELECT min(id) FROM jobs INDEXED BY jobs_due WHERE ${isDue})`,
			)!['id'] as string | null,

		waiting: ({ from, scan }) => {
			const last = sql.get(
				'SELECT id FROM jobs WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?',
				from,
				scan,
			);
			const next = last?.['id'] as string | undefined;
			const jobs = sql.all<Waiting>(
				`SELECT id, state, lane, priority, rank, created_by AS owner, octet_length(spec) + octet_length(variables) AS bytes
				 FROM jobs CROSS JOIN requests ON job_id = id
				 WHERE state IN ('pending','queued') AND id >= ? ${next === undefined ? '' : 'AND id < ?'}`,
				from,
				...(next === undefined ? [] : [next]),
			);
			return { jobs, ...(next === undefined ? {} : { next }) };
		},
	};
}

/** Key columns that hold numbers; all others hold text. SQLite sorts every text after every number. */
const numbers: ReadonlySet<string> = new Set(['due_at', 'rank']);

/** Where the previous stretch ended. It comes from a caller, who may have asked for other jobs then. */
function placeOf(after: string, key: string[]): SQLInputValue[] {
	const place = JSON.parse(after) as unknown;
	const isOfKey = (value: unknown, i: number) =>
		typeof value === (numbers.has(key[i]!) ? 'number' : 'string');
	if (Array.isArray(place) && place.length === key.length && place.every(isOfKey)) return place;
	throw new Problem('bad-field', { path: 'cursor', reason: 'is of another call' });
}

/** Where to look: the index that rules out most, and the order it gives. */
function pathOf(
	{ fingerprint, dead, parentId, state }: JobQuery,
	order: Scan['order'],
): { from: string; where: string[]; values: SQLInputValue[]; key: string[] } {
	const on = (index: string, where: string[], values: SQLInputValue[], key = ['id']) => ({
		from: `jobs INDEXED BY ${index}`,
		where,
		values,
		key,
	});
	if (fingerprint !== undefined) return on('jobs_dead', ['dead = ?'], [fingerprint]);
	if (parentId !== undefined) return on('jobs_children', ['parent_id = ?'], [parentId]);
	if (state === 'dispatched' || state === 'running') return on('jobs_live', [isLive], []);
	if (state !== undefined && (finalStates as readonly JobState[]).includes(state)) {
		return on('jobs_ended', ['state = ?', isEnded], [state]);
	}
	if (order === 'any') {
		if (dead) return on('jobs_dead', ['dead IS NOT NULL'], [], ['dead', 'id']);
		if (state === 'queued') {
			return on(
				'jobs_queue',
				["state = 'queued'"],
				[],
				['lane', 'share_key', 'needs', 'rank', 'id'],
			);
		}
		if (state === 'pending') return on('jobs_due', [isDue], [], ['due_at', 'id']);
	}
	return { from: 'jobs', where: [], values: [], key: ['id'] };
}

/** Whether a row matches the query. */
function conditionOf(query: JobQuery): { text: string; values: SQLInputValue[] } {
	const tests: [string, SQLInputValue | undefined][] = [
		['state = ?', query.state],
		['kind = ?', query.kind],
		["state NOT IN ('pending','queued') AND robot_id = ?", query.robotId],
		['cause = ?', query.cause],
		['parent_id = ?', query.parentId],
		['share_key = ?', query.shareKey],
		['priority = ?', query.priority],
		['dead = ?', query.fingerprint],
		['(dead IS NOT NULL) = ?', query.dead ? 1 : undefined],
		['created_at >= ?', query.createdAfter],
		['created_at < ?', query.createdBefore],
	];
	const set = tests.filter((test): test is [string, SQLInputValue] => test[1] !== undefined);
	return {
		text: set.length === 0 ? '1' : `(${set.map(([text]) => text).join(' AND ')}) IS TRUE`,
		values: set.map(([, value]) => value),
	};
}
