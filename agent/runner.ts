/**
 * All attempts of this robot: takes or refuses assignments, keeps the slots, passes on what the
 * service wants of an attempt, and answers for each of them after a reconnect. What an attempt does
 * is in attempt.ts; how words travel is in link.ts.
 */
import { randomBytes } from 'node:crypto';
import {
	type AttemptRef,
	type CancelJob,
	type Control,
	type HeldAttempt,
	type JobAssignment,
	type JobRejected,
	limits,
	type Revoke,
	type RobotRegistered,
} from '../protocol';
import type { FileFrame } from '../protocol/frames';
import { refusalOf } from './admission';
import { Attempt, type AttemptTools } from './attempt';
import { clientFor } from './clients';
import type { Executor, Stop } from './executors/executor';
import type { HubMessage } from './hub-messages';
import type { Crew, Line } from './link';

export interface RunnerParts extends AttemptTools {
	slots: number;
	executors: ReadonlyMap<string, Executor>;
	/** This boot of the machine, if it can be told from others. */
	boot?: string | null;
	/** Something came, went or changed. */
	onChange?(): void;
	/** The service asked this robot to stop. */
	onShutdown(atOnce: boolean): void;
}

export class Runner implements Crew {
	readonly #parts: RunnerParts;
	readonly #attempts = new Map<string, Attempt>();
	#line: Line | undefined;
	#paused = false;
	#stopping = false;
	/** Ends the wait that begins when the link is lost. */
	#linkBack = new AbortController();

	constructor(parts: RunnerParts) {
		this.#parts = parts;
	}

	/** Takes up what an earlier life of this agent left. Call once, before the first line. */
	resume(): void {
		const { journal, spool, workspaces, executors, log } = this.#parts;
		const records = journal.held();
		spool.sweep(
			records.map(({ assignment }) => ({ jobId: assignment.job_id, epoch: assignment.epoch })),
		);
		workspaces?.sweep(
			records.map(({ assignment }) => ({ jobId: assignment.job_id, epoch: assignment.epoch })),
		);
		for (const { assignment, trace, startedAt, exit, files } of records) {
			const attempt = new Attempt(assignment, trace, startedAt, this.#parts, exit, files);
			this.#attempts.set(keyOf(assignment), attempt);
			if (exit === null) {
				log.warn({ job: assignment.job_id }, 'job was running when the agent ended');
			}
			void attempt.resume(executors.get(assignment.kind));
		}
	}

	get held(): HeldAttempt[] {
		return [...this.#attempts.values()].map((attempt) => attempt.held);
	}

	get status(): { status: string; active_jobs: string[] } {
		const active = this.#unended();
		const { slots, clients = [] } = this.#parts;
		const busy =
			active.length >= slots || 'none' in clientFor(undefined, clients, this.#takenClients());
		return {
			status: this.#stopping ? 'stopping' : this.#paused ? 'paused' : busy ? 'busy' : 'online',
			active_jobs: active.map((attempt) => attempt.assignment.job_id),
		};
	}

	attach(line: Line, { verdicts, limits: agreed }: RobotRegistered): void {
		this.#linkBack.abort();
		this.#line = line;
		this.#parts.window.open(agreed.output_window);
		const acts = new Map(verdicts.map((verdict) => [keyOf(verdict), verdict]));
		for (const [key, attempt] of this.#attempts) {
			// No word about it is no permission to throw anything away.
			const verdict = acts.get(key) ?? { act: 'hold', output: { stdout: 0, stderr: 0 } };
			if (attempt.attach(line, verdict)) this.#forget(key, attempt);
		}
	}

	detach(silentMs: number, heartbeatMs: number): void {
		this.#line = undefined;
		for (const attempt of this.#attempts.values()) attempt.detach();
		void this.#stopWithoutLink(limits.missedHeartbeats * heartbeatMs - silentMs);
	}

	tick(): void {
		this.#parts.onChange?.();
		for (const attempt of this.#attempts.values()) attempt.tick();
	}

	receive(message: HubMessage): void {
		switch (message.type) {
			case 'job_assignment':
				return this.#assign(message.payload);
			case 'cancel_job':
				return this.#cancel(message.payload);
			case 'revoke':
				return this.#revoke(message.payload);
			case 'result_ack': {
				const key = keyOf(message.payload);
				const attempt = this.#attempts.get(key);
				if (attempt?.resultTaken(message.payload)) this.#forget(key, attempt);
				return;
			}
			case 'output_ack': {
				const { stream, have } = message.payload;
				return this.#attempts.get(keyOf(message.payload))?.outputTaken(stream, have);
			}
			case 'input':
				return this.#attempts.get(keyOf(message.payload))?.interaction.take(message.payload);
			case 'resize':
				return this.#attempts.get(keyOf(message.payload))?.interaction.resize(message.payload);
			case 'file_info':
			case 'file_want':
			case 'file_kept':
			case 'file_refused':
				return this.#attempts.get(keyOf(message.payload))?.files?.hear(message);
			case 'output_credit':
				return this.#parts.window.credit(message.payload.window);
			case 'control':
				return this.#control(message.payload, message.id);
			default:
				return;
		}
	}

	receiveFile(frame: FileFrame): void {
		const { jobId: job_id, epoch } = frame;
		this.#attempts.get(keyOf({ job_id, epoch }))?.files?.take(frame);
	}

	/**
	 * Takes nothing new, lets what runs go on for `graceMs`, then stops it politely. Resolves when
	 * every exit record is on disk.
	 */
	async drain(graceMs: number): Promise<void> {
		this.#stopping = true;
		this.#line?.send('control', { action: 'goodbye', text: 'the agent is being stopped' });
		const over = new AbortController();
		const ended = this.#allEnded().then(() => over.abort());
		if (await this.#parts.clock.sleep(graceMs, over.signal)) {
			for (const attempt of this.#unended()) {
				const { grace_ms } = attempt.assignment.timeouts;
				attempt.stop({ why: 'agent-stop', graceMs: Math.min(grace_ms, limits.graceMs) });
			}
		}
		await ended;
	}

	/** Takes nothing new and says so; what runs goes on without this agent. */
	leave(): void {
		this.#stopping = true;
		this.#line?.send('control', { action: 'goodbye', text: 'the agent leaves, its jobs go on' });
	}

	/** No time left: kills what runs. `drain` resolves soon after. */
	hurry(): void {
		for (const attempt of this.#unended()) {
			attempt.stop({ why: 'agent-stop', graceMs: 0 });
			attempt.hurry();
		}
	}

	/** Resolves when the service has taken everything, when there is no line for that, or when the time is over. */
	async delivered(timeoutMs: number): Promise<void> {
		const { clock } = this.#parts;
		for (let left = timeoutMs; left > 0 && this.#line !== undefined; left -= 20) {
			if (this.#attempts.size === 0) return;
			await clock.sleep(20);
		}
	}

	#assign(asked: JobAssignment): void {
		const { journal, executors, slots, clock, clients = [] } = this.#parts;
		const known = this.#attempts.get(keyOf(asked));
		if (known !== undefined) return this.#repeat(known);
		switch (journal.fate(asked.job_id, asked.epoch)) {
			case 'never':
				return this.#reject(asked, notStarted);
			case 'over':
				this.#line?.send('error', {
					code: 'lease-lost',
					text: 'This attempt is over here; its result was taken.',
					retry: false,
					details: { job_id: asked.job_id, epoch: asked.epoch },
				});
				return;
		}
		const given = clientFor(asked.client, clients, this.#takenClients());
		const refusal = refusalOf(asked, {
			executors,
			stopping: this.#stopping,
			paused: this.#paused,
			freeSlots: slots - this.#unended().length,
			files: this.#parts.workspaces !== undefined,
			noClient: 'none' in given ? given.none : undefined,
		});
		if (refusal !== undefined) return this.#refuse(asked, refusal);
		// Written down with it: an agent that is started again knows which of its clients are taken.
		const assignment = 'client' in given ? { ...asked, client: given.client! } : asked;
		const mark = randomBytes(16).toString('hex');
		const trace = { mark, pid: null, birth: this.#parts.boot ?? null };
		const attempt = new Attempt(assignment, trace, clock.now(), this.#parts);
		this.#attempts.set(keyOf(assignment), attempt);
		if (this.#line !== undefined) {
			attempt.attach(this.#line, { act: 'continue', output: { stdout: 0, stderr: 0 } });
		}
		void this.#run(attempt, executors.get(assignment.kind)!);
	}

	async #run(attempt: Attempt, executor: Executor): Promise<void> {
		const { log, onChange } = this.#parts;
		log.info({ job: attempt.ref.job_id, attempt: attempt.ref.attempt }, 'job taken');
		onChange?.();
		let refusal: Refusal = notStarted;
		try {
			if (await attempt.run(executor)) return onChange?.();
		} catch (error) {
			log.error({ err: error, job: attempt.ref.job_id }, 'journal cannot be written');
			const message = `The journal of this robot cannot be written: ${(error as Error).message}.`;
			refusal = { reason: 'stopping', message, permanent: false };
		}
		this.#attempts.delete(keyOf(attempt.ref));
		// Nobody else will: it would keep the line, and a place in the window, for ever.
		attempt.detach();
		this.#reject(attempt.ref, refusal);
	}

	/** The service asks about an attempt that it may believe we do not know. */
	#repeat(attempt: Attempt): void {
		if (attempt.phase === 'running') attempt.tellAccepted();
		if (attempt.phase === 'ended') attempt.tellResult();
	}

	#cancel({ reason, grace_ms, ...named }: CancelJob): void {
		const attempt = this.#attempts.get(keyOf(named));
		if (attempt === undefined) return this.#disown(named);
		if (attempt.phase === 'ended') return attempt.tellResult();
		const stop: Stop = { why: reason, graceMs: grace_ms };
		// What the service counts includes the time in which files come and go; what we count does not.
		if (reason === 'run_timeout' && attempt.files !== undefined) return;
		attempt.stop(stop);
	}

	#revoke(revoke: Revoke): void {
		const attempt = this.#attempts.get(keyOf(revoke));
		if (attempt === undefined) return this.#disown(revoke);
		if (!attempt.revoke()) this.#repeat(attempt);
	}

	/** We do not hold it: promise on disk never to start it, then say so. */
	#disown({ job_id, epoch, attempt, token }: Revoke): void {
		if (this.#parts.journal.fate(job_id, epoch) === 'over') return;
		this.#refuse({ job_id, attempt, epoch, token }, notStarted);
	}

	/** A refusal is a promise too: the same assignment, twice or late, must not start after it. */
	#refuse(ref: AttemptRef, refusal: Refusal): void {
		void this.#parts.journal.never(ref.job_id, ref.epoch).then(
			() => this.#reject(ref, refusal),
			(error: unknown) => {
				// Without the promise on disk a refusal would prove nothing; the service will ask again.
				this.#parts.log.error({ err: error, job: ref.job_id }, 'journal cannot be written');
			},
		);
	}

	#reject({ job_id, attempt, epoch, token }: AttemptRef, refusal: Refusal): void {
		this.#parts.log.info({ job: job_id, attempt, reason: refusal.reason }, 'job not taken');
		this.#line?.send('job_rejected', { job_id, attempt, epoch, token, ...refusal });
	}

	#forget(key: string, attempt: Attempt): void {
		this.#attempts.delete(key);
		attempt.forget().catch((error: unknown) => {
			// The next start finds what is left of it, and that nobody holds it.
			this.#parts.log.warn({ err: error, job: attempt.ref.job_id }, 'job left files behind');
		});
	}

	#control({ action, text, at_once }: Control, id: string): void {
		const { log, onShutdown } = this.#parts;
		switch (action) {
			case 'ping':
				this.#line?.send('control', { action: 'pong' }, id);
				return;
			case 'pause':
				this.#paused = true;
				log.info({}, 'paused by the service');
				return;
			case 'resume':
				this.#paused = false;
				log.info({}, 'resumed by the service');
				return;
			case 'shutdown':
				return onShutdown(at_once === true);
			case 'note':
				log.info({ text: String(text ?? '').slice(0, 1_000) }, 'note from the service');
				return;
		}
	}

	async #stopWithoutLink(afterMs: number): Promise<void> {
		this.#linkBack = new AbortController();
		const wanting = this.#unended().filter(
			(attempt) => attempt.assignment.on_disconnect === 'stop',
		);
		if (wanting.length === 0) return;
		if (!(await this.#parts.clock.sleep(Math.max(0, afterMs), this.#linkBack.signal))) return;
		for (const attempt of wanting) {
			attempt.stop({ why: 'link-lost', graceMs: attempt.assignment.timeouts.grace_ms });
		}
	}

	#takenClients(): Set<string> {
		return new Set(this.#unended().flatMap(({ assignment: { client } }) => client ?? []));
	}

	#unended(): Attempt[] {
		return [...this.#attempts.values()].filter((attempt) => attempt.phase !== 'ended');
	}

	async #allEnded(): Promise<void> {
		while (this.#unended().length > 0) await this.#parts.clock.sleep(20);
	}
}

type Named = Pick<AttemptRef, 'job_id' | 'epoch'>;
type Refusal = Pick<JobRejected, 'reason' | 'message' | 'permanent'>;

const notStarted: Refusal = {
	reason: 'not-started',
	message: 'It has not started here and never will.',
	permanent: false,
};

function keyOf({ job_id, epoch }: Named): string {
	return `${job_id}/${epoch}`;
}
