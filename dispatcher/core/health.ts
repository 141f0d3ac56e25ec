/**
 * How a robot is: its machine and its agent by the last heartbeat, its line, its jobs, and how its last tries
 * came out. One level, the worst of all, and one sentence for each thing that is not as it should be.
 */
import {
	healthLevels,
	type RobotHealth,
	type RobotMetrics,
	type RobotRecord,
} from '../../protocol';

type Level = RobotHealth['level'];

interface Bound {
	warning: number;
	critical: number;
	say(value: number): string;
}

/**
 * Reached from these values on. A processor at its limit is what a robot is for, so that alone is never critical; a
 * full memory or disk makes jobs fail.
 */
const bounds: Record<Exclude<keyof RobotMetrics, 'keeperMissing'>, Bound> = {
	cpuPercent: {
		warning: 95,
		critical: Infinity,
		say: (share) => `The processor is ${share} % used.`,
	},
	memoryPercent: { warning: 85, critical: 95, say: (share) => `The memory is ${share} % used.` },
	diskPercent: {
		warning: 85,
		critical: 95,
		say: (share) => `The disk of the agent’s data is ${share} % used.`,
	},
	roundTripMs: {
		warning: 1_000,
		critical: 5_000,
		say: (ms) => `A round trip between agent and service takes ${ms} ms.`,
	},
	agentBusyPercent: {
		warning: 90,
		critical: 99,
		say: (share) => `The agent itself is busy ${share} % of the time.`,
	},
};

/** Two heartbeats. */
const quietMs = 30_000;
/** Fewer tries tell nothing. */
const enoughTries = 10;
const fewPercent = 80;
const hardlyAnyPercent = 50;

export interface Signs {
	metrics: RobotMetrics;
	/** Since anything was heard of it. */
	silentMs: number;
	/** Jobs it runs, and those of them that neither print nor compute any more. */
	jobs: number;
	hanging: number;
	record: RobotRecord;
}

export function healthOf({ metrics, silentMs, jobs, hanging, record }: Signs): RobotHealth {
	let worst: Level = 'normal';
	const reasons: string[] = [];
	const found = (level: Level, reason: string) => {
		if (healthLevels.indexOf(level) > healthLevels.indexOf(worst)) worst = level;
		reasons.push(reason);
	};
	for (const [name, { warning, critical, say }] of Object.entries(bounds)) {
		const value = metrics[name as keyof typeof bounds];
		if (value === null || value < warning) continue;
		found(value >= critical ? 'critical' : 'warning', say(value));
	}
	if (silentMs > quietMs) {
		found('critical', `Nothing was heard from it for ${Math.round(silentMs / 1_000)} s.`);
	}
	if (metrics.keeperMissing) {
		found('warning', 'Its agent cannot start a keeper, so jobs end when the agent does.');
	}
	if (hanging > 0) {
		const some = jobs === 1 ? 'Its job hangs' : `${hanging} of its ${jobs} jobs hang`;
		found('warning', `${some}: neither output nor work for a while.`);
	}
	const { completed, failed, lost, successPercent } = record;
	const tries = completed + failed + lost;
	if (tries >= enoughTries && successPercent! < fewPercent) {
		const level = successPercent! < hardlyAnyPercent ? 'critical' : 'warning';
		const gone = lost > 0 ? `, ${lost} were lost` : '';
		found(level, `Of its last ${tries} tries, ${failed} failed${gone}.`);
	}
	return { level: worst, reasons };
}
