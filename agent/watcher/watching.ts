/**
 * Watches over all running attempts: one look at the machine for all of them, every few seconds, and none
 * when nothing runs. Tells what has changed, and nothing else.
 */
import type { AttemptHealth, JobAssignment } from '../../protocol';
import { commandClasses, commandClassOf } from '../../kinds/command-class';
import type { CommandSpec } from '../../kinds/command';
import type { Clock } from '../clock';
import { type Pulse, pulsesOf, type Tree } from '../drivers/pulse';
import type { Stream } from '../../protocol/frames';
import { Watch } from './watch';

const everyMs = 5_000;

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
}

export class Watching {
	readonly #clock: Clock;
	readonly #pulses: (trees: readonly Tree[]) => Pulse[] | undefined;
	readonly #entries = new Set<Entry>();
	#looking = false;

	constructor(clock: Clock, pulses = pulsesOf) {
		this.#clock = clock;
		this.#pulses = pulses;
	}

	/** `tell` is called when the state changes, or the attempt is over what its class normally takes. */
	begin(
		{ kind, spec }: Pick<JobAssignment, 'kind' | 'spec'>,
		mark: string,
		tell: (health: AttemptHealth) => void,
	): Watched {
		const commandClass = kind === 'command' ? commandClassOf(spec as CommandSpec) : null;
		const limits = commandClass === null ? undefined : commandClasses[commandClass];
		const { interactive = false } = kind === 'command' ? (spec as CommandSpec) : {};
		const watch = new Watch(commandClass, limits, this.#clock.monotonic(), interactive);
		const entry: Entry = { watch, tree: { mark, group: null }, told: '', tell };
		this.#entries.add(entry);
		if (!this.#looking) void this.#lookWhileAnybodyRuns();
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

	/** At all, now. */
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
