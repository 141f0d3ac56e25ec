/**
 * Time and chance come in through the constructor; this is the only file of the service that asks
 * the world for them. Wall time is for people and schedules, monotonic time for every duration.
 */

export interface Clock {
	/** Epoch milliseconds. */
	now(): number;
	/** Milliseconds since some fixed moment; never jumps. */
	monotonic(): number;
	/** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
	sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Why a wait ends early. An abort without a reason makes an error with a stack, which costs more than all the rest. */
export const enough = 'enough';

/** 0…1. */
export type Chance = () => number;

export const systemClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	// Not that of node:timers/promises, which makes an error of each sleep that is cut short.
	sleep: (ms, signal) =>
		new Promise((resolve) => {
			if (signal?.aborted) return resolve();
			const wake = (): void => {
				clearTimeout(timer);
				signal?.removeEventListener('abort', wake);
				resolve();
			};
			const timer = setTimeout(wake, ms).unref();
			signal?.addEventListener('abort', wake, { once: true });
		}),
};

export const systemChance: Chance = () => Math.random();
