/**
 * The output of every attempt on disk, addressed by byte offset from the first byte of the stream, until
 * the service has proved that it has all of it. What lies here survives the death of the agent.
 *
 *   <job>-<epoch>.stdout.0   <job>-<epoch>.stdout.4194304   …
 *
 * A stream is a row of pieces, each a file named after its first byte. A job that prints more than is kept
 * loses pieces from its middle while it prints, so the disk it uses is bounded; where the disk has no
 * room, nothing is written until there is some. Offsets stay true: whatever is not here is a hole. The
 * pipe is never blocked for lack of room. Knows nothing of frames or acknowledgements.
 *
 * One writer per stream: the agent, or the keeper that holds the program. Whoever reads what another one
 * writes goes by what the writer reports.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { open, rm, statfs, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
	between,
	type Hole,
	holeAt,
	type HoleReason,
	type OutputLengths,
	type Stream,
	streams,
	surplus,
	withHole,
} from '../protocol';

export interface SpoolLimits {
	/** Kept of one attempt, both streams together. */
	maxBytes: number;
	/** Free disk that is left to the rest of the machine, and to our own journal. */
	reserveBytes: number;
	/** How much of the disk is free. */
	freeBytes?: () => Promise<number>;
}

/** What an attempt that has ended is known to have had. */
export interface SpoolRecord {
	output: OutputLengths;
	holes?: Partial<Record<Stream, Hole[]>>;
}

/** What a writer has made of one stream. */
export interface StreamState {
	length: number;
	/** Files: first byte and length of each. */
	pieces: [start: number, length: number][];
	/** Holes that the limit did not make. */
	lost: Hole[];
}

export type SpoolState = Record<Stream, StreamState>;

export interface SpoolPiece {
	/** Where the data begins: what was asked for, or the end of the hole it lies in. */
	offset: number;
	data: Buffer;
	gap?: { from: number; reason: HoleReason };
}

const readBytes = 256 * 1024;
/** Bytes of one stream between two looks at the disk: far less than the ballast, which other jobs' exit records need. */
const lookBytes = 128 * 1024;

export class Spool {
	readonly #folder: string;
	readonly #limits: Required<SpoolLimits>;

	constructor(folder: string, limits: SpoolLimits) {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		this.#folder = folder;
		this.#limits = {
			freeBytes: async () => {
				const { bavail, bsize } = await statfs(folder);
				return bavail * bsize;
			},
			...limits,
		};
	}

	/**
	 * What is already there is kept and continued where it ended; for a `new` one, nothing is looked for.
	 * An attempt may have a lower limit than others.
	 */
	open(
		jobId: string,
		epoch: number,
		record?: SpoolRecord | 'new',
		maxBytes = Infinity,
	): AttemptSpool {
		const limits = { ...this.#limits, maxBytes: Math.min(this.#limits.maxBytes, maxBytes) };
		return new AttemptSpool(this.#folder, `${jobId}-${epoch}`, limits, record);
	}

	/** Deletes files of attempts that nobody holds: left by a crash between forgetting and deleting. */
	sweep(held: readonly { jobId: string; epoch: number }[]): void {
		const known = new Set(held.map(({ jobId, epoch }) => `${jobId}-${epoch}`));
		for (const name of readdirSync(this.#folder)) {
			if (!known.has(name.replace(/\.std(out|err)\.\d+$/, ''))) {
				rmSync(join(this.#folder, name), { force: true });
			}
		}
	}
}

/** A file of one stream. */
interface Piece {
	start: number;
	length: number;
}

class StreamSpool {
	pieces: Piece[] = [];
	/** Of what was produced, kept or not. */
	length = 0;
	/** Holes that the limit did not make. */
	lost: Hole[] = [];
	/** The last piece, while it grows. */
	file: FileHandle | undefined;
	/** The disk is not looked at again before the stream is this long: there was no room the last time. */
	retryAt = 0;
	/** Written since the last look at the disk. */
	unlooked = 0;
	/** Over all bytes so far; none before the first. */
	hash: Hash | undefined;
	/** Some bytes went by unseen. */
	unhashed = false;
}

export class AttemptSpool {
	readonly #folder: string;
	readonly #name: string;
	readonly #limits: Required<SpoolLimits>;
	readonly #pieceBytes: number;
	readonly #streams = { stdout: new StreamSpool(), stderr: new StreamSpool() };
	#removed = false;

	constructor(
		folder: string,
		name: string,
		limits: Required<SpoolLimits>,
		record?: SpoolRecord | 'new',
	) {
		this.#folder = folder;
		this.#name = name;
		this.#limits = limits;
		// Small enough that little more than the limit is on disk, large enough that files are few.
		this.#pieceBytes = Math.max(1, Math.floor(limits.maxBytes / 16));
		if (record !== 'new') this.#recall(record);
	}

	/** Bytes that were produced, by stream. */
	get lengths(): OutputLengths {
		return { stdout: this.#streams.stdout.length, stderr: this.#streams.stderr.length };
	}

	/** More was produced than is kept: the middle is going. */
	get overflows(): boolean {
		return this.#streams.stdout.length + this.#streams.stderr.length > this.#limits.maxBytes;
	}

	/** For those who read what this one writes. */
	stateOf(stream: Stream): StreamState {
		const { length, pieces, lost } = this.#streams[stream];
		return { length, pieces: pieces.map((piece) => [piece.start, piece.length]), lost };
	}

	/** Somebody else writes, and reports how far it has got. Do not append any more. */
	follow(state: Partial<SpoolState>): void {
		for (const stream of streams) {
			const said = state[stream];
			if (said === undefined) continue;
			const spool = this.#streams[stream];
			spool.length = said.length;
			spool.pieces = said.pieces.map(([start, length]) => ({ start, length }));
			spool.lost = said.lost;
			spool.unhashed = true;
		}
	}

	/** The writer is gone, and may not have reported everything: looks at what is there. */
	recollect(): void {
		this.#recall({
			output: this.lengths,
			holes: { stdout: this.#streams.stdout.lost, stderr: this.#streams.stderr.lost },
			mayBeMore: true,
		});
	}

	/** What is missing from a stream, in order. */
	holes(stream: Stream): Hole[] {
		const middle = surplus(this.lengths, this.#limits.maxBytes)[stream];
		const { lost } = this.#streams[stream];
		return middle ? withHole(lost, { ...middle, reason: 'limit' }) : lost;
	}

	/**
	 * Resolves when the file has the bytes (not yet synced), so that awaiting it slows the writer to
	 * the speed of the disk. One call at a time for each stream. Never rejects: a full disk drops.
	 */
	async append(stream: Stream, chunk: Uint8Array): Promise<void> {
		const spool = this.#streams[stream];
		if (!spool.unhashed) (spool.hash ??= createHash('sha256')).update(chunk);
		let done = 0;
		try {
			while (done < chunk.length) {
				const piece = await this.#growing(stream);
				if (piece === undefined) break;
				const wanted = Math.min(chunk.length - done, this.#pieceBytes - piece.length);
				const { bytesWritten } = await spool.file!.write(chunk, done, wanted, piece.length);
				piece.length += bytesWritten;
				spool.length += bytesWritten;
				spool.unlooked += bytesWritten;
				done += bytesWritten;
			}
		} catch {
			// The disk is full or broken. The job's own work matters more than its output.
			spool.retryAt = spool.length + this.#pieceBytes;
		}
		if (done < chunk.length) await this.#lose(spool, chunk.length - done);
		await this.#trim();
	}

	/**
	 * At most `maxBytes` from `offset`, or, when they are not here, from the end of the hole on. No data and
	 * no gap = there is nothing more yet.
	 */
	async read(stream: Stream, offset: number, maxBytes: number): Promise<SpoolPiece> {
		const spool = this.#streams[stream];
		const holes = this.holes(stream);
		const { at, gap } = behind(holes, offset);
		const stop = Math.min(
			spool.length,
			at + maxBytes,
			...holes.filter(({ from }) => from > at).map(({ from }) => from),
		);
		const data = stop > at && !this.#removed ? await this.#load(stream, at, stop) : Buffer.alloc(0);
		return { offset: at, data, ...(gap && { gap }) };
	}

	/** SHA-256 of what lies between the holes; undefined when nothing does. */
	async digest(stream: Stream): Promise<string | undefined> {
		const spool = this.#streams[stream];
		const kept = between(this.holes(stream), spool.length);
		if (kept.length === 0) return undefined;
		const isWhole = !spool.unhashed && this.holes(stream).length === 0;
		if (spool.hash && isWhole) return spool.hash.copy().digest('hex');
		const hash = createHash('sha256');
		for (const { from, to } of kept) {
			for (let at = from; at < to;) {
				const { data } = await this.read(stream, at, Math.min(to - at, readBytes));
				if (data.length === 0) return undefined;
				hash.update(data);
				at += data.length;
			}
		}
		return hash.digest('hex');
	}

	/** Everything appended so far survives a power cut. */
	async sync(): Promise<void> {
		for (const stream of streams) {
			const { file, pieces } = this.#streams[stream];
			try {
				await file?.datasync();
				for (const { start } of file ? pieces.slice(0, -1) : pieces) {
					await using full = await open(this.#pathOf(stream, start), 'r+');
					await full.datasync();
				}
			} catch {
				// What the disk does not keep shows when it is read.
			}
		}
	}

	async close(): Promise<void> {
		for (const stream of streams) await this.#endPiece(this.#streams[stream]);
	}

	async remove(): Promise<void> {
		this.#removed = true;
		await this.close();
		for (const stream of streams) {
			for (const { start } of this.#streams[stream].pieces.splice(0)) {
				await this.#delete(stream, start);
			}
		}
	}

	/** The piece that the next byte belongs to; none while the disk has no room. */
	async #growing(stream: Stream): Promise<Piece | undefined> {
		const spool = this.#streams[stream];
		const last = spool.pieces.at(-1);
		const { freeBytes, reserveBytes } = this.#limits;
		if (spool.file && last && last.length < this.#pieceBytes) {
			if (spool.unlooked < lookBytes) return last;
			spool.unlooked = 0;
			if ((await freeBytes()) >= reserveBytes) return last;
			await this.#endPiece(spool);
			spool.retryAt = spool.length + this.#pieceBytes;
		}
		if (!spool.file && spool.length < spool.retryAt) return undefined;
		await this.#endPiece(spool);
		spool.retryAt = spool.length + this.#pieceBytes;
		spool.unlooked = 0;
		if ((await freeBytes()) < reserveBytes + this.#pieceBytes) return undefined;
		const piece = { start: spool.length, length: 0 };
		spool.file = await open(this.#pathOf(stream, piece.start), 'w+', 0o600);
		spool.pieces.push(piece);
		return piece;
	}

	async #endPiece(spool: StreamSpool): Promise<void> {
		const { file } = spool;
		spool.file = undefined;
		await file?.close().catch(() => undefined);
	}

	async #lose(spool: StreamSpool, bytes: number): Promise<void> {
		await this.#endPiece(spool);
		spool.unhashed = true;
		const to = spool.length + bytes;
		spool.lost = withHole(spool.lost, { from: spool.length, to, reason: 'disk-full' });
		spool.length = to;
	}

	/** Deletes pieces that by now lie wholly in the middle. */
	async #trim(): Promise<void> {
		const middle = surplus(this.lengths, this.#limits.maxBytes);
		for (const stream of streams) {
			const cut = middle[stream];
			if (!cut) continue;
			const spool = this.#streams[stream];
			spool.unhashed = true;
			spool.lost = spool.lost.filter(({ from, to }) => from < cut.from || to > cut.to);
			const gone = spool.pieces.filter(
				({ start, length }) =>
					start >= cut.from && start + length <= cut.to && start + length < spool.length,
			);
			if (gone.length === 0) continue;
			spool.pieces = spool.pieces.filter((piece) => !gone.includes(piece));
			for (const { start } of gone) await this.#delete(stream, start);
		}
	}

	/** A file that cannot be deleted stays until the next start, when nobody holds it. */
	async #delete(stream: Stream, start: number): Promise<void> {
		await rm(this.#pathOf(stream, start), { force: true }).catch(() => undefined);
	}

	/** Bytes of one piece; none when they are not there any more. */
	async #load(stream: Stream, from: number, to: number): Promise<Buffer> {
		const piece = this.#streams[stream].pieces.findLast(({ start }) => start <= from);
		const wanted = Math.min(to, (piece?.start ?? 0) + (piece?.length ?? 0)) - from;
		if (!piece || wanted <= 0) return Buffer.alloc(0);
		const buffer = Buffer.allocUnsafe(wanted);
		try {
			await using file = await open(this.#pathOf(stream, piece.start), 'r');
			const { bytesRead } = await file.read(buffer, 0, wanted, from - piece.start);
			return buffer.subarray(0, bytesRead);
		} catch (error) {
			// It was deleted while we were on our way: whoever asks again is told of the hole.
			if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
			throw error;
		}
	}

	/** What an earlier life of the agent left. */
	#recall(record: (SpoolRecord & { mayBeMore?: boolean }) | undefined): void {
		const pattern = new RegExp(`^${this.#name}\\.(stdout|stderr)\\.(\\d+)$`);
		const found: Record<Stream, Piece[]> = { stdout: [], stderr: [] };
		for (const file of readdirSync(this.#folder)) {
			const [, stream, start] = pattern.exec(file) ?? [];
			if (stream === undefined) continue;
			const length = statSync(join(this.#folder, file)).size;
			found[stream as Stream].push({ start: Number(start), length });
		}
		for (const stream of streams) {
			const spool = this.#streams[stream];
			spool.pieces = found[stream].sort((a, b) => a.start - b.start);
			const last = spool.pieces.at(-1);
			const end = last ? last.start + last.length : 0;
			spool.length = record?.output[stream] ?? end;
			if (record?.mayBeMore) spool.length = Math.max(spool.length, end);
			if (spool.length > 0) spool.unhashed = true;
		}
		for (const stream of streams) {
			const spool = this.#streams[stream];
			for (const hole of record?.holes?.[stream] ?? []) spool.lost = withHole(spool.lost, hole);
			// Where a piece is missing and nobody knows why, there was one once.
			const there = spool.pieces.map(({ start, length }) => ({ from: start, to: start + length }));
			for (const { from, to } of between(asHoles(there), spool.length)) {
				for (const part of between(this.holes(stream), to)) {
					const hole = { from: Math.max(from, part.from), to: part.to };
					spool.lost = withHole(spool.lost, {
						...hole,
						reason: record && !record.mayBeMore ? 'damaged' : 'disk-full',
					});
				}
			}
		}
	}

	#pathOf(stream: Stream, start: number): string {
		return join(this.#folder, `${this.#name}.${stream}.${start}`);
	}
}

function asHoles(ranges: { from: number; to: number }[]): Hole[] {
	return ranges.map((range) => ({ ...range, reason: 'limit' }));
}

/** Where bytes begin, at `offset` or later, and the gap before them. */
function behind(holes: readonly Hole[], offset: number): { at: number; gap?: SpoolPiece['gap'] } {
	let at = offset;
	let gap: SpoolPiece['gap'];
	for (let hole = holeAt(holes, at); hole; hole = holeAt(holes, at)) {
		gap ??= { from: hole.from, reason: hole.reason };
		at = hole.to;
	}
	return gap ? { at, gap } : { at };
}
