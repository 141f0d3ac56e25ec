/** Bodies of the calls that are not about one job: waits, schedules, subscriptions, tokens, keys. */
import type { Job, WaitingFor } from './job';
import type { Scope } from './api';
import type { RobotClosed, RobotOpened } from './control';
import type { EventFilter, JobEndedEvent, RobotPresenceEvent, ScheduleGoneEvent } from './events';
import type { JobAsks } from './offline';
import type { ScheduleDue, ScheduleTurn } from './schedules';
import type { Cause, FinalState } from './states';

/** Registers a parked n8n execution: the service pokes `resumeUrl`, the node pulls the outcome. */
export interface WaitRequest {
	jobIds: string[];
	/** How many of the jobs to wait for. Default all. */
	until?: 'all' | 'any' | { count: number };
	/**
	 * Which of them count: all that have ended, however they did (default), or only those that completed. Then the wait
	 * is also over once that many can no longer complete.
	 */
	counts?: WaitCounts;
	/** True = a job for several robots counts once for each of them. Default false: once. */
	eachRobot?: boolean;
	/** True = jobs still open once that is decided are cancelled; not when only the time is over. Default false. */
	cancelRest?: boolean;
	/**
	 * True = open jobs are cancelled if the execution is stopped or deleted while it is parked; the service asks n8n
	 * every few minutes. Default false.
	 */
	cancelOnStop?: boolean;
	/**
	 * A secret of n8n's own, for where the service cannot reach n8n: pokes are then not posted but handed to whoever
	 * knows the secret (`POST /collect`).
	 */
	collector?: string;
	/** When the wait ends with `timedOut`, whatever the jobs do. */
	deadlineAt?: number;
	/** The same, counted from when the service registers it: for callers whose clock may differ. The earlier counts. */
	limitMs?: number;
	/** Where to POST the poke; absent = a wait that is only polled. */
	resumeUrl?: string;
	executionId?: string;
	nodeId?: string;
}

export const waitCounts = ['ended', 'completed'] as const;
export type WaitCounts = (typeof waitCounts)[number];

/**
 * open → due (condition met or time over; being delivered) → closed (taken)
 *                                                          → dead (nobody takes it)
 */
export type WaitState = 'open' | 'due' | 'closed' | 'dead';

/** What became of a job, without what it was to do: for a thousand jobs that may be 64 MiB and more. */
export type WaitedJob = Omit<Job, 'spec' | 'variables'>;

export interface Wait {
	waitId: string;
	state: WaitState;
	timedOut: boolean;
	/** As many jobs as asked for have ended, or completed. */
	met: boolean;
	until: 'all' | 'any' | { count: number };
	counts: WaitCounts;
	/** As asked for: jobs still open once that is decided are cancelled. */
	cancelRest: boolean;
	/** One per job id asked for, in that order. */
	jobs: WaitedJob[];
	executionId: string | null;
	nodeId: string | null;
	/** Deliveries tried so far, and what went wrong with the last one. */
	tries: number;
	lastError: string | null;
	createdAt: number;
	deadlineAt: number | null;
}

/** What the service POSTs to the resume URL: small, and nothing in it is trusted. */
export interface Poke {
	waitId: string;
	nonce: string;
}

/** What the node answers to a poke. Only this body is believed; anything else means "try again". */
export interface PokeAnswer {
	resumed: boolean;
	/** Why not. */
	reason?: string;
	/** True = the execution now waits for something else, and never will for this again. */
	stale?: boolean;
}

/** A wait without its jobs, for lists. */
export interface WaitRecord extends Omit<Wait, 'jobs' | 'met'> {
	jobIds: string[];
}

/** n8n asks for pokes that the service cannot post itself; answered as soon as there is one. */
export interface CollectRequest {
	collector: string;
	waitMs?: number;
}

export interface CollectAnswer {
	/** To be posted to the path and query of `resumeUrl` on n8n's own address. Unanswered ones come again. */
	pokes: { resumeUrl: string; poke: Poke }[];
	/** Waits of this collector that are not over; 0 = nothing more will come. */
	open: number;
}

/** What n8n answered to collected pokes. */
export interface CollectedRequest {
	collector: string;
	answers: CollectedPoke[];
}

export interface CollectedPoke {
	waitId: string;
	/** 0 = nothing came back. */
	status: number;
	/** The body, if it was JSON. */
	body?: unknown;
}

export interface SubscriptionRequest {
	/** What is wanted from now on, whatever it was before. */
	filter: EventFilter;
	/** Where a new subscription starts. Default now. An existing one continues where it was. */
	from?: 'now' | 'start';
	/**
	 * Of what an existing one has not acknowledged, hand out only what is at most this old; 0 = start from now.
	 * Default: all of it.
	 */
	backlogMs?: number;
}

export interface SubscriptionAnswer {
	/** Identifies this holder; the earlier one is refused from now on. */
	epoch: number;
	cursor: number;
}

/** A robot reported the end of an attempt that was already over: evidence, kept beside the job. */
export interface LateResult {
	jobId: string;
	attempt: number;
	robotId: string;
	/** How it ended on the robot; the job stays as it is. */
	state: FinalState;
	cause: Cause | null;
}

/** A running program asks for input: its prompt, never an answer. */
export interface PromptAsked {
	jobId: string;
	attempt: number;
	robotId: string;
	kind: WaitingFor['kind'];
	text: string;
	hidden: boolean;
	/** Where the answer begins; send it as `from`. */
	offset: number;
}

export interface ScheduleDueEvent {
	cursor: number;
	at: number;
	type: 'schedule.due';
	data: ScheduleDue;
}

export interface LateResultEvent {
	cursor: number;
	at: number;
	type: 'job.late-result';
	data: LateResult;
}

export interface PromptEvent {
	cursor: number;
	at: number;
	type: 'job.prompt';
	data: PromptAsked;
}

export interface ScheduleTurnEvent {
	cursor: number;
	at: number;
	type: 'schedule.paused' | 'schedule.recovered';
	data: ScheduleTurn;
}

/** A job's robot stays away, and the job asks what to do: `POST /jobs/{id}/answer`. */
export interface JobAsksEvent {
	cursor: number;
	at: number;
	type: 'job.asks';
	data: JobAsks;
}

/** A robot no longer takes jobs, or takes them again: see control.ts. */
export interface RobotClosedEvent {
	cursor: number;
	at: number;
	type: 'robot.closed';
	data: RobotClosed;
}
export interface RobotOpenedEvent {
	cursor: number;
	at: number;
	type: 'robot.opened';
	data: RobotOpened;
}

export type FleetEvent =
	| JobEndedEvent
	| RobotPresenceEvent
	| ScheduleGoneEvent
	| ScheduleDueEvent
	| ScheduleTurnEvent
	| LateResultEvent
	| PromptEvent
	| JobAsksEvent
	| RobotClosedEvent
	| RobotOpenedEvent;

export interface TokenRequest {
	/** How many robots may enroll with it. Default 1. */
	uses?: number;
	/** Default 900,000 (15 minutes). */
	ttlMs?: number;
	/** Labels every robot enrolled with it carries; the robot cannot change them. */
	labels?: Record<string, string>;
}

export interface TokenRecord {
	tokenId: string;
	uses: number;
	used: number;
	expiresAt: number;
	labels: Record<string, string>;
	createdAt: number;
	revokedAt: number | null;
}

export interface TokenCreated extends TokenRecord {
	/** Shown once. */
	token: string;
	/** The address that robots dial. */
	dial: string;
}

export interface KeyRequest {
	name: string;
	scopes: Scope[];
	/** Default: never. */
	expiresAt?: number;
}

export interface KeyRecord {
	keyId: string;
	name: string;
	scopes: Scope[];
	createdAt: number;
	expiresAt: number | null;
	revokedAt: number | null;
	lastUsedAt: number | null;
}

/** What the agents of all connected robots are told. */
export interface BroadcastRequest {
	/** `note` (default) goes into their logs; with `refresh` they look at their machines again. */
	action?: 'note' | 'refresh';
	/** The text of a note. */
	text?: string;
	/** Only robots that carry all of these. */
	labels?: Record<string, string>;
}

export interface ShutdownRequest {
	/** Running jobs get no time to end. Default false. */
	atOnce?: boolean;
}

export interface PingAnswer {
	robotId: string;
	name: string;
	/** Round-trip time. */
	ms: number;
}

export interface EnrolRequest {
	token: string;
	/** Ed25519, SPKI, base64url of the DER. */
	publicKey: string;
	/** Over `enrolProof(token, publicKey)`, base64url. */
	signature: string;
	name?: string;
}

export interface EnrolAnswer {
	robotId: string;
	name: string;
	hubId: string;
}
