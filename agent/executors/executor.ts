/**
 * What the agent asks of every kind of work, and all that such work may touch. An executor does it,
 * obeys the signal and reports; that the work fails is data, not an exception. It knows no socket,
 * no journal and no clock of its own.
 */
import type { Cause } from '../../protocol/states';
import type { Stream } from '../../protocol/frames';
import type { Variables } from '../../protocol/job';

/** Why an attempt shall stop. Travels as the reason of `RunContext.signal`. */
export interface Stop {
	why:
		| 'cancelled'
		| 'run_timeout'
		| 'silence_timeout'
		/** The program asked, and nobody answered. */
		| 'input_timeout'
		/** It neither prints nor computes, and the job wants no such thing. */
		| 'hanging'
		| 'deadline'
		/** The attempt has ended elsewhere. */
		| 'over'
		/** The link was lost, and the job does not want to run without it. */
		| 'link-lost'
		/** The agent is being stopped. */
		| 'agent-stop';
	/** Politeness between the first signal and the kill. */
	graceMs: number;
}

/** Where what people type goes in, by byte offset behind whatever the spec itself says. */
export interface InputPort {
	/** Taken already, in an earlier life of the agent. */
	readonly have: number;
	/** A real terminal; else a plain pipe. */
	readonly terminal: boolean;
	/** Resolves with what has been taken in all; less than was given = the program reads no more. */
	write(offset: number, data: Uint8Array): Promise<number>;
	/** Nothing comes behind this offset. */
	end(offset: number): Promise<void>;
	/** Without a terminal it means nothing. */
	resize(size: { columns: number; rows: number }): void;
}

/** All that an executor may touch. What is not here is forbidden. */
export interface RunContext {
	readonly jobId: string;
	readonly attempt: number;
	/** Unguessable; put into the environment of every process, so that left-overs can be found. */
	readonly mark: string;
	readonly variables: Variables;
	/** Aborted with a `Stop` as reason. */
	readonly signal: AbortSignal;
	/** Aborted when there is no time left for politeness. */
	readonly hurry: AbortSignal;
	/** Keeps the bytes; await it before reading more, that is the back-pressure. */
	output(stream: Stream, chunk: Uint8Array): Promise<void>;
	/** A live hint for people; never awaited, may be dropped. */
	report(step: { progress?: number; message?: string }): void;
	/** The work has a process now; remembered so that a later agent can find it. */
	started(pid: number, birth: string | null): void;
	/** The work can be typed into from now on. */
	takesInput(port: InputPort): void;
	/** True when the time is over, false when the signal cut it short. Never throws. */
	sleep(ms: number, signal?: AbortSignal): Promise<boolean>;
}

export interface Outcome {
	/** `stopped` = it ended because the signal said so. */
	end: 'done' | 'failed' | 'stopped';
	/** Set when `end` is failed. */
	cause: Cause | null;
	exitCode: number | null;
	signal: string | null;
	outputs: Record<string, unknown>;
	error: { type: string; message: string } | null;
	/** True only after looking. */
	processGone: boolean;
}

/** How to find what an attempt started, after the agent that started it is gone. */
export interface Trace {
	mark: string;
	pid: number | null;
	birth: string | null;
}

export interface Executor<Spec = unknown> {
	readonly kind: string;
	/** Never rejects for what the work itself does. */
	run(spec: Spec, context: RunContext): Promise<Outcome>;
	/** Ends whatever an earlier agent left behind; says whether that is verified. */
	cleanUp(
		trace: Trace,
		graceMs: number,
		context: Pick<RunContext, 'sleep' | 'hurry'>,
	): Promise<boolean>;
}
