/**
 * Whether an n8n may be told anything. After a crash n8n opens its port, and resumes parked executions, before it
 * has gone through what its last life left unfinished; going through that then overwrites whatever went on meanwhile
 * with an older state, and the execution is lost. So nothing is sent before n8n says that it is ready.
 *
 * An older n8n says so too early, and a proxy may not let us ask: there a while must pass after it was away.
 */
import type { Clock } from '../engine/clock';

export interface Answer {
	status: number;
	body: unknown;
}

interface Seen {
	/** It was away, and has not yet been up for long enough. */
	wasAway: boolean;
	/** Monotonic, of the first answer after it was away. */
	upSince: number | undefined;
	/** Monotonic. No n8n can end and come back within `goodForMs`. */
	readyAt: number;
	/** The look that is under way. */
	look: Promise<void> | undefined;
}

const goodForMs = 1_000;
/** n8n's look through its unfinished executions takes one or two seconds. */
const settleMs = 5_000;
/** Whoever may submit may name addresses; what is remembered of them stays small. */
const maxSeen = 1_000;

export class Readiness {
	readonly #clock: Clock;
	readonly #get: (url: URL) => Promise<Answer>;
	/** By readiness URL: one n8n, or one that stands for several. */
	readonly #seen = new Map<string, Seen>();

	constructor(clock: Clock, get: (url: URL) => Promise<Answer>) {
		this.#clock = clock;
		this.#get = get;
	}

	/** Rejects, with the reason, when the n8n of this resume URL must not be called now. */
	async wanted(resumeUrl: URL): Promise<void> {
		const url = readinessOf(resumeUrl);
		let seen = this.#seen.get(url.href);
		if (!seen) {
			seen = { wasAway: false, upSince: undefined, readyAt: -Infinity, look: undefined };
			this.#seen.set(url.href, seen);
			const oldest = this.#seen.keys().next().value;
			if (this.#seen.size > maxSeen && oldest !== undefined) this.#seen.delete(oldest);
		}
		if (this.#clock.monotonic() - seen.readyAt < goodForMs) return;
		const mine = seen;
		mine.look ??= this.#look(url, mine).finally(() => (mine.look = undefined));
		await mine.look;
	}

	async #look(url: URL, seen: Seen): Promise<void> {
		let answer: Answer;
		try {
			answer = await this.#get(url);
		} catch (error) {
			Object.assign(seen, { wasAway: true, upSince: undefined });
			throw error;
		}
		const { status } = answer;
		if (status >= 500) {
			// n8n itself says so, so its word that it is ready will be good, too. From anybody else it means that n8n is away.
			const own = (answer.body as { status?: unknown } | undefined)?.status === 'error';
			Object.assign(seen, { wasAway: !own, upSince: undefined });
			throw new Error(own ? 'n8n is starting up' : `n8n is away (HTTP ${status})`);
		}
		const now = this.#clock.monotonic();
		if (seen.wasAway) {
			seen.upSince ??= now;
			if (now - seen.upSince < settleMs) throw new Error('n8n has just come up');
			seen.wasAway = false;
		}
		seen.readyAt = now;
	}
}

/** `…/webhook-waiting/<execution>/<node>` → `…/healthz/readiness` */
function readinessOf(resumeUrl: URL): URL {
	const base = resumeUrl.pathname.split('/').slice(0, -3).join('/');
	return new URL(`${base}/healthz/readiness`, resumeUrl.origin);
}
