/** Bodies of what operators do to jobs: change one that waits, many at once, dead letters. */
import { type Static, Type } from 'typebox';
import {
	bulkActions,
	type BulkRequest,
	type DeadLetterRequest,
	type JobChange,
	type JobSelection,
} from '../bulk';
import { limits } from '../limits';
import { type Cause, causes, jobStates } from '../states';
import { priority, target } from './submit';
import { count, id, instant, robotName, type Same, shareKey, strict } from './words';

const note = (description: string) =>
	Type.String({
		description,
		minLength: 1,
		maxLength: 1_000,
		pattern: '^[^\\u0000-\\u001f\\u007f]+$',
		patternText: 'must be one line without control characters',
	});

export const jobChange = Type.Object(
	{
		priority: Type.Optional(priority),
		hold: Type.Optional(
			Type.Union([Type.Boolean(), note('Why the job is held.')], {
				description: 'True or a reason: wait until released. False: release.',
				examples: ['licence server is down'],
			}),
		),
		target: Type.Optional(target),
	},
	{ ...strict, minProperties: 1, description: 'What is absent stays as it is' },
);
true satisfies Same<Static<typeof jobChange>, JobChange>;

const fingerprint = Type.String({
	description: 'As GET /dead-letters shows it.',
	pattern: '^[0-9a-f]{16}$',
	patternText: 'must be a fingerprint as GET /dead-letters shows it',
});

/** What both the list of jobs and bulk calls filter by. */
export const selectionFields = {
	state: Type.Optional(Type.Enum([...jobStates], { description: 'Only jobs in this state' })),
	kind: Type.Optional(id('Only jobs of this kind')),
	robot: Type.Optional(robotName('Only jobs of this robot, by id or name')),
	cause: Type.Optional(
		Type.Enum(Object.keys(causes) as Cause[], { description: 'Only jobs with this cause' }),
	),
	parent: Type.Optional(id('Only children of this job')),
	shareKey: Type.Optional(shareKey('Only jobs with this share key')),
	priority: Type.Optional(
		Type.Enum(['critical', 'high', 'normal', 'low'], { description: 'Only jobs of this priority' }),
	),
	fingerprint: Type.Optional(fingerprint),
	createdAfter: Type.Optional(instant('Only jobs submitted then or later.')),
	createdBefore: Type.Optional(instant('Only jobs submitted earlier.')),
};

const selection = Type.Object(
	{
		...selectionFields,
		dead: Type.Optional(Type.Literal(true, { description: 'Only dead letters' })),
	},
	{ ...strict, minProperties: 1, description: 'Which jobs; all that is set must hold' },
);
true satisfies Same<Static<typeof selection>, JobSelection>;

const stretch = {
	dryRun: Type.Optional(Type.Boolean({ description: 'Only say what would be changed.' })),
	expect: Type.Optional(count('The count of the preview; refused when far more match by now.')),
	limit: Type.Optional(
		Type.Integer({
			description: `Change at most this many jobs in this call. Default ${limits.maxBulk}.`,
			minimum: 1,
			maximum: limits.maxBulk,
		}),
	),
	cursor: Type.Optional(
		Type.String({
			description: 'Continue where the previous call ended, as its answer says.',
			minLength: 1,
			maxLength: 4096,
		}),
	),
};

export const bulkRequest = Type.Object(
	{
		action: Type.Enum([...bulkActions]),
		filter: selection,
		target: Type.Optional(target),
		priority: Type.Optional(priority),
		reason: Type.Optional(note('Why the jobs are held.')),
		...stretch,
	},
	strict,
);
true satisfies Same<Static<typeof bulkRequest>, BulkRequest>;

const deadLetterFields = {
	fingerprint: Type.Optional(fingerprint),
	jobIds: Type.Optional(
		Type.Array(id('Id of a job'), { minItems: 1, maxItems: limits.maxSubmitBatch }),
	),
	all: Type.Optional(Type.Literal(true)),
};

export const replayRequest = Type.Object(
	{ ...deadLetterFields, target: Type.Optional(target), ...stretch },
	strict,
);
true satisfies Same<Static<typeof replayRequest>, DeadLetterRequest>;

export const dismissRequest = Type.Object({ ...deadLetterFields, ...stretch }, strict);
true satisfies Same<Static<typeof dismissRequest>, Omit<DeadLetterRequest, 'target'>>;
