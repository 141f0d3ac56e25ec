/**
 * A fleet of real processes under a seeded killer. One service, three robots, many jobs; SIGKILL at
 * random moments, each victim started again at once over the same folder and port, until every job is
 * final. All parties write histories on the way; in the end they are gathered for the checker.
 */
import {
	appendFileSync,
	existsSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetClient } from '../../client';
import { isFinal, type Job, Problem, type Submit } from '../../protocol';
import { dice } from '../support/dice';
import {
	type AgentLine,
	type CommandLine,
	type Histories,
	type SeenLine,
	seenOf,
	type StoredTruth,
	type SubmitterLine,
} from '../support/history';
import {
	AgentProgram,
	type Bundles,
	builtPrograms,
	quietPort,
	ServiceProgram,
} from '../support/programs';

export interface ChaosOptions {
	seed: number;
	jobs: number;
	/** So many kills at least, and no more than needed to keep them until the last submit. */
	kills: number;
	deadlineMs: number;
}

export interface Figures {
	seed: number;
	jobs: number;
	serviceKills: number;
	agentKills: number;
	/** Kills that hit a program before it was ready or connected. */
	killsWhileStarting: number;
	outcomes: Record<string, number>;
	/** Jobs that ended as "nobody can know". */
	unknowns: number;
	attempts: number;
	/** Attempts by how they ended. */
	attemptOutcomes: Record<string, number>;
	retries: number;
	starts: number;
	lostAnswers: number;
	duplicates: number;
	seconds: number;
	/** From the last kill until all was quiet. */
	quietAfterSeconds: number;
}

/** What a job does, in the words of its command. Travels as the job's environment. */
interface Recipe {
	/** Bytes printed before and after the first pause, and to stderr. */
	before: number;
	after: number;
	errors: number;
	/** Seconds. */
	pause: number;
	pauseAfter: number;
	code: number;
	/** From this attempt on it exits with 0. */
	goodFrom: number;
}

interface Planned {
	key: string;
	submit: Submit;
	cancelAfterMs?: number;
	/** Submitted a second time with the same key after it was acknowledged. */
	twice: boolean;
}

/** Each line of the history is one write to a file opened for appending, synced before it goes on. */
const script = `
code=$CODE; if [ "$ROBOT_FLEET_ATTEMPT" -ge "$GOOD_FROM" ]; then code=0; fi
note() {
	printf '{"job":"%s","attempt":%s,"pid":%s,"robot":"%s","event":"%s","code":%s}\\n' \\
		"$ROBOT_FLEET_JOB_ID" "$ROBOT_FLEET_ATTEMPT" $$ "$CHAOS_ROBOT" "$1" $code >> "$CHAOS_COMMANDS"
	sync -d "$CHAOS_COMMANDS"
}
note start
echo "$ROBOT_FLEET_VAR_KEY: $ROBOT_FLEET_JOB_ID/$ROBOT_FLEET_ATTEMPT"
if [ $BEFORE -gt 0 ]; then yes "before $ROBOT_FLEET_VAR_KEY" | head -c $BEFORE; fi
sleep $PAUSE
if [ $ERRORS -gt 0 ]; then yes "oh, $ROBOT_FLEET_VAR_KEY" | head -c $ERRORS >&2; fi
if [ $AFTER -gt 0 ]; then yes "after $ROBOT_FLEET_VAR_KEY" | head -c $AFTER; fi
sleep $PAUSE_AFTER
note end
exit $code
`;

export function printed(job: Job, attempt: number): { stdout: Buffer; stderr: Buffer } {
	const { env } = job.spec as { env: Record<string, string> };
	const key = String(job.variables['key']);
	const repeat = (line: string, length: number) =>
		Buffer.alloc(Number(length), `${line}\n`).subarray(0, Number(length));
	return {
		stdout: Buffer.concat([
			Buffer.from(`${key}: ${job.jobId}/${attempt}\n`),
			repeat(`before ${key}`, Number(env['BEFORE'])),
			repeat(`after ${key}`, Number(env['AFTER'])),
		]),
		stderr: repeat(`oh, ${key}`, Number(env['ERRORS'])),
	};
}

/** All of chance is spent here, before anything starts: the same seed plans the same jobs. */
function plan(count: number, chance: () => number, robots: readonly string[]): Planned[] {
	const between = (least: number, most: number) => Math.floor(least + chance() * (most - least));
	return Array.from({ length: count }, (_, i): Planned => {
		const recipe: Recipe = {
			before: between(0, 2_000),
			after: chance() < 0.5 ? between(0, 2_000) : 0,
			errors: chance() < 0.3 ? between(0, 1_000) : 0,
			pause: between(0, 10) / 100,
			pauseAfter: between(0, 10) / 100,
			code: 0,
			goodFrom: 1,
		};
		const extra: Partial<Submit> = {};
		let cancelAfterMs: number | undefined;
		const sort = chance();
		if (sort < 0.3) {
			// More than fits into a result: output frames are cut, too.
			recipe.before = between(20_000, 300_000);
			recipe.after = between(40_000, 300_000);
			recipe.errors = between(0, 100_000);
		} else if (sort < 0.4) {
			Object.assign(recipe, { code: 3, goodFrom: 1_000 });
		} else if (sort < 0.48) {
			Object.assign(recipe, { code: 75, goodFrom: between(2, 4) });
			extra.retry = { initialDelayMs: 100, maxAttempts: 8 };
		} else if (sort < 0.5) {
			Object.assign(recipe, { code: 75, goodFrom: 1_000 });
			extra.retry = { initialDelayMs: 50, maxAttempts: 2 };
		} else if (sort < 0.65) {
			recipe.pause = between(20, 60) / 100;
			extra.idempotent = true;
			extra.retry = { initialDelayMs: 100, maxAttempts: 20 };
		} else if (sort < 0.72) {
			recipe.pause = between(20, 60) / 100;
			extra.onLoss = { waitMs: 2_000, then: chance() < 0.5 ? 'retry' : 'unknown' };
		} else if (sort < 0.76) {
			// Cancelled before its time has come: must never start.
			extra.notBefore = Date.now() + 3_600_000;
			cancelAfterMs = between(0, 300);
		} else if (sort < 0.8) {
			cancelAfterMs = between(0, 30);
		} else if (sort < 0.84) {
			recipe.pause = 20;
			cancelAfterMs = between(100, 1_000);
		} else if (sort < 0.86) {
			recipe.pause = 20;
			extra.timeouts = { runMs: between(200, 500) };
		} else if (sort < 0.9) {
			extra.notBefore = Date.now() + between(500, 5_000);
		} else if (sort < 0.95) {
			extra.target = { robot: robots[between(0, robots.length)]! };
		}
		const key = `job-${String(i).padStart(4, '0')}`;
		const env = {
			BEFORE: String(recipe.before),
			AFTER: String(recipe.after),
			ERRORS: String(recipe.errors),
			PAUSE: String(recipe.pause),
			PAUSE_AFTER: String(recipe.pauseAfter),
			CODE: String(recipe.code),
			GOOD_FROM: String(recipe.goodFrom),
		};
		return {
			key,
			submit: {
				kind: 'command',
				spec: { shell: script, env },
				variables: { key },
				idempotencyKey: key,
				priority: (['critical', 'high', 'normal', 'low'] as const)[between(0, 4)]!,
				...extra,
			},
			twice: chance() < 0.1,
			...(cancelAfterMs === undefined ? {} : { cancelAfterMs }),
		};
	});
}

const robotNames = ['anna', 'bert', 'cleo'] as const;
const slots = 3;
const meanKillMs = 400;

export class Chaos {
	readonly folder: string;
	readonly #options: ChaosOptions;
	readonly #jobs: Planned[];
	readonly #chance: () => number;
	readonly #commandsFile: string;
	readonly #submitterFile: string;
	readonly #seenFile: string;
	readonly #service: ServiceProgram;
	readonly #agents: AgentProgram[];
	readonly #robots = new Map<string, string>();
	/** Acknowledged jobs, by id, and whether they are known to be final. */
	readonly #known = new Map<string, boolean>();
	readonly #lastSeen = new Map<string, string>();
	readonly #startedAt = performance.now();
	#client!: FleetClient;
	#kills = { service: 0, agents: 0, whileStarting: 0 };
	#lastKillAt = 0;
	#quietAt = 0;
	#lostAnswers = 0;
	#duplicates = 0;
	#submitted = false;
	#killed = false;
	/** Those who wait for the next question. */
	readonly #asked: (() => void)[] = [];
	#over = false;

	static async prepare(options: ChaosOptions): Promise<Chaos> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-chaos-'));
		return new Chaos(options, folder, builtPrograms(folder), await quietPort());
	}

	private constructor(options: ChaosOptions, folder: string, bundles: Bundles, port: number) {
		this.folder = folder;
		this.#options = options;
		this.#chance = dice(options.seed);
		this.#jobs = plan(options.jobs, this.#chance, robotNames);
		this.#commandsFile = join(folder, 'commands.jsonl');
		this.#submitterFile = join(folder, 'submitter.jsonl');
		this.#seenFile = join(folder, 'seen.jsonl');
		this.#service = new ServiceProgram(bundles, join(folder, 'service'), port);
		this.#agents = robotNames.map(
			(name) =>
				new AgentProgram(bundles, this.#service.url, {
					name,
					data: join(folder, name),
					slots,
					env: { CHAOS_COMMANDS: this.#commandsFile, CHAOS_ROBOT: name },
				}),
		);
	}

	/** Submits, kills, and waits until everything is final and quiet. Throws with what is missing. */
	async run(): Promise<void> {
		this.#service.start();
		await this.#service.ready();
		this.#client = this.#service.client;
		const { token } = await this.#client.createToken({ uses: this.#agents.length });
		for (const agent of this.#agents) agent.start(token);
		for (const agent of this.#agents) this.#robots.set(await agent.connected(), agent.name);
		const parts = [this.#submitAll(), this.#killAll(), this.#watch()];
		try {
			await Promise.all(parts);
		} finally {
			this.#over = true;
			await Promise.allSettled(parts);
		}
	}

	/** What everybody wrote. Stops all programs, to read their files. */
	async gather(): Promise<Histories> {
		const store = await this.#truth();
		for (const program of [...this.#agents, this.#service]) {
			const code = await program.stop();
			if (code !== 0) throw new Error(`${program.log}: ended with ${code} after SIGTERM`);
		}
		return {
			submitter: readLines<SubmitterLine>(this.#submitterFile),
			commands: readLines<CommandLine>(this.#commandsFile),
			agents: this.#agents.flatMap((agent) => agentLines(agent)),
			seen: readLines<SeenLine>(this.#seenFile),
			store,
			attemptRows: readRows(
				join(this.#service.data, 'robot-fleet.db'),
				`SELECT job_id AS jobId, number, epoch, 'ended' AS state, 0 AS hold, result IS NOT NULL AS results,
				  late_result IS NOT NULL AS lateResults FROM attempts
				 UNION ALL SELECT id, attempt, epoch, CASE WHEN outcome IS NULL THEN state ELSE 'ended' END, outcome IS NULL, result IS NOT NULL, late_result IS NOT NULL
				  FROM jobs WHERE attempt > 0 ORDER BY 1, 2`,
			),
			journalRows: this.#agents.flatMap(({ name, data }) =>
				readRows<{ jobId: string; epoch: number; fate: string }>(
					join(data, 'journal.db'),
					'SELECT job_id AS jobId, epoch, fate FROM attempts',
				).map((row) => ({ robot: name, ...row })),
			),
			robots: this.#robots,
			kept: true,
			keyOf: (job) => job.variables['key'] as string | undefined,
			printed,
		};
	}

	figures({ store, commands }: Histories): Figures {
		const attempts = store.flatMap((truth) => truth.attempts);
		return {
			seed: this.#options.seed,
			jobs: store.length,
			serviceKills: this.#kills.service,
			agentKills: this.#kills.agents,
			killsWhileStarting: this.#kills.whileStarting,
			outcomes: count(store, ({ job }) =>
				job.cause === null || job.state === job.cause ? job.state : `${job.state}/${job.cause}`,
			),
			unknowns: store.filter(({ job }) => job.cause === 'unknown').length,
			attempts: attempts.length,
			attemptOutcomes: count(attempts, ({ outcome, cause }) =>
				cause === null ? String(outcome) : `${outcome}/${cause}`,
			),
			retries: store
				.flatMap(({ timeline }) => timeline)
				.filter(({ from, to }) => from === 'running' && to === 'pending').length,
			starts: commands.filter(({ event }) => event === 'start').length,
			lostAnswers: this.#lostAnswers,
			duplicates: this.#duplicates,
			seconds: Math.round((performance.now() - this.#startedAt) / 100) / 10,
			quietAfterSeconds: Math.round((this.#quietAt - this.#lastKillAt) / 100) / 10,
		};
	}

	/** Ends every process of this run. Harmless when they have ended. */
	async close(): Promise<void> {
		this.#over = true;
		await Promise.all([this.#service, ...this.#agents].map((program) => program.kill()));
		for (const agent of this.#agents) agent.killKeeper();
		for (const pid of this.strays()) {
			try {
				process.kill(pid, 'SIGKILL');
			} catch {
				// It ended while we looked.
			}
		}
	}

	/** Processes of this run that live although nobody should run any more; all of them, or those of jobs alone. */
	strays(which: 'all' | 'of jobs' = 'all'): number[] {
		const marks = [`CHAOS_COMMANDS=${this.#commandsFile}\0`];
		if (which === 'of jobs') marks.push('ROBOT_FLEET_ATTEMPT_MARK=');
		return readdirSync('/proc')
			.map(Number)
			.filter((pid) => {
				if (!Number.isInteger(pid) || pid === process.pid) return false;
				try {
					const environment = readFileSync(`/proc/${pid}/environ`, 'latin1');
					return marks.every((mark) => environment.includes(mark));
				} catch {
					return false;
				}
			});
	}

	remove(): void {
		rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
	}

	/** Four submitters, in step with the kills: the last job comes when most of the kills are done. */
	async #submitAll(): Promise<void> {
		const spacingMs = (this.#options.kills * meanKillMs) / this.#jobs.length;
		const startedAt = performance.now();
		const cancels: Promise<void>[] = [];
		let next = 0;
		const worker = async () => {
			while (!this.#over) {
				const i = next++;
				const job = this.#jobs[i];
				if (!job) return;
				await sleep(Math.max(0, startedAt + i * spacingMs - performance.now()));
				const jobId = await this.#submit(job);
				if (jobId === undefined) continue;
				if (job.twice) await this.#submit(job);
				if (job.cancelAfterMs === undefined) continue;
				cancels.push(sleep(job.cancelAfterMs).then(() => this.#cancel(job, jobId)));
			}
		};
		await Promise.all([worker(), worker(), worker(), worker()]);
		await Promise.all(cancels);
		this.#submitted = true;
	}

	async #submit({ key, submit }: Planned): Promise<string | undefined> {
		return await this.#insist('submit', key, async () => {
			const { jobId, duplicate } = await this.#client.submit(submit, AbortSignal.timeout(10_000));
			if (duplicate) this.#duplicates++;
			if (!this.#known.has(jobId)) this.#known.set(jobId, false);
			return { jobId };
		});
	}

	async #cancel({ key }: Planned, jobId: string): Promise<void> {
		await this.#insist('cancel', key, async () => {
			const job = await this.#client.cancel(jobId);
			return { jobId, cancelRequested: job.cancelRequestedAt !== null };
		});
	}

	/** Asks until there is an answer, as a careful caller does. */
	async #insist(
		op: 'submit' | 'cancel',
		key: string,
		ask: () => Promise<{ jobId: string; cancelRequested?: boolean }>,
	): Promise<string | undefined> {
		const write = (line: Omit<SubmitterLine, 'at' | 'op' | 'key'>) =>
			append(this.#submitterFile, { at: Date.now(), op, key, ...line });
		while (!this.#over) {
			write({ type: 'invoke' });
			try {
				const asking = ask();
				for (const asked of this.#asked.splice(0)) asked();
				const answer = await asking;
				write({ type: 'ok', ...answer });
				return answer.jobId;
			} catch (error) {
				const text = String((error as Error).message);
				if (!mayAskAgain(error)) {
					write({ type: 'fail', text });
					return undefined;
				}
				if (!text.includes('nothing listens')) this.#lostAnswers++;
				write({ type: 'info', text });
				await sleep(50);
			}
		}
		return undefined;
	}

	/** SIGKILL every 100 to 600 ms. Now and then a program is hit again before it has come up. */
	async #killAll(): Promise<void> {
		const chance = dice(this.#options.seed + 1);
		const upSince = new Map<unknown, number>();
		const start = (program: ServiceProgram | AgentProgram) => {
			upSince.delete(program);
			program.start();
			const up = program instanceof AgentProgram ? program.connected() : program.ready();
			void up.then(
				() => upSince.set(program, performance.now()),
				() => undefined,
			);
		};
		for (const program of [this.#service, ...this.#agents]) upSince.set(program, 0);
		for (let kills = 0; !this.#over;) {
			if (kills >= this.#options.kills && this.#submitted) break;
			await sleep(100 + chance() * 500);
			const early = chance() < 0.15;
			const agent = this.#agents[Math.floor(chance() * this.#agents.length)]!;
			let victim = chance() < 0.55 ? this.#service : agent;
			// The service is everybody's only way to get on: most of the time it may come up first.
			const restMs = chance() * 800;
			const upMs = performance.now() - (upSince.get(victim) ?? Infinity);
			if (victim === this.#service && !early && upMs < restMs) victim = agent;
			// Half of the kills are aimed: between a question and what follows from it lie the promises.
			if (chance() < 0.5) await this.#nextQuestion();
			await sleep(chance() * (victim === this.#service ? 10 : 60));
			if (!upSince.has(victim)) this.#kills.whileStarting++;
			if (victim === this.#service) this.#kills.service++;
			else this.#kills.agents++;
			await victim.kill();
			if (this.#over) return;
			this.#lastKillAt = performance.now();
			start(victim);
			kills++;
		}
		this.#killed = true;
	}

	/** Resolves when a submit or cancel has just been sent, at the latest after 300 ms. */
	async #nextQuestion(): Promise<void> {
		await Promise.race([new Promise<void>((asked) => this.#asked.push(asked)), sleep(300)]);
	}

	/** Looks at jobs all the time, and ends when all of them are final and their output is complete. */
	async #watch(): Promise<void> {
		const chance = dice(this.#options.seed + 2);
		const until = performance.now() + this.#options.deadlineMs;
		while (!this.#over) {
			try {
				if (await this.#look(chance)) {
					this.#quietAt = performance.now();
					return;
				}
			} catch (error) {
				if (error instanceof Problem && error.code === 'no-such-job') {
					throw new Error(`an acknowledged job is gone: ${error.message} (${this.folder})`);
				}
				if (!mayAskAgain(error)) throw error;
			}
			if (performance.now() > until) throw new Error(await this.#whatIsMissing());
			await sleep(200);
		}
	}

	async #look(chance: () => number): Promise<boolean> {
		const { items } = await this.#client.jobs({ limit: 30 });
		for (const job of items) this.#saw(job);
		const finals = [...this.#known].filter(([, final]) => final).map(([id]) => id);
		const open = [...this.#known].filter(([, final]) => !final).map(([id]) => id);
		for (let n = 0; n < 10 && finals.length > 0; n++) {
			this.#saw(await this.#client.job(finals[Math.floor(chance() * finals.length)]!));
		}
		for (const id of open.slice(0, 50)) this.#saw(await this.#client.job(id));
		if (!this.#submitted || !this.#killed || open.length > 0) return false;
		const robots = await this.#client.robots();
		if (robots.some((robot) => !robot.connected || robot.held > 0)) return false;
		return [...this.#known.values()].every((final) => final);
	}

	#saw(job: Job): void {
		const line = seenOf(job, Date.now());
		const { at: _, ...facts } = line;
		const text = JSON.stringify(facts);
		if (this.#lastSeen.get(job.jobId) !== text) append(this.#seenFile, line);
		this.#lastSeen.set(job.jobId, text);
		if (this.#known.has(job.jobId)) {
			this.#known.set(job.jobId, isFinal(job.state) && job.output.complete);
		}
	}

	async #whatIsMissing(): Promise<string> {
		const parts = [
			`after ${this.#options.deadlineMs} ms (seed ${this.#options.seed}, files in ${this.folder}):`,
			`${this.#known.size} of ${this.#jobs.length} jobs acknowledged`,
		];
		const open = [...this.#known].filter(([, final]) => !final).map(([id]) => id);
		parts.push(`${open.length} jobs are not final or their output is not complete`);
		for (const id of open.slice(0, 10)) {
			try {
				const job = await this.#client.job(id);
				const moves = (await this.#client.timeline(id)).map(
					({ at, to, reason, attempt }) => `${at} ${to} (${reason}, attempt ${attempt})`,
				);
				const { output } = job;
				const { text } = await this.#client.why(id);
				parts.push(
					`${id} ${String(job.variables['key'])} ${job.state} output ${JSON.stringify(output)}; ${text}\n\t${moves.join('\n\t')}`,
				);
			} catch (error) {
				parts.push(`${id}: ${String(error)}`);
			}
		}
		const robots = await this.#client.robots().catch((error: unknown) => String(error));
		parts.push(`robots: ${JSON.stringify(robots)}`);
		return parts.join('\n');
	}

	async #truth(): Promise<StoredTruth[]> {
		const jobs: Job[] = [];
		for (let cursor: string | undefined; ;) {
			const page = await this.#client.jobs({ limit: 100, cursor });
			jobs.push(...page.items);
			cursor = page.cursor;
			if (cursor === undefined) break;
		}
		const truths: StoredTruth[] = [];
		for (const job of jobs) {
			truths.push({
				job,
				attempts: await this.#client.attempts(job.jobId),
				timeline: await this.#client.timeline(job.jobId),
				output: {
					stdout: await this.#output(job.jobId, 'stdout'),
					stderr: await this.#output(job.jobId, 'stderr'),
				},
			});
		}
		return truths;
	}

	async #output(jobId: string, stream: string): Promise<Buffer> {
		const answer = await fetch(
			`${this.#service.url}/api/v1/jobs/${jobId}/output?stream=${stream}`,
			{ headers: { authorization: `Bearer ${this.#service.adminKey}` } },
		);
		if (!answer.ok) throw new Error(`output of ${jobId}: ${answer.status} ${await answer.text()}`);
		return Buffer.from(await answer.arrayBuffer());
	}
}

/** No answer, or one that says that another try may help. */
function mayAskAgain(error: unknown): boolean {
	if (error instanceof Problem) return error.code === 'service-away' || error.code === 'internal';
	return (error as Error).name === 'TimeoutError' || (error as Error).name === 'AbortError';
}

function append(file: string, line: object): void {
	appendFileSync(file, `${JSON.stringify(line)}\n`);
}

function readLines<T>(file: string): T[] {
	if (!existsSync(file)) return [];
	const lines = readFileSync(file, 'utf8').split('\n');
	return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as T);
}

/** Its log is synchronous, so a line that was written outlives the kill. */
function agentLines(agent: AgentProgram): AgentLine[] {
	const found: AgentLine[] = [];
	for (const line of agent.logged().split('\n')) {
		if (!line.includes('"msg":"job ended"')) continue;
		const { job, attempt, epoch, state, cause } = JSON.parse(line) as AgentLine;
		found.push({ robot: agent.name, job, attempt, epoch, state, cause });
	}
	return found;
}

export function readRows<T>(file: string, sql: string): T[] {
	const db = new DatabaseSync(file, { readOnly: true });
	try {
		const [check] = db.prepare('PRAGMA integrity_check').all();
		if (check?.['integrity_check'] !== 'ok') throw new Error(`${file}: ${JSON.stringify(check)}`);
		return db.prepare(sql).all() as T[];
	} finally {
		db.close();
	}
}

function count<T>(list: readonly T[], nameOf: (one: T) => string): Record<string, number> {
	const counts: Record<string, number> = {};
	for (const one of list) counts[nameOf(one)] = (counts[nameOf(one)] ?? 0) + 1;
	return Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));
}
