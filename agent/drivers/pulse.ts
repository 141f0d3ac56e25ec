/**
 * What the processes of an attempt use, read from /proc in one walk for all attempts: the group it was started
 * in, whatever carries its mark, and all descendants of those. Without /proc nobody can tell (undefined).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { isOwnProc } from './process';

export interface Tree {
	/** Unguessable text in the environment of every one of them. */
	mark: string;
	/** Process group; null when unknown. */
	group: number | null;
}

export interface Pulse {
	processes: number;
	memoryBytes: number;
	/** Processor time of each, including that of its children that have ended. Milliseconds. */
	cpuMs: ReadonlyMap<number, number>;
	/** Those whose parent is not among them. */
	roots: ReadonlySet<number>;
}

/** Linux counts in hundredths of a second on every machine that Node runs on. */
const msPerTick = 10;
const kernel = '/proc';

interface Stat {
	pid: number;
	parent: number;
	group: number;
	cpuMs: number;
	memoryBytes: number;
}

/** In the order of `trees`. A look that could not see everything is no look (undefined): not seen does not mean gone. */
export function pulsesOf(trees: readonly Tree[], proc = kernel): Pulse[] | undefined {
	// In a /proc that is empty, or a stranger's, everything would seem to be at rest.
	if (process.platform !== 'linux' || !isOwnProc(proc)) return undefined;
	const all = everyStat(proc);
	if (all === undefined) return undefined;
	const children = Map.groupBy(all, ({ parent }) => parent);
	const marks = new Map(all.map(({ pid }) => [pid, markOf(proc, pid)]));
	return trees.map(({ mark, group }) => {
		const isOne = ({ pid, group: of }: Stat) => of === group || marks.get(pid) === mark;
		const found = new Map(all.filter(isOne).map((stat) => [stat.pid, stat]));
		// It grows while we go through it.
		for (const pid of found.keys()) {
			for (const child of children.get(pid) ?? []) found.set(child.pid, child);
		}
		const stats = [...found.values()];
		return {
			processes: stats.length,
			memoryBytes: stats.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
			cpuMs: new Map(stats.map(({ pid, cpuMs }) => [pid, cpuMs])),
			roots: new Set(stats.filter(({ parent }) => !found.has(parent)).map(({ pid }) => pid)),
		};
	});
}

/**
 * Memory of these processes, counting for each its part of what is shared. Costs the kernel a walk over all
 * of it, so it is only for when it matters.
 */
export function sharedMemoryOf({ cpuMs }: Pulse): number {
	let bytes = 0;
	for (const pid of cpuMs.keys()) bytes += proportionalOf(pid) ?? restingOf(pid);
	return bytes;
}

function proportionalOf(pid: number): number | undefined {
	try {
		const text = readFileSync(`${kernel}/${pid}/smaps_rollup`, 'latin1');
		return Number(/^Pss: +(\d+) kB/m.exec(text)![1]) * 1024;
	} catch {
		return undefined; // another user's, or gone
	}
}

function restingOf(pid: number): number {
	try {
		return statOf(kernel, String(pid))?.memoryBytes ?? 0;
	} catch {
		return 0;
	}
}

function everyStat(proc: string): Stat[] | undefined {
	try {
		return readdirSync(proc).flatMap((entry) => statOf(proc, entry) ?? []);
	} catch {
		return undefined; // no file can be opened just now (EMFILE), say
	}
}

/** It ended while we looked, or is another user's that the kernel hides. */
const notOurs = new Set(['ENOENT', 'ESRCH', 'EACCES', 'EPERM']);

function statOf(proc: string, entry: string): Stat | undefined {
	if (!/^\d+$/.test(entry)) return undefined;
	let text: string;
	try {
		text = readFileSync(`${proc}/${entry}/stat`, 'latin1');
	} catch (error) {
		if (notOurs.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
		throw error;
	}
	const fields = fieldsOf(text);
	if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
	const number = (at: number) => Number(fields[at]);
	return {
		pid: Number(entry),
		parent: number(1),
		group: number(2),
		cpuMs: (number(11) + number(12) + number(13) + number(14)) * msPerTick,
		memoryBytes: number(21) * pageBytes(),
	};
}

/** The name is in brackets and may contain anything, brackets too. */
const fieldsOf = (stat: string) => stat.slice(stat.lastIndexOf(')') + 2).split(' ');

let pageBytesHere: number | undefined;

function pageBytes(): number {
	if (pageBytesHere !== undefined) return pageBytesHere;
	const own = (name: string) => readFileSync(`${kernel}/self/${name}`, 'latin1');
	return (pageBytesHere = pageBytesOf(own('stat'), own('status')));
}

/**
 * The size of a page on this kernel (4, 16 or 64 KiB), which nothing states outright: one file gives the
 * memory of a process in pages, another in kB.
 */
export function pageBytesOf(stat: string, status: string): number {
	const pages = Number(fieldsOf(stat)[21]);
	const bytes = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
	// The two were not read at the same moment.
	const found = 2 ** Math.round(Math.log2(bytes / pages));
	return Number.isFinite(found) && found >= 4_096 ? found : 4_096;
}

function markOf(proc: string, pid: number): string | undefined {
	try {
		const text = readFileSync(`${proc}/${pid}/environ`, 'latin1');
		return /(?:^|\0)ROBOT_FLEET_ATTEMPT_MARK=([^\0]*)\0/.exec(text)?.[1];
	} catch {
		return undefined; // another user's, or gone
	}
}
