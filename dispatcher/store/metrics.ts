/**
 * What is counted for dashboards: samples, one row a minute, and jobs and planned times by what became of them.
 * Jobs are counted in stretches, each a millisecond or two, however many there are.
 */
import type { SQLInputValue } from 'node:sqlite';
import { type Breakdown, series, type SeriesName, seriesNames } from '../../protocol';
import { snake, type Statements } from './statements';
import type { Deeds, Reads, Tally } from './store';

const columns = seriesNames.map(snake);
const putSample = `INSERT INTO samples (at, ${columns.join(', ')}) VALUES (?${',?'.repeat(columns.length)})
 ON CONFLICT (at) DO UPDATE SET ${seriesNames
		.map((name) => {
			const column = snake(name);
			return series[name].how === 'sum'
				? `${column} = ${column} + excluded.${column}`
				: `${column} = coalesce(excluded.${column}, ${column})`;
		})
		.join(', ')}`;

export function metricDeedsOn(sql: Statements): {
	putSample(input: Deeds['putSample']['in']): boolean;
} {
	return {
		putSample({ at, values, forgetBefore }) {
			sql.run('DELETE FROM samples WHERE at < ?', forgetBefore);
			return sql.run(putSample, at, ...seriesNames.map((name) => values[name]));
		},
	};
}

type ReadsHere = 'series' | 'tallies' | 'breakdown' | 'plannedCounts';

const counts = `count(*) AS count, coalesce(sum(CASE WHEN state = 'completed' THEN ended_at - started_at END), 0) AS ranMs, max(id) AS last`;
const seen = 'id, state, started_at, ended_at';

const commonOf: Record<Breakdown, string> = {
	robot: `coalesce(robot_id, '')`,
	kind: 'kind',
	hour: `CAST(created_at / 3600000 * 3600000 AS TEXT)`,
	owner: '(SELECT created_by FROM requests WHERE job_id = id)',
	cause: `coalesce(cause, '')`,
};

const sumOrMean = (metric: SeriesName) =>
	`${series[metric].how === 'sum' ? 'sum' : 'avg'}(${snake(metric)})`;

export function metricReadsOn(sql: Statements): {
	[N in ReadsHere]: (args: Reads[N]['in']) => Reads[N]['out'];
} {
	/** Groups of at most `scan` rows, and where to go on when there were that many. */
	function grouped<T extends { count: number; last?: string }>(
		text: string,
		scan: number,
		values: SQLInputValue[],
	): { rows: T[]; next?: string } {
		const rows = sql.all<T>(text, ...values, scan);
		let total = 0;
		let next = '';
		for (const row of rows) {
			total += row.count;
			if (row.last! > next) next = row.last!;
			delete row.last;
		}
		return { rows, ...(total === scan ? { next } : {}) };
	}

	return {
		series: ({ metric, from, to, stepMs }) =>
			sql
				.all<{ step: number; value: number }>(
					// A bound number is a REAL: with it the division would not be whole.
					`SELECT at - at % CAST(?1 AS INTEGER) AS step, ${sumOrMean(metric)} AS value FROM samples
					 WHERE at >= ?2 AND at < ?3 AND ${snake(metric)} IS NOT NULL GROUP BY 1 ORDER BY 1`,
					stepMs,
					from,
					to,
				)
				.map(({ step, value }) => [step, value]),

		tallies: ({ after, upTo, scan }) => {
			const { rows, next } = grouped<Tally>(
				`SELECT state, ${counts} FROM (SELECT ${seen} FROM jobs WHERE id > ? AND id <= ? ORDER BY id LIMIT +?)
				 GROUP BY state`,
				scan,
				[after, upTo ?? '~'],
			);
			return { states: rows, ...(next === undefined ? {} : { next }) };
		},

		breakdown: ({ by, after, before, scan }) =>
			grouped<{ of: string } & Tally>(
				`SELECT of, state, ${counts} FROM (SELECT ${commonOf[by]} AS of, ${seen} FROM jobs
				 WHERE id > ? AND id < ? ORDER BY id LIMIT +?) GROUP BY of, state`,
				scan,
				[after, before],
			),

		// CROSS JOIN: schedule by schedule, each only at the times asked for; otherwise SQLite looks at all that ever ran.
		plannedCounts: ({ from, to }) =>
			sql.all(
				`SELECT o.state AS state, (o.state = 'skipped' AND o.reason LIKE 'blackout%') AS blackout, o.outcome AS outcome,
				 count(*) AS count FROM schedules s CROSS JOIN occurrences o ON o.schedule_id = s.id
				 WHERE o.planned_at >= ? AND o.planned_at <= ? AND o.origin = 'planned' GROUP BY 1, 2, 3`,
				from,
				to,
			),
	};
}
