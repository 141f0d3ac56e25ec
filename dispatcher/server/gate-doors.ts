/** The doors to what jobs share: locks, keys, rates, and limits of them. */
import { answers, limitRequest } from '../../protocol/schemas';
import { type Door, door } from './door';

export const gateDoors = {
	locks: door({
		answer: answers.listOf(answers.gate),
		run: async (_ask, { engine }) => ({ items: await engine.locks() }),
	}),
	limitPut: door({
		body: limitRequest,
		answer: answers.limit,
		run: ({ id, body, caller }, { engine }) => engine.putLimit(id, body, caller),
	}),
	limitRemove: door({ run: ({ id }, { engine }) => engine.removeLimit(id) }),
} as const satisfies Record<string, Door>;
