/**
 * The deeds in SQLite. Each is dumb and guarded: it expects a state and an epoch in its WHERE, and
 * answers whether a row was there. All of a commit run in one transaction (sqlite.ts).
 */
import type { SQLInputValue } from 'node:sqlite';
import { streams } from '../../protocol/frames';
import { type Row, snake, type Statements } from './statements';
import type { DeedName, Deeds, StoredJob } from './store';

export type DeedsOfStore = { [N in DeedName]: (input: Deeds[N]['in']) => Deeds[N]['out'] };

export function deedsOn(sql: Statements): DeedsOfStore {
	return {
		insertJob: ({ job, attempt, idempotency }) => {
			if (idempotency) {
				const taken = sql.run(
					'INSERT OR IGNORE INTO idempotency (scope, key, hash, job_id) VALUES (?,?,?,?)',
					idempotency.scope,
					idempotency.key,
					idempotency.hash,
					job.id,
				);
				if (!taken) {
					const earlier = sql.get(
						`SELECT i.job_id, i.hash, coalesce(j.state, 'completed') AS state
						 FROM idempotency i LEFT JOIN jobs j ON j.id = i.job_id WHERE i.scope = ? AND i.key = ?`,
						idempotency.scope,
						idempotency.key,
					)!;
					return {
						duplicateOf: earlier['job_id'] as string,
						sameRequest: earlier['hash'] === idempotency.hash,
						state: earlier['state'] as StoredJob['state'],
					};
				}
			}
			sql.run(
				`INSERT INTO jobs (id, kind, state, lane, rank, priority, created_at, ready_at, due_at, attempt, epoch, robot_id, moves)
				 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
				job.id,
				job.kind,
				attempt ? 'dispatched' : job.state,
				job.lane,
				job.rank,
				job.priority,
				job.createdAt,
				job.readyAt,
				job.dueAt,
				attempt?.number ?? 0,
				attempt?.epoch ?? 0,
				attempt?.robotId ?? null,
				attempt ? 2 : 1,
			);
			sql.run(
				`INSERT INTO requests (job_id, created_by, retry_of, parent_id, spec, variables, target, policy)
				 VALUES (?,?,?,?,?,?,?,?)`,
				job.id,
				job.createdBy,
				job.retryOf,
				job.parentId,
				job.spec,
				job.variables,
				job.target,
				job.policy,
			);
			const first = attempt ? 'queued' : job.state;
			writeMove(job.id, 0, job.createdAt, null, first, 'submitted', job.createdBy, null);
			if (attempt) {
				insertAttempt(job.id, attempt);
				writeMove(
					job.id,
					1,
					attempt.at,
					'queued',
					'dispatched',
					'assigned',
					'dispatcher',
					attempt.number,
				);
			}
			return null;
		},

		assign: ({ jobId, attempt }) => {
			const row = sql.get(
				`UPDATE jobs SET state = 'dispatched', attempt = ?, epoch = ?, robot_id = ?, progress = 0, message = NULL,
				 moves = moves + 1 WHERE id = ? AND state = 'queued' AND attempt = ?
				 RETURNING kind, tries, losses, moves, created_at AS createdAt`,
				attempt.number,
				attempt.epoch,
				attempt.robotId,
				jobId,
				attempt.number - 1,
			);
			if (!row) return null;
			insertAttempt(jobId, attempt);
			const n = (row['moves'] as number) - 1;
			writeMove(
				jobId,
				n,
				attempt.at,
				'queued',
				'dispatched',
				'assigned',
				'dispatcher',
				attempt.number,
			);
			const asked = sql.get('SELECT spec, variables, policy FROM requests WHERE job_id = ?', jobId);
			return { ...row, ...asked } as unknown as Deeds['assign']['out'];
		},

		start: ({ jobId, epoch, at, by }) => {
			const row = sql.get(
				`UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?), moves = moves + 1
				 WHERE id = ? AND epoch = ? AND state = 'dispatched' RETURNING attempt, moves`,
				at,
				jobId,
				epoch,
			);
			if (!row) return false;
			const number = row['attempt'] as number;
			sql.run(
				"UPDATE attempts SET state = 'running', started_at = ? WHERE job_id = ? AND number = ?",
				at,
				jobId,
				number,
			);
			writeMove(
				jobId,
				(row['moves'] as number) - 1,
				at,
				'dispatched',
				'running',
				'accepted',
				by,
				number,
			);
			return true;
		},

		settle: (settle) => settleAttempt(settle),

		lateResult: ({ jobId, number, epoch, token, robotId, result, outputLength }) => {
			const attempt = sql.get(
				`SELECT result, late_result FROM attempts WHERE job_id = ? AND number = ? AND epoch = ? AND token = ?
				 AND robot_id = ? AND state = 'ended'`,
				jobId,
				number,
				epoch,
				token,
				robotId,
			);
			if (!attempt) return 'unknown';
			if (attempt['result'] !== null || attempt['late_result'] !== null) return 'again';
			sql.run(
				`UPDATE attempts SET late_result = ?, stdout_length = ?, stderr_length = ?
				 WHERE job_id = ? AND number = ?`,
				result,
				outputLength.stdout,
				outputLength.stderr,
				jobId,
				number,
			);
			return 'kept';
		},

		moveJob: (move) => {
			const from = sql.get('SELECT state, moves FROM jobs WHERE id = ?', move.jobId);
			if (!from || !move.from.includes(from['state'] as StoredJob['state'])) return false;
			const ended = move.to === 'pending' || move.to === 'queued' ? null : move.at;
			sql.run(
				`UPDATE jobs SET state = ?, cause = ?, ended_at = ?, rank = coalesce(?, rank), due_at = ?,
				 error = coalesce(?, error), cancel_requested_at = coalesce(cancel_requested_at, ?),
				 output_done = CASE WHEN ? IS NULL THEN output_done ELSE 1 END, moves = moves + 1 WHERE id = ?`,
				move.to,
				move.cause,
				ended,
				move.rank ?? null,
				move.dueAt ?? null,
				move.error ?? null,
				move.cancelRequestedAt ?? null,
				ended,
				move.jobId,
			);
			const n = from['moves'] as number;
			writeMove(
				move.jobId,
				n,
				move.at,
				from['state'] as string,
				move.to,
				move.reason,
				move.by,
				null,
			);
			return true;
		},

		requestCancel: ({ jobId, epoch, at }) =>
			sql.run(
				`UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?)
				 WHERE id = ? AND epoch = ? AND state IN ('dispatched','running')`,
				at,
				jobId,
				epoch,
			),

		progress: ({ jobId, epoch, progress, message }) =>
			sql.run(
				`UPDATE jobs SET progress = coalesce(?, progress), message = coalesce(?, message)
				 WHERE id = ? AND epoch = ? AND state = 'running'`,
				progress,
				message,
				jobId,
				epoch,
			),

		appendOutput: ({ jobId, epoch, robotId, stream, offset, data }) => {
			const row = sql.get(
				`SELECT a.number, a.${stream}_have AS have, a.state FROM attempts a
				 WHERE a.job_id = ? AND a.epoch = ? AND a.robot_id = ?`,
				jobId,
				epoch,
				robotId,
			);
			if (!row) return { have: -1, complete: false };
			const number = row['number'] as number;
			let have = row['have'] as number;
			if (offset === have && data.length > 0) {
				sql.run(
					'INSERT INTO output (job_id, number, stream, start, data) VALUES (?,?,?,?,?)',
					jobId,
					number,
					streams.indexOf(stream),
					offset,
					data,
				);
				have += data.length;
				sql.run(
					`UPDATE attempts SET ${stream}_have = ? WHERE job_id = ? AND number = ?`,
					have,
					jobId,
					number,
				);
			}
			const complete = row['state'] === 'ended' && completeOutput(jobId, number);
			return { have, complete };
		},

		putRobot: (robot) => {
			sql.put('robots', robot as unknown as Row);
			return true;
		},

		useToken: ({ id, hash, at, publicKey }) => {
			const token = sql.get(
				'SELECT labels FROM tokens WHERE id = ? AND hash = ? AND revoked_at IS NULL',
				id,
				hash,
			);
			if (!token) return null;
			const labels = token['labels'] as string;
			// The same token with the same key is the same robot: the answer got lost, nothing is used up.
			const known = sql.get(
				'SELECT id FROM robots WHERE public_key = ? AND token_id = ? AND removed_at IS NULL',
				publicKey,
				id,
			);
			if (known) return { labels, robotId: known['id'] as string };
			const used = sql.run(
				'UPDATE tokens SET used = used + 1 WHERE id = ? AND used < uses AND expires_at > ?',
				id,
				at,
			);
			return used ? { labels, robotId: null } : null;
		},

		robotsSeen: ({ ids, at }) => {
			for (const id of ids) sql.run('UPDATE robots SET last_seen_at = ? WHERE id = ?', at, id);
			return true;
		},

		putKey: (key) => {
			sql.put('keys', key as unknown as Row);
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
			const columns = Object.entries(change).filter(([, value]) => value !== undefined);
			return sql.run(
				`UPDATE waits SET ${columns.map(([name]) => `${snake(name)} = ?`).join(', ')}
				 WHERE id = ? AND state IN (${from.map((state) => `'${state}'`).join(',')})`,
				...columns.map(([, value]) => value as SQLInputValue),
				id,
			);
		},

		putSchedule: (schedule) => {
			sql.put('schedules', schedule as unknown as Row);
			return true;
		},

		removeSchedule: ({ id }) => sql.run('DELETE FROM schedules WHERE id = ?', id),

		fire: ({ scheduleId, origin, plannedAt, at, state, nextRunAt, event }) => {
			const fresh = sql.run(
				'INSERT OR IGNORE INTO occurrences (schedule_id, origin, planned_at, at, state) VALUES (?,?,?,?,?)',
				scheduleId,
				origin,
				plannedAt,
				at,
				state,
			);
			sql.run(
				`UPDATE schedules SET next_run_at = ?, last_run_at = CASE WHEN ? THEN ? ELSE last_run_at END WHERE id = ?`,
				nextRunAt,
				fresh && state === 'fired' ? 1 : 0,
				plannedAt,
				scheduleId,
			);
			if (fresh && event) {
				sql.run(
					'INSERT INTO events (at, type, subject, data) VALUES (?,?,?,?)',
					at,
					event.type,
					scheduleId,
					event.data,
				);
			}
			return fresh;
		},

		takeSubscription: ({ key, filter, subject, fromStart, createdBy }) => {
			const row = sql.get(
				`INSERT INTO subscriptions (key, filter, epoch, cursor, created_by)
				 VALUES (?, ?, 1, CASE WHEN ? THEN 0 ELSE coalesce((SELECT max(cursor) FROM events WHERE subject = ?), 0) END, ?)
				 ON CONFLICT (key) DO UPDATE SET epoch = epoch + 1, filter = excluded.filter
				 RETURNING epoch, cursor`,
				key,
				filter,
				fromStart ? 1 : 0,
				subject,
				createdBy,
			)!;
			return { epoch: row['epoch'] as number, cursor: row['cursor'] as number };
		},

		ackSubscription: ({ key, epoch, cursor }) =>
			sql.run(
				'UPDATE subscriptions SET cursor = max(cursor, ?) WHERE key = ? AND epoch = ?',
				cursor,
				key,
				epoch,
			),

		setMeta: ({ key, value }) =>
			sql.run('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)', key, value),
	};

	function settleAttempt(settle: Deeds['settle']['in']): boolean {
		const { jobId, at, next, startedAt } = settle;
		const going = 'cause' in next ? undefined : next;
		const ended = 'cause' in next ? next : undefined;
		const { stdout = 0, stderr = 0 } = settle.outputLength ?? {};
		const silent = stdout === 0 && stderr === 0;
		const row = sql.get(
			`UPDATE jobs SET state = ?, cause = ?, error = ?, started_at = coalesce(started_at, ?), ended_at = ?,
			 rank = coalesce(?, rank), ready_at = coalesce(?, ready_at), due_at = ?,
			 robot_id = CASE WHEN ? THEN NULL ELSE robot_id END, bars = coalesce(?, bars),
			 progress = CASE WHEN ? THEN 100 ELSE progress END, tries = tries + ?, losses = losses + ?, moves = moves + ?,
			 output_done = ? WHERE id = ? AND epoch = ? AND state = ? RETURNING attempt, moves`,
			next.to,
			ended?.cause ?? null,
			ended?.error ?? null,
			startedAt ?? null,
			ended ? at : null,
			going?.rank ?? null,
			going?.readyAt ?? null,
			going?.dueAt ?? null,
			going ? 1 : 0,
			settle.bars ?? null,
			next.to === 'completed' ? 1 : 0,
			settle.countTry ? 1 : 0,
			settle.countLoss ? 1 : 0,
			startedAt === undefined ? 1 : 2,
			ended && silent ? 1 : 0,
			jobId,
			settle.epoch,
			settle.from,
		);
		if (!row) return false;
		const number = row['attempt'] as number;
		sql.run(
			`UPDATE attempts SET state = 'ended', hold = 0, outcome = ?, cause = ?, started_at = coalesce(started_at, ?),
			 ended_at = ?, stdout_length = ?, stderr_length = ?, result = ? WHERE job_id = ? AND number = ?`,
			settle.outcome,
			settle.cause,
			startedAt ?? null,
			at,
			settle.outputLength?.stdout ?? null,
			settle.outputLength?.stderr ?? null,
			settle.result,
			jobId,
			number,
		);
		if (ended && !silent) completeOutput(jobId, number);
		const n = (row['moves'] as number) - 1;
		if (startedAt === undefined) {
			writeMove(jobId, n, at, settle.from, next.to, settle.reason, settle.by, number);
			return true;
		}
		sql.run(
			`INSERT INTO moves (job_id, n, at, from_state, to_state, reason, by, attempt)
			 VALUES (?1,?2,?3,'dispatched','running','accepted',?4,?5), (?1,?2+1,?6,'running',?7,?8,?4,?5)`,
			jobId,
			n - 1,
			startedAt,
			settle.by,
			number,
			at,
			next.to,
			settle.reason,
		);
		return true;
	}

	/** Marks a final job whose last attempt has all of its output. */
	function completeOutput(jobId: string, number: number): boolean {
		return sql.run(
			`UPDATE jobs SET output_done = 1 WHERE id = ? AND attempt = ? AND output_done = 0 AND ended_at IS NOT NULL
			 AND EXISTS (SELECT 1 FROM attempts WHERE job_id = ? AND number = ?
			  AND stdout_have >= coalesce(stdout_length, 0) AND stderr_have >= coalesce(stderr_length, 0))`,
			jobId,
			number,
			jobId,
			number,
		);
	}

	function insertAttempt(jobId: string, attempt: Deeds['assign']['in']['attempt']): void {
		sql.run(
			`INSERT INTO attempts (job_id, number, epoch, token, robot_id, state, hold, assigned_at)
			 VALUES (?,?,?,?,?,'dispatched',1,?)`,
			jobId,
			attempt.number,
			attempt.epoch,
			attempt.token,
			attempt.robotId,
			attempt.at,
		);
	}

	function writeMove(
		jobId: string,
		n: number,
		at: number,
		from: string | null,
		to: string,
		reason: string,
		by: string,
		attempt: number | null,
	): void {
		sql.run(
			'INSERT INTO moves (job_id, n, at, from_state, to_state, reason, by, attempt) VALUES (?,?,?,?,?,?,?,?)',
			jobId,
			n,
			at,
			from,
			to,
			reason,
			by,
			attempt,
		);
	}
}
