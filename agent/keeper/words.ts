/**
 * What an agent and a keeper say to each other: one JSON object per line. An agent may meet a keeper
 * of an older release, and the other way round, with jobs under way: fields are added, never changed.
 */
import type { SpoolState } from '../spool';
import type { Stream } from '../../protocol/frames';
import type { ExitStatus, Program } from '../drivers/process';

export const keeperVersion = 1;

export interface TerminalSize {
	columns: number;
	rows: number;
}

/** A program to run for one attempt, once. */
export interface Order {
	jobId: string;
	epoch: number;
	program: Program;
	/** Written to its input first, which is then closed unless the program is interactive. */
	stdin?: string;
	/** More input may come. */
	interactive?: boolean;
	/** In a terminal of this size, where this machine can make one. */
	terminal?: TerminalSize;
	spool: { folder: string; maxBytes: number; reserveBytes: number };
}

/** How an attempt ended. Kept until the agent has taken it. */
export interface End extends ExitStatus {
	ranMs: number;
	output: SpoolState;
	/** Digests of what is kept of each stream, if anything is. */
	sha256: Partial<Record<Stream, string>>;
	/** The last bytes of a stream that the disk had no room for, as base64. */
	tails?: Partial<Record<Stream, string>>;
}

export interface Started {
	pid: number;
	birth: string | null;
	terminal?: boolean;
	/** Why it is not what was asked for. */
	note?: string;
}

export interface Held {
	key: string;
	pid: number;
	birth: string | null;
	ageMs: number;
	output: SpoolState;
	/** Bytes of later input that were taken. */
	input: number;
	terminal?: boolean;
	exited?: ExitStatus;
	end?: End;
}

export type AgentWord =
	| { say: 'hello'; version: number; secret: string }
	| { say: 'start'; order: Order }
	/** `secret`: what the program prints of it is not kept. */
	| { say: 'input'; key: string; id: number; offset: number; data: string; secret: boolean }
	| { say: 'end-input'; key: string; id: number; offset: number }
	| { say: 'resize'; key: string; size: TerminalSize }
	/** It cannot be ended: nothing more of it is read, and that counts as its end. */
	| { say: 'give-up'; key: string }
	/** The end is on the agent's disk. */
	| { say: 'take'; key: string }
	/** End, if nothing is held. */
	| { say: 'leave' };

export type KeeperWord =
	| { say: 'welcome'; version: number; pid: number; held: Held[] }
	| ({ say: 'started'; key: string } & Started)
	/** `again`: it was started before, or may have been, so nobody may say that it was not. */
	| { say: 'not-started'; key: string; why: 'spawn' | 'again'; message: string }
	| { say: 'output'; key: string; state: Partial<SpoolState> }
	| { say: 'exited'; key: string; status: ExitStatus }
	| { say: 'ended'; key: string; end: End }
	| { say: 'have'; key: string; id: number; have: number };

/** Nobody waits for these: they travel with the next word, or a moment later. */
export const patientWords: ReadonlySet<(AgentWord | KeeperWord)['say']> = new Set([
	'started',
	'take',
]);

export function keyOf({ jobId, epoch }: { jobId: string; epoch: number }): string {
	return `${jobId}-${epoch}`;
}

/** Undefined when the line is no word. */
export function parse(line: string): object | undefined {
	try {
		const word: unknown = JSON.parse(line);
		return typeof word === 'object' && word !== null ? word : undefined;
	} catch {
		return undefined;
	}
}

/** Splits what comes in pieces into lines. False = a line is longer than it may be. */
export class Lines {
	readonly #hear: (line: string) => void;
	maxLength: number;
	#rest: string[] = [];
	#length = 0;

	constructor(maxLength: number, hear: (line: string) => void) {
		this.maxLength = maxLength;
		this.#hear = hear;
	}

	push(text: string): boolean {
		const parts = text.split('\n');
		const last = parts.pop()!;
		for (const part of parts) {
			this.#rest.push(part);
			const line = this.#rest.join('');
			this.#rest = [];
			this.#length = 0;
			if (line.length > this.maxLength) return false;
			this.#hear(line);
		}
		this.#rest.push(last);
		this.#length += last.length;
		return this.#length <= this.maxLength;
	}
}
