/**
 * What becomes of each planned time. The row of an occurrence, the job it submits and the next planned time
 * are one commit: killed at any moment, a schedule neither fires one twice nor forgets the next.
 *
 *   due → ran | made_up                         its job is submitted, or consumers are told
 *       → waiting → ran                         when the run before it has ended
 *       → skipped | missed | refused            with the reason
 *
 * Whether the run before it lives is asked of the jobs themselves, never of a counter. Nothing here is
 * needed after a crash: what is open or waits is read from the store at the start.
 */
import {
	type EventKind,
	type FinalState,
	isFinal,
	type Occurrence,
	type Origin,
	type Overlap,
	Problem,
	type ScheduleDue,
	type ScheduleGone,
	type ScheduleTurn,
} from '../../protocol';
import { dealWith, graceMs } from '../core/catch-up';
import type { NewOccurrence, OpenOccurrence, StoredOccurrence } from '../store/store';
import type { Calendars } from './calendars';
import type { Changes } from './changes';
import type { Context } from './context';
import type { Intake } from './intake';
import type { Jobs } from './jobs';
import { type Entry, jitterAt, type ScheduleBook } from './schedule-book';
import { Slices } from './slices';

/** Later than this, consumers are told so. */
const lateMs = 5_000;
/** Of what was missed together, at most this many get rows of their own. */
const maxMissed = 1_000;
/** For one schedule in one look: what else is due must not wait for a long catch-up. */
const maxRunsALook = 50;
/** How many schedules at once: after a long absence each has a thousand rows to write. */
const maxAtOnce = 64;
/** How many may wait of one schedule. */
const maxWaiting = 1_000;
/** How often those that wait are looked at, should a hint get lost. */
const drainMs = 5_000;
/** How far back failures in a row are counted. */
const maxStreak = 1_000;

type Key = Pick<StoredOccurrence, 'scheduleId' | 'origin' | 'plannedAt'>;

/** A planned time that is being dealt with. */
interface Turned {
	origin: Origin;
	plannedAt: number;
	/** With its jitter. */
	dueAt: number;
	/** Where the schedule goes on; null = nowhere; absent = it stays where it is. */
	nextRunAt?: number | null;
	overlap: Overlap;
	/** It has waited. */
	waited?: boolean;
	/** Which earlier one it may take the place of. */
	over?: 'nothing' | 'ended';
	/** It was missed, as the last of this many: that is told. */
	missed?: number;
}

export class Occurrences {
	readonly #context: Context;
	readonly #book: ScheduleBook;
	readonly #calendars: Calendars;
	readonly #jobs: Jobs;
	readonly #changes: Changes;
	readonly #intake: Intake;
	/** Jobs of schedules that have no outcome on record. */
	readonly #open = new Map<string, Key>();
	/** Those of them that have ended but could not be put on record: say, the disk was full. */
	readonly #unheard = new Set<string>();
	/** Schedules with something waiting. */
	readonly #waiting = new Set<string>();
	#drainedAt = 0;

	constructor(
		context: Context,
		book: ScheduleBook,
		calendars: Calendars,
		jobs: Jobs,
		changes: Changes,
		intake: Intake,
	) {
		this.#context = context;
		this.#book = book;
		this.#calendars = calendars;
		this.#jobs = jobs;
		this.#changes = changes;
		this.#intake = intake;
		context.watchers.onEnded((jobId) => this.#hearEnd(jobId));
	}

	async load(): Promise<void> {
		const { store, clock } = this.#context;
		await this.setBack(clock.now());
		for (const { scheduleId } of await store.read('waitingOccurrences', { scheduleId: null })) {
			this.#waiting.add(scheduleId);
		}
		for (const one of await store.read('openOccurrences', { scheduleId: null })) {
			this.#open.set(one.jobId, one);
			// It ended, and the service died before that was on record here.
			if (!one.job || isFinal(one.job.state)) this.#hearEnd(one.jobId);
		}
	}

	/** Deals with all that is due. Answers when to look again. */
	async look(now: number): Promise<number | null> {
		const due = this.#book
			.all()
			.filter((entry) => entry.dueAt !== null && entry.dueAt <= now && this.#mayRun(entry));
		const more = await this.#allPlanned(due, now);
		const mono = this.#context.clock.monotonic();
		if (this.#waiting.size + this.#unheard.size > 0 && mono - this.#drainedAt >= drainMs) {
			this.#drainedAt = mono;
			for (const jobId of this.#unheard) this.#hearEnd(jobId);
			await Promise.all([...this.#waiting].map((id) => this.#carefully(id, () => this.drain(id))));
		}
		if (more) return now;
		// What could not be dealt with now is looked at again with everything else.
		const next = this.#book
			.all()
			.map(({ dueAt }) => dueAt)
			.filter((at) => at !== null && at > now) as number[];
		return next.length > 0 ? next.reduce((a, b) => Math.min(a, b)) : null;
	}

	/** Oldest first: what is left for the next look then comes before the others. True = there is more. */
	async #allPlanned(due: Entry[], now: number): Promise<boolean> {
		const slices = new Slices(this.#context.clock);
		const underWay = new Set<Promise<void>>();
		let more = false;
		for (const { stored } of due.sort((a, b) => a.dueAt! - b.dueAt!)) {
			// What a schedule has missed takes long to count.
			await slices.pause();
			if (slices.over) {
				more = true;
				break;
			}
			const { id } = stored;
			const one: Promise<void> = this.#carefully(id, async () => {
				if (await this.#book.inLine(id, () => this.#planned(id, now))) more = true;
			}).finally(() => underWay.delete(one));
			underWay.add(one);
			if (underWay.size >= maxAtOnce) await Promise.race(underWay);
		}
		await Promise.all(underWay);
		return more;
	}

	/** Runs it now, whatever is planned. */
	run(scheduleId: string, overlap?: Overlap): Promise<StoredOccurrence> {
		return this.#book.inLine(scheduleId, async () => {
			const entry = this.#book.find(scheduleId);
			const wanted = overlap ?? entry.definition.overlap;
			if (entry.definition.job && wanted === 'skip') {
				const [live] = await this.#live(scheduleId);
				if (live) {
					const { jobId } = live;
					throw new Problem('schedule-busy', { id: scheduleId, jobId, what: `job ${jobId}` });
				}
				const { store } = this.#context;
				if ((await store.read('waitingOccurrences', { scheduleId })).length > 0) {
					throw new Problem('schedule-busy', { id: scheduleId, what: 'a run of it waits' });
				}
			}
			for (let plannedAt = this.#context.clock.now(); ; plannedAt += 1) {
				const key = { scheduleId, origin: 'manual', plannedAt } as const;
				if (await this.#context.store.read('occurrence', key)) continue;
				await this.#deal(entry, { ...key, dueAt: plannedAt, overlap: wanted });
				return (await this.#context.store.read('occurrence', key))!;
			}
		});
	}

	/**
	 * Runs times of the past; an earlier backfill of one stays as it is, unless it came to nothing, or `all` is
	 * wanted and its job has ended. Answers how many were started.
	 */
	async backfill(
		scheduleId: string,
		times: number[],
		overlap: Overlap,
		all: boolean,
	): Promise<number> {
		const over = all ? 'ended' : 'nothing';
		const started = await this.#book.inLine(scheduleId, async () => {
			const entry = this.#book.find(scheduleId);
			const waits = entry.definition.job !== undefined && overlap !== 'allow';
			// Do this first: if only some of them get written, those are still looked after.
			if (waits) this.#waiting.add(scheduleId);
			const begun = await Promise.all(
				times.map((plannedAt) => {
					const one = { origin: 'backfill', plannedAt, dueAt: plannedAt, overlap, over } as const;
					return waits ? this.#fire(entry, one, 'waiting', null) : this.#begin(entry, one);
				}),
			);
			return begun.filter(Boolean).length;
		});
		await this.drain(scheduleId);
		return started;
	}

	/** Starts what waits, if the run before it has ended. */
	drain(scheduleId: string): Promise<void> {
		return this.#book.inLine(scheduleId, async () => {
			for (;;) {
				const { store, clock } = this.#context;
				const waiting = await store.read('waitingOccurrences', { scheduleId });
				const entry = this.#book.peek(scheduleId);
				if (waiting.length === 0 || !entry) {
					this.#waiting.delete(scheduleId);
					return;
				}
				const paused = entry.stored.state === 'paused';
				const next = waiting.find(({ origin }) => !paused || origin !== 'planned');
				if (!next || !entry.recurrence.knowsZone || !this.#mayRun(entry)) return;
				const live = await this.#live(scheduleId);
				if (live.length > 0) {
					const gives = entry.definition.overlap === 'cancel-old' && next.origin === 'planned';
					if (gives) await this.#giveWay(live, scheduleId);
					return;
				}
				if (this.#forbids(entry, clock.now()) !== null) return;
				const { origin, plannedAt } = next;
				const one = { origin, plannedAt, dueAt: plannedAt, waited: true } as const;
				await this.#begin(entry, { ...one, overlap: entry.definition.overlap });
			}
		});
	}

	/** Those of a schedule whose jobs have not ended. */
	async #live(scheduleId: string): Promise<OpenOccurrence[]> {
		const open = await this.#context.store.read('openOccurrences', { scheduleId });
		return open.filter(({ job }) => job && !isFinal(job.state));
	}

	async #giveWay(live: OpenOccurrence[], scheduleId: string): Promise<void> {
		const old = live.filter(givesWay);
		await Promise.all(old.map(({ jobId }) => this.#changes.giveWay(jobId, scheduleId)));
	}

	#mayRun({ definition }: Entry): boolean {
		return definition.job === undefined || this.#intake.closed === undefined;
	}

	/** Deals with what has come due of a schedule, as its policy for missed times says. True = there is more. */
	async #planned(scheduleId: string, now: number): Promise<boolean> {
		const entry = this.#book.peek(scheduleId);
		const first = entry?.stored.nextRunAt ?? null;
		if (!entry || entry.stored.state !== 'active' || first === null) return false;
		const { recurrence, definition } = entry;
		const { planned, older } = recurrence.latest(first - 1, now, maxMissed);
		const come: { at: number; dueAt: number }[] = [];
		for (const { at } of planned) {
			const dueAt = at + jitterAt(scheduleId, at, definition, recurrence);
			if (dueAt > now) break;
			come.push({ at, dueAt });
		}
		if (come.length === 0) {
			// The zone's clocks are set at other times than when this was planned.
			if (planned.length === 0) await this.#goOn(entry, recurrence.after(now)?.at ?? null);
			return false;
		}
		const last = recurrence.after(come.at(-1)!.at)?.at ?? null;
		// A clock that was set back comes again to times that are over.
		const window = { scheduleId, from: come[0]!.at, to: come.at(-1)!.at };
		const dealt = new Set(await this.#context.store.read('dealtBetween', window));
		const due = come.filter(({ at }) => !dealt.has(at));
		if (due.length === 0) {
			await this.#goOn(entry, last);
			return false;
		}
		const { run, missed } = dealWith(due, now, definition);
		const away = `nobody was there for it; ${run.length > 0 ? 'a later one is run instead' : 'it is too late now'}`;
		const before = older ? `, nor for those since ${new Date(first).toISOString()} before it` : '';
		const overlap = definition.overlap;
		await Promise.all(
			missed.map(({ at, dueAt }, i) => {
				// Each names the one after it: what a death leaves unwritten is found again.
				const nextRunAt = missed[i + 1]?.at ?? run[0]?.at ?? last;
				const one = { origin: 'planned', plannedAt: at, dueAt, nextRunAt, overlap } as const;
				// Told once, however many there are.
				const told = i === missed.length - 1 ? { missed: missed.length } : {};
				return this.#fire(entry, { ...one, ...told }, 'missed', i === 0 ? away + before : away);
			}),
		);
		for (const [i, { at, dueAt }] of run.slice(0, maxRunsALook).entries()) {
			const current = this.#book.peek(scheduleId);
			if (current?.stored.state !== 'active') return false;
			const nextRunAt = run[i + 1]?.at ?? last;
			await this.#deal(current, { origin: 'planned', plannedAt: at, dueAt, nextRunAt, overlap });
		}
		return run.length > maxRunsALook;
	}

	/**
	 * The clock was ahead and has been set back: schedules that were carried along go on from now. Times that were
	 * dealt with meanwhile come again, and are recognized then. Failures count from now on.
	 */
	async setBack(now: number): Promise<void> {
		await Promise.all(
			this.#book.all().map(({ stored: { id } }) =>
				this.#carefully(id, () =>
					this.#book.inLine(id, async () => {
						const entry = this.#book.peek(id);
						if (!entry) return;
						const { state, reason, nextRunAt, resumedAt } = entry.stored;
						const over = state === 'ended' && reason === overText;
						if (state !== 'active' && !over) return;
						const next = entry.recurrence.after(now)?.at;
						const sooner = next !== undefined && next < (nextRunAt ?? Infinity);
						if (!sooner && resumedAt <= now) return;
						await this.#book.put({
							...entry.stored,
							...(sooner ? { state: 'active', reason: null, nextRunAt: next } : {}),
							resumedAt: Math.min(resumedAt, now),
						});
					}),
				),
			),
		);
	}

	async #goOn(entry: Entry, nextRunAt: number | null): Promise<void> {
		await this.#book.put({
			...entry.stored,
			nextRunAt,
			...(nextRunAt === null ? { state: 'ended', reason: overText } : {}),
		});
	}

	/** One occurrence whose time has come. */
	async #deal(entry: Entry, one: Turned): Promise<void> {
		const { id } = entry.stored;
		const forbids = one.origin === 'planned' && this.#forbids(entry, one.plannedAt);
		if (forbids) {
			await this.#fire(entry, one, 'skipped', `blackout ${forbids}`);
			return;
		}
		if (!entry.definition.job || one.overlap === 'allow') {
			await this.#begin(entry, one);
			return;
		}
		const live = await this.#live(id);
		const waiting = await this.#context.store.read('waitingOccurrences', { scheduleId: id });
		if (live.length === 0 && waiting.length === 0) {
			await this.#begin(entry, one);
			return;
		}
		const runs = live[0] ? `job ${live[0].jobId} has not ended` : 'one before it waits';
		switch (one.overlap) {
			case 'skip':
				await this.#fire(entry, one, 'skipped', `overlap: ${runs}`);
				return;
			case 'queue-one':
			case 'queue-all': {
				const most = one.overlap === 'queue-one' ? 1 : maxWaiting;
				if (waiting.length >= most) {
					const many = most === 1 ? 'one waits' : `${most} wait`;
					await this.#fire(entry, one, 'skipped', `overlap: ${runs}, and ${many} already`);
					return;
				}
				break;
			}
			case 'cancel-old':
				for (const { origin, plannedAt } of waiting.filter(givesWay)) {
					const old = { origin, plannedAt, dueAt: plannedAt, overlap: one.overlap, waited: true };
					await this.#fire(entry, old, 'skipped', 'overlap: a newer one takes its place');
				}
		}
		await this.#fire(entry, one, 'waiting', runs);
		this.#waiting.add(id);
		if (one.overlap === 'cancel-old') await this.#giveWay(live, id);
		// The run before it may have ended before this one waited.
		void this.#carefully(id, () => this.drain(id));
	}

	#forbids({ definition }: Entry, plannedAt: number): string | null {
		const { blackouts, timezone } = definition;
		if (blackouts.length === 0) return null;
		// Neither at its own time nor, when that was missed, at the one it would run at.
		const now = this.#context.clock.now();
		return (
			this.#calendars.forbids(blackouts, timezone, plannedAt) ??
			this.#calendars.forbids(blackouts, timezone, Math.max(now, plannedAt))
		);
	}

	/** Submits its job, or only tells consumers. False when that is refused, or it was dealt with before. */
	async #begin(entry: Entry, one: Turned): Promise<boolean> {
		const { stored, definition } = entry;
		const late = this.#context.clock.now() - one.dueAt;
		const made = one.origin === 'backfill' || (!one.waited && late > graceMs);
		const state = made ? 'made_up' : 'ran';
		if (!definition.job) return this.#fire(entry, one, state, null);
		const prepared = this.#jobs.scheduled(definition.job, stored.id);
		if (prepared instanceof Problem) return this.#refuse(entry, one, prepared);
		const jobId = prepared.job.id;
		const occurrence = await this.#occurrence(entry, one, state, null, jobId);
		const key = { scheduleId: stored.id, origin: one.origin, plannedAt: one.plannedAt };
		// Before it can end.
		this.#open.set(jobId, key);
		let answer;
		try {
			[answer] = await this.#jobs.insert([{ ...prepared, occurrence }]);
		} catch (error) {
			this.#open.delete(jobId);
			throw error;
		}
		if (answer instanceof Problem) {
			this.#open.delete(jobId);
			if (answer.code !== 'already-fired') return this.#refuse(entry, one, answer);
		}
		this.#dealt(occurrence);
		return !(answer instanceof Problem);
	}

	async #refuse(entry: Entry, one: Turned, problem: Problem): Promise<boolean> {
		const { id } = entry.stored;
		const now = this.#context.clock.now();
		const why = `${problem.message} [${problem.code}]`;
		// It was dealt with before: the row is that of another run, which may live.
		if (!(await this.#fire(entry, one, 'refused', why))) return false;
		const key = { scheduleId: id, origin: one.origin, plannedAt: one.plannedAt };
		await this.#outcome(key, null, { outcome: 'failed', endedAt: now, ranMs: null });
		return false;
	}

	/** Deals with it without a job. */
	async #fire(
		entry: Entry,
		one: Turned,
		state: NewOccurrence['state'],
		reason: string | null,
	): Promise<boolean> {
		const occurrence = await this.#occurrence(entry, one, state, reason, null);
		const fresh = await this.#context.turns.deed('fire', occurrence);
		this.#dealt(occurrence);
		if (state === 'missed' || state === 'made_up' || state === 'refused') {
			const { scheduleId, plannedAt } = occurrence;
			this.#context.log.warn(`occurrence ${state.replace('_', ' ')}`, {
				scheduleId,
				plannedAt,
				...(state === 'refused' ? { reason } : {}),
			});
		}
		return fresh;
	}

	async #occurrence(
		{ stored, definition }: Entry,
		{ origin, plannedAt, dueAt, nextRunAt, waited, over, missed = 0 }: Turned,
		state: NewOccurrence['state'],
		reason: string | null,
		jobId: string | null,
	): Promise<NewOccurrence> {
		const at = this.#context.clock.now();
		const ran = state === 'ran' || state === 'made_up';
		const due: ScheduleDue = {
			scheduleId: stored.id,
			plannedAt,
			origin,
			late: at - dueAt > lateMs,
			...(jobId === null ? {} : { jobId }),
		};
		const ended =
			nextRunAt === undefined
				? undefined
				: nextRunAt === null
					? overText
					: ran || state === 'waiting'
						? await this.#full(stored.id, definition.maxRuns)
						: undefined;
		return {
			scheduleId: stored.id,
			origin,
			plannedAt,
			at,
			state,
			reason,
			jobId,
			...(waited ? { waited } : {}),
			...(over ? { over } : {}),
			...(nextRunAt === undefined ? {} : { nextRunAt: ended === undefined ? nextRunAt : null }),
			...(ended === undefined ? {} : { ended }),
			...(ran ? { event: { type: 'schedule.due', data: JSON.stringify(due) } } : {}),
			...(state === 'skipped' || state === 'refused' || missed > 0
				? { event: goneEvent(stored, { state, plannedAt, count: missed || 1, reason }) }
				: {}),
		};
	}

	/** Whether this run is the last one it may have. */
	async #full(scheduleId: string, maxRuns: number | undefined): Promise<string | undefined> {
		if (maxRuns === undefined) return undefined;
		const { planned } = await this.#context.store.read('occurrenceTotals', { scheduleId });
		return planned + 1 >= maxRuns ? ranText(planned + 1) : undefined;
	}

	/** The commit has carried it: memory follows. */
	#dealt({ scheduleId, state, plannedAt, nextRunAt, ended, event }: NewOccurrence): void {
		const entry = this.#book.peek(scheduleId);
		const ran = state === 'ran' || state === 'made_up';
		if (entry && (nextRunAt !== undefined || ran)) {
			const { stored } = entry;
			const active = stored.state === 'active' && nextRunAt !== undefined;
			this.#book.remember({
				...stored,
				...(active ? { nextRunAt } : {}),
				...(active && ended !== undefined ? { state: 'ended', reason: ended } : {}),
				...(ran ? { lastRunAt: Math.max(stored.lastRunAt ?? 0, plannedAt) } : {}),
			});
		}
		if (event) this.#context.watchers.hint('events', event.subject ?? scheduleId);
	}

	#hearEnd(jobId: string): void {
		const key = this.#open.get(jobId);
		if (!key) return;
		this.#unheard.add(jobId);
		void this.#carefully(key.scheduleId, async () => {
			await this.#book.inLine(key.scheduleId, () => this.#ended(jobId, key));
			if (this.#waiting.has(key.scheduleId)) await this.drain(key.scheduleId);
		});
	}

	async #ended(jobId: string, key: Key): Promise<void> {
		const job = await this.#context.store.read('job', { id: jobId });
		if (job && !isFinal(job.state)) {
			this.#unheard.delete(jobId);
			return;
		}
		const endedAt = job?.endedAt ?? this.#context.clock.now();
		// A job that was forgotten before we heard of its end: nobody can know it any more.
		const outcome = (job?.state ?? 'failed') as FinalState;
		const ranMs = job?.startedAt == null ? null : Math.max(0, endedAt - job.startedAt);
		await this.#outcome(key, jobId, { outcome, endedAt, ranMs });
		this.#open.delete(jobId);
		this.#unheard.delete(jobId);
	}

	/** Puts on record how it ended, and what that means for its schedule. */
	async #outcome(
		key: Key,
		jobId: string | null,
		end: { outcome: FinalState; endedAt: number; ranMs: number | null },
	): Promise<void> {
		const { turns, watchers, log } = this.#context;
		const entry = this.#book.peek(key.scheduleId);
		const failed = end.outcome === 'failed' || end.outcome === 'timeout';
		const before = entry ? await this.#streak(entry) : 0;
		const failures = before + (failed ? 1 : 0);
		const most = entry?.definition.pauseAfterFailures ?? Infinity;
		const pauses = failed && failures >= most && entry?.stored.state === 'active';
		const recovers = end.outcome === 'completed' && before > 0;
		const type = pauses ? 'schedule.paused' : recovers ? 'schedule.recovered' : undefined;
		const name = entry?.stored.name;
		const data: ScheduleTurn = { scheduleId: key.scheduleId, name, failures, jobId };
		const reason = `${failures} runs failed one after the other${jobId === null ? '' : `, the last one as job ${jobId}`}`;
		const fresh = await turns.deed('occurrenceEnded', {
			scheduleId: key.scheduleId,
			origin: key.origin,
			plannedAt: key.plannedAt,
			...end,
			...(pauses ? { pause: reason } : {}),
			...(type
				? { event: { at: end.endedAt, type, subject: type, data: JSON.stringify(data) } }
				: {}),
		});
		if (!fresh || !entry) return;
		if (type) watchers.hint('events', type);
		if (!pauses) return;
		log.warn('schedule paused itself', { scheduleId: key.scheduleId, failures });
		const { stored } = this.#book.find(key.scheduleId);
		this.#book.remember({ ...stored, state: 'paused', reason, nextRunAt: null });
	}

	/** How many have failed in a row, up to now. Cancelled ones count neither way. */
	async #streak({ stored: { id, resumedAt } }: Entry): Promise<number> {
		const ended = await this.#context.store.read('endedOccurrences', {
			scheduleId: id,
			limit: maxStreak,
		});
		let failures = 0;
		for (const { outcome, endedAt } of ended) {
			if (outcome === 'completed' || endedAt! <= resumedAt) break;
			if (outcome !== 'cancelled') failures += 1;
		}
		return failures;
	}

	/** One schedule's trouble is not another's. A broken store ends the service elsewhere. */
	async #carefully(scheduleId: string, work: () => Promise<void>): Promise<void> {
		try {
			await work();
		} catch (error) {
			this.#context.log.error('a schedule could not be dealt with', {
				scheduleId,
				error: (error as Error).message,
			});
		}
	}
}

/** A newer run takes the place of older ones, not of times of the past that somebody has run again. */
const givesWay = ({ origin }: Pick<StoredOccurrence, 'origin'>) => origin !== 'backfill';

function goneEvent(
	{ id: scheduleId, name }: Entry['stored'],
	what: Pick<ScheduleGone, 'plannedAt' | 'count'> & {
		state: NewOccurrence['state'];
		reason: string | null;
	},
): NonNullable<NewOccurrence['event']> {
	const type: EventKind = what.state === 'missed' ? 'schedule.missed' : 'schedule.skipped';
	const data = { scheduleId, name, ...what, reason: what.reason ?? '' } as ScheduleGone;
	return { type, subject: type, data: JSON.stringify(data) };
}

export const overText = 'nothing more is planned';
export const ranText = (times: number) => `it has run ${times} times`;
/** Why a schedule that a backup brought back is paused. */
export const restoredText = 'the store was restored';

export function occurrenceView({ ranMs: _, ...rest }: StoredOccurrence): Occurrence {
	return rest;
}
