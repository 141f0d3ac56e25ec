/** Jobs as their owners handle them: submit, look, cancel, retry, move by hand. */
import { createHash } from 'node:crypto';
import {
	canMove,
	isFinal,
	type Attempt,
	type Job,
	type JobState,
	Problem,
	type QueueStats,
	jobStates,
	limits,
	priorities,
	type Submit,
	type SubmitAnswer,
	type TimelineEntry,
} from '../../protocol';
import type { Stream } from '../../protocol/frames';
import { kinds } from '../../kinds';
import { describeRule, laneKey, laneRule, misfit, ruleOf } from '../core/matching';
import { priorityOf, rank } from '../core/rank';
import { type Policy, policyOf, policyText, lossDefaults, retryDefaults } from '../core/retry';
import {
	type Asked,
	type Deeds,
	maxAskedLength,
	type NewAttempt,
	type NewJob,
	type StoredJob,
} from '../store/store';
import { type Assigning, barred } from './assigning';
import type { Attempts } from './attempts';
import type { Context } from './context';
import { refOf, type RobotEntry } from './fleet';
import type { Caller, JobFilter, OutputChunk } from './index';
import type { Turn } from './turns';
import { attemptView, jobView, moveView } from './views';

type Prepared = Omit<Deeds['insertJob']['in'], 'attempt'>;

export class Jobs {
	readonly #context: Context;
	readonly #assigning: Assigning;
	readonly #attempts: Attempts;

	constructor(context: Context, assigning: Assigning, attempts: Attempts) {
		this.#context = context;
		this.#assigning = assigning;
		this.#attempts = attempts;
	}

	submit(jobs: Submit[], by: Caller): Promise<(SubmitAnswer | Problem)[]> {
		const now = this.#context.clock.now();
		const prepared = jobs.map((job) => {
			try {
				return this.#prepare(job, by, now);
			} catch (error) {
				if (error instanceof Problem) return error;
				throw error;
			}
		});
		return this.#insert(prepared);
	}

	async job(jobId: string, waitMs = 0, signal?: AbortSignal): Promise<Job> {
		const { clock, watchers } = this.#context;
		const job = await watchers.until(
			'ended',
			[jobId],
			() => this.#read(jobId),
			(read) => isFinal(read.state),
			{ ms: waitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
		return jobView(job);
	}

	async jobs(filter: JobFilter): Promise<{ items: Job[]; cursor?: string }> {
		const { cursor, ...rest } = filter;
		const found = await this.#context.store.read('jobs', {
			...rest,
			...(cursor === undefined ? {} : { before: cursor }),
		});
		const last = found.length === filter.limit ? found.at(-1) : undefined;
		return { items: found.map(jobView), ...(last ? { cursor: last.id } : {}) };
	}

	async attempts(jobId: string): Promise<Attempt[]> {
		await this.#read(jobId);
		return (await this.#context.store.read('attempts', { jobId })).map(attemptView);
	}

	async timeline(jobId: string): Promise<TimelineEntry[]> {
		await this.#read(jobId);
		return (await this.#context.store.read('timeline', { jobId })).map(moveView);
	}

	/** Cancelling twice, or after the end, is harmless: the job is answered as it is. */
	async cancel(jobId: string, by: Caller): Promise<Job> {
		const { turns, fleet } = this.#context;
		for (;;) {
			const job = await this.#read(jobId);
			if (isFinal(job.state) || job.cancelRequestedAt !== null) return jobView(job);
			await new Promise<void>((resolve, reject) => {
				turns.push({
					plan: (turn) => {
						if (!turn.touch(jobId)) return 'later';
						const live = fleet.live(jobId);
						if (!live) this.#end(turn, jobId, by, resolve);
						else {
							const wish = { jobId, epoch: live.epoch, at: turn.now };
							turn.add('requestCancel', wish, (wished) => {
								if (wished) {
									live.cancelRequestedAt = wish.at;
									const session = fleet.get(live.robotId)?.session;
									session?.sink.cancel({
										...refOf(live),
										reason: 'cancelled',
										grace_ms: limits.graceMs,
									});
								}
								resolve();
							});
						}
					},
					fail: reject,
				});
			});
		}
	}

	async retry(jobId: string, by: Caller): Promise<SubmitAnswer & { retryOf: string }> {
		const job = await this.#read(jobId);
		if (!isFinal(job.state)) throw new Problem('not-final', { state: job.state });
		const now = this.#context.clock.now();
		const policy = policyOf(job.policy);
		// The limits are the same; a deadline that has passed would only end it again.
		const { deadlineAt, ...timeouts } = policy.timeouts;
		const again: NewJob = {
			...this.#due(
				{
					...policy,
					timeouts: { ...timeouts, ...(deadlineAt && deadlineAt > now ? { deadlineAt } : {}) },
				},
				now,
				now,
			),
			id: this.#context.ids.next(),
			kind: job.kind,
			lane: job.lane,
			rank: rank(now, job.priority),
			priority: job.priority,
			createdAt: now,
			createdBy: `key:${by.name}`,
			retryOf: job.id,
			parentId: null,
			cell: null,
			shareKey: job.shareKey,
			spec: job.spec,
			variables: job.variables,
			target: job.target,
		};
		const [answer] = await this.#insert([{ job: again }]);
		if (answer instanceof Problem) throw answer;
		return { ...answer!, retryOf: job.id };
	}

	async moveJob(jobId: string, to: JobState, by: Caller): Promise<Job> {
		const { fleet, turns, lanes, clock } = this.#context;
		const job = await this.#read(jobId);
		if (!canMove(job.state, to)) throw new Problem('illegal-move', { from: job.state, to });
		if (to === 'cancelled') return this.cancel(jobId, by);
		const live = fleet.live(jobId);
		if (live && isFinal(to)) {
			await this.#attempts.forced(live, to, `key:${by.name}`);
			return this.job(jobId);
		}
		// What is left needs a robot's word (dispatched, running), or is a move of a waiting job.
		if (live || to === 'dispatched' || to === 'running') {
			throw new Problem('illegal-move', { from: job.state, to });
		}
		const at = clock.now();
		const moved = await turns.deed('moveJob', {
			jobId,
			from: [job.state],
			to,
			cause: to === 'failed' ? 'denied' : null,
			reason: 'set by hand',
			by: `key:${by.name}`,
			at,
			dueAt: to === 'pending' ? Number.MAX_SAFE_INTEGER : null,
		});
		if (!moved) throw new Problem('illegal-move', { from: (await this.#read(jobId)).state, to });
		if (isFinal(to)) this.#context.watchers.ended(jobId);
		if (to === 'queued') {
			lanes.push(job, { id: job.id, rank: job.rank, bars: job.bars, attempt: job.attempt });
			turns.nudge();
		}
		return this.job(jobId);
	}

	async output(
		jobId: string,
		stream: Stream,
		from: number,
		maxBytes: number,
	): Promise<OutputChunk> {
		const job = await this.#read(jobId);
		const have = (stream === 'stdout' ? job.stdoutHave : job.stderrHave) ?? 0;
		const data =
			from >= have
				? new Uint8Array()
				: await this.#context.store.read('output', {
						jobId,
						number: job.attempt,
						stream,
						from,
						maxBytes,
					});
		return { data, from, have, complete: job.outputDone === 1 && from + data.length >= have };
	}

	async outputGrew(
		jobId: string,
		stream: Stream,
		have: number,
		signal: AbortSignal,
	): Promise<void> {
		const { watchers, clock } = this.#context;
		await watchers.until(
			'output',
			[jobId],
			() => this.output(jobId, stream, have, 1),
			(chunk) => chunk.data.length > 0 || chunk.complete,
			{ ms: limits.maxWaitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	async queueStats(): Promise<QueueStats> {
		const counts = await this.#context.store.read('counts', null);
		const sum = (of: (count: (typeof counts)[number]) => boolean) =>
			counts.filter(of).reduce((total, { count }) => total + count, 0);
		return {
			total: sum(() => true),
			byState: Object.fromEntries(
				jobStates.map((state) => [state, sum((count) => count.state === state)]),
			) as QueueStats['byState'],
			byPriority: Object.fromEntries(
				priorities.map((priority) => [
					priority,
					sum((count) => count.state === 'queued' && count.priority === priority),
				]),
			) as QueueStats['byPriority'],
		};
	}

	async peek(robot?: string): Promise<Job | null> {
		const { lanes, clock } = this.#context;
		const entries = robot === undefined ? [...this.#context.fleet.all()] : [this.#find(robot)];
		let best: { id: string; rank: number } | undefined;
		for (const entry of entries) {
			const found = this.#assigning.bestFor(entry, clock.now());
			const head = found;
			if (
				head &&
				(!best || head.rank < best.rank || (head.rank === best.rank && head.id < best.id))
			) {
				best = head;
			}
		}
		if (!best && robot === undefined) {
			// Nobody could run any of it; the first in line is still the first in line.
			best = [...lanes.waiting]
				.flatMap((lane) => [...lane.queues.values()].map(({ heads }) => heads[0]!))
				.filter(Boolean)
				.sort((a, b) => a.rank - b.rank)[0];
		}
		return best ? this.job(best.id) : null;
	}

	async why(jobId: string): Promise<{ text: string }> {
		const { clock, fleet } = this.#context;
		const job = await this.#read(jobId);
		const name = fleet.get(job.robotId ?? '')?.stored.name ?? job.robotId;
		const now = clock.now();
		if (isFinal(job.state)) {
			const error =
				job.error === null ? '' : ` ${(JSON.parse(job.error) as { message: string }).message}`;
			return { text: `The job is ${job.state}.${error}` };
		}
		if (job.state === 'running') {
			const here = fleet.get(job.robotId ?? '')?.session;
			return {
				text: here
					? `The job is running on ${name}.`
					: `The job was running on ${name}, which is not connected; we wait for it to come back.`,
			};
		}
		if (job.state === 'dispatched')
			return { text: `The job was sent to ${name}, which has not answered yet.` };
		if (job.state === 'pending') {
			return {
				text: `The job is not eligible before ${new Date(job.readyAt).toISOString()}${job.tries > 0 ? `, for try ${job.tries + 1}` : ''}.`,
			};
		}
		return { text: this.#whyQueued(job, now) };
	}

	#whyQueued(job: StoredJob, now: number): string {
		const { fleet } = this.#context;
		const rule = laneRule(job.lane);
		if (rule.robot !== undefined) {
			const entry = fleet.get(rule.robot);
			if (!entry) return 'The job is for a robot that was removed.';
			return `The job waits for robot ${entry.stored.name}, which ${this.#blocker(entry, job, now)}.`;
		}
		const all = [...fleet.all()];
		const fitting = all.filter((entry) => misfit(rule, entry) === undefined);
		if (all.length === 0)
			return 'No robot has been enrolled yet; make a token with: robot-fleet token create.';
		if (fitting.length === 0) {
			const nearest = misfit(rule, all[0]!);
			return `None of the ${all.length} robots matches ${describeRule(rule)} (${all[0]!.stored.name} ${nearest}).`;
		}
		const reasons = new Map<string, number>();
		for (const entry of fitting) {
			const reason = this.#blocker(entry, job, now);
			reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
		}
		const list = [...reasons].map(([reason, count]) => `${count} ${reason}`).join(', ');
		return `${fitting.length} of ${all.length} robots match: ${list}.`;
	}

	#blocker(entry: RobotEntry, job: StoredJob, now: number): string {
		if (!entry.session) return 'is not connected';
		if (entry.stored.paused) return 'is paused';
		if (entry.session.stopping) return 'is stopping';
		if (barred(job.bars, entry.robotId, now)) return 'refused this job';
		if (entry.held.size >= entry.stored.slots) return 'is busy';
		return 'is free and about to take work';
	}

	#insert(prepared: (Prepared | Problem)[]): Promise<(SubmitAnswer | Problem)[]> {
		return new Promise((resolve, reject) => {
			const answers: (SubmitAnswer | Problem)[] = [];
			if (prepared.every((job) => job instanceof Problem)) {
				resolve(prepared);
				return;
			}
			let open = prepared.length;
			const settle = (i: number, answer: SubmitAnswer | Problem) => {
				answers[i] = answer;
				open -= 1;
				if (open === 0) resolve(answers);
			};
			this.#context.turns.push({
				plan: (turn) => {
					for (const [i, job] of prepared.entries()) {
						if (job instanceof Problem) settle(i, job);
						else this.#insertOne(turn, job, (answer) => settle(i, answer));
					}
				},
				fail: reject,
			});
		});
	}

	#insertOne(
		turn: Turn,
		prepared: Prepared,
		answer: (answer: SubmitAnswer | Problem) => void,
	): void {
		const { lanes } = this.#context;
		const { job, idempotency } = prepared;
		const lane = lanes.get(job.lane);
		const robot = job.state === 'queued' ? this.#assigning.robotFor(lane) : undefined;
		const attempt: NewAttempt | undefined = robot && this.#assigning.reserve(turn, robot, 1);
		turn.touch(job.id);
		turn.add('insertJob', { ...prepared, ...(attempt ? { attempt } : {}) }, (earlier) => {
			if (earlier) {
				if (robot) this.#assigning.unreserve(robot);
				answer(
					earlier.sameRequest
						? { jobId: earlier.duplicateOf, state: earlier.state, duplicate: true }
						: new Problem('key-conflict', { key: idempotency!.key, jobId: earlier.duplicateOf }),
				);
				return;
			}
			answer({ jobId: job.id, state: attempt ? 'dispatched' : job.state });
			if (attempt) {
				this.#assigning.assigned(robot!, attempt, { ...job, ...fresh(job), bars: null });
				return;
			}
			this.#context.dueAt(job.dueAt);
			if (job.state === 'queued') {
				const head = { id: job.id, rank: job.rank, bars: null, attempt: 0 };
				// A job too big to be kept in memory is read again when it is given away.
				const small = job.spec.length + job.variables.length <= maxAskedLength;
				lanes.push(job, small ? { ...head, asked: fresh(job) } : head);
			}
		});
	}

	/** pending or queued → cancelled; when the job has moved on meanwhile, the caller looks again. */
	#end(turn: Turn, jobId: string, by: Caller, done: () => void): void {
		turn.add(
			'moveJob',
			{
				jobId,
				from: ['pending', 'queued'],
				to: 'cancelled',
				cause: 'cancelled',
				reason: 'cancelled',
				by: `key:${by.name}`,
				at: turn.now,
				cancelRequestedAt: turn.now,
				error: JSON.stringify({
					type: 'cancelled',
					message: `Cancelled by ${by.name} before it started.`,
				}),
			},
			(moved) => {
				if (moved) this.#context.watchers.ended(jobId);
				done();
			},
		);
	}

	#prepare(submit: Submit, by: Caller, now: number): Prepared {
		const kind = kinds.get(submit.kind);
		if (!kind) {
			throw new Problem('unknown-kind', { kind: submit.kind, known: [...kinds.keys()].join(', ') });
		}
		const variables = submit.variables ?? {};
		const problem = kind.check(submit.spec, variables);
		if (problem) throw problem;
		const target = submit.target ?? {};
		const pinned = target.robot === undefined ? undefined : this.#find(target.robot);
		const priority = priorityOf(submit.priority);
		const policy = this.#policy(submit, kind.runMs);
		const readyAt = Math.max(now, submit.notBefore ?? 0);
		const spec = JSON.stringify(submit.spec);
		return {
			job: {
				...this.#due(policy, now, readyAt),
				id: this.#context.ids.next(),
				kind: submit.kind,
				lane: laneKey(ruleOf(target, pinned?.robotId)),
				rank: rank(readyAt, priority),
				priority,
				createdAt: now,
				createdBy: `key:${by.name}`,
				retryOf: null,
				parentId: null,
				cell: null,
				shareKey: '',
				spec,
				variables: JSON.stringify(variables),
				target: JSON.stringify(target),
			},
			...(submit.idempotencyKey === undefined
				? {}
				: {
						idempotency: {
							scope: by.keyId,
							key: submit.idempotencyKey,
							hash: createHash('sha256').update(canonical(submit)).digest('base64url'),
						},
					}),
		};
	}

	/** The state a job starts in and when it next needs a look. */
	#due(
		policy: Policy,
		now: number,
		readyAt: number,
	): Pick<NewJob, 'state' | 'readyAt' | 'dueAt' | 'policy'> {
		const { queueMs, deadlineAt } = policy.timeouts;
		const instants = [
			...(readyAt > now ? [readyAt] : []),
			...(queueMs === undefined ? [] : [now + queueMs]),
			...(deadlineAt === undefined ? [] : [deadlineAt]),
		];
		return {
			state: readyAt > now ? 'pending' : 'queued',
			readyAt,
			dueAt: instants.length > 0 ? Math.min(...instants) : null,
			policy: policyText(policy),
		};
	}

	#policy(submit: Submit, kindRunMs: number | undefined): Policy {
		return {
			timeouts: {
				...submit.timeouts,
				startMs: submit.timeouts?.startMs ?? limits.acceptMs,
				runMs: submit.timeouts?.runMs ?? kindRunMs ?? this.#context.settings.defaultJobTimeoutMs,
			},
			retry: submit.retry ? { ...retryDefaults, ...submit.retry } : retryDefaults,
			onLoss:
				typeof submit.onLoss === 'object'
					? { ...lossDefaults, ...submit.onLoss }
					: submit.onLoss
						? { ...lossDefaults, then: submit.onLoss }
						: lossDefaults,
			onDisconnect: submit.onDisconnect ?? 'continue',
			idempotent: submit.idempotent ?? false,
		};
	}

	#find(robot: string): RobotEntry {
		const found = this.#context.fleet.find(robot);
		if (found === 'ambiguous') throw new Problem('ambiguous-robot', { robot });
		if (!found) throw new Problem('unknown-robot', { robot });
		return found;
	}

	async #read(jobId: string): Promise<StoredJob> {
		const job = await this.#context.store.read('job', { id: jobId });
		if (!job) throw new Problem('no-such-job', { id: jobId });
		return job;
	}
}

/** What a new job asks for. */
function fresh({ kind, spec, variables, policy, createdAt }: NewJob): Asked {
	return { kind, spec, variables, policy, createdAt, tries: 0, losses: 0 };
}

/** The request without its key, keys sorted: the same wish gives the same text. */
function canonical(submit: Submit): string {
	const { idempotencyKey: _, ...rest } = submit;
	return JSON.stringify(rest, (_key, value: unknown) =>
		value !== null && typeof value === 'object' && !Array.isArray(value)
			? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
			: value,
	);
}
