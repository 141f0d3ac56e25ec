/** Jobs as they come in and as they are looked at. What changes one later is in changes.ts. */
import { createHash } from 'node:crypto';
import {
	isFinal,
	type Attempt,
	type Choice,
	type Job,
	Problem,
	limits,
	type Submit,
	type SubmitAnswer,
	type Target,
	type TimelineEntry,
} from '../../protocol';
import type { Stream } from '../../protocol/frames';
import { kinds, wishesOf } from '../../kinds';
import { choiceOf } from '../core/choice';
import { type FanOut, fanOutOf } from '../core/fan-out';
import { whyNobody } from '../core/lacking';
import { patienceOf } from '../core/patience';
import { environmentLabel, laneKey, laneWith, ruleOf } from '../core/matching';
import { needsText, takesOf } from '../core/needs';
import { priorityOf, rank } from '../core/rank';
import { type Policy, lossDefaults, retryDefaults } from '../core/retry';
import type { NewJob, StoredJob } from '../store/store';
import { bytesOf } from './backlog';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Caller, JobFilter, OutputChunk } from './index';
import { refuseImpossible } from './locks';
import type { Parents } from './parents';
import { earlierAnswer, keyedAnswer, type Placing, type Prepared, startOf } from './placing';
import { nextStretch } from './stretches';
import type { Turn } from './turns';
import { attemptView, holesOf, jobView, moveView } from './views';

/** Where a job waits, and how that was asked for. */
export type Home = Pick<NewJob, 'lane' | 'target' | 'children'>;

export class Jobs {
	readonly #context: Context;
	readonly #placing: Placing;
	readonly #parents: Parents;

	constructor(context: Context, placing: Placing, parents: Parents) {
		this.#context = context;
		this.#placing = placing;
		this.#parents = parents;
	}

	submit(jobs: Submit[], by: Caller): Promise<(SubmitAnswer | Problem)[]> {
		const now = this.#context.clock.now();
		const prepared = jobs.map((job) => {
			try {
				return this.prepare(job, by, now);
			} catch (error) {
				if (error instanceof Problem) return error;
				throw error;
			}
		});
		const isRepeatable = (one: Prepared | Problem, i: number) =>
			one instanceof Problem && jobs[i]!.idempotencyKey !== undefined;
		if (prepared.some(isRepeatable)) return this.#repeated(jobs, prepared, by);
		return this.#insertAll(jobs, prepared);
	}

	#insertAll(
		jobs: readonly Submit[],
		prepared: (Prepared | Problem)[],
	): Promise<(SubmitAnswer | Problem)[]> {
		return jobs.some(({ strict }) => strict)
			? this.#strictly(jobs, prepared)
			: this.insert(prepared);
	}

	/** A request that is wrong now may have been right when it first came: then that answer stands. */
	async #repeated(
		jobs: readonly Submit[],
		prepared: (Prepared | Problem)[],
		by: Caller,
	): Promise<(SubmitAnswer | Problem)[]> {
		const known = await Promise.all(
			prepared.map(async (one, i) => {
				const key = jobs[i]!.idempotencyKey;
				if (!(one instanceof Problem) || key === undefined) return undefined;
				const wish = { scope: by.keyId, key, hash: hashOf(jobs[i]!) };
				const earlier = await this.#context.store.read('keyed', wish);
				return earlier === null ? undefined : keyedAnswer(earlier, key);
			}),
		);
		const answers = await this.#insertAll(jobs, prepared);
		return answers.map((answer, i) => known[i] ?? answer);
	}

	/** Refuses those that are strict and that nobody could run. */
	async #strictly(
		jobs: readonly Submit[],
		prepared: (Prepared | Problem)[],
	): Promise<(SubmitAnswer | Problem)[]> {
		const judged = prepared.map(async (one, i) => {
			if (one instanceof Problem || !jobs[i]!.strict) return one;
			const problem = this.nobodyFits(one);
			if (!problem || !one.idempotency) return problem ?? one;
			// The same request may have found a robot when it came first.
			return (await this.#context.store.read('keyed', one.idempotency)) ? one : problem;
		});
		return this.insert(await Promise.all(judged));
	}

	/** None of the robots that are enrolled has all that the job names. */
	nobodyFits({ job }: Prepared): Problem | undefined {
		const { fleet, lanes } = this.#context;
		const { rule, robots } = lanes.get(job.lane);
		if (robots.size > 0) return undefined;
		return new Problem('no-robot-fits', { why: whyNobody(rule, [...fleet.all()], fleet.nameOf) });
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
		return this.#view(job);
	}

	async jobs({ limit, cursor, ...query }: JobFilter): Promise<{ items: Job[]; cursor?: string }> {
		const { store } = this.#context;
		const ids: string[] = [];
		for (let after: string | null | undefined = null; after !== undefined && ids.length < limit;) {
			const stretch: Awaited<ReturnType<typeof nextStretch>> = await nextStretch(store, query, {
				order: 'newest',
				after,
				want: limit - ids.length,
				...(cursor === undefined ? {} : { idBefore: cursor }),
			});
			ids.push(...stretch.ids);
			after = stretch.next;
		}
		const found = await store.read('jobsById', { ids });
		const last = ids.length === limit ? ids.at(-1) : undefined;
		return {
			items: found.map((job) => this.#view(job)),
			...(last === undefined ? {} : { cursor: last }),
		};
	}

	#view(job: StoredJob): Job {
		return jobView(job, this.#context.fleet.live(job.id));
	}

	async attempts(jobId: string): Promise<Attempt[]> {
		await this.read(jobId);
		const { store } = this.#context;
		const [attempts, choices] = await Promise.all([
			store.read('attempts', { jobId }),
			this.choices(jobId),
		]);
		return attempts.map((attempt) =>
			attemptView(attempt, choices.get(attempt.number)?.(attempt.robotId)),
		);
	}

	/** By attempt: how its robot was chosen. */
	async choices(jobId: string): Promise<Map<number, (robotId: string) => Choice>> {
		const { fleet, store } = this.#context;
		const stored = await store.read('choices', { jobId });
		return new Map(
			stored.map(({ attempt, choice }) => [
				attempt,
				(robotId: string) => choiceOf(choice, robotId, fleet.nameOf),
			]),
		);
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
		const complete = job.outputDone === 1 && end >= have;
		return { data, from, hole, holes, have, attempt: job.attempt, complete };
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
			// Fewer than before belong to a new attempt.
			(chunk) =>
				chunk.data.length > 0 || chunk.hole !== null || chunk.complete || chunk.have < have,
			{ ms: limits.maxWaitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	/** Stores prepared jobs, each with its first attempt when a robot is free for it. One answer each, in order. */
	insert(prepared: (Prepared | Problem)[]): Promise<(SubmitAnswer | Problem)[]> {
		return new Promise((resolve, reject) => {
			const answers: (SubmitAnswer | Problem)[] = [];
			let open = prepared.length;
			if (open === 0) return resolve(answers);
			const settle = (i: number, answer: SubmitAnswer | Problem) => {
				answers[i] = answer;
				open -= 1;
				if (open === 0) resolve(answers);
			};
			const works: { plan(turn: Turn): 'later' | void; places: number[] }[] = [];
			let singles: [number, Prepared][] = [];
			const gather = () => {
				const these = singles;
				singles = [];
				if (these.length === 0) return;
				const plan = (turn: Turn) => {
					for (const [i, job] of these) this.#insertOne(turn, job, (answer) => settle(i, answer));
				};
				works.push({ plan, places: these.map(([i]) => i) });
			};
			for (const [i, job] of prepared.entries()) {
				if (job instanceof Problem) settle(i, job);
				else if (job.job.children === null) singles.push([i, job]);
				else {
					// Each may become thousands of jobs: they need not share a turn, and keep their order.
					gather();
					const plan = (turn: Turn) =>
						this.#parents.insert(turn, job, (answer) => settle(i, answer), reject);
					works.push({ plan, places: [i] });
				}
			}
			gather();
			for (const { plan, places } of works) {
				const fail = (error: Error) => {
					// Of several, some may be stored: a caller told that all failed would send them again.
					if (works.length === 1 || !(error instanceof Problem)) reject(error);
					else for (const i of places) settle(i, error);
				};
				this.#context.turns.push({ plan, fail });
			}
		});
	}

	#insertOne(
		turn: Turn,
		prepared: Prepared,
		answer: (answer: SubmitAnswer | Problem) => void,
	): void {
		const { job } = prepared;
		const place = this.#placing.reserve(turn, job);
		const admitted = place ? () => undefined : this.#placing.admit(turn, job);
		if (admitted instanceof Problem) {
			answer(admitted);
			return;
		}
		turn.touch(job.id);
		turn.add('insertJob', { ...prepared, ...(place && { attempt: place.attempt }) }, (earlier) => {
			admitted();
			if (earlier) {
				if (place) this.#placing.release(place);
				answer(earlierAnswer(earlier, prepared));
				return;
			}
			const state = place ? 'dispatched' : job.state;
			this.#placing.placed(job, place);
			// It has its queue by now, so its lane is matched already.
			const alone = state === 'queued' && this.#context.lanes.get(job.lane).robots.size === 0;
			answer({ jobId: job.id, state, ...(alone ? { unmatched: true } : {}) });
		});
	}

	/**
	 * A job of a schedule: a job of its own, however alike they are. When its time has come (`due`), one that excludes or
	 * prefers a robot that is gone by now does without it; one that must have a robot, group or pool now gone is refused.
	 */
	scheduled({ dedupe: _, ...submit }: Submit, scheduleId: string, due = true): Prepared | Problem {
		try {
			const by = { keyId: '', name: scheduleId, scopes: [] };
			const prepared = this.prepare(submit, by, this.#context.clock.now(), due);
			const nobody = due && submit.strict ? this.nobodyFits(prepared) : undefined;
			if (nobody) return nobody;
			return { ...prepared, job: { ...prepared.job, createdBy: `schedule:${scheduleId}` } };
		} catch (error) {
			if (error instanceof Problem) return error;
			throw error;
		}
	}

	/** The job as it will be stored; throws what is wrong with it. */
	prepare(submit: Submit, by: Caller, now = this.#context.clock.now(), lenient = false): Prepared {
		const kind = kinds.get(submit.kind);
		if (!kind) {
			throw new Problem('unknown-kind', { kind: submit.kind, known: [...kinds.keys()].join(', ') });
		}
		const variables = submit.variables ?? {};
		const problem = kind.check(submit.spec, variables);
		if (problem) throw problem;
		const place = this.place(submit.target ?? {}, lenient);
		if (submit.rollout && place.children === null) throw severalOnly('rollout');
		const priority = priorityOf(submit.priority);
		const readyAt = Math.max(now, submit.notBefore ?? 0);
		const policy = this.#policy(submit, kind.runMs, readyAt);
		const lane = laneWith(place.lane, policy);
		if (!lenient) refuseImpossible(this.#context, policy, lane);
		const prepared = {
			job: {
				...startOf(policy, now, readyAt),
				id: this.#context.ids.next(),
				kind: submit.kind,
				lane,
				rank: rank(readyAt, priority),
				priority,
				createdAt: now,
				createdBy: `key:${by.name}`,
				retryOf: null,
				parentId: null,
				cell: null,
				children: place.children,
				shareKey: submit.shareKey ?? '',
				needs: needsText(policy),
				spec: JSON.stringify(submit.spec),
				variables: JSON.stringify(variables),
				target: place.target,
				affinity: this.#affinityOf(submit),
			},
			...(submit.idempotencyKey === undefined
				? {}
				: {
						idempotency: {
							scope: by.keyId,
							key: submit.idempotencyKey,
							hash: hashOf(submit),
						},
					}),
			...(submit.dedupe ? { dedupe: dedupeOf(submit, by, now) } : {}),
			...filesOf(submit.kind, submit.spec),
		};
		const bytes = bytesOf(prepared.job);
		if (bytes <= limits.maxJobBytes) return prepared;
		throw new Problem('job-too-large', { bytes, maxBytes: limits.maxJobBytes });
	}

	/** The key under which its strategy remembers where it went well; null unless that is affinity. */
	#affinityOf({ kind, spec, target, strategy, affinityKey }: Submit): string | null {
		const wanted = strategy ?? this.#context.settings.strategy;
		if (wanted !== 'affinity' || target?.robot !== undefined) return null;
		return affinityKey ?? `${kind}:${hashOf({ spec })}`;
	}

	/** Where a job that asks for this waits. `lenient` = robots that it excludes or prefers may be gone. */
	place(target: Target, lenient = false): Home {
		const pinned = target.robot === undefined ? undefined : this.findRobot(target.robot);
		const { environment, labels } = target;
		const otherwise = labels?.[environmentLabel] ?? environment;
		if (environment !== undefined && otherwise !== environment) {
			throw new Problem('bad-field', {
				path: 'target.environment',
				reason: `is ${environment}, and the label ${environmentLabel} is to be ${otherwise}`,
			});
		}
		const { group, pool } = target;
		const { fleet } = this.#context;
		if (group !== undefined && !fleet.hasGroup(group))
			throw new Problem('no-such-group', { name: group });
		if (pool !== undefined && !fleet.hasPool(pool))
			throw new Problem('no-such-pool', { name: pool });
		const idOf = (robot: string) => this.findRobot(robot).robotId;
		const mode = fanOutOf(target);
		if (target.away !== undefined && mode === undefined) throw severalOnly('target.away');
		return {
			lane: laneKey(ruleOf(lenient ? this.#withoutGone(target) : target, pinned?.robotId, idOf)),
			target: JSON.stringify(mode ? { ...target, mode: this.#found(mode, idOf) } : target),
			children: mode === undefined ? null : 0,
		};
	}

	/** With the robots and the group that it names. */
	#found(mode: FanOut, idOf: (robot: string) => string): FanOut {
		if (mode === 'all') return mode;
		if ('robots' in mode) return { robots: [...new Set(mode.robots.map(idOf))] };
		if ('perGroup' in mode && !this.#context.fleet.hasGroup(mode.perGroup)) {
			throw new Problem('no-such-group', { name: mode.perGroup });
		}
		return mode;
	}

	#withoutGone(target: Target): Target {
		const isHere = (robot: string) => this.#context.fleet.find(robot) !== undefined;
		const { exclude = [], prefer = [] } = target;
		return {
			...target,
			exclude: exclude.filter(isHere),
			prefer: prefer.filter(({ robot }) => robot === undefined || isHere(robot)),
		};
	}

	#policy(submit: Submit, kindRunMs: number | undefined, readyAt: number): Policy {
		const offline = submit.offline && patienceOf(submit.offline, submit.target ?? {}, readyAt);
		if (offline && 'path' in offline) throw new Problem('bad-field', offline);
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
			onHang: submit.onHang ?? 'report',
			idempotent: submit.idempotent ?? false,
			...(offline === undefined ? {} : { offline }),
			...(submit.watch === undefined ? {} : { watch: submit.watch }),
			...(submit.caps === undefined ? {} : { caps: submit.caps }),
			...(submit.strategy === undefined ? {} : { strategy: submit.strategy }),
			...(submit.preferWaitMs ? { preferWaitMs: submit.preferWaitMs } : {}),
			...(submit.rollout === undefined ? {} : { rollout: submit.rollout }),
			...takesOf(submit),
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

function severalOnly(path: string): Problem {
	const reason = 'is for jobs on several robots: give target.mode, as in "all" or {"count": 3}';
	return new Problem('bad-field', { path, reason });
}

/** What the job needs of files until it has ended. */
export function filesOf(kind: string, spec: unknown): Pick<Prepared, 'files'> {
	const { files = [] } = wishesOf(kind, spec);
	return files.length === 0 ? {} : { files: [...new Set(files.map(({ file }) => file))] };
}

/** The request without its key: the same wish gives the same hash, in whatever order it was written. */
function hashOf({ idempotencyKey: _, ...submit }: Partial<Submit>): string {
	const canonical = JSON.stringify(submit, (_key, value: unknown) =>
		value !== null && typeof value === 'object' && !Array.isArray(value)
			? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
			: value,
	);
	return createHash('sha256').update(canonical).digest('base64url');
}

function dedupeOf(
	{ kind, spec, target = {}, variables = {}, dedupe }: Submit,
	by: Caller,
	at: number,
): Prepared['dedupe'] {
	const { windowMs = limits.dedupeWindowMs } = typeof dedupe === 'object' ? dedupe : {};
	const hash = hashOf({ kind, spec, target, variables });
	return { scope: by.keyId, hash, at, until: at + windowMs };
}
