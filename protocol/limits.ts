/** Defaults and limits that both sides of a wire must agree on. Units are in the names. */
export const limits = {
	protocolVersion: 2,
	oldestProtocolVersion: 1,
	heartbeatMs: 15_000,
	/** A robot silent for so many heartbeats is offline. */
	missedHeartbeats: 3,
	acceptMs: 30_000,
	/** How long a robot that refused a job "for now" is not asked again for it. */
	refusalMs: 30_000,
	/** Politeness between the first signal and the kill of the whole process group. */
	graceMs: 10_000,
	reconnectMinMs: 1_000,
	reconnectMaxMs: 60_000,
	authenticateMs: 10_000,
	/** Of a line that polls (poll.ts): bytes of one piece, fewer than what gateways let through by default. */
	pollPieceBytes: 256 * 1024,
	/** How long the service keeps an answer back; gateways seldom wait longer than 30 s. */
	pollWaitMs: 25_000,
	/** A robot whose waiting request broke off comes with another one within this time, or it is gone. */
	pollReturnMs: 2_000,
	maxBodyBytes: 10 * 1024 * 1024,
	/** Of a call that needs no key. */
	maxStrangerBodyBytes: 16 * 1024,
	maxControlFrameBytes: 1024 * 1024,
	/** Of spec and variables: with all else that is said of a job it fits into one control frame. */
	maxJobBytes: 960 * 1024,
	maxOutputFrameBytes: 256 * 1024,
	maxInlineResultBytes: 1024 * 1024,
	/** Output of a finished job that travels inside `job_result`. */
	maxInlineOutputBytes: 64 * 1024,
	/** Tail of stdout and of stderr kept in the result, each. */
	maxTailBytes: 32 * 1024,
	/** Output kept of a job, both streams together: the beginning and the end of it. */
	maxOutputBytes: 64 * 1024 * 1024,
	/** Bytes a second that are read of a job that has printed more than is kept, so that it leaves the processor to others. */
	floodBytesPerS: 32 * 1024 * 1024,
	/** How long a stream can be, whatever is said of it: numbers stay whole, also when they are added up. */
	maxStreamBytes: 2 ** 48,
	/** Output that one robot may have under way, unacknowledged, all its attempts together. */
	outputWindowBytes: 1024 * 1024,
	maxCommandBytes: 64 * 1024,
	/** Of what a command has in args, cwd, env and stdin, its variables in place: more than systems let a program have. */
	maxFilledBytes: 2 * 1024 * 1024,
	/** Of one call that types into a job. */
	maxInputBytes: 64 * 1024,
	/** Typed bytes that may be on their way to one job, unacknowledged; and that may wait for that. */
	inputWindowBytes: 128 * 1024,
	maxWaitingInputBytes: 1024 * 1024,
	/** How long a call that types waits for the robot's word. */
	inputWaitMs: 20_000,
	/** How long a program that asks waits for an answer. */
	inputMs: 300_000,
	/** What a job may hand out by marker lines, as JSON. */
	maxOutputsBytes: 256 * 1024,
	/** Of one file at the service, and of all together. */
	maxFileBytes: 1024 * 1024 * 1024,
	maxFilesBytes: 10 * 1024 * 1024 * 1024,
	maxFiles: 100_000,
	/** How long a file is kept that no open job needs; and one that was never sent to its end. */
	keepFilesMs: 7 * 86_400_000,
	keepOpenFilesMs: 86_400_000,
	/** A file travels in frames of so many bytes; so many may be asked for at once, or be under way unacknowledged. */
	filePieceBytes: 64 * 1024,
	fileWindowBytes: 256 * 1024,
	maxPathBytes: 400,
	/** Of one job: files it brings along, patterns of what it takes home, and files found by them. */
	maxJobFiles: 100,
	maxCollectPatterns: 100,
	maxCollectedFiles: 500,
	/** Of one attempt: files on their way to the service at once. */
	maxTransfers: 4,
	maxIdBytes: 256,
	/** Named clients of one robot. */
	maxClients: 256,
	maxSubmitBatch: 1_000,
	maxListLimit: 1_000,
	/** Children of one parent, and what their requests may weigh together. */
	maxChildren: 10_000,
	maxChildrenBytes: 64 * 1024 * 1024,
	/** Children that the result of a parent lists one by one. */
	maxResultCells: 1_000,
	maxWaitMs: 60_000,
	defaultJobTimeoutMs: 3_600_000,
	lossWaitMs: 300_000,
	/** Loss time runs only while the dispatcher has been ready for so long. */
	recoveryGraceMs: 90_000,
	maxLosses: 3,
	/** Jobs in a row that fail for reasons of their robot's own before it gets no more. */
	quarantineAfter: 3,
	/** From the quarantine to the first probe; twice as long after each that fails, up to the second. */
	probeMinMs: 60_000,
	probeMaxMs: 3_600_000,
	/** How long what is over is kept. */
	keepJobsMs: 30 * 86_400_000,
	keepMaxJobs: 1_000_000,
	keepOccurrencesMs: 90 * 86_400_000,
	keepEventsMs: 30 * 86_400_000,
	/** Samples of the series, one a minute. */
	keepSamplesMs: 31 * 86_400_000,
	/** Points of one answer; longer times come in longer steps. */
	maxPoints: 1_500,
	/** Less free room than this on the disk of the service: no new jobs. */
	minFreeBytes: 1024 * 1024 * 1024,
	/** Kept back on that disk, for results on the day it is full. */
	reserveBytes: 32 * 1024 * 1024,
	/** A step of a clock that is a jump: every window of absence and silence starts anew. */
	clockJumpMs: 5_000,
	/** Per API key: jobs that wait, and the bytes of what they ask for. */
	maxWaitingJobs: 1_000_000,
	maxWaitingBytes: 1024 * 1024 * 1024,
	/** Of one key: schedules, and their bytes; executions that wait, and jobs for which they do. All of that lies in memory. */
	maxSchedules: 10_000,
	maxScheduleBytes: 64 * 1024 * 1024,
	maxLiveWaits: 100_000,
	maxWaitedJobs: 1_000_000,
	/** Of one key: consumers of events. */
	maxSubscriptions: 10_000,
	/** Calls a minute: of one key, and of one address refusals of what should prove who it is. */
	ratePerKey: 6_000,
	ratePerAddress: 100,
	/** Keys, and addresses, whose calls are counted at once. */
	maxRateBuckets: 10_000,
	/** A job that is in line for so long is not passed any more by those behind it. */
	patienceMs: 60_000,
	/** The same of locks and the like, while it waits for a robot besides. */
	longPatienceMs: 600_000,
	/** When a full queue is worth another try. */
	queueFullRetryMs: 5_000,
	/** Jobs that one bulk call changes; the answer says where to go on. */
	maxBulk: 10_000,
	/** Of one calendar: spans or events, and dates that are left out of them. */
	maxCalendarEntries: 2_000,
	dedupeWindowMs: 300_000,
	maxDedupeWindowMs: 86_400_000,
	/** How long a success counts for the affinity of its job's key, after the last one there. */
	affinityMs: 7 * 86_400_000,
	/** Robots of all affinity keys together whose successes are known; the oldest ones are forgotten. */
	maxAffinities: 50_000,
	/** Whatever joins a robot to them costs as many looks as there are. */
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
