/** Bodies and answers about robots that take no jobs. */
import { type Static, Type } from 'typebox';
import {
	type Closed,
	type CloseRequest,
	closings,
	type Quarantine,
	type QuarantineRequest,
	robotActions,
	type RobotClosed,
	type RobotOpened,
	type RobotsBulkRequest,
	type RobotsBulkResult,
} from '../control';
import { limits } from '../limits';
import {
	count,
	duration,
	id,
	instant,
	labels,
	nullable,
	robotName,
	type Same,
	strict,
	word,
} from './words';

const reason = Type.String({
	description: 'Why; shown to whoever asks why jobs wait.',
	minLength: 1,
	maxLength: 1_000,
	pattern: '^[^\\u0000-\\u001f\\u007f]+$',
	patternText: 'must be one line without control characters',
	examples: ['disk swap'],
});

const closeFields = {
	reason: Type.Optional(reason),
	until: Type.Optional(instant('It opens by itself then. Default: when somebody resumes it.')),
	forMs: Type.Optional(duration('The same, counted from now.', 1)),
};

export const closeRequest = Type.Object(closeFields, strict);
true satisfies Same<Static<typeof closeRequest>, CloseRequest>;

export const quarantineRequest = Type.Object({ reason }, strict);
true satisfies Same<Static<typeof quarantineRequest>, QuarantineRequest>;

export const robotsBulkRequest = Type.Object(
	{
		action: Type.Enum([...robotActions]),
		filter: Type.Object(
			{
				robots: Type.Optional(
					Type.Array(robotName('Id or name of a robot'), {
						description: 'Only these.',
						minItems: 1,
						maxItems: limits.maxListLimit,
					}),
				),
				labels: Type.Optional(labels('Labels they carry, exactly.')),
				tags: Type.Optional(
					Type.Array(word('The name of a label', ['gpu']), {
						description: 'Labels they carry, whatever their value.',
						maxItems: 64,
					}),
				),
				group: Type.Optional(id('They are in this group, or in a group inside it.')),
				pool: Type.Optional(id('They are in this pool.')),
			},
			{ ...strict, minProperties: 1, description: 'Which robots; all that is set must hold' },
		),
		...closeFields,
		dryRun: Type.Optional(Type.Boolean({ description: 'Only say what would be changed.' })),
		expect: Type.Optional(count('The count of the preview; refused when far more match by now.')),
	},
	strict,
);
true satisfies Same<Static<typeof robotsBulkRequest>, RobotsBulkRequest>;

export const robotsBulkResult = Type.Object({
	dryRun: Type.Boolean(),
	matched: Type.Integer(),
	changed: Type.Integer(),
	skipped: Type.Integer(),
	robots: Type.Array(Type.String()),
});
true satisfies Same<Static<typeof robotsBulkResult>, RobotsBulkResult>;

const at = Type.Integer({ description: 'Epoch milliseconds' });

export const closed = Type.Object(
	{
		as: Type.Enum([...closings]),
		reason: nullable(Type.String()),
		by: nullable(Type.String()),
		since: nullable(at),
		until: nullable(at),
	},
	{ description: 'A person has closed it: it gets no new jobs' },
);
true satisfies Same<Static<typeof closed>, Closed>;

export const quarantine = Type.Object(
	{
		reason: Type.String(),
		by: Type.String(),
		since: at,
		probes: Type.Integer({ description: 'Probes that failed since' }),
		nextProbeAt: nullable(at),
		lastProbe: nullable(Type.String()),
	},
	{ description: 'It gets no jobs until a probe succeeds, or a person lifts it' },
);
true satisfies Same<Static<typeof quarantine>, Quarantine>;

const closedAs = Type.Enum([...closings, 'quarantine']);

export const robotClosed = Type.Object({
	robotId: Type.String(),
	name: Type.String(),
	as: closedAs,
	reason: nullable(Type.String()),
	by: Type.String(),
	until: nullable(at),
});
true satisfies Same<Static<typeof robotClosed>, RobotClosed>;

export const robotOpened = Type.Object({
	robotId: Type.String(),
	name: Type.String(),
	was: closedAs,
	reason: Type.String(),
	by: Type.String(),
});
true satisfies Same<Static<typeof robotOpened>, RobotOpened>;
