/** How busy the processors are that a robot may use: the machine's, or what its container or unit is limited to. */
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { cgroupFolders } from './cgroup';
import type { Clock } from './clock';

interface Look {
	/** Monotonic. */
	at: number;
	machine: { idle: number; total: number; processors: number };
	/** Those with a limit, by their folder. */
	groups: Map<string, Group>;
}

interface Group {
	/** Processors that it may use. */
	limit: number;
	/** Of one processor. */
	usedMs: number;
}

/** Remembers the last look: a percentage is always "since then". */
export class CpuMeter {
	readonly #clock: Pick<Clock, 'monotonic'>;
	readonly #root: string;
	#last: Promise<Look>;

	constructor(clock: Pick<Clock, 'monotonic'>, root = '/') {
		this.#clock = clock;
		this.#root = root;
		this.#last = this.#look();
	}

	/** 0 … 1, or a little more where a limit allows catching up. */
	async share(): Promise<number> {
		const before = this.#last;
		this.#last = this.#look();
		const [then, now] = await Promise.all([before, this.#last]);
		const shares = [...now.groups].flatMap(([folder, { limit, usedMs }]) => {
			const earlier = then.groups.get(folder);
			const couldMs = (now.at - then.at) * limit;
			return earlier === undefined || couldMs <= 0 ? [] : [(usedMs - earlier.usedMs) / couldMs];
		});
		// Of nested groups, the fullest one holds up the rest.
		if (shares.length > 0) return Math.max(...shares);
		const total = now.machine.total - then.machine.total;
		return total > 0 ? 1 - (now.machine.idle - then.machine.idle) / total : 0;
	}

	async #look(): Promise<Look> {
		const machine = cpuTimes();
		const groups = new Map<string, Group>();
		for (const folder of await cgroupFolders(this.#root, 'cpu')) {
			const found = await groupAt(folder);
			if (found !== undefined && found.limit < machine.processors) groups.set(folder, found);
		}
		return { at: this.#clock.monotonic(), machine, groups };
	}
}

/** Undefined when it has no limit, or does not say. */
async function groupAt(folder: string): Promise<Group | undefined> {
	const read = (name: string) => readFile(join(folder, name), 'utf8').catch(() => '');
	const max = await read('cpu.max');
	// Version 1 has a file for each number.
	const said = max || `${await read('cpu.cfs_quota_us')}${await read('cpu.cfs_period_us')}`;
	const [, quota, period] = /^(\d+)\s(\d+)\s/.exec(said) ?? [];
	if (quota === undefined) return undefined;
	const usedMs = max
		? Number(/^usage_usec (\d+)$/m.exec(await read('cpu.stat'))?.[1]) / 1e3
		: Number((await read('cpuacct.usage')) || NaN) / 1e6;
	return Number.isNaN(usedMs) ? undefined : { limit: Number(quota) / Number(period), usedMs };
}

function cpuTimes(): Look['machine'] {
	let idle = 0;
	let total = 0;
	const processors = os.cpus();
	for (const { times } of processors) {
		idle += times.idle;
		total += times.user + times.nice + times.sys + times.idle + times.irq;
	}
	return { idle, total, processors: processors.length };
}
