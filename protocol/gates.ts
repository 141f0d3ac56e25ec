/**
 * What a job takes besides a robot: locks, one of the places of a key, a start within a rate, more than one slot. It
 * takes all of it or nothing, from the commit that gives the job away until its attempt is settled.
 */

/** A lock, or `slots` of one that has several. */
export interface LockWish {
	name: string;
	/** Default 1, which is all of a lock without a limit. */
	slots?: number;
}

/** At most `max` jobs of the key run at once, over the whole fleet. Each job goes by its own number. */
export interface Concurrency {
	key: string;
	max: number;
}

/** At most `max` jobs of the key start within any stretch of `perMs`. */
export interface Rate {
	key: string;
	max: number;
	perMs: number;
}

export interface Takes {
	locks?: LockWish[];
	concurrency?: Concurrency;
	rate?: Rate;
	/** Slots of its robot. Default 1. */
	slots?: number;
}

/** Locks of one job. */
export const maxLocks = 16;
/** No robot has more slots. */
export const maxSlots = 256;
/** What a named limit may be. */
export const maxLimit = 1_000_000;
export const maxRateStarts = 10_000;
export const maxRateMs = 86_400_000;

export const gateKinds = ['lock', 'concurrency', 'rate'] as const;
export type GateKind = (typeof gateKinds)[number];

/** What jobs share, with those that hold it and those that wait for it. */
export interface GateRecord {
	of: GateKind;
	name: string;
	/** How much there is: for a lock its limit, else 1; for a key the most that its jobs say. Null = nobody says. */
	max: number | null;
	/** The limit that an operator set; null = none. */
	limit: number | null;
	/** In use; for a rate, the starts that still count. */
	used: number;
	/** Those that hold it longest first, at most 100. A rate has none. */
	holders: GateHolder[];
	/** Queued jobs that need it, counted up to 10,000 of each sort. */
	waiting: number;
	/** The first of them in order, at most 20. */
	next: { jobId: string; slots: number; since: number }[];
	/** For a rate that lets nobody through now: when it will. */
	opensAt: number | null;
}

export interface GateHolder {
	jobId: string;
	/** Name of the robot. */
	robot: string;
	slots: number;
	/** When the job was given to the robot. */
	since: number;
}

/** Sets how much a lock has, or how many jobs of a key may run whatever they say; 0 = nobody gets through. */
export interface LimitRequest {
	max: number;
}

export interface LimitRecord {
	name: string;
	max: number;
	updatedAt: number;
}
