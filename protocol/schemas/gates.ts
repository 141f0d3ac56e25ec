/** What a job takes besides a robot, and the calls about locks and limits. */
import { type Static, Type } from 'typebox';
import {
	type GateRecord,
	gateKinds,
	type LimitRecord,
	type LimitRequest,
	maxLimit,
	maxLocks,
	maxRateMs,
	maxRateStarts,
	maxSlots,
	type Takes,
} from '../gates';
import { id, instant, name, nullable, type Same, strict } from './words';

const key = (description: string) => name(description, ['crm-api']);

/** Fields of a submit. */
export const takes = {
	locks: Type.Optional(
		Type.Array(
			Type.Object(
				{
					name: id('Which lock.'),
					slots: Type.Optional(
						Type.Integer({
							description: 'How many of its slots, where it has several. Default 1.',
							minimum: 1,
							maximum: maxLimit,
						}),
					),
				},
				strict,
			),
			{
				description:
					'Locks that the job holds while it runs; alone, unless a limit says otherwise.',
				maxItems: maxLocks,
				examples: [[{ name: 'db-prod' }]],
			},
		),
	),
	concurrency: Type.Optional(
		Type.Object(
			{
				key: key('What these jobs have in common.'),
				max: Type.Integer({
					description: 'At most this many of them run at once.',
					minimum: 1,
					maximum: maxLimit,
				}),
			},
			{ ...strict, description: 'How many jobs of a key run at once, over the whole fleet.' },
		),
	),
	rate: Type.Optional(
		Type.Object(
			{
				key: key('What these jobs have in common.'),
				max: Type.Integer({
					description: 'At most this many starts …',
					minimum: 1,
					maximum: maxRateStarts,
				}),
				perMs: Type.Integer({
					description: '… within any stretch of this length. Milliseconds.',
					minimum: 1,
					maximum: maxRateMs,
				}),
			},
			{ ...strict, description: 'How many jobs of a key start within a given time.' },
		),
	),
	slots: Type.Optional(
		Type.Integer({
			description: 'Slots of its robot that it takes. Default 1.',
			minimum: 1,
			maximum: maxSlots,
		}),
	),
};
const _takes = Type.Object(takes);
true satisfies Same<Static<typeof _takes>, Takes>;

export const limitRequest = Type.Object(
	{
		max: Type.Integer({
			description:
				'How much a lock of this name has, and how many jobs of a key of this name may run; 0 = nobody gets through.',
			minimum: 0,
			maximum: maxLimit,
		}),
	},
	strict,
);
true satisfies Same<Static<typeof limitRequest>, LimitRequest>;

const text = Type.String();
const whole = Type.Integer();

export const limit = Type.Object({
	name: text,
	max: whole,
	updatedAt: instant('When it was last set.'),
});
true satisfies Same<Static<typeof limit>, LimitRecord>;

export const gate = Type.Object({
	of: Type.Enum([...gateKinds]),
	name: text,
	max: nullable(whole),
	limit: nullable(whole),
	used: whole,
	holders: Type.Array(
		Type.Object({
			jobId: text,
			robot: text,
			slots: whole,
			since: instant('When the job was given to the robot.'),
		}),
	),
	waiting: whole,
	next: Type.Array(
		Type.Object({ jobId: text, slots: whole, since: instant('When it got in line.') }),
	),
	opensAt: nullable(instant('When a rate lets the next one through.')),
});
true satisfies Same<Static<typeof gate>, GateRecord>;
