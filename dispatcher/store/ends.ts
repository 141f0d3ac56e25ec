/**
 * The event that a job has ended, written in the commit that ends it. A row for every job would double what the end of
 * a quick one costs, so they are written only while somebody follows them.
 */
import type { Statements } from './statements';

export class Ends {
	readonly #sql: Statements;
	/** Undefined = to be looked up. */
	#followed: boolean | undefined;

	constructor(sql: Statements) {
		this.#sql = sql;
	}

	/** The followers may have changed, or a change of them was rolled back. */
	doubt(): void {
		this.#followed = undefined;
	}

	/** Call once the job's row says how it ended. */
	note(jobId: string): void {
		this.#followed ??= this.#sql.get(anyFollower) !== undefined;
		if (this.#followed) this.#sql.run(insertEnd, jobId);
	}
}

const anyFollower = `SELECT 1 FROM subscriptions WHERE filter LIKE '%"job.ended"%' LIMIT 1`;

/** As `JobEnded` of the protocol. */
const insertEnd = `INSERT INTO events (at, type, subject, data)
	SELECT ended_at, 'job.ended', 'job.ended', json_object(
	 'jobId', id, 'kind', kind, 'state', state, 'cause', cause,
	 'robotId', robot_id, 'robot', (SELECT name FROM robots r WHERE r.id = robot_id),
	 'attempt', attempt, 'parentId', parent_id, 'parts', children,
	 'scheduleId', CASE WHEN created_by LIKE 'schedule:%' THEN substr(created_by, 10) END,
	 'shareKey', nullif(share_key, ''), 'dead', json(CASE WHEN dead IS NULL THEN 'false' ELSE 'true' END),
	 'createdBy', created_by, 'createdAt', created_at, 'startedAt', started_at, 'endedAt', ended_at)
	FROM jobs JOIN requests ON job_id = id WHERE id = ?`;
