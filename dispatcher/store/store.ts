/**
 * What the store promises. Writing is done in deeds: plain, dumb and guarded. A deed names the state
 * and epoch it expects, and answers whether they still held; it never decides anything. All deeds of
 * one `commit` are one transaction, synced before the answer; a deed whose guard fails changes
 * nothing and does not disturb the others.
 *
 * Instants are epoch milliseconds. JSON columns travel as text, so that the store never parses them.
 */
import type { Cause, FileState, FinalState, JobState, Priority } from '../../protocol';
import type { Hole, HoleReason, Stream } from '../../protocol';
import type { OccurrenceCounts, OccurrenceState, Origin, ScheduleState } from '../../protocol';
import type { Breakdown, Purgeable, SeriesName, WaitCounts } from '../../protocol';
import type { Success } from '../core/affinity';
import type { ParentEndings } from '../core/parents';
import type { Ended } from '../core/record';
import type { Plan, Progress } from '../core/rollout';

/** A job as it lies in the store. */
export interface StoredJob {
	id: string;
	kind: string;
	state: JobState;
	cause: Cause | null;
	lane: string;
	/** Jobs of one key share fairly with those of others; '' = no key. */
	shareKey: string;
	/** What it takes besides a robot: see core/needs; '' = nothing. */
	needs: string;
	rank: number;
	priority: Priority;
	/** Number of the last attempt; 0 before the first. */
	attempt: number;
	/** Epoch of the live attempt, or of the last one; 0 before the first. */
	epoch: number;
	robotId: string | null;
	/** Which client of the robot does it; null where it has none. */
	client: string | null;
	/** Attempts that count as tries (a proved non-start does not). */
	tries: number;
	losses: number;
	createdAt: number;
	startedAt: number | null;
	endedAt: number | null;
	/** When the job next needs a look while it is pending or queued; null = never. */
	dueAt: number | null;
	readyAt: number;
	cancelRequestedAt: number | null;
	progress: number;
	message: string | null;
	createdBy: string;
	retryOf: string | null;
	parentId: string | null;
	/** What a child is among its siblings. */
	cell: string | null;
	/** Of a parent: how many it has, 0 before it starts. Null for every other job. */
	children: number | null;
	/** Of a parent: a `Counted` of core/parents. */
	family: string | null;
	/** Of a parent that goes out in batches, or that left robots out: a `FanOutState`. */
	fanOut: string | null;
	/** Of a child that goes out in batches: its batch, from 1; and `shut`, where 1 = not let go yet. */
	batch: number | null;
	shut: number | null;
	/** Fingerprint of the error while the job is a dead letter. */
	dead: string | null;
	/** A `JobHealth[]` of the last attempt. */
	health: string | null;
	/** How the last attempt ended; null while it lives and before the first. */
	outcome: string | null;
	/** The last job that repeats this one. */
	retriedAs: string | null;
	/** Who keeps a pending job back, and why. */
	hold: string | null;
	/** The key its strategy goes by; null unless that is affinity. */
	affinity: string | null;
	spec: string;
	variables: string;
	target: string;
	/** A `Policy` of core/retry. */
	policy: string;
	/** `{robotId: until}`: robots that refused this job; until = null means for good. */
	bars: string | null;
	result: string | null;
	error: string | null;
	outputDone: number;
	/** Output of the last attempt stored so far, in bytes. */
	stdoutHave: number;
	stderrHave: number;
	/** Its holes: JSON, a list of [stream, from, to, reason]. */
	outputHoles: string;
}

/** A job without its instructions, which may be long. */
export type StoredOutcome = Omit<StoredJob, 'spec' | 'variables'>;

/** What must still hold of a waiting job when something is done to it. */
export type AsRead = Pick<StoredJob, 'attempt' | 'lane' | 'rank' | 'hold' | 'dueAt'>;

export type NewJob = Pick<
	StoredJob,
	| 'id'
	| 'kind'
	| 'lane'
	| 'shareKey'
	| 'needs'
	| 'rank'
	| 'priority'
	| 'createdAt'
	| 'readyAt'
	| 'dueAt'
	| 'createdBy'
	| 'retryOf'
	| 'parentId'
	| 'cell'
	| 'spec'
	| 'variables'
	| 'target'
	| 'policy'
> & {
	state: 'pending' | 'queued';
	/** 0 = it is a parent, and gets its children when it starts. */
	children: 0 | null;
	affinity?: string | null;
	batch?: number;
	/** Only for a pending job: it waits for its batch. */
	shut?: 1;
};

/** What the children of one parent do not share. */
export type NewChild = Pick<NewJob, 'id' | 'cell' | 'lane' | 'target' | 'batch'> & {
	attempt?: NewAttempt;
};

/** What was decided when a parent started, and how far it is. */
export interface FanOutState {
	/** Robots that were left out because they were away. */
	skipped: string[];
	plan: Plan | null;
	state: Progress['state'];
	batch: number;
	reason: string | null;
}

/** A step of a rollout, and what memory must know about it. */
export interface RolloutMove {
	parentId: string;
	/** How it stands, for people. */
	message: string;
	moved: MovedChild[];
}

/** A child that was let go or kept back. */
export type MovedChild = Pick<
	StoredJob,
	'id' | 'lane' | 'shareKey' | 'needs' | 'priority' | 'attempt' | 'bars' | 'affinity'
> & {
	owner: string;
	/** Of spec and variables. */
	bytes: number;
	was: Pick<Waiting, 'state' | 'rank'>;
	is: Pick<Waiting, 'state' | 'rank'> & { dueAt: number | null };
};

export interface NewAttempt {
	number: number;
	epoch: number;
	token: string;
	robotId: string;
	/** Which client of the robot it takes; absent where it has none. */
	client?: string;
	/** It is the robot's turn: written down as its last one. `before` = its last turn until then. */
	turn?: { before: number };
	/** How the robot was chosen, as core/choice writes it. */
	choice?: string;
	/** It counts for this rate until then: written down as one of its starts. */
	start?: { key: string; until: number };
	/** Slots it takes; absent = one. Not written down: the job's policy says it. */
	slots?: number;
	at: number;
}

export interface StoredAttempt {
	jobId: string;
	number: number;
	epoch: number;
	token: string;
	robotId: string;
	client: string | null;
	/** An attempt holds its slot, and its client, until it is `ended`. */
	state: 'dispatched' | 'running' | 'ended';
	outcome: string | null;
	cause: Cause | null;
	assignedAt: number;
	startedAt: number | null;
	endedAt: number | null;
	result: string | null;
	lateResult: string | null;
	stdoutHave: number;
	stderrHave: number;
	/** Whole length as the robot reported it; null until it did. */
	stdoutLength: number | null;
	stderrLength: number | null;
	/** 0 while the output of a job that has ended is not known to be complete. */
	outputDone: number;
}

export interface StoredMove {
	at: number;
	from: JobState | null;
	to: JobState;
	reason: string;
	by: string;
	attempt: number | null;
}

export interface StoredRobot {
	id: string;
	name: string;
	publicKey: string;
	tokenId: string | null;
	/** Set by token or admin; the robot cannot change them. JSON. */
	lockedLabels: string;
	/** Self-claimed. JSON. */
	labels: string;
	capabilities: string;
	slots: number;
	/** Names of its clients. JSON. */
	clients: string;
	info: string;
	agentVersion: string | null;
	journalId: string | null;
	/** A `Closed` of the protocol; null = people let it have jobs. */
	closed: string | null;
	/** A `Quarantine` of the protocol; null = it is in none. */
	quarantine: string | null;
	/** `Strike[]` of core/quarantine since its last success; null = none. */
	strikes: string | null;
	/** What was told about its coming and going: a `Presence` of engine/presence; null = it never came. */
	presence: string | null;
	createdAt: number;
	lastSeenAt: number | null;
	removedAt: number | null;
	/** Where its identity belongs; null = not known yet. */
	machine: string | null;
	/** Who else came with its key, as JSON; null = nobody. */
	clone: string | null;
}

/** What a robot was registered with. Lists and maps are JSON. */
export interface StoredDevice {
	robotId: string;
	constellation: string | null;
	origin: 'file' | 'api';
	serverUrl: string | null;
	fingerprint: string | null;
	clientIds: string;
	capabilities: string;
	metadata: string;
	autoConnect: number;
	maxRetries: number;
	inside: number;
}

export interface StoredKey {
	id: string;
	hash: string;
	name: string;
	scopes: string;
	createdAt: number;
	expiresAt: number | null;
	revokedAt: number | null;
	lastUsedAt: number | null;
}

export interface StoredToken {
	id: string;
	hash: string;
	uses: number;
	used: number;
	labels: string;
	createdAt: number;
	expiresAt: number;
	revokedAt: number | null;
}

export interface StoredWait {
	id: string;
	jobIds: string;
	until: string;
	counts: WaitCounts;
	/** 1 = yes; the same for the next two. */
	eachRobot: number;
	cancelRest: number;
	cancelOnStop: number;
	/** SHA-256 of the secret of whoever fetches its pokes; null = they are posted. */
	collector: string | null;
	deadlineAt: number | null;
	resumeUrl: string | null;
	executionId: string | null;
	nodeId: string | null;
	nonce: string;
	state: 'open' | 'due' | 'closed' | 'dead';
	timedOut: number;
	tries: number;
	/** While due: when it is next poked. While open: when n8n is asked whether the execution still waits. */
	nextTryAt: number | null;
	lastError: string | null;
	createdBy: string;
	createdAt: number;
	/** When it became due. */
	dueAt: number | null;
	endedAt: number | null;
}

export interface StoredSchedule {
	id: string;
	name: string;
	/** A `Definition` of core/schedule. */
	definition: string;
	state: ScheduleState;
	/** Who paused it, or why it ended. */
	reason: string | null;
	/** Where counting every n-th day, week or month begins. */
	anchorAt: number;
	/** Failures before this no longer count. */
	resumedAt: number;
	/** No two schedules of one id share it; occurrences of another generation are not its own. */
	generation: number;
	/** The next planned time; null when none will come. */
	nextRunAt: number | null;
	lastRunAt: number | null;
	createdBy: string;
	createdAt: number;
}

export interface StoredOccurrence {
	scheduleId: string;
	origin: Origin;
	plannedAt: number;
	/** When it was dealt with. */
	at: number;
	state: OccurrenceState;
	reason: string | null;
	jobId: string | null;
	/** How its job ended; null while that is not known. */
	outcome: FinalState | null;
	endedAt: number | null;
	/** How long its job ran. */
	ranMs: number | null;
}

/**
 * One planned time is dealt with, and where its schedule goes on. False, and no second row, when it was
 * dealt with before; a row that waits may become anything else once.
 */
export interface NewOccurrence extends Pick<
	StoredOccurrence,
	'scheduleId' | 'origin' | 'plannedAt' | 'at' | 'state' | 'reason' | 'jobId'
> {
	/** It was waiting: this is what becomes of it. */
	waited?: boolean;
	/**
	 * May replace an earlier one that came to nothing (`refused`, `skipped`), or any whose job has ended.
	 */
	over?: 'nothing' | 'ended';
	/** The next planned time of its schedule; absent = unchanged. */
	nextRunAt?: number | null;
	/** Why the schedule ends with it. */
	ended?: string;
	/** Told to the schedule's consumers, or to those of `subject`. */
	event?: { type: string; data: string; subject?: string };
}

/** The occurrences of a schedule that are on record. */
export interface OccurrenceTotals extends OccurrenceCounts {
	/** Planned ones that ran or wait. */
	planned: number;
}

/** An occurrence whose job has no outcome on record yet, with that job. */
export interface OpenOccurrence extends StoredOccurrence {
	jobId: string;
	job: Pick<StoredJob, 'state' | 'startedAt' | 'endedAt'> | null;
}

export interface StoredCalendar {
	name: string;
	/** `CalendarEntry[]` of core/blackout. */
	entries: string;
	createdBy: string;
	updatedAt: number;
}

export interface StoredGroup {
	name: string;
	parent: string | null;
	/** Ids of its own robots, as JSON. */
	robots: string;
	createdBy: string;
	updatedAt: number;
}

export interface StoredPool {
	name: string;
	/** `PoolTerms` of core/areas without the name. */
	definition: string;
	createdBy: string;
	updatedAt: number;
}

export interface StoredLimit {
	name: string;
	max: number;
	createdBy: string;
	updatedAt: number;
}

/** An attempt that counts for a rate. */
export interface StoredStart {
	key: string;
	epoch: number;
	at: number;
	until: number;
}

export interface StoredSubscription {
	key: string;
	filter: string;
	epoch: number;
	cursor: number;
	createdBy: string;
	/** When somebody last asked for it; written down now and then. */
	usedAt: number;
}

/** What a file is; its bytes are on the shelf. */
export interface StoredFile {
	id: string;
	name: string;
	bytes: number;
	sha256: string | null;
	state: FileState;
	createdAt: number;
	createdBy: string;
	/** When it was made or sent, or a job was submitted with it. */
	usedAt: number;
	/** The attempt that it was collected from; null = somebody sent it. */
	jobId: string | null;
	epoch: number | null;
	path: string | null;
	mode: number | null;
}

export interface StoredEvent {
	cursor: number;
	at: number;
	type: string;
	/** What it is about; subscriptions filter on it. */
	subject: string;
	data: string;
}

/** Every deed: what it takes (`in`) and what it answers (`out`). */
export interface Deeds {
	/**
	 * Inserts a job, with its first attempt when a robot is free for it. With an idempotency key that
	 * was seen before, nothing is inserted and the earlier job is named. A retry takes the job it
	 * repeats out of the dead letters in the same step.
	 */
	insertJob: {
		in: {
			job: NewJob;
			attempt?: NewAttempt;
			idempotency?: { scope: string; key: string; hash: string };
			/** Refused when the same is on record beyond `at`. */
			dedupe?: { scope: string; hash: string; at: number; until: number };
			/** Refused when the job it repeats is no longer a dead letter, or was already repeated. */
			only?: 'dead' | 'unretried';
			/** Refused when this time of its schedule was already dealt with. */
			occurrence?: NewOccurrence;
			/** Files that it needs until it has ended: refused when one of them is not ready. */
			files?: readonly string[];
		};
		out:
			| Earlier
			| { sameAs: string }
			| { noFile: string; have: FileState | null }
			| 'passed'
			| 'fired'
			| null;
	};
	/**
	 * queued → dispatched; the previous attempt moves to a row of its own. Answers what the job asks for
	 * if the caller does not know it yet (`tell`), or null when the job has moved on.
	 */
	assign: {
		in: { jobId: string; attempt: NewAttempt; tell: boolean };
		out: Asked | true | null;
	};
	/** dispatched → running, for this epoch only. */
	start: {
		in: { jobId: string; number: number; epoch: number; at: number };
		out: boolean;
	};
	/**
	 * Ends the live attempt of this epoch and moves the job on in the same step. `startedAt` keeps the
	 * move through running visible when the robot's acceptance and its result arrive together.
	 */
	settle: {
		in: {
			jobId: string;
			number: number;
			epoch: number;
			/** The state the job is expected in. */
			from: 'dispatched' | 'running';
			at: number;
			/** 'robot' = the attempt's own. */
			by: string;
			startedAt?: number;
			outcome: string;
			cause: Cause | null;
			result: string | null;
			outputLength?: { stdout: number; stderr: number };
			/** What the robot said about its output was compared with what this commit stores. */
			outputProved?: boolean;
			reason: string;
			next:
				| { to: FinalState; cause: Cause | null; error: string | null; dead?: string }
				| {
						to: 'queued' | 'pending';
						/** Why it waits, when that is not plain from the move. */
						waitsFor?: Cause;
						readyAt: number;
						rank: number;
						dueAt: number | null;
				  };
			/** It went well: remembered for jobs of this key. */
			affinity?: string;
			/** It is proved never to have started, and counts for no rate. */
			unstarted?: boolean;
			/** Whether the attempt counts as a try, as a loss. */
			countTry: boolean;
			countLoss: boolean;
			bars?: string;
		};
		out: boolean;
	};
	/**
	 * Keeps a result that came after its attempt was over, along with its event. `again` = it was
	 * recorded before; `unknown` = this robot had no such attempt that is over.
	 */
	lateResult: {
		in: {
			jobId: string;
			number: number;
			epoch: number;
			token: string;
			robotId: string;
			result: string;
			outputLength: { stdout: number; stderr: number };
			event: Omit<StoredEvent, 'cursor'>;
		};
		out: 'kept' | 'again' | 'unknown';
	};
	/** Moves a job that has no live attempt. False when it was not in one of `from`. */
	moveJob: {
		in: {
			jobId: string;
			from: JobState[];
			/** False, too, when it is not as it was read. */
			was?: AsRead;
			to: JobState;
			cause: Cause | null;
			reason: string;
			by: string;
			at: number;
			rank?: number;
			dueAt?: number | null;
			error?: string;
			cancelRequestedAt?: number;
			/** Only for a move to pending: who keeps it there. */
			hold?: string;
			dead?: string;
		};
		out: boolean;
	};
	/** Changes what a pending job waits for, if it is as it was read; it stays pending. */
	waitFor: {
		in: {
			jobId: string;
			was: AsRead;
			cause: Cause | null;
			dueAt: number;
			reason: string;
			by: string;
			at: number;
		};
		out: boolean;
	};
	/** The wall clock was set: jobs between two tries wait as long as before. Instants that people named stay. */
	shiftBackOffs: { in: { by: number }; out: boolean };
	/**
	 * At a start at `at`: the clock may have been set back while nothing ran to notice. A retry whose last try ended later
	 * than `at` waits as long from `at` as it was to wait from there.
	 */
	settleBackOffs: { in: { at: number }; out: boolean };
	/** Changes a job that waits. False when it is not as it was when the change was decided. */
	changeJob: {
		in: {
			jobId: string;
			was: AsRead & Pick<StoredJob, 'state'>;
			to: Pick<StoredJob, 'lane' | 'rank' | 'priority' | 'dueAt' | 'hold' | 'bars' | 'target'> & {
				state: 'pending' | 'queued';
				policy?: string;
			};
			event?: Omit<StoredEvent, 'cursor'>;
			reason: string;
			by: string;
			at: number;
		};
		out: boolean;
	};
	/** A waiting job is looked at again at `dueAt`; nothing else changes. False when it is not as it was read. */
	lookAgain: {
		in: { jobId: string; was: AsRead & Pick<StoredJob, 'state'>; dueAt: number | null };
		out: boolean;
	};
	/** Dead letters that need nothing more. Answers which of them still were dead letters. */
	dismissDead: { in: { jobIds: string[]; by: string; at: number }; out: string[] };
	/** Forgets what was submitted long ago. Answers how many that were. */
	sweepDuplicates: { in: { at: number; limit: number }; out: number };
	/**
	 * A parent without children starts: its children are made in the same step, each with its first attempt
	 * if its robot is free. From pending it passes through queued. False when it has moved on.
	 */
	startParent: {
		in: {
			parentId: string;
			from: 'pending' | 'queued';
			/** False, too, when it is not as it was read. */
			was?: AsRead;
			at: number;
			common: Omit<NewJob, keyof NewChild | 'parentId' | 'children'>;
			children: NewChild[];
			/** Robots that were left out because they were away. */
			skipped?: string[];
			/** Its children have a batch each, and none was let go yet. */
			plan?: Plan;
		};
		out: boolean;
	};
	/**
	 * Ends a running parent that has no open child, as `endings` say, and names the state it ended in; or takes the
	 * next step of its rollout, if there is one to be taken.
	 */
	settleParent: {
		in: { parentId: string; at: number; endings: ParentEndings };
		out: FinalState | RolloutMove | null;
	};
	/** Starts nothing more of a rollout. Null when that is so already, or there is no rollout. */
	pauseRollout: { in: { parentId: string; at: number; by: string }; out: RolloutMove | null };
	/** Lets a rollout go on; with `batch`, only if that is the next one. Null when there is nothing to let go. */
	resumeRollout: {
		in: { parentId: string; at: number; by: string; batch?: number };
		out: RolloutMove | null;
	};
	/** Records the request for a job with a live attempt of this epoch; a parent has epoch 0. */
	requestCancel: {
		in: { jobId: string; epoch: number; at: number };
		out: boolean;
	};
	/** A program asks: a line in the timeline (null = none), and its event. False when the attempt is over. */
	prompted: {
		in: {
			jobId: string;
			number: number;
			epoch: number;
			reason: string | null;
			event: Omit<StoredEvent, 'cursor'>;
		};
		out: boolean;
	};
	/** Adds to what was seen of the running attempt of this epoch; only the last 20 are kept. */
	health: { in: { jobId: string; epoch: number; entry: string }; out: boolean };
	progress: {
		in: { jobId: string; epoch: number; progress: number | null; message: string | null };
		out: boolean;
	};
	/**
	 * Takes the bytes only when `offset` is what the store has, or when a gap bridges the two. Answers what
	 * it has (-1 = no such attempt), whether it took these and, of an attempt that has ended, whether that is all.
	 */
	appendOutput: {
		in: {
			jobId: string;
			epoch: number;
			robotId: string;
			stream: Stream;
			offset: number;
			data: Uint8Array;
			gap?: { from: number; reason: HoleReason };
			/** Came with the result, which must not cost a sync of its own. */
			withResult?: boolean;
		};
		out: { have: number; taken: boolean; whole: boolean };
	};
	/** All output of this attempt is there and was compared with what its robot delivered. */
	closeOutput: { in: { jobId: string; epoch: number }; out: boolean };
	/** Forgets a stream of an attempt, so that it is sent again from its first byte. */
	rewindOutput: { in: { jobId: string; epoch: number; stream: Stream }; out: boolean };
	/** Puts on record that bytes cannot be handed out. False when the stream does not reach so far: it is being sent again. */
	markOutput: {
		in: { jobId: string; number: number; stream: Stream; hole: Hole };
		out: boolean;
	};
	/**
	 * Removes the output of jobs that ended before `endedBefore` and, while more than `maxBytes` are kept in
	 * all, of the oldest ended ones. Stops after the job with which `mostBytes` are gone. `more` = there are
	 * jobs it has not looked at yet.
	 */
	purgeOutput: {
		in: { endedBefore: number; maxBytes: number; maxJobs: number; mostBytes?: number };
		out: { jobs: number; bytes: number; more: boolean };
	};
	/** Frees disk held by a few wanted bytes among many unwanted ones; stops once `maxBytes` have moved. */
	compactOutput: { in: { maxBytes: number }; out: { moved: number; damaged: number } };
	/**
	 * Counts a use of the token and puts the robot, or neither; its labels are those of the token. Null =
	 * the token is not good. Whoever comes again with the same token and key is answered without another
	 * use: with its robot, and no labels. `robot` may be one that was registered and waits for its key
	 * (`awaited`: the fingerprint of the one that comes); null, too, when it has got a key meanwhile, is
	 * no longer a device, or expects another key.
	 */
	enrolRobot: {
		in: {
			hash: string;
			at: number;
			robot: StoredRobot & { tokenId: string };
			awaited?: string;
		};
		out: { robotId: string; lockedLabels: string | null } | null;
	};
	/** Changes only what is named: a hello and an operator may change one robot at the same moment. With its event. */
	changeRobot: {
		in: { id: string; event?: Omit<StoredEvent, 'cursor'> } & Partial<
			Pick<
				StoredRobot,
				| 'labels'
				| 'capabilities'
				| 'slots'
				| 'clients'
				| 'info'
				| 'agentVersion'
				| 'journalId'
				| 'publicKey'
				| 'lastSeenAt'
				| 'closed'
				| 'quarantine'
				| 'strikes'
				| 'presence'
				| 'removedAt'
				| 'machine'
				| 'clone'
			>
		>;
		out: boolean;
	};
	/**
	 * Registers a device, with its robot when that is new. `forgetsKey`: its robot has proved a key, and another
	 * one counts from now on.
	 */
	putDevice: {
		in: { device: StoredDevice; robot?: StoredRobot; forgetsKey?: boolean };
		out: boolean;
	};
	/** Its robot carries on like any other. */
	dropDevice: { in: { robotId: string }; out: boolean };
	robotsSeen: { in: { ids: string[]; at: number }; out: boolean };
	putKey: { in: StoredKey; out: boolean };
	revokeKey: { in: { id: string; at: number }; out: boolean };
	/** When they were last used. Touches nothing else of them: somebody may be revoking one. */
	keysUsed: { in: { keys: { id: string; at: number }[] }; out: boolean };
	putToken: { in: StoredToken; out: boolean };
	revokeToken: { in: { id: string; at: number }; out: boolean };
	insertWait: { in: StoredWait; out: boolean };
	/** Changes a wait only while it is in one of `from`. */
	moveWait: {
		in: { id: string; from: StoredWait['state'][] } & Partial<
			Pick<
				StoredWait,
				'state' | 'timedOut' | 'tries' | 'nextTryAt' | 'lastError' | 'dueAt' | 'endedAt'
			>
		>;
		out: boolean;
	};
	putSchedule: { in: StoredSchedule; out: boolean };
	/** Its waiting occurrences are skipped. */
	removeSchedule: { in: { id: string; at: number }; out: boolean };
	/**
	 * Deals with a planned time that submits no job (unique on schedule, origin, planned time), its event, and
	 * the next time, all at once: a schedule killed at any moment never fires one twice.
	 */
	fire: { in: NewOccurrence; out: boolean };
	/** The job of an occurrence has ended. False when that was on record. */
	occurrenceEnded: {
		in: Pick<StoredOccurrence, 'scheduleId' | 'origin' | 'plannedAt'> & {
			outcome: FinalState;
			endedAt: number;
			ranMs: number | null;
			/** The schedule, if it is active, is paused with this reason. */
			pause?: string;
			event?: Omit<StoredEvent, 'cursor'>;
		};
		out: boolean;
	};
	putCalendar: { in: StoredCalendar; out: boolean };
	removeCalendar: { in: { name: string }; out: boolean };
	/**
	 * Creates a subscription after all that has happened, or before it (`fromStart`); or takes it over with a new
	 * epoch. One that is taken over skips what happened before `skipBefore`.
	 */
	takeSubscription: {
		in: {
			key: string;
			filter: string;
			fromStart: boolean;
			skipBefore?: number;
			createdBy: string;
			at: number;
		};
		out: { epoch: number; cursor: number };
	};
	ackSubscription: { in: { key: string; epoch: number; cursor: number; at: number }; out: boolean };
	dropSubscription: { in: { key: string }; out: boolean };
	/** Forgets those of `keys` that are older than `before` and not in use. Answers which were forgotten. */
	purge: { in: { what: Purgeable; keys: string[]; before: number }; out: string[] };
	/**
	 * A file is about to come. If the same one is here, or on its way from the same sender, that one is answered
	 * instead: the same means name, length and digest for what was sent, and attempt and path, too, for what was
	 * collected. A new one must fit: `full` = all together would exceed `maxFiles` or `maxBytes`; `many` = its
	 * attempt already has `maxOfAttempt`; `no-room` = the disk has no `room` for it.
	 */
	insertFile: {
		in: {
			file: StoredFile;
			maxFiles: number;
			maxBytes: number;
			maxOfAttempt: number;
			/** Bytes. */
			room: number;
		};
		out: StoredFile | 'full' | 'many' | 'no-room';
	};
	/** open → ready: its bytes are on disk. */
	readyFile: { in: { id: string; sha256: string; at: number }; out: boolean };
	/** ready → lost: its bytes are not there any more. */
	loseFile: { in: { id: string }; out: boolean };
	/** Only if no open job needs it; with `usedBefore`, unused since then and in no schedule; with `onlyOpen`, still open. */
	removeFile: {
		in: { id: string; usedBefore?: number; onlyOpen?: boolean };
		out: 'removed' | 'kept' | { heldBy: string };
	};
	putGroup: { in: StoredGroup; out: boolean };
	removeGroup: { in: { name: string }; out: boolean };
	putPool: { in: StoredPool; out: boolean };
	removePool: { in: { name: string }; out: boolean };
	putLimit: { in: StoredLimit; out: boolean };
	removeLimit: { in: { name: string }; out: boolean };
	/** Forgets starts that count no more. Answers how many. */
	sweepStarts: { in: { before: number; limit: number }; out: number };
	/** Forgets successes before `before`, and the oldest when there are more than `keep`. Answers how many. */
	sweepAffinities: { in: { before: number; keep: number; limit: number }; out: number };
	setMeta: { in: { key: string; value: string }; out: boolean };
	/**
	 * One minute of the series; sums are added to what is known of that minute, levels replace it unless they
	 * are null. Forgets older minutes.
	 */
	putSample: {
		in: { at: number; values: Record<SeriesName, number | null>; forgetBefore: number };
		out: boolean;
	};
}
export type DeedName = keyof Deeds;
export type Deed = { [N in DeedName]: { do: N } & { with: Deeds[N]['in'] } }[DeedName];
export type DeedAnswer = Deeds[DeedName]['out'];

/** The job that an idempotency key made before. */
export interface Earlier {
	duplicateOf: string;
	sameRequest: boolean;
	state: JobState;
}

/** What a robot must be told about a job, and what the engine must know to judge its attempt. */
export type Asked = Pick<
	StoredJob,
	| 'kind'
	| 'spec'
	| 'variables'
	| 'policy'
	| 'tries'
	| 'losses'
	| 'createdAt'
	| 'startedAt'
	| 'parentId'
>;

/** Spec and variables up to this many characters travel with a head. */
export const maxAskedLength = 2_048;

/** What is known of a waiting job, so that waiting jobs can be counted without the store. */
export interface Waiting {
	id: string;
	state: 'pending' | 'queued';
	lane: string;
	priority: Priority;
	rank: number;
	/** Who submitted it: `createdBy`. */
	owner: string;
	/** Of spec and variables. */
	bytes: number;
}

/** The jobs of one lane and share key that need the same, as an index finds them. */
export interface Queue {
	lane: string;
	shareKey: string;
	needs: string;
}

export interface Head extends Pick<Waiting, 'id' | 'priority' | 'rank' | 'owner' | 'bytes'> {
	bars: string | null;
	affinity: string | null;
	/** Of the last attempt, so that the next one is numbered without another read. */
	attempt: number;
	/** Small jobs bring along what they ask for, which saves a read when they are assigned. */
	asked?: Asked;
}

export interface ListFilter {
	state?: JobState;
	kind?: string;
	robotId?: string;
	parentId?: string;
	limit: number;
	/** Jobs older than this id. */
	before?: string;
}

/** Which jobs; all that is set must hold. */
export interface JobQuery {
	state?: JobState;
	kind?: string;
	robotId?: string;
	cause?: Cause;
	parentId?: string;
	shareKey?: string;
	priority?: Priority;
	/** Dead letters with this fingerprint. */
	fingerprint?: string;
	/** Any dead letter. */
	dead?: true;
	createdAfter?: number;
	createdBefore?: number;
}

/** Looks at one stretch of jobs. However many there are, it costs no more than `scan` of them. */
export interface Scan {
	query: JobQuery;
	/** Newest first; or in the order of whatever index finds them fastest. */
	order: 'newest' | 'any';
	/** Where the previous stretch ended. */
	after: string | null;
	/** Only ids from `idFrom` on, and only ids before `idBefore`. */
	idFrom?: string;
	idBefore?: string;
	scan: number;
	/** Ends the stretch once this many are found. */
	want?: number;
}

/** Every question: what it takes and what it answers. Answers reflect all commits before it. */
export interface Reads {
	/** The first `limit` jobs of a queue, best first. */
	heads: { in: Queue & { limit: number }; out: Head[] };
	/** Queues with at least one job. */
	queues: { in: null; out: Queue[] };
	/** Pending and queued jobs whose `dueAt` has come, and when the next one will be. */
	due: { in: { at: number; limit: number }; out: { jobs: StoredJob[]; nextAt: number | null } };
	job: { in: { id: string }; out: StoredJob | undefined };
	jobsById: { in: { ids: string[] }; out: StoredJob[] };
	outcomes: { in: { ids: string[] }; out: StoredOutcome[] };
	jobs: { in: ListFilter; out: StoredJob[] };
	/** Children in the order in which they go out, after the id `after`. */
	cells: { in: { parentId: string; after: string; limit: number }; out: StoredCell[] };
	/** By batch: a `Counted` of core/parents. */
	batches: { in: { parentId: string }; out: { batch: number; family: string }[] };
	/** How many are held after a restore, until somebody lets them go on. */
	restoredJobs: { in: null; out: number };
	/** Children that have not ended. */
	openChildren: { in: { parentId: string }; out: string[] };
	/** Running parents that somebody has cancelled. */
	cancelledParents: { in: null; out: string[] };
	/** The job that an idempotency key made. */
	keyed: { in: { scope: string; key: string; hash: string }; out: Earlier | null };
	/** Ids of jobs that a query finds in one stretch; `next` is missing at the end. */
	scan: { in: Scan; out: { ids: string[]; next?: string } };
	/** Groups of dead letters after the fingerprint `after`, with their newest jobs. */
	deadGroups: {
		in: { after: string; limit: number; samples: number };
		out: { fingerprint: string; jobIds: string[] }[];
	};
	/** Counts a stretch of one group; `next` is missing at the end. */
	deadCount: {
		in: { fingerprint: string; after: string; scan: number };
		out: { count: number; firstAt: number; lastAt: number; next?: string };
	};
	/** The first id of a job that waits. */
	oldestWaiting: { in: null; out: string | null };
	/** Jobs that wait, of one stretch of all jobs by id; `next` is missing at the end. */
	waiting: { in: { from: string; scan: number }; out: { jobs: Waiting[]; next?: string } };
	/** Jobs whose attempt holds a slot, with that attempt. */
	held: { in: null; out: { job: StoredJob; attempt: StoredAttempt }[] };
	attempt: { in: { jobId: string; epoch: number }; out: StoredAttempt | undefined };
	attempts: { in: { jobId: string }; out: StoredAttempt[] };
	/** How the robots of its attempts were chosen, where they were. */
	choices: { in: { jobId: string }; out: { attempt: number; choice: string }[] };
	/** The job that keeps duplicates of itself out. */
	duplicate: { in: { scope: string; hash: string; at: number }; out: string | undefined };
	timeline: { in: { jobId: string }; out: StoredMove[] };
	output: {
		/** `to` = where the stream ends by now. */
		in: {
			jobId: string;
			number: number;
			stream: Stream;
			from: number;
			to: number;
			maxBytes: number;
		};
		/**
		 * Bytes from `from` on up to the next hole; or the hole that `from` lies in. `found` = the hole was
		 * not on record: what lay there does not read back as it was written.
		 */
		out: { data: Uint8Array; hole: Hole | null; found: boolean };
	};
	/** Counts a stretch of the jobs in a state that does not wait; `next` is missing at the end. */
	countState: {
		in: { state: Exclude<JobState, 'pending' | 'queued'>; after: string; scan: number };
		out: { count: number; next?: string };
	};
	/** The newest jobs in a final state, newest first: whose the last try was, and how it came out. */
	ended: { in: { state: FinalState; limit: number }; out: Ended[] };
	robots: { in: null; out: StoredRobot[] };
	/** Enrolled once, removed or not. */
	isRobot: { in: { id: string }; out: boolean };
	/** The epoch of each robot's last turn. */
	turns: { in: null; out: { robotId: string; epoch: number }[] };
	groups: { in: null; out: StoredGroup[] };
	pools: { in: null; out: StoredPool[] };
	limits: { in: null; out: StoredLimit[] };
	/** Those that still count after `after`. */
	starts: { in: { after: number }; out: StoredStart[] };
	/** Queued jobs with one of these needs: how many, counting at most `max` of each, and the first of them. */
	behind: {
		in: { needs: string[]; limit: number; max: number };
		out: { count: number; first: Pick<StoredJob, 'id' | 'rank' | 'priority' | 'needs'>[] };
	};
	/** The newest successes by key, oldest first. */
	affinities: { in: { limit: number }; out: Success[] };
	devices: { in: null; out: StoredDevice[] };
	keys: { in: null; out: StoredKey[] };
	tokens: { in: null; out: StoredToken[] };
	wait: { in: { id: string }; out: StoredWait | undefined };
	liveWaits: { in: null; out: StoredWait[] };
	/** Newest first; `before` = the last one of the previous page. */
	waits: { in: { state?: StoredWait['state']; limit: number; before?: string }; out: StoredWait[] };
	schedules: { in: null; out: StoredSchedule[] };
	/** Newest planned times first; `before` = the last one of the previous page. */
	occurrences: {
		in: {
			scheduleId: string;
			limit: number;
			before?: Pick<StoredOccurrence, 'plannedAt' | 'origin'>;
		};
		out: StoredOccurrence[];
	};
	occurrence: {
		in: Pick<StoredOccurrence, 'scheduleId' | 'origin' | 'plannedAt'>;
		out: StoredOccurrence | undefined;
	};
	/** Of one schedule, or of all. */
	openOccurrences: { in: { scheduleId: string | null }; out: OpenOccurrence[] };
	/** In the order in which they run. */
	waitingOccurrences: { in: { scheduleId: string | null }; out: StoredOccurrence[] };
	/** Those with an outcome, the latest first. */
	endedOccurrences: { in: { scheduleId: string; limit: number }; out: StoredOccurrence[] };
	/** Planned times from `from` to before `to` that ran or will; or only those of which a backfill is under way. */
	ranBetween: {
		in: { scheduleId: string; from: number; to: number; underWay: boolean };
		out: number[];
	};
	/** Planned times from `from` to `to` that were dealt with as planned, whatever became of them. */
	dealtBetween: { in: { scheduleId: string; from: number; to: number }; out: number[] };
	/** Costs one look, however many there are. An earlier schedule of the same name does not count. */
	occurrenceTotals: { in: { scheduleId: string }; out: OccurrenceTotals };
	/** The same, counted one by one, to check the totals. */
	countedOccurrences: { in: { scheduleId: string }; out: OccurrenceTotals };
	calendars: { in: null; out: StoredCalendar[] };
	subscription: { in: { key: string }; out: StoredSubscription | undefined };
	/** How many were made by this key. */
	subscriptionsOf: { in: { createdBy: string }; out: number };
	/** Whether there is a subscription to its occurrences. */
	isFollowed: { in: { scheduleId: string }; out: boolean };
	/** All these subjects together, in the order in which things happened. */
	events: { in: { subjects: string[]; after: number; limit: number }; out: StoredEvent[] };
	/** Looks at the next `limit` of a kind after `cursor`: those old enough to be forgotten. */
	old: {
		in: { what: Purgeable; before: number; limit: number; cursor: string | null };
		/** `cursor` null = that was the end. */
		out: { old: string[]; cursor: string | null };
	};
	/** Counts final jobs, piece by piece. */
	finals: {
		in: { limit: number; cursor: string | null };
		out: { count: number; cursor: string | null };
	};
	file: { in: { id: string }; out: StoredFile | undefined };
	/** Newest first; those collected from one job, or all. */
	files: { in: { jobId?: string; before?: string; limit: number }; out: StoredFile[] };
	/** Files that no open job or schedule needs, unused since `usedBefore`; open ones have a limit of their own. */
	oldFiles: { in: { usedBefore: number; openBefore: number; limit: number }; out: string[] };
	/** Open ones of attempts that are over: nobody sends the rest. */
	leftFiles: { in: { limit: number }; out: string[] };
	meta: { in: { key: string }; out: string | undefined };
	/** A series in steps that begin at multiples of `stepMs`; those without a value are missing. */
	series: {
		in: { metric: SeriesName; from: number; to: number; stepMs: number };
		out: [at: number, value: number][];
	};
	/** One stretch of jobs by id, by state: `after` < id ≤ `upTo`. `next` is missing at the end. */
	tallies: {
		in: { after: string; upTo?: string; scan: number };
		out: { states: Tally[]; next?: string };
	};
	/** The same, by what they have in common. */
	breakdown: {
		in: { by: Breakdown; after: string; before: string; scan: number };
		out: { rows: ({ of: string } & Tally)[]; next?: string };
	};
	/** Planned times of all schedules, `from` ≤ time ≤ `to`, by what became of them. */
	plannedCounts: {
		in: { from: number; to: number };
		out: { state: OccurrenceState; blackout: number; outcome: FinalState | null; count: number }[];
	};
}

/** A child as its parent's table shows it. */
export type StoredCell = Pick<
	StoredJob,
	'state' | 'cause' | 'startedAt' | 'endedAt' | 'batch' | 'shut'
> & { jobId: string; cell: string; exitCode: number | null };

/** Jobs in one state, and how long those that completed ran together. */
export interface Tally {
	state: JobState;
	count: number;
	ranMs: number;
}
export type ReadName = keyof Reads;

export interface Store {
	/** This opening of the store; grows by one each time. Epochs begin with it, so none repeats. */
	readonly term: number;
	/** The version of the schema, and the older one that was found, if any. */
	readonly schema: number;
	readonly migratedFrom: number | null;
	/** A commit found the disk full; the room kept back for results is given up. */
	onPressed(listener: () => void): void;
	/** One transaction, one answer per deed. Rejects only when nothing at all was written. */
	commit(deeds: Deed[]): Promise<DeedAnswer[]>;
	read<N extends ReadName>(name: N, args: Reads[N]['in']): Promise<Reads[N]['out']>;
	/**
	 * Writes a consistent copy of everything to a file that does not exist yet, synced. Commits go on
	 * meanwhile; the copy holds all that were answered before it was asked for.
	 */
	snapshot(file: string): Promise<void>;
	close(): Promise<void>;
}
