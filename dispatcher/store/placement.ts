/** Groups and pools, and what is remembered of how robots were chosen: turns, and where jobs of one key went well. In SQLite. */
import type { Success } from '../core/affinity';
import { limits } from '../../protocol';
import { camel, type Row, type Statements } from './statements';
import type { Deeds, NewAttempt, Reads, StoredGroup, StoredPool } from './store';

type DeedsHere = 'putGroup' | 'removeGroup' | 'putPool' | 'removePool' | 'sweepAffinities';
type ReadsHere = 'groups' | 'pools' | 'turns' | 'affinities';

/** Written in the commit that assigns the job, so that no turn is taken twice. */
export function noteTurn(sql: Statements, { turn, robotId, epoch }: NewAttempt): void {
	if (turn === undefined) return;
	sql.run('INSERT OR REPLACE INTO turns (robot_id, epoch) VALUES (?, ?)', robotId, epoch);
}

/** For a job that has just ended well. If the robot's last success is too old, this counts as its first. */
export function noteSuccess(sql: Statements, jobId: string, key: string, at: number): void {
	sql.run(
		`INSERT INTO affinities (key, robot_id, successes, at) SELECT ?1, robot_id, 1, ?2 FROM jobs WHERE id = ?3
		 ON CONFLICT (key, robot_id) DO UPDATE SET successes = CASE WHEN ?2 - at > ${limits.affinityMs} THEN 1 ELSE successes + 1 END,
		 at = excluded.at`,
		key,
		at,
		jobId,
	);
}

export function placementOn(sql: Statements): {
	[N in DeedsHere]: (input: Deeds[N]['in']) => Deeds[N]['out'];
} {
	return {
		putGroup: (group) => {
			sql.put('robot_groups', group as unknown as Row);
			return true;
		},

		removeGroup: ({ name }) => sql.run('DELETE FROM robot_groups WHERE name = ?', name),

		putPool: (pool) => {
			sql.put('pools', pool as unknown as Row);
			return true;
		},

		removePool: ({ name }) => sql.run('DELETE FROM pools WHERE name = ?', name),

		sweepAffinities: ({ before, keep, limit }) => {
			const tooMany = sql.get('SELECT at FROM affinities ORDER BY at DESC LIMIT 1 OFFSET ?', keep);
			const { changes } = sql
				.statement(
					`DELETE FROM affinities WHERE (key, robot_id) IN
					 (SELECT key, robot_id FROM affinities WHERE at < ? ORDER BY at LIMIT +?)`,
				)
				.run(tooMany ? Math.max(before, Number(tooMany['at']) + 1) : before, limit);
			return Number(changes);
		},
	};
}

export function placementReadsOn(sql: Statements): {
	[N in ReadsHere]: (args: Reads[N]['in']) => Reads[N]['out'];
} {
	return {
		groups: () =>
			sql.all<StoredGroup>(
				`SELECT ${camel('name parent robots created_by updated_at')} FROM robot_groups ORDER BY name`,
			),

		pools: () =>
			sql.all<StoredPool>(
				`SELECT ${camel('name definition created_by updated_at')} FROM pools ORDER BY name`,
			),

		turns: () =>
			sql.all<{ robotId: string; epoch: number }>('SELECT robot_id AS robotId, epoch FROM turns'),

		affinities: ({ limit }) =>
			sql
				.all<Success>(
					'SELECT key, robot_id AS robotId, successes, at FROM affinities ORDER BY at DESC LIMIT +?',
					limit,
				)
				.reverse(),
	};
}
