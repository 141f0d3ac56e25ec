/**
 * Sends what is typed to a job, in order and each byte once, whatever happens on the way: every piece names
 * its offset, so that it can safely be repeated until the robot has it. Keys typed meanwhile go together
 * with the next piece.
 */
import { randomUUID } from 'node:crypto';
import type { FleetClient } from '../../client';
import { type InputAnswer, limits, Problem } from '../../protocol';

const againMs = 300;

export class Typist {
	readonly #client: FleetClient;
	readonly #jobId: string;
	readonly #sleep: (ms: number) => Promise<void>;
	readonly #failed: (error: Error) => void;
	readonly #stopping = new AbortController();
	/** So that somebody else typing at the same offset is not taken for a repetition of ours. */
	readonly #writer = `cli-${randomUUID()}`;
	#waiting: Uint8Array[] = [];
	#eof = false;
	#size: { cols: number; rows: number } | undefined;
	/** The offset of the first waiting byte. */
	#at: number | undefined;
	#beginning: Promise<unknown> = Promise.resolve();
	#work: Promise<void> | undefined;
	#over = false;

	constructor(
		client: FleetClient,
		jobId: string,
		world: {
			sleep(ms: number): Promise<void>;
			/** Nothing more is typed. */
			failed(error: Error): void;
		},
	) {
		this.#client = client;
		this.#jobId = jobId;
		this.#sleep = (ms) => world.sleep(ms);
		this.#failed = (error) => world.failed(error);
	}

	/** Waits until the program can be typed into; undefined when it will never be. */
	begin(): Promise<InputAnswer | undefined> {
		const beginning = this.#begin();
		this.#beginning = beginning.catch(() => undefined);
		return beginning;
	}

	async #begin(): Promise<InputAnswer | undefined> {
		const answer = await this.#say(() => ({}));
		if (answer === undefined) this.stop();
		else {
			this.#at = answer.have;
			this.#go();
		}
		return answer;
	}

	type(bytes: Uint8Array): void {
		if (this.#over) return;
		this.#waiting.push(Uint8Array.from(bytes));
		this.#go();
	}

	end(): void {
		this.#eof = true;
		this.#go();
	}

	resize(size: { cols: number; rows: number } | undefined): void {
		this.#size = size;
		if (size) this.#go();
	}

	/** Resolves when the robot has all that was typed, or never will. */
	async sent(): Promise<void> {
		await this.#beginning;
		while (this.#work) await this.#work;
	}

	/** What is under way is not repeated any more. */
	stop(): void {
		this.#over = true;
		this.#waiting = [];
		this.#stopping.abort();
	}

	/** What was typed before the beginning waits for it. */
	#go(): void {
		if (this.#at === undefined) return;
		this.#work ??= this.#send()
			.catch((error: Error) => {
				const asked = this.#over;
				this.stop();
				if (!asked) this.#failed(error);
			})
			.finally(() => {
				this.#work = undefined;
			});
	}

	async #send(): Promise<void> {
		while (!this.#over && (this.#waiting.length > 0 || this.#eof || this.#size)) {
			const piece = this.#nextPiece();
			const last = this.#waiting.length === 0 && this.#eof;
			const size = this.#size;
			this.#size = undefined;
			if (last) this.#eof = false;
			const answer = await this.#say(() => ({
				...(piece.length > 0 ? { dataB64: piece.toString('base64'), from: this.#at } : {}),
				...(last ? { eof: true } : {}),
				...(size ? { size } : {}),
			}));
			if (!answer) return this.stop();
			this.#at = this.#at! + piece.length;
		}
	}

	#nextPiece(): Buffer {
		const parts: Uint8Array[] = [];
		let room: number = limits.maxInputBytes;
		let taken = 0;
		for (const waiting of this.#waiting) {
			const part = waiting.subarray(0, room);
			parts.push(part);
			room -= part.length;
			if (part.length < waiting.length) {
				this.#waiting[taken] = waiting.subarray(part.length);
				break;
			}
			taken += 1;
		}
		this.#waiting.splice(0, taken);
		return Buffer.concat(parts);
	}

	/** Keeps trying while there is any use in it. Undefined = nothing can be typed any more. */
	async #say(input: () => Parameters<FleetClient['input']>[1]): Promise<InputAnswer | undefined> {
		while (!this.#over) {
			try {
				return await this.#client.input(
					this.#jobId,
					{ ...input(), writer: this.#writer },
					this.#stopping.signal,
				);
			} catch (error) {
				if (!(error instanceof Problem)) throw error;
				const { code, details, retry } = error;
				// Somebody else has typed meanwhile, or it is a new attempt of the job.
				if (code === 'input-taken' || code === 'input-gap') this.#at = Number(details.have);
				else if (code === 'not-running' || code === 'input-closed') return undefined;
				else if (!retry) throw error;
				else await this.#sleep(againMs);
			}
		}
		return undefined;
	}
}
