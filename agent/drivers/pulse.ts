/**
 * What the processes of an attempt use, read from /proc in one walk for all attempts: the group it was started
 * in, whatever carries its mark, and all that descend from those. Elsewhere nobody can tell (undefined).
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface Tree {
	/** Unguessable text in the environment of every one of them. */
	mark: string;
	/** Process group; null when unknown. */
	group: number | null;
}

export interface Pulse {
	processes: number;
	memoryBytes: number;
	/** Processor time each has used, with that of its children that have ended. Milliseconds. */
	cpuMs: ReadonlyMap<number, number>;
	/** Those whose parent is none of them. */
	roots: ReadonlySet<number>;
}

/** Linux counts in hundredths of a second on every machine that Node runs on. */
const msPerTick = 10;
const pageBytes = 4_096;

interface Stat {
	pid: number;
	parent: number;
	group: number;
	cpuMs: number;
	memoryBytes: number;
}

/** In the order of `trees`. */
export function pulsesOf(trees: readonly Tree[]): Pulse[] | undefined {
	if (process.platform !== 'linux') return undefined;
	const all = readdirSync('/proc').flatMap((entry) => statOf(entry) ?? []);
	const children = Map.groupBy(all, ({ parent }) => parent);
	const marks = new Map(all.map(({ pid }) => [pid, markOf(pid)]));
	return trees.map(({ mark, group }) => {
		const found = new Map<number, Stat>();
		const take = (stat: Stat): void => {
			if (found.has(stat.pid)) return;
			found.set(stat.pid, stat);
			for (const child of children.get(stat.pid) ?? []) take(child);
		};
		for (const stat of all) if (stat.group === group || marks.get(stat.pid) === mark) take(stat);
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
 * Memory of these processes, of what they share a share each. Costs the kernel a walk over all of it, so it
 * is for when it matters.
 */
export function sharedMemoryOf({ cpuMs }: Pulse): number {
	let bytes = 0;
	for (const pid of cpuMs.keys())
		bytes += proportionalOf(pid) ?? statOf(String(pid))?.memoryBytes ?? 0;
	return bytes;
}

function proportionalOf(pid: number): number | undefined {
	try {
		const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
		return Number(/^Pss: +(\d+) kB/m.exec(text)![1]) * 1024;
	} catch {
		return undefined; // another user's, or gone
	}
}

function statOf(entry: string): Stat | undefined {
	if (!/^\d+$/.test(entry)) return undefined;
	try {
		const text = readFileSync(`/proc/${entry}/stat`, 'latin1');
		// The name stands in brackets and may hold anything, brackets too.
		const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
		if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
		const number = (at: number) => Number(fields[at]);
		return {
			pid: Number(entry),
			parent: number(1),
			group: number(2),
			cpuMs: (number(11) + number(12) + number(13) + number(14)) * msPerTick,
			memoryBytes: number(21) * pageBytes,
		};
	} catch {
		return undefined; // it ended while we looked
	}
}

function markOf(pid: number): string | undefined {
	try {
		const text = readFileSync(`/proc/${pid}/environ`, 'latin1');
		return /(?:^|\0)ROBOT_FLEET_ATTEMPT_MARK=([^\0]*)\0/.exec(text)?.[1];
	} catch {
		return undefined; // another user's, or gone
	}
}
