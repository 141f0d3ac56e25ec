/**
 * What an attempt has used so far, and whether that is more than it may. Pure: pulses come in. Never
 * overstates: what nobody saw does not count.
 */
import type { WireCaps } from '../../protocol';
import type { Pulse } from '../drivers/pulse';

export interface Used {
	memoryBytes: number;
	cpuMs: number;
	processes: number;
}

/** Adds up processor time across looks, so that it is not lost with the processes that used it. */
export class Usage {
	/** Time of those that ended with nobody in the tree to inherit it. */
	#goneMs = 0;
	#before: Pulse | undefined;

	look(pulse: Pulse): Used {
		const { cpuMs, memoryBytes, processes } = pulse;
		for (const [pid, ms] of this.#before?.cpuMs ?? []) {
			// The time of a child that ended is its parent's from then on; a root has no parent here. Less than
			// before = another process with the same number.
			const ended = (cpuMs.get(pid) ?? -1) < ms;
			if (ended && this.#before!.roots.has(pid)) this.#goneMs += ms;
		}
		this.#before = pulse;
		let livingMs = 0;
		for (const ms of cpuMs.values()) livingMs += ms;
		return { memoryBytes, processes, cpuMs: this.#goneMs + livingMs };
	}
}

export interface Excess {
	/** One sentence without its end. */
	text: string;
	/** Twice what it may have: no time for politeness. */
	far: boolean;
}

/** The first cap that is exceeded. When memory seems to be too much, `memory` looks closer: much of it may be shared. */
export function excessOf(
	caps: WireCaps,
	used: Used,
	memory: () => number = () => used.memoryBytes,
): Excess | undefined {
	const { memory_bytes = Infinity, cpu_seconds = Infinity, processes = Infinity } = caps;
	if (used.memoryBytes > memory_bytes) {
		const bytes = memory();
		if (bytes > memory_bytes) {
			const of = `${sizeText(bytes)} of the ${sizeText(memory_bytes)} of memory`;
			return over(`used ${of}`, 'memoryBytes', bytes / memory_bytes);
		}
	}
	const seconds = used.cpuMs / 1_000;
	if (seconds > cpu_seconds) {
		const of = `${Math.round(seconds * 10) / 10} s of the ${cpu_seconds} s of processor time`;
		return over(`used ${of}`, 'cpuSeconds', seconds / cpu_seconds);
	}
	if (used.processes > processes) {
		const of = `${used.processes} processes of the ${processes}`;
		return over(`had ${of}`, 'processes', used.processes / processes);
	}
	return undefined;
}

function over(what: string, cap: string, times: number): Excess {
	return { text: `The job ${what} it may have (caps.${cap})`, far: times >= 2 };
}

function sizeText(bytes: number): string {
	return `${Math.round((bytes / 1024 / 1024) * 10) / 10} MiB`;
}
