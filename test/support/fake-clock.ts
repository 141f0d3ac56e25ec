/** A clock that moves only when told, wall and monotonic time together or apart. */
import type { Clock } from '../../dispatcher/engine/clock';

interface Sleeper {
	at: number;
	wake(): void;
}

export class FakeClock implements Clock {
	#wall: number;
	#mono = 0;
	readonly #sleepers = new Set<Sleeper>();

	constructor(startAt = Date.UTC(2026, 0, 1)) {
		this.#wall = startAt;
	}

	now(): number {
		return this.#wall;
	}

	monotonic(): number {
		return this.#mono;
	}

	sleep(ms: number, signal?: AbortSignal): Promise<void> {
		if (signal?.aborted) return Promise.resolve();
		return new Promise((resolve) => {
			const sleeper: Sleeper = {
				at: this.#mono + ms,
				wake: () => {
					this.#sleepers.delete(sleeper);
					resolve();
				},
			};
			this.#sleepers.add(sleeper);
			signal?.addEventListener('abort', sleeper.wake, { once: true });
		});
	}

	/** Moves time in steps, so that what wakes can go to sleep again on the way. */
	async advance(ms: number): Promise<void> {
		for (let left = ms; left > 0;) {
			const next = Math.min(
				left,
				...[...this.#sleepers].map(({ at }) => Math.max(1, at - this.#mono)),
			);
			this.#wall += next;
			this.#mono += next;
			left -= next;
			for (const sleeper of [...this.#sleepers]) if (sleeper.at <= this.#mono) sleeper.wake();
			await settled();
		}
	}

	/** Nobody ran meanwhile: what is due wakes late, and all at once. */
	async pause(ms: number): Promise<void> {
		this.#wall += ms;
		this.#mono += ms;
		for (const sleeper of [...this.#sleepers]) if (sleeper.at <= this.#mono) sleeper.wake();
		await settled();
	}

	/** Only the wall clock: somebody set it. */
	jump(ms: number): void {
		this.#wall += ms;
	}
}

/** Lets everything that can go on without time go on: commits of a near store, answers, frames. */
export async function settled(): Promise<void> {
	for (let i = 0; i < 12; i += 1) await new Promise((resolve) => setImmediate(resolve));
}
