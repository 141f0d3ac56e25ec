/**
 * Time and chance come in through the constructor; this is the only file of the service that asks
 * the world for them. Wall time is for people and schedules, monotonic time for every duration.
 */
import { setTimeout as sleepFor } from 'node:timers/promises';

export interface Clock {
	/** Epoch milliseconds. */
	now(): number;
	/** Milliseconds since some fixed moment; never jumps. */
	monotonic(): number;
	/** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
	sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** 0…1. */
export type Chance = () => number;

export const systemClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	sleep: (ms, signal) =>
		sleepFor(ms, undefined, signal ? { signal, ref: false } : { ref: false }).catch(
			() => undefined,
		),
};

export const systemChance: Chance = () => Math.random();
