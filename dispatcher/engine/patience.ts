/**
 * Jobs for one robot that have waited for it long enough while it is away: they end, go to another one, or ask. A robot
 * that was removed will not come back: nobody waits for it, and a job that does not say what to do then ends as failed.
 * A robot counts as away only when it has been so for a while and this service was there to see it: after a start, all
 * of them get their time to come back first. One deed decides, held against the job as it was read: a robot that comes
 * back at the last moment gets the job or does not, and nobody else gets it too.
 */
import { type HoldAnswer, holdAnswers, type Job, Problem, type Target } from '../../protocol';
import { utc } from '../core/control';
import { deadLetterOf } from '../core/fingerprint';
import { laneKey, laneRule, laneWith, ruleOf } from '../core/matching';
import { awayMs, type Patience as Waits } from '../core/patience';
import { type Policy, policyOf, policyText } from '../core/retry';
import { type Change, changed, queuedDueAt } from '../core/waiting';
import type { StoredEvent, StoredJob } from '../store/store';
import type { Context } from './context';
import type { Look } from './duties';
import type { RobotEntry } from './fleet';
import type { Caller } from './index';
import type { Jobs } from './jobs';
import type { Turn } from './turns';
import { jobView } from './views';
import { asRead, type WaitingJobs } from './waiting';

/** A robot that is there is waited for; its job is looked at this often to see whether it still is. */
const againMs = 60_000;
/** Jobs of removed robots that are ended at a time. */
const forsakenBatch = 500;
const service = 'dispatcher';
/** Kind of the event that tells of a question, and what subscriptions find it by. */
const asksEvent = 'job.asks';

export class Patience implements Look {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #waiting: WaitingJobs;
	#ending = false;

	constructor(context: Context, jobs: Jobs, waiting: WaitingJobs) {
		this.#context = context;
		this.#jobs = jobs;
		this.#waiting = waiting;
	}

	/**
	 * The time that a queued job gives its robot is over. Resolves when that is dealt with, or was changed meanwhile.
	 * `readyAt` = since when robots can come, on the monotonic clock.
	 */
	async end(job: StoredJob, readyAt: number): Promise<void> {
		await this.#onTurn(job.id, (turn, done) => {
			const policy = policyOf(job.policy);
			const { robot } = laneRule(job.lane);
			const entry = robot === undefined ? undefined : this.#context.fleet.get(robot);
			const leftMs = robot === undefined ? Infinity : this.#leftMs(entry, readyAt);
			if (leftMs > 0) this.#lookAgain(turn, job, policy, leftMs, done);
			else this.#act(turn, job, policy, entry, done);
		});
	}

	/** Deals with jobs whose robot was removed, as long as there are any. */
	look(): null {
		if (this.#ending || this.#context.lanes.forsaken(1).length === 0) return null;
		this.#ending = true;
		void this.#endForsaken()
			// A store that is full takes it at a later look; a broken one ends the service elsewhere.
			.catch(() => false)
			.then((some) => {
				this.#ending = false;
				if (some) this.#context.dueAt(this.#context.clock.now());
			});
		return null;
	}

	/** Answers whether something was ended. */
	async #endForsaken(): Promise<boolean> {
		const { store, lanes, fleet } = this.#context;
		const jobs = await store.read('jobsById', { ids: lanes.forsaken(forsakenBatch) });
		const ended = await Promise.all(
			jobs.map((job) =>
				this.#onTurn(job.id, (turn, done) => {
					const { robot } = laneRule(job.lane);
					const gone = robot !== undefined && fleet.get(robot) === undefined;
					if (job.state !== 'queued' || !gone) return done(false);
					this.#act(turn, job, policyOf(job.policy), undefined, done);
				}),
			),
		);
		return ended.includes(true);
	}

	/** Until the robot counts as away; Infinity = nobody waits for one. */
	#leftMs(entry: RobotEntry | undefined, readyAt: number): number {
		// It was removed: it will not come back.
		if (!entry) return 0;
		if (entry.session) return againMs;
		const { clock, settings } = this.#context;
		const mono = clock.monotonic();
		const { awaySince } = entry;
		return Math.max(awaySince + awayMs, readyAt + settings.recoveryGraceMs) - mono;
	}

	#lookAgain(
		turn: Turn,
		job: StoredJob,
		policy: Policy,
		leftMs: number,
		done: (taken: boolean) => void,
	): void {
		const rest = queuedDueAt({ ...policy, offline: undefined }, job) ?? Infinity;
		const next = Math.min(rest, turn.now + leftMs);
		const dueAt = Number.isFinite(next) ? Math.ceil(next) : null;
		turn.add('lookAgain', { jobId: job.id, was: asRead(job), dueAt }, () => {
			this.#context.dueAt(dueAt);
			done(true);
		});
	}

	#act(
		turn: Turn,
		job: StoredJob,
		policy: Policy,
		entry: RobotEntry | undefined,
		done: (taken: boolean) => void,
	): void {
		const { robot } = laneRule(job.lane);
		if (!policy.offline) return this.#fail(turn, job, robot!, done);
		const { then, until } = policy.offline;
		const away = entry
			? `robot ${entry.stored.name} was away at ${utc(until)}`
			: `robot ${this.#gone(robot!)} was removed`;
		switch (then) {
			case 'expire':
				return this.#expire(turn, job, away, service, done);
			case 'other': {
				const target = this.#unpinned(job, policy);
				const reason = `${away}: another one may do it`;
				return this.#change(turn, job, policy, { target }, reason, service, done);
			}
			case 'ask': {
				const asks: Policy = { ...policy, offline: { ...policy.offline, asked: true } };
				const answers = answersOf(job, entry !== undefined);
				const why = `${away}; ${questionOf(answers)}`;
				const change = { hold: { by: service, why } };
				const data = { jobId: job.id, robotId: robot ?? null, text: why };
				const event = {
					at: turn.now,
					type: asksEvent,
					subject: asksEvent,
					data: JSON.stringify(data),
				};
				return this.#change(turn, job, asks, change, `asks: ${away}`, service, done, event);
			}
		}
	}

	/** A person decides what `ask` has asked. The same answer a second time is refused: nothing is asked any more. */
	async answer(jobId: string, { answer, until, forMs }: HoldAnswer, by: Caller): Promise<Job> {
		const now = this.#context.clock.now();
		if (until !== undefined && forMs !== undefined) {
			throw new Problem('bad-field', { path: 'forMs', reason: 'give it or until, not both' });
		}
		if (answer !== 'wait' && (until ?? forMs) !== undefined) {
			const path = until === undefined ? 'forMs' : 'until';
			throw new Problem('bad-field', { path, reason: 'goes with the answer wait' });
		}
		if (until !== undefined && until <= now) {
			throw new Problem('bad-field', { path: 'until', reason: 'has passed already' });
		}
		const again = forMs === undefined ? until : now + forMs;
		for (;;) {
			const job = await this.#jobs.read(jobId);
			const policy = policyOf(job.policy);
			if (!asks(job, policy)) {
				const { state } = job;
				throw new Problem('nothing-asked', { id: jobId, state });
			}
			const { robot = '' } = laneRule(job.lane);
			const isEnrolled = this.#context.fleet.get(robot) !== undefined;
			if (!answersOf(job, isEnrolled).includes(answer)) {
				const reason =
					answer === 'wait'
						? '"wait" is not for a robot that was removed: it will not come back'
						: '"other" is not for a child: its siblings have the other robots';
				throw new Problem('bad-field', { path: 'answer', reason });
			}
			const who = `key:${by.name}`;
			const taken = await this.#onTurn(jobId, (turn, done) => {
				if (answer === 'expire') {
					this.#expire(turn, job, `${by.name} decided not to wait on`, who, done);
					return;
				}
				const target = answer === 'other' ? { target: this.#unpinned(job, policy) } : {};
				const offline: Waits =
					again === undefined ? policy.offline! : { until: again, then: 'ask' };
				const change = { hold: null, ...target };
				const reason = `answered by ${by.name}: ${answer}`;
				this.#change(turn, job, { ...policy, offline }, change, reason, who, done);
			});
			if (taken) return jobView(await this.#jobs.read(jobId));
			// Somebody else was faster: it may ask again, or nothing any more.
		}
	}

	#fail(turn: Turn, job: StoredJob, robot: string, done: (taken: boolean) => void): void {
		const end = { to: 'failed', cause: 'policy' } as const;
		const name = this.#gone(robot);
		const message = `The job is for robot ${name}, which was removed. Retry it with another target.`;
		const dead = deadLetterOf(job.kind, end, message);
		const move = {
			...end,
			reason: `robot ${name} was removed`,
			by: service,
			error: JSON.stringify({ type: end.cause, message }),
			...(dead === undefined ? {} : { dead }),
		};
		this.#waiting.move(turn, job, move, done);
	}

	/** By name and id: there may be another one of its name. */
	#gone(robotId: string): string {
		const { name } = this.#context.fleet.known(robotId) ?? {};
		return name === undefined ? robotId : `${name} (${robotId})`;
	}

	#expire(
		turn: Turn,
		job: StoredJob,
		why: string,
		by: string,
		done: (taken: boolean) => void,
	): void {
		const end = { to: 'timeout', cause: 'queue_timeout' } as const;
		const message = `The job was not started in time: ${why}.`;
		const dead = deadLetterOf(job.kind, end, message);
		const move = {
			...end,
			reason: why,
			by,
			error: JSON.stringify({ type: 'queue_timeout', message }),
			...(dead === undefined ? {} : { dead }),
		};
		this.#waiting.move(turn, job, move, done);
	}

	#change(
		turn: Turn,
		job: StoredJob,
		policy: Policy,
		change: Change,
		reason: string,
		by: string,
		done: (taken: boolean) => void,
		event?: Omit<StoredEvent, 'cursor'>,
	): void {
		const to = changed(job, change, policy, turn.now);
		if (!to) return done(false);
		const text = policyText(policy);
		this.#waiting.change(turn, job, { ...to, policy: text, reason }, by, done, event);
	}

	/** Where it waits without its robot. */
	#unpinned(job: StoredJob, policy: Policy): { lane: string; target: string } {
		const { robot: _, ...target } = JSON.parse(job.target) as Target;
		return { lane: laneWith(this.#laneOf(job, target), policy), target: JSON.stringify(target) };
	}

	#laneOf(job: StoredJob, target: Target): string {
		try {
			return laneKey(ruleOf(target, undefined, (robot) => this.#jobs.findRobot(robot).robotId));
		} catch {
			// A robot that it excludes or prefers was removed: what is left of its rule.
			const { robot: _, ...rule } = laneRule(job.lane);
			return laneKey(rule);
		}
	}

	/** Resolves with whether the job was still as it was read. */
	#onTurn(
		jobId: string,
		work: (turn: Turn, done: (taken: boolean) => void) => void,
	): Promise<boolean> {
		return new Promise((resolve, reject) => {
			this.#context.turns.push({
				plan: (turn) => {
					if (!turn.touch(jobId)) return 'later';
					work(turn, resolve);
				},
				fail: reject,
			});
		});
	}
}

type Answer = HoldAnswer['answer'];

const choices: Record<Answer, string> = {
	wait: 'wait on',
	other: 'let another one do it',
	expire: 'end it',
};

/** What may be answered: a robot that was removed is not waited for, and a child's siblings have the other robots. */
export function answersOf({ cell }: Pick<StoredJob, 'cell'>, isEnrolled: boolean): Answer[] {
	const fits = { wait: isEnrolled, other: cell === null, expire: true };
	return holdAnswers.filter((answer) => fits[answer]);
}

/** `wait on, or end it?` */
function questionOf(answers: readonly Answer[]): string {
	const words = answers.map((answer) => choices[answer]);
	const last = words.pop()!;
	return words.length === 0 ? `${last}?` : `${words.join(', ')}, or ${last}?`;
}

/** Whether it waits for an answer. */
export function asks(
	{ state, hold }: Pick<StoredJob, 'state' | 'hold'>,
	{ offline }: Policy,
): boolean {
	// A person may hold it later: that is no question.
	return (
		state === 'pending' && offline?.asked === true && hold?.startsWith(`${service}: `) === true
	);
}
