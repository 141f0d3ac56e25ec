import fc from 'fast-check';
import { rangeOf } from '../../../dispatcher/core/range';

test.each([
	[undefined, 'whole'],
	['bytes=0-', { from: 0, to: 10 }],
	['bytes=3-5', { from: 3, to: 6 }],
	['bytes=3-99', { from: 3, to: 10 }],
	['bytes=-4', { from: 6, to: 10 }],
	['bytes=-99', { from: 0, to: 10 }],
	['bytes=-0', 'outside'],
	['bytes=10-', 'outside'],
	['bytes=5-3', 'whole'],
	['bytes=-', 'whole'],
	['bytes=0-1,3-4', 'whole'],
	['lines=0-1', 'whole'],
])('of ten bytes %j asks for %j', (header, wanted) => {
	expect(rangeOf(header, 10)).toEqual(wanted);
});

test('a range never leaves the file', () => {
	const number = fc.oneof(fc.constant(''), fc.nat({ max: 300 }).map(String));
	fc.assert(
		fc.property(number, number, fc.nat({ max: 200 }), (first, last, bytes) => {
			const range = rangeOf(`bytes=${first}-${last}`, bytes);
			if (typeof range === 'string') return;
			expect(range.from).toBeGreaterThanOrEqual(0);
			expect(range.to).toBeLessThanOrEqual(bytes);
			expect(range.from).toBeLessThan(range.to);
		}),
	);
});
