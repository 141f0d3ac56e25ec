/**
 * The bytes of files, in a folder of their own: `files/<id>`, for this user alone. No name here comes from
 * outside. Bytes are only ever appended, so what a killed service had taken is still there and counted; a
 * file is whole when its digest says so, and on disk before anybody is told.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { type FileHandle, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';

/** Handed out at a time. */
const pieceBytes = 256 * 1024;
/** Digests kept of files under way, so that going on with one does not mean reading it again. */
const keptDigests = 64;

interface Known {
	hash: Hash;
	bytes: number;
}

export class FileShelf {
	readonly #folder: string;
	readonly #digests = new Map<string, Known>();

	constructor(folder: string) {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		this.#folder = folder;
	}

	async freeBytes(): Promise<number> {
		const { bavail, bsize } = await statfs(this.#folder);
		return bavail * bsize;
	}

	/** Names of all that lies here. */
	list(): Promise<string[]> {
		return readdir(this.#folder);
	}

	/** Undefined = there is nothing of this name. */
	async size(id: string): Promise<number | undefined> {
		try {
			return (await stat(this.#path(id))).size;
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
			throw error;
		}
	}

	/** Opens a file to append to it. One writer at a time; the caller sees to that. */
	async write(id: string): Promise<ShelfWriter> {
		const file = await open(this.#path(id), 'a+', 0o600);
		try {
			const { size } = await file.stat();
			const known = this.#digests.get(id);
			this.#digests.delete(id);
			const hash = known?.bytes === size ? known.hash : await digestOf(file, size);
			return new ShelfWriter(file, size, hash, this.#folder, (state) => this.#keep(id, state));
		} catch (error) {
			await file.close();
			throw error;
		}
	}

	/** Throws when it is not there. A file that is removed meanwhile is still read to its end. */
	async *read(id: string, from: number, to: number): AsyncGenerator<Uint8Array> {
		const file = await open(this.#path(id), 'r');
		try {
			for (let at = from; at < to;) {
				const piece = Buffer.allocUnsafe(Math.min(pieceBytes, to - at));
				const { bytesRead } = await file.read(piece, 0, piece.length, at);
				if (bytesRead === 0) throw new Error(`the file ends at byte ${at}`);
				at += bytesRead;
				yield piece.subarray(0, bytesRead);
			}
		} finally {
			await file.close();
		}
	}

	/** Harmless when it is not there. */
	async remove(id: string): Promise<void> {
		this.#digests.delete(id);
		await rm(this.#path(id), { force: true });
	}

	#keep(id: string, state: Known): void {
		this.#digests.set(id, state);
		if (this.#digests.size <= keptDigests) return;
		this.#digests.delete(this.#digests.keys().next().value!);
	}

	#path(id: string): string {
		if (!/^[A-Za-z0-9-]+$/.test(id)) throw new Error('this is no id of a file');
		return join(this.#folder, id);
	}
}

export class ShelfWriter {
	readonly #file: FileHandle;
	readonly #folder: string;
	readonly #closed: (state: Known) => void;
	#hash: Hash;
	#have: number;

	constructor(
		file: FileHandle,
		have: number,
		hash: Hash,
		folder: string,
		closed: (state: Known) => void,
	) {
		this.#file = file;
		this.#have = have;
		this.#hash = hash;
		this.#folder = folder;
		this.#closed = closed;
	}

	get have(): number {
		return this.#have;
	}

	async append(data: Uint8Array): Promise<void> {
		for (let at = 0; at < data.length;) {
			const { bytesWritten } = await this.#file.write(data, at, data.length - at, null);
			this.#hash.update(data.subarray(at, at + bytesWritten));
			this.#have += bytesWritten;
			at += bytesWritten;
		}
	}

	/** SHA-256 of all that is here, hex. */
	get digest(): string {
		return this.#hash.copy().digest('hex');
	}

	/** Begins again. */
	async empty(): Promise<void> {
		await this.#file.truncate(0);
		this.#have = 0;
		this.#hash = createHash('sha256');
	}

	/** On disk, and so is its name, when this resolves. */
	async sync(): Promise<void> {
		await this.#file.sync();
		const folder = await open(this.#folder, 'r');
		try {
			await folder.sync();
		} catch (error) {
			// Windows cannot; there a name is on disk when the file is.
			if (process.platform !== 'win32') throw error;
		} finally {
			await folder.close();
		}
	}

	async close(): Promise<void> {
		this.#closed({ hash: this.#hash, bytes: this.#have });
		await this.#file.close();
	}
}

async function digestOf(file: FileHandle, size: number): Promise<Hash> {
	const hash = createHash('sha256');
	const piece = Buffer.allocUnsafe(Math.min(pieceBytes, Math.max(1, size)));
	for (let at = 0; at < size;) {
		const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, size - at), at);
		if (bytesRead === 0) break;
		hash.update(piece.subarray(0, bytesRead));
		at += bytesRead;
	}
	return hash;
}
