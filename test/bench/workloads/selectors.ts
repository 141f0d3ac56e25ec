/**
 * A fleet with many labels, many selectors that each fit a part of it, and which of them jobs ask for: a few very often,
 * most hardly ever. And, of what was given to whom, how long the first in line had to see others pass. Pure.
 */
export type Labels = Record<string, string>;
type Chance = () => number;

export interface Selector {
	labels: Labels;
	/** Numbers of the robots that fit. */
	fits: number[];
}

const keys = 50;
const valuesPerKey = 20;
const exponent = 1.1;
const leastTerms = 2;
const mostTerms = 4;
/** No selector fits more of the fleet than this share: 300 of 1,000. */
const mostOfFleet = 0.3;
/** All robots carry it: the one selector that fits everybody. */
export const everybody: Labels = { fleet: 'w9' };

/** Draws 0 … count − 1, the first ones most often: the n-th with a weight of 1 / n^1.1. */
export function zipf(count: number, chance: Chance, steepness = exponent): () => number {
	const sums: number[] = [];
	for (let n = 1; n <= count; n += 1) sums.push((sums.at(-1) ?? 0) + n ** -steepness);
	return () => {
		const drawn = chance() * sums.at(-1)!;
		let [low, high] = [0, count - 1];
		while (low < high) {
			const middle = (low + high) >> 1;
			if (sums[middle]! > drawn) high = middle;
			else low = middle + 1;
		}
		return low;
	};
}

export function fleetOf(count: number, chance: Chance): Labels[] {
	// Of some keys nearly all robots have the same value, so that selectors fit few robots and many.
	const values = Array.from({ length: keys }, (_, key) =>
		zipf(valuesPerKey, chance, exponent * (1 + key / keys)),
	);
	return Array.from({ length: count }, () => ({
		...everybody,
		...Object.fromEntries(values.map((value, key) => [`k${key}`, `v${value()}`])),
	}));
}

/** No two alike; each fits one robot at least. */
export function selectorsOf(fleet: readonly Labels[], count: number, chance: Chance): Selector[] {
	const carriers = new Map<string, Set<number>>();
	for (const [number, labels] of fleet.entries()) {
		for (const [key, value] of Object.entries(labels)) {
			const label = `${key}=${value}`;
			const those = carriers.get(label) ?? new Set();
			carriers.set(label, those.add(number));
		}
	}
	const known = new Set<string>();
	const selectors: Selector[] = [];
	while (selectors.length < count) {
		const labels = termsOf(fleet[Math.floor(chance() * fleet.length)]!, chance);
		const text = JSON.stringify(labels);
		if (known.has(text)) continue;
		const [first, ...others] = Object.entries(labels)
			.map(([key, value]) => carriers.get(`${key}=${value}`)!)
			.sort((a, b) => a.size - b.size);
		const fits = [...first!].filter((number) => others.every((those) => those.has(number)));
		if (fits.length > mostOfFleet * fleet.length) continue;
		known.add(text);
		selectors.push({ labels, fits });
	}
	return selectors;
}

/** Some of the labels of one robot, in the order of their keys. */
function termsOf(robot: Labels, chance: Chance): Labels {
	const terms = leastTerms + Math.floor(chance() * (mostTerms - leastTerms + 1));
	const chosen = new Set<number>();
	while (chosen.size < terms) chosen.add(Math.floor(chance() * keys));
	return Object.fromEntries(
		[...chosen].sort((a, b) => a - b).map((key) => [`k${key}`, robot[`k${key}`]!]),
	);
}

export interface SentJob {
	/** Sorts as the queue does. */
	jobId: string;
	/** Number of its selector. */
	selector: number;
	/** When it surely was in line, in milliseconds of the clock that all share. */
	inLineAt: number;
}

export interface Given {
	robot: number;
	jobId: string;
	at: number;
}

export interface Passing {
	/** Times a robot got a younger job while the oldest that it could have had was in line. */
	passed: number;
	/** The longest time from the first such moment of a job to its start. Infinity = it never started. */
	longestMs: number;
}

/** `given` in the order of time. */
export function passingOf(
	selectors: readonly Selector[],
	sent: readonly SentJob[],
	given: readonly Given[],
): Passing {
	const queues: SentJob[][] = selectors.map(() => []);
	for (const job of sent) queues[job.selector]!.push(job);
	for (const queue of queues) queue.sort((a, b) => (a.jobId < b.jobId ? -1 : 1));
	const ofRobot = new Map<number, number[]>();
	for (const [number, { fits }] of selectors.entries()) {
		if (queues[number]!.length === 0) continue;
		for (const robot of fits) {
			const those = ofRobot.get(robot);
			if (those) those.push(number);
			else ofRobot.set(robot, [number]);
		}
	}
	const heads = selectors.map(() => 0);
	const started = new Set<string>();
	const passedAt = new Map<string, number>();
	let passed = 0;
	let longestMs = 0;
	for (const { robot, jobId, at } of given) {
		started.add(jobId);
		longestMs = Math.max(longestMs, at - (passedAt.get(jobId) ?? at));
		passedAt.delete(jobId);
		for (const number of ofRobot.get(robot) ?? []) {
			const queue = queues[number]!;
			while (heads[number]! < queue.length && started.has(queue[heads[number]!]!.jobId)) {
				heads[number]! += 1;
			}
			const head = queue[heads[number]!];
			if (!head || head.jobId > jobId || head.inLineAt >= at) continue;
			passed += 1;
			if (!passedAt.has(head.jobId)) passedAt.set(head.jobId, at);
		}
	}
	return { passed, longestMs: passedAt.size > 0 ? Infinity : longestMs };
}
