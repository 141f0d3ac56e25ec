/**
 * What this robot has promised, on disk. Every attempt is written here before it starts, its exit
 * record before anybody is told, and it leaves only when the service has everything. The same file
 * is the lock of the data folder: SQLite holds it exclusively and the lock dies with the process.
 *
 *   (nothing) ── start ──> running ── end ──> ended ── forget ──> over
 *       └─────── never ──────────────────────────────────────────> never
 *
 * `running` is synced before the program is called, so a restart knows: what is not `running` here
 * certainly did not start; what became of what is `running` without an exit record, nobody can know.
 * `never` and `over` are tombstones: an assignment that comes late or twice meets them and starts nothing.
 *
 * Disks forget: every record carries a digest, and at the start the file and its log are checked. What
 * is not as it was written is put aside and reported, never acted on; and since a robot that has lost
 * records can no longer prove that it did not start something, its journal gets a new id.
 *
 * Writes of one turn of the event loop share one commit, and commits that come while the disk syncs share
 * the next sync. SQLite writes the log and we sync it, on one of Node's threads: a disk takes its time,
 * and nothing else should wait for it. Knows no protocol and no process.
 */
import { hash, randomUUID } from 'node:crypto';
import {
	chmodSync,
	closeSync,
	existsSync,
	fdatasync,
	fdatasyncSync,
	openSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from 'node:fs';
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import type { Hole, JobAssignment, JobResultMessage, Stream, WireCollectedFile } from '../protocol';
import { walDamage } from '../protocol/wal';
import type { Clock } from './clock';

export type Fate = 'running' | 'ended' | 'over' | 'never';

/** How an attempt ended, as reported to the service. */
export type ExitRecord = Pick<
	JobResultMessage,
	'state' | 'cause' | 'result' | 'output' | 'sha256'
> & { holes?: Partial<Record<Stream, Hole[]>> };

/**
 * How far the files of an attempt are. `fetching` = the program has certainly not been called yet; `sending` = it
 * has ended like this, and what it leaves is on its way. Files are numbered by their place in `found`; null = not
 * looked through yet.
 */
export type FilesRecord =
	| { stage: 'fetching' | 'placed' }
	| { stage: 'sending'; exit: ExitRecord; found: (WireCollectedFile & { mode: number })[] | null };

/** How to find what an attempt started, once the agent is gone. */
export interface Trace {
	/** Unguessable text in the environment of every process of the attempt. */
	mark: string;
	/** Null when the agent died before it could write it down. */
	pid: number | null;
	/** Tells the process from a later one with the same pid; while there is no pid, the machine's boot. */
	birth: string | null;
}

export interface HeldRecord {
	assignment: JobAssignment;
	startedAt: number;
	trace: Trace;
	/** Null while it runs, or if nobody knows how it ended. */
	exit: ExitRecord | null;
	/** Null for one without files. */
	files: FilesRecord | null;
}

/** The data folder cannot be used; the message is one sentence for the owner. */
export class JournalUnusable extends Error {
	override readonly name = 'JournalUnusable';
}

const schemaVersion = 3;
const keptTombstones = 10_000;
/** How long a write that nobody waits for may stay uncommitted. */
const lazyMs = 1_000;

const schema = `
	create table meta (key text primary key, value text not null) strict;
	create table attempts (
		job_id text not null,
		epoch integer not null,
		fate text not null check (fate in ('running', 'ended', 'over', 'never')),
		started_at integer,
		assignment text,
		mark text,
		pid integer,
		birth text,
		exit_record text,
		primary key (job_id, epoch),
		check (fate not in ('running', 'ended') or (assignment is not null and mark is not null)),
		check ((fate = 'ended') = (exit_record is not null))
	) strict;
	create index attempts_fate on attempts (fate);
	pragma user_version = 1;
`;
const withDigests = `
	alter table attempts add column start_digest text;
	alter table attempts add column exit_digest text;
	pragma user_version = 2;
`;

const withFiles = `
	alter table attempts add column files text;
	alter table attempts add column files_digest text;
	pragma user_version = 3;
`;

type Row = Record<string, SQLOutputValue>;

interface Waiting {
	resolve: () => void;
	reject: (error: Error) => void;
}

export class Journal {
	/** Made with the file; another one means that this robot has lost its memory. */
	readonly id: string;
	/** What was found to be damaged when it was opened, as sentences for the owner. */
	readonly damage: readonly string[];
	/**
	 * The disk failed to sync: what was written since the last sync that worked may be gone, and no later sync
	 * would tell. Nothing is promised from then on; what was promised before, the next start finds again.
	 */
	onBroken: ((error: Error) => void) | undefined;
	readonly #db: DatabaseSync;
	/** SQLite's log, where a commit goes first. */
	readonly #log: number;
	readonly #clock: Clock;
	readonly #statements: Record<
		'fate' | 'start' | 'trace' | 'files' | 'end' | 'over' | 'never',
		StatementSync
	>;
	#waiting: Waiting[] = [];
	/** Their writes are committed, but not yet synced. */
	#unsynced: Waiting[] = [];
	#syncing = false;
	#broken: Error | undefined;
	#commitPlanned = false;
	#lazyPlanned = false;
	/** Processes of running attempts that are not written down yet. */
	readonly #notes = new Map<
		string,
		[pid: number, birth: string | null, jobId: string, epoch: number]
	>();
	/** Ends the wait of a lazy write: a closed journal keeps no timer, and no process, alive. */
	readonly #closing = new AbortController();
	#closed = false;

	private constructor(
		db: DatabaseSync,
		log: number,
		id: string,
		damage: readonly string[],
		clock: Clock,
	) {
		this.#db = db;
		this.#log = log;
		this.id = id;
		this.damage = damage;
		this.#clock = clock;
		this.#statements = {
			fate: db.prepare('select fate from attempts where job_id = ? and epoch = ?'),
			start: db.prepare(
				`insert into attempts (job_id, epoch, fate, started_at, assignment, mark, birth, start_digest, files, files_digest)
				values (?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)`,
			),
			trace: db.prepare(
				`update attempts set pid = ?, birth = ? where job_id = ? and epoch = ? and fate = 'running'`,
			),
			files: db.prepare(
				`update attempts set files = ?, files_digest = ? where job_id = ? and epoch = ? and fate = 'running'`,
			),
			end: db.prepare(
				`update attempts set fate = 'ended', exit_record = ?, exit_digest = ?, files = null
				where job_id = ? and epoch = ? and fate = 'running'`,
			),
			over: db.prepare(
				`update attempts set fate = 'over', assignment = null, mark = null, exit_record = null, files = null
				where job_id = ? and epoch = ? and fate = 'ended'`,
			),
			never: db.prepare(
				`insert into attempts (job_id, epoch, fate) values (?, ?, 'never')
				on conflict do update set fate = 'never', assignment = null, mark = null
				where fate = 'running'`,
			),
		};
	}

	/** Takes the lock of the folder, or throws `JournalUnusable` at once. */
	static open(path: string, clock: Clock): Journal {
		let db: DatabaseSync | undefined;
		try {
			// Read before SQLite opens it, which would drop whatever lies behind the damage.
			const log = existsSync(`${path}-wal`) ? readFileSync(`${path}-wal`) : Buffer.alloc(0);
			makePrivate(path);
			db = new DatabaseSync(path);
			// In this order: an exclusive WAL needs no shared memory and is locked from its first read.
			db.exec('pragma locking_mode = exclusive; pragma journal_mode = wal;');
			db.exec('pragma synchronous = full; begin immediate; commit;');
			const version = Number(db.prepare('pragma user_version').get()!.user_version);
			if (version > schemaVersion) {
				throw new JournalUnusable(
					`The journal ${path} was written by a newer agent (schema ${version}, this one knows ${schemaVersion}); start that version.`,
				);
			}
			if (version === 0) {
				db.exec(`begin immediate; ${schema}`);
				db.prepare(`insert into meta values ('journal_id', ?)`).run(randomUUID());
				db.exec('commit');
			}
			if (version < 2) db.exec(`begin immediate; ${withDigests}; commit`);
			if (version < 3) db.exec(`begin immediate; ${withFiles}; commit`);
			const damage = mend(db, path, log);
			// The index would be of use only here, where everything is read anyway; every job would write to
			// it three times.
			db.exec('drop index if exists attempts_fate');
			db.prepare(
				`delete from attempts where fate in ('over', 'never') and rowid not in
				(select rowid from attempts where fate in ('over', 'never') order by rowid desc limit ?)`,
			).run(keptTombstones);
			const row = db.prepare(`select value from meta where key = 'journal_id'`).get()!;
			// From here on a commit writes the log, and `#sync` syncs it. SQLite still syncs where its order on
			// disk matters: the head of a log that begins anew, and both files around a checkpoint.
			db.exec('pragma synchronous = normal');
			return new Journal(db, openSync(`${path}-wal`, 'r+'), String(row.value), damage, clock);
		} catch (error) {
			if (db?.isOpen) db.close();
			if (error instanceof JournalUnusable) throw error;
			const { errcode, message } = error as { errcode?: number; message: string };
			throw new JournalUnusable(
				errcode === 5 // SQLITE_BUSY
					? `The data folder of ${path} is in use by another robot-fleet-agent; stop it, or choose another folder with --data.`
					: `The journal ${path} cannot be used (${message}); repair the folder, or choose another one with --data.`,
				{ cause: error },
			);
		}
	}

	/** Attempts that are running, or whose end the service has not fully taken. */
	held(): HeldRecord[] {
		this.#writeNotes();
		const rows = this.#db
			.prepare(`select * from attempts where fate in ('running', 'ended') order by rowid`)
			.all();
		return rows.map((row) => ({
			assignment: JSON.parse(String(row.assignment)) as JobAssignment,
			startedAt: Number(row.started_at),
			trace: {
				mark: String(row.mark),
				pid: row.pid === null ? null : Number(row.pid),
				birth: row.birth === null ? null : String(row.birth),
			},
			exit: row.exit_record === null ? null : (JSON.parse(String(row.exit_record)) as ExitRecord),
			files: this.#filesIn(row),
		}));
	}

	/** What was written about an attempt, this turn's writes included. */
	fate(jobId: string, epoch: number): Fate | undefined {
		return this.#statements.fate.get(jobId, epoch)?.fate as Fate | undefined;
	}

	/** Resolves when it is on disk. Only then may the program be called, or the service be told. */
	start(
		assignment: JobAssignment,
		mark: string,
		startedAt: number,
		boot: string | null = null,
		files: FilesRecord | null = null,
	): Promise<void> {
		const { job_id, epoch } = assignment;
		const text = JSON.stringify(assignment);
		const digest = digestOf(job_id, epoch, startedAt, text, mark);
		return this.#write(() =>
			this.#statements.start.run(
				job_id,
				epoch,
				startedAt,
				text,
				mark,
				boot,
				digest,
				...filesText(job_id, epoch, files),
			),
		);
	}

	/** Resolves when it is on disk. Only then may the program be called, or a file be sent. */
	noteFiles(jobId: string, epoch: number, files: FilesRecord): Promise<void> {
		return this.#write(() =>
			this.#statements.files.run(...filesText(jobId, epoch, files), jobId, epoch),
		);
	}

	/** Resolves when it is on disk. Only then may the service be told. */
	end(jobId: string, epoch: number, exit: ExitRecord): Promise<void> {
		const text = JSON.stringify(exit);
		const digest = digestOf(jobId, epoch, text);
		this.#notes.delete(`${jobId}/${epoch}`);
		return this.#write(() => this.#statements.end.run(text, digest, jobId, epoch));
	}

	/** Resolves when it is on disk: this attempt has not started here and never will. */
	never(jobId: string, epoch: number): Promise<void> {
		return this.#write(() => this.#statements.never.run(jobId, epoch));
	}

	/**
	 * Written down within a second, unless it has ended by then; a crash before that costs only a slower
	 * search for left-overs.
	 */
	noteProcess(jobId: string, epoch: number, pid: number, birth: string | null): void {
		if (this.#closed) return;
		this.#notes.set(`${jobId}/${epoch}`, [pid, birth, jobId, epoch]);
		this.#commitSoon();
	}

	/** Carried by the next commit; a crash before it means one more result that is acknowledged again. */
	forget(jobId: string, epoch: number): void {
		if (this.#closed) return;
		this.#writeHint(() => this.#statements.over.run(jobId, epoch));
		this.#commitSoon();
	}

	/** Commits what is waiting and releases the folder. */
	close(): void {
		if (this.#closed) return;
		this.#writeNotes();
		this.#commit();
		this.#closed = true;
		this.#closing.abort();
		const those = this.#unsynced;
		this.#unsynced = [];
		try {
			if (this.#broken !== undefined) throw this.#broken;
			fdatasyncSync(this.#log);
			for (const { resolve } of those) resolve();
		} catch (error) {
			for (const { reject } of those) reject(error as Error);
		}
		// A sync under way needs the handle until it is done.
		if (!this.#syncing) closeSync(this.#log);
		this.#db.close();
	}

	/** A damaged record counts for nothing; nor does an old one prove anything when newer ones were lost. */
	#filesIn({ job_id, epoch, files, files_digest }: Row): FilesRecord | null {
		if (files == null || differs(files_digest, job_id, epoch, files)) return null;
		const record = JSON.parse(String(files)) as FilesRecord;
		return record.stage === 'fetching' && this.damage.length > 0 ? { stage: 'placed' } : record;
	}

	async #write(statement: () => unknown): Promise<void> {
		this.#begin();
		try {
			statement();
		} catch (error) {
			// Only this statement was taken back; the others of this turn stand, unless the disk took them all back.
			this.#lookWhatIsLeft(error as Error);
			throw error;
		}
		const committed = new Promise<void>((resolve, reject) => {
			this.#waiting.push({ resolve, reject });
		});
		if (!this.#commitPlanned) {
			this.#commitPlanned = true;
			setImmediate(() => {
				this.#commitPlanned = false;
				this.#commit();
			});
		}
		await committed;
	}

	#writeNotes(): void {
		const notes = [...this.#notes.values()];
		this.#notes.clear();
		for (const note of notes) this.#writeHint(() => this.#statements.trace.run(...note));
	}

	/** A hint by contract: a disk that refuses it costs what a crash would. */
	#writeHint(statement: () => unknown): void {
		try {
			this.#begin();
			statement();
		} catch (error) {
			this.#lookWhatIsLeft(error as Error);
		}
	}

	#commitSoon(): void {
		if (this.#lazyPlanned) return;
		this.#lazyPlanned = true;
		void this.#clock.sleep(lazyMs, this.#closing.signal).then(() => {
			this.#lazyPlanned = false;
			if (this.#closed) return;
			this.#writeNotes();
			this.#commit();
		});
	}

	#begin(): void {
		if (this.#closed) throw new Error('the journal is closed');
		if (this.#broken !== undefined) throw this.#broken;
		this.#lookWhatIsLeft();
		if (!this.#db.isTransaction) this.#db.exec('begin immediate');
	}

	/**
	 * A disk that is full or fails makes SQLite roll back the whole transaction, whichever statement runs into it:
	 * what was written earlier in this turn is gone.
	 */
	#lookWhatIsLeft(why?: Error): void {
		if (this.#db.isTransaction || this.#waiting.length === 0) return;
		const reason = why ?? new Error('the disk took it back');
		for (const { reject } of this.#waiting.splice(0)) reject(reason);
	}

	#commit(): void {
		if (this.#closed) return;
		this.#lookWhatIsLeft();
		if (!this.#db.isTransaction) return;
		const waiting = this.#waiting;
		this.#waiting = [];
		try {
			this.#db.exec('commit');
		} catch (error) {
			if (this.#db.isTransaction) this.#db.exec('rollback');
			for (const { reject } of waiting) reject(error as Error);
			return;
		}
		this.#unsynced.push(...waiting);
		this.#sync();
	}

	#sync(): void {
		if (this.#syncing || this.#closed || this.#unsynced.length === 0) return;
		const those = this.#unsynced;
		this.#unsynced = [];
		this.#syncing = true;
		fdatasync(this.#log, (error) => {
			this.#syncing = false;
			if (this.#closed) closeSync(this.#log);
			if (error !== null) this.#break(error, those);
			else for (const { resolve } of those) resolve();
			this.#sync();
		});
	}

	#break(error: Error, those: readonly Waiting[]): void {
		this.#broken = new Error(`the disk failed to sync the journal (${error.message})`);
		const lost = [...those, ...this.#unsynced, ...this.#waiting];
		this.#unsynced = [];
		this.#waiting = [];
		for (const { reject } of lost) reject(this.#broken);
		this.onBroken?.(this.#broken);
	}
}

/**
 * What jobs are, and print, is nobody else's business, however open a folder somebody made for us. Done before SQLite
 * has the file: closing it a second time would give up its lock. The log gets the permissions of the file.
 */
function makePrivate(path: string): void {
	closeSync(openSync(path, 'a', 0o600));
	for (const file of [path, `${path}-wal`]) {
		try {
			chmodSync(file, 0o600);
		} catch {
			// There is no log yet, or the file system has no permissions.
		}
	}
}

/** Takes out what is not as it was written, after making a copy; says what that was. */
function mend(db: DatabaseSync, path: string, log: Buffer): string[] {
	const [row] = db.prepare('pragma integrity_check(1)').all();
	const check = String(row?.integrity_check).replaceAll(/\s+/g, ' ');
	if (check !== 'ok') throw new Error(`it is damaged: ${check}`);
	const found: string[] = [];
	const torn = walDamage(log);
	if (torn) {
		found.push(
			`The log of the journal ${path} is damaged at byte ${torn.offset}, so what this robot wrote down after that is lost.`,
		);
	}
	const forgotten: Row[] = [];
	const unsure: Row[] = [];
	const rows = db.prepare(`select *, rowid from attempts where fate in ('running', 'ended')`).all();
	for (const row of rows) {
		const { job_id, epoch, started_at, assignment, mark, exit_record } = row;
		if (differs(row.start_digest, job_id, epoch, started_at, assignment, mark)) {
			forgotten.push(row);
			found.push(`What the journal ${path} says of the start of job ${job_id} is damaged.`);
		} else if (row.fate === 'ended' && differs(row.exit_digest, job_id, epoch, exit_record)) {
			unsure.push(row);
			found.push(`What the journal ${path} says of the end of job ${job_id} is damaged.`);
		}
	}
	if (found.length === 0) return found;
	// Copied by SQLite, not by us: opening and closing the file here a second time would drop the lock that this
	// process has on it, and another agent could take the folder.
	for (const file of [`${path}.damaged`, `${path}-wal.damaged`]) {
		rmSync(file, { force: true });
		writeFileSync(file, '', { mode: 0o600 });
	}
	db.prepare('vacuum into ?').run(`${path}.damaged`);
	writeFileSync(`${path}-wal.damaged`, log);
	db.exec('begin immediate');
	for (const { rowid } of forgotten) db.prepare('delete from attempts where rowid = ?').run(rowid!);
	for (const { rowid } of unsure) {
		// It ran, and nobody can know any more how it ended.
		db.prepare(
			`update attempts set fate = 'running', exit_record = null, exit_digest = null where rowid = ?`,
		).run(rowid!);
	}
	db.prepare(`update meta set value = ? where key = 'journal_id'`).run(randomUUID());
	db.exec('commit');
	return found;
}

/** Records of older versions have none. */
function differs(
	digest: SQLOutputValue | undefined,
	...parts: (SQLOutputValue | undefined)[]
): boolean {
	return digest != null && digest !== digestOf(...parts);
}

function filesText(
	jobId: string,
	epoch: number,
	files: FilesRecord | null,
): [string | null, string | null] {
	if (files === null) return [null, null];
	const text = JSON.stringify(files);
	return [text, digestOf(jobId, epoch, text)];
}

function digestOf(...parts: (SQLOutputValue | undefined)[]): string {
	return hash('sha256', JSON.stringify(parts), 'base64url');
}
