/** Reads both pipes of a program, at the speed of whoever takes the bytes. */
import type { Readable } from 'node:stream';
import { type Stream, streams } from '../../protocol/frames';
import type { Sleep } from '../drivers/process';

/** A background child may hold the pipe for ever: after the exit, a silence this long ends the reading. */
const quietPipeMs = 500;
/** …and this long in all. */
const maxDrainMs = 5_000;
/** Of the event loop: within these the end of the pipes is normally seen. */
const usualTurns = 3;

export class Pipes {
	readonly #pipes: Readable[] = [];
	readonly #atEnd: Promise<unknown>;
	#ended = false;
	#chunks = 0;
	#taking = 0;

	/** `take` is awaited before more is read: that is the back-pressure. */
	constructor(
		pipes: Partial<Record<Stream, Readable>>,
		take: (stream: Stream, chunk: Buffer) => Promise<void>,
	) {
		const drains = streams.map((stream) => {
			const pipe = pipes[stream];
			if (pipe === undefined) return undefined;
			this.#pipes.push(pipe);
			return this.#drain(pipe, (chunk) => take(stream, chunk));
		});
		this.#atEnd = Promise.all(drains).then(() => (this.#ended = true));
	}

	/**
	 * After the exit the pipes are normally at their end. If somebody else holds them, says so and waits a
	 * little.
	 */
	async finish(sleep: Sleep, lingers: () => void): Promise<void> {
		// The usual case needs no timer.
		for (let turn = 0; turn < usualTurns && !this.#ended; turn++) {
			await Promise.race([this.#atEnd, new Promise((next) => setImmediate(next))]);
		}
		if (this.#ended) return;
		lingers();
		const done = new AbortController();
		void this.#atEnd.then(() => done.abort());
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
		await this.#atEnd;
	}

	/** What was read is kept; whoever still writes gets SIGPIPE. */
	close(): void {
		for (const pipe of this.#pipes) pipe.destroy();
	}

	/**
	 * Resolves when nothing more comes, and what came has been taken. It pulls the bytes, so that nobody can
	 * make them flow, as Node does with the pipes of a program that has ended.
	 */
	async #drain(pipe: Readable, take: (chunk: Buffer) => Promise<void>): Promise<void> {
		let taken = Promise.resolve();
		let taking = false;
		const read = (): void => {
			const chunk = taking ? null : (pipe.read() as Buffer | null);
			if (chunk === null) return;
			taking = true;
			this.#chunks++;
			this.#taking++;
			const next = (): void => {
				taking = false;
				this.#taking--;
			};
			taken = take(chunk).then(
				() => {
					next();
					read();
				},
				() => {
					next();
					pipe.destroy();
				},
			);
		};
		pipe.on('readable', read);
		// A pipe closed under us ends like one that is empty: 'close' follows.
		pipe.on('error', () => undefined);
		await new Promise<void>((done) => pipe.once('end', done).once('close', done));
		await taken;
	}
}
