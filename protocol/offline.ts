/** What becomes of a job that is for one robot while that robot stays away. */

/**
 * - `expire` it ends as a time-out
 * - `other`  any robot may do it that the rest of its target allows
 * - `ask`    it is held with a question, which `POST /jobs/{id}/answer` answers
 */
export const offlineEnds = ['expire', 'other', 'ask'] as const;
export type OfflineEnd = (typeof offlineEnds)[number];

/** The job waits for its robot until then, or for so long from when it could start; exactly one of the two. */
export interface Offline {
	until?: number;
	forMs?: number;
	/** When its robot is away by then. One that is there, however busy, is waited for. Default expire. */
	then?: OfflineEnd;
}

/** The same as the job has it. */
export interface JobOffline {
	until: number;
	then: OfflineEnd;
	/** It has asked. While `hold` is set nobody has answered. */
	asked?: true;
}

/** What the event `job.asks` tells. */
export interface JobAsks {
	jobId: string;
	/** The one it is for. */
	robotId: string | null;
	text: string;
}

export const holdAnswers = ['wait', 'other', 'expire'] as const;

/** What `POST /jobs/{id}/answer` takes. */
export interface HoldAnswer {
	/** `wait`: for its robot, without an end or until it asks again; the others as in `Offline`. */
	answer: (typeof holdAnswers)[number];
	/** Of `wait`: when it asks again; at most one of the two. */
	until?: number;
	forMs?: number;
}
