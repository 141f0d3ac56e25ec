/**
 * The service inside n8n. This bundle is loaded by n8n's main process and is the entry of its own
 * threads too: on the main thread it only exports `startHost`; in a worker it becomes the service
 * or its store, whichever was asked for.
 *
 *   n8n main ── startHost ──> service thread (engine, doors) ──> store thread (SQLite)
 *
 * A thread gets no signals and dies with the process, so the main side does three things: it posts
 * `close` when told to stop, waits a last moment when the process exits without a word, and restarts
 * a thread that crashed, after a longer pause each time.
 *
 * Where n8n's own port is the robots' door, too (the hook), `front` carries what comes in there to the service thread.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Problem, type ProblemBody } from '../protocol';
import { systemClock } from './engine/clock';
import { nodeIsTooOld } from './node-version';
import { version } from './package.json';
import { Front, type Relay } from './server/front';

export { startCollector } from './collect';

export interface HostOptions {
	dataFolder: string;
	host: string;
	port: number;
	robotsListen?: string;
	publicUrl?: string;
	/** Where n8n itself listens: callbacks go there. */
	callbackUrl: string;
	/** How many proxies in front of n8n are trusted. */
	proxyHops?: number;
	log(level: 'debug' | 'info' | 'warn' | 'error', text: string, facts?: object): void;
}

export interface Host {
	readonly url: string;
	/** Contents of n8n.key. */
	readonly key: string;
	readonly version: string;
	/** Takes what robots send to n8n's own port. */
	readonly front: Pick<Front, 'request' | 'upgrade'>;
	/** Waits at most 10 s. Harmless when called twice. */
	close(): Promise<void>;
}

interface ServiceData {
	robotFleet: 'service';
	options: Omit<HostOptions, 'log'>;
	/** One Int32: 1 = stopped, everything is on disk. */
	stopped: SharedArrayBuffer;
}

type FromService =
	| { ready: { url: string; key: string } }
	| { relay: Relay | null }
	| { failed: { text: string; problem?: ProblemBody } }
	| { log: { level: 'debug' | 'info' | 'warn' | 'error'; text: string; facts?: object } };

const closeMs = 10_000;
const exitMs = 2_000;
const firstBackOffMs = 1_000;
const lastBackOffMs = 60_000;
/** A thread that lived this long did not crash because of its start. */
const healthyMs = 60_000;

if (!isMainThread) {
	const asked = (workerData as { robotFleet?: string } | null)?.robotFleet;
	if (asked === 'store' || asked === 'inspect') {
		void import('./store/thread').then(({ runStoreThreadIfAsked }) => runStoreThreadIfAsked());
	} else if (asked === 'service') {
		void runService(workerData as ServiceData);
	}
}

/** Resolves when the service takes work; rejects with a `Problem` when it cannot start at all. */
export async function startHost(options: HostOptions): Promise<Host> {
	if (nodeIsTooOld(process.versions.node)) {
		throw new Problem('node-too-old', { found: process.versions.node });
	}
	const host = new ThreadHost(options);
	await host.start();
	return host;
}

class ThreadHost implements Host {
	url = '';
	key = '';
	readonly version = version;
	readonly front: Front;
	readonly #options: HostOptions;
	readonly #over = new AbortController();
	readonly #atExit = () => this.#lastMoment();
	#worker: Worker | undefined;
	/** Belongs to this life of the thread; set once somebody wants it. */
	#relay: PromiseWithResolvers<Relay> | undefined;
	#stopped = new SharedArrayBuffer(4);
	#closing: Promise<void> | undefined;
	#backOffMs = firstBackOffMs;

	constructor(options: HostOptions) {
		this.#options = options;
		this.front = new Front({ relay: () => this.#relayNow(), proxyHops: options.proxyHops });
	}

	async start(): Promise<void> {
		process.once('exit', this.#atExit);
		try {
			await this.#startThread();
		} catch (error) {
			process.off('exit', this.#atExit);
			throw error;
		}
	}

	close(): Promise<void> {
		return (this.#closing ??= this.#close());
	}

	async #close(): Promise<void> {
		this.#over.abort();
		process.off('exit', this.#atExit);
		const worker = this.#worker;
		if (!worker) return;
		const ended = new Promise((resolve) => worker.once('exit', resolve));
		// The worker is unref'd; this wait must not be cut short by an idle loop.
		worker.ref();
		worker.postMessage('close');
		const patience = new AbortController();
		await Promise.race([ended, systemClock.sleep(closeMs, patience.signal)]);
		patience.abort();
		await worker.terminate();
	}

	#relayNow(): Promise<Relay> {
		const worker = this.#worker;
		if (!worker || this.#over.signal.aborted || this.url === '') {
			return Promise.reject(new Problem('not-ready', { state: 'starting or stopping' }));
		}
		if (!this.#relay) {
			this.#relay = Promise.withResolvers<Relay>();
			this.#relay.promise.catch(() => undefined);
			worker.postMessage('relay');
		}
		return this.#relay.promise;
	}

	/** `null`: it could not be opened; whoever comes next asks again. */
	#relayed(relay: Relay | null): void {
		if (relay) return this.#relay?.resolve(relay);
		this.#relay?.reject(new Problem('not-ready', { state: 'away' }));
		this.#relay = undefined;
	}

	/** One life of the thread, until it is ready. */
	#startThread(): Promise<void> {
		const { log, ...options } = this.#options;
		this.#stopped = new SharedArrayBuffer(4);
		const data: ServiceData = { robotFleet: 'service', options, stopped: this.#stopped };
		const worker = new Worker(__filename, { workerData: data, execArgv: [], name: 'robot-fleet' });
		this.#worker = worker;
		const startedAt = systemClock.monotonic();
		return new Promise((resolve, reject) => {
			let ready = false;
			let reason = 'it ended without a word';
			worker.on('message', (message: FromService) => {
				if ('log' in message) return log(message.log.level, message.log.text, message.log.facts);
				if ('relay' in message) return this.#relayed(message.relay);
				if ('failed' in message) {
					reason = message.failed.text;
					return reject(errorOf(message.failed));
				}
				ready = true;
				this.url = message.ready.url;
				this.key = message.ready.key;
				// n8n's own work decides how long the process lives.
				worker.unref();
				resolve();
			});
			worker.on('error', (error) => {
				reason = error.message;
				log('error', 'the service thread failed', { error: error.message });
			});
			worker.once('exit', () => {
				if (this.#worker === worker) this.#worker = undefined;
				this.#relay?.reject(new Problem('not-ready', { state: 'starting again' }));
				this.#relay = undefined;
				if (!ready) return reject(new Error(`The Robot Fleet service did not start: ${reason}.`));
				if (this.#over.signal.aborted) return;
				if (systemClock.monotonic() - startedAt > healthyMs) this.#backOffMs = firstBackOffMs;
				void this.#comeBack(reason);
			});
		});
	}

	async #comeBack(reason: string): Promise<void> {
		const { log } = this.#options;
		for (;;) {
			log('warn', 'the service thread ended and is started again', {
				reason,
				inMs: this.#backOffMs,
			});
			await systemClock.sleep(this.#backOffMs, this.#over.signal);
			if (this.#over.signal.aborted) return;
			this.#backOffMs = Math.min(this.#backOffMs * 2, lastBackOffMs);
			try {
				await this.#startThread();
				return log('info', 'the service is back', { url: this.url });
			} catch (error) {
				reason = (error as Error).message;
			}
		}
	}

	/**
	 * `process.exit` was called and nothing asynchronous runs here any more, but the thread still
	 * does: it is told to stop and gets a moment for its last commit. What is not on disk by then was
	 * promised to nobody.
	 */
	#lastMoment(): void {
		if (!this.#worker) return;
		this.#worker.postMessage('close');
		Atomics.wait(new Int32Array(this.#stopped), 0, 0, exitMs);
	}
}

function errorOf({ text, problem }: { text: string; problem?: ProblemBody }): Error {
	return problem ? new Problem(problem.code, problem.details) : new Error(text);
}

/** The service thread's whole life. */
async function runService({ options, stopped }: ServiceData): Promise<void> {
	const port = parentPort!;
	const say = (message: FromService) => port.postMessage(message);
	const flag = new Int32Array(stopped);
	const log = (level: 'debug' | 'info' | 'warn' | 'error') => (text: string, facts?: object) =>
		say({ log: { level, text, ...(facts && { facts: plainFacts(facts) }) } });

	// Loaded late: an old Node must get as far as saying that it is too old.
	const { readConfig } = await import('./config');
	const { startService } = await import('./startup');
	const { StartFailure } = await import('./steps');
	let close: () => Promise<void> = async () => undefined;
	const end = async (code: number) => {
		await close();
		Atomics.store(flag, 0, 1);
		Atomics.notify(flag, 0);
		process.exit(code);
	};
	// If asked to stop while starting, it stops as soon as it has started.
	let started: () => void = () => undefined;
	const start = new Promise<void>((resolve) => {
		started = resolve;
	});
	let relay: () => Promise<Relay> = () => Promise.reject(new Error('it did not start'));
	port.on('message', (message) => {
		if (message === 'close') void start.then(() => end(0));
		if (message !== 'relay') return;
		void start
			.then(() => relay())
			.then((opened) => say({ relay: opened }))
			.catch((error: unknown) => {
				log('warn')('there is no way in from n8n’s own port', { error });
				say({ relay: null });
			});
	});
	try {
		const config = readConfig({
			// Not as flags: mistakes are reported under the names known to whoever started n8n.
			env: {
				...process.env,
				ROBOT_FLEET_HOST: options.host,
				ROBOT_FLEET_PORT: String(options.port),
				ROBOT_FLEET_ROBOTS_LISTEN: options.robotsListen,
				ROBOT_FLEET_PUBLIC_URL: options.publicUrl,
				ROBOT_FLEET_DATA: options.dataFolder,
				ROBOT_FLEET_N8N_URL: options.callbackUrl,
			},
		});
		const service = await startService({
			config,
			embedded: true,
			log: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
			threadEntry: __filename,
			onFatal(error) {
				log('error')('the service cannot go on', { error });
				void end(1);
			},
		});
		close = () => service.close();
		relay = () => service.relay();
		started();
		say({ ready: { url: service.url, key: service.n8nKey } });
	} catch (error) {
		const problem = error instanceof StartFailure ? error.problem : (error as unknown);
		say({
			failed: {
				text: (error as Error).message,
				...(problem instanceof Problem && { problem: problem.toBody() }),
			},
		});
		started();
		await end(1);
	}
}

/** Facts cross a thread: errors become their text, what cannot be copied is left out. */
function plainFacts(facts: object): object {
	return JSON.parse(
		JSON.stringify(facts, (_key, value: unknown) =>
			value instanceof Error ? { message: value.message, stack: value.stack } : value,
		),
	) as object;
}
