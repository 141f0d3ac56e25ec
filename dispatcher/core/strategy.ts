/**
 * Which of the robots that are free now gets a job. The robots are not copied for it: a view answers what a
 * strategy asks of one. Those the job prefers most go before all others; the strategy chooses among
 * them. Pure: chance is handed in.
 */
import type { Strategy } from '../../protocol';

export interface View<R> {
	/** Whether it could take the job at this moment. */
	free(robot: R): boolean;
	/** Share of its slots that is in use. */
	load(robot: R): number;
	/** How busy its processor is, in steps: who is a little busier is not worse. */
	busy(robot: R): number;
	/** What it is worth to the job; 0 = as good as any. */
	preference(robot: R): number;
	/** A number that grows with every turn of the fleet: that of its last turn. 0 = it had none. */
	turn(robot: R): number;
	/** So many jobs of this job's key went well there. */
	successes(robot: R): number;
}

/**
 * `robots` is in line: who was unused for longest comes first, and wins among equals. `choosy` = the job
 * prefers some of them.
 */
export function choose<R>(
	strategy: Strategy,
	robots: Iterable<R>,
	view: View<R>,
	choosy: boolean,
	chance: () => number,
): R | undefined {
	if (strategy === 'least_loaded' && !choosy) return leastLoaded(robots, view);
	let best: R | undefined;
	let preference = 0;
	let first = 0;
	let second = 0;
	let third = 0;
	let equals = 0;
	for (const robot of robots) {
		if (!view.free(robot)) continue;
		const worth = choosy ? view.preference(robot) : 0;
		if (best !== undefined && worth < preference) continue;
		const better = best === undefined || worth > preference;
		if (strategy === 'random') {
			equals = better ? 1 : equals + 1;
			// Each of n is taken with the chance of 1/n, without counting them before.
			if (!better && chance() * equals >= 1) continue;
			best = robot;
			preference = worth;
			continue;
		}
		// Lower is better, one after the other.
		let a: number;
		let b = 0;
		let c = 0;
		if (strategy === 'round_robin') a = view.turn(robot);
		else {
			a = strategy === 'affinity' ? -view.successes(robot) : 0;
			b = view.load(robot);
			c = view.busy(robot);
		}
		if (!better && (a > first || (a === first && (b > second || (b === second && c >= third))))) {
			continue;
		}
		best = robot;
		preference = worth;
		first = a;
		second = b;
		third = c;
	}
	return best;
}

/** Idle robots that are asked how busy they are: among more of them it matters little which one it is. */
const maxIdle = 16;

/** What most jobs want: looks at no more of a robot than it must, and stops at the first that nobody can beat. */
function leastLoaded<R>(robots: Iterable<R>, view: View<R>): R | undefined {
	let best: R | undefined;
	let bestLoad = Infinity;
	let bestBusy = 0;
	let idle = 0;
	for (const robot of robots) {
		const load = view.load(robot);
		if (load > bestLoad || (load === bestLoad && bestBusy <= 0)) continue;
		if (!view.free(robot)) continue;
		const busy = view.busy(robot);
		if (load < bestLoad || busy < bestBusy) {
			best = robot;
			bestLoad = load;
			bestBusy = busy;
		}
		if (load <= 0 && (bestBusy <= 0 || (idle += 1) >= maxIdle)) break;
	}
	return best;
}

/** Processors that differ by less count as equally busy. */
const busyStep = 10;

/** By the last heartbeat, 0…10; who does not tell counts as idle. */
export function busyOf(cpuPercent: number | undefined): number {
	if (cpuPercent === undefined) return 0;
	return Math.floor(Math.min(100, Math.max(0, cpuPercent)) / busyStep);
}
