/**
 * Files at the service: what people send for jobs, what jobs take home, and both ways over the robots' line.
 *
 *   row 'open' ── bytes, from wherever they end ──> all here, digest equal, synced ── commit ──> 'ready'
 *
 * Bytes that came are kept and counted whoever is cut off or killed; the digest says in the end whether they
 * are right. One writer a file: whoever comes later goes on, and the one of before is cut off. Nothing here
 * waits for a robot: a piece that cannot be taken is let fall, and asked for again.
 */
import {
	type FileOffer,
	type FileRead,
	type FileRecord,
	type FileRequest,
	limits,
	Problem,
} from '../../protocol';
import type { FileFrame } from '../../protocol/frames';
import { wishesOf } from '../../kinds';
import { type FileWishes, patternFinds, pathMistake } from '../../kinds/files';
import type { FileShelf, ShelfWriter } from '../store/shelf';
import type { StoredFile } from '../store/store';
import type { Attempts } from './attempts';
import type { Context } from './context';
import type { Live, Session } from './fleet';
import { FileRoom } from './file-room';
import type { Caller, Incoming } from './index';

const lookMs = 60_000;
const sweepBatch = 500;
/** Of all robots: bytes that wait to be written. */
const maxWaitingBytes = 32 * 1024 * 1024;
/** Questions of one robot that wait for their answer. */
const maxReads = 256;
/** An acknowledgement so often, while more is coming. */
const ackBytes = limits.fileWindowBytes / 4;
/** When a robot that has too many files under way may offer another one. */
const offerRetryMs = 1_000;
/** Attempts whose wishes are remembered. */
const keptWishes = 500;

interface Writing {
	/** Cuts off whoever sends. */
	cut(): void;
	over: Promise<void>;
}

/** A file on its way from a robot. */
interface Transfer {
	readonly session: Session;
	readonly live: Live;
	readonly number: number;
	readonly file: StoredFile;
	readonly writer: ShelfWriter;
	readonly release: () => Promise<void>;
	waiting: FileFrame[];
	bytes: number;
	/** Something was let fall. */
	missed: boolean;
	/** What the robot was told last. */
	told: number;
	working: Promise<void> | undefined;
	over: boolean;
}

interface Wishes {
	wishes: FileWishes;
	/** Those that the job brings along. */
	files: Map<string, StoredFile>;
}

export interface FileLimits {
	maxFileBytes: number;
	maxFilesBytes: number;
	/** Default: the one of limits. */
	maxFiles?: number;
}

interface Opened {
	/** As it was when we became its writer. */
	file: StoredFile;
	writer: ShelfWriter;
	release: () => Promise<void>;
	isOver: () => boolean;
}

export class Files {
	readonly #context: Context;
	readonly #attempts: Attempts;
	readonly #kept: FileShelf | undefined;
	readonly #limits: FileLimits;
	readonly #writing = new Map<string, Writing>();
	readonly #transfers = new Map<string, Transfer>();
	readonly #reading = new WeakMap<Session, { tail: Promise<void>; waiting: number }>();
	readonly #wishes = new Map<number, Promise<Wishes>>();
	/** Files under way, by the epoch of their attempt. */
	readonly #underWay = new Map<number, number>();
	readonly #room: FileRoom;
	#waitingBytes = 0;
	#lookedAt: number;
	#sweeping: Promise<void> | undefined;
	#purging: Promise<unknown> | undefined;
	#stopped = false;

	constructor(
		context: Context,
		attempts: Attempts,
		shelf: FileShelf | undefined,
		fileLimits: FileLimits = limits,
	) {
		this.#context = context;
		this.#attempts = attempts;
		this.#kept = shelf;
		this.#limits = fileLimits;
		this.#room = new FileRoom(context, shelf);
		this.#lookedAt = context.clock.monotonic();
	}

	/** After a start: bytes without a row are swept, rows without their bytes are marked. */
	start(): void {
		if (this.#kept === undefined) return;
		this.#sweeping = this.#sweep(this.#kept).catch((error: unknown) => {
			this.#context.log.error('files could not be looked through', { error });
		});
	}

	async stop(): Promise<void> {
		this.#stopped = true;
		for (const { cut } of this.#writing.values()) cut();
		for (const transfer of this.#transfers.values()) this.#drop(transfer);
		await Promise.all([
			this.#sweeping,
			this.#purging,
			...[...this.#writing.values()].map(({ over }) => over),
		]);
	}

	/** Called often; once a minute lets go of what nobody needed for long. */
	look(): void {
		const { clock, fleet, log } = this.#context;
		if (this.#kept === undefined || clock.monotonic() - this.#lookedAt < lookMs) return;
		this.#lookedAt = clock.monotonic();
		for (const transfer of this.#transfers.values()) {
			if (fleet.live(transfer.live.jobId) !== transfer.live) this.#drop(transfer);
		}
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
				await this.#forget(id);
				removed += 1;
			}
			if (old.length < sweepBatch) break;
		}
		for (const id of await store.read('leftFiles', { limit: sweepBatch })) {
			if (this.#stopped) return;
			if (await this.#discard(id)) removed += 1;
		}
		if (removed > 0) log.info('old files were removed', { files: removed });
	}

	async create({ name, bytes, sha256 }: FileRequest, by: Caller): Promise<FileRecord> {
		const file = await this.#insert({ ...this.#newFile(name, bytes, by), sha256 });
		return this.#view(file);
	}

	/** A file in one go; its digest is whatever it is. */
	async upload(name: string, bytes: number, body: Incoming, by: Caller): Promise<FileRecord> {
		const file = await this.#insert(this.#newFile(name, bytes, by));
		try {
			const record = await this.#append(file, 0, body);
			if (record.state === 'ready') return record;
			throw new Problem('file-not-ready', { id: file.id, have: record.have, bytes });
		} catch (error) {
			// Nobody knows its id, so nobody could go on with it.
			await this.#context.turns.deed('removeFile', { id: file.id });
			await this.#forget(file.id);
			throw error;
		}
	}

	/** Bytes from `from` on, which must be where those end that are here. */
	async write(id: string, from: number, body: Incoming): Promise<FileRecord> {
		const file = await this.#find(id);
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
		const items = await Promise.all(found.map((file) => this.#view(file)));
		const last = found.length === limit ? found.at(-1)!.id : undefined;
		return { items, ...(last === undefined ? {} : { cursor: last }) };
	}

	async file(id: string): Promise<FileRecord> {
		return this.#view(await this.#find(id));
	}

	/** Of a file that is whole. */
	async bytes(id: string, from: number, to: number): Promise<AsyncIterable<Uint8Array>> {
		const file = await this.#whole(await this.#find(id));
		return this.#shelf.read(file.id, from, to);
	}

	async remove(id: string, by: Caller): Promise<void> {
		await this.#find(id);
		const gone = await this.#context.turns.deed('removeFile', { id });
		if (typeof gone === 'object') throw new Problem('file-in-use', { id, jobId: gone.heldBy });
		if (gone === 'removed') this.#context.log.info('file removed', { fileId: id, by: by.name });
		await this.#forget(id);
	}

	/** A robot wants bytes of what its job brings along. Answered in the order of asking, one piece at a time. */
	read(robotId: string, session: Session, message: FileRead): void {
		const live = this.#attempts.find(robotId, session, message);
		if (!live) return this.#refuse(session, message, new Problem('lease-lost'));
		const reading = this.#reading.get(session) ?? { tail: Promise.resolve(), waiting: 0 };
		this.#reading.set(session, reading);
		// It asks again for what was not answered.
		if (reading.waiting >= maxReads) return;
		reading.waiting += 1;
		reading.tail = reading.tail
			.then(() => this.#answer(live, session, message))
			.catch((error: unknown) => this.#refuse(session, message, this.#problemOf(error)))
			.finally(() => {
				reading.waiting -= 1;
			});
	}

	/** A robot has something that its job takes home. */
	offer(robotId: string, session: Session, message: FileOffer): void {
		const live = this.#attempts.find(robotId, session, message);
		if (!live) return this.#refuse(session, message, new Problem('lease-lost'));
		void this.#take(live, session, message).catch((error: unknown) =>
			this.#refuse(session, message, this.#problemOf(error)),
		);
	}

	/** Bytes of what was offered. */
	frame(session: Session, frame: FileFrame): void {
		const transfer = this.#transfers.get(keyOf(frame.jobId, frame.epoch, frame.transfer));
		if (transfer?.session !== session || transfer.over) return;
		const { length } = frame.data;
		const tooMuch =
			transfer.bytes + length > 2 * limits.fileWindowBytes ||
			this.#waitingBytes + length > maxWaitingBytes;
		if (tooMuch) {
			transfer.missed = true;
			return;
		}
		transfer.bytes += length;
		this.#waitingBytes += length;
		transfer.waiting.push(frame);
		this.#begin(transfer);
	}

	/** The robot is gone; it offers and reads again when it is back. */
	forget(session: Session): void {
		for (const transfer of this.#transfers.values()) {
			if (transfer.session === session) this.#drop(transfer);
		}
	}

	get #shelf(): FileShelf {
		if (this.#kept === undefined) throw new Problem('not-ready', { state: 'without files' });
		return this.#kept;
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

	/** Makes the row, or finds the one that is there. */
	async #insert(file: StoredFile): Promise<StoredFile> {
		const { maxFileBytes, maxFilesBytes: maxBytes, maxFiles = limits.maxFiles } = this.#limits;
		const { bytes } = file;
		if (bytes > maxFileBytes)
			throw new Problem('file-too-large', { bytes, maxBytes: maxFileBytes });
		const shelf = this.#shelf;
		const room = await this.#room.left();
		const stored = await this.#context.turns.deed('insertFile', {
			file,
			maxFiles,
			maxBytes,
			// One that becomes another while it is sent is two for a moment.
			maxOfAttempt: limits.maxCollectedFiles + limits.maxTransfers,
			room,
		});
		if (stored === 'full') throw new Problem('files-full', { maxFiles, maxBytes });
		if (stored === 'many') {
			throw new Problem('too-many', { what: 'files of one attempt', retryMs: lookMs });
		}
		if (stored === 'no-room') throw new Problem('store-full');
		if (stored.state === 'open') {
			const missing = stored.bytes - ((await shelf.size(stored.id)) ?? 0);
			// Of one that was known before, what is missing was left out of the room already.
			if (missing > 0) await this.#room.mustHold(missing);
			this.#room.misses(stored.id, missing);
		}
		return stored;
	}

	async #find(id: string): Promise<StoredFile> {
		const file = await this.#context.store.read('file', { id });
		if (!file) throw new Problem('no-such-file', { id });
		return file;
	}

	async #whole(file: StoredFile): Promise<StoredFile> {
		if (file.state === 'ready') return file;
		if (file.state === 'lost') throw new Problem('file-lost', { id: file.id });
		const { have } = await this.#view(file);
		throw new Problem('file-not-ready', { id: file.id, have, bytes: file.bytes });
	}

	async #view(file: StoredFile): Promise<FileRecord> {
		const { state, bytes } = file;
		return {
			fileId: file.id,
			name: file.name,
			bytes,
			sha256: file.sha256,
			state,
			have: state === 'open' ? ((await this.#kept?.size(file.id)) ?? 0) : bytes,
			createdAt: file.createdAt,
			createdBy: file.createdBy,
			usedAt: file.usedAt,
			jobId: file.jobId,
			path: file.path,
			mode: file.mode === null ? null : octal(file.mode),
		};
	}

	async #append(file: StoredFile, from: number, body: Incoming): Promise<FileRecord> {
		if (file.state === 'lost') throw new Problem('file-lost', { id: file.id });
		if (file.state === 'ready') {
			// The answer to the last piece may have been lost.
			if (from === file.bytes) return this.#view(file);
			throw new Problem('file-offset', { have: file.bytes });
		}
		const opened = await this.#open(file.id, () => body.cut());
		const { writer, release, isOver } = opened;
		try {
			if (isOver()) throw new Problem('file-taken-over');
			// Somebody else has brought it to its end while we waited.
			if (opened.file.state === 'ready' && from === file.bytes) return this.#view(opened.file);
			if (from !== writer.have) throw new Problem('file-offset', { have: writer.have });
			try {
				for await (const piece of body.pieces) {
					if (isOver()) throw new Problem('file-taken-over');
					if (writer.have + piece.length > file.bytes) {
						throw new Problem('file-too-long', { bytes: file.bytes });
					}
					await this.#room.take(piece.length);
					await writer.append(piece);
				}
			} catch (error) {
				if (isOver()) throw new Problem('file-taken-over', {}, error);
				throw this.#problemOf(error);
			}
			if (writer.have < file.bytes) return { ...(await this.#view(file)), have: writer.have };
			return await this.#view(await this.#finish(file, writer));
		} finally {
			await release();
		}
	}

	/** The only writer of this file; whoever wrote it before is cut off. */
	async #open(id: string, cut: () => void): Promise<Opened> {
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
			const file = await this.#find(id);
			const writer = await this.#shelf.write(id);
			const release = async () => {
				try {
					if (this.#room.knows(id)) this.#room.misses(id, file.bytes - writer.have);
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
	async #finish(file: StoredFile, writer: ShelfWriter): Promise<StoredFile> {
		const found = writer.digest;
		if (file.sha256 !== null && file.sha256 !== found) {
			await writer.empty();
			throw new Problem('file-differs', { found, wanted: file.sha256 });
		}
		await writer.sync();
		const at = this.#context.clock.now();
		const done = await this.#context.turns.deed('readyFile', { id: file.id, sha256: found, at });
		if (!done) {
			const now = await this.#find(file.id);
			this.#room.forget(file.id);
			if (now.state === 'ready' && now.sha256 === found) return now;
			throw new Problem('no-such-file', { id: file.id });
		}
		this.#room.forget(file.id);
		return { ...file, state: 'ready', sha256: found, usedAt: at };
	}

	async #answer(live: Live, session: Session, message: FileRead): Promise<void> {
		const { sink } = session;
		const { transfer, file_id: id, from } = message;
		const file = (await this.#wishesOf(live)).files.get(id);
		if (!file) throw new Problem('no-such-file', { id });
		await this.#whole(file);
		const named = { job_id: live.jobId, epoch: live.epoch, transfer };
		if (message.length === 0) {
			sink.fileInfo({ ...named, bytes: file.bytes, sha256: file.sha256! });
			return;
		}
		const to = Math.min(file.bytes, from + message.length);
		for (let at = from; at < to; at += limits.filePieceBytes) {
			const until = Math.min(to, at + limits.filePieceBytes);
			for await (const data of this.#shelf.read(id, at, until)) {
				await sink.fileBytes({
					jobId: live.jobId,
					epoch: live.epoch,
					transfer,
					offset: at,
					data,
				});
			}
		}
	}

	async #take(live: Live, session: Session, offer: FileOffer): Promise<void> {
		const { epoch } = live;
		const already = this.#underWay.get(epoch) ?? 0;
		if (already >= limits.maxTransfers) {
			throw new Problem('too-many', {
				what: 'files under way from one attempt',
				retryMs: offerRetryMs,
			});
		}
		this.#underWay.set(epoch, already + 1);
		let goesOn = false;
		try {
			goesOn = await this.#begun(live, session, offer);
		} finally {
			if (!goesOn) this.#oneLess(epoch);
		}
	}

	#oneLess(epoch: number): void {
		const left = this.#underWay.get(epoch)! - 1;
		if (left > 0) this.#underWay.set(epoch, left);
		else this.#underWay.delete(epoch);
	}

	/** True = its bytes are waited for. */
	async #begun(live: Live, session: Session, offer: FileOffer): Promise<boolean> {
		const { path, bytes, sha256, mode } = offer;
		const { collect = [] } = (await this.#wishesOf(live)).wishes;
		const reason =
			pathMistake(path) ??
			(collect.some((pattern) => patternFinds(pattern, path))
				? undefined
				: 'is nothing that spec.collect asks for');
		if (reason !== undefined) throw new Problem('bad-field', { path: 'path', reason });
		const now = this.#context.clock.now();
		const file = await this.#insert({
			id: this.#context.ids.next(),
			name: path.slice(path.lastIndexOf('/') + 1),
			bytes,
			sha256,
			state: 'open',
			createdAt: now,
			createdBy: `robot:${live.robotId}`,
			usedAt: now,
			jobId: live.jobId,
			epoch: live.epoch,
			path,
			mode,
		});
		const named = { job_id: live.jobId, epoch: live.epoch, transfer: offer.transfer };
		if (file.state === 'ready') {
			session.sink.fileKept({ ...named, file_id: file.id });
			return false;
		}
		const key = keyOf(live.jobId, live.epoch, offer.transfer);
		const before = this.#transfers.get(key);
		if (before) this.#drop(before);
		// It has become another one on the robot: nobody sends the rest of what it was.
		if (before && before.file.id !== file.id) await this.#discard(before.file.id);
		const { writer, release, isOver } = await this.#open(file.id, () => {
			const current = this.#transfers.get(key);
			if (current?.file.id === file.id) this.#drop(current);
		});
		// What is there was read meanwhile: the robot may have gone, or offer it on another line.
		if (isOver() || !this.#isCurrent(live, session)) {
			await release();
			return false;
		}
		// Two offers of one number that came together, of different files: the later one counts.
		const twin = this.#transfers.get(key);
		if (twin) this.#drop(twin);
		const transfer: Transfer = {
			session,
			live,
			number: offer.transfer,
			file,
			writer,
			release,
			waiting: [],
			bytes: 0,
			missed: false,
			told: writer.have,
			working: undefined,
			over: false,
		};
		this.#transfers.set(key, transfer);
		if (writer.have > bytes) await writer.empty();
		session.sink.fileWant({ ...named, have: writer.have, again: true });
		// Empty, or killed between the last byte and the commit.
		if (writer.have === bytes) this.#begin(transfer);
		return true;
	}

	#isCurrent(live: Live, session: Session): boolean {
		const { fleet } = this.#context;
		return fleet.live(live.jobId) === live && fleet.get(live.robotId)?.session === session;
	}

	#begin(transfer: Transfer): void {
		// Not at once: it may be over before its promise is noted.
		transfer.working ??= Promise.resolve()
			.then(() => this.#work(transfer))
			.finally(() => {
				transfer.working = undefined;
				if (!transfer.over && transfer.waiting.length > 0) this.#begin(transfer);
			});
	}

	/** Writes what waits, piece after piece; never rejects. */
	async #work(transfer: Transfer): Promise<void> {
		const { writer, file, session, live, number } = transfer;
		const named = { job_id: live.jobId, epoch: live.epoch, transfer: number };
		try {
			while (!transfer.over && transfer.waiting.length > 0) {
				const { offset, data } = transfer.waiting[0]!;
				if (offset !== writer.have || writer.have + data.length > file.bytes) {
					transfer.missed = true;
				} else {
					await this.#room.take(data.length);
					await writer.append(data);
				}
				transfer.waiting.shift();
				transfer.bytes -= data.length;
				this.#waitingBytes -= data.length;
				const idle = transfer.waiting.length === 0;
				if (writer.have < file.bytes && (idle || writer.have - transfer.told >= ackBytes)) {
					this.#acknowledge(transfer, idle);
				}
			}
			if (transfer.over || writer.have < file.bytes) return;
			await this.#finish(file, writer);
			session.sink.fileKept({ ...named, file_id: file.id });
			this.#drop(transfer);
		} catch (error) {
			const problem = this.#problemOf(error);
			this.#drop(transfer);
			// The robot looks at it again, and what it offers then is a file of its own.
			if (problem.code === 'file-differs') await this.#unlist(file.id);
			this.#refuse(session, named, problem);
		}
	}

	#acknowledge(transfer: Transfer, idle: boolean): void {
		const { session, live, number, writer } = transfer;
		// What was let fall is asked for again once nothing is on its way that would be let fall, too.
		const again = transfer.missed && idle;
		if (again) transfer.missed = false;
		else if (writer.have === transfer.told) return;
		transfer.told = writer.have;
		session.sink.fileWant({
			job_id: live.jobId,
			epoch: live.epoch,
			transfer: number,
			have: writer.have,
			...(again ? { again } : {}),
		});
	}

	#drop(transfer: Transfer): void {
		if (transfer.over) return;
		transfer.over = true;
		this.#oneLess(transfer.live.epoch);
		const key = keyOf(transfer.live.jobId, transfer.live.epoch, transfer.number);
		if (this.#transfers.get(key) === transfer) this.#transfers.delete(key);
		void (async () => {
			await transfer.working;
			for (const { data } of transfer.waiting.splice(0)) this.#waitingBytes -= data.length;
			await transfer.release();
		})().catch((error: unknown) => {
			this.#context.log.error('a file could not be closed', { fileId: transfer.file.id, error });
		});
	}

	/** What the job of an attempt may read and keep; as it was submitted, so it never changes. */
	#wishesOf(live: Live): Promise<Wishes> {
		const known = this.#wishes.get(live.epoch);
		if (known) return known;
		const wishes = this.#readWishes(live);
		this.#wishes.set(live.epoch, wishes);
		wishes.catch(() => this.#wishes.delete(live.epoch));
		if (this.#wishes.size > keptWishes) {
			this.#wishes.delete(this.#wishes.keys().next().value!);
		}
		return wishes;
	}

	async #readWishes({ jobId }: Live): Promise<Wishes> {
		const { store } = this.#context;
		const job = await store.read('job', { id: jobId });
		const wishes = job ? wishesOf(job.kind, JSON.parse(job.spec)) : {};
		const files = new Map<string, StoredFile>();
		for (const { file: id } of wishes.files ?? []) {
			const file = await store.read('file', { id });
			if (file) files.set(id, file);
		}
		return { wishes, files };
	}

	#refuse(
		session: Session,
		{ job_id, epoch, transfer }: Pick<FileRead, 'job_id' | 'epoch' | 'transfer'>,
		problem: Problem,
	): void {
		const { code, message: text, retry } = problem;
		session.sink.fileRefused({ job_id, epoch, transfer, code, text, retry });
	}

	/** What a disk says, as one of ours. */
	#problemOf(error: unknown): Problem {
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
	async #forget(id: string): Promise<void> {
		this.#room.forget(id);
		const writing = this.#writing.get(id);
		writing?.cut();
		await writing?.over;
		await this.#kept?.remove(id);
	}

	/** Of a robot's file that nobody sends to its end. */
	async #discard(id: string): Promise<boolean> {
		const gone = await this.#context.turns.deed('removeFile', { id, onlyOpen: true });
		if (gone === 'removed') await this.#forget(id);
		return gone === 'removed';
	}

	/** The same for who still writes it: the bytes go after that. Never rejects. */
	async #unlist(id: string): Promise<void> {
		const { turns, log } = this.#context;
		const failed = (error: unknown) =>
			log.warn('a file that differs could not be removed', { fileId: id, error });
		try {
			if ((await turns.deed('removeFile', { id, onlyOpen: true })) !== 'removed') return;
			void this.#forget(id).catch(failed);
		} catch (error) {
			failed(error);
		}
	}

	async #sweep(shelf: FileShelf): Promise<void> {
		const { store, turns, log } = this.#context;
		// First what is there: what comes later is not meant.
		for (const id of await shelf.list()) {
			if (this.#stopped) return;
			if (await store.read('file', { id })) continue;
			await shelf.remove(id);
			log.info('bytes of a file that nobody knows were removed', { fileId: id });
		}
		for (let before: string | undefined; !this.#stopped;) {
			const page = await store.read('files', {
				limit: sweepBatch,
				...(before === undefined ? {} : { before }),
			});
			for (const { id, state, bytes } of page) {
				const size = (await shelf.size(id)) ?? 0;
				if (state === 'open' && !this.#writing.has(id)) {
					this.#room.misses(id, bytes - size);
					if ((await store.read('file', { id }))?.state !== 'open') this.#room.forget(id);
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

function keyOf(jobId: string, epoch: number, transfer: number): string {
	return `${jobId}/${epoch}/${transfer}`;
}

function octal(mode: number): string {
	return `0${mode.toString(8).padStart(3, '0')}`;
}
