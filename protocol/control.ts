/**
 * When a robot takes no jobs although it is connected: people have closed it, or the service keeps it in quarantine
 * because jobs failed there through the robot's own fault. Both are stored; neither touches what the robot runs.
 */

/**
 * - `paused`      no new jobs
 * - `draining`    no new jobs, until it holds none
 * - `maintenance` somebody works on the machine
 */
export const closings = ['paused', 'draining', 'maintenance'] as const;
export type Closing = (typeof closings)[number];

/** A person has closed the robot. */
export interface Closed {
	as: Closing;
	reason: string | null;
	/** Name of the key; null (like `since`) = it was closed by a version that did not record it. */
	by: string | null;
	since: number | null;
	/** It opens by itself then; null = when somebody resumes it. */
	until: number | null;
}

/** Why and how `POST /robots/{id}/pause`, `/drain` and `/maintenance` close a robot. At most one of the two times. */
export interface CloseRequest {
	reason?: string;
	until?: number;
	forMs?: number;
}

export interface Quarantine {
	reason: string;
	/** `dispatcher`, or the name of the key. */
	by: string;
	since: number;
	/** Probes that failed since. */
	probes: number;
	/** When the next probe is sent, if the robot is connected and free; null = a person lifts it. */
	nextProbeAt: number | null;
	/** What came of the last probe; null = there was none. */
	lastProbe: string | null;
}

export interface QuarantineRequest {
	reason: string;
}

export const robotActions = ['pause', 'drain', 'maintenance', 'quarantine', 'resume'] as const;
export type RobotAction = (typeof robotActions)[number];

/** Which robots are meant; all that is set must hold. */
export interface RobotSelection {
	/** Ids or names. */
	robots?: string[];
	labels?: Record<string, string>;
	/** Names of labels, whatever their value. */
	tags?: string[];
	group?: string;
	pool?: string;
}

/**
 * `POST /robots/bulk`. Without `expect` it is a preview that changes nothing; `expect` is the count that the preview
 * gave, and the call is refused when far more robots match by now.
 */
export interface RobotsBulkRequest extends CloseRequest {
	action: RobotAction;
	filter: RobotSelection;
	dryRun?: boolean;
	expect?: number;
}

export interface RobotsBulkResult {
	dryRun: boolean;
	matched: number;
	/** In a preview: how many would be changed. */
	changed: number;
	/** Robots that already are as asked. */
	skipped: number;
	/** Names of those that were changed. */
	robots: string[];
}

/** What a robot was closed as, in events. */
export type ClosedAs = Closing | 'quarantine';

/** What `robot.closed` and `robot.opened` tell. */
export interface RobotClosed {
	robotId: string;
	name: string;
	as: ClosedAs;
	reason: string | null;
	by: string;
	until: number | null;
}
export interface RobotOpened {
	robotId: string;
	name: string;
	/** What it was closed as. */
	was: ClosedAs;
	reason: string;
	by: string;
}
