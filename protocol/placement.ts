/**
 * How a robot is chosen among those that may do a job: strategies and preferences, and how robots are put together for
 * that: groups (an admin says who is in them) and pools (whoever meets the terms is in them).
 */

/**
 * All choose among robots that are free at that moment:
 * - `least_loaded`  the lowest share of used slots, then the least busy processor, then the one unused for longest
 * - `round_robin`   the one whose last turn is longest ago
 * - `random`        any
 * - `affinity`      the one with the most successes for the job's key, else the least loaded
 */
export const strategies = ['least_loaded', 'round_robin', 'random', 'affinity'] as const;
export type Strategy = (typeof strategies)[number];

/** Robots a job would rather have. This is a wish, not a requirement: it takes others as well. */
export interface Prefer {
	/** Id or name of one robot. */
	robot?: string;
	/** Labels, all of them. */
	labels?: Record<string, string>;
	/** What it is worth, 1…100; a robot's preferences add up. Below zero = rather not. Default 1. */
	weight?: number;
}

/** How far a preference may weigh, either way. */
export const maxWeight = 100;

/** Makes a group, or replaces it. */
export interface GroupRequest {
	/** The group that contains it: robots in this one are in that one too. */
	parent?: string;
	/** Its own robots, by id or name. */
	robots?: string[];
}

export interface Group {
	name: string;
	parent: string | null;
	/** Groups right inside it. */
	groups: string[];
	/** Names of its own robots. */
	robots: string[];
	/** Including those of the groups inside it. */
	allRobots: string[];
	updatedAt: number;
}

/** Makes a pool, or replaces it: all robots with these terms. None = all there are. */
export interface PoolRequest {
	labels?: Record<string, string>;
	/** Names of labels, whatever their value. */
	tags?: string[];
	group?: string;
	/** How many jobs may hold slots of its robots, all together. Default: no limit. */
	maxJobs?: number;
}

export interface Pool {
	name: string;
	labels: Record<string, string>;
	tags: string[];
	group: string | null;
	maxJobs: number | null;
	/** Jobs that hold slots of its robots now. */
	jobs: number;
	/** Names of its robots. */
	robots: string[];
	updatedAt: number;
}
