/**
 * A real n8n with our packed package, two robots, and the service: beside it (`standalone`, killed alone) or
 * in it (`embedded`, killed with n8n). Webhooks are called all the time, and a seeded killer sends
 * SIGKILL to whoever is next, who is started again at once over the same folder and port.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FleetClient } from '../../client';
import { httpSend } from '../../dispatcher/cli/transport';
import { isFinal, type Job } from '../../protocol';
import { N8n } from '../../scripts/n8n/instance.mjs';
import { until } from '../../scripts/n8n/until.mjs';
import { readRows } from '../fault/chaos';
import { Draw } from '../support/dice';
import type { Runtime } from '../support/n8n-runtime';
import { AgentProgram, type Bundles, quietPort, ServiceProgram } from '../support/programs';
import type { History, JobOfAll, Tally, WaitOfAll } from './laws';
import { Ledger } from './ledger';
import { type Order, plan, steps } from './workflows';

export type Victim = 'n8n' | 'service' | 'agent';

export interface HouseOptions {
	kind: 'standalone' | 'embedded';
	folder: string;
	seed: number;
	/** How often each is killed. */
	kills: Readonly<Record<Victim, number>>;
	runtime: Runtime;
	tarball: string;
	bundles: Bundles;
	/** How long all may take to come to rest after the last kill. */
	quietMs: number;
}

export interface Figures {
	kills: Record<Victim, number>;
	killsWhileStarting: number;
	/** Executions that stood as parked when n8n, or the service, was killed. */
	parkedWhenKilled: number;
	/** Webhooks that n8n has answered. */
	answered: number;
	/** Calls that got no answer, or were refused: n8n was down or not ready. */
	unanswered: number;
	outcomes: Record<string, number>;
	parked: number;
	/** Waits that were asked for while nobody could be reached: nothing was parked. */
	refused: number;
	/** Of the refusals the most frequent ones. */
	refusals: Record<string, number>;
	tallies: number;
	jobs: number;
	waits: Record<string, number>;
	seconds: number;
	quietAfterSeconds: number;
}

const robots = ['anna', 'bert'] as const;
const slots = 4;
/** n8n under load takes its time; this only guards against standing still for ever. */
const startMs = 600_000;
/** So long n8n may work between two of its kills: longer than the grace of a wait, so that executions get parked. */
const lifeSeconds = [12, 26] as const;

type Program = ServiceProgram | AgentProgram;

export class House {
	readonly kind: HouseOptions['kind'];
	readonly #options: HouseOptions;
	readonly #draw: Draw;
	readonly #n8n: N8n;
	readonly #service: ServiceProgram | undefined;
	readonly #agents: AgentProgram[];
	readonly #servicePort: number;
	readonly #ledger: Ledger;
	readonly #startsFile: string;
	readonly #tallies: Tally[] = [];
	readonly #parked = new Set<string>();
	readonly #runningWhenKilled = new Set<string>();
	readonly #parkedWhenKilled = new Set<string>();
	readonly #kills: Record<Victim, number> = { n8n: 0, service: 0, agent: 0 };
	/** Resolves when the program is up again; a rejection is kept until somebody asks. */
	readonly #coming = new Map<Program | N8n, Promise<unknown>>();
	readonly #startedAt = performance.now();
	#counter: Server | undefined;
	#killsWhileStarting = 0;
	#n8nReadyAt: number | undefined;
	#answered = 0;
	#unanswered = 0;
	#lastKillAt = 0;
	#quietAt = 0;
	#killed = false;
	#over = false;

	static async prepare(options: HouseOptions): Promise<House> {
		const { folder, kind, runtime } = options;
		mkdirSync(folder, { recursive: true });
		const port = await quietPort();
		const n8n = await N8n.create({
			runtime,
			userFolder: join(folder, 'n8n'),
			logFile: join(folder, 'n8n.log'),
			env: {
				N8N_LOG_LEVEL: 'info',
				...(kind === 'embedded'
					? { ROBOT_FLEET_PORT: String(port), ROBOT_FLEET_QUARANTINE_AFTER: '0' }
					: {}),
			},
		});
		return new House(options, n8n, port);
	}

	private constructor(options: HouseOptions, n8n: N8n, servicePort: number) {
		const { folder, kind, bundles, runtime, seed } = options;
		this.kind = kind;
		this.#options = options;
		this.#draw = new Draw(seed);
		this.#n8n = n8n;
		this.#servicePort = servicePort;
		this.#startsFile = join(folder, 'starts');
		this.#ledger = new Ledger(join(folder, 'n8n', '.n8n', 'database.sqlite'), runtime.bin);
		if (kind === 'standalone') {
			const env = { ROBOT_FLEET_N8N_URL: n8n.baseUrl };
			this.#service = new ServiceProgram(bundles, join(folder, 'service'), servicePort, env);
		}
		this.#agents = robots.map(
			(name) =>
				new AgentProgram(bundles, this.#serviceUrl, {
					name,
					data: join(folder, name),
					slots,
					env: { CHAOS_STARTS: this.#startsFile },
				}),
		);
	}

	/** Calls, kills, and waits until everything is over and quiet, or the patience is. The laws judge what is left. */
	async run(): Promise<void> {
		await this.#furnish();
		const parts = [this.#callAll(), this.#killAll(), this.#watch()];
		try {
			await Promise.all(parts);
		} finally {
			this.#over = true;
			await Promise.allSettled(parts);
		}
	}

	/** What everybody wrote. Stops all programs, to read their files. */
	async gather(): Promise<History> {
		const jobs = await this.#jobs();
		for (const agent of this.#agents) await agent.stop();
		await this.#n8n.stop();
		await this.#service?.stop();
		return {
			steps,
			executions: this.#ledger.executions(),
			tallies: this.#tallies,
			jobs,
			waits: readRows<WaitOfAll>(
				join(this.#dataFolder, 'robot-fleet.db'),
				`SELECT id AS waitId, execution_id AS execution, state, tries, last_error AS lastError FROM waits`,
			),
			starts: this.#starts(),
			parked: this.#parked,
			runningWhenKilled: this.#runningWhenKilled,
		};
	}

	figures({ executions, tallies, jobs, waits }: History): Figures {
		const refused = tallies.filter(({ job }) => job === null);
		return {
			kills: this.#kills,
			killsWhileStarting: this.#killsWhileStarting,
			parkedWhenKilled: this.#parkedWhenKilled.size,
			answered: this.#answered,
			unanswered: this.#unanswered,
			outcomes: count(executions, ({ status }) => status),
			parked: this.#parked.size,
			refused: refused.length,
			refusals: count(
				[...refused.map(({ error }) => error), ...executions.map(({ error }) => error)].filter(
					(error) => error !== null,
				),
				(error) => error.slice(0, 120),
			),
			tallies: tallies.length,
			jobs: jobs.length,
			waits: count(waits, ({ state }) => state),
			seconds: seconds(performance.now() - this.#startedAt),
			quietAfterSeconds: seconds(this.#quietAt - this.#lastKillAt),
		};
	}

	/** Ends every process of this house. Harmless when they have ended. */
	async close(): Promise<void> {
		this.#over = true;
		await this.#n8n.kill();
		await Promise.all([...this.#agents, ...this.#services].map((program) => program.kill()));
		for (const agent of this.#agents) agent.killKeeper();
		for (const pid of this.#strays()) {
			try {
				process.kill(pid, 'SIGKILL');
			} catch {
				// It ended while we looked.
			}
		}
		this.#counter?.closeAllConnections();
		await new Promise<void>((done) => (this.#counter ? this.#counter.close(() => done()) : done()));
	}

	get #services(): ServiceProgram[] {
		return this.#service ? [this.#service] : [];
	}

	get #serviceUrl(): string {
		return `http://127.0.0.1:${this.#servicePort}`;
	}

	get #dataFolder(): string {
		return this.#service?.data ?? join(this.#options.folder, 'n8n', '.n8n', 'robot-fleet');
	}

	#key(name: 'admin' | 'n8n'): string {
		return readFileSync(join(this.#dataFolder, `${name}.key`), 'utf8').trim();
	}

	get #client(): FleetClient {
		return new FleetClient(httpSend({ url: this.#serviceUrl, key: this.#key('admin') }));
	}

	/** Everything runs, is enrolled and published. */
	async #furnish(): Promise<void> {
		const n8n = this.#n8n;
		const countAt = await this.#count();
		await n8n.installPackage(this.#options.tarball);
		await n8n.start({ deadlineMs: startMs });
		await n8n.setupOwner({ email: 'owner@example.com', password: 'Robots1234' });
		let data: Record<string, unknown> = { connection: 'embedded' };
		if (this.#service) {
			this.#service.start();
			await this.#service.ready();
			data = { connection: 'server', url: this.#serviceUrl, apiKey: this.#key('n8n') };
		}
		const made = { name: 'Fleet', type: 'robotFleetApi', data };
		const credential = await n8n.createCredential(made);
		// This starts the service where it is embedded.
		const tested = await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: made.type, data },
		});
		if (tested.status !== 'OK') throw new Error(`The credential: ${JSON.stringify(tested)}`);
		const { token } = await this.#client.createToken({ uses: this.#agents.length });
		for (const agent of this.#agents) {
			agent.start(token);
			await agent.connected();
		}
		for (const workflow of plan(credential, countAt).workflows) {
			const { id } = await n8n.createWorkflow(workflow);
			await n8n.activate(id);
		}
		this.#n8nReadyAt = performance.now();
	}

	/** Answers where executions are counted. */
	async #count(): Promise<string> {
		const server = createServer((request, response) => {
			let text = '';
			request.setEncoding('utf8').on('data', (piece: string) => (text += piece));
			request.on('end', () => {
				this.#tallies.push(JSON.parse(text) as Tally);
				response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
			});
		});
		this.#counter = server;
		await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
		return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
	}

	/** Calls webhooks for as long as somebody is killed; one that is not answered was not accepted. */
	async #callAll(): Promise<void> {
		const draw = new Draw(this.#options.seed + 1);
		const names = ['one', 'one', 'dispatch', 'two'] as const;
		while (!this.#over && !this.#killed) {
			await sleep(draw.part(800, 2_600));
			if (this.#n8nReadyAt === undefined) continue;
			const name = draw.pick(names);
			const order: Order = { seconds: {}, codes: {}, robot: draw.pick(robots) };
			for (const step of steps[name]) {
				order.seconds[step] = Math.round(secondsOfJob(draw) * 10) / 10;
				order.codes[step] = draw.chance(0.15) ? 3 : 0;
			}
			try {
				const { status } = await this.#n8n.request('POST', `/webhook/${name}`, {
					body: order,
					timeoutMs: 30_000,
				});
				if (status === 200) this.#answered++;
				else this.#unanswered++;
			} catch {
				this.#unanswered++;
			}
		}
	}

	async #killAll(): Promise<void> {
		const draw = this.#draw;
		for (const victim of shuffled(this.#options.kills, draw)) {
			if (this.#over) return;
			if (victim === 'n8n') await this.#killN8n();
			else {
				await sleep(draw.part(300, 5_000));
				await this.#killProgram(victim === 'service' ? this.#service! : draw.pick(this.#agents));
			}
			this.#kills[victim]++;
			this.#lastKillAt = performance.now();
		}
		// Harm is over: everybody comes back.
		await Promise.all(this.#coming.values());
		this.#killed = true;
	}

	/** After a life in which it could park something; now and then a second time while it starts. */
	async #killN8n(): Promise<void> {
		const draw = this.#draw;
		await this.#coming.get(this.#n8n);
		const lived = performance.now() - this.#n8nReadyAt!;
		await sleep(Math.max(0, draw.part(...lifeSeconds) * 1_000 - lived));
		await this.#strikeN8n();
		if (draw.chance(0.1)) {
			const coming = this.#startN8n().catch(() => undefined);
			await sleep(draw.part(500, 12_000));
			if (this.#n8nReadyAt === undefined) this.#killsWhileStarting++;
			await this.#strikeN8n();
			await coming;
		}
		const coming = this.#startN8n();
		// Told when somebody asks for it.
		coming.catch(() => undefined);
		this.#coming.set(this.#n8n, coming);
	}

	async #strikeN8n(): Promise<void> {
		this.#n8nReadyAt = undefined;
		await this.#n8n.kill('SIGKILL');
		const { parked, running } = this.#ledger.open();
		for (const id of running) this.#runningWhenKilled.add(id);
		for (const id of parked) {
			this.#parked.add(id);
			this.#parkedWhenKilled.add(id);
		}
	}

	async #startN8n(): Promise<void> {
		await this.#n8n.start({ deadlineMs: startMs });
		this.#n8nReadyAt = performance.now();
	}

	async #killProgram(program: Program): Promise<void> {
		const early = this.#draw.chance(0.15);
		const coming = this.#coming.get(program);
		let starting = coming !== undefined;
		void coming?.then(() => (starting = false));
		// An embedded service comes back with its n8n, so its robots may wait for long.
		if (!early) await coming;
		else await Promise.race([coming, sleep(this.#draw.part(0, 300))]);
		if (starting && early) this.#killsWhileStarting++;
		for (const id of this.#ledger.open().parked) {
			this.#parked.add(id);
			if (program === this.#service) this.#parkedWhenKilled.add(id);
		}
		await program.kill();
		program.start();
		const up = program instanceof AgentProgram ? program.connected() : program.ready();
		// Killed again before it was up: that life is of no interest.
		this.#coming.set(
			program,
			up.catch(() => undefined),
		);
	}

	/** Ends when n8n, service and robots have nothing left to do. */
	async #watch(): Promise<void> {
		while (!this.#over && !this.#killed) {
			this.#look();
			await sleep(500);
		}
		let left = 'nothing was seen';
		await until(
			async () => {
				if (this.#over) return true;
				const { parked, running } = this.#look();
				const waits = await this.#openWaits();
				const jobs = (await this.#jobs()).filter(({ state }) => !isFinal(state as Job['state']));
				left = `executions ${running.join(' ')} run, ${parked.join(' ')} are parked; ${waits} waits and ${jobs.length} jobs are open`;
				return parked.length + running.length + jobs.length + waits === 0;
			},
			{ deadlineMs: this.#options.quietMs, what: () => `the house to be quiet; ${left}` },
		).catch((error: Error) => process.stderr.write(`${this.kind}: ${error.message}\n`));
		this.#quietAt = performance.now();
	}

	#look(): { parked: string[]; running: string[] } {
		const open = this.#ledger.open();
		for (const id of open.parked) this.#parked.add(id);
		return open;
	}

	async #openWaits(): Promise<number> {
		const answer = await fetch(`${this.#serviceUrl}/metrics`, {
			headers: { authorization: `Bearer ${this.#key('admin')}` },
		});
		const text = await answer.text();
		const counts = [...text.matchAll(/^robot_fleet_waits\{state="\w+"\} (\d+)$/gm)];
		if (counts.length === 0) throw new Error(`no waits in /metrics: ${text.slice(0, 500)}`);
		return counts.reduce((sum, [, found]) => sum + Number(found), 0);
	}

	async #jobs(): Promise<JobOfAll[]> {
		const found: JobOfAll[] = [];
		for (let cursor: string | undefined; ;) {
			const page = await this.#client.jobs({ limit: 100, cursor });
			for (const { jobId, state, variables } of page.items) {
				const { execution, step } = variables as Record<string, string>;
				found.push({ jobId, state, execution: String(execution), step: String(step) });
			}
			cursor = page.cursor;
			if (cursor === undefined) return found;
		}
	}

	#starts(): History['starts'] {
		if (!existsSync(this.#startsFile)) return [];
		return readFileSync(this.#startsFile, 'utf8')
			.split('\n')
			.filter((line) => line !== '')
			.map((line) => {
				const [jobId, attempt] = line.split(' ');
				return { jobId: jobId!, attempt: Number(attempt) };
			});
	}

	/** Processes of our robots and their jobs that live although nobody should run any more. */
	#strays(): number[] {
		const mark = `CHAOS_STARTS=${this.#startsFile}\0`;
		return readdirSync('/proc')
			.map(Number)
			.filter((pid) => {
				if (!Number.isInteger(pid) || pid === process.pid) return false;
				try {
					return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(mark);
				} catch {
					return false;
				}
			});
	}
}

/** Half of them outlast the grace of a wait, so that their executions are parked. */
function secondsOfJob(draw: Draw): number {
	const sort = draw.next();
	if (sort < 0.25) return 0;
	if (sort < 0.5) return draw.part(0, 4);
	return draw.part(9, 20);
}

function shuffled(kills: HouseOptions['kills'], draw: Draw): Victim[] {
	const list = Object.entries(kills).flatMap(([victim, times]) =>
		Array.from({ length: times }, () => victim as Victim),
	);
	for (let i = list.length - 1; i > 0; i--) {
		const j = draw.whole(0, i);
		[list[i], list[j]] = [list[j]!, list[i]!];
	}
	return list;
}

function count<T>(list: readonly T[], nameOf: (one: T) => string): Record<string, number> {
	const counts: Record<string, number> = {};
	for (const one of list) counts[nameOf(one)] = (counts[nameOf(one)] ?? 0) + 1;
	return Object.fromEntries(Object.entries(counts).sort(([, a], [, b]) => b - a));
}

function seconds(ms: number): number {
	return Math.round(ms / 100) / 10;
}
