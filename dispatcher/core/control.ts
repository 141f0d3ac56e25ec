/** When people close a robot: what their word changes, and how it is told. Pure. */
import type { Closed, Closing, Quarantine } from '../../protocol';

export function closedOf(stored: string | null): Closed | null {
	return stored === null ? null : (JSON.parse(stored) as Closed);
}

/** What somebody wants; `closedBy` says what is left as it is. */
export interface CloseWish {
	as: Closing;
	reason?: string;
	until?: number;
}

/**
 * The robot closed as wished; undefined when it is so already. Saying the same again and nothing more keeps reason and
 * end, so that a call may be repeated; anything else replaces all that was said before.
 */
export function closedBy(
	before: Closed | null,
	{ as, reason, until }: CloseWish,
	by: string,
	now: number,
): Closed | undefined {
	const again = before?.as === as;
	if (again && reason === undefined && until === undefined) return undefined;
	const said = { reason: reason ?? null, until: until ?? null };
	if (again && before.reason === said.reason && before.until === said.until) return undefined;
	return { as, by, since: again ? before.since : now, ...said };
}

const words: Record<Closing, string> = {
	paused: 'is paused',
	draining: 'is being drained',
	maintenance: 'is in maintenance',
};

/** `is in maintenance until 2026-05-01 18:00 UTC: disk swap (by anna)`. */
export function tellClosed({ as, reason, by, until }: Closed): string {
	const end = until === null ? '' : ` until ${utc(until)}`;
	const why = reason === null ? '' : `: ${reason}`;
	return `${words[as]}${end}${why}${by === null ? '' : ` (by ${by})`}`;
}

export function quarantineOf(stored: string | null): Quarantine | null {
	return stored === null ? null : (JSON.parse(stored) as Quarantine);
}

export function tellQuarantine({ reason, nextProbeAt }: Quarantine): string {
	const next =
		nextProbeAt === null ? 'until a person lifts it' : `and is probed at ${utc(nextProbeAt)}`;
	return `is in quarantine (${reason}) ${next}`;
}

/** For sentences: nobody knows in which time zone they are read. */
export function utc(at: number): string {
	return `${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
