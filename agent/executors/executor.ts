/**
 * What the agent asks of every kind of work, and all that such work may touch. An executor does it,
 * obeys the signal and reports; a failure of the work is data, not an exception. It knows no
 * socket, no journal and no clock of its own.
 */
import type { Cause } from '../../protocol/states';
import type { Stream } from '../../protocol/frames';
import type { Variables } from '../../protocol/job';
import type { SpoolState } from '../spool';

/** Why an attempt must stop. Travels as the reason of `RunContext.signal`. */
export interface Stop {
	why:
		| 'cancelled'
		| 'run_timeout'
		| 'silence_timeout'
		/** The program asked, and nobody answered. */
		| 'input_timeout'
		/** It neither prints nor computes, and the job wants to be stopped then. */
		| 'hanging'
		/** It uses more than it may. */
		| 'cap'
		| 'deadline'
		/** The attempt has ended elsewhere. */
		| 'over'
		/** The link was lost, and the job does not want to run without it. */
		| 'link-lost'
		/** The agent is being stopped. */
		| 'agent-stop';
	/** Politeness between the first signal and the kill. */
	graceMs: number;
	/** More about it, for people. */
	text?: string;
}

/** Where what people type goes in, by byte offset counted after whatever input the spec itself has. */
export interface InputPort {
	/** Taken already, in an earlier life of the agent. */
	readonly have: number;
	/** A real terminal; else a plain pipe. */
	readonly terminal: boolean;
	/**
	 * Resolves with the total taken so far; less than was given = the program reads no more. A secret
	 * that the program prints back is not kept.
	 */
	write(offset: number, data: Uint8Array, secret: boolean): Promise<number>;
	/** Nothing comes after this offset. */
	end(offset: number): Promise<void>;
	/** Without a terminal it does nothing. */
	resize(size: { columns: number; rows: number }): void;
}

/** All that an executor may touch. What is not here is forbidden. */
export interface RunContext {
	readonly jobId: string;
	readonly attempt: number;
	/** With the job's id, the name of this attempt on this robot. */
	readonly epoch: number;
	/** Unguessable; put into the environment of every process, so that left-overs can be found. */
	readonly mark: string;
	readonly variables: Variables;
	/** Folder of its own, when it brings files along or takes some home. */
	readonly workspace?: string;
	/** The profile, session or emulator of the robot that it is for. */
	readonly client?:
		{ readonly name: string; readonly env: Readonly<Record<string, string>> } | undefined;
	/** Output kept of this attempt; absent = as much as of any other. */
	readonly maxOutputBytes?: number | undefined;
	/** Aborted with a `Stop` as reason. */
	readonly signal: AbortSignal;
	/** Aborted when there is no time left for politeness. */
	readonly hurry: AbortSignal;
	/** Keeps the bytes; await it before reading more: that is the back-pressure. */
	output(stream: Stream, chunk: Uint8Array): Promise<void>;
	/** Somebody else writes the output into the spool, and has got this far. Never mixed with `output`. */
	outputKept(state: Partial<SpoolState>): void;
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
	/** What is known about work that somebody else kept, perhaps while this agent was not there. */
	kept?: {
		ranMs: number;
		sha256: Partial<Record<Stream, string>>;
		/** The last bytes of streams that are not in the spool. */
		tails: Partial<Record<Stream, Buffer>>;
	};
}

/** How to find what an attempt started, after the agent that started it is gone. */
export interface Trace {
	mark: string;
	pid: number | null;
	/** Of the process; of the machine's boot while there is no pid. */
	birth: string | null;
}

/** Work that an earlier agent began and that goes on. */
export interface Rejoined {
	/** How long it has been running. */
	ageMs: number;
	outcome: Promise<Outcome>;
}

export interface Executor<Spec = unknown> {
	readonly kind: string;
	/** Prepares what every job needs, before anything has been promised. Never rejects. */
	prepare?(): Promise<void>;
	/** Never rejects for what the work itself does. */
	run(spec: Spec, context: RunContext): Promise<Outcome>;
	/** Takes up what an earlier agent began, if somebody kept it, knows how it ended, or knows that it never began. */
	rejoin?(spec: Spec, context: RunContext, trace: Trace): Promise<Rejoined | undefined>;
	/** The end is on disk: whoever kept it may forget it. Harmless for what nobody kept. */
	settled?(attempt: { jobId: string; epoch: number }): void;
	/** The service has all of it: nothing needs to be known about it any more. */
	forgotten?(attempt: { jobId: string; epoch: number }): void;
	/** Ends whatever an earlier agent left behind; says whether that is verified. */
	cleanUp(
		trace: Trace,
		graceMs: number,
		context: Pick<RunContext, 'sleep' | 'hurry'>,
	): Promise<boolean>;
}
