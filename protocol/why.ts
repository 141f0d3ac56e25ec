/**
 * Why a job does not start, robot by robot; how the robot of an attempt was chosen; and what would become of a job
 * that is only previewed.
 */
import type { Submit } from './job';
import type { Strategy } from './placement';
import type { JobState } from './states';

/** What keeps a robot from a job, in the order in which it is checked. Those up to `slots` are terms of the job. */
export const obstacles = {
	robot: 'is not the robot that the job names',
	excluded: 'is excluded by the job',
	group: 'is not in the group',
	pool: 'is not in the pool',
	label: 'lacks this label, or has another value of it',
	tag: 'has no label of this name',
	capability: 'lacks the capability',
	simulated: 'only plays work, and the job does not ask for that',
	client: 'has no client of this name',
	slots: 'has fewer slots than the job takes',
	paused: 'was paused, or is drained, by a person',
	maintenance: 'is in maintenance',
	offline: 'is not connected',
	quarantined: 'is in quarantine: it failed too often',
	stopping: 'is stopping',
	barred: 'refused or lost this job before',
	tried: 'has tried this job, which asks for another robot',
	client_busy: 'has the client busy with another job',
	busy: 'has no free slot, or fewer than the job takes',
	kept: 'is kept for a job of several slots that has been in line longer',
	limit: 'shares a limit that is reached: of its pool, or of its constellation',
	closed: 'is free, but the service gives out no jobs: it is drained, or its disk is full',
	left: 'is free, but left to others while the job waits for a robot it prefers',
} as const;
export type Obstacle = keyof typeof obstacles;

/** What keeps one robot from one job. */
export interface Reason {
	obstacle: Obstacle;
	/** The same in words, with names and values. The robot is its subject. */
	text: string;
}

export interface RobotWhy {
	robotId: string;
	name: string;
	/** null = nothing: it is free, and may have the job. */
	obstacle: Obstacle | null;
	text: string;
}

/** A job compared with the robots that are enrolled. */
export interface RobotsWhy {
	robots: number;
	/** Robots that have everything the job names. */
	matching: number;
	/** Robots that nothing keeps from the job. */
	free: number;
	/** How many of them each obstacle keeps from it, most first. */
	obstacles: { obstacle: Obstacle; robots: number }[];
	/** A page of them, by id. */
	items: RobotWhy[];
	cursor?: string;
}

export interface Why {
	/** One true sentence. */
	text: string;
	/** For a waiting job, when asked for. */
	robots?: RobotsWhy;
	/** For the last attempt, where its robot was chosen among several. */
	choice?: Choice;
}

/** A robot as it was at the moment of the choice. */
export interface ChoiceCandidate {
	robotId: string;
	name: string;
	/** Percent of its slots in use. */
	load: number;
	/** Percent of its processor, in steps of ten, by its last heartbeat. */
	cpu: number;
	/** What it was worth by `prefer`; absent = 0. */
	preference?: number;
	/** For affinity: how many jobs of the key had gone well there; absent = 0. */
	successes?: number;
}

/** How the robot of an attempt was chosen. Jobs for one robot have none. */
export interface Choice {
	/** One true sentence. */
	text: string;
	strategy: Strategy;
	/** Whether robots were free for the job, or a slot came free for which it was first in line. */
	by: 'job' | 'slot';
	/** Robots that had everything the job names, connected or not. */
	matching: number;
	/** Those of them that were free and compared: a strategy stops at the first one that cannot be beaten. */
	compared: number;
	winner: ChoiceCandidate;
	/** The best of those that were compared and not chosen, four at most. */
	others: ChoiceCandidate[];
}

/** Something about a job that deserves a look before it is submitted. */
export interface JobClash {
	/** Code of the problem; `same-request` = its idempotency key made a job already, `pool-full` = no room in its pool. */
	code: string;
	text: string;
	/** A submit would be refused. */
	refused: boolean;
}

export interface JobPreview {
	/** Whether a submit would be taken as it is. */
	accepted: boolean;
	/** One true sentence: where it would run, why it would wait, or why it would be refused. */
	text: string;
	/** The state it would have; null if it would be refused. */
	state: JobState | null;
	/** Robots that would get it at this moment; the first hundred of a job for several. */
	picked: { robotId: string; name: string }[];
	/** Those that match, the first twenty by id; null if the job names something unknown. */
	robots: RobotsWhy | null;
	clashes: JobClash[];
	/** The job with every default written out, and values in place of `{{…}}`; null if it names something unknown. */
	job: Submit | null;
}
