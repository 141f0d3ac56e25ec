/** What a job needs besides a robot, as text and as numbers; and a rate's window against a slow count. */
import fc from 'fast-check';
import { limits } from '../../../protocol';
import { capacityOf, isOwed, needsOf, needsText, passes } from '../../../dispatcher/core/needs';
import { laneRule, laneWith, misfit } from '../../../dispatcher/core/matching';
import { rank } from '../../../dispatcher/core/rank';
import { Starts } from '../../../dispatcher/core/starts';

test('jobs that need the same have one text, in whatever order they wrote it', () => {
	const concurrency = { key: 'crm', max: 3 };
	const rate = { key: 'crm', max: 10, perMs: 60_000 };
	const text = needsText({ locks: [{ name: 'b' }, { name: 'a', slots: 2 }], concurrency, rate });
	const other = needsText({
		rate,
		concurrency,
		locks: [{ name: 'a' }, { name: 'b', slots: 1 }, { name: 'a', slots: 2 }],
	});
	expect(other).toBe(text);
	expect(needsOf(text).map(({ key, take }) => [key, take])).toEqual([
		['lock:a', 2],
		['lock:b', 1],
		['concurrency:crm', 1],
		['rate:crm', 1],
	]);
	expect(needsOf(text)).toBe(needsOf(text));
});

test('a job that takes nothing has no needs', () => {
	expect(needsText({})).toBe('');
	expect(needsText({ locks: [], slots: 3 })).toBe('');
	expect(needsOf('')).toEqual([]);
});

test('a lock is for one, unless a limit says how much there is; a limit only narrows what jobs say of a key', () => {
	const [lock, place] = needsOf(
		needsText({ locks: [{ name: 'a' }], concurrency: { key: 'k', max: 3 } }),
	);
	expect([undefined, 0, 5].map((limit) => capacityOf(lock!, limit))).toEqual([1, 0, 5]);
	expect([undefined, 0, 2, 5].map((limit) => capacityOf(place!, limit))).toEqual([3, 0, 2, 3]);
});

test('what is owed passes for nobody behind, unless enough is left', () => {
	const owed = { id: 'b', rank: 10, take: 2, room: 3 };
	expect(passes({ id: 'a', rank: 9, take: 3 }, owed)).toBe(true);
	expect(passes({ id: 'b', rank: 10, take: 2 }, owed)).toBe(true);
	expect(passes({ id: 'c', rank: 11, take: 1 }, owed)).toBe(true);
	expect(passes({ id: 'c', rank: 11, take: 2 }, owed)).toBe(false);
});

test('a job is owed what it waits for after a minute in line, whatever its priority', () => {
	for (const priority of ['critical', 'high', 'normal', 'low'] as const) {
		const head = { rank: rank(1_000, priority), priority };
		expect(isOwed(head, 1_000 + limits.patienceMs - 1)).toBe(false);
		expect(isOwed(head, 1_000 + limits.patienceMs)).toBe(true);
	}
});

test('several slots are a term of the lane: robots with fewer are none of its robots', () => {
	const lane = laneWith('["",{},[]]', { slots: 2 });
	expect(laneRule(lane)).toMatchObject({ slots: 2 });
	expect(laneWith('["",{},[]]', { slots: 1 })).toBe('["",{},[]]');
	expect(laneWith(lane, { slots: 2 })).toBe(lane);
	const robot = { robotId: 'r', labels: {}, capabilities: [], clients: [] };
	expect(misfit(laneRule(lane), { ...robot, slots: 2 })).toBeUndefined();
	expect(misfit(laneRule(lane), { ...robot, slots: 1 })).toEqual({
		obstacle: 'slots',
		text: 'has one slot, and the job takes 2',
	});
});

test('no stretch of its length ever holds more starts than a rate allows, and none is refused without need', () => {
	const gap = fc.integer({ min: 0, max: 40 });
	fc.assert(
		fc.property(
			fc.integer({ min: 1, max: 5 }),
			fc.integer({ min: 1, max: 60 }),
			fc.array(fc.tuple(gap, fc.boolean()), { maxLength: 60 }),
			(max, perMs, steps) => {
				const starts = new Starts();
				starts.keepFor(perMs);
				let now = 0;
				let epoch = 0;
				const all: { epoch: number; at: number }[] = [];
				for (const [ms, unstarted] of steps) {
					now += ms;
					const counted = all.filter(({ at }) => at > now - perMs && at <= now);
					expect(starts.within(perMs, now)).toBe(counted.length);
					const opensAt = starts.opensAt({ max, perMs }, now);
					expect(opensAt > now).toBe(counted.length >= max);
					if (opensAt > now) {
						// Not a millisecond later than it must be.
						const then = (at: number) => all.filter((one) => one.at > at - perMs).length;
						expect(then(opensAt)).toBeLessThan(max);
						expect(then(opensAt - 1)).toBeGreaterThanOrEqual(max);
						continue;
					}
					epoch += 1;
					starts.add(epoch, now);
					all.push({ epoch, at: now });
					if (unstarted) {
						starts.remove(epoch);
						all.pop();
					}
					starts.tidy(now);
				}
			},
		),
		{ numRuns: 500 },
	);
});
