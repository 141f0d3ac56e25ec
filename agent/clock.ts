/**
 * Time and chance, handed to everything in the agent that needs them. The only file here that may
 * touch Date.now, setTimeout and Math.random, so that a test can own both.
 */

export interface Clock {
	/** Wall time in epoch milliseconds: for people, never for measuring. */
	now(): number;
	/** Milliseconds that only ever go forward. */
	monotonic(): number;
	/** True when the time is over, false when the signal cut it short. Never throws. */
	sleep(ms: number, signal?: AbortSignal): Promise<boolean>;
	/** 0 ≤ x < 1 */
	chance(): number;
}

/** Why a wait is no longer needed. An abort without a reason creates an error with a stack, which costs more than all the rest. */
export const enough = 'enough';

/** A longer setTimeout would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** A timer is later than this only if this program was not running. */
const stoodStillMs = 50;

export const systemClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	chance: () => Math.random(),

	async sleep(ms, signal) {
		const endsAt = performance.now() + ms;
		let caughtUp = false;
		for (;;) {
			if (signal?.aborted) return false;
			const left = endsAt - performance.now();
			if (left <= 0) {
				if (caughtUp || left > -stoodStillMs) return true;
				// Timers run before sockets: what arrived meanwhile must be read before anybody calls it silence.
				await new Promise((read) => setImmediate(read));
				caughtUp = true;
				continue;
			}
			await new Promise<void>((resolve) => {
				const wake = (): void => {
					clearTimeout(timer);
					signal?.removeEventListener('abort', wake);
					resolve();
				};
				const timer = setTimeout(wake, Math.min(Math.ceil(left), longestTimerMs));
				signal?.addEventListener('abort', wake, { once: true });
			});
		}
	},
};

/** Full jitter: anywhere between nothing and the doubled step, so that a fleet never returns as one wave. */
export function backoffMs(failures: number, minMs: number, maxMs: number, chance: number): number {
	return Math.round(chance * Math.min(maxMs, minMs * 2 ** Math.min(failures, 30)));
}
