/** What is due when, for thousands of robots on one timer. Calls are made in the order in which they are due. */
import type { Stage } from './stage';

/** Something planned; `drop` takes it off the table. */
export interface Planned {
	at: number;
	/** Its order among those due at the same moment. */
	order: number;
	call: (() => void) | undefined;
}

export class Timetable {
	readonly #stage: Pick<Stage, 'monotonic' | 'sleep'>;
	/** A heap: the first is due first. */
	readonly #table: Planned[] = [];
	#order = 0;
	#running = false;
	#asleepUntil = -Infinity;
	#alarm = new AbortController();

	constructor(stage: Pick<Stage, 'monotonic' | 'sleep'>) {
		this.#stage = stage;
	}

	now(): number {
		return this.#stage.monotonic();
	}

	in(ms: number, call: () => void): Planned {
		return this.at(this.now() + Math.max(0, ms), call);
	}

	at(at: number, call: () => void): Planned {
		const planned: Planned = { at, order: (this.#order += 1), call };
		this.#push(planned);
		if (at < this.#asleepUntil) this.#alarm.abort();
		if (!this.#running) void this.#run();
		return planned;
	}

	drop(planned: Planned | undefined): void {
		// It stays in the heap until its time comes; then nothing happens.
		if (planned) planned.call = undefined;
	}

	/** Nothing that was planned will happen. */
	clear(): void {
		this.#table.length = 0;
		this.#alarm.abort();
	}

	async #run(): Promise<void> {
		this.#running = true;
		for (let next = this.#table[0]; next !== undefined; next = this.#table[0]) {
			const left = next.at - this.now();
			if (left > 0) {
				this.#asleepUntil = next.at;
				this.#alarm = new AbortController();
				await this.#stage.sleep(left, this.#alarm.signal);
				this.#asleepUntil = -Infinity;
				continue;
			}
			this.#pop();
			next.call?.();
		}
		this.#running = false;
	}

	#push(planned: Planned): void {
		const table = this.#table;
		let at = table.push(planned) - 1;
		while (at > 0) {
			const parent = (at - 1) >> 1;
			if (isBefore(table[parent]!, planned)) break;
			table[at] = table[parent]!;
			at = parent;
		}
		table[at] = planned;
	}

	#pop(): void {
		const table = this.#table;
		const last = table.pop()!;
		if (table.length === 0) return;
		let at = 0;
		for (;;) {
			let child = 2 * at + 1;
			if (child >= table.length) break;
			if (child + 1 < table.length && isBefore(table[child + 1]!, table[child]!)) child += 1;
			if (isBefore(last, table[child]!)) break;
			table[at] = table[child]!;
			at = child;
		}
		table[at] = last;
	}
}

function isBefore(a: Planned, b: Planned): boolean {
	return a.at < b.at || (a.at === b.at && a.order < b.order);
}
