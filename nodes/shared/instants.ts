/** Dates of n8n become instants of the service. */
import { tryToParseDateTime } from 'n8n-workflow';
import { BadParameter } from './refusals';

/** Instants are milliseconds here and dates in n8n; a date without a zone is in that of the workflow. */
export function readInstant(value: unknown, zone: string, field: string): number | undefined {
	if (value === undefined || value === null || value === '') return undefined;
	const at = typeof value === 'number' ? value : millisOf(value, zone);
	if (Number.isFinite(at)) return at;
	throw new BadParameter(
		`"${field}" is not a date`,
		'Write it like 2026-12-31 18:00, or use an expression that gives a date',
	);
}

function millisOf(date: unknown, zone: string): number {
	try {
		return tryToParseDateTime(date, zone).toMillis();
	} catch {
		return Number.NaN;
	}
}
