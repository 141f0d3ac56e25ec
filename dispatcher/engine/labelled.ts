/**
 * Robots by the labels they carry: a new lane is matched with the few that carry its rarest label, not with all. Made when
 * it is first asked for, so that a fleet whose jobs name no labels has none of it.
 */
import type { Terms } from '../core/matching';

/** Fewer are simply looked through. */
const few = 64;

export class Labelled {
	readonly #robots: ReadonlyMap<string, Terms>;
	#carriers: Map<string, Set<string>> | undefined;
	/** As they were counted: a robot's own are replaced before it is put. */
	readonly #labels = new Map<string, Record<string, string>>();

	constructor(robots: ReadonlyMap<string, Terms>) {
		this.#robots = robots;
	}

	put({ robotId, labels }: Terms): void {
		if (!this.#carriers || this.#labels.get(robotId) === labels) return;
		this.remove(robotId);
		this.#labels.set(robotId, labels);
		for (const label of textsOf(labels)) {
			const carriers = this.#carriers.get(label);
			if (carriers) carriers.add(robotId);
			else this.#carriers.set(label, new Set([robotId]));
		}
	}

	remove(robotId: string): void {
		const labels = this.#labels.get(robotId);
		if (!labels) return;
		this.#labels.delete(robotId);
		for (const label of textsOf(labels)) {
			const carriers = this.#carriers!.get(label)!;
			carriers.delete(robotId);
			if (carriers.size === 0) this.#carriers!.delete(label);
		}
	}

	/** All that could carry these labels, and perhaps others. */
	*with(labels: Record<string, string>): Generator<Terms, void> {
		const wanted = textsOf(labels);
		if (wanted.length === 0 || this.#robots.size < few) return yield* this.#robots.values();
		const carriers = this.#made();
		let rarest: ReadonlySet<string> | undefined;
		for (const label of wanted) {
			const those = carriers.get(label);
			if (!those) return;
			if (!rarest || those.size < rarest.size) rarest = those;
		}
		for (const robotId of rarest!) yield this.#robots.get(robotId)!;
	}

	#made(): Map<string, Set<string>> {
		if (!this.#carriers) {
			this.#carriers = new Map();
			for (const robot of this.#robots.values()) this.put(robot);
		}
		return this.#carriers;
	}
}

const textsOf = (labels: Record<string, string>) =>
	Object.entries(labels).map(([name, value]) => `${name}=${value}`);
