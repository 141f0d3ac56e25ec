/** Remembers the last bytes of a stream, and gives them as text that fits a limit in UTF-8. */

export class Tail {
	readonly #maxBytes: number;
	/** The last bytes end at `#used`; room for twice what is remembered, so that they move only now and then. */
	#buffer = Buffer.alloc(0);
	#used = 0;
	/** Of the whole stream. */
	total = 0;

	constructor(maxBytes: number) {
		this.#maxBytes = maxBytes;
	}

	/** Copies what can matter of the chunk: nothing is allocated for it, however fast chunks come. */
	push(chunk: Uint8Array): void {
		this.total += chunk.length;
		const last = chunk.subarray(Math.max(0, chunk.length - this.#maxBytes));
		if (this.#used + last.length > this.#buffer.length) this.#makeRoom(last.length);
		this.#buffer.set(last, this.#used);
		this.#used += last.length;
	}

	/** What is remembered. */
	get bytes(): Buffer {
		return this.#kept;
	}

	/** Never begins inside a character; what is not UTF-8 shows as U+FFFD. */
	get text(): string {
		return lastText(this.#kept, this.#maxBytes);
	}

	/** Whether `text` is less than the whole stream. */
	get cut(): boolean {
		const kept = this.#kept;
		// Bytes that are not UTF-8 become longer as text, so its length says nothing.
		return this.total > kept.length || this.text.length < kept.toString('utf8').length;
	}

	get #kept(): Buffer {
		return this.#buffer.subarray(Math.max(0, this.#used - this.#maxBytes), this.#used);
	}

	#makeRoom(bytes: number): void {
		const most = 2 * this.#maxBytes;
		const kept = this.#kept;
		if (this.#buffer.length < most) {
			const needed = Math.min(most, Math.max(1_024, 2 * (this.#used + bytes)));
			const larger = Buffer.alloc(needed);
			kept.copy(larger);
			this.#buffer = larger;
		} else this.#buffer.copyWithin(0, this.#used - kept.length, this.#used);
		this.#used = kept.length;
	}
}

function lastText(bytes: Buffer, maxBytes: number): string {
	let from = Math.max(0, bytes.length - maxBytes);
	if (bytes.length >= maxBytes) from = nextCharacter(bytes, from);
	const text = bytes.toString('utf8', from);
	// A broken byte becomes three: cut again, this time in text that is certainly whole.
	const again = Buffer.from(text, 'utf8');
	if (again.length <= maxBytes) return text;
	return again.toString('utf8', nextCharacter(again, again.length - maxBytes));
}

/** Skips up to three bytes that continue a character begun earlier. */
function nextCharacter(bytes: Buffer, at: number): number {
	let from = at;
	while (from < at + 3 && from < bytes.length && (bytes[from]! & 0xc0) === 0x80) from++;
	return from;
}
