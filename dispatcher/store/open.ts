/**
 * Opens the store and hands back its promises as an async `Store`: in a thread of its own for the
 * service, in this thread for tests of rules that need no other.
 */
import { Worker } from 'node:worker_threads';
import { type BackupContents, Problem } from '../../protocol';
import { inspectCopy } from './copies';
import { bytesIn, dataOf, Leftovers } from './leftovers';
import { type OpenStep, SqliteStore, type StoreFiles } from './sqlite';
import type { Deed, DeedAnswer, ReadName, Reads, Store } from './store';
import type {
	InspectAnswer,
	Opened,
	StoreAnswer,
	StoreFailure,
	StoreRequest,
	ThreadData,
} from './thread';

export interface StoreOptions extends StoreFiles {
	/** The bundle that becomes the store's thread; absent = this thread. */
	threadEntry?: string;
	/** Called as each step of opening begins. */
	onStep?(step: OpenStep): void;
}

/** Thrown when another process owns the file. */
export class StoreTaken extends Error {}
/** Thrown when the disk is full: nothing was written, and trying again may help. */
export class StoreFull extends Error {}

export async function openStore({ threadEntry, ...options }: StoreOptions): Promise<Store> {
	return threadEntry === undefined ? new NearStore(options) : FarStore.open(options, threadEntry);
}

/** Looks into a copy, in a thread of its own when there is one: a large one takes its time. */
export function inspect(file: string, threadEntry: string | undefined): Promise<BackupContents> {
	if (threadEntry === undefined) return Promise.resolve().then(() => inspectCopy(file));
	const workerData: ThreadData = { robotFleet: 'inspect', file };
	const worker = new Worker(threadEntry, { workerData, execArgv: [] });
	return new Promise((resolve, reject) => {
		worker.once('message', (answer: InspectAnswer) =>
			'facts' in answer ? resolve(answer.facts) : reject(errorOf(answer.failed)),
		);
		worker.once('error', reject);
		worker.once('exit', () => reject(new Error('the thread that checks the copy has ended')));
	});
}

class NearStore implements Store {
	readonly #sqlite: SqliteStore;

	#pressed: () => void = () => undefined;

	constructor(options: Omit<StoreOptions, 'threadEntry'>) {
		this.#sqlite = new SqliteStore({ ...options, onPressed: () => this.#pressed() });
	}

	get term(): number {
		return this.#sqlite.term;
	}

	get schema(): number {
		return this.#sqlite.schema;
	}

	get migratedFrom(): number | null {
		return this.#sqlite.migratedFrom;
	}

	onPressed(listener: () => void): void {
		this.#pressed = listener;
	}

	async commit(deeds: Deed[]): Promise<DeedAnswer[]> {
		return this.#sqlite.commit(deeds);
	}

	async read<N extends ReadName>(name: N, args: Reads[N]['in']): Promise<Reads[N]['out']> {
		return this.#sqlite.read(name, args);
	}

	snapshot(file: string): Promise<void> {
		return this.#sqlite.snapshot(file);
	}

	async close(): Promise<void> {
		this.#sqlite.close();
	}
}

class FarStore implements Store {
	#opened: Opened = { term: 0, schema: 0, migratedFrom: null };
	#pressed: () => void = () => undefined;
	readonly #worker: Worker;
	readonly #leftovers = new Leftovers();
	readonly #waiting = new Map<
		number,
		{ resolve(answer: unknown): void; reject(error: Error): void }
	>();
	#lastId = 0;
	#over: Error | undefined;

	static async open(
		{ onStep, ...options }: Omit<StoreOptions, 'threadEntry'>,
		entry: string,
	): Promise<FarStore> {
		const workerData: ThreadData = { robotFleet: 'store', options };
		const worker = new Worker(entry, { workerData, execArgv: [] });
		const opened = Promise.withResolvers<Opened>();
		const store = new FarStore(worker, options.file, opened, onStep);
		store.#opened = await opened.promise;
		return store;
	}

	private constructor(
		worker: Worker,
		file: string,
		opened: PromiseWithResolvers<Opened>,
		onStep: StoreOptions['onStep'],
	) {
		this.#worker = worker;
		const end = (error: Error) => {
			this.#over ??= error;
			opened.reject(error);
			for (const waiting of this.#waiting.values()) waiting.reject(error);
			this.#waiting.clear();
		};
		worker.on('message', (answer: StoreAnswer) => {
			if ('ready' in answer) opened.resolve(answer.ready);
			else if ('step' in answer) onStep?.(answer.step);
			else if ('pressed' in answer) this.#pressed();
			else if (!('id' in answer)) end(openingErrorOf(answer.failed, file));
			else {
				const waiting = this.#waiting.get(answer.id);
				this.#waiting.delete(answer.id);
				if ('failed' in answer) waiting?.reject(errorOf(answer.failed));
				else {
					waiting?.resolve(answer.answer);
					this.#leftovers.add(dataOf(answer.answer)?.length ?? 0);
				}
			}
		});
		worker.on('error', end);
		worker.on('exit', () => end(new Error('the store thread has ended')));
	}

	get term(): number {
		return this.#opened.term;
	}

	get schema(): number {
		return this.#opened.schema;
	}

	get migratedFrom(): number | null {
		return this.#opened.migratedFrom;
	}

	onPressed(listener: () => void): void {
		this.#pressed = listener;
	}

	commit(deeds: Deed[]): Promise<DeedAnswer[]> {
		this.#leftovers.add(bytesIn(deeds));
		return this.#ask({ deeds }) as Promise<DeedAnswer[]>;
	}

	read<N extends ReadName>(name: N, args: Reads[N]['in']): Promise<Reads[N]['out']> {
		return this.#ask({ read: name, args }) as Promise<Reads[N]['out']>;
	}

	async snapshot(file: string): Promise<void> {
		await this.#ask({ snapshot: file });
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

/** A file that is no store, or a damaged one, is found out when it is opened. */
function openingErrorOf(failure: StoreFailure, file: string): Error {
	const primary = (failure.errcode ?? 0) & 0xff;
	if (primary !== 11 && primary !== 26) return errorOf(failure);
	return new Problem('store-unreadable', { file, reason: failure.message });
}

/** SQLite's own words for a disk or a file that cannot be trusted: I/O error, corrupt, cannot open, no database. */
const brokenCodes = new Set([10, 11, 14, 26]);

function errorOf(failure: StoreFailure): Error {
	if (failure.problem) return new Problem(failure.problem.code, failure.problem.details);
	if (failure.errcode !== undefined) {
		const primary = failure.errcode & 0xff;
		if (primary === 5 || primary === 6) return new StoreTaken(failure.message);
		if (primary === 13) return new StoreFull(failure.message);
		if (brokenCodes.has(primary)) {
			return new Problem('store-failed', { reason: failure.message });
		}
	}
	return new Error(failure.message);
}
