import {
	countsOf,
	durationsOf,
	meanGapOf,
	shareOf,
	valuesOf,
} from '../../../dispatcher/cli/simulate/amounts';
import { castOf, usualLabels } from '../../../dispatcher/cli/simulate/cast';
import { Dice } from '../../../dispatcher/cli/simulate/dice';

test('ranges, shares, rates and values are read as people write them', () => {
	expect(durationsOf('20ms..200ms')).toEqual({ least: 20, most: 200 });
	expect(durationsOf('2s')).toEqual({ least: 2_000, most: 2_000 });
	expect(countsOf('1..4')).toEqual({ least: 1, most: 4 });
	expect(shareOf('5%')).toBe(0.05);
	expect(meanGapOf('5/s')).toBe(200);
	expect(meanGapOf('1/10m')).toBe(600_000);
	expect(valuesOf('site=berlin,oslo', { os: ['linux'] })).toEqual({
		os: ['linux'],
		site: ['berlin', 'oslo'],
	});
});

test.each([
	() => durationsOf('200ms..20ms'),
	() => durationsOf('20..200'),
	() => durationsOf('1s..2s..3s'),
	() => countsOf('0'),
	() => shareOf('0.05'),
	() => shareOf('101%'),
	() => meanGapOf('0/s'),
	() => meanGapOf('5'),
	() => meanGapOf('1/0s'),
	() => valuesOf('berlin'),
	() => valuesOf('a=1', { a: ['2'] }),
])('what cannot be meant is refused with a word (%#)', (read) => {
	expect(read).toThrow(/\w/);
});

const casting = (seed: number, robots = 50) => ({
	seed,
	robots,
	name: 'sim',
	slots: { least: 1, most: 4 },
	labels: usualLabels,
	capabilities: [],
	takeAny: false,
});

test('the same seed is the same fleet, another seed is another one, and all carry the mark', () => {
	expect(castOf(casting(7))).toEqual(castOf(casting(7)));
	expect(castOf(casting(8))).not.toEqual(castOf(casting(7)));
	const fleet = castOf(casting(7));
	expect(fleet[0]!.name).toBe('sim-01');
	expect(new Set(fleet.map(({ labels }) => labels['site'])).size).toBe(4);
	expect(new Set(fleet.map(({ slots }) => slots))).toEqual(new Set([1, 2, 3, 4]));
	for (const { labels } of fleet) expect(labels['simulated']).toBe('true');
});

test('a smaller fleet of a seed is the beginning of a larger one', () => {
	expect(castOf(casting(7, 20))).toEqual(castOf(casting(7, 50)).slice(0, 20));
});

test('events at a rate come as often as it says, at moments that cannot be foretold', () => {
	const dice = new Dice(1);
	const gaps = Array.from({ length: 20_000 }, () => dice.gap(200));
	const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
	expect(mean).toBeGreaterThan(190);
	expect(mean).toBeLessThan(210);
	// Memoryless: as many are shorter than the mean as 1 − 1/e says.
	const short = gaps.filter((gap) => gap < 200).length / gaps.length;
	expect(short).toBeCloseTo(1 - 1 / Math.E, 1);
});
