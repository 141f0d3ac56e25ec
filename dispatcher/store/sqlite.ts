/**
 * The store on `node:sqlite`, synchronous: one connection, one writer, nothing awaited between begin
 * and commit. It runs in a thread of its own (thread.ts), because a sync to disk stops whoever waits.
 *
 * `locking_mode=EXCLUSIVE` is the ownership of the data folder: an OS lock that dies with the
 * process, taken before the port, so a second service is refused and a killed one leaves nothing.
 */
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Problem } from '../../protocol';
import { copyWhileLiving, demandRoom, sizeOf, syncFile, syncFolderOf } from './copies';
import { deedsOn, type DeedsOfStore } from './deeds';
import { migrations } from './migrations';
import { readsOn, type ReadsOfStore } from './reads';
import type { Reserve } from './reserve';
import { Statements } from './statements';
import type { Deed, DeedAnswer, DeedName, Deeds, ReadName, Reads } from './store';

/** SQLite versions in which checkpointing can lose pages; 3.52.0 was withdrawn. */
export function sqliteIsSafe(version: string): boolean {
	const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
	if (major !== 3 || minor > 52) return major >= 3;
	return minor === 51 && patch >= 3;
}

/** What opening is busy with. */
export type OpenStep = 'lock' | 'store' | 'migrate';

export interface SqliteOptions {
	/** Room that may be given up when the disk is full. */
	reserve?: Pick<Reserve, 'release'>;
	/** Called when a commit found the disk full. */
	onPressed?(): void;
	/** Called as each step begins. */
	onStep?(step: OpenStep): void;
	/** The shape, step by step; only tests have another. */
	steps?: readonly string[];
}

const fullCode = 13;
/** Copies of before a migration that are kept. */
const keptCopies = 2;

export class SqliteStore {
	readonly term: number;
	/** The schema that was found, when it was an older one. */
	readonly migratedFrom: number | null;
	readonly schema: number;
	readonly #db: DatabaseSync;
	readonly #sql: Statements;
	readonly #deeds: DeedsOfStore;
	readonly #reads: ReadsOfStore;

	readonly #options: SqliteOptions;

	constructor(file: string, options: SqliteOptions = {}) {
		this.#options = options;
		const begin = (step: OpenStep) => options.onStep?.(step);
		begin('lock');
		this.#db = new DatabaseSync(file);
		this.#sql = new Statements(this.#db);
		this.#deeds = deedsOn(this.#sql);
		this.#reads = readsOn(this.#sql);
		try {
			this.#lock(() => begin('store'));
			this.#db.exec('PRAGMA wal_autocheckpoint = 8000; PRAGMA cache_size = -32768');
			const steps = options.steps ?? migrations;
			begin('migrate');
			const found = this.#schemaFound(steps.length);
			this.#migrate(file, found, steps);
			this.schema = steps.length;
			this.migratedFrom = found > 0 && found < steps.length ? found : null;
			this.term = this.#onFull(() => this.#nextTerm());
		} catch (error) {
			this.#db.close();
			throw error;
		}
	}

	/** All deeds in one transaction, on disk when this returns. */
	commit(deeds: readonly Deed[]): DeedAnswer[] {
		return this.#onFull(() => this.#commit(deeds));
	}

	/** A write that finds the disk full is done once more in the room that was kept back. */
	#onFull<T>(write: () => T): T {
		try {
			return write();
		} catch (error) {
			const full = (((error as { errcode?: number }).errcode ?? 0) & 0xff) === fullCode;
			if (!full) throw error;
			const freed = this.#options.reserve?.release() ?? false;
			this.#options.onPressed?.();
			if (!freed) throw error;
			return write();
		}
	}

	/** See `Store.snapshot`. */
	async snapshot(file: string): Promise<void> {
		demandRoom(dirname(file), sizeOf(this.#db), 'The backup');
		await copyWhileLiving(this.#db, file);
	}

	#commit(deeds: readonly Deed[]): DeedAnswer[] {
		this.#db.exec('BEGIN IMMEDIATE');
		try {
			const answers = deeds.map((deed) => this.#deed(deed));
			this.#db.exec('COMMIT');
			return answers;
		} catch (error) {
			if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
			throw error;
		}
	}

	read<N extends ReadName>(name: N, args: Reads[N]['in']): Reads[N]['out'] {
		return (this.#reads[name] as (args: Reads[N]['in']) => Reads[N]['out'])(args);
	}

	close(): void {
		if (this.#db.isOpen) this.#db.close();
	}

	/** `next` is called when the lock is ours, and when what fails is the file and not the lock. */
	#lock(next: () => void): void {
		try {
			this.#db.exec('PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE');
			this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
			this.#db.exec('BEGIN IMMEDIATE; COMMIT');
		} catch (error) {
			const primary = ((error as { errcode?: number }).errcode ?? 0) & 0xff;
			if (primary !== 5 && primary !== 6) next();
			throw error;
		}
		next();
	}

	#schemaFound(ours: number): number {
		const version = Number(this.#sql.get('PRAGMA user_version')!['user_version']);
		if (version > ours) throw new Problem('store-newer', { theirs: version, ours });
		return version;
	}

	/** Killed at any moment it goes on at the next start: a step is one transaction with its number. */
	#migrate(file: string, found: number, steps: readonly string[]): void {
		if (found === steps.length) return;
		if (found > 0 && file !== ':memory:') this.#copyBefore(file, found, steps.length);
		for (const [i, step] of steps.entries()) {
			if (i < found) continue;
			this.#db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
		}
	}

	/** The way back, should the new version not be wanted: the file as it was, beside it. */
	#copyBefore(file: string, from: number, to: number): void {
		const folder = dirname(file);
		const stem = `${basename(file, '.db')}.before-`;
		const copy = join(folder, `${stem}${to}-was-${from}.sqlite`);
		// A migration may write everything once more before the old pages are free.
		demandRoom(folder, 2 * sizeOf(this.#db), 'The copy before the upgrade of the store');
		const draft = `${copy}.tmp`;
		rmSync(draft, { force: true });
		this.#sql.run('VACUUM INTO ?', draft);
		syncFile(draft);
		renameSync(draft, copy);
		syncFolderOf(copy);
		const copies = readdirSync(folder)
			.filter((name) => name.startsWith(stem) && name.endsWith('.sqlite'))
			.map((name) => join(folder, name))
			.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
		for (const old of copies.slice(keptCopies)) rmSync(old, { force: true });
	}

	#nextTerm(): number {
		const row = this.#sql.get("SELECT value FROM meta WHERE key = 'term'");
		const term = Number(row?.['value'] ?? 0) + 1;
		this.#sql.run("INSERT OR REPLACE INTO meta (key, value) VALUES ('term', ?)", String(term));
		return term;
	}

	#deed(deed: Deed): DeedAnswer {
		const perform = this.#deeds[deed.do] as (input: Deeds[DeedName]['in']) => DeedAnswer;
		return perform(deed.with);
	}
}
