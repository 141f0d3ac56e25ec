/**
 * Those who use the service from outside, and write down what they asked and what they were told. A
 * careful caller asks again until there is an answer; without an idempotency key it asks only once.
 */
import type { Caller } from '../../dispatcher/engine';
import { isFinal, type Job, Problem, scopes, type SubmitAnswer } from '../../protocol';
import { type SeenLine, seenOf, type SubmitterLine } from '../support/history';
import type { Kernel, Process } from './kernel';
import type { PlannedJob } from './plan';
import { type Ask, type Service, Unanswered } from './service';

export const admin: Caller = { keyId: 'k', name: 'test', scopes };

export interface SubmitterHooks {
	kernel: Kernel;
	service: Service;
	/** Lives as long as the world. */
	owner: Process;
	chance(): number;
	note(line: object): void;
	/** By what is asked for with this key, or was done to the fleet, such a refusal is right. */
	mayRefuse(code: string, key: string): boolean;
}

/** Nobody waits for ever. */
const patienceMs = 10_000;
const longPollMs = 20_000;

export class Submitter {
	readonly lines: SubmitterLine[] = [];
	readonly seen: SeenLine[] = [];
	/** Ids of acknowledged jobs, by key. */
	readonly jobs = new Map<string, string>();
	/** Acknowledged waits: their jobs. */
	readonly waits = new Map<string, string>();
	/** Answers that never came. */
	lostAnswers = 0;
	readonly #hooks: SubmitterHooks;
	#arranged = Promise.resolve();
	#open = 0;
	#followers = 0;

	constructor(hooks: SubmitterHooks) {
		this.#hooks = hooks;
	}

	/** Whether somebody still asks for something. */
	get busy(): boolean {
		return this.#open > 0;
	}

	/** Nobody asks for anything but how jobs end. */
	get onlyFollows(): boolean {
		return this.#open === this.#followers;
	}

	/** Starts everything that the plan wants of this job. */
	handle(job: PlannedJob): void {
		this.#go(async () => {
			await this.#sleep(job.atMs);
			const jobId = await this.#submit(job);
			if (jobId === undefined) return;
			const after = (ms: number | undefined, deed: () => Promise<unknown>) => {
				if (ms === undefined) return;
				this.#go(async () => {
					await this.#sleep(ms);
					await deed();
				});
			};
			after(job.twiceAfterMs, () => this.#submit(job));
			after(job.cancelAfterMs, () => this.#cancel(job.key, jobId));
			after(job.forceAfterMs, () => this.#move(job.key, jobId, 'failed'));
			if (job.holdAfterMs !== undefined) this.#go(() => this.#hold(job, jobId));
			if (job.wait) this.#go(() => this.#wait(job.key, jobId));
			if (job.poll || job.retry) this.#go(() => this.#follow(job, jobId));
		});
	}

	/** A look at a job, as any dashboard takes one. */
	look(jobId: string): void {
		this.#go(async () => {
			await this.#once((engine) => this.#saw(engine.job(jobId)));
		});
	}

	/** An operator takes a robot out of the fleet. */
	remove(robot: string): void {
		this.#go(() => this.#surely((engine) => engine.removeRobot(robot, admin)));
	}

	/** An operator changes what robots and jobs share: one change after the other. */
	arrange(ask: Ask<unknown>): void {
		this.#arranged = this.#arranged.then(() => this.#surely(ask));
		this.#go(() => this.#arranged);
	}

	/** Ends a hold that was taken after its holder had given up. */
	release(jobId: string): void {
		this.#go(() => this.#move('-', jobId, 'queued'));
	}

	/** An operator has no use for it any more. */
	cancel(jobId: string): void {
		this.#go(() => this.#cancel('-', jobId));
	}

	async #submit({ key, submit }: PlannedJob): Promise<string | undefined> {
		const once = submit.idempotencyKey === undefined;
		const answer = await this.#insist('submit', key, once, async (engine) => {
			const [answer] = await engine.submit([submit], admin);
			if (answer instanceof Problem) throw answer;
			return answer as SubmitAnswer;
		});
		if (answer === undefined) return undefined;
		this.jobs.set(key, answer.jobId);
		return answer.jobId;
	}

	async #cancel(key: string, jobId: string): Promise<void> {
		await this.#insist('cancel', key, false, (engine) => this.#saw(engine.cancel(jobId, admin)));
	}

	/** By hand, once; a refusal is an answer like any other. */
	async #move(key: string, jobId: string, to: Job['state']): Promise<void> {
		await this.#insist('move', key, true, (engine) => this.#saw(engine.moveJob(jobId, to, admin)));
	}

	async #hold(job: PlannedJob, jobId: string): Promise<void> {
		await this.#sleep(job.holdAfterMs!);
		await this.#move(job.key, jobId, 'pending');
		await this.#sleep(job.holdAfterMs!);
		// Whatever became of the hold: nobody shall wait for ever because of us.
		for (;;) {
			const now = await this.#once((engine) => engine.job(jobId));
			if (now && (isFinal(now.state) || now.state !== 'pending')) return;
			if (now) await this.#move(job.key, jobId, 'queued');
			await this.#sleep(500);
		}
	}

	async #wait(key: string, jobId: string): Promise<void> {
		const made = await this.#once((engine) =>
			engine.createWait({ jobIds: [jobId], resumeUrl: `http://n8n/${key}` }, admin),
		);
		if (made) this.waits.set(made.waitId, jobId);
		this.#hooks.note({ submitter: 'wait', key, ...made });
	}

	async #follow(job: PlannedJob, jobId: string): Promise<void> {
		this.#followers += 1;
		for (;;) {
			const now = await this.#once(
				(engine, signal) => this.#saw(engine.job(jobId, longPollMs, signal)),
				longPollMs,
			);
			if (now && isFinal(now.state)) break;
			await this.#sleep(200);
		}
		this.#followers -= 1;
		if (!job.retry) return;
		const key = `${job.key}/retry`;
		const again = await this.#insist('retry', key, true, (engine) => engine.retry(jobId, admin));
		if (again) this.jobs.set(key, again.jobId);
	}

	/** Asks until there is an answer; only once when `once`. */
	async #insist<T extends { jobId: string }>(
		op: SubmitterLine['op'],
		key: string,
		once: boolean,
		ask: Ask<T>,
	): Promise<T | undefined> {
		const write = (line: Pick<SubmitterLine, 'type'> & Partial<SubmitterLine>) => {
			const whole = { at: this.#now, op, key, ...(once ? { once } : {}), ...line } as SubmitterLine;
			this.lines.push(whole);
			this.#hooks.note({ submitter: op, ...whole });
		};
		for (;;) {
			write({ type: 'invoke' });
			try {
				const answer = await this.#patiently(ask, patienceMs);
				const { cancelRequestedAt } = answer as { cancelRequestedAt?: number | null };
				write({
					type: 'ok',
					jobId: answer.jobId,
					...(op === 'cancel' ? { cancelRequested: cancelRequestedAt != null } : {}),
				});
				return answer;
			} catch (error) {
				const text = (error as Error).message;
				const sure = error instanceof Problem && error.code !== 'store-full';
				if (sure) {
					const fair = this.#hooks.mayRefuse(error.code, key) ? { once: true as const } : {};
					write({ type: 'fail', text, ...fair });
					return undefined;
				}
				this.lostAnswers += 1;
				write({ type: 'info', text });
				if (once) return undefined;
				await this.#sleep(20 + this.#hooks.chance() * 400);
			}
		}
	}

	/** Asks until it is done; who asks again may hear that it was done before. */
	async #surely(ask: Ask<unknown>): Promise<void> {
		for (;;) {
			try {
				await this.#patiently(ask, patienceMs);
				return;
			} catch (error) {
				if (error instanceof Problem && error.code !== 'store-full') return;
			}
			await this.#sleep(20 + this.#hooks.chance() * 400);
		}
	}

	/** The answer, or nothing. */
	async #once<T>(ask: Ask<T>, moreMs = 0): Promise<T | undefined> {
		try {
			return await this.#patiently(ask, patienceMs + moreMs);
		} catch (error) {
			if (error instanceof Problem || error instanceof Unanswered) return undefined;
			// A broken store says so in its own words; the caller would see an internal error.
			return undefined;
		}
	}

	#patiently<T>(ask: Ask<T>, ms: number): Promise<T> {
		const { kernel, service, owner } = this.#hooks;
		return new Promise((resolve, reject) => {
			const timer = kernel.after(ms, owner, () => reject(new Unanswered('no answer in time')));
			const over = <V>(tell: (value: V) => void) => {
				return (value: V) => {
					kernel.cancel(timer);
					tell(value);
				};
			};
			service.call(ask).then(over(resolve), over(reject));
		});
	}

	/** Written down when the service has answered: on their way answers may overtake each other. */
	async #saw(asked: Promise<Job>): Promise<Job> {
		const job = await asked;
		const line = seenOf(job, this.#now);
		this.seen.push(line);
		this.#hooks.note({ seen: line.state, jobId: line.jobId, attempt: line.attempt });
		return job;
	}

	#go(deed: () => Promise<unknown>): void {
		this.#open += 1;
		void deed().finally(() => {
			this.#open -= 1;
		});
	}

	async #sleep(ms: number): Promise<void> {
		await this.#hooks.kernel.sleep(ms, this.#hooks.owner);
	}

	get #now(): number {
		return this.#hooks.kernel.now;
	}
}
