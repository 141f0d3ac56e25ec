/**
 * Schedules as people see and change them. What becomes of their planned times is in occurrences.ts.
 */
import {
	type BackfillAnswer,
	type BackfillRequest,
	type ClockChange,
	type Forecast,
	type Occurrence,
	type PlannedRun,
	type Preview,
	type PreviewRequest,
	leftText,
	Problem,
	type RunRequest,
	type Schedule,
	type ScheduleChange,
	type ScheduleRequest,
	type Target,
	type UpcomingRun,
} from '../../protocol';
import { grown } from '../core/bulk';
import { fanOutOf, widthOf } from '../core/fan-out';
import { clashesBySet, earliest, type ForecastClash, type ForecastRun } from '../core/forecast';
import { describeRule, laneRule, laneWith, misfit } from '../core/matching';
import { demand, may } from '../core/may';
import { horizonMs, type Planned, Recurrence } from '../core/recurrence';
import { type Definition, defined, timingOf } from '../core/schedule';
import { isZone, unknownZoneText, zoneOf } from '../core/zone';
import type { StoredOccurrence, StoredSchedule } from '../store/store';
import type { Calendars } from './calendars';
import type { Context } from './context';
import type { Caller } from './index';
import type { Home, Jobs } from './jobs';
import { type Occurrences, occurrenceView, overText, ranText, restoredText } from './occurrences';
import { partingOf } from './parents';
import type { Entry, ScheduleBook } from './schedule-book';
import { Slices } from './slices';

/** Words of the API's paths. */
const takenIds = ['upcoming', 'forecast', 'preview', 'pause', 'resume'];
const allPaused = 'all schedules were paused';
const upcomingShown = 5;
const maxBackfill = 1_000;
/** A clock is set at least once in this time, or never. */
const yearMs = 400 * 86_400_000;
const aroundMs = 3 * 3_600_000;
/** How many runs a forecast looks at, of one schedule and of all; and how many clashes it tells. */
const maxForecastRuns = 2_000;
const maxForecastRunsInAll = 20_000;
const maxClashes = 200;
const defaultRunMs = 60_000;
const runsAveraged = 20;

export class Schedules {
	readonly #context: Context;
	readonly #book: ScheduleBook;
	readonly #calendars: Calendars;
	readonly #occurrences: Occurrences;
	readonly #jobs: Jobs;

	constructor(
		context: Context,
		book: ScheduleBook,
		calendars: Calendars,
		occurrences: Occurrences,
		jobs: Jobs,
	) {
		this.#context = context;
		this.#book = book;
		this.#calendars = calendars;
		this.#occurrences = occurrences;
		this.#jobs = jobs;
	}

	all(): Promise<Schedule[]> {
		return Promise.all(this.#book.all().map((entry) => this.#view(entry)));
	}

	async one(id: string): Promise<Schedule> {
		return this.#view(this.#book.find(id));
	}

	/** The clock goes on where it was when the times are the same, and starts anew when they are not. */
	put(id: string, request: ScheduleRequest, by: Caller): Promise<Schedule> {
		if (takenIds.includes(id)) {
			throw new Problem('bad-field', { path: 'id', reason: `"${id}" is a word of the API` });
		}
		return this.#book.inLine(id, () => {
			const known = this.#book.peek(id);
			if (known) this.#demandOwn(known, by);
			const { catchUpMs = known?.definition.catchUpMs } = request;
			return this.#put(id, { ...request, ...(catchUpMs === undefined ? {} : { catchUpMs }) }, by);
		});
	}

	/** Changes only the fields that are named; null = the default again. */
	change(id: string, change: ScheduleChange, by: Caller): Promise<Schedule> {
		return this.#book.inLine(id, async () => {
			const { stored, definition } = this.#own(id, by);
			const { cron, ...rest } = change;
			const merged = {
				...definition,
				name: stored.name,
				...(cron === undefined || cron === null ? {} : { when: { frequency: 'cron', cron } }),
				...rest,
			};
			const request = Object.fromEntries(
				Object.entries(merged).filter(([, value]) => value !== null && value !== undefined),
			) as ScheduleRequest;
			return this.#put(id, request, by);
		});
	}

	async #put(id: string, request: ScheduleRequest, by: Caller): Promise<Schedule> {
		const known = this.#book.peek(id);
		const definition = defined(request);
		this.#calendars.check(definition.blackouts);
		// Refused now rather than at every planned time.
		const mistake = definition.job && this.#jobs.scheduled(definition.job, id, false);
		if (mistake instanceof Problem) throw mistake;
		const now = this.#context.clock.now();
		const paused = known?.stored.state === 'paused';
		const enabled = request.enabled ?? !paused;
		const fresh = definition.startAt ?? now;
		const same =
			known !== undefined &&
			JSON.stringify(timingOf(definition, 0)) === JSON.stringify(timingOf(known.definition, 0));
		const anchorAt = same ? known.stored.anchorAt : fresh;
		const createdAt = known?.stored.createdAt ?? now;
		const base = {
			id,
			name: request.name ?? known?.stored.name ?? id,
			definition: JSON.stringify(definition),
			anchorAt,
			resumedAt: enabled && paused ? now : (known?.stored.resumedAt ?? now),
			lastRunAt: known?.stored.lastRunAt ?? null,
			createdBy: known?.stored.createdBy ?? `key:${by.name}`,
			createdAt,
			generation: known?.stored.generation ?? this.#context.epochs.next(),
		};
		if (!enabled) {
			const reason = paused ? known.stored.reason : pausedBy(by);
			return this.#save({ ...base, state: 'paused', reason, nextRunAt: null });
		}
		const next =
			same && known.stored.state === 'active'
				? known.stored.nextRunAt
				: new Recurrence(timingOf(definition, anchorAt)).after(now)?.at;
		return this.#save({ ...base, ...(await this.#from(id, definition, next ?? null)) });
	}

	/** How a schedule goes on from this planned time: it has ended if there is none, or if it has run `maxRuns` times. */
	async #from(
		id: string,
		definition: Definition,
		next: number | null,
	): Promise<Pick<StoredSchedule, 'state' | 'reason' | 'nextRunAt'>> {
		const { left, ran } = await this.#runs(id, definition);
		// In an unknown zone there is none for now: a service that knows the zone plans the next one when it starts.
		const later = next === null && !isZone(definition.timezone);
		if (left > 0 && (next !== null || later)) {
			return { state: 'active', reason: null, nextRunAt: next };
		}
		return { state: 'ended', reason: left > 0 ? overText : ranText(ran), nextRunAt: null };
	}

	/** How many planned runs it had, and may still have. */
	async #runs(id: string, { maxRuns }: Definition): Promise<{ ran: number; left: number }> {
		if (maxRuns === undefined) return { ran: 0, left: Infinity };
		const totals = await this.#context.store.read('occurrenceTotals', { scheduleId: id });
		return { ran: totals.planned, left: Math.max(0, maxRuns - totals.planned) };
	}

	pause(id: string, by: Caller): Promise<Schedule> {
		return this.#book.inLine(id, async () => this.#pause(this.#own(id, by), pausedBy(by)));
	}

	resume(id: string, by: Caller): Promise<Schedule> {
		return this.#book.inLine(id, async () => {
			const resumed = await this.#resume(this.#own(id, by));
			this.#context.log.info('schedule resumed', { scheduleId: id, by: by.name });
			return resumed;
		});
	}

	/** All that are active. Answers how many. */
	async pauseAll(by: Caller): Promise<{ changed: number }> {
		return this.#each(
			({ stored }) => stored.state === 'active',
			(entry) => this.#pause(entry, `${allPaused} by ${by.name}`),
		);
	}

	/** Those that were paused all together, by a caller or by a restore; one that was paused alone stays so. */
	async resumeAll(by: Caller): Promise<{ changed: number }> {
		const together = ({ stored: { state, reason } }: Entry) =>
			state === 'paused' && (reason === restoredText || reason?.startsWith(allPaused) === true);
		const done = await this.#each(together, (entry) => this.#resume(entry));
		this.#context.log.info('schedules resumed', { ...done, by: by.name });
		return done;
	}

	/**
	 * These consumers are gone. A schedule that was there only for its own consumer (a trigger whose workflow was
	 * switched off, say) fires for nobody: it waits until somebody comes for it.
	 */
	async pauseLeft(keys: readonly string[]): Promise<void> {
		const { store, log } = this.#context;
		let changed = 0;
		for (const id of keys) {
			if (!this.#book.peek(id)) continue;
			await this.#book.inLine(id, async () => {
				const entry = this.#book.peek(id);
				if (entry?.stored.state !== 'active' || entry.definition.job !== undefined) return;
				// Others may follow it under keys of their own.
				if (await store.read('isFollowed', { scheduleId: id })) return;
				await this.#pause(entry, leftText);
				changed += 1;
			});
		}
		if (changed > 0) log.info('paused schedules that nobody follows', { changed });
	}

	/** Somebody has come for it. */
	async followedAgain(id: string | undefined): Promise<void> {
		if (id === undefined || !this.#book.peek(id)) return;
		await this.#book.inLine(id, async () => {
			const entry = this.#book.peek(id);
			if (entry?.stored.state !== 'paused' || entry.stored.reason !== leftText) return;
			await this.#resume(entry);
			this.#context.log.info('resumed a schedule that is followed again', { scheduleId: id });
		});
	}

	/** What the restore held back of the jobs is settled: its schedules go on too. */
	async resumeRestored(by: Caller): Promise<void> {
		const held = ({ stored: { state, reason } }: Entry) =>
			state === 'paused' && reason === restoredText;
		const { changed } = await this.#each(held, (entry) => this.#resume(entry));
		if (changed > 0) {
			this.#context.log.info('restored schedules resumed', { changed, by: by.name });
		}
	}

	/** A schedule that the caller may change: their own, or any with the scope operate. */
	#own(id: string, by: Caller): Entry {
		const entry = this.#book.find(id);
		this.#demandOwn(entry, by);
		return entry;
	}

	#demandOwn({ stored: { id, createdBy } }: Entry, by: Caller): void {
		if (createdBy === `key:${by.name}` || may(by, 'operate')) return;
		throw new Problem('not-your-schedule', { id, owner: createdBy.replace(/^key:/, 'the key ') });
	}

	async #each(
		wanted: (entry: Entry) => boolean,
		change: (entry: Entry) => Promise<unknown>,
	): Promise<{ changed: number }> {
		const changed = await Promise.all(
			this.#book.all().map(({ stored: { id } }) =>
				this.#book.inLine(id, async () => {
					const entry = this.#book.peek(id);
					if (!entry || !wanted(entry)) return 0;
					await change(entry);
					return 1;
				}),
			),
		);
		return { changed: changed.reduce<number>((sum, one) => sum + one, 0) };
	}

	async #pause(entry: Entry, reason: string): Promise<Schedule> {
		// One that has ended has nothing to pause, and would no longer know that it has ended.
		if (entry.stored.state !== 'active') return this.#view(entry);
		return this.#save({ ...entry.stored, state: 'paused', reason, nextRunAt: null });
	}

	/** From now on; what was missed meanwhile is not made up. */
	async #resume(entry: Entry): Promise<Schedule> {
		if (entry.stored.state !== 'paused') return this.#view(entry);
		const now = this.#context.clock.now();
		const { stored, definition, recurrence } = entry;
		const resumed = await this.#save({
			...stored,
			...(await this.#from(stored.id, definition, recurrence.after(now)?.at ?? null)),
			resumedAt: now,
		});
		// After us in the line: what waited while it was paused.
		void this.#occurrences.drain(entry.stored.id).catch(() => undefined);
		return resumed;
	}

	remove(id: string, by: Caller): Promise<void> {
		return this.#book.inLine(id, async () => {
			this.#own(id, by);
			await this.#context.turns.deed('removeSchedule', { id, at: this.#context.clock.now() });
			this.#book.forget(id);
			// Whoever follows it learns of it.
			this.#context.watchers.hint('events', id);
		});
	}

	async run(id: string, { overlap }: RunRequest, by: Caller): Promise<Occurrence> {
		// In an unknown zone, what waits goes on waiting: it would keep the next run from running, too.
		demandZone(this.#own(id, by));
		// Asked for by hand it is a cancel like any other.
		if (overlap === 'cancel-old') demand(by, 'cancel');
		return occurrenceView(await this.#occurrences.run(id, overlap));
	}

	/** Planned times of the past, to be run now. A preview unless `expect` says how many there are. */
	async backfill(id: string, request: BackfillRequest, by: Caller): Promise<BackfillAnswer> {
		const now = this.#context.clock.now();
		const { from, to = now, all = false, expect, overlap = 'queue-all' } = request;
		const entry = this.#own(id, by);
		demandZone(entry);
		const { recurrence, stored } = entry;
		if (to <= from) {
			throw new Problem('bad-field', { path: 'to', reason: 'must be later than from' });
		}
		if (to > now) {
			throw new Problem('bad-field', { path: 'to', reason: 'must not be in the future' });
		}
		const planned = recurrence.list(from - 1, maxBackfill + 1, to - 1).map(({ at }) => at);
		if (planned.length > maxBackfill) {
			throw new Problem('bad-field', {
				path: 'to',
				reason: `leaves more than ${maxBackfill} planned times; choose a shorter window`,
			});
		}
		const window = { scheduleId: id, from, to, underWay: all };
		const stay = new Set(await this.#context.store.read('ranBetween', window));
		// The schedule itself still deals with those from there on: say, their jitter makes them come later.
		const ahead = stored.nextRunAt ?? Infinity;
		const plannedAt = planned.filter((at) => at < ahead && !stay.has(at));
		if (expect === undefined) return { preview: true, plannedAt, started: 0 };
		if (grown(expect, plannedAt.length)) {
			throw new Problem('bulk-grown', { matched: plannedAt.length, expect });
		}
		const started = await this.#occurrences.backfill(id, plannedAt, overlap, all);
		return { preview: false, plannedAt, started };
	}

	async occurrences(
		id: string,
		{ limit, cursor }: { limit: number; cursor?: string },
	): Promise<{ items: Occurrence[]; cursor?: string }> {
		this.#book.find(id);
		const [plannedAt, origin] = cursor?.split('.') ?? [];
		const found: StoredOccurrence[] = await this.#context.store.read('occurrences', {
			scheduleId: id,
			limit,
			...(origin === undefined
				? {}
				: { before: { plannedAt: Number(plannedAt), origin: origin as 'planned' } }),
		});
		const last = found.length === limit ? found.at(-1) : undefined;
		return {
			items: found.map(occurrenceView),
			...(last ? { cursor: `${last.plannedAt}.${last.origin}` } : {}),
		};
	}

	/** The next runs of all schedules together. */
	async upcoming(limit: number): Promise<UpcomingRun[]> {
		const upTo = this.#context.clock.now() + horizonMs;
		const active = this.#book
			.all()
			.filter(({ stored }) => stored.state === 'active' && stored.nextRunAt !== null);
		const next = await Promise.all(
			active.map(async (entry) => {
				const { left } = await this.#runs(entry.stored.id, entry.definition);
				const runs = this.#next(entry, entry.stored.nextRunAt! - 1, upTo, left);
				return { entry, runs, first: runs.next().value };
			}),
		);
		const found: UpcomingRun[] = [];
		const slices = new Slices(this.#context.clock);
		while (found.length < limit && !slices.over) {
			await slices.pause();
			let first: (typeof next)[number] | undefined;
			for (const one of next) {
				if (one.first && (!first?.first || one.first.at < first.first.at)) first = one;
			}
			if (!first?.first) break;
			const { id, name } = first.entry.stored;
			found.push({ scheduleId: id, name, ...first.first });
			first.first = first.runs.next().value;
		}
		return found;
	}

	/** The planned times after `after`, including those in a blackout, until `left` of them can run. */
	*#next(
		{ definition, recurrence }: Pick<Entry, 'definition' | 'recurrence'>,
		after: number,
		upTo: number,
		left: number,
	): Generator<PlannedRun, undefined> {
		for (let last = after; left > 0;) {
			const planned = recurrence.after(last);
			if (!planned || planned.at > upTo) return undefined;
			const run = this.#planned(definition, planned);
			yield run;
			if (run.blackout === null) left -= 1;
			last = planned.at;
		}
		return undefined;
	}

	/** What a schedule would do; nothing is stored. */
	async preview({ schedule, from, count = 10 }: PreviewRequest): Promise<Preview> {
		const definition = defined(schedule);
		this.#calendars.check(definition.blackouts);
		const now = this.#context.clock.now();
		const start = from ?? now;
		const upTo = now + horizonMs;
		const recurrence = new Recurrence(timingOf(definition, definition.startAt ?? now));
		const runs = this.#next(
			{ definition, recurrence },
			start,
			upTo,
			definition.maxRuns ?? Infinity,
		);
		const slices = new Slices(this.#context.clock);
		const shown: PlannedRun[] = [];
		for (const run of runs) {
			shown.push(run);
			if (shown.length === count || slices.over) break;
			await slices.pause();
		}
		return {
			runs: shown,
			// Further on nobody knows how clocks will be set.
			changes: start > upTo ? [] : this.#changes(definition, recurrence, start),
		};
	}

	#changes(definition: Definition, recurrence: Recurrence, from: number): ClockChange[] {
		const zone = zoneOf(definition.timezone);
		const found: ClockChange[] = [];
		for (const { at, before, offset } of zone.changes(from, from + yearMs)) {
			const kind = offset > before ? 'gap' : 'fold';
			if (found.some((one) => one.kind === kind)) continue;
			const runs = recurrence.list(at - aroundMs - 1, 20, at + aroundMs);
			found.push({
				kind,
				at,
				from: new Date(at + before).toISOString().slice(11, 19),
				to: new Date(at + offset).toISOString().slice(11, 19),
				runs: runs.map((one) => this.#planned(definition, one)),
			});
		}
		return found;
	}

	async forecast(days: number): Promise<Forecast> {
		const { fleet, clock, store } = this.#context;
		const from = clock.now();
		const to = from + days * 86_400_000;
		const runs: ForecastRun[] = [];
		const schedules: Forecast['schedules'] = [];
		const slices = new Slices(clock);
		let looked = 0;
		for (const entry of this.#book.all()) {
			const { stored, definition } = entry;
			if (stored.state !== 'active' || stored.nextRunAt === null) continue;
			const { left } = await this.#runs(stored.id, definition);
			const wanted: number[] = [];
			let more = false;
			let mine = 0;
			for (const { at, blackout } of this.#next(
				entry,
				Math.max(from, stored.nextRunAt - 1),
				to,
				left,
			)) {
				more = mine >= maxForecastRuns || looked >= maxForecastRunsInAll || slices.over;
				if (more) break;
				mine += 1;
				looked += 1;
				if (blackout === null) wanted.push(at);
				await slices.pause();
			}
			const ended = await store.read('endedOccurrences', {
				scheduleId: stored.id,
				limit: runsAveraged,
			});
			const known = ended.flatMap(({ ranMs }) => (ranMs === null ? [] : [ranMs]));
			const runMs =
				known.length === 0
					? defaultRunMs
					: Math.max(1_000, Math.round(known.reduce((a, b) => a + b) / known.length));
			const place = definition.job && this.#place(definition.job);
			schedules.push({
				scheduleId: stored.id,
				name: stored.name,
				runs: wanted.length,
				more,
				runMs,
				target: place?.target ?? null,
			});
			if (!place) continue;
			for (const at of wanted) runs.push({ at, runMs, scheduleId: stored.id, ...place });
		}
		const slotsOf = (robotId: string) => fleet.get(robotId)?.stored.slots ?? 0;
		let clashes: ForecastClash[] = [];
		for (const found of clashesBySet(runs, slotsOf)) {
			clashes = earliest([...clashes, ...found], maxClashes);
			if (slices.over) break;
			await slices.pause();
		}
		return { from, to, schedules, clashes };
	}

	/** Which robots a job may go to, and on how many it runs; nowhere when its robot, group or pool is gone. */
	#place({ target = {}, slots: each = 1 }: NonNullable<Definition['job']>) {
		const { fleet } = this.#context;
		const pinned = target.robot === undefined ? undefined : fleet.find(target.robot);
		if (pinned === 'ambiguous' || (target.robot !== undefined && !pinned)) return undefined;
		const home = this.#homeOf(target);
		if (!home) return undefined;
		const rule = laneRule(laneWith(home.lane, { slots: each }));
		const robots = [...fleet.all()].filter((robot) => misfit(rule, robot) === undefined);
		const mode = fanOutOf(target);
		const parts = mode && new Set(robots.flatMap(partingOf(fleet, mode)));
		const children = mode === undefined ? 1 : widthOf(mode, robots.length, parts!.size);
		const slots = each * children;
		const words = pinned ? `robot ${pinned.stored.name}` : describeRule(rule, fleet.nameOf);
		return { robots: robots.map(({ robotId }) => robotId), slots, target: words };
	}

	#homeOf(target: Target): Home | undefined {
		try {
			return this.#jobs.place(target, true);
		} catch (error) {
			if (error instanceof Problem) return undefined;
			throw error;
		}
	}

	#planned({ timezone, blackouts }: Definition, { at, mark }: Planned): PlannedRun {
		return {
			at,
			local: zoneOf(timezone).text(at),
			mark,
			blackout: this.#calendars.forbids(blackouts, timezone, at),
		};
	}

	async #save(stored: StoredSchedule): Promise<Schedule> {
		return this.#view(await this.#book.put(stored));
	}

	async #view({ stored, definition, recurrence }: Entry): Promise<Schedule> {
		const { id, name, state, lastRunAt, createdAt, createdBy } = stored;
		const held = state === 'active' && !recurrence.knowsZone;
		const { reason, nextRunAt } = held
			? { reason: `nothing runs: ${unknownZoneText(definition.timezone)}`, nextRunAt: null }
			: stored;
		const { job, startAt, endAt, maxRuns, pauseAfterFailures, ...rest } = definition;
		const totals = await this.#context.store.read('occurrenceTotals', { scheduleId: id });
		const { planned, ...counts } = totals;
		const left = Math.max(0, (maxRuns ?? Infinity) - planned);
		const upTo = this.#context.clock.now() + horizonMs;
		return {
			scheduleId: id,
			name,
			state,
			reason,
			enabled: state !== 'paused',
			...rest,
			cron: definition.when.cron ?? null,
			job: job ?? null,
			startAt: startAt ?? null,
			endAt: endAt ?? null,
			maxRuns: maxRuns ?? null,
			pauseAfterFailures: pauseAfterFailures ?? null,
			nextRunAt,
			lastRunAt,
			upcoming:
				nextRunAt === null
					? []
					: recurrence
							.list(nextRunAt - 1, Math.min(upcomingShown, left), Math.max(upTo, nextRunAt))
							.map(({ at }) => at),
			counts,
			createdAt,
			createdBy,
		};
	}
}

const pausedBy = (by: Caller) => `${by.name} paused it`;

function demandZone({ recurrence, definition: { timezone } }: Entry): void {
	if (!recurrence.knowsZone) throw new Problem('bad-timezone', { timezone });
}
