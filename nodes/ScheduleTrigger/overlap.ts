/**
 * What happens to an occurrence that comes due while an execution that this trigger has started still runs. n8n tells a
 * trigger when an execution it started has ended or was parked, and nothing more: a parked one counts as ended.
 *
 * - `allow`     both run
 * - `skip`      it is left out
 * - `queue-one` one waits for the end; further ones are left out
 * - `queue-all` all wait, one after the other
 *
 * Those that wait are kept in the service, where they outlive n8n. What a person asked for (runs by hand, backfills)
 * is never left out.
 */
import type { FleetEvent, ScheduleDueEvent } from '../../protocol';

export type WhileRunning = 'allow' | 'skip' | 'queue-one' | 'queue-all';

export interface Turn {
	/** The one that starts now. */
	next: ScheduleDueEvent | undefined;
	/** All up to this cursor is dealt with once that has started. */
	upTo: number;
	/** Those that are left out. */
	left: number;
}

/**
 * `pending`: what nobody has dealt with, in order and not empty. `ran`: an execution ran until now, and they came due
 * meanwhile.
 */
export function nextTurn(
	pending: readonly FleetEvent[],
	rule: WhileRunning,
	ran: boolean,
	wants: (event: FleetEvent) => boolean,
): Turn {
	let planned = 0;
	let left = 0;
	const staying = pending.filter((event): event is ScheduleDueEvent => {
		if (event.type !== 'schedule.due' || !wants(event)) return false;
		if (!ran || event.data.origin !== 'planned') return true;
		planned += 1;
		const most = rule === 'skip' ? 0 : rule === 'queue-one' ? 1 : Infinity;
		if (planned <= most) return true;
		left += 1;
		return false;
	});
	const [next, after] = staying;
	const last = pending.at(-1)!.cursor;
	return { next, upTo: after === undefined ? last : after.cursor - 1, left };
}
