/**
 * What the machine is (told once, with hello) and how it feels (told with every heartbeat). Cheap
 * on purpose: node:os only, so that the agent connects at once and costs nothing when idle.
 */
import { statfs } from 'node:fs/promises';
import {
	arch,
	cpus,
	freemem,
	hostname,
	networkInterfaces,
	platform,
	release,
	totalmem,
	type,
	userInfo,
} from 'node:os';

export const agentVersion = '0.1.0';

export function machineInfo(): Record<string, unknown> {
	return {
		hostname: hostname(),
		os: platform(),
		os_name: type(),
		os_release: release(),
		arch: arch(),
		cpus: cpus().length,
		cpu_model: cpus()[0]?.model.trim() ?? null,
		memory_bytes: totalmem(),
		addresses: Object.values(networkInterfaces())
			.flatMap((entries) => entries ?? [])
			.filter((entry) => !entry.internal && !entry.address.startsWith('fe80'))
			.map((entry) => entry.address),
		user: userName(),
		pid: process.pid,
		node: process.versions.node,
		agent: agentVersion,
	};
}

export interface Vitals {
	cpu_percent: number;
	memory_percent: number;
	disk_percent?: number;
}

/** Remembers the CPU times of the last look: a percentage is always "since then". */
export class VitalSigns {
	readonly #folder: string;
	#last = cpuTimes();

	constructor(folder: string) {
		this.#folder = folder;
	}

	async read(): Promise<Vitals> {
		const now = cpuTimes();
		const total = now.total - this.#last.total;
		const idle = now.idle - this.#last.idle;
		this.#last = now;
		const vitals: Vitals = {
			cpu_percent: total > 0 ? percent(1 - idle / total) : 0,
			memory_percent: percent(1 - freemem() / totalmem()),
		};
		try {
			const disk = await statfs(this.#folder);
			// As `df` says it: what is kept back for root counts neither as used nor as free.
			const used = disk.blocks - disk.bfree;
			vitals.disk_percent = percent(used / (used + disk.bavail));
		} catch {
			// Not every file system can say; the other two still stand.
		}
		return vitals;
	}
}

function cpuTimes(): { idle: number; total: number } {
	let idle = 0;
	let total = 0;
	for (const { times } of cpus()) {
		idle += times.idle;
		total += times.user + times.nice + times.sys + times.idle + times.irq;
	}
	return { idle, total };
}

function percent(share: number): number {
	return Math.round(Math.min(1, Math.max(0, share)) * 1_000) / 10;
}

function userName(): string | null {
	try {
		return userInfo().username;
	} catch {
		return null; // a uid without an entry, as in many containers
	}
}
