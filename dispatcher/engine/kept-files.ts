/**
 * Files as rows and bytes, whoever sends them.
 *
 *   row 'open' ── bytes, from wherever they end ──> all here, digest equal, synced ── commit ──> 'ready'
 *
 * Bytes that came are kept and counted, whoever is cut off or killed; in the end the digest says whether they
 * are right. One writer per file: a later one goes on, and the one before it is cut off.
 */
import { type FileRecord, limits, Problem } from '../../protocol';
import type { FileShelf, ShelfWriter } from '../store/shelf';
import type { StoredFile } from '../store/store';
import type { Context } from './context';
import { FileRoom } from './file-room';

/** Whoever has too many files under way is told to come back after this long. */
const fullRetryMs = 60_000;

interface Writing {
	/** Cuts off whoever sends. */
	cut(): void;
	over: Promise<void>;
}

export interface FileLimits {
	maxFileBytes: number;
	maxFilesBytes: number;
	/** Default: the one of limits. */
	maxFiles?: number;
}

export interface OpenedFile {
	/** As it was when we became its writer. */
	file: StoredFile;
	writer: ShelfWriter;
	release: () => Promise<void>;
	isOver: () => boolean;
}

export class KeptFiles {
	readonly room: FileRoom;
	readonly #context: Context;
	readonly #shelf: FileShelf | undefined;
	readonly #limits: FileLimits;
	readonly #writing = new Map<string, Writing>();
	#stopped = false;

	constructor(context: Context, shelf: FileShelf | undefined, fileLimits: FileLimits) {
		this.#context = context;
		this.#shelf = shelf;
		this.#limits = fileLimits;
		this.room = new FileRoom(context, shelf);
	}

	/** Cuts off whoever writes, and lets nobody begin; resolves when all have let go. */
	async stop(): Promise<void> {
		this.#stopped = true;
		for (const { cut } of this.#writing.values()) cut();
		await Promise.all([...this.#writing.values()].map(({ over }) => over));
	}

	isWritten(id: string): boolean {
		return this.#writing.has(id);
	}

	get shelf(): FileShelf {
		if (this.#shelf === undefined) throw new Problem('not-ready', { state: 'without files' });
		return this.#shelf;
	}

	/** Makes the row, or finds the one that is there. */
	async insert(file: StoredFile): Promise<StoredFile> {
		const { maxFileBytes, maxFilesBytes: maxBytes, maxFiles = limits.maxFiles } = this.#limits;
		const { bytes } = file;
		if (bytes > maxFileBytes)
			throw new Problem('file-too-large', { bytes, maxBytes: maxFileBytes });
		const shelf = this.shelf;
		const room = await this.room.left();
		const stored = await this.#context.turns.deed('insertFile', {
			file,
			maxFiles,
			maxBytes,
			// A file that changes while it is sent is two for a moment.
			maxOfAttempt: limits.maxCollectedFiles + limits.maxTransfers,
			room,
		});
		if (stored === 'full') throw new Problem('files-full', { maxFiles, maxBytes });
		if (stored === 'many') {
			throw new Problem('too-many', { what: 'files of one attempt', retryMs: fullRetryMs });
		}
		if (stored === 'no-room') throw new Problem('store-full');
		if (stored.state === 'open') {
			const missing = stored.bytes - ((await shelf.size(stored.id)) ?? 0);
			// For one that was known before, what is missing was already left out of the room.
			if (missing > 0) await this.room.mustHold(missing);
			this.room.misses(stored.id, missing);
			// It may have gone or become whole meanwhile: then nobody would give its room back.
			const now = await this.#context.store.read('file', { id: stored.id });
			if (now?.state !== 'open') this.room.forget(stored.id);
		}
		return stored;
	}

	async find(id: string): Promise<StoredFile> {
		const file = await this.#context.store.read('file', { id });
		if (!file) throw new Problem('no-such-file', { id });
		return file;
	}

	async whole(file: StoredFile): Promise<StoredFile> {
		if (file.state === 'ready') return file;
		if (file.state === 'lost') throw new Problem('file-lost', { id: file.id });
		const { have } = await this.view(file);
		throw new Problem('file-not-ready', { id: file.id, have, bytes: file.bytes });
	}

	async view(file: StoredFile): Promise<FileRecord> {
		const { state, bytes } = file;
		return {
			fileId: file.id,
			name: file.name,
			bytes,
			sha256: file.sha256,
			state,
			have: state === 'open' ? ((await this.#shelf?.size(file.id)) ?? 0) : bytes,
			createdAt: file.createdAt,
			createdBy: file.createdBy,
			usedAt: file.usedAt,
			jobId: file.jobId,
			path: file.path,
			mode: file.mode === null ? null : octal(file.mode),
		};
	}

	/** The only writer of this file; whoever wrote it before is cut off. */
	async open(id: string, cut: () => void): Promise<OpenedFile> {
		for (let before; (before = this.#writing.get(id)) !== undefined;) {
			before.cut();
			await before.over;
		}
		if (this.#stopped) throw new Problem('not-ready', { state: 'stopping' });
		const over = Promise.withResolvers<void>();
		let isOver = false;
		const writing: Writing = {
			cut: () => {
				isOver = true;
				cut();
			},
			over: over.promise,
		};
		this.#writing.set(id, writing);
		const leave = () => {
			if (this.#writing.get(id) === writing) this.#writing.delete(id);
			over.resolve();
		};
		try {
			const file = await this.find(id);
			const writer = await this.shelf.write(id);
			const release = async () => {
				try {
					if (this.room.knows(id)) this.room.misses(id, file.bytes - writer.have);
					await writer.close();
				} finally {
					leave();
				}
			};
			return { file, writer, release, isOver: () => isOver };
		} catch (error) {
			leave();
			throw error;
		}
	}

	/** All bytes are here. */
	async finish(file: StoredFile, writer: ShelfWriter): Promise<StoredFile> {
		const found = writer.digest;
		if (file.sha256 !== null && file.sha256 !== found) {
			await writer.empty();
			throw new Problem('file-differs', { found, wanted: file.sha256 });
		}
		await writer.sync();
		const at = this.#context.clock.now();
		const done = await this.#context.turns.deed('readyFile', { id: file.id, sha256: found, at });
		if (!done) {
			const now = await this.find(file.id);
			this.room.forget(file.id);
			if (now.state === 'ready' && now.sha256 === found) return now;
			throw new Problem('no-such-file', { id: file.id });
		}
		this.room.forget(file.id);
		return { ...file, state: 'ready', sha256: found, usedAt: at };
	}

	/** What a disk says, as one of ours. */
	problemOf(error: unknown): Problem {
		if (error instanceof Problem) return error;
		const { code, message } = error as NodeJS.ErrnoException;
		if (code === 'ENOSPC' || code === 'EDQUOT') return new Problem('store-full', {}, error);
		// The other end hung up: what came is kept.
		if (code === 'ECONNRESET' || code === 'ABORT_ERR' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
			return new Problem('file-taken-over', {}, error);
		}
		this.#context.log.error('a file could not be read or written', { code, reason: message });
		return new Problem('internal', { reference: 'files' }, error);
	}

	/** Its row is gone; its bytes go when nobody writes them any more. */
	async forget(id: string): Promise<void> {
		this.room.forget(id);
		const writing = this.#writing.get(id);
		writing?.cut();
		await writing?.over;
		await this.#shelf?.remove(id);
	}

	/** For a robot's file that nobody will send to its end. */
	async discard(id: string): Promise<boolean> {
		const gone = await this.#context.turns.deed('removeFile', { id, onlyOpen: true });
		if (gone === 'removed') await this.forget(id);
		return gone === 'removed';
	}

	/** The same while it is still being written: the bytes go after that. Never rejects. */
	async unlist(id: string): Promise<void> {
		const { turns, log } = this.#context;
		const failed = (error: unknown) =>
			log.warn('a file that differs from its digest could not be removed', { fileId: id, error });
		try {
			if ((await turns.deed('removeFile', { id, onlyOpen: true })) !== 'removed') return;
			void this.forget(id).catch(failed);
		} catch (error) {
			failed(error);
		}
	}
}

function octal(mode: number): string {
	return `0${mode.toString(8).padStart(3, '0')}`;
}
