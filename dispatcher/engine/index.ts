/**
 * The front door of the engine, the only room that writes. Every method that changes something
 * answers after its commit is on disk. Refusals are thrown as `Problem`s.
 */
import type {
	Attempt,
	BackfillAnswer,
	BackfillRequest,
	BackupRecord,
	Breakdown,
	BreakdownRow,
	BroadcastRequest,
	BulkRequest,
	BulkResult,
	Calendar,
	CalendarRequest,
	CancelJob,
	Cells,
	CloseRequest,
	CollectAnswer,
	CollectedPoke,
	Constellation,
	Control,
	DeadLetterGroup,
	DeadLetterRequest,
	EnrolAnswer,
	Facts,
	FileInfo,
	FileKept,
	FileOffer,
	FileRead,
	FileRecord,
	FileRefused,
	FileRequest,
	FileWant,
	FleetEvent,
	Forecast,
	GateRecord,
	Group,
	GroupRequest,
	Hello,
	HoldAnswer,
	Hole,
	InputAck,
	InputAnswer,
	InputMessage,
	InputRequest,
	Job,
	JobAccepted,
	JobAssignment,
	JobChange,
	JobPreview,
	JobRejected,
	JobResultMessage,
	JobState,
	KeyRecord,
	KeyRequest,
	LimitRecord,
	LimitRequest,
	MetricsRecord,
	Occurrence,
	OutputAck,
	OutputCredit,
	PingAnswer,
	Pool,
	PoolRequest,
	Preview,
	PreviewRequest,
	Problem,
	PromptMessage,
	PurgeAnswer,
	QuarantineRequest,
	QueueStats,
	ReleaseAnswer,
	ReleaseRequest,
	Resize,
	ResultAck,
	ResumeRequest,
	RetryRequest,
	Revoke,
	Robot,
	RobotRequest,
	RobotsBulkRequest,
	RobotsBulkResult,
	RunRequest,
	Schedule,
	ScheduleChange,
	ScheduleRequest,
	Scope,
	SeriesAnswer,
	SeriesName,
	ServiceStatus,
	StatusUpdate,
	Submit,
	SubmitAnswer,
	SubscriptionAnswer,
	SubscriptionRequest,
	TimelineEntry,
	TokenRecord,
	TokenRequest,
	Transport,
	UpcomingRun,
	Verdict,
	Wait,
	WaitingFor,
	WaitRecord,
	WaitRequest,
	Why,
} from '../../protocol';
import type { FileFrame, OutputFrame, Stream } from '../../protocol/frames';
import type { Family } from '../core/exposition';
import type { JobQuery } from '../store/store';
import type { Dialling } from './devices';
import type { Viewer } from './feed';
import type { HubKey } from './hub-key';

/** Who asks: goes into the timeline as `key:NAME`, and scopes idempotency keys. */
export interface Caller {
	keyId: string;
	name: string;
	scopes: readonly Scope[];
}

export interface JobFilter extends JobQuery {
	limit: number;
	cursor?: string;
}

/** A bulk request whose robot is found. */
export interface BulkOrder extends Omit<BulkRequest, 'filter'> {
	filter: JobQuery;
}

export interface OutputChunk {
	/** Empty where there is a hole. */
	data: Uint8Array;
	from: number;
	/** The hole that `from` lies in. */
	hole: Hole | null;
	/** Every hole of the stream by now. */
	holes: readonly Hole[];
	/** Bytes stored by now. */
	have: number;
	/** The attempt that these bytes are of: offsets of another one mean other bytes. */
	attempt: number;
	/** Nothing more will come: the job is final and all of its output is stored. */
	complete: boolean;
}

/** Bytes of a file as somebody sends them. */
export interface Incoming {
	pieces: AsyncIterable<Uint8Array>;
	/** Somebody else goes on with the file: `pieces` ends, or throws, soon. */
	cut(): void;
}

/** What the engine says to one connected robot. Calls never block and never throw. */
export interface RobotSink {
	assign(assignment: JobAssignment): void;
	cancel(cancel: CancelJob): void;
	revoke(revoke: Revoke): void;
	resultAck(ack: ResultAck): void;
	outputAck(ack: OutputAck): void;
	outputCredit(credit: OutputCredit): void;
	/** How it reaches the robot; for people. */
	readonly transport: Transport;
	/** Both sides know how input travels; else nothing is typed. */
	readonly takesInput: boolean;
	input(input: InputMessage): void;
	resize(resize: Resize): void;
	fileInfo(info: FileInfo): void;
	fileWant(want: FileWant): void;
	fileKept(kept: FileKept): void;
	fileRefused(refused: FileRefused): void;
	/** Resolves when it has left, or never will: one piece at a time is on its way. */
	fileBytes(frame: FileFrame): Promise<void>;
	/** Answers the id by which the robot names what it answers. */
	control(order: Control): string;
	/** What it said counts for nothing. */
	refuse(problem: Problem): void;
	/** Asks whether the robot itself is there now; `then` is called when it answers. */
	ping(then: () => void): void;
	/** Ends the connection with a close code. */
	close(code: number, reason: string): void;
}

/** One robot's connection, from proved key to closed socket. */
export interface RobotSession {
	readonly robotId: string;
	readonly name: string;
	readonly verdicts: Verdict[];
	/** Any frame at all proves that the robot lives. */
	seen(): void;
	accepted(message: JobAccepted): void;
	rejected(message: JobRejected): void;
	result(message: JobResultMessage): void;
	status(message: StatusUpdate): void;
	inputAck(message: InputAck): void;
	prompt(message: PromptMessage): void;
	output(frame: OutputFrame): void;
	fileRead(message: FileRead): void;
	fileOffer(message: FileOffer): void;
	fileBytes(frame: FileFrame): void;
	heartbeat(metrics: Record<string, number>): void;
	/** What it found out about its machine, perhaps because it was asked to look (`answers`). */
	facts(facts: Facts, answers?: string): void;
	/** It answers a ping. */
	pong(answers: string): void;
	/** The robot says it takes no new jobs (it stops, or its owner paused it). */
	takesNoMore(): void;
	/** Resolves when nothing that it was told before still waits for its turn. Never rejects. */
	takenUp(): Promise<void>;
	/** The connection is gone. Harmless when called twice. */
	closed(): void;
}

/** Robots after `cursor`, by id; `only` those that match. */
export interface RobotsPage {
	limit: number;
	cursor?: string;
	only?: 'matching';
}

export interface Engine {
	readonly hubId: string;

	/** One answer each, in order; a refused one does not touch the others. */
	submit(jobs: Submit[], by: Caller): Promise<(SubmitAnswer | Problem)[]>;
	/** With `waitMs` answers when the job is final or the time is over. */
	job(jobId: string, waitMs?: number, signal?: AbortSignal): Promise<Job>;
	jobs(filter: JobFilter): Promise<{ items: Job[]; cursor?: string }>;
	attempts(jobId: string): Promise<Attempt[]>;
	timeline(jobId: string): Promise<TimelineEntry[]>;
	/** With a page: what keeps each robot from it, too. */
	why(jobId: string, page?: RobotsPage): Promise<Why>;
	/** What would become of a job; nothing is stored. */
	preview(job: Submit, by: Caller): Promise<JobPreview>;
	cancel(jobId: string, by: Caller): Promise<Job>;
	/** How a job for several robots stands. */
	cells(jobId: string, page: { limit: number; cursor?: string }): Promise<Cells>;
	/** Of a job that goes out in batches: nothing more starts until it is resumed. */
	pauseRollout(jobId: string, by: Caller): Promise<Job>;
	resumeRollout(jobId: string, request: ResumeRequest, by: Caller): Promise<Job>;
	retry(
		jobId: string,
		by: Caller,
		request?: RetryRequest,
	): Promise<SubmitAnswer & { retryOf: string }>;
	/** Changes a job that waits; `not-waiting` when it does not any more. */
	change(jobId: string, change: JobChange, by: Caller): Promise<Job>;
	/** The same to all jobs a filter finds; a preview unless `expect` says how many there are. */
	bulk(request: BulkOrder, by: Caller, signal?: AbortSignal): Promise<BulkResult>;
	/** Groups of dead letters, the largest of each page first. */
	deadLetters(page: {
		limit: number;
		cursor?: string;
	}): Promise<{ items: DeadLetterGroup[]; cursor?: string }>;
	deadLetterJobs(
		fingerprint: string,
		page: { limit: number; cursor?: string },
	): Promise<{ items: Job[]; cursor?: string }>;
	/** Submits dead letters again, each exactly once. */
	replay(request: DeadLetterRequest, by: Caller, signal?: AbortSignal): Promise<BulkResult>;
	dismiss(
		request: Omit<DeadLetterRequest, 'target'>,
		by: Caller,
		signal?: AbortSignal,
	): Promise<BulkResult>;
	/** Moves a job by hand, through the state machine: `illegal-move` when the table has no such move. */
	moveJob(jobId: string, to: JobState, by: Caller): Promise<Job>;
	/** Answers a job that asks because its robot stays away; throws `nothing-asked`. */
	answer(jobId: string, answer: HoldAnswer, by: Caller): Promise<Job>;
	/** Up to `maxBytes` of stored output. */
	output(jobId: string, stream: Stream, from: number, maxBytes: number): Promise<OutputChunk>;
	/** Resolves when `output` would give more than `have`, or would say complete. */
	outputGrew(jobId: string, stream: Stream, have: number, signal: AbortSignal): Promise<void>;
	/** Types into a running interactive job; answers when its robot has taken all of it. */
	input(jobId: string, input: InputRequest, signal?: AbortSignal): Promise<InputAnswer>;
	/** What the program asks: resolves when that is another prompt than `known`, or after a while. */
	asks(jobId: string, known: WaitingFor | null, signal: AbortSignal): Promise<WaitingFor | null>;
	/** Removes the output of jobs that is to be kept no longer. Done by itself once a minute. */
	purgeOutput(): Promise<{ jobs: number; bytes: number }>;
	/** Announces a file; one that is here already, or on its way from the same caller, is answered instead. */
	createFile(file: FileRequest, by: Caller): Promise<FileRecord>;
	/** A file of this many bytes, in one go. */
	uploadFile(name: string, bytes: number, body: Incoming, by: Caller): Promise<FileRecord>;
	/** The next bytes of a file. What came before a cut is kept. */
	writeFile(fileId: string, from: number, body: Incoming): Promise<FileRecord>;
	files(page: {
		jobId?: string;
		limit: number;
		cursor?: string;
	}): Promise<{ items: FileRecord[]; cursor?: string }>;
	file(fileId: string): Promise<FileRecord>;
	/** Bytes `from` ≤ offset < `to` of a file that is whole. */
	fileBytes(fileId: string, from: number, to: number): Promise<AsyncIterable<Uint8Array>>;
	removeFile(fileId: string, by: Caller): Promise<void>;
	queueStats(): Promise<QueueStats>;
	/** The next job `robot` (any robot, when absent) would get. */
	peek(robot?: string): Promise<Job | null>;

	robots(): Promise<Robot[]>;
	/** By id or name. */
	robot(robot: string): Promise<Robot>;
	pauseRobot(robot: string, by: Caller, request?: CloseRequest): Promise<Robot>;
	/** Somebody works on the machine. */
	maintainRobot(robot: string, by: Caller, request?: CloseRequest): Promise<Robot>;
	/** No new jobs; answers when it holds none any more, or the time is over. */
	drainRobot(
		robot: string,
		waitMs: number,
		by: Caller,
		signal?: AbortSignal,
		request?: CloseRequest,
	): Promise<Robot>;
	/** Ends whatever closed it, and its quarantine. */
	resumeRobot(robot: string, by: Caller): Promise<Robot>;
	quarantineRobot(robot: string, request: QuarantineRequest, by: Caller): Promise<Robot>;
	/** A robot in quarantine gets its probe now, or as soon as it is there; throws `not-quarantined`. */
	probeRobot(robot: string, by: Caller): Promise<Robot>;
	/** The same to all robots a filter finds; a preview unless `expect` says how many there are. */
	changeRobots(request: RobotsBulkRequest, by: Caller): Promise<RobotsBulkResult>;
	pingRobot(robot: string): Promise<PingAnswer>;
	refreshRobot(robot: string): Promise<Robot>;
	disconnectRobot(robot: string, by: Caller): Promise<Robot>;
	/** Registers a device, or changes the one of this name; it need not be there. */
	registerRobot(request: RobotRequest, by: Caller): Promise<Robot>;
	/** Dials a registered device now; answers when the first try is over. */
	connectRobot(robot: string, by: Caller): Promise<Robot>;
	/** The devices of the settings, and none that earlier settings named. */
	settleConstellation(constellation: Constellation | undefined): Promise<void>;
	/** The key by which dialled robots recognize the service. */
	hubKey(): Promise<HubKey>;
	/** For whoever opens the sockets. */
	readonly dialling: Dialling;
	shutdownRobot(robot: string, atOnce: boolean, by: Caller): Promise<Robot>;
	broadcast(request: BroadcastRequest, by: Caller): Promise<{ told: number }>;
	removeRobot(robot: string, by: Caller): Promise<void>;
	/** The machine that came last with the robot's identity is its machine from now on. */
	allowMove(robot: string, by: Caller): Promise<Robot>;
	/** Exchanges a token for an identity. The same token with the same key is the same robot. */
	enrol(token: string, publicKey: string, name: string | undefined): Promise<EnrolAnswer>;
	/** The public key (SPKI DER, base64url) a robot must prove; throws `bad-proof` or `robot-revoked`. */
	robotKey(robotId: string): Promise<string>;
	/**
	 * Opens a session for a robot that proved its key; throws `robot-elsewhere` when one lives already,
	 * and `robot-moved` on another machine than its own. Sockets are numbered as they open (`socket`): a
	 * robot dials one after the other, so a hello on one older than its newest comes too late.
	 */
	connect(
		hello: Hello,
		sink: RobotSink,
		socket: number,
		/** Where it dialled from. */
		address?: string,
	): Promise<RobotSession>;

	/** `pin`: the fingerprint of the certificate that its robots are to find; absent = they need none. */
	createToken(
		token: TokenRequest,
		by: Caller,
		pin?: string,
	): Promise<TokenRecord & { token: string }>;
	tokens(): Promise<TokenRecord[]>;
	revokeToken(tokenId: string, by: Caller): Promise<void>;
	createKey(key: KeyRequest, by: Caller): Promise<KeyRecord & { key: string }>;
	keys(): Promise<KeyRecord[]>;
	revokeKey(keyId: string, by: Caller): Promise<void>;
	/** The holder of a key, from memory; throws `bad-key`. */
	verifyKey(key: string): Caller;

	createWait(wait: WaitRequest, by: Caller): Promise<{ waitId: string; state: Wait['state'] }>;
	/** With `waitMs` answers when the wait is no longer open or the time is over. */
	wait(waitId: string, waitMs?: number, signal?: AbortSignal): Promise<Wait>;
	closeWait(waitId: string): Promise<void>;
	deliverWait(waitId: string): Promise<void>;
	/** Newest first. */
	waits(page: {
		state?: Wait['state'];
		limit: number;
		cursor?: string;
	}): Promise<{ items: WaitRecord[]; cursor?: string }>;
	/** Pokes for whoever knows this secret; waits for the first as long as there may be one. */
	collect(secret: string, waitMs: number, signal?: AbortSignal): Promise<CollectAnswer>;
	/** What n8n answered to them. */
	collected(secret: string, answers: CollectedPoke[]): Promise<void>;

	schedules(): Promise<Schedule[]>;
	schedule(scheduleId: string): Promise<Schedule>;
	putSchedule(scheduleId: string, schedule: ScheduleRequest, by: Caller): Promise<Schedule>;
	/** Changes only the fields that are named; null = the default again. */
	changeSchedule(scheduleId: string, change: ScheduleChange, by: Caller): Promise<Schedule>;
	removeSchedule(scheduleId: string, by: Caller): Promise<void>;
	pauseSchedule(scheduleId: string, by: Caller): Promise<Schedule>;
	resumeSchedule(scheduleId: string, by: Caller): Promise<Schedule>;
	/** All that are active. */
	pauseSchedules(by: Caller): Promise<{ changed: number }>;
	/** Those that `pauseSchedules`, or a restore, paused. */
	resumeSchedules(by: Caller): Promise<{ changed: number }>;
	/** Runs it now, whatever is planned. */
	runSchedule(scheduleId: string, request: RunRequest, by: Caller): Promise<Occurrence>;
	/** Runs planned times of the past; a preview unless `expect` is given. */
	backfill(scheduleId: string, request: BackfillRequest, by: Caller): Promise<BackfillAnswer>;
	/** What became of its planned times, newest first. */
	occurrences(
		scheduleId: string,
		page: { limit: number; cursor?: string },
	): Promise<{ items: Occurrence[]; cursor?: string }>;
	/** The next runs of all schedules together. */
	upcoming(limit: number): Promise<UpcomingRun[]>;
	/** What is planned, and where it will not fit. */
	forecast(days: number): Promise<Forecast>;
	/** What a schedule would do; nothing is stored. */
	previewSchedule(request: PreviewRequest): Promise<Preview>;
	groups(): Promise<Group[]>;
	group(name: string): Promise<Group>;
	putGroup(name: string, group: GroupRequest, by: Caller): Promise<Group>;
	removeGroup(name: string, by: Caller): Promise<void>;
	pools(): Promise<Pool[]>;
	pool(name: string): Promise<Pool>;
	putPool(name: string, pool: PoolRequest, by: Caller): Promise<Pool>;
	removePool(name: string, by: Caller): Promise<void>;
	/** What jobs share, who has it and who waits for it. */
	locks(): Promise<GateRecord[]>;
	putLimit(name: string, limit: LimitRequest, by: Caller): Promise<LimitRecord>;
	removeLimit(name: string): Promise<void>;
	calendars(): Promise<Calendar[]>;
	calendar(name: string): Promise<Calendar>;
	putCalendar(name: string, calendar: CalendarRequest, by: Caller): Promise<Calendar>;
	removeCalendar(name: string): Promise<void>;
	subscribe(
		key: string,
		subscription: SubscriptionRequest,
		by: Caller,
	): Promise<SubscriptionAnswer>;
	/** Forgets it; one that is not there is fine. */
	unsubscribe(key: string, by: Caller): Promise<void>;
	/** `after`: only those after that cursor, for a holder that reads ahead before it acknowledges. */
	events(
		key: string,
		epoch: number,
		by: Caller,
		waitMs: number,
		signal?: AbortSignal,
		after?: number,
	): Promise<FleetEvent[]>;
	acknowledge(key: string, epoch: number, cursor: number, by: Caller): Promise<void>;

	/** Lets jobs that a restore holds back go on; those that may have run since are kept, with the reason. */
	release(request: ReleaseRequest, by: Caller): Promise<ReleaseAnswer>;
	/** No new jobs and no new assignments from now on; what runs goes on and results are taken. */
	drain(by: Caller): Promise<void>;
	/** The end of `drain`. */
	takeWork(by: Caller): Promise<void>;
	/** Asks for the end of every job that has not ended, for at most `withinMs`. */
	cancelAll(by: Caller, withinMs: number): Promise<void>;
	/** Resolves when all that was asked for before is committed and answered. */
	flush(): Promise<void>;
	/**
	 * Looks on at a live channel until the returned function is called: a snapshot first, or what happened
	 * after `since` where that is still known, then events. Throws `bad-field` and `no-such-job`.
	 */
	look(channel: string, since: number | undefined, viewer: Viewer): Promise<() => void>;
	/** How the fleet is, and what came of the jobs of today, which begins at midnight in `timezone`. */
	metrics(timezone?: string): Promise<MetricsRecord>;
	/** Default: the last day. */
	metricSeries(metric: SeriesName, from?: number, to?: number): Promise<SeriesAnswer>;
	/** Jobs submitted within a time (default: today in UTC) by what they have in common. */
	metricBreakdown(
		by: Breakdown,
		from?: number,
		to?: number,
		signal?: AbortSignal,
	): Promise<BreakdownRow[]>;
	/** What scrapers are told of the engine. Costs nothing that grows with jobs. */
	families(): Promise<Family[]>;
	/** How the service itself is. */
	service(): Promise<Omit<ServiceStatus, 'version' | 'doors'>>;
	/** Forgets what is old enough now, or only counts it. Ends in time for an answer; `more` = ask again. */
	purge(dryRun: boolean): Promise<PurgeAnswer>;
	/** A backup was handed out whole. */
	noteBackup(record: BackupRecord): Promise<void>;

	/** Whether work is taken: `ready`, or the name of what is missing. */
	readonly readiness: string;
	/** Commits what is under way and stops; robots carry on, the queue stays. Harmless when called twice. */
	stop(): Promise<void>;
}
