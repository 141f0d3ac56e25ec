/**
 * A folder of its own for every attempt that brings files along or takes some home, until the service has
 * all of it:
 *
 *   work/<job>-<epoch>/      where the program runs
 *   work/<job>-<epoch>.in/   what is on its way there, by number
 *
 * A file is placed whole or not at all. Names are data: whatever a path says, it ends up inside. Knows no
 * frames and no journal.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import {
	chmod,
	type FileHandle,
	lstat,
	mkdir,
	open,
	readdir,
	realpath,
	rename,
	rm,
	statfs,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathMistake } from '../kinds/files';

export class Workspaces {
	readonly #folder: string;
	readonly #reserveBytes: number;

	/** `reserveBytes` of the disk are left to the rest of the machine. */
	constructor(folder: string, reserveBytes: number) {
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		this.#folder = folder;
		this.#reserveBytes = reserveBytes;
	}

	of(jobId: string, epoch: number): Workspace {
		return new Workspace(join(this.#folder, `${jobId}-${epoch}`), this.#reserveBytes);
	}

	/** Deletes those of attempts that nobody holds: left by a crash between forgetting and deleting. */
	sweep(held: readonly { jobId: string; epoch: number }[]): void {
		const known = new Set(held.map(({ jobId, epoch }) => `${jobId}-${epoch}`));
		for (const name of readdirSync(this.#folder)) {
			if (known.has(name.replace(/\.in$/, ''))) continue;
			void removeAll(join(this.#folder, name));
		}
	}
}

export class Workspace {
	readonly folder: string;
	readonly #incoming: string;
	readonly #reserveBytes: number;

	constructor(folder: string, reserveBytes: number) {
		this.folder = folder;
		this.#incoming = `${folder}.in`;
		this.#reserveBytes = reserveBytes;
	}

	/** Harmless when it is there. */
	async make(): Promise<void> {
		await mkdir(this.folder, { recursive: true, mode: 0o700 });
		await mkdir(this.#incoming, { recursive: true, mode: 0o700 });
	}

	/** Bytes that may still be written here. */
	async room(): Promise<number> {
		const { bavail, bsize } = await statfs(this.folder);
		return Math.max(0, bavail * bsize - this.#reserveBytes);
	}

	/** What is here of the file with this number, to be read and gone on with. */
	incoming(number: number): Promise<FileHandle> {
		return open(join(this.#incoming, String(number)), 'a+', 0o600);
	}

	/** Moves the file with this number to its place. Done before = harmless. */
	async place(number: number, path: string, mode: number): Promise<void> {
		const mistake = pathMistake(path);
		if (mistake !== undefined) throw new Error(`${JSON.stringify(path)} ${mistake}`);
		const from = join(this.#incoming, String(number));
		const to = join(this.folder, path);
		await mkdir(dirname(to), { recursive: true, mode: 0o700 });
		const inside = join(await realpath(this.folder), dirname(path));
		if ((await realpath(dirname(to))) !== inside) {
			throw new Error(`${JSON.stringify(path)} leads out of the workspace`);
		}
		await chmod(from, mode);
		await rename(from, to);
	}

	/** Whether something lies there already: placed in an earlier life. */
	async has(path: string): Promise<boolean> {
		return (await lstat(join(this.folder, path)).catch(() => undefined)) !== undefined;
	}

	/** Nothing more comes. */
	async placed(): Promise<void> {
		await rm(this.#incoming, { recursive: true, force: true });
	}

	async remove(): Promise<void> {
		await removeAll(this.#incoming);
		await removeAll(this.folder);
	}
}

/** What cannot be removed is tried again at the next start. */
async function removeAll(folder: string): Promise<void> {
	const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 2 });
	try {
		await remove();
	} catch {
		// Whatever ran there may have made folders read-only.
		await loosen(folder)
			.then(remove)
			.catch(() => undefined);
	}
}

async function loosen(folder: string): Promise<void> {
	await chmod(folder, 0o700);
	for (const entry of await readdir(folder, { withFileTypes: true })) {
		if (entry.isDirectory()) await loosen(join(folder, entry.name));
	}
}
