/** Reads both pipes of a program, at the speed of who takes the bytes. */
import type { Readable } from 'node:stream';
import { type Stream, streams } from '../../protocol/frames';
import type { Sleep } from '../drivers/process';

/** A background child may hold the pipe for ever: this long a silence after the exit ends reading. */
const quietPipeMs = 500;
/** …and this long in all. */
const maxDrainMs = 5_000;

export class Pipes {
	readonly #pipes: Readable[] = [];
	readonly #atEnd: Promise<unknown>;
	#chunks = 0;
	#taking = 0;

	/** `take` is awaited before more is read: that is the back-pressure. */
	constructor(
		pipes: Partial<Record<Stream, Readable>>,
		take: (stream: Stream, chunk: Buffer) => Promise<void>,
	) {
		const drains = streams.map(async (stream) => {
			const pipe = pipes[stream];
			if (pipe === undefined) return;
			this.#pipes.push(pipe);
			await this.#drain(pipe, (chunk) => take(stream, chunk));
		});
		this.#atEnd = Promise.all(drains);
	}

	/**
	 * After the exit the pipes are normally at their end. If somebody else holds them, says so and waits a
	 * little.
	 */
	async finish(sleep: Sleep, lingers: () => void): Promise<void> {
		let ended = false;
		const finished = this.#atEnd.then(() => (ended = true));
		// The usual case needs no timer.
		await Promise.race([finished, new Promise((turn) => setImmediate(turn))]);
		if (ended) return;
		lingers();
		const done = new AbortController();
		void finished.then(() => done.abort());
		let left = maxDrainMs;
		let seen = -1;
		while (left > 0 && seen !== this.#chunks) {
			seen = this.#chunks;
			if (!(await sleep(quietPipeMs, done.signal))) break;
			// A slow disk is no silence, and its time is not held against the pipe.
			if (this.#taking > 0) seen = -1;
			else left -= quietPipeMs;
		}
		if (!done.signal.aborted) this.close();
		await finished;
	}

	/** What was read is kept; who still writes gets SIGPIPE. */
	close(): void {
		for (const pipe of this.#pipes) pipe.destroy();
	}

	async #drain(pipe: Readable, take: (chunk: Buffer) => Promise<void>): Promise<void> {
		try {
			for await (const chunk of pipe) {
				this.#chunks++;
				this.#taking++;
				await take(chunk as Buffer);
				this.#taking--;
			}
		} catch {
			// A pipe closed under us ends like one that is empty; what was read has been kept.
		}
	}
}
