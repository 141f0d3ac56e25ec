/**
 * Room on the disk that is held for one purpose: when the disk is full, the exit record of a job must still
 * find a place. A file of a given size, deleted when the room is needed, made again at the next start.
 */
import { rmSync, statSync, writeFileSync } from 'node:fs';

export class Ballast {
	readonly #path: string;

	constructor(path: string, bytes: number) {
		this.#path = path;
		try {
			if (statSync(path, { throwIfNoEntry: false })?.size === bytes) return;
			writeFileSync(path, Buffer.alloc(bytes), { mode: 0o600, flush: true });
		} catch {
			// The disk is full already: half a file helps nobody.
			this.release();
		}
	}

	/** Frees the room; false when there was none to free. */
	release(): boolean {
		try {
			rmSync(this.#path);
			return true;
		} catch {
			// There is no more room than before, and the caller tries again later.
			return false;
		}
	}
}
