/**
 * What one simulated robot holds, and what it says about it. It keeps the rules of the protocol as an agent does: it repeats
 * what was not taken, forgets only what was, and never starts what it promised not to. Its journal is the memory of this
 * process, which outlives every line. All it does for a job is wait, for a time that is drawn.
 */
import { createHash } from 'node:crypto';
import { probeKind } from '../../../kinds/probe';
import {
	type AttemptRef,
	type CancelJob,
	type HeldAttempt,
	type JobAssignment,
	type JobRejected,
	type JobResultMessage,
	type OutputLengths,
	type ResultAck,
	type RobotMessages,
	type Verdict,
} from '../../../protocol';
import type { Range } from './amounts';
import type { Dice } from './dice';
import type { Tally } from './tally';
import type { Planned, Timetable } from './timetable';

/** How jobs go. */
export interface Play {
	durations: Range;
	/** 0…1. */
	failures: number;
}

/** Says it now or not at all: what is lost is repeated on the next line. */
export type Say = <T extends keyof RobotMessages>(type: T, payload: RobotMessages[T]) => void;

export interface WorkParts {
	name: string;
	slots: number;
	play: Play;
	dice: Dice;
	timetable: Timetable;
	tally: Tally;
	say: Say;
	now(): number;
}

interface Entry {
	readonly assignment: JobAssignment;
	readonly startedAt: number;
	/** How it will end when nobody stops it. */
	readonly drawn: How;
	/** Its end, while it runs. */
	end: Planned | undefined;
	ended: Ended | undefined;
	/** The service has not said what it wants of it: it is kept, and not mentioned. */
	kept: boolean;
	/** Bytes of its output that the service has. */
	have: OutputLengths;
	/** Heartbeats since its result was last sent. */
	ticks: number;
}

type How = 'completed' | 'failed' | 'run_timeout';
type Stopped = CancelJob['reason'] | 'link-lost';
type Ended = Pick<JobResultMessage, 'state' | 'cause' | 'result' | 'output' | 'sha256'>;

/** Attempts whose fate is remembered, the latest ones: a message that comes late starts nothing. */
const remembered = 256;
const nothing: OutputLengths = { stdout: 0, stderr: 0 };

export class Work {
	/** Takes no more; what it has goes on. */
	paused = false;
	stopping = false;
	readonly #parts: WorkParts;
	readonly #entries = new Map<string, Entry>();
	readonly #fates = new Map<string, 'never' | 'over'>();

	constructor(parts: WorkParts) {
		this.#parts = parts;
	}

	get held(): HeldAttempt[] {
		return [...this.#entries.values()].map(({ assignment, ended }) => ({
			...refOf(assignment),
			state: ended ? 'ended' : 'running',
			output: ended?.output ?? nothing,
		}));
	}

	get running(): string[] {
		return [...this.#entries.values()]
			.filter(({ ended }) => ended === undefined)
			.map(({ assignment }) => assignment.job_id);
	}

	/** It holds nothing that the service has not taken. */
	get isEmpty(): boolean {
		return this.#entries.size === 0;
	}

	/** There is a line, and the service said what it wants of each attempt. */
	attached(verdicts: readonly Verdict[]): void {
		const wanted = new Map(verdicts.map((verdict) => [keyOf(verdict), verdict]));
		for (const [key, entry] of this.#entries) {
			const verdict = wanted.get(key);
			// Silence is no permission to throw anything away.
			entry.kept = verdict === undefined || verdict.act === 'hold';
			if (entry.kept) continue;
			entry.have = verdict!.output;
			const { act } = verdict!;
			if (act === 'forget' && entry.ended) this.#forget(key);
			else if (act === 'kill' || act === 'forget') this.#stop(entry, 'over');
			else this.#tell(entry);
		}
	}

	/** There has been no line for longer than the service trusts: what must not run alone ends. */
	alone(): void {
		for (const entry of this.#entries.values()) {
			if (entry.assignment.on_disconnect === 'stop') this.#stop(entry, 'link-lost');
		}
	}

	/** With every heartbeat: repeats what has gone unanswered for a whole one. */
	tick(): void {
		for (const entry of this.#entries.values()) {
			if (entry.ended && (entry.ticks += 1) > 1) this.#tell(entry);
		}
	}

	assign(assignment: JobAssignment): void {
		const { slots, play, dice, timetable, tally, now } = this.#parts;
		const key = keyOf(assignment);
		const known = this.#entries.get(key);
		if (known) return this.#tell(known);
		const fate = this.#fates.get(key);
		if (fate === 'over') return;
		if (fate === 'never') return this.#reject(assignment, notStarted);
		const refusal = this.#refusal(assignment, slots);
		if (refusal) {
			tally.refused += 1;
			this.#remember(key, 'never');
			return this.#reject(assignment, refusal);
		}
		// Both are drawn for every job, so that its place in the sequence alone decides how it goes. A probe has no place
		// there: it asks whether the robot can work, which it always can.
		const probed = assignment.kind === probeKind;
		const ms = probed ? 0 : dice.within(play.durations);
		const fails = !probed && dice.happens(play.failures);
		const runMs = assignment.timeouts.run_ms ?? Infinity;
		const drawn = ms > runMs ? 'run_timeout' : fails ? 'failed' : 'completed';
		const entry: Entry = {
			assignment,
			startedAt: now(),
			drawn,
			end: undefined,
			ended: undefined,
			kept: false,
			have: nothing,
			ticks: 0,
		};
		this.#entries.set(key, entry);
		tally.running += 1;
		this.#tell(entry);
		entry.end = timetable.in(Math.min(ms, runMs), () => this.#finish(entry, drawn));
	}

	cancel({ reason, ...named }: CancelJob): void {
		const entry = this.#entries.get(keyOf(named));
		if (!entry) this.#disown(named);
		else if (entry.ended) this.#tell(entry);
		else this.#stop(entry, reason);
	}

	revoke(named: AttemptRef): void {
		const entry = this.#entries.get(keyOf(named));
		if (entry) this.#tell(entry);
		else this.#disown(named);
	}

	taken({ complete, output, ...named }: ResultAck): void {
		const key = keyOf(named);
		const entry = this.#entries.get(key);
		if (!entry?.ended) return;
		entry.have = output;
		entry.ticks = 0;
		if (complete) this.#forget(key);
	}

	/** The play is over: what runs ends now, as was drawn for it. */
	hurry(): void {
		this.stopping = true;
		for (const entry of this.#entries.values()) if (!entry.ended) this.#finish(entry, entry.drawn);
	}

	#refusal({ kind }: JobAssignment, slots: number): Refusal | undefined {
		const refuse = (reason: Refusal['reason'], message: string, permanent = false) => ({
			reason,
			message,
			permanent,
		});
		if (this.stopping) return refuse('stopping', 'The simulation ends.');
		if (this.paused) return refuse('paused', 'The robot is paused.');
		if (kind !== 'command' && kind !== probeKind) {
			return refuse('unsupported-kind', 'A simulated robot plays commands only.', true);
		}
		return this.running.length < slots ? undefined : refuse('no-slot', 'Every slot is in use.');
	}

	/** It is not held here: promises never to start it, and says so. */
	#disown(named: AttemptRef): void {
		const key = keyOf(named);
		if (this.#fates.get(key) === 'over') return;
		this.#remember(key, 'never');
		this.#reject(named, notStarted);
	}

	#stop(entry: Entry, why: Stopped): void {
		if (!entry.ended) this.#finish(entry, why);
	}

	#finish(entry: Entry, how: How | Stopped): void {
		const { timetable, tally, name, now } = this.#parts;
		timetable.drop(entry.end);
		const ms = Math.max(0, Math.round(now() - entry.startedAt));
		const end = ends[how];
		const exitCode = how === 'completed' ? 0 : how === 'failed' ? 1 : null;
		const stdout = `Simulated by ${name} for ${ms} ms; nothing was run.\n`;
		const stderr = how === 'failed' ? 'It was drawn to fail.\n' : '';
		entry.ended = {
			state: end.state,
			cause: end.cause,
			output: { stdout: Buffer.byteLength(stdout), stderr: Buffer.byteLength(stderr) },
			sha256: { stdout: digestOf(stdout), ...(stderr !== '' && { stderr: digestOf(stderr) }) },
			result: {
				exit_code: exitCode,
				signal: null,
				stdout,
				stderr,
				truncated: false,
				outputs: {},
				duration_ms: ms,
				error:
					end.cause === null
						? null
						: { type: end.cause, message: exitCode === 1 ? 'Exit code 1.' : 'It was stopped.' },
				process_gone: true,
			},
		};
		tally.running -= 1;
		tally.ended[end.state] += 1;
		this.#tell(entry);
	}

	/** Says where the attempt stands. */
	#tell(entry: Entry): void {
		const { say } = this.#parts;
		const { assignment, ended, startedAt, have, kept } = entry;
		if (kept) return;
		const ref = refOf(assignment);
		if (!ended) {
			return say('job_accepted', { ...ref, started_at: new Date(startedAt).toISOString() });
		}
		entry.ticks = 0;
		const { stdout, stderr } = ended.result;
		const inline = {
			...rest('stdout', stdout, have.stdout),
			...rest('stderr', stderr, have.stderr),
		};
		say('job_result', { ...ref, ...ended, inline });
	}

	#reject(named: AttemptRef, refusal: Refusal): void {
		this.#parts.say('job_rejected', { ...refOf(named), ...refusal });
	}

	#forget(key: string): void {
		this.#entries.delete(key);
		this.#remember(key, 'over');
	}

	#remember(key: string, fate: 'never' | 'over'): void {
		this.#fates.delete(key);
		this.#fates.set(key, fate);
		if (this.#fates.size <= remembered) return;
		const [oldest] = this.#fates.keys();
		this.#fates.delete(oldest!);
	}
}

type Refusal = Pick<JobRejected, 'reason' | 'message' | 'permanent'>;

const notStarted: Refusal = {
	reason: 'not-started',
	message: 'It has not started here and never will.',
	permanent: false,
};

const ends: Record<How | Stopped, Pick<JobResultMessage, 'state' | 'cause'>> = {
	completed: { state: 'completed', cause: null },
	failed: { state: 'failed', cause: 'exit_code' },
	cancelled: { state: 'cancelled', cause: 'cancelled' },
	over: { state: 'cancelled', cause: 'cancelled' },
	run_timeout: { state: 'timeout', cause: 'run_timeout' },
	silence_timeout: { state: 'timeout', cause: 'silence_timeout' },
	deadline: { state: 'timeout', cause: 'deadline' },
	'link-lost': { state: 'failed', cause: 'robot_lost' },
};

/** The part of the stream that the service does not have. */
function rest(stream: 'stdout' | 'stderr', text: string, have: number) {
	const bytes = Buffer.from(text);
	if (have >= bytes.length) return {};
	return { [stream]: { offset: have, data_b64: bytes.subarray(have).toString('base64') } };
}

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');

function refOf({ job_id, attempt, epoch, token }: AttemptRef): AttemptRef {
	return { job_id, attempt, epoch, token };
}

function keyOf({ job_id, epoch }: Pick<AttemptRef, 'job_id' | 'epoch'>): string {
	return `${job_id}/${epoch}`;
}
