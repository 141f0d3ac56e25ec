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

/** One kind of job, as `GET /kinds` lists it. */
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
	/** Name of the robot's client that does the job. Default: any free one, where a robot has clients. */
	client?: string;
	/** The robot must be in this group, or in a group inside it. */
	group?: string;
	/** The robot must be in this pool. */
	pool?: string;
	/** Labels the robot must carry, whatever their value. */
	tags?: string[];
	/** The value that the robot's label `environment` must have. */
	environment?: string;
	/** Robots that must not get the job, by id or name. */
	exclude?: string[];
	/** Robots the job would rather have; it takes others too. */
	prefer?: Prefer[];
	/**
	 * How many robots run it. Default one. Anything else makes the job a parent: each robot chosen gets a
	 * child of its own, and the parent ends after the last of them.
	 */
	mode?: TargetMode;
	/** For a parent: robots that are away when it starts are waited for (default), or get no child. */
	away?: Away;
}

/**
 * `all` that match; this many of them; one for each value of a label; one for each group right inside a group; or exactly
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
	/** How long a program that asks for input waits for an answer; silence does not count meanwhile. Default 300,000. */
	inputMs?: number;
	/** The job ends by then, whatever it is doing. */
	deadlineAt?: number;
}

export interface Retry {
	/** All tries together, including the first. Default 3. */
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
	/** Try again on another robot, as long as one that fits is enrolled. Default false. */
	otherRobot?: boolean;
}

export interface OnLoss {
	/** How long a robot may stay away before its attempt counts as lost. Default 300,000. */
	waitMs?: number;
	/** Default unknown: say that nobody knows, and never silently run it twice. */
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
	/** What the robot does when the job no longer prints or computes. Default report. */
	onHang?: 'report' | 'stop';
	/** How long a job for one robot waits while that robot is away. Default: as long as `timeouts` allow. */
	offline?: Offline;
	/** What is normal for this job, where the class of its command says otherwise. */
	watch?: Watch;
	/** What the job may use; its robot stops a job that uses more. */
	caps?: Caps;
	/** The work may safely run more than once: any failure is worth another try. For a lost robot `onLoss` decides. */
	idempotent?: boolean;
	/** The same key with the same request is the same job. */
	idempotencyKey?: string;
	/** Not eligible before this instant. */
	notBefore?: number;
	/** Jobs of one key share the robots fairly with equally urgent jobs of other keys. */
	shareKey?: string;
	/** Which of the free robots gets it. Default: the service's own, `least_loaded` unless set. */
	strategy?: Strategy;
	/** For `affinity`: what jobs have in common that should run where such jobs ran well. Default: same kind and spec. */
	affinityKey?: string;
	/** How long the job waits for a robot it prefers, or has affinity to, while only others are free. Default 0. */
	preferWaitMs?: number;
	/** For a job for several robots: go out batch by batch, and stop when too many fail. Default: all at once. */
	rollout?: Rollout;
	/** Refuse this job if the same API key submitted the same one a short time ago. Default no. */
	dedupe?: boolean | Dedupe;
	/** Refuse this job if no enrolled robot has everything it asks for. Default no: it waits for one. */
	strict?: boolean;
}

export interface Dedupe {
	/** How long a job keeps duplicates of itself out. Default 300,000. */
	windowMs?: number;
}

export interface SubmitAnswer {
	jobId: string;
	state: JobState;
	/** Set when the idempotency key had already made this job. */
	duplicate?: true;
	/** Set when it waits and no enrolled robot, connected or not, may run it. */
	unmatched?: true;
}

/** How a job ended, in full. Set once, with the final state. */
export interface JobResult {
	exitCode: number | null;
	signal: string | null;
	/** The last bytes of each stream as text; all of it is at `GET /jobs/{id}/output`. */
	stdout: string;
	stderr: string;
	/** Whether stdout or stderr above is only the tail. */
	truncated: boolean;
	/**
	 * SHA-256 of each stream that is not empty, without its holes, as the robot produced it. What is stored has
	 * been compared with it once `job.output.complete`.
	 */
	sha256?: Partial<Record<Stream, string>>;
	outputs: Record<string, unknown>;
	durationMs: number;
	error: JobError | null;
	/** False when a process of the attempt may still be alive on its robot. */
	processGone: boolean;
	/** What the agent has to report about the run (a marker line it could not read, say); absent = nothing. */
	logs?: string[];
	/** What `spec.collect` found; absent = the job collects nothing. */
	files?: CollectedFile[];
}

export interface JobError {
	/** A cause, or a code of the robot's own. */
	type: string;
	message: string;
}

/** What the robot saw of an attempt when something changed. */
export interface JobHealth {
	at: number;
	state: 'starting' | 'healthy' | 'idle' | 'hanging' | 'waiting_for_input' | 'error_loop';
	/** Of one processor; null where it cannot be measured. */
	cpuPercent: number | null;
	memoryBytes: number | null;
	processes: number | null;
	/** Since the last output, or the start. */
	quietMs: number;
	outputBytes: number;
	/** The class of its command, where the name tells. */
	commandClass: string | null;
	/** Silent or running for longer than is normal for commands of its class. */
	overdue: 'no_output' | 'total' | null;
}

/** Includes what it takes besides a robot, as submitted. */
export interface Job extends Takes {
	jobId: string;
	kind: string;
	state: JobState;
	/** Why it ended; null while it lives and when it completed. */
	cause: Cause | null;
	/** Number of the current or last attempt; 0 before the first. */
	attempt: number;
	robotId: string | null;
	/** The client of the robot that does it, or did; null where the robot has none. */
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
	/** The latest job that retries this one. */
	retriedAs: string | null;
	parentId: string | null;
	/** A child's place among its siblings: the id of its robot. */
	cell: string | null;
	/** How the children of a parent stand; null for every other job. */
	children: Children | null;
	/** For a child of a rollout: the number of its batch, from 1. */
	batch?: number;
	/** The rollout that was asked for; absent = all at once. */
	rollout?: Rollout;
	/** How far that has got; absent before it starts. */
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
	/** How long it waits for a robot that is away, and what then; absent = not set. */
	offline?: JobOffline;
	/** As submitted; absent = not set. */
	watch?: Watch;
	caps?: Caps;
	strategy?: Strategy;
	preferWaitMs?: number;
	/** The key its strategy goes by; absent unless that is affinity. */
	affinityKey?: string;
	notBefore: number | null;
	/** Output stored so far, in bytes from the start, and whether that is all there will be. */
	output: {
		stdout: number;
		stderr: number;
		complete: boolean;
		/** Parts that are missing; absent when none are. */
		holes?: Partial<Record<Stream, Hole[]>>;
	};
	createdBy: string;
}

/** What a running program seems to ask. Detected by the agent, kept in memory only. */
export interface WaitingFor {
	kind: 'password' | 'confirmation' | 'question';
	/** The unfinished line after which the program waits. */
	text: string;
	/** The answer looks like a secret: do not show it. */
	hidden: boolean;
	askedAt: number;
	/** Where the answer begins: sent as `from`, it answers this prompt and never a later one. */
	offset: number;
}

/** Types into a running job that was submitted as interactive. */
export interface InputRequest {
	/** What is typed, as UTF-8; or `dataB64`, as bytes. */
	text?: string;
	dataB64?: string;
	/** Offset of its first byte in all that is typed into the job: makes the call safe to repeat. Default: at the end. */
	from?: number;
	/** Close the input after it. */
	eof?: boolean;
	/** Who types. Bytes for a place that another writer has filled are refused, not taken for a repetition. */
	writer?: string;
	/** Size of the window of the person watching. */
	size?: { cols: number; rows: number };
}

export interface InputAnswer {
	/** Bytes the robot has taken so far, in all. */
	have: number;
	/** More can be typed. */
	open: boolean;
	/** The program has a real terminal: it echoes, and keys such as Ctrl+C are its own. */
	terminal: boolean;
}

/** How many children there are, in all and in each state. */
export interface Children extends Record<JobState, number> {
	total: number;
	/** The failed ones of which nobody can know how far they got. */
	unknown: number;
}

export interface Attempt {
	number: number;
	robotId: string;
	/** The client of the robot that did it; null where the robot has none. */
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
	/** How its robot was chosen; absent where the job was for this robot alone. */
	choice?: Choice;
}

/** One move of a job: who, when, why. A change that is not a move (of its priority, say) has the same state twice. */
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

/** How a robot's line is carried: as a WebSocket, or, where none gets through, by requests (poll.ts). */
export const transports = ['websocket', 'poll'] as const;
export type Transport = (typeof transports)[number];

export interface Robot {
	robotId: string;
	name: string;
	/** `online` = connected with a free slot; `busy` = connected, every slot held. */
	status: RobotStatus;
	connected: boolean;
	/** People closed it: it gets no new jobs. Null = it is not closed. */
	closed: Closed | null;
	/** Jobs failed there through its own fault: it gets none until a probe succeeds. Null = it is not in quarantine. */
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
	/** How its machine is doing, as of the last heartbeat; null while it is away. */
	metrics: RobotMetrics | null;
	/** Machine, agent, line, jobs and tries together; null while it is away. */
	health: RobotHealth | null;
	/** How its last tries ended. */
	record: RobotRecord;
	agentVersion: string | null;
	/** How it is connected; null while it is away. */
	transport: Transport | null;
	/** Somebody else came with its key; null = nobody did. */
	clone: Clone | null;
	/** Set if it was registered as a device. */
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

/** As of its last heartbeat. Shares in percent; null = the robot cannot tell. */
export interface RobotMetrics {
	cpuPercent: number | null;
	memoryPercent: number | null;
	diskPercent: number | null;
	/** From a heartbeat to its answer, on the line that carries the work. */
	roundTripMs: number | null;
	/** Share of the time in which the agent itself was busy and could not listen. */
	agentBusyPercent: number | null;
	/** It cannot start the process that keeps jobs alive when the agent ends. */
	keeperMissing: boolean | null;
}

/** How its last tries ended: at most 50, of those that came to an end of their own. */
export interface RobotRecord {
	completed: number;
	failed: number;
	/** Nobody can know how far they got. */
	lost: number;
	/** Completed ones as a share of all three; null before the first try. */
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
	/** How long the queued job that waits longest has been in line, to the second; null when nothing is queued. */
	oldestQueuedMs: number | null;
	/** The longest queues by what they ask of a robot, longest first; at most 20. */
	lanes: QueueLane[];
}

/** Jobs that ask the same of a robot wait in one lane. */
export interface QueueLane {
	/** In words: `label os=linux, capability docker`. */
	target: string;
	/** The one robot the lane is for, by id. */
	robotId: string | null;
	queued: number;
	/** Enrolled robots that fit, connected or not. */
	robots: number;
}
