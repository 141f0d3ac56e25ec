/**
 * How the fleet is and was: the record for dashboards, the series of minutes, and the families for scrapers. What a
 * scrape costs follows robots and lanes, never jobs: what has ended is counted as it ends (meter.ts). What the record
 * says of today is read from the jobs themselves, in stretches; one whose jobs have all ended is read once. Callers
 * that ask for a day that is still to be read share the answer; breakdowns cost more, and are read one at a time.
 */
import {
	type Breakdown,
	type BreakdownRow,
	isFinal,
	type JobState,
	limits,
	type MetricsRecord,
	type PlannedToday,
	Problem,
	type RobotStatus,
	robotStatuses,
	series,
	type SeriesAnswer,
	type SeriesName,
} from '../../protocol';
import { byName, counter, type Family, gauge } from '../core/exposition';
import { isZone, zoneOf } from '../core/zone';
import { firstIdAt } from '../store/purge';
import type { Reads, Tally } from '../store/store';
import type { Context } from './context';
import { type Meter, sumNames } from './meter';
import { statusOf } from './views';
import type { Waits } from './waits';

const minuteMs = 60_000;
const dayMs = 86_400_000;
/** Jobs of one stretch: a millisecond or two. */
const stretch = 5_000;
/** How many days stay counted: callers live in different time zones. */
const maxDays = 8;
const maxBreakdownMs = 31 * dayMs;
/** Breakdowns that are asked for at once: one is read, the others wait for it. */
const maxBreakdowns = 8;
const maxRows = 1_000;

/** A stretch of today's jobs; `upTo` is missing while it grows. */
interface Stretch {
	after: string;
	upTo?: string;
	states: Tally[];
	/** All of its jobs have ended. */
	over: boolean;
}

/** What came of a day up to `now`. */
interface Counted {
	now: number;
	states: { counts: Record<JobState, number>; ranMs: number };
	planned: PlannedToday;
}

export class Metrics {
	readonly #context: Context;
	readonly #meter: Meter;
	readonly #waits: Waits;
	readonly #stop = new AbortController();
	#loop: Promise<void> | undefined;
	/** By the id that the day begins with. */
	readonly #days = new Map<string, Stretch[]>();
	/** Counts of a day: the last one in line, and, by their midnight, those that have not begun. */
	#counting: Promise<unknown> = Promise.resolve();
	readonly #toCount = new Map<number, Promise<Counted>>();
	#breakdowns = 0;
	#breakingDown: Promise<unknown> = Promise.resolve();
	/** What the last sample that is on disk had counted. */
	#sampled: Meter['totals'];
	#dispatched = { count: 0, sum: 0 };

	constructor(context: Context, meter: Meter, waits: Waits) {
		this.#context = context;
		this.#meter = meter;
		this.#waits = waits;
		this.#sampled = { ...meter.totals };
	}

	start(): void {
		this.#loop ??= this.#run();
	}

	/** What the minute under way has counted is written down. */
	async stop(): Promise<void> {
		if (this.#stop.signal.aborted) return;
		this.#stop.abort();
		await this.#loop;
		if (this.#loop) await this.#sample().catch(() => undefined);
	}

	async #run(): Promise<void> {
		const { clock, log } = this.#context;
		const { signal } = this.#stop;
		for (;;) {
			const now = clock.now();
			await clock.sleep(minuteMs - (now % minuteMs), signal);
			if (signal.aborted) return;
			try {
				await this.#sample();
			} catch (error) {
				// It is counted with the next minute; a broken store ends the service elsewhere.
				log.warn('a minute of metrics could not be sampled', { error: (error as Error).message });
			}
		}
	}

	async #sample(): Promise<void> {
		const { clock, turns } = this.#context;
		const totals = { ...this.#meter.totals };
		const { count, sum } = this.#meter.dispatch;
		const sums = Object.fromEntries(
			sumNames.map((name) => [name, totals[name] - this.#sampled[name]]),
		) as Meter['totals'];
		const { count: before, sum: sumBefore } = this.#dispatched;
		const now = clock.now();
		const fleet = this.#fleetNow();
		// Sampled at the end of a minute, and named after its start.
		const at = Math.floor((now - 1) / minuteMs) * minuteMs;
		await turns.deed('putSample', {
			at,
			values: {
				...sums,
				waiting: fleet.waiting,
				running: fleet.running,
				robots: fleet.online,
				slots: fleet.slots,
				slotsUsed: fleet.slotsUsed,
				oldestMs: this.#oldestMs(now) ?? 0,
				dispatchMs: count > before ? ((sum - sumBefore) / (count - before)) * 1000 : null,
			},
			forgetBefore: at - limits.keepSamplesMs,
		});
		this.#sampled = totals;
		this.#dispatched = { count, sum };
	}

	async series(metric: SeriesName, from?: number, to?: number): Promise<SeriesAnswer> {
		const end = to ?? this.#context.clock.now();
		const start = from ?? end - dayMs;
		if (start >= end) throw new Problem('bad-field', { path: 'from', reason: 'must be before to' });
		// Whole minutes, so that every step holds the same number of them.
		const stepMs = Math.ceil((end - start) / limits.maxPoints / minuteMs) * minuteMs;
		const points = await this.#context.store.read('series', {
			metric,
			from: Math.floor(start / stepMs) * stepMs,
			to: end,
			stepMs,
		});
		return { metric, how: series[metric].how, stepMs, points };
	}

	async record(timezone = 'UTC'): Promise<MetricsRecord> {
		const { clock, backlog } = this.#context;
		if (!isZone(timezone)) throw new Problem('bad-timezone', { timezone });
		const since = midnight(timezone, clock.now());
		const { now, states, planned } = await this.#countShared(since);
		await backlog.counted;
		const fleet = this.#fleetNow();
		const { completed, failed, timeout, cancelled } = states.counts;
		return {
			at: now,
			since,
			timezone,
			totalRobots: fleet.total,
			onlineRobots: fleet.online,
			offlineRobots: fleet.total - fleet.online,
			slots: fleet.slots,
			slotsUsed: fleet.slotsUsed,
			totalJobsToday: Object.values(states.counts).reduce((sum, count) => sum + count, 0),
			completedJobsToday: completed,
			failedJobsToday: failed + timeout,
			cancelledJobsToday: cancelled,
			pendingJobs: fleet.waiting,
			runningJobs: fleet.running,
			oldestQueuedMs: this.#oldestMs(now),
			averageExecutionMs: share(states.ranMs, completed),
			successRate: share(completed, completed + failed + timeout),
			plannedSuccessRate: share(planned.completed, planned.due),
			planned,
		};
	}

	/** One after the other: they would only wait for each other in the store. */
	#countShared(since: number): Promise<Counted> {
		const known = this.#toCount.get(since);
		if (known) return known;
		const counted = this.#counting.then(() => {
			// From here on, the answer would be older than the question.
			this.#toCount.delete(since);
			return this.#count(since);
		});
		this.#toCount.set(since, counted);
		this.#counting = counted.catch(() => undefined);
		return counted;
	}

	async #count(since: number): Promise<Counted> {
		const now = this.#context.clock.now();
		return { now, states: await this.#today(since), planned: await this.#planned(since, now) };
	}

	/** One at a time; ends with its caller. Rejects with the reason of the signal. */
	async breakdown(
		by: Breakdown,
		from?: number,
		to?: number,
		signal?: AbortSignal,
	): Promise<BreakdownRow[]> {
		const { clock } = this.#context;
		const end = to ?? clock.now() + 1;
		const start = from ?? midnight('UTC', end);
		if (start >= end) throw new Problem('bad-field', { path: 'from', reason: 'must be before to' });
		if (end - start > maxBreakdownMs) {
			throw new Problem('bad-field', { path: 'from', reason: 'must be at most 31 days before to' });
		}
		if (this.#breakdowns >= maxBreakdowns) {
			const what = 'questions of this kind at once';
			throw new Problem('too-many', { what, retryMs: 5_000 });
		}
		this.#breakdowns += 1;
		const rows = this.#breakingDown.then(() => this.#breakDown(by, start, end, signal));
		this.#breakingDown = rows.catch(() => undefined);
		return rows.finally(() => (this.#breakdowns -= 1));
	}

	async #breakDown(
		by: Breakdown,
		start: number,
		end: number,
		signal: AbortSignal | undefined,
	): Promise<BreakdownRow[]> {
		const { store, fleet } = this.#context;
		const rows = new Map<string, BreakdownRow & { ranMs: number }>();
		for (let after: string | undefined = firstIdAt(start); after !== undefined;) {
			signal?.throwIfAborted();
			const found: Reads['breakdown']['out'] = await store.read('breakdown', {
				by,
				after,
				before: firstIdAt(end),
				scan: stretch,
			});
			for (const { of, state, count, ranMs } of found.rows) {
				let row = rows.get(of);
				if (!row) rows.set(of, (row = { ...emptyRow, of }));
				row.jobs += count;
				row.ranMs += ranMs;
				if (state === 'completed' || state === 'cancelled') row[state] += count;
				else if (isFinal(state)) row.failed += count;
			}
			after = found.next;
		}
		return [...rows.values()]
			.sort((a, b) => (by === 'hour' ? Number(a.of) - Number(b.of) : b.jobs - a.jobs))
			.slice(0, maxRows)
			.map(({ ranMs, ...row }) => ({
				...row,
				name: by === 'robot' ? (fleet.get(row.of)?.stored.name ?? null) : null,
				averageExecutionMs: share(ranMs, row.completed),
				successRate: share(row.completed, row.completed + row.failed),
			}));
	}

	/** Everything a scraper is told. Costs a look at each robot and each attempt that is under way. */
	families(): Family[] {
		const { clock, backlog } = this.#context;
		const meter = this.#meter;
		const fleet = this.#fleetNow();
		const { pending, queued } = backlog.waits;
		const waitsNow = this.#waits.counts;
		return [
			{
				name: 'robot_fleet_jobs',
				help: 'Jobs that have not ended, by state; parents that wait for their children are not counted.',
				type: 'gauge',
				samples: byName('state', {
					pending,
					queued: fleet.waiting - pending,
					dispatched: fleet.dispatched,
					running: fleet.running - fleet.dispatched,
				}),
			},
			{
				name: 'robot_fleet_jobs_queued',
				help: 'Jobs that could start if a robot were free, by priority.',
				type: 'gauge',
				samples: byName('priority', queued),
			},
			gauge(
				'robot_fleet_queue_oldest_seconds',
				'How long the first queued job is in line; 0 when none is.',
				(this.#oldestMs(clock.now()) ?? 0) / 1000,
			),
			{
				name: 'robot_fleet_jobs_submitted_total',
				help: 'Jobs submitted, by kind.',
				type: 'counter',
				samples: byName('kind', meter.submittedByKind),
			},
			{
				name: 'robot_fleet_jobs_ended_total',
				help: 'Jobs that ended, by state.',
				type: 'counter',
				samples: byName('state', meter.ended),
			},
			{
				name: 'robot_fleet_jobs_ended_cause_total',
				help: 'Jobs that ended otherwise than completed, by cause.',
				type: 'counter',
				samples: byName('cause', meter.causes),
			},
			counter(
				'robot_fleet_attempts_assigned_total',
				'Attempts given to robots.',
				meter.totals.assigned,
			),
			{
				name: 'robot_fleet_attempts_ended_total',
				help: 'Attempts that ended, by outcome.',
				type: 'counter',
				samples: byName('outcome', meter.attempts),
			},
			{
				name: 'robot_fleet_dispatch_seconds',
				help: 'From the moment a job could start to its being given to a robot.',
				type: 'histogram',
				series: [{ of: meter.dispatch }],
			},
			{
				name: 'robot_fleet_run_seconds',
				help: 'From start to end of an attempt.',
				type: 'histogram',
				series: [{ of: meter.run }],
			},
			{
				name: 'robot_fleet_robots',
				help: 'Robots by status.',
				type: 'gauge',
				samples: byName('status', fleet.statuses),
			},
			counter('robot_fleet_quarantines_total', 'Robots put into quarantine.', meter.quarantines),
			gauge('robot_fleet_slots', 'Slots of connected robots.', fleet.slots),
			gauge('robot_fleet_slots_used', 'Slots of connected robots in use.', fleet.slotsUsed),
			{
				name: 'robot_fleet_schedule_occurrences_total',
				help: 'Planned times of schedules by what became of them: ran, made_up, waiting, skipped, missed, refused.',
				type: 'counter',
				samples: byName('state', meter.occurrences),
			},
			{
				name: 'robot_fleet_waits',
				help: 'Parked executions: open waits for its jobs, due for being taken.',
				type: 'gauge',
				samples: byName('state', waitsNow),
			},
			counter(
				'robot_fleet_waits_dead_total',
				'Parked executions that nobody took.',
				meter.deadWaits,
			),
			counter('robot_fleet_output_bytes_total', 'Bytes of output stored.', meter.outputBytes),
			{
				name: 'robot_fleet_store_commit_seconds',
				help: 'Commits of the store, from asking to synced.',
				type: 'histogram',
				series: [{ of: meter.commit }],
			},
			counter('robot_fleet_store_deeds_total', 'Deeds committed.', meter.deeds),
		];
	}

	/** One look at everybody. */
	#fleetNow() {
		const { fleet, clock, backlog } = this.#context;
		const mono = clock.monotonic();
		const statuses = Object.fromEntries(robotStatuses.map((status) => [status, 0])) as Record<
			RobotStatus,
			number
		>;
		let [total, online, slots, slotsUsed] = [0, 0, 0, 0];
		for (const entry of fleet.all()) {
			total += 1;
			statuses[statusOf(entry, mono)] += 1;
			if (!entry.session) continue;
			online += 1;
			slots += entry.stored.slots;
			slotsUsed += entry.held.size + entry.extra;
		}
		let [running, dispatched] = [0, 0];
		for (const { state } of fleet.lives()) {
			running += 1;
			if (state === 'dispatched') dispatched += 1;
		}
		const { pending, queued } = backlog.waits;
		const waiting = Object.values(queued).reduce((sum, count) => sum + count, pending);
		return { statuses, total, online, slots, slotsUsed, running, dispatched, waiting };
	}

	#oldestMs(now: number): number | null {
		const at = this.#context.backlog.oldestQueuedAt;
		return at === null ? null : Math.max(0, now - at);
	}

	async #today(since: number): Promise<Counted['states']> {
		const { store } = this.#context;
		const start = firstIdAt(since);
		let day = this.#days.get(start);
		if (!day) {
			this.#days.set(start, (day = []));
			for (const [old] of this.#days) {
				if (this.#days.size > maxDays) this.#days.delete(old);
			}
		}
		const counts = { pending: 0, queued: 0, dispatched: 0, running: 0, ...noFinals };
		let ranMs = 0;
		for (let i = 0, after = start; ; i += 1) {
			const part = (day[i] ??= { after, states: [], over: false });
			if (!part.over) {
				const { upTo } = part;
				const read = await store.read('tallies', {
					after: part.after,
					...(upTo === undefined ? {} : { upTo }),
					scan: stretch,
				});
				part.states = read.states;
				if (read.next !== undefined) part.upTo = read.next;
				part.over = part.upTo !== undefined && read.states.every(({ state }) => isFinal(state));
			}
			for (const { state, count, ranMs: ran } of part.states) {
				counts[state] += count;
				ranMs += ran;
			}
			if (part.upTo === undefined) return { counts, ranMs };
			after = part.upTo;
		}
	}

	async #planned(from: number, to: number): Promise<PlannedToday> {
		const planned: PlannedToday = { due: 0, completed: 0, failed: 0, notRun: 0, open: 0 };
		for (const { state, blackout, outcome, count } of await this.#context.store.read(
			'plannedCounts',
			{ from, to },
		)) {
			if (blackout === 1) continue;
			// Neither a success nor a failure, as everywhere.
			if (outcome === 'cancelled') continue;
			if (outcome === 'completed') planned.completed += count;
			else if (outcome !== null) planned.failed += count;
			else if (state === 'missed' || state === 'refused' || state === 'skipped') {
				planned.notRun += count;
			} else planned.open += count;
		}
		planned.due = planned.completed + planned.failed + planned.notRun;
		return planned;
	}
}

const noFinals = { completed: 0, failed: 0, timeout: 0, cancelled: 0 };
const emptyRow = {
	name: null,
	jobs: 0,
	completed: 0,
	failed: 0,
	cancelled: 0,
	averageExecutionMs: null,
	successRate: null,
	ranMs: 0,
};

const share = (part: number, of: number) => (of === 0 ? null : part / of);

/** The last midnight of the zone; where a clock leaves midnight out, the first instant of that day. */
export function midnight(timezone: string, now: number): number {
	const zone = zoneOf(timezone);
	const wall = Math.floor((now + zone.offsetAt(now)) / dayMs) * dayMs;
	return wall - zone.offsetAt(wall - zone.offsetAt(now));
}
