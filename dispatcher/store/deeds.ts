/**
 * The deeds in SQLite. Each is dumb and guarded: its WHERE expects a state and an epoch, and it answers
 * whether there was such a row. All deeds of a commit run in one transaction (sqlite.ts).
 */
import type { SQLInputValue } from 'node:sqlite';
import type { OutputLengths } from '../../protocol';
import type { Ends } from './ends';
import { fileDeedsOn, holdFiles, unusable } from './files';
import { forgetStart, gateDeedsOn, noteStart } from './gates';
import { earlierJob, writeJob } from './new-job';
import { metricDeedsOn } from './metrics';
import type { Outputs } from './output';
import { settleParent, startParent } from './parents';
import { pauseRollout, resumeRollout } from './rollouts';
import { noteSuccess, noteTurn, placementOn } from './placement';
import { purgeOn } from './purge';
import { isDue } from './scans';
import { schedulesOn } from './schedules';
import { asItWas, asRead, type Row, snake, type Statements } from './statements';
import { assignedLine, moveLine } from './timeline';
import type { Asked, DeedName, Deeds, StoredEvent } from './store';

type InsertJob = Deeds['insertJob']['in'];

export type DeedsOfStore = { [N in DeedName]: (input: Deeds[N]['in']) => Deeds[N]['out'] };

export function deedsOn(sql: Statements, outputs: Outputs, ends: Ends): DeedsOfStore {
	const schedules = schedulesOn(sql, record);
	return {
		...metricDeedsOn(sql),
		...fileDeedsOn(sql),

		insertJob: ({ job, attempt, idempotency, dedupe, only, occurrence, files = [] }) => {
			const missing = unusable(sql, files);
			if (missing) return (idempotency && earlierJob(sql, idempotency)) ?? missing;
			if (occurrence && !schedules.deal(occurrence)) return 'fired';
			if (idempotency) {
				const taken = sql.run(
					'INSERT OR IGNORE INTO idempotency (scope, key, hash, job_id) VALUES (?,?,?,?)',
					idempotency.scope,
					idempotency.key,
					idempotency.hash,
					job.id,
				);
				if (!taken) return earlierJob(sql, idempotency);
			}
			if (dedupe && !fresh(job.id, dedupe)) {
				const { scope, hash } = dedupe;
				if (idempotency) {
					sql.run(
						'DELETE FROM idempotency WHERE scope = ? AND key = ?',
						idempotency.scope,
						idempotency.key,
					);
				}
				const earlier = sql.get(
					'SELECT job_id FROM duplicates WHERE scope = ? AND hash = ?',
					scope,
					hash,
				)!;
				return { sameAs: earlier['job_id'] as string };
			}
			if (job.retryOf !== null && !repeated(job, job.retryOf, only)) return 'passed';
			writeJob(sql, job, attempt);
			holdFiles(sql, job.id, files, job.createdAt);
			return null;
		},

		assign: ({ jobId, attempt, tell }) => {
			if (attempt.number > 1) {
				sql.run(
					`INSERT INTO attempts (job_id, ${attemptColumns}) SELECT id, attempt, ${attemptColumns.slice('number, '.length)}
					 FROM jobs WHERE id = ? AND state = 'queued' AND attempt = ?`,
					jobId,
					attempt.number - 1,
				);
			}
			const given = sql.run(
				`UPDATE jobs SET was = state, state = 'dispatched', attempt = ?, epoch = ?, token = ?, robot_id = ?, client = ?, assigned_at = ?,
				 timeline = timeline || ?${attempt.number > 1 ? freshAttempt : ''} WHERE id = ? AND state = 'queued' AND attempt = ?`,
				attempt.number,
				attempt.epoch,
				attempt.token,
				attempt.robotId,
				attempt.client ?? null,
				attempt.at,
				assignedLine(attempt),
				jobId,
				attempt.number - 1,
			);
			if (!given) return null;
			noteTurn(sql, attempt);
			noteStart(sql, attempt);
			return tell ? (sql.get(selectAsked, jobId) as unknown as Asked) : true;
		},

		start: ({ jobId, number, epoch, at }) =>
			sql.run(
				`UPDATE jobs SET was = state, state = 'running', started_at = coalesce(started_at, ?1), accepted_at = ?1, timeline = timeline || ?2
				 WHERE id = ?3 AND epoch = ?4 AND state = 'dispatched'`,
				at,
				moveLine(at, 'running', 'accepted', 'robot', number),
				jobId,
				epoch,
			),

		settle: (settle) => settleAttempt(settle),

		lateResult: ({ jobId, number, epoch, token, robotId, result, outputLength, event }) => {
			for (const { table, id, of } of attemptHomes) {
				const attempt = sql.get(
					`SELECT result, late_result FROM ${table} WHERE ${id} = ? AND ${of} = ? AND epoch = ? AND token = ?
					 AND robot_id = ? AND outcome IS NOT NULL`,
					jobId,
					number,
					epoch,
					token,
					robotId,
				);
				if (!attempt) continue;
				if (attempt['result'] !== null || attempt['late_result'] !== null) return 'again';
				sql.run(
					`UPDATE ${table} SET late_result = ?, stdout_length = ?, stderr_length = ? WHERE ${id} = ? AND ${of} = ?`,
					result,
					outputLength.stdout,
					outputLength.stderr,
					jobId,
					number,
				);
				record(event);
				return 'kept';
			}
			return 'unknown';
		},

		moveJob: ({ was, ...move }) => {
			const final = move.to !== 'pending' && move.to !== 'queued';
			const moved = sql.run(
				`UPDATE jobs SET was = state, state = ?, cause = ?, ended_at = ?, rank = coalesce(?, rank), due_at = ?,
				 error = coalesce(?, error), cancel_requested_at = coalesce(cancel_requested_at, ?), hold = ?, dead = ?,
				 output_done = CASE WHEN ? THEN 1 ELSE output_done END, timeline = timeline || ?
				 WHERE id = ? AND state IN (${move.from.map((state) => `'${state}'`).join(',')}) ${was ? asItWas : ''} ${
						move.to === 'queued' ? isLetGo : ''
					}`,
				move.to,
				move.cause,
				final ? move.at : null,
				move.rank ?? null,
				move.dueAt ?? null,
				move.error ?? null,
				move.cancelRequestedAt ?? null,
				move.hold ?? null,
				move.dead ?? null,
				final ? 1 : 0,
				moveLine(move.at, move.to, move.reason, move.by, null),
				move.jobId,
				...(was ? asRead(was) : []),
			);
			if (moved && final) ends.note(move.jobId);
			return moved;
		},

		waitFor: ({ jobId, was, cause, dueAt, reason, by, at }) =>
			sql.run(
				`UPDATE jobs SET cause = ?, due_at = ?, timeline = timeline || ? WHERE id = ? AND state = 'pending' ${asItWas}`,
				cause,
				dueAt,
				moveLine(at, 'pending', reason, by, null),
				jobId,
				...asRead(was),
			),

		startParent: (start) => startParent(sql, start),
		settleParent: (settle) => {
			const settled = settleParent(sql, settle);
			if (typeof settled === 'string') ends.note(settle.parentId);
			return settled;
		},
		pauseRollout: (pause) => pauseRollout(sql, pause),
		resumeRollout: (resume) => resumeRollout(sql, resume),
		changeJob: ({ jobId, was, to, event, reason, by, at }) => {
			const changed = sql.run(
				`UPDATE jobs SET was = CASE WHEN state = ?1 THEN was ELSE state END, state = ?1, lane = ?, rank = ?, priority = ?,
				 due_at = ?, hold = ?, bars = ?, timeline = timeline || ?
				 WHERE id = ? AND state = ? ${asItWas} ${to.state === 'queued' ? isLetGo : ''}`,
				to.state,
				to.lane,
				to.rank,
				to.priority,
				to.dueAt,
				to.hold,
				to.bars,
				moveLine(at, to.state, reason, by, null),
				jobId,
				was.state,
				...asRead(was),
			);
			if (changed) {
				sql.run(
					'UPDATE requests SET target = ?1 WHERE job_id = ?2 AND target <> ?1',
					to.target,
					jobId,
				);
				if (to.policy !== undefined) {
					sql.run('UPDATE requests SET policy = ? WHERE job_id = ?', to.policy, jobId);
				}
				if (event) record(event);
			}
			return changed;
		},

		lookAgain: ({ jobId, was, dueAt }) =>
			sql.run(
				`UPDATE jobs SET due_at = ? WHERE id = ? AND state = ? ${asItWas}`,
				dueAt,
				jobId,
				was.state,
				...asRead(was),
			),

		dismissDead: ({ jobIds, by, at }) =>
			jobIds.filter((jobId) =>
				sql.run(
					`UPDATE jobs SET dead = NULL, timeline = timeline || ',' || json_array(?, state, 'dismissed', ?, NULL)
					 WHERE id = ? AND dead IS NOT NULL`,
					at,
					by,
					jobId,
				),
			),

		sweepDuplicates: ({ at, limit }) =>
			Number(
				sql
					.statement(
						`DELETE FROM duplicates WHERE (scope, hash) IN
						 (SELECT scope, hash FROM duplicates WHERE until <= ? ORDER BY until LIMIT +?)`,
					)
					.run(at, limit).changes,
			),

		shiftBackOffs: ({ by }) =>
			sql.run(
				`UPDATE jobs SET due_at = due_at + CASE WHEN due_at = ready_at THEN ?1 ELSE 0 END, ready_at = ready_at + ?1
				 WHERE ${waitsBetweenTries}`,
				by,
			),

		settleBackOffs: ({ at }) => {
			// A million jobs may be waiting for a time: they are looked through only if something was written later than now.
			const last = sql.get(
				`SELECT max(coalesce((SELECT max(at) FROM samples), 0), coalesce((SELECT max(last_seen_at) FROM robots), 0),
				 coalesce((SELECT created_at FROM jobs ORDER BY id DESC LIMIT 1), 0),
				 coalesce((SELECT at FROM events ORDER BY cursor DESC LIMIT 1), 0)) AS at`,
			)!['at'] as number;
			if (last <= at) return false;
			return sql.run(
				`UPDATE jobs SET due_at = CASE WHEN due_at = ready_at THEN ready_at - settled_at + ?1 ELSE due_at END,
				 ready_at = ready_at - settled_at + ?1
				 WHERE ${waitsBetweenTries} AND settled_at > ?1 AND ready_at >= settled_at`,
				at,
			);
		},

		requestCancel: ({ jobId, epoch, at }) =>
			sql.run(
				`UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?)
				 WHERE id = ? AND epoch = ? AND state IN ('dispatched','running')`,
				at,
				jobId,
				epoch,
			),

		health: ({ jobId, epoch, entry }) =>
			sql.run(
				`INSERT INTO health (job_id, epoch, entries)
				 SELECT id, epoch, json_array(json(?)) FROM jobs WHERE id = ? AND epoch = ? AND state = 'running'
				 ON CONFLICT (job_id) DO UPDATE SET epoch = excluded.epoch, entries = CASE
				  WHEN epoch <> excluded.epoch THEN excluded.entries
				  ELSE json_insert(
				   CASE WHEN json_array_length(entries) >= ${maxHealthEntries} THEN json_remove(entries, '$[0]') ELSE entries END,
				   '$[#]', json_extract(excluded.entries, '$[0]')) END`,
				entry,
				jobId,
				epoch,
			),

		progress: ({ jobId, epoch, progress, message }) =>
			sql.run(
				`UPDATE jobs SET progress = coalesce(?, progress), message = coalesce(?, message)
				 WHERE id = ? AND epoch = ? AND state IN ('dispatched','running')`,
				progress,
				message,
				jobId,
				epoch,
			),

		prompted: ({ jobId, number, epoch, reason, event }) => {
			const line = `timeline || ',' || json_array(?1, state, ?2, 'robot', ?3)`;
			const asked = sql.run(
				`UPDATE jobs SET timeline = CASE WHEN ?2 IS NULL THEN timeline ELSE ${line} END
				 WHERE id = ?4 AND epoch = ?5 AND state IN ('dispatched','running')`,
				event.at,
				reason,
				number,
				jobId,
				epoch,
			);
			if (asked) record(event);
			return asked;
		},

		appendOutput: (piece) => {
			const { jobId, epoch, robotId, stream } = piece;
			for (const { table, id, of } of attemptHomes) {
				const row = sql.get(
					`SELECT ${of} AS number, stdout_have AS stdout, stderr_have AS stderr, outcome, stdout_length, stderr_length
					 FROM ${table} WHERE ${id} = ? AND epoch = ? AND robot_id = ?`,
					jobId,
					epoch,
					robotId,
				) as unknown as AttemptOutput | undefined;
				if (!row) continue;
				const { number } = row;
				const have = outputs.append({ jobId, number, stream }, piece, row);
				const taken = have !== row[stream];
				if (taken) {
					sql.run(
						`UPDATE ${table} SET ${stream}_have = ? WHERE ${id} = ? AND ${of} = ?`,
						have,
						jobId,
						number,
					);
					row[stream] = have;
				}
				const whole =
					row.outcome !== null &&
					row.stdout >= (row.stdout_length ?? Infinity) &&
					row.stderr >= (row.stderr_length ?? Infinity);
				return { have, taken, whole };
			}
			return { have: -1, taken: false, whole: false };
		},

		closeOutput: ({ jobId, epoch }) =>
			sql.run(
				`UPDATE jobs SET output_done = 1 WHERE id = ? AND epoch = ? AND output_done = 0 AND ended_at IS NOT NULL
				 AND stdout_have >= coalesce(stdout_length, 0) AND stderr_have >= coalesce(stderr_length, 0)`,
				jobId,
				epoch,
			),

		rewindOutput: ({ jobId, epoch, stream }) => {
			for (const { table, id, of } of attemptHomes) {
				const row = sql.get(
					`UPDATE ${table} SET ${stream}_have = 0 WHERE ${id} = ? AND epoch = ? RETURNING ${of} AS number`,
					jobId,
					epoch,
				);
				if (!row) continue;
				outputs.rewind({ jobId, number: row['number'] as number, stream });
				return true;
			}
			return false;
		},

		markOutput: ({ hole, ...name }) => {
			const { jobId, number, stream } = name;
			const isThere = attemptHomes.some(({ table, id, of }) =>
				sql.get(
					`SELECT 1 FROM ${table} WHERE ${id} = ? AND ${of} = ? AND ${stream}_have >= ?`,
					jobId,
					number,
					hole.to,
				),
			);
			if (isThere) outputs.hole(name, hole);
			return isThere;
		},

		purgeOutput: (limits) => outputs.purge(limits),

		compactOutput: ({ maxBytes }) => outputs.compact(maxBytes),

		enrolRobot: ({ hash, at, robot, awaited }) => {
			const { tokenId } = robot;
			const token = sql.get(
				'SELECT labels FROM tokens WHERE id = ? AND hash = ? AND revoked_at IS NULL',
				tokenId,
				hash,
			);
			if (!token) return null;
			// The same token with the same key is the same robot: it never got the answer, and uses nothing up.
			const known = sql.get(
				'SELECT id FROM robots WHERE public_key = ? AND token_id = ? AND removed_at IS NULL',
				robot.publicKey,
				tokenId,
			);
			if (known) return { robotId: known['id'] as string, lockedLabels: null };
			const waits = () =>
				sql.get(
					`SELECT id FROM robots JOIN devices ON robot_id = id
					WHERE id = ? AND public_key = '' AND removed_at IS NULL
						AND (fingerprint IS NULL OR fingerprint = ?)`,
					robot.id,
					awaited!,
				);
			if (awaited !== undefined && !waits()) return null;
			const used = sql.run(
				'UPDATE tokens SET used = used + 1 WHERE id = ? AND used < uses AND expires_at > ?',
				tokenId,
				at,
			);
			if (!used) return null;
			const lockedLabels = token['labels'] as string;
			if (awaited === undefined) sql.put('robots', { ...robot, lockedLabels } as unknown as Row);
			// Whatever else has changed since it was read stays as it is.
			else {
				sql.run(
					'UPDATE robots SET public_key = ?, token_id = ?, locked_labels = ? WHERE id = ?',
					robot.publicKey,
					tokenId,
					lockedLabels,
					robot.id,
				);
			}
			return { robotId: robot.id, lockedLabels };
		},

		changeRobot: ({ id, event, ...change }) => {
			const { columns, values } = named(change);
			const changed = sql.run(`UPDATE robots SET ${columns} WHERE id = ?`, ...values, id);
			if (changed && event) record(event);
			return changed;
		},

		putDevice: ({ device, robot, forgetsKey }) => {
			if (robot) sql.put('robots', { ...robot } as unknown as Row);
			if (forgetsKey) {
				sql.run(
					"UPDATE robots SET public_key = '', machine = NULL, clone = NULL WHERE id = ?",
					device.robotId,
				);
			}
			sql.put('devices', { ...device } as unknown as Row);
			return true;
		},

		dropDevice: ({ robotId }) => sql.run('DELETE FROM devices WHERE robot_id = ?', robotId),

		robotsSeen: ({ ids, at }) => {
			for (const id of ids) sql.run('UPDATE robots SET last_seen_at = ? WHERE id = ?', at, id);
			return true;
		},

		putKey: (key) => {
			sql.put('keys', key as unknown as Row);
			return true;
		},

		revokeKey: ({ id, at }) =>
			sql.run('UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?', at, id),

		keysUsed: ({ keys }) => {
			for (const { id, at } of keys) {
				sql.run('UPDATE keys SET last_used_at = ? WHERE id = ?', at, id);
			}
			return true;
		},

		putToken: (token) => {
			sql.put('tokens', token as unknown as Row);
			return true;
		},

		revokeToken: ({ id, at }) =>
			sql.run('UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?', at, id),

		insertWait: (wait) => {
			sql.put('waits', wait as unknown as Row);
			return true;
		},

		moveWait: ({ id, from, ...change }) => {
			const { columns, values } = named(change);
			return sql.run(
				`UPDATE waits SET ${columns} WHERE id = ? AND state IN (${from.map((state) => `'${state}'`).join(',')})`,
				...values,
				id,
			);
		},

		...placementOn(sql),
		...gateDeedsOn(sql),
		...schedules.deeds,

		takeSubscription: ({ key, filter, fromStart, skipBefore, createdBy, at }) => {
			if (skipBefore !== undefined) {
				sql.run(
					`UPDATE subscriptions SET cursor = coalesce(
					 (SELECT min(e.cursor) - 1 FROM events e WHERE e.cursor > subscriptions.cursor AND e.at >= ?),
					 (SELECT max(e.cursor) FROM events e WHERE e.cursor > subscriptions.cursor), cursor) WHERE key = ?`,
					skipBefore,
					key,
				);
			}
			const row = sql.get(
				`INSERT INTO subscriptions (key, filter, epoch, cursor, created_by, used_at)
				 VALUES (?, ?, 1, CASE WHEN ? THEN 0 ELSE coalesce((SELECT max(cursor) FROM events), 0) END, ?, ?)
				 ON CONFLICT (key) DO UPDATE SET epoch = epoch + 1, filter = excluded.filter, used_at = excluded.used_at
				 RETURNING epoch, cursor`,
				key,
				filter,
				fromStart ? 1 : 0,
				createdBy,
				at,
			)!;
			ends.doubt();
			return { epoch: row['epoch'] as number, cursor: row['cursor'] as number };
		},

		ackSubscription: ({ key, epoch, cursor, at }) =>
			sql.run(
				'UPDATE subscriptions SET cursor = max(cursor, ?), used_at = ? WHERE key = ? AND epoch = ?',
				cursor,
				at,
				key,
				epoch,
			),

		dropSubscription: ({ key }) => {
			ends.doubt();
			return sql.run('DELETE FROM subscriptions WHERE key = ?', key);
		},

		purge: purgeOn(sql, ends).purge,

		setMeta: ({ key, value }) =>
			sql.run('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)', key, value),
	};

	/** Puts a submit on record; false when the same one is still there. */
	function fresh(
		jobId: string,
		{ scope, hash, at, until }: Required<InsertJob>['dedupe'],
	): boolean {
		return sql.run(
			`INSERT INTO duplicates (scope, hash, job_id, until) VALUES (?,?,?,?)
			 ON CONFLICT (scope, hash) DO UPDATE SET job_id = excluded.job_id, until = excluded.until WHERE until <= ?`,
			scope,
			hash,
			jobId,
			until,
			at,
		);
	}

	/** Marks the job that is repeated; false when `only` forbids it. A job forgotten meanwhile is an obstacle only then. */
	function repeated(job: InsertJob['job'], retryOf: string, only: InsertJob['only']): boolean {
		const guard = { dead: 'AND dead IS NOT NULL', unretried: 'AND retried_as IS NULL' };
		const marked = sql.run(
			`UPDATE jobs SET dead = NULL, retried_as = ?, timeline = timeline || ',' || json_array(?, state, ?, ?, NULL)
			 WHERE id = ? AND ended_at IS NOT NULL ${only ? guard[only] : ''}`,
			job.id,
			job.createdAt,
			`retried as ${job.id}`,
			job.createdBy,
			retryOf,
		);
		return marked || only === undefined;
	}

	function settleAttempt(settle: Deeds['settle']['in']): boolean {
		const { jobId, number, at, next, startedAt } = settle;
		const going = 'cause' in next ? undefined : next;
		const ended = 'cause' in next ? next : undefined;
		const { stdout = 0, stderr = 0 } = settle.outputLength ?? {};
		const ending = moveLine(at, next.to, settle.reason, settle.by, number);
		const settled = sql.run(
			`UPDATE jobs SET was = state, state = ?, cause = ?, error = ?, dead = ?, started_at = coalesce(started_at, ?), ended_at = ?,
			 rank = coalesce(?, rank), ready_at = coalesce(?, ready_at), due_at = ?, bars = coalesce(?, bars),
			 progress = CASE WHEN ? THEN 100 ELSE progress END, tries = tries + ?, losses = losses + ?,
			 accepted_at = coalesce(accepted_at, ?), settled_at = ?, outcome = ?, outcome_cause = ?, result = ?,
			 stdout_length = ?, stderr_length = ?, output_done = ? AND stdout_have >= ? AND stderr_have >= ?,
			 timeline = timeline || ? WHERE id = ? AND epoch = ? AND state = ?`,
			next.to,
			ended?.cause ?? going?.waitsFor ?? null,
			ended?.error ?? null,
			ended?.dead ?? null,
			startedAt ?? null,
			ended ? at : null,
			going?.rank ?? null,
			going?.readyAt ?? null,
			going?.dueAt ?? null,
			settle.bars ?? null,
			next.to === 'completed' ? 1 : 0,
			settle.countTry ? 1 : 0,
			settle.countLoss ? 1 : 0,
			startedAt ?? null,
			at,
			settle.outcome,
			settle.cause,
			settle.result,
			settle.outputLength?.stdout ?? null,
			settle.outputLength?.stderr ?? null,
			ended && (settle.outputProved || stdout + stderr === 0) ? 1 : 0,
			stdout,
			stderr,
			startedAt === undefined
				? ending
				: moveLine(startedAt, 'running', 'accepted', 'robot', number) + ending,
			jobId,
			settle.epoch,
			settle.from,
		);
		if (settled && settle.affinity !== undefined) noteSuccess(sql, jobId, settle.affinity, at);
		if (settled && settle.unstarted) forgetStart(sql, settle.epoch);
		if (settled && ended) ends.note(jobId);
		return settled;
	}

	function record({ at, type, subject, data }: Omit<StoredEvent, 'cursor'>): void {
		sql.run(
			'INSERT INTO events (at, type, subject, data) VALUES (?,?,?,?)',
			at,
			type,
			subject,
			data,
		);
	}
}

/** In the words of an index: otherwise SQLite would look at every job there is. */
const waitsBetweenTries = `${isDue} AND state = 'pending' AND due_at <= ready_at AND attempt > 0`;

/** Its batch, if it has one, was let go. */
const isLetGo = 'AND shut IS NOT 1';

/** Where an attempt may lie: the last one in its job's row, the others in their own. */
const attemptHomes = [
	{ table: 'jobs', id: 'id', of: 'attempt' },
	{ table: 'attempts', id: 'job_id', of: 'number' },
] as const;

interface AttemptOutput extends OutputLengths {
	number: number;
	outcome: string | null;
	stdout_length: number | null;
	stderr_length: number | null;
}

const attemptColumns = `number, epoch, token, robot_id, client, assigned_at, accepted_at, settled_at, outcome, outcome_cause,
	stdout_have, stderr_have, stdout_length, stderr_length, result, late_result`;

/** Kept for one attempt, at most. */
const maxHealthEntries = 20;

/** What a job's row forgets about the previous attempt. */
const freshAttempt = `, progress = 0, message = NULL, accepted_at = NULL, settled_at = NULL, outcome = NULL,
	outcome_cause = NULL, stdout_have = 0, stderr_have = 0, stdout_length = NULL, stderr_length = NULL, result = NULL,
	late_result = NULL`;

const selectAsked = `SELECT kind, spec, variables, policy, tries, losses, created_at AS createdAt, started_at AS startedAt, parent_id AS parentId
	FROM jobs JOIN requests ON job_id = id WHERE id = ?`;

/** The fields that are present, as columns to set. */
function named(change: object): { columns: string; values: SQLInputValue[] } {
	const given = Object.entries(change).filter(([, value]) => value !== undefined);
	return {
		columns: given.map(([name]) => `${snake(name)} = ?`).join(', '),
		values: given.map(([, value]) => value as SQLInputValue),
	};
}
