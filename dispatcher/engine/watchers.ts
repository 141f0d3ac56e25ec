/**
 * Who waits for a job, or for what becomes of a robot: long polls, parked executions, those who follow output or type.
 * A hint, never the truth: whoever is woken reads the store again.
 */
import { enough } from './clock';

export type Topic =
	'ended' | 'output' | 'wait' | 'events' | 'input' | 'prompt' | 'robot' | 'collect';

export class Watchers {
	readonly #watchers = new Map<string, Set<() => void>>();
	readonly #ended = new Set<(jobId: string) => void>();
	readonly #childEnded = new Set<(parentId: string) => void>();
	readonly #prompted = new Set<(jobId: string) => void>();

	/** Calls `wake` at each hint until the returned function is called. */
	watch(topic: Topic, id: string, wake: () => void): () => void {
		const key = `${topic}:${id}`;
		let watchers = this.#watchers.get(key);
		if (!watchers) this.#watchers.set(key, (watchers = new Set()));
		watchers.add(wake);
		return () => {
			watchers.delete(wake);
			if (watchers.size === 0) this.#watchers.delete(key);
		};
	}

	hint(topic: Topic, id: string): void {
		for (const wake of [...(this.#watchers.get(`${topic}:${id}`) ?? [])]) wake();
	}

	/** Nothing can be typed into it, and it asks nothing any more. */
	attemptOver(jobId: string): void {
		this.hint('input', jobId);
		this.hint('prompt', jobId);
	}

	/** Called whenever a program asks, and when it has its answer; what it asks ends with its attempt, too. */
	onPrompt(listener: (jobId: string) => void): void {
		this.#prompted.add(listener);
	}

	prompted(jobId: string): void {
		this.hint('prompt', jobId);
		for (const listener of this.#prompted) listener(jobId);
	}

	/** Called for every job that ends. */
	onEnded(listener: (jobId: string) => void): void {
		this.#ended.add(listener);
	}

	ended(jobId: string): void {
		this.hint('ended', jobId);
		this.hint('output', jobId);
		for (const listener of this.#ended) listener(jobId);
	}

	/** Called when a child has ended: its parent may be nearer to its end. */
	onChildEnded(listener: (parentId: string) => void): void {
		this.#childEnded.add(listener);
	}

	childEnded(parentId: string): void {
		for (const listener of this.#childEnded) listener(parentId);
	}

	/**
	 * Reads until `done` says so, or the time is over, or the caller has gone; answers the last reading.
	 * Watches before it reads, so that nothing is missed in between.
	 */
	async until<T>(
		topic: Topic,
		ids: readonly string[],
		read: () => Promise<T>,
		done: (value: T) => boolean,
		wait: {
			ms: number;
			sleep(ms: number, signal: AbortSignal): Promise<void>;
			signal?: AbortSignal;
		},
	): Promise<T> {
		if (wait.ms <= 0) return read();
		const over = new AbortController();
		let wake = () => {};
		let woken = false;
		const stops = ids.map((id) =>
			this.watch(topic, id, () => {
				woken = true;
				wake();
			}),
		);
		const giveUp = () => over.abort(enough);
		wait.signal?.addEventListener('abort', giveUp, { once: true });
		if (wait.signal?.aborted) giveUp();
		void wait.sleep(wait.ms, over.signal).then(giveUp);
		over.signal.addEventListener('abort', () => wake(), { once: true });
		try {
			for (;;) {
				woken = false;
				const value = await read();
				if (done(value) || over.signal.aborted) return value;
				if (!woken) await new Promise<void>((resolve) => (wake = resolve));
				if (over.signal.aborted) return await read();
			}
		} finally {
			for (const stop of stops) stop();
			wait.signal?.removeEventListener('abort', giveUp);
			giveUp();
		}
	}
}
