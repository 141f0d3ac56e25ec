import { median, percentile, ratioOf, seededChance, shuffled } from '../../bench/report/statistics';

test('the median of an even number of rounds lies between the two in the middle', () => {
	expect(median([4, 1, 3, 2])).toBe(2.5);
	expect(median([9, 1, 5])).toBe(5);
});

test('a percentile is a sample that was really taken', () => {
	const samples = Array.from({ length: 100 }, (_, i) => i + 1);
	expect(percentile(samples, 0.5)).toBe(51);
	expect(percentile(samples, 0.99)).toBe(100);
	expect(percentile(samples, 1)).toBe(100);
});

test('a lead that every round confirms is no draw', () => {
	const ratio = ratioOf([
		[20, 10],
		[21, 10],
		[19, 10],
		[22, 10],
		[20, 10],
	]);
	expect(ratio).toMatchObject({ value: 2, equal: false });
	expect(ratio.low).toBeGreaterThan(1.8);
	expect(ratio.high).toBeLessThan(2.3);
});

test('rounds that disagree about who leads are called equal, whatever their median', () => {
	const ratio = ratioOf([
		[12, 10],
		[8, 10],
		[13, 10],
		[9, 10],
		[12, 10],
	]);
	expect(ratio.value).toBe(1.2);
	expect(ratio.equal).toBe(true);
});

test('each ratio compares figures of the same round: a slow minute of the machine cancels out', () => {
	const ratio = ratioOf([
		[20, 10],
		[2, 1],
		[200, 100],
	]);
	expect(ratio).toMatchObject({ value: 2, low: 2, high: 2 });
});

test('the same figures give the same interval each time', () => {
	const pairs = [
		[12, 10],
		[8, 10],
		[11, 10],
	] as const;
	expect(ratioOf(pairs)).toEqual(ratioOf(pairs));
});

test('a shuffle keeps all, and does not always keep the order', () => {
	const chance = seededChance(7);
	const names = ['a', 'b', 'c', 'd'];
	const orders = Array.from({ length: 20 }, () => shuffled(names, chance).join(''));
	expect(new Set(orders).size).toBeGreaterThan(5);
	for (const order of orders) expect([...order].sort().join('')).toBe('abcd');
});
