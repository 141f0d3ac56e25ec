/**
 * The live socket, for dashboards and command lines: `GET /api/v1/live`. Whoever opens it proves a key in the
 * Authorization header, or in the first message; never in the URL.
 *
 *   {type: 'auth', key}                          first, where there was no header → {type: 'ready'}
 *   {type: 'subscribe', channel, since?}         → a snapshot, or (since) what happened after that seq; then events
 *   {type: 'unsubscribe', channel}               → {type: 'unsubscribed', channel}
 *   {type: 'ping'}                               → {type: 'pong'}
 *   ← {channel, event, seq, data}                seq only rises, also across restarts of the service
 *   ← {type: 'error', error, channel?}           what was asked for is refused; the socket stays open
 *
 * An event says everything that changed: apply `data` over what is known of its `jobId` or `robotId`. It is a hint
 * that may be a moment older than the snapshot before it; the last one is true. A waiting job too old for the snapshot
 * is sent whole when it is given to a robot; before that, a change may be all that is known of it. Nothing is sent
 * when jobs are forgotten.
 *
 * Each message and each handshake counts as a call of its key. A snapshot goes as fast as it is read; a viewer that does
 * not read events fast enough is cut off (4008), and comes back with `since`.
 */
import type { Job, Robot } from './job';

/** `robots:{org}`, `jobs:{org}`, `progress:{job}`. */
export type LiveChannel = `robots:${string}` | `jobs:${string}` | `progress:${string}`;
/** There is one organisation. */
export const defaultOrg = 'default';

export type LiveAsk =
	| { type: 'auth'; key: string }
	| { type: 'subscribe'; channel: string; since?: number }
	| { type: 'unsubscribe'; channel: string }
	| { type: 'ping' };

/** What lists show of a job. */
export type LiveJob = Pick<
	Job,
	| 'jobId'
	| 'kind'
	| 'state'
	| 'cause'
	| 'attempt'
	| 'robotId'
	| 'client'
	| 'priority'
	| 'progress'
	| 'message'
	| 'waitingFor'
	| 'createdAt'
	| 'startedAt'
	| 'endedAt'
	| 'cancelRequestedAt'
	| 'parentId'
	| 'hold'
	| 'createdBy'
>;

/** What lists show of a robot. */
export type LiveRobot = Pick<
	Robot,
	| 'robotId'
	| 'name'
	| 'status'
	| 'connected'
	| 'closed'
	| 'quarantine'
	| 'labels'
	| 'capabilities'
	| 'slots'
	| 'held'
	| 'currentJobs'
	| 'lastSeenAt'
	| 'metrics'
	| 'health'
	| 'agentVersion'
	| 'transport'
>;

/** All jobs: those that wait, and those that are with robots. */
export interface LiveCounts {
	waiting: number;
	running: number;
}

/**
 * One message about a channel. A snapshot comes in pieces with one `seq`: `more` until the last, which has the `counts` on the
 * channel of jobs.
 */
export type LiveMessage =
	| {
			channel: LiveChannel;
			event: 'snapshot';
			seq: number;
			data: { items: (LiveJob | LiveRobot)[]; more: boolean; counts?: LiveCounts };
	  }
	| { channel: LiveChannel; event: 'jobs.counted'; seq: number; data: LiveCounts }
	| {
			channel: LiveChannel;
			event:
				| 'job.submitted'
				| 'job.moved'
				| 'job.changed'
				| 'job.progress'
				| 'job.prompt'
				| 'robot.changed'
				| 'robot.removed';
			seq: number;
			data: (Partial<LiveJob> & { jobId: string }) | (Partial<LiveRobot> & { robotId: string });
	  };

export const liveLimits = {
	/** Events of a channel that are kept for those who come back. */
	history: 1_000,
	/** How long a channel that nobody follows is kept. */
	keepMs: 60_000,
	/** Open sockets, and those of them that have not proved a key. */
	viewers: 200,
	strangers: 32,
	/** Open sockets of one key, so that it cannot shut out all others. */
	viewersOfKey: 100,
	/** Channels of one viewer. */
	channels: 50,
	maxMessageBytes: 16 * 1024,
	/** What a viewer may have unread before it is cut off. */
	maxUnsentBytes: 8 * 1024 * 1024,
	/** With more than this unread it gets no further piece of a snapshot. */
	pieceUnsentBytes: 1024 * 1024,
	/** How long a viewer that is turned out has to read why. */
	partMs: 2_000,
	/** The newest jobs that a snapshot shows, besides those that are with robots. */
	newest: 200,
	/** Items of one piece of a snapshot. */
	piece: 500,
	pingMs: 15_000,
} as const;

/** Close codes of the live socket. */
export const liveCloseCodes = {
	badKey: 4001,
	tooSlow: 4008,
	tooMany: 1013,
	stopping: 1001,
} as const;
