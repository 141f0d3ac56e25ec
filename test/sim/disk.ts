/**
 * The real SQLite store behind a disk that fails when told: the service dies before a commit, after
 * it, or the commit itself is refused. Requests are served one after the other, as by the store's own
 * thread; the file outlives every life of the service.
 */
import { DatabaseSync } from 'node:sqlite';
import { StoreFull } from '../../dispatcher/store/open';
import { SqliteStore } from '../../dispatcher/store/sqlite';
import type { Deed, DeedAnswer, ReadName, Reads, Store } from '../../dispatcher/store/store';
import type { Kernel, Process } from './kernel';

/** What happens at a certain commit. */
export type CommitFault =
	/** The service dies; nothing was written. */
	| 'kill-before'
	/** It was written; the service dies before it hears so. */
	| 'kill-after'
	/** The sync fails, and nothing was written; or all of it was. */
	| 'error-before'
	| 'error-after';

export interface DiskOptions {
	/** Milliseconds a commit and a read take; 0 = answered at once. */
	commitMs(): number;
	readMs: number;
	/** By number of the commit, over all lives. */
	faultOf(commit: number): CommitFault | undefined;
}

export interface DiskHooks {
	/** The service dies here and now. */
	kill(): void;
	took(deeds: readonly Deed[], answers: readonly DeedAnswer[]): void;
	/** The store itself refused a commit: a deed that the schema does not allow. */
	refused(error: Error): void;
	injected(fault: CommitFault | 'disk-full'): void;
	/** What a mutant does to a deed before it is taken, and to an answer before it is given. */
	bent?: {
		deed?(deed: Deed): Deed;
		read?(name: ReadName, answer: unknown): unknown;
	};
}

/** One file for all worlds of this thread: to empty it costs less than to make another. */
class File {
	readonly #db = new DatabaseSync(':memory:');
	readonly sqlite = new SqliteStore({ file: ':memory:', db: this.#db });
	readonly #empty: string;

	constructor() {
		const tables = this.#db
			.prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
			.all()
			.map(({ name }) => `DELETE FROM ${String(name)};`);
		this.#empty = `BEGIN; ${tables.join(' ')} COMMIT`;
	}

	wipe(): void {
		this.#db.exec(this.#empty);
	}
}

let file: File | undefined;

export class Disk {
	/** Commits that reached the disk, over all lives. */
	commits = 0;
	/** Nothing can be written while it is. */
	full = false;
	/** Requests that were not answered yet, in this life. */
	pending = 0;
	readonly #kernel: Kernel;
	readonly #options: DiskOptions;
	readonly #hooks: DiskHooks;
	readonly #sqlite: SqliteStore;

	constructor(kernel: Kernel, options: DiskOptions, hooks: DiskHooks) {
		this.#kernel = kernel;
		this.#options = options;
		this.#hooks = hooks;
		file ??= new File();
		file.wipe();
		this.#sqlite = file.sqlite;
	}

	/** The store, for one life of the service. */
	open(owner: Process): Store {
		const term = Number(this.#sqlite.read('meta', { key: 'term' }) ?? 0) + 1;
		this.#sqlite.commit([{ do: 'setMeta', with: { key: 'term', value: String(term) } }]);
		this.pending = 0;
		let freeAt = 0;
		const ask = <T>(ms: number, perform: () => T): Promise<T> => {
			if (!owner.alive) return new Promise(() => undefined);
			const wait = freeAt > this.#kernel.now || ms > 0;
			freeAt = Math.max(freeAt, this.#kernel.now) + ms;
			this.pending += 1;
			return new Promise((resolve, reject) => {
				const answer = () => {
					try {
						const answer = perform();
						if (owner.alive) resolve(answer);
					} catch (error) {
						if (owner.alive) reject(error as Error);
					}
					if (owner.alive) this.pending -= 1;
				};
				if (wait) this.#kernel.after(freeAt - this.#kernel.now, owner, answer);
				else answer();
			});
		};
		return {
			term,
			schema: this.#sqlite.schema,
			migratedFrom: null,
			onPressed: () => undefined,
			snapshot: () => Promise.reject(new Error('nobody takes a copy of this store')),
			commit: (deeds) => ask(this.#options.commitMs(), () => this.#commit(deeds)),
			read: (name, args) => ask(this.#options.readMs, () => this.#answer(name, args)),
			close: async () => undefined,
		};
	}

	/** What lies on the disk, whoever lives. */
	read<N extends ReadName>(name: N, args: Reads[N]['in']): Reads[N]['out'] {
		return this.#sqlite.read(name, args);
	}

	#commit(asked: Deed[]): DeedAnswer[] {
		const { bent } = this.#hooks;
		const deeds = bent?.deed ? asked.map((deed) => bent.deed!(deed)) : asked;
		this.commits += 1;
		const fault = this.#options.faultOf(this.commits);
		if (this.full) {
			this.#hooks.injected('disk-full');
			throw new StoreFull('database or disk is full');
		}
		if (fault) this.#hooks.injected(fault);
		if (fault === 'kill-before') {
			this.#hooks.kill();
			return [];
		}
		if (fault === 'error-before') throw new Error('disk I/O error');
		const answers = this.#write(deeds);
		this.#hooks.took(deeds, answers);
		if (fault === 'kill-after') this.#hooks.kill();
		if (fault === 'error-after') throw new Error('disk I/O error');
		return answers;
	}

	#answer<N extends ReadName>(name: N, args: Reads[N]['in']): Reads[N]['out'] {
		const answer = this.#sqlite.read(name, args);
		const { bent } = this.#hooks;
		return bent?.read ? (bent.read(name, answer) as Reads[N]['out']) : answer;
	}

	#write(deeds: Deed[]): DeedAnswer[] {
		try {
			return this.#sqlite.commit(deeds);
		} catch (error) {
			this.#hooks.refused(error as Error);
			throw error;
		}
	}
}
