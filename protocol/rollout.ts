/**
 * Jobs for several robots that go out in batches: how one asks for it, how far it is, and how its children stand.
 */
import type { Children } from './job';
import type { Cause, JobState } from './states';

/** What happens to robots that match and are not connected when a job for several starts. */
export const awayChoices = ['wait', 'skip'] as const;
export type Away = (typeof awayChoices)[number];

export interface Rollout {
	/** Robots of one batch: a number, or a share of all of them as `25%` (rounded down, one at least). */
	batch: number | string;
	/** So many go first and alone, as a batch of their own. When one of them fails it stops. Default none. */
	canary?: number;
	/** Within a batch each starts so long after the one before. Default 0. */
	staggerMs?: number;
	/** It stops when more than so many have failed: a number, or a share of all as `10%` (rounded down). Default 0. */
	maxFailures?: number | string;
	/** Between two batches: wait for a person (true), or for so long. Default false. */
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

/** How far a rollout is. */
export interface RolloutRecord {
	state: RolloutState;
	/** How many robots each batch has, in order; with a canary the first one is its. */
	batches: number[];
	/** The last batch that was let go; 0 = none yet. */
	batch: number;
	/** More failures than this, since a person last let it go on, stop it. */
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
	/** Of a job for several robots: only those on which it did not complete. */
	only?: 'failed';
}

/** One child of a job for several robots. */
export interface Cell {
	/** What it is among its siblings: the id of its robot. */
	cell: string;
	/** The name of that robot; null when it was removed. */
	robot: string | null;
	jobId: string;
	state: JobState;
	cause: Cause | null;
	exitCode: number | null;
	/** Of a rollout. */
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
	/** Robots that match and got no child because they were away (`target.away: skip`). */
	skipped: { robotId: string; robot: string | null }[];
	/** Batch by batch. */
	items: Cell[];
	/** Give it back as `cursor` for the next page; absent on the last. */
	cursor?: string;
}
