/**
 * A typed caller of the service. It knows the calls, not how they travel: the transport is handed
 * in (`Send`), so the same client serves n8n nodes (n8n's request helper, or the embedded agent),
 * the CLI and tests. No timers, no sockets, no globals in here.
 */
import {
	type Attempt,
	type BackfillAnswer,
	type BackfillRequest,
	type Breakdown,
	type BreakdownRow,
	type BroadcastRequest,
	type BulkRequest,
	type BulkResult,
	type Calendar,
	type CalendarRequest,
	calls,
	type CallName,
	type Cells,
	type CloseRequest,
	type DeadLetterGroup,
	type DeadLetterRequest,
	type FileRecord,
	type FileRequest,
	type FleetEvent,
	type Forecast,
	type GateRecord,
	type Group,
	type GroupRequest,
	type HoldAnswer,
	type InputAnswer,
	type InputRequest,
	type Job,
	type JobChange,
	type JobPreview,
	type JobSelection,
	type KeyRecord,
	type KeyRequest,
	type KindRecord,
	type LimitRecord,
	type LimitRequest,
	type MetricsRecord,
	type Occurrence,
	paths,
	type PingAnswer,
	type Pool,
	type PoolRequest,
	type Preview,
	type PreviewRequest,
	Problem,
	type PurgeAnswer,
	type QueueStats,
	type ReleaseAnswer,
	type ReleaseRequest,
	type ResumeRequest,
	type RetryRequest,
	type Robot,
	type RobotRequest,
	type RobotsBulkRequest,
	type RobotsBulkResult,
	type RunRequest,
	type Schedule,
	type ScheduleChange,
	type ScheduleRequest,
	type Scope,
	type SeriesAnswer,
	type SeriesName,
	type ServiceStatus,
	type Stream,
	type Submit,
	type SubmitAnswer,
	type SubscriptionAnswer,
	type SubscriptionRequest,
	type TimelineEntry,
	type TokenCreated,
	type TokenRecord,
	type TokenRequest,
	type UpcomingRun,
	type Wait,
	type WaitRecord,
	type WaitRequest,
	type Why,
} from '../protocol';
import { Gatherer } from './gather';

export interface SendRequest {
	method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
	/** From the root of the service, query included: `/api/v1/jobs?limit=10`. */
	path: string;
	body?: unknown;
	/** A body that is not JSON. */
	bytes?: Uint8Array;
	/** The answer is bytes, handed on as they come. A refusal is JSON all the same. */
	stream?: true;
	signal?: AbortSignal;
	/** How long the service itself may take before it answers (long polls); the transport adds its own margin. */
	waitMs?: number;
}

export interface SendAnswer {
	status: number;
	/** The parsed JSON body; `undefined` when there was none. For a `stream` that was not refused: its bytes. */
	body: unknown;
	/** For a `stream`; names in lower case. */
	headers?: AnswerHeaders;
}

export type AnswerHeaders = Record<string, string | string[] | number | undefined>;
export type Bytes = AsyncIterable<Uint8Array>;

/** What is stored of one stream of a job, from some byte on. */
export interface OutputBytes {
	bytes: Bytes;
	/** Offset of the first byte, and the offset after the last one stored. */
	from: number;
	have: number;
	/** No more will come. */
	complete: boolean;
	/** Missing parts, in true offsets (`9-99;limit`); absent when there are none. */
	holes?: string;
}

/**
 * Carries one request. Answers with whatever status came back; throws a `Problem('service-away')`
 * when nothing came back at all.
 */
export type Send = (request: SendRequest) => Promise<SendAnswer>;

type Query = Record<string, string | number | boolean | undefined>;

export interface JobFilter extends JobSelection {
	limit?: number;
	cursor?: string;
}

export interface Page<T> {
	items: T[];
	/** Pass it as `cursor` for the next page; absent on the last. */
	cursor?: string;
}

/** One answer of a bulk submit, in order. */
export type BulkAnswer = SubmitAnswer | { error: ReturnType<Problem['toBody']> };

export interface ClientOptions {
	/** Submits made at the same time share requests: for callers with many at once. */
	gather?: boolean;
}

export class FleetClient {
	readonly #send: Send;
	readonly #gatherer: Gatherer | undefined;

	constructor(send: Send, { gather = false }: ClientOptions = {}) {
		this.#send = send;
		if (gather) this.#gatherer = new Gatherer((jobs) => this.submitMany(jobs));
	}

	/** With a `signal` it is a request of its own, which can be aborted alone. */
	submit(job: Submit, signal?: AbortSignal): Promise<SubmitAnswer> {
		if (this.#gatherer && !signal) return this.#gatherer.submit(job);
		return this.#call('submit', { body: job, signal });
	}

	async submitMany(jobs: Submit[], signal?: AbortSignal): Promise<BulkAnswer[]> {
		const answer = await this.#call<{ jobs: BulkAnswer[] }>('submit', {
			body: { jobs },
			signal,
		});
		return answer.jobs;
	}

	/** With `waitMs`, answers when the job is final or the time is up, whichever comes first. */
	job(jobId: string, waitMs?: number, signal?: AbortSignal): Promise<Job> {
		return this.#call('job', { id: jobId, query: { waitMs }, waitMs, signal });
	}

	jobs(filter: JobFilter = {}): Promise<Page<Job>> {
		return this.#call('jobs', { query: { ...filter } });
	}

	async attempts(jobId: string): Promise<Attempt[]> {
		return (await this.#call<{ items: Attempt[] }>('jobAttempts', { id: jobId })).items;
	}

	async timeline(jobId: string): Promise<TimelineEntry[]> {
		return (await this.#call<{ items: TimelineEntry[] }>('jobTimeline', { id: jobId })).items;
	}

	/** With a page, also what keeps each robot from it. */
	why(jobId: string, page?: { limit?: number; cursor?: string; only?: 'matching' }): Promise<Why> {
		const query = page && {
			robots: page.only ?? 'true',
			limit: page.limit,
			cursor: page.cursor,
		};
		return this.#call('jobWhy', { id: jobId, query });
	}

	/** What would become of a job; nothing is stored. */
	preview(job: Submit): Promise<JobPreview> {
		return this.#call('jobPreview', { body: job });
	}

	cancel(jobId: string): Promise<Job> {
		return this.#call('jobCancel', { id: jobId });
	}

	/** Where bytes are missing, a line in their place says so. */
	async output(
		jobId: string,
		{ stream, from, signal }: { stream?: Stream; from?: number; signal?: AbortSignal } = {},
	): Promise<OutputBytes> {
		const answer = await this.#download('jobOutput', {
			id: jobId,
			query: { stream, from },
			signal,
		});
		const said = (name: string) => answer.headers?.[`x-output-${name}`];
		const holes = said('holes');
		return {
			bytes: answer.body as Bytes,
			from: Number(said('from') ?? 0),
			have: Number(said('have') ?? 0),
			complete: said('complete') === 'true',
			...(holes === undefined ? {} : { holes: String(holes) }),
		};
	}

	/** Types into an interactive job; answers when its robot has taken it. With `from` it is safe to repeat. */
	input(jobId: string, input: InputRequest, signal?: AbortSignal): Promise<InputAnswer> {
		return this.#call('jobInput', { id: jobId, body: input, signal });
	}

	/** `only: 'failed'`: of a job for several robots, repeat only those on which it did not complete. */
	retry(jobId: string, request?: RetryRequest): Promise<SubmitAnswer & { retryOf: string }> {
		return this.#call('jobRetry', { id: jobId, ...(request && { body: request }) });
	}

	/** How a job for several robots stands: counts, batches, and each robot. */
	cells(jobId: string, page: { limit?: number; cursor?: string } = {}): Promise<Cells> {
		return this.#call('jobCells', { id: jobId, query: page });
	}

	/** Starts nothing more of a job that goes out in batches, until it is resumed. */
	pauseJob(jobId: string): Promise<Job> {
		return this.#call('jobPause', { id: jobId });
	}

	/** Lets it go on; with `batch` only if that one is next, which makes the call safe to repeat. */
	resumeJob(jobId: string, request: ResumeRequest = {}): Promise<Job> {
		return this.#call('jobResume', { id: jobId, body: request });
	}

	/** Answers a job that asks because its robot stays away. */
	answer(jobId: string, answer: HoldAnswer): Promise<Job> {
		return this.#call('jobAnswer', { id: jobId, body: answer });
	}

	/** Changes a waiting job: priority, hold or release, target. */
	change(jobId: string, change: JobChange): Promise<Job> {
		return this.#call('jobChange', { id: jobId, body: change });
	}

	/** Does the same to all jobs that a filter finds; a preview unless `expect` is given. */
	bulk(request: BulkRequest, signal?: AbortSignal): Promise<BulkResult> {
		return this.#call('jobsBulk', { body: request, signal });
	}

	deadLetters(page: { limit?: number; cursor?: string } = {}): Promise<Page<DeadLetterGroup>> {
		return this.#call('deadLetters', { query: page });
	}

	deadLetterJobs(
		fingerprint: string,
		page: { limit?: number; cursor?: string } = {},
	): Promise<Page<Job>> {
		return this.#call('deadLetterJobs', { id: fingerprint, query: page });
	}

	/** Submits dead letters again, each once. */
	replay(request: DeadLetterRequest, signal?: AbortSignal): Promise<BulkResult> {
		return this.#call('deadLettersReplay', { body: request, signal });
	}

	dismiss(request: Omit<DeadLetterRequest, 'target'>, signal?: AbortSignal): Promise<BulkResult> {
		return this.#call('deadLettersDismiss', { body: request, signal });
	}

	/** Announces a file; its bytes are sent from `have` on (`PUT /files/{id}/content?from=`). */
	createFile(file: FileRequest): Promise<FileRecord> {
		return this.#call('fileCreate', { body: file });
	}

	files(page: { job?: string; limit?: number; cursor?: string } = {}): Promise<Page<FileRecord>> {
		return this.#call('files', { query: page });
	}

	file(fileId: string): Promise<FileRecord> {
		return this.#call('file', { id: fileId });
	}

	/** Sends the next bytes of a file: `from` = how many are there already. Answers with the file as it is then. */
	writeFile(
		fileId: string,
		from: number,
		bytes: Uint8Array,
		signal?: AbortSignal,
	): Promise<FileRecord> {
		return this.#call('fileWrite', { id: fileId, query: { from }, bytes, signal });
	}

	/** The bytes of a file that is whole. */
	async fileContent(fileId: string, signal?: AbortSignal): Promise<Bytes> {
		return (await this.#download('fileContent', { id: fileId, signal })).body as Bytes;
	}

	removeFile(fileId: string): Promise<void> {
		return this.#call('fileRemove', { id: fileId });
	}

	queueStats(): Promise<QueueStats> {
		return this.#call('queueStats', {});
	}

	async robots(): Promise<Robot[]> {
		return (await this.#call<{ items: Robot[] }>('robots', {})).items;
	}

	/** By id or name. */
	robot(robot: string): Promise<Robot> {
		return this.#call('robot', { id: robot });
	}

	pauseRobot(robot: string, request: CloseRequest = {}): Promise<Robot> {
		return this.#call('robotPause', { id: robot, body: request });
	}

	/** Somebody works on the machine: no new jobs. */
	maintainRobot(robot: string, request: CloseRequest = {}): Promise<Robot> {
		return this.#call('robotMaintenance', { id: robot, body: request });
	}

	/** By hand: no jobs until it is resumed or probed. */
	quarantineRobot(robot: string, reason: string): Promise<Robot> {
		return this.#call('robotQuarantine', { id: robot, body: { reason } });
	}

	/** Sends a robot in quarantine its probe now, or as soon as it is connected. */
	probeRobot(robot: string): Promise<Robot> {
		return this.#call('robotProbe', { id: robot });
	}

	/** Does the same to all robots that a filter finds; a preview unless `expect` is given. */
	changeRobots(request: RobotsBulkRequest): Promise<RobotsBulkResult> {
		return this.#call('robotsBulk', { body: request });
	}

	resumeRobot(robot: string): Promise<Robot> {
		return this.#call('robotResume', { id: robot });
	}

	/** Gives it no new jobs; answers when it holds none, or after `waitMs`. */
	drainRobot(
		robot: string,
		waitMs: number,
		signal?: AbortSignal,
		request: CloseRequest = {},
	): Promise<Robot> {
		const query = { waitMs };
		return this.#call('robotDrain', { id: robot, query, body: request, waitMs, signal });
	}

	pingRobot(robot: string): Promise<PingAnswer> {
		return this.#call('robotPing', { id: robot });
	}

	refreshRobot(robot: string): Promise<Robot> {
		return this.#call('robotRefresh', { id: robot });
	}

	disconnectRobot(robot: string): Promise<Robot> {
		return this.#call('robotDisconnect', { id: robot });
	}

	/** Registers a device, or changes the one with this name; it need not be online. */
	registerRobot(request: RobotRequest): Promise<Robot> {
		return this.#call('robotRegister', { body: request });
	}

	/** Dials a registered device now; answers when the first try is over. */
	connectRobot(robot: string): Promise<Robot> {
		return this.#call('robotConnect', { id: robot });
	}

	shutdownRobot(robot: string, atOnce = false): Promise<Robot> {
		return this.#call('robotShutdown', { id: robot, body: { atOnce } });
	}

	broadcast(request: BroadcastRequest): Promise<{ told: number }> {
		return this.#call('robotsBroadcast', { body: request });
	}

	removeRobot(robot: string): Promise<void> {
		return this.#call('robotRemove', { id: robot });
	}

	/** Lets the robot's identity move to the machine that last came with it. */
	allowRobotMove(robot: string): Promise<Robot> {
		return this.#call('robotAllowMove', { id: robot });
	}

	createToken(token: TokenRequest = {}): Promise<TokenCreated> {
		return this.#call('tokenCreate', { body: token });
	}

	async tokens(): Promise<TokenRecord[]> {
		return (await this.#call<{ items: TokenRecord[] }>('tokens', {})).items;
	}

	revokeToken(tokenId: string): Promise<void> {
		return this.#call('tokenRevoke', { id: tokenId });
	}

	createKey(key: KeyRequest): Promise<KeyRecord & { key: string }> {
		return this.#call('keyCreate', { body: key });
	}

	async keys(): Promise<KeyRecord[]> {
		return (await this.#call<{ items: KeyRecord[] }>('keys', {})).items;
	}

	revokeKey(keyId: string): Promise<void> {
		return this.#call('keyRevoke', { id: keyId });
	}

	/** Lets jobs go on that have waited since a restore; those that may have run since are kept back, with the reason. */
	release(request: ReleaseRequest = {}): Promise<ReleaseAnswer> {
		return this.#call('jobsRelease', { body: request });
	}

	/** Forgets what is over and has been kept long enough, or only counts it. */
	purge(dryRun: boolean): Promise<PurgeAnswer> {
		return this.#call('purge', { body: { dryRun } });
	}

	service(): Promise<ServiceStatus> {
		return this.#call('service', {});
	}

	/** Takes no new jobs and assigns none; what runs goes on. */
	drain(): Promise<ServiceStatus> {
		return this.#call('serviceDrain', {});
	}

	/** Ends a `drain`. */
	takeWork(): Promise<ServiceStatus> {
		return this.#call('serviceResume', {});
	}

	/** The key in use. */
	me(): Promise<{ name: string; scopes: Scope[] }> {
		return this.#call('me', {});
	}

	createWait(wait: WaitRequest): Promise<{ waitId: string; state: Wait['state'] }> {
		return this.#call('waitCreate', { body: wait });
	}

	wait(waitId: string, waitMs?: number, signal?: AbortSignal): Promise<Wait> {
		return this.#call('wait', { id: waitId, query: { waitMs }, waitMs, signal });
	}

	/** Newest first. */
	waits(
		page: { state?: Wait['state']; limit?: number; cursor?: string } = {},
	): Promise<Page<WaitRecord>> {
		return this.#call('waits', { query: { ...page } });
	}

	closeWait(waitId: string): Promise<void> {
		return this.#call('waitClose', { id: waitId });
	}

	deliverWait(waitId: string): Promise<void> {
		return this.#call('waitDeliver', { id: waitId });
	}

	/** The kinds of jobs there are, each with the JSON Schema of its spec. */
	async kinds(): Promise<KindRecord[]> {
		return (await this.#call<{ items: KindRecord[] }>('kinds', {})).items;
	}

	async schedules(): Promise<Schedule[]> {
		return (await this.#call<{ items: Schedule[] }>('schedules', {})).items;
	}

	schedule(scheduleId: string): Promise<Schedule> {
		return this.#call('schedule', { id: scheduleId });
	}

	/** How the fleet is doing, and what came of today's jobs; today begins at midnight in `timezone` (default UTC). */
	metrics(timezone?: string): Promise<MetricsRecord> {
		return this.#call('metrics', { query: { timezone } });
	}

	/** Default: the last day. */
	metricSeries(metric: SeriesName, from?: number, to?: number): Promise<SeriesAnswer> {
		return this.#call('metricSeries', { query: { metric, from, to } });
	}

	/** Jobs submitted within a period (default: today), by what they have in common. */
	async metricBreakdown(by: Breakdown, from?: number, to?: number): Promise<BreakdownRow[]> {
		return (
			await this.#call<{ items: BreakdownRow[] }>('metricBreakdown', { query: { by, from, to } })
		).items;
	}

	/** Creates the schedule, or replaces it when the definition differs. */
	putSchedule(scheduleId: string, schedule: ScheduleRequest): Promise<Schedule> {
		return this.#call('schedulePut', { id: scheduleId, body: schedule });
	}

	/** Changes only the fields that are named; null = the default again. */
	changeSchedule(scheduleId: string, change: ScheduleChange): Promise<Schedule> {
		return this.#call('scheduleChange', { id: scheduleId, body: change });
	}

	removeSchedule(scheduleId: string): Promise<void> {
		return this.#call('scheduleRemove', { id: scheduleId });
	}

	pauseSchedule(scheduleId: string): Promise<Schedule> {
		return this.#call('schedulePause', { id: scheduleId });
	}

	resumeSchedule(scheduleId: string): Promise<Schedule> {
		return this.#call('scheduleResume', { id: scheduleId });
	}

	pauseSchedules(): Promise<{ changed: number }> {
		return this.#call('schedulesPause', {});
	}

	/** Resumes those that were paused all together. */
	resumeSchedules(): Promise<{ changed: number }> {
		return this.#call('schedulesResume', {});
	}

	/** Runs it now, whatever is planned. */
	runSchedule(scheduleId: string, request: RunRequest = {}): Promise<Occurrence> {
		return this.#call('scheduleRun', { id: scheduleId, body: request });
	}

	/** Runs planned times of the past; a preview unless `expect` is given. */
	backfill(scheduleId: string, request: BackfillRequest): Promise<BackfillAnswer> {
		return this.#call('scheduleBackfill', { id: scheduleId, body: request });
	}

	/** What became of its planned times, newest first. */
	occurrences(
		scheduleId: string,
		page: { limit?: number; cursor?: string } = {},
	): Promise<Page<Occurrence>> {
		return this.#call('scheduleOccurrences', { id: scheduleId, query: page });
	}

	async upcoming(limit?: number): Promise<UpcomingRun[]> {
		const answer = await this.#call<{ items: UpcomingRun[] }>('schedulesUpcoming', {
			query: { limit },
		});
		return answer.items;
	}

	forecast(days?: number): Promise<Forecast> {
		return this.#call('schedulesForecast', { query: { days } });
	}

	/** The run times of a schedule that is not stored. */
	previewSchedule(request: PreviewRequest): Promise<Preview> {
		return this.#call('schedulePreview', { body: request });
	}

	async groups(): Promise<Group[]> {
		return (await this.#call<{ items: Group[] }>('groups', {})).items;
	}

	group(name: string): Promise<Group> {
		return this.#call('group', { id: name });
	}

	/** Makes a group, or replaces it. */
	putGroup(name: string, group: GroupRequest): Promise<Group> {
		return this.#call('groupPut', { id: name, body: group });
	}

	removeGroup(name: string): Promise<void> {
		return this.#call('groupRemove', { id: name });
	}

	async pools(): Promise<Pool[]> {
		return (await this.#call<{ items: Pool[] }>('pools', {})).items;
	}

	pool(name: string): Promise<Pool> {
		return this.#call('pool', { id: name });
	}

	/** Makes a pool, or replaces it. */
	putPool(name: string, pool: PoolRequest): Promise<Pool> {
		return this.#call('poolPut', { id: name, body: pool });
	}

	removePool(name: string): Promise<void> {
		return this.#call('poolRemove', { id: name });
	}

	/** What jobs share: locks, keys, rates; who holds them, who waits. */
	async locks(): Promise<GateRecord[]> {
		return (await this.#call<{ items: GateRecord[] }>('locks', {})).items;
	}

	/** Sets how much a lock has, or how many jobs of a key may run; 0 = none. */
	putLimit(name: string, limit: LimitRequest): Promise<LimitRecord> {
		return this.#call('limitPut', { id: name, body: limit });
	}

	removeLimit(name: string): Promise<void> {
		return this.#call('limitRemove', { id: name });
	}

	async calendars(): Promise<Calendar[]> {
		return (await this.#call<{ items: Calendar[] }>('calendars', {})).items;
	}

	calendar(name: string): Promise<Calendar> {
		return this.#call('calendar', { id: name });
	}

	putCalendar(name: string, calendar: CalendarRequest): Promise<Calendar> {
		return this.#call('calendarPut', { id: name, body: calendar });
	}

	removeCalendar(name: string): Promise<void> {
		return this.#call('calendarRemove', { id: name });
	}

	/** Takes the subscription over: whoever held it before is refused from now on. */
	subscribe(key: string, subscription: SubscriptionRequest): Promise<SubscriptionAnswer> {
		return this.#call('subscriptionPut', { id: key, body: subscription });
	}

	/** Events that it has not acknowledged are gone. Fine if there is no such subscription. */
	unsubscribe(key: string): Promise<void> {
		return this.#call('subscriptionRemove', { id: key });
	}

	/** `after`: only those after that cursor, for a holder that looks ahead before it acknowledges. */
	async events(
		key: string,
		epoch: number,
		waitMs: number,
		signal?: AbortSignal,
		after?: number,
	): Promise<FleetEvent[]> {
		const answer = await this.#call<{ items: FleetEvent[] }>('subscriptionEvents', {
			id: key,
			query: { epoch, waitMs, after },
			waitMs,
			signal,
		});
		return answer.items;
	}

	acknowledge(key: string, epoch: number, cursor: number): Promise<void> {
		return this.#call('subscriptionAck', { id: key, body: { epoch, cursor } });
	}

	async #call<T>(name: CallName, { id, query, ...rest }: CallOptions): Promise<T> {
		const { method, path } = calls[name];
		const answer = await this.#send({ method, path: pathOf(path, id, query), ...rest });
		throwIfRefused(answer);
		return answer.body as T;
	}

	async #download(name: CallName, { id, query, ...rest }: CallOptions): Promise<SendAnswer> {
		const { method, path } = calls[name];
		const answer = await this.#send({
			method,
			path: pathOf(path, id, query),
			stream: true,
			...rest,
		});
		throwIfRefused(answer);
		return answer;
	}
}

interface CallOptions extends Pick<SendRequest, 'body' | 'bytes' | 'waitMs' | 'signal'> {
	id?: string;
	query?: Query;
}

function throwIfRefused({ status, body }: SendAnswer): void {
	if (status < 400) return;
	throw Problem.fromBody(body) ?? new Problem('internal', { reference: `HTTP ${status}` });
}

function pathOf(template: string, id: string | undefined, query: Query = {}): string {
	// These are read as folders on the way, and the call becomes another one: `/schedules/./pause` pauses all.
	if (id === '.' || id === '..') {
		throw new Problem('bad-field', { path: 'id', reason: `"${id}" is no id` });
	}
	const path = template
		.replace(/\{\w+\}/, encodeURIComponent(id ?? ''))
		.replace(/^\/(?!\/)/, `${paths.api}/`)
		.replace(/^\/\//, '/');
	const parts = Object.entries(query)
		.filter(([, value]) => value !== undefined)
		.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
	return parts.length > 0 ? `${path}?${parts.join('&')}` : path;
}
