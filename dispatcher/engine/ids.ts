/**
 * Ids that sort by time: UUIDv7 whose first random bits are a counter, so that two ids of the same
 * millisecond keep the order in which they were made (RFC 9562, section 6.2, method 1).
 */
import { randomFillSync } from 'node:crypto';
import type { Clock } from './clock';

/** Fills the buffer with random bytes. */
export type Entropy = (buffer: Buffer) => void;
/** 48 bits. */
const maxMs = 2 ** 48 - 1;

/** No id made at this instant or later is smaller. */
export function firstIdOf(ms: number): string {
	const time = Math.min(Math.max(0, Math.floor(ms)), maxMs)
		.toString(16)
		.padStart(12, '0');
	return `${time.slice(0, 8)}-${time.slice(8)}`;
}

export class Ids {
	readonly #clock: Clock;
	readonly #entropy: Entropy;
	readonly #pool = Buffer.alloc(8 * 1024);
	#at = this.#pool.length;
	#lastMs = 0;
	#counter = 0;

	constructor(clock: Clock, entropy: Entropy = randomFillSync) {
		this.#clock = clock;
		this.#entropy = entropy;
	}

	next(): string {
		const ms = Math.max(this.#clock.now(), this.#lastMs);
		if (ms === this.#lastMs && this.#counter < 0xfff) this.#counter += 1;
		else {
			// A counter that ran over borrows the next millisecond rather than repeat itself.
			this.#lastMs = ms === this.#lastMs ? ms + 1 : ms;
			this.#counter = 0;
		}
		const time = this.#lastMs.toString(16).padStart(12, '0');
		const count = this.#counter.toString(16).padStart(3, '0');
		const random = this.#random();
		const variant = ((Number.parseInt(random[0]!, 16) & 0x3) | 0x8).toString(16);
		return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${variant}${random.slice(1, 4)}-${random.slice(4, 16)}`;
	}

	/** 64 random bits as hex: an attempt's token, a wait's nonce. */
	token(): string {
		return this.#random();
	}

	#random(): string {
		if (this.#at === this.#pool.length) {
			this.#entropy(this.#pool);
			this.#at = 0;
		}
		this.#at += 8;
		return this.#pool.toString('hex', this.#at - 8, this.#at);
	}
}
