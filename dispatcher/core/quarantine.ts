/**
 * When a robot is to blame for what became of its jobs, and how much of it is enough. Pure.
 *
 * A *strike* is a job whose attempt ended for a reason of the robot's own. Enough different jobs in a row, with none in
 * between that shows that the robot can work, put it into quarantine. One bad job must not take down a fleet:
 *
 * - a job counts once on a robot, however often it is tried there; children of one parent are one job;
 * - a job that strikes on several robots counts on none of them: the job is what they have in common;
 * - what the robot holds when it goes away is one strike, not one per slot;
 * - the service puts no more than half of the robots into quarantine (or one, if that is more).
 */
import { type Cause, limits } from '../../protocol';

export interface Strike {
	/** What counts once: a job, a parent with all its children, an absence. */
	work: string;
	at: number;
	cause: Cause;
	/** What was told of it, in one sentence. */
	text: string;
	/** It struck on another robot, too. */
	elsewhere?: true;
}

/** It speaks against the robot, shows that it can work (`works`), or says nothing. */
export type Blame = { cause: Cause; text: string } | 'works' | undefined;

/** What a system says when it has run out of something, or its disk fails; not what it says of a missing program. */
const spent = /\b(?:EAGAIN|ENOMEM|EMFILE|ENFILE|ENOSPC|EDQUOT|EROFS|EIO)\b/;

/** Of an attempt that its robot has ended. */
export function blameOf(cause: Cause | null, message: string): Blame {
	switch (cause) {
		case null:
		case 'exit_code':
		case 'signal':
		case 'run_timeout':
		case 'silence_timeout':
		case 'policy':
			return 'works';
		case 'infrastructure':
		case 'unknown':
			return { cause, text: message };
		case 'spawn_error':
			// A missing program or folder is the job's own mistake.
			return spent.test(message) ? { cause, text: message } : undefined;
		default:
			return undefined;
	}
}

/** How many are kept beyond `enough`, in case some stop counting; older ones say nothing. */
const spare = 20;

export function strikesOf(stored: string | null): readonly Strike[] {
	return stored === null ? [] : (JSON.parse(stored) as Strike[]);
}

/** With one more strike, which replaces an earlier one of the same work. `enough` = how many it takes. */
export function withStrike(strikes: readonly Strike[], strike: Strike, enough = 0): Strike[] {
	return [...strikes.filter(({ work }) => work !== strike.work), strike].slice(-(enough + spare));
}

/** What happens on other robots too is not this robot's fault. */
export function excused(strikes: readonly Strike[], work: string): Strike[] | undefined {
	const known = strikes.find((strike) => strike.work === work);
	if (!known || known.elsewhere) return undefined;
	return strikes.map((strike) => (strike === known ? { ...strike, elsewhere: true } : strike));
}

export function countOf(strikes: readonly Strike[]): number {
	return strikes.filter(({ elsewhere }) => !elsewhere).length;
}

/** Whether the service may put away one more robot, out of this many in all. */
export function mayPutAway(robots: number, putAway: number): boolean {
	return putAway < Math.max(1, Math.floor(robots / 2));
}

/** From one probe to the next. */
export function probeAfterMs(failed: number): number {
	return Math.min(limits.probeMaxMs, limits.probeMinMs * 2 ** Math.min(failed, 20));
}

export function reasonOf(strikes: readonly Strike[]): string {
	const count = countOf(strikes);
	const last = oneLine(strikes.at(-1)!.text);
	return count === 1
		? `a job failed for a reason of the robot's own: ${last}`
		: `${count} jobs in a row failed for reasons of the robot's own, the last one: ${last}`;
}

const maxText = 300;

export function oneLine(text: string): string {
	const line = text.replace(/\s+/g, ' ').trim().replace(/[.!]$/, '');
	return line.length > maxText ? `${line.slice(0, maxText - 1)}…` : line;
}
