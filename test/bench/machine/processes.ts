/** What the kernel knows of processes: their children, their time, their memory. Linux. */
import { readdirSync, readFileSync } from 'node:fs';

const ticksPerSecond = 100;

/** The process and all that came from it, itself first. */
export function treeOf(pid: number): number[] {
	const children = new Map<number, number[]>();
	for (const name of readdirSync('/proc')) {
		const stat = /^\d+$/.test(name) ? statOf(Number(name)) : undefined;
		if (!stat) continue;
		const parent = Number(stat[1]);
		children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
	}
	const tree = [pid];
	for (const member of tree) tree.push(...(children.get(member) ?? []));
	return tree;
}

/** User and system seconds of the trees, children that have ended and were waited for included. */
export function cpuSeconds(pids: readonly number[]): number {
	const ticks = pids
		.flatMap(treeOf)
		.map(statOf)
		.filter((stat) => stat !== undefined)
		// utime, stime, cutime, cstime, counted from the state field.
		.flatMap((stat) => stat.slice(11, 15).map(Number));
	return ticks.reduce((sum, n) => sum + n, 0) / ticksPerSecond;
}

/** Proportional set size of the trees in bytes: pages that several share are counted once. */
export function memoryBytes(pids: readonly number[]): number {
	let kib = 0;
	for (const pid of pids.flatMap(treeOf)) {
		try {
			const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
			kib += Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0);
		} catch {
			// It ended while we looked.
		}
	}
	return kib * 1024;
}

/** The most memory the process ever had in RAM, in bytes. */
export function peakMemoryBytes(pid: number): number {
	const status = readFileSync(`/proc/${pid}/status`, 'utf8');
	return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

/** The fields of /proc/PID/stat from the state on; the name before them may hold anything. */
function statOf(pid: number): string[] | undefined {
	try {
		return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
	} catch {
		return undefined;
	}
}
