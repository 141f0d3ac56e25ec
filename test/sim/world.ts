/**
 * One seed is one world: the real engine on the real store, real agents, and between them a network,
 * disks, machines and clocks that fail as planned. When the harm is over everything must come to
 * rest, and then the books of all sides are compared.
 *
 *   start → harm → heal → everybody is back → they agree → every job has ended → the laws
 */
import { laneRule } from '../../dispatcher/core/matching';
import type { Engine } from '../../dispatcher/engine';
import type { Callbacks } from '../../dispatcher/engine/waits';
import type { Deed, ReadName } from '../../dispatcher/store/store';
import { isFinal } from '../../protocol';
import { Draw } from '../support/dice';
import {
	type AgentLine,
	type CommandLine,
	type Violation,
	violations as lawsBroken,
} from '../support/history';
import type { Child } from './children';
import { Disk } from './disk';
import { gather } from './gather';
import { Kernel, Process } from './kernel';
import { Ledger, type LedgerJob } from './ledger';
import { type Known, Liar } from './liar';
import { Network } from './network';
import { type Harm, isTooBig, type Plan, type PlannedHarm, planOf } from './plan';
import { Robot } from './robot';
import { type Ask, Service, type ServiceOptions } from './service';
import { admin, Submitter } from './submitter';
import { Watchman } from './watchman';

/** A fault that is put in on purpose, to see whether it is found. */
export interface Mutation {
	engine?(engine: Engine, world: World): Engine;
	plan?(plan: Plan): void;
	deed?(deed: Deed, world: World): Deed;
	read?(name: ReadName, answer: unknown): unknown;
	/** What the service is told, while its robots and the watchman go by the plan. */
	settings?: Partial<ServiceOptions>;
}

export interface Outcome {
	seed: number;
	violations: Violation[];
	/** Everything that was said and done, as lines of JSON. */
	history: object[];
	/** Faults that struck, by name. */
	struck: Record<string, number>;
	jobs: number;
	events: number;
	/** Virtual milliseconds. */
	tookMs: number;
}

/** How long everything may take to come to rest after the harm; far more than the slowest plan needs. */
const restMs = 3_600_000;
/** A world in which so many laws were broken has nothing more to say, and may go on for long. */
const maxViolations = 5;
/** How long robots may take to come back: the longest back-off, and the wait for a dead twin's session. */
const returnMs = 240_000;

/** What a job may be told whose group, pool, lock or robots are not there any more. */
const rearranged = ['no-such-group', 'no-such-pool', 'lock-too-small'];

export class World {
	readonly plan: Plan;
	readonly kernel = new Kernel();
	readonly ledger: Ledger;
	readonly disk: Disk;
	readonly network: Network;
	readonly service: Service;
	readonly robots: Robot[];
	readonly submitter: Submitter;
	readonly watchman: Watchman;
	readonly #liar: Liar | undefined;
	readonly commands: CommandLine[] = [];
	readonly agents: AgentLine[] = [];
	readonly children: (Child & { robot: string })[] = [];
	readonly violations: Violation[] = [];
	readonly history: object[] = [];
	readonly struck: Record<string, number> = {};
	/** Robots that were asked to be removed: they may be gone, with all that they hold. */
	readonly removed = new Set<Robot>();
	/** n8n was poked for this wait when its job was (true) or was not (false) final. */
	readonly pokes: { waitId: string; final: boolean }[] = [];
	/** Over all lives of the service, by robot. */
	readonly journalCommits: number[];
	readonly #draw: Draw;
	readonly #entropy: Draw;
	/** Lives as long as the world. */
	readonly #fate = new Process('fate');
	/** What robots said, for those who say it again. */
	readonly #said = new Map<string, (string | Buffer)[]>();
	readonly #agentDiskFull = new Set<number>();
	#harmful = false;
	#over = false;
	/** How long the service stays away that is being killed. */
	#downMs: number | undefined;
	#firstCommit = 0;

	constructor(seed: number, mutation: Mutation = {}) {
		this.plan = planOf(seed);
		mutation.plan?.(this.plan);
		this.#draw = new Draw(seed ^ 0x5bd1e995);
		this.#entropy = new Draw(seed ^ 0x1b873593);
		const { plan, kernel } = this;
		const { next } = this.#draw;
		const latencyMs = () => next() * plan.latencyMs;
		const note = (line: object) => this.note(line);
		this.ledger = new Ledger({
			now: () => kernel.now,
			breaks: (violation) => this.breaks(violation),
			note,
			checkLoss: (robotId, policy, jobId) => this.watchman.checkLoss(robotId, policy, jobId),
		});
		this.disk = new Disk(
			kernel,
			{
				commitMs: plan.commitMs === 0 ? () => 0 : () => next() * plan.commitMs,
				readMs: plan.commitMs === 0 ? 0 : 0.02,
				faultOf: (commit) =>
					this.#harmful ? plan.commitFaults.get(commit - this.#firstCommit) : undefined,
			},
			{
				kill: () => this.#killService(next() * 3_000),
				took: (deeds, answers) => this.ledger.took(deeds, answers),
				refused: (error) => this.breaks({ law: 'I11', jobId: '-', text: error.message }),
				injected: (fault) => this.strike(fault),
				bent: {
					...(mutation.deed ? { deed: (deed) => mutation.deed!(deed, this) } : {}),
					...(mutation.read ? { read: mutation.read } : {}),
				},
			},
		);
		this.network = new Network(kernel, {
			latencyMs,
			tooLong: (robot, bytes) =>
				this.breaks({
					law: 'I15',
					jobId: '-',
					text: `a frame of ${bytes} bytes cuts ${robot} off`,
				}),
			...(plan.harms.has('echo') ? { tap: (name, data) => this.#tap(name, data) } : {}),
			...(plan.liar === undefined ? {} : { bend: (name, data) => this.#bend(name, data) }),
		});
		this.service = new Service(plan.service, {
			kernel,
			open: (owner) => this.disk.open(owner),
			chance: next,
			entropy: (buffer) => {
				for (let at = 0; at < buffer.length; at += 4) {
					buffer.writeUInt32LE(Math.floor(this.#entropy.next() * 2 ** 32), at);
				}
			},
			callbacks: this.#n8n(),
			latencyMs,
			note,
			wrong: (text) => this.breaks({ law: 'I16', jobId: '-', text }),
			ended: () => this.#serviceEnded(),
			settings: mutation.settings ?? {},
			dress: (engine) => mutation.engine?.(engine, this) ?? engine,
		});
		this.robots = plan.robots.map((options, place) => this.#robot(options, place));
		this.journalCommits = plan.robots.map(() => 0);
		this.submitter = new Submitter({
			kernel,
			service: this.service,
			owner: this.#fate,
			chance: next,
			note,
			mayRefuse: (code, key) => this.#mayRefuse(code, key),
		});
		this.watchman = new Watchman(this);
		if (plan.liar !== undefined) {
			const liar = this.robots[plan.liar]!;
			const draw = new Draw(seed ^ 0x27d4eb2f);
			this.#liar = new Liar(
				draw,
				() => liar.robotId,
				() => this.#attempts(),
			);
		}
	}

	/** Nobody removed them. */
	get stayed(): Robot[] {
		return this.robots.filter((robot) => !this.removed.has(robot));
	}

	/** The robot that lies, if there is one. */
	get liar(): Robot | undefined {
		return this.plan.liar === undefined ? undefined : this.robots[this.plan.liar];
	}

	note(line: object): void {
		this.history.push({ at: Math.round(this.kernel.now * 1_000) / 1_000, ...line });
	}

	breaks(violation: Violation): void {
		this.violations.push(violation);
		this.note({ broken: violation.law, ...violation });
	}

	async #compare(): Promise<void> {
		try {
			const histories = await this.#inside(() => gather(this));
			for (const violation of [...lawsBroken(histories), ...this.watchman.missing(histories)]) {
				if (!this.#isLie(violation)) this.breaks(violation);
			}
		} catch (error) {
			const { message } = error as Error;
			this.breaks({ law: 'I16', jobId: '-', text: `what is stored cannot be read: ${message}` });
		}
	}

	/** What is on record of an attempt of a liar is what the liar said: how it ended, and what it printed. */
	#isLie({ law, jobId }: Violation): boolean {
		const { liar } = this;
		if (!liar || !['I4', 'I6', 'I7', 'I8', 'I15'].includes(law)) return false;
		const attempts = this.ledger.jobs.get(jobId)?.attempts ?? [];
		return attempts.some(({ robotId }) => robotId === liar.robotId);
	}

	strike(fault: Harm | string): void {
		this.struck[fault] = (this.struck[fault] ?? 0) + 1;
		this.note({ harm: fault });
	}

	async live(): Promise<Outcome> {
		const unhandled = (error: Error) =>
			this.breaks({ law: 'I16', jobId: '-', text: `nobody handled: ${error.message}` });
		process.on('unhandledRejection', unhandled);
		try {
			await this.#start();
			await this.#suffer();
			this.#heal();
			await this.#rest();
			await this.#compare();
			await this.#end();
		} finally {
			process.off('unhandledRejection', unhandled);
		}
		return {
			seed: this.plan.seed,
			violations: this.violations,
			history: this.history,
			struck: this.struck,
			jobs: this.ledger.jobs.size,
			events: this.kernel.events,
			tookMs: this.kernel.now,
		};
	}

	/** Runs until it is so; false when it was not so in time, or when so many laws are broken that more say nothing. */
	async until(done: () => boolean, ms: number): Promise<boolean> {
		const hopeless = () => this.violations.length >= maxViolations;
		await this.#run(() => hopeless() || done(), ms);
		return done();
	}

	#run(done: () => boolean, ms: number): Promise<boolean> {
		const untilAt = this.kernel.now + ms;
		return this.kernel.run(untilAt, () => this.service.process, done);
	}

	/** Runs for as long as this asks for. */
	async #inside<T>(deed: () => Promise<T>): Promise<T> {
		let over = false;
		let answer: { value: T } | { error: unknown } | undefined;
		void deed().then(
			(value) => {
				answer = { value };
				over = true;
			},
			(error: unknown) => {
				answer = { error };
				over = true;
			},
		);
		await this.#run(() => over, restMs);
		if (!answer) throw new Error(`seed ${this.plan.seed}: no answer came`);
		if ('error' in answer) throw answer.error;
		return answer.value;
	}

	async #start(): Promise<void> {
		void this.service.start();
		await this.until(() => this.service.engine !== undefined, restMs);
		const engine = this.service.engine!;
		const { token } = await this.#inside(() =>
			engine.createToken({ uses: this.robots.length }, admin),
		);
		for (const robot of this.robots) {
			const { robotId, hubId } = await this.#inside(() =>
				engine.enrol(token, robot.publicKey, robot.name),
			);
			Object.assign(robot, { robotId, hubId });
			this.service.robotIds.add(robotId);
			this.service.awaySince.set(robotId, this.service.monotonic);
			robot.start();
		}
		this.#arrange();
		await this.until(() => !this.submitter.busy, restMs);
		if (this.plan.schedule) {
			await this.#inside(() => engine.putSchedule('tick', { cron: '*/5 * * * * *' }, admin));
		}
		this.#firstCommit = this.disk.commits;
		this.#harmful = true;
		this.watchman.start(this.#fate);
		for (const job of this.plan.jobs) this.submitter.handle(job);
		for (const event of this.plan.events) {
			this.kernel.after(event.atMs, this.#fate, () => this.#harm(event));
		}
	}

	async #suffer(): Promise<void> {
		await this.until(() => false, this.plan.harmEndsAt);
	}

	/** Nothing is done to anybody any more, and what was broken is mended. */
	#heal(): void {
		this.note({ world: 'heals' });
		this.#harmful = false;
		this.disk.full = false;
		this.#agentDiskFull.clear();
		this.network.weather.clear();
		void this.service.start();
		this.#arrange();
		for (const robot of this.robots) {
			if (robot.stopping) robot.kill();
			robot.start();
			robot.pause(false);
		}
		// From its next greeting on it is honest.
		if (this.liar) this.network.cut(this.liar.name);
	}

	async #rest(): Promise<void> {
		const still = [this.service.process, ...this.robots.map(({ machine }) => machine)];
		const back = await this.until(
			() =>
				still.every(({ pausedUntil }) => pausedUntil <= this.kernel.now) &&
				this.service.engine !== undefined &&
				this.stayed.every(
					({ name, liveSince }) => liveSince !== undefined && this.network.isSound(name),
				),
			returnMs,
		);
		if (!back) this.breaks({ law: 'I15', jobId: '-', text: this.watchman.whoIsMissing() });
		// A result that a full disk refused is told again at the second heartbeat.
		const beats = this.struck['disk-full'] ? 2 : 1;
		const agreed = await this.until(
			() => this.watchman.disagreements().length === 0,
			beats * this.plan.service.heartbeatMs +
				4 * this.plan.latencyMs +
				4 * this.plan.commitMs +
				// An exit record that a robot's full disk refused is written again after so long.
				(this.struck['agent-disk-full'] ? 5_000 : 0) +
				1_000,
		);
		if (!agreed) {
			for (const violation of this.watchman.disagreements()) this.breaks(violation);
		}
		const left = (why: (job: LedgerJob) => boolean) =>
			this.submitter.onlyFollows ? [...this.ledger.jobs.values()].filter(why) : [];
		/** Asked for once: who submits asks until there is an answer. */
		const cancelled = new Set<string>();
		const forgotten = () =>
			left((job) => job.held || (!cancelled.has(job.id) && this.#waitsForNobody(job)));
		do {
			for (const { id, held } of forgotten()) {
				if (held) this.submitter.release(id);
				else {
					cancelled.add(id);
					this.submitter.cancel(id);
				}
			}
			await this.until(() => this.watchman.isQuiet(true) || forgotten().length > 0, restMs);
		} while (forgotten().length > 0);
		const underWayMs = 4 * this.plan.latencyMs + 4 * this.plan.commitMs + 20;
		let roundsLeft = 3;
		// A disk that was full may have refused to forget; the agent then forgets in its next life.
		await this.until(() => this.watchman.isQuiet(), 2_000);
		for (const robot of this.robots) {
			if (robot.journal.isClosed || !this.struck['agent-disk-full']) continue;
			robot.kill();
			robot.start();
		}
		do {
			await this.until(() => this.watchman.isQuiet(), returnMs);
			// Who just woke up may not have read yet what was sent to it in its sleep.
			await this.until(() => false, underWayMs);
		} while (!this.watchman.isQuiet() && (roundsLeft -= 1) > 0);
		for (const violation of this.watchman.unrest()) this.breaks(violation);
	}

	/** All that may do it were removed: it waits for one that comes some day, which here nobody does. */
	#waitsForNobody({ state, lane, bars, cancelledIn }: LedgerJob): boolean {
		if (this.removed.size === 0 || state !== 'queued' || cancelledIn !== undefined) return false;
		const barred = bars === null ? {} : (JSON.parse(bars) as Record<string, number | null>);
		const labels = Object.entries(laneRule(lane).labels ?? {});
		return this.stayed.every(
			({ robotId, options }) =>
				barred[robotId] === null || labels.some(([name, value]) => options.labels[name] !== value),
		);
	}

	/** Group, pool and limits as every job can live with. */
	#arrange(): void {
		const { harms, features } = this.plan;
		if (!harms.has('rearranged') && !features.has('group') && !features.has('pool')) return;
		const robots = this.stayed.map(({ name }) => name);
		this.submitter.arrange((engine) => engine.putGroup('g', { robots }, admin));
		this.submitter.arrange((engine) => engine.putPool('p', {}, admin));
		for (const name of ['l', 'k']) {
			this.submitter.arrange((engine) => engine.putLimit(name, { max: 2 }, admin));
		}
	}

	/** Something that an operator may do to them, whoever needs them. */
	#change(): Ask<unknown> {
		const draw = this.#draw;
		const robots = this.stayed.map(({ name }) => name).filter(() => draw.chance(0.5));
		const name = draw.pick(['l', 'k']);
		const max = draw.whole(0, 2);
		return draw.pick<Ask<unknown>>([
			(engine) => engine.putGroup('g', { robots }, admin),
			(engine) => engine.removeGroup('g', admin),
			(engine) => engine.putPool('p', { group: 'g' }, admin),
			(engine) => engine.putPool('p', { labels: { site: 'a' } }, admin),
			(engine) => engine.putPool('p', { maxJobs: 1 }, admin),
			(engine) => engine.removePool('p', admin),
			(engine) => engine.putLimit(name, { max }, admin),
			(engine) => engine.removeLimit(name),
		]);
	}

	/** A refusal that what was asked for, or was done to the fleet, brings about. */
	#mayRefuse(code: string, key: string): boolean {
		if (code === 'unknown-robot') return this.removed.size > 0;
		if (key === '-') return false;
		if (rearranged.includes(code)) return this.plan.harms.has('rearranged');
		// Of a retry it is the job that was retried.
		const { submit } = this.plan.jobs.find((planned) => planned.key === key.split('/')[0])!;
		if (code === 'too-few-robots') return submit.target?.mode !== undefined;
		return code === 'job-too-large' && isTooBig(submit);
	}

	/** The service stops as an operator stops it; nothing may be left of it. */
	async #end(): Promise<void> {
		// What gathers output or acceptances for a moment has no end but its own, and what a full disk
		// refused is asked for again after a second.
		await this.until(() => false, this.struck['disk-full'] ? 1_100 : 100);
		for (const violation of this.watchman.leftOvers()) this.breaks(violation);
		this.#over = true;
		await this.#inside(() => this.service.stop());
		for (const robot of this.robots) robot.kill();
	}

	#harm({ harm, robot: place, forMs }: PlannedHarm): void {
		if (!this.#harmful) return;
		const robot = this.robots[place]!;
		const { service, kernel, network } = this;
		const chance = this.#draw.next;
		const later = (deed: () => void) =>
			kernel.after(forMs, this.#fate, () => this.#harmful && deed());
		const sign = chance() < 0.5 ? -1 : 1;
		this.strike(harm);
		switch (harm) {
			case 'service-kill':
				return this.#killService(forMs);
			case 'service-stop':
				void service.stop();
				return;
			case 'disk-full':
				this.disk.full = true;
				later(() => (this.disk.full = false));
				return;
			case 'agent-kill':
				robot.kill();
				later(() => robot.start());
				return;
			case 'agent-stop':
				void robot.stop(forMs).then(() => later(() => robot.start()));
				return;
			case 'agent-disk-full':
				this.#agentDiskFull.add(place);
				later(() => this.#agentDiskFull.delete(place));
				return;
			case 'power-cut':
				robot.powerCut(chance);
				later(() => robot.start());
				return;
			case 'memory-loss':
				robot.loseMemory(chance);
				later(() => robot.start());
				return;
			case 'cut':
				network.cut(robot.name);
				return;
			case 'half-open': {
				const side = chance();
				network.hush(robot.name, { robot: side < 0.66, service: side > 0.33 });
				return;
			}
			case 'refused':
			case 'blackhole':
				network.weather.set(robot.name, harm === 'refused' ? 'refused' : 'silent');
				if (chance() < 0.7) network.cut(robot.name);
				later(() => network.weather.delete(robot.name));
				return;
			case 'echo':
				this.#repeat(robot.name);
				return;
			case 'lies': {
				const lie = this.#liar!.lie();
				if (typeof lie === 'string') this.note({ robot: robot.name, lies: lie });
				this.network.say(robot.name, lie);
				return;
			}
			case 'service-pause':
			case 'service-suspend':
				service.freeze(forMs, harm === 'service-suspend');
				return;
			case 'agent-pause':
			case 'agent-suspend':
				robot.freeze(forMs, harm === 'agent-suspend');
				return;
			case 'service-clock':
				service.setWallError(sign * Math.floor(forMs));
				return;
			case 'agent-clock':
				robot.setWallError(sign * Math.floor(forMs));
				return;
			case 'robot-pause':
				robot.pause(true);
				later(() => robot.pause(false));
				return;
			case 'start-stall':
			case 'answer-stall':
				robot.children.stall(forMs, harm === 'start-stall' ? 'start' : 'answer');
				return;
			case 'rearranged':
				this.submitter.arrange(this.#change());
				return;
			case 'robot-removed':
				if (this.removed.has(robot)) return;
				this.removed.add(robot);
				this.submitter.remove(robot.name);
		}
	}

	#killService(downMs: number): void {
		this.#downMs = downMs;
		this.service.kill();
		this.#downMs = undefined;
	}

	/** However it ended: its machine closes the sockets, and somebody starts it again. */
	#serviceEnded(): void {
		this.network.died(this.service.process);
		if (this.#over) return;
		const downMs = this.#downMs ?? this.#draw.part(1, 3_000);
		this.kernel.after(downMs, this.#fate, () => void this.service.start());
	}

	#robot(options: Plan['robots'][number], place: number): Robot {
		const robot: Robot = new Robot(options, place, {
			kernel: this.kernel,
			network: this.network,
			chance: this.#draw.next,
			service: () => (this.service.process.alive ? this.service : undefined),
			logged: (line) => this.agents.push(line),
			note: (line) => this.note(line),
			recipe: (key) => this.plan.jobs.find((job) => job.key === key)!.recipe,
			wrote: (child, event, code) => {
				const { jobId: job, attempt, pid } = child;
				if (event === 'start') this.children.push(Object.assign(child, { robot: options.name }));
				this.commands.push({ job, attempt, pid, robot: options.name, event, code });
				this.note({ command: event, jobId: job, attempt, robot: options.name });
			},
			gone: ({ jobId, attempt }) => this.note({ command: 'gone', jobId, attempt }),
			journal: {
				commitMs: () => this.#draw.next() * 3,
				full: () => this.#agentDiskFull.has(place),
				committed: () => this.#journalled(place),
			},
		});
		return robot;
	}

	/** A robot may die right after its disk has something and before anybody hears of it. */
	#journalled(place: number): void {
		const commit = (this.journalCommits[place]! += 1);
		if (!this.#harmful) return;
		const planned = this.plan.journalKills.some(
			(kill) => kill.robot === place && kill.commit === commit,
		);
		if (!planned) return;
		this.strike('journal-kill');
		this.robots[place]!.kill();
		this.kernel.after(this.#draw.part(1, 3_000), this.#fate, () => this.robots[place]!.start());
	}

	#tap(robotName: string, data: string | Buffer): void {
		if (typeof data === 'string' && !data.startsWith('{"type":"job_')) return;
		const said = this.#said.get(robotName);
		if (said) said.push(data);
		else this.#said.set(robotName, [data]);
	}

	#repeat(robotName: string): void {
		const said = this.#said.get(robotName);
		if (said) this.network.say(robotName, this.#draw.pick(said));
	}

	#bend(robotName: string, data: string | Buffer): string | Buffer | undefined {
		if (!this.#harmful || robotName !== this.liar?.name) return data;
		const said = this.#liar!.bend(data);
		if (said === data || typeof said !== 'string') return said;
		const { type, payload } = JSON.parse(said) as { type: string; payload: { attempts?: unknown } };
		// Greetings have ids that no seed repeats.
		this.note({ robot: robotName, bends: type, said: payload.attempts ?? payload });
		return said;
	}

	/** All there ever were, as their robots know them. */
	#attempts(): Known[] {
		return [...this.ledger.jobs.values()].flatMap(({ id, attempts }) =>
			attempts.map(({ number, epoch, token, robotId }) => {
				return { job_id: id, attempt: number, epoch, token, robotId };
			}),
		);
	}

	/** n8n: sometimes away, sometimes not ready; takes an outcome once it is. */
	#n8n(): Callbacks {
		return {
			check: () => undefined,
			post: async (_url, body) => {
				const { waitId } = body as { waitId: string };
				await this.kernel.sleep(this.#draw.next() * 20, this.#fate);
				const jobId = this.submitter.waits.get(waitId);
				const state = jobId === undefined ? undefined : this.ledger.jobs.get(jobId)?.state;
				this.pokes.push({ waitId, final: state === undefined || isFinal(state) });
				const mood = this.#harmful ? this.#draw.next() : 1;
				if (mood < 0.2) throw new Error('connect ECONNREFUSED');
				if (mood < 0.4) return { status: 200, body: { resumed: false, reason: 'not ready' } };
				return { status: 200, body: { resumed: true } };
			},
		};
	}
}
