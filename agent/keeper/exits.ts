/**
 * One small file for each attempt that a keeper started, made before the program is called: a
 * second start finds it and is refused, whichever keeper is asked. How the attempt ended is written into
 * it before anybody is told, so it outlives the keeper. Room for that is reserved when the file is made:
 * a disk that fills up later cannot take it away.
 */
import { hash } from 'node:crypto';
import {
	closeSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	statSync,
	unlinkSync,
	writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { End } from './words';

const roomBytes = 4_096;
const empty = Buffer.alloc(roomBytes, ' ');

/** This attempt was started once, by this keeper or an earlier one. */
export class StartedBefore extends Error {
	override readonly name = 'StartedBefore';
}

export class ExitFiles {
	readonly #folder: string;
	/** Handles of those that were begun here and have not ended. */
	readonly #open = new Map<string, number>();

	constructor(folder: string) {
		this.#folder = folder;
		mkdirSync(folder, { recursive: true, mode: 0o700 });
	}

	/** Throws `StartedBefore`, or what the disk says. Without the file the program may not be called. */
	begin(key: string): void {
		let file: number;
		try {
			file = openSync(this.#pathOf(key), 'wx', 0o600);
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
			throw new StartedBefore('This attempt has been started before.', { cause: error });
		}
		try {
			writeSync(file, empty);
		} catch {
			// No room for its end, which then stays in memory only until it is taken.
		}
		this.#open.set(key, file);
	}

	/** From now on no keeper will start it. False when one has, or may have: nobody can tell any more. */
	preclude(key: string): boolean {
		try {
			closeSync(openSync(this.#pathOf(key), 'wx', 0o600));
			return true;
		} catch {
			return false;
		}
	}

	/** Whether the program may have been called; good for as long as the machine runs. */
	has(key: string): boolean {
		try {
			return statSync(this.#pathOf(key), { throwIfNoEntry: false }) !== undefined;
		} catch {
			// A disk that does not say is no proof that it was not called.
			return true;
		}
	}

	/** For one that was begun here. False when the disk refuses it: then only the keeper knows. */
	end(key: string, end: End): boolean {
		const file = this.#open.get(key);
		if (file === undefined) return false;
		const { tails, ...short } = end;
		try {
			// The last bytes are there for output that the disk had no room for: it may have none for them either.
			return write(file, end) || (tails !== undefined && write(file, short));
		} finally {
			this.#close(key);
		}
	}

	/** Resolves when a power cut can no longer take it, as far as the disk can be trusted. */
	async sync(key: string): Promise<void> {
		try {
			await using file = await open(this.#pathOf(key), 'r+');
			await file.sync();
		} catch {
			// There is none: the disk had no room for it.
		}
	}

	/** How it ended, if that was written down and is intact. */
	read(key: string): End | undefined {
		try {
			const [line = ''] = readFileSync(this.#pathOf(key), 'utf8').split('\n', 1);
			const { digest, end } = JSON.parse(line) as { digest: string; end: End };
			return digest === digestOf(JSON.stringify(end)) ? end : undefined;
		} catch {
			return undefined;
		}
	}

	remove(key: string): void {
		this.#close(key);
		try {
			unlinkSync(this.#pathOf(key));
		} catch {
			// It is gone already.
		}
	}

	get keys(): string[] {
		return readdirSync(this.#folder);
	}

	#close(key: string): void {
		const file = this.#open.get(key);
		if (file === undefined) return;
		this.#open.delete(key);
		try {
			closeSync(file);
		} catch {
			// What the disk did not take shows when it is read.
		}
	}

	#pathOf(key: string): string {
		return join(this.#folder, key);
	}
}

function write(file: number, end: End): boolean {
	const text = JSON.stringify(end);
	const line = Buffer.from(`{"digest":"${digestOf(text)}","end":${text}}\n`);
	try {
		for (let at = 0; at < line.length;) at += writeSync(file, line, at, line.length - at, at);
		return true;
	} catch {
		return false;
	}
}

function digestOf(text: string): string {
	return hash('sha256', text, 'base64url');
}
