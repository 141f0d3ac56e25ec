/** Values of fields as text: what an expression gives may be a number, a list, an object or nothing. */
import { BadParameter } from './refusals';

/** Without the space around it; nothing becomes the empty text. */
export const textOf = (value: unknown): string => String(value ?? '').trim();

/** Seconds of a field as milliseconds; an empty field sets nothing, which is not zero. */
export const inMillis = (seconds: unknown): number | undefined =>
	textOf(seconds) === '' ? undefined : Math.round(Number(seconds) * 1000);

/** As a program gets it: the text as it stands. A list, or an object without a text of its own, is not text. */
export function plainText(value: unknown, what: string): string {
	const text = String(value);
	if (!Array.isArray(value) && text !== '[object Object]') return text;
	throw new BadParameter(
		`${what} is ${Array.isArray(value) ? 'a list' : 'an object'}, not text`,
		'Use one field of it, e.g. {{ $json.item.name }}, or JSON.stringify( ) around it',
	);
}

/** Names chosen from a list, or given by an expression: as a list, or in one line. */
export const namesOf = (value: unknown): string[] => [value ?? []].flat().flatMap(wordsOf);

/** `gpu, ssd` */
export function wordsOf(line: unknown): string[] {
	return String(line ?? '')
		.split(',')
		.map((word) => word.trim())
		.filter((word) => word !== '');
}
