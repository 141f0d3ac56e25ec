/** Fields that several operations have, and how they are read. */
import type { INodeProperties } from 'n8n-workflow';
import type { Page } from '../../client';
import { readInstant } from '../shared/instants';
import { BadParameter } from '../shared/refusals';
import { type Ask, type Found, found } from './operation';

/** Jobs may carry 64 KiB of output each. */
const pageSize = 100;

/** A robot, job, schedule or token: from a live list, or by its id. */
export function locator(
	name: string,
	displayName: string,
	description: string,
	search: string,
	byId: { displayName: string; placeholder: string },
): INodeProperties {
	return {
		displayName,
		name,
		type: 'resourceLocator',
		default: { mode: 'list', value: '' },
		required: true,
		description,
		modes: [
			{
				displayName: 'From List',
				name: 'list',
				type: 'list',
				placeholder: `Select a ${displayName.toLowerCase()}...`,
				typeOptions: { searchListMethod: search, searchable: true },
			},
			{ name: 'id', type: 'string', ...byId },
		],
	};
}

export const jobLocator = locator('job', 'Job', 'The job to act on', 'searchJobs', {
	displayName: 'By ID',
	placeholder: 'e.g. 019f2b1c-7d3e-7a10-9c55-0d4c8a1b2e3f',
});
export const chosenJob = (ask: Ask) => ask.chosen('job', 'Job');

/** Collections show their fields in the order of their names. */
export function byName(fields: INodeProperties[]): INodeProperties[] {
	return [...fields].sort((a, b) => a.displayName.localeCompare(b.displayName));
}

export const manyFields: INodeProperties[] = [
	{
		displayName: 'Return All',
		name: 'returnAll',
		type: 'boolean',
		default: false,
		description: 'Whether to return all results or only up to a given limit',
	},
	{
		displayName: 'Limit',
		name: 'limit',
		type: 'number',
		typeOptions: { minValue: 1 },
		default: 50,
		description: 'Max number of results to return',
		displayOptions: { show: { returnAll: [false] } },
	},
];

export const simplifyField: INodeProperties = {
	displayName: 'Simplify',
	name: 'simplify',
	type: 'boolean',
	default: true,
	description: 'Whether to return a simplified version of the response instead of the raw data',
};

/** The most items to return. */
function limitOf(ask: Ask): number {
	if (ask.value('returnAll', false)) return Infinity;
	const limit = Number(ask.value('limit', 50));
	if (limit >= 1) return Math.floor(limit);
	throw new BadParameter('The limit is not a number above 0', 'Set "Limit" to 1 or more');
}

export function asMany<T extends object>(
	ask: Ask,
	all: readonly T[],
	simple?: (one: T) => object,
): Found[] {
	return asFound(ask, all.slice(0, limitOf(ask)), simple);
}

/** Goes from page to page until there are enough, or no more. */
export async function fromPages<T extends object>(
	ask: Ask,
	read: (page: { limit: number; cursor?: string }) => Promise<Page<T>>,
	simple?: (one: T) => object,
): Promise<Found[]> {
	const limit = limitOf(ask);
	const all: T[] = [];
	let cursor: string | undefined;
	do {
		const page = await read({ limit: Math.min(pageSize, limit - all.length), cursor });
		all.push(...page.items);
		cursor = page.cursor;
	} while (cursor !== undefined && all.length < limit);
	return asFound(ask, all, simple);
}

export function asFound<T extends object>(
	ask: Ask,
	value: T | readonly T[],
	simple?: (one: T) => object,
): Found[] {
	const all = [value].flat() as T[];
	return found(simple && ask.value('simplify', true) ? all.map(simple) : all);
}

export function instantOf(ask: Ask, value: unknown, field: string): number | undefined {
	return readInstant(value, ask.timezone, field);
}
