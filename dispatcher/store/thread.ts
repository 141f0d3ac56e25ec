/**
 * The store's own thread. The bundle is its own worker entry: every entry point calls
 * `runStoreThreadIfAsked()` first, and a worker that was started as the store becomes it.
 *
 * Requests are answered strictly in the order they came, so a read sees every commit before it. Only
 * a snapshot is answered when it is done.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { type BackupContents, Problem, type ProblemBody } from '../../protocol';
import { inspectCopy } from './copies';
import { bytesIn, dataOf, Leftovers } from './leftovers';
import { type OpenStep, sqliteIsSafe, SqliteStore, type StoreFiles } from './sqlite';
import type { Deed, DeedAnswer, ReadName, Reads } from './store';

export type StoreRequest =
	| { id: number; deeds: Deed[] }
	| { id: number; read: ReadName; args: Reads[ReadName]['in'] }
	| { id: number; snapshot: string }
	| { id: number; close: true };

export type StoreAnswer =
	| { step: OpenStep }
	| { ready: Opened }
	| { pressed: true }
	| { failed: StoreFailure }
	| { id: number; answer: DeedAnswer[] | Reads[ReadName]['out'] | undefined }
	| { id: number; failed: StoreFailure };

export interface Opened {
	term: number;
	schema: number;
	migratedFrom: number | null;
}

/** How the thread is started: to be the store, or to look into a copy and end. */
export type ThreadData =
	{ robotFleet: 'store'; options: StoreFiles } | { robotFleet: 'inspect'; file: string };

export type InspectAnswer = { facts: BackupContents } | { failed: StoreFailure };

/** An error that crossed the thread. */
export interface StoreFailure {
	message: string;
	problem?: ProblemBody;
	/** SQLite's own code, e.g. 5 = busy, 13 = full. */
	errcode?: number;
}

/** True when this thread was started as the store's, and is now busy being it. */
export function runStoreThreadIfAsked(): boolean {
	const data = workerData as ThreadData | null;
	if (isMainThread || !data || !parentPort) return false;
	if (data.robotFleet === 'inspect') inspect(data.file, parentPort);
	else if (data.robotFleet === 'store') serve(data.options, parentPort);
	else return false;
	return true;
}

type Port = NonNullable<typeof parentPort>;

function inspect(file: string, port: Port): void {
	try {
		port.postMessage({ facts: inspectCopy(file) } satisfies InspectAnswer);
	} catch (error) {
		port.postMessage({ failed: failureOf(error) } satisfies InspectAnswer);
	}
	port.close();
}

function serve(options: StoreFiles, port: Port): void {
	const say = (answer: StoreAnswer, buffers: ArrayBuffer[] = []) =>
		port.postMessage(answer, buffers);
	const leftovers = new Leftovers();
	let store: SqliteStore;
	try {
		if (!sqliteIsSafe(process.versions.sqlite ?? '0')) {
			throw new Problem('sqlite-unsafe', { found: process.versions.sqlite ?? 'none' });
		}
		store = new SqliteStore({
			...options,
			onPressed: () => say({ pressed: true }),
			onStep: (step) => say({ step }),
		});
	} catch (error) {
		say({ failed: failureOf(error) });
		port.close();
		return;
	}
	port.on('message', (request: StoreRequest) => {
		try {
			if ('close' in request) {
				store.close();
				say({ id: request.id, answer: undefined });
				port.close();
			} else if ('snapshot' in request) {
				store.snapshot(request.snapshot).then(
					() => say({ id: request.id, answer: undefined }),
					(error: unknown) => say({ id: request.id, failed: failureOf(error) }),
				);
			} else {
				const { id } = request;
				if ('deeds' in request) {
					say({ id, answer: store.commit(request.deeds) });
					leftovers.add(bytesIn(request.deeds));
				} else {
					const answer = store.read(request.read, request.args);
					const data = dataOf(answer);
					leftovers.add(data?.length ?? 0);
					say({ id, answer }, buffersOf(data));
				}
			}
		} catch (error) {
			say({ id: request.id, failed: failureOf(error) });
		}
	});
	const { term, schema, migratedFrom } = store;
	say({ ready: { term, schema, migratedFrom } });
}

/** Output that was read is transferred, not copied: the buffer was made for this answer. */
function buffersOf(data: Uint8Array | undefined): ArrayBuffer[] {
	return data?.buffer instanceof ArrayBuffer ? [data.buffer] : [];
}

function failureOf(error: unknown): StoreFailure {
	if (error instanceof Problem) return { message: error.message, problem: error.toBody() };
	const { message, errcode } = error as Error & { errcode?: number };
	return { message, ...(errcode === undefined ? {} : { errcode }) };
}
