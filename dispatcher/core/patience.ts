/** How long a job that is for one robot waits while that robot is away. Pure. */
import { type JobOffline, limits, type Offline, type Target } from '../../protocol';

/** As kept with the job; `forMs` only so that another try of it gets just as long. */
export interface Patience extends JobOffline {
	forMs?: number;
}

/** A robot that was seen this short ago is not away: it may be coming back. */
export const awayMs = limits.heartbeatMs * limits.missedHeartbeats;

/** What a submit means; a text = what is wrong with it, and where. */
export function patienceOf(
	{ until, forMs, then = 'expire' }: Offline,
	target: Target,
	readyAt: number,
): Patience | { path: string; reason: string } {
	if ((until === undefined) === (forMs === undefined)) {
		return { path: 'offline', reason: 'give exactly one of "until" and "forMs"' };
	}
	const several = target.mode !== undefined && target.mode !== 'one';
	if (target.robot === undefined && !several) {
		return { path: 'offline', reason: 'is for jobs for one robot: name it in target.robot' };
	}
	if (several && then === 'other') {
		const reason = 'is not for jobs for several robots, which already have theirs';
		return { path: 'offline.then', reason: `"other" ${reason}` };
	}
	if (until !== undefined && until <= readyAt) {
		return { path: 'offline.until', reason: 'is before the job can start' };
	}
	return forMs === undefined ? { until: until!, then } : { until: readyAt + forMs, then, forMs };
}

/** For another try of the job by hand: just as long again; an instant that has passed would only end it again. */
export function renewed({ until, forMs, then }: Patience, now: number): Patience | undefined {
	if (forMs !== undefined) return { until: now + forMs, then, forMs };
	return until > now ? { until, then } : undefined;
}

/** When a queued job needs a look because of it. */
export function patienceEndsAt(patience: Patience | undefined): number {
	return patience === undefined || patience.asked ? Infinity : patience.until;
}
