/** What the service measures about itself: the record that dashboards show, and series by the minute. */

/** How the fleet is, and what came of today's work. */
export interface MetricsRecord {
	at: number;
	/** When today began, in `timezone`. */
	since: number;
	timezone: string;
	totalRobots: number;
	/** Connected, whatever they do. */
	onlineRobots: number;
	offlineRobots: number;
	/** Slots of connected robots, and how many are in use. */
	slots: number;
	slotsUsed: number;
	/** Jobs submitted today, and how many have ended in which way. Cancelled ones are neither completed nor failed. */
	totalJobsToday: number;
	completedJobsToday: number;
	/** Ended as failed or timeout. */
	failedJobsToday: number;
	cancelledJobsToday: number;
	/** Now, whenever submitted: jobs that wait (pending, queued), and jobs that are with robots. */
	pendingJobs: number;
	runningJobs: number;
	/** How long the first queued job has been in line. */
	oldestQueuedMs: number | null;
	/** From start to end, of today's jobs that completed; null = none has. */
	averageExecutionMs: number | null;
	/** Share of completed jobs among those that completed or failed, 0 to 1; null = none has. */
	successRate: number | null;
	/**
	 * Share that completed of what schedules had planned for today up to now, 0 to 1. A time that was missed, refused or
	 * left out because the run before it was still going counts; a blackout, a run under way and a cancelled one do not.
	 */
	plannedSuccessRate: number | null;
	planned: PlannedToday;
}

/** Planned times of today that have come. */
export interface PlannedToday {
	/** All that should have ended. */
	due: number;
	completed: number;
	failed: number;
	/** Missed, refused, or left out because of overlap. */
	notRun: number;
	/** Under way, or waiting for the run before it. */
	open: number;
}

/**
 * Series that are sampled once a minute. A `sum` counts what happened within the minute, a `level` is how
 * things stood at its end. Over longer steps sums are added up, and levels averaged. A minute without dispatch
 * has no `dispatchMs`, and is left out of its mean.
 */
export const series = {
	submitted: { how: 'sum', text: 'jobs submitted' },
	completed: { how: 'sum', text: 'jobs that completed' },
	failed: { how: 'sum', text: 'jobs that failed' },
	timeout: { how: 'sum', text: 'jobs whose time was over' },
	cancelled: { how: 'sum', text: 'jobs that were cancelled' },
	assigned: { how: 'sum', text: 'attempts given to robots' },
	lost: { how: 'sum', text: 'attempts nobody knows the end of' },
	runs: { how: 'sum', text: 'planned times of schedules that ran' },
	missed: { how: 'sum', text: 'planned times that were missed or refused' },
	waiting: { how: 'level', text: 'jobs that wait' },
	running: { how: 'level', text: 'jobs that are with robots' },
	robots: { how: 'level', text: 'robots that are connected' },
	slots: { how: 'level', text: 'slots of connected robots' },
	slotsUsed: { how: 'level', text: 'slots in use' },
	oldestMs: { how: 'level', text: 'how long the first queued job is in line, ms' },
	dispatchMs: {
		how: 'level',
		text: 'mean time from ready to given to a robot, within the minute, ms',
	},
} as const satisfies Record<string, { how: 'sum' | 'level'; text: string }>;
export type SeriesName = keyof typeof series;
export const seriesNames = Object.keys(series) as SeriesName[];

export interface SeriesAnswer {
	metric: SeriesName;
	how: 'sum' | 'level';
	stepMs: number;
	/** Start of each step and its value, oldest first. Steps without a value are left out: the service did not run. */
	points: [at: number, value: number][];
}

/** What the jobs of a period can be broken down by. */
export const breakdowns = ['robot', 'kind', 'hour', 'owner', 'cause'] as const;
export type Breakdown = (typeof breakdowns)[number];

/** Jobs that were submitted within a period and have one thing in common. */
export interface BreakdownRow {
	/** Id of the robot, name of the kind, start of the hour, who submitted it (`key:NAME`, `schedule:ID`), or the cause. */
	of: string;
	/** For a robot that is known: its name. */
	name: string | null;
	jobs: number;
	completed: number;
	failed: number;
	cancelled: number;
	averageExecutionMs: number | null;
	successRate: number | null;
}

/** The record with the seed's names; times are seconds. */
export function seedMetrics(record: MetricsRecord): Record<string, number | null> {
	const { averageExecutionMs } = record;
	return {
		total_robots: record.totalRobots,
		online_robots: record.onlineRobots,
		offline_robots: record.offlineRobots,
		total_jobs_today: record.totalJobsToday,
		completed_jobs_today: record.completedJobsToday,
		failed_jobs_today: record.failedJobsToday,
		pending_jobs: record.pendingJobs,
		running_jobs: record.runningJobs,
		average_execution_time: averageExecutionMs === null ? 0 : averageExecutionMs / 1000,
		success_rate: record.successRate ?? 0,
		planned_success_rate: record.plannedSuccessRate,
	};
}
