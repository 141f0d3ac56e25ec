/**
 * The queues as the engine sees them. A lane is one must-rule; inside it each share key has a queue of
 * its own. Only the first few jobs of a queue are in memory. What lies behind stays in the store, and
 * is read when the window runs low; empty lanes cost nothing but their place in a small cache.
 */
import { laneRule, misfit, preferenceOf, type Rule, type Terms } from '../core/matching';
import { before, Shares } from '../core/rank';
import type { Head, Queue } from '../store/store';

const windowSize = 512;
const lowMark = 128;
/** Empty lanes kept, so that a stream of single jobs does not match all robots anew each time. */
const maxEmpty = 1_000;

export interface Lane {
	readonly key: string;
	readonly rule: Rule;
	/** With something to do, by share key. */
	readonly queues: Map<string, Window>;
	/** Robots that may run its jobs. */
	readonly robots: Set<string>;
	/** Those of them that its jobs would rather have, or rather not; absent when they prefer none. */
	readonly preferred: Map<string, number> | undefined;
}

export interface Window {
	readonly lane: Lane;
	readonly shareKey: string;
	/** Best first. */
	heads: Head[];
	/** Whether the store holds jobs of this queue behind `heads`. */
	more: boolean;
	/** The window is being read. */
	reading: boolean;
}

export class Lanes {
	readonly #lanes = new Map<string, Lane>();
	/** Lanes with something to do. */
	readonly #waiting = new Set<Lane>();
	/** The same, by the one robot they are for; '' = the others. A robot looks at its own and at those. */
	readonly #waitingBy = new Map<string, Set<Lane>>();
	readonly #robots = new Map<string, Terms>();
	/** Who was served how often, of those who have something to do. */
	readonly shares = new Shares();

	/** The lane, made and matched when it is new. */
	get(key: string): Lane {
		const known = this.#lanes.get(key);
		if (known) return known;
		const rule = laneRule(key);
		const preferred = rule.prefer && new Map<string, number>();
		const lane: Lane = { key, rule, queues: new Map(), robots: new Set(), preferred };
		const candidates =
			lane.rule.robot === undefined
				? this.#robots.values()
				: [this.#robots.get(lane.rule.robot)].filter((robot) => robot !== undefined);
		for (const robot of candidates) look(lane, robot);
		this.#lanes.set(key, lane);
		if (this.#lanes.size > maxEmpty + this.#waiting.size) this.#evict();
		return lane;
	}

	/** A robot came, or its labels or capabilities changed. */
	putRobot(terms: Terms): void {
		this.#robots.set(terms.robotId, terms);
		for (const lane of this.#lanes.values()) look(lane, terms);
	}

	/** These robots are in other groups or pools than before. */
	putAreas(robots: readonly Terms[]): void {
		for (const lane of this.#lanes.values()) {
			const { group, pool } = lane.rule;
			if (group !== undefined || pool !== undefined) for (const terms of robots) look(lane, terms);
		}
	}

	removeRobot(robotId: string): void {
		this.#robots.delete(robotId);
		for (const lane of this.#lanes.values()) {
			lane.robots.delete(robotId);
			lane.preferred?.delete(robotId);
		}
	}

	get waiting(): ReadonlySet<Lane> {
		return this.#waiting;
	}

	/** Those of the waiting lanes that the robot may serve. */
	*waitingFor(robotId: string): Generator<Lane, void> {
		for (const whose of [robotId, '']) {
			for (const lane of this.#waitingBy.get(whose) ?? []) {
				if (lane.robots.has(robotId)) yield lane;
			}
		}
	}

	/** A job became queued. Beyond the window it stays in the store alone. */
	push(queue: Queue, head: Head): void {
		const window = this.#window(queue);
		const { heads } = window;
		const last = heads.at(-1);
		if (window.more && (last === undefined || before(last, head))) return;
		let at = heads.length;
		while (at > 0 && before(head, heads[at - 1]!)) at -= 1;
		if (at === heads.length) heads.push(head);
		else heads.splice(at, 0, head);
		if (heads.length > windowSize) {
			heads.pop();
			window.more = true;
		}
	}

	/** Takes a head out of its window; the caller assigns it. */
	take(window: Window, at: number): Head {
		const [head] = at === 0 ? [window.heads.shift()] : window.heads.splice(at, 1);
		this.shares.served(window.shareKey);
		if (window.heads.length === 0 && !window.more) this.#close(window);
		return head!;
	}

	/** The job left its queue by another way than being given to a robot. */
	drop(queue: Queue, jobId: string): void {
		const window = this.#lanes.get(queue.lane)?.queues.get(queue.shareKey);
		const at = window?.heads.findIndex(({ id }) => id === jobId) ?? -1;
		if (!window || at < 0) return;
		window.heads.splice(at, 1);
		if (window.heads.length === 0 && !window.more) this.#close(window);
	}

	/** Something in memory may be wrong: read the window again. */
	doubt(queue: Queue): void {
		const window = this.#window(queue);
		window.heads = [];
		window.more = true;
	}

	/** Queues to read on, each asked for once at a time. */
	low(): (Queue & { limit: number })[] {
		const low: (Queue & { limit: number })[] = [];
		for (const lane of this.#waiting) {
			for (const window of lane.queues.values()) {
				if (!window.more || window.reading || window.heads.length >= lowMark) continue;
				window.reading = true;
				low.push({ lane: lane.key, shareKey: window.shareKey, limit: windowSize });
			}
		}
		return low;
	}

	/** `heads` is missing when they could not be read; fewer than `limit` are all there are. */
	refill(queue: Queue, heads: Head[] | undefined, limit: number): void {
		const window = this.#window(queue);
		window.reading = false;
		if (heads === undefined) return;
		window.heads = heads;
		window.more = heads.length >= limit;
		if (heads.length === 0 && !window.more) this.#close(window);
	}

	#window({ lane: key, shareKey }: Queue): Window {
		const lane = this.get(key);
		let window = lane.queues.get(shareKey);
		if (!window) {
			window = { lane, shareKey, heads: [], more: false, reading: false };
			lane.queues.set(shareKey, window);
			this.#wait(lane);
			this.shares.join(shareKey);
		}
		return window;
	}

	#close({ lane, shareKey }: Window): void {
		lane.queues.delete(shareKey);
		if (lane.queues.size === 0) this.#rest(lane);
		this.shares.leave(shareKey);
	}

	#wait(lane: Lane): void {
		if (this.#waiting.has(lane)) return;
		this.#waiting.add(lane);
		const robot = lane.rule.robot ?? '';
		const lanes = this.#waitingBy.get(robot);
		if (lanes) lanes.add(lane);
		else this.#waitingBy.set(robot, new Set([lane]));
	}

	#rest(lane: Lane): void {
		this.#waiting.delete(lane);
		const robot = lane.rule.robot ?? '';
		const lanes = this.#waitingBy.get(robot)!;
		lanes.delete(lane);
		if (lanes.size === 0) this.#waitingBy.delete(robot);
	}

	#evict(): void {
		for (const lane of this.#lanes.values()) {
			if (this.#waiting.has(lane)) continue;
			this.#lanes.delete(lane.key);
			if (this.#lanes.size <= maxEmpty / 2 + this.#waiting.size) return;
		}
	}
}

/** Whether this robot may run the lane's jobs, and what it is worth to them. */
function look({ rule, robots, preferred }: Lane, terms: Terms): void {
	const { robotId } = terms;
	if (misfit(rule, terms) === undefined) robots.add(robotId);
	else robots.delete(robotId);
	const worth = preferred && robots.has(robotId) ? preferenceOf(rule, terms) : 0;
	if (worth === 0) preferred?.delete(robotId);
	else preferred!.set(robotId, worth);
}
