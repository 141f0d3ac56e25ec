/**
 * What becomes of a job when one of its attempts is over: its end, or another try later.
 * One layer decides, from the cause; nothing else in the service retries a job.
 */
import type {
	Caps,
	Cause,
	FinalState,
	OnLoss,
	Retry,
	Rollout,
	Strategy,
	Takes,
	Timeouts,
	Watch,
} from '../../protocol';
import { limits } from '../../protocol';
import { takesOf } from './needs';
import type { Patience } from './patience';

/** Everything a job says about how it wants to be treated, defaults filled in. */
export interface Policy extends Takes {
	timeouts: Timeouts & { startMs: number; runMs: number };
	/** From when its time in the queue counts, if not from when it was made; null = not yet, its batch was not let go. */
	queueSince?: number | null;
	retry: Required<Retry>;
	onLoss: Required<OnLoss>;
	onDisconnect: 'continue' | 'stop';
	onHang: 'report' | 'stop';
	idempotent: boolean;
	offline?: Patience;
	watch?: Watch;
	caps?: Caps;
	strategy?: Strategy;
	preferWaitMs?: number;
	/** Of a parent; its children have none. */
	rollout?: Rollout;
}

export const retryDefaults: Required<Retry> = {
	maxAttempts: 3,
	initialDelayMs: 1_000,
	maxDelayMs: 60_000,
	factor: 2,
	jitter: 0.2,
	on: ['refused', 'spawn_error', 'infrastructure', 'exit:75'],
	otherRobot: false,
};

export const lossDefaults: Required<OnLoss> = { waitMs: limits.lossWaitMs, then: 'unknown' };

/** A policy as text: defaults are left out, since most jobs carry the same one. */
export function policyText(policy: Policy): string {
	const {
		timeouts,
		queueSince,
		retry,
		onLoss,
		onDisconnect,
		onHang,
		idempotent,
		offline,
		watch,
		caps,
		strategy,
		preferWaitMs,
		rollout,
	} = policy;
	const same = (a: object, b: object) => a === b || JSON.stringify(a) === JSON.stringify(b);
	return JSON.stringify({
		timeouts,
		...(queueSince === undefined ? {} : { queueSince }),
		...(same(retry, retryDefaults) ? {} : { retry }),
		...(same(onLoss, lossDefaults) ? {} : { onLoss }),
		...(onDisconnect === 'continue' ? {} : { onDisconnect }),
		...(onHang === 'report' ? {} : { onHang }),
		...(idempotent ? { idempotent } : {}),
		...(offline === undefined ? {} : { offline }),
		...(watch === undefined ? {} : { watch }),
		...(caps === undefined ? {} : { caps }),
		...(strategy === undefined ? {} : { strategy }),
		...(preferWaitMs === undefined ? {} : { preferWaitMs }),
		...(rollout === undefined ? {} : { rollout }),
		...takesOf(policy),
	});
}

const remembered = new Map<string, Policy>();
const maxRemembered = 1_000;

/** The policy of a text; the same object for the same text, so do not change it. */
export function policyOf(text: string): Policy {
	const known = remembered.get(text);
	if (known) return known;
	const said = JSON.parse(text) as Partial<Policy> & Pick<Policy, 'timeouts'>;
	const policy: Policy = {
		retry: retryDefaults,
		onLoss: lossDefaults,
		onDisconnect: 'continue',
		onHang: 'report',
		idempotent: false,
		...said,
	};
	if (remembered.size >= maxRemembered) remembered.clear();
	remembered.set(text, policy);
	return policy;
}

export interface Ending {
	state: FinalState;
	cause: Cause | null;
	exitCode: number | null;
}

export type Next =
	{ to: FinalState; cause: Cause | null } | { to: 'pending'; delayMs: number; reason: string };

/** Attempts of the job, including the one that just ended. */
export interface Counts {
	/** Those whose end is known. */
	tries: number;
	/** Those of which nobody can know how far they got. */
	losses: number;
}

/** Whether nobody can know how far the attempt got: it counts as a loss, whoever says so. */
export function isLoss(ending: Ending): boolean {
	return ending.state === 'failed' && ending.cause === 'unknown';
}

/** `chance` is 0…1. */
export function afterAttempt(
	ending: Ending,
	policy: Policy,
	counts: Counts,
	cancelRequested: boolean,
	chance: number,
): Next {
	const end: Next = { to: ending.state, cause: ending.cause };
	// Once a cancel is on record the job never becomes pending or queued again.
	if (ending.state === 'completed' || ending.state === 'cancelled' || cancelRequested) return end;
	const { tries, losses } = counts;
	const lost = isLoss(ending);
	// A loss is tried again as often as losses may be; under the rules for failures, losses count as tries too.
	const again =
		worthAnotherTry(ending, policy) && tries + (lost ? losses : 0) < policy.retry.maxAttempts;
	if (lost) return afterLoss(policy, losses, false, again);
	if (!again) return end;
	return {
		to: 'pending',
		delayMs: delayMs(policy.retry, tries, chance),
		reason: `retry after ${ending.cause}`,
	};
}

function worthAnotherTry(ending: Ending, policy: Policy): boolean {
	// After its deadline there is no time for another one.
	if (ending.cause === null || ending.cause === 'deadline') return false;
	if (policy.idempotent) return ending.cause !== 'invalid' && ending.cause !== 'policy';
	if (policy.retry.on.includes(ending.cause)) return true;
	return ending.cause === 'exit_code' && policy.retry.on.includes(`exit:${ending.exitCode}`);
}

export function delayMs(retry: Required<Retry>, tries: number, chance: number): number {
	// A high power of the factor can overflow to Infinity, and 0 times that is not a number.
	const times = Math.min(Number.MAX_VALUE, retry.factor ** (tries - 1));
	const base = Math.min(retry.maxDelayMs, retry.initialDelayMs * times);
	return Math.round(base * (1 - retry.jitter + 2 * retry.jitter * chance));
}

/**
 * Nobody can know how far the attempt got: do what the job's own policy says, never guess. `again`
 * = the job says in other words that it may run twice.
 */
export function afterLoss(
	policy: Policy,
	losses: number,
	cancelRequested: boolean,
	again = false,
): Next {
	if (cancelRequested) return { to: 'cancelled', cause: 'cancelled' };
	const { then } = policy.onLoss;
	if (then === 'fail') return { to: 'failed', cause: 'robot_lost' };
	if (then === 'unknown' && !again) return { to: 'failed', cause: 'unknown' };
	if (losses >= limits.maxLosses) return { to: 'failed', cause: 'robot_lost' };
	return { to: 'pending', delayMs: 0, reason: 'retry after robot_lost' };
}
