/**
 * Virtual time, and the only place of a simulated world where anything is awaited. Everything that
 * happens is an event of one process; events happen one after the other, in the order of their
 * instants. After each, everything that it set off in promises runs to its end before the next.
 *
 * `setImmediate`, with which the engine gathers a turn, is virtual too while a world runs: a round of
 * the event loop takes no time, and a killed process has no next round.
 */

/** The real one, before a world takes its place. */
const nextRound = setImmediate;

const settled = () => new Promise<void>((resolve) => void nextRound(resolve));

/** No timer is finer: who sleeps for the rest of a rounding error must not sleep for ever. */
const finestMs = 0.01;

/** One life of a program. Its events die with it; while it is paused they wait. */
export class Process {
	readonly name: string;
	alive = true;
	/** True time until which nothing of it happens: a stopped or suspended machine. */
	pausedUntil = 0;
	/** How far its monotonic clock lies behind true time: suspends do not count. */
	monotonicLag = 0;
	/** How wrong its wall clock is. */
	wallError = 0;
	/** Who sleeps. When all is quiet the number says whether somebody was forgotten. */
	sleepers = 0;

	constructor(name: string) {
		this.name = name;
	}
}

export interface Timer {
	at: number;
	seq: number;
	owner: Process;
	run: (() => void) | undefined;
}

/** The instant at which every world begins, in the wall time of those whose clock is right. */
export const epochAt = Date.UTC(2026, 0, 1);

export class Kernel {
	/** True time in milliseconds since the world began. */
	now = 0;
	/** Events that happened. */
	events = 0;
	readonly #heap: Timer[] = [];
	readonly #rounds: { owner: Process; run: () => void }[] = [];
	#seq = 0;

	/** Lets it happen to this process in `ms`, unless it has died by then. */
	after(ms: number, owner: Process, run: () => void): Timer {
		const timer: Timer = { at: this.now + Math.max(0, ms), seq: (this.#seq += 1), owner, run };
		this.#push(timer);
		return timer;
	}

	cancel(timer: Timer): void {
		timer.run = undefined;
	}

	/** Resolves with true after `ms`, with false as soon as the signal aborts; never for the dead. */
	sleep(ms: number, owner: Process, signal?: AbortSignal): Promise<boolean> {
		if (signal?.aborted) return Promise.resolve(false);
		return new Promise((resolve) => {
			owner.sleepers += 1;
			const wake = () => {
				this.cancel(timer);
				if (!owner.alive) return;
				owner.sleepers -= 1;
				resolve(false);
			};
			const timer = this.after(ms > 0 ? Math.max(ms, finestMs) : 0, owner, () => {
				signal?.removeEventListener('abort', wake);
				owner.sleepers -= 1;
				resolve(true);
			});
			signal?.addEventListener('abort', wake, { once: true });
		});
	}

	/**
	 * Runs until `done` says so after an event, the time is over, or nothing can happen any more.
	 * `inside` names whose `setImmediate` it is: only one process of a world uses it.
	 */
	async run(untilAt: number, inside: () => Process, done: () => boolean): Promise<boolean> {
		const real = globalThis.setImmediate;
		globalThis.setImmediate = ((run: () => void) => {
			const owner = inside();
			if (owner.alive) this.#rounds.push({ owner, run });
		}) as typeof setImmediate;
		try {
			await this.#settle();
			if (done()) return true;
			for (;;) {
				const timer = this.#pop();
				if (!timer) return false;
				if (!timer.run || !timer.owner.alive) continue;
				if (timer.owner.pausedUntil > timer.at) {
					// Its place among those that wait with it stays the same.
					timer.at = timer.owner.pausedUntil;
					this.#push(timer);
					continue;
				}
				if (timer.at > untilAt) {
					this.#push(timer);
					this.now = untilAt;
					return false;
				}
				this.now = timer.at;
				this.events += 1;
				const { run } = timer;
				timer.run = undefined;
				run();
				await this.#settle();
				if (done()) return true;
			}
		} finally {
			globalThis.setImmediate = real;
		}
	}

	async #settle(): Promise<void> {
		await settled();
		while (this.#rounds.length > 0) {
			for (const { owner, run } of this.#rounds.splice(0)) if (owner.alive) run();
			await settled();
		}
	}

	#push(timer: Timer): void {
		const heap = this.#heap;
		let at = heap.length;
		heap.push(timer);
		while (at > 0) {
			const parent = (at - 1) >> 1;
			if (!before(timer, heap[parent]!)) break;
			heap[at] = heap[parent]!;
			at = parent;
		}
		heap[at] = timer;
	}

	#pop(): Timer | undefined {
		const heap = this.#heap;
		const first = heap[0];
		const last = heap.pop();
		if (heap.length === 0 || !last) return first;
		let at = 0;
		for (;;) {
			let child = 2 * at + 1;
			if (child >= heap.length) break;
			if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
			if (!before(heap[child]!, last)) break;
			heap[at] = heap[child]!;
			at = child;
		}
		heap[at] = last;
		return first;
	}
}

function before(a: Timer, b: Timer): boolean {
	return a.at < b.at || (a.at === b.at && a.seq < b.seq);
}
