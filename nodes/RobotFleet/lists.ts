/** Live lists for the locators: jobs and tokens to choose from. Robots and schedules are in nodes/shared. */
import type {
	ILoadOptionsFunctions,
	INodeListSearchItems,
	INodeListSearchResult,
} from 'n8n-workflow';
import type { Job } from '../../protocol';
import { asking } from '../shared/robots';
import { matching, timeOf } from '../shared/schedules';
import { isUsable } from './token';

const pageSize = 50;
/** Pages that are searched for a text at once; "load more" continues after them. */
const maxPages = 5;
const maxTitle = 60;

export async function searchJobs(
	this: ILoadOptionsFunctions,
	filter = '',
	paginationToken?: string,
): Promise<INodeListSearchResult> {
	return await asking(this, async (client) => {
		const results: INodeListSearchItems[] = [];
		let cursor = paginationToken;
		for (let pages = 0; pages < maxPages; pages += 1) {
			const page = await client.jobs({ limit: pageSize, cursor });
			const listed = page.items.map((job) => ({
				name: `${titleOf(job)} (${job.state}, ${timeOf(job.createdAt)})`,
				value: job.jobId,
			}));
			results.push(...matching(listed, filter));
			cursor = page.cursor;
			if (cursor === undefined || results.length >= pageSize) break;
		}
		return { results, paginationToken: cursor };
	});
}

export async function searchTokens(
	this: ILoadOptionsFunctions,
	filter = '',
): Promise<INodeListSearchResult> {
	return await asking(this, async (client) => {
		const listed = (await client.tokens())
			.filter(isUsable)
			.map(({ tokenId, uses, used, expiresAt }) => ({
				name: `${tokenId} (${used} of ${uses} used, until ${timeOf(expiresAt)})`,
				value: tokenId,
			}));
		return { results: matching(listed, filter) };
	});
}

/** Those that n8n did not take come first: given up, then still being delivered. */
export async function searchWaits(
	this: ILoadOptionsFunctions,
	filter = '',
): Promise<INodeListSearchResult> {
	return await asking(this, async (client) => {
		const found = await Promise.all(
			(['dead', 'due', 'open'] as const).map((state) => client.waits({ state, limit: pageSize })),
		);
		const listed = found
			.flatMap(({ items }) => items)
			.map(({ waitId, state, executionId, createdAt, lastError }) => ({
				name: `Execution ${executionId ?? '(none)'} (${waitStates[state]}, ${timeOf(createdAt)})${lastError === null ? '' : `: ${lastError}`}`,
				value: waitId,
			}));
		return { results: matching(listed, filter) };
	});
}

const waitStates = { dead: 'not taken', due: 'being delivered', open: 'waits', closed: 'taken' };

/** What it does, in one line. */
function titleOf({ kind, spec }: Job): string {
	const {
		command,
		args = [],
		shell,
	} = (spec ?? {}) as {
		command?: string;
		args?: string[];
		shell?: string;
	};
	const words = shell ?? [command ?? kind, ...args].join(' ');
	const line = words.trim().replace(/\s+/g, ' ');
	return line.length > maxTitle ? `${line.slice(0, maxTitle - 1)}…` : line;
}
