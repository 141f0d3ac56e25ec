/** Which bytes a `Range` header asks for (RFC 9110, section 14); several ranges at once are not served. */

export interface ByteRange {
	from: number;
	/** One past the last byte. */
	to: number;
}

/** `whole` = no range, or one that need not be understood; `outside` = no byte of it is there. */
export function rangeOf(
	header: string | undefined,
	bytes: number,
): ByteRange | 'whole' | 'outside' {
	const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '');
	if (!match || (match[1] === '' && match[2] === '')) return 'whole';
	const [, first = '', last = ''] = match;
	if (first === '') {
		const length = Math.min(bytes, Number(last));
		return length === 0 ? 'outside' : { from: bytes - length, to: bytes };
	}
	const from = Number(first);
	if (from >= bytes) return 'outside';
	if (last === '') return { from, to: bytes };
	return Number(last) < from ? 'whole' : { from, to: Math.min(bytes, Number(last) + 1) };
}
