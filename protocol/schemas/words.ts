/**
 * The small shapes that all other schemas are made of: ids, names, instants, durations, maps.
 * Lengths come from limits; alphabets are fixed, so that an id is safe in a path, a log line and a
 * shell, and no key of a map can be `__proto__`.
 */
import { Type, type TSchema } from 'typebox';
import { limits } from '../limits';

/** Fails to compile unless both types are the same. */
export type Same<A, B> =
	(<T>() => T extends Flat<A> ? 1 : 2) extends <T>() => T extends Flat<B> ? 1 : 2 ? true : never;
/** Intersections and mapped types shown as one plain object, all the way down. */
type Flat<T> = T extends readonly (infer E)[]
	? Flat<E>[]
	: T extends object
		? { [K in keyof T]: Flat<T[K]> }
		: T;

export const strict = { additionalProperties: false } as const;

export const id = (description: string) =>
	Type.String({
		description,
		minLength: 1,
		maxLength: limits.maxIdBytes,
		pattern: '^[A-Za-z0-9._:@-]+$',
		patternText: 'may hold letters, digits and . _ : @ - only',
	});

export const name = (description: string, examples: string[] = []) =>
	Type.String({
		description,
		examples,
		minLength: 1,
		maxLength: limits.maxIdBytes,
		pattern: '^[^\\u0000-\\u001f\\u007f]+$',
		patternText: 'must not hold control characters',
	});

/** A robot is named like a host: its name appears in paths, tables and log lines. */
export const robotName = (description: string) =>
	Type.String({
		description,
		examples: ['build-01'],
		minLength: 1,
		maxLength: 128,
		pattern: '^[A-Za-z0-9][A-Za-z0-9 ._:@-]*$',
		patternText:
			'may hold letters, digits, spaces and . _ : @ - only, and starts with a letter or digit',
	});

export const word = (description: string, examples: string[] = []) =>
	Type.String({
		description,
		examples,
		minLength: 1,
		maxLength: limits.maxIdBytes,
		pattern: '^[A-Za-z0-9][A-Za-z0-9._:/@=-]*$',
		patternText:
			'may hold letters, digits and . _ : / @ = - only, and starts with a letter or digit',
	});

/** A client of a robot: its name appears in tables, sentences and an environment variable. */
export const clientName = (description: string) =>
	Type.String({
		description,
		examples: ['emulator-5554'],
		minLength: 1,
		maxLength: 128,
		pattern: '^[A-Za-z0-9][A-Za-z0-9 ._:/@=+-]*$',
		patternText:
			'may hold letters, digits, spaces and . _ : / @ = + - only, and starts with a letter or digit',
	});

export const shareKey = (description: string) => name(description, ['team-a']);

/** The end of the year 9999: no calendar goes further, and no later ISO date has a year of four digits. */
export const instant = (description: string) =>
	Type.Integer({
		description: `${description} Epoch milliseconds.`,
		minimum: 0,
		maximum: Date.UTC(10_000, 0) - 1,
	});

/** 366 days: anything longer is a mistake in units. */
export const duration = (description: string, minimum = 0) =>
	Type.Integer({ description: `${description} Milliseconds.`, minimum, maximum: 31_622_400_000 });

export const count = (description: string) => Type.Integer({ description, minimum: 0 });

export const labels = (description: string) =>
	Type.Record(
		Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$' }),
		Type.String({ maxLength: limits.maxIdBytes }),
		{
			description,
			examples: [{ os: 'linux' }],
			maxProperties: 64,
			additionalProperties: false,
			patternText:
				'a label name may hold letters, digits and . _ / - only (at most 128), and starts with a letter or digit',
		},
	);

export const nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);
