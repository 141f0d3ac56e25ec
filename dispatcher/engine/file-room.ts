/**
 * Room for the bytes of files on the disk of the service. What results and jobs need is never theirs: the room that
 * must stay free, and what is still missing of files under way, are left out. Counted from what lies on the disk, so a
 * death of the service changes nothing.
 */
import { Problem } from '../../protocol';
import type { FileShelf } from '../store/shelf';
import type { Context } from './context';

/** The disk is looked at each time this much has come. */
const lookBytes = 4 * 1024 * 1024;

export class FileRoom {
	readonly #context: Context;
	readonly #shelf: FileShelf | undefined;
	/** Of each file under way: bytes that are still to come. */
	readonly #missing = new Map<string, number>();
	#missingBytes = 0;
	/** How much may come before the disk is looked at again. */
	#unlooked = 0;

	constructor(context: Context, shelf: FileShelf | undefined) {
		this.#context = context;
		this.#shelf = shelf;
	}

	/** Bytes that a new file may have; none when that is less than 0. */
	async left(): Promise<number> {
		return (await this.#free()) - this.#missingBytes;
	}

	/** Throws when this many bytes of a file under way cannot be taken. */
	async mustHold(bytes: number): Promise<void> {
		if (bytes > (await this.#free())) throw new Problem('store-full');
	}

	/** This many are about to be written; throws when they must not be. */
	async take(bytes: number): Promise<void> {
		if (this.#context.diskFull()) throw new Problem('store-full');
		if (this.#unlooked < bytes) {
			await this.mustHold(bytes);
			this.#unlooked = lookBytes;
		}
		this.#unlooked -= bytes;
	}

	misses(id: string, bytes: number): void {
		this.forget(id);
		this.#missing.set(id, bytes);
		this.#missingBytes += bytes;
	}

	knows(id: string): boolean {
		return this.#missing.has(id);
	}

	/** It is whole, or gone. */
	forget(id: string): void {
		this.#missingBytes -= this.#missing.get(id) ?? 0;
		this.#missing.delete(id);
	}

	/** Less than 0 when nothing may come. */
	async #free(): Promise<number> {
		if (this.#context.diskFull()) return -1;
		const free = (await this.#shelf?.freeBytes()) ?? 0;
		return free - this.#context.settings.minFreeBytes;
	}
}
