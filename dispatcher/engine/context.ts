/** What the parts of the engine share. Put together once, in create.ts. */
import type { ClockWatch } from './clock-watch';
import type { Strategy } from '../../protocol';
import type { Affinity } from '../core/affinity';
import type { Store } from '../store/store';
import type { Backlog } from './backlog';
import type { Chance, Clock } from './clock';
import type { Epochs } from './epochs';
import type { Fleet, Live } from './fleet';
import type { Gates } from './gates';
import type { Ids } from './ids';
import type { Lanes } from './lanes';
import type { Turns } from './turns';
import type { Watchers } from './watchers';

export interface Log {
	debug(text: string, facts?: object): void;
	info(text: string, facts?: object): void;
	warn(text: string, facts?: object): void;
	error(text: string, facts?: object): void;
}

/** How long what is over is kept. */
export interface RetentionSettings {
	jobsMs: number;
	maxJobs: number;
	occurrencesMs: number;
	eventsMs: number;
}

export interface Settings {
	/** Run limit of kinds that have none of their own. */
	defaultJobTimeoutMs: number;
	/** For jobs that name none. Default least_loaded. */
	strategy?: Strategy;
	/** How long the move to running may wait for a result to go with it. */
	acceptGatherMs: number;
	/** How often waiting jobs are offered again although nothing happened; dispatch itself is event-driven. */
	sweepMs: number;
	/** How many different jobs in a row must fail for the robot's own reasons to quarantine it. Default 0: never. */
	quarantineAfter?: number;
	/** How long the service must have been ready before absence counts against a robot. */
	recoveryGraceMs: number;
	retention: RetentionSettings;
	/** Less free room than this on the disk: no new jobs. */
	minFreeBytes: number;
	/** How long the output of a job is kept after its end. */
	keepOutputMs: number;
	/** Output kept of all jobs together. */
	keepOutputBytes: number;
	/** What one API key may have waiting. */
	maxWaitingJobs: number;
	maxWaitingBytes: number;
	/** Where n8n really listens; a resume URL that points to n8n by another name is sent there. */
	callbackBase?: string;
}

export interface Context {
	readonly hubId: string;
	readonly store: Store;
	readonly clock: Clock;
	readonly clockWatch: ClockWatch;
	readonly chance: Chance;
	readonly ids: Ids;
	readonly log: Log;
	readonly settings: Settings;
	readonly turns: Turns;
	readonly fleet: Fleet;
	readonly lanes: Lanes;
	/** What jobs share besides robots. */
	readonly gates: Gates;
	/** Where jobs of one key went well. */
	readonly affinity: Affinity;
	/** How many jobs wait, and whose. */
	readonly backlog: Backlog;
	/** Who waits for a job to end or to print. */
	readonly watchers: Watchers;
	readonly epochs: Epochs;
	/** While true, only what robots must be able to say is written. */
	diskFull(): boolean;
	/** Its robot cannot do what the job asks for, and was not told of it. */
	cannot(live: Live, message: string): void;
	/** Its robot was removed before it was told of it. */
	neverSent(live: Live): void;
	/** A job may come due at this instant: look then. */
	dueAt(at: number | null): void;
	/** A job that waits for a robot it prefers takes another one from this instant on: look then. */
	fillAt(at: number): void;
}
