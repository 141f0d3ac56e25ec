/**
 * Parked n8n executions. A wait becomes due when its jobs (all, any, so many) have ended or its time
 * is over; from then on the outbox pokes the resume URL until the node has taken the outcome. The poke
 * carries nothing to believe: the node pulls. Where the service cannot reach n8n, n8n fetches its
 * pokes and reports what came of them.
 *
 *   open → due → closed (taken) | dead (nobody takes it)
 *
 * One that asks for it is poked while it is open, too: that tells whether the execution still waits, since
 * n8n tells nobody when a person stops it.
 */
import { createHash } from 'node:crypto';
import {
	type CollectAnswer,
	type CollectedPoke,
	isFinal,
	Problem,
	type Wait,
	type WaitRecord,
	type WaitRequest,
} from '../../protocol';
import { demand } from '../core/may';
import { openOf } from '../core/parents';
import { meaningOf, type PokeOutcome } from '../core/poke';
import { type Tally, verdictOf, type WaitCondition } from '../core/wait-condition';
import type { StoredOutcome, StoredWait } from '../store/store';
import { failPoint } from '../store/fail-points';
import type { Context } from './context';
import type { Caller } from './index';
import { childrenView, outcomeView } from './views';
import { WaitShares } from './wait-shares';

/** The way out to n8n, handed in. */
export interface Callbacks {
	/** Why this URL may never be called. */
	check(url: string): Problem | undefined;
	/** Carries one poke. Answers the status and the body, or rejects when nothing came back. */
	post(url: string, body: object): Promise<{ status: number; body: unknown }>;
}

/** Cancels a job that nobody waits for any more; one that has ended stays as it is. */
export type GiveUp = (jobId: string, waitId: string, how: string) => Promise<void>;

interface LiveWait {
	stored: StoredWait;
	jobIds: string[];
	condition: WaitCondition;
	/** What is known of its jobs; memory only, made anew at each start. */
	tallies: Map<string, Tally>;
	/** Jobs that are not over. */
	openJobs: Set<string>;
	/** Jobs to be read again. */
	dirty: Set<string>;
	reviewing: boolean;
	delivering: boolean;
	/** Until then, a collector has its poke. */
	handedUntil: number;
	/** Somebody asked for a poke while one was on its way: that one may have come too early. */
	again: boolean;
	/** The store could not take what was found out: look again. */
	doubtful: boolean;
}

/** Right after the end n8n may still be writing the execution down; later it is down or busy. */
const retryMs = [300, 700, 1_500, 3_000, 5_000, 10_000, 30_000, 60_000];
/** A wait that nobody takes is given up this long after it became due. */
const giveUpMs = 7 * 24 * 3_600_000;
/** How often n8n is asked whether an execution still waits; somebody who stops one knows within five minutes. */
const probeMs = 240_000;
/** It runs, or n8n was away: asked again sooner. */
const probeSoonMs = 60_000;
/** After this many tries, some 20 s, an execution that says it waits for something else is believed. */
const staleTries = 6;
/** A collected poke without an answer is handed out again; n8n itself may take a minute for one. */
const leaseMs = 90_000;
const pokesAtOnce = 64;

export class Waits {
	readonly #context: Context;
	readonly #callbacks: Callbacks;
	readonly #giveUp: GiveUp;
	readonly #live = new Map<string, LiveWait>();
	readonly #shares = new WaitShares();
	readonly #byJob = new Map<string, Set<LiveWait>>();
	/** Waits whose pokes are fetched, by the hash of the secret. */
	readonly #byCollector = new Map<string, Set<LiveWait>>();

	constructor(context: Context, callbacks: Callbacks, giveUp: GiveUp) {
		this.#context = context;
		this.#callbacks = callbacks;
		this.#giveUp = giveUp;
		context.watchers.onEnded((jobId) => this.#heard(jobId, () => true));
		context.watchers.onChildEnded((jobId) =>
			this.#heard(jobId, ({ stored }) => stored.eachRobot === 1),
		);
	}

	/** Those that are not over: waiting for jobs, and waiting to be taken. */
	get counts(): { open: number; due: number } {
		const counts = { open: 0, due: 0 };
		for (const { stored } of this.#live.values()) {
			if (stored.state === 'open' || stored.state === 'due') counts[stored.state] += 1;
		}
		return counts;
	}

	async load(): Promise<void> {
		for (const stored of await this.#context.store.read('liveWaits', null)) {
			const wait = this.#remember(stored);
			// Jobs may have ended after the wait was last looked at. A full disk keeps no service from starting.
			if (stored.state !== 'open') continue;
			await this.#review(wait).catch((error: Error) => this.#doubt(wait, error));
		}
	}

	async create(
		request: WaitRequest,
		by: Caller,
	): Promise<{ waitId: string; state: Wait['state'] }> {
		const { clock, ids, store, turns } = this.#context;
		const jobIds = request.jobIds;
		// Otherwise anybody who may wait could cancel the jobs of others.
		if (request.cancelRest || request.cancelOnStop) demand(by, 'cancel');
		const found = await store.read('outcomes', { ids: [...new Set(jobIds)] });
		const missing = jobIds.find((id) => !found.some((job) => job.id === id));
		if (missing !== undefined) throw new Problem('no-such-job', { id: missing });
		// A wait shows its jobs.
		if (found.some((job) => job.createdBy !== `key:${by.name}`)) demand(by, 'read');
		const createdBy = `key:${by.name}`;
		this.#shares.demandRoom(createdBy, jobIds.length);
		const flag = (on: boolean | undefined) => (on ? 1 : 0);
		const resumeUrl = this.#resumeUrl(request);
		const now = clock.now();
		const stored: StoredWait = {
			id: ids.next(),
			jobIds: JSON.stringify(jobIds),
			until: JSON.stringify(request.until ?? 'all'),
			counts: request.counts ?? 'ended',
			eachRobot: flag(request.eachRobot),
			cancelRest: flag(request.cancelRest),
			cancelOnStop: flag(request.cancelOnStop),
			collector: request.collector === undefined ? null : hashOf(request.collector),
			deadlineAt: deadlineOf(request, now),
			resumeUrl,
			executionId: request.executionId ?? null,
			nodeId: request.nodeId ?? null,
			nonce: ids.token(),
			state: 'open',
			timedOut: 0,
			tries: 0,
			nextTryAt: request.cancelOnStop && resumeUrl !== null ? now + probeMs : null,
			lastError: null,
			createdBy,
			createdAt: now,
			dueAt: null,
			endedAt: null,
		};
		await turns.deed('insertWait', stored);
		const wait = this.#remember(stored);
		await this.#review(wait);
		return { waitId: stored.id, state: wait.stored.state };
	}

	async wait(waitId: string, waitMs = 0, signal?: AbortSignal): Promise<Wait> {
		const { clock, watchers } = this.#context;
		return watchers.until(
			'wait',
			[waitId],
			() => this.#view(waitId),
			(wait) => wait.state !== 'open',
			{ ms: waitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	/** Newest first. */
	async list({
		state,
		limit,
		cursor,
	}: {
		state?: Wait['state'];
		limit: number;
		cursor?: string;
	}): Promise<{ items: WaitRecord[]; cursor?: string }> {
		const found = await this.#context.store.read('waits', {
			limit,
			...(state === undefined ? {} : { state }),
			...(cursor === undefined ? {} : { before: cursor }),
		});
		const items = found.map((stored) => ({
			...factsOf(stored),
			jobIds: JSON.parse(stored.jobIds) as string[],
		}));
		return { items, ...(found.length === limit ? { cursor: found.at(-1)!.id } : {}) };
	}

	async close(waitId: string): Promise<void> {
		const live = this.#live.get(waitId);
		if (live) await this.#end(live, 'closed', null);
		else await this.#view(waitId);
	}

	async deliver(waitId: string): Promise<void> {
		const { turns, clock } = this.#context;
		const stored = await this.#context.store.read('wait', { id: waitId });
		if (!stored) throw new Problem('no-such-wait', { id: waitId });
		const now = clock.now();
		const open = this.#live.get(waitId);
		// Asks n8n now whether the execution still waits.
		if (stored.state === 'open' && open?.stored.nextTryAt) {
			open.again = open.delivering || open.handedUntil > now;
			await this.#probeLater(open, 0);
		}
		if (stored.state !== 'due' && stored.state !== 'dead') return;
		const again = { state: 'due' as const, nextTryAt: now, dueAt: now, endedAt: null };
		// Closed meanwhile: it is over.
		if (!(await turns.deed('moveWait', { id: waitId, from: ['due', 'dead'], ...again }))) return;
		const wait = this.#live.get(waitId) ?? this.#remember({ ...stored, ...again });
		Object.assign(wait.stored, again);
		wait.handedUntil = 0;
		this.#context.dueAt(again.nextTryAt);
	}

	/**
	 * Pokes for whoever knows this secret, as soon as there are some; with none, at once, when none will come. A stranger
	 * learns nothing, and is not kept waiting.
	 */
	async collect(secret: string, waitMs: number, signal?: AbortSignal): Promise<CollectAnswer> {
		const { clock, watchers } = this.#context;
		const collector = hashOf(secret);
		return watchers.until(
			'collect',
			[collector],
			// A caller that has gone gets nothing: it would have to be handed out again after its time.
			async () => this.#handOut(collector, signal?.aborted ?? false),
			({ pokes, open }) => pokes.length > 0 || open === 0,
			{ ms: waitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	async collected(secret: string, answers: CollectedPoke[]): Promise<void> {
		const collector = hashOf(secret);
		await Promise.all(
			answers.map(async ({ waitId, status, body }) => {
				const wait = this.#live.get(waitId);
				if (wait?.stored.collector !== collector) return;
				try {
					await this.#answered(wait, meaningOf({ status, body }));
				} finally {
					// Not before: until that is written down, it would be handed out again.
					wait.handedUntil = 0;
				}
			}),
		);
	}

	/** Ends waits whose time is over and delivers those whose turn has come. Answers when to look again. */
	async look(now: number): Promise<number | null> {
		let nextAt = Infinity;
		for (const wait of [...this.#live.values()]) {
			const { stored } = wait;
			if (wait.doubtful && stored.state === 'open') {
				wait.dirty = new Set(wait.jobIds);
				await this.#review(wait);
				wait.doubtful = false;
			}
			if (stored.state === 'open') {
				if (stored.deadlineAt !== null && stored.deadlineAt <= now) await this.#due(wait, true);
				else nextAt = Math.min(nextAt, stored.deadlineAt ?? Infinity);
			}
			// Counted from when it was due: what was waited for may have taken weeks.
			if (stored.state === 'due' && now - (stored.dueAt ?? stored.createdAt) > giveUpMs) {
				await this.#end(wait, 'dead', stored.lastError ?? 'nobody took the outcome');
			}
			nextAt = Math.min(nextAt, this.#pokeIfTime(wait, now));
		}
		return Number.isFinite(nextAt) ? nextAt : null;
	}

	/** Answers when to look again. */
	#pokeIfTime(wait: LiveWait, now: number): number {
		const { state, resumeUrl, nextTryAt, collector, id } = wait.stored;
		if (resumeUrl === null || (state !== 'due' && state !== 'open')) return Infinity;
		// An open one has a next time only if it asks for it.
		const at = nextTryAt ?? (state === 'due' ? 0 : Infinity);
		if (at > now) return at;
		if (collector !== null) {
			if (wait.handedUntil > now) return wait.handedUntil;
			this.#context.watchers.hint('collect', collector);
			return Infinity;
		}
		if (!wait.delivering) {
			void this.#deliver(wait).catch((error: Error) =>
				this.#context.log.warn('a poke could not be recorded', { waitId: id, error }),
			);
		}
		return Infinity;
	}

	#resumeUrl({ resumeUrl, collector }: WaitRequest): string | null {
		if (resumeUrl === undefined) return null;
		// Never called by us, wherever it leads.
		if (collector !== undefined) return resumeUrl;
		const url = callbackUrl(resumeUrl, this.#context.settings.callbackBase);
		const refused = this.#callbacks.check(url);
		if (refused) throw refused;
		return url;
	}

	#remember(stored: StoredWait): LiveWait {
		const jobIds = JSON.parse(stored.jobIds) as string[];
		const wait: LiveWait = {
			stored: { ...stored },
			jobIds,
			condition: conditionOf(stored),
			tallies: new Map(),
			openJobs: new Set(jobIds),
			dirty: new Set(jobIds),
			reviewing: false,
			delivering: false,
			handedUntil: 0,
			again: false,
			doubtful: false,
		};
		this.#live.set(stored.id, wait);
		this.#shares.add(stored.createdBy, jobIds.length);
		for (const jobId of jobIds) putIn(this.#byJob, jobId, wait);
		if (stored.collector !== null) putIn(this.#byCollector, stored.collector, wait);
		if (stored.state === 'open') this.#context.dueAt(stored.deadlineAt);
		this.#context.dueAt(stored.nextTryAt);
		return wait;
	}

	/** Harmless when called twice: n8n may close a wait while it answers our poke. */
	#forget(wait: LiveWait): void {
		const { id, collector } = wait.stored;
		if (this.#live.get(id) !== wait) return;
		this.#live.delete(id);
		this.#shares.remove(wait.stored.createdBy, wait.jobIds.length);
		for (const jobId of wait.jobIds) takeFrom(this.#byJob, jobId, wait);
		if (collector === null) return;
		takeFrom(this.#byCollector, collector, wait);
		// A collector need not go on when this was the last one.
		this.#context.watchers.hint('collect', collector);
	}

	/** Something happened to a job. */
	#heard(jobId: string, concerns: (wait: LiveWait) => boolean): void {
		for (const wait of this.#byJob.get(jobId) ?? []) {
			if (!concerns(wait)) continue;
			wait.dirty.add(jobId);
			void this.#review(wait).catch((error: Error) => this.#doubt(wait, error));
		}
	}

	#doubt(wait: LiveWait, error: Error): void {
		wait.doubtful = true;
		this.#context.log.warn('a wait could not be reviewed', { waitId: wait.stored.id, error });
	}

	/** Reads what has changed, all at once however much that is, until nothing has changed meanwhile. */
	async #review(wait: LiveWait): Promise<void> {
		if (wait.reviewing) return;
		wait.reviewing = true;
		try {
			while (wait.dirty.size > 0 && wait.stored.state === 'open') {
				const ids = [...wait.dirty];
				wait.dirty.clear();
				for (const job of await this.#context.store.read('outcomes', { ids })) {
					wait.tallies.set(job.id, tallyOf(job, wait.stored.eachRobot === 1));
					if (isFinal(job.state)) wait.openJobs.delete(job.id);
				}
				if (wait.tallies.size < new Set(wait.jobIds).size) continue;
				if (verdictOf(wait.condition, wait.tallies.values()) === 'open') continue;
				// Cancel first: if killed in between, the same is found out and asked for again.
				if (wait.stored.cancelRest === 1)
					await this.#cancelOpen(wait, 'for enough others had ended');
				await this.#due(wait, false);
			}
		} finally {
			wait.reviewing = false;
		}
	}

	async #cancelOpen(wait: LiveWait, how: string): Promise<void> {
		await Promise.all([...wait.openJobs].map((id) => this.#giveUp(id, wait.stored.id, how)));
	}

	async #due(wait: LiveWait, timedOut: boolean): Promise<void> {
		const { clock, turns, watchers } = this.#context;
		const now = clock.now();
		const change = {
			state: 'due' as const,
			timedOut: timedOut ? 1 : 0,
			tries: 0,
			lastError: null,
			dueAt: now,
			nextTryAt: now + retryMs[0]!,
		};
		const moved = await turns.deed('moveWait', { id: wait.stored.id, from: ['open'], ...change });
		if (!moved || wait.stored.state !== 'open') return;
		Object.assign(wait.stored, change);
		wait.handedUntil = 0;
		this.#context.dueAt(change.nextTryAt);
		watchers.hint('wait', wait.stored.id);
	}

	async #deliver(wait: LiveWait): Promise<void> {
		const { stored } = wait;
		wait.delivering = true;
		try {
			failPoint('wait:poking');
			// n8n may have moved since the execution was parked.
			const url = callbackUrl(stored.resumeUrl!, this.#context.settings.callbackBase);
			const outcome = await this.#callbacks
				.post(url, { waitId: stored.id, nonce: stored.nonce })
				.then(meaningOf, (error: Error) => ({ means: 'away' as const, say: error.message }));
			failPoint('wait:poked');
			await this.#answered(wait, outcome);
		} finally {
			wait.delivering = false;
		}
	}

	#handOut(collector: string, gone: boolean): CollectAnswer {
		const { clock } = this.#context;
		const now = clock.now();
		const waits = this.#byCollector.get(collector) ?? new Set();
		const pokes: CollectAnswer['pokes'] = [];
		for (const wait of waits) {
			if (gone || pokes.length >= pokesAtOnce) break;
			const { id: waitId, nonce, resumeUrl, nextTryAt, state } = wait.stored;
			const at = nextTryAt ?? (state === 'due' ? 0 : Infinity);
			if (resumeUrl === null || at > now || wait.handedUntil > now) continue;
			wait.handedUntil = now + leaseMs;
			this.#context.dueAt(wait.handedUntil);
			pokes.push({ resumeUrl, poke: { waitId, nonce } });
		}
		return { pokes, open: waits.size };
	}

	/** What n8n said. It may have been asked while the wait was open, and have answered when it was due. */
	async #answered(wait: LiveWait, outcome: PokeOutcome): Promise<void> {
		if (wait.stored.state === 'due') await this.#delivered(wait, outcome);
		else if (wait.stored.state === 'open') await this.#probed(wait, outcome);
	}

	async #delivered(wait: LiveWait, { means, say }: PokeOutcome): Promise<void> {
		switch (means) {
			case 'resumed':
			case 'over':
			case 'stopped':
				return this.#end(wait, 'closed', say);
			case 'gone':
			case 'refused':
				return this.#end(wait, 'dead', say);
			case 'stale':
				if (wait.stored.tries + 1 >= staleTries) return this.#end(wait, 'dead', say);
				return this.#tryLater(wait, say);
			case 'parked':
			case 'busy':
			case 'away':
				return this.#tryLater(wait, say);
		}
	}

	/** Whoever stopped or deleted the execution did so while it was parked: it was never poked to go on. */
	async #probed(wait: LiveWait, { means, say }: PokeOutcome): Promise<void> {
		switch (means) {
			case 'stopped':
			case 'gone':
				if (wait.stored.cancelOnStop === 1) {
					await this.#cancelOpen(wait, 'with the n8n execution that waited for it');
				}
				return this.#end(wait, 'closed', say);
			case 'resumed':
			case 'over':
				return this.#end(wait, 'closed', say);
			case 'refused':
				return this.#end(wait, 'dead', say);
			case 'parked':
			case 'stale':
			case 'busy':
			case 'away':
				await this.#probeLater(wait, means === 'parked' ? probeMs : probeSoonMs);
				wait.again = false;
		}
	}

	async #probeLater(wait: LiveWait, ms: number): Promise<void> {
		const { clock, turns } = this.#context;
		const nextTryAt = clock.now() + (wait.again ? 0 : ms);
		const moved = await turns.deed('moveWait', { id: wait.stored.id, from: ['open'], nextTryAt });
		// Due meanwhile: its next try is another one.
		if (!moved || wait.stored.state !== 'open') return;
		wait.stored.nextTryAt = nextTryAt;
		this.#context.dueAt(nextTryAt);
	}

	async #tryLater(wait: LiveWait, lastError: string | null): Promise<void> {
		const { clock, turns } = this.#context;
		const tries = wait.stored.tries + 1;
		const change = {
			tries,
			lastError,
			nextTryAt: clock.now() + retryMs[Math.min(tries, retryMs.length - 1)]!,
		};
		await turns.deed('moveWait', { id: wait.stored.id, from: ['due'], ...change });
		Object.assign(wait.stored, change);
		this.#context.dueAt(change.nextTryAt);
	}

	async #end(wait: LiveWait, state: 'closed' | 'dead', lastError: string | null): Promise<void> {
		const { clock, turns, log, watchers } = this.#context;
		const change = { state, lastError, endedAt: clock.now() };
		await turns.deed('moveWait', { id: wait.stored.id, from: ['open', 'due'], ...change });
		Object.assign(wait.stored, change);
		this.#forget(wait);
		watchers.hint('wait', wait.stored.id);
		if (state === 'dead') {
			log.warn('callback given up', { waitId: wait.stored.id, reason: lastError });
		}
	}

	async #view(waitId: string): Promise<Wait> {
		const { store } = this.#context;
		const stored = await store.read('wait', { id: waitId });
		if (!stored) throw new Problem('no-such-wait', { id: waitId });
		const jobIds = JSON.parse(stored.jobIds) as string[];
		const jobs = await store.read('outcomes', { ids: jobIds });
		const tallies = new Map(jobs.map((job) => [job.id, tallyOf(job, stored.eachRobot === 1)]));
		return {
			...factsOf(stored),
			met: verdictOf(conditionOf(stored), tallies.values()) === 'met',
			jobs: jobs.map((job) => outcomeView(job)),
		};
	}
}

function factsOf(stored: StoredWait): Omit<WaitRecord, 'jobIds'> {
	return {
		waitId: stored.id,
		state: stored.state,
		timedOut: stored.timedOut === 1,
		...conditionOf(stored),
		cancelRest: stored.cancelRest === 1,
		executionId: stored.executionId,
		nodeId: stored.nodeId,
		tries: stored.tries,
		lastError: stored.lastError,
		createdAt: stored.createdAt,
		deadlineAt: stored.deadlineAt,
	};
}

/** The earlier of the two. */
function deadlineOf({ deadlineAt, limitMs }: WaitRequest, now: number): number | null {
	const at = Math.min(deadlineAt ?? Infinity, now + (limitMs ?? Infinity));
	return at === Infinity ? null : at;
}

function conditionOf({ until, counts }: StoredWait): WaitCondition {
	return { until: JSON.parse(until) as WaitCondition['until'], counts };
}

/** A job for several robots counts as one, or as many as it has children, which it knows only when it starts. */
function tallyOf(job: StoredOutcome, eachRobot: boolean): Tally {
	const final = isFinal(job.state);
	const children = eachRobot ? childrenView(job) : null;
	if (!children || children.total === 0) {
		return {
			total: 1,
			ended: final ? 1 : 0,
			completed: job.state === 'completed' ? 1 : 0,
			...(children && !final ? { unsure: true } : {}),
		};
	}
	const { total, completed } = children;
	return { total, ended: total - openOf(children), completed };
}

function hashOf(secret: string): string {
	return createHash('sha256').update(secret).digest('hex');
}

function putIn(map: Map<string, Set<LiveWait>>, key: string, wait: LiveWait): void {
	let waits = map.get(key);
	if (!waits) map.set(key, (waits = new Set()));
	waits.add(wait);
}

function takeFrom(map: Map<string, Set<LiveWait>>, key: string, wait: LiveWait): void {
	const waits = map.get(key);
	waits?.delete(wait);
	if (waits?.size === 0) map.delete(key);
}

/** n8n listens at the root of `base`, whatever name its own URL goes by. */
export function callbackUrl(resumeUrl: string, base: string | undefined): string {
	if (base === undefined) return resumeUrl;
	const url = new URL(resumeUrl);
	const path = /\/[^/]+\/[^/]+\/[^/]+\/?$/.exec(url.pathname)?.[0] ?? url.pathname;
	return new URL(path + url.search, base).href;
}
