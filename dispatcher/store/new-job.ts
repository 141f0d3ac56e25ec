/** How a job comes into the tables, alone or as one of many children. */
import { noteStart } from './gates';
import { noteTurn } from './placement';
import type { Statements } from './statements';
import { assignedLine, submittedLine } from './timeline';
import type { Deeds, Earlier, NewAttempt, NewJob, StoredJob } from './store';

/** Writes a job, with its first attempt when a robot is free for it. */
export function writeJob(sql: Statements, job: NewJob, attempt: NewAttempt | undefined): void {
	const first = submittedLine(attempt ? 'queued' : job.state);
	sql.run(
		`INSERT INTO jobs (id, kind, state, lane, share_key, rank, priority, created_at, ready_at, due_at, parent_id, cell, children,
		 timeline, attempt, epoch, token, robot_id, client, assigned_at, affinity, batch, shut, needs)
		 VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		job.id,
		job.kind,
		attempt ? 'dispatched' : job.state,
		job.lane,
		job.shareKey,
		job.rank,
		job.priority,
		job.createdAt,
		job.readyAt,
		job.dueAt,
		job.parentId,
		job.cell,
		job.children,
		attempt ? first + assignedLine(attempt) : first,
		attempt?.number ?? 0,
		attempt?.epoch ?? 0,
		attempt?.token ?? null,
		attempt?.robotId ?? null,
		attempt?.client ?? null,
		attempt?.at ?? null,
		job.affinity ?? null,
		job.batch ?? null,
		job.shut ?? null,
		job.needs,
	);
	if (attempt) {
		noteTurn(sql, attempt);
		noteStart(sql, attempt);
	}
	sql.run(
		`INSERT INTO requests (job_id, created_by, retry_of, spec, variables, target, policy)
		 VALUES (?,?,?,?,?,?,?)`,
		job.id,
		job.createdBy,
		job.retryOf,
		job.spec,
		job.variables,
		job.target,
		job.policy,
	);
}

/** The job that has the key already. */
export function earlierJob(
	sql: Statements,
	{ scope, key, hash }: NonNullable<Deeds['insertJob']['in']['idempotency']>,
): Earlier | null {
	const earlier = sql.get(
		`SELECT i.job_id, i.hash, coalesce(j.state, 'completed') AS state
		 FROM idempotency i LEFT JOIN jobs j ON j.id = i.job_id WHERE i.scope = ? AND i.key = ?`,
		scope,
		key,
	);
	if (!earlier) return null;
	return {
		duplicateOf: earlier['job_id'] as string,
		sameRequest: earlier['hash'] === hash,
		state: earlier['state'] as StoredJob['state'],
	};
}
