/**
 * What the service tells its durable consumers (`/subscriptions`): kinds of events, what each one says, and how a
 * consumer chooses them. An event is written in the commit of the change it reports, and kept for `--keep-events`.
 */
import type { Cause, FinalState } from './states';

/**
 * - `job.ended`          a job has ended, however it did; written only while somebody follows it
 * - `job.prompt`         a running program asks for input
 * - `job.asks`           the robot of a job stays away, and the job asks what to do
 * - `job.late-result`    a robot reported the end of an attempt that was already over
 * - `robot.connected`    a robot connected for the first time
 * - `robot.lost`         a robot has been away for 45 s; not while the service itself has just started
 * - `robot.back`         a robot that was lost is connected again
 * - `robot.closed`       a robot no longer gets jobs: people closed it, or it is in quarantine
 * - `robot.opened`       it gets jobs again
 * - `schedule.missed`    times of a schedule passed while the service was off, and are not made up
 * - `schedule.skipped`   a time of a schedule came to nothing: overlap, blackout, or its job was refused
 * - `schedule.paused`    a schedule paused itself because its runs failed
 * - `schedule.recovered` the first run of a schedule succeeded after failed ones
 *
 * Occurrences of one schedule (`schedule.due`) are followed by its id.
 */
export const eventKinds = [
	'job.ended',
	'job.prompt',
	'job.asks',
	'job.late-result',
	'robot.connected',
	'robot.lost',
	'robot.back',
	'robot.closed',
	'robot.opened',
	'schedule.missed',
	'schedule.skipped',
	'schedule.paused',
	'schedule.recovered',
] as const;
export type EventKind = (typeof eventKinds)[number];

/** Which ended jobs; all that is set must hold. */
export interface EndedFilter {
	states?: FinalState[];
	causes?: Cause[];
	/** Kinds of jobs. */
	kinds?: string[];
	shareKey?: string;
	/** Only jobs that failed for good. */
	dead?: boolean;
	/** Leave out the parts of jobs for several robots, not those jobs themselves. */
	whole?: boolean;
}

/** Exactly one of `scheduleId`, `event` and `events`; the rest narrows `event` and `events`. */
export interface EventFilter {
	/** The occurrences of this schedule. */
	scheduleId?: string;
	event?: EventKind;
	events?: EventKind[];
	/** Ids or names: of events about jobs and robots, only those about these robots. */
	robots?: string[];
	/** The same, for robots that have these labels when the event is handed out. */
	labels?: Record<string, string>;
	/** Ids: of events about schedules and ended jobs, only those about these schedules. */
	schedules?: string[];
	/** Narrows `job.ended`. */
	ended?: EndedFilter;
}

/** How a job ended. Its result: `GET /jobs/{id}`. */
export interface JobEnded {
	jobId: string;
	kind: string;
	state: FinalState;
	cause: Cause | null;
	/** Where it last ran; null when no robot got it. */
	robotId: string | null;
	/** Name of that robot. */
	robot: string | null;
	attempt: number;
	/** The job for several robots that it is a part of. */
	parentId: string | null;
	/** How many parts it has; null unless it is a job for several robots. */
	parts: number | null;
	scheduleId: string | null;
	shareKey: string | null;
	/** It failed for good, and nobody has dealt with it. */
	dead: boolean;
	createdBy: string;
	createdAt: number;
	startedAt: number | null;
	endedAt: number;
}

/** A robot connected for the first time, is lost, or is back. */
export interface RobotPresence {
	robotId: string;
	name: string;
	labels: Record<string, string>;
	/** For one that is lost or back: when it went away. */
	awaySince: number | null;
}

/** Times of a schedule came to nothing. */
export interface ScheduleGone {
	scheduleId: string;
	name: string;
	state: 'missed' | 'skipped' | 'refused';
	/** The last of these times. */
	plannedAt: number;
	/** How many there were. */
	count: number;
	reason: string;
}

export interface JobEndedEvent {
	cursor: number;
	at: number;
	type: 'job.ended';
	data: JobEnded;
}

export interface RobotPresenceEvent {
	cursor: number;
	at: number;
	type: 'robot.connected' | 'robot.lost' | 'robot.back';
	data: RobotPresence;
}

export interface ScheduleGoneEvent {
	cursor: number;
	at: number;
	type: 'schedule.missed' | 'schedule.skipped';
	data: ScheduleGone;
}
