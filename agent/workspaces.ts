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
import { placeOf } from './drivers/collect';

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

	/** Harmless when it exists. */
	async make(): Promise<void> {
		await mkdir(this.folder, { recursive: true, mode: 0o700 });
		await mkdir(this.#incoming, { recursive: true, mode: 0o700 });
	}

	/** Bytes that may still be written here. */
	async room(): Promise<number> {
		const { bavail, bsize } = await statfs(this.folder);
		return Math.max(0, bavail * bsize - this.#reserveBytes);
	}

	/** What is here of the file with this number, to be read and continued. */
	async incoming(number: number): Promise<FileHandle> {
		const path = join(this.#incoming, String(number));
		// If we were killed while placing it, it already has the permissions that it is to have in its place.
		await chmod(path, 0o600).catch(() => undefined);
		return open(path, 'a+', 0o600);
	}

	/** Moves the file with this number to its place; its bytes are on disk before its name is there. */
	async place(number: number, path: string, mode: number): Promise<void> {
		const mistake = pathMistake(path);
		if (mistake !== undefined) throw new Error(`${JSON.stringify(path)} ${mistake}`);
		const from = join(this.#incoming, String(number));
		const to = join(this.folder, path);
		await mkdir(dirname(to), { recursive: true, mode: 0o700 });
		const inside = join(await placeOf(this.folder), dirname(path));
		if ((await realpath(dirname(to))) !== inside) {
			throw new Error(`${JSON.stringify(path)} leads out of the workspace`);
		}
		const file = await open(from, 'r+');
		try {
			await file.chmod(mode);
			await file.sync();
		} finally {
			await file.close();
		}
		await rename(from, to);
	}

	/** Whether something lies there already: placed in an earlier life. */
	async has(path: string): Promise<boolean> {
		return (await lstat(join(this.folder, path)).catch(() => undefined)) !== undefined;
	}

	/** Whether both names lead to one file. */
	async isOne(path: string, other: string): Promise<boolean> {
		const [a, b] = await Promise.all(
			[path, other].map((one) => lstat(join(this.folder, one)).catch(() => undefined)),
		);
		return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
	}

	/** Nothing more comes: when this resolves, the names of these files are on disk. */
	async placed(paths: readonly string[]): Promise<void> {
		const folders = new Set([this.folder, dirname(this.folder)]);
		for (const path of paths) {
			for (let up = dirname(path); up !== '.'; up = dirname(up)) folders.add(join(this.folder, up));
		}
		for (const folder of folders) await syncFolder(folder);
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

async function syncFolder(folder: string): Promise<void> {
	// Windows cannot; there a name is on disk when the file is.
	if (process.platform === 'win32') return;
	const handle = await open(folder, 'r');
	try {
		await handle.sync();
	} finally {
		await handle.close();
	}
}

async function loosen(folder: string): Promise<void> {
	// A link may have taken its place: what it leads to is not ours.
	if (!(await lstat(folder)).isDirectory()) return;
	await chmod(folder, 0o700);
	for (const entry of await readdir(folder, { withFileTypes: true })) {
		if (entry.isDirectory()) await loosen(join(folder, entry.name));
	}
}
