/**
 * n8n's side of waits whose service cannot reach n8n: one long poll for each such service fetches
 * the pokes that are due, posts them to n8n's own address on its machine, and reports what n8n
 * answered. A poke that arrives twice does nothing the second time, but one that arrives before n8n is ready
 * would lose its execution, so readiness is asked for first (server/readiness.ts).
 *
 *   node registers a wait ── begin(service) ──> poll ⇄ service, poke ──> n8n, until no wait is open
 *
 * A file names the services to ask, so that parked executions resume after n8n restarts without anyone
 * having to ask. It holds a secret of our own, never an API key: a secret good only for fetching pokes.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { dirname } from 'node:path';
import { urlToHttpOptions } from 'node:url';
import { type CollectAnswer, type CollectedPoke, paths, Problem } from '../protocol';
import { systemClock } from './engine/clock';
import { type Answer, Readiness } from './server/readiness';
import { ask } from './server/small-requests';

export interface CollectorOptions {
	/** Where the secret and the services are kept. */
	file: string;
	/** Where n8n answers on its own machine. */
	n8nUrl: string;
	/** The first part of n8n's resume paths, `webhook-waiting` unless it was changed. */
	endpoint: string;
	log(level: 'debug' | 'info' | 'warn' | 'error', text: string, facts?: object): void;
}

export interface Collector {
	/** Goes with every wait whose pokes we fetch. */
	readonly secret: string;
	/** Polls this service until it has no wait of ours left; call it when one is registered. */
	begin(service: string): void;
	/** Ends all polls; what is under way may arrive. Harmless when called twice. */
	close(): void;
}

/** What the file holds. */
interface Kept {
	secret: string;
	services: string[];
}

const waitMs = 25_000;
const patienceMs = 65_000;
/** n8n answers a poke only once it has resumed the execution. */
const pokeMs = 60_000;
const readinessMs = 10_000;
const firstDelayMs = 1_000;
const longestDelayMs = 60_000;
/** Pokes on their way to n8n at once; no more are fetched until there are fewer. */
const maxPokes = 128;
const maxAnswerBytes = 1024 * 1024;

/** Carries on with the services the file names; throws `cannot-collect` when it cannot be read or written. */
export function startCollector(options: CollectorOptions): Collector {
	return new FileCollector(options);
}

class FileCollector implements Collector {
	readonly secret: string;
	readonly #options: CollectorOptions;
	/** By service: how often `begin` asked for it. */
	readonly #asked = new Map<string, number>();
	readonly #polling = new Set<string>();
	readonly #over = new AbortController();
	readonly #n8n: Target;
	readonly #readiness: Readiness;

	constructor(options: CollectorOptions) {
		this.#options = options;
		this.#n8n = targetOf(options.n8nUrl);
		this.#readiness = new Readiness(systemClock, (url) =>
			send(this.#n8n, url.pathname, undefined, readinessMs, this.#over.signal),
		);
		// We start along with n8n: once seen before it opens its port, it is not believed if it claims to be ready too early.
		const anyResume = new URL(`/${options.endpoint}/0/0`, this.#n8n.url);
		void this.#readiness.wanted(anyResume).catch(() => undefined);
		const kept = readKept(options.file);
		this.secret = kept?.secret ?? randomBytes(32).toString('base64url');
		// Note all of them before asking the first, so that dying half-way forgets none.
		const services = kept?.services ?? [];
		this.#keep(services);
		for (const service of services) this.#asked.set(service, 1);
		for (const service of services) this.#follow(service);
	}

	begin(service: string): void {
		if (this.#over.signal.aborted) return;
		const asked = this.#asked.get(service) ?? 0;
		if (asked === 0) this.#keep([...this.#asked.keys(), service]);
		this.#asked.set(service, asked + 1);
		this.#follow(service);
	}

	#follow(service: string): void {
		if (this.#polling.has(service)) return;
		this.#polling.add(service);
		void this.#poll(service).finally(() => this.#polling.delete(service));
	}

	close(): void {
		this.#over.abort();
	}

	async #poll(service: string): Promise<void> {
		const { log } = this.#options;
		const { signal } = this.#over;
		let delayMs = firstDelayMs;
		let pokes = 0;
		while (!signal.aborted) {
			const asked = this.#asked.get(service);
			try {
				const answer = await this.#collect(service);
				delayMs = firstDelayMs;
				for (const poke of answer.pokes) {
					pokes += 1;
					void this.#poke(service, poke).finally(() => (pokes -= 1));
				}
				if (answer.open === 0 && this.#asked.get(service) === asked) {
					this.#asked.delete(service);
					this.#keep([...this.#asked.keys()]);
					return;
				}
				while (pokes >= maxPokes && !signal.aborted) await systemClock.sleep(50, signal);
			} catch (error) {
				if (signal.aborted) return;
				log('warn', 'a service whose waits are collected does not answer', {
					service,
					reason: (error as Error).message,
					againInMs: delayMs,
				});
				await systemClock.sleep(delayMs, signal);
				delayMs = Math.min(delayMs * 2, longestDelayMs);
			}
		}
	}

	async #collect(service: string): Promise<CollectAnswer> {
		const body = { collector: this.secret, waitMs };
		const { signal } = this.#over;
		const url = `${service}${paths.api}/collect`;
		const { status, body: answer } = await send(targetOf(url), '', body, patienceMs, signal);
		const { pokes, open } = (answer ?? {}) as Partial<CollectAnswer>;
		if (status !== 200 || !Array.isArray(pokes) || typeof open !== 'number') {
			throw new Error(`it answered ${status}`);
		}
		return { pokes, open };
	}

	/** Whatever goes wrong, the service hands the poke out again. */
	async #poke(service: string, { resumeUrl, poke }: CollectAnswer['pokes'][number]): Promise<void> {
		const path = this.#pathOf(resumeUrl);
		const waitId = String(poke.waitId);
		let answer: CollectedPoke;
		if (path === undefined) {
			// Even a service that was taken over must not be able to make us call anything else on this machine.
			answer = { waitId, status: 0, body: { reason: 'no resume URL of n8n' } };
		} else {
			const body = { waitId, nonce: String(poke.nonce) };
			answer = await this.#tell(path, body).then(
				({ status, body: said }) => ({
					waitId,
					status,
					...(said === undefined ? {} : { body: said }),
				}),
				(error: Error) => ({ waitId, status: 0, body: { reason: error.message } }),
			);
		}
		const body = { collector: this.secret, answers: [answer] };
		const url = `${service}${paths.api}/collected`;
		await send(targetOf(url), '', body, patienceMs, this.#over.signal).catch(() => undefined);
	}

	async #tell(path: string, body: object): Promise<Answer> {
		await this.#readiness.wanted(new URL(path, this.#n8n.url));
		return await send(this.#n8n, path, body, pokeMs, this.#over.signal);
	}

	/** n8n listens at the root, whatever path its own URL has outside. */
	#pathOf(resumeUrl: string): string | undefined {
		if (!URL.canParse(resumeUrl)) return undefined;
		const { pathname, search } = new URL(resumeUrl);
		const parts = pathname.split('/').slice(-3);
		if (parts.length < 3 || parts[0] !== this.#options.endpoint) return undefined;
		return `/${parts.join('/')}${search}`;
	}

	/** In one step, so that a death half-way leaves what was there. */
	#keep(services: string[]): void {
		const { file } = this.#options;
		const kept: Kept = { secret: this.secret, services };
		try {
			mkdirSync(dirname(file), { recursive: true });
			writeFileSync(`${file}.new`, `${JSON.stringify(kept)}\n`, { mode: 0o600, flush: true });
			renameSync(`${file}.new`, file);
		} catch (error) {
			const reason = `${file} cannot be written: ${(error as Error).message}`;
			throw new Problem('cannot-collect', { reason }, error);
		}
	}
}

function readKept(file: string): Kept | undefined {
	let text: string;
	try {
		text = readFileSync(file, 'utf8');
	} catch (error) {
		const { code, message } = error as NodeJS.ErrnoException;
		if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
		// A new secret would strand everything that is parked, so make one only where there is none.
		const reason = `${file} cannot be read: ${message}`;
		throw new Problem('cannot-collect', { reason }, error);
	}
	try {
		const { secret, services } = JSON.parse(text) as Partial<Kept>;
		if (typeof secret !== 'string' || secret.length < 32 || !Array.isArray(services))
			return undefined;
		return { secret, services: services.map(String) };
	} catch {
		// Unusable: waits registered under the lost secret end by their own deadlines.
		return undefined;
	}
}

/** Where to send a request, and with what. */
interface Target {
	url: URL;
	options: { agent?: HttpAgent | HttpsAgent; rejectUnauthorized?: boolean };
}

/** On this machine neither a proxy nor a certificate check comes in between; elsewhere n8n's own settings apply. */
function targetOf(text: string): Target {
	const url = new URL(text);
	if (!isLoopback(url.hostname)) return { url, options: {} };
	return url.protocol === 'https:'
		? { url, options: { agent: loopback.https, rejectUnauthorized: false } }
		: { url, options: { agent: loopback.http } };
}

const loopback = {
	http: new HttpAgent({ keepAlive: true, maxSockets: 64 }),
	https: new HttpsAgent({ keepAlive: true, maxSockets: 64 }),
};

function isLoopback(hostname: string): boolean {
	return /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i.test(hostname);
}

/** A POST if there is a body, else a GET; `path`, if given, replaces the URL's own. */
function send(
	{ url, options }: Target,
	path: string,
	body: object | undefined,
	timeout: number,
	signal: AbortSignal,
): Promise<Answer> {
	const text = body === undefined ? undefined : JSON.stringify(body);
	const target = path === '' ? url : new URL(path, url);
	return ask({
		secure: target.protocol === 'https:',
		options: { ...urlToHttpOptions(target), ...options, signal },
		text,
		silenceMs: timeout,
		maxAnswerBytes,
	});
}
