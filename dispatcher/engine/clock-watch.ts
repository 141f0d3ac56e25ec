/**
 * Notices, by the clock that nobody can set, that the wall clock was set. Back-offs are instants on the wall: those
 * that were written before are moved in the first turn after the step, ahead of all that this turn writes; what is
 * written later goes by the new clock already.
 */
import { limits } from '../../protocol';
import type { Clock } from './clock';
import type { Turn } from './turns';

export class ClockWatch {
	readonly #clock: Clock;
	/** Wall time minus monotonic time. */
	#offset: number;
	/** Steps that turns have noticed since the last look. */
	#noticed = 0;

	constructor(clock: Clock) {
		this.#clock = clock;
		this.#offset = clock.now() - clock.monotonic();
	}

	/** To be called before anything is planned in the turn. */
	begin(turn: Turn): void {
		const step = this.#step(turn.now);
		if (step === 0) return;
		const by = Math.round(step);
		this.#take(step);
		// A retry that was not moved comes too early or too late; the next turn moves it.
		turn.undo.push(() => this.#take(-step));
		turn.add('shiftBackOffs', { by }, () => undefined);
	}

	/** Milliseconds the clock was set by since the last look, and how much of that no turn moved. Slow drift is none. */
	look(now: number): { by: number; unmoved: number } {
		const unmoved = this.#step(now);
		const by = this.#noticed + unmoved;
		this.#offset = now - this.#clock.monotonic();
		this.#noticed = 0;
		return { by, unmoved };
	}

	#take(step: number): void {
		this.#offset += step;
		this.#noticed += step;
	}

	/** 0 when it was not set. */
	#step(now: number): number {
		const step = now - this.#clock.monotonic() - this.#offset;
		return Math.abs(step) > limits.clockJumpMs ? step : 0;
	}
}
