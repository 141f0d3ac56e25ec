/**
 * What is typed into a program after its start, addressed by byte offset: only what begins where the last
 * piece ended is taken, so that a piece said twice, or again after a cut, is typed once.
 */
import type { Writable } from 'node:stream';

export class Input {
	readonly #stream: Writable | null;
	#have = 0;
	#ended = false;

	constructor(stream: Writable | null) {
		this.#stream = stream;
		// A program that does not read its input closes the pipe; that is its right.
		stream?.on('error', () => undefined);
	}

	/** How many bytes were taken. */
	get have(): number {
		return this.#have;
	}

	/** What comes before the first offset. */
	begin(text: string, { more }: { more: boolean }): void {
		if (more) this.#stream?.write(text);
		else this.#stream?.end(text);
		this.#ended = !more;
	}

	/**
	 * Resolves, once the pipe has it, with the total taken so far. Less than was given: the piece does not
	 * begin where the last one ended, or the program reads no more.
	 */
	async take(offset: number, data: Uint8Array): Promise<number> {
		const stream = this.#stream;
		if (stream === null || this.#ended || offset !== this.#have) return this.#have;
		// Counted before it is written: the same piece, said again meanwhile, is not typed again.
		this.#have += data.length;
		const refused = await new Promise<boolean>((done) =>
			stream.write(data, (error) => done(error !== null && error !== undefined)),
		);
		if (refused) {
			this.#ended = true;
			this.#have = offset;
		}
		return this.#have;
	}

	/** Nothing comes after this offset. */
	end(offset: number): number {
		if (!this.#ended && offset === this.#have) {
			this.#ended = true;
			this.#stream?.end();
		}
		return this.#have;
	}
}
