/**
 * How this agent is doing, as a small file in its data folder: for `robot-fleet-agent status`, which must
 * answer without a socket, a key or the service. Written when something changes and with every heartbeat;
 * what cannot be written is left out, for a full disk must not end an agent.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Transport } from '../protocol';
import type { Clock } from './clock';
import { birthOf } from './drivers/process';

export interface Condition {
	/** Of the process that wrote it. */
	pid: number;
	/** Tells it from a stranger with the same number; null where the system cannot. */
	birth: string | null;
	startedAt: number;
	version: string;
	server: string;
	connected: boolean;
	/** How it last connected; absent before the first time. */
	transport?: Transport;
	/** Since when it has been connected, or not. */
	since: number;
	robotId: string | null;
	name: string | null;
	/** As in a heartbeat: online, busy, paused, stopping. */
	status: string;
	jobs: string[];
	lastError: { at: number; text: string } | null;
	/** When this was written. */
	at: number;
}

const fileOf = (folder: string) => join(folder, 'status.json');

/** A file like this costs nothing, but a flood of jobs should not become a flood of files. */
const quietMs = 500;

export class ConditionFile {
	readonly #path: string;
	readonly #clock: Clock;
	readonly #jobs: () => { status: string; active_jobs: string[] };
	#now: Condition;
	#writing = false;

	constructor(
		folder: string,
		clock: Clock,
		who: Pick<Condition, 'version' | 'server' | 'robotId' | 'name'>,
		jobs: () => { status: string; active_jobs: string[] },
	) {
		this.#path = fileOf(folder);
		this.#clock = clock;
		this.#jobs = jobs;
		const at = clock.now();
		this.#now = {
			pid: process.pid,
			birth: birthOf(process.pid),
			startedAt: at,
			...who,
			connected: false,
			since: at,
			status: 'online',
			jobs: [],
			lastError: null,
			at,
		};
	}

	connected(name: string, robotId: string, transport: Transport): void {
		this.#change({ connected: true, since: this.#clock.now(), name, robotId, transport });
	}

	/** Harmless when it was not connected. */
	disconnected(reason: string): void {
		const at = this.#clock.now();
		const since = this.#now.connected ? at : this.#now.since;
		this.#change({ connected: false, since, lastError: { at, text: reason } });
	}

	/** Jobs came or went, or a heartbeat has passed. */
	touch(): void {
		if (this.#writing) return;
		this.#writing = true;
		void this.#clock.sleep(quietMs).then(() => {
			this.#writing = false;
			this.#write();
		});
	}

	/** The last word of an agent that ends. */
	ended(): void {
		this.#change({ connected: false, since: this.#clock.now() });
	}

	#change(change: Partial<Condition>): void {
		this.#now = { ...this.#now, ...change };
		this.#write();
	}

	#write(): void {
		const { status, active_jobs: jobs } = this.#jobs();
		this.#now = { ...this.#now, status, jobs, at: this.#clock.now() };
		try {
			// A reader sees the old one or the new one.
			writeFileSync(`${this.#path}.new`, `${JSON.stringify(this.#now)}\n`, { mode: 0o600 });
			renameSync(`${this.#path}.new`, this.#path);
		} catch {
			// The disk is full or gone; the work itself says so, and louder.
		}
	}
}

/** What the last agent of this folder wrote; undefined when there was none. Throws when it may not be read. */
export function readCondition(folder: string): Condition | undefined {
	let text: string;
	try {
		text = readFileSync(fileOf(folder), 'utf8');
	} catch (error) {
		if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code!)) return undefined;
		throw error;
	}
	return JSON.parse(text) as Condition;
}

/** Whether the agent that wrote it still runs. */
export function isAlive({ pid, birth }: Pick<Condition, 'pid' | 'birth'>): boolean {
	if (birth !== null) return birthOf(pid) === birth;
	try {
		process.kill(pid, 0);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === 'EPERM'; // another user's
	}
}
