/** Answers to why a job waits, how its robot was chosen, and what would become of one. */
import { type Static, Type } from 'typebox';
import { limits } from '../limits';
import { strategies } from '../placement';
import { jobStates } from '../states';
import { type Choice, type JobPreview, type Obstacle, obstacles, type Why } from '../why';
import { submit } from './submit';
import { count, nullable, type Same, strict } from './words';

const text = Type.String({ description: 'One true sentence.' });
const obstacle = Type.Enum(Object.keys(obstacles) as Obstacle[]);

/** For a job that waits: the robots, a page at a time. */
export const whyQuery = Type.Object(
	{
		robots: Type.Optional(
			Type.Enum(['true', '1', 'matching'], {
				description:
					'Also what keeps each robot from it, one by one; matching = only the robots that match.',
			}),
		),
		limit: Type.Optional(
			Type.Integer({ description: 'Default 100.', minimum: 1, maximum: limits.maxListLimit }),
		),
		cursor: Type.Optional(
			Type.String({ description: 'As the previous page gave it.', minLength: 1, maxLength: 512 }),
		),
	},
	strict,
);

const robots = Type.Object({
	robots: count('All that are enrolled.'),
	matching: count('Robots that have everything the job names.'),
	free: count('Robots that nothing keeps from the job.'),
	obstacles: Type.Array(Type.Object({ obstacle, robots: count('How many.') }), {
		description: 'How many of them each obstacle keeps from it, most first.',
	}),
	items: Type.Array(
		Type.Object({
			robotId: Type.String(),
			name: Type.String(),
			obstacle: nullable(obstacle),
			text: Type.String(),
		}),
	),
	cursor: Type.Optional(Type.String()),
});

const candidate = Type.Object({
	robotId: Type.String(),
	name: Type.String(),
	load: count('Percent of its slots in use.'),
	cpu: count('Percent of its processor, in steps of ten.'),
	preference: Type.Optional(Type.Integer({ description: 'What it was worth by prefer.' })),
	successes: Type.Optional(count('How many jobs of the affinity key had gone well there.')),
});

export const choice = Type.Object({
	text,
	strategy: Type.Enum([...strategies]),
	by: Type.Enum(['job', 'slot'], {
		description:
			'Whether robots were free for the job, or a slot came free for which it was first in line.',
	}),
	matching: count('Robots that had everything the job names, connected or not.'),
	compared: count('Those of them that were free and were compared.'),
	winner: candidate,
	others: Type.Array(candidate),
});
true satisfies Same<Static<typeof choice>, Choice>;

export const why = Type.Object({
	text,
	robots: Type.Optional(robots),
	choice: Type.Optional(choice),
});
true satisfies Same<Static<typeof why>, Why>;

export const jobPreview = Type.Object({
	accepted: Type.Boolean({ description: 'Whether a submit would be taken as it is.' }),
	text,
	state: nullable(Type.Enum([...jobStates])),
	picked: Type.Array(Type.Object({ robotId: Type.String(), name: Type.String() }), {
		description: 'Robots that would get it at this moment.',
	}),
	robots: nullable(robots),
	clashes: Type.Array(
		Type.Object({ code: Type.String(), text: Type.String(), refused: Type.Boolean() }),
	),
	job: nullable(submit),
});
true satisfies Same<Static<typeof jobPreview>, JobPreview>;
