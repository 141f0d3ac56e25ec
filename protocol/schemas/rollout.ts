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
			'Robots of one batch: a number, or a share of all of them (rounded down, at least one).',
			1,
		),
		canary: Type.Optional(
			Type.Integer({
				description:
					'This many go first, as a batch of their own. If one of them fails, the rollout stops. Default none.',
				minimum: 0,
				maximum: limits.maxChildren,
			}),
		),
		staggerMs: Type.Optional(duration('Time between two starts within a batch. Default 0.')),
		maxFailures: Type.Optional(
			share(
				'It stops when more than this many have failed: a number, or a share of all. Default 0.',
				0,
			),
		),
		pauseBetween: Type.Optional(
			Type.Union([Type.Boolean(), duration('For this long.', 1)], {
				description:
					'Between two batches: wait for a person (true), or for this long. Default false.',
			}),
		),
	},
	{
		...strict,
		description:
			'For a job for several robots: go out batch by batch, and stop when too many fail.',
		examples: [{ batch: '25%', canary: 1, maxFailures: 2 }],
	},
);
true satisfies Same<Static<typeof rollout>, Rollout>;

export const away = Type.Enum([...awayChoices], {
	description:
		'For a job for several robots: those that are away when it starts are waited for (wait, the default), or get no child (skip).',
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
				description: 'For a job for several robots: only those on which it did not complete.',
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
	{
		description:
			'How many there are, in all and in each state; `unknown` counts the failed ones of which nobody can know how far they got',
	},
);

export const rolloutRecord = Type.Object({
	state: Type.Enum([...rolloutStates]),
	batches: Type.Array(whole, { description: 'How many robots each has, in order' }),
	batch: Type.Integer({ description: 'The last batch that was let go; 0 = none yet' }),
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
		description: 'Matching robots that got no child because they were away',
	}),
	items: Type.Array(
		Type.Object({
			cell: Type.String({ description: 'Its place among its siblings: the id of its robot' }),
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
