/**
 * The store on `node:sqlite`, synchronous: one connection, one writer, nothing awaited between begin
 * and commit. It runs in a thread of its own (thread.ts), because a sync to disk blocks its thread.
 *
 * `locking_mode=EXCLUSIVE` is the ownership of the data folder: an OS lock that dies with the
 * process, taken before the port, so a second service is refused and a killed one leaves nothing.
 */
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { limits, Problem } from '../../protocol';
import { undoHalfRestore } from './aside';
import { claimFile, copyWhileLiving, demandRoom, sizeOf, syncFile, syncFolderOf } from './copies';
import { refuseDamage } from './damage';
import { deedsOn, type DeedsOfStore } from './deeds';
import { Ends } from './ends';
import { failPoint, failPointsArmed } from './fail-points';
import { migrations } from './migrations';
import { Outputs } from './output';
import { readsOn, type ReadsOfStore } from './reads';
import { Reserve } from './reserve';
import { Segments } from './segments';
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

/** Where a store lies and how large its parts may become; travels to its thread. */
export interface StoreFiles {
	/** Path of the database file, or `:memory:`. Segments of output lie in a folder beside it. */
	file: string;
	/** Output kept of one job. */
	maxOutputBytes?: number;
	segmentBytes?: number;
	/** Room that is given up when the disk is full. */
	reserve?: { file: string; bytes: number };
}

export interface SqliteOptions extends StoreFiles {
	/** The open file, for a caller that wants to keep hold of it. */
	db?: DatabaseSync;
	/** Called when a commit found the disk full. */
	onPressed?(): void;
	/** Called as each step begins. */
	onStep?(step: OpenStep): void;
	/** The shape, step by step; only tests have another. */
	steps?: readonly string[];
}

const fullCode = 13;
const failedCode = 10;
/** Copies from before a migration that are kept. */
const keptCopies = 2;

export class SqliteStore {
	readonly term: number;
	/** The schema that was found, when it was an older one. */
	readonly migratedFrom: number | null;
	readonly schema: number;
	readonly #db: DatabaseSync;
	readonly #sql: Statements;
	readonly #outputs: Outputs;
	readonly #ends: Ends;
	readonly #deeds: DeedsOfStore;
	readonly #reads: ReadsOfStore;

	readonly #reserve: Reserve | undefined;
	readonly #pressed: () => void;

	constructor({ file, reserve, onPressed, onStep, ...options }: SqliteOptions) {
		const { steps = migrations, maxOutputBytes = limits.maxOutputBytes, segmentBytes } = options;
		this.#reserve = reserve && new Reserve(reserve.file, reserve.bytes);
		this.#pressed = () => onPressed?.();
		const begin = (step: OpenStep) => onStep?.(step);
		begin('lock');
		if (!options.db && file !== ':memory:') claimFile(file);
		this.#db = options.db ?? new DatabaseSync(file);
		this.#sql = new Statements(this.#db);
		try {
			this.#lock(file, () => begin('store'));
			this.#db.exec('PRAGMA wal_autocheckpoint = 8000; PRAGMA cache_size = -8192');
			begin('migrate');
			const found = this.#schemaFound(steps.length);
			this.#migrate(file, found, steps);
			this.schema = steps.length;
			this.migratedFrom = found > 0 && found < steps.length ? found : null;
			if (file !== ':memory:') undoHalfRestore(file);
			const folder = join(dirname(file), 'output');
			this.#outputs = new Outputs(
				this.#sql,
				(known) => (file === ':memory:' ? undefined : new Segments(folder, known, segmentBytes)),
				maxOutputBytes,
			);
			this.term = this.#onFull(() => this.#nextTerm());
		} catch (error) {
			this.#db.close();
			throw error;
		}
		this.#ends = new Ends(this.#sql);
		this.#deeds = deedsOn(this.#sql, this.#outputs, this.#ends);
		this.#reads = readsOn(this.#sql, this.#outputs);
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
			const freed = this.#reserve?.release() ?? false;
			this.#pressed();
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
		failPoint('store:begun');
		try {
			const answers = deeds.map((deed) => this.#deed(deed));
			failPoint('store:done');
			// What the rows refer to is on disk before they are.
			this.#outputs.flush();
			failPoint('store:flushed');
			this.#db.exec('COMMIT');
			failPoint('store:committed');
			if (failPointsArmed) for (const deed of deeds) failPoint(`did:${deed.do}`);
			this.#outputs.committed();
			return answers;
		} catch (error) {
			if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
			this.#outputs.rolledBack();
			this.#ends.doubt();
			throw badDisk(error) ?? error;
		}
	}

	read<N extends ReadName>(name: N, args: Reads[N]['in']): Reads[N]['out'] {
		return (this.#reads[name] as (args: Reads[N]['in']) => Reads[N]['out'])(args);
	}

	close(): void {
		this.#outputs.close();
		if (this.#db.isOpen) this.#db.close();
	}

	/** Calls `next` when the lock is ours, and when it is the file that fails, not the lock. */
	#lock(file: string, next: () => void): void {
		try {
			// The connection has not looked at the file yet.
			refuseDamage(file);
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

	/** If killed at any moment, it goes on at the next start: a step is one transaction with its number. */
	#migrate(file: string, found: number, steps: readonly string[]): void {
		if (found === steps.length) return;
		if (found > 0 && file !== ':memory:') this.#copyBefore(file, found, steps.length);
		for (const [i, step] of steps.entries()) {
			if (i < found) continue;
			this.#db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
		}
		// A log never shrinks by itself, and this one may be as large as the whole store.
		this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
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
		claimFile(draft);
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
		const answer = perform(deed.with);
		if (failPointsArmed) failPoint(`deed:${deed.do}`);
		return answer;
	}
}

/** One number, SQLite's own, for a full or a failing disk, whichever file ran into it. */
function badDisk(error: unknown): Error | undefined {
	const { code, message } = error as NodeJS.ErrnoException;
	const errcode =
		code === 'ENOSPC' || code === 'EDQUOT' ? fullCode : code === 'EIO' ? failedCode : undefined;
	return errcode === undefined
		? undefined
		: Object.assign(new Error(message, { cause: error }), { errcode });
}
