/**
 * Turns "this value does not fit that schema" into exactly one clear sentence: the first thing a
 * person would fix. The compiled validator says yes or no, fast; this walker runs only after a no,
 * so it may take its time, but it stops at the first mistake: a hostile body costs one look.
 *
 * It knows the keywords that our schemas use and no others.
 */
import { Compile } from 'typebox/compile';
import type { Static, TSchema } from 'typebox';
import { Problem } from '../problems';

interface Shape {
	type?: string;
	const?: unknown;
	enum?: unknown[];
	anyOf?: Shape[];
	properties?: Record<string, Shape>;
	required?: string[];
	additionalProperties?: boolean | Shape;
	patternProperties?: Record<string, Shape>;
	minProperties?: number;
	maxProperties?: number;
	items?: Shape;
	minItems?: number;
	maxItems?: number;
	minLength?: number;
	maxLength?: number;
	pattern?: string;
	minimum?: number;
	maximum?: number;
	/** What the pattern means, for people. */
	patternText?: string;
}

/** Takes a value or throws the one `Problem` that says what is wrong with it. */
export interface Validator<T> {
	readonly schema: TSchema;
	parse(value: unknown): T;
	/** The same as an answer, for callers that go on after a mistake. */
	mistake(value: unknown, path?: string): Problem | undefined;
}

/** `root` names the whole value in sentences, e.g. `body` or `query`. */
export function validatorOf<S extends TSchema>(schema: S, root = 'body'): Validator<Static<S>> {
	const compiled = Compile(schema);
	const mistake = (value: unknown, path = '') => {
		if (compiled.Check(value)) return undefined;
		return (
			explain(schema as Shape, value, path, root) ??
			new Problem('bad-field', { path: path || root, reason: 'does not have the expected shape' })
		);
	};
	return {
		schema,
		mistake,
		parse(value) {
			const problem = mistake(value);
			if (problem) throw problem;
			return value as Static<S>;
		},
	};
}

/** The first mistake, or `undefined` when this walker sees none. */
export function explain(
	shape: Shape,
	value: unknown,
	path: string,
	root: string,
): Problem | undefined {
	const bad = (reason: string) => new Problem('bad-field', { path: path || root, reason });
	if (shape.anyOf) return explainUnion(shape.anyOf, value, path, root);
	if ('const' in shape) {
		return value === shape.const ? undefined : bad(`must be ${JSON.stringify(shape.const)}`);
	}
	if (shape.enum) {
		return shape.enum.includes(value) ? undefined : bad(`must be ${listOf(shape.enum)}`);
	}
	if (shape.type !== undefined && !hasType(shape.type, value)) {
		return bad(`must be ${nameOf(shape.type)}, not ${describe(value)}`);
	}
	if (typeof value === 'string') return explainText(shape, value, bad);
	if (typeof value === 'number') {
		if (shape.minimum !== undefined && value < shape.minimum) {
			return bad(`must be at least ${shape.minimum}`);
		}
		if (shape.maximum !== undefined && value > shape.maximum) {
			return bad(`must be at most ${shape.maximum}`);
		}
		return undefined;
	}
	if (Array.isArray(value)) return explainItems(shape, value, path, root, bad);
	if (typeof value === 'object' && value !== null) {
		return explainFields(shape, value as Record<string, unknown>, path, root, bad);
	}
	return undefined;
}

/**
 * Speaks about the one member that was meant: the one of the value's own type (an object with a
 * wrong field is still that object). Only when no member has that type are all of them named.
 */
function explainUnion(members: Shape[], value: unknown, path: string, root: string) {
	const meant = members.filter((member) => !('const' in member) && fitsType(member, value));
	const nearest = closest(meant, value);
	if (nearest) return explain(nearest, value, path, root);
	const reason = `must be ${listOf([...new Set(members.flatMap(choicesOf))], String)}`;
	return new Problem('bad-field', { path: path || root, reason });
}

/** Among object shapes the one that knows most of the value's fields, else the only candidate. */
function closest(members: Shape[], value: unknown): Shape | undefined {
	if (members.length < 2) return members[0]?.enum ? undefined : members[0];
	if (typeof value !== 'object' || value === null) return undefined;
	const known = (member: Shape) =>
		Object.keys(value).filter((name) => Object.hasOwn(member.properties ?? {}, name)).length;
	return members.reduce((best, member) => (known(member) > known(best) ? member : best));
}

function explainText(shape: Shape, value: string, bad: (reason: string) => Problem) {
	if (shape.minLength !== undefined && value.length < shape.minLength) {
		return bad(
			shape.minLength === 1
				? 'must not be empty'
				: `must have at least ${shape.minLength} characters`,
		);
	}
	if (shape.maxLength !== undefined && [...value].length > shape.maxLength) {
		return bad(`must have at most ${shape.maxLength} characters`);
	}
	if (shape.pattern !== undefined && !new RegExp(shape.pattern, 'u').test(value)) {
		return bad(shape.patternText ?? `must match ${shape.pattern}`);
	}
	return undefined;
}

function explainItems(
	shape: Shape,
	value: unknown[],
	path: string,
	root: string,
	bad: (reason: string) => Problem,
) {
	if (shape.minItems !== undefined && value.length < shape.minItems) {
		return bad(
			`must have at least ${shape.minItems} ${shape.minItems === 1 ? 'entry' : 'entries'}`,
		);
	}
	if (shape.maxItems !== undefined && value.length > shape.maxItems) {
		return bad(`must have at most ${shape.maxItems} entries, not ${value.length}`);
	}
	if (!shape.items) return undefined;
	for (const [i, entry] of value.entries()) {
		const problem = explain(shape.items, entry, `${path || root}[${i}]`, root);
		if (problem) return problem;
	}
	return undefined;
}

function explainFields(
	shape: Shape,
	value: Record<string, unknown>,
	path: string,
	root: string,
	bad: (reason: string) => Problem,
) {
	const names = Object.getOwnPropertyNames(value);
	const properties = shape.properties ?? {};
	const patterns = Object.entries(shape.patternProperties ?? {}).map(
		([pattern, member]) => [new RegExp(pattern, 'u'), member] as const,
	);
	for (const name of names) {
		const at = path === '' ? shown(name) : `${path}.${shown(name)}`;
		if (Object.hasOwn(properties, name)) continue;
		const match = patterns.find(([pattern]) => pattern.test(name));
		if (match) {
			const problem = explain(match[1], value[name], at, root);
			if (problem) return problem;
		} else if (shape.additionalProperties === false) {
			if (patterns.length > 0) {
				return new Problem('bad-field', {
					path: at,
					reason: shape.patternText ?? 'this name is not allowed here',
				});
			}
			return new Problem('unknown-field', {
				path: at,
				known: Object.keys(properties).join(', ') || '(none)',
			});
		}
	}
	if (shape.minProperties !== undefined && names.length < shape.minProperties) {
		return bad(`must have at least one of ${Object.keys(properties).join(', ')}`);
	}
	if (shape.maxProperties !== undefined && names.length > shape.maxProperties) {
		return bad(`must have at most ${shape.maxProperties} entries`);
	}
	for (const name of shape.required ?? []) {
		if (!Object.hasOwn(value, name)) {
			return new Problem('bad-field', {
				path: path === '' ? name : `${path}.${name}`,
				reason: 'is missing',
			});
		}
	}
	for (const [name, member] of Object.entries(properties)) {
		if (!Object.hasOwn(value, name)) continue;
		const problem = explain(member, value[name], path === '' ? name : `${path}.${name}`, root);
		if (problem) return problem;
	}
	return undefined;
}

function fitsType(shape: Shape, value: unknown): boolean {
	if (shape.enum) return shape.enum.some((entry) => typeof entry === typeof value);
	return shape.type !== undefined && hasType(shape.type, value);
}

function hasType(type: string, value: unknown): boolean {
	switch (type) {
		case 'integer':
			return Number.isInteger(value);
		case 'number':
			return Number.isFinite(value);
		case 'array':
			return Array.isArray(value);
		case 'object':
			return typeof value === 'object' && value !== null && !Array.isArray(value);
		case 'null':
			return value === null;
		default:
			return typeof value === type;
	}
}

function choicesOf(shape: Shape): string[] {
	if ('const' in shape) return [JSON.stringify(shape.const)];
	if (shape.enum) return shape.enum.map((entry) => JSON.stringify(entry));
	if (shape.anyOf) return shape.anyOf.flatMap(choicesOf);
	return [nameOf(shape.type ?? 'something else')];
}

function listOf(values: unknown[], show: (value: unknown) => string = JSON.stringify): string {
	const words = values.map(show);
	if (words.length < 2) return words.join('');
	return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

function nameOf(type: string): string {
	const names: Record<string, string> = {
		object: 'an object',
		array: 'a list',
		integer: 'a whole number',
		number: 'a number',
		string: 'text',
		boolean: 'true or false',
		null: 'null',
	};
	return names[type] ?? type;
}

function describe(value: unknown): string {
	if (value === null) return 'null';
	if (value === undefined) return 'nothing';
	if (Array.isArray(value)) return 'a list';
	if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : String(value);
	return (
		{ object: 'an object', string: 'text', boolean: String(value) }[typeof value as string] ??
		typeof value
	);
}

/** A field name is the sender's text: it may be long or hold anything. */
function shown(name: string): string {
	return /^[\w.-]{1,64}$/.test(name) ? name : JSON.stringify(name.slice(0, 64));
}
