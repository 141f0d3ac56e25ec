/**
 * Files over the robots' line, both ways: what jobs bring along is read by their robots, what jobs take home is
 * offered by them. Nothing here waits for a robot: a piece that cannot be taken is dropped, and asked for again.
 */
import { wishesOf } from '../../kinds';
import { type FileWishes, patternFinds, pathMistake } from '../../kinds/files';
import { type FileOffer, type FileRead, limits, Problem } from '../../protocol';
import type { FileFrame } from '../../protocol/frames';
import type { ShelfWriter } from '../store/shelf';
import type { StoredFile } from '../store/store';
import type { Attempts } from './attempts';
import type { Context } from './context';
import type { Live, Session } from './fleet';
import type { KeptFiles } from './kept-files';

/** Of all robots: bytes that wait to be written. */
const maxWaitingBytes = 32 * 1024 * 1024;
/** Questions of one robot that wait for their answer. */
const maxReads = 256;
/** Acknowledged each time this much has come, while more is coming. */
const ackBytes = limits.fileWindowBytes / 4;
/** When a robot that has too many files under way may offer another one. */
const offerRetryMs = 1_000;
/** Attempts whose wishes are remembered. */
const keptWishes = 500;

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
	/** Something was dropped. */
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

export class FileTransfers {
	readonly #context: Context;
	readonly #attempts: Attempts;
	readonly #kept: KeptFiles;
	readonly #transfers = new Map<string, Transfer>();
	readonly #reading = new WeakMap<Session, { tail: Promise<void>; waiting: number }>();
	readonly #wishes = new Map<number, Promise<Wishes>>();
	/** Files under way, by the epoch of their attempt. */
	readonly #underWay = new Map<number, number>();
	#waitingBytes = 0;

	constructor(context: Context, attempts: Attempts, kept: KeptFiles) {
		this.#context = context;
		this.#attempts = attempts;
		this.#kept = kept;
	}

	/** Lets go of those whose attempt is over. */
	look(): void {
		const { fleet } = this.#context;
		for (const transfer of this.#transfers.values()) {
			if (fleet.live(transfer.live.jobId) !== transfer.live) this.#drop(transfer);
		}
	}

	stop(): void {
		for (const transfer of this.#transfers.values()) this.#drop(transfer);
	}

	/** A robot wants bytes of what its job brings along. Answered in the order of asking, one piece at a time. */
	read(robotId: string, session: Session, message: FileRead): void {
		const live = this.#attempts.find(robotId, session, message);
		if (!live) return this.#refuse(session, message, new Problem('lease-lost'));
		const reading = this.#reading.get(session) ?? { tail: Promise.resolve(), waiting: 0 };
		this.#reading.set(session, reading);
		// The robot asks again for what was not answered.
		if (reading.waiting >= maxReads) return;
		reading.waiting += 1;
		reading.tail = reading.tail
			.then(() => this.#answer(live, session, message))
			.catch((error: unknown) => this.#refuse(session, message, this.#kept.problemOf(error)))
			.finally(() => {
				reading.waiting -= 1;
			});
	}

	/** A robot has something that its job takes home. */
	offer(robotId: string, session: Session, message: FileOffer): void {
		const live = this.#attempts.find(robotId, session, message);
		if (!live) return this.#refuse(session, message, new Problem('lease-lost'));
		void this.#take(live, session, message).catch((error: unknown) =>
			this.#refuse(session, message, this.#kept.problemOf(error)),
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

	async #answer(live: Live, session: Session, message: FileRead): Promise<void> {
		const { sink } = session;
		const { transfer, file_id: id, from } = message;
		const file = (await this.#wishesOf(live)).files.get(id);
		if (!file) throw new Problem('no-such-file', { id });
		await this.#kept.whole(file);
		const named = { job_id: live.jobId, epoch: live.epoch, transfer };
		if (message.length === 0) {
			sink.fileInfo({ ...named, bytes: file.bytes, sha256: file.sha256! });
			return;
		}
		const to = Math.min(file.bytes, from + message.length);
		for (let at = from; at < to; at += limits.filePieceBytes) {
			const until = Math.min(to, at + limits.filePieceBytes);
			for await (const data of this.#kept.shelf.read(id, at, until)) {
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
		const file = await this.#kept.insert({
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
		// The file has changed on the robot: nobody sends the rest of what it was.
		if (before && before.file.id !== file.id) await this.#kept.discard(before.file.id);
		const { writer, release, isOver } = await this.#kept.open(file.id, () => {
			const current = this.#transfers.get(key);
			if (current?.file.id === file.id) this.#drop(current);
		});
		// What is there was read meanwhile: the robot may have gone, or may offer it on another line.
		if (isOver() || !this.#isCurrent(live, session)) {
			await release();
			return false;
		}
		// Two offers of different files came together under one number: the later one counts.
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
					await this.#kept.room.take(data.length);
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
			await this.#kept.finish(file, writer);
			session.sink.fileKept({ ...named, file_id: file.id });
			this.#drop(transfer);
		} catch (error) {
			const problem = this.#kept.problemOf(error);
			this.#drop(transfer);
			// The robot looks at it again, and what it offers then is a file of its own.
			if (problem.code === 'file-differs') await this.#kept.unlist(file.id);
			this.#refuse(session, named, problem);
		}
	}

	#acknowledge(transfer: Transfer, idle: boolean): void {
		const { session, live, number, writer } = transfer;
		// What was dropped is asked for again once nothing is on its way that would be dropped too.
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
}

function keyOf(jobId: string, epoch: number, transfer: number): string {
	return `${jobId}/${epoch}/${transfer}`;
}
