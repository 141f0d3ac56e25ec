/** The job of an existing schedule: flags and words change what they name, and leave the rest. */
import type { OnLoss, Submit } from '../../protocol';
import { endsOf } from './ends';
import { jobOf, type SubmitFlags } from './submit';
import { takesOfFlags } from './takes';
import { UsageMistake } from './terminal';

/** What a command can say about a job: every flag of `withJob`. */
export const jobFlags = [
	'shell',
	'robot',
	'label',
	'capability',
	'client',
	'group',
	'pool',
	'tag',
	'environment',
	'exclude',
	'prefer',
	'preferWait',
	'strategy',
	'affinityKey',
	'strict',
	'all',
	'count',
	'perLabel',
	'perGroup',
	'away',
	'batch',
	'canary',
	'stagger',
	'maxFailures',
	'pauseBetween',
	'priority',
	'var',
	'env',
	'cwd',
	'share',
	'timeout',
	'startWithin',
	'silence',
	'answerWithin',
	'tries',
	'retryOn',
	'retryDelay',
	'otherRobot',
	'idempotent',
	'onLoss',
	'lossAfter',
	'onDisconnect',
	'onHang',
	'watch',
	'cap',
	'offlineFor',
	'offlineUntil',
	'offlineThen',
	'lock',
	'concurrency',
	'rate',
	'slots',
] as const satisfies readonly (keyof SubmitFlags)[];

/** The first flag about the job. */
export function jobFlag(flags: SubmitFlags): string | undefined {
	return jobFlags.find((name) => flags[name] !== undefined);
}

/** Named values (labels, variables, environment, caps) change one by one; a list takes the place of the list. */
export function jobOver(
	known: Submit | null,
	words: string[],
	flags: SubmitFlags,
	now: number,
): Submit {
	const said = jobOf(words, flags, now, [], known?.rollout);
	if (words.length === 0) {
		if (!known) throw new UsageMistake('The schedule has no job yet; give a command behind --.');
		if (flags.shell)
			throw new UsageMistake('--shell goes with a command; give the line behind --.');
		const other = known.kind !== 'command' && (['env', 'cwd'] as const).find((name) => flags[name]);
		if (other) throw new UsageMistake(`--${other} is for commands; this job is a ${known.kind}.`);
	}
	const { target, variables, watch, caps, priority, offline, rollout } = said;
	const { strategy, affinityKey, preferWaitMs, strict, shareKey } = said;
	const { timeouts, retry, onLoss, ...ends } = endsOf(flags);
	return {
		...known,
		kind: words.length > 0 || !known ? 'command' : known.kind,
		spec: specOver(known, words, said.spec as Fields),
		...(target && { target: targetOver(known?.target, target) }),
		...(priority !== undefined && { priority }),
		...(variables && { variables: { ...known?.variables, ...variables } }),
		...(shareKey !== undefined && { shareKey }),
		...(timeouts && { timeouts: { ...known?.timeouts, ...timeouts } }),
		...(retry && { retry: { ...known?.retry, ...retry } }),
		...(onLoss && { onLoss: { ...lossOf(known), ...onLoss } }),
		...ends,
		...(watch && { watch: { ...known?.watch, ...watch } }),
		...(caps && { caps: { ...known?.caps, ...caps } }),
		...(strategy && { strategy }),
		...(affinityKey !== undefined && { affinityKey }),
		...(preferWaitMs !== undefined && { preferWaitMs }),
		...(strict && { strict }),
		...(offline && { offline }),
		...(rollout && { rollout }),
		...takesOfFlags(flags),
	};
}

/** A bare word stands for `then`: what becomes of the job. */
const lossOf = (known: Submit | null): OnLoss | undefined =>
	typeof known?.onLoss === 'string' ? { then: known.onLoss } : known?.onLoss;

type Fields = Record<string, unknown>;

/** The command is one thing: a new one keeps none of the old one's words, but keeps its environment and folder. */
function specOver(known: Submit | null, words: string[], said: Fields): Fields {
	const before: Fields = known && known.kind === 'command' ? { ...(known.spec as Fields) } : {};
	const { env, cwd, ...command } = said;
	if (words.length === 0 && known?.kind !== 'command') return known!.spec as Fields;
	if (words.length > 0) for (const name of ['command', 'args', 'shell']) delete before[name];
	return {
		...before,
		...(words.length > 0 && command),
		...(env !== undefined && { env: { ...(before['env'] as Fields), ...(env as Fields) } }),
		...(cwd !== undefined && { cwd }),
	};
}

type Target = NonNullable<Submit['target']>;

function targetOver(known: Target = {}, said: Target): Target {
	return {
		...known,
		...said,
		...(said.labels && { labels: { ...known.labels, ...said.labels } }),
	};
}
