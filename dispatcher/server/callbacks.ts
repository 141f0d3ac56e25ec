/**
 * Small POSTs to n8n. Whoever may submit may name a resume URL, so this must not become a way to reach
 * what only this machine can reach: it keeps to the rule of outbound.ts and follows no redirects.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { isIP } from 'node:net';
import { Problem } from '../../protocol';
import { type Clock, systemClock } from '../engine/clock';
import type { Callbacks } from '../engine/waits';
import { isLoopback } from './host-gate';
import { bare, isPlainlyInside, resolveOnce } from './outbound';
import { type Answer, Readiness } from './readiness';
import { ask } from './small-requests';

/** The node answers a poke only once n8n has resumed the execution. */
const timeoutMs = 60_000;
const readinessMs = 10_000;
const maxAnswerBytes = 64 * 1024;

export class CallbackDoor implements Callbacks {
	readonly #origins: ReadonlySet<string>;
	readonly #http = new HttpAgent({ keepAlive: true, maxSockets: 16 });
	readonly #https = new HttpsAgent({ keepAlive: true, maxSockets: 16 });

	readonly #readiness: Readiness;

	/** `origins`: where callbacks may go even to a private address. */
	constructor(origins: readonly string[], clock: Clock = systemClock) {
		this.#origins = new Set(origins);
		this.#readiness = new Readiness(clock, (url) => this.#send(url, undefined, readinessMs));
	}

	/** Says at once what is plainly not allowed, instead of after a week of tries. */
	check(url: string): Problem | undefined {
		if (!URL.canParse(url)) {
			return new Problem('bad-field', {
				path: 'resumeUrl',
				reason: 'must be an http:// or https:// address',
			});
		}
		const asked = new URL(url);
		const { origin, protocol } = asked;
		const inside = isPlainlyInside(asked);
		const wrong = protocol !== 'http:' && protocol !== 'https:';
		if (!wrong && (!inside || this.#origins.has(origin))) return undefined;
		return new Problem('callback-refused', { origin });
	}

	async post(url: string, body: object): Promise<Answer> {
		const target = new URL(url);
		await this.#readiness.wanted(target);
		return await this.#send(target, JSON.stringify(body), timeoutMs);
	}

	/** A POST if there is a text, else a GET. */
	async #send(target: URL, text: string | undefined, silenceMs: number): Promise<Answer> {
		const host = bare(target.hostname);
		const { address, family, inside } = await resolveOnce(target);
		if (inside && !this.#origins.has(target.origin)) {
			throw new Problem('callback-refused', { origin: target.origin });
		}
		const secure = target.protocol === 'https:';
		return await ask({
			secure,
			options: {
				agent: secure ? this.#https : this.#http,
				host: address,
				family,
				port: target.port || (secure ? 443 : 80),
				// n8n may show a certificate for its public name, but over loopback nobody stands in between.
				...(secure && isLoopback(address) ? { rejectUnauthorized: false } : {}),
				path: target.pathname + target.search,
				headers: { host: target.host },
				...(isIP(host) === 0 ? { servername: host } : {}),
			},
			text,
			silenceMs,
			maxAnswerBytes,
		});
	}

	close(): void {
		this.#http.destroy();
		this.#https.destroy();
	}
}
