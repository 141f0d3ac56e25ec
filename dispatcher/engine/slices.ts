/** Long answers in small pieces: other work finds its way in between, and none goes on for ever. */
import type { Clock } from './clock';

/** How long it may keep everything else waiting. */
const sliceMs = 10;
/** What was found by then is the answer. */
const mostMs = 2_000;

export class Slices {
	readonly #clock: Clock;
	readonly #began: number;
	#slice: number;

	constructor(clock: Clock) {
		this.#clock = clock;
		this.#slice = this.#began = clock.monotonic();
	}

	get over(): boolean {
		return this.#clock.monotonic() - this.#began > mostMs;
	}

	/** Nothing to wait for, most of the time. */
	pause(): Promise<void> | undefined {
		if (this.#clock.monotonic() - this.#slice < sliceMs) return undefined;
		return new Promise((resolve) =>
			setImmediate(() => {
				this.#slice = this.#clock.monotonic();
				resolve();
			}),
		);
	}
}
