/** What jobs share: limits that operators set, starts that count for a rate, and who waits behind a gate. In SQLite. */
import { camel, type Row, type Statements } from './statements';
import type { Deeds, NewAttempt, Reads, StoredLimit, StoredStart } from './store';

type DeedsHere = 'putLimit' | 'removeLimit' | 'sweepStarts';
type ReadsHere = 'limits' | 'starts' | 'behind';

/** Written in the commit that assigns the job, so that no restart allows it twice. */
export function noteStart(sql: Statements, { start, epoch, at }: NewAttempt): void {
	if (start === undefined) return;
	sql.run(
		'INSERT OR REPLACE INTO starts (epoch, key, at, until) VALUES (?,?,?,?)',
		epoch,
		start.key,
		at,
		start.until,
	);
}

/** For an attempt that is proved not to have started. */
export function forgetStart(sql: Statements, epoch: number): void {
	sql.run('DELETE FROM starts WHERE epoch = ?', epoch);
}

export function gateDeedsOn(sql: Statements): {
	[N in DeedsHere]: (input: Deeds[N]['in']) => Deeds[N]['out'];
} {
	return {
		putLimit: (limit) => {
			sql.put('limits', limit as unknown as Row);
			return true;
		},

		removeLimit: ({ name }) => sql.run('DELETE FROM limits WHERE name = ?', name),

		sweepStarts: ({ before, limit }) =>
			Number(
				sql
					.statement(
						'DELETE FROM starts WHERE epoch IN (SELECT epoch FROM starts WHERE until <= ? ORDER BY until LIMIT +?)',
					)
					.run(before, limit).changes,
			),
	};
}

export function gateReadsOn(sql: Statements): {
	[N in ReadsHere]: (args: Reads[N]['in']) => Reads[N]['out'];
} {
	return {
		limits: () =>
			sql.all<StoredLimit>(
				`SELECT ${camel('name max created_by updated_at')} FROM limits ORDER BY name`,
			),

		starts: ({ after }) =>
			sql.all<StoredStart>(
				'SELECT key, epoch, at, until FROM starts WHERE until > ? ORDER BY at, epoch',
				after,
			),

		// One query for each sort of need; the index holds only jobs that need something.
		behind: ({ needs, limit, max }) => {
			let count = 0;
			const first: Reads['behind']['out']['first'] = [];
			for (const text of needs) {
				const counted = sql.get(
					`SELECT count(*) AS count FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND needs <> '' AND needs = ? LIMIT +?)`,
					text,
					max,
				)!;
				count += counted['count'] as number;
				first.push(
					...sql.all<(typeof first)[number]>(
						`SELECT id, rank, priority, needs FROM jobs WHERE state = 'queued' AND needs <> '' AND needs = ?
						 ORDER BY rank, id LIMIT +?`,
						text,
						limit,
					),
				);
			}
			first.sort((a, b) => a.rank - b.rank || (a.id < b.id ? -1 : 1));
			return { count, first: first.slice(0, limit) };
		},
	};
}
