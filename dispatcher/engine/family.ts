/** The end of a parent: to be asked for behind every deed that may end a child. */
import { parentEndings } from '../core/parents';
import type { Context } from './context';
import type { Turn } from './turns';

/** Once a turn is enough for all children of a parent. */
export function childEnds({ watchers }: Context, turn: Turn, parentId: string | null): void {
	if (parentId === null) return;
	turn.behind(parentId, () => {
		const settle = { parentId, at: turn.now, endings: parentEndings };
		turn.add('settleParent', settle, (ended) => {
			if (ended) watchers.ended(parentId);
		});
	});
}
