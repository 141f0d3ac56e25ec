/**
 * How many of the values measured fell into each bucket. Observing is two additions and a short search and allocates
 * nothing, so it may be on the hot path.
 */
export class Histogram {
	/** Upper bounds of the buckets, rising; what lies above the last is counted in `count` alone. */
	readonly bounds: readonly number[];
	readonly #counts: Float64Array;
	#count = 0;
	#sum = 0;

	constructor(bounds: readonly number[]) {
		this.bounds = bounds;
		this.#counts = new Float64Array(bounds.length);
	}

	/** A value that a set-back clock makes negative counts as 0. */
	observe(value: number): void {
		const seen = value > 0 ? value : 0;
		this.#count += 1;
		this.#sum += seen;
		const { bounds } = this;
		for (let i = 0; i < bounds.length; i += 1) {
			if (seen > bounds[i]!) continue;
			this.#counts[i]! += 1;
			return;
		}
	}

	get count(): number {
		return this.#count;
	}

	get sum(): number {
		return this.#sum;
	}

	/** How many were at most as large as each bound. */
	cumulated(): number[] {
		let below = 0;
		return [...this.#counts].map((count) => (below += count));
	}
}
