/** Remembers the last bytes of a stream, and gives them as text that fits a limit in UTF-8. */

export class Tail {
	readonly #maxBytes: number;
	#chunks: Buffer[] = [];
	#kept = 0;
	/** Of the whole stream. */
	total = 0;

	constructor(maxBytes: number) {
		this.#maxBytes = maxBytes;
	}

	push(chunk: Uint8Array): void {
		this.total += chunk.length;
		// A copy, and only of what can matter: a view would keep the pipe's whole buffer alive.
		const last = Buffer.from(chunk.subarray(Math.max(0, chunk.length - this.#maxBytes)));
		this.#chunks.push(last);
		this.#kept += last.length;
		// Joined only now and then, so that many small writes do not cost a copy each.
		if (this.#kept > 4 * this.#maxBytes || this.#chunks.length > 1_000) this.#join();
	}

	/** Never begins inside a character; what is not UTF-8 shows as U+FFFD. */
	get text(): string {
		return lastText(this.#join(), this.#maxBytes);
	}

	/** Whether `text` is less than the whole stream. */
	get cut(): boolean {
		return this.total > this.#maxBytes || Buffer.byteLength(this.text) < this.total;
	}

	#join(): Buffer {
		const all = Buffer.concat(this.#chunks);
		const kept = all.subarray(Math.max(0, all.length - this.#maxBytes));
		this.#chunks = [kept];
		this.#kept = kept.length;
		return kept;
	}
}

function lastText(bytes: Buffer, maxBytes: number): string {
	let from = Math.max(0, bytes.length - maxBytes);
	if (bytes.length >= maxBytes) from = nextCharacter(bytes, from);
	const text = bytes.toString('utf8', from);
	// A broken byte becomes three: cut again, this time in text that is surely whole.
	const again = Buffer.from(text, 'utf8');
	if (again.length <= maxBytes) return text;
	return again.toString('utf8', nextCharacter(again, again.length - maxBytes));
}

/** Skips the at most three bytes that continue a character begun earlier. */
function nextCharacter(bytes: Buffer, at: number): number {
	let from = at;
	while (from < at + 3 && from < bytes.length && (bytes[from]! & 0xc0) === 0x80) from++;
	return from;
}
