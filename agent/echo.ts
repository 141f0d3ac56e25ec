/**
 * A secret that was typed must not come back in the output that is kept. Programs that ask for secrets tell
 * the terminal not to echo; this is for those that echo all the same. Every echoed byte becomes `*`, so
 * offsets stay what they are. Knows one secret at a time, for a short while, in memory only.
 */
import type { Stream } from '../protocol/frames';

/** Shorter pieces in the middle of other output may be anything. */
const leastBytes = 4;
/** After this much output nothing is an echo any more. */
const maxOutputBytes = 64 * 1024;
const star = 0x2a;

export class EchoGuard {
	#secret = Buffer.alloc(0);
	/** How much of the secret was already echoed at the end of the last chunk, by stream. */
	#echoed: Record<Stream, number> = { stdout: 0, stderr: 0 };
	#left = 0;
	#open = false;

	/** More of a secret; the line end is not part of it. */
	typed(bytes: Uint8Array): void {
		const end = bytes.findIndex((byte) => byte === 10 || byte === 13);
		const part = end < 0 ? bytes : bytes.subarray(0, end);
		if (!this.#open) this.forget();
		this.#open = end < 0;
		this.#secret = Buffer.concat([this.#secret, part]);
		this.#left = maxOutputBytes;
	}

	forget(): void {
		this.#secret.fill(0);
		this.#secret = Buffer.alloc(0);
		this.#echoed = { stdout: 0, stderr: 0 };
		this.#open = false;
	}

	/** What may be kept of a chunk. */
	pass(stream: Stream, chunk: Uint8Array): Uint8Array {
		if (this.#secret.length === 0) return chunk;
		if (this.#left <= 0) {
			this.forget();
			return chunk;
		}
		this.#left -= chunk.length;
		const kept = Buffer.from(chunk);
		const secret = this.#secret;
		const start = this.#echoed[stream];
		let at = sameBytes(secret.subarray(start), kept);
		if (at === kept.length || start + at === secret.length) {
			kept.fill(star, 0, at);
			this.#echoed[stream] = start + at === secret.length ? 0 : start + at;
			if (at === kept.length) return kept;
		} else {
			at = 0;
			this.#echoed[stream] = 0;
		}
		if (secret.length >= leastBytes) {
			for (;;) {
				const found = kept.indexOf(secret, at);
				if (found < 0) break;
				at = found + secret.length;
				kept.fill(star, found, at);
			}
			this.#echoed[stream] = this.#halfAtEnd(kept, at);
		}
		return kept;
	}

	/** The chunk may end in the middle of the secret. */
	#halfAtEnd(kept: Buffer, from: number): number {
		const secret = this.#secret;
		for (let n = Math.min(secret.length - 1, kept.length - from); n >= leastBytes; n--) {
			if (!kept.subarray(kept.length - n).equals(secret.subarray(0, n))) continue;
			kept.fill(star, kept.length - n);
			return n;
		}
		return 0;
	}
}

function sameBytes(a: Uint8Array, b: Uint8Array): number {
	let n = 0;
	while (n < a.length && n < b.length && a[n] === b[n]) n++;
	return n;
}
