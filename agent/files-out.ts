/**
 * Sends what a job takes home, after its end and before its result. Each file is offered with its digest; the
 * service says how much it already has, and sending goes on from that byte, across cuts and kills on either side. A
 * file that the service does not take is listed in the result with the reason; the result itself waits for none of them
 * longer than for the line.
 */
import type { FileHandle } from 'node:fs/promises';
import {
	type AttemptRef,
	type FileKept,
	type FileRefused,
	type FileWant,
	limits,
	type WireCollectedFile,
} from '../protocol';
import { amounts } from './amounts';
import type { Clock } from './clock';
import { described, type Found, openInside, reasonFor } from './drivers/collect';
import type { Line } from './link';

/** Files sent at once: with many small ones, one travels while the other is committed. */
const abreast = 2;
/** How often what was refused "for now" is offered again, a heartbeat apart. */
const maxRefusals = 3;
/** Refusals that will surely have passed soon; a full disk may stay full. */
const passing = new Set(['internal', 'not-ready', 'store-busy', 'too-many']);
const reportMs = 1_000;

export interface FilesOutParts {
	ref: AttemptRef;
	folder: string;
	clock: Clock;
}

type Arrival = { file_id: string } | { error: string };

/** A file on its way. */
interface Going {
	readonly number: number;
	found: Found;
	file: FileHandle;
	/** The service has answered the offer on this line. */
	wanted: boolean;
	have: number;
	sent: number;
	hadAtTick: number;
	refusals: number;
	/** It was found to differ from what was offered. */
	changed: boolean;
	pumping: boolean;
	readonly givenUp: AbortSignal;
	readonly arrival: PromiseWithResolvers<Arrival>;
}

export class FilesOut {
	readonly #parts: FilesOutParts;
	readonly #going = new Map<number, Going>();
	#line: Line | undefined;
	#total = 0;
	#done = 0;
	#reportedAt = -Infinity;

	constructor(parts: FilesOutParts) {
		this.#parts = parts;
	}

	attach(line: Line): void {
		this.#line = line;
		for (const going of this.#going.values()) this.#offer(going);
	}

	detach(): void {
		this.#line = undefined;
		for (const going of this.#going.values()) going.wanted = false;
	}

	/** Called at every heartbeat: what did not move for a whole one is offered again. */
	tick(): void {
		for (const going of this.#going.values()) {
			if (going.have === going.hadAtTick) this.#offer(going);
			going.hadAtTick = going.have;
		}
	}

	want({ transfer, have, again }: FileWant): void {
		const going = this.#going.get(transfer);
		if (going === undefined || have > going.found.bytes) return;
		// A file that makes progress may stumble as often again.
		if (have > going.have) going.refusals = 0;
		going.have = have;
		if (again === true || going.sent < have) going.sent = have;
		going.wanted = true;
		this.#report();
		void this.#pump(going);
	}

	kept({ transfer, file_id }: FileKept): void {
		this.#going.get(transfer)?.arrival.resolve({ file_id });
	}

	refused({ transfer, code, text, retry }: FileRefused): void {
		const going = this.#going.get(transfer);
		if (going === undefined) return;
		going.wanted = false;
		if (code === 'file-differs') return void this.#lookAgain(going);
		going.refusals += 1;
		if (retry && passing.has(code) && going.refusals <= maxRefusals) return;
		going.arrival.resolve({ error: text });
	}

	/** One answer for each, in order. On the signal, the rest is given up. */
	async send(all: readonly Found[], signal: AbortSignal): Promise<WireCollectedFile[]> {
		this.#total = all.reduce((sum, { bytes }) => sum + bytes, 0);
		const answers = all.map(({ mode: _, ...told }): WireCollectedFile => told);
		let next = 0;
		const work = async () => {
			for (let i = next++; i < all.length; i = next++) {
				if (answers[i]!.error !== undefined) continue;
				const { error, ...answer } = await this.#sendOne(i, all[i]!, signal);
				answers[i] = error === undefined ? answer : { ...answer, error: reasonFor(error) };
				this.#done += all[i]!.bytes;
			}
		};
		await Promise.all(Array.from({ length: abreast }, work));
		if (this.#total > 0) this.#say(`sent files: ${amounts(this.#done, this.#total)}`);
		return answers;
	}

	async #sendOne(
		number: number,
		{ mode, ...told }: Found,
		signal: AbortSignal,
	): Promise<WireCollectedFile> {
		const over = { error: 'The job was over before it was sent.' };
		if (signal.aborted) return { ...told, ...over };
		let file: FileHandle;
		try {
			file = await openInside(this.#parts.folder, told.path);
		} catch (error) {
			return { ...told, error: `cannot be read (${(error as Error).message})` };
		}
		const going: Going = {
			number,
			found: { ...told, mode },
			file,
			wanted: false,
			have: 0,
			sent: 0,
			hadAtTick: -1,
			refusals: 0,
			changed: false,
			pumping: false,
			givenUp: signal,
			arrival: Promise.withResolvers<Arrival>(),
		};
		this.#going.set(number, going);
		const stop = () => going.arrival.resolve(over);
		signal.addEventListener('abort', stop, { once: true });
		if (signal.aborted) stop();
		this.#offer(going);
		try {
			const arrival = await going.arrival.promise;
			const { mode: _, ...now } = going.found;
			return { ...now, ...arrival };
		} finally {
			signal.removeEventListener('abort', stop);
			this.#going.delete(number);
			await going.file.close();
		}
	}

	#offer(going: Going): void {
		const line = this.#line;
		if (line === undefined) return;
		if (!line.features.includes('files')) {
			return going.arrival.resolve({ error: 'The service takes no files; update it.' });
		}
		going.wanted = false;
		const { path, bytes, sha256, mode } = going.found;
		const offer = { ...this.#parts.ref, transfer: going.number };
		line.send('file_offer', { ...offer, path, bytes, sha256: sha256!, mode });
	}

	/** Sends what the window allows. */
	async #pump(going: Going): Promise<void> {
		if (going.pumping) return;
		going.pumping = true;
		try {
			while (this.#mayGo(going)) {
				const { found, sent } = going;
				const piece = Buffer.allocUnsafe(Math.min(limits.filePieceBytes, found.bytes - sent));
				const { bytesRead } = await going.file.read(piece, 0, piece.length, sent);
				// While we read, the line may have changed, or the service may want other bytes.
				if (!this.#mayGo(going) || going.sent !== sent || going.found !== found) continue;
				if (bytesRead === 0) return void this.#lookAgain(going);
				const { job_id: jobId, epoch } = this.#parts.ref;
				const data = piece.subarray(0, bytesRead);
				this.#line!.sendFile({ jobId, epoch, transfer: going.number, offset: sent, data });
				going.sent += bytesRead;
			}
		} catch (error) {
			going.arrival.resolve({ error: `cannot be read (${(error as Error).message})` });
		} finally {
			going.pumping = false;
		}
	}

	#mayGo({ number, wanted, found, have, sent }: Going): boolean {
		const here = this.#line !== undefined && wanted && this.#going.has(number);
		return here && sent < found.bytes && sent - have < limits.fileWindowBytes;
	}

	/** Somebody is still writing it: it is looked at again, once. */
	async #lookAgain(going: Going): Promise<void> {
		const { folder } = this.#parts;
		const { path } = going.found;
		const error = 'changed while it was being sent';
		if (going.changed) return going.arrival.resolve({ error });
		going.changed = true;
		going.wanted = false;
		let found: Found;
		try {
			found = await described(folder, path, going.givenUp);
			if (found.error !== undefined) return going.arrival.resolve({ error: found.error });
			const before = going.file;
			const file = await openInside(folder, path);
			// Given up meanwhile: nobody else would close it.
			if (this.#going.get(going.number) !== going) return await file.close();
			going.file = file;
			await before.close();
		} catch {
			return going.arrival.resolve({ error });
		}
		going.found = found;
		going.have = going.sent = 0;
		this.#offer(going);
	}

	#report(): void {
		const now = this.#parts.clock.monotonic();
		if (now - this.#reportedAt < reportMs) return;
		this.#reportedAt = now;
		let have = this.#done;
		for (const going of this.#going.values()) have += going.have;
		this.#say(`sending files: ${amounts(have, this.#total)}`);
	}

	#say(message: string): void {
		this.#line?.send('status_update', { ...this.#parts.ref, message });
	}
}
