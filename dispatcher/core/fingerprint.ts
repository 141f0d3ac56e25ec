/**
 * Failures that are the same failure have the same fingerprint: what differs from run to run (times,
 * ids, counts, random folders) is taken out of the message, and what is left is hashed. Codes stay:
 * exit code 1 and exit code 127, or HTTP 404 and HTTP 503, are different failures.
 */
import { createHash } from 'node:crypto';
import { probeKind } from '../../kinds/probe';
import type { Cause, FinalState } from '../../protocol';

/** As much of a message as tells failures apart; the rest is listing. */
const maxMessage = 2_000;
const maxGist = 300;

/** Somebody or something decided these ends; there is nothing to try again. */
const decided: readonly Cause[] = ['cancelled', 'denied', 'dependency'];

/** The fingerprint of a job that ends for good as a dead letter; `undefined` when it is none. */
export function deadLetterOf(
	kind: string,
	end: { to: FinalState; cause: Cause | null },
	message: string,
): string | undefined {
	if (end.to !== 'failed' && end.to !== 'timeout') return undefined;
	if (end.cause === null || decided.includes(end.cause)) return undefined;
	// The service sends another one by itself.
	if (kind === probeKind) return undefined;
	return createHash('sha256')
		.update([kind, end.cause, gistOf(message)].join('\n'))
		.digest('hex')
		.slice(0, 16);
}

/** A number behind one of these words is a code. */
const code = /\b((?:code|status|errno|signal|HTTP(?:\/\d(?:\.\d)?)?)[ =:]{1,2})(\d{1,3})\b/gi;
/** Stands for a digit of a code while the other digits are taken out. */
const codeDigits = 0xe000;

const rules: readonly [RegExp, string | ((match: string) => string)][] = [
	// 2026-05-01T06:00:00.123Z, 2026-05-01 06:00:00 +0200, 01/May/2026:06:00:00
	[
		/\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?/g,
		'<time>',
	],
	[/\b\d{1,2}\/(?:\w{3}|\d{1,2})\/\d{2,4}(?:[: ]\d{2}:\d{2}:\d{2})?/g, '<time>'],
	[/\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AP]M\b)?/gi, '<time>'],
	[/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '<id>'],
	[/(?:[A-Za-z]:)?(?:[\\/][\w.@%+~-]+)+/g, pathGist],
	[/\b0x[0-9a-f]+\b/gi, '<id>'],
	// Hex of some length, and long words of mixed letters and digits: hashes, container ids, tokens.
	[/\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b/gi, '<id>'],
	[/\b(?=\w*\d)(?=\w*[A-Za-z])\w{20,}\b/g, '<id>'],
	[/\d+(?:[.,]\d+)*/g, '<n>'],
];

/** What is left of a message when everything that differs from run to run is taken out. */
export function gistOf(message: string): string {
	let gist = message
		.slice(0, maxMessage)
		.replace(/[\ue000-\ue009]/g, ' ')
		.replace(code, (_match, word: string, digits: string) => word + hide(digits));
	for (const [pattern, by] of rules) gist = gist.replace(pattern, by as string);
	return gist
		.replace(/[\ue000-\ue009]/g, (digit) => String(digit.charCodeAt(0) - codeDigits))
		.replace(/\s+/g, ' ')
		.trim()
		.slice(0, maxGist);
}

/** Names in a path stay, except those with digits and those inside a temporary folder. */
function pathGist(path: string): string {
	const [separator = '/'] = /[\\/]/.exec(path) ?? [];
	let temporary = false;
	return path
		.split(/[\\/]/)
		.map((name) => {
			const volatile = temporary || /\d/.test(name);
			temporary = /^te?mp$/i.test(name);
			return volatile ? '*' : name;
		})
		.join(separator);
}

function hide(digits: string): string {
	return digits.replace(/\d/g, (digit) => String.fromCharCode(codeDigits + Number(digit)));
}
