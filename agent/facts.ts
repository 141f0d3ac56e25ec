/**
 * What the machine is and what it can do (told with hello, and again when it changes), and how it is
 * doing (told with every heartbeat). What costs nothing is read here; the rest is found by a child
 * process (survey.ts) and remembered in the data folder, so that a restarted agent knows it at once.
 */
import { execFile } from 'node:child_process';
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import {
	arch,
	availableParallelism,
	cpus,
	hostname,
	networkInterfaces,
	platform,
	release,
	type,
	userInfo,
} from 'node:os';
import { join } from 'node:path';
import type { Facts } from '../protocol';
import { capCapabilities } from './caps';
import type { Clock } from './clock';
import { CpuMeter } from './cpu';
import type { Log } from './log';
import { memoryLimit, memoryShare } from './memory';
import type { Survey } from './survey';

export const agentVersion = '0.1.0';

function machineInfo(): Record<string, unknown> {
	return {
		hostname: hostname(),
		os: platform(),
		os_name: type(),
		os_release: release(),
		arch: arch(),
		// In a container: what it may use, not what the machine has.
		cpus: availableParallelism(),
		cpu_model: cpus()[0]?.model.trim() ?? null,
		memory_bytes: memoryLimit(),
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

/** Looks at the machine in depth. Rejects when it cannot. */
export type Look = () => Promise<Survey>;

const lookMs = 60_000;
const maxSurveyBytes = 256 * 1024;

/** How the agent asks its own program for a look: the look ends with the agent, however that ends. */
export const forAgentFlag = '--for-agent';

/** By a process of its own, which gives back what it needed when it ends. */
export function lookByChild(
	program: readonly [node: string, script: string],
	env: Readonly<Record<string, string | undefined>>,
): Look {
	const [node, script] = program;
	return async () =>
		await new Promise((resolve, reject) => {
			execFile(
				node,
				[script, 'facts', forAgentFlag],
				{
					env: env as NodeJS.ProcessEnv,
					timeout: lookMs,
					killSignal: 'SIGKILL',
					maxBuffer: maxSurveyBytes,
					windowsHide: true,
				},
				(error, stdout) => {
					if (error) return reject(error);
					try {
						resolve((JSON.parse(stdout) as { survey: Survey }).survey);
					} catch (unreadable) {
						reject(unreadable as Error);
					}
				},
			);
		});
}

/** How long findings may be believed at a start: not every change shows in the sign. */
const freshMs = 24 * 3_600_000;

interface Seen {
	survey: Partial<Survey>;
	/** Of the machine, taken just before. */
	sign?: string;
}

/** What is known about this machine. */
export class FactsBook {
	readonly #path: string;
	readonly #configured: readonly string[];
	readonly #look: Look;
	readonly #sign: () => Promise<string>;
	readonly #log: Log;
	#seen: Seen;
	#looking: Promise<void> | undefined;
	/** Called when something new is known. */
	onChange: () => void = () => undefined;

	/** `sign`: stays the same for as long as a look should find the same. */
	constructor(
		folder: string,
		configured: readonly string[],
		look: Look,
		sign: () => Promise<string>,
		log: Log,
	) {
		this.#path = join(folder, 'facts.json');
		this.#configured = configured;
		this.#look = look;
		this.#sign = sign;
		this.#log = log;
		this.#seen = remembered(this.#path);
	}

	get now(): Facts {
		return {
			capabilities: capabilitiesOf(this.#seen.survey, this.#configured),
			info: { ...machineInfo(), ...withoutNulls(this.#seen.survey) },
		};
	}

	/** Looks again; whoever asks while a look is under way gets the same answer. Never rejects. */
	async refresh(): Promise<void> {
		await (this.#looking ??= this.#lookAgain().finally(() => (this.#looking = undefined)));
	}

	/**
	 * At once, unless the agent before us has just seen the same machine, and again each time the interval is over; 0 =
	 * at once in any case, and only then.
	 */
	async keepFresh(everyMs: number, clock: Clock, signal: AbortSignal): Promise<void> {
		if (everyMs === 0 || !(await this.#isFresh(clock.now()))) await this.refresh();
		while (everyMs > 0 && (await clock.sleep(everyMs, signal))) await this.refresh();
	}

	async #isFresh(now: number): Promise<boolean> {
		if (this.#seen.sign === undefined) return false;
		try {
			const agoMs = now - statSync(this.#path).mtimeMs;
			// A clock that was set back cannot say how long ago that was.
			return agoMs >= 0 && agoMs < freshMs && this.#seen.sign === (await this.#sign());
		} catch {
			return false;
		}
	}

	async #lookAgain(): Promise<void> {
		let seen: Seen;
		try {
			// Before the look: what changes meanwhile is then found at the next start.
			const sign = await this.#sign();
			seen = { survey: await this.#look(), sign };
		} catch (error) {
			this.#log.warn({ reason: (error as Error).message }, 'this machine could not be examined');
			return;
		}
		const isNews = JSON.stringify(seen.survey) !== JSON.stringify(this.#seen.survey);
		this.#seen = seen;
		try {
			writeFileSync(`${this.#path}.new`, `${JSON.stringify(seen)}\n`, { mode: 0o600 });
			renameSync(`${this.#path}.new`, this.#path);
		} catch {
			// It will be looked for again at the next start.
		}
		if (isNews) this.onChange();
	}
}

function remembered(path: string): Seen {
	try {
		const { survey, sign } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Seen>;
		if (typeof survey === 'object' && survey !== null) return { survey, sign };
	} catch {
		// none yet, or damaged: it is looked for again
	}
	return { survey: {} };
}

/** Most that a robot may claim. */
const maxCapabilities = 256;

/** What the owner named comes first; then what was found, as `runtime:python`; none twice. */
export function capabilitiesOf(found: Partial<Survey>, configured: readonly string[]): string[] {
	const of = (prefix: string, names: Record<string, string> = {}) =>
		Object.keys(names).map((name) => `${prefix}:${name}`);
	const all = [
		...configured,
		...capCapabilities,
		`os:${osWords[platform()] ?? platform()}`,
		`arch:${arch()}`,
		...of('shell', found.shells),
		...of('runtime', found.runtimes),
		...of('browser', found.browsers),
		...of('tool', found.tools),
	];
	return [...new Set(all)].slice(0, maxCapabilities);
}

const osWords: Partial<Record<NodeJS.Platform, string>> = { darwin: 'macos', win32: 'windows' };

function withoutNulls(found: Partial<Survey>): Record<string, unknown> {
	return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== null));
}

export interface Vitals {
	cpu_percent: number;
	memory_percent: number;
	disk_percent?: number;
	agent_busy_percent?: number;
	keeper_missing?: boolean;
}

/** A shorter time says nothing: an agent that has just started was busy all along. */
const busyOverMs = 5_000;

export class VitalSigns {
	readonly #folder: string;
	readonly #cpu: CpuMeter;
	readonly #keeperMissing: (() => boolean) | undefined;
	#lastLoop = performance.eventLoopUtilization();

	constructor(folder: string, clock: Clock, keeperMissing?: () => boolean) {
		this.#folder = folder;
		this.#cpu = new CpuMeter(clock);
		this.#keeperMissing = keeperMissing;
	}

	async read(): Promise<Vitals> {
		const vitals: Vitals = {
			cpu_percent: percent(await this.#cpu.share()),
			memory_percent: percent(await memoryShare()),
		};
		const loop = performance.eventLoopUtilization();
		const { idle: restedMs, active: busyMs } = performance.eventLoopUtilization(
			loop,
			this.#lastLoop,
		);
		if (restedMs + busyMs >= busyOverMs) {
			this.#lastLoop = loop;
			vitals.agent_busy_percent = percent(busyMs / (restedMs + busyMs));
		}
		const keeperMissing = this.#keeperMissing?.();
		if (keeperMissing !== undefined) vitals.keeper_missing = keeperMissing;
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
