/** Where planned runs will not fit. */
import { clashesOf, type ForecastRun } from '../../../dispatcher/core/forecast';

const run = (more: Partial<ForecastRun>): ForecastRun => ({
	at: 0,
	runMs: 60_000,
	scheduleId: 's',
	robots: ['r1', 'r2'],
	slots: 1,
	target: 'label os=linux',
	...more,
});
const oneSlot = () => 1;

test('more runs at one time than there are slots are a clash, with its worst moment', () => {
	const runs = ['a', 'b', 'c'].map((scheduleId, i) => run({ scheduleId, at: i * 10_000 }));
	expect(clashesOf(runs, oneSlot, 10)).toEqual([
		{
			from: 20_000,
			to: 60_000,
			target: 'label os=linux',
			needs: 3,
			has: 2,
			scheduleIds: ['a', 'b', 'c'],
		},
	]);
});

test('what ends makes room for what begins at that moment', () => {
	const runs = [0, 0, 60_000, 60_000].map((at) => run({ at }));
	expect(clashesOf(runs, oneSlot, 10)).toEqual([]);
});

test('runs for one of the robots count with those for all of them', () => {
	const pinned = run({ scheduleId: 'p', robots: ['r1'], target: 'robot r1' });
	const runs = [run({ scheduleId: 'a' }), run({ scheduleId: 'b' }), pinned];
	expect(clashesOf(runs, oneSlot, 10)).toMatchObject([
		{ needs: 3, has: 2, target: 'label os=linux' },
	]);
	expect(clashesOf([pinned, run({ scheduleId: 'a' })], oneSlot, 10)).toEqual([]);
});

test('a job for robots that do not exist is a clash of its own', () => {
	expect(clashesOf([run({ robots: [] })], oneSlot, 10)).toMatchObject([{ needs: 1, has: 0 }]);
});
