/** What every kind of job says about itself, without doing anything. */
import type { Problem, Variables } from '../protocol';
import type { TSchema } from 'typebox';
import type { FileWishes } from './files';

export interface Kind<Spec = unknown> {
	readonly name: string;
	readonly summary: string;
	/** Longest run when the job does not say; absent = DEFAULT_JOB_TIMEOUT. */
	readonly runMs?: number;
	/** Shape of `spec`. */
	readonly schema: TSchema;
	/** What it brings along and takes home; absent = such jobs have no files. */
	wishes?(spec: Spec): FileWishes;
	/** The spec with variables in place; absent = as it is. */
	fill?(spec: Spec, variables: Variables): Spec;
	/** What the schema cannot say. Called with a spec that already has the shape. */
	check(spec: Spec, variables: Variables): Problem | undefined;
}
