/**
 * Forgets what is over and old: by age, and ended jobs by number too. In small bites with pauses
 * between them, so that a commit that somebody waits for is never behind more than one bite; a bite that takes
 * longer than it should makes the next one smaller.
 */
import { type PurgeAnswer, type Purgeable, purgeables } from '../../protocol';
import type { Context } from './context';

/** Between two looks through everything. */
const cycleMs = 10 * 60_000;
const pauseMs = 10;
const lookSize = 500;
/** How long one bite may keep the store from others, and its size. */
const wantedMs = 5;
const leastBite = 10;
const mostBite = 500;
/** An idempotency key is good for a day, also when its job is gone. */
const keyMs = 86_400_000;
/** Above all ids. */
const afterAll = '~';
/** What a caller may be kept waiting. */
const answerMs = 20_000;

type Counts = Record<Purgeable, number>;

interface Place {
	what: Purgeable;
	cursor: string | null;
}

export class Purge {
	readonly #context: Context;
	readonly #left: (keys: string[]) => Promise<void>;
	readonly #stop = new AbortController();
	#loop: Promise<void> | undefined;
	#bite = 100;
	#purged = 0;
	#backlog = 0;
	#lastAt: number | null = null;
	/** Where the last caller ran out of time; the next one goes on there. */
	#place: Place | undefined;

	/** `left`: these subscriptions were forgotten. */
	constructor(context: Context, left: (keys: string[]) => Promise<void>) {
		this.#context = context;
		this.#left = left;
	}

	get status(): { lastAt: number | null; purged: number; backlog: number } {
		return { lastAt: this.#lastAt, purged: this.#purged, backlog: this.#backlog };
	}

	start(): void {
		this.#loop ??= this.#run();
	}

	async stop(): Promise<void> {
		this.#stop.abort();
		await this.#loop;
	}

	/** At once, for a caller who waits. */
	async purge(dryRun: boolean): Promise<PurgeAnswer> {
		const { clock } = this.#context;
		const until = clock.monotonic() + answerMs;
		const from = dryRun ? undefined : this.#place;
		const { counts, whole, place } = await this.#cycle(
			dryRun,
			() => clock.monotonic() < until,
			from,
		);
		if (!dryRun) this.#place = place;
		return { dryRun, ...counts, more: !whole };
	}

	async #run(): Promise<void> {
		const { clock, log } = this.#context;
		const { signal } = this.#stop;
		for (;;) {
			await clock.sleep(cycleMs, signal);
			if (signal.aborted) return;
			try {
				const { counts } = await this.#cycle(false, () => !signal.aborted);
				if (Object.values(counts).some((count) => count > 0)) {
					log.info('old records were forgotten', counts);
				}
			} catch (error) {
				// A broken store ends the service elsewhere.
				log.error('old records could not be forgotten', { error: (error as Error).message });
			}
		}
	}

	/** One pass through everything, or from `from` on. `whole` = it came to the end; else `place` is where it stopped. */
	async #cycle(
		dryRun: boolean,
		goOn: () => boolean,
		from?: Place,
	): Promise<{ counts: Counts; whole: boolean; place?: Place }> {
		const counts = Object.fromEntries(purgeables.map((what) => [what, 0])) as Counts;
		const now = this.#context.clock.now();
		const { retention } = this.#context.settings;
		const before: Record<Purgeable, number> = {
			jobs: now - retention.jobsMs,
			waits: now - retention.jobsMs,
			occurrences: now - retention.occurrencesMs,
			events: now - retention.eventsMs,
			keys: now - keyMs,
			// By then nothing is left that it could be handed.
			subscriptions: now - retention.eventsMs,
			// Jobs and events tell of them; a consumer that follows robots by label gets what is known to be of such a one.
			robots: now - Math.max(retention.jobsMs, retention.eventsMs),
			tokens: now - retention.jobsMs,
		};
		let place: Place | undefined;
		for (const what of purgeables.slice(from ? purgeables.indexOf(from.what) : 0)) {
			const cursor = what === from?.what ? from.cursor : null;
			const walk = { what, before: before[what], atMost: Infinity, dryRun, cursor };
			place ??= await this.#walk(walk, counts, goOn);
			if (place) break;
			if (what !== 'jobs') continue;
			const ended = await this.#countEnded(goOn);
			if (!goOn()) {
				// Not all were counted. Nothing is left to forget by age: after the last one there is only the counting.
				place = { what, cursor: afterAll };
				break;
			}
			const excess = ended - (dryRun ? counts.jobs : 0) - retention.maxJobs;
			if (excess <= 0) continue;
			if (dryRun) counts.jobs += excess;
			else {
				const most = { what, before: now, atMost: excess, dryRun, cursor: null };
				place = await this.#walk(most, counts, goOn);
				if (place) break;
			}
		}
		this.#backlog = 0;
		if (place) return { counts, whole: false, place };
		if (!dryRun) this.#lastAt = this.#context.clock.now();
		return { counts, whole: true };
	}

	async #walk(
		{
			what,
			before,
			atMost,
			dryRun,
			cursor: start,
		}: Place & { before: number; atMost: number; dryRun: boolean },
		counts: Counts,
		goOn: () => boolean,
	): Promise<Place | undefined> {
		const { store } = this.#context;
		let left = atMost;
		let cursor = start;
		do {
			const place = { what, cursor };
			if (!goOn()) return place;
			const look: { old: string[]; cursor: string | null } = await store.read('old', {
				what,
				before,
				limit: lookSize,
				cursor,
			});
			cursor = look.cursor;
			const old = look.old.slice(0, left);
			const found = old.length;
			left -= found;
			if (dryRun) counts[what] += old.length;
			else {
				for (this.#backlog = old.length; this.#backlog > 0;) {
					if (!goOn()) return place;
					const keys = old.splice(0, this.#bite);
					counts[what] += await this.#forget(what, keys, before);
					this.#backlog = old.length;
				}
			}
			await this.#context.clock.sleep(dryRun || found === 0 ? 0 : pauseMs);
		} while (cursor !== null && left > 0);
		return undefined;
	}

	async #forget(what: Purgeable, keys: string[], before: number): Promise<number> {
		const { clock, turns } = this.#context;
		const begun = clock.monotonic();
		const gone = await turns.deed('purge', { what, keys, before });
		const ms = clock.monotonic() - begun;
		const bite = ms > wantedMs ? this.#bite / 2 : this.#bite * 1.25;
		this.#bite = Math.round(Math.min(mostBite, Math.max(leastBite, bite)));
		this.#purged += gone.length;
		if (what === 'subscriptions' && gone.length > 0) await this.#left(gone);
		await clock.sleep(pauseMs, this.#stop.signal);
		return gone.length;
	}

	async #countEnded(goOn: () => boolean): Promise<number> {
		const { store, clock } = this.#context;
		let total = 0;
		let cursor: string | null = null;
		do {
			if (!goOn()) return total;
			const piece: { count: number; cursor: string | null } = await store.read('finals', {
				limit: 5 * lookSize,
				cursor,
			});
			total += piece.count;
			cursor = piece.cursor;
			await clock.sleep(0);
		} while (cursor !== null);
		return total;
	}
}
