/**
 * Gives memory back when nothing has run for a while. V8 collects when somebody allocates, and an idle agent
 * does not: what connecting and the last job have left behind would stay for days, on a machine that needs the memory.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Clock } from './clock';

const quietMs = 15_000;

export class Rest {
	readonly #clock: Clock;
	readonly #isIdle: () => boolean;
	readonly #collect: () => void;
	#stirredAt = 0;
	#waiting = false;

	constructor(clock: Clock, isIdle: () => boolean, collect = collectAll) {
		this.#clock = clock;
		this.#isIdle = isIdle;
		this.#collect = collect;
	}

	/** There was something to do. Once it has been quiet for long enough, memory is given back once. */
	stir(): void {
		this.#stirredAt = this.#clock.monotonic();
		if (!this.#waiting) void this.#collectWhenQuiet();
	}

	async #collectWhenQuiet(): Promise<void> {
		this.#waiting = true;
		for (let leftMs = quietMs; leftMs > 0;) {
			await this.#clock.sleep(leftMs);
			leftMs = this.#stirredAt + quietMs - this.#clock.monotonic();
			if (leftMs <= 0 && !this.#isIdle()) leftMs = quietMs;
		}
		this.#waiting = false;
		this.#collect();
	}
}

/** Also drops compiled code that nobody has called for long. Blocks this thread for some tens of milliseconds. */
function collectAll(): void {
	setFlagsFromString('--expose-gc');
	const collect = runInNewContext('gc') as (options: object) => void;
	collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
