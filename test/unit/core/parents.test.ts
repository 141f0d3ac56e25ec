/** The pure rules of parents: who gets a child, how they stand, how it ends. */
import fc from 'fast-check';
import { chooseRobots, fanOutOf } from '../../../dispatcher/core/fan-out';
import {
	childrenOf,
	endingOf,
	openOf,
	parentEndings,
	progressOf,
	tellChildren,
} from '../../../dispatcher/core/parents';
import { canMove, finalStates, isFinal, jobStates } from '../../../protocol';

const candidates = fc.uniqueArray(
	fc.record({
		robotId: fc.uuid(),
		open: fc.boolean(),
		free: fc.integer({ min: -1, max: 4 }),
		load: fc.double({ min: 0, max: 1.5, noNaN: true }),
	}),
	{ selector: ({ robotId }) => robotId, maxLength: 20 },
);
const counted = fc.record(
	Object.fromEntries([...jobStates, 'unknown' as const].map((state) => [state, fc.nat(5)])),
	{ requiredKeys: [] },
);

test('only all and a count make a parent', () => {
	expect(fanOutOf({})).toBeUndefined();
	expect(fanOutOf({ mode: 'one' })).toBeUndefined();
	expect(fanOutOf({ mode: 'all' })).toBe('all');
	expect(fanOutOf({ mode: { count: 1 } })).toEqual({ count: 1 });
});

test('all are all that match, each once, and none is too few', () => {
	fc.assert(
		fc.property(candidates, (robots) => {
			const chosen = chooseRobots('all', robots);
			if (robots.length === 0) expect(chosen).toBeUndefined();
			else
				expect(chosen!.robots.toSorted()).toEqual(robots.map(({ robotId }) => robotId).toSorted());
		}),
	);
});

test('a count is met exactly or not at all, and nobody left out was a better choice', () => {
	const distance = ({ open, free }: { open: boolean; free: number }) =>
		open ? (free > 0 ? 0 : 1) : 2;
	fc.assert(
		fc.property(candidates, fc.integer({ min: 1, max: 20 }), (robots, count) => {
			const chosen = chooseRobots({ count }, robots)?.robots;
			if (robots.length < count) {
				expect(chosen).toBeUndefined();
				return;
			}
			expect(new Set(chosen).size).toBe(count);
			const taken = robots.filter(({ robotId }) => chosen!.includes(robotId));
			const left = robots.filter(({ robotId }) => !chosen!.includes(robotId));
			for (const a of taken) {
				for (const b of left) {
					expect(distance(a)).toBeLessThanOrEqual(distance(b));
					if (distance(a) === distance(b)) expect(a.load).toBeLessThanOrEqual(b.load);
				}
			}
		}),
	);
});

test('robots that are equally good are taken in the order given: longest unused first', () => {
	const equal = (robotId: string) => ({ robotId, open: true, free: 1, load: 0 });
	expect(chooseRobots({ count: 2 }, ['c', 'a', 'b'].map(equal))).toEqual({
		robots: ['c', 'a'],
		skipped: [],
	});
});

test('one of each part is the best of that part, and each robot stands for one part only', () => {
	const parted = candidates.chain((robots) =>
		fc
			.array(fc.subarray(['x', 'y', 'z']), { minLength: robots.length, maxLength: robots.length })
			.map((parts) => robots.map((robot, i) => ({ ...robot, parts: parts[i]! }))),
	);
	const distance = ({ open, free }: { open: boolean; free: number }) =>
		open ? (free > 0 ? 0 : 1) : 2;
	fc.assert(
		fc.property(parted, (robots) => {
			const chosen = chooseRobots({ perLabel: 'site' }, robots);
			const inParts = robots.filter(({ parts }) => parts.length > 0);
			if (inParts.length === 0) return expect(chosen).toBeUndefined();
			const taken = inParts.filter(({ robotId }) => chosen!.robots.includes(robotId));
			expect(taken).toHaveLength(chosen!.robots.length);
			const parts = new Set(inParts.flatMap((robot) => robot.parts));
			expect(taken.length).toBeLessThanOrEqual(parts.size);
			for (const part of parts) {
				const there = inParts.filter((robot) => robot.parts.includes(part));
				const best = Math.min(...there.map(distance));
				const some = taken.filter((robot) => robot.parts.includes(part));
				// Or else all that are in it stand for other parts.
				expect(some.length > 0).toBe(true);
				expect(Math.min(...some.map(distance))).toBe(best);
			}
		}),
	);
});

test('those that are away are left out on wish, and named when they would have been chosen', () => {
	fc.assert(
		fc.property(
			candidates,
			fc.constantFrom('all' as const, { count: 2 }, { robots: ['none'] }),
			fc.infiniteStream(fc.boolean()),
			(found, mode, away) => {
				const robots = found.map((robot) => ({ ...robot, away: away.next().value as boolean }));
				const named = typeof mode === 'object' && 'robots' in mode;
				const asked = named ? { robots: robots.slice(0, 3).map(({ robotId }) => robotId) } : mode;
				const chosen = chooseRobots(asked, robots, 'skip');
				const here = new Set(robots.filter((robot) => !robot.away).map(({ robotId }) => robotId));
				for (const robotId of chosen?.robots ?? []) expect(here.has(robotId)).toBe(true);
				for (const robotId of chosen?.skipped ?? []) expect(here.has(robotId)).toBe(false);
				if (!chosen) return;
				const waited = chooseRobots(asked, robots)!.robots;
				if (mode === 'all' || named) {
					expect([...chosen.robots, ...chosen.skipped].toSorted()).toEqual(waited.toSorted());
				} else expect(chosen.robots).toHaveLength(2);
			},
		),
	);
});

test('the numbers add up, and a hundred per cent is said only of all', () => {
	fc.assert(
		fc.property(counted, (numbers) => {
			const children = childrenOf(numbers);
			expect(children.total).toBe(
				Object.values(numbers).reduce<number>((sum, n) => sum + (n ?? 0), 0),
			);
			expect(children.failed).toBe((numbers.failed ?? 0) + (numbers.unknown ?? 0));
			const ended = finalStates.reduce((sum, state) => sum + children[state], 0);
			expect(openOf(children)).toBe(children.total - ended);
			const progress = progressOf(children);
			expect(progress).toBeGreaterThanOrEqual(0);
			expect(progress === 100).toBe(children.total > 0 && openOf(children) === 0);
		}),
	);
});

test('a parent ends by one rule: all completed, else cancelled when somebody wished so, else failed', () => {
	fc.assert(
		fc.property(counted, fc.boolean(), (numbers, cancelled) => {
			const children = childrenOf(numbers);
			const ending = endingOf(parentEndings, children, cancelled);
			expect(isFinal(ending.to) && canMove('running', ending.to)).toBe(true);
			const all = children.completed === children.total;
			expect(ending.to).toBe(all ? 'completed' : cancelled ? 'cancelled' : 'failed');
			expect(ending.cause).toBe(all ? null : cancelled ? 'cancelled' : 'dependency');
			if (all) expect(ending.error).toBeNull();
			else {
				expect(ending.error!.type).toBe(ending.cause);
				expect(ending.error!.message).toContain(tellChildren(children));
			}
		}),
	);
});

test('children are told in the order of a life, without those that there are not', () => {
	const children = childrenOf({ completed: 3, failed: 1, unknown: 2, queued: 4 });
	expect(tellChildren(children)).toBe('4 queued, 3 completed, 1 failed, 2 unknown');
	expect(tellChildren(children, ['queued', 'running'])).toBe('4 queued');
});
