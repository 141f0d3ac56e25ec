/**
 * The store on `node:sqlite`, synchronous: one connection, one writer, nothing awaited between begin
 * and commit. It runs in a thread of its own (thread.ts), because a sync to disk stops whoever waits.
 *
 * `locking_mode=EXCLUSIVE` is the ownership of the data folder: an OS lock that dies with the
 * process, taken before the port, so a second service is refused and a killed one leaves nothing.
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { Problem } from '../../protocol';
import { streams } from '../../protocol/frames';
import { migrations } from './migrations';
import type {
	Deed,
	DeedAnswer,
	Deeds,
	DeedName,
	Head,
	ReadName,
	Reads,
	StoredAttempt,
	StoredEvent,
	StoredJob,
	StoredKey,
	StoredMove,
	StoredRobot,
	StoredSchedule,
	StoredSubscription,
	StoredToken,
	StoredWait,
} from './store';

type Row = Record<string, SQLInputValue>;

/** SQLite versions in which checkpointing can lose pages; 3.52.0 was withdrawn. */
export function sqliteIsSafe(version: string): boolean {
	const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
	if (major !== 3 || minor > 52) return major >= 3;
	return minor === 51 && patch >= 3;
}

export class SqliteStore {
	readonly term: number;
	readonly #db: DatabaseSync;
	readonly #statements = new Map<string, StatementSync>();

	constructor(file: string) {
		this.#db = new DatabaseSync(file);
		try {
			this.#db.exec('PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE');
			this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
			this.#db.exec('PRAGMA wal_autocheckpoint = 8000; PRAGMA cache_size = -32768');
			this.#db.exec('BEGIN IMMEDIATE; COMMIT');
			this.#migrate();
			this.term = this.#nextTerm();
		} catch (error) {
			this.#db.close();
			throw error;
		}
	}

	/** All deeds in one transaction, on disk when this returns. */
	commit(deeds: readonly Deed[]): DeedAnswer[] {
		this.#db.exec('BEGIN IMMEDIATE');
		try {
			const answers = deeds.map((deed) => this.#deed(deed));
			this.#db.exec('COMMIT');
			return answers;
		} catch (error) {
			if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
			throw error;
		}
	}

	read<N extends ReadName>(name: N, args: Reads[N]['in']): Reads[N]['out'] {
		return (this.#reads[name] as (args: Reads[N]['in']) => Reads[N]['out'])(args);
	}

	close(): void {
		if (this.#db.isOpen) this.#db.close();
	}

	#migrate(): void {
		const version = Number(this.#get('PRAGMA user_version')!['user_version']);
		if (version > migrations.length) {
			throw new Problem('store-newer', { theirs: version, ours: migrations.length });
		}
		for (const [i, step] of migrations.entries()) {
			if (i < version) continue;
			this.#db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
		}
	}

	#nextTerm(): number {
		const row = this.#get("SELECT value FROM meta WHERE key = 'term'");
		const term = Number(row?.['value'] ?? 0) + 1;
		this.#run("INSERT OR REPLACE INTO meta (key, value) VALUES ('term', ?)", String(term));
		return term;
	}

	#deed(deed: Deed): DeedAnswer {
		const perform = this.#deeds[deed.do] as (input: Deeds[DeedName]['in']) => DeedAnswer;
		return perform(deed.with);
	}

	readonly #deeds: { [N in DeedName]: (input: Deeds[N]['in']) => Deeds[N]['out'] } = {
		insertJob: ({ job, attempt, idempotency }) => {
			if (idempotency) {
				const taken = this.#run(
					'INSERT OR IGNORE INTO idempotency (scope, key, hash, job_id) VALUES (?,?,?,?)',
					idempotency.scope,
					idempotency.key,
					idempotency.hash,
					job.id,
				);
				if (!taken) {
					const earlier = this.#get(
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
			this.#run(
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
			this.#run(
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
			this.#move(job.id, 0, job.createdAt, null, first, 'submitted', job.createdBy, null);
			if (attempt) {
				this.#insertAttempt(job.id, attempt);
				this.#move(
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
			const row = this.#get(
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
			this.#insertAttempt(jobId, attempt);
			const n = (row['moves'] as number) - 1;
			this.#move(
				jobId,
				n,
				attempt.at,
				'queued',
				'dispatched',
				'assigned',
				'dispatcher',
				attempt.number,
			);
			const asked = this.#get(
				'SELECT spec, variables, policy FROM requests WHERE job_id = ?',
				jobId,
			);
			return { ...row, ...asked } as unknown as Deeds['assign']['out'];
		},

		start: ({ jobId, epoch, at, by }) => {
			const row = this.#get(
				`UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?), moves = moves + 1
				 WHERE id = ? AND epoch = ? AND state = 'dispatched' RETURNING attempt, moves`,
				at,
				jobId,
				epoch,
			);
			if (!row) return false;
			const number = row['attempt'] as number;
			this.#run(
				"UPDATE attempts SET state = 'running', started_at = ? WHERE job_id = ? AND number = ?",
				at,
				jobId,
				number,
			);
			this.#move(
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

		settle: (settle) => this.#settle(settle),

		lateResult: ({ jobId, number, epoch, token, robotId, result, outputLength }) => {
			const attempt = this.#get(
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
			this.#run(
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
			const from = this.#get('SELECT state, moves FROM jobs WHERE id = ?', move.jobId);
			if (!from || !move.from.includes(from['state'] as StoredJob['state'])) return false;
			const ended = move.to === 'pending' || move.to === 'queued' ? null : move.at;
			this.#run(
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
			this.#move(
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
			this.#run(
				`UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?)
				 WHERE id = ? AND epoch = ? AND state IN ('dispatched','running')`,
				at,
				jobId,
				epoch,
			),

		progress: ({ jobId, epoch, progress, message }) =>
			this.#run(
				`UPDATE jobs SET progress = coalesce(?, progress), message = coalesce(?, message)
				 WHERE id = ? AND epoch = ? AND state = 'running'`,
				progress,
				message,
				jobId,
				epoch,
			),

		appendOutput: ({ jobId, epoch, robotId, stream, offset, data }) => {
			const row = this.#get(
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
				this.#run(
					'INSERT INTO output (job_id, number, stream, start, data) VALUES (?,?,?,?,?)',
					jobId,
					number,
					streams.indexOf(stream),
					offset,
					data,
				);
				have += data.length;
				this.#run(
					`UPDATE attempts SET ${stream}_have = ? WHERE job_id = ? AND number = ?`,
					have,
					jobId,
					number,
				);
			}
			const complete = row['state'] === 'ended' && this.#completeOutput(jobId, number);
			return { have, complete };
		},

		putRobot: (robot) => {
			this.#put('robots', robot as unknown as Row);
			return true;
		},

		useToken: ({ id, hash, at, publicKey }) => {
			const token = this.#get(
				'SELECT labels FROM tokens WHERE id = ? AND hash = ? AND revoked_at IS NULL',
				id,
				hash,
			);
			if (!token) return null;
			const labels = token['labels'] as string;
			// The same token with the same key is the same robot: the answer got lost, nothing is used up.
			const known = this.#get(
				'SELECT id FROM robots WHERE public_key = ? AND token_id = ? AND removed_at IS NULL',
				publicKey,
				id,
			);
			if (known) return { labels, robotId: known['id'] as string };
			const used = this.#run(
				'UPDATE tokens SET used = used + 1 WHERE id = ? AND used < uses AND expires_at > ?',
				id,
				at,
			);
			return used ? { labels, robotId: null } : null;
		},

		robotsSeen: ({ ids, at }) => {
			for (const id of ids) this.#run('UPDATE robots SET last_seen_at = ? WHERE id = ?', at, id);
			return true;
		},

		putKey: (key) => {
			this.#put('keys', key as unknown as Row);
			return true;
		},

		putToken: (token) => {
			this.#put('tokens', token as unknown as Row);
			return true;
		},

		revokeToken: ({ id, at }) =>
			this.#run('UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?', at, id),

		insertWait: (wait) => {
			this.#put('waits', wait as unknown as Row);
			return true;
		},

		moveWait: ({ id, from, ...change }) => {
			const columns = Object.entries(change).filter(([, value]) => value !== undefined);
			return this.#run(
				`UPDATE waits SET ${columns.map(([name]) => `${snake(name)} = ?`).join(', ')}
				 WHERE id = ? AND state IN (${from.map((state) => `'${state}'`).join(',')})`,
				...columns.map(([, value]) => value as SQLInputValue),
				id,
			);
		},

		putSchedule: (schedule) => {
			this.#put('schedules', schedule as unknown as Row);
			return true;
		},

		removeSchedule: ({ id }) => this.#run('DELETE FROM schedules WHERE id = ?', id),

		fire: ({ scheduleId, origin, plannedAt, at, state, nextRunAt, event }) => {
			const fresh = this.#run(
				'INSERT OR IGNORE INTO occurrences (schedule_id, origin, planned_at, at, state) VALUES (?,?,?,?,?)',
				scheduleId,
				origin,
				plannedAt,
				at,
				state,
			);
			this.#run(
				`UPDATE schedules SET next_run_at = ?, last_run_at = CASE WHEN ? THEN ? ELSE last_run_at END WHERE id = ?`,
				nextRunAt,
				fresh && state === 'fired' ? 1 : 0,
				plannedAt,
				scheduleId,
			);
			if (fresh && event) {
				this.#run(
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
			const row = this.#get(
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
			this.#run(
				'UPDATE subscriptions SET cursor = max(cursor, ?) WHERE key = ? AND epoch = ?',
				cursor,
				key,
				epoch,
			),

		setMeta: ({ key, value }) =>
			this.#run('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)', key, value),
	};

	readonly #reads: { [N in ReadName]: (args: Reads[N]['in']) => Reads[N]['out'] } = {
		heads: ({ lane, limit }) =>
			this.#all<Head>(
				`SELECT id, rank, bars, attempt FROM jobs WHERE state = 'queued' AND lane = ? ORDER BY rank, id LIMIT ?`,
				lane,
				limit,
			),

		// Walks from lane to lane on the index: the cost is the number of lanes, not of jobs.
		lanes: () => {
			const found: string[] = [];
			for (let last = ''; ;) {
				const row = this.#get(
					`SELECT lane FROM jobs WHERE state = 'queued' AND lane > ? ORDER BY lane LIMIT 1`,
					last,
				);
				if (!row) return found;
				last = row['lane'] as string;
				found.push(last);
			}
		},

		due: ({ at, limit }) => {
			const jobs = this.#all<StoredJob>(
				`${selectJob} WHERE due_at <= ? AND due_at IS NOT NULL AND state IN ('pending','queued') ORDER BY due_at LIMIT ?`,
				at,
				limit,
			);
			const next = this.#get(
				`SELECT min(due_at) AS at FROM jobs WHERE due_at > ? AND due_at IS NOT NULL AND state IN ('pending','queued')`,
				at,
			);
			return { jobs, nextAt: (next?.['at'] as number | null) ?? null };
		},

		job: ({ id }) => this.#all<StoredJob>(`${selectJob} WHERE id = ?`, id)[0],

		jobsById: ({ ids }) =>
			ids.flatMap((id) => this.#all<StoredJob>(`${selectJob} WHERE id = ?`, id)),

		jobs: ({ state, kind, robotId, limit, before }) => {
			const where: string[] = [];
			const values: SQLInputValue[] = [];
			// The partial indexes are found only by their own words.
			if (state === 'dispatched' || state === 'running') where.push(isActive);
			else if (state === 'pending') where.push('due_at IS NOT NULL');
			else if (state !== undefined && state !== 'queued') where.push(isEnded);
			for (const [column, value] of [
				['state =', state],
				['kind =', kind],
				['robot_id =', robotId],
				['id <', before],
			] as const) {
				if (value === undefined) continue;
				where.push(`${column} ?`);
				values.push(value);
			}
			return this.#all<StoredJob>(
				`${selectJob} ${where.length > 0 ? `WHERE ${where.join(' AND ')}` : ''} ORDER BY id DESC LIMIT ?`,
				...values,
				limit,
			);
		},

		held: () => {
			const attempts = this.#all<StoredAttempt>(`${selectAttempt} WHERE hold = 1`);
			return attempts.flatMap((attempt) => {
				const job = this.#reads.job({ id: attempt.jobId });
				return job ? [{ job, attempt }] : [];
			});
		},

		attempt: ({ jobId, epoch }) =>
			this.#all<StoredAttempt>(`${selectAttempt} WHERE job_id = ? AND epoch = ?`, jobId, epoch)[0],

		attempts: ({ jobId }) =>
			this.#all<StoredAttempt>(`${selectAttempt} WHERE job_id = ? ORDER BY number`, jobId),

		timeline: ({ jobId }) =>
			this.#all<StoredMove>(
				`SELECT at, from_state AS "from", to_state AS "to", reason, by, attempt FROM moves WHERE job_id = ? ORDER BY n`,
				jobId,
			),

		output: ({ jobId, number, stream, from, maxBytes }) => {
			const pieces: Uint8Array[] = [];
			let at = from;
			let bytes = 0;
			const rows = this.#statement(
				`SELECT start, data FROM output WHERE job_id = ? AND number = ? AND stream = ?
				 AND start >= coalesce((SELECT max(start) FROM output WHERE job_id = ? AND number = ? AND stream = ? AND start <= ?), 0)
				 ORDER BY start`,
			).iterate(
				jobId,
				number,
				streams.indexOf(stream),
				jobId,
				number,
				streams.indexOf(stream),
				from,
			);
			for (const row of rows) {
				const start = row['start'] as number;
				const data = (row['data'] as Uint8Array).subarray(
					at - start,
					at - start + maxBytes - bytes,
				);
				if (data.length === 0) continue;
				pieces.push(data);
				at += data.length;
				bytes += data.length;
				if (bytes >= maxBytes) break;
			}
			// A copy of its own: it travels to another thread by transfer.
			return new Uint8Array(Buffer.concat(pieces));
		},

		// Each part reads an index that holds just its rows.
		counts: () =>
			this.#all(
				`SELECT state, priority, count(*) AS count FROM jobs WHERE state = 'pending' AND due_at IS NOT NULL GROUP BY priority
				 UNION ALL SELECT state, priority, count(*) FROM jobs WHERE state = 'queued' GROUP BY priority
				 UNION ALL SELECT state, priority, count(*) FROM jobs WHERE ${isActive} AND state IN ('dispatched','running') GROUP BY state, priority
				 UNION ALL SELECT state, 'normal', count(*) FROM jobs WHERE ${isEnded} GROUP BY state`,
			),

		robots: () => this.#all<StoredRobot>(selectAll('robots')),
		keys: () => this.#all<StoredKey>(selectAll('keys')),
		tokens: () => this.#all<StoredToken>(selectAll('tokens')),
		wait: ({ id }) => this.#all<StoredWait>(`${selectAll('waits')} WHERE id = ?`, id)[0],
		liveWaits: () => this.#all<StoredWait>(`${selectAll('waits')} WHERE state IN ('open','due')`),
		schedules: () => this.#all<StoredSchedule>(selectAll('schedules')),
		subscription: ({ key }) =>
			this.#all<StoredSubscription>(`${selectAll('subscriptions')} WHERE key = ?`, key)[0],
		events: ({ subject, after, limit }) =>
			this.#all<StoredEvent>(
				'SELECT cursor, at, type, subject, data FROM events WHERE subject = ? AND cursor > ? ORDER BY cursor LIMIT ?',
				subject,
				after,
				limit,
			),
		meta: ({ key }) =>
			this.#get('SELECT value FROM meta WHERE key = ?', key)?.['value'] as string | undefined,
	};

	#settle(settle: Deeds['settle']['in']): boolean {
		const { jobId, at, next, startedAt } = settle;
		const going = 'cause' in next ? undefined : next;
		const ended = 'cause' in next ? next : undefined;
		const { stdout = 0, stderr = 0 } = settle.outputLength ?? {};
		const silent = stdout === 0 && stderr === 0;
		const row = this.#get(
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
		this.#run(
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
		if (ended && !silent) this.#completeOutput(jobId, number);
		const n = (row['moves'] as number) - 1;
		if (startedAt === undefined) {
			this.#move(jobId, n, at, settle.from, next.to, settle.reason, settle.by, number);
			return true;
		}
		this.#run(
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
	#completeOutput(jobId: string, number: number): boolean {
		return this.#run(
			`UPDATE jobs SET output_done = 1 WHERE id = ? AND attempt = ? AND output_done = 0 AND ended_at IS NOT NULL
			 AND EXISTS (SELECT 1 FROM attempts WHERE job_id = ? AND number = ?
			  AND stdout_have >= coalesce(stdout_length, 0) AND stderr_have >= coalesce(stderr_length, 0))`,
			jobId,
			number,
			jobId,
			number,
		);
	}

	#insertAttempt(jobId: string, attempt: Deeds['assign']['in']['attempt']): void {
		this.#run(
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

	#move(
		jobId: string,
		n: number,
		at: number,
		from: string | null,
		to: string,
		reason: string,
		by: string,
		attempt: number | null,
	): void {
		this.#run(
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

	/** Writes a whole row by its camelCase names; the small tables only. */
	#put(table: string, row: Row): void {
		const names = Object.keys(row);
		this.#run(
			`INSERT OR REPLACE INTO ${table} (${names.map(snake).join(', ')}) VALUES (${names.map(() => '?').join(',')})`,
			...Object.values(row),
		);
	}

	#statement(sql: string): StatementSync {
		let statement = this.#statements.get(sql);
		if (!statement) {
			statement = this.#db.prepare(sql);
			this.#statements.set(sql, statement);
		}
		return statement;
	}

	/** Whether a row was changed. */
	#run(sql: string, ...values: SQLInputValue[]): boolean {
		return this.#statement(sql).run(...values).changes !== 0;
	}

	#get(sql: string, ...values: SQLInputValue[]): Row | undefined {
		return this.#statement(sql).get(...values) as Row | undefined;
	}

	#all<T>(sql: string, ...values: SQLInputValue[]): T[] {
		return this.#statement(sql).all(...values) as T[];
	}
}

const isEnded = "state IN ('completed','failed','timeout','cancelled')";
const isActive = 'id IN (SELECT job_id FROM attempts WHERE hold = 1)';

function snake(name: string): string {
	return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Columns under the names the rest of the house uses. */
const camel = (columns: string) =>
	columns
		.trim()
		.split(/\s+/)
		.map((name) => {
			const alias = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
			return alias === name ? name : `${name} AS ${alias}`;
		})
		.join(', ');

const columns = {
	robots:
		'id name public_key token_id locked_labels labels capabilities slots info agent_version journal_id paused created_at last_seen_at removed_at',
	keys: 'id hash name scopes created_at expires_at revoked_at last_used_at',
	tokens: 'id hash uses used labels created_at expires_at revoked_at',
	waits:
		'id job_ids until deadline_at resume_url execution_id node_id nonce state timed_out tries next_try_at last_error created_by created_at ended_at',
	schedules:
		'id name cron timezone enabled catch_up_ms next_run_at last_run_at created_by created_at',
	subscriptions: 'key filter epoch cursor created_by',
} as const;

function selectAll(table: keyof typeof columns): string {
	return `SELECT ${camel(columns[table])} FROM ${table}`;
}

const selectJob = `SELECT ${camel(
	`id kind state cause lane rank priority attempt epoch robot_id tries losses created_at started_at ended_at due_at
	 ready_at cancel_requested_at progress message bars error output_done created_by retry_of parent_id spec variables
	 target policy`,
)},
 (SELECT result FROM attempts a WHERE a.job_id = id AND a.number = attempt) AS result,
 (SELECT stdout_have FROM attempts a WHERE a.job_id = id AND a.number = attempt) AS stdoutHave,
 (SELECT stderr_have FROM attempts a WHERE a.job_id = id AND a.number = attempt) AS stderrHave
 FROM jobs JOIN requests ON job_id = id`;

const selectAttempt = `SELECT ${camel(
	`job_id number epoch token robot_id state hold outcome cause assigned_at started_at ended_at
	 stdout_have stderr_have stdout_length stderr_length result late_result`,
)} FROM attempts`;
