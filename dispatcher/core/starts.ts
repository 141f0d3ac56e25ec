/**
 * The starts of one rate, as a sliding window: a job may start when fewer than its `max` started within its last
 * `perMs`. Instants are those of one monotonic clock, so that nobody gains by setting the wall clock. Pure.
 */
export class Starts {
	/** In order. */
	readonly #starts: { epoch: number; at: number }[] = [];
	/** The longest stretch that anybody counts. */
	#keepMs = 0;

	/** Somebody counts this far back. Answers how far back anybody does by now. */
	keepFor(perMs: number): number {
		this.#keepMs = Math.max(this.#keepMs, perMs);
		return this.#keepMs;
	}

	add(epoch: number, at: number): void {
		let place = this.#starts.length;
		while (place > 0 && this.#starts[place - 1]!.at > at) place -= 1;
		this.#starts.splice(place, 0, { epoch, at });
	}

	/** It was proved that nothing started. */
	remove(epoch: number): void {
		const place = this.#starts.findIndex((start) => start.epoch === epoch);
		if (place >= 0) this.#starts.splice(place, 1);
	}

	/** How many started within the last `perMs`: a start counts until that long after it. */
	within(perMs: number, now: number): number {
		return this.#starts.length - this.#firstAfter(now - perMs);
	}

	/** When fewer than `max` will have started, counting `planned` more that start now. */
	opensAt({ max, perMs }: { max: number; perMs: number }, now: number, planned = 0): number {
		const first = this.#firstAfter(now - perMs);
		const count = this.#starts.length - first;
		// This many must leave the window before another one may start.
		const over = count + planned - max + 1;
		if (over <= 0) return now;
		return (over <= count ? this.#starts[first + over - 1]!.at : now) + perMs;
	}

	/** Forgets what nobody counts any more; false when nothing is left. */
	tidy(now: number): boolean {
		this.#starts.splice(0, this.#firstAfter(now - this.#keepMs));
		return this.#starts.length > 0;
	}

	#firstAfter(instant: number): number {
		let low = 0;
		let high = this.#starts.length;
		while (low < high) {
			const middle = (low + high) >> 1;
			if (this.#starts[middle]!.at > instant) high = middle;
			else low = middle + 1;
		}
		return low;
	}
}
