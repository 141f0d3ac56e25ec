/**
 * The queues as the engine sees them: for each lane only its first few jobs are in memory. What lies
 * behind stays in the store, and is read when the window runs low; empty lanes cost nothing but their
 * place in a small cache.
 */
import { laneRule, misfit, type Rule, type Terms } from '../core/matching';
import type { Head } from '../store/store';

const windowSize = 512;
const lowMark = 128;
/** Empty lanes kept, so that a stream of single jobs does not match all robots anew each time. */
const maxEmpty = 1_000;

export interface Lane {
	readonly key: string;
	readonly rule: Rule;
	/** Best first. */
	heads: Head[];
	/** Whether the store holds jobs of this lane behind `heads`. */
	more: boolean;
	/** The window is being read. */
	reading: boolean;
	/** Robots that may run its jobs. */
	readonly robots: Set<string>;
}

export class Lanes {
	readonly #lanes = new Map<string, Lane>();
	/** Lanes with something to do. */
	readonly #waiting = new Set<Lane>();
	readonly #robots = new Map<string, Terms>();

	/** The lane, made and matched when it is new. */
	get(key: string): Lane {
		const known = this.#lanes.get(key);
		if (known) return known;
		const lane: Lane = {
			key,
			rule: laneRule(key),
			heads: [],
			more: false,
			reading: false,
			robots: new Set(),
		};
		const candidates =
			lane.rule.robot === undefined
				? this.#robots.values()
				: [this.#robots.get(lane.rule.robot)].filter((robot) => robot !== undefined);
		for (const robot of candidates) {
			if (misfit(lane.rule, robot) === undefined) lane.robots.add(robot.robotId);
		}
		this.#lanes.set(key, lane);
		if (this.#lanes.size > maxEmpty + this.#waiting.size) this.#evict();
		return lane;
	}

	/** A robot came, or its labels or capabilities changed. */
	putRobot(terms: Terms): void {
		this.#robots.set(terms.robotId, terms);
		for (const lane of this.#lanes.values()) {
			if (misfit(lane.rule, terms) === undefined) lane.robots.add(terms.robotId);
			else lane.robots.delete(terms.robotId);
		}
	}

	removeRobot(robotId: string): void {
		this.#robots.delete(robotId);
		for (const lane of this.#lanes.values()) lane.robots.delete(robotId);
	}

	get waiting(): ReadonlySet<Lane> {
		return this.#waiting;
	}

	/** A job became queued. Beyond the window it stays in the store alone. */
	push(key: string, head: Head): void {
		const lane = this.get(key);
		const last = lane.heads.at(-1);
		if (lane.more && (last === undefined || before(last, head))) return;
		let at = lane.heads.length;
		while (at > 0 && before(head, lane.heads[at - 1]!)) at -= 1;
		lane.heads.splice(at, 0, head);
		if (lane.heads.length > windowSize) {
			lane.heads.pop();
			lane.more = true;
		}
		this.#waiting.add(lane);
	}

	/** Takes a head out of the window; the caller assigns it. */
	take(lane: Lane, at: number): Head {
		const [head] = at === 0 ? [lane.heads.shift()] : lane.heads.splice(at, 1);
		if (lane.heads.length === 0 && !lane.more) this.#waiting.delete(lane);
		return head!;
	}

	/** Something in memory may be wrong: read the window again. */
	doubt(lane: Lane): void {
		lane.heads = [];
		lane.more = true;
		this.#waiting.add(lane);
	}

	/** Lanes to read on, each asked for once at a time. */
	low(): { key: string; limit: number }[] {
		const low: { key: string; limit: number }[] = [];
		for (const lane of this.#waiting) {
			if (!lane.more || lane.reading || lane.heads.length >= lowMark) continue;
			lane.reading = true;
			low.push({ key: lane.key, limit: windowSize });
		}
		return low;
	}

	/** `heads` is missing when they could not be read; fewer than `limit` are all there are. */
	refill(key: string, heads: Head[] | undefined, limit: number): void {
		const lane = this.get(key);
		lane.reading = false;
		if (heads === undefined) return;
		lane.heads = heads;
		lane.more = heads.length >= limit;
		if (heads.length > 0 || lane.more) this.#waiting.add(lane);
		else this.#waiting.delete(lane);
	}

	#evict(): void {
		for (const lane of this.#lanes.values()) {
			if (this.#waiting.has(lane)) continue;
			this.#lanes.delete(lane.key);
			if (this.#lanes.size <= maxEmpty / 2 + this.#waiting.size) return;
		}
	}
}

export function before(a: Head, b: Head): boolean {
	return a.rank < b.rank || (a.rank === b.rank && a.id < b.id);
}
