/**
 * `robot-fleet submit … -- COMMAND ARG…`: one command as one job; with --wait it behaves like the
 * command itself: its output here, its exit code ours.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { basename, dirname, resolve, sep } from 'node:path';
import { type Command, Option } from 'commander';
import { FleetClient } from '../../client';
import {
	type Caps,
	commandClassNames,
	type Job,
	type OfflineEnd,
	offlineEnds,
	type Prefer,
	type Priority,
	type Rollout,
	strategies,
	type Strategy,
	type Submit,
	type Watch,
} from '../../protocol';
import { attach } from './attach';
import { childrenOf, sayChildren } from './children';
import { type EndFlags, endsOf, withEnds } from './ends';
import { getFile, putFile } from './files';
import { exitCodeOf, finalJob, follow, sayEnd } from './follow';
import { fanOutOf, isForSeveral, type RolloutFlags, rolloutOf, withRollout } from './rollout-flags';
import {
	addressOf,
	durationOf,
	json,
	listOf,
	momentOf,
	pairOf,
	printable,
	type Terminal,
	UsageMistake,
	wholeOf,
} from './terminal';
import { takesOfFlags, type TakesFlags, withTakes } from './takes';
import { type Address, httpSend } from './transport';
import { previewText } from './why';

export interface SubmitFlags extends RolloutFlags, TakesFlags, EndFlags {
	shell?: boolean;
	robot?: string;
	label?: Record<string, string>;
	capability?: string[];
	client?: string;
	priority?: string;
	var?: Record<string, string>;
	env?: Record<string, string>;
	cwd?: string;
	idempotencyKey?: string;
	share?: string;
	group?: string;
	pool?: string;
	tag?: string[];
	environment?: string;
	exclude?: string[];
	prefer?: string[];
	strategy?: Strategy;
	affinityKey?: string;
	preferWait?: number;
	offlineFor?: number;
	offlineUntil?: string;
	offlineThen?: OfflineEnd;
	dedupe?: true | number;
	strict?: boolean;
	preview?: boolean;
	watch?: Record<string, string>;
	cap?: Record<string, string>;
	interactive?: boolean;
	attach?: boolean;
	delay?: number;
	deadline?: string;
	file?: string[];
	collect?: string[];
	download?: string;
	wait?: boolean;
	json?: boolean;
	data?: string;
}

/** What a command can say about a job, whoever submits it. */
export function withJob(command: Command): Command {
	return withEnds(withTakes(withRollout(withCommand(command))));
}

function withCommand(command: Command): Command {
	return command
		.option('--shell', 'the words after -- are one line of shell text')
		.option('--robot <name>', 'run on this robot, by name or id')
		.option('--label <name=value>', 'run where this label is set (repeatable)', pairOf)
		.option('--capability <name>', 'run where this is offered (repeatable)', listOf)
		.option('--client <name>', 'run on this client of a robot: a profile, session or emulator')
		.option('--group <name>', 'run in this group of robots, or in one inside it')
		.option('--pool <name>', 'run in this pool of robots')
		.option('--tag <name>', 'run where this label is set, to whatever value (repeatable)', listOf)
		.option('--environment <name>', 'run where the label environment has this value')
		.option('--exclude <name>', 'not on this robot (repeatable)', listOf)
		.option(
			'--prefer <what>',
			'preferably on this robot, or where this label is set; with a weight: os=linux:10 (repeatable)',
			listOf,
		)
		.option('--prefer-wait <duration>', 'how long to wait for one of those: 30s, 5m', durationOf)
		.addOption(
			new Option('--strategy <name>', 'which of the free robots gets it').choices(strategies),
		)
		.option(
			'--affinity-key <key>',
			'for the strategy affinity: go where jobs of this key went well',
		)
		.option('--strict', 'refuse it when no enrolled robot has all that it names')
		.option(
			'--offline-for <duration>',
			'how long it waits for --robot while that is away',
			durationOf,
		)
		.option('--offline-until <time>', 'until when it waits: 18:00 or 2026-05-01T18:00')
		.addOption(
			new Option(
				'--offline-then <what>',
				'then it ends (expire), another robot may do it (other), or it asks',
			).choices(offlineEnds),
		)
		.option('--priority <level>', 'critical, high, normal, low or 3…0')
		.option(
			'--var <name=value>',
			'a variable for {{name}} and ROBOT_FLEET_VAR_NAME (repeatable)',
			pairOf,
		)
		.option('--env <name=value>', 'an environment variable (repeatable)', pairOf)
		.option('--cwd <folder>', 'folder on the robot to run in')
		.option('--share <key>', 'share the robots fairly with jobs of other keys')
		.option(
			'--watch <name=value>',
			'what is normal for it: class=compile, silent=10m, total=1h, idle=1m (repeatable)',
			pairOf,
		)
		.option(
			'--cap <name=value>',
			'what it may use: memory=512M, cpu=10m, processes=50, output=1M (repeatable)',
			pairOf,
		);
}

export function addSubmit(
	program: Command,
	terminal: Terminal,
	exit: (code: number) => void,
): void {
	withJob(
		program
			.command('submit')
			.summary('run a command on a robot')
			.description('Submits one command as a job. With --wait it behaves like the command itself.')
			.argument('<command...>', 'the program and its arguments, after --'),
	)
		.option('--delay <duration>', 'start it no sooner than in: 10m, 2h', durationOf)
		.option('--deadline <time>', 'end it by then, whatever it is doing: 18:00 or 2026-05-01T18:00')
		.option('--idempotency-key <key>', 'the same key with the same command is the same job')
		.option(
			'--dedupe [window]',
			'refuse it when the same was submitted a short time ago (default 5m)',
			durationOf,
		)
		.option(
			'--file <local[:path]>',
			'bring this file along, to that path of the workspace (repeatable)',
			listOf,
		)
		.option(
			'--collect <pattern>',
			'take home what the job leaves in its workspace: out.json, report/**/*.html (repeatable)',
			listOf,
		)
		.option(
			'--download <folder>',
			'with --wait: fetch what was taken home into this folder; of several robots in one of each',
		)
		.option('--wait', 'print the output as it comes and exit with the exit code of the command')
		.option('--interactive', 'keep its input open, to type into it: attach, jobs input')
		.addOption(
			new Option(
				'--attach',
				'stay with it: its output here, your keys there, its exit code ours',
			).conflicts(['all', 'count', 'perLabel', 'perGroup', 'wait', 'json']),
		)
		.addOption(
			new Option('--preview', 'only say what would happen to it').conflicts([
				'wait',
				'attach',
				'download',
			]),
		)
		.option('--json', 'print the answer as JSON')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText(
			'after',
			"\nExample:\n  $ robot-fleet submit --label os=linux --wait -- uname -a\n  $ robot-fleet submit --shell --wait -- 'df -h | tail -n +2'\n  $ robot-fleet submit --all --label os=linux --wait -- uptime\n  $ robot-fleet submit --all --batch 25% --canary 1 --max-failures 2 -- ./update\n  $ robot-fleet submit --interactive --attach -- bash\n  $ robot-fleet submit --file app.json:conf/app.json --collect 'report/**' --wait --download . -- ./make-report",
		)
		.action(async (words: string[], flags: SubmitFlags) => {
			const address = addressOf(terminal, flags.data);
			const client = new FleetClient(httpSend(address));
			if (flags.download !== undefined && !flags.wait) {
				throw new UsageMistake('--download needs --wait: only then there is something to fetch.');
			}
			if (flags.preview) {
				if (flags.file) throw new UsageMistake('--preview sends no files: leave --file away.');
				const preview = await client.preview(jobOf(words, flags, terminal.now()));
				terminal.out(flags.json ? json(preview) : previewText(preview));
				return exit(preview.accepted ? 0 : 1);
			}
			const files = await broughtAlong(terminal, address, flags.file);
			const answer = await client.submit(jobOf(words, flags, terminal.now(), files));
			if (flags.attach) return exit(await attach(terminal, address, answer.jobId));
			if (!flags.wait) {
				terminal.out(flags.json ? json(answer) : `${answer.jobId}\n`);
				return;
			}
			const several = isForSeveral(flags);
			if (!flags.json && !several) await follow(terminal, address, answer.jobId);
			const job = await finalJob(client, answer.jobId, terminal);
			const { download: folder } = flags;
			const wanted = several && (!flags.json || folder !== undefined);
			const children = wanted ? await childrenOf(client, job.jobId) : [];
			if (flags.json) terminal.out(json(job));
			else {
				if (several) sayChildren(terminal, children);
				sayEnd(terminal, job);
			}
			if (folder !== undefined) {
				if (!several) await takeHome(terminal, address, job, folder);
				// Files have the same names on every robot.
				for (const { job: child, robot } of children) {
					await takeHome(terminal, address, child, folder, robot);
				}
			}
			exit(exitCodeOf(job));
		});
}

export function jobOf(
	words: string[],
	flags: SubmitFlags,
	now: number,
	files: { file: string; path: string; mode?: string }[] = [],
	knownRollout?: Rollout,
): Submit {
	const spec = {
		...(flags.shell ? { shell: words.join(' ') } : { command: words[0]!, args: words.slice(1) }),
		...(flags.env && { env: flags.env }),
		...(flags.cwd !== undefined && { cwd: flags.cwd }),
		...(flags.interactive && { interactive: true }),
		...(files.length > 0 && { files }),
		...(flags.collect && { collect: flags.collect }),
	};
	const target = {
		...(flags.robot !== undefined && { robot: flags.robot }),
		...(flags.label && { labels: flags.label }),
		...(flags.capability && { capabilities: flags.capability }),
		...(flags.client !== undefined && { client: flags.client }),
		...(flags.group !== undefined && { group: flags.group }),
		...(flags.pool !== undefined && { pool: flags.pool }),
		...(flags.tag && { tags: flags.tag }),
		...(flags.environment !== undefined && { environment: flags.environment }),
		...(flags.exclude && { exclude: flags.exclude }),
		...(flags.prefer && { prefer: flags.prefer.map(preferOf) }),
		...fanOutOf(flags),
	};
	const rollout = rolloutOf(flags, knownRollout);
	return {
		kind: 'command',
		spec,
		...(Object.keys(target).length > 0 && { target }),
		...(flags.priority !== undefined && { priority: priorityOf(flags.priority) }),
		...(flags.var && { variables: flags.var }),
		...endsOf(flags, flags.deadline === undefined ? undefined : momentOf(flags.deadline, now)),
		...(flags.watch && { watch: watchOf(flags.watch) }),
		...(flags.cap && { caps: capsOf(flags.cap) }),
		...(flags.delay !== undefined && { notBefore: now + flags.delay }),
		...(flags.idempotencyKey !== undefined && { idempotencyKey: flags.idempotencyKey }),
		...(flags.share !== undefined && { shareKey: flags.share }),
		...(flags.strategy !== undefined && { strategy: flags.strategy }),
		...(flags.affinityKey !== undefined && { affinityKey: flags.affinityKey }),
		...(flags.preferWait !== undefined && { preferWaitMs: flags.preferWait }),
		...(flags.strict && { strict: true }),
		...offlineOf(flags, now),
		...(rollout && { rollout }),
		...takesOfFlags(flags),
		...(flags.dedupe !== undefined && {
			dedupe: flags.dedupe === true ? true : { windowMs: flags.dedupe },
		}),
	};
}

function offlineOf(
	{ offlineFor, offlineUntil, offlineThen }: SubmitFlags,
	now: number,
): Pick<Submit, 'offline'> {
	if (offlineFor === undefined && offlineUntil === undefined) {
		if (offlineThen === undefined) return {};
		throw new UsageMistake('--offline-then needs --offline-for or --offline-until.');
	}
	return {
		offline: {
			...(offlineFor !== undefined && { forMs: offlineFor }),
			...(offlineUntil !== undefined && { until: momentOf(offlineUntil, now) }),
			...(offlineThen !== undefined && { then: offlineThen }),
		},
	};
}

/** `LOCAL` or `LOCAL:PATH`; sends what is not there yet. What is executable here is executable there. */
async function broughtAlong(
	terminal: Terminal,
	address: Address,
	wanted: string[] = [],
): Promise<{ file: string; path: string; mode?: string }[]> {
	const files = [];
	for (const word of wanted) {
		const colon = existsSync(word) ? -1 : word.lastIndexOf(':');
		const local = colon > 0 ? word.slice(0, colon) : word;
		if (!existsSync(local)) throw new UsageMistake(`There is no file ${local}.`);
		const path = colon > 0 ? word.slice(colon + 1) : basename(local);
		const { fileId } = await putFile(terminal, address, local);
		const runs = process.platform !== 'win32' && (statSync(local).mode & 0o100) !== 0;
		files.push({ file: fileId, path, ...(runs && { mode: '0755' }) });
	}
	return files;
}

async function takeHome(
	terminal: Terminal,
	address: Address,
	job: Job,
	folder: string,
	/** With several robots: into a folder of this name. */
	robot?: string,
): Promise<void> {
	const client = new FleetClient(httpSend(address));
	for (const { path, fileId, error } of job.result?.files ?? []) {
		const name = robot === undefined ? path : `${robot}/${path}`;
		if (fileId === undefined) {
			terminal.err(`${printable(name)}: ${printable(error ?? 'is not there')}\n`);
			continue;
		}
		// Both names come from elsewhere, so check here once more that they stay inside the folder.
		const to = resolve(folder, name);
		if (!to.startsWith(resolve(folder) + sep)) throw new UsageMistake(`${name} leads out.`);
		mkdirSync(dirname(to), { recursive: true });
		await getFile(terminal, address, await client.file(fileId), to);
		terminal.err(`${printable(name)} is here.\n`);
	}
}

/** `build-01` or `os=linux`, either followed by `:10`. */
function preferOf(text: string): Prefer {
	const [, what, weight] = /^(.+?)(?::(-?\d+))?$/.exec(text) ?? [];
	const [name, value] = (what ?? text).split(/=(.*)/s);
	return {
		...(value === undefined ? { robot: what ?? text } : { labels: { [name!]: value } }),
		...(weight === undefined ? {} : { weight: Number(weight) }),
	};
}

export function priorityOf(text: string, what = '--priority'): Priority | 0 | 1 | 2 | 3 {
	if (/^[0-3]$/.test(text)) return Number(text) as 0 | 1 | 2 | 3;
	if (['critical', 'high', 'normal', 'low'].includes(text)) return text as Priority;
	throw new UsageMistake(`${what} is "${text}", it must be critical, high, normal, low or 3…0.`);
}

function watchOf(said: Record<string, string>): Watch {
	const readers: Record<string, (text: string) => Watch> = {
		class: (text) => {
			const known = commandClassNames.find((name) => name === text);
			if (known) return { class: known };
			const names = commandClassNames.join(', ');
			throw new UsageMistake(`--watch class is "${text}", it must be one of ${names}.`);
		},
		silent: (text) => ({ noOutputMs: durationOf(text) }),
		total: (text) => ({ totalMs: durationOf(text) }),
		idle: (text) => ({ idleMs: durationOf(text) }),
	};
	return read('--watch', said, readers);
}

function capsOf(said: Record<string, string>): Caps {
	const readers: Record<string, (text: string) => Caps> = {
		memory: (text) => ({ memoryBytes: sizeOf(text) }),
		cpu: (text) => ({ cpuSeconds: Math.ceil(durationOf(text) / 1000) }),
		processes: (text) => ({ processes: wholeOf(text) }),
		output: (text) => ({ outputBytes: sizeOf(text) }),
	};
	return read('--cap', said, readers);
}

/** `64K`, `512M`, `2G`. */
function sizeOf(text: string): number {
	const [, number, unit] = /^(\d+(?:\.\d+)?)([KMG])(?:iB|B)?$/i.exec(text) ?? [];
	if (number === undefined) throw new Error('Write a number with a unit: 64K, 512M or 2G.');
	const units: Record<string, number> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };
	return Math.round(Number(number) * units[unit!.toUpperCase()]!);
}

/** Reads each by its name and merges them; an unknown name is a mistake. */
function read<T extends object>(
	flag: string,
	said: Record<string, string>,
	readers: Record<string, (text: string) => T>,
): T {
	const found = {} as T;
	for (const [name, text] of Object.entries(said)) {
		const reader = Object.hasOwn(readers, name) ? readers[name]! : undefined;
		if (!reader) {
			const known = Object.keys(readers).join(', ');
			throw new UsageMistake(`${flag} does not know "${name}"; it knows ${known}.`);
		}
		try {
			Object.assign(found, reader(text));
		} catch (error) {
			if (error instanceof UsageMistake) throw error;
			throw new UsageMistake(`${flag} ${name} is "${text}". ${(error as Error).message}`);
		}
	}
	return found;
}
