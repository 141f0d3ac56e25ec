/**
 * Parked n8n executions. A wait becomes due when its jobs (all, any, so many) have ended or its time
 * is over; from then on the outbox pokes the resume URL until the node has taken the outcome. The poke
 * carries nothing to believe: the node pulls.
 *
 *   open → due → closed (taken) | dead (nobody takes it)
 */
import { isFinal, Problem, type Wait, type WaitRequest } from '../../protocol';
import type { StoredWait } from '../store/store';
import { failPoint } from '../store/fail-points';
import type { Context } from './context';
import type { Caller } from './index';
import { jobView } from './views';

/** The way out to n8n, handed in. */
export interface Callbacks {
	/** Why this URL may never be called. */
	check(url: string): Problem | undefined;
	/** Carries one poke. Answers the status and the body, or rejects when nothing came back. */
	post(url: string, body: object): Promise<{ status: number; body: unknown }>;
}

interface LiveWait {
	stored: StoredWait;
	jobIds: string[];
	/** How many of the jobs must have ended. */
	need: number;
	delivering: boolean;
	/** The store could not take what was found out: look again. */
	doubtful: boolean;
}

/** Right after the end n8n may still be writing the execution down; later it is down or busy. */
const retryMs = [300, 700, 1_500, 3_000, 5_000, 10_000, 30_000, 60_000];
/** A wait nobody takes is given up after this long. */
const giveUpMs = 7 * 24 * 3_600_000;

export class Waits {
	readonly #context: Context;
	readonly #callbacks: Callbacks;
	readonly #live = new Map<string, LiveWait>();
	readonly #byJob = new Map<string, Set<LiveWait>>();

	constructor(context: Context, callbacks: Callbacks) {
		this.#context = context;
		this.#callbacks = callbacks;
		context.watchers.onEnded((jobId) => {
			for (const wait of this.#byJob.get(jobId) ?? []) {
				void this.#review(wait).catch((error: Error) => {
					wait.doubtful = true;
					context.log.warn('a wait could not be reviewed', { waitId: wait.stored.id, error });
				});
			}
		});
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
			// Jobs may have ended after the wait was last looked at.
			if (stored.state === 'open') await this.#review(wait);
		}
	}

	async create(
		request: WaitRequest,
		by: Caller,
	): Promise<{ waitId: string; state: Wait['state'] }> {
		const { clock, ids, store, turns, settings } = this.#context;
		const jobIds = request.jobIds;
		const found = await store.read('jobsById', { ids: [...new Set(jobIds)] });
		const missing = jobIds.find((id) => !found.some((job) => job.id === id));
		if (missing !== undefined) throw new Problem('no-such-job', { id: missing });
		const resumeUrl =
			request.resumeUrl === undefined
				? null
				: callbackUrl(request.resumeUrl, settings.callbackBase);
		const refused = resumeUrl === null ? undefined : this.#callbacks.check(resumeUrl);
		if (refused) throw refused;
		const stored: StoredWait = {
			id: ids.next(),
			jobIds: JSON.stringify(jobIds),
			until: JSON.stringify(request.until ?? 'all'),
			deadlineAt: request.deadlineAt ?? null,
			resumeUrl,
			executionId: request.executionId ?? null,
			nodeId: request.nodeId ?? null,
			nonce: ids.token(),
			state: 'open',
			timedOut: 0,
			tries: 0,
			nextTryAt: null,
			lastError: null,
			createdBy: `key:${by.name}`,
			createdAt: clock.now(),
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

	async close(waitId: string): Promise<void> {
		const live = this.#live.get(waitId);
		if (live) await this.#end(live, 'closed', null);
		else await this.#view(waitId);
	}

	async deliver(waitId: string): Promise<void> {
		const { turns, clock } = this.#context;
		const stored = await this.#context.store.read('wait', { id: waitId });
		if (!stored) throw new Problem('no-such-wait', { id: waitId });
		if (stored.state !== 'due' && stored.state !== 'dead') return;
		const again = { state: 'due' as const, nextTryAt: clock.now(), endedAt: null };
		await turns.deed('moveWait', { id: waitId, from: ['due', 'dead'], ...again });
		const wait = this.#live.get(waitId) ?? this.#remember({ ...stored, ...again });
		Object.assign(wait.stored, again);
		this.#context.dueAt(again.nextTryAt);
	}

	/** Ends waits whose time is over and delivers those whose turn has come. Answers when to look again. */
	async look(now: number): Promise<number | null> {
		let nextAt = Infinity;
		for (const wait of [...this.#live.values()]) {
			const { stored } = wait;
			if (wait.doubtful && stored.state === 'open') {
				await this.#review(wait);
				wait.doubtful = false;
			}
			if (stored.state === 'open') {
				if (stored.deadlineAt !== null && stored.deadlineAt <= now) await this.#due(wait, true);
				else nextAt = Math.min(nextAt, stored.deadlineAt ?? Infinity);
			}
			if (stored.state === 'due' && stored.resumeUrl !== null && !wait.delivering) {
				if ((stored.nextTryAt ?? 0) <= now) {
					void this.#deliver(wait).catch((error: Error) =>
						this.#context.log.warn('a poke could not be noted', { waitId: stored.id, error }),
					);
				} else nextAt = Math.min(nextAt, stored.nextTryAt!);
			}
			// Polled only, and nobody came for it: it is of no use any more.
			if (stored.state === 'due' && now - stored.createdAt > giveUpMs) {
				await this.#end(wait, 'dead', 'nobody took the outcome');
			}
		}
		return Number.isFinite(nextAt) ? nextAt : null;
	}

	#remember(stored: StoredWait): LiveWait {
		const jobIds = JSON.parse(stored.jobIds) as string[];
		const until = JSON.parse(stored.until) as NonNullable<WaitRequest['until']>;
		const need =
			until === 'all' ? jobIds.length : until === 'any' ? 1 : Math.min(until.count, jobIds.length);
		const wait: LiveWait = {
			stored: { ...stored },
			jobIds,
			need,
			delivering: false,
			doubtful: false,
		};
		this.#live.set(stored.id, wait);
		for (const jobId of jobIds) {
			let waits = this.#byJob.get(jobId);
			if (!waits) this.#byJob.set(jobId, (waits = new Set()));
			waits.add(wait);
		}
		this.#context.dueAt(stored.state === 'open' ? stored.deadlineAt : stored.nextTryAt);
		return wait;
	}

	#forget(wait: LiveWait): void {
		this.#live.delete(wait.stored.id);
		for (const jobId of wait.jobIds) {
			const waits = this.#byJob.get(jobId);
			waits?.delete(wait);
			if (waits?.size === 0) this.#byJob.delete(jobId);
		}
	}

	async #review(wait: LiveWait): Promise<void> {
		if (wait.stored.state !== 'open') return;
		const jobs = await this.#context.store.read('jobsById', { ids: wait.jobIds });
		const ended = new Set(jobs.filter((job) => isFinal(job.state)).map((job) => job.id));
		const count = wait.jobIds.filter((id) => ended.has(id)).length;
		if (count >= wait.need) await this.#due(wait, false);
	}

	async #due(wait: LiveWait, timedOut: boolean): Promise<void> {
		const { clock, turns, watchers } = this.#context;
		const change = {
			state: 'due' as const,
			timedOut: timedOut ? 1 : 0,
			nextTryAt: clock.now() + retryMs[0]!,
		};
		const moved = await turns.deed('moveWait', { id: wait.stored.id, from: ['open'], ...change });
		if (!moved || wait.stored.state !== 'open') return;
		Object.assign(wait.stored, change);
		this.#context.dueAt(change.nextTryAt);
		watchers.hint('wait', wait.stored.id);
	}

	async #deliver(wait: LiveWait): Promise<void> {
		const { stored } = wait;
		wait.delivering = true;
		try {
			failPoint('wait:poking');
			const outcome = await this.#callbacks
				.post(stored.resumeUrl!, {
					waitId: stored.id,
					nonce: stored.nonce,
				})
				.then(judge, (error: Error) => ({ end: undefined, say: error.message }));
			failPoint('wait:poked');
			if (stored.state !== 'due') return;
			if (outcome.end) await this.#end(wait, outcome.end, outcome.say);
			else await this.#tryLater(wait, outcome.say);
		} finally {
			wait.delivering = false;
		}
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
		const jobs = await store.read('jobsById', { ids: jobIds });
		return {
			waitId: stored.id,
			state: stored.state,
			timedOut: stored.timedOut === 1,
			jobs: jobs.map((job) => jobView(job)),
			executionId: stored.executionId,
			nodeId: stored.nodeId,
			tries: stored.tries,
			lastError: stored.lastError,
			createdAt: stored.createdAt,
			deadlineAt: stored.deadlineAt,
		};
	}
}

/** n8n listens at the root of `base`, whatever name its own URL goes by. */
export function callbackUrl(resumeUrl: string, base: string | undefined): string {
	if (base === undefined) return resumeUrl;
	const url = new URL(resumeUrl);
	const path = /\/[^/]+\/[^/]+\/[^/]+\/?$/.exec(url.pathname)?.[0] ?? url.pathname;
	return new URL(path + url.search, base).href;
}

/** What an answer to a poke means. Only our node's own body is believed. */
function judge(answer: { status: number; body: unknown }): {
	end?: 'closed' | 'dead';
	say: string | null;
} {
	const body = answer.body as
		{ resumed?: unknown; reason?: unknown; message?: unknown } | undefined;
	const said = typeof body?.message === 'string' ? body.message : `HTTP ${answer.status}`;
	if (answer.status < 300) {
		if (body?.resumed === true) return { end: 'closed', say: null };
		return {
			say: body?.resumed === false ? String(body.reason ?? 'not ready') : 'n8n is starting up',
		};
	}
	if (answer.status === 409 && /finished/i.test(said)) return { end: 'closed', say: said };
	if (answer.status === 404 && typeof body?.message === 'string') return { end: 'dead', say: said };
	if (answer.status === 401 || answer.status === 403) return { end: 'dead', say: said };
	return { say: said };
}
