/** Groups that lie in one another, and pools. */
import { around, groupsByRobot, isInPool } from '../../../dispatcher/core/areas';

const groups = new Map(
	(
		[
			['site', null, []],
			['hall', 'site', ['a']],
			['bench', 'hall', ['b']],
			['night', null, ['b']],
			['x', 'y', ['c']],
			['y', 'x', []],
		] as const
	).map(([name, parent, robots]) => [name, { name, parent, robots: new Set<string>(robots) }]),
);

test('who is in a group is in every group around it, and rings end', () => {
	expect(Object.fromEntries(groupsByRobot(groups))).toEqual({
		a: ['hall', 'site'],
		b: ['bench', 'hall', 'night', 'site'],
		c: ['x', 'y'],
	});
	expect(around('nobody', groups)).toEqual([]);
});

test('in a pool are the robots with all of its terms', () => {
	const pool = { name: 'p', labels: { os: 'linux' }, tags: ['gpu'], group: 'site', maxJobs: null };
	const robot = { labels: { os: 'linux', gpu: '' }, groups: ['site'] };
	expect(isInPool(pool, robot)).toBe(true);
	expect(isInPool(pool, { ...robot, groups: [] })).toBe(false);
	expect(isInPool(pool, { ...robot, labels: { os: 'linux' } })).toBe(false);
	expect(isInPool(pool, { ...robot, labels: { os: 'mac', gpu: '' } })).toBe(false);
	expect(isInPool({ ...pool, labels: {}, tags: [], group: null }, robot)).toBe(true);
});
