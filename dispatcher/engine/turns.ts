/**
 * Group commit. Work that arrives while the last commit syncs is gathered; then one turn plans all of
 * it against memory, commits it once, and only then lets memory change and answers go out. Idle, a
 * turn carries one piece of work.
 *
 *   gather → plan (synchronous: deeds, reservations) → commit → settle (memory, answers, frames)
 *
 * Within a turn a job is touched once: a second piece of work for it waits for the next turn, and so
 * sees what the first one did.
 */
import { Problem } from '../../protocol';
import { StoreFull } from '../store/open';
import type { Deed, DeedName, Deeds, Head, Store } from '../store/store';

export interface Work {
	/** Adds deeds. `later` = a job it needs is being changed in this turn. Must not await. */
	plan(turn: Turn): 'later' | void;
	/** The commit failed as a whole: nothing was written. */
	fail(error: Error): void;
}

export class Turn {
	readonly deeds: Deed[] = [];
	readonly settlers: ((answer: never) => void)[] = [];
	/** Undone, last first, when the commit fails. */
	readonly undo: (() => void)[] = [];
	readonly #touched = new Set<string>();

	constructor(readonly now: number) {}

	/** False when the job was touched before in this turn. */
	touch(jobId: string): boolean {
		if (this.#touched.has(jobId)) return false;
		this.#touched.add(jobId);
		return true;
	}

	add<N extends DeedName>(
		name: N,
		input: Deeds[N]['in'],
		settle: (answer: Deeds[N]['out']) => void,
	): void {
		this.deeds.push({ do: name, with: input } as Deed);
		this.settlers.push(settle as (answer: never) => void);
	}
}

export interface TurnHooks {
	/** Hands out work to robots; called once a turn, after all work was planned. */
	fill(turn: Turn): void;
	/** Lanes whose window ran low: read again behind this turn's commit. */
	lowLanes(): { key: string; limit: number }[];
	refilled(lane: string, heads: Head[], limit: number): void;
	/** The store is broken: nothing more may be promised. */
	fatal(error: Error): void;
	now(): number;
}

/** Enough to fill a sync's time; more would only make answers wait for each other. */
const maxWorkPerTurn = 512;

export class Turns {
	readonly #store: Store;
	readonly #hooks: TurnHooks;
	#inbox: Work[] = [];
	#running: Promise<void> | undefined;
	#broken: Error | undefined;
	#nudged = false;

	constructor(store: Store, hooks: TurnHooks) {
		this.#store = store;
		this.#hooks = hooks;
	}

	push(work: Work): void {
		if (this.#broken) {
			work.fail(this.#broken);
			return;
		}
		this.#inbox.push(work);
		this.#start();
	}

	/** One deed on its own. */
	deed<N extends DeedName>(name: N, input: Deeds[N]['in']): Promise<Deeds[N]['out']> {
		return new Promise((resolve, reject) => {
			this.push({ plan: (turn) => turn.add(name, input, resolve), fail: reject });
		});
	}

	/** Something changed that may let a waiting job start. */
	nudge(): void {
		this.#nudged = true;
		if (!this.#broken) this.#start();
	}

	/** Resolves when all work that was pushed before is committed. */
	async idle(): Promise<void> {
		while (this.#running) await this.#running;
	}

	#start(): void {
		this.#running ??= this.#run().finally(() => {
			this.#running = undefined;
			if ((this.#inbox.length > 0 || this.#nudged) && !this.#broken) this.#start();
		});
	}

	async #run(): Promise<void> {
		// Everything that the same round of the event loop brings shares the first commit.
		await new Promise((resolve) => setImmediate(resolve));
		while ((this.#inbox.length > 0 || this.#nudged) && !this.#broken) await this.#turn();
	}

	async #turn(): Promise<void> {
		const turn = new Turn(this.#hooks.now());
		const work = this.#inbox.splice(0, maxWorkPerTurn);
		this.#nudged = false;
		const later: Work[] = [];
		const planned: Work[] = [];
		for (const piece of work) {
			if (piece.plan(turn) === 'later') later.push(piece);
			else planned.push(piece);
		}
		this.#hooks.fill(turn);
		const low = this.#hooks.lowLanes();
		this.#inbox.unshift(...later);
		try {
			// The store answers in order, so these reads see this commit.
			const [answers, ...windows] = await Promise.all([
				turn.deeds.length > 0 ? this.#store.commit(turn.deeds) : [],
				...low.map(({ key, limit }) => this.#store.read('heads', { lane: key, limit })),
			]);
			for (const [i, settle] of turn.settlers.entries()) settle(answers[i] as never);
			for (const [i, { key, limit }] of low.entries()) {
				this.#hooks.refilled(key, windows[i]!, limit);
			}
			if (windows.length > 0) this.#nudged = true;
		} catch (error) {
			this.#failed(turn, planned, error as Error);
		}
	}

	#failed(turn: Turn, planned: Work[], error: Error): void {
		for (const undo of turn.undo.reverse()) undo();
		const full = error instanceof StoreFull;
		const told = full ? new Problem('store-full', {}, error) : error;
		if (!full) this.#broken = error;
		for (const piece of planned) piece.fail(told);
		if (full) return;
		for (const piece of this.#inbox.splice(0)) piece.fail(error);
		this.#hooks.fatal(error);
	}
}
