import fc from 'fast-check';
import { Tail } from '../../../agent/tail';

function tailOf(maxBytes: number, ...chunks: (string | Buffer)[]): Tail {
	const tail = new Tail(maxBytes);
	for (const chunk of chunks) tail.push(Buffer.from(chunk as string));
	return tail;
}

test('a short stream is whole', () => {
	const tail = tailOf(10, 'grü', 'ße');
	expect(tail.text).toBe('grüße');
	expect(tail.cut).toBe(false);
});

test('a long stream begins at a whole character', () => {
	const tail = tailOf(5, 'aaaa€€');
	expect(tail.text).toBe('€');
	expect(tail.cut).toBe(true);
});

test('bytes that are not UTF-8 still fit the limit', () => {
	expect(Buffer.byteLength(tailOf(10, Buffer.alloc(50, 0xff)).text)).toBeLessThanOrEqual(10);
});

test('that the text of such bytes had no room is told, though the bytes had', () => {
	const latin1 = Buffer.from('äöüß', 'latin1');
	expect([tailOf(12, latin1).cut, tailOf(12, latin1).text]).toEqual([false, '\ufffd'.repeat(4)]);
	expect([tailOf(10, latin1).cut, tailOf(10, latin1).text]).toEqual([true, '\ufffd'.repeat(3)]);
});

test('whatever the chunks, the text is an end of the whole text and fits', () => {
	fc.assert(
		fc.property(
			fc.array(fc.string({ unit: 'grapheme', maxLength: 20 }), { maxLength: 50 }),
			fc.integer({ min: 4, max: 64 }),
			(chunks, maxBytes) => {
				const whole = chunks.join('');
				const { text, cut } = tailOf(maxBytes, ...chunks);
				expect(whole.endsWith(text)).toBe(true);
				expect(Buffer.byteLength(text)).toBeLessThanOrEqual(maxBytes);
				expect(cut).toBe(text !== whole);
				// At most one character less than would fit.
				if (cut) expect(Buffer.byteLength(text)).toBeGreaterThan(maxBytes - 4);
			},
		),
	);
});
