/** Percentiles, medians, and how sure a ratio is. */

export function percentile(samples: readonly number[], share: number): number {
	if (samples.length === 0) return NaN;
	const sorted = [...samples].sort((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

/** Of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
	if (values.length === 0) return NaN;
	const sorted = [...values].sort((a, b) => a - b);
	const middle = (sorted.length - 1) / 2;
	return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
}

export interface Ratio {
	/** Median of the rounds' ratios: each compares two figures of the same minutes. */
	value: number;
	/** 95 % bootstrap interval of that median. With one round there is none, and it is the value alone. */
	low: number;
	high: number;
	/** The interval holds 1: neither side can be said to lead. */
	equal: boolean;
}

const resamples = 2_000;

/** Pairs of the same round, ours first. `chance` is 0…1. */
export function ratioOf(
	pairs: readonly (readonly [ours: number, theirs: number])[],
	chance: () => number = seededChance(1),
): Ratio {
	const ratios = pairs.map(([ours, theirs]) => ours / theirs);
	const medians = Array.from({ length: resamples }, () =>
		median(ratios.map(() => ratios[Math.floor(chance() * ratios.length)]!)),
	);
	const low = percentile(medians, 0.025);
	const high = percentile(medians, 0.975);
	return { value: median(ratios), low, high, equal: low <= 1 && high >= 1 };
}

/** The same figures give the same interval each time (mulberry32). */
export function seededChance(seed: number): () => number {
	let state = seed >>> 0;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let mixed = Math.imul(state ^ (state >>> 15), state | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	};
}

export function shuffled<T>(items: readonly T[], chance: () => number): T[] {
	const left = [...items];
	return items.map(() => left.splice(Math.floor(chance() * left.length), 1)[0]!);
}
