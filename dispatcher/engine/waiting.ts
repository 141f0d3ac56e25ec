/**
 * Moves and changes of jobs that wait, so that memory follows the store: the lanes' windows and the
 * backlog. The caller has touched the job; what it read of it is held against the store once more, and
 * `done(false)` tells it to look again.
 */
import { isFinal, type JobState } from '../../protocol';
import type { Changed } from '../core/waiting';
import type { AsRead, Deeds, Head, StoredEvent, StoredJob } from '../store/store';
import { bytesOf, waitingOf } from './backlog';
import type { Context } from './context';
import { childEnds } from './family';
import type { Turn } from './turns';

export type WaitingMove = Omit<Deeds['moveJob']['in'], 'jobId' | 'from' | 'was' | 'at'>;

export class WaitingJobs {
	readonly #context: Context;

	constructor(context: Context) {
		this.#context = context;
	}

	move(turn: Turn, job: StoredJob, move: WaitingMove, done: (moved: boolean) => void): void {
		const { backlog, watchers } = this.#context;
		this.#drop(turn, job);
		const from = [job.state];
		turn.add(
			'moveJob',
			{ jobId: job.id, from, was: asRead(job), at: turn.now, ...move },
			(moved) => {
				if (!moved) this.#doubt(job);
				else {
					backlog.leave(waitingOf(job));
					if (isFinal(move.to)) watchers.ended(job.id);
					else
						this.#wait({ ...job, state: move.to, rank: move.rank ?? job.rank }, move.dueAt ?? null);
				}
				done(moved);
			},
		);
		if (isFinal(move.to)) childEnds(this.#context, turn, job.parentId);
	}

	change(
		turn: Turn,
		job: StoredJob,
		{ reason, ...to }: Changed,
		by: string,
		done: (changed: boolean) => void,
		event?: Omit<StoredEvent, 'cursor'>,
	): void {
		this.#drop(turn, job);
		const wish = {
			jobId: job.id,
			was: asRead(job),
			to,
			reason,
			by,
			at: turn.now,
			...(event && { event }),
		};
		turn.add('changeJob', wish, (changed) => {
			if (!changed) this.#doubt(job);
			else {
				this.#context.backlog.leave(waitingOf(job));
				this.#wait({ ...job, ...to }, to.dueAt);
				if (event) this.#context.watchers.hint('events', event.subject);
			}
			done(changed);
		});
	}

	#wait(job: StoredJob, dueAt: number | null): void {
		const { backlog, lanes, turns } = this.#context;
		backlog.enter(waitingOf(job));
		this.#context.dueAt(dueAt);
		if (job.state !== 'queued') return;
		lanes.push(job, headOf(job));
		turns.nudge();
	}

	#drop(turn: Turn, job: StoredJob): void {
		if (job.state !== 'queued') return;
		this.#context.lanes.drop(job, job.id);
		turn.undo.push(() => this.#doubt(job));
	}

	/** It was changed before us: its place in memory may be another one. */
	#doubt(job: StoredJob): void {
		if (job.state !== 'queued') return;
		this.#context.lanes.doubt(job);
		this.#context.turns.nudge();
	}
}

/** What is held against the store once more; not the whole job, which may be large. */
export function asRead({
	state,
	attempt,
	lane,
	rank,
	hold,
	dueAt,
}: StoredJob): AsRead & { state: JobState } {
	return { state, attempt, lane, rank, hold, dueAt };
}

export function headOf(job: StoredJob): Head {
	return {
		id: job.id,
		rank: job.rank,
		priority: job.priority,
		bars: job.bars,
		affinity: job.affinity,
		attempt: job.attempt,
		owner: job.createdBy,
		bytes: bytesOf(job),
	};
}
