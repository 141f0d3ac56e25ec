/** Jobs as they come in and as they are looked at. What changes one later is in changes.ts. */
import { createHash } from 'node:crypto';
import {
	isFinal,
	type Attempt,
	type Job,
	Problem,
	limits,
	type Submit,
	type SubmitAnswer,
	type TimelineEntry,
} from '../../protocol';
import type { Stream } from '../../protocol/frames';
import { kinds } from '../../kinds';
import { laneKey, ruleOf } from '../core/matching';
import { priorityOf, rank } from '../core/rank';
import { type Policy, policyText, lossDefaults, retryDefaults } from '../core/retry';
import {
	type Asked,
	type Deeds,
	maxAskedLength,
	type NewAttempt,
	type NewJob,
	type StoredJob,
} from '../store/store';
import type { Assigning } from './assigning';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Caller, JobFilter, OutputChunk } from './index';
import type { Turn } from './turns';
import { attemptView, holesOf, jobView, moveView } from './views';

export type Prepared = Omit<Deeds['insertJob']['in'], 'attempt'>;

export class Jobs {
	readonly #context: Context;
	readonly #assigning: Assigning;

	constructor(context: Context, assigning: Assigning) {
		this.#context = context;
		this.#assigning = assigning;
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
		return this.insert(prepared);
	}

	async job(jobId: string, waitMs = 0, signal?: AbortSignal): Promise<Job> {
		const { clock, watchers } = this.#context;
		const job = await watchers.until(
			'ended',
			[jobId],
			() => this.read(jobId),
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
		await this.read(jobId);
		return (await this.#context.store.read('attempts', { jobId })).map(attemptView);
	}

	async timeline(jobId: string): Promise<TimelineEntry[]> {
		await this.read(jobId);
		return (await this.#context.store.read('timeline', { jobId })).map(moveView);
	}

	async output(
		jobId: string,
		stream: Stream,
		from: number,
		maxBytes: number,
	): Promise<OutputChunk> {
		const { store, turns, log } = this.#context;
		const job = await this.read(jobId);
		const have = stream === 'stdout' ? job.stdoutHave : job.stderrHave;
		const name = { jobId, number: job.attempt, stream };
		const { data, hole, found } =
			from >= have
				? { data: new Uint8Array(), hole: null, found: false }
				: await store.read('output', { ...name, from, to: have, maxBytes });
		if (hole && found) {
			log.error('stored output is damaged', { ...name, ...hole });
			await turns.deed('markOutput', { ...name, hole });
		}
		const end = hole ? hole.to : from + data.length;
		const holes = holesOf(job.outputHoles)[stream] ?? [];
		return { data, from, hole, holes, have, complete: job.outputDone === 1 && end >= have };
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
			(chunk) => chunk.data.length > 0 || chunk.hole !== null || chunk.complete,
			{ ms: limits.maxWaitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	/** Stores prepared jobs, each with its first attempt when a robot is free for it. One answer each, in order. */
	insert(prepared: (Prepared | Problem)[]): Promise<(SubmitAnswer | Problem)[]> {
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

	#prepare(submit: Submit, by: Caller, now: number): Prepared {
		const kind = kinds.get(submit.kind);
		if (!kind) {
			throw new Problem('unknown-kind', { kind: submit.kind, known: [...kinds.keys()].join(', ') });
		}
		const variables = submit.variables ?? {};
		const problem = kind.check(submit.spec, variables);
		if (problem) throw problem;
		const target = submit.target ?? {};
		const pinned = target.robot === undefined ? undefined : this.findRobot(target.robot);
		const priority = priorityOf(submit.priority);
		const policy = this.#policy(submit, kind.runMs);
		const readyAt = Math.max(now, submit.notBefore ?? 0);
		const spec = JSON.stringify(submit.spec);
		return {
			job: {
				...startOf(policy, now, readyAt),
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

	findRobot(robot: string): RobotEntry {
		const found = this.#context.fleet.find(robot);
		if (found === 'ambiguous') throw new Problem('ambiguous-robot', { robot });
		if (!found) throw new Problem('unknown-robot', { robot });
		return found;
	}

	async read(jobId: string): Promise<StoredJob> {
		const job = await this.#context.store.read('job', { id: jobId });
		if (!job) throw new Problem('no-such-job', { id: jobId });
		return job;
	}
}

/** The state a job starts in and when it next needs a look. */
export function startOf(
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
