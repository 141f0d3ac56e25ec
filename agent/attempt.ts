/**
 * The life of one attempt on this robot, from its journal entry to the day the service has all of it.
 *
 *   starting ── journalled ──> running ── exit journalled ──> ended ── result and output taken ──> (forgotten)
 *       └── revoked: journalled never to start ──> (dropped)
 *
 * With files it is running from the moment they are fetched until they are sent, and each stage is journalled too:
 *
 *   fetching ── all placed ──> placed (the program is called) ── its end ──> sending (first looked through) ──> ended
 *
 * Nothing is reported before it is on disk, and everything is reported again on every new line
 * until it is taken. Knows the limits of its job, but no slots and no other attempt.
 */
import {
	type AttemptHealth,
	type AttemptRef,
	type HeldAttempt,
	type JobAssignment,
	type JobResultMessage,
	type ResultAck,
	type Variables,
	type Verdict,
	type WireCollectedFile,
} from '../protocol';
import type { Stream } from '../protocol/frames';
import { wishesOf } from '../kinds';
import { needsWorkspace } from '../kinds/files';
import { AttemptFiles } from './attempt-files';
import { AttemptOutput, total } from './attempt-output';
import type { Ballast } from './ballast';
import type { ClientProfile } from './clients';
import { type Clock, enough } from './clock';
import { type Found, reasonFor } from './drivers/collect';
import type { Executor, Outcome, RunContext, Stop } from './executors/executor';
import { Interaction } from './interaction';
import type { ExitRecord, FilesRecord, Journal, Trace } from './journal';
import type { Line } from './link';
import type { Log } from './log';
import { exitRecordOf, lostSight, notBegun, type Printed } from './outcomes';
import { Outflow } from './outflow';
import { fitted } from './result-size';
import type { Spool } from './spool';
import type { Excess } from './watcher/usage';
import type { Watched, Watching } from './watcher/watching';
import type { Window } from './window';
import type { Workspaces } from './workspaces';

/** How long to wait when the disk refuses the exit record, which is kept in memory and tried again. */
const journalRetryMs = 5_000;

export interface AttemptTools {
	journal: Journal;
	spool: Spool;
	/** Absent = jobs have no files here. */
	workspaces?: Workspaces;
	/** Room for the exit record when the disk is full. */
	ballast: Ballast;
	window: Window;
	clock: Clock;
	/** Absent = there are none. */
	clients?: readonly ClientProfile[];
	/** Absent = nobody looks. */
	watching?: Pick<Watching, 'begin'>;
	log: Log;
}

export type Phase = 'starting' | 'running' | 'ended';

export class Attempt {
	readonly assignment: JobAssignment;
	/** What people and the program say to each other. */
	readonly interaction: Interaction;
	/** Absent when it brings none along and takes none home. */
	readonly files: AttemptFiles | undefined;
	#trace: Trace;
	readonly #startedAt: number;
	readonly #journal: Journal;
	readonly #clock: Clock;
	readonly #log: Log;
	readonly #ballast: Ballast;
	readonly #client: ClientProfile | undefined;
	readonly #watching: AttemptTools['watching'];
	#watched: Watched | undefined;
	/** Seen while there was no line. */
	#unsaid: AttemptHealth | undefined;
	readonly #output: AttemptOutput;
	readonly #outflow: Outflow;
	readonly #stop = new AbortController();
	readonly #hurry = new AbortController();
	/** Ends the sending of files. */
	readonly #unwanted = new AbortController();
	/** As an earlier life of this agent left them. */
	readonly #filesBefore: FilesRecord | null;
	#phase: Phase = 'starting';
	#exit: ExitRecord | null = null;
	#line: Line | undefined;
	#revoked = false;
	#resultTaken = false;
	#resultTicks = 0;
	#executor: Executor | undefined;

	/** `exit` is given for an attempt from an earlier life of this agent: null when it had not ended by then. */
	constructor(
		assignment: JobAssignment,
		trace: Trace,
		startedAt: number,
		tools: AttemptTools,
		exit?: ExitRecord | null,
		files: FilesRecord | null = null,
	) {
		this.assignment = assignment;
		this.#trace = trace;
		this.#startedAt = startedAt;
		this.#journal = tools.journal;
		this.#clock = tools.clock;
		this.#log = tools.log;
		this.#ballast = tools.ballast;
		this.#client = tools.clients?.find(({ name }) => name === assignment.client);
		this.#watching = tools.watching;
		this.#exit = exit ?? null;
		this.#filesBefore = files;
		const { job_id, epoch, caps } = assignment;
		const before = exit ?? (files?.stage === 'sending' ? files.exit : undefined);
		const known = exit === undefined ? 'new' : before;
		const spool = tools.spool.open(job_id, epoch, known, caps?.output_bytes);
		this.#outflow = new Outflow(job_id, epoch, spool, tools);
		this.#output = new AttemptOutput({
			spool,
			saw: (stream, chunk) => this.#saw(stream, chunk),
			clock: tools.clock,
			grew: (bytes) => this.#outflow.grew(bytes),
			failed: (error, text) => this.#log.error({ err: error, ...this.#names() }, text),
		});
		this.interaction = new Interaction({
			ref: this.ref,
			timeouts: assignment.timeouts,
			clock: tools.clock,
			stop: (stop) => this.stop(stop),
			caughtUp: () => this.#output.look(),
		});
		this.files = this.#filesOf(tools.workspaces);
	}

	get phase(): Phase {
		return this.#phase;
	}

	get ref(): AttemptRef {
		const { job_id, attempt, epoch, token } = this.assignment;
		return { job_id, attempt, epoch, token };
	}

	get held(): HeldAttempt {
		const state = this.#phase === 'starting' ? 'accepted' : this.#phase;
		return { ...this.ref, state, output: this.#exit?.output ?? this.#output.lengths };
	}

	/**
	 * Journals, reports, runs, journals the end, reports. Resolves when the end is on disk; `false` when
	 * it was revoked in time. Rejects only when the journal could not be written: then it never started.
	 */
	async run(executor: Executor): Promise<boolean> {
		const { job_id, epoch } = this.assignment;
		this.#executor = executor;
		await executor.prepare?.();
		const { mark, birth } = this.#trace;
		const files = this.files && { stage: 'fetching' as const };
		await this.#journal.start(this.assignment, mark, this.#startedAt, birth, files);
		if (this.#revoked) {
			await this.#journal.never(job_id, epoch);
			return false;
		}
		this.#phase = 'running';
		this.tellAccepted();
		await this.#toItsEnd(executor, () => this.#begin(executor));
		return true;
	}

	/**
	 * For an attempt from an earlier life of this agent: it has an exit record, or somebody kept it while
	 * we were away, or nobody knows. Never rejects.
	 */
	async resume(executor: Executor | undefined): Promise<void> {
		this.#executor = executor;
		this.#phase = this.#exit === null ? 'running' : 'ended';
		if (this.#exit !== null) return this.#settled();
		await this.#toItsEnd(executor, () => this.#takeUp(executor));
	}

	async #takeUp(executor: Executor | undefined): Promise<void> {
		if (this.#filesBefore?.stage === 'sending') {
			this.#settled();
			const { exit, found } = this.#filesBefore;
			return this.#deliver(exit, found);
		}
		if (this.#filesBefore?.stage === 'fetching' && executor !== undefined) {
			// This stage is journalled before the program is called, so it was not.
			await executor.prepare?.();
			return this.#begin(executor);
		}
		await this.#finish((await this.#rejoin(executor)) ?? (await this.#giveUp(executor)));
	}

	/** Only the first reason counts. */
	stop(stop: Stop): void {
		if (this.#phase === 'ended') return;
		this.#stop.abort(stop);
		// Once it has run to its end only the sending is left, and a later life of this agent goes on with that.
		if (endsSending.has(stop.why)) this.#unwanted.abort(stop);
	}

	/** No time left for politeness. */
	hurry(): void {
		this.#hurry.abort();
	}

	/** True when it is certain not to start; false when it already has. */
	revoke(): boolean {
		if (this.#phase === 'starting') this.#revoked = true;
		return this.#revoked;
	}

	/** A line is live, and the service has said what it wants done with this attempt. True = it is to be forgotten. */
	attach(line: Line, verdict: Pick<Verdict, 'act' | 'output'>): boolean {
		this.#resultTaken = false;
		if (verdict.act === 'hold') return false;
		this.#line = line;
		this.#outflow.attach(line, verdict.output);
		if (verdict.act === 'forget' && this.#phase === 'ended') return true;
		if (verdict.act === 'kill' || verdict.act === 'forget') {
			this.stop({ why: 'over', graceMs: this.assignment.timeouts.grace_ms });
		}
		if (this.#phase === 'running') {
			this.tellAccepted();
			if (this.#unsaid !== undefined)
				line.send('status_update', { ...this.ref, health: this.#unsaid });
		}
		this.#unsaid = undefined;
		this.interaction.attach(line);
		this.files?.attach(line);
		if (this.#phase === 'ended') this.tellResult();
		else this.#outflow.pump();
		return false;
	}

	detach(): void {
		this.#line = undefined;
		this.interaction.detach();
		this.files?.detach();
		this.#outflow.detach();
	}

	tellAccepted(): void {
		this.#line?.send('job_accepted', {
			...this.ref,
			started_at: new Date(this.#startedAt).toISOString(),
		});
	}

	tellResult(): void {
		if (this.#exit === null || this.#line === undefined) return;
		this.#resultTicks = 0;
		const exit = this.#exit;
		this.#outflow.conclude((line, rest) => {
			const message: JobResultMessage = { ...this.ref, ...exit };
			if (rest !== undefined && Object.keys(rest).length > 0) message.inline = rest;
			line.send('job_result', fitted(message, line.maxMessageBytes));
		});
	}

	/** True when the service has everything. */
	resultTaken({ output, complete }: Pick<ResultAck, 'output' | 'complete'>): boolean {
		if (this.#exit === null) return false;
		this.#resultTaken = true;
		this.#resultTicks = 0;
		this.#outflow.acknowledgedWithResult(output);
		return complete;
	}

	outputTaken(stream: Stream, have: number): void {
		this.#outflow.acknowledged(stream, have);
	}

	/** Called at every heartbeat: what went unanswered for a whole one is said again. */
	tick(): void {
		this.#outflow.tick();
		this.files?.tick();
		if (this.#exit === null || this.#line === undefined) return;
		// Taken, with output still on its way: the service will say when it has all of it.
		if (this.#resultTaken && !this.#outflow.settled) this.#resultTicks = 0;
		else if (++this.#resultTicks > 1) this.tellResult();
	}

	/** The service has all of it. */
	async forget(): Promise<void> {
		const { job_id: jobId, epoch } = this.assignment;
		this.detach();
		this.#journal.forget(jobId, epoch);
		this.#executor?.forgotten?.({ jobId, epoch });
		await this.#output.remove();
		await this.files?.remove();
	}

	/** It may have started, so whatever fails here, it ends with a result and never as if it had not started. */
	async #toItsEnd(executor: Executor | undefined, work: () => Promise<void>): Promise<void> {
		try {
			await work();
		} catch (error) {
			this.#log.error({ err: error, ...this.#names() }, 'the agent lost sight of the job');
			if (this.#exit !== null) return;
			const message = `The agent lost sight of the job (${(error as Error).message}).`;
			const gone = await this.#cleanUp(executor);
			const { lengths } = this.#output;
			const nothing = { lengths, stdout: '', stderr: '', truncated: total(lengths) > 0 };
			await this.#ended(this.#exitOf(lostSight(message, gone), nothing));
		}
	}

	async #begin(executor: Executor): Promise<void> {
		const failed = await this.#place();
		if (failed === undefined) await this.#finish(await this.#execute(executor));
		else await this.#finish(failed, false);
	}

	async #execute(executor: Executor): Promise<Outcome> {
		this.#watch();
		return await this.#timed(executor, 0, executor.run(this.assignment.spec, this.#context()));
	}

	/** Undefined when nobody kept it. */
	async #rejoin(executor: Executor | undefined): Promise<Outcome | undefined> {
		try {
			this.#watch();
			const rejoined = await executor?.rejoin?.(this.assignment.spec, this.#context(), this.#trace);
			if (rejoined === undefined) {
				this.#watched?.end();
				return undefined;
			}
			this.#log.info(this.#names(), 'job taken up again');
			return await this.#timed(executor!, rejoined.ageMs, rejoined.outcome);
		} catch (error) {
			this.#watched?.end();
			this.#log.error({ err: error, ...this.#names() }, 'job cannot be taken up again');
			return undefined;
		}
	}

	async #giveUp(executor: Executor | undefined): Promise<Outcome> {
		this.#output.wasKept();
		return lostSight(
			'The agent ended while the job ran and nobody kept it, so nobody can know how far it came; what was left of it has been stopped.',
			await this.#cleanUp(executor),
		);
	}

	async #timed(executor: Executor, ageMs: number, outcome: Promise<Outcome>): Promise<Outcome> {
		const done = new AbortController();
		this.#watchTime(ageMs, done.signal);
		try {
			return await outcome;
		} catch (error) {
			this.#log.error({ err: error, ...this.#names() }, 'executor failed');
			// It may have started, so the cause is not `infrastructure`: that would be run again.
			return lostSight(
				`The agent lost sight of the job (${(error as Error).message}).`,
				await this.#cleanUp(executor),
			);
		} finally {
			done.abort(enough);
			this.#watched?.end();
		}
	}

	/** Ends what the attempt may have left running; true when nothing of it is alive any more. */
	async #cleanUp(executor: Executor | undefined): Promise<boolean> {
		const { grace_ms } = this.assignment.timeouts;
		const context = {
			sleep: (ms: number, signal?: AbortSignal) => this.#clock.sleep(ms, signal),
			hurry: this.#hurry.signal,
		};
		try {
			return (await executor?.cleanUp(this.#trace, grace_ms, context)) ?? false;
		} catch (error) {
			this.#log.error({ err: error, ...this.#names() }, 'cannot look for leftover processes');
			return false;
		}
	}

	#context(): RunContext {
		const { job_id, attempt, epoch, variables, caps } = this.assignment;
		return {
			jobId: job_id,
			attempt,
			epoch,
			mark: this.#trace.mark,
			variables: variables as Variables,
			...(this.files && { workspace: this.files.folder }),
			client: this.#client,
			maxOutputBytes: caps?.output_bytes,
			signal: this.#stop.signal,
			hurry: this.#hurry.signal,
			output: (stream, chunk) => this.#output.append(stream, chunk),
			outputKept: (state) => this.#output.isKept(state),
			takesInput: (port) => this.interaction.open(port),
			report: (step) => this.interaction.report(step),
			started: (pid, birth) => {
				this.#watched?.started(pid);
				// In this life too we may have to look for what is left of it.
				this.#trace = { ...this.#trace, pid, birth };
				this.#journal.noteProcess(job_id, epoch, pid, birth);
			},
			sleep: (ms, signal) => this.#clock.sleep(ms, signal),
		};
	}

	#watch(): void {
		this.#watched = this.#watching?.begin(
			this.assignment,
			this.#trace.mark,
			(health) => this.#healthIs(health),
			(excess) => this.#exceeds(excess),
		);
	}

	/** Stopped the way a cancel stops it; a job that goes on taking more gets no more time. */
	#exceeds({ text, far }: Excess): void {
		this.#log.warn({ ...this.#names(), text }, 'job uses more than it may');
		this.stop({ why: 'cap', graceMs: this.assignment.timeouts.grace_ms, text });
		const reason = this.#stop.signal.reason as Stop | undefined;
		if (far && reason?.why === 'cap') this.hurry();
	}

	#saw(stream: Stream, chunk: Uint8Array): void {
		this.#watched?.heard(stream, chunk);
		this.interaction.saw(stream, chunk);
	}

	#healthIs(health: AttemptHealth): void {
		if (this.#line === undefined) this.#unsaid = health;
		else this.#line.send('status_update', { ...this.ref, health });
		const { on_hang, timeouts } = this.assignment;
		if (health.state === 'hanging' && on_hang === 'stop') {
			this.stop({ why: 'hanging', graceMs: timeouts.grace_ms });
		}
	}

	/** Limits run on the monotonic clock of this machine, from the start of the work. */
	#watchTime(ageMs: number, done: AbortSignal): void {
		const { run_ms, silence_ms, grace_ms } = this.assignment.timeouts;
		const begunAt = this.#clock.monotonic();
		if (run_ms !== undefined && run_ms !== null) {
			void this.#clock.sleep(Math.max(0, run_ms - ageMs), done).then((over) => {
				if (over) this.stop({ why: 'run_timeout', graceMs: grace_ms });
			});
		}
		if (silence_ms !== undefined && silence_ms !== null) {
			void (async () => {
				let left = silence_ms;
				while (await this.#clock.sleep(left, done)) {
					const { asks, typedAt } = this.interaction;
					const since = Math.max(begunAt, this.#output.lastAt, typedAt);
					// While a person is asked, the silence is theirs.
					left = asks ? silence_ms : since + silence_ms - this.#clock.monotonic();
					if (left <= 0) return this.stop({ why: 'silence_timeout', graceMs: grace_ms });
				}
			})();
		}
	}

	/** `began` = there may be something to take home. */
	async #finish(outcome: Outcome, began = true): Promise<void> {
		await this.#output.close();
		const exit = this.#exitOf(outcome, await this.#output.sum(outcome.kept));
		const { job_id, epoch } = this.assignment;
		const { aborted, reason } = this.#unwanted.signal;
		const wanted = !aborted || (reason as Stop).why === 'agent-stop';
		if (!began || !wanted || this.files?.takesHome !== true) return this.#ended(exit);
		// Looking through the files may take long, so how the program ended goes to disk first.
		await this.#written(() =>
			this.#journal.noteFiles(job_id, epoch, { stage: 'sending', exit, found: null }),
		);
		this.#settled();
		await this.#deliver(exit, null);
	}

	#exitOf(outcome: Outcome, printed: Printed): ExitRecord {
		const stop = this.#stop.signal.reason as Stop | undefined;
		const tookMs = this.#clock.now() - this.#startedAt;
		return exitRecordOf(outcome, stop, this.interaction.end(), printed, tookMs);
	}

	/** What it takes home is sent before its result, unless nobody wants it any more. */
	async #deliver(exit: ExitRecord, known: Found[] | null): Promise<void> {
		let files: WireCollectedFile[];
		try {
			files = await this.#sent(exit, known);
		} catch (error) {
			// How the program ended is known, whatever the disk says about its files.
			this.#log.error({ err: error, ...this.#names() }, 'files cannot be sent');
			files = [{ path: '**', bytes: 0, sha256: null, error: reasonFor((error as Error).message) }];
		}
		if (this.#isLeft) {
			this.#phase = 'ended';
			return;
		}
		await this.#ended({ ...exit, result: { ...exit.result, files } });
	}

	/** The journal knows what is left to do: a later life of this agent looks for the files again, or sends them. */
	get #isLeft(): boolean {
		const { aborted, reason } = this.#unwanted.signal;
		return aborted && (reason as Stop).why === 'agent-stop';
	}

	async #sent(exit: ExitRecord, known: Found[] | null): Promise<WireCollectedFile[]> {
		const { job_id, epoch } = this.assignment;
		const { signal } = this.#unwanted;
		if (this.files === undefined) throw new Error('this agent has no folder for files any more');
		const found = known ?? (await this.files.collect(signal));
		if (known === null && !signal.aborted) {
			await this.#written(() =>
				this.#journal.noteFiles(job_id, epoch, { stage: 'sending', exit, found }),
			);
		}
		return this.#isLeft ? [] : await this.files.send(found, signal);
	}

	async #ended(exit: ExitRecord): Promise<void> {
		const { job_id, epoch } = this.assignment;
		await this.#written(() => this.#journal.end(job_id, epoch, exit));
		this.#exit = exit;
		this.#phase = 'ended';
		this.#settled();
		this.#log.info({ ...this.#names(), state: exit.state, cause: exit.cause }, 'job ended');
		this.tellResult();
	}

	/** The end must be on disk, however long that takes. */
	async #written(write: () => Promise<void>): Promise<void> {
		for (;;) {
			try {
				return await write();
			} catch (error) {
				this.#log.error({ err: error, ...this.#names() }, 'exit record cannot be journalled');
				// Tried again at once: others will soon take the room that this frees.
				if (!this.#ballast.release()) await this.#clock.sleep(journalRetryMs);
			}
		}
	}

	#filesOf(workspaces: Workspaces | undefined): AttemptFiles | undefined {
		const { kind, spec, job_id, epoch } = this.assignment;
		const wishes = wishesOf(kind, spec);
		if (workspaces === undefined || !needsWorkspace(wishes)) return undefined;
		return new AttemptFiles({
			ref: this.ref,
			wishes,
			workspace: workspaces.of(job_id, epoch),
			clock: this.#clock,
			report: (message) => this.interaction.report({ message }),
		});
	}

	/**
	 * Undefined = on to the program: its files are in place and on record as such, or it was stopped, which the
	 * executor sees first. Else how it ended.
	 */
	async #place(): Promise<Outcome | undefined> {
		if (this.files === undefined) return undefined;
		const { job_id, epoch } = this.assignment;
		const { signal } = this.#stop;
		const reason = await this.files.fetch(signal);
		if (signal.aborted) {
			const { why } = signal.reason as Stop;
			// Nobody wanted it to end: another robot may take it.
			return why === 'agent-stop'
				? notBegun('The agent on the robot was stopped before it called the program.')
				: undefined;
		}
		if (reason !== undefined) return notBegun(reason);
		try {
			await this.#journal.noteFiles(job_id, epoch, { stage: 'placed' });
			return undefined;
		} catch (error) {
			return notBegun(
				`The journal of the robot cannot be written (${(error as Error).message}), so nothing was started.`,
			);
		}
	}

	#settled(): void {
		const { job_id, epoch } = this.assignment;
		this.#executor?.settled?.({ jobId: job_id, epoch });
	}

	#names(): { job: string; attempt: number; epoch: number } {
		const { job_id, attempt, epoch } = this.assignment;
		return { job: job_id, attempt, epoch };
	}
}

/** Stops that cut the sending of files short. Limits on the time of the program do not count here. */
const endsSending: ReadonlySet<Stop['why']> = new Set([
	'cancelled',
	'over',
	'deadline',
	'agent-stop',
]);
