/**
 * Schedules: when something is due, what is then submitted, and what becomes of each planned time.
 * The rule for clocks that are set forward and back is written in docs/schedules.md.
 */
import type { Submit } from './job';
import type { FinalState } from './states';

export const frequencies = [
	'once',
	'interval',
	'hourly',
	'daily',
	'weekly',
	'monthly',
	'cron',
] as const;
export type Frequency = (typeof frequencies)[number];

/** In the order of cron: 0 = Sunday. */
export const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
export type Weekday = (typeof weekdays)[number];

/** When a schedule is due. Times of day are local time in its zone. */
export interface When {
	frequency: Frequency;
	/** For `once`. */
	at?: number;
	/** For `interval`: time from one run to the next, counted from `startAt`. At least 1,000. */
	everyMs?: number;
	/** For `cron`: 5 fields, or 6 with seconds first. */
	cron?: string;
	/** For `hourly`: 0…59. Default 0. */
	minute?: number;
	/** For `daily`, `weekly`, `monthly`: `02:30` or `02:30:15`. Default `00:00`. */
	times?: string[];
	/** For `weekly`. */
	weekdays?: Weekday[];
	/** For `monthly`: 1…31, and -1 for the last day. In a month that is too short, its last day. */
	days?: number[];
	/** For `monthly`, instead of days: the 2nd Tuesday, the last Friday (week -1). */
	nth?: NthWeekday;
	/**
	 * Only every n-th hour (a divisor of 24), day (up to 366), week (from Monday, up to 53) or month (up to 60), counted
	 * from `startAt`. Default 1.
	 */
	every?: number;
}

export interface NthWeekday {
	/** 1…5, or -1 for the last. A month without a fifth one is skipped. */
	week: number;
	weekday: Weekday;
}

export const overlaps = ['skip', 'queue-one', 'queue-all', 'cancel-old', 'allow'] as const;
/**
 * What happens to a run that is due while an earlier one has not ended.
 * - `skip`       it is left out
 * - `queue-one`  one waits for the earlier one to end; further ones are left out
 * - `queue-all`  all wait, one after the other
 * - `cancel-old` the earlier one is cancelled, unless it is a backfill's; the new one starts when it has ended
 * - `allow`      both run
 */
export type Overlap = (typeof overlaps)[number];

export interface ScheduleRequest {
	/** For people. Default: the id. */
	name?: string;
	/** Short for `when: {frequency: 'cron', cron}`. One of the two is needed. */
	cron?: string;
	when?: When;
	/** IANA name. Default UTC. */
	timezone?: string;
	/** What is submitted at each planned time. Absent = nothing; consumers get the event all the same. */
	job?: Submit;
	enabled?: boolean;
	/** No run before this. Default: when the schedule was put. */
	startAt?: number;
	/** No run after this. */
	endAt?: number;
	/** The schedule ends after this many runs. */
	maxRuns?: number;
	/**
	 * Delays each run by up to this much: by an amount that is always the same for that run, and less than the
	 * time to the next one. Default 0.
	 */
	jitterMs?: number;
	/** A time of day that the clock skips: run at the first instant after the gap (default), or not at all. */
	gap?: 'shift' | 'skip';
	/** A time of day that comes twice: run the first time (default), or both. */
	fold?: 'first' | 'both';
	/** Which planned times to make up of those that passed while nobody could run them. Default last. */
	missed?: 'none' | 'last' | 'all';
	/** Age of the oldest missed time that is still made up. Default 3,600,000; 0 = none. */
	catchUpMs?: number;
	/** With `missed: all`: at most this many, the newest. Default 100. */
	catchUpMax?: number;
	/** Default skip. */
	overlap?: Overlap;
	/** Names of calendars: nothing runs while one of them says so. */
	blackouts?: string[];
	/** Pause it after this many failed runs in a row. Default: never. */
	pauseAfterFailures?: number;
}

/** Fields to change; null = the default again. */
export type ScheduleChange = { [K in keyof ScheduleRequest]?: ScheduleRequest[K] | null };

/** Why a schedule without a job is paused: its consumer was not seen for as long as events are kept. */
export const leftText = 'nobody follows it any more';

export const scheduleStates = ['active', 'paused', 'ended'] as const;
export type ScheduleState = (typeof scheduleStates)[number];

export interface Schedule {
	scheduleId: string;
	name: string;
	when: When;
	/** Of a cron schedule; null for others. */
	cron: string | null;
	timezone: string;
	/** `ended` = nothing more will come of it. */
	state: ScheduleState;
	/** Who paused it, why it ended, or what keeps an active one from running. */
	reason: string | null;
	enabled: boolean;
	job: Submit | null;
	startAt: number | null;
	endAt: number | null;
	maxRuns: number | null;
	jitterMs: number;
	gap: 'shift' | 'skip';
	fold: 'first' | 'both';
	missed: 'none' | 'last' | 'all';
	catchUpMs: number;
	catchUpMax: number;
	overlap: Overlap;
	blackouts: string[];
	pauseAfterFailures: number | null;
	/** The next planned time; its jitter comes on top. */
	nextRunAt: number | null;
	lastRunAt: number | null;
	/** The next five planned times, for people. */
	upcoming: number[];
	/** Of the occurrences that are still on record. */
	counts: OccurrenceCounts;
	createdAt: number;
	createdBy: string;
}

export interface OccurrenceCounts {
	/** Submitted, or told to consumers. */
	runs: number;
	succeeded: number;
	/** Their jobs did not complete, or were refused. */
	failed: number;
	/** Not ended yet. */
	running: number;
	waiting: number;
	skipped: number;
	missed: number;
}

export const origins = ['planned', 'manual', 'backfill'] as const;
export type Origin = (typeof origins)[number];

export const occurrenceStates = [
	'ran',
	'made_up',
	'waiting',
	'skipped',
	'missed',
	'refused',
] as const;
/**
 * - `ran`     submitted (or told) in time
 * - `made_up` the same, more than a minute late
 * - `waiting` for the end of the run before it
 * - `skipped` left out on purpose; `reason` says why
 * - `missed`  nobody was there, or it was too late to make it up
 * - `refused` its job could not be submitted; `reason` says why
 */
export type OccurrenceState = (typeof occurrenceStates)[number];

/** What became of one planned time. */
export interface Occurrence {
	scheduleId: string;
	origin: Origin;
	plannedAt: number;
	/** When it was dealt with. */
	at: number;
	state: OccurrenceState;
	reason: string | null;
	jobId: string | null;
	/** How its job ended; null while it lives, and when there is none. */
	outcome: FinalState | null;
	endedAt: number | null;
}

export interface ScheduleDue {
	scheduleId: string;
	plannedAt: number;
	origin: Origin;
	/** True when the service was away at the planned time. */
	late: boolean;
	/** The job that was submitted for it. */
	jobId?: string;
}

/** A schedule paused itself because its runs failed, or the first run succeeded after failed ones. */
export interface ScheduleTurn {
	scheduleId: string;
	/** Absent in events from before it was recorded. */
	name?: string;
	/** How many failed in a row. */
	failures: number;
	/** The job whose end decided it. */
	jobId: string | null;
}

export interface RunRequest {
	/** For this run only. */
	overlap?: Overlap;
}

export interface BackfillRequest {
	/** The window of planned times: `from` ≤ planned < `to`. Not in the future. */
	from: number;
	/** Default now, by the clock of the service. */
	to?: number;
	/** Also times that have run, except what is under way. Default: only those that have not. */
	all?: boolean;
	/** The count the preview gave; absent = a preview. */
	expect?: number;
	/** Default queue-all: one after the other. */
	overlap?: 'queue-all' | 'allow';
}

export interface BackfillAnswer {
	/** True = nothing was started. */
	preview: boolean;
	/** The planned times that it runs, oldest first. */
	plannedAt: number[];
	/** How many of them were started, or wait. */
	started: number;
}

export interface PreviewRequest {
	schedule: ScheduleRequest;
	/** Default now. */
	from?: number;
	/** Default 10. */
	count?: number;
}

/** `shifted` = its time of day does not exist on that day; `repeated` = the second time the clock shows it. */
export type PlannedMark = 'shifted' | 'repeated';

export interface PlannedRun {
	at: number;
	/** ISO-8601 with the offset of the zone. */
	local: string;
	mark: PlannedMark | null;
	/** The calendar that keeps it from running. */
	blackout: string | null;
}

/** One change of the clock, and what the schedule does around it. */
export interface ClockChange {
	kind: 'gap' | 'fold';
	at: number;
	/** What the clock shows before and after. */
	from: string;
	to: string;
	/** Planned runs from three hours before to three hours after it; at most 20. */
	runs: PlannedRun[];
}

export interface Preview {
	runs: PlannedRun[];
	/** The next time the zone's clock is set forward, and the next time it is set back. */
	changes: ClockChange[];
}

export interface UpcomingRun extends PlannedRun {
	scheduleId: string;
	name: string;
}

export interface Forecast {
	from: number;
	to: number;
	schedules: ForecastSchedule[];
	clashes: Clash[];
}

export interface ForecastSchedule {
	scheduleId: string;
	name: string;
	/** Planned runs within that time that no blackout forbids. */
	runs: number;
	/** There are more: only the first ones were looked at. */
	more: boolean;
	/** How long a run takes, going by the last ones; a minute if there were none. */
	runMs: number;
	/** Where its job may run, in words; null = it has no job. */
	target: string | null;
}

/** More is planned at one time than fits. */
export interface Clash {
	from: number;
	to: number;
	/** In words. */
	target: string;
	needs: number;
	/** Slots of all robots that match, connected or not. */
	has: number;
	scheduleIds: string[];
}

export interface CalendarSpan {
	from: number;
	/** Not included. */
	to: number;
	text?: string;
}

export interface CalendarRequest {
	/** Instants. */
	spans?: CalendarSpan[];
	/** The text of an .ics file. Days and times without a zone are in that of the schedule that asks. */
	ical?: string;
}

export interface Calendar {
	name: string;
	entries: number;
	/** Schedules that keep to it. */
	usedBy: string[];
	/** The next spans from now on in UTC, for people. */
	next: CalendarSpan[];
	updatedAt: number;
}
