/**
 * The store's own thread. The bundle is its own worker entry: every entry point calls
 * `runStoreThreadIfAsked()` first, and a worker that was started as the store becomes it.
 *
 * Requests are answered strictly in the order they came, so a read sees every commit before it.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Problem, type ProblemBody } from '../../protocol';
import { sqliteIsSafe, type SqliteOptions, SqliteStore } from './sqlite';
import type { Deed, DeedAnswer, ReadName, Reads } from './store';

export type StoreRequest =
	| { id: number; deeds: Deed[] }
	| { id: number; read: ReadName; args: Reads[ReadName]['in'] }
	| { id: number; close: true };

export type StoreAnswer =
	| { ready: { term: number } }
	| { failed: StoreFailure }
	| { id: number; answer: DeedAnswer[] | Reads[ReadName]['out'] | undefined }
	| { id: number; failed: StoreFailure };

/** An error that crossed the thread. `locked` = another process owns the file. */
export interface StoreFailure {
	message: string;
	problem?: ProblemBody;
	/** SQLite's own code, e.g. 5 = busy, 13 = full. */
	errcode?: number;
}

/** True when this thread was the store's and is now busy being it. */
export function runStoreThreadIfAsked(): boolean {
	const data = workerData as { robotFleet?: string; options?: SqliteOptions } | null;
	if (isMainThread || data?.robotFleet !== 'store' || !parentPort) return false;
	serve(data.options!, parentPort);
	return true;
}

function serve(options: SqliteOptions, port: NonNullable<typeof parentPort>): void {
	let store: SqliteStore;
	try {
		if (!sqliteIsSafe(process.versions.sqlite ?? '0')) {
			throw new Problem('sqlite-unsafe', { found: process.versions.sqlite ?? 'none' });
		}
		store = new SqliteStore(options);
	} catch (error) {
		port.postMessage({ failed: failureOf(error) } satisfies StoreAnswer);
		port.close();
		return;
	}
	port.on('message', (request: StoreRequest) => {
		try {
			if ('close' in request) {
				store.close();
				port.postMessage({ id: request.id, answer: undefined } satisfies StoreAnswer);
				port.close();
			} else {
				const answer =
					'deeds' in request ? store.commit(request.deeds) : store.read(request.read, request.args);
				port.postMessage({ id: request.id, answer } satisfies StoreAnswer);
			}
		} catch (error) {
			port.postMessage({ id: request.id, failed: failureOf(error) } satisfies StoreAnswer);
		}
	});
	port.postMessage({ ready: { term: store.term } } satisfies StoreAnswer);
}

function failureOf(error: unknown): StoreFailure {
	if (error instanceof Problem) return { message: error.message, problem: error.toBody() };
	const { message, errcode } = error as Error & { errcode?: number };
	return { message, ...(errcode === undefined ? {} : { errcode }) };
}
