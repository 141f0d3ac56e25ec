/** What a job says about a robot that stays away, and how its question is answered. */
import { type Static, Type } from 'typebox';
import {
	type HoldAnswer,
	holdAnswers,
	type JobAsks,
	type JobOffline,
	type Offline,
	offlineEnds,
} from '../offline';
import { duration, instant, nullable, type Same, strict } from './words';

export const offline = Type.Object(
	{
		until: Type.Optional(instant('It waits for its robot until then.')),
		forMs: Type.Optional(duration('The same, counted from when it could start.')),
		then: Type.Optional(
			Type.Enum([...offlineEnds], {
				description:
					'What happens if its robot is away by then: expire (default), other (any robot that the rest of the target allows) or ask (held until POST /jobs/{id}/answer).',
			}),
		),
	},
	{
		...strict,
		description:
			'How long a job for one robot waits while that robot is away. Default: as long as timeouts allow.',
		examples: [{ forMs: 7_200_000, then: 'other' }],
	},
);
true satisfies Same<Static<typeof offline>, Offline>;

export const jobOffline = Type.Object({
	until: Type.Integer({ description: 'Epoch milliseconds' }),
	then: Type.Enum([...offlineEnds]),
	asked: Type.Optional(
		Type.Literal(true, { description: 'It has asked; while `hold` is set, nobody has answered' }),
	),
});
true satisfies Same<Static<typeof jobOffline>, JobOffline>;

export const jobAsks = Type.Object({
	jobId: Type.String(),
	robotId: nullable(Type.String()),
	text: Type.String(),
});
true satisfies Same<Static<typeof jobAsks>, JobAsks>;

export const holdAnswer = Type.Object(
	{
		answer: Type.Enum([...holdAnswers], {
			description:
				'wait: for its robot; other: any robot that the rest of its target allows; expire: it ends as a time-out.',
		}),
		until: Type.Optional(instant('For wait: when it asks again. Default: never.')),
		forMs: Type.Optional(duration('The same, counted from now.', 1)),
	},
	strict,
);
true satisfies Same<Static<typeof holdAnswer>, HoldAnswer>;
