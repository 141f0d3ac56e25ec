import { everybody, fleetOf, passingOf, selectorsOf, zipf } from '../../bench/workloads/selectors';
import { seededChance } from '../../bench/report/statistics';

test('selectors are all different, and each fits what it says: somebody, and not too many', () => {
	const chance = seededChance(1);
	const fleet = fleetOf(200, chance);
	const selectors = selectorsOf(fleet, 1_000, chance);
	expect(new Set(selectors.map(({ labels }) => JSON.stringify(labels))).size).toBe(1_000);
	for (const { labels, fits } of selectors) {
		const terms = Object.entries(labels);
		expect(terms.length).toBeGreaterThanOrEqual(2);
		expect(terms.length).toBeLessThanOrEqual(4);
		const found = fleet.flatMap((robot, number) =>
			terms.every(([key, value]) => robot[key] === value) ? [number] : [],
		);
		expect([...fits].sort((a, b) => a - b)).toEqual(found);
		expect(fits.length).toBeGreaterThanOrEqual(1);
		expect(fits.length).toBeLessThanOrEqual(60);
	}
	for (const robot of fleet) expect(robot).toMatchObject(everybody);
});

test('the second most popular is asked for about half as often as the first', () => {
	const next = zipf(1_000, seededChance(2));
	const counts = new Map<number, number>();
	for (let i = 0; i < 100_000; i += 1) {
		const drawn = next();
		counts.set(drawn, (counts.get(drawn) ?? 0) + 1);
	}
	const ratio = counts.get(0)! / counts.get(1)!;
	expect(ratio).toBeGreaterThan(2);
	expect(ratio).toBeLessThan(2.3);
	expect(Math.max(...counts.keys())).toBeLessThan(1_000);
});

describe('who is passed by younger ones is found, with the time it cost', () => {
	const selectors = [
		{ labels: {}, fits: [0, 1] },
		{ labels: {}, fits: [1] },
	];
	const sent = [
		{ jobId: 'a', selector: 0, inLineAt: 0 },
		{ jobId: 'b', selector: 1, inLineAt: 0 },
		{ jobId: 'c', selector: 0, inLineAt: 0 },
	];

	test('in order nobody is passed, also where a robot that does not fit goes first', () => {
		const given = [
			{ robot: 0, jobId: 'a', at: 1 },
			{ robot: 0, jobId: 'c', at: 2 },
			{ robot: 1, jobId: 'b', at: 3 },
		];
		expect(passingOf(selectors, sent, given)).toEqual({ passed: 0, longestMs: 0 });
	});

	test('from the first younger one that its robot got', () => {
		const given = [
			{ robot: 1, jobId: 'c', at: 5 },
			{ robot: 1, jobId: 'b', at: 9 },
			{ robot: 0, jobId: 'a', at: 10 },
		];
		// `a` was passed by `c`, and again by `b`.
		expect(passingOf(selectors, sent, given)).toEqual({ passed: 3, longestMs: 5 });
	});

	test('who never started waits for ever', () => {
		const given = [{ robot: 1, jobId: 'c', at: 5 }];
		expect(passingOf(selectors, sent, given).longestMs).toBe(Infinity);
	});
});
