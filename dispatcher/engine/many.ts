/**
 * The same deed for many jobs: find and count them first, then go through them in batches, each judged
 * as it is by then. Nothing is held up by it: the finding reads in stretches, and a batch is one piece
 * of work among others.
 *
 * Jobs made after the count are never among them, so that what a retry makes is not retried.
 */
import { type BulkResult, limits, Problem } from '../../protocol';
import { grown } from '../core/bulk';
import type { JobQuery, StoredJob } from '../store/store';
import type { Context } from './context';
import { nextStretch } from './stretches';

const batchSize = 200;
const maxShown = 100;
const maxRetriesShown = 1_000;

export interface ManyDeed {
	/** Why this one is left out, if it is. */
	judge(job: StoredJob): string | undefined;
	/** One answer each, in order: the reason why nothing was done, or what came of it. */
	act(jobs: StoredJob[]): Promise<(string | Done)[]>;
}

/** `retriedAs` is the new job of a retry. */
export interface Done {
	retriedAs?: string;
}

export interface ManyOrder {
	preview: boolean;
	expect?: number;
	limit?: number;
	cursor?: string;
}

/** All jobs that a query finds. */
export async function toMatching(
	context: Context,
	query: JobQuery,
	order: ManyOrder,
	deed: ManyDeed,
	signal?: AbortSignal,
): Promise<BulkResult> {
	const { limit = limits.maxBulk, expect } = order;
	const start = order.cursor === undefined ? undefined : startOf(order.cursor);
	const before = start?.before ?? (await behindAll(context));
	const ids: string[] = [];
	let matched = 0;
	let goOn: string | undefined;
	for (let after: string | null = start?.after ?? null; ;) {
		const room = limit - ids.length;
		const { ids: found, next } = await nextStretch(context.store, query, {
			order: 'any',
			after,
			idBefore: before,
			...(room > 0 ? { want: room } : {}),
		});
		matched += found.length;
		if (room > 0) ids.push(...found);
		else if (found.length > 0) goOn ??= JSON.stringify([after, before]);
		if (next === undefined || signal?.aborted) break;
		after = next;
	}
	if (expect !== undefined && grown(expect, matched)) {
		throw new Problem('bulk-grown', { expect, matched });
	}
	const result = await toThese(context, ids, order, deed, signal);
	const cursor = goOn && Buffer.from(goOn).toString('base64url');
	return { ...result, matched, ...(cursor === undefined ? {} : { cursor }) };
}

/** After every id there is. Not a new id: a clock that was set back makes new ones smaller than old ones. */
async function behindAll({ store }: Context): Promise<string> {
	const newest = await store.read('scan', { query: {}, order: 'newest', after: null, scan: 1 });
	return `${newest.ids[0] ?? ''}~`;
}

/** The jobs with these ids. */
export async function toThese(
	{ store }: Context,
	ids: readonly string[],
	{ preview }: Pick<ManyOrder, 'preview'>,
	deed: ManyDeed,
	signal?: AbortSignal,
): Promise<BulkResult> {
	const changed: string[] = [];
	const retries: NonNullable<BulkResult['retries']> = [];
	const reasons = new Map<string, number>();
	const skip = (reason: string) => reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
	let seen = 0;
	for (let i = 0; i < ids.length && !signal?.aborted; i += batchSize) {
		const batch = ids.slice(i, i + batchSize);
		const jobs = await store.read('jobsById', { ids: batch });
		for (let gone = batch.length - jobs.length; gone > 0; gone -= 1) skip('no such job');
		const fit = jobs.filter((job) => {
			const reason = deed.judge(job);
			if (reason !== undefined) skip(reason);
			return reason === undefined;
		});
		const answers = preview ? fit.map((): Done => ({})) : await deed.act(fit);
		for (const [at, answer] of answers.entries()) {
			if (typeof answer === 'string') {
				skip(answer);
				continue;
			}
			const { id } = fit[at]!;
			seen += 1;
			if (changed.length < maxShown) changed.push(id);
			if (answer.retriedAs !== undefined && retries.length < maxRetriesShown) {
				retries.push({ jobId: answer.retriedAs, retryOf: id });
			}
		}
	}
	const skipped = [...reasons.values()].reduce((sum, count) => sum + count, 0);
	return {
		dryRun: preview,
		matched: ids.length,
		changed: seen,
		skipped,
		reasons: [...reasons].map(([reason, count]) => ({ reason, count })),
		jobIds: changed,
		...(retries.length > 0 ? { retries } : {}),
	};
}

function startOf(cursor: string): { after: string | null; before: string } {
	try {
		const [after, before] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
		if (typeof before !== 'string') throw new TypeError('no end');
		if (after !== null && !Array.isArray(JSON.parse(after as string)))
			throw new TypeError('no key');
		return { after: after as string | null, before };
	} catch {
		throw new Problem('bad-field', {
			path: 'cursor',
			reason: 'is not one that this call answered',
		});
	}
}
