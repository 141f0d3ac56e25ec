/**
 * Where planned runs will not fit. Runs that may only go to a certain set of robots can use no more slots at a time
 * than those robots have; runs for a part of the set count with it.
 */

/** One planned run. */
export interface ForecastRun {
	at: number;
	runMs: number;
	scheduleId: string;
	/** Robots that match, by id. */
	robots: readonly string[];
	/** Taken at once. */
	slots: number;
	/** In words. */
	target: string;
}

export interface ForecastClash {
	from: number;
	to: number;
	target: string;
	needs: number;
	has: number;
	scheduleIds: string[];
}

/** Set by set, so that the caller can do something else in between. */
export function* clashesBySet(
	runs: readonly ForecastRun[],
	slotsOf: (robotId: string) => number,
): Generator<ForecastClash[]> {
	const sets = new Map<
		string,
		{ robots: ReadonlySet<string>; target: string; runs: ForecastRun[] }
	>();
	// The runs of one schedule share their list.
	const keys = new Map<readonly string[], string>();
	for (const run of runs) {
		const key = keys.get(run.robots) ?? [...run.robots].sort().join(' ');
		keys.set(run.robots, key);
		const known = sets.get(key);
		if (known) known.runs.push(run);
		else sets.set(key, { robots: new Set(run.robots), target: run.target, runs: [run] });
	}
	for (const { robots, target } of sets.values()) {
		const has = [...robots].reduce((sum, id) => sum + slotsOf(id), 0);
		const inside = [...sets.values()]
			.filter((other) => [...other.robots].every((id) => robots.has(id)))
			.flatMap((other) => other.runs);
		yield tooMany(inside, has).map((clash) => ({ ...clash, target, has }));
	}
}

export function clashesOf(
	runs: readonly ForecastRun[],
	slotsOf: (robotId: string) => number,
	max: number,
): ForecastClash[] {
	return earliest([...clashesBySet(runs, slotsOf)].flat(), max);
}

export function earliest(clashes: ForecastClash[], max: number): ForecastClash[] {
	return clashes.sort((a, b) => a.from - b.from).slice(0, max);
}

/** Stretches in which more slots are wanted than there are, each with its worst moment. */
function tooMany(
	runs: readonly ForecastRun[],
	has: number,
): Omit<ForecastClash, 'target' | 'has'>[] {
	// What ends makes room for what begins at that moment.
	const steps = runs
		.flatMap((run) => [
			{ at: run.at, by: run.slots, run },
			{ at: run.at + run.runMs, by: -run.slots, run },
		])
		.sort((a, b) => a.at - b.at || a.by - b.by);
	const found: Omit<ForecastClash, 'target' | 'has'>[] = [];
	const live = new Set<ForecastRun>();
	let needs = 0;
	let open: { from: number; needs: number; ids: Set<string> } | undefined;
	for (const { at, by, run } of steps) {
		needs += by;
		if (by > 0) live.add(run);
		else live.delete(run);
		if (needs > has) {
			open ??= { from: at, needs, ids: new Set() };
			open.needs = Math.max(open.needs, needs);
			for (const { scheduleId } of live) open.ids.add(scheduleId);
		} else if (open) {
			found.push({ from: open.from, to: at, needs: open.needs, scheduleIds: [...open.ids].sort() });
			open = undefined;
		}
	}
	return found;
}
