/**
 * Takes a backup: of a running service through its store's own connection, or of a stopped one under
 * its lock. The copy is checked before the first byte of it is handed out.
 */
import { existsSync, linkSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { copyWhileLiving, demandRoom, segmentsOf, sizeOf, withStopped } from '../store/copies';
import { refuseDamage } from '../store/damage';
import { inspect } from '../store/open';
import { segmentName } from '../store/segments';
import type { Store } from '../store/store';
import type { BackupManifest } from '../../protocol';
import { type ArchiveFile, secretFiles, writeArchive } from './archive';

/** A backup that is ready to be sent. Its copy lies in the data folder until `discard`. */
export interface Backup {
	readonly fileName: string;
	readonly at: number;
	bytes(): AsyncGenerator<Uint8Array, BackupManifest>;
	/** Harmless when called twice. */
	discard(): void;
}

export interface TakeOptions {
	dataFolder: string;
	version: string;
	now: number;
	/** The bundle that checks the copy in a thread of its own. */
	threadEntry?: string;
}

/** What `take` calls its copies, and what SQLite and we put beside one. People keep backups of their own there, too. */
const copyName = /^backup-\d{8}T\d{6}-\d+\.tmp(-wal|-shm|-journal|\.output)?$/;

export function backupOfRunning(store: Store, options: TakeOptions): Promise<Backup> {
	return take(options, (file) => store.snapshot(file));
}

/**
 * Refused with `data-taken` when a service runs on the folder, and with `store-damaged` as a start is: opened here and closed
 * again, the store would be without whatever lies behind the damage, and nobody would be told.
 */
export function backupOfStopped(options: TakeOptions): Promise<Backup> {
	const copyTo = (file: string) => async (db: DatabaseSync) => {
		demandRoom(dirname(file), sizeOf(db), 'The backup');
		await copyWhileLiving(db, file);
	};
	const store = join(options.dataFolder, 'robot-fleet.db');
	return take(options, (file) => withStopped(store, copyTo(file), refuseDamage));
}

/** Copies that a killed service left behind. Call when nobody can be taking one. */
export function sweepCopies(dataFolder: string): void {
	for (const name of readdirSync(dataFolder)) {
		if (!copyName.test(name)) continue;
		rmSync(join(dataFolder, name), { recursive: true, force: true });
	}
}

const linksEnd = '.output';

/**
 * The segments that the copy speaks of only grow, and may go when nobody wants them any more: a link
 * each keeps them until the backup was sent. Only what the copy knows of them is taken.
 */
function holdSegments(copy: string, folder: string): ArchiveFile[] {
	const links = copy + linksEnd;
	mkdirSync(links, { mode: 0o700 });
	return segmentsOf(copy).flatMap(({ id, size }) => {
		const name = segmentName(id);
		const path = join(links, name);
		try {
			linkSync(join(folder, name), path);
		} catch (error) {
			// Let go of since the copy was made, and missed by the jobs it held: a hole, as ever.
			if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
			throw error;
		}
		return [{ name: `output/${name}`, path, bytes: size }];
	});
}

async function take(
	{ dataFolder, version, now, threadEntry }: TakeOptions,
	copyTo: (file: string) => Promise<void>,
): Promise<Backup> {
	const stamp = new Date(now).toISOString().replace(/[-:]/g, '').slice(0, 15);
	const copy = join(dataFolder, `backup-${stamp}-${process.pid}.tmp`);
	const discard = () => {
		for (const end of ['', '-wal', '-shm', '-journal', linksEnd]) {
			rmSync(copy + end, { recursive: true, force: true });
		}
	};
	try {
		discard();
		await copyTo(copy);
		const output = holdSegments(copy, join(dataFolder, 'output'));
		const facts = await inspect(copy, threadEntry);
		const files: ArchiveFile[] = [
			{ name: 'robot-fleet.db', path: copy },
			...secretFiles.map((name) => ({ name, path: join(dataFolder, name) })),
		]
			.filter(({ path }) => existsSync(path))
			.map((file) => ({ ...file, bytes: statSync(file.path).size }));
		files.push(...output);
		return {
			fileName: `robot-fleet-${stamp}.tar`,
			at: now,
			bytes: () => writeArchive(files, { at: now, version, store: facts }),
			discard,
		};
	} catch (error) {
		discard();
		throw error;
	}
}
