/** The doors for operators and programs that look at the service itself. */
import { kinds } from '../../kinds';
import { Problem } from '../../protocol';
import { answers } from '../../protocol/schemas';
import { Type } from 'typebox';
import { type Door, door } from './door';

const state = Type.Object({ status: Type.String() });

export const operationsDoors = {
	kinds: door({
		answer: answers.listOf(
			Type.Object({ name: Type.String(), summary: Type.String(), schema: Type.Object({}) }),
		),
		run: () => ({
			items: [...kinds.values()].map(({ name, summary, schema }) => ({ name, summary, schema })),
		}),
	}),
	config: door({
		answer: Type.Record(Type.String(), Type.Unknown()),
		run: (_ask, { settings }) => settings,
	}),
	me: door({
		answer: answers.me,
		run: ({ caller }) => ({ name: caller.name, scopes: caller.scopes }),
	}),
	healthz: door({ answer: state, run: () => ({ status: 'ok' }) }),
	readyz: door({
		answer: state,
		run(_ask, { engine }) {
			if (engine.readiness !== 'ready') throw new Problem('not-ready', { state: engine.readiness });
			return { status: 'ready' };
		},
	}),
} as const satisfies Record<string, Door>;
