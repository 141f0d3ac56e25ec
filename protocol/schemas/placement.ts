/** Bodies and answers of the calls about groups and pools. */
import { type Static, Type } from 'typebox';
import { limits } from '../limits';
import type { Group, GroupRequest, Pool, PoolRequest } from '../placement';
import { id, instant, labels, nullable, robotName, type Same, strict, word } from './words';

export const groupRequest = Type.Object(
	{
		parent: Type.Optional(
			id('The group that contains it: robots in this one are in that one too.'),
		),
		robots: Type.Optional(
			Type.Array(robotName('Id or name of one robot'), {
				description: 'Its own robots.',
				maxItems: limits.maxChildren,
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof groupRequest>, GroupRequest>;

export const poolRequest = Type.Object(
	{
		labels: Type.Optional(labels('Labels its robots carry, exactly.')),
		tags: Type.Optional(
			Type.Array(word('The name of a label', ['gpu']), {
				description: 'Labels its robots carry, whatever their value.',
				maxItems: 64,
			}),
		),
		group: Type.Optional(id('The group its robots are in.')),
		maxJobs: Type.Optional(
			Type.Integer({
				description: 'How many jobs may hold slots of its robots, all together. Default: no limit.',
				minimum: 0,
				maximum: 1_000_000,
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof poolRequest>, PoolRequest>;

const names = Type.Array(Type.String());

export const group = Type.Object({
	name: Type.String(),
	parent: nullable(Type.String()),
	groups: names,
	robots: names,
	allRobots: names,
	updatedAt: instant('When it was last changed.'),
});
true satisfies Same<Static<typeof group>, Group>;

export const pool = Type.Object({
	name: Type.String(),
	labels: Type.Record(Type.String(), Type.String()),
	tags: names,
	group: nullable(Type.String()),
	maxJobs: nullable(Type.Integer()),
	jobs: Type.Integer(),
	robots: names,
	updatedAt: instant('When it was last changed.'),
});
true satisfies Same<Static<typeof pool>, Pool>;
