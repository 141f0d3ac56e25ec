/**
 * What nobody asks for: limits that run out, jobs that ripen, robots that stay away, callbacks and
 * schedules that come due. One loop that sleeps until the next known instant, and at most a second.
 *
 * Limits of attempts are monotonic time. It is the robot that says "too late" of a running job, since it
 * can see it; we only remind it, and never write `timeout` while it is away.
 */
import { limits } from '../../protocol';
import { deadLetterOf } from '../core/fingerprint';
import { policyOf } from '../core/retry';
import { patienceEndsAt } from '../core/patience';
import { queuedDueAt, waitEndsAt } from '../core/waiting';
import type { StoredJob } from '../store/store';
import type { Access } from './access';
import type { Attempts } from './attempts';
import { enough } from './clock';
import type { Context } from './context';
import type { Files } from './files';
import { type Live, refOf } from './fleet';
import type { Intake } from './intake';
import type { Occurrences } from './occurrences';
import type { OutputRetention } from './output-retention';
import type { Parents } from './parents';
import type { Patience } from './patience';
import type { WaitingJobs } from './waiting';
import type { Waits } from './waits';

const maxSleepMs = 1_000;
/** How long after its own limit a robot is reminded, and how often. */
const backstopMs = 5_000;
const remindMs = 30_000;
const dueBatch = 500;
const sweepBatch = 500;
/** How often the last use of keys is written down. */
const noteMs = 60_000;

/**
 * Something else that comes due by itself; answers when it wants to be asked again. `readyAt`: since when, on the
 * monotonic clock, the service has been there for robots to come to.
 */
export interface Look {
	look(now: number, readyAt: number): number | null;
}

export class Duties {
	readonly #context: Context;
	readonly #attempts: Attempts;
	readonly #parents: Parents;
	readonly #waiting: WaitingJobs;
	readonly #waits: Waits;
	readonly #occurrences: Occurrences;
	readonly #access: Access;
	readonly #intake: Intake;
	readonly #outputRetention: OutputRetention;
	readonly #files: Files;
	readonly #looks: readonly Look[];
	readonly #patience: Patience;
	readonly #stop = new AbortController();
	/** Ends the sleep early; absent while awake, when a lower `#nextAt` is enough. */
	#wake: AbortController | undefined;
	#loop: Promise<void> | undefined;
	#nextAt = 0;
	/** Monotonic. */
	#lookedAt = 0;
	/** Up to when absence is counted. Monotonic, like the next one. */
	#countedAt = 0;
	#readyAt = 0;
	#sweptAt = 0;
	/** Wall time at which jobs that waited for a robot they prefer take another one. */
	#fillAt = Infinity;
	#notedAt = 0;

	constructor(
		context: Context,
		attempts: Attempts,
		waiting: WaitingJobs,
		parents: Parents,
		waits: Waits,
		occurrences: Occurrences,
		access: Access,
		intake: Intake,
		outputRetention: OutputRetention,
		files: Files,
		looks: readonly Look[],
		patience: Patience,
	) {
		this.#looks = looks;
		this.#patience = patience;
		this.#files = files;
		this.#intake = intake;
		this.#outputRetention = outputRetention;
		this.#access = access;
		this.#context = context;
		this.#attempts = attempts;
		this.#parents = parents;
		this.#waiting = waiting;
		this.#waits = waits;
		this.#occurrences = occurrences;
	}

	start(): void {
		const { clock } = this.#context;
		this.#readyAt = this.#countedAt = clock.monotonic();
		this.#lookedAt = this.#readyAt;
		this.#context.clockWatch.look(clock.now());
		this.#loop ??= this.#run();
	}

	async stop(): Promise<void> {
		this.#stop.abort();
		this.#wake?.abort();
		await this.#loop;
	}

	/** Something may come due at this instant. */
	dueAt(at: number | null): void {
		if (at === null || at >= this.#nextAt) return;
		this.#nextAt = at;
		this.#wake?.abort(enough);
	}

	/** Keeps the earliest such instant; later ones are asked for again when it has come. */
	fillAt(at: number): void {
		if (at >= this.#fillAt) return;
		this.#fillAt = at;
		this.dueAt(at);
	}

	async #run(): Promise<void> {
		const { clock, log } = this.#context;
		while (!this.#stop.signal.aborted) {
			this.#wake = undefined;
			this.#nextAt = Math.min(clock.now() + maxSleepMs, this.#fillAt);
			try {
				await this.look();
			} catch (error) {
				// A broken store ends the service elsewhere; anything else must not end the duties.
				log.error('a duty failed', { error: (error as Error).message });
			}
			const ms = Math.max(0, Math.min(maxSleepMs, this.#nextAt - clock.now()));
			if (this.#stop.signal.aborted) return;
			this.#wake = new AbortController();
			await clock.sleep(ms, this.#wake.signal);
		}
	}

	async look(): Promise<void> {
		const { clock, lanes, fleet, gates, turns, settings } = this.#context;
		const now = clock.now();
		const patient = this.#fillAt <= now;
		if (patient) this.#fillAt = Infinity;
		this.#intake.look();
		await this.#watchClock(now);
		this.#lives();
		await this.#done('jobs that are due', () => this.#ripen(now));
		await this.#done('waits', async () => this.dueAt(await this.#waits.look(now)));
		await this.#done('schedules', async () => this.dueAt(await this.#occurrences.look(now)));
		for (const duty of this.#looks) this.dueAt(duty.look(now, this.#readyAt));
		if (clock.monotonic() - this.#notedAt >= noteMs) {
			this.#notedAt = clock.monotonic();
			await this.#done('notes', () => this.#note(now));
		}
		await this.#done('output', () => this.#outputRetention.look());
		this.#files.look();
		// The safety sweep: a job that was refused "for now", or anything whose hint was lost.
		const mono = clock.monotonic();
		const waits = lanes.waiting.size > 0 || gates.waitsForTime;
		if (waits && fleet.free.size > 0) {
			if (!patient && mono - this.#sweptAt < settings.sweepMs) return;
			this.#sweptAt = mono;
			turns.nudge();
		}
	}

	/** One that fails keeps no other from its work: say, a full disk takes nothing, and a later duty makes room on it. */
	async #done(duty: string, look: () => Promise<unknown>): Promise<void> {
		try {
			await look();
		} catch (error) {
			this.#context.log.error('a duty failed', { duty, error: (error as Error).message });
		}
	}

	async #note(now: number): Promise<void> {
		await this.#access.noteUsed();
		await this.#sweepDuplicates(now);
		await this.#sweepAffinities(now);
		await this.#sweepStarts(now);
	}

	#lives(): void {
		const { clock, fleet, settings } = this.#context;
		const mono = clock.monotonic();
		const before = this.#countedAt;
		this.#countedAt = mono;
		const countsFrom = Math.max(before, this.#readyAt + settings.recoveryGraceMs);
		for (const live of fleet.lives()) {
			if (live.lostBecause !== undefined) {
				this.#lost(live, live.lostBecause);
				continue;
			}
			const entry = fleet.get(live.robotId);
			if (!entry) {
				// It will not come back, and nobody else can tell.
				this.#lost(live, 'The robot was removed');
				continue;
			}
			if (entry.session) this.#remind(live, mono);
			// A robot that is here and does not answer is as good as away.
			const awaySince = entry.session ? live.revokedAt : entry.awaySince;
			if (awaySince === null) continue;
			const counted = mono - Math.max(countsFrom, awaySince);
			// While absence does not count, nobody is given up, not even a job that would not wait at all.
			if (counted <= 0) continue;
			live.lossLeftMs -= counted;
			if (live.lossLeftMs > 0) continue;
			const seconds = Math.round(live.policy.onLoss.waitMs / 1000);
			const did = entry.session ? 'did not answer' : 'stayed away';
			this.#lost(live, `The robot ${did} for ${seconds} s`);
		}
	}

	/**
	 * After we did not run for a while, or somebody set the clock, it is as after a start: robots get time
	 * to come back, and what was silent had no chance to speak.
	 */
	async #watchClock(now: number): Promise<void> {
		const { clock, clockWatch, fleet, turns, log } = this.#context;
		const mono = clock.monotonic();
		const elapsed = mono - this.#lookedAt;
		const { by, unmoved } = clockWatch.look(now);
		this.#lookedAt = mono;
		if (by === 0 && elapsed <= maxSleepMs + limits.clockJumpMs) return;
		this.#readyAt = mono;
		for (const entry of fleet.all()) if (entry.session) entry.session.seenAt = mono;
		for (const live of fleet.lives()) live.lossLeftMs = live.policy.onLoss.waitMs;
		if (by === 0) return;
		log.warn('the wall clock was set', { by: Math.round(by) });
		// Not on disk: a retry comes too early or too late, and no harm is done.
		if (unmoved !== 0) {
			await turns.deed('shiftBackOffs', { by: Math.round(unmoved) }).catch(() => undefined);
		}
		if (by < 0) await this.#occurrences.setBack(now);
	}

	#lost(live: Live, reason: string): void {
		// A store that is full takes it at a later look; a broken one ends the service elsewhere.
		void this.#attempts.lost(live, reason).catch(() => undefined);
	}

	#remind(live: Live, mono: number): void {
		if (live.remindedAt !== null && mono - live.remindedAt < remindMs) return;
		const { startMs, runMs } = live.policy.timeouts;
		if (live.cancelRequestedAt !== null) {
			this.#attempts.stop(live, 'cancelled');
		} else if (live.endsAt !== null && live.endsAt <= mono) {
			this.#attempts.stop(live, 'deadline');
		} else if (
			live.state === 'dispatched' &&
			!live.acceptance &&
			mono - live.assignedAt > startMs
		) {
			live.revokedAt ??= mono;
			live.remindedAt = mono;
			this.#context.fleet.get(live.robotId)!.session!.sink.revoke(refOf(live));
		} else if (
			live.startedAt !== null &&
			mono - live.startedAt > runMs + limits.graceMs + backstopMs
		) {
			this.#attempts.stop(live, 'run_timeout');
		}
	}

	/** A little at a time, so that commits of jobs find their way in between. */
	async #sweepDuplicates(now: number): Promise<void> {
		const sweep = { at: now, limit: sweepBatch };
		while ((await this.#context.turns.deed('sweepDuplicates', sweep)) === sweepBatch);
	}

	async #sweepAffinities(now: number): Promise<void> {
		const before = now - limits.affinityMs;
		const sweep = { before, keep: limits.maxAffinities, limit: sweepBatch };
		while ((await this.#context.turns.deed('sweepAffinities', sweep)) === sweepBatch);
	}

	/** Forgets starts so far back that no job counts them any more. */
	async #sweepStarts(now: number): Promise<void> {
		this.#context.gates.sweep();
		const sweep = { before: now, limit: sweepBatch };
		while ((await this.#context.turns.deed('sweepStarts', sweep)) === sweepBatch);
	}

	async #ripen(now: number): Promise<void> {
		for (let first: string | undefined; ;) {
			const { jobs, nextAt } = await this.#context.store.read('due', { at: now, limit: dueBatch });
			this.dueAt(nextAt);
			// Nothing came of those: whatever the reason, other duties do not wait for it.
			if (jobs.length === 0 || jobs[0]!.id === first) return;
			await Promise.all(jobs.map((job) => this.#ripe(job, now)));
			if (jobs.length < dueBatch) return;
			first = jobs[0]!.id;
		}
	}

	/** Its time has come: eligible now, or over without having started. */
	#ripe(job: StoredJob, now: number): Promise<void> {
		const policy = policyOf(job.policy);
		const { queueEndsAt, deadlineAt } = waitEndsAt(policy, job);
		if (deadlineAt <= now || queueEndsAt <= now) {
			const cause = deadlineAt <= now ? 'deadline' : 'queue_timeout';
			const message =
				cause === 'deadline'
					? 'The deadline passed before the job started.'
					: `No robot took the job within ${policy.timeouts.queueMs} ms; ask GET /jobs/${job.id}/why next time, or raise timeouts.queueMs.`;
			const end = { to: 'timeout', cause } as const;
			const dead = deadLetterOf(job.kind, end, message);
			return this.#move(job, {
				...end,
				reason: cause,
				by: 'dispatcher',
				error: JSON.stringify({ type: cause, message }),
				...(dead === undefined ? {} : { dead }),
			});
		}
		if (job.state === 'queued' && patienceEndsAt(policy.offline) <= now) {
			return this.#patience.end(job, this.#readyAt);
		}
		if (job.state === 'queued' || job.hold !== null || job.shut === 1 || job.readyAt > now) {
			return Promise.resolve();
		}
		if (job.children !== null) return this.#parents.start(job);
		return this.#move(job, {
			to: 'queued',
			cause: null,
			reason: job.attempt === 0 ? 'its time has come' : 'tried again',
			by: 'dispatcher',
			dueAt: queuedDueAt(policy, job),
		});
	}

	/** A job that was changed meanwhile is looked at again when it is due. */
	#move(job: StoredJob, move: Parameters<WaitingJobs['move']>[2]): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#context.turns.push({
				plan: (turn) => {
					if (!turn.touch(job.id)) return 'later';
					this.#waiting.move(turn, job, move, () => resolve());
				},
				fail: reject,
			});
		});
	}
}
