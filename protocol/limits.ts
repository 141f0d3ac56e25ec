/** Defaults and limits that both sides of a wire must agree on. Units are in the names. */
export const limits = {
	protocolVersion: 2,
	oldestProtocolVersion: 1,
	heartbeatMs: 15_000,
	/** A robot that is silent for this many heartbeats is offline. */
	missedHeartbeats: 3,
	acceptMs: 30_000,
	/** How long a robot that refused a job "for now" is not asked again for it. */
	refusalMs: 30_000,
	/** Time between the first, polite signal and the kill of the whole process group. */
	graceMs: 10_000,
	reconnectMinMs: 1_000,
	reconnectMaxMs: 60_000,
	authenticateMs: 10_000,
	/** Bytes of one piece on a line that polls (poll.ts): fewer than gateways let through by default. */
	pollPieceBytes: 256 * 1024,
	/** How long the service holds an answer back; gateways seldom wait longer than 30 s. */
	pollWaitMs: 25_000,
	/** A robot whose waiting request broke off sends another one within this time, or it is gone. */
	pollReturnMs: 2_000,
	maxBodyBytes: 10 * 1024 * 1024,
	/** For a call that needs no key. */
	maxStrangerBodyBytes: 16 * 1024,
	maxControlFrameBytes: 1024 * 1024,
	/** Spec and variables together: with the rest of the job they still fit into one control frame. */
	maxJobBytes: 960 * 1024,
	maxOutputFrameBytes: 256 * 1024,
	maxInlineResultBytes: 1024 * 1024,
	/** Output of a finished job that travels inside `job_result`. */
	maxInlineOutputBytes: 64 * 1024,
	/** Tail of stdout and of stderr kept in the result, each. */
	maxTailBytes: 32 * 1024,
	/** Output kept of a job, both streams together: its beginning and its end. */
	maxOutputBytes: 64 * 1024 * 1024,
	/** Bytes a second read from a job that has printed more than is kept, so that it leaves the processor to others. */
	floodBytesPerS: 32 * 1024 * 1024,
	/** The longest a stream can be, whatever anybody claims: numbers stay exact, even when they are added up. */
	maxStreamBytes: 2 ** 48,
	/** Output that one robot may have under way, unacknowledged, all its attempts together. */
	outputWindowBytes: 1024 * 1024,
	maxCommandBytes: 64 * 1024,
	/** A command's args, cwd, env and stdin with its variables in place: more than systems let a program have. */
	maxFilledBytes: 2 * 1024 * 1024,
	/** Bytes in one call that types into a job. */
	maxInputBytes: 64 * 1024,
	/** Typed bytes that may be on their way to one job, unacknowledged; and those that may wait behind them. */
	inputWindowBytes: 128 * 1024,
	maxWaitingInputBytes: 1024 * 1024,
	/** How long a call that types waits for the robot to answer. */
	inputWaitMs: 20_000,
	/** How long a program that asks for input waits for an answer. */
	inputMs: 300_000,
	/** What a job may hand out through marker lines, as JSON. */
	maxOutputsBytes: 256 * 1024,
	/** One file at the service, and all of them together. */
	maxFileBytes: 1024 * 1024 * 1024,
	maxFilesBytes: 10 * 1024 * 1024 * 1024,
	maxFiles: 100_000,
	/** How long a file that no open job needs is kept; and one that was never completely sent. */
	keepFilesMs: 7 * 86_400_000,
	keepOpenFilesMs: 86_400_000,
	/** Bytes of a file in one frame; and how many may be asked for at once, or be under way unacknowledged. */
	filePieceBytes: 64 * 1024,
	fileWindowBytes: 256 * 1024,
	maxPathBytes: 400,
	/** Of one job: files it brings along, patterns of files to collect, and files found by them. */
	maxJobFiles: 100,
	maxCollectPatterns: 100,
	maxCollectedFiles: 500,
	/** Files of one attempt that are on their way to the service at once. */
	maxTransfers: 4,
	maxIdBytes: 256,
	/** Named clients of one robot. */
	maxClients: 256,
	maxSubmitBatch: 1_000,
	maxListLimit: 1_000,
	/** Children of one parent, and the size of all their requests together. */
	maxChildren: 10_000,
	maxChildrenBytes: 64 * 1024 * 1024,
	/** Children that the result of a parent lists one by one. */
	maxResultCells: 1_000,
	maxWaitMs: 60_000,
	defaultJobTimeoutMs: 3_600_000,
	lossWaitMs: 300_000,
	/** Loss time runs only once the dispatcher has been ready for this long. */
	recoveryGraceMs: 90_000,
	maxLosses: 3,
	/** Jobs in a row that fail through their robot's own fault before it gets no more. */
	quarantineAfter: 3,
	/** From the quarantine to the first probe; doubled after each that fails, up to the second value. */
	probeMinMs: 60_000,
	probeMaxMs: 3_600_000,
	/** How long things that are over are kept. */
	keepJobsMs: 30 * 86_400_000,
	keepMaxJobs: 1_000_000,
	keepOccurrencesMs: 90 * 86_400_000,
	keepEventsMs: 30 * 86_400_000,
	/** Samples of the series, one a minute. */
	keepSamplesMs: 31 * 86_400_000,
	/** Points in one answer; longer periods come in longer steps. */
	maxPoints: 1_500,
	/** With less free space than this on the disk of the service: no new jobs. */
	minFreeBytes: 1024 * 1024 * 1024,
	/** Kept back on that disk, for results on the day it is full. */
	reserveBytes: 32 * 1024 * 1024,
	/** A clock step this large is a jump: every window of absence and silence starts over. */
	clockJumpMs: 5_000,
	/** Per API key: waiting jobs, and the bytes of their requests. */
	maxWaitingJobs: 1_000_000,
	maxWaitingBytes: 1024 * 1024 * 1024,
	/** Of one key: schedules and their bytes; waiting executions and the jobs they wait for. All of that is in memory. */
	maxSchedules: 10_000,
	maxScheduleBytes: 64 * 1024 * 1024,
	maxLiveWaits: 100_000,
	maxWaitedJobs: 1_000_000,
	/** Of one key: consumers of events. */
	maxSubscriptions: 10_000,
	/** Per minute: calls of one key, and failed proofs of identity from one address. */
	ratePerKey: 6_000,
	ratePerAddress: 100,
	/** Keys, and addresses, whose calls are counted at the same time. */
	maxRateBuckets: 10_000,
	/** A job that has been in line for this long is no longer overtaken by those behind it. */
	patienceMs: 60_000,
	/** The same for locks and the like, while the job also waits for a robot. */
	longPatienceMs: 600_000,
	/** How soon a full queue is worth another try. */
	queueFullRetryMs: 5_000,
	/** Jobs that one bulk call changes; the answer says where to go on. */
	maxBulk: 10_000,
	/** Of one calendar: spans or events, and dates excluded from them. */
	maxCalendarEntries: 2_000,
	dedupeWindowMs: 300_000,
	maxDedupeWindowMs: 86_400_000,
	/** How long a success counts for the affinity of its job's key, from the last one there. */
	affinityMs: 7 * 86_400_000,
	/** Robots whose successes are remembered, over all affinity keys; the oldest are forgotten. */
	maxAffinities: 50_000,
	/** Matching a robot against them costs as many looks as there are. */
	maxGroups: 1_000,
	maxPools: 200,
} as const;

/** Where things stand on the wire. */
export const paths = {
	api: '/api/v1',
	robotLink: '/api/v1/robots/link',
	robotPoll: '/api/v1/robots/link/poll',
	robotEnrol: '/api/v1/robots/enrol',
	live: '/api/v1/live',
} as const;
