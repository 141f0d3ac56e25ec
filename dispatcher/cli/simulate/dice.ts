/** Chance with a seed: the same seed plays the same fleet. */
import type { Range } from './amounts';

export class Dice {
	#state: number;

	/** `of` keeps what is drawn for one thing apart from what is drawn for others of the same seed. */
	constructor(seed: number, of = 0) {
		this.#state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(of + 1, 0x85ebca6b)) >>> 0;
		// Neighbouring seeds begin alike: let them part.
		this.next();
		this.next();
	}

	/** mulberry32: 0 ≤ x < 1. */
	next(): number {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	}

	/** True in so many of all cases. */
	happens(share: number): boolean {
		return this.next() < share;
	}

	within({ least, most }: Range): number {
		return least + this.next() * (most - least);
	}

	/** A whole number of the range, both ends included. */
	whole({ least, most }: Range): number {
		return least + Math.floor(this.next() * (most - least + 1));
	}

	pick<T>(list: readonly T[]): T {
		return list[Math.floor(this.next() * list.length)]!;
	}

	/** How long until the next of events that are equally likely at any moment, `mean` apart on average. */
	gap(mean: number): number {
		return -Math.log(1 - this.next()) * mean;
	}
}
