/**
 * Group commit. Work that arrives while a commit syncs is gathered; then one turn plans all of it
 * against memory, commits it once, and only then lets memory change and answers go out. Idle, a turn
 * carries one piece of work.
 *
 *   gather → plan (synchronous: deeds, reservations) → commit → settle (memory, answers, frames)
 *
 * When much is waiting, the next turn is planned while the last one still syncs, so that neither this
 * thread nor the store's waits for the other. The store keeps their order.
 *
 * A job is touched by one turn at a time: a second piece of work for it waits until the first is
 * settled, and so sees what it did.
 */
import { Problem } from '../../protocol';
import { failPoint } from '../store/fail-points';
import { StoreFull } from '../store/open';
import type {
	Deed,
	DeedAnswer,
	DeedName,
	Deeds,
	Head,
	Queue,
	ReadName,
	Reads,
	Store,
} from '../store/store';

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
	readonly now: number;
	/** Read after the commit and before the next one. */
	readonly questions: Question[] = [];
	/** Children that its parents get: each is several rows. */
	children = 0;
	/** Its commit, from request to answer. */
	tookMs = 0;
	readonly #busy: Set<string>;
	readonly #touched: string[] = [];
	readonly #behind = new Map<string, () => void>();

	constructor(now: number, busy: Set<string>) {
		this.now = now;
		this.#busy = busy;
	}

	/** False when the job is being changed by this turn or one before it. */
	touch(jobId: string): boolean {
		if (this.#busy.has(jobId)) return false;
		this.#busy.add(jobId);
		this.#touched.push(jobId);
		return true;
	}

	/**
	 * Plans something after all other work of the turn, once for each key, and before anything is given away in it: the
	 * end that stops a rollout stops it before the lock that this end gives back lets the next one go.
	 */
	behind(key: string, plan: () => void): void {
		this.#behind.set(key, plan);
	}

	/** Nothing more is planned in this turn but what `behind` left for last. */
	close(): void {
		for (const plan of this.#behind.values()) plan();
	}

	/** The turn is over. */
	release(): void {
		for (const jobId of this.#touched) this.#busy.delete(jobId);
	}

	add<N extends DeedName>(
		name: N,
		input: Deeds[N]['in'],
		settle: (answer: Deeds[N]['out']) => void,
	): void {
		this.deeds.push({ do: name, with: input } as Deed);
		this.settlers.push(settle as (answer: never) => void);
	}

	/** Asks the store as it is right after this turn's commit; answered after its deeds. */
	ask<N extends ReadName>(
		name: N,
		args: Reads[N]['in'],
		settle: (answer: Reads[N]['out']) => void,
	): void {
		this.questions.push({ name, args, settle: settle as (answer: never) => void });
	}
}

interface Question {
	name: ReadName;
	args: Reads[ReadName]['in'];
	settle(answer: never): void;
}

export interface TurnHooks {
	/** Called before anything is planned in a turn. */
	begin(turn: Turn): void;
	/** Hands out work to robots; called once a turn, after all work was planned. */
	fill(turn: Turn): void;
	/** Queues whose window ran low: read again after this turn's commit. */
	low(): (Queue & { limit: number })[];
	/** `heads` is missing when they could not be read. */
	refilled(queue: Queue, heads: Head[] | undefined, limit: number): void;
	/** The store is broken: nothing more may be promised. */
	fatal(error: Error): void;
	now(): number;
	monotonic(): number;
	/** These deeds are on disk; memory does not know it yet. Must not throw. */
	committed(deeds: readonly Deed[], answers: readonly DeedAnswer[], tookMs: number): void;
	/** Memory has followed, and answers went out. Must not throw. */
	settled(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void;
}

/** Enough to fill a sync's time; more would only make answers wait for each other. */
const maxWorkPerTurn = 512;
/** Turns under way at once, and how much must wait to make a second one worth its own sync. */
const maxTurns = 2;
const worthATurn = 48;

export class Turns {
	readonly #store: Store;
	readonly #hooks: TurnHooks;
	readonly #inbox: Work[] = [];
	/** Work that waits for a job which a turn under way is changing. */
	readonly #later: Work[] = [];
	readonly #busy = new Set<string>();
	readonly #idle: (() => void)[] = [];
	#underWay = 0;
	#scheduled = false;
	#nudged = false;
	/** A commit failed: queues are short of the jobs that it gave away, until they are read again. */
	#blind = false;
	#broken: Error | undefined;

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
		this.#schedule();
	}

	/** One deed on its own. */
	deed<N extends DeedName>(name: N, input: Deeds[N]['in']): Promise<Deeds[N]['out']> {
		return new Promise((resolve, reject) => {
			this.push({ plan: (turn) => turn.add(name, input, resolve), fail: reject });
		});
	}

	/** Resolves when nothing that was pushed before still waits: it is planned, or has failed. */
	takenUp(): Promise<void> {
		if (this.#inbox.length === 0) return Promise.resolve();
		return new Promise((resolve) => {
			this.push({ plan: () => resolve(), fail: () => resolve() });
		});
	}

	/** Something changed that may let a waiting job start. */
	nudge(): void {
		this.#nudged = true;
		this.#schedule();
	}

	/** Resolves when all work that was pushed before is committed. */
	async idle(): Promise<void> {
		while (this.#underWay > 0 || this.#scheduled) {
			await new Promise<void>((resolve) => this.#idle.push(resolve));
		}
	}

	/** Everything that the same round of the event loop brings shares one commit. */
	#schedule(): void {
		if (this.#scheduled || this.#broken || !this.#mayStart()) return;
		this.#scheduled = true;
		setImmediate(() => {
			this.#scheduled = false;
			if (!this.#broken && this.#mayStart()) void this.#turn();
			this.#tellIdle();
		});
	}

	#mayStart(): boolean {
		if (this.#underWay === 0) return this.#inbox.length > 0 || this.#nudged;
		return this.#underWay < maxTurns && this.#inbox.length >= worthATurn;
	}

	async #turn(): Promise<void> {
		this.#underWay += 1;
		const turn = new Turn(this.#hooks.now(), this.#busy);
		this.#hooks.begin(turn);
		const work = this.#inbox.splice(0, maxWorkPerTurn);
		this.#nudged = false;
		const planned: Work[] = [];
		for (const piece of work) (piece.plan(turn) === 'later' ? this.#later : planned).push(piece);
		turn.close();
		// Otherwise a robot would go to whoever stands behind the missing ones.
		const blind = this.#blind;
		if (!blind) this.#hooks.fill(turn);
		const low = this.#hooks.low();
		failPoint('turn:planned');
		try {
			// The store answers in order, so these reads see this commit.
			const [answers, ...read] = await Promise.all([
				turn.deeds.length > 0 ? this.#commit(turn) : [],
				...low.map((queue) => this.#store.read('heads', queue)),
				...turn.questions.map(({ name, args }) => this.#store.read(name, args)),
			]);
			failPoint('turn:committed');
			const windows = read as Head[][];
			turn.release();
			if (turn.deeds.length > 0) this.#hooks.committed(turn.deeds, answers, turn.tookMs);
			for (const [i, settle] of turn.settlers.entries()) settle(answers[i] as never);
			if (turn.deeds.length > 0) this.#hooks.settled(turn.deeds, answers);
			for (const [i, { settle }] of turn.questions.entries()) settle(read[low.length + i] as never);
			for (const [i, queue] of low.entries()) {
				// Jobs that a later turn is giving away were still waiting when the store was asked. One that it only looks at
				// stays in line, and is found by the next read: while any is left out, these are not all.
				const heads = windows[i]!.filter((head) => !this.#busy.has(head.id));
				const all = windows[i]!.length < queue.limit && heads.length === windows[i]!.length;
				this.#hooks.refilled(queue, heads, all ? Infinity : heads.length);
				this.#nudged = true;
			}
			if (blind) {
				this.#blind = false;
				this.#nudged = true;
			}
			failPoint('turn:settled');
		} catch (error) {
			turn.release();
			for (const queue of low) this.#hooks.refilled(queue, undefined, queue.limit);
			this.#failed(turn, planned, error as Error);
		} finally {
			this.#underWay -= 1;
			this.#inbox.unshift(...this.#later.splice(0));
			this.#schedule();
			this.#tellIdle();
		}
	}

	async #commit(turn: Turn): Promise<DeedAnswer[]> {
		const begun = this.#hooks.monotonic();
		const answers = await this.#store.commit(turn.deeds);
		turn.tookMs = this.#hooks.monotonic() - begun;
		return answers;
	}

	#tellIdle(): void {
		if (this.#underWay > 0 || this.#scheduled) return;
		for (const tell of this.#idle.splice(0)) tell();
	}

	#failed(turn: Turn, planned: Work[], error: Error): void {
		for (const undo of turn.undo.reverse()) undo();
		this.#blind = true;
		const full = error instanceof StoreFull;
		const told = full ? new Problem('store-full', {}, error) : error;
		const first = this.#broken === undefined;
		if (!full) this.#broken ??= error;
		for (const piece of planned) piece.fail(told);
		if (full) return;
		for (const piece of [...this.#inbox.splice(0), ...this.#later.splice(0)]) piece.fail(error);
		if (first) this.#hooks.fatal(error);
	}
}
