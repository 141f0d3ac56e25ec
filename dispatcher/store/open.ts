/**
 * Opens the store and hands back its promises as an async `Store`: in a thread of its own for the
 * service, in this thread for tests of rules that need no other.
 */
import { Worker } from 'node:worker_threads';
import { Problem } from '../../protocol';
import { type SqliteOptions, SqliteStore } from './sqlite';
import type { Deed, DeedAnswer, ReadName, Reads, Store } from './store';
import type { StoreAnswer, StoreFailure, StoreRequest } from './thread';

export interface StoreOptions extends SqliteOptions {
	/** The bundle that becomes the store's thread; absent = this thread. */
	threadEntry?: string;
}

/** Thrown when another process owns the file. */
export class StoreTaken extends Error {}
/** Thrown when the disk is full: nothing was written, and trying again may help. */
export class StoreFull extends Error {}

export async function openStore({ threadEntry, ...options }: StoreOptions): Promise<Store> {
	return threadEntry === undefined ? new NearStore(options) : FarStore.open(options, threadEntry);
}

class NearStore implements Store {
	readonly #sqlite: SqliteStore;

	constructor(options: SqliteOptions) {
		this.#sqlite = new SqliteStore(options);
	}

	get term(): number {
		return this.#sqlite.term;
	}

	async commit(deeds: Deed[]): Promise<DeedAnswer[]> {
		return this.#sqlite.commit(deeds);
	}

	async read<N extends ReadName>(name: N, args: Reads[N]['in']): Promise<Reads[N]['out']> {
		return this.#sqlite.read(name, args);
	}

	async close(): Promise<void> {
		this.#sqlite.close();
	}
}

class FarStore implements Store {
	#term = 0;
	readonly #worker: Worker;
	readonly #waiting = new Map<
		number,
		{ resolve(answer: unknown): void; reject(error: Error): void }
	>();
	#lastId = 0;
	#over: Error | undefined;

	static async open(options: SqliteOptions, entry: string): Promise<FarStore> {
		const worker = new Worker(entry, {
			workerData: { robotFleet: 'store', options },
			execArgv: [],
		});
		const opened = Promise.withResolvers<number>();
		const store = new FarStore(worker, opened);
		store.#term = await opened.promise;
		return store;
	}

	private constructor(worker: Worker, opened: PromiseWithResolvers<number>) {
		this.#worker = worker;
		const end = (error: Error) => {
			this.#over ??= error;
			opened.reject(error);
			for (const waiting of this.#waiting.values()) waiting.reject(error);
			this.#waiting.clear();
		};
		worker.on('message', (answer: StoreAnswer) => {
			if ('ready' in answer) opened.resolve(answer.ready.term);
			else if (!('id' in answer)) end(errorOf(answer.failed));
			else {
				const waiting = this.#waiting.get(answer.id);
				this.#waiting.delete(answer.id);
				if ('failed' in answer) waiting?.reject(errorOf(answer.failed));
				else waiting?.resolve(answer.answer);
			}
		});
		worker.on('error', end);
		worker.on('exit', () => end(new Error('the store thread has ended')));
	}

	get term(): number {
		return this.#term;
	}

	commit(deeds: Deed[]): Promise<DeedAnswer[]> {
		return this.#ask({ deeds }) as Promise<DeedAnswer[]>;
	}

	read<N extends ReadName>(name: N, args: Reads[N]['in']): Promise<Reads[N]['out']> {
		return this.#ask({ read: name, args }) as Promise<Reads[N]['out']>;
	}

	async close(): Promise<void> {
		if (this.#over) return;
		const gone = new Promise((resolve) => this.#worker.once('exit', resolve));
		await this.#ask({ close: true });
		await gone;
	}

	#ask(request: DistributiveOmit<StoreRequest, 'id'>): Promise<unknown> {
		if (this.#over) return Promise.reject(this.#over);
		const id = ++this.#lastId;
		return new Promise((resolve, reject) => {
			this.#waiting.set(id, { resolve, reject });
			this.#worker.postMessage({ id, ...request });
		});
	}
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

function errorOf(failure: StoreFailure): Error {
	if (failure.problem) return new Problem(failure.problem.code, failure.problem.details);
	if (failure.errcode !== undefined) {
		const primary = failure.errcode & 0xff;
		if (primary === 5 || primary === 6) return new StoreTaken(failure.message);
		if (primary === 13) return new StoreFull(failure.message);
	}
	return new Error(failure.message);
}
