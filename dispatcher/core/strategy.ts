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
	/** How busy its processor is, in steps: slightly busier is not worse. */
	busy(robot: R): number;
	/** What it is worth to the job; 0 = as good as any. */
	preference(robot: R): number;
	/** The number of its last turn, which rises with every turn of the fleet; 0 = it has had none. */
	turn(robot: R): number;
	/** How many jobs of this job's key went well there. */
	successes(robot: R): number;
}

/** What is remembered of a choice: how many were compared, and some of them. */
export interface Tally<R> {
	compared: number;
	/** For least loaded: the one that the chosen one displaced. Else the first few, perhaps including the chosen one. */
	others: R[];
}

const maxTold = 64;

/**
 * `robots` are in line: the one unused for longest comes first, and wins ties. `choosy` = the job
 * prefers some of them.
 */
export function choose<R>(
	strategy: Strategy,
	robots: Iterable<R>,
	view: View<R>,
	choosy: boolean,
	chance: () => number,
	tally: Tally<R> = { compared: 0, others: [] },
): R | undefined {
	if (strategy === 'least_loaded' && !choosy) return leastLoaded(robots, view, tally);
	let best: R | undefined;
	let equals = 0;
	for (const robot of robots) {
		if (!view.free(robot)) continue;
		tally.compared += 1;
		if (tally.others.length < maxTold) tally.others.push(robot);
		const behind = best === undefined ? -1 : compare(strategy, view, choosy, robot, best);
		if (behind > 0) continue;
		if (behind < 0) equals = 1;
		else {
			// Each of n equals is taken with probability 1/n, without counting them first.
			equals += 1;
			if (strategy !== 'random' || chance() * equals >= 1) continue;
		}
		best = robot;
	}
	return best;
}

/** Below zero: `a` is better for the job. For `random`, equally preferred robots are equal, and chance decides. */
export function compare<R>(strategy: Strategy, view: View<R>, choosy: boolean, a: R, b: R): number {
	const worth = choosy ? view.preference(b) - view.preference(a) : 0;
	if (worth !== 0 || strategy === 'random') return worth;
	if (strategy === 'round_robin') return view.turn(a) - view.turn(b);
	const went = strategy === 'affinity' ? view.successes(b) - view.successes(a) : 0;
	return went || view.load(a) - view.load(b) || view.busy(a) - view.busy(b);
}

/** How many idle robots are asked how busy they are: among more, it hardly matters which one it is. */
const maxIdle = 8;

/** What most jobs want: looks at no more of a robot than it must, and stops at the first that nobody can beat. */
function leastLoaded<R>(robots: Iterable<R>, view: View<R>, tally: Tally<R>): R | undefined {
	let best: R | undefined;
	let bestLoad = Infinity;
	let bestBusy = 0;
	let idle = 0;
	for (const robot of robots) {
		const load = view.load(robot);
		if (load > bestLoad || (load === bestLoad && bestBusy <= 0)) continue;
		if (!view.free(robot)) continue;
		tally.compared += 1;
		const busy = view.busy(robot);
		if (load < bestLoad || busy < bestBusy) {
			if (best !== undefined) tally.others[0] = best;
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

/** By the last heartbeat, 0…10; a robot that does not tell counts as idle. */
export function busyOf(cpuPercent: number | undefined): number {
	if (cpuPercent === undefined) return 0;
	return Math.floor(Math.min(100, Math.max(0, cpuPercent)) / busyStep);
}
