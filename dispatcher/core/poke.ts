/**
 * What an answer to a poke means. There may be proxies with pages of their own between the service and n8n, and n8n
 * answers 200 to anything while it starts; so only the body of our node, and n8n's own words about an execution, are
 * believed. Anything else means: not now, try again.
 */

/**
 * - `resumed` the outcome was taken
 * - `parked`  our node answered, and the execution goes on waiting
 * - `stale`   the execution waits for something else
 * - `busy`    it runs: not parked yet, or resumed already
 * - `over`    it has ended
 * - `stopped` it has ended without success; one that was parked was stopped by somebody
 * - `gone`    it was deleted
 * - `refused` the resume URL is that of another execution
 * - `away`    n8n did not answer
 */
export type PokeMeaning =
	'resumed' | 'parked' | 'stale' | 'busy' | 'over' | 'stopped' | 'gone' | 'refused' | 'away';

export interface PokeOutcome {
	means: PokeMeaning;
	/** For people; null when all is well. */
	say: string | null;
}

/** The texts of n8n 2.x. */
const words: readonly (readonly [status: number, pattern: RegExp, means: PokeMeaning])[] = [
	[409, /^The execution .* is running already/, 'busy'],
	[409, /^The execution .* has finished already/, 'over'],
	[409, /^The execution .* has finished with error/, 'stopped'],
	[404, /^The execution .* does not exist/, 'gone'],
	[404, /does not contain a waiting webhook with a matching path/, 'stale'],
	[404, /^Could not find node to process webhook/, 'stale'],
	[401, /^Invalid token/, 'refused'],
];

export function meaningOf({ status, body }: { status: number; body?: unknown }): PokeOutcome {
	const said = (body ?? {}) as Record<
		'resumed' | 'stale' | 'reason' | 'message' | 'error',
		unknown
	>;
	if (status >= 200 && status < 300) {
		if (said.resumed === true) return { means: 'resumed', say: null };
		if (said.resumed !== false) return { means: 'away', say: 'n8n is starting up' };
		const say = typeof said.reason === 'string' ? said.reason.slice(0, 500) : 'not ready';
		return { means: said.stale === true ? 'stale' : 'parked', say };
	}
	const text = [said.message, said.error, said.reason].find((each) => typeof each === 'string');
	const say = text?.slice(0, 500) ?? (status === 0 ? 'no answer' : `HTTP ${status}`);
	const known = words.find(([at, pattern]) => at === status && pattern.test(say));
	return { means: known?.[2] ?? 'away', say };
}
