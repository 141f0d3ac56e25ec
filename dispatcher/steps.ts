/**
 * The steps of a start, by name: each is timed and logged, and a failure names its step in its
 * sentence, in a log line and by the exit code.
 */
import { Problem } from '../protocol';
import type { Clock } from './engine/clock';
import type { Log } from './engine/context';
import { failPoint } from './store/fail-points';

/** In order, each with the exit code of a start that failed there. */
export const startSteps = {
	'data folder': 10,
	lock: 11,
	store: 12,
	migrate: 13,
	engine: 14,
	keys: 15,
	listen: 16,
} as const;
export type StartStep = keyof typeof startSteps;

/** A failure at start, with the name of its step. */
export class StartFailure extends Error {
	readonly step: StartStep;
	/** Absent when we have no sentence for it. */
	readonly problem: Problem | undefined;

	constructor(step: StartStep, cause: unknown) {
		super(`${step}: ${(cause as Error).message}`, { cause });
		this.step = step;
		this.problem = cause instanceof Problem ? cause : undefined;
	}

	get exitCode(): number {
		return startSteps[this.step];
	}
}

export class Steps {
	readonly #clock: Clock;
	readonly #log: Log;
	readonly #ms: Partial<Record<StartStep, number>> = {};
	#current: StartStep = 'data folder';
	#since: number;

	constructor(clock: Clock, log: Log) {
		this.#clock = clock;
		this.#log = log;
		this.#since = clock.monotonic();
		failPoint('start:data folder');
	}

	/** The previous step is over, this one begins. */
	begin(step: StartStep): void {
		failPoint(`start:${step}`);
		if (step === this.#current) return;
		this.#end();
		this.#current = step;
	}

	/** Answers how long each step took, in milliseconds. */
	done(): Partial<Record<StartStep, number>> {
		this.#end();
		return this.#ms;
	}

	failed(error: unknown): StartFailure {
		const failure = new StartFailure(this.#current, error);
		this.#log.error('the start failed', {
			step: this.#current,
			ms: this.#elapsed(),
			exitCode: failure.exitCode,
			...(failure.problem ? { code: failure.problem.code } : { error }),
		});
		return failure;
	}

	#end(): void {
		this.#ms[this.#current] = (this.#ms[this.#current] ?? 0) + this.#elapsed();
		this.#log.debug('start step done', { step: this.#current, ms: this.#ms[this.#current] });
		this.#since = this.#clock.monotonic();
	}

	#elapsed(): number {
		return Math.round(this.#clock.monotonic() - this.#since);
	}
}
