/**
 * What becomes of attempts: accepted, refused, ended, lost, late. Every message from a robot names its
 * attempt; one about an attempt that is over changes nothing any more, and a repeated one gets the same reply.
 */
import type {
	AttemptHealth,
	AttemptRef,
	CancelJob,
	Cause,
	JobAccepted,
	JobError,
	JobHealth,
	JobRejected,
	JobResultMessage,
	LateResult,
	OutputLengths,
	ResultAck,
	StatusUpdate,
} from '../../protocol';
import { limits, streams } from '../../protocol';
import { afterTry, type Bars, barsOf, noneLeft } from '../core/bars';
import { deadLetterOf } from '../core/fingerprint';
import { blameOf } from '../core/quarantine';
import { resultText } from '../core/result';
import { afterAttempt, afterLoss, type Ending, isLoss, type Next } from '../core/retry';
import { queuedDueAt } from '../core/waiting';
import type { Context } from './context';
import { type Live, refOf, type Session } from './fleet';
import { type Proof, provedInline } from './proof';
import type { Quarantine } from './quarantine';
import { type Decide, type Judge, type Settlement, type SettleNext, Settling } from './settling';
import { refuseStranger } from './strangers';
import type { Turn } from './turns';
import { causeOf, defaultError, fromWire } from './wire-results';

/** Kind of the event that announces a late result, and what subscriptions find it by. */
const lateEvent = 'job.late-result';

export class Attempts {
	readonly #context: Context;
	readonly #proof: Proof;
	readonly #settling: Settling;
	/** Not yet written down. */
	readonly #accepted: { live: Live; acceptance: { at: number } }[] = [];

	constructor(context: Context, proof: Proof, quarantine: Quarantine) {
		this.#context = context;
		this.#proof = proof;
		this.#settling = new Settling(context, quarantine);
	}

	/**
	 * Nobody waits for the move to running, and a quick job's result follows at once: acceptances are
	 * gathered for a moment, so that the result can take its own along in one move and one sync.
	 */
	accepted(robotId: string, session: Session, message: JobAccepted): void {
		const live = this.#live(robotId, session, message);
		if (live) this.started(live);
	}

	/** Its robot says that it has begun. */
	started(live: Live): void {
		const { clock, settings } = this.#context;
		if (live.state !== 'dispatched' || live.acceptance) return;
		live.acceptance = { at: clock.now() };
		live.revokedAt = null;
		live.lossLeftMs = live.policy.onLoss.waitMs;
		this.#accepted.push({ live, acceptance: live.acceptance });
		if (this.#accepted.length > 1) return;
		if (settings.acceptGatherMs === 0) this.#start();
		else void clock.sleep(settings.acceptGatherMs).then(() => this.#start());
	}

	#start(): void {
		for (const { live, acceptance } of this.#accepted.splice(0)) {
			// A result overtook it and carries the start along.
			if (live.acceptance !== acceptance) continue;
			this.#context.turns.push({
				plan: (turn) => {
					if (live.acceptance !== acceptance) return;
					if (!turn.touch(live.jobId)) return 'later';
					const start = {
						jobId: live.jobId,
						number: live.number,
						epoch: live.epoch,
						at: acceptance.at,
					};
					turn.add('start', start, (started) => {
						if (!started) return;
						live.state = 'running';
						live.startedAt = this.#context.clock.monotonic();
					});
				},
				// Not on disk: the robot says it again when it is asked.
				fail: () => {
					if (live.acceptance === acceptance) delete live.acceptance;
				},
			});
		}
	}

	/** A refusal, or the answer to a revoke: proof that the attempt never started. */
	rejected(robotId: string, session: Session, message: JobRejected): void {
		const live = this.#live(robotId, session, message);
		// A robot that said the attempt began, or how it ended, can take neither back.
		if (!live || live.state !== 'dispatched' || live.acceptance) return;
		// A robot that has lost its memory has no proof to give.
		if (live.lostBecause !== undefined) return;
		this.#refused(live, message);
	}

	/** As if its robot had refused it for good. */
	cannot(live: Live, message: string): void {
		this.#refused(live, { reason: 'unsupported-kind', message, permanent: true }, 'dispatcher');
	}

	#refused(
		live: Live,
		message: Pick<JobRejected, 'reason' | 'message' | 'permanent'>,
		by = 'robot',
	): void {
		const proved = message.reason === 'not-started';
		const decide: Decide = (turn) => {
			const permanent = message.permanent && !proved;
			// A robot that had to be asked whether it started is asked again later, like one that refused.
			const free = proved && live.revokedAt === null;
			const bars = free ? undefined : this.#bars(live, permanent, turn.now);
			const barredForAll = bars !== undefined && permanent && this.#noneLeft(live, bars);
			const next: SettleNext = live.cancelRequestedAt
				? { to: 'cancelled', cause: 'cancelled', error: null }
				: barredForAll
					? this.#ended(
							live,
							{ to: 'failed', cause: 'policy' },
							{
								type: 'policy',
								message: `No robot is left that may run this job. The last one said: ${message.message}`,
							},
						)
					: this.#queued(live, turn);
			return {
				outcome: proved ? 'not-started' : 'refused',
				cause: proved ? null : 'refused',
				result: null,
				reason: proved ? 'not started' : `refused: ${message.message || message.reason}`,
				by,
				next,
				countTry: false,
				countLoss: false,
				...(bars === undefined ? {} : { bars }),
			};
		};
		// Not that it leaves, but that its journal takes nothing more.
		const mute = message.reason === 'stopping';
		const text = message.message || message.reason;
		const judge: Judge = () => (mute ? { cause: 'refused', text } : undefined);
		this.#settling.settle(live, decide, undefined, undefined, judge);
	}

	/** The end of an attempt, or, when it is over already, a late result. */
	result(robotId: string, session: Session, message: JobResultMessage): void {
		const live = this.#live(robotId, session, message);
		if (live === null) return;
		if (!live) {
			this.#late(robotId, session, message);
			return;
		}
		const result = fromWire(message);
		const ending: Ending = {
			state: message.state,
			cause: causeOf(message),
			exitCode: result.exitCode,
		};
		const lost = isLoss(ending);
		const acceptance = live.acceptance;
		if (live.state === 'dispatched') live.acceptance = { at: 0 };
		const proved = provedInline(message);
		const have: OutputLengths = { stdout: 0, stderr: 0 };
		this.#settling.settle(
			live,
			(turn) => {
				this.#inlineOutput(turn, robotId, message, proved, have);
				const counts = { tries: live.tries + (lost ? 0 : 1), losses: live.losses + (lost ? 1 : 0) };
				const next = afterAttempt(
					ending,
					live.policy,
					counts,
					live.cancelRequestedAt !== null,
					this.#context.chance(),
				);
				const error = result.error ?? defaultError(ending.cause, result);
				return {
					outcome: message.state,
					cause: ending.cause,
					result: resultText(result),
					outputLength: message.output,
					outputProved: proved === 'proved',
					reason: 'reason' in next ? next.reason : (ending.cause ?? message.state),
					by: 'robot',
					countTry: !lost,
					countLoss: lost,
					...this.#barredAfter(live, next),
					...(lost
						? this.#elsewhere(live, next, turn, error)
						: { next: this.#next(live, next, turn, error) }),
					...(live.state === 'dispatched'
						? { startedAt: acceptance?.at || begunAt(live, turn.now, result.durationMs) }
						: {}),
				};
			},
			(settled) => {
				if (settled) this.#acknowledge(session, message, proved, have);
				else this.#late(robotId, session, message);
			},
			() => {
				// Not on disk: the robot says it again until it is told that it is.
				if (live.state === 'dispatched') live.acceptance = acceptance;
			},
			() => blameOf(ending.cause, result.error?.message ?? ''),
		);
	}

	/** The live attempt that a robot means, if it still is. */
	find(robotId: string, session: Session, ref: AttemptRef): Live | undefined {
		return this.#live(robotId, session, ref) ?? undefined;
	}

	status(robotId: string, session: Session, message: StatusUpdate): void {
		const live = this.#live(robotId, session, message);
		if (!live) return;
		if (message.health) this.#noteHealth(live, message.health);
		if (message.progress === undefined && message.message === undefined) return;
		void this.#context.turns
			.deed('progress', {
				jobId: live.jobId,
				epoch: live.epoch,
				progress:
					message.progress === undefined
						? null
						: Math.max(0, Math.min(100, Math.round(message.progress))),
				message: message.message ?? null,
			})
			.catch(() => undefined);
	}

	#noteHealth(live: Live, said: AttemptHealth): void {
		const { jobId, epoch } = live;
		live.hangs = said.state === 'hanging';
		const health: JobHealth = {
			at: this.#context.clock.now(),
			state: said.state,
			cpuPercent: said.cpu_percent,
			memoryBytes: said.memory_bytes,
			processes: said.processes,
			quietMs: said.quiet_ms,
			outputBytes: said.output_bytes,
			commandClass: said.command_class ?? null,
			overdue: said.overdue ?? null,
		};
		// A hint for people, like progress: one that a full disk does not take is not repeated.
		const entry = JSON.stringify(health);
		void this.#context.turns.deed('health', { jobId, epoch, entry }).catch(() => undefined);
	}

	/**
	 * The robot stayed away too long, or has lost its memory (`forgot`): the job's own policy decides.
	 * A robot that comes back with the attempt before this is planned removes the reason.
	 */
	async lost(live: Live, reason: string, forgot = false): Promise<void> {
		live.lostBecause = reason;
		let stop = false;
		const decide: Decide = (turn) => {
			if (live.lostBecause !== reason) return undefined;
			const next = afterLoss(live.policy, live.losses + 1, live.cancelRequestedAt !== null);
			const error = {
				type: 'cause' in next ? (next.cause ?? 'robot_lost') : 'robot_lost',
				message: `${reason} (robot ${this.#name(live.robotId)}); ${
					next.to === 'cancelled' && this.#context.fleet.get(live.robotId)
						? 'what still runs there is stopped when it comes back.'
						: 'nobody can know how far the job came.'
				}`,
			};
			stop = live.state === 'dispatched' || next.to !== 'failed';
			return {
				outcome: 'lost',
				cause: 'robot_lost',
				result: null,
				reason: `${reason}${'reason' in next ? `; ${next.reason}` : ''}`,
				by: 'dispatcher',
				...this.#barredAfter(live, next),
				...(forgot
					? this.#elsewhere(live, next, turn, error)
					: { next: this.#next(live, next, turn, error) }),
				countTry: false,
				countLoss: true,
			};
		};
		const judge: Judge = () => ({ cause: 'robot_lost', text: reason });
		const settled = await this.#settling.settled(live, decide, judge);
		// The robot is here, but mute about the attempt: it must not start what is over.
		if (settled && stop) this.stop(live, 'over');
	}

	/** Tells the robot, if it is here, to stop working on the attempt. */
	stop(live: Live, reason: CancelJob['reason']): void {
		const session = this.#context.fleet.get(live.robotId)?.session;
		if (!session) return;
		live.remindedAt = this.#context.clock.monotonic();
		session.sink.cancel({ ...refOf(live), reason, grace_ms: limits.graceMs });
	}

	/** It is proved that it never started: say, its robot came back with the same journal and does not know it. */
	neverStarted(live: Live, why = 'the robot came back and does not know it'): void {
		this.#settling.settle(live, (turn) => ({
			outcome: 'not-started',
			cause: null,
			result: null,
			reason: `not started: ${why}`,
			by: 'dispatcher',
			next: live.cancelRequestedAt
				? { to: 'cancelled', cause: 'cancelled', error: null }
				: this.#queued(live, turn),
			countTry: false,
			countLoss: false,
		}));
	}

	/** Ends the live attempt by hand; the robot is told to stop. */
	forced(
		live: Live,
		to: 'completed' | 'failed' | 'timeout' | 'cancelled',
		by: string,
	): Promise<boolean> {
		return new Promise((resolve, reject) =>
			this.#settling.settle(
				live,
				() => ({
					outcome: 'forced',
					cause: to === 'failed' ? 'denied' : null,
					result: null,
					reason: 'set by hand',
					by,
					next: { to, cause: to === 'failed' ? 'denied' : null, error: null },
					countTry: false,
					countLoss: false,
				}),
				(settled) => {
					if (settled) this.stop(live, 'over');
					resolve(settled);
				},
				reject,
			),
		);
	}

	#next(live: Live, next: Next, turn: Turn, error: JobError): SettleNext {
		if (next.to !== 'pending') return this.#ended(live, next, error);
		const readyAt = turn.now + next.delayMs;
		// The deadline does not wait for the back-off.
		const dueAt = Math.min(readyAt, live.policy.timeouts.deadlineAt ?? Infinity);
		return { to: 'pending', readyAt, rank: live.rank, dueAt };
	}

	#ended(live: Live, end: Extract<Next, { cause: Cause | null }>, error: JobError): SettleNext {
		if (end.to === 'completed') return { ...end, error: null };
		const dead = deadLetterOf(live.kind, end, error.message);
		return { ...end, error: JSON.stringify(error), ...(dead === undefined ? {} : { dead }) };
	}

	/** Back in the queue; a job that was never tried still has only so long to start. */
	#queued(live: Live, turn: Turn): SettleNext {
		const dueAt = queuedDueAt(live.policy, live);
		return { to: 'queued', readyAt: turn.now, rank: live.rank, dueAt };
	}

	/** A job that cost a robot its memory is not given to that robot again. */
	#elsewhere(
		live: Live,
		next: Next,
		turn: Turn,
		error: JobError,
	): Pick<Settlement, 'next' | 'bars'> {
		if (next.to !== 'pending') return { next: this.#next(live, next, turn, error) };
		const bars = this.#bars(live, true, turn.now);
		if (!this.#noneLeft(live, bars)) return { next: this.#next(live, next, turn, error), bars };
		const alone = `${error.message} It is not given to the same robot again, and no other may run it.`;
		const end: Next = { to: 'failed', cause: 'robot_lost' };
		return { next: this.#next(live, end, turn, { type: 'robot_lost', message: alone }) };
	}

	#bars(live: Live, permanent: boolean, now: number): string {
		const bars: Bars = barsOf(live.bars);
		bars[live.robotId] = permanent ? null : now + limits.refusalMs;
		return JSON.stringify(bars);
	}

	/** Whether every robot that fits is barred for good. */
	#noneLeft(live: Live, bars: string): boolean {
		return noneLeft(bars, this.#context.lanes.get(live.lane).robots);
	}

	/** A job may ask that its next try is elsewhere. */
	#barredAfter(live: Live, next: Next): { bars?: string } {
		if (next.to !== 'pending' || !live.policy.retry.otherRobot) return {};
		return { bars: afterTry(live.bars, live.robotId, this.#context.lanes.get(live.lane).robots) };
	}

	#late(robotId: string, session: Session, message: JobResultMessage): void {
		const { turns, log, watchers } = this.#context;
		const proved = provedInline(message);
		const have: OutputLengths = { stdout: 0, stderr: 0 };
		const late: LateResult = {
			jobId: message.job_id,
			attempt: message.attempt,
			robotId,
			state: message.state,
			cause: causeOf(message),
		};
		turns.push({
			plan: (turn) => {
				this.#inlineOutput(turn, robotId, message, proved, have);
				turn.add(
					'lateResult',
					{
						jobId: message.job_id,
						number: message.attempt,
						epoch: message.epoch,
						token: message.token,
						robotId,
						result: resultText(fromWire(message)),
						outputLength: message.output,
						event: {
							at: turn.now,
							type: lateEvent,
							subject: lateEvent,
							data: JSON.stringify(late),
						},
					},
					(kept) => {
						if (kept === 'unknown') {
							refuseStranger(this.#context, robotId, session, message);
							return;
						}
						if (kept === 'kept') {
							log.warn('late result kept', late);
							watchers.hint('events', lateEvent);
						}
						// The result may have been here before without its output being closed: look into that.
						const { stdout, stderr } = message.output;
						const seen = proved === 'proved' && stdout + stderr > 0 ? 'open' : proved;
						this.#acknowledge(session, message, seen, have);
					},
				);
			},
			fail: () => undefined,
		});
	}

	#inlineOutput(
		turn: Turn,
		robotId: string,
		message: JobResultMessage,
		proved: ReturnType<typeof provedInline>,
		have: OutputLengths,
	): void {
		for (const stream of streams) {
			if (message.output[stream] === 0) continue;
			// What does not match its digest is not stored: it has to come again.
			const piece = proved === 'differs' ? undefined : message.inline?.[stream];
			turn.add(
				'appendOutput',
				{
					jobId: message.job_id,
					epoch: message.epoch,
					robotId,
					stream,
					offset: piece?.offset ?? 0,
					data: piece ? Buffer.from(piece.data_b64, 'base64') : new Uint8Array(),
					withResult: true,
				},
				(answer) => {
					have[stream] = Math.max(0, answer.have);
				},
			);
		}
	}

	/** The result is stored; whether all of its output is too shows now, or when it has been compared. */
	#acknowledge(
		session: Session,
		message: JobResultMessage,
		proved: ReturnType<typeof provedInline>,
		have: OutputLengths,
	): void {
		const { job_id, epoch, output } = message;
		const complete =
			proved === 'proved' && have.stdout >= output.stdout && have.stderr >= output.stderr;
		session.sink.resultAck({ job_id, epoch, output: have, complete } satisfies ResultAck);
		if (!complete) this.#proof.told(session, message);
	}

	/** The live attempt that is meant; `undefined` when that is over, `null` when it is another robot's. */
	#live(robotId: string, session: Session, ref: AttemptRef): Live | undefined | null {
		const live = this.#context.fleet.live(ref.job_id);
		if (live?.epoch !== ref.epoch) return undefined;
		if (live.robotId === robotId && live.token === ref.token && live.number === ref.attempt) {
			return live;
		}
		refuseStranger(this.#context, robotId, session, ref);
		return null;
	}

	#name(robotId: string): string {
		return this.#context.fleet.nameOf(robotId);
	}
}

/** By what its robot says, whose clock may have been set meanwhile: never before it was given away. */
function begunAt({ givenAt }: Live, now: number, durationMs: number): number {
	return Math.max(Math.min(givenAt, now), now - Math.round(durationMs));
}
