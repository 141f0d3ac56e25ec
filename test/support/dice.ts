/** Chance with a seed, so that a bad day can be repeated. */
export type Dice = () => number;

/** mulberry32: 0 ≤ x < 1. */
export function dice(seed: number): Dice {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let t = state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	};
}

/** The same chance, asked in the words of whoever plans with it. */
export class Draw {
	readonly next: Dice;

	constructor(seed: number) {
		this.next = dice(seed);
		// Neighbouring seeds begin alike: let them part.
		this.next();
		this.next();
	}

	/** True in so many of all cases. */
	chance(share: number): boolean {
		return this.next() < share;
	}

	/** A whole number, `least` and `most` included. */
	whole(least: number, most: number): number {
		return least + Math.floor(this.next() * (most - least + 1));
	}

	/** A number from `least` to below `most`. */
	part(least: number, most: number): number {
		return least + this.next() * (most - least);
	}

	/** As `part`, with every order of magnitude as likely as the next. `least` > 0. */
	scale(least: number, most: number): number {
		return least * (most / least) ** this.next();
	}

	pick<T>(list: readonly T[]): T {
		return list[Math.floor(this.next() * list.length)]!;
	}
}
