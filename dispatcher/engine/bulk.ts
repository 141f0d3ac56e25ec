/** One deed for all jobs that a filter finds: cancel, retry, retarget, hold, release, priority. */
import { type BulkAction, type BulkResult, isFinal, Problem, problemText } from '../../protocol';
import { policyOf } from '../core/retry';
import { changed } from '../core/waiting';
import type { StoredJob } from '../store/store';
import type { Changes } from './changes';
import type { Context } from './context';
import { type Edits, otherFamily } from './edits';
import type { BulkOrder, Caller } from './index';
import type { Jobs } from './jobs';
import { type Done, type ManyDeed, toMatching } from './many';
import type { Prepared } from './placing';

/** What an action cannot do without. */
const needs: Partial<Record<BulkAction, 'target' | 'priority'>> = {
	retarget: 'target',
	priority: 'priority',
};

export class Bulk {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #changes: Changes;
	readonly #edits: Edits;

	constructor(context: Context, jobs: Jobs, changes: Changes, edits: Edits) {
		this.#context = context;
		this.#jobs = jobs;
		this.#changes = changes;
		this.#edits = edits;
	}

	async run(order: BulkOrder, by: Caller, signal?: AbortSignal): Promise<BulkResult> {
		const { action, dryRun, expect } = order;
		const needed = needs[action];
		if (needed && order[needed] === undefined) {
			throw new Problem('bad-field', { path: needed, reason: `is missing: ${action} needs it` });
		}
		if (dryRun === false && expect === undefined) {
			const reason = 'is missing: ask for a preview first, and send the count it gives';
			throw new Problem('bad-field', { path: 'expect', reason });
		}
		const preview = dryRun ?? expect === undefined;
		const deed = this.#deedOf(order, by);
		const result = await toMatching(
			this.#context,
			order.filter,
			{ ...order, preview },
			deed,
			signal,
		);
		if (!preview) {
			const { matched, changed: done } = result;
			this.#context.log.info('jobs changed in bulk', {
				action,
				by: by.name,
				matched,
				changed: done,
			});
		}
		return result;
	}

	#deedOf(order: BulkOrder, by: Caller): ManyDeed {
		switch (order.action) {
			case 'cancel':
				return this.#cancel(by);
			case 'retry':
				return this.#retry(order, by);
			default:
				return this.#edit(order, by);
		}
	}

	#cancel(by: Caller): ManyDeed {
		return {
			judge: (job) => {
				if (isFinal(job.state)) return `it is ${job.state}`;
				return job.cancelRequestedAt === null ? undefined : 'its cancel is under way';
			},
			act: (jobs) =>
				Promise.all(
					jobs.map(async ({ id }) => {
						const { state, cancelRequestedAt } = await this.#changes.cancel(id, by);
						const ended = isFinal(state) && state !== 'cancelled';
						return ended && cancelRequestedAt === null ? `it is ${state}` : {};
					}),
				),
		};
	}

	/** Each job once: what was retried already is left out, and so is what completed, unless that was asked for. */
	#retry({ filter, target }: BulkOrder, by: Caller): ManyDeed {
		const place = target && this.#jobs.place(target);
		return {
			judge: (job) => {
				if (!isFinal(job.state)) return `it is ${job.state}`;
				if (job.state === 'completed' && filter.state !== 'completed') return 'it completed';
				return job.retriedAs === null ? undefined : 'it was retried already';
			},
			act: (jobs) =>
				insertRetries(
					this.#jobs,
					jobs.map((job) => ({ ...this.#changes.again(job, by, place), only: 'unretried' })),
				),
		};
	}

	#edit({ action, target, priority, reason }: BulkOrder, by: Caller): ManyDeed {
		const change = this.#edits.changeOf(
			{
				retarget: { target },
				priority: { priority },
				hold: { hold: reason ?? true },
				release: { hold: false },
			}[action as 'retarget' | 'priority' | 'hold' | 'release'],
			by,
		);
		const same = action === 'release' ? 'it is not held' : 'it is so already';
		const now = this.#context.clock.now();
		return {
			judge: (job) => {
				if (job.state !== 'pending' && job.state !== 'queued') return `it is ${job.state}`;
				if (action === 'release' && job.cause === 'restored') return 'it came back from a backup';
				if (otherFamily(job, change)) return problemText('other-family');
				return changed(job, change, policyOf(job.policy), now) ? undefined : same;
			},
			act: (jobs) =>
				Promise.all(
					jobs.map(async (job): Promise<string | Done> => {
						for (let now: StoredJob = job; ; now = await this.#jobs.read(job.id)) {
							const outcome = await this.#edits.apply(now, change, by);
							if (outcome === 'changed') return {};
							if (outcome === 'same') return same;
							if (outcome === 'other-family') return problemText('other-family');
							if (outcome === 'not-waiting') return `it is ${now.state}`;
						}
					}),
				),
		};
	}
}

/** One piece of work, one answer each. */
export async function insertRetries(jobs: Jobs, retries: Prepared[]): Promise<(string | Done)[]> {
	const answers = await jobs.insert(retries);
	return answers.map((answer) => {
		if (!(answer instanceof Problem)) return { retriedAs: answer.jobId };
		return answer.code === 'already-retried' ? 'it was retried already' : answer.message;
	});
}
