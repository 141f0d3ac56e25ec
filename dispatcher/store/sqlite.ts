/**
 * The store on `node:sqlite`, synchronous: one connection, one writer, nothing awaited between begin
 * and commit. It runs in a thread of its own (thread.ts), because a sync to disk stops whoever waits.
 *
 * `locking_mode=EXCLUSIVE` is the ownership of the data folder: an OS lock that dies with the
 * process, taken before the port, so a second service is refused and a killed one leaves nothing.
 */
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Problem } from '../../protocol';
import { deedsOn, type DeedsOfStore } from './deeds';
import { limits } from '../../protocol';
import { migrations } from './migrations';
import { Outputs } from './output';
import { readsOn, type ReadsOfStore } from './reads';
import { Segments } from './segments';
import { Statements } from './statements';
import type { Deed, DeedAnswer, DeedName, Deeds, ReadName, Reads } from './store';

/** SQLite versions in which checkpointing can lose pages; 3.52.0 was withdrawn. */
export function sqliteIsSafe(version: string): boolean {
	const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
	if (major !== 3 || minor > 52) return major >= 3;
	return minor === 51 && patch >= 3;
}

export interface SqliteOptions {
	/** Path of the database file, or `:memory:`. Segments of output lie in a folder beside it. */
	file: string;
	/** The open file, when whoever opens the store wants to keep a hand on it. */
	db?: DatabaseSync;
	/** Output kept of one job. */
	maxOutputBytes?: number;
	segmentBytes?: number;
}

export class SqliteStore {
	readonly term: number;
	readonly #db: DatabaseSync;
	readonly #sql: Statements;
	readonly #outputs: Outputs;
	readonly #deeds: DeedsOfStore;
	readonly #reads: ReadsOfStore;

	constructor({
		file,
		db = new DatabaseSync(file),
		maxOutputBytes = limits.maxOutputBytes,
		segmentBytes,
	}: SqliteOptions) {
		this.#db = db;
		this.#sql = new Statements(this.#db);
		try {
			this.#db.exec('PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE');
			this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
			this.#db.exec('PRAGMA wal_autocheckpoint = 8000; PRAGMA cache_size = -32768');
			this.#db.exec('BEGIN IMMEDIATE; COMMIT');
			this.#migrate();
			const folder = join(dirname(file), 'output');
			this.#outputs = new Outputs(
				this.#sql,
				(known) => (file === ':memory:' ? undefined : new Segments(folder, known, segmentBytes)),
				maxOutputBytes,
			);
			this.term = this.#nextTerm();
		} catch (error) {
			this.#db.close();
			throw error;
		}
		this.#deeds = deedsOn(this.#sql, this.#outputs);
		this.#reads = readsOn(this.#sql, this.#outputs);
	}

	/** All deeds in one transaction, on disk when this returns. */
	commit(deeds: readonly Deed[]): DeedAnswer[] {
		this.#db.exec('BEGIN IMMEDIATE');
		try {
			const answers = deeds.map((deed) => this.#deed(deed));
			// What the rows refer to is on disk before they are.
			this.#outputs.flush();
			this.#db.exec('COMMIT');
			this.#outputs.committed();
			return answers;
		} catch (error) {
			if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
			this.#outputs.rolledBack();
			throw fullDisk(error) ?? error;
		}
	}

	read<N extends ReadName>(name: N, args: Reads[N]['in']): Reads[N]['out'] {
		return (this.#reads[name] as (args: Reads[N]['in']) => Reads[N]['out'])(args);
	}

	close(): void {
		this.#outputs.close();
		if (this.#db.isOpen) this.#db.close();
	}

	#migrate(): void {
		const version = Number(this.#sql.get('PRAGMA user_version')!['user_version']);
		if (version > migrations.length) {
			throw new Problem('store-newer', { theirs: version, ours: migrations.length });
		}
		for (const [i, step] of migrations.entries()) {
			if (i < version) continue;
			this.#db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
		}
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

/** A full disk is told by one number, whichever file found it: SQLite's own. */
function fullDisk(error: unknown): Error | undefined {
	const { code, message } = error as NodeJS.ErrnoException;
	if (code !== 'ENOSPC' && code !== 'EDQUOT') return undefined;
	return Object.assign(new Error(message, { cause: error }), { errcode: 13 });
}
