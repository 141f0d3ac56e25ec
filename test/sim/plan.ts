/**
 * A world as its seed draws it: which robots, which jobs, and which harm. Swarm style: each world has
 * only some of the faults and some of the features, so that rare ones meet each other undisturbed.
 * All that is planned is drawn here, before anything runs.
 */
import { limits, type Submit } from '../../protocol';
import { Draw } from '../support/dice';
import type { Recipe } from './children';
import type { CommitFault } from './disk';
import type { RobotOptions } from './robot';
import type { ServiceOptions } from './service';
import { epochAt } from './kernel';

/** What may go wrong. Each is on in some worlds only. */
export const harms = [
	'service-kill',
	'service-stop',
	'commit-kill',
	'disk-full',
	'disk-error',
	'slow-disk',
	'agent-kill',
	'agent-stop',
	'journal-kill',
	'agent-disk-full',
	'power-cut',
	'memory-loss',
	'cut',
	'half-open',
	'refused',
	'blackhole',
	'slow-network',
	'echo',
	'lies',
	'service-pause',
	'service-suspend',
	'agent-pause',
	'agent-suspend',
	'service-clock',
	'agent-clock',
	'robot-pause',
	'start-stall',
	'answer-stall',
	'robot-removed',
	'rearranged',
] as const;
export type Harm = (typeof harms)[number];

/** What jobs and callers use. */
export const features = [
	'cancel',
	'twice',
	'retry',
	'hold',
	'force',
	'wait',
	'poll',
	'schedule',
	'unkeyed',
	'priority',
	'pinned',
	'labels',
	'unable',
	'not-before',
	'queue-limit',
	'deadline',
	'run-limit',
	'silence-limit',
	'start-limit',
	'on-loss',
	'on-disconnect',
	'idempotent',
	'failures',
	'spawn-errors',
	'stubborn',
	'output',
	'long',
	'big',
	'group',
	'pool',
	'shared',
	'several',
] as const;
export type Feature = (typeof features)[number];

export interface PlannedJob {
	key: string;
	atMs: number;
	submit: Submit;
	recipe: Recipe;
	/** Each so long after the answer to the submit. */
	cancelAfterMs?: number;
	twiceAfterMs?: number;
	/** Asks for a hold, and after as much again for its end. */
	holdAfterMs?: number;
	forceAfterMs?: number;
	/** Asked for once it has ended. */
	retry: boolean;
	poll: boolean;
	wait: boolean;
}

export interface PlannedHarm {
	atMs: number;
	harm: Harm;
	/** Which robot, and how long it lasts. */
	robot: number;
	forMs: number;
}

export interface Plan {
	seed: number;
	harms: ReadonlySet<Harm>;
	features: ReadonlySet<Feature>;
	service: ServiceOptions;
	robots: RobotOptions[];
	/** Place of the robot that lies, in a world with lies. */
	liar: number | undefined;
	/** How long frames and calls are under way, and commits take, at most. */
	latencyMs: number;
	commitMs: number;
	jobs: PlannedJob[];
	events: PlannedHarm[];
	/** By number of the commit after the start. */
	commitFaults: Map<number, CommitFault>;
	/** By number of the robot's commit: the agent dies right after it. */
	journalKills: { robot: number; commit: number }[];
	schedule: boolean;
	/** After this nothing more is done to it. */
	harmEndsAt: number;
}

export function planOf(seed: number): Plan {
	const draw = new Draw(seed);
	const on = <T>(list: readonly T[], share: number) =>
		new Set(list.filter(() => draw.chance(share)));
	// Calm worlds, where one rare thing happens, and wild ones.
	const wild = draw.pick([0.06, 0.15, 0.3, 0.5]);
	const harm = on(harms, wild);
	const feature = on(features, draw.pick([0.1, 0.3, 0.5]));
	const harmEndsAt = draw.scale(1_500, 25_000);
	const robotCount = draw.pick([1, 1, 2, 2, 3, 4]);
	const heartbeatMs = draw.pick([1_000, 3_000, 5_000, 15_000]);
	const robots = Array.from({ length: robotCount }, (_, i): RobotOptions => {
		const slots = draw.pick([1, 1, 2, 3]);
		return {
			name: `robot-${i + 1}`,
			slots,
			// Every second one: as many as slots, so that it takes as many jobs as without them.
			clients: i % 2 === 0 ? [] : Array.from({ length: slots }, (_none, n) => `client-${n + 1}`),
			labels: feature.has('labels') ? { site: draw.pick(['a', 'b']) } : {},
			able: !(feature.has('unable') && i > 0 && draw.chance(0.5)),
			heartbeatMs,
		};
	});
	const jobCount = draw.whole(1, draw.pick([3, 6, 12]));
	const liar = harm.has('lies') ? draw.whole(0, robotCount - 1) : undefined;
	return {
		seed,
		harms: harm,
		features: feature,
		service: {
			acceptGatherMs: draw.pick([0, 10]),
			sweepMs: draw.pick([1_000, 5_000]),
			recoveryGraceMs: draw.pick([2_000, 5_000, 10_000]),
			heartbeatMs,
		},
		robots,
		liar,
		latencyMs: harm.has('slow-network') ? draw.scale(5, 800) : draw.pick([0.2, 2, 10]),
		commitMs: harm.has('slow-disk') ? draw.scale(1, 600) : draw.pick([0, 0, 0.5, 3]),
		jobs: Array.from({ length: jobCount }, (_, i) =>
			plannedJob(`job-${i + 1}`, draw, feature, robots, harmEndsAt),
		),
		events: plannedHarm(draw, harm, robotCount, harmEndsAt, liar),
		commitFaults: plannedFaults(draw, harm, jobCount),
		journalKills: harm.has('journal-kill')
			? Array.from({ length: draw.whole(1, 4) }, () => ({
					robot: draw.whole(0, robotCount - 1),
					commit: draw.whole(1, 4 * jobCount),
				}))
			: [],
		schedule: feature.has('schedule') && draw.chance(0.3),
		harmEndsAt,
	};
}

function plannedJob(
	key: string,
	draw: Draw,
	feature: ReadonlySet<Feature>,
	robots: readonly RobotOptions[],
	harmEndsAt: number,
): PlannedJob {
	const has = (name: Feature, share = 0.5) => feature.has(name) && draw.chance(share);
	const atMs = draw.chance(0.3) ? draw.part(0, 50) : draw.part(0, harmEndsAt * 0.8);
	const runMs =
		draw.pick([0, draw.scale(1, 100), draw.scale(10, 5_000), draw.scale(100, 12_000)]) +
		(has('long', 0.3) ? draw.part(10_000, 40_000) : 0);
	const codes = has('failures')
		? Array.from({ length: draw.whole(1, 4) }, () => draw.pick([0, 0, 1, 75]))
		: [0];
	const recipe: Recipe = {
		key,
		runMs,
		codes,
		spawnErrors: has('spawn-errors', 0.3) ? draw.whole(1, 3) : 0,
		dieMs: has('stubborn', 0.4) ? draw.pick([500, 5_000, 1e9]) : draw.part(0, 20),
		outlives: draw.chance(0.5),
		pieces: feature.has('output')
			? Array.from({ length: draw.whole(0, 4) }, () => ({
					atMs: draw.part(0, runMs),
					stream: draw.pick(['stdout', 'stderr'] as const),
					bytes: draw.whole(1, 60),
				})).sort((a, b) => a.atMs - b.atMs)
			: [],
	};
	const submit: Submit = {
		kind: 'command',
		spec: { command: 'work' },
		variables: { key },
		timeouts: {},
		retry: {
			initialDelayMs: draw.pick([0, 100, 1_000]),
			maxDelayMs: 2_000,
			maxAttempts: draw.whole(1, 4),
		},
	};
	const { timeouts } = submit as Required<Submit>;
	if (!has('unkeyed', 0.3)) submit.idempotencyKey = key;
	if (has('priority')) submit.priority = draw.pick(['critical', 'high', 'normal', 'low'] as const);
	if (has('pinned', 0.4)) submit.target = { robot: draw.pick(robots).name };
	else if (has('labels')) {
		submit.target = { labels: { site: draw.pick(['a', 'b']) } };
		// Nobody may carry that label.
		timeouts.queueMs = draw.whole(5_000, 40_000);
	}
	if (submit.target?.robot === undefined) {
		if (has('group', 0.4)) submit.target = { ...submit.target, group: 'g' };
		if (has('pool', 0.4)) submit.target = { ...submit.target, pool: 'p' };
		if (has('several', 0.4)) {
			submit.target = { ...submit.target, mode: draw.pick(['all' as const, { count: 2 }]) };
		}
	}
	if (has('shared')) {
		const max = draw.whole(1, 2);
		Object.assign(
			submit,
			draw.pick([{ locks: [{ name: 'l' }] }, { concurrency: { key: 'k', max } }]),
		);
	}
	if (has('not-before', 0.4)) submit.notBefore = epochAt + Math.floor(atMs + draw.part(0, 8_000));
	if (has('queue-limit', 0.4)) timeouts.queueMs = draw.whole(50, 20_000);
	if (has('deadline', 0.4))
		timeouts.deadlineAt = epochAt + Math.floor(atMs + draw.part(50, 20_000));
	if (has('run-limit', 0.4)) timeouts.runMs = draw.whole(10, 4_000);
	if (has('silence-limit', 0.3)) timeouts.silenceMs = draw.whole(10, 4_000);
	if (feature.has('start-limit')) timeouts.startMs = draw.pick([1, 20, 300, 2_000]);
	if (feature.has('on-loss')) {
		submit.onLoss = {
			waitMs: draw.pick([0, 500, 4_000, 15_000]),
			then: draw.pick(['unknown', 'retry', 'fail'] as const),
		};
	}
	if (has('big', 0.3)) grow(draw, submit, recipe);
	if (has('on-disconnect')) submit.onDisconnect = 'stop';
	if (has('idempotent')) submit.idempotent = true;
	const soon = () => (draw.chance(0.5) ? draw.part(0, 20) : draw.part(0, runMs + 2_000));
	return {
		key,
		atMs,
		submit,
		recipe,
		...(has('cancel') ? { cancelAfterMs: soon() } : {}),
		...(submit.idempotencyKey !== undefined && has('twice') ? { twiceAfterMs: soon() } : {}),
		...(has('hold', 0.4) ? { holdAfterMs: soon() } : {}),
		...(has('force', 0.25) ? { forceAfterMs: soon() } : {}),
		retry: has('retry', 0.3),
		poll: has('poll'),
		wait: has('wait'),
	};
}

/** It fits into no message. */
export function isTooBig(submit: Submit): boolean {
	return bytesOf(submit) > limits.maxJobBytes;
}

function bytesOf({ spec, variables }: Submit): number {
	return Buffer.byteLength(JSON.stringify(spec)) + Buffer.byteLength(JSON.stringify(variables));
}

/** Close to what a message may carry, and beyond: the job, what it hands out, what it prints. */
function grow(draw: Draw, submit: Submit, recipe: Recipe): void {
	if (draw.chance(0.5)) {
		const filled = { ...submit.variables, filler: '' };
		const wanted = limits.maxJobBytes + draw.pick([-5_000, -1, 0, 1, 300_000]);
		const left = wanted - bytesOf({ ...submit, variables: filled });
		submit.variables = { ...filled, filler: 'x'.repeat(left) };
	}
	if (draw.chance(0.5)) recipe.outputsBytes = draw.pick([60_000, 900_000, 1_045_000, 1_100_000]);
	if (draw.chance(0.5)) {
		const print = () => ({
			atMs: draw.part(0, recipe.runMs),
			stream: draw.pick(['stdout', 'stderr'] as const),
			bytes: draw.whole(30_000, 600_000),
		});
		recipe.pieces = [print(), print()].sort((a, b) => a.atMs - b.atMs);
	}
}

/** How often each harm strikes in a world that has it, and for how long. */
const strikes: Partial<Record<Harm, { most: number; forMs: [least: number, most: number] }>> = {
	'service-kill': { most: 4, forMs: [1, 4_000] },
	'service-stop': { most: 2, forMs: [1, 4_000] },
	'disk-full': { most: 2, forMs: [10, 6_000] },
	'agent-kill': { most: 4, forMs: [1, 20_000] },
	'agent-stop': { most: 2, forMs: [1, 5_000] },
	'agent-disk-full': { most: 2, forMs: [10, 6_000] },
	'power-cut': { most: 2, forMs: [500, 20_000] },
	'memory-loss': { most: 1, forMs: [500, 10_000] },
	cut: { most: 8, forMs: [1, 1] },
	'half-open': { most: 2, forMs: [1, 1] },
	refused: { most: 2, forMs: [100, 20_000] },
	blackhole: { most: 2, forMs: [100, 15_000] },
	'service-pause': { most: 2, forMs: [10, 15_000] },
	'service-suspend': { most: 1, forMs: [100, 60_000] },
	'agent-pause': { most: 2, forMs: [10, 30_000] },
	'agent-suspend': { most: 1, forMs: [100, 60_000] },
	'service-clock': { most: 3, forMs: [1, 15_000] },
	'agent-clock': { most: 3, forMs: [1, 1e11] },
	'robot-pause': { most: 2, forMs: [100, 10_000] },
	'start-stall': { most: 4, forMs: [100, 25_000] },
	'answer-stall': { most: 4, forMs: [100, 25_000] },
	'robot-removed': { most: 2, forMs: [1, 1] },
	rearranged: { most: 8, forMs: [1, 1] },
	echo: { most: 20, forMs: [1, 1] },
	lies: { most: 200, forMs: [1, 1] },
};

function plannedHarm(
	draw: Draw,
	harm: ReadonlySet<Harm>,
	robotCount: number,
	harmEndsAt: number,
	liar: number | undefined,
): PlannedHarm[] {
	/** The first robot stays: what it alone may do must not wait for ever. */
	const robotFor = (name: Harm) =>
		name === 'lies' ? liar! : draw.whole(name === 'robot-removed' ? 1 : 0, robotCount - 1);
	return [...harm]
		.filter((name) => name !== 'robot-removed' || robotCount > 1)
		.flatMap((name) => {
			const strike = strikes[name];
			return Array.from({ length: strike ? draw.whole(1, strike.most) : 0 }, () => ({
				atMs: draw.part(0, harmEndsAt),
				harm: name,
				robot: robotFor(name),
				forMs: draw.scale(...strike!.forMs),
			}));
		})
		.sort((a, b) => a.atMs - b.atMs);
}

function plannedFaults(
	draw: Draw,
	harm: ReadonlySet<Harm>,
	jobCount: number,
): Map<number, CommitFault> {
	const faults = new Map<number, CommitFault>();
	const plan = (fault: CommitFault) => faults.set(draw.whole(1, 6 * jobCount + 6), fault);
	if (harm.has('commit-kill')) {
		for (let n = draw.whole(1, 5); n > 0; n -= 1) {
			plan(draw.pick(['kill-before', 'kill-after']));
		}
	}
	if (harm.has('disk-error')) plan(draw.pick(['error-before', 'error-after']));
	return faults;
}
