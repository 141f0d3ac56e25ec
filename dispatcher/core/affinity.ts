/**
 * On which robots jobs of one key went well, and how often. Successes count until the latest of them is too old. Past
 * the limit, the keys that went longest without one are forgotten first, then, of the last key, the robots that did.
 */
import { limits } from '../../protocol';

export interface Success {
	key: string;
	robotId: string;
	/** How many; the last one at `at`. */
	successes: number;
	at: number;
}

/** By robot, the most recent success last. */
type Known = Map<string, { successes: number; at: number }>;

export class Affinity {
	/** The most recently used last. */
	readonly #keys = new Map<string, Known>();
	readonly #most: number;
	/** Robots of all keys together. */
	#count = 0;

	constructor(most: number = limits.maxAffinities) {
		this.#most = most;
	}

	/** Oldest first, as they are on record. */
	load(rows: readonly Success[]): void {
		for (const { key, robotId, ...success } of rows) this.#put(key, robotId, success);
	}

	/** A job of this key went well there. */
	succeeded(key: string, robotId: string, at: number): void {
		this.#put(key, robotId, { successes: this.successes(key, robotId, at) + 1, at });
	}

	successes(key: string, robotId: string, now: number): number {
		const one = this.#keys.get(key)?.get(robotId);
		return one === undefined || now - one.at > limits.affinityMs ? 0 : one.successes;
	}

	/** Robots with successes for the key. */
	robots(key: string): Iterable<string> {
		return this.#keys.get(key)?.keys() ?? [];
	}

	#put(key: string, robotId: string, success: { successes: number; at: number }): void {
		const known: Known = this.#keys.get(key) ?? new Map();
		this.#keys.delete(key);
		this.#keys.set(key, known);
		if (!known.delete(robotId)) this.#count += 1;
		known.set(robotId, success);
		while (this.#count > this.#most) {
			const [oldest, robots] = this.#keys.entries().next().value!;
			if (robots === known) known.delete(known.keys().next().value!);
			else this.#keys.delete(oldest);
			this.#count -= robots === known ? 1 : robots.size;
		}
	}
}
