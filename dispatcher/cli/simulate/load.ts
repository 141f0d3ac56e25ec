/**
 * `robot-fleet simulate load`: work for a fleet, at random or from a file. Sends random commands from a list to random robots
 * at random moments, or the rows of a file one after the other. Every job has a key of its own, so that a call that was cut
 * can be repeated safely.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type BulkAnswer, FleetClient } from '../../../client';
import { limits, Problem, type Robot, simulatedLabel, type Submit } from '../../../protocol';
import type { ProgramWorld } from '../program';
import {
	addressOf,
	durationOf,
	json,
	listOf,
	pairOf,
	pairs,
	plural,
	UsageMistake,
	wholeOf,
} from '../terminal';
import { priorityOf } from '../submit';
import { httpSend } from '../transport';
import { durationsOf, meanGapOf, type Range } from './amounts';
import { count, showProgress, Speed, timeText } from './board';
import { Dice } from './dice';
import { Outcomes, percentileOf } from './outcomes';
import { type Row, rowsOf } from './rows';
import { drawnSeed, endOf, type Stage, stageOf } from './stage';

interface Flags {
	rate?: number;
	every?: Range;
	from?: string;
	loop?: true | number;
	for?: number;
	count?: number;
	command?: string[];
	commands?: string;
	label?: Record<string, string>;
	robot?: string[];
	any?: boolean;
	priority?: string;
	timeout?: number;
	drain: number;
	seed?: number;
	json?: boolean;
	data?: string;
}

/** Harmless wherever they run: the targets may be real robots, too. */
const usualCommands = ['echo hello', 'hostname', 'uname -a', 'date', 'uptime', 'sleep 1'];
const usualGapMs = 1_000;

/** Jobs of one call; calls under way at once. */
const maxTogether = limits.maxSubmitBatch;
const maxUnderWay = 4;
/** A sender further behind than this does not catch up: the rate is then what the service takes. */
const maxBehindMs = 1_000;
/** How often we look which robots are there. */
const lookMs = 10_000;
const retryMs = 1_000;

export function addLoad(simulate: Command, world: ProgramWorld): void {
	simulate
		.command('load')
		.summary('send random work to a fleet, or the rows of a file')
		.description(
			'Sends jobs until it is told to stop: random commands to random robots at random moments, or the rows of a file. Without --label or --robot only simulated robots get any.',
		)
		.addOption(
			new Option('--rate <rate>', 'how many on average, at random moments: 5/s, 100/1m')
				.argParser(meanGapOf)
				.conflicts(['every', 'from']),
		)
		.addOption(
			new Option('--every <range>', 'a random pause before each: 1s..10s')
				.argParser(durationsOf)
				.conflicts('from'),
		)
		.addOption(
			new Option(
				'--from <file>',
				'rows of a .csv or .jsonl file: robot, command, wait (before the next row)',
			).conflicts(['command', 'commands', 'any']),
		)
		.option(
			'--loop [times]',
			'begin the file again at its end, for ever or this many times',
			timesOf,
		)
		.option('--for <duration>', 'end by itself after: 10m, 24h', durationOf)
		.option('--count <number>', 'end by itself after this many jobs', wholeOf)
		.option('--command <text>', 'a line of shell text to choose from (repeatable)', listOf)
		.option('--commands <file>', 'lines of shell text to choose from')
		.option('--label <name=value>', 'to robots that carry it (repeatable)', pairOf)
		.option('--robot <name>', 'to this robot, simulated or not (repeatable)', listOf)
		.option('--any', 'let the service choose the robot, by label')
		.option('--priority <level>', 'critical, high, normal, low or 3…0')
		.option('--timeout <duration>', 'longest run of a job', durationOf)
		.addOption(
			new Option('--drain <duration>', 'how long to wait at the end for jobs that have not ended')
				.argParser(durationOf)
				.default(30_000, '30s'),
		)
		.option('--seed <number>', 'the same seed draws the same work (default: drawn)', wholeOf)
		.option('--json', 'print the summary as JSON')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText(
			'after',
			"\nExample:\n  $ robot-fleet simulate load --rate 5/s --for 10m\n  $ robot-fleet simulate load --from show.csv --loop\n  $ robot-fleet simulate load --every 1s..10s --command 'uname -a' --command 'df -h' --robot build-01\n\nA file:\n  robot,command,wait\n  sim-01,echo hello,2\n  3,hostname,500ms\n  ,uname -a,1s",
		)
		.action((flags: Flags) => load(world, flags));
}

async function load(world: ProgramWorld, flags: Flags): Promise<void> {
	if (flags.loop !== undefined && flags.from === undefined) {
		throw new UsageMistake('--loop needs --from: it begins that file again.');
	}
	const stage = stageOf(world);
	const seed = flags.seed ?? drawnSeed(stage);
	const dice = new Dice(seed, -2);
	const rows = flags.from === undefined ? undefined : rowsIn(flags.from);
	const commands = commandsOf(flags);
	const plan = rows ? replayed(rows, flags.loop) : drawn(flags, commands, dice);
	const address = addressOf(world, flags.data);
	const client = new FleetClient(httpSend(address));
	const targets = new Targets(client, stage, dice, flags);
	await targets.look();
	const over = endOf(stage, flags.for);
	// It goes on listening while what was sent comes to its end.
	const deaf = new AbortController();
	const outcomes = new Outcomes(client, stage);
	const sender = new Sender(client, stage, outcomes, over.signal);
	const speed = new Speed();
	const line = (sinceMs: number) =>
		[
			`${count(sender.sent)} sent`,
			speed.perSecond(sender.sent, sinceMs),
			`${count(outcomes.running)} running, ${count(outcomes.open - outcomes.running)} waiting`,
			`${count(outcomes.ended.completed)} completed`,
			`${count(outcomes.ended.failed + outcomes.ended.timeout)} failed`,
			...(sender.refused > 0 ? [`${count(sender.refused)} refused`] : []),
		].join('   ');
	const from = stage.monotonic();
	const heard = Promise.withResolvers<void>();
	const listening = outcomes.listen(address, deaf.signal, heard.resolve);
	listening.catch(heard.reject);
	let showing = Promise.resolve();
	let sendingMs = 0;
	try {
		await Promise.race([heard.promise, aborted(over.signal)]);
		showing = showProgress(world, stage, line, deaf.signal);
		await send(plan, flags, targets, sender, stage, over.signal);
		sendingMs = stage.monotonic() - from;
		// The first Ctrl+C ends only the sending, the second one the process.
		if (stage.interrupted.aborted && outcomes.open > 0) {
			world.err(`Waiting for ${plural(outcomes.open, 'job')} to end; Ctrl+C ends that, too.\n`);
		}
		const patience = new AbortController();
		void stage.sleep(flags.drain, patience.signal).then(() => patience.abort());
		await Promise.race([outcomes.settled(patience.signal), listening]);
		patience.abort();
	} finally {
		over.abort();
		deaf.abort();
		await showing;
	}
	await listening;
	await outcomes.ask();
	const { times, ended, open } = outcomes;
	const summary = {
		seed,
		tookMs: Math.round(stage.monotonic() - from),
		sent: sender.sent,
		...ended,
		open,
		refused: sender.refused,
		refusals: Object.fromEntries(sender.refusals),
		jobsPerSecond: Number(((sender.sent * 1_000) / Math.max(1, sendingMs)).toFixed(2)),
		endedAfterMs: {
			p50: percentileOf(times, 0.5),
			p95: percentileOf(times, 0.95),
			p99: percentileOf(times, 0.99),
		},
	};
	world.out(flags.json ? json(summary) : summaryText(summary));
}

async function send(
	plan: Iterable<Row>,
	flags: Flags,
	targets: Targets,
	sender: Sender,
	stage: Stage,
	over: AbortSignal,
): Promise<void> {
	const more = {
		...(flags.priority !== undefined && { priority: priorityOf(flags.priority) }),
		...(flags.timeout !== undefined && { timeouts: { runMs: flags.timeout } }),
	};
	const most = flags.count ?? Infinity;
	let dueAt = stage.monotonic();
	let planned = 0;
	for (const { robot, command, waitMs } of plan) {
		if (planned >= most) break;
		const now = stage.monotonic();
		if (dueAt > now) {
			await sender.flush();
			await stage.sleep(dueAt - now, over);
		}
		if (over.aborted) break;
		if (targets.isOld) await targets.look();
		sender.put({
			kind: 'command',
			spec: { shell: command },
			target: targets.targetOf(robot),
			...more,
		});
		planned += 1;
		if (sender.waiting >= maxTogether) await sender.flush();
		dueAt = Math.max(dueAt + waitMs, stage.monotonic() - maxBehindMs);
	}
	await sender.flush();
	await sender.idle();
}

/** Puts together jobs that are due at the same moment, and delivers them, whatever it takes. */
class Sender {
	sent = 0;
	refused = 0;
	/** How many, by problem. */
	readonly refusals = new Map<string, number>();
	readonly #client: FleetClient;
	readonly #stage: Stage;
	readonly #outcomes: Outcomes;
	readonly #over: AbortSignal;
	readonly #run = randomUUID();
	readonly #underWay = new Set<Promise<void>>();
	#together: Submit[] = [];
	#numbers = 0;
	/** Trying again cannot help. */
	#failed: unknown;

	constructor(client: FleetClient, stage: Stage, outcomes: Outcomes, over: AbortSignal) {
		this.#client = client;
		this.#stage = stage;
		this.#outcomes = outcomes;
		this.#over = over;
	}

	get waiting(): number {
		return this.#together.length;
	}

	put(job: Submit): void {
		const idempotencyKey = `simulate:${this.#run}:${(this.#numbers += 1)}`;
		this.#together.push({ ...job, idempotencyKey });
	}

	/** Resolves when there is room for another call. */
	async flush(): Promise<void> {
		const jobs = this.#together;
		if (jobs.length === 0) return;
		this.#together = [];
		while (this.#underWay.size >= maxUnderWay) await Promise.race(this.#underWay);
		if (this.#failed !== undefined) throw this.#failed;
		const call = this.#carry(jobs)
			.catch((error: unknown) => void (this.#failed ??= error))
			.finally(() => this.#underWay.delete(call));
		this.#underWay.add(call);
	}

	async idle(): Promise<void> {
		await Promise.all(this.#underWay);
		if (this.#failed !== undefined) throw this.#failed;
	}

	async #carry(jobs: Submit[]): Promise<void> {
		const sentAt = this.#stage.monotonic();
		for (;;) {
			try {
				const answers = await this.#client.submitMany(jobs);
				for (const answer of answers) this.#answered(answer, sentAt);
				return;
			} catch (error) {
				// Nobody there, or not now: the same jobs again, by the same keys.
				if (!(error instanceof Problem) || !error.retry) throw error;
				if (this.#over.aborted) return this.#gaveUp(error.code, jobs.length);
				const wanted = Number(error.details['retryMs']);
				await this.#stage.sleep(wanted > 0 ? wanted : retryMs, this.#over);
			}
		}
	}

	#answered(answer: BulkAnswer, sentAt: number): void {
		if ('error' in answer) {
			return this.#gaveUp(Problem.fromBody(answer)?.code ?? 'internal', 1);
		}
		this.sent += 1;
		this.#outcomes.sent(answer.jobId, sentAt);
	}

	#gaveUp(code: string, jobs: number): void {
		this.refused += jobs;
		this.refusals.set(code, (this.refusals.get(code) ?? 0) + jobs);
	}
}

/** Whom the work is for. */
class Targets {
	readonly #client: FleetClient;
	readonly #stage: Stage;
	readonly #dice: Dice;
	readonly #names: readonly string[];
	readonly #labels: Record<string, string>;
	readonly #any: boolean;
	/** Sorted by name: the connected ones, or all if none is connected. */
	#robots: readonly Robot[] = [];
	#lookedAt = 0;

	constructor(client: FleetClient, stage: Stage, dice: Dice, { robot, label, any }: Flags) {
		this.#client = client;
		this.#stage = stage;
		this.#dice = dice;
		this.#names = robot ?? [];
		// Nobody's real machine gets random work by accident.
		this.#labels = label ?? (robot ? {} : { [simulatedLabel]: 'true' });
		this.#any = any === true;
	}

	get isOld(): boolean {
		return this.#stage.monotonic() - this.#lookedAt >= lookMs;
	}

	/** Throws when there is nobody at the first look; later they may just have gone. */
	async look(): Promise<void> {
		let all: Robot[];
		try {
			all = await this.#client.robots();
		} catch (error) {
			const first = this.#robots.length === 0;
			if (first || !(error instanceof Problem && error.retry)) throw error;
			this.#lookedAt = this.#stage.monotonic();
			return;
		}
		this.#lookedAt = this.#stage.monotonic();
		const meant = all
			.filter((robot) => this.#means(robot))
			.sort((a, b) => (a.name < b.name ? -1 : 1));
		const here = meant.filter(({ connected }) => connected);
		const found = here.length > 0 ? here : meant;
		if (found.length > 0) this.#robots = found;
		else if (this.#robots.length === 0) throw new UsageMistake(this.#nobody());
	}

	targetOf(robot: string | undefined): NonNullable<Submit['target']> {
		const labels = Object.keys(this.#labels).length === 0 ? {} : { labels: this.#labels };
		if (this.#any) return labels;
		if (robot === undefined) return { robot: this.#dice.pick(this.#robots).robotId, ...labels };
		// A row means the robot it names, whichever that is; a number that is no robot's name counts through those we have.
		const isNumber =
			/^[1-9]\d{0,4}$/.test(robot) && !this.#robots.some(({ name }) => name === robot);
		if (!isNumber) return { robot };
		return { robot: this.#robots[(Number(robot) - 1) % this.#robots.length]!.robotId };
	}

	#means({ name, robotId, labels }: Robot): boolean {
		const named =
			this.#names.length === 0 || [name, robotId].some((one) => this.#names.includes(one));
		return named && Object.entries(this.#labels).every(([label, value]) => labels[label] === value);
	}

	#nobody(): string {
		const what = [...this.#names, ...(pairs(this.#labels) === '' ? [] : [pairs(this.#labels)])];
		return `No robot is ${what.join(' or ')}; join some with: robot-fleet simulate --robots 10.`;
	}
}

function* drawn({ rate, every }: Flags, commands: readonly string[], dice: Dice): Generator<Row> {
	for (;;) {
		const waitMs = every ? dice.within(every) : dice.gap(rate ?? usualGapMs);
		yield { command: dice.pick(commands), waitMs };
	}
}

function* replayed(rows: readonly Row[], loop: true | number | undefined): Generator<Row> {
	const times = loop === true ? Infinity : (loop ?? 1);
	for (let time = 0; time < times; time += 1) yield* rows;
}

function commandsOf({ command = [], commands }: Flags): string[] {
	const read = commands === undefined ? [] : textOf(commands).split(/\r?\n/);
	const all = [...command, ...read].map((line) => line.trim()).filter((line) => line !== '');
	if (all.length > 0) return all;
	if (commands !== undefined) throw new UsageMistake(`There is no command in ${commands}.`);
	return usualCommands;
}

function rowsIn(file: string): Row[] {
	const { rows, mistakes } = rowsOf(file, textOf(file));
	if (mistakes.length === 0) return rows;
	throw new UsageMistake(mistakes.map((mistake) => `${file}, ${mistake}.`).join('\n'));
}

function textOf(file: string): string {
	try {
		return readFileSync(file, 'utf8');
	} catch (error) {
		throw new UsageMistake(
			`${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'}).`,
		);
	}
}

function timesOf(text: string): number {
	const times = wholeOf(text);
	if (times === 0) throw new InvalidArgumentError('Write how often, or nothing for ever.');
	return times;
}

function aborted(signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		if (signal.aborted) resolve();
		else signal.addEventListener('abort', () => resolve(), { once: true });
	});
}

interface Summary {
	tookMs: number;
	sent: number;
	completed: number;
	failed: number;
	timeout: number;
	cancelled: number;
	open: number;
	refused: number;
	refusals: Record<string, number>;
	jobsPerSecond: number;
	endedAfterMs: { p50: number | null; p95: number | null; p99: number | null };
}

function summaryText(summary: Summary): string {
	const { sent, tookMs, jobsPerSecond, completed, failed, timeout, cancelled, open } = summary;
	const { refused, refusals, endedAfterMs } = summary;
	const { p50, p95, p99 } = endedAfterMs;
	const why = Object.entries(refusals).map(([code, jobs]) => `${code} ${count(jobs)}`);
	return [
		`${count(sent)} ${sent === 1 ? 'job' : 'jobs'} sent in ${timeText(tookMs)} (${jobsPerSecond}/s): ${count(completed)} completed, ${count(failed)} failed, ${count(timeout)} timed out, ${count(cancelled)} cancelled, ${count(open)} not ended yet\n`,
		refused === 0 ? '' : `${plural(refused, 'job')} refused (${why.join(', ')})\n`,
		p50 === null
			? ''
			: `from submit to end: half within ${timeText(p50)}, 95 % within ${timeText(p95!)}, 99 % within ${timeText(p99!)}\n`,
	].join('');
}
