/** The doors to groups and pools of robots. */
import { answers, groupRequest, poolRequest } from '../../protocol/schemas';
import { type Door, door } from './door';

const { listOf } = answers;

export const placementDoors = {
	groups: door({
		answer: listOf(answers.group),
		run: async (_ask, { engine }) => ({ items: await engine.groups() }),
	}),
	group: door({ answer: answers.group, run: ({ id }, { engine }) => engine.group(id) }),
	groupPut: door({
		body: groupRequest,
		answer: answers.group,
		run: ({ id, body, caller }, { engine }) => engine.putGroup(id, body, caller),
	}),
	groupRemove: door({ run: ({ id, caller }, { engine }) => engine.removeGroup(id, caller) }),
	pools: door({
		answer: listOf(answers.pool),
		run: async (_ask, { engine }) => ({ items: await engine.pools() }),
	}),
	pool: door({ answer: answers.pool, run: ({ id }, { engine }) => engine.pool(id) }),
	poolPut: door({
		body: poolRequest,
		answer: answers.pool,
		run: ({ id, body, caller }, { engine }) => engine.putPool(id, body, caller),
	}),
	poolRemove: door({ run: ({ id, caller }, { engine }) => engine.removePool(id, caller) }),
} as const satisfies Record<string, Door>;
