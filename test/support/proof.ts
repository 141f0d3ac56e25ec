/**
 * How much of a promise is tried, and what is said about it. `npm test` tries a little of each;
 * `npm run chaos -- --row N` tries all of it. One line sums a proof up, with the seed that repeats it.
 */
const { SEED, PROOF, PROOF_COUNT } = process.env;

export const seed = Number(SEED ?? 1);
/** The long run of `npm run chaos`. */
export const thorough = PROOF === 'whole';

/** How many of whatever the row counts. */
export function howMany(commit: number, whole: number): number {
	return Number(PROOF_COUNT ?? (thorough ? whole : commit));
}

export function say(row: number, facts: Record<string, string | number>): void {
	const list = Object.entries(facts).map(([name, value]) => `${name} ${value}`);
	process.stdout.write(`row ${row}: ${list.join(' · ')} · seed ${seed}\n`);
}

/** The value that so many of hundred do not exceed. */
export function percentile(values: readonly number[], share: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * share) / 100))] ?? NaN;
}
