/**
 * Files at the service: what people send for jobs and read of them, and what becomes of files that nobody needs.
 * The robots' side is file-transfers.ts, rows and bytes are kept-files.ts.
 */
import { type FileRecord, type FileRequest, limits, Problem } from '../../protocol';
import type { FileShelf } from '../store/shelf';
import type { StoredFile } from '../store/store';
import type { Context } from './context';
import type { Caller, Incoming } from './index';
import type { FileTransfers } from './file-transfers';
import type { KeptFiles } from './kept-files';

const lookMs = 60_000;
const sweepBatch = 500;

export class Files {
	readonly #context: Context;
	readonly #kept: KeptFiles;
	readonly #transfers: FileTransfers;
	readonly #shelf: FileShelf | undefined;
	#lookedAt: number;
	#sweeping: Promise<void> | undefined;
	#purging: Promise<unknown> | undefined;
	#stopped = false;

	constructor(
		context: Context,
		kept: KeptFiles,
		transfers: FileTransfers,
		shelf: FileShelf | undefined,
	) {
		this.#context = context;
		this.#kept = kept;
		this.#transfers = transfers;
		this.#shelf = shelf;
		this.#lookedAt = context.clock.monotonic();
	}

	/** After a start: bytes without a row are swept, rows without their bytes are marked. */
	start(): void {
		if (this.#shelf === undefined) return;
		this.#sweeping = this.#sweep(this.#shelf).catch((error: unknown) => {
			this.#context.log.error('the stored files could not be checked', { error });
		});
	}

	async stop(): Promise<void> {
		this.#stopped = true;
		this.#transfers.stop();
		await Promise.all([this.#kept.stop(), this.#sweeping, this.#purging]);
	}

	/** Called often; once a minute lets go of what nobody has needed for long. */
	look(): void {
		const { clock, log } = this.#context;
		if (this.#shelf === undefined || clock.monotonic() - this.#lookedAt < lookMs) return;
		this.#lookedAt = clock.monotonic();
		this.#transfers.look();
		// Other duties do not wait for it.
		this.#purging ??= this.#purge()
			.catch((error: unknown) => log.error('old files could not be removed', { error }))
			.finally(() => {
				this.#purging = undefined;
			});
	}

	async #purge(): Promise<void> {
		const { clock, store, turns, log } = this.#context;
		const now = clock.now();
		let removed = 0;
		for (let before = -1; before < removed;) {
			before = removed;
			const usedBefore = now - limits.keepFilesMs;
			const openBefore = now - limits.keepOpenFilesMs;
			const old = await store.read('oldFiles', { usedBefore, openBefore, limit: sweepBatch });
			for (const id of old) {
				if (this.#stopped) return;
				const gone = await turns.deed('removeFile', { id, usedBefore: openBefore });
				if (gone !== 'removed') continue;
				await this.#kept.forget(id);
				removed += 1;
			}
			if (old.length < sweepBatch) break;
		}
		for (const id of await store.read('leftFiles', { limit: sweepBatch })) {
			if (this.#stopped) return;
			if (await this.#kept.discard(id)) removed += 1;
		}
		if (removed > 0) log.info('old files were removed', { files: removed });
	}

	async create({ name, bytes, sha256 }: FileRequest, by: Caller): Promise<FileRecord> {
		const file = await this.#kept.insert({
			...this.#newFile(name, bytes, by),
			sha256: sha256 ?? null,
		});
		return this.#kept.view(file);
	}

	/** A file in one go; its digest is whatever it is. */
	async upload(name: string, bytes: number, body: Incoming, by: Caller): Promise<FileRecord> {
		const file = await this.#kept.insert(this.#newFile(name, bytes, by));
		try {
			const record = await this.#append(file, 0, body);
			if (record.state === 'ready') return record;
			throw new Problem('file-not-ready', { id: file.id, have: record.have, bytes });
		} catch (error) {
			// Nobody knows its id, so nobody could go on with it.
			await this.#context.turns.deed('removeFile', { id: file.id });
			await this.#kept.forget(file.id);
			throw error;
		}
	}

	/** Bytes from `from` on, which must be where the bytes that are here end. */
	async write(id: string, from: number, body: Incoming): Promise<FileRecord> {
		const file = await this.#kept.find(id);
		const { jobId } = file;
		if (jobId !== null) throw new Problem('file-of-robot', { id, jobId });
		return this.#append(file, from, body);
	}

	async list(page: {
		jobId?: string;
		limit: number;
		cursor?: string;
	}): Promise<{ items: FileRecord[]; cursor?: string }> {
		const { jobId, limit, cursor } = page;
		const found = await this.#context.store.read('files', {
			limit,
			...(jobId === undefined ? {} : { jobId }),
			...(cursor === undefined ? {} : { before: cursor }),
		});
		const items = await Promise.all(found.map((file) => this.#kept.view(file)));
		const last = found.length === limit ? found.at(-1)!.id : undefined;
		return { items, ...(last === undefined ? {} : { cursor: last }) };
	}

	async file(id: string): Promise<FileRecord> {
		return this.#kept.view(await this.#kept.find(id));
	}

	/** Of a file that is whole. */
	async bytes(id: string, from: number, to: number): Promise<AsyncIterable<Uint8Array>> {
		const file = await this.#kept.whole(await this.#kept.find(id));
		return this.#kept.shelf.read(file.id, from, to);
	}

	async remove(id: string, by: Caller): Promise<void> {
		await this.#kept.find(id);
		const gone = await this.#context.turns.deed('removeFile', { id });
		if (typeof gone === 'object') throw new Problem('file-in-use', { id, jobId: gone.heldBy });
		if (gone === 'removed') this.#context.log.info('file removed', { fileId: id, by: by.name });
		await this.#kept.forget(id);
	}

	#newFile(name: string, bytes: number, by: Caller): StoredFile {
		const now = this.#context.clock.now();
		return {
			id: this.#context.ids.next(),
			name,
			bytes,
			sha256: null,
			state: 'open',
			createdAt: now,
			createdBy: `key:${by.name}`,
			usedAt: now,
			jobId: null,
			epoch: null,
			path: null,
			mode: null,
		};
	}

	async #append(file: StoredFile, from: number, body: Incoming): Promise<FileRecord> {
		if (file.state === 'lost') throw new Problem('file-lost', { id: file.id });
		if (file.state === 'ready') {
			// The answer to the last piece may have been lost.
			if (from === file.bytes) return this.#kept.view(file);
			throw new Problem('file-offset', { have: file.bytes });
		}
		const opened = await this.#kept.open(file.id, () => body.cut());
		const { writer, release, isOver } = opened;
		try {
			if (isOver()) throw new Problem('file-taken-over');
			// Somebody else has brought it to its end while we waited.
			if (opened.file.state === 'ready' && from === file.bytes) return this.#kept.view(opened.file);
			if (from !== writer.have) throw new Problem('file-offset', { have: writer.have });
			try {
				for await (const piece of body.pieces) {
					if (isOver()) throw new Problem('file-taken-over');
					if (writer.have + piece.length > file.bytes) {
						throw new Problem('file-too-long', { bytes: file.bytes });
					}
					await this.#kept.room.take(piece.length);
					await writer.append(piece);
				}
			} catch (error) {
				if (isOver()) throw new Problem('file-taken-over', {}, error);
				throw this.#kept.problemOf(error);
			}
			if (writer.have < file.bytes) return { ...(await this.#kept.view(file)), have: writer.have };
			return await this.#kept.view(await this.#kept.finish(file, writer));
		} finally {
			await release();
		}
	}

	async #sweep(shelf: FileShelf): Promise<void> {
		const { store, turns, log } = this.#context;
		// List them first: what comes later is not meant.
		for (const id of await shelf.list()) {
			if (this.#stopped) return;
			if (await store.read('file', { id })) continue;
			await shelf.remove(id);
			log.info('bytes of an unknown file were removed', { fileId: id });
		}
		for (let before: string | undefined; !this.#stopped;) {
			const page = await store.read('files', {
				limit: sweepBatch,
				...(before === undefined ? {} : { before }),
			});
			for (const { id, state, bytes } of page) {
				const size = (await shelf.size(id)) ?? 0;
				if (state === 'open' && !this.#kept.isWritten(id)) {
					this.#kept.room.misses(id, bytes - size);
					if ((await store.read('file', { id }))?.state !== 'open') this.#kept.room.forget(id);
				}
				if (state !== 'ready' || size === bytes) continue;
				// It may just have been removed.
				if (await turns.deed('loseFile', { id })) {
					log.warn('the bytes of a file are gone', { fileId: id });
					await shelf.remove(id);
				}
			}
			if (page.length < sweepBatch) return;
			before = page.at(-1)!.id;
		}
	}
}
