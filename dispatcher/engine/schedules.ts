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
	Problem,
	type RunRequest,
	type Schedule,
	type ScheduleChange,
	type ScheduleRequest,
	type UpcomingRun,
} from '../../protocol';
import { grown } from '../core/bulk';
import { fanOutOf } from '../core/fan-out';
import { clashesOf, type ForecastRun } from '../core/forecast';
import { describeRule, laneRule, misfit } from '../core/matching';
import { type Planned, Recurrence } from '../core/recurrence';
import { type Definition, defined, timingOf } from '../core/schedule';
import { zoneOf } from '../core/zone';
import type { StoredOccurrence, StoredSchedule } from '../store/store';
import type { Calendars } from './calendars';
import type { Context } from './context';
import type { Caller } from './index';
import type { Jobs } from './jobs';
import { type Occurrences, occurrenceView, overText } from './occurrences';
import type { Entry, ScheduleBook } from './schedule-book';

/** Words of the API's paths. */
const takenIds = ['upcoming', 'forecast', 'preview', 'pause', 'resume'];
const allPaused = 'all schedules were paused';
const upcomingShown = 5;
const maxBackfill = 1_000;
/** A clock is set at least once in so long, or never. */
const yearMs = 400 * 86_400_000;
const aroundMs = 3 * 3_600_000;
/** Of one schedule a forecast looks at so many runs; and so many clashes are told. */
const maxForecastRuns = 2_000;
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
			const { catchUpMs = known?.definition.catchUpMs } = request;
			return this.#put(id, { ...request, ...(catchUpMs === undefined ? {} : { catchUpMs }) }, by);
		});
	}

	/** Changes only the fields that are named; null = the default again. */
	change(id: string, change: ScheduleChange, by: Caller): Promise<Schedule> {
		return this.#book.inLine(id, async () => {
			const { stored, definition } = this.#book.find(id);
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
		const mistake = definition.job && this.#jobs.scheduled(definition.job, id);
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
		};
		if (!enabled) {
			const reason = paused ? known.stored.reason : pausedBy(by);
			return this.#save({ ...base, state: 'paused', reason, nextRunAt: null });
		}
		const { maxRuns } = definition;
		const full =
			maxRuns !== undefined &&
			(await this.#context.store.read('plannedRuns', { scheduleId: id, since: createdAt })) >=
				maxRuns;
		const nextRunAt = full
			? null
			: same && known.stored.state === 'active'
				? known.stored.nextRunAt
				: (new Recurrence(timingOf(definition, anchorAt)).after(now)?.at ?? null);
		return this.#save({ ...base, ...stateOf(nextRunAt, full ? maxRuns : undefined), nextRunAt });
	}

	pause(id: string, by: Caller): Promise<Schedule> {
		return this.#book.inLine(id, async () => this.#pause(this.#book.find(id), pausedBy(by)));
	}

	resume(id: string): Promise<Schedule> {
		return this.#book.inLine(id, async () => this.#resume(this.#book.find(id)));
	}

	/** All that are active. Answers how many. */
	async pauseAll(): Promise<{ changed: number }> {
		return this.#each(
			({ stored }) => stored.state === 'active',
			(entry) => this.#pause(entry, allPaused),
		);
	}

	/** Those that were paused all together; who was paused alone stays so. */
	async resumeAll(): Promise<{ changed: number }> {
		return this.#each(
			({ stored }) => stored.state === 'paused' && stored.reason === allPaused,
			(entry) => this.#resume(entry),
		);
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
		if (entry.stored.state === 'paused') return this.#view(entry);
		return this.#save({ ...entry.stored, state: 'paused', reason, nextRunAt: null });
	}

	/** From now on; what was missed meanwhile is not made up. */
	async #resume(entry: Entry): Promise<Schedule> {
		if (entry.stored.state !== 'paused') return this.#view(entry);
		const now = this.#context.clock.now();
		const nextRunAt = entry.recurrence.after(now)?.at ?? null;
		const resumed = await this.#save({
			...entry.stored,
			...stateOf(nextRunAt, undefined),
			resumedAt: now,
			nextRunAt,
		});
		// Behind us in the line: what waited while it was paused.
		void this.#occurrences.drain(entry.stored.id).catch(() => undefined);
		return resumed;
	}

	remove(id: string): Promise<void> {
		return this.#book.inLine(id, async () => {
			this.#book.find(id);
			await this.#context.turns.deed('removeSchedule', { id, at: this.#context.clock.now() });
			this.#book.forget(id);
		});
	}

	async run(id: string, { overlap }: RunRequest): Promise<Occurrence> {
		return occurrenceView(await this.#occurrences.run(id, overlap));
	}

	/** Planned times of the past, to be run now. A preview unless `expect` says how many there are. */
	async backfill(id: string, request: BackfillRequest): Promise<BackfillAnswer> {
		const { from, to, all = false, expect, overlap = 'queue-all' } = request;
		const { recurrence } = this.#book.find(id);
		if (to <= from) {
			throw new Problem('bad-field', { path: 'to', reason: 'must be later than from' });
		}
		if (to > this.#context.clock.now()) {
			throw new Problem('bad-field', { path: 'to', reason: 'must not be in the future' });
		}
		const planned = recurrence.list(from - 1, maxBackfill + 1, to - 1).map(({ at }) => at);
		if (planned.length > maxBackfill) {
			throw new Problem('bad-field', {
				path: 'to',
				reason: `leaves more than ${maxBackfill} planned times; choose a shorter window`,
			});
		}
		const ran = new Set(
			all ? [] : await this.#context.store.read('ranBetween', { scheduleId: id, from, to }),
		);
		const plannedAt = planned.filter((at) => !ran.has(at));
		if (expect === undefined) return { preview: true, plannedAt, started: 0 };
		if (grown(expect, plannedAt.length)) {
			throw new Problem('bulk-grown', { matched: plannedAt.length, expect });
		}
		const started = await this.#occurrences.backfill(id, plannedAt, overlap);
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
		const next = this.#book
			.all()
			.filter(({ stored }) => stored.state === 'active' && stored.nextRunAt !== null)
			.map((entry) => ({ entry, planned: entry.recurrence.after(entry.stored.nextRunAt! - 1) }))
			.filter((one) => one.planned !== undefined);
		const found: UpcomingRun[] = [];
		while (found.length < limit && next.length > 0) {
			const first = next.reduce((a, b) => (b.planned!.at < a.planned!.at ? b : a));
			const { stored, definition, recurrence } = first.entry;
			const run = this.#planned(definition, first.planned!);
			found.push({ scheduleId: stored.id, name: stored.name, ...run });
			first.planned = recurrence.after(first.planned!.at);
			if (!first.planned) next.splice(next.indexOf(first), 1);
		}
		return found;
	}

	/** What a schedule would do; nothing is stored. */
	preview({ schedule, from, count = 10 }: PreviewRequest): Preview {
		const definition = defined(schedule);
		this.#calendars.check(definition.blackouts);
		const now = this.#context.clock.now();
		const start = from ?? now;
		const recurrence = new Recurrence(timingOf(definition, definition.startAt ?? now));
		return {
			runs: recurrence.list(start, count).map((one) => this.#planned(definition, one)),
			changes: this.#changes(definition, recurrence, start),
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
		for (const { stored, definition, recurrence } of this.#book.all()) {
			if (stored.state !== 'active' || stored.nextRunAt === null) continue;
			const start = Math.max(from, stored.nextRunAt - 1);
			const planned = recurrence.list(start, maxForecastRuns + 1, to);
			const more = planned.length > maxForecastRuns;
			const { blackouts, timezone, job } = definition;
			const wanted = planned
				.slice(0, maxForecastRuns)
				.filter(({ at }) => this.#calendars.forbids(blackouts, timezone, at) === null);
			const ended = await store.read('endedOccurrences', {
				scheduleId: stored.id,
				limit: runsAveraged,
			});
			const known = ended.flatMap(({ ranMs }) => (ranMs === null ? [] : [ranMs]));
			const runMs =
				known.length === 0
					? defaultRunMs
					: Math.max(1_000, Math.round(known.reduce((a, b) => a + b) / known.length));
			const place = job && this.#place(job.target ?? {});
			schedules.push({
				scheduleId: stored.id,
				name: stored.name,
				runs: wanted.length,
				more,
				runMs,
				target: place?.target ?? null,
			});
			if (!place) continue;
			for (const { at } of wanted) runs.push({ at, runMs, scheduleId: stored.id, ...place });
		}
		const slotsOf = (robotId: string) => fleet.get(robotId)?.stored.slots ?? 0;
		return { from, to, schedules, clashes: clashesOf(runs, slotsOf, maxClashes) };
	}

	/** Which robots a job may go to, and on how many it runs; nowhere when its robot is gone. */
	#place(target: NonNullable<NonNullable<Definition['job']>['target']>) {
		const { fleet } = this.#context;
		const pinned = target.robot === undefined ? undefined : fleet.find(target.robot);
		if (pinned === 'ambiguous' || (target.robot !== undefined && !pinned)) return undefined;
		const rule = laneRule(this.#jobs.place(target).lane);
		const robots = [...fleet.all()].filter((robot) => misfit(rule, robot) === undefined);
		const mode = fanOutOf(target);
		const slots = mode === undefined ? 1 : mode === 'all' ? robots.length : mode.count;
		const words = pinned ? `robot ${pinned.stored.name}` : describeRule(rule);
		return { robots: robots.map(({ robotId }) => robotId), slots, target: words };
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
		const { id, name, state, reason, nextRunAt, lastRunAt, createdAt, createdBy } = stored;
		const { job, startAt, endAt, maxRuns, pauseAfterFailures, ...rest } = definition;
		const counts = await this.#context.store.read('occurrenceCounts', {
			scheduleId: id,
			since: createdAt,
		});
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
							.list(nextRunAt - 1, Math.min(upcomingShown, maxRuns ?? Infinity))
							.map(({ at }) => at),
			counts,
			createdAt,
			createdBy,
		};
	}
}

const pausedBy = (by: Caller) => `${by.name} paused it`;

function stateOf(
	nextRunAt: number | null,
	full: number | undefined,
): Pick<StoredSchedule, 'state' | 'reason'> {
	if (nextRunAt !== null) return { state: 'active', reason: null };
	return { state: 'ended', reason: full === undefined ? overText : `it has run ${full} times` };
}
