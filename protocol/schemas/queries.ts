/**
 * Query strings. They arrive as text, so numbers are read from digits before the schema looks:
 * `readQuery` is the one place that does it.
 */
import { type Static, type TSchema, Type } from 'typebox';
import { limits } from '../limits';
import { Problem } from '../problems';
import { selectionFields } from './bulk';
import { type Validator, validatorOf } from './explain';
import { clientName, count, robotName, strict } from './words';

/** Larger values are accepted and shortened: a caller willing to wait longer loses nothing. */
const waitMs = Type.Optional(
	Type.Integer({
		description: `How long to wait for it to end; one call waits at most ${limits.maxWaitMs}. Milliseconds.`,
		minimum: 0,
		examples: [30_000],
	}),
);

const names = Type.Optional(
	Type.Enum(['seed'], { description: 'seed = snake_case names and ISO-8601 instants.' }),
);

export const noQuery = Type.Object({}, strict);

export const jobQuery = Type.Object({ waitMs, names }, strict);

export const namesQuery = Type.Object({ names }, strict);

const pageFields = {
	limit: Type.Optional(
		Type.Integer({ description: 'Default 100.', minimum: 1, maximum: limits.maxListLimit }),
	),
	cursor: Type.Optional(
		Type.String({ description: 'As the previous page gave it.', minLength: 1, maxLength: 512 }),
	),
};

export const jobsQuery = Type.Object(
	{
		...selectionFields,
		dead: Type.Optional(Type.Enum(['true'], { description: 'Only dead letters' })),
		...pageFields,
		names,
	},
	strict,
);

const stream = Type.Optional(
	Type.Enum(['stdout', 'stderr'], {
		description: 'Default stdout for bytes, both for an event stream.',
	}),
);

/** One page of a list. */
export const pageQuery = Type.Object(pageFields, strict);

export const outputQuery = Type.Object(
	{
		stream,
		from: Type.Optional(count('First byte wanted. Default 0.')),
		holes: Type.Optional(
			Type.Enum(['mark', 'omit'], {
				description:
					'Where bytes are missing, mark (default) puts a line that says so into plain bytes; omit does not, so that the answer has the digest of the result.',
			}),
		),
	},
	strict,
);

export const peekQuery = Type.Object(
	{ robot: Type.Optional(robotName('Id or name of a robot')) },
	strict,
);

export const waitQuery = Type.Object({ waitMs }, strict);

export const waitsQuery = Type.Object(
	{
		state: Type.Optional(
			Type.Enum(['open', 'due', 'closed', 'dead'], { description: 'Only waits in this state.' }),
		),
		...pageFields,
	},
	strict,
);

export const eventsQuery = Type.Object(
	{
		epoch: count('The epoch that PUT answered'),
		waitMs,
		after: Type.Optional(
			count('Only events after this cursor; reads on without an acknowledgement.'),
		),
	},
	strict,
);

export const facadeQuery = Type.Object(
	{
		host_name: Type.Optional(robotName('Id or name of the robot')),
		device_id: Type.Optional(clientName('Name of a client of the robot')),
	},
	strict,
);

/** Reads a query: text becomes the number its schema asks for, then the schema decides. */
export function queryReader<S extends TSchema>(schema: S): (query: unknown) => Static<S> {
	const validator: Validator<Static<S>> = validatorOf(schema, 'query');
	const properties =
		(schema as { properties?: Record<string, { type?: string }> }).properties ?? {};
	return (query) => {
		const values: Record<string, unknown> = {};
		for (const [name, text] of Object.entries(query as Record<string, unknown>)) {
			if (Array.isArray(text)) {
				throw new Problem('bad-field', {
					path: name.slice(0, 64),
					reason: 'is given more than once',
				});
			}
			const numeric =
				Object.hasOwn(properties, name) &&
				properties[name]!.type === 'integer' &&
				/^-?\d{1,16}$/.test(String(text));
			Object.defineProperty(values, name, {
				value: numeric ? Number(text) : text,
				enumerable: true,
			});
		}
		return validator.parse(values);
	};
}
