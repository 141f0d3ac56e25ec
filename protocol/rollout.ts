/**
 * Jobs for several robots that go out in batches: how to ask for it, how far it has got, and how its children stand.
 */
import type { Children } from './job';
import type { Cause, JobState } from './states';

/** What happens to matching robots that are not connected when a job for several starts. */
export const awayChoices = ['wait', 'skip'] as const;
export type Away = (typeof awayChoices)[number];

export interface Rollout {
	/** Robots of one batch: a number, or a share of all of them as `25%` (rounded down, at least one). */
	batch: number | string;
	/** This many go first, as a batch of their own. If one of them fails, the rollout stops. Default none. */
	canary?: number;
	/** Time between two starts within a batch. Default 0. */
	staggerMs?: number;
	/** It stops when more than this many have failed: a number, or a share of all as `10%` (rounded down). Default 0. */
	maxFailures?: number | string;
	/** Between two batches: wait for a person (true), or for this long. Default false. */
	pauseBetween?: boolean | number;
}

/**
 * - `running` a batch is under way, or its pause is
 * - `paused`  the next batch waits for a person
 * - `stopped` too many have failed; what has not started waits for a person
 * - `over`    the job has ended
 */
export const rolloutStates = ['running', 'paused', 'stopped', 'over'] as const;
export type RolloutState = (typeof rolloutStates)[number];

/** How far a rollout has got. */
export interface RolloutRecord {
	state: RolloutState;
	/** How many robots each batch has, in order; with a canary, that is the first one. */
	batches: number[];
	/** The last batch that was let go; 0 = none yet. */
	batch: number;
	/** It stops after more failures than this, counted since a person last let it go on. */
	maxFailures: number;
	/** Why it does not go on by itself; null while it does. */
	reason: string | null;
}

/** Lets a rollout go on. */
export interface ResumeRequest {
	/** Only if this batch is the next one: makes the call safe to repeat. */
	batch?: number;
}

export interface RetryRequest {
	/** For a job for several robots: only those on which it did not complete. */
	only?: 'failed';
}

/** One child of a job for several robots. */
export interface Cell {
	/** Its place among its siblings: the id of its robot. */
	cell: string;
	/** The name of that robot; null when it was removed. */
	robot: string | null;
	jobId: string;
	state: JobState;
	cause: Cause | null;
	exitCode: number | null;
	/** Its batch of a rollout. */
	batch: number | null;
	startedAt: number | null;
	endedAt: number | null;
}

/** How a job for several robots stands, as one answer. */
export interface Cells {
	jobId: string;
	state: JobState;
	/** 0…100: share of the children that have ended. */
	progress: number;
	children: Children;
	rolledOut: RolloutRecord | null;
	/** How the children of each batch stand; empty without a rollout. */
	batches: { batch: number; children: Children }[];
	/** Matching robots that got no child because they were away (`target.away: skip`). */
	skipped: { robotId: string; robot: string | null }[];
	/** The children, batch by batch. */
	items: Cell[];
	/** Pass it as `cursor` for the next page; absent on the last. */
	cursor?: string;
}
