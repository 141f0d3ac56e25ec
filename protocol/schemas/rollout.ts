/** Going out in batches: what is asked, and what is answered. */
import { type Static, Type } from 'typebox';
import { limits } from '../limits';
import {
	type Cells,
	awayChoices,
	type ResumeRequest,
	type RetryRequest,
	type Rollout,
	type RolloutRecord,
	rolloutStates,
} from '../rollout';
import { causes, jobStates } from '../states';
import { duration, nullable, type Same, strict } from './words';

const share = (what: string, least: number) =>
	Type.Union(
		[
			Type.Integer({ minimum: least, maximum: limits.maxChildren }),
			Type.String({
				pattern: least === 0 ? '^(?:100|[1-9]?[0-9])%$' : '^(?:100|[1-9][0-9]?)%$',
				patternText: `must be a whole number, or a share such as ${least === 0 ? '10%' : '25%'}`,
			}),
		],
		{ description: what, examples: ['25%', 10] },
	);

export const rollout = Type.Object(
	{
		batch: share(
			'Robots of one batch: a number, or a share of all of them (rounded down, one at least).',
			1,
		),
		canary: Type.Optional(
			Type.Integer({
				description: 'So many go first and alone; when one of them fails it stops. Default none.',
				minimum: 0,
				maximum: limits.maxChildren,
			}),
		),
		staggerMs: Type.Optional(
			duration('Within a batch each starts so long after the one before. Default 0.'),
		),
		maxFailures: Type.Optional(
			share('It stops when more than so many have failed: a number, or a share. Default 0.', 0),
		),
		pauseBetween: Type.Optional(
			Type.Union([Type.Boolean(), duration('So long.', 1)], {
				description: 'Between two batches: wait for a person (true), or so long. Default false.',
			}),
		),
	},
	{
		...strict,
		description: 'Of a job for several robots: batch by batch, and no further when too many fail.',
		examples: [{ batch: '25%', canary: 1, maxFailures: 2 }],
	},
);
true satisfies Same<Static<typeof rollout>, Rollout>;

export const away = Type.Enum([...awayChoices], {
	description:
		'Of a job for several robots: those that are away when it starts are waited for, or get no child. Default wait.',
});

export const resumeRequest = Type.Object(
	{
		batch: Type.Optional(
			Type.Integer({
				description: 'Only if this batch is the next one: makes the call safe to repeat.',
				minimum: 1,
				maximum: limits.maxChildren,
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof resumeRequest>, ResumeRequest>;

export const retryRequest = Type.Object(
	{
		only: Type.Optional(
			Type.Enum(['failed'], {
				description: 'Of a job for several robots: only those on which it did not complete.',
			}),
		),
	},
	strict,
);
true satisfies Same<Static<typeof retryRequest>, RetryRequest>;

const whole = Type.Integer();
const at = Type.Integer({ description: 'Epoch milliseconds' });

export const children = Type.Object(
	{
		total: whole,
		pending: whole,
		queued: whole,
		dispatched: whole,
		running: whole,
		completed: whole,
		failed: whole,
		timeout: whole,
		cancelled: whole,
		unknown: whole,
	},
	{ description: 'Of a parent; `unknown` counts those of the failed that nobody can judge' },
);

export const rolloutRecord = Type.Object({
	state: Type.Enum([...rolloutStates]),
	batches: Type.Array(whole, { description: 'How many robots each has, in order' }),
	batch: Type.Integer({ description: 'The last one that was let go; 0 = none yet' }),
	maxFailures: whole,
	reason: nullable(Type.String({ description: 'Why it does not go on by itself' })),
});
true satisfies Same<Static<typeof rolloutRecord>, RolloutRecord>;

export const cells = Type.Object({
	jobId: Type.String(),
	state: Type.Enum([...jobStates]),
	progress: whole,
	children,
	rolledOut: nullable(rolloutRecord),
	batches: Type.Array(Type.Object({ batch: whole, children })),
	skipped: Type.Array(Type.Object({ robotId: Type.String(), robot: nullable(Type.String()) }), {
		description: 'Robots that match and got no child because they were away',
	}),
	items: Type.Array(
		Type.Object({
			cell: Type.String({ description: 'What it is among its siblings: the id of its robot' }),
			robot: nullable(Type.String({ description: 'The name of that robot' })),
			jobId: Type.String(),
			state: Type.Enum([...jobStates]),
			cause: nullable(Type.Enum(Object.keys(causes) as (keyof typeof causes)[])),
			exitCode: nullable(whole),
			batch: nullable(whole),
			startedAt: nullable(at),
			endedAt: nullable(at),
		}),
	),
	cursor: Type.Optional(Type.String()),
});
true satisfies Same<Static<typeof cells>, Cells>;
