/**
 * Which of the planned times that are due are run, and which were missed. What is up to a minute late is in time, and
 * is run. Of what is later, `last` runs the newest if nothing newer is in time, `all` the newest up to a limit, and
 * `none` nothing; what is older than allowed is never run.
 */
import type { Definition } from './schedule';

/** This late is still in time. */
export const graceMs = 60_000;

export interface Due {
	/** The planned time. */
	at: number;
	/** With its jitter. */
	dueAt: number;
}

export interface Dealt<D> {
	run: D[];
	missed: D[];
}

/** `due`: what has come due by `now`, oldest first. Every one of them is in exactly one of the answer's lists. */
export function dealWith<D extends Due>(
	due: readonly D[],
	now: number,
	{ missed, catchUpMs, catchUpMax }: Pick<Definition, 'missed' | 'catchUpMs' | 'catchUpMax'>,
): Dealt<D> {
	const oldest = missed === 'none' ? graceMs : Math.max(graceMs, catchUpMs);
	const inTime = due.filter(({ dueAt }) => now - dueAt <= graceMs).length;
	const most = Math.max(1, inTime, missed === 'all' ? catchUpMax : 1);
	const young = due.filter(({ dueAt }) => now - dueAt <= oldest);
	const run = young.slice(-most);
	const chosen = new Set(run);
	return { run, missed: due.filter((one) => !chosen.has(one)) };
}

/**
 * Always the same for the same run: 0 ≤ jitter ≤ `jitterMs`, and never so much that the run would come after the next
 * planned time, so that runs keep their order.
 */
export function jitterOf(
	scheduleId: string,
	plannedAt: number,
	jitterMs: number,
	nextAt: number | undefined,
): number {
	const most = Math.min(jitterMs, (nextAt ?? Infinity) - plannedAt - 1);
	if (most <= 0) return 0;
	// FNV-1a with a final mix: neighbours in time must not be neighbours in jitter.
	let hash = 0x811c9dc5;
	for (const character of `${scheduleId} ${plannedAt}`) {
		hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
	}
	hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
	hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
	hash = (hash ^ (hash >>> 15)) >>> 0;
	return Math.floor((hash / 2 ** 32) * (most + 1));
}
