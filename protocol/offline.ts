/** What becomes of a job for one robot while that robot stays away. */

/**
 * - `expire` it ends as a time-out
 * - `other`  any robot that the rest of its target allows may do it
 * - `ask`    it is held with a question, which `POST /jobs/{id}/answer` answers
 */
export const offlineEnds = ['expire', 'other', 'ask'] as const;
export type OfflineEnd = (typeof offlineEnds)[number];

/** How long a job waits for its robot: until an instant, or for a time from when it could start; exactly one of them. */
export interface Offline {
	until?: number;
	forMs?: number;
	/** What happens if its robot is away by then. One that is connected, however busy, is waited for. Default expire. */
	then?: OfflineEnd;
}

/** The same, as stored with the job. */
export interface JobOffline {
	until: number;
	then: OfflineEnd;
	/** It has asked. While `hold` is set, nobody has answered. */
	asked?: true;
}

/** What the event `job.asks` tells. */
export interface JobAsks {
	jobId: string;
	/** The robot the job is for. */
	robotId: string | null;
	text: string;
}

export const holdAnswers = ['wait', 'other', 'expire'] as const;

/** What `POST /jobs/{id}/answer` takes. */
export interface HoldAnswer {
	/** `wait`: for its robot, for ever or until it asks again; the others as in `Offline`. */
	answer: (typeof holdAnswers)[number];
	/** For `wait`: when it asks again; at most one of the two. */
	until?: number;
	forMs?: number;
}
