/**
 * Jobs that failed for good, by what went wrong, until somebody has dealt with them: replayed, retried
 * by hand, or dismissed. A replay and the end of the dead letter are one commit, so none is lost and
 * none is replayed twice.
 */
import {
	type BulkResult,
	type DeadLetterGroup,
	type DeadLetterRequest,
	type Job,
	type JobError,
	Problem,
} from '../../protocol';
import type { StoredJob } from '../store/store';
import { insertRetries } from './bulk';
import type { Changes } from './changes';
import type { Context } from './context';
import type { Caller } from './index';
import type { Jobs } from './jobs';
import { type ManyDeed, toMatching, toThese } from './many';

/** Jobs named with a group, newest first. */
const samples = 5;
/** Index entries counted at a time: about a millisecond. */
const countScan = 10_000;

interface Page {
	limit: number;
	cursor?: string;
}

const noneLeft = 'it is no dead letter any more';

export class DeadLetters {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #changes: Changes;

	constructor(context: Context, jobs: Jobs, changes: Changes) {
		this.#context = context;
		this.#jobs = jobs;
		this.#changes = changes;
	}

	/** A page of groups, the largest of the page first. */
	async groups({
		limit,
		cursor = '',
	}: Page): Promise<{ items: DeadLetterGroup[]; cursor?: string }> {
		const page = { after: cursor, limit, samples };
		const found = await this.#context.store.read('deadGroups', page);
		const items: DeadLetterGroup[] = [];
		for (const { fingerprint, jobIds } of found) {
			const [newest] = await this.#context.store.read('jobsById', { ids: jobIds.slice(0, 1) });
			const count = await this.#count(fingerprint);
			// Replayed or dismissed between two looks.
			if (!newest || count.count === 0) continue;
			items.push({
				fingerprint,
				kind: newest.kind,
				cause: newest.cause,
				message: messageOf(newest),
				...count,
				jobIds,
			});
		}
		items.sort((a, b) => b.count - a.count || b.lastAt - a.lastAt);
		const last = found.length === limit ? found.at(-1) : undefined;
		return { items, ...(last ? { cursor: last.fingerprint } : {}) };
	}

	async jobs(fingerprint: string, page: Page): Promise<{ items: Job[]; cursor?: string }> {
		const found = await this.#jobs.jobs({ fingerprint, ...page });
		if (found.items.length === 0 && page.cursor === undefined) {
			throw new Problem('no-such-dead-letter', { id: fingerprint });
		}
		return found;
	}

	async replay(request: DeadLetterRequest, by: Caller, signal?: AbortSignal): Promise<BulkResult> {
		const place = request.target && this.#jobs.place(request.target);
		return this.#each(
			'replayed',
			request,
			by,
			(jobs) =>
				insertRetries(
					this.#jobs,
					jobs.map((job) => ({ ...this.#changes.again(job, by, place), only: 'dead' })),
				),
			signal,
		);
	}

	async dismiss(
		request: Omit<DeadLetterRequest, 'target'>,
		by: Caller,
		signal?: AbortSignal,
	): Promise<BulkResult> {
		const { clock, turns } = this.#context;
		return this.#each(
			'dismissed',
			request,
			by,
			async (jobs) => {
				const jobIds = jobs.map(({ id }) => id);
				const wish = { jobIds, by: `key:${by.name}`, at: clock.now() };
				const dismissed = new Set(await turns.deed('dismissDead', wish));
				return jobIds.map((id) => (dismissed.has(id) ? {} : noneLeft));
			},
			signal,
		);
	}

	async #each(
		what: string,
		request: DeadLetterRequest,
		by: Caller,
		act: ManyDeed['act'],
		signal?: AbortSignal,
	): Promise<BulkResult> {
		const { fingerprint, jobIds, all, dryRun: preview = false } = request;
		if ([fingerprint, jobIds, all].filter((one) => one !== undefined).length !== 1) {
			const reason = 'name exactly one of fingerprint, jobIds and all';
			throw new Problem('bad-field', { path: 'body', reason });
		}
		const deed: ManyDeed = {
			judge: (job) => (job.dead === null ? noneLeft : undefined),
			act,
		};
		const query = fingerprint === undefined ? { dead: true as const } : { fingerprint };
		const result = jobIds
			? await toThese(this.#context, [...new Set(jobIds)], { preview }, deed, signal)
			: await toMatching(this.#context, query, { ...request, preview }, deed, signal);
		if (!preview) {
			const { matched, changed } = result;
			this.#context.log.info(`dead letters ${what}`, { by: by.name, matched, changed });
		}
		return result;
	}

	async #count(
		fingerprint: string,
	): Promise<Pick<DeadLetterGroup, 'count' | 'firstAt' | 'lastAt'>> {
		const total = { count: 0, firstAt: Infinity, lastAt: -Infinity };
		for (let after: string | undefined = ''; after !== undefined;) {
			const part: { count: number; firstAt: number; lastAt: number; next?: string } =
				await this.#context.store.read('deadCount', { fingerprint, after, scan: countScan });
			total.count += part.count;
			total.firstAt = Math.min(total.firstAt, part.firstAt);
			total.lastAt = Math.max(total.lastAt, part.lastAt);
			after = part.next;
		}
		return total;
	}
}

function messageOf({ error }: StoredJob): string {
	return error === null ? '' : (JSON.parse(error) as JobError).message;
}
