/**
 * Room kept back on the disk for the day it is full: a file of no other use. It is given up when a
 * commit finds no room, so that results that robots are already sending can still be written.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, existsSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';

const pieceBytes = 1024 * 1024;

export class Reserve {
	readonly bytes: number;
	readonly #file: string;

	constructor(file: string, bytes: number) {
		this.#file = file;
		this.bytes = bytes;
	}

	get held(): boolean {
		return existsSync(this.#file);
	}

	/** False when there is no room for it. */
	hold(): boolean {
		if (this.held) return true;
		const draft = `${this.#file}.tmp`;
		try {
			const file = openSync(draft, 'w', 0o600);
			try {
				// Zeros would take up no room on a disk that compresses.
				const piece = randomFillSync(Buffer.alloc(Math.min(pieceBytes, this.bytes)));
				for (let at = 0; at < this.bytes; at += piece.length)
					writeSync(file, piece, 0, piece.length);
			} finally {
				closeSync(file);
			}
			renameSync(draft, this.#file);
			return true;
		} catch {
			rmSync(draft, { force: true });
			return false;
		}
	}

	/** True when there was something to give up. */
	release(): boolean {
		if (!this.held) return false;
		rmSync(this.#file, { force: true });
		return true;
	}
}
