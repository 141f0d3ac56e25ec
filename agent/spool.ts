/**
 * The output of every attempt in files of its own, addressed by byte offset from the first byte of
 * the stream, until the service has acknowledged all of it. What lies here survives the death of
 * the agent. A job keeps at most `maxBytes` of both streams together; beyond that bytes are counted
 * and dropped, never the pipe blocked. Knows nothing of frames or acknowledgements.
 */
import { constants, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { streams, type Stream } from '../protocol/frames';

export type Lengths = Record<Stream, number>;

const appendAndRead = constants.O_RDWR | constants.O_CREAT;

export class Spool {
	readonly #folder: string;
	readonly #maxBytes: number;

	constructor(folder: string, maxBytes: number) {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		this.#folder = folder;
		this.#maxBytes = maxBytes;
	}

	/** What is already there is kept and goes on where it ended. */
	open(jobId: string, epoch: number): AttemptSpool {
		return new AttemptSpool(join(this.#folder, `${jobId}-${epoch}`), this.#maxBytes);
	}

	/** Deletes files of attempts that nobody holds: left by a crash between forgetting and deleting. */
	sweep(held: readonly { jobId: string; epoch: number }[]): void {
		const known = new Set(held.map(({ jobId, epoch }) => `${jobId}-${epoch}`));
		for (const name of readdirSync(this.#folder)) {
			if (!known.has(name.replace(/\.std(out|err)$/, ''))) {
				rmSync(join(this.#folder, name), { force: true });
			}
		}
	}
}

export class AttemptSpool {
	readonly #path: string;
	readonly #maxBytes: number;
	readonly #lengths: Lengths;
	readonly #dropped: Lengths = { stdout: 0, stderr: 0 };
	readonly #handles: Partial<Record<Stream, Promise<FileHandle>>> = {};
	/** A stream with a hole would shift every later byte: once one is dropped, all that follow are. */
	readonly #full: Record<Stream, boolean> = { stdout: false, stderr: false };
	#reserved: number;
	#removed = false;

	constructor(path: string, maxBytes: number) {
		this.#path = path;
		this.#maxBytes = maxBytes;
		this.#lengths = {
			stdout: sizeOf(`${path}.stdout`),
			stderr: sizeOf(`${path}.stderr`),
		};
		this.#reserved = this.#lengths.stdout + this.#lengths.stderr;
	}

	/** Bytes that can be read, by stream. */
	get lengths(): Lengths {
		return { ...this.#lengths };
	}

	/** Bytes beyond the limit, or that the disk would not take. */
	get dropped(): Lengths {
		return { ...this.#dropped };
	}

	/**
	 * Resolves when the file has the bytes (not yet synced), so that awaiting it slows the writer to
	 * the speed of the disk. One call at a time for each stream. Never rejects: a full disk drops.
	 */
	async append(stream: Stream, chunk: Uint8Array): Promise<void> {
		const room = this.#full[stream] ? 0 : Math.max(0, this.#maxBytes - this.#reserved);
		const kept = chunk.subarray(0, room);
		this.#reserved += kept.length;
		let done = 0;
		try {
			while (done < kept.length) {
				const handle = await this.#handle(stream);
				const { bytesWritten } = await handle.write(
					kept,
					done,
					kept.length - done,
					this.#lengths[stream],
				);
				done += bytesWritten;
				this.#lengths[stream] += bytesWritten;
			}
		} catch {
			// The disk is full or broken. The job's own work matters more than its output.
			this.#full[stream] = true;
		}
		if (kept.length < chunk.length) this.#full[stream] = true;
		this.#dropped[stream] += chunk.length - done;
	}

	/** At most `maxBytes` from `offset`; empty at the end. */
	async read(stream: Stream, offset: number, maxBytes: number): Promise<Buffer> {
		const wanted = Math.min(maxBytes, this.#lengths[stream] - offset);
		if (wanted <= 0 || this.#removed) return Buffer.alloc(0);
		const buffer = Buffer.allocUnsafe(wanted);
		const shared = await this.#handles[stream];
		// After the end nothing is kept open: results may wait for days.
		const handle = shared ?? (await open(this.#pathOf(stream), 'r'));
		try {
			const { bytesRead } = await handle.read(buffer, 0, wanted, offset);
			return buffer.subarray(0, bytesRead);
		} finally {
			if (handle !== shared) await handle.close();
		}
	}

	/** Everything appended so far survives a power cut. */
	async sync(): Promise<void> {
		await Promise.all(
			streams.map(async (stream) => {
				await (await this.#handles[stream])?.datasync().catch(() => undefined);
			}),
		);
	}

	async close(): Promise<void> {
		const handles = Object.values(this.#handles);
		for (const stream of streams) delete this.#handles[stream];
		for (const handle of handles) await (await handle.catch(() => undefined))?.close();
	}

	async remove(): Promise<void> {
		this.#removed = true;
		await this.close();
		for (const stream of streams) rmSync(this.#pathOf(stream), { force: true });
	}

	#pathOf(stream: Stream): string {
		return `${this.#path}.${stream}`;
	}

	#handle(stream: Stream): Promise<FileHandle> {
		return (this.#handles[stream] ??= open(this.#pathOf(stream), appendAndRead, 0o600));
	}
}

function sizeOf(path: string): number {
	return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
