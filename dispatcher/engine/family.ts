/**
 * What a child's end means for its parent, to be asked for after every deed that may end one: the
 * parent's own end, or the next step of its rollout. Memory follows what the store did.
 */
import { parentEndings } from '../core/parents';
import type { RolloutMove } from '../store/store';
import type { Context } from './context';
import type { Turn } from './turns';

/** Once a turn is enough for all children of a parent. */
export function childEnds(context: Context, turn: Turn, parentId: string | null): void {
	if (parentId === null) return;
	turn.behind(parentId, () => {
		const settle = { parentId, at: turn.now, endings: parentEndings };
		turn.add('settleParent', settle, (outcome) => {
			if (typeof outcome === 'string') context.watchers.ended(parentId);
			else if (outcome) followRollout(context, outcome);
			context.watchers.childEnded(parentId);
		});
	});
}

/** Children were let go, or kept back: the lanes and the count of what waits must know. */
export function followRollout(context: Context, { moved }: RolloutMove): void {
	const { backlog, lanes, turns } = context;
	let queued = false;
	for (const { was, is, lane, shareKey, needs, ...child } of moved) {
		const { id, priority, owner, bytes, attempt, bars, affinity } = child;
		const waiting = { id, priority, owner, bytes, lane };
		backlog.leave({ ...waiting, ...was });
		backlog.enter({ ...waiting, state: is.state, rank: is.rank });
		context.dueAt(is.dueAt);
		if (was.state === 'queued') lanes.drop({ lane, shareKey, needs }, id);
		if (is.state !== 'queued') continue;
		queued = true;
		const head = { id, priority, owner, bytes, rank: is.rank, attempt, bars, affinity };
		lanes.push({ lane, shareKey, needs }, head);
	}
	if (queued) turns.nudge();
}
