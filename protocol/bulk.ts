/** What operators do to jobs after they were submitted: change one that waits, many at once, dead letters. */
import type { Target } from './job';
import type { Cause, JobState, Priority } from './states';

/** `PATCH /jobs/{id}`: what is absent stays as it is. */
export interface JobChange {
	priority?: Priority | 0 | 1 | 2 | 3;
	/** True or a reason: the job waits until it is released. False releases it. */
	hold?: boolean | string;
	/** Where it may run instead. Robots that refused it are asked again. */
	target?: Target;
}

/** Which jobs are meant; all that is set must hold. */
export interface JobSelection {
	state?: JobState;
	kind?: string;
	/** Id or name. */
	robot?: string;
	cause?: Cause;
	/** Children of this job. */
	parent?: string;
	shareKey?: string;
	priority?: Priority;
	/** Dead letters with this fingerprint. */
	fingerprint?: string;
	/** Any dead letter. */
	dead?: true;
	createdAfter?: number;
	createdBefore?: number;
}

export const bulkActions = ['cancel', 'retry', 'retarget', 'hold', 'release', 'priority'] as const;
export type BulkAction = (typeof bulkActions)[number];

/**
 * `POST /jobs/bulk`. Without `expect` it is a preview that changes nothing; `expect` is the count that
 * the preview gave, and the call is refused when far more jobs match by now.
 */
export interface BulkRequest {
	action: BulkAction;
	filter: JobSelection;
	/** For retarget, and for retry when the new jobs should go elsewhere. */
	target?: Target;
	/** For priority. */
	priority?: Priority | 0 | 1 | 2 | 3;
	/** For hold: why. */
	reason?: string;
	dryRun?: boolean;
	expect?: number;
	/** Change at most this many jobs in this call. Default and maximum 10,000. */
	limit?: number;
	/** Continue where the previous call ended. */
	cursor?: string;
}

export interface BulkResult {
	dryRun: boolean;
	/** Jobs that the filter finds, including those beyond the limit of this call. */
	matched: number;
	/** In a preview: how many would be changed. */
	changed: number;
	skipped: number;
	/** Why jobs were skipped. */
	reasons: { reason: string; count: number }[];
	/** The first jobs that were changed. */
	jobIds: string[];
	/** New jobs of a retry or replay; the first thousand. */
	retries?: { jobId: string; retryOf: string }[];
	/** Pass it as `cursor` for the jobs beyond the limit; absent when there are none. */
	cursor?: string;
}

/** Dead letters that failed alike. */
export interface DeadLetterGroup {
	fingerprint: string;
	kind: string;
	cause: Cause | null;
	/** That of the newest of them. */
	message: string;
	count: number;
	/** When the first and the last of them ended. */
	firstAt: number;
	lastAt: number;
	/** The newest few. */
	jobIds: string[];
}

/** Which dead letters are meant: exactly one of the three. */
export interface DeadLetterSelection {
	fingerprint?: string;
	jobIds?: string[];
	all?: true;
}

/** `POST /dead-letters/replay`, and without `target` `POST /dead-letters/dismiss`. */
export interface DeadLetterRequest extends DeadLetterSelection {
	/** Where the new jobs may run instead. */
	target?: Target;
	dryRun?: boolean;
	expect?: number;
	limit?: number;
	cursor?: string;
}
