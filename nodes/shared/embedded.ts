/**
 * "This n8n": the service inside n8n's own main process.
 *
 * n8n may load this module several times in one process (a package update clears the module cache
 * while the old code runs on), so the running service belongs to an owner object on `globalThis`,
 * where the code in charge of it is noted too: the code that was loaded last.
 * Loading this file reads one marker file and nothing else; the bundle is required on first use,
 * or a moment after boot when the marker says that it ran here before, or when the hook says so.
 * A one-shot command beside a running n8n calls the service of that one.
 *
 * With embedded-collect.ts the only file under nodes/ that may touch the process, files and sockets.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import {
	Agent,
	type IncomingMessage,
	request as httpRequest,
	type ServerResponse,
} from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
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
	proxyHops?: number;
	log(level: 'debug' | 'info' | 'warn' | 'error', text: string, facts?: object): void;
}

export interface Host {
	url: string;
	key: string;
	version: string;
	/** Takes what robots send to n8n's own port; services from before the hook have none. */
	front?: Front;
	close(): Promise<void>;
}

/** `path` comes without the prefix it has on n8n's port. */
export interface Front {
	request(request: IncomingMessage, response: ServerResponse, path: string): Promise<void>;
	upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, path: string): Promise<void>;
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

/** The code that n8n loaded last. Older code that still runs, a node's or the hook's, goes through it. */
interface Code {
	version: string;
	owner(): Owner;
}

type Env = Record<string, string | undefined>;

/** As seen from dist/nodes/shared/. */
const bundle = '../../embedded/service.js';

const ownerKey = Symbol.for('robot-fleet.host.v1');
const codeKey = Symbol.for('robot-fleet.code.v1');
const place = globalThis as { [ownerKey]?: Owner; [codeKey]?: Code };

// ---------------------------------------------------------------------------- where we are

/** Why this process must not run the service; undefined in the main process of a regular n8n. */
export function processRefusal(
	argv: readonly string[] = process.argv,
	env: Env = process.env,
): string | undefined {
	const command = argv[2];
	if (command === 'worker' || command === 'webhook') return `this is a ${command} process`;
	if (env.EXECUTIONS_MODE === 'queue') return 'n8n runs in queue mode';
	const oneShot = oneShotCommand(argv, env);
	if (oneShot === undefined) return undefined;
	return `this is the one-shot command "${oneShot}", and no n8n with the service runs beside it`;
}

/** `execute` and the like; undefined in a process that stays, and in queue mode. */
function oneShotCommand(argv: readonly string[], env: Env): string | undefined {
	const command = argv[2];
	// n8n takes a command line that begins with a flag for "start".
	if (command === undefined || command.startsWith('-')) return undefined;
	if (command === 'start' || command === 'worker' || command === 'webhook') return undefined;
	return env.EXECUTIONS_MODE === 'queue' ? undefined : command;
}

/** Where the service of the n8n beside us is: only for a one-shot command, and only if that service is alive. */
export function neighbour(
	argv: readonly string[] = process.argv,
	env: Env = process.env,
): Pick<Host, 'url' | 'key'> | undefined {
	if (oneShotCommand(argv, env) === undefined) return undefined;
	const folder = dataFolder(env);
	try {
		const said = readFileSync(join(folder, 'service.json'), 'utf8');
		const { url, pid } = JSON.parse(said) as { url: string; pid: number };
		// A killed service leaves the file; what listens at its port by now must not get our key.
		process.kill(pid, 0);
		return { url, key: readFileSync(join(folder, 'n8n.key'), 'utf8').trim() };
	} catch {
		return undefined;
	}
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
		proxyHops: Number(env.N8N_PROXY_HOPS) || undefined,
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
		await this.#takeOver();
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

	/** The older version lets go: robots and parked executions are with us as soon as we have started. */
	async #takeOver(): Promise<void> {
		const previous = this.#previous;
		if (!previous) return;
		const [from, to] = [previous.version, this.version];
		log('info', 'the service goes over to another version of the package', { from, to });
		try {
			await previous.close();
		} catch (error) {
			// If it still holds the port or the data folder, the next start runs into it and says so.
			log('warn', 'the older version did not stop in order', { error: String(error) });
		}
	}

	async #close(): Promise<void> {
		for (const signal of ['SIGTERM', 'SIGINT']) process.off(signal, this.#leave);
		const running = this.ready;
		this.ready = undefined;
		const host = await running?.catch(() => undefined);
		await host?.close();
		await this.#previous?.close().catch(() => undefined);
	}

	/**
	 * n8n has handlers of its own for the same signals and ends the process; we only let go in time.
	 * If the process exits without a signal, the service itself still gets a last moment.
	 */
	readonly #leave = (): void => {
		void this.close().catch(() => undefined);
	};
}

/** The owner, according to the code in charge: code that was loaded earlier asks that one, too. */
export function owner(): Owner {
	return (place[codeKey] ?? thisCode).owner();
}

/** The service of this process, whoever owns it, stops for good. Harmless when there is none. */
export async function closeHost(): Promise<void> {
	await place[ownerKey]?.close();
}

/** An older owner is closed before ours starts. */
function ownOwner(): Owner {
	const present = place[ownerKey];
	if (present?.version === packageVersion) return present;
	const around = { argv: process.argv, env: process.env, load };
	const ours = new HostOwner(packageVersion, around, present);
	place[ownerKey] = ours;
	return ours;
}

function load(): Service {
	try {
		// Lazily: whoever uses a server elsewhere never runs it.
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
export function log(
	level: 'debug' | 'info' | 'warn' | 'error',
	text: string,
	facts: object = {},
): void {
	if (level === 'debug' && process.env.N8N_LOG_LEVEL !== 'debug') return;
	const line = `[robot-fleet] ${level} ${text} ${JSON.stringify(facts)}\n`;
	(level === 'info' || level === 'debug' ? process.stdout : process.stderr).write(line);
}

// ---------------------------------------------------------------------------- talking to it

/** An agent of our own, so that no proxy setting of n8n or the machine touches it. */
const agent = new Agent({ keepAlive: true });
const answerMs = 30_000;

export const sendEmbedded: Send = (request) => sendToOne(whereItIs, request);

async function whereItIs(): Promise<Pick<Host, 'url' | 'key'>> {
	return neighbour() ?? (await owner().start());
}

/**
 * An update of the package closes one service and starts the next: a call made just then goes to the next one.
 * Only what the old one cannot have done is repeated.
 */
export async function sendToOne(where: typeof whereItIs, request: SendRequest) {
	const host = await where();
	let answer: SendAnswer;
	try {
		answer = await sendTo(host, request);
		if (!isLeaving(answer)) return answer;
	} catch (error) {
		request.signal?.throwIfAborted();
		if (!(wasNotHeard(error) || request.method === 'GET')) throw error;
		const next = await nextAfter(host, where);
		if (!next) throw error;
		return await sendTo(next, request);
	}
	const next = await nextAfter(host, where);
	return next ? await sendTo(next, request) : answer;
}

async function nextAfter(host: object, where: typeof whereItIs) {
	const next = await where().catch(() => undefined);
	return next === host ? undefined : next;
}

/** It no longer took anything. */
function isLeaving({ status, body }: SendAnswer): boolean {
	const code = status === 503 ? Problem.fromBody(body)?.code : undefined;
	return code === 'draining' || code === 'not-ready';
}

function wasNotHeard(error: unknown): boolean {
	const { cause } = error as { cause?: { code?: string } };
	return cause?.code === 'ECONNREFUSED';
}

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
const thisCode: Code = { version: packageVersion, owner: ownOwner };
place[codeKey] = thisCode;

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
