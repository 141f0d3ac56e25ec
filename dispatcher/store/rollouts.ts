/**
 * The deeds about rollouts in SQLite: which children were let go. core/rollout decides what to do from
 * counts taken here, in the transaction of whatever changed them, so that a service that dies at any
 * moment leaves a rollout either before a step or after it.
 */
import {
	batchText,
	eligible,
	nextStep,
	type Plan,
	type Progress,
	resumeStep,
	shutUntil,
	type Standing,
	type Step,
	stoppedText,
} from '../core/rollout';
import type { Patience } from '../core/patience';
import { rank } from '../core/rank';
import type { Statements } from './statements';
import type { Deeds, MovedChild, RolloutMove } from './store';
import { moveLine } from './timeline';

/** Writes down what was decided at the start of a parent, if there is anything to be remembered. */
export function noteFanOut(
	sql: Statements,
	{ parentId, skipped = [], plan }: Deeds['startParent']['in'],
): void {
	if (skipped.length === 0 && !plan) return;
	sql.run(
		"INSERT INTO fan_outs (parent_id, skipped, plan, state) VALUES (?, ?, ?, 'running')",
		parentId,
		JSON.stringify(skipped),
		plan ? JSON.stringify(plan) : null,
	);
}

export function skippedOf(sql: Statements, parentId: string): string[] {
	const row = sql.get('SELECT skipped FROM fan_outs WHERE parent_id = ?', parentId);
	return row ? (JSON.parse(row['skipped'] as string) as string[]) : [];
}

/** Takes the next step, if there is one to take. */
export function advance(sql: Statements, parentId: string, at: number): RolloutMove | null {
	const known = find(sql, parentId);
	if (!known) return null;
	const standing = standingOf(sql, parentId);
	const step = nextStep(known.plan, known.progress, standing);
	if (step) return take(sql, known, standing, step, at, 'dispatcher');
	if (known.progress.state === 'running') return null;
	// A child that was with its robot has come back, proved not to have started.
	const moved = shut(sql, known, at, `the rollout is ${known.progress.state}`);
	return moved.length === 0 ? null : { parentId, message: known.message, moved };
}

export function pauseRollout(
	sql: Statements,
	{ parentId, at, by }: Deeds['pauseRollout']['in'],
): RolloutMove | null {
	const known = find(sql, parentId);
	if (!known || known.progress.state !== 'running') return null;
	const moved = shut(sql, known, at, 'the rollout was paused');
	const { next } = standingOf(sql, parentId);
	// All of it has gone out already.
	if (next === null) return null;
	const words = `paused by ${nameOf(by)} before ${batchText(known.plan, next)}`;
	return note(sql, known, { ...known.progress, state: 'paused' }, words, moved, at, by);
}

export function resumeRollout(
	sql: Statements,
	{ parentId, at, by, batch }: Deeds['resumeRollout']['in'],
): RolloutMove | null {
	const known = find(sql, parentId);
	if (!known || known.progress.state === 'running') return null;
	const standing = standingOf(sql, parentId);
	if (batch !== undefined && batch !== standing.next) return null;
	const step = resumeStep(known.progress, standing);
	const progress: Progress = {
		...known.progress,
		state: 'running',
		forgiven: standing.failed,
	};
	const resumed = { ...known, progress };
	if (step) return take(sql, resumed, standing, step, at, by);
	return note(sql, resumed, progress, 'resumed', [], at, by);
}

interface Known {
	parentId: string;
	plan: Plan;
	progress: Progress;
	/** Its latest message, for people. */
	message: string;
}

/** Of a parent that runs and that nobody has cancelled. */
function find(sql: Statements, parentId: string): Known | undefined {
	const row = sql.get(
		`SELECT plan, f.state, f.batch, forgiven, message FROM fan_outs f JOIN jobs ON jobs.id = f.parent_id
		 WHERE f.parent_id = ? AND plan IS NOT NULL AND jobs.state = 'running' AND cancel_requested_at IS NULL`,
		parentId,
	);
	if (!row) return undefined;
	const { state, batch, forgiven } = row as unknown as Progress;
	return {
		parentId,
		plan: JSON.parse(row['plan'] as string) as Plan,
		progress: { state, batch, forgiven },
		message: (row['message'] as string | null) ?? '',
	};
}

function standingOf(sql: Statements, parentId: string): Standing {
	return sql.get(
		`SELECT count(*) FILTER (WHERE state IN ('failed','timeout')) AS failed,
		 count(*) FILTER (WHERE shut = 0 AND state IN ('pending','queued','dispatched','running')) AS open,
		 min(batch) FILTER (WHERE shut = 1 AND state = 'pending') AS next
		 FROM ${family}`,
		parentId,
	) as unknown as Standing;
}

function take(
	sql: Statements,
	known: Known,
	{ failed }: Standing,
	step: Step,
	at: number,
	by: string,
): RolloutMove | null {
	const { plan, progress } = known;
	switch (step.do) {
		case 'open': {
			const text = batchText(plan, step.batch);
			const goesAt = at + step.waitMs;
			const moved = open(sql, known, step.batch, goesAt, at, text);
			const words = step.waitMs === 0 ? text : `${text}, from ${new Date(goesAt).toISOString()}`;
			const next = { ...progress, batch: Math.max(progress.batch, step.batch) };
			return note(sql, known, next, words, moved, at, by);
		}
		case 'pause': {
			const words = `paused: ${batchText(plan, progress.batch)} is done`;
			return note(sql, known, { ...progress, state: 'paused' }, words, [], at, by);
		}
		case 'stop': {
			const moved = shut(sql, known, at, 'the rollout stopped');
			// All of it has started: nothing is left to be kept back.
			if (standingOf(sql, known.parentId).next === null) return null;
			const words = stoppedText(plan, failed);
			return note(sql, known, { ...progress, state: 'stopped' }, words, moved, at, by);
		}
	}
}

/** Writes down how far it is, in its row, in its parent's and in the parent's timeline. */
function note(
	sql: Statements,
	{ parentId }: Known,
	{ state, batch, forgiven }: Progress,
	words: string,
	moved: MovedChild[],
	at: number,
	by: string,
): RolloutMove {
	sql.run(
		'UPDATE fan_outs SET state = ?, batch = ?, forgiven = ?, reason = ? WHERE parent_id = ?',
		state,
		batch,
		forgiven,
		state === 'running' ? null : words,
		parentId,
	);
	const message = state === 'running' ? words : `${words}; resume or cancel`;
	sql.run(
		'UPDATE jobs SET message = ?, timeline = timeline || ? WHERE id = ?',
		message,
		moveLine(at, 'running', words, by, null),
		parentId,
	);
	return { parentId, message, moved };
}

type Child = Omit<MovedChild, 'was' | 'is'> & {
	state: 'pending' | 'queued';
	rank: number;
	/** How long it waits while its robot is away, as text. */
	offline: string | null;
	/** A person keeps it back, or a restore does. */
	kept: number;
};

function childrenWhere(sql: Statements, parentId: string, which: string, batch: number): Child[] {
	return sql.all<Child>(
		`SELECT id, lane, share_key AS shareKey, needs, priority, attempt, bars, affinity, state, rank,
		 policy -> '$.offline' AS offline, created_by AS owner, octet_length(spec) + octet_length(variables) AS bytes,
		 (hold IS NOT NULL OR cause IS 'restored') AS kept
		 FROM (SELECT * FROM ${family} AND ${which} AND batch = ?) JOIN requests ON job_id = id ORDER BY id`,
		parentId,
		batch,
	);
}

/** Lets go the children of a batch that are kept back: one after the other, from `goesAt` on. */
function open(
	sql: Statements,
	{ parentId, plan }: Known,
	batch: number,
	goesAt: number,
	at: number,
	text: string,
): MovedChild[] {
	const children = childrenWhere(sql, parentId, "shut = 1 AND state = 'pending'", batch);
	return children.map(({ state: _, rank: ranked, offline, kept, ...child }, place) => {
		const patience = offline === null ? undefined : (JSON.parse(offline) as Patience);
		const to = eligible(plan, place, goesAt, at, patience);
		const state = kept ? 'pending' : to.state;
		const dueAt = kept ? shutUntil(plan) : to.dueAt;
		// As urgent as it was made, and in line from now on.
		const placed = rank(to.readyAt, child.priority);
		sql.run(
			`UPDATE jobs SET was = CASE WHEN state = ?1 THEN was ELSE state END, state = ?1, shut = 0, ready_at = ?2, rank = ?3,
			 due_at = ?4, timeline = timeline || ?5 WHERE id = ?6`,
			state,
			to.readyAt,
			placed,
			dueAt,
			moveLine(at, state, text, 'dispatcher', null),
			child.id,
		);
		if (plan.queueMs !== undefined) {
			sql.run(
				"UPDATE requests SET policy = json_set(policy, '$.queueSince', CAST(? AS INTEGER)) WHERE job_id = ?",
				to.readyAt,
				child.id,
			);
		}
		if (to.offline) {
			sql.run(
				"UPDATE requests SET policy = json_set(policy, '$.offline', json(?)) WHERE job_id = ?",
				JSON.stringify(to.offline),
				child.id,
			);
		}
		return {
			...child,
			was: { state: 'pending', rank: ranked },
			is: { state, rank: placed, dueAt },
		};
	});
}

/** Keeps back those that were let go and have never run. */
function shut(sql: Statements, { parentId, plan, progress }: Known, at: number, why: string) {
	const fresh = "shut = 0 AND state IN ('pending','queued') AND tries = 0 AND losses = 0";
	const dueAt = shutUntil(plan);
	return childrenWhere(sql, parentId, fresh, progress.batch).map(
		({ offline: _, kept: __, ...row }): MovedChild => {
			const { state, rank: ranked, ...child } = row;
			sql.run(
				`UPDATE jobs SET was = CASE WHEN state = 'pending' THEN was ELSE state END, state = 'pending', shut = 1, due_at = ?,
				 timeline = timeline || ? WHERE id = ?`,
				dueAt,
				moveLine(at, 'pending', why, 'dispatcher', null),
				child.id,
			);
			if (plan.queueMs !== undefined) {
				sql.run(
					"UPDATE requests SET policy = json_set(policy, '$.queueSince', NULL) WHERE job_id = ?",
					child.id,
				);
			}
			const is = { state: 'pending' as const, rank: ranked, dueAt };
			return { ...child, was: { state, rank: ranked }, is };
		},
	);
}

/** `key:ana` → `ana` */
const nameOf = (by: string) => by.replace(/^key:/, '');

const family = 'jobs INDEXED BY jobs_batches WHERE parent_id = ? AND batch IS NOT NULL';
