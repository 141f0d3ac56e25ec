/**
 * The commands that change jobs: some by id, or all that a filter finds. With a filter they look first,
 * then change what they saw; --dry-run stops after the look.
 */
import { type Command, Option } from 'commander';
import type { FleetClient, JobFilter, Page } from '../../client';
import {
	type BulkAction,
	type BulkRequest,
	type BulkResult,
	causes,
	type DeadLetterGroup,
	type DeadLetterRequest,
	holdAnswers,
	isFinal,
	type Job,
	type JobSelection,
	jobStates,
	priorities,
	type ReleaseAnswer,
	type Target,
} from '../../protocol';
import { priorityOf } from './submit';
import {
	durationOf,
	instantOf,
	json,
	listOf,
	momentOf,
	pairOf,
	plural,
	printable,
	table,
	type Terminal,
	UsageMistake,
	when,
	wholeOf,
} from './terminal';

/** There are few kinds of failure; this is a list for people. */
const maxGroups = 10_000;

interface Flags extends SelectionFlags {
	json?: boolean;
	data?: string;
	dryRun?: boolean;
	toRobot?: string;
	toLabel?: Record<string, string>;
	toCapability?: string[];
	toClient?: string;
	reason?: string;
}

export interface SelectionFlags extends Omit<
	JobSelection,
	'shareKey' | 'createdAfter' | 'createdBefore' | 'dead'
> {
	share?: string;
	dead?: boolean;
	createdAfter?: string;
	createdBefore?: string;
}

/** What each file makes its commands with. */
export interface CommandKit {
	terminal: Terminal;
	client(flags: { data?: string }): FleetClient;
	group(name: string, summary: string, example: string): Command;
	sub(parent: Command, usage: string, summary: string, example: string): Command;
}

/** The flags that choose jobs, for lists and for bulk commands. */
export function withSelection(command: Command): Command {
	return command
		.addOption(new Option('--state <state>', 'only jobs in this state').choices([...jobStates]))
		.option('--kind <kind>', 'only jobs of this kind')
		.option('--robot <name>', 'only jobs of this robot')
		.addOption(
			new Option('--cause <cause>', 'only jobs with this cause').choices(Object.keys(causes)),
		)
		.option('--parent <id>', 'only children of this job')
		.option('--share <key>', 'only jobs with this share key')
		.addOption(new Option('--priority <level>', 'only jobs of this level').choices([...priorities]))
		.option('--dead', 'only dead letters')
		.option('--fingerprint <fingerprint>', 'only dead letters with this fingerprint')
		.option('--created-after <time>', 'only jobs submitted since: 2h (ago) or 2026-05-01T06:00')
		.option('--created-before <time>', 'only jobs submitted before: 2h (ago) or 2026-05-01T06:00');
}

export function selectionOf(flags: SelectionFlags, now: number): JobSelection {
	const { state, kind, robot, cause, parent, share, priority, fingerprint, dead } = flags;
	const { createdAfter, createdBefore } = flags;
	const selection = {
		state,
		kind,
		robot,
		cause,
		parent,
		shareKey: share,
		priority,
		fingerprint,
		dead: dead ? (true as const) : undefined,
		createdAfter: createdAfter === undefined ? undefined : instantOf(createdAfter, now),
		createdBefore: createdBefore === undefined ? undefined : instantOf(createdBefore, now),
	};
	return Object.fromEntries(Object.entries(selection).filter(([, value]) => value !== undefined));
}

/** `jobs cancel`, `retry`, `retarget`, `hold`, `release`, `priority`. */
export function addJobChanges(jobs: Command, kit: CommandKit): void {
	const bulk = (usage: string, summary: string, example: string) =>
		withSelection(kit.sub(jobs, usage, summary, example)).option(
			'--dry-run',
			'change nothing, say what would be changed',
		);
	const run = async (
		action: BulkRequest['action'],
		ids: string[],
		flags: Flags,
		one: (client: FleetClient, id: string) => Promise<Told>,
		more: Partial<BulkRequest> = {},
	) => {
		const filter = selectionOf(flags, kit.terminal.now());
		const filtered = Object.keys(filter).length > 0;
		if (filtered === ids.length > 0) {
			throw new UsageMistake(
				`Name the jobs to ${verbs[action].plain}, or say which with flags such as --state queued.`,
			);
		}
		const client = kit.client(flags);
		if (!filtered) {
			if (flags.dryRun) throw new UsageMistake('--dry-run is for jobs chosen by flags.');
			await tellEach(kit.terminal, ids, flags, (id) => one(client, id));
			return;
		}
		const request = { action, filter, ...more };
		const result = await lookThenDo(flags.dryRun, (part) => client.bulk({ ...request, ...part }));
		kit.terminal.out(flags.json ? json(result) : resultText(result, verbs[action].done));
	};

	bulk('cancel [ids...]', 'cancel jobs', 'cancel --state queued --dry-run').action(
		(ids: string[], flags: Flags) =>
			run('cancel', ids, flags, async (client, id) => stateOf(await client.cancel(id))),
	);
	withTarget(
		bulk('retry [ids...]', 'submit the same jobs again', 'retry --state failed --cause robot_lost'),
	)
		.option('--only-failed', 'of a job for several robots: only where it did not complete')
		.action((ids: string[], flags: Flags & { onlyFailed?: boolean }) => {
			const target = targetOf(flags);
			if (flags.onlyFailed && ids.length === 0)
				throw new UsageMistake('--only-failed goes with ids.');
			if (ids.length > 0 && target) {
				throw new UsageMistake(
					'Retrying elsewhere is for jobs chosen by flags; give --fingerprint or --state.',
				);
			}
			return run(
				'retry',
				ids,
				flags,
				async (client, id) => {
					const answer = await client.retry(id, flags.onlyFailed ? { only: 'failed' } : undefined);
					return { value: answer, text: answer.jobId };
				},
				{ target },
			);
		});
	withTarget(
		bulk(
			'retarget [ids...]',
			'let waiting jobs run elsewhere',
			'retarget --state queued --robot build-01 --to-label os=linux',
		),
	).action((ids: string[], flags: Flags) => {
		const target = targetOf(flags);
		if (!target)
			throw new UsageMistake(
				'Say where to: --to-robot, --to-label, --to-capability or --to-client.',
			);
		return run(
			'retarget',
			ids,
			flags,
			async (client, id) => stateOf(await client.change(id, { target })),
			{ target },
		);
	});
	bulk(
		'hold [ids...]',
		'keep waiting jobs back until they are released',
		'hold 0190f6c2-… --reason "licence server is down"',
	)
		.option('--reason <text>', 'why, for whoever asks why the job waits')
		.action((ids: string[], flags: Flags) =>
			run(
				'hold',
				ids,
				flags,
				async (client, id) => stateOf(await client.change(id, { hold: flags.reason ?? true })),
				{ reason: flags.reason },
			),
		);
	bulk(
		'release [ids...]',
		'release jobs that are held, or that have waited since the store was restored from a backup',
		'release --state pending --share team-a',
	)
		.option('--all', 'all that have waited since a restore')
		.option('--again', 'including those that may have run since the backup')
		.action(async (ids: string[], flags: Flags & { all?: boolean; again?: boolean }) => {
			if (flags.all) {
				if (ids.length > 0) throw new UsageMistake('Name the jobs to release, or say --all.');
				await releaseRestored(kit, undefined, flags);
				return;
			}
			const client = kit.client(flags);
			const jobs = await Promise.all(ids.map((id) => client.job(id)));
			const restored = jobs.filter(
				({ state, cause }) => state === 'pending' && cause === 'restored',
			);
			if (restored.length > 0) {
				await releaseRestored(
					kit,
					restored.map(({ jobId }) => jobId),
					flags,
				);
			}
			const held = ids.filter((id) => !restored.some(({ jobId }) => jobId === id));
			if (held.length === 0 && ids.length > 0) return;
			await run('release', held, flags, async (service, id) =>
				stateOf(await service.change(id, { hold: false })),
			);
		});
	kit
		.sub(
			jobs,
			'answer <id> <answer>',
			'answer a job that asks because its robot stays away: wait, other (robot) or expire',
			'answer 0190f6c2-… wait --for 2h',
		)
		.option('--for <duration>', 'for wait: it asks again after: 90s, 10m, 2h', durationOf)
		.option('--until <time>', 'for wait: it asks again at: 18:00 or 2026-05-01T18:00')
		.action(async (id: string, answer: string, flags: Flags & { for?: number; until?: string }) => {
			const known = holdAnswers.find((name) => name === answer);
			if (!known) throw new UsageMistake(`The answer must be one of ${holdAnswers.join(', ')}.`);
			await tellEach(kit.terminal, [id], flags, async () =>
				stateOf(
					await kit.client(flags).answer(id, {
						answer: known,
						...(flags.for !== undefined && { forMs: flags.for }),
						...(flags.until !== undefined && {
							until: momentOf(flags.until, kit.terminal.now()),
						}),
					}),
				),
			);
		});
	kit
		.sub(
			jobs,
			'pause <id>',
			'start nothing more of a job that goes out in batches; what runs goes on',
			'pause 0190f6c2-…',
		)
		.action((id: string, flags: Flags) =>
			tellEach(kit.terminal, [id], flags, async () =>
				rolloutText(await kit.client(flags).pauseJob(id)),
			),
		);
	kit
		.sub(
			jobs,
			'resume <id>',
			'resume a job that goes out in batches and was paused, or stopped by failures',
			'resume 0190f6c2-…',
		)
		.option('--batch <number>', 'only if this batch is the next one', wholeOf)
		.action((id: string, flags: Flags & { batch?: number }) =>
			tellEach(kit.terminal, [id], flags, async () => {
				const { batch } = flags;
				return rolloutText(
					await kit.client(flags).resumeJob(id, batch === undefined ? {} : { batch }),
				);
			}),
		);
	bulk(
		'rank <level> [ids...]',
		'give waiting jobs another priority',
		'rank high 0190f6c2-…',
	).action((level: string, ids: string[], flags: Flags) => {
		const priority = priorityOf(level, 'The level');
		return run(
			'priority',
			ids,
			flags,
			async (client, id) => stateOf(await client.change(id, { priority })),
			{ priority },
		);
	});
}

async function releaseRestored(
	{ terminal, client }: CommandKit,
	jobIds: string[] | undefined,
	flags: Flags & { again?: boolean },
): Promise<void> {
	const answer = await client(flags).release({
		...(jobIds && { jobIds }),
		...(flags.again && { again: true }),
	});
	terminal.out(flags.json ? json(answer) : releaseText(answer));
}

function releaseText({ released, kept, keptInAll }: ReleaseAnswer): string {
	const lines = kept.map(({ jobId, reason }) => `kept ${jobId}: ${printable(reason)}\n`).join('');
	const more = keptInAll > kept.length ? `… and ${keptInAll - kept.length} more\n` : '';
	return `${lines}${more}${released} released, ${keptInAll} kept\n`;
}

/** The service's pages are not ordered by frequency: the most frequent failure is known only with the last page. */
export async function allDeadLetters(
	client: Pick<FleetClient, 'deadLetters'>,
): Promise<Page<DeadLetterGroup>> {
	const items: DeadLetterGroup[] = [];
	for (let cursor: string | undefined; items.length < maxGroups;) {
		const page = await client.deadLetters({ limit: 100, ...(cursor && { cursor }) });
		items.push(...page.items);
		({ cursor } = page);
		if (cursor === undefined) break;
	}
	items.sort((a, b) => b.count - a.count || b.lastAt - a.lastAt);
	return { items };
}

/** `dead list`, `show`, `replay`, `dismiss`. */
export function addDeadLetters(kit: CommandKit): void {
	const dead = kit.group(
		'dead',
		'look at jobs that failed for good, replay and dismiss them',
		'robot-fleet dead list',
	);
	kit
		.sub(dead, 'list', 'list what went wrong, most frequent first', 'list')
		.action(async (flags: Flags) => {
			const page = await allDeadLetters(kit.client(flags));
			kit.terminal.out(
				flags.json
					? json(page)
					: table(
							['FINGERPRINT', 'COUNT', 'KIND', 'CAUSE', 'LAST', 'MESSAGE'],
							page.items.map((group) => [
								group.fingerprint,
								group.count,
								group.kind,
								group.cause,
								when(group.lastAt),
								short(group.message),
							]),
						),
			);
		});
	kit
		.sub(dead, 'show <fingerprint>', 'list the jobs of one failure', 'show 5f2c0a9be1d47c33')
		.option('--cursor <cursor>', 'continue where the previous page ended')
		.action(async (fingerprint: string, flags: Flags & Pick<JobFilter, 'cursor'>) => {
			const { cursor } = flags;
			const page = await kit
				.client(flags)
				.deadLetterJobs(fingerprint, { ...(cursor && { cursor }) });
			kit.terminal.out(
				flags.json
					? json(page)
					: table(
							['ID', 'STATE', 'CAUSE', 'ENDED', 'MESSAGE'],
							page.items.map((job) => [
								job.jobId,
								job.state,
								job.cause,
								when(job.endedAt),
								short(job.error?.message ?? ''),
							]),
						) + (page.cursor ? `more: --cursor ${page.cursor}\n` : ''),
			);
		});
	const chosen = (usage: string, summary: string, example: string) =>
		kit
			.sub(dead, usage, summary, example)
			.option('--all', 'all dead letters')
			.option('--job <id>', 'this one (repeatable)', listOf)
			.option('--dry-run', 'change nothing, say what would be changed');
	withTarget(
		chosen(
			'replay [fingerprint]',
			'submit dead letters again, each once',
			'replay 5f2c0a9be1d47c33 --dry-run',
		),
	).action(async (fingerprint: string | undefined, flags: DeadFlags) => {
		const target = targetOf(flags);
		const request = { ...chosenOf(fingerprint, flags), ...(target && { target }) };
		const client = kit.client(flags);
		const result = await lookThenDo(flags.dryRun, (part) => client.replay({ ...request, ...part }));
		kit.terminal.out(flags.json ? json(result) : resultText(result, 'replayed'));
	});
	chosen(
		'dismiss [fingerprint]',
		'take dead letters off the list',
		'dismiss 5f2c0a9be1d47c33',
	).action(async (fingerprint: string | undefined, flags: DeadFlags) => {
		const request = chosenOf(fingerprint, flags);
		const client = kit.client(flags);
		const result = await lookThenDo(flags.dryRun, (part) =>
			client.dismiss({ ...request, ...part }),
		);
		kit.terminal.out(flags.json ? json(result) : resultText(result, 'dismissed'));
	});
}

type DeadFlags = Flags & { all?: boolean; job?: string[] };

function chosenOf(fingerprint: string | undefined, { all, job }: DeadFlags): DeadLetterRequest {
	if ([fingerprint, all, job].filter(Boolean).length !== 1) {
		throw new UsageMistake('Give one fingerprint (see: robot-fleet dead list), --job, or --all.');
	}
	return {
		...(fingerprint !== undefined && { fingerprint }),
		...(all && { all }),
		...(job && { jobIds: job }),
	};
}

/** Looks, then changes no more than was seen, and goes on until all of it is done. */
async function lookThenDo(
	dryRun: boolean | undefined,
	ask: (part: { dryRun?: boolean; expect?: number; cursor?: string }) => Promise<BulkResult>,
): Promise<BulkResult> {
	const seen = await ask({ dryRun: true });
	if (dryRun) return seen;
	if (seen.matched === 0) return { ...seen, dryRun: false };
	let total: BulkResult | undefined;
	for (let cursor: string | undefined; ;) {
		const left = seen.matched - (total ? total.changed + total.skipped : 0);
		const part: BulkResult = await ask({ expect: Math.max(0, left), ...(cursor && { cursor }) });
		total = total ? added(total, part) : part;
		({ cursor } = part);
		if (cursor === undefined) return { ...total, matched: total.changed + total.skipped };
	}
}

function added(a: BulkResult, b: BulkResult): BulkResult {
	const reasons = new Map(a.reasons.map(({ reason, count }) => [reason, count]));
	for (const { reason, count } of b.reasons)
		reasons.set(reason, (reasons.get(reason) ?? 0) + count);
	return {
		...a,
		changed: a.changed + b.changed,
		skipped: a.skipped + b.skipped,
		reasons: [...reasons].map(([reason, count]) => ({ reason, count })),
		retries: [...(a.retries ?? []), ...(b.retries ?? [])],
	};
}

const verbs: Record<BulkAction, { plain: string; done: string }> = {
	cancel: { plain: 'cancel', done: 'cancelled' },
	retry: { plain: 'retry', done: 'submitted again' },
	retarget: { plain: 'retarget', done: 'retargeted' },
	hold: { plain: 'hold', done: 'held' },
	release: { plain: 'release', done: 'released' },
	priority: { plain: 'rank', done: 'ranked anew' },
};

function resultText(
	{ dryRun, matched, changed, skipped, reasons, cursor }: BulkResult,
	done: string,
): string {
	const would = dryRun ? 'would be ' : '';
	const looked = cursor === undefined ? '' : ` (of the first ${changed + skipped} looked at)`;
	const why = reasons
		.map(({ reason, count }) => `  skipped ${count}: ${printable(reason)}\n`)
		.join('');
	const end = dryRun ? 'Nothing was changed: this was a dry run.\n' : '';
	return `${plural(matched, 'job')} found, ${changed} ${would}${done}${looked}\n${why}${end}`;
}

interface Told {
	value: object;
	text: string;
}

function stateOf(job: Job): Told {
	const cancelling = job.cancelRequestedAt !== null && !isFinal(job.state);
	return { value: job, text: cancelling ? `${job.state}, cancel requested` : job.state };
}

function rolloutText(job: Job): Told {
	const text = isFinal(job.state) ? job.state : (job.message ?? job.state);
	return { value: job, text: printable(text) };
}

/** One line a job; the id only when there are several. */
async function tellEach(
	terminal: Terminal,
	ids: string[],
	flags: Flags,
	one: (id: string) => Promise<Told>,
): Promise<void> {
	for (const id of ids) {
		const { value, text } = await one(id);
		terminal.out(flags.json ? json(value) : ids.length === 1 ? `${text}\n` : `${id} ${text}\n`);
	}
}

function withTarget(command: Command): Command {
	return command
		.option('--to-robot <name>', 'on this robot')
		.option('--to-label <name=value>', 'where this label is set (repeatable)', pairOf)
		.option('--to-capability <name>', 'where this is offered (repeatable)', listOf)
		.option('--to-client <name>', 'on this client of a robot');
}

function targetOf({ toRobot, toLabel, toCapability, toClient }: Flags): Target | undefined {
	const target = {
		...(toRobot !== undefined && { robot: toRobot }),
		...(toLabel && { labels: toLabel }),
		...(toCapability && { capabilities: toCapability }),
		...(toClient !== undefined && { client: toClient }),
	};
	return Object.keys(target).length > 0 ? target : undefined;
}

const short = (text: string) => (text.length > 80 ? `${text.slice(0, 79)}…` : text);
