/** Which planned times are run when several came due together. */
import fc from 'fast-check';
import { dealWith, jitterOf } from '../../../dispatcher/core/catch-up';

const now = 10_000_000;
const due = (...minutesAgo: number[]) =>
	minutesAgo.map((minutes) => ({ at: now - minutes * 60_000, dueAt: now - minutes * 60_000 }));
const ran = (policy: Parameters<typeof dealWith>[2], ...minutesAgo: number[]) =>
	dealWith(due(...minutesAgo), now, policy).run.map(({ at }) => (now - at) / 60_000);

test('last runs the newest one, if it is young enough', () => {
	const last = { missed: 'last', catchUpMs: 3_600_000, catchUpMax: 100 } as const;
	expect(ran(last, 90, 70, 30)).toEqual([30]);
	expect(ran(last, 90, 70)).toEqual([]);
});

test('all runs so many of the newest, oldest first, and none that is too old', () => {
	const all = { missed: 'all', catchUpMs: 3_600_000, catchUpMax: 3 } as const;
	expect(ran(all, 90, 50, 40, 30, 20)).toEqual([40, 30, 20]);
	expect(ran(all, 90, 50)).toEqual([50]);
});

test('none runs only what is up to a minute late', () => {
	const none = { missed: 'none', catchUpMs: 3_600_000, catchUpMax: 100 } as const;
	expect(ran(none, 2, 1)).toEqual([1]);
	expect(ran(none, 3, 2)).toEqual([]);
});

test('all that is up to a minute late is run, and then nothing older is made up by last and none', () => {
	for (const missed of ['none', 'last', 'all'] as const) {
		const policy = { missed, catchUpMs: 3_600_000, catchUpMax: 2 };
		expect(ran(policy, 5, 1, 0.5, 0)).toEqual([1, 0.5, 0]);
	}
});

test('every planned time is run or missed, never both, whatever the policy', () => {
	const policies = fc.record({
		missed: fc.constantFrom('none', 'last', 'all'),
		catchUpMs: fc.nat(7_200_000),
		catchUpMax: fc.integer({ min: 1, max: 9 }),
	});
	fc.assert(
		fc.property(policies, fc.array(fc.nat(500), { maxLength: 30 }), (policy, ago) => {
			const all = due(...[...new Set(ago)].sort((a, b) => b - a));
			const { run, missed } = dealWith(all, now, policy);
			expect([...run, ...missed].sort((a, b) => a.at - b.at)).toEqual(all);
		}),
	);
});

test('jitter is the same for the same run, within its bounds, and spread', () => {
	const times = Array.from({ length: 1_000 }, (_, i) => i * 60_000);
	const jitters = times.map((at) => jitterOf('nightly', at, 30_000, undefined));
	expect(times.map((at) => jitterOf('nightly', at, 30_000, undefined))).toEqual(jitters);
	expect(Math.min(...jitters)).toBeGreaterThanOrEqual(0);
	expect(Math.max(...jitters)).toBeLessThanOrEqual(30_000);
	const mean = jitters.reduce((a, b) => a + b) / jitters.length;
	expect(Math.abs(mean - 15_000)).toBeLessThan(1_500);
	expect(jitterOf('nightly', 5, 0, undefined)).toBe(0);
});

test('jitter longer than the time to the next run keeps their order', () => {
	const times = Array.from({ length: 1_000 }, (_, i) => i * 1_000);
	const due = times.map((at) => at + jitterOf('beat', at, 86_400_000, at + 1_000));
	expect(due.every((dueAt, i) => dueAt >= times[i]! && dueAt < times[i]! + 1_000)).toBe(true);
});
