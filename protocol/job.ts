/**
 * What outsiders see of a job, as plain types: camelCase, instants in epoch milliseconds (`…At`),
 * durations in milliseconds (`…Ms`). protocol/schemas/ holds the same shapes as schemas, and the
 * compiler holds the two equal.
 */
import type { CollectedFile } from './files';
import type { Caps } from './caps';
import type { Closed, Quarantine } from './control';
import type { Device } from './devices';
import type { Takes } from './gates';
import type { JobOffline, Offline } from './offline';
import type { Hole, Stream } from './output';
import type { Prefer, Strategy } from './placement';
import type { Away, Rollout, RolloutRecord } from './rollout';
import type { Cause, JobState, Priority } from './states';
import type { Watch } from './watch';
import type { Choice } from './why';

/** One sort of jobs, as `GET /kinds` tells. */
export interface KindRecord {
	name: string;
	summary: string;
	/** JSON Schema of its `spec`. */
	schema: Record<string, unknown>;
}

/** Values handed to the work: `{{name}}` in args, cwd, env, stdin; ROBOT_FLEET_VAR_NAME always. */
export type Variables = Record<string, string | number | boolean | null>;

/** Where a job may run. Nothing set = any robot. All that is set must hold. */
export interface Target {
	/** Id or name of one robot; the job waits for it while it is away. */
	robot?: string;
	/** Labels the robot must carry, exactly. */
	labels?: Record<string, string>;
	/** Capabilities the robot must offer. */
	capabilities?: string[];
	/** The client of the robot that does it, by name. Default: any that is free, where a robot has some. */
	client?: string;
	/** The robot must be in this group, or in a group inside it. */
	group?: string;
	/** The robot must be in this pool. */
	pool?: string;
	/** Labels the robot must carry, whatever their value. */
	tags?: string[];
	/** The value that its label `environment` must have. */
	environment?: string;
	/** Robots, by id or name, that do not get the job. */
	exclude?: string[];
	/** Robots the job would rather have; it takes others too. */
	prefer?: Prefer[];
	/**
	 * On how many of them. Default one. With anything else the job becomes a parent: each robot chosen
	 * gets a child of its own, and the parent ends after the last of them.
	 */
	mode?: TargetMode;
	/** Of a parent: robots that are away when it starts are waited for (default), or get no child. */
	away?: Away;
}

/**
 * `all` that match; so many of them; one for each value of a label; one for each group that lies in a group; or exactly
 * these, by id or name.
 */
export type TargetMode =
	| 'one'
	| 'all'
	| { count: number }
	| { perLabel: string }
	| { perGroup: string }
	| { robots: string[] };

export interface Timeouts {
	/** Longest stay in pending and queued, from submit. Default: no limit. */
	queueMs?: number;
	/** How long the robot may take to answer the assignment. Default 30,000. */
	startMs?: number;
	/** Longest run of one attempt. Default by kind, else DEFAULT_JOB_TIMEOUT. */
	runMs?: number;
	/** Longest silence of a running attempt. Default: no limit. */
	silenceMs?: number;
	/** How long a program that asks waits for an answer; silence does not count meanwhile. Default 300,000. */
	inputMs?: number;
	/** The job ends by then, whatever it is doing. */
	deadlineAt?: number;
}

export interface Retry {
	/** All tries together, the first one included. Default 3. */
	maxAttempts?: number;
	/** Default 1,000. */
	initialDelayMs?: number;
	/** Default 60,000. */
	maxDelayMs?: number;
	/** Default 2. */
	factor?: number;
	/** Share of the delay that is random, 0…1. Default 0.2. */
	jitter?: number;
	/** Causes worth another try, and `exit:N` for exit code N. Default: refused, spawn_error, infrastructure, exit:75. */
	on?: string[];
	/** The next try is for another robot, while one that fits is enrolled. Default false. */
	otherRobot?: boolean;
}

export interface OnLoss {
	/** How long a robot may stay away before its attempt counts as lost. Default 300,000. */
	waitMs?: number;
	/** Default unknown: we say that we do not know, and never run twice silently. */
	then?: 'unknown' | 'retry' | 'fail';
}

/** What `POST /jobs` takes. */
export interface Submit extends Takes {
	kind: string;
	spec: unknown;
	target?: Target;
	priority?: Priority | 0 | 1 | 2 | 3;
	variables?: Variables;
	timeouts?: Timeouts;
	retry?: Retry;
	/** A bare string sets `then`. */
	onLoss?: OnLoss | 'unknown' | 'retry' | 'fail';
	onDisconnect?: 'continue' | 'stop';
	/** What a robot does when the job neither prints nor computes any more. Default report. */
	onHang?: 'report' | 'stop';
	/** How long a job for one robot waits while that is away. Default: as long as `timeouts` allow. */
	offline?: Offline;
	/** What is normal for this job, where the sort of its command says otherwise. */
	watch?: Watch;
	/** What the job may use; a robot stops what is over. */
	caps?: Caps;
	/** The work may safely run more than once: any failure is worth another try. Of a lost robot `onLoss` decides. */
	idempotent?: boolean;
	/** The same key with the same request is the same job. */
	idempotencyKey?: string;
	/** Not eligible before this instant. */
	notBefore?: number;
	/** Jobs of one key share the robots fairly with those of other keys that are as urgent. */
	shareKey?: string;
	/** Which of the robots that are free gets it. Default: the service's own, `least_loaded` unless set. */
	strategy?: Strategy;
	/** Of `affinity`: what jobs have in common that shall run where such jobs ran well. Default: the same kind and spec. */
	affinityKey?: string;
	/** How long the job waits for a robot it prefers, or has affinity to, while only others are free. Default 0. */
	preferWaitMs?: number;
	/** Of a job for several robots: batch by batch, and no further when too many fail. Default: all at once. */
	rollout?: Rollout;
	/** Refuse this job when the same was submitted a short time ago, by the same API key. Default no. */
	dedupe?: boolean | Dedupe;
	/** Refuse this job when no enrolled robot has all that it names. Default no: it waits for one. */
	strict?: boolean;
}

export interface Dedupe {
	/** How long a job keeps its like away. Default 300,000. */
	windowMs?: number;
}

export interface SubmitAnswer {
	jobId: string;
	state: JobState;
	/** Set when the idempotency key had already made this job. */
	duplicate?: true;
	/** Set when it waits, and no enrolled robot may run it, away or not. */
	unmatched?: true;
}

/** How a job ended, in full. Set once, with the final state. */
export interface JobResult {
	exitCode: number | null;
	signal: string | null;
	/** The last bytes of each stream as text; the whole is at `GET /jobs/{id}/output`. */
	stdout: string;
	stderr: string;
	/** Whether stdout or stderr above is only the tail. */
	truncated: boolean;
	/**
	 * SHA-256 of each stream that has anything, without its holes, as the robot made it. What is stored was
	 * compared with it once `job.output.complete`.
	 */
	sha256?: Partial<Record<Stream, string>>;
	outputs: Record<string, unknown>;
	durationMs: number;
	error: JobError | null;
	/** False when a process of the attempt may still be alive on its robot. */
	processGone: boolean;
	/** What the agent has to say about the run (a marker line it could not read, say); absent = nothing. */
	logs?: string[];
	/** What `spec.collect` found; absent = the job takes nothing home. */
	files?: CollectedFile[];
}

export interface JobError {
	/** A cause, or a code of the robot's own. */
	type: string;
	message: string;
}

/** What the robot saw of an attempt when something had changed. */
export interface JobHealth {
	at: number;
	state: 'starting' | 'healthy' | 'idle' | 'hanging' | 'waiting_for_input' | 'error_loop';
	/** Of one processor; null where nobody can tell. */
	cpuPercent: number | null;
	memoryBytes: number | null;
	processes: number | null;
	/** Since the last output, or the start. */
	quietMs: number;
	outputBytes: number;
	/** What sort of command it is, when its name tells. */
	commandClass: string | null;
	/** Silent for longer, or running for longer, than commands of its class normally do. */
	overdue: 'no_output' | 'total' | null;
}

/** With what it takes besides a robot, as it was submitted. */
export interface Job extends Takes {
	jobId: string;
	kind: string;
	state: JobState;
	/** Why it ended; null while it lives and when it completed. */
	cause: Cause | null;
	/** Number of the current or last attempt; 0 before the first. */
	attempt: number;
	robotId: string | null;
	/** Which client of the robot does it, or did; null where it has none. */
	client: string | null;
	priority: Priority;
	/** 0…100. */
	progress: number;
	message: string | null;
	/** The program waits for an answer: see `POST /jobs/{id}/input`. */
	waitingFor: WaitingFor | null;
	result: JobResult | null;
	error: JobError | null;
	createdAt: number;
	startedAt: number | null;
	endedAt: number | null;
	cancelRequestedAt: number | null;
	retryOf: string | null;
	/** The last job that repeats this one. */
	retriedAs: string | null;
	parentId: string | null;
	/** What a child is among its siblings: the id of its robot. */
	cell: string | null;
	/** How the children of a parent stand; null for every other job. */
	children: Children | null;
	/** Of a child that goes out in batches: in which, from 1. */
	batch?: number;
	/** How it was asked to go out; absent = all at once. */
	rollout?: Rollout;
	/** How far that is; absent before it starts. */
	rolledOut?: RolloutRecord;
	shareKey: string | null;
	/** Who keeps the job back until it is released, and why. */
	hold: string | null;
	/** Fingerprint of the failure while the job is a dead letter. */
	dead: string | null;
	/** How its last attempt looked from outside, oldest first, at most 20; absent when nobody looked. */
	health?: JobHealth[];
	spec: unknown;
	variables: Variables;
	target: Target;
	timeouts: Timeouts;
	/** How long it waits for a robot that is away, and what then; absent = nothing was said. */
	offline?: JobOffline;
	/** As it was submitted; absent = nothing was said. */
	watch?: Watch;
	caps?: Caps;
	strategy?: Strategy;
	preferWaitMs?: number;
	/** What its strategy goes by; absent unless that is affinity. */
	affinityKey?: string;
	notBefore: number | null;
	/** Output stored by now, in bytes from the first one on, and whether that is all there will be. */
	output: {
		stdout: number;
		stderr: number;
		complete: boolean;
		/** Parts that are not there; absent when all is. */
		holes?: Partial<Record<Stream, Hole[]>>;
	};
	createdBy: string;
}

/** What a running program seems to ask. Found by the agent, kept in memory only. */
export interface WaitingFor {
	kind: 'password' | 'confirmation' | 'question';
	/** The unfinished line that the program waits behind. */
	text: string;
	/** The answer looks like a secret: do not show it. */
	hidden: boolean;
	askedAt: number;
	/** Where the answer begins: sent as `from`, it can answer this prompt and no later one. */
	offset: number;
}

/** Types into a running job that was submitted as interactive. */
export interface InputRequest {
	/** What is typed, as UTF-8; or `dataB64`, as bytes. */
	text?: string;
	dataB64?: string;
	/** Offset of its first byte in all that is typed into the job: makes the call safe to repeat. Default: behind the rest. */
	from?: number;
	/** Close the input behind it. */
	eof?: boolean;
	/** Who types. Bytes at a place that another writer filled are refused, not taken for a repetition. */
	writer?: string;
	/** Of the window of the person who looks on. */
	size?: { cols: number; rows: number };
}

export interface InputAnswer {
	/** Bytes that the robot has taken in all. */
	have: number;
	/** More can be typed. */
	open: boolean;
	/** The program has a real terminal: it echoes, and keys such as Ctrl+C are its own. */
	terminal: boolean;
}

/** So many children in all, and so many in each state. */
export interface Children extends Record<JobState, number> {
	total: number;
	/** Those of the failed of which nobody can know how far they came. */
	unknown: number;
}

export interface Attempt {
	number: number;
	robotId: string;
	/** Which client of the robot; null where it has none. */
	client: string | null;
	epoch: number;
	state: 'dispatched' | 'running' | 'ended';
	/** How the attempt ended: a final state, `refused`, `not-started` or `lost`. */
	outcome: string | null;
	cause: Cause | null;
	assignedAt: number;
	startedAt: number | null;
	endedAt: number | null;
	result: JobResult | null;
	/** A result that came after the attempt was over; kept as evidence, changes nothing. */
	lateResult: JobResult | null;
	/** How its robot was chosen; absent where the job was for this one. */
	choice?: Choice;
}

/** One move of a job: who, when, why. A change that is no move (its priority, say) has the same state twice. */
export interface TimelineEntry {
	at: number;
	from: JobState | null;
	to: JobState;
	/** A cause or a short reason, e.g. `submitted`, `assigned`, `retry`. */
	reason: string;
	/** `key:…`, `robot:…` or `dispatcher`. */
	by: string;
	attempt: number | null;
}

export const robotStatuses = [
	'online',
	'busy',
	'paused',
	'maintenance',
	'quarantined',
	'suspect',
	'offline',
] as const;
export type RobotStatus = (typeof robotStatuses)[number];

/** How a robot's line is carried: as a WebSocket, or, where none comes through, by requests (poll.ts). */
export const transports = ['websocket', 'poll'] as const;
export type Transport = (typeof transports)[number];

export interface Robot {
	robotId: string;
	name: string;
	/** `online` = connected with a free slot; `busy` = connected, every slot held. */
	status: RobotStatus;
	connected: boolean;
	/** People closed it: it gets no new jobs. Null = they did not. */
	closed: Closed | null;
	/** Jobs failed there for reasons of its own: it gets none until a probe succeeds. Null = it is in none. */
	quarantine: Quarantine | null;
	labels: Record<string, string>;
	capabilities: string[];
	slots: number;
	/** Profiles, sessions, emulators: each does one job at a time. Empty = it has none. */
	clients: RobotClient[];
	/** Attempts that hold slots now. */
	held: number;
	/** Slots they hold together; absent = one each. */
	slotsUsed?: number;
	currentJobs: string[];
	lastSeenAt: number | null;
	createdAt: number;
	/** What the agent found out about its machine. */
	info: Record<string, unknown>;
	/** How its machine feels, as of the last heartbeat; null while it is away. */
	metrics: RobotMetrics | null;
	/** Machine, agent, line, jobs and tries together; null while it is away. */
	health: RobotHealth | null;
	/** How its last tries came out. */
	record: RobotRecord;
	agentVersion: string | null;
	/** How it is connected; null while it is away. */
	transport: Transport | null;
	/** Somebody else came with its key; null = nobody did. */
	clone: Clone | null;
	/** It was registered as a device. */
	device?: Device;
}

/** A named client of a robot, and the job that has it. */
export interface RobotClient {
	name: string;
	jobId: string | null;
}

/** Its data folder was copied, or has moved: the newcomer was turned away and told to enroll anew. */
export interface Clone {
	/** `moved` = from another machine than its own; `twin` = while it was connected. */
	how: 'moved' | 'twin';
	/** Where it dialled from, the last time. */
	address: string;
	firstAt: number;
	lastAt: number;
	times: number;
}

/** By its last heartbeat. Shares in percent; null = the robot cannot tell. */
export interface RobotMetrics {
	cpuPercent: number | null;
	memoryPercent: number | null;
	diskPercent: number | null;
	/** From a heartbeat to its answer, on the line that carries the work. */
	roundTripMs: number | null;
	/** Time in which the agent itself was at work, and could not hear. */
	agentBusyPercent: number | null;
	/** It cannot start the process that keeps jobs when the agent ends. */
	keeperMissing: boolean | null;
}

/** How its last tries came out, at most 50 of those that came to an end of their own. */
export interface RobotRecord {
	completed: number;
	failed: number;
	/** Nobody can know how far they came. */
	lost: number;
	/** Completed ones of all three; null before the first. */
	successPercent: number | null;
}

export const healthLevels = ['normal', 'warning', 'critical'] as const;

export interface RobotHealth {
	level: (typeof healthLevels)[number];
	/** One sentence each; empty when all is normal. */
	reasons: string[];
}

export interface QueueStats {
	total: number;
	byState: Record<JobState, number>;
	/** Of the jobs that are queued. */
	byPriority: Record<Priority, number>;
	/** How long the queued job that is in line longest has been so, to the second; null when nothing is queued. */
	oldestQueuedMs: number | null;
	/** The longest queues by what they ask of a robot, longest first; at most 20. */
	lanes: QueueLane[];
}

/** Jobs that ask the same of a robot wait in one lane. */
export interface QueueLane {
	/** In words: `label os=linux, capability docker`. */
	target: string;
	/** The one robot that the lane is for, by id. */
	robotId: string | null;
	queued: number;
	/** Enrolled robots that fit, connected or not. */
	robots: number;
}
