/**
 * Going out in batches: how many robots each has, when the next one may go, and when no more may. Decided by
 * counts alone, so that asking twice gives the same step once, and nothing the second time.
 */
import type { Rollout, RolloutRecord, RolloutState, Timeouts } from '../../protocol';
import { type Patience, patienceEndsAt } from './patience';
import { never } from './waiting';

/** A rollout as it was frozen when its job started. */
export interface Plan {
	/** How many robots each batch has, in order; none is empty. */
	batches: number[];
	/** The first of them goes first and alone, and must not fail. */
	canary: boolean;
	/** More failures than this stop it. */
	maxFailures: number;
	staggerMs: number;
	/** Between two batches: none (false), until a person says so (true), or this long. */
	pause: boolean | number;
	/** How long a child may wait for its robot, from when its batch goes. */
	queueMs?: number;
	deadlineAt?: number;
}

export function planOf(
	rollout: Rollout,
	robots: number,
	{ queueMs, deadlineAt }: Pick<Timeouts, 'queueMs' | 'deadlineAt'>,
): Plan {
	const canary = Math.min(robots, rollout.canary ?? 0);
	const size = Math.max(1, shareOf(rollout.batch, robots));
	const batches = canary > 0 ? [canary] : [];
	for (let left = robots - canary; left > 0; left -= size) batches.push(Math.min(size, left));
	return {
		batches,
		canary: canary > 0,
		maxFailures: shareOf(rollout.maxFailures ?? 0, robots),
		staggerMs: rollout.staggerMs ?? 0,
		pause: rollout.pauseBetween ?? false,
		...(queueMs === undefined ? {} : { queueMs }),
		...(deadlineAt === undefined ? {} : { deadlineAt }),
	};
}

/** `25%` of them, rounded down, or the number itself. */
export function shareOf(value: number | string, total: number): number {
	return typeof value === 'number' ? value : Math.floor((total * Number.parseInt(value, 10)) / 100);
}

/** The batch of each child, from 1, in the order in which they go out. */
export function batchesOf({ batches }: Plan): number[] {
	return batches.flatMap((size, i) => Array.from({ length: size }, () => i + 1));
}

/** How far it is. */
export interface Progress {
	state: Exclude<RolloutState, 'over'>;
	/** The last batch that was let go; 0 = none. */
	batch: number;
	/** Failures up to when a person last let it go on: they no longer count. */
	forgiven: number;
}

/** Of all its children. */
export interface Standing {
	/** Failed, or out of time. */
	failed: number;
	/** Let go, and not ended. */
	open: number;
	/** The first batch with children that are kept back; null when there are none. */
	next: number | null;
}

export type Step =
	/** Lets go those of this batch that are kept back, `waitMs` from now. */
	| { do: 'open'; batch: number; waitMs: number }
	/** Keeps back what was let go and has not started, if there is any of it. */
	| { do: 'stop' }
	/** The batch is done, and a person says when the next one goes. */
	| { do: 'pause' };

/** What is to be done now; `undefined` = nothing until another child has ended. */
export function nextStep(plan: Plan, progress: Progress, standing: Standing): Step | undefined {
	const { state, batch, forgiven } = progress;
	const { failed, open, next } = standing;
	if (state === 'stopped') return undefined;
	const allowed = plan.canary && batch === 1 ? 0 : plan.maxFailures;
	// Also when all batches have gone: what has not started yet does not start.
	if (failed - forgiven > allowed && (next !== null || open > 0)) return { do: 'stop' };
	if (state === 'paused' || open > 0 || next === null) return undefined;
	if (batch === 0 || next <= batch) return { do: 'open', batch: next, waitMs: 0 };
	if (plan.pause === true) return { do: 'pause' };
	return { do: 'open', batch: next, waitMs: plan.pause === false ? 0 : plan.pause };
}

/** A person lets it go on: what was kept back of a batch under way goes, or the next batch when that is done. */
export function resumeStep(progress: Progress, { open, next }: Standing): Step | undefined {
	if (next === null || (open > 0 && next > progress.batch)) return undefined;
	return { do: 'open', batch: next, waitMs: 0 };
}

/**
 * When the child at this place of its batch is eligible, how long it waits for its robot from then on, and when it
 * next needs a look.
 */
export function eligible(
	plan: Plan,
	place: number,
	openAt: number,
	now: number,
	patience?: Patience,
): {
	state: 'pending' | 'queued';
	readyAt: number;
	dueAt: number | null;
	offline: Patience | undefined;
} {
	const readyAt = openAt + place * plan.staggerMs;
	const offline = countedFrom(readyAt, patience);
	const dueAt = Math.min(
		// Before it can start nobody waits for its robot.
		readyAt > now ? readyAt : patienceEndsAt(offline),
		readyAt + (plan.queueMs ?? Infinity),
		plan.deadlineAt ?? Infinity,
	);
	return {
		state: readyAt > now ? 'pending' : 'queued',
		readyAt,
		dueAt: Number.isFinite(dueAt) ? dueAt : null,
		offline,
	};
}

/** An instant stays what it is, and what was asked is not asked again. */
function countedFrom(readyAt: number, patience: Patience | undefined): Patience | undefined {
	return patience?.forMs === undefined || patience.asked
		? patience
		: { ...patience, until: readyAt + patience.forMs };
}

/** When a child that is kept back needs a look: nothing but its deadline wakes it. */
export function shutUntil({ deadlineAt }: Pick<Timeouts, 'deadlineAt'>): number {
	return Math.min(deadlineAt ?? never, never);
}

/** `batch 2 of 5` */
export function batchText({ batches }: Pick<Plan, 'batches'>, batch: number): string {
	return `batch ${batch} of ${batches.length}`;
}

/** `stopped after 3 of 40 failed` */
export function stoppedText({ batches }: Pick<Plan, 'batches'>, failed: number): string {
	return `stopped after ${failed} of ${batches.reduce((sum, size) => sum + size, 0)} failed`;
}

/** Why a child that is kept back waits. */
export function whyShut(parentId: string, batch: number, rollout: RolloutRecord): string {
	const waits = `The job waits for ${batchText(rollout, batch)}`;
	const on = `resume it with: robot-fleet jobs resume ${parentId}, or end it with: robot-fleet jobs cancel ${parentId}.`;
	if (rollout.state === 'stopped' || rollout.state === 'paused') {
		return `${waits}; job ${parentId} is ${rollout.reason}. Look at it, and ${on}`;
	}
	return rollout.batch === 0
		? `${waits}.`
		: `${waits}; ${batchText(rollout, rollout.batch)} is under way.`;
}

/** What is added to why a parent waits for its children. */
export function whyRollout(parentId: string, rollout: RolloutRecord): string {
	if (rollout.state === 'stopped' || rollout.state === 'paused') {
		return ` It is ${rollout.reason}; resume it with: robot-fleet jobs resume ${parentId}, or end it with: robot-fleet jobs cancel ${parentId}.`;
	}
	return rollout.state === 'running' && rollout.batch > 0
		? ` ${batchText(rollout, rollout.batch).replace('batch', 'Batch')} is under way.`
		: '';
}
