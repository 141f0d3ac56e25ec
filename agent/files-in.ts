/**
 * Fetches what a job brings along, one file after the other, before its program is called. Pulled a window at a
 * time, so that nothing else on the line waits behind it and little of it is in memory; what was fetched before
 * a cut or a kill is on disk and is not fetched again. Only a file with the digest that was announced is placed.
 */
import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { modeOf, type PlacedFile } from '../kinds/files';
import { type AttemptRef, type FileInfo, type FileRefused, limits } from '../protocol';
import type { FileFrame } from '../protocol/frames';
import { amounts } from './amounts';
import type { Line } from './link';
import type { Workspace } from './workspaces';

/** How often the service is asked again, at most a heartbeat apart, when it says "perhaps later". */
const maxRefusals = 3;
const readBytes = 256 * 1024;

export interface FilesInParts {
	ref: AttemptRef;
	files: readonly PlacedFile[];
	workspace: Workspace;
	report(message: string): void;
}

type Arrival = { whole: true } | { failure: string };

/** The file that is being fetched. */
interface Coming {
	readonly number: number;
	readonly wanted: PlacedFile;
	readonly file: FileHandle;
	hash: Hash;
	info: Pick<FileInfo, 'bytes' | 'sha256'> | undefined;
	/** On disk. */
	have: number;
	/** Where the next frame must begin. */
	expected: number;
	/** Up to here was asked for. */
	asked: number;
	expectedAtTick: number;
	refusals: number;
	writing: Promise<void>;
	readonly arrival: PromiseWithResolvers<Arrival>;
}

export class FilesIn {
	readonly #parts: FilesInParts;
	#line: Line | undefined;
	#coming: Coming | undefined;

	constructor(parts: FilesInParts) {
		this.#parts = parts;
	}

	attach(line: Line): void {
		this.#line = line;
		this.#askAgain();
	}

	detach(): void {
		this.#line = undefined;
	}

	/** Called at every heartbeat: what went unanswered for a whole one is asked again. */
	tick(): void {
		const coming = this.#coming;
		if (coming === undefined) return;
		if (coming.expected === coming.expectedAtTick) this.#askAgain();
		coming.expectedAtTick = coming.expected;
	}

	told({ transfer, bytes, sha256 }: FileInfo): void {
		const coming = this.#coming;
		if (coming?.number !== transfer || coming.info !== undefined) return;
		coming.info = { bytes, sha256 };
		void this.#begin(coming);
	}

	refused({ transfer, text, retry }: FileRefused): void {
		const coming = this.#coming;
		if (coming?.number !== transfer) return;
		coming.refusals += 1;
		if (!retry || coming.refusals > maxRefusals) coming.arrival.resolve({ failure: text });
	}

	take(frame: FileFrame): void {
		const coming = this.#coming;
		if (coming?.info === undefined || frame.transfer !== coming.number) return;
		if (frame.offset !== coming.expected || frame.data.length === 0) return;
		// Nobody asked for more, and what nobody asked for would wait in memory for the disk.
		if (frame.offset + frame.data.length > coming.asked) return;
		coming.expected += frame.data.length;
		coming.writing = coming.writing
			.then(() => this.#write(coming, frame.data))
			.catch((error: unknown) => coming.arrival.resolve({ failure: this.#sayWhy(coming, error) }));
	}

	/** Resolves with nothing when all is placed or the signal ends it, with the reason when it cannot be placed. */
	async fetch(signal: AbortSignal): Promise<string | undefined> {
		const { files, workspace } = this.#parts;
		try {
			await workspace.make();
			for (const [number, wanted] of files.entries()) {
				const twin = await this.#twinOf(number, wanted.path);
				if (twin !== undefined) {
					return `${twin} and ${wanted.path} are one name on the disk of the robot; give them names that differ in more than case.`;
				}
				// Placed in an earlier life: nothing else has been here since.
				if (await workspace.has(wanted.path)) continue;
				const failure = await this.#fetchOne(number, wanted, signal);
				if (failure !== undefined) return failure;
				if (signal.aborted) return undefined;
			}
			await workspace.placed(files.map(({ path }) => path));
			return undefined;
		} catch (error) {
			return `The files of the job cannot be placed in ${workspace.folder} (${(error as Error).message}).`;
		}
	}

	/** An earlier file that lies where this one belongs: some disks do not tell "a" from "A". */
	async #twinOf(number: number, path: string): Promise<string | undefined> {
		const { files, workspace } = this.#parts;
		const folded = foldedName(path);
		for (const other of files.slice(0, number)) {
			if (foldedName(other.path) !== folded) continue;
			if (await workspace.isOne(other.path, path)) return other.path;
		}
		return undefined;
	}

	async #fetchOne(
		number: number,
		wanted: PlacedFile,
		signal: AbortSignal,
	): Promise<string | undefined> {
		const { workspace } = this.#parts;
		for (let again = false; ; again = true) {
			const file = await workspace.incoming(number);
			try {
				const arrival = await this.#arrival(number, wanted, file, signal);
				if (signal.aborted) return undefined;
				if ('failure' in arrival) return arrival.failure;
				const { hash, info } = this.#coming!;
				if (hash.digest('hex') === info!.sha256) {
					await workspace.place(number, wanted.path, modeOf(wanted));
					return undefined;
				}
				await file.truncate(0);
				if (again) {
					return `The file for ${wanted.path} came twice with other bytes than the service has; look at the disks of both.`;
				}
			} finally {
				this.#coming = undefined;
				await file.close();
			}
		}
	}

	async #arrival(
		number: number,
		wanted: PlacedFile,
		file: FileHandle,
		signal: AbortSignal,
	): Promise<Arrival> {
		const { size } = await file.stat();
		const hash = await digestOf(file, size);
		const arrival = Promise.withResolvers<Arrival>();
		const coming: Coming = {
			number,
			wanted,
			file,
			hash,
			info: undefined,
			have: size,
			expected: size,
			asked: size,
			expectedAtTick: -1,
			refusals: 0,
			writing: Promise.resolve(),
			arrival,
		};
		this.#coming = coming;
		const stop = () => arrival.resolve({ failure: '' });
		signal.addEventListener('abort', stop, { once: true });
		if (signal.aborted) stop();
		this.#askAgain();
		try {
			const outcome = await arrival.promise;
			await coming.writing;
			return outcome;
		} finally {
			signal.removeEventListener('abort', stop);
		}
	}

	/** The service has said what the file is. */
	async #begin(coming: Coming): Promise<void> {
		const { workspace } = this.#parts;
		const { bytes } = coming.info!;
		try {
			if (coming.have > bytes) {
				await coming.file.truncate(0);
				coming.hash = createHash('sha256');
				coming.have = coming.expected = coming.asked = 0;
			}
			const room = await workspace.room();
			const needed = bytes - coming.have;
			if (needed > room) {
				const failure = `The disk of the robot has no room for ${coming.wanted.path}: ${needed} bytes are needed in ${workspace.folder}, ${room} are free.`;
				coming.arrival.resolve({ failure });
			} else if (needed === 0) coming.arrival.resolve({ whole: true });
			else this.#askMore(coming);
		} catch (error) {
			coming.arrival.resolve({ failure: this.#sayWhy(coming, error) });
		}
	}

	#askAgain(): void {
		const coming = this.#coming;
		const line = this.#line;
		if (coming === undefined || line === undefined) return;
		if (!line.features.includes('files')) {
			return coming.arrival.resolve({ failure: 'The service hands no files out; update it.' });
		}
		coming.asked = coming.expected;
		if (coming.info !== undefined) return this.#askMore(coming);
		line.send('file_read', { ...this.#named(coming), from: 0, length: 0 });
	}

	/** Keeps two requests under way: while one is answered, the other is on its way. */
	#askMore(coming: Coming): void {
		const { bytes } = coming.info!;
		while (coming.asked < bytes && coming.asked - coming.have <= limits.fileWindowBytes / 2) {
			const line = this.#line;
			if (line === undefined) return;
			const length = Math.min(limits.fileWindowBytes / 2, bytes - coming.asked);
			line.send('file_read', { ...this.#named(coming), from: coming.asked, length });
			coming.asked += length;
		}
	}

	#named({ number, wanted }: Coming): AttemptRef & { transfer: number; file_id: string } {
		return { ...this.#parts.ref, transfer: number, file_id: wanted.file };
	}

	async #write(coming: Coming, data: Uint8Array): Promise<void> {
		for (let at = 0; at < data.length;) {
			const { bytesWritten } = await coming.file.write(data, at, data.length - at, null);
			at += bytesWritten;
		}
		coming.hash.update(data);
		coming.have += data.length;
		coming.refusals = 0;
		const { bytes } = coming.info!;
		const { files, report } = this.#parts;
		const which = files.length > 1 ? ` (${coming.number + 1} of ${files.length})` : '';
		report(`fetching files${which}: ${amounts(coming.have, bytes)}`);
		if (coming.have === bytes) coming.arrival.resolve({ whole: true });
		else this.#askMore(coming);
	}

	#sayWhy({ wanted }: Coming, error: unknown): string {
		const { code, message } = error as NodeJS.ErrnoException;
		const { folder } = this.#parts.workspace;
		return code === 'ENOSPC' || code === 'EDQUOT'
			? `The disk of the robot has no room for ${wanted.path} in ${folder}.`
			: `${wanted.path} cannot be written in ${folder} (${message}).`;
	}
}

function foldedName(path: string): string {
	return path.normalize('NFC').toUpperCase().toLowerCase();
}

async function digestOf(file: FileHandle, size: number): Promise<Hash> {
	const hash = createHash('sha256');
	const piece = Buffer.allocUnsafe(Math.min(readBytes, Math.max(1, size)));
	for (let at = 0; at < size;) {
		const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, size - at), at);
		if (bytesRead === 0) break;
		hash.update(piece.subarray(0, bytesRead));
		at += bytesRead;
	}
	return hash;
}
