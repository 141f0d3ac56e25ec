import fc from 'fast-check';
import { redialMs } from '../../../dispatcher/core/redial';

test('each try that failed doubles the wait, from the delay that was set to a minute at most', () => {
	const waits = [0, 1, 2, 3, 4, 5, 6, 50].map((failures) => redialMs(failures, 5_000, 1));
	expect(waits).toEqual([5_000, 5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
});

test('half of the wait is chance', () => {
	fc.assert(
		fc.property(fc.nat(100), fc.integer({ min: 10, max: 3_600_000 }), (failures, first) => {
			const [least, most] = [redialMs(failures, first, 0), redialMs(failures, first, 1)];
			expect(most).toBeLessThanOrEqual(Math.max(60_000, first));
			expect(Math.abs(2 * least - most)).toBeLessThanOrEqual(1);
		}),
	);
});
