/**
 * What may be left of a file after a power cut. Everything that was written before a sync that has
 * come back is there; of what was written since, each sector of 512 bytes holds any of the states it
 * went through, independently of all others.
 */
import type { Draw } from './dice';
import type { Call } from './strace';

const sector = 512;

/** Which of the unsynced states a power cut leaves. */
export type Harm = 'synced only' | 'everything' | 'some sectors' | 'torn write';
export const harms: readonly Harm[] = ['synced only', 'everything', 'some sectors', 'torn write'];

export class CachedFile {
	/** The file as it is on disk for sure, in a buffer with room to grow. */
	#room = Buffer.alloc(1 << 16);
	#length = 0;
	/** Written and not yet known to be synced, in order. */
	#loose: Call[] = [];
	readonly #calls: readonly Call[];
	#next = 0;

	/** All calls on one file, in order. */
	constructor(calls: readonly Call[]) {
		this.#calls = calls;
	}

	/** Goes on to what had happened when this line of the trace was reached. */
	advance(line: number): void {
		for (; this.#next < this.#calls.length; this.#next++) {
			const call = this.#calls[this.#next]!;
			const isSync = call.name === 'fsync' || call.name === 'fdatasync';
			if ((isSync ? call.to : call.from) > line) return;
			if (!isSync) this.#loose.push(call);
			else this.#settle(call.from);
		}
	}

	get #synced(): Buffer {
		return this.#room.subarray(0, this.#length);
	}

	get loose(): number {
		return this.#loose.length;
	}

	/** One of the files that a power cut at this moment may leave. Good until the next `advance`. */
	image(harm: Harm, draw: Draw): Buffer {
		if (harm === 'synced only') return this.#synced;
		if (harm === 'everything') return this.#loose.reduce(applied, this.#synced);
		const torn = draw.whole(0, Math.max(0, this.#loose.length - 1));
		const states = new Map<number, Buffer[]>();
		let length = this.#length;
		let longest = length;
		for (const [n, call] of this.#loose.entries()) {
			if (harm === 'torn write' && n > torn) break;
			if (call.name === 'ftruncate') {
				// Whether a new length is kept is a matter of its own.
				if (draw.chance(0.5)) length = Math.min(length, call.offset);
				continue;
			}
			longest = Math.max(longest, call.offset + call.data.length);
			const cut = harm === 'torn write' && n === torn ? draw.whole(0, call.data.length) : Infinity;
			for (const at of sectorsOf(call)) {
				if (at - call.offset > cut) break;
				const seen = states.get(at) ?? [sectorAt(this.#synced, at)];
				states.set(at, seen);
				seen.push(written(seen.at(-1)!, at, call));
			}
		}
		const chosen = [...states].flatMap(([at, seen]) => {
			const n = harm === 'torn write' ? seen.length - 1 : draw.whole(0, seen.length - 1);
			return n === 0 ? [] : [{ at, bytes: seen[n]! }];
		});
		for (const { at, bytes } of chosen) length = Math.max(length, at + bytes.length);
		length = Math.min(length, longest);
		const image = Buffer.alloc(length);
		this.#synced.copy(image, 0, 0, length);
		for (const { at, bytes } of chosen) bytes.copy(image, at);
		return image;
	}

	/** A sync that began here has come back: what had been written by then is safe. */
	#settle(from: number): void {
		const safe = this.#loose.filter((call) => call.to < from);
		this.#loose = this.#loose.filter((call) => call.to >= from);
		for (const { name, offset, data } of safe) {
			const end = offset + data.length;
			if (name === 'ftruncate') this.#room.fill(0, Math.min(offset, this.#length), this.#length);
			if (end > this.#room.length) {
				const larger = Buffer.alloc(2 * end);
				this.#room.copy(larger, 0, 0, this.#length);
				this.#room = larger;
			}
			data.copy(this.#room, offset);
			this.#length = name === 'ftruncate' ? offset : Math.max(this.#length, end);
		}
	}
}

function applied(file: Buffer, { name, offset, data }: Call): Buffer {
	const length = name === 'ftruncate' ? offset : Math.max(file.length, offset + data.length);
	const next = Buffer.alloc(length);
	file.copy(next, 0, 0, length);
	data.copy(next, offset);
	return next;
}

function* sectorsOf({ offset, data }: Call): Generator<number> {
	for (let at = offset - (offset % sector); at < offset + data.length; at += sector) yield at;
}

function sectorAt(file: Buffer, at: number): Buffer {
	const bytes = Buffer.alloc(sector);
	if (at < file.length) file.copy(bytes, 0, at, at + sector);
	return bytes;
}

function written(before: Buffer, at: number, { offset, data }: Call): Buffer {
	const bytes = Buffer.from(before);
	const begin = Math.max(at, offset);
	data.copy(
		bytes,
		begin - at,
		begin - offset,
		Math.min(at + sector, offset + data.length) - offset,
	);
	return bytes;
}
