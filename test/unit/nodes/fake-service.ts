/**
 * A whole small service behind a `Send`: jobs end when a test says so, waits become due when their
 * jobs have ended or their time is up, subscriptions redeliver until acknowledged.
 */
import { type Tally, verdictOf } from '../../../dispatcher/core/wait-condition';
import type { Send, SendAnswer, SendRequest } from '../../../client';
import {
	type FleetEvent,
	isFinal,
	type Job,
	type JobResult,
	type JobState,
	type KindRecord,
	type Origin,
	Problem,
	type ProblemCode,
	type ProblemDetails,
	type Robot,
	type Schedule,
	type ScheduleRequest,
	type Submit,
	type SubmitAnswer,
	type Wait,
	type WaitRequest,
	type WaitedJob,
} from '../../../protocol';

export const robots: Robot[] = [
	robot('0192aaaa-0000-7000-8000-000000000001', 'berlin-1', 'online', { site: 'berlin' }, ['gpu']),
	robot('0192aaaa-0000-7000-8000-000000000002', 'berlin-2', 'busy', { site: 'berlin' }, []),
	robot('0192aaaa-0000-7000-8000-000000000003', 'paris-1', 'offline', { site: 'paris' }, ['gpu']),
];

export class FakeService {
	/** Every request as it came, for tests that count them. */
	readonly requests: SendRequest[] = [];
	readonly jobs = new Map<string, Job & { submit: Submit }>();
	readonly waits = new Map<string, Wait & { request: WaitRequest }>();
	readonly schedules = new Map<string, ScheduleRequest>();
	readonly paused = new Set<string>();
	kinds: KindRecord[] = [];
	/** Why jobs wait, and how many robots match them. */
	why = { text: 'The job waits for a free robot.', matching: 1 };
	/** What a submit is answered with. */
	submitState: SubmitAnswer['state'] = 'queued';
	/** Whether no robot may run what is submitted. */
	unmatched = false;
	readonly events: FleetEvent[] = [];
	scopes = ['submit', 'read', 'cancel'];
	/** Set = nothing answers. */
	away = false;
	/** What a request is refused with. */
	refuses: (request: SendRequest) => Problem | undefined = () => undefined;
	/** Refuses the next submit whose command is this. */
	refuse: { command: string; code: ProblemCode; details: ProblemDetails } | undefined;
	epoch = 0;
	acknowledged = 0;
	#ids = 0;
	#wakeUp: Array<() => void> = [];

	readonly send: Send = async (request) => {
		this.requests.push(request);
		if (this.away) throw new Problem('service-away', { url: 'http://fleet', reason: 'refused' });
		try {
			const refusal = this.refuses(request);
			if (refusal) throw refusal;
			return { status: 200, body: await this.#answer(request) };
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
			return { status: error.status, body: { error: error.toBody() } };
		}
	};

	calls(path: RegExp, method = 'POST'): SendRequest[] {
		return this.requests.filter((each) => each.method === method && path.test(each.path));
	}

	end(jobId: string, state: JobState, cause: Job['cause'] = null, result: Partial<JobResult> = {}) {
		const job = this.jobs.get(jobId)!;
		job.state = state;
		job.cause = cause;
		job.robotId = robots[0]!.robotId;
		job.result = {
			exitCode: 0,
			signal: null,
			stdout: '',
			stderr: '',
			truncated: false,
			outputs: {},
			durationMs: 5,
			error: null,
			processGone: true,
			...result,
		};
		this.#wake();
	}

	/** The time of a wait is over. */
	expire(waitId: string) {
		const wait = this.waits.get(waitId)!;
		wait.timedOut = true;
		wait.state = 'due';
		this.#wake();
	}

	/** An occurrence of a schedule comes due. */
	fire(
		scheduleId: string,
		plannedAt: number,
		{ at = Date.now(), origin = 'planned' }: { at?: number; origin?: Origin } = {},
	) {
		this.events.push({
			cursor: this.events.length + 1,
			at,
			type: 'schedule.due',
			data: { scheduleId, plannedAt, origin, late: false },
		});
		this.#wake();
	}

	/** Another consumer takes every subscription over. */
	takeOver() {
		this.epoch += 1;
		this.#wake();
	}

	addJob(submit: Submit = { kind: 'command', spec: { command: 'uname' } }): string {
		const jobId = `0192ffff-0000-7000-8000-${String((this.#ids += 1)).padStart(12, '0')}`;
		this.jobs.set(jobId, {
			submit,
			jobId,
			kind: 'command',
			state: 'queued',
			cause: null,
			attempt: 0,
			robotId: null,
			client: null,
			priority: 'normal',
			progress: 0,
			message: null,
			waitingFor: null,
			result: null,
			error: null,
			createdAt: 0,
			startedAt: null,
			endedAt: null,
			cancelRequestedAt: null,
			retryOf: null,
			retriedAs: null,
			parentId: null,
			cell: null,
			children: null,
			shareKey: null,
			hold: null,
			dead: null,
			spec: submit.spec,
			variables: {},
			target: {},
			timeouts: {},
			notBefore: null,
			output: { stdout: 0, stderr: 0, complete: false },
			createdBy: 'key:n8n',
		});
		return jobId;
	}

	#wake() {
		for (const wake of this.#wakeUp.splice(0)) wake();
	}

	/** Until something happens, or the caller hangs up. */
	#change(signal?: AbortSignal): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#wakeUp.push(resolve);
			signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
		});
	}

	async #answer({ method, path, body, waitMs, signal }: SendRequest): Promise<SendAnswer['body']> {
		const url = new URL(path, 'http://fleet');
		const [what, id, verb] = url.pathname.replace('/api/v1/', '').split('/');
		if (what === 'me') return { name: 'n8n', scopes: this.scopes };
		if (what === 'robots' && id === undefined) return { items: robots };
		if (what === 'robots') {
			const known = robots.find(({ robotId }) => robotId === id);
			if (known) return known;
			throw new Problem('no-such-robot', { id: id! });
		}
		if (what === 'jobs' && method === 'POST') {
			return { jobs: (body as { jobs: Submit[] }).jobs.map((submit) => this.#submit(submit)) };
		}
		if (what === 'jobs' && verb === 'cancel') return this.#cancel(id!);
		if (what === 'jobs' && method === 'GET' && verb === undefined) return this.jobs.get(id!);
		if (what === 'waits' && id === undefined) return this.#createWait(body as WaitRequest);
		if (what === 'waits') return await this.#wait(id!, verb, waitMs, signal);
		if (what === 'jobs' && verb === 'why') {
			const { text, matching } = this.why;
			const robots = { robots: 3, matching, free: 0, obstacles: [], items: [] };
			return { text, ...(url.searchParams.has('robots') ? { robots } : {}) };
		}
		if (what === 'kinds') return { items: this.kinds };
		if (what === 'schedules' && method === 'PUT') {
			return this.#putSchedule(id!, body as ScheduleRequest);
		}
		if (what === 'schedules') return this.#schedule(id!, verb);
		if (what === 'subscriptions') return await this.#subscription(method, verb, url, body, signal);
		throw new Problem('no-such-route', { method, path });
	}

	#submit(submit: Submit) {
		const same = [...this.jobs.values()].find(
			(job) => job.submit.idempotencyKey === submit.idempotencyKey,
		);
		if (same) {
			const { jobId, state } = same;
			if (JSON.stringify(same.submit) === JSON.stringify(submit)) {
				return { jobId, state, duplicate: true };
			}
			const key = submit.idempotencyKey!;
			return { error: new Problem('key-conflict', { key, jobId }).toBody() };
		}
		if ((submit.spec as { command?: string }).command === this.refuse?.command && this.refuse) {
			return { error: new Problem(this.refuse.code, this.refuse.details).toBody() };
		}
		const alone = this.submitState === 'queued' && this.unmatched;
		return {
			jobId: this.addJob(submit),
			state: this.submitState,
			...(alone ? { unmatched: true } : {}),
		};
	}

	#cancel(id: string) {
		if (!isFinal(this.jobs.get(id)!.state)) this.end(id, 'cancelled', 'cancelled');
		return this.jobs.get(id);
	}

	#createWait(request: WaitRequest) {
		for (const id of request.jobIds) {
			if (!this.jobs.has(id)) throw new Problem('no-such-job', { id });
		}
		const waitId = `wait-${(this.#ids += 1)}`;
		this.waits.set(waitId, {
			request,
			waitId,
			state: 'open',
			timedOut: false,
			met: false,
			until: request.until ?? 'all',
			counts: request.counts ?? 'ended',
			cancelRest: request.cancelRest ?? false,
			jobs: [],
			executionId: request.executionId ?? null,
			nodeId: request.nodeId ?? null,
			tries: 0,
			lastError: null,
			createdAt: 0,
			deadlineAt: request.limitMs ?? null,
		});
		return { waitId, state: 'open' };
	}

	/** A grace ends at once when nothing has happened: tests do not wait for it. */
	async #wait(id: string, verb: string | undefined, waitMs = 0, signal?: AbortSignal) {
		const wait = this.waits.get(id);
		if (!wait) throw new Problem('no-such-wait', { id });
		if (verb === 'close') {
			wait.state = 'closed';
			return undefined;
		}
		if (waitMs > 0 && this.onGrace) await this.onGrace(signal);
		wait.jobs = wait.request.jobIds.map((jobId) => this.jobs.get(jobId)!);
		const verdict = verdictOf(
			wait,
			wait.jobs.map((job) => tallyOf(job, wait.request.eachRobot === true)),
		);
		wait.met = verdict === 'met';
		if (wait.state === 'open' && verdict !== 'open') wait.state = 'due';
		return wait;
	}

	/** What happens while a node waits in memory. */
	onGrace: ((signal?: AbortSignal) => Promise<void> | void) | undefined;

	#putSchedule(scheduleId: string, request: ScheduleRequest): Schedule {
		const cron = request.cron ?? request.when?.cron;
		if (cron !== undefined && cron.split(' ').length < 5) {
			throw new Problem('bad-cron', { reason: `"${cron}" has too few fields` });
		}
		this.schedules.set(scheduleId, request);
		if (request.enabled) this.paused.delete(scheduleId);
		return this.#schedule(scheduleId);
	}

	#schedule(scheduleId: string, verb?: string): Schedule {
		const request = this.schedules.get(scheduleId);
		if (!request) throw new Problem('no-such-schedule', { id: scheduleId });
		if (verb === 'pause') this.paused.add(scheduleId);
		return {
			scheduleId,
			missed: 'last',
			catchUpMs: 3_600_000,
			catchUpMax: 100,
			when: { frequency: 'cron', cron: request.cron },
			cron: request.cron ?? request.when?.cron ?? null,
			...request,
			state: this.paused.has(scheduleId) ? 'paused' : 'active',
		} as unknown as Schedule;
	}

	async #subscription(
		method: string,
		verb: string | undefined,
		url: URL,
		body: unknown,
		signal?: AbortSignal,
	) {
		if (method === 'PUT') return { epoch: (this.epoch += 1), cursor: this.acknowledged };
		const given =
			verb === 'ack' ? (body as { epoch: number }).epoch : Number(url.searchParams.get('epoch'));
		if (verb === 'ack') {
			if (given !== this.epoch) throw new Problem('stale-epoch');
			this.acknowledged = (body as { cursor: number }).cursor;
			return undefined;
		}
		const after = Number(url.searchParams.get('after') ?? 0);
		const open = () =>
			this.events.filter(({ cursor }) => cursor > Math.max(this.acknowledged, after)).slice(0, 100);
		if (open().length === 0 && url.searchParams.get('waitMs') !== '0') await this.#change(signal);
		if (this.away) throw new Problem('service-away', { url: 'http://fleet', reason: 'gone' });
		const refusal = this.#refusal;
		this.#refusal = undefined;
		if (refusal) throw refusal;
		if (given !== this.epoch) throw new Problem('stale-epoch');
		return { items: open() };
	}

	#refusal: Problem | undefined;

	/** Ends the long poll with this. */
	breakOff(refusal: Problem) {
		this.#refusal = refusal;
		this.#wake();
	}

	/** Breaks every long poll, as a restart of the service does. */
	drop() {
		this.away = true;
		this.#wake();
	}
}

function tallyOf({ state, children }: WaitedJob, eachRobot: boolean): Tally {
	if (eachRobot && children) {
		const { total, completed, failed, timeout, cancelled } = children;
		return { total, ended: completed + failed + timeout + cancelled, completed };
	}
	return { total: 1, ended: isFinal(state) ? 1 : 0, completed: state === 'completed' ? 1 : 0 };
}

function robot(
	robotId: string,
	name: string,
	status: Robot['status'],
	labels: Record<string, string>,
	capabilities: string[],
): Robot {
	return {
		robotId,
		name,
		status,
		connected: status !== 'offline',
		labels,
		capabilities,
		slots: 1,
		clients: [],
		held: status === 'busy' ? 1 : 0,
		currentJobs: [],
		lastSeenAt: null,
		createdAt: 0,
		info: {},
		metrics: null,
		health: null,
		record: { completed: 0, failed: 0, lost: 0, successPercent: null },
		agentVersion: null,
		transport: null,
		clone: null,
		closed: null,
		quarantine: null,
	};
}
