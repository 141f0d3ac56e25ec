/**
 * What jobs share, as memory: locks, the places of a key, the starts of a rate. What is used is never a number of its
 * own: it is what live attempts take (`hold` and `release` follow the holds of the fleet), plus what assigns that
 * are being committed were promised, less what is in `returning`, each by taker. Limits and starts are copies of the
 * store's.
 *
 * A queue whose gate has no room is *shut*: out of its lane, so that nothing behind it is held up and nobody looks
 * at it. It comes back when the gate opens: when somebody gives back, when an operator sets the limit, or when a
 * start is long enough ago.
 */
import type { GateKind } from '../../protocol';
import { capacityOf, gateKey, type Need, type Needs, needsOf } from '../core/needs';
import { Starts } from '../core/starts';
import type { Head } from '../store/store';
import type { Clock } from './clock';

/** A queue of jobs that need the same. */
export interface Waiter {
	readonly needs: string;
	/** Best first, as far as they are in memory. */
	readonly heads: readonly Head[];
	/** The need for which it is shut. */
	shutBy: Need | undefined;
}

/** Who takes how much; a second `put` replaces the first. */
class Amounts<K> {
	readonly #of = new Map<K, number>();
	total = 0;

	get size(): number {
		return this.#of.size;
	}

	put(key: K, amount: number): void {
		this.remove(key);
		this.#of.set(key, amount);
		this.total += amount;
	}

	remove(key: K): boolean {
		this.total -= this.#of.get(key) ?? 0;
		return this.#of.delete(key);
	}

	has(key: K): boolean {
		return this.#of.has(key);
	}

	[Symbol.iterator](): IterableIterator<[K, number]> {
		return this.#of[Symbol.iterator]();
	}
}

export interface Gate {
	readonly key: string;
	readonly of: GateKind;
	readonly name: string;
	/** By job, in the order in which they came. */
	readonly holders: Amounts<string>;
	/** By epoch, of assigns on their way. */
	readonly promised: Amounts<number>;
	/** By job: of what they hold, what the commit under way gives back. */
	readonly returning: Amounts<string>;
	/** Of a rate. */
	readonly starts: Starts | undefined;
	/** Queues of jobs that need it, and those of them that are shut by it. */
	readonly waiters: Set<Waiter>;
	readonly shut: Set<Waiter>;
	/** Of a rate: the monotonic instant at which the first of `shut` may go on. */
	opensAt: number;
}

/** What of an attempt matters here. */
interface Taker {
	readonly jobId: string;
	readonly epoch: number;
	readonly needs: string;
}

export class Gates {
	readonly #gates = new Map<string, Gate>();
	readonly #limits = new Map<string, number>();
	readonly #promises = new Map<number, Needs>();
	/** Those that open by themselves. */
	readonly #timed = new Set<Gate>();
	readonly #clock: Clock;
	/** Takes a queue back into its lane. */
	reopen: (waiter: Waiter) => void = () => undefined;

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	all(): IterableIterator<Gate> {
		return this.#gates.values();
	}

	get(key: string): Gate | undefined {
		return this.#gates.get(key);
	}

	limitOf(name: string): number | undefined {
		return this.#limits.get(name);
	}

	limits(): IterableIterator<[string, number]> {
		return this.#limits.entries();
	}

	/** Absent `max` = no limit any more. */
	setLimit(name: string, max: number | undefined): void {
		if (max === undefined) this.#limits.delete(name);
		else this.#limits.set(name, max);
		for (const kind of ['lock', 'concurrency'] as const) {
			this.#open(this.#gates.get(gateKey(kind, name)));
		}
	}

	/** How much is left for a job that needs it. */
	room(need: Need): number {
		const capacity = this.capacity(need);
		const gate = this.#gates.get(need.key);
		if (!gate) return capacity;
		const { holders, promised, returning, starts } = gate;
		const started = starts?.within(need.perMs, this.#clock.monotonic()) ?? 0;
		return capacity - (started + holders.total + promised.total - returning.total);
	}

	capacity(need: Need): number {
		return capacityOf(need, this.#limits.get(need.name));
	}

	/** The first of them for which there is no room. */
	lacking(needs: Needs): Need | undefined {
		return needs.find((need) => this.room(need) < need.take);
	}

	/** A queue came into being, or (`leave`) is gone. */
	join(waiter: Waiter): void {
		for (const need of needsOf(waiter.needs)) {
			const gate = this.#make(need);
			gate.waiters.add(waiter);
			gate.starts?.keepFor(need.perMs);
		}
	}

	leave(waiter: Waiter): void {
		waiter.shutBy = undefined;
		for (const { key } of needsOf(waiter.needs)) {
			const gate = this.#gates.get(key);
			gate?.waiters.delete(waiter);
			gate?.shut.delete(waiter);
			this.#tidy(gate);
		}
	}

	/** The queue is out of its lane until there is room for this again. */
	shut(waiter: Waiter, need: Need): void {
		const gate = this.#make(need);
		waiter.shutBy = need;
		gate.shut.add(waiter);
		if (!gate.starts) return;
		const now = this.#clock.monotonic();
		const opensAt = gate.starts.opensAt(need, now, gate.promised.total);
		gate.opensAt = Math.min(gate.opensAt, opensAt);
		this.#timed.add(gate);
	}

	/** Opens what is open by now. Answers in how many milliseconds to look again; undefined = nothing waits for time. */
	tick(): number | undefined {
		if (this.#timed.size === 0) return undefined;
		const now = this.#clock.monotonic();
		let next = Infinity;
		for (const gate of [...this.#timed]) {
			if (gate.opensAt <= now) this.#open(gate);
			else next = Math.min(next, gate.opensAt);
		}
		return next === Infinity ? undefined : Math.max(1, Math.ceil(next - now));
	}

	/** Whether something waits for time. */
	get waitsForTime(): boolean {
		return this.#timed.size > 0;
	}

	/** When the rate lets one more start; now, if it does already. Monotonic. */
	opensAt(need: Need): number {
		const now = this.#clock.monotonic();
		const gate = this.#gates.get(need.key);
		return gate?.starts?.opensAt(need, now, gate.promised.total) ?? now;
	}

	/** An attempt is about to be made: all it needs is taken, at once. */
	promise(epoch: number, needs: Needs): void {
		if (needs.length === 0) return;
		this.#promises.set(epoch, needs);
		for (const need of needs) this.#make(need).promised.put(epoch, need.take);
	}

	/** Nothing came of it. */
	unpromise(epoch: number): void {
		for (const { key } of this.#keep(epoch)) this.#openAndTidy(key);
	}

	/** The commit carried it: what was promised is held, and has started. */
	started({ epoch }: Taker): void {
		const now = this.#clock.monotonic();
		for (const need of this.#keep(epoch)) {
			const { starts } = this.#make(need);
			starts?.keepFor(need.perMs);
			starts?.tidy(now);
			starts?.add(epoch, now);
		}
	}

	#keep(epoch: number): Needs {
		const needs = this.#promises.get(epoch) ?? [];
		this.#promises.delete(epoch);
		for (const { key } of needs) this.#gates.get(key)?.promised.remove(epoch);
		return needs;
	}

	/** It was proved that it never started. */
	neverStarted({ epoch, needs }: Taker): void {
		for (const { key, of } of needsOf(needs)) {
			if (of !== 'rate') continue;
			this.#gates.get(key)?.starts?.remove(epoch);
			this.#openAndTidy(key);
		}
	}

	/** As the store says: how long ago it was, and how long it counts. */
	loadStart(name: string, epoch: number, agoMs: number, keepMs: number): void {
		const starts = this.#make({ key: gateKey('rate', name), of: 'rate', name }).starts!;
		starts.keepFor(keepMs);
		starts.add(epoch, this.#clock.monotonic() - agoMs);
	}

	/** How long a start of this rate is to be kept. */
	keepMs({ key, perMs }: Need): number {
		return this.#gates.get(key)?.starts?.keepFor(perMs) ?? perMs;
	}

	hold({ jobId, needs }: Taker): void {
		for (const need of needsOf(needs)) {
			if (need.of !== 'rate') this.#make(need).holders.put(jobId, need.take);
		}
	}

	release({ jobId, needs }: Taker): void {
		for (const { key, of } of needsOf(needs)) {
			const gate = this.#gates.get(key);
			// An end gives no start back.
			if (!gate || of === 'rate') continue;
			gate.holders.remove(jobId);
			// What was on its way back has opened the gate already.
			if (gate.returning.remove(jobId)) this.#tidy(gate);
			else this.#openAndTidy(key);
		}
	}

	/** The commit under way gives it back: it may be taken again in that very commit. */
	returns({ jobId, needs }: Taker): void {
		for (const need of needsOf(needs)) {
			const gate = this.#gates.get(need.key);
			if (!gate?.holders.has(jobId)) continue;
			gate.returning.put(jobId, need.take);
			this.#open(gate);
		}
	}

	/** That commit failed. */
	staysHeld({ jobId, needs }: Taker): void {
		for (const { key } of needsOf(needs)) this.#gates.get(key)?.returning.remove(jobId);
	}

	#openAndTidy(key: string): void {
		const gate = this.#gates.get(key);
		this.#open(gate);
		this.#tidy(gate);
	}

	#open(gate: Gate | undefined): void {
		if (!gate) return;
		gate.opensAt = Infinity;
		this.#timed.delete(gate);
		const waiters = [...gate.shut];
		gate.shut.clear();
		for (const waiter of waiters) {
			waiter.shutBy = undefined;
			this.reopen(waiter);
		}
	}

	#make({ key, of, name }: Pick<Need, 'key' | 'of' | 'name'>): Gate {
		let gate = this.#gates.get(key);
		if (!gate) {
			gate = {
				key,
				of,
				name,
				holders: new Amounts(),
				promised: new Amounts(),
				returning: new Amounts(),
				starts: of === 'rate' ? new Starts() : undefined,
				waiters: new Set(),
				shut: new Set(),
				opensAt: Infinity,
			};
			this.#gates.set(key, gate);
		}
		return gate;
	}

	/** A gate that nobody has or wants is forgotten: keys come and go. */
	#tidy(gate: Gate | undefined): void {
		if (!gate || gate.waiters.size + gate.holders.size + gate.promised.size > 0) return;
		if (gate.starts?.tidy(this.#clock.monotonic())) return;
		this.#timed.delete(gate);
		this.#gates.delete(gate.key);
	}

	/** Forgets starts that are over. */
	sweep(): void {
		for (const gate of [...this.#gates.values()]) {
			gate.starts?.tidy(this.#clock.monotonic());
			this.#tidy(gate);
		}
	}
}
