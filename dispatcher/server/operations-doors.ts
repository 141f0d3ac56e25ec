/** The doors for operators and programs that look at the service itself. */
import { kinds } from '../../kinds';
import { Problem } from '../../protocol';
import { answers } from '../../protocol/schemas';
import { Type } from 'typebox';
import { type Door, door } from './door';

/** Until there is a dashboard: what this is, how it is, and where to go on. Holds nothing secret. */
const frontPage = (readiness: string, n8nUrl: string) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Robot Fleet</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}code{background:#8882;padding:.1em .3em}</style>
<main>
<h1>Robot Fleet</h1>
<p>The service is <strong>${readiness}</strong>.</p>
<ul>
${n8nUrl === '' ? '' : `<li><a href="${n8nUrl}">n8n</a>, where the nodes are</li>\n`}<li><a href="/api/v1/openapi.json">The API</a>; every call needs a key</li>
<li>On this machine: <code>robot-fleet jobs list</code>, <code>robot-fleet robots list</code>, <code>robot-fleet doctor</code></li>
</ul>
</main>
</html>
`;

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
	live: door({
		run() {
			throw new Problem('bad-message', {
				reason: 'this is a WebSocket; open it with ws:// or wss://',
			});
		},
	}),
	front: door({
		run({ reply }, { engine, settings }) {
			const page = frontPage(engine.readiness, String(settings['n8nUrl'] ?? ''));
			return reply.type('text/html; charset=utf-8').send(page);
		},
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
