/**
 * Large pieces of output, in append-only files that all jobs share. A record says whose it is and has a
 * checksum over all of it; the index (output.ts) says where it lies, and only the index makes it count:
 *
 *   append (memory) → flush (write, sync) → commit of the index
 *
 * So at worst a crash leaves bytes that nothing refers to, which are cut at the next start. A record that
 * does not read back as it was written is never handed out.
 *
 *    0  4 B  "RFS1"
 *    4  u32  CRC-32 of the rest
 *    8  u32  length of data
 *   12  u8   0 = stdout, 1 = stderr
 *   13  u8   length of the job id
 *   14  u16  0
 *   16  u64  offset in the stream
 *   24  u32  attempt
 *   28  u32  0
 *   32       job id, data
 */
import {
	closeSync,
	constants,
	fdatasyncSync,
	fsyncSync,
	fstatSync,
	ftruncateSync,
	mkdirSync,
	openSync,
	readdirSync,
	readSync,
	rmSync,
	writevSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Stream, streams } from '../../protocol';
import { failPoint } from './fail-points';

/** What a record is a piece of. */
export interface RecordName {
	jobId: string;
	number: number;
	stream: Stream;
	start: number;
}

/** Where a record lies. */
export interface Place {
	segment: number;
	position: number;
	size: number;
	crc: number;
}

/** A segment as the index knows it: how far it counts. */
export interface SegmentEnd {
	id: number;
	size: number;
}

const magic = Buffer.from('RFS1');
const fixedHeaderBytes = 32;
const segmentBytes = 64 * 1024 * 1024;
const maxOpen = 16;
export const segmentName = (id: number) => `${String(id).padStart(10, '0')}.seg`;

export class Segments {
	readonly #folder: string;
	readonly #maxBytes: number;
	/** Open files, least recently used first. */
	readonly #files = new Map<number, number>();
	/** What the commit under way appends, by segment. */
	readonly #pending = new Map<number, { position: number; parts: Uint8Array[]; end: number }>();
	#active: SegmentEnd;
	/** `#active` when the last commit was done. */
	#settled: SegmentEnd;

	/** Cuts what the index does not know: it was never promised to anybody. */
	constructor(folder: string, known: readonly SegmentEnd[], maxBytes = segmentBytes) {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		syncFolder(dirname(folder));
		this.#folder = folder;
		this.#maxBytes = maxBytes;
		const sizes = new Map(known.map(({ id, size }) => [id, size]));
		for (const file of readdirSync(folder)) {
			const id = /^(\d{10})\.seg$/.exec(file)?.[1];
			// Not ours: a folder of the disk itself, or something that somebody put there.
			if (id === undefined) continue;
			const size = sizes.get(Number(id));
			if (size === undefined) rmSync(join(folder, file));
			else this.#cut(Number(id), size);
		}
		this.#active = { ...(known.at(-1) ?? { id: 1, size: 0 }) };
		this.#settled = { ...this.#active };
	}

	get active(): number {
		return this.#active.id;
	}

	/** Gives the record its place; it is on disk after `flush`. */
	append(name: RecordName, data: Uint8Array): Place {
		const header = headerOf(name, data);
		const size = header.length + data.length;
		if (this.#active.size > 0 && this.#active.size + size > this.#maxBytes) {
			this.#active = { id: this.#active.id + 1, size: 0 };
		}
		const { id, size: position } = this.#active;
		let pending = this.#pending.get(id);
		if (!pending) this.#pending.set(id, (pending = { position, parts: [], end: position }));
		pending.parts.push(header, data);
		this.#active.size = pending.end = position + size;
		return { segment: id, position, size, crc: header.readUInt32BE(4) };
	}

	/** Everything appended is on stable storage when this returns. Says how far each segment now reaches. */
	flush(): SegmentEnd[] {
		for (const [id, { position, parts, end }] of this.#pending) {
			const file = this.#open(id, 'write');
			let written = 0;
			let left: Uint8Array[] = parts;
			while (position + written < end) {
				const bytes = writevSync(file, left, position + written);
				written += bytes;
				left = without(left, bytes);
			}
			failPoint('segment:written');
			fdatasyncSync(file);
			failPoint('segment:synced');
			// The name of a new file is data of its folder.
			if (position === 0) syncFolder(this.#folder);
		}
		return [...this.#pending].map(([id, { end }]) => ({ id, size: end }));
	}

	/** The commit is done, or none of it counts. */
	settle(committed: boolean): void {
		this.#pending.clear();
		if (committed) this.#settled = { ...this.#active };
		else this.#active = { ...this.#settled };
	}

	/** The data as it was appended, or nothing when something else lies there. */
	read(name: RecordName, length: number, { segment, position, size, crc }: Place) {
		const bytes = Buffer.allocUnsafe(size);
		let file: number;
		try {
			file = this.#open(segment, 'read');
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
			throw error;
		}
		for (let got = 0; got < size;) {
			const more = readSync(file, bytes, got, size - got, position + got);
			if (more === 0) return undefined;
			got += more;
		}
		if (!bytes.subarray(0, 4).equals(magic) || bytes.readUInt32BE(4) !== crc) return undefined;
		if (crc32(bytes.subarray(8)) !== crc) return undefined;
		const data = bytes.subarray(size - length);
		// An intact record may still be another one than the index means.
		return headerOf(name, data).equals(bytes.subarray(0, size - length)) ? data : undefined;
	}

	/** Call when the index has forgotten it for good. The commit is done: failing to delete the file undoes nothing. */
	remove(id: number): void {
		const file = this.#files.get(id);
		this.#files.delete(id);
		try {
			if (file !== undefined) closeSync(file);
			rmSync(join(this.#folder, segmentName(id)), { force: true });
		} catch {
			// Nothing refers to it, and the next start removes it.
		}
	}

	close(): void {
		for (const file of this.#files.values()) closeSync(file);
		this.#files.clear();
	}

	#cut(id: number, size: number): void {
		const file = openSync(join(this.#folder, segmentName(id)), 'r+');
		try {
			if (fstatSync(file).size > size) ftruncateSync(file, size);
		} finally {
			closeSync(file);
		}
	}

	#open(id: number, to: 'read' | 'write'): number {
		let file = this.#files.get(id);
		if (file === undefined) {
			const path = join(this.#folder, segmentName(id));
			file = openSync(path, to === 'read' ? 'r+' : constants.O_RDWR | constants.O_CREAT, 0o600);
		}
		this.#files.delete(id);
		this.#files.set(id, file);
		if (this.#files.size > maxOpen) {
			const [oldest, handle] = this.#files.entries().next().value!;
			this.#files.delete(oldest);
			closeSync(handle);
		}
		return file;
	}
}

function syncFolder(path: string): void {
	const folder = openSync(path, 'r');
	try {
		fsyncSync(folder);
	} finally {
		closeSync(folder);
	}
}

function headerOf({ jobId, number, stream, start }: RecordName, data: Uint8Array): Buffer {
	const id = Buffer.from(jobId);
	const header = Buffer.alloc(fixedHeaderBytes + id.length);
	magic.copy(header);
	header.writeUInt32BE(data.length, 8);
	header[12] = streams.indexOf(stream);
	header[13] = id.length;
	header.writeBigUInt64BE(BigInt(start), 16);
	header.writeUInt32BE(number, 24);
	id.copy(header, fixedHeaderBytes);
	header.writeUInt32BE(crc32(data, crc32(header.subarray(8))), 4);
	return header;
}

/** What is left of the parts after their first `bytes` bytes. */
function without(parts: readonly Uint8Array[], bytes: number): Uint8Array[] {
	const left: Uint8Array[] = [];
	for (const part of parts) {
		if (bytes < part.length) left.push(part.subarray(bytes));
		bytes = Math.max(0, bytes - part.length);
	}
	return left;
}
