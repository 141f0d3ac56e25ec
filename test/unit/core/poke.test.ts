/** The table of what n8n, and what stands before it, may answer to a poke. */
import { meaningOf, type PokeMeaning } from '../../../dispatcher/core/poke';

const n8n = (message: string) => ({ code: 0, message });
const long = 'x'.repeat(5_000);

test.each<[string, { status: number; body?: unknown }, PokeMeaning, string | null]>([
	['taken', { status: 200, body: { resumed: true } }, 'resumed', null],
	['not over', { status: 200, body: { resumed: false, reason: 'x' } }, 'parked', 'x'],
	[
		'far too much',
		{ status: 200, body: { resumed: false, reason: long } },
		'parked',
		long.slice(0, 500),
	],
	['another wait', { status: 200, body: { resumed: false, stale: true } }, 'stale', 'not ready'],
	['n8n starts: text', { status: 200 }, 'away', 'n8n is starting up'],
	['another page', { status: 200, body: { ok: true } }, 'away', 'n8n is starting up'],
	['a redirect', { status: 302 }, 'away', 'HTTP 302'],
	[
		'not parked yet',
		{ status: 409, body: n8n('The execution "7" is running already.') },
		'busy',
		'The execution "7" is running already.',
	],
	[
		'ended',
		// n8n forgets a quote there.
		{ status: 409, body: n8n('The execution "7 has finished already.') },
		'over',
		'The execution "7 has finished already.',
	],
	[
		'stopped',
		{ status: 409, body: n8n('The execution "7" has finished with error.') },
		'stopped',
		'The execution "7" has finished with error.',
	],
	['409 of a gateway', { status: 409, body: { message: 'conflict' } }, 'away', 'conflict'],
	[
		'deleted',
		{ status: 404, body: n8n('The execution "7" does not exist.') },
		'gone',
		'The execution "7" does not exist.',
	],
	[
		'another node waits',
		{
			status: 404,
			body: n8n(
				'The workflow for execution "7" does not contain a waiting webhook with a matching path/method.',
			),
		},
		'stale',
		'The workflow for execution "7" does not contain a waiting webhook with a matching path/method.',
	],
	['404 before the routes exist: HTML', { status: 404 }, 'away', 'HTTP 404'],
	[
		'404 of a gateway',
		{ status: 404, body: { message: 'no Route matched with those values' } },
		'away',
		'no Route matched with those values',
	],
	['wrong token', { status: 401, body: { error: 'Invalid token' } }, 'refused', 'Invalid token'],
	['401 of a proxy', { status: 401, body: { error: 'login' } }, 'away', 'login'],
	['403 of a proxy', { status: 403 }, 'away', 'HTTP 403'],
	['webhook() threw, or no such node type', { status: 500, body: n8n('oops') }, 'away', 'oops'],
	[
		'service away when the node asked',
		{ status: 503, body: { resumed: false, reason: 'gone' } },
		'away',
		'gone',
	],
	['nothing came back', { status: 0 }, 'away', 'no answer'],
	['a body that is no object', { status: 500, body: 'text' }, 'away', 'HTTP 500'],
	['a body that is null', { status: 200, body: null }, 'away', 'n8n is starting up'],
])('%s', (_what, answer, means, say) => {
	expect(meaningOf(answer)).toEqual({ means, say });
});
