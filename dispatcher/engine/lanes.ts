/**
 * The queues as the engine sees them. A lane is one must-rule; inside it each share key, and each set of needs (locks,
 * places of a key, a rate), has a queue of its own. One whose gate has no room is shut: it stays in its lane, but is
 * not among those that are looked at. Only the first few jobs of a queue are in memory. What lies behind stays in the
 * store, and is read when the window runs low; empty lanes cost nothing but their place in a small cache.
 */
import { laneRule, misfit, preferenceOf, type Rule, type Terms } from '../core/matching';
import { nothing, type Need } from '../core/needs';
import { before, Shares } from '../core/rank';
import type { Head, Queue } from '../store/store';
import type { Gates, Waiter } from './gates';
import { Labelled } from './labelled';
import { WaitingLanes } from './waiting-lanes';

const windowSize = 512;
const lowMark = 128;
/** Empty lanes kept, so that a stream of single jobs does not match all robots anew each time. */
const maxEmpty = 1_000;

export interface Lane {
	readonly key: string;
	readonly rule: Rule;
	/** Those with something to do, by share key and needs. */
	readonly queues: Map<string, Window>;
	/** Those of them that no gate has shut. */
	readonly open: Set<Window>;
	/** Robots that may run its jobs. */
	readonly robots: Set<string>;
	/** Those of them that its jobs would rather have, or rather not; absent when they prefer none. */
	readonly preferred: Map<string, number> | undefined;
}

export interface Window extends Waiter {
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
	/** Those with something to do, that is, with a queue that is open. */
	readonly #waiting = new WaitingLanes();
	/** Windows that run low, whether they are being read or not. */
	readonly #low = new Set<Window>();
	readonly #robots = new Map<string, Terms>();
	readonly #labelled = new Labelled(this.#robots);
	readonly #gates: Gates;
	/** Queues whose jobs can wait beside a robot that is free: for a gate, or for several slots at once. */
	readonly #special = new Set<Window>();
	/** Lanes of which every queue is shut. */
	readonly #asleep = new Set<Lane>();
	/** Lanes of a single robot that is not ours any more: it was removed. */
	readonly #forsaken = new Set<Lane>();
	/** How often each was served, of those with something to do. */
	readonly shares = new Shares();

	constructor(gates: Gates) {
		this.#gates = gates;
		gates.reopen = (waiter) => this.#reopen(waiter as Window);
	}

	/** The lane, made and matched when it is new. */
	get(key: string): Lane {
		const known = this.#lanes.get(key);
		if (known) return known;
		const rule = laneRule(key);
		const preferred = rule.prefer && new Map<string, number>();
		const lane: Lane = {
			key,
			rule,
			queues: new Map(),
			open: new Set(),
			robots: new Set(),
			preferred,
		};
		const candidates =
			lane.rule.robot === undefined
				? this.#labelled.with(lane.rule.labels)
				: [this.#robots.get(lane.rule.robot)].filter((robot) => robot !== undefined);
		for (const robot of candidates) look(lane, robot);
		this.#lanes.set(key, lane);
		const { robot: only } = rule;
		if (only !== undefined && !this.#robots.has(only)) this.#forsaken.add(lane);
		if (this.#lanes.size > maxEmpty + this.waiting.size + this.#asleep.size) this.#evict();
		return lane;
	}

	/** A robot came, or its labels or capabilities changed. */
	putRobot(terms: Terms): void {
		this.#robots.set(terms.robotId, terms);
		this.#labelled.put(terms);
		for (const lane of this.#lanes.values()) this.#lookAgain(lane, terms);
	}

	#lookAgain(lane: Lane, terms: Terms): void {
		const { robotId } = terms;
		if (lane.rule.robot === robotId) this.#forsaken.delete(lane);
		const before = lane.robots.has(robotId);
		look(lane, terms);
		if (lane.robots.has(robotId) === before) return;
		if (before) this.#waiting.left(lane, robotId);
		else this.#waiting.joined(lane, robotId);
	}

	/** These robots are in other groups or pools than before. */
	putAreas(robots: readonly Terms[]): void {
		for (const lane of this.#lanes.values()) {
			const { group, pool } = lane.rule;
			if (group === undefined && pool === undefined) continue;
			for (const terms of robots) this.#lookAgain(lane, terms);
		}
	}

	removeRobot(robotId: string): void {
		this.#robots.delete(robotId);
		this.#labelled.remove(robotId);
		for (const lane of this.#lanes.values()) {
			if (lane.rule.robot === robotId) this.#forsaken.add(lane);
			if (lane.robots.delete(robotId)) this.#waiting.left(lane, robotId);
			lane.preferred?.delete(robotId);
		}
	}

	get waiting(): ReadonlySet<Lane> {
		return this.#waiting.all;
	}

	/** Waiting ones, and those whose queues are all shut. */
	get withWork(): Lane[] {
		return [...this.#waiting.all, ...this.#asleep];
	}

	/** Up to `limit` jobs that are for a robot which was removed: nobody will ever take them. */
	forsaken(limit: number): string[] {
		const ids: string[] = [];
		for (const { queues } of this.#forsaken) {
			for (const { heads } of queues.values()) {
				for (const { id } of heads) {
					if (ids.length === limit) return ids;
					ids.push(id);
				}
			}
		}
		return ids;
	}

	/** Whether a look at the waiting lanes of the robot could find one. */
	mayServe(robotId: string): boolean {
		return this.#waiting.mayServe(robotId);
	}

	/** Whether somebody waits beside robots that are free. */
	get hasSpecial(): boolean {
		return this.#special.size > 0;
	}

	/** Those of the waiting lanes that the robot may serve. */
	waitingFor(robotId: string): Generator<Lane, void> {
		return this.#waiting.of(robotId);
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
		this.#measure(window);
	}

	/** Takes a head out of its window; the caller assigns it. */
	take(window: Window, at: number): Head {
		const [head] = at === 0 ? [window.heads.shift()] : window.heads.splice(at, 1);
		this.shares.served(window.shareKey);
		this.#measure(window);
		if (window.heads.length === 0 && !window.more) this.#close(window);
		return head!;
	}

	/** The job left its queue in another way than by being given to a robot. */
	drop(queue: Queue, jobId: string): void {
		const window = this.#lanes.get(queue.lane)?.queues.get(nameOf(queue));
		const at = window?.heads.findIndex(({ id }) => id === jobId) ?? -1;
		if (!window || at < 0) return;
		window.heads.splice(at, 1);
		this.#measure(window);
		if (window.heads.length === 0 && !window.more) this.#close(window);
	}

	/** Something in memory may be wrong: read the window again. */
	doubt(queue: Queue): void {
		const window = this.#window(queue);
		window.heads = [];
		window.more = true;
		this.#measure(window);
	}

	/** Its gate has no room: it is not looked at until that opens. */
	shut(window: Window, need: Need): void {
		const { lane } = window;
		lane.open.delete(window);
		if (lane.open.size === 0) {
			this.#waiting.delete(lane);
			this.#asleep.add(lane);
		}
		// A queue that cannot be served earns no credit meanwhile.
		this.shares.leave(window.shareKey);
		this.#measure(window);
		this.#gates.shut(window, need);
	}

	#reopen(window: Window): void {
		this.#open(window);
		this.#measure(window);
	}

	/** Queues to read on; each is asked for only once at a time. */
	low(): (Queue & { limit: number })[] {
		const low: (Queue & { limit: number })[] = [];
		for (const window of this.#low) {
			if (window.reading) continue;
			window.reading = true;
			const { lane, shareKey, needs } = window;
			low.push({ lane: lane.key, shareKey, needs, limit: windowSize });
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
		this.#measure(window);
		if (heads.length === 0 && !window.more) this.#close(window);
	}

	#window(queue: Queue): Window {
		const { shareKey, needs } = queue;
		const lane = this.get(queue.lane);
		const name = nameOf(queue);
		let window = lane.queues.get(name);
		if (!window) {
			const empty = { heads: [], more: false, reading: false, shutBy: undefined };
			window = { lane, shareKey, needs, ...empty };
			lane.queues.set(name, window);
			if (needs !== nothing || lane.rule.slots !== undefined) this.#special.add(window);
			if (needs !== nothing) this.#gates.join(window);
			this.#open(window);
		}
		return window;
	}

	#open(window: Window): void {
		window.lane.open.add(window);
		this.#asleep.delete(window.lane);
		this.#waiting.add(window.lane, this.#robots.size);
		this.shares.join(window.shareKey);
	}

	#close(window: Window): void {
		const { lane, shareKey } = window;
		lane.queues.delete(nameOf(window));
		if (lane.open.delete(window)) {
			if (lane.open.size === 0) this.#waiting.delete(lane);
			this.shares.leave(shareKey);
		}
		if (lane.queues.size === 0) this.#asleep.delete(lane);
		else if (lane.open.size === 0) this.#asleep.add(lane);
		this.#special.delete(window);
		this.#low.delete(window);
		if (window.needs !== nothing) this.#gates.leave(window);
	}

	/**
	 * Call after any change of its heads, or of its gate. Of a queue that is shut, a job must be known too: it may be owed
	 * what others want.
	 */
	#measure(window: Window): void {
		const { lane, heads, more } = window;
		const enough = lane.open.has(window) ? lowMark : 1;
		if (more && heads.length < enough) this.#low.add(window);
		else this.#low.delete(window);
	}

	#evict(): void {
		for (const lane of this.#lanes.values()) {
			if (lane.queues.size > 0) continue;
			this.#lanes.delete(lane.key);
			this.#forsaken.delete(lane);
			if (this.#lanes.size <= maxEmpty / 2 + this.waiting.size + this.#asleep.size) return;
		}
	}
}

/** Its name among the queues of its lane. No share key holds a line break. */
function nameOf({ shareKey, needs }: Pick<Queue, 'shareKey' | 'needs'>): string {
	return needs === nothing ? shareKey : `${shareKey}\n${needs}`;
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
