/**
 * What the store took, deed by deed, in the one order that counts: that of its commits. A second,
 * much simpler memory of every job grows beside it, and each deed is held against the laws at the
 * moment it is taken. Instants are true time, so a clock that jumps cannot hide anything.
 */
import { policyOf, type Policy } from '../../dispatcher/core/retry';
import type { Deed, DeedAnswer, Deeds, NewOccurrence } from '../../dispatcher/store/store';
import { canMove, isFinal, type JobState, limits } from '../../protocol';
import type { Violation } from '../support/history';

export interface LedgerAttempt {
	number: number;
	epoch: number;
	token: string;
	robotId: string;
	client?: string;
	/** Places in the order of all deeds; `endedIn` is missing while the attempt holds its slot. */
	assignedIn: number;
	endedIn?: number;
	assignedAt: number;
	/** True time. */
	endedAt?: number;
	running: boolean;
	outcome?: string;
}

export interface LedgerJob {
	id: string;
	state: JobState;
	policy: Policy;
	lane: string;
	bars: string | null;
	/** Since when it has been in this state. */
	movedAt: number;
	tries: number;
	losses: number;
	/** A person holds it back. */
	held: boolean;
	cancelledIn?: number;
	cancelledAt?: number;
	endedAt?: number;
	/** Everything about it, oldest first; the last one may be live. */
	attempts: LedgerAttempt[];
	/** Of a parent, once it has started: their ids. */
	children?: string[];
}

type Inserted = Deeds['insertJob']['in'];
type InsertedJob = Pick<Inserted['job'], 'id' | 'state' | 'policy' | 'lane'>;

export interface LedgerHooks {
	/** True time. */
	now(): number;
	breaks(violation: Violation): void;
	note(line: object): void;
	/** How long the robot has been away while the service counted, and why it may be given up. */
	checkLoss(robotId: string, policy: Policy, jobId: string): void;
}

export class Ledger {
	readonly jobs = new Map<string, LedgerJob>();
	/** Attempts that hold a slot, by job. */
	readonly holds = new Map<string, LedgerAttempt & { jobId: string }>();
	readonly #fired = new Set<string>();
	readonly #hooks: LedgerHooks;
	#deeds = 0;

	constructor(hooks: LedgerHooks) {
		this.#hooks = hooks;
	}

	/** Slots of this robot that are held. */
	heldBy(robotId: string): number {
		let held = 0;
		for (const hold of this.holds.values()) if (hold.robotId === robotId) held += 1;
		return held;
	}

	took(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void {
		for (const [i, deed] of deeds.entries()) {
			this.#deeds += 1;
			this.#take(deed, answers[i]!);
		}
	}

	#take(deed: Deed, answer: DeedAnswer): void {
		switch (deed.do) {
			case 'insertJob':
				if (answer !== null) return;
				this.#insert(deed.with);
				if (deed.with.occurrence) this.#fire(deed.with.occurrence);
				return;
			case 'startParent':
				if (answer) this.#startParent(deed.with);
				return;
			case 'settleParent':
				if (typeof answer === 'string') this.#settleParent(deed.with.parentId, answer as JobState);
				return;
			case 'assign':
				if (answer !== null) this.#assign(deed.with.jobId, deed.with.attempt);
				return;
			case 'start':
				if (answer) this.#start(deed.with);
				return;
			case 'settle':
				if (answer) this.#settle(deed.with);
				return;
			case 'moveJob':
				if (answer) this.#move(deed.with);
				return;
			case 'requestCancel':
				if (answer) this.#requestCancel(deed.with);
				return;
			case 'lateResult':
				this.#hooks.note({
					store: deed.do,
					jobId: deed.with.jobId,
					epoch: deed.with.epoch,
					answer,
				});
				return;
			case 'fire':
				if (answer) this.#fire(deed.with);
		}
	}

	#startParent({ parentId, from, common, children }: Deeds['startParent']['in']): void {
		const parent = this.#job(parentId);
		if (!parent) return;
		if (from === 'pending') this.#to(parent, 'queued');
		this.#to(parent, 'running');
		parent.children = children.map(({ id }) => id);
		this.#note('startParent', parentId, { children: parent.children });
		for (const { attempt, ...child } of children) {
			this.#insert({ job: { ...common, ...child }, ...(attempt && { attempt }) });
		}
	}

	/** A parent is final only after all of its children. */
	#settleParent(parentId: string, to: JobState): void {
		const parent = this.#job(parentId);
		if (!parent) return;
		for (const id of parent.children ?? []) {
			const { state } = this.jobs.get(id)!;
			if (!isFinal(state)) this.#breaks('parents', parentId, `it is ${to}, its child ${state}`);
		}
		this.#to(parent, to);
		this.#note('settleParent', parentId, { to });
	}

	#insert({ job, attempt }: Pick<Inserted, 'attempt'> & { job: InsertedJob }): void {
		const now = this.#hooks.now();
		if (this.jobs.has(job.id)) this.#breaks('I13', job.id, 'it was inserted twice');
		const made: LedgerJob = {
			id: job.id,
			state: job.state,
			policy: policyOf(job.policy),
			lane: job.lane,
			bars: null,
			movedAt: now,
			tries: 0,
			losses: 0,
			held: false,
			attempts: [],
		};
		this.jobs.set(job.id, made);
		this.#note('insertJob', job.id, { state: job.state });
		if (attempt) this.#assign(job.id, attempt);
	}

	#assign(
		jobId: string,
		{ number, epoch, token, robotId, client }: Deeds['assign']['in']['attempt'],
	): void {
		const job = this.#job(jobId);
		if (!job) return;
		for (const hold of client === undefined ? [] : this.holds.values()) {
			if (hold.robotId !== robotId || hold.client !== client) continue;
			this.#breaks('clients', jobId, `client ${client} was given while ${hold.jobId} has it`);
		}
		const last = job.attempts.at(-1);
		if (this.holds.has(jobId)) {
			this.#breaks('I8', jobId, `attempt ${number} was assigned while ${last?.number} is live`);
		}
		if (last && epoch <= last.epoch) {
			this.#breaks('I5', jobId, `epoch ${epoch} was given after ${last.epoch}`);
		}
		if (number !== (last?.number ?? 0) + 1) {
			this.#breaks('I5', jobId, `attempt ${number} follows ${last?.number ?? 0}`);
		}
		if (job.cancelledIn !== undefined) {
			this.#breaks('I10', jobId, `attempt ${number} was assigned after the cancel`);
		}
		this.#to(job, 'dispatched');
		const now = this.#hooks.now();
		const attempt = {
			jobId,
			number,
			epoch,
			token,
			robotId,
			...(client === undefined ? {} : { client }),
			assignedIn: this.#deeds,
			assignedAt: now,
			running: false,
		};
		job.attempts.push(attempt);
		this.holds.set(jobId, attempt);
		this.#note('assign', jobId, { number, epoch, robotId });
	}

	#start({ jobId, epoch }: Deeds['start']['in']): void {
		const job = this.#job(jobId);
		const hold = this.#holdOf(jobId, epoch, 'start');
		if (!job || !hold) return;
		this.#to(job, 'running');
		hold.running = true;
		this.#note('start', jobId, { epoch });
	}

	#settle(settle: Deeds['settle']['in']): void {
		const { jobId, epoch, next, outcome, cause } = settle;
		const job = this.#job(jobId);
		const hold = this.#holdOf(jobId, epoch, 'settle');
		if (!job || !hold) return;
		if (job.state !== settle.from) {
			this.#breaks('I11', jobId, `settled from ${settle.from} while it was ${job.state}`);
		}
		if (settle.startedAt !== undefined) this.#to(job, 'running');
		if (settle.countTry) job.tries += 1;
		if (settle.countLoss) job.losses += 1;
		if (settle.bars !== undefined) job.bars = settle.bars;
		if (!isFinal(next.to)) this.#checkLeave(job, settle);
		if (outcome === 'lost' && settle.reason.startsWith('The robot stayed away')) {
			this.#hooks.checkLoss(hold.robotId, job.policy, jobId);
		}
		hold.endedIn = this.#deeds;
		hold.endedAt = this.#hooks.now();
		hold.outcome = outcome;
		this.holds.delete(jobId);
		this.#to(job, next.to);
		this.#note('settle', jobId, { epoch, outcome, cause, to: next.to, reason: settle.reason });
	}

	/** Nothing is run a second time unless the job allows it for what happened. */
	#checkLeave(
		job: LedgerJob,
		{ outcome, cause, result, next, reason }: Deeds['settle']['in'],
	): void {
		const { retry, idempotent, onLoss } = job.policy;
		if (job.cancelledIn !== undefined) {
			this.#breaks('I10', job.id, `it became ${next.to} after it was cancelled`);
		}
		if (outcome === 'refused' || outcome === 'not-started') return;
		if (outcome === 'lost') {
			if (onLoss.then !== 'retry' || job.losses >= limits.maxLosses) {
				this.#breaks('leave', job.id, `run again after loss ${job.losses} (${onLoss.then})`);
			}
			return;
		}
		// The robot itself says that nobody can know: a loss as well.
		const mayLose = onLoss.then === 'retry' && job.losses < limits.maxLosses;
		if (outcome === 'failed' && cause === 'unknown' && mayLose) return;
		const { exitCode = null } = (result === null ? {} : JSON.parse(result)) as {
			exitCode?: number | null;
		};
		const listed =
			cause !== null &&
			(retry.on.includes(cause) ||
				(cause === 'exit_code' && retry.on.includes(`exit:${exitCode}`)));
		const anyway = idempotent && cause !== 'invalid' && cause !== 'policy';
		if (!listed && !anyway) {
			this.#breaks('leave', job.id, `run again after ${outcome}/${cause} without leave: ${reason}`);
		}
		if (job.tries >= retry.maxAttempts) {
			this.#breaks('leave', job.id, `try ${job.tries + 1} of at most ${retry.maxAttempts}`);
		}
	}

	#move({ jobId, to, cause, reason, by, cancelRequestedAt }: Deeds['moveJob']['in']): void {
		const job = this.#job(jobId);
		if (!job) return;
		if (this.holds.has(jobId)) this.#breaks('I8', jobId, `moved to ${to} past its live attempt`);
		if (cancelRequestedAt !== undefined) this.#cancelled(job);
		else if (job.cancelledIn !== undefined && !isFinal(to)) {
			this.#breaks('I10', jobId, `it became ${to} after it was cancelled`);
		}
		job.held = to === 'pending' && reason === 'set by hand';
		this.#to(job, to);
		this.#note('moveJob', jobId, { to, cause, reason, by });
	}

	#requestCancel({ jobId, epoch }: Deeds['requestCancel']['in']): void {
		const job = this.#job(jobId);
		if (!job || (!job.children && !this.#holdOf(jobId, epoch, 'requestCancel'))) return;
		this.#cancelled(job);
		this.#note('requestCancel', jobId, { epoch });
	}

	#cancelled(job: LedgerJob): void {
		if (job.cancelledIn !== undefined) return;
		job.cancelledIn = this.#deeds;
		job.cancelledAt = this.#hooks.now();
	}

	#fire({ scheduleId, origin, plannedAt, state, waited }: NewOccurrence): void {
		// Of those that waited it is known by now: once more, and that is the last time.
		const key = `${scheduleId}/${origin}/${plannedAt}/${waited ?? false}`;
		if (this.#fired.has(key)) this.#breaks('I14', scheduleId, `${plannedAt} fired twice`);
		this.#fired.add(key);
		this.#hooks.note({ store: 'fire', scheduleId, plannedAt, state });
	}

	#to(job: LedgerJob, to: JobState): void {
		if (isFinal(job.state)) this.#breaks('I3', job.id, `${job.state} became ${to}`);
		else if (!canMove(job.state, to)) this.#breaks('I11', job.id, `${job.state} became ${to}`);
		job.state = to;
		job.movedAt = this.#hooks.now();
		if (isFinal(to)) job.endedAt = job.movedAt;
	}

	#job(jobId: string): LedgerJob | undefined {
		const job = this.jobs.get(jobId);
		if (!job) this.#breaks('I2', jobId, 'a deed for a job that was never inserted');
		return job;
	}

	#holdOf(jobId: string, epoch: number, deed: string) {
		const hold = this.holds.get(jobId);
		if (hold?.epoch === epoch) return hold;
		this.#breaks(
			'I5',
			jobId,
			`${deed} of epoch ${epoch} was taken, live is ${hold?.epoch ?? 'none'}`,
		);
		return undefined;
	}

	#breaks(law: string, jobId: string, text: string): void {
		this.#hooks.breaks({ law, jobId, text });
	}

	#note(deed: string, jobId: string, facts: object): void {
		this.#hooks.note({ store: deed, jobId, ...facts });
	}
}
