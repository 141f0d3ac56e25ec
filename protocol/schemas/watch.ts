/** What a job says about how it is judged from outside. */
import { type Static, Type } from 'typebox';
import { commandClassNames, type Watch } from '../watch';
import { duration, type Same, strict } from './words';

export const watch = Type.Object(
	{
		class: Type.Optional(
			Type.Enum([...commandClassNames], {
				description: 'Judge it as a command of this class, whatever its name.',
			}),
		),
		noOutputMs: Type.Optional(
			duration(
				'Silent for longer is reported as overdue. Default by class; without one: never.',
				1_000,
			),
		),
		totalMs: Type.Optional(
			duration(
				'Running for longer is reported as overdue. Default by class; without one: never.',
				1_000,
			),
		),
		idleMs: Type.Optional(
			duration('Silent and at rest for longer counts as hanging. Default 30,000.', 1_000),
		),
	},
	{
		...strict,
		description:
			'What is normal for this job, where the class of its command says otherwise. It only changes what is reported, and what onHang takes for hanging; the limits that end a job are its timeouts.',
		examples: [{ class: 'compile', noOutputMs: 600_000 }],
	},
);
true satisfies Same<Static<typeof watch>, Watch>;
