/**
 * "This n8n": the service inside n8n's own main process.
 *
 * n8n may load this module several times in one process (a package update clears the module cache
 * while the old code runs on), so the running service belongs to an owner object on `globalThis`.
 * Loading this file reads one marker file and nothing else; the bundle is required on first use,
 * or a moment after boot when the marker says that it ran here before.
 *
 * The one file under nodes/ that may touch the process, files and sockets.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Problem } from '../../protocol';
import type { Send, SendAnswer, SendRequest } from '../../client';
import { asProblem } from './refusals';

/** What dist/embedded/service.js exports: dispatcher/embed.ts, bundled. */
export interface Service {
	startHost(options: HostOptions): Promise<Host>;
}

export interface HostOptions {
	dataFolder: string;
	host: string;
	port: number;
	robotsListen?: string;
	publicUrl?: string;
	callbackUrl: string;
	log(level: 'debug' | 'info' | 'warn' | 'error', text: string, facts?: object): void;
}

export interface Host {
	url: string;
	key: string;
	version: string;
	close(): Promise<void>;
}

/** Other versions of this file read these four; what they mean never changes. */
export interface Owner {
	version: string;
	/** Starts the service, or answers the one that runs. */
	start(): Promise<Host>;
	/** Stops it for good: port and data folder are free when this settles. */
	close(): Promise<void>;
	/** The running service; undefined before the first start and after the last close. */
	ready: Promise<Host> | undefined;
}

type Env = Record<string, string | undefined>;

/** As seen from dist/nodes/shared/. */
const bundle = '../../embedded/service.js';

const ownerKey = Symbol.for('robot-fleet.host.v1');
const place = globalThis as { [ownerKey]?: Owner };

// ---------------------------------------------------------------------------- where we are

/** Why this process must not run the service; undefined in the main process of a regular n8n. */
export function processRefusal(
	argv: readonly string[] = process.argv,
	env: Env = process.env,
): string | undefined {
	const command = argv[2];
	if (command === 'worker' || command === 'webhook') return `this is a ${command} process`;
	if (env.EXECUTIONS_MODE === 'queue') return 'n8n runs in queue mode';
	// n8n takes a command line that begins with a flag for "start".
	if (command === undefined || command === 'start' || command.startsWith('-')) return undefined;
	return `this is the one-shot command "${command}"`;
}

export function dataFolder(env: Env = process.env): string {
	const own = env.ROBOT_FLEET_DATA?.trim();
	return own || join(env.N8N_USER_FOLDER?.trim() || homedir(), '.n8n', 'robot-fleet');
}

/** Where this n8n answers on its own machine, whatever a proxy calls it outside. */
export function callbackBase(env: Env = process.env): string {
	const own = env.ROBOT_FLEET_N8N_URL?.trim();
	if (own) return own.replace(/\/+$/, '');
	// With "https" and no certificate n8n speaks HTTP and leaves TLS to a proxy in front of it.
	const tls = env.N8N_PROTOCOL === 'https' && env.N8N_SSL_KEY && env.N8N_SSL_CERT;
	const listen = env.N8N_LISTEN_ADDRESS?.trim();
	const everywhere = !listen || listen === '::' || listen === '0.0.0.0';
	const address = everywhere ? '127.0.0.1' : listen.includes(':') ? `[${listen}]` : listen;
	return `${tls ? 'https' : 'http'}://${address}:${env.N8N_PORT?.trim() || '5678'}`;
}

export function hostOptions(env: Env = process.env): Omit<HostOptions, 'log'> {
	const port = Number(env.ROBOT_FLEET_PORT?.trim() || '8765');
	if (!Number.isInteger(port) || port < 0 || port > 65_535) {
		throw new Problem('bad-config', {
			mistakes: `ROBOT_FLEET_PORT is "${env.ROBOT_FLEET_PORT}", it must be a number from 0 to 65535`,
		});
	}
	return {
		dataFolder: dataFolder(env),
		host: env.ROBOT_FLEET_HOST?.trim() || '127.0.0.1',
		port,
		robotsListen: env.ROBOT_FLEET_ROBOTS_LISTEN?.trim() || undefined,
		publicUrl: env.ROBOT_FLEET_PUBLIC_URL?.trim() || undefined,
		callbackUrl: callbackBase(env),
	};
}

// ---------------------------------------------------------------------------- the owner

export interface Surroundings {
	argv: readonly string[];
	env: Env;
	load(): Service;
}

/** Owns the one service of this process. Starting twice, or stopping twice, is harmless. */
export class HostOwner implements Owner {
	readonly version: string;
	ready: Promise<Host> | undefined;
	readonly #around: Surroundings;
	/** The owner of an older version of this package, which must let go first. */
	readonly #previous: Owner | undefined;
	#closed: Promise<void> | undefined;

	constructor(version: string, around: Surroundings, previous?: Owner) {
		this.version = version;
		this.#around = around;
		this.#previous = previous;
	}

	start(): Promise<Host> {
		if (this.#closed) {
			return Promise.reject(new Problem('not-ready', { state: 'stopping' }));
		}
		if (this.ready) return this.ready;
		const starting = this.#start();
		this.ready = starting;
		// A start that failed (a port in use, say) may be tried again by the next caller.
		starting.catch(() => {
			if (this.ready === starting) this.ready = undefined;
		});
		return starting;
	}

	close(): Promise<void> {
		this.#closed ??= this.#close();
		return this.#closed;
	}

	async #start(): Promise<Host> {
		const { argv, env, load } = this.#around;
		const reason = processRefusal(argv, env);
		if (reason !== undefined) throw new Problem('wrong-process', { reason });
		await this.#previous?.close();
		const options = hostOptions(env);
		let host: Host;
		try {
			host = await load().startHost({ ...options, log });
		} catch (error) {
			throw asProblem(error) ?? error;
		}
		remember(options.dataFolder);
		process.once('SIGTERM', this.#leave);
		process.once('SIGINT', this.#leave);
		return host;
	}

	async #close(): Promise<void> {
		for (const signal of ['SIGTERM', 'SIGINT']) process.off(signal, this.#leave);
		const running = this.ready;
		this.ready = undefined;
		const host = await running?.catch(() => undefined);
		await host?.close();
		await this.#previous?.close();
	}

	/**
	 * n8n has handlers of its own for the same signals and ends the process; we only let go in time.
	 * For a process that exits without a signal the service itself has a last moment.
	 */
	readonly #leave = (): void => {
		void this.close().catch(() => undefined);
	};
}

/** The owner in charge. An older one is closed before ours starts. */
function owner(): Owner {
	const present = place[ownerKey];
	if (present?.version === packageVersion) return present;
	const around = { argv: process.argv, env: process.env, load };
	const ours = new HostOwner(packageVersion, around, present);
	place[ownerKey] = ours;
	return ours;
}

function load(): Service {
	try {
		// Lazily: who uses a server never runs it.
		return require(bundle) as Service;
	} catch (error) {
		throw new Problem('internal', { reference: 'loading dist/embedded/service.js' }, error);
	}
}

function readVersion(): string {
	// dist/nodes/shared/ in the package, nodes/shared/ in the repository.
	for (const root of ['../../..', '../..']) {
		const file = join(__dirname, root, 'package.json');
		if (!existsSync(file)) continue;
		return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
	}
	return '0.0.0';
}

const markerOf = (folder: string) => join(folder, 'autostart');

function remember(folder: string): void {
	try {
		mkdirSync(folder, { recursive: true });
		writeFileSync(markerOf(folder), `${packageVersion}\n`, { mode: 0o600 });
	} catch (error) {
		log('warn', 'cannot note that the service shall start with n8n', { error: String(error) });
	}
}

/** Only what an operator should see: n8n shows what its process prints. */
function log(level: 'debug' | 'info' | 'warn' | 'error', text: string, facts: object = {}): void {
	if (level === 'debug' && process.env.N8N_LOG_LEVEL !== 'debug') return;
	const line = `[robot-fleet] ${level} ${text} ${JSON.stringify(facts)}\n`;
	(level === 'info' || level === 'debug' ? process.stdout : process.stderr).write(line);
}

// ---------------------------------------------------------------------------- talking to it

/** Of our own, so that no proxy setting of n8n or the machine touches it. */
const agent = new Agent({ keepAlive: true });
const answerMs = 30_000;

export const sendEmbedded: Send = async (request) => {
	const host = await owner().start();
	return await sendTo(host, request);
};

export async function sendTo(host: Pick<Host, 'url' | 'key'>, request: SendRequest) {
	try {
		return await sendOnce(host, request);
	} catch (error) {
		request.signal?.throwIfAborted();
		// The service had closed an idle connection just as we used it: it has not seen the request.
		if (error instanceof StaleConnection) return await sendOnce(host, request);
		throw error;
	}
}

class StaleConnection extends Error {}

function sendOnce(
	{ url, key }: Pick<Host, 'url' | 'key'>,
	{ method, path, body, bytes, stream, signal, waitMs = 0 }: SendRequest,
): Promise<SendAnswer> {
	return new Promise((resolve, reject) => {
		const text = body === undefined ? undefined : JSON.stringify(body);
		const type = bytes === undefined ? 'application/json' : 'application/octet-stream';
		const sent = bytes ?? text;
		const request = httpRequest(new URL(path, url), {
			method,
			agent,
			signal,
			timeout: waitMs + answerMs,
			headers: {
				authorization: `Bearer ${key}`,
				accept: stream ? '*/*' : 'application/json',
				...(sent === undefined
					? {}
					: { 'content-type': type, 'content-length': Buffer.byteLength(sent) }),
			},
		});
		const fail = (error: Error & { code?: string }) => {
			if (request.reusedSocket && error.code === 'ECONNRESET') {
				reject(new StaleConnection(error.message));
				return;
			}
			const reason = error.code === 'ECONNREFUSED' ? 'connection refused' : error.message;
			reject(new Problem('service-away', { url, reason }, error));
		};
		request.on('error', fail);
		request.on('timeout', () => request.destroy(new Error('no answer in time')));
		request.on('response', (response) => {
			if (stream && response.statusCode === 200) {
				resolve({ status: 200, body: response, headers: response.headers });
				return;
			}
			const chunks: Buffer[] = [];
			response.on('data', (chunk: Buffer) => chunks.push(chunk));
			response.on('error', fail);
			response.on('end', () => {
				const answer = Buffer.concat(chunks).toString('utf8');
				try {
					resolve({
						status: response.statusCode ?? 0,
						body: answer === '' ? undefined : (JSON.parse(answer) as unknown),
					});
				} catch {
					reject(new Problem('service-away', { url, reason: 'its answer is not JSON' }));
				}
			});
		});
		request.end(sent);
	});
}

// ---------------------------------------------------------------------------- at n8n's start

const packageVersion = readVersion();

/**
 * Robots and parked executions must come back after a restart of n8n with nothing activated and
 * nobody asking. n8n reads our files at boot; the service starts once that is done.
 */
if (
	processRefusal() === undefined &&
	existsSync(join(__dirname, bundle)) &&
	existsSync(markerOf(dataFolder()))
) {
	setImmediate(() => {
		owner()
			.start()
			.catch((error: unknown) => {
				const problem = asProblem(error);
				log('error', problem?.message ?? String(error), { code: problem?.code });
			});
	});
}
