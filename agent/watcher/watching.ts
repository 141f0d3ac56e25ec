/**
 * Watches over all running attempts: one look at the machine for all of them, every few seconds, and none
 * when nothing runs. Reports what has changed, and nothing else. Attempts that have caps are looked at every second.
 */
import {
	type AttemptHealth,
	commandClassNames,
	type JobAssignment,
	type WireCaps,
	type WireWatch,
} from '../../protocol';
import { type ClassLimits, commandClasses, commandClassOf } from '../../kinds/command-class';
import type { CommandSpec } from '../../kinds/command';
import type { Clock } from '../clock';
import { type Pulse, pulsesOf, sharedMemoryOf, type Tree } from '../drivers/pulse';
import type { Stream } from '../../protocol/frames';
import { type Excess, excessOf, Usage } from './usage';
import { Watch } from './watch';

const everyMs = 5_000;
const cappedEveryMs = 1_000;

/** What an attempt says to its watch. */
export interface Watched {
	heard(stream: Stream, chunk: Uint8Array): void;
	started(pid: number): void;
	/** Harmless when called twice. */
	end(): void;
}

interface Entry {
	watch: Watch;
	tree: { mark: string; group: number | null };
	told: string;
	tell(health: AttemptHealth): void;
	cap: Cap | undefined;
}

interface Cap {
	caps: WireCaps;
	usage: Usage;
	/** Told once, and again when it is far over. */
	told: 'nothing' | 'over' | 'far';
	tell(excess: Excess): void;
}

export class Watching {
	readonly #clock: Clock;
	readonly #pulses: (trees: readonly Tree[]) => Pulse[] | undefined;
	readonly #entries = new Set<Entry>();
	readonly #memoryOf: (pulse: Pulse) => number;
	#looking = false;
	#capping = false;

	constructor(
		clock: Clock,
		pulses = (trees: readonly Tree[]) => pulsesOf(trees),
		memoryOf = sharedMemoryOf,
	) {
		this.#clock = clock;
		this.#pulses = pulses;
		this.#memoryOf = memoryOf;
	}

	/**
	 * `tell` is called when the state changes, or the attempt is over what its class normally takes; `exceeds`
	 * when it uses more than it may.
	 */
	begin(
		{ kind, spec, watch: said = {}, caps }: Pick<JobAssignment, 'kind' | 'spec' | 'watch' | 'caps'>,
		mark: string,
		tell: (health: AttemptHealth) => void,
		exceeds: (excess: Excess) => void = () => undefined,
	): Watched {
		const byName = kind === 'command' ? commandClassOf(spec as CommandSpec) : null;
		const commandClass = commandClassNames.find((name) => name === said.class) ?? byName;
		const limits = limitsOf(commandClass === null ? {} : commandClasses[commandClass], said);
		const { interactive } = kind === 'command' ? (spec as CommandSpec) : {};
		const how = { interactive, idleMs: said.idle_ms };
		const watch = new Watch(commandClass, limits, this.#clock.monotonic(), how);
		const { output_bytes: _, ...used } = caps ?? {};
		const cap: Cap | undefined =
			Object.keys(used).length === 0
				? undefined
				: { caps: used, usage: new Usage(), told: 'nothing', tell: exceeds };
		const entry: Entry = { watch, tree: { mark, group: null }, told: '', tell, cap };
		this.#entries.add(entry);
		if (!this.#looking) void this.#lookWhileAnybodyRuns();
		if (cap && !this.#capping) void this.#holdWhileAnyIsCapped();
		return {
			heard: (stream, chunk) => watch.heard(stream, chunk, this.#clock.monotonic()),
			started: (pid) => (entry.tree.group = pid),
			end: () => void this.#entries.delete(entry),
		};
	}

	async #lookWhileAnybodyRuns(): Promise<void> {
		this.#looking = true;
		while (this.#entries.size > 0) {
			await this.#clock.sleep(everyMs);
			if (this.#entries.size > 0) this.look();
		}
		this.#looking = false;
	}

	async #holdWhileAnyIsCapped(): Promise<void> {
		this.#capping = true;
		while ([...this.#entries].some(({ cap }) => cap)) {
			await this.#clock.sleep(cappedEveryMs);
			this.hold();
		}
		this.#capping = false;
	}

	/** Holds those with caps to them, now. */
	hold(): void {
		const entries = [...this.#entries].filter(({ cap }) => cap);
		if (entries.length === 0) return;
		const pulses = this.#pulses(entries.map(({ tree }) => tree));
		for (const [at, { cap }] of entries.entries()) {
			const pulse = pulses?.[at];
			if (pulse === undefined) continue;
			const { caps, usage, told } = cap!;
			const excess = excessOf(caps, usage.look(pulse), () => this.#memoryOf(pulse));
			if (excess === undefined || told === 'far' || (told === 'over' && !excess.far)) continue;
			cap!.told = excess.far ? 'far' : 'over';
			cap!.tell(excess);
		}
	}

	/** Looks at all of them, now. */
	look(): void {
		const entries = [...this.#entries];
		const pulses = this.#pulses(entries.map(({ tree }) => tree));
		for (const [at, entry] of entries.entries()) {
			const health = entry.watch.look(pulses?.[at], this.#clock.monotonic());
			const told = `${health.state} ${health.overdue}`;
			if (told === entry.told) continue;
			entry.told = told;
			entry.tell(health);
		}
	}
}

/** What the job says about itself counts more than what is normal for its like. */
function limitsOf(
	{ noOutputMs, totalMs }: Partial<ClassLimits>,
	{ no_output_ms = noOutputMs, total_ms = totalMs }: WireWatch,
): Partial<ClassLimits> {
	return {
		...(no_output_ms === undefined ? {} : { noOutputMs: no_output_ms }),
		...(total_ms === undefined ? {} : { totalMs: total_ms }),
	};
}
