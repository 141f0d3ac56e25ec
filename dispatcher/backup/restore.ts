/**
 * Puts a backup into the data folder of a stopped service. At every moment the folder holds either
 * the store of before or the restored one, whole; a restore that was killed is run again.
 */
import {
	closeSync,
	existsSync,
	fsyncSync,
	linkSync,
	mkdirSync,
	openSync,
	renameSync,
	rmSync,
	statSync,
	writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type BackupManifest, Problem } from '../../protocol';
import { setStoreAside, swapOutput } from '../store/aside';
import { demandRoom, stampRestored, syncFolderOf, termOf, withStopped } from '../store/copies';
import { inspect } from '../store/open';
import { readArchive, secretFiles } from './archive';

export interface RestoreOptions {
	file: string;
	dataFolder: string;
	/** Replace a store that is there. */
	force: boolean;
	now: number;
	/** The bundle that checks the copy in a thread of its own. */
	threadEntry?: string;
}

export interface Restored {
	manifest: BackupManifest;
	/** Where the store of before lies now; null when there was none. */
	replaced: string | null;
}

/** Reads all of a backup and checks it; changes nothing. */
export function preview(file: string): BackupManifest {
	return readArchive(file);
}

export async function restore(options: RestoreOptions): Promise<Restored> {
	const { file, dataFolder, force, now, threadEntry } = options;
	const store = join(dataFolder, 'robot-fleet.db');
	const old = existsSync(store);
	if (old && !force) throw new Problem('data-not-empty', { folder: dataFolder });
	mkdirSync(dataFolder, { recursive: true, mode: 0o700 });
	const draft = join(dataFolder, 'restoring');
	rmSync(draft, { recursive: true, force: true });
	if (existsSync(file)) demandRoom(dataFolder, statSync(file).size, 'The restored store');
	try {
		const manifest = extract(file, draft);
		const copy = join(draft, 'robot-fleet.db');
		const facts = await inspect(copy, threadEntry);
		const make = (termBefore: number) => {
			const term = Math.max(facts.term, termBefore, termOfTime(Math.max(now, manifest.at))) + 1;
			stampRestored(copy, { at: now, backupAt: manifest.at, term });
		};
		const output = () => swapOutput(store, join(draft, 'output'));
		const replaced = old
			? await replace(store, copy, make, output)
			: first(store, copy, make, output);
		// After the store: keys without their store are of no use, a store without its keys is.
		for (const { name } of manifest.files) {
			if (secretFiles.includes(name)) renameSync(join(draft, name), join(dataFolder, name));
		}
		syncFolderOf(store);
		return { manifest, replaced };
	} finally {
		rmSync(draft, { recursive: true, force: true });
	}
}

function extract(file: string, folder: string): BackupManifest {
	mkdirSync(folder, { mode: 0o700 });
	return readArchive(file, (name) => {
		const path = join(folder, name);
		mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
		const out = openSync(path, 'wx', 0o600);
		return {
			write(piece) {
				for (let at = 0; at < piece.length;) at += writeSync(out, piece, at);
			},
			end() {
				fsyncSync(out);
				closeSync(out);
			},
		};
	});
}

/** Into a folder without a store. A service that starts in this moment is not overwritten. */
function first(
	store: string,
	copy: string,
	make: (termBefore: number) => void,
	output: () => void,
): null {
	make(0);
	output();
	try {
		linkSync(copy, store);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
		throw new Problem('data-not-empty', { folder: dirname(store) }, error);
	}
	return null;
}

/** In the place of another store, under its lock: a service that starts meanwhile waits for us. */
async function replace(
	store: string,
	copy: string,
	make: (termBefore: number) => void,
	output: () => void,
): Promise<string> {
	const swap = () => {
		const aside = setStoreAside(store);
		// A log of the old store beside the new one would be played into it.
		rmSync(`${store}-wal`, { force: true });
		output();
		renameSync(copy, store);
		syncFolderOf(store);
		return aside;
	};
	try {
		return await withStopped(store, (db) => {
			const term = termOf(db);
			// Brings the log home and lets go of its file.
			db.exec('PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE');
			make(term);
			const aside = swap();
			db.exec('ROLLBACK');
			return aside;
		});
	} catch (error) {
		const { errcode = 0, message } = error as Error & { errcode?: number };
		// What is restored over may be damaged: that is what backups are for.
		if (!damagedCodes.has(errcode & 0xff) && !/no such table/.test(message)) throw error;
		make(0);
		return swap();
	}
}

/** SQLite's I/O error, corrupt, no database. */
const damagedCodes = new Set([10, 11, 26]);

/** No service starts more often than every seven and a half minutes in all its life, year by year. */
const termMs = 450_000;
const firstDay = Date.UTC(2026, 0, 1);

/**
 * A term above all that were handed out before a moment, also those after the backup was taken and
 * on a machine that is gone.
 */
export function termOfTime(at: number): number {
	return Math.max(0, Math.floor((at - firstDay) / termMs));
}
