/**
 * After a restore nobody knows what happened since the backup: jobs may have run, ended, been given to
 * other robots. So every job that was not final waits as `pending`, cause `restored`, until the robots
 * have said what they hold and a person releases it. Earlier attempts stay on record as `restored`;
 * what their robots still find out is kept beside them. Schedules with a job are paused: the runs they would
 * make up may have happened.
 */
import { Problem, type ReleaseAnswer, type ReleaseRequest } from '../../protocol';
import { parentEndings } from '../core/parents';
import { policyOf } from '../core/retry';
import { shutUntil } from '../core/rollout';
import { definitionOf } from '../core/schedule';
import { waitEndsAt } from '../core/waiting';
import type { Deed, StoredJob } from '../store/store';
import type { Context } from './context';
import type { Caller } from './index';
import { restoredText } from './occurrences';
import type { Sessions } from './sessions';
import { nextStretch } from './stretches';
import { asRead } from './waiting';

/** Waits for a person, not for time. */
const never = Number.MAX_SAFE_INTEGER;
const batch = 500;
const maxKept = 1_000;
/** They may be a million, and some programs ask twice a second. */
const countMs = 5_000;
const metaKey = 'restored';

interface Restoration {
	at: number;
	backupAt: number;
	/** All jobs are held back. */
	held: boolean;
}

export class RestoredJobs {
	readonly #context: Context;
	readonly #sessions: Sessions;
	#restoration: Restoration | undefined;
	/** As they were counted last; monotonic. */
	#waiting: { count: number; at: number } | undefined;

	constructor(context: Context, sessions: Sessions) {
		this.#context = context;
		this.#sessions = sessions;
	}

	/** When the last restore was, and of what. */
	get restoration(): { at: number; backupAt: number } | null {
		if (!this.#restoration) return null;
		const { at, backupAt } = this.#restoration;
		return { at, backupAt };
	}

	/**
	 * Holds back the jobs of a freshly restored store. Call before anything can be assigned. Killed
	 * half-way, it does the rest at the next start.
	 */
	async load(): Promise<void> {
		const { store, clock, log } = this.#context;
		const text = await store.read('meta', { key: metaKey });
		if (text === undefined) return;
		this.#restoration = JSON.parse(text) as Restoration;
		if (this.#restoration.held) return;
		const at = clock.now();
		const schedules = await this.#pauseSchedules(at);
		const held = (await this.#holdAttempts(at)) + (await this.#holdWaiting(at));
		this.#restoration.held = true;
		await store.commit([
			{ do: 'setMeta', with: { key: metaKey, value: JSON.stringify(this.#restoration) } },
		]);
		log.warn('this store was restored: its jobs wait to be released, its schedules are paused', {
			jobs: held,
			schedules,
			backupAt: new Date(this.#restoration.backupAt).toISOString(),
		});
	}

	/**
	 * Consumers tell by the planned time what they have seen, so schedules without a job go on. What waited may
	 * have run; a backfill runs it when it has not.
	 */
	async #pauseSchedules(at: number): Promise<number> {
		const { store } = this.#context;
		const all = await store.read('schedules', null);
		const paused = all.filter(
			({ state, definition }) => state === 'active' && definitionOf(definition).job !== undefined,
		);
		const waiting = await store.read('waitingOccurrences', { scheduleId: null });
		await store.commit([
			...paused.map((schedule): Deed => ({
				do: 'putSchedule',
				with: { ...schedule, state: 'paused', reason: restoredText, nextRunAt: null },
			})),
			...waiting.map(({ scheduleId, origin, plannedAt }): Deed => {
				const key = { scheduleId, origin, plannedAt };
				const over = { at, state: 'skipped', reason: restoredText, jobId: null } as const;
				return { do: 'fire', with: { ...key, ...over, waited: true } };
			}),
		]);
		return paused.length;
	}

	async #holdAttempts(at: number): Promise<number> {
		const { store } = this.#context;
		const all = await store.read('held', null);
		for (let i = 0; i < all.length; i += batch) {
			await store.commit(
				all.slice(i, i + batch).flatMap(({ job, attempt }): Deed[] => {
					const cancelled = job.cancelRequestedAt !== null;
					const settle: Deed = {
						do: 'settle',
						with: {
							jobId: job.id,
							number: attempt.number,
							epoch: attempt.epoch,
							from: attempt.state === 'running' ? 'running' : 'dispatched',
							at,
							by: 'dispatcher',
							outcome: 'restored',
							cause: 'restored',
							result: null,
							reason: 'restored from a backup',
							next: cancelled
								? { to: 'cancelled', cause: 'cancelled', error: null }
								: {
										to: 'pending',
										waitsFor: 'restored',
										readyAt: job.readyAt,
										rank: job.rank,
										dueAt: never,
									},
							countTry: false,
							countLoss: false,
						},
					};
					if (!cancelled || job.parentId === null) return [settle];
					// It may have been the last child.
					const end = { parentId: job.parentId, at, endings: parentEndings };
					return [settle, { do: 'settleParent', with: end }];
				}),
			);
		}
		return all.length;
	}

	async #holdWaiting(at: number): Promise<number> {
		let count = 0;
		for (const state of ['queued', 'pending'] as const) {
			for await (const jobs of this.#pages(state)) {
				const loose = jobs.filter((job) => job.cause !== 'restored');
				count += loose.length;
				await this.#context.store.commit(
					loose.map((job): Deed => {
						const held = {
							jobId: job.id,
							cause: 'restored' as const,
							reason: 'restored from a backup',
							by: 'dispatcher',
							at,
							dueAt: never,
						};
						return state === 'pending'
							? { do: 'waitFor', with: { ...held, was: asRead(job) } }
							: { do: 'moveJob', with: { ...held, from: [state], to: 'pending' } };
					}),
				);
			}
		}
		return count;
	}

	/**
	 * Lets jobs that a restore holds back go on. A job that may have run since the backup is kept, with
	 * the reason, unless `again` says that running it again is fine.
	 */
	async release(request: ReleaseRequest, by: Caller): Promise<ReleaseAnswer> {
		const answer: ReleaseAnswer = { released: 0, kept: [], keptInAll: 0 };
		const keep = (jobId: string, reason: string) => {
			answer.keptInAll += 1;
			if (answer.kept.length < maxKept) answer.kept.push({ jobId, reason });
		};
		const review = async (job: StoredJob) => {
			const reason = request.again ? undefined : await this.#doubt(job);
			if (reason !== undefined) keep(job.id, reason);
			else if (await this.#release(job, by)) answer.released += 1;
		};
		if (request.jobIds) {
			const jobs = await this.#context.store.read('jobsById', { ids: request.jobIds });
			const known = new Map(jobs.map((job) => [job.id, job]));
			for (const jobId of new Set(request.jobIds)) {
				const job = known.get(jobId);
				if (!job) throw new Problem('no-such-job', { id: jobId });
				if (isHeld(job)) await review(job);
				else keep(jobId, `it does not wait to be released, it is ${job.state}`);
			}
		} else {
			for await (const jobs of this.#pages('pending')) {
				await Promise.all(jobs.filter(isHeld).map(review));
			}
		}
		this.#waiting = undefined;
		this.#context.log.info('restored jobs released', {
			released: answer.released,
			kept: answer.keptInAll,
			by: by.name,
		});
		return answer;
	}

	/** How many jobs wait to be released. */
	async waiting(): Promise<number> {
		const { clock, store } = this.#context;
		// No more of them come before the next restore.
		if (!this.#restoration || this.#waiting?.count === 0) return 0;
		const now = clock.monotonic();
		if (this.#waiting && now - this.#waiting.at < countMs) return this.#waiting.count;
		const count = await store.read('restoredJobs', null);
		this.#waiting = { count, at: now };
		return count;
	}

	/** Why nobody may say yet that the job has not run since the backup. */
	async #doubt(job: StoredJob): Promise<string | undefined> {
		const { fleet, lanes, store } = this.#context;
		const name = fleet.nameOf;
		const unknown = this.#sessions.unknownAttempt(job.id);
		if (unknown) {
			const doing = unknown.state === 'ended' ? 'has run' : 'is running';
			return `robot ${name(unknown.robotId)} ${doing} an attempt of it that was started after the backup`;
		}
		if (job.attempt > 0) {
			const attempts = await store.read('attempts', { jobId: job.id });
			const last = attempts.at(-1);
			if (last?.lateResult) {
				return `robot ${name(last.robotId)} has reported its result: see robot-fleet jobs attempts ${job.id}`;
			}
			if (last && this.#sessions.reports(job.id, last.epoch)) {
				return `robot ${name(last.robotId)} is still running it`;
			}
		}
		const silent = [...lanes.get(job.lane).robots].filter((id) => !this.#hasReported(id)).map(name);
		if (silent.length === 0) return undefined;
		const some = silent.slice(0, 3).join(', ');
		const more = silent.length > 3 ? ` and ${silent.length - 3} more` : '';
		return `robots that may have run it have not come back since the restore: ${some}${more}`;
	}

	#hasReported(robotId: string): boolean {
		const entry = this.#context.fleet.get(robotId);
		if (!entry || entry.session) return true;
		return (entry.stored.lastSeenAt ?? 0) >= (this.#restoration?.at ?? 0);
	}

	/** A job that somebody changes meanwhile is looked at again: it may be kept back by now, or over. */
	async #release(job: StoredJob, by: Caller): Promise<boolean> {
		for (let seen: StoredJob | undefined = job; seen && isHeld(seen);) {
			if (await this.#letGo(seen, by)) return true;
			[seen] = await this.#context.store.read('jobsById', { ids: [job.id] });
		}
		return false;
	}

	async #letGo(job: StoredJob, by: Caller): Promise<boolean> {
		const policy = policyOf(job.policy);
		const { queueEndsAt, deadlineAt } = waitEndsAt(policy, job);
		// One of a later batch, or held by somebody, goes on waiting for that: it is not due before its time is over.
		const dueAt =
			job.shut === 1
				? shutUntil(policy.timeouts)
				: job.hold === null
					? job.readyAt
					: Math.min(queueEndsAt, deadlineAt, never);
		const released = await this.#context.turns.deed('waitFor', {
			jobId: job.id,
			was: asRead(job),
			cause: null,
			reason: 'released after the restore',
			by: `key:${by.name}`,
			at: this.#context.clock.now(),
			// Its own times hold again, those that have passed too.
			dueAt,
		});
		if (released) this.#context.dueAt(dueAt);
		return released;
	}

	/** In stretches: those that wait may be few among a million that have ended. */
	async *#pages(state: 'queued' | 'pending'): AsyncGenerator<StoredJob[]> {
		const { store } = this.#context;
		for (let after: string | null | undefined = null; after !== undefined;) {
			const place = { order: 'newest', after, want: batch } as const;
			const stretch: { ids: string[]; next?: string } = await nextStretch(store, { state }, place);
			if (stretch.ids.length > 0) yield await store.read('jobsById', { ids: stretch.ids });
			after = stretch.next;
		}
	}
}

const isHeld = (job: StoredJob) => job.state === 'pending' && job.cause === 'restored';
