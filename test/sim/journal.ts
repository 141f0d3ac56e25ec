/**
 * The disk of a robot: the agent's journal and spool with the promises of the real ones (agent/
 * journal.ts, agent/spool.ts), kept in memory that outlives the agent. What was committed or synced
 * survives everything; what was only written survives a kill, but no power cut.
 */
import { createHash } from 'node:crypto';
import type {
	ExitRecord,
	Fate,
	FilesRecord,
	HeldRecord,
	Journal,
	Trace,
} from '../../agent/journal';
import type { AttemptSpool, Spool, SpoolPiece, SpoolRecord } from '../../agent/spool';
import type { Hole, JobAssignment, OutputLengths } from '../../protocol';
import { type Stream, streams } from '../../protocol/frames';
import type { Kernel, Process } from './kernel';

interface Row {
	jobId: string;
	epoch: number;
	fate: Fate;
	startedAt: number;
	assignment: JobAssignment | null;
	trace: Trace | null;
	exit: ExitRecord | null;
	files: FilesRecord | null;
}

type Write = (rows: Map<string, Row>) => void;

export interface JournalHooks {
	/** Milliseconds until a commit is on disk. */
	commitMs(): number;
	/** Nothing can be written while it says so. */
	full(): boolean;
	committed(): void;
}

/** How long a write that nobody waits for may stay uncommitted. */
const lazyMs = 1_000;

/** What lies on the disk. */
export class JournalFile {
	id: string;
	rows = new Map<string, Row>();

	constructor(id: string) {
		this.id = id;
	}

	/** Nothing in it is still to be done. */
	get isClosed(): boolean {
		for (const { fate } of this.rows.values()) {
			if (fate === 'running' || fate === 'ended') return false;
		}
		return true;
	}

	/** The file is lost, and another one is made. */
	lose(): void {
		this.id += '+';
		this.rows = new Map();
	}
}

/** The journal as one life of the agent holds it. */
export class SimJournal implements Pick<Journal, keyof Journal> {
	readonly id: string;
	readonly damage = [];
	/** Never called: what these disks cannot write they refuse. */
	onBroken = undefined;
	readonly #file: JournalFile;
	readonly #kernel: Kernel;
	readonly #owner: Process;
	readonly #hooks: JournalHooks;
	/** With what is written and not yet committed. */
	#view: Map<string, Row>;
	#writes: Write[] = [];
	#waiting: { resolve(): void; reject(error: Error): void }[] = [];
	#planned = false;
	#lazilyPlanned = false;

	constructor(file: JournalFile, kernel: Kernel, owner: Process, hooks: JournalHooks) {
		this.id = file.id;
		this.#file = file;
		this.#kernel = kernel;
		this.#owner = owner;
		this.#hooks = hooks;
		this.#view = new Map(file.rows);
	}

	held(): HeldRecord[] {
		return [...this.#view.values()]
			.filter(({ fate }) => fate === 'running' || fate === 'ended')
			.map(({ assignment, startedAt, trace, exit, files }) => ({
				assignment: assignment!,
				startedAt,
				trace: { ...trace! },
				exit,
				files,
			}));
	}

	fate(jobId: string, epoch: number): Fate | undefined {
		return this.#view.get(keyOf(jobId, epoch))?.fate;
	}

	start(
		assignment: JobAssignment,
		mark: string,
		startedAt: number,
		_boot: string | null = null,
		files: FilesRecord | null = null,
	): Promise<void> {
		const { job_id: jobId, epoch } = assignment;
		return this.#write((rows) => {
			if (rows.has(keyOf(jobId, epoch))) throw new Error('UNIQUE constraint failed');
			const trace = { mark, pid: null, birth: null };
			rows.set(keyOf(jobId, epoch), {
				jobId,
				epoch,
				fate: 'running',
				startedAt,
				assignment,
				trace,
				exit: null,
				files,
			});
		});
	}

	end(jobId: string, epoch: number, exit: ExitRecord): Promise<void> {
		return this.#write((rows) =>
			this.#update(rows, jobId, epoch, 'running', { fate: 'ended', exit }),
		);
	}

	noteFiles(jobId: string, epoch: number, files: FilesRecord): Promise<void> {
		return this.#write((rows) => this.#update(rows, jobId, epoch, 'running', { files }));
	}

	never(jobId: string, epoch: number): Promise<void> {
		const gone = { fate: 'never' as const, assignment: null, trace: null };
		return this.#write((rows) => {
			if (rows.has(keyOf(jobId, epoch))) this.#update(rows, jobId, epoch, 'running', gone);
			else
				rows.set(keyOf(jobId, epoch), {
					jobId,
					epoch,
					startedAt: 0,
					exit: null,
					files: null,
					...gone,
				});
		});
	}

	noteProcess(jobId: string, epoch: number, pid: number, birth: string | null): void {
		this.#writeLazily((rows) => {
			const trace = rows.get(keyOf(jobId, epoch))?.trace;
			if (trace) this.#update(rows, jobId, epoch, 'running', { trace: { ...trace, pid, birth } });
		});
	}

	forget(jobId: string, epoch: number): void {
		const over = { fate: 'over' as const, assignment: null, trace: null, exit: null };
		this.#writeLazily((rows) => this.#update(rows, jobId, epoch, 'ended', over));
	}

	close(): void {
		this.#commit();
	}

	#update(
		rows: Map<string, Row>,
		jobId: string,
		epoch: number,
		from: Fate,
		change: Partial<Row>,
	): void {
		const key = keyOf(jobId, epoch);
		const row = rows.get(key);
		if (row?.fate === from) rows.set(key, { ...row, ...change });
	}

	async #write(write: Write): Promise<void> {
		write(this.#view);
		this.#writes.push(write);
		const committed = new Promise<void>((resolve, reject) => {
			this.#waiting.push({ resolve, reject });
		});
		if (!this.#planned) {
			this.#planned = true;
			this.#kernel.after(this.#hooks.commitMs(), this.#owner, () => {
				this.#planned = false;
				this.#commit();
			});
		}
		await committed;
	}

	#writeLazily(write: Write): void {
		write(this.#view);
		this.#writes.push(write);
		if (this.#lazilyPlanned) return;
		this.#lazilyPlanned = true;
		this.#kernel.after(lazyMs, this.#owner, () => {
			this.#lazilyPlanned = false;
			this.#commit();
		});
	}

	#commit(): void {
		const waiting = this.#waiting.splice(0);
		const writes = this.#writes.splice(0);
		if (writes.length === 0) return;
		if (this.#hooks.full()) {
			this.#view = new Map(this.#file.rows);
			for (const { reject } of waiting) reject(new Error('database or disk is full'));
			return;
		}
		for (const write of writes) write(this.#file.rows);
		this.#hooks.committed();
		if (!this.#owner.alive) return;
		for (const { resolve } of waiting) resolve();
	}
}

interface Bytes {
	data: Buffer;
	synced: number;
}

/** Output files of a robot, by attempt and stream. */
export class SpoolFolder {
	readonly files = new Map<string, Bytes>();

	/** What was not synced is gone, or only its beginning is there. */
	powerCut(chance: () => number): void {
		for (const bytes of this.files.values()) {
			const left = bytes.synced + Math.floor(chance() * (bytes.data.length - bytes.synced + 1));
			bytes.data = bytes.data.subarray(0, left);
			bytes.synced = left;
		}
	}
}

export class SimSpool implements Pick<Spool, keyof Spool> {
	readonly #folder: SpoolFolder;

	constructor(folder: SpoolFolder) {
		this.#folder = folder;
	}

	open(jobId: string, epoch: number, record?: SpoolRecord | 'new'): AttemptSpool {
		const key = keyOf(jobId, epoch);
		const known = record === 'new' ? undefined : record;
		return new SimAttemptSpool(this.#folder, key, known) as unknown as AttemptSpool;
	}

	sweep(held: readonly { jobId: string; epoch: number }[]): void {
		const known = new Set(held.map(({ jobId, epoch }) => keyOf(jobId, epoch)));
		for (const name of [...this.#folder.files.keys()]) {
			if (!known.has(name.slice(0, name.lastIndexOf('.')))) this.#folder.files.delete(name);
		}
	}
}

const none = Buffer.alloc(0);

class SimAttemptSpool implements Pick<AttemptSpool, keyof AttemptSpool> {
	readonly #folder: SpoolFolder;
	readonly #key: string;
	readonly #record: SpoolRecord | undefined;
	readonly overflows = false;
	#removed = false;

	constructor(folder: SpoolFolder, key: string, record: SpoolRecord | undefined) {
		this.#folder = folder;
		this.#key = key;
		this.#record = record;
	}

	get lengths(): OutputLengths {
		return { stdout: this.#length('stdout'), stderr: this.#length('stderr') };
	}

	/** What a power cut took of an attempt that had ended. */
	holes(stream: Stream): Hole[] {
		const from = this.#file(stream).length;
		const to = this.#length(stream);
		return from < to ? [{ from, to, reason: 'damaged' }] : [];
	}

	async digest(stream: Stream): Promise<string | undefined> {
		const data = this.#file(stream);
		return data.length === 0 ? undefined : createHash('sha256').update(data).digest('hex');
	}

	async append(stream: Stream, chunk: Uint8Array): Promise<void> {
		const name = `${this.#key}.${stream}`;
		const known = this.#folder.files.get(name);
		const data = Buffer.concat([known?.data ?? none, chunk]);
		this.#folder.files.set(name, { data, synced: known?.synced ?? 0 });
	}

	/** In a simulated world the agent writes: the real keeper is tried in test/fault. */
	follow(): never {
		throw new Error('nobody else writes here');
	}

	stateOf(): never {
		return this.follow();
	}

	recollect(): void {}

	async read(stream: Stream, offset: number, maxBytes: number): Promise<SpoolPiece> {
		if (this.#removed) return { offset, data: none };
		const data = this.#file(stream).subarray(offset, offset + maxBytes);
		const [hole] = this.holes(stream);
		if (data.length > 0 || !hole || offset < hole.from || offset >= hole.to)
			return { offset, data };
		return { offset: hole.to, data, gap: { from: offset, reason: hole.reason } };
	}

	async sync(): Promise<void> {
		for (const stream of streams) {
			const bytes = this.#folder.files.get(`${this.#key}.${stream}`);
			if (bytes) bytes.synced = bytes.data.length;
		}
	}

	async close(): Promise<void> {}

	async remove(): Promise<void> {
		this.#removed = true;
		for (const stream of streams) this.#folder.files.delete(`${this.#key}.${stream}`);
	}

	#length(stream: Stream): number {
		return Math.max(this.#file(stream).length, this.#record?.output[stream] ?? 0);
	}

	#file(stream: Stream): Buffer {
		return this.#folder.files.get(`${this.#key}.${stream}`)?.data ?? none;
	}
}

function keyOf(jobId: string, epoch: number): string {
	return `${jobId}/${epoch}`;
}
