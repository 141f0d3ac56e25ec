/** What every kind of job says about itself, without doing anything. */
import type { Problem, Variables } from '../protocol';
import type { TSchema } from 'typebox';

export interface Kind<Spec = unknown> {
	readonly name: string;
	readonly summary: string;
	/** Longest run when the job does not say; absent = DEFAULT_JOB_TIMEOUT. */
	readonly runMs?: number;
	/** Shape of `spec`. */
	readonly schema: TSchema;
	/** What the schema cannot say. Called with a spec that already has the shape. */
	check(spec: Spec, variables: Variables): Problem | undefined;
}
