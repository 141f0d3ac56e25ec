/**
 * Whole copies of a store file: taken from a live one, inspected, and made ready for use again.
 * SQLite's online copy goes page by page through the owner's connection, so that commits go on
 * between two steps.
 */
import { closeSync, fsyncSync, openSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { backup, DatabaseSync } from 'node:sqlite';
import { type BackupContents, type JobState, jobStates, limits, Problem } from '../../protocol';
import { undoHalfRestore } from './aside';
import { migrations } from './migrations';

/** Pages a step: about a millisecond, during which a commit waits. */
const pagesPerStep = 100;
/**
 * Node gives up a copy, with the words "not an error", when its first or last step finds a commit under way. Under load that
 * happens to one in twenty; it is started over.
 */
const maxRepeats = 20;
/** A copy must neither fill the disk nor take the room kept for results. */
const spareBytes = limits.reserveBytes + 16 * 1024 * 1024;

/** Refuses with `no-room` when the folder cannot take `bytes` more. */
export function demandRoom(folder: string, bytes: number, what: string): void {
	const { bavail, bsize } = statfsSync(folder);
	const free = bavail * bsize;
	const need = bytes + spareBytes;
	if (free >= need) return;
	throw new Problem('no-room', { what, folder, needMb: mb(need), freeMb: mb(free) });
}

const mb = (bytes: number) => Math.ceil(bytes / 1024 / 1024);

/** Bytes a copy of this store takes at most. */
export function sizeOf(db: DatabaseSync): number {
	const pragma = (name: string) => Number(Object.values(db.prepare(`PRAGMA ${name}`).get()!)[0]);
	return pragma('page_count') * pragma('page_size');
}

/**
 * Makes a new file private to this user from its first byte: SQLite gives its log and journal the mode of the file. One that
 * exists is not even opened: closing it again would drop the locks that this process has on it.
 */
export function claimFile(path: string): void {
	try {
		closeSync(openSync(path, 'wx', 0o600));
	} catch {
		// It is there; or SQLite will say what is wrong.
	}
}

export async function copyWhileLiving(db: DatabaseSync, file: string): Promise<void> {
	claimFile(file);
	for (let left = maxRepeats; ; left -= 1) {
		try {
			await backup(db, file, { rate: pagesPerStep });
			break;
		} catch (error) {
			if (left === 0 || (error as { errcode?: number }).errcode !== 0) throw error;
		}
	}
	syncFile(file);
}

export function syncFile(path: string): void {
	const file = openSync(path, 'r');
	try {
		fsyncSync(file);
	} finally {
		closeSync(file);
	}
}

/** A rename or link is on disk only when its folder is. */
export function syncFolderOf(path: string): void {
	syncFile(dirname(path));
}

/** Reads a copy through and checks it whole; throws `bad-backup` when it is damaged. */
export function inspectCopy(file: string): BackupContents {
	const damaged = (reason: string) => new Problem('bad-backup', { file, reason });
	let db: DatabaseSync;
	try {
		db = new DatabaseSync(file);
	} catch (error) {
		throw damaged((error as Error).message);
	}
	try {
		const schema = Number(db.prepare('PRAGMA user_version').get()!['user_version']);
		if (schema > migrations.length) {
			throw new Problem('store-newer', { theirs: schema, ours: migrations.length });
		}
		const check = db.prepare('PRAGMA integrity_check(1)').get()!['integrity_check'];
		if (check !== 'ok') throw damaged(String(check));
		const count = (table: string) =>
			Number(db.prepare(`SELECT count(*) AS n FROM ${table}`).get()!['n']);
		const jobs = Object.fromEntries(jobStates.map((state) => [state, 0])) as BackupContents['jobs'];
		for (const row of db.prepare('SELECT state, count(*) AS n FROM jobs GROUP BY state').all()) {
			jobs[row['state'] as JobState] = Number(row['n']);
		}
		return {
			schema,
			term: Number(meta(db, 'term') ?? 0),
			hubId: meta(db, 'hub_id') ?? '',
			jobs,
			robots: count('robots WHERE removed_at IS NULL'),
			schedules: count('schedules'),
		};
	} catch (error) {
		throw error instanceof Problem ? error : damaged((error as Error).message);
	} finally {
		db.close();
	}
}

/** Segments of output that a copy refers to, each up to where it counts. */
export function segmentsOf(file: string): { id: number; size: number }[] {
	const db = new DatabaseSync(file);
	try {
		const known = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'segments'").get();
		if (!known) return [];
		return db.prepare('SELECT id, size FROM segments ORDER BY id').all() as never;
	} finally {
		db.close();
	}
}

/** What a restored store must remember about where it comes from. `term` is above every earlier term. */
export interface Restoration {
	at: number;
	backupAt: number;
	term: number;
}

/**
 * Marks a copy as restored before it is put in place: the first start then holds its jobs back, and
 * hands out epochs that nobody has seen. Enrollment tokens end: whether they were used since is unknown.
 */
export function stampRestored(file: string, { at, backupAt, term }: Restoration): void {
	const db = new DatabaseSync(file);
	try {
		db.exec('PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; BEGIN IMMEDIATE');
		const put = db.prepare('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)');
		put.run('term', String(term));
		put.run('restored', JSON.stringify({ at, backupAt, held: false }));
		db.prepare('UPDATE tokens SET revoked_at = coalesce(revoked_at, ?)').run(at);
		db.exec('COMMIT');
	} finally {
		db.close();
	}
	syncFile(file);
}

/**
 * Holds a store file that no service is using, as its owner would: `use` has it alone. Refused with
 * `data-taken` when a service runs on it, and with whatever `look` throws before it is opened.
 */
export async function withStopped<T>(
	file: string,
	use: (db: DatabaseSync) => T | Promise<T>,
	look: (file: string) => void = () => undefined,
): Promise<T> {
	unlessTaken(file, () => look(file));
	const db = new DatabaseSync(file);
	try {
		unlessTaken(file, () =>
			db.exec('PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT'),
		);
		undoHalfRestore(file);
		return await use(db);
	} finally {
		db.close();
	}
}

function unlessTaken(file: string, step: () => void): void {
	try {
		step();
	} catch (error) {
		const primary = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
		if (primary !== 5 && primary !== 6) throw error;
		const details = { folder: dirname(file), owner: 'it is running', variable: '--data' };
		throw new Problem('data-taken', details, error);
	}
}

export function termOf(db: DatabaseSync): number {
	return Number(meta(db, 'term') ?? 0);
}

function meta(db: DatabaseSync, key: string): string | undefined {
	return db.prepare('SELECT value FROM meta WHERE key = ?').get(key)?.['value'] as
		string | undefined;
}
