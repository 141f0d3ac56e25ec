/** What every workload gets, and what it hands back. */
import type { Calibration } from '../machine/calibration';
import type { Verdict } from '../report/verdicts';

export interface Sizes {
	rounds: number;
	/** Robots, or the peer's jobs at once, in W1 and W3; one run each. */
	workers: readonly number[];
	/** Jobs of W9; the most of one timed piece of W3: slow contenders get fewer, so that all take about as long. */
	jobs: number;
	/** How long one timed piece of W3, and all probes of W1, may take. */
	pieceMs: number;
	probes: number;
	/** Idle robots of W4, from few to many, and how long they are left alone. */
	fleets: readonly number[];
	settleMs: number;
	/** Robots of W5, and how many of them hold a job. */
	storm: number;
	holding: number;
	/** Queued jobs of W6, from few to many. */
	backlogs: readonly number[];
	/** Robots of W9, and what their jobs ask for, without those that ask for a robot that is away. */
	matched: number;
	selectors: number;
	/** Real commands of a round of W8; at most what one call takes. */
	commands: number;
	/** Rounds of W10, how long n8n's event loop is looked at in each, and steps of its workflow. */
	lagRounds: number;
	lagMs: number;
	nodeRuns: number;
}

export interface Bench {
	readonly sizes: Sizes;
	readonly calibration: Calibration;
	/** 0…1, the same sequence in every run. */
	readonly chance: () => number;
	say(text: string): void;
}

export interface Outcome {
	verdicts: Verdict[];
	/** Everything that was measured. */
	measured: unknown;
	/** More to show than the verdicts: Markdown tables. */
	tables: Table[];
}

export interface Table {
	title: string;
	columns: string[];
	rows: (string | number)[][];
}
