/**
 * One robot: a machine with a disk and processes, and on it the real agent, `Runner` and `Link`, as
 * agent/main.ts puts them together. The agent may die, stop politely, or lose power with its machine,
 * and is started again over the same disk.
 */
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import type { WebSocket } from 'ws';
import type { Ballast } from '../../agent/ballast';
import type { Clock } from '../../agent/clock';
import type { VitalSigns } from '../../agent/facts';
import type { Identity } from '../../agent/identity';
import type { Journal } from '../../agent/journal';
import { Link } from '../../agent/link';
import type { Log } from '../../agent/log';
import { Runner } from '../../agent/runner';
import type { Spool } from '../../agent/spool';
import { Window } from '../../agent/window';
import type { HeldAttempt } from '../../protocol';
import type { AgentLine } from '../support/history';
import { type ChildHooks, Children } from './children';
import { JournalFile, type JournalHooks, SimJournal, SimSpool, SpoolFolder } from './journal';
import { epochAt, type Kernel, Process } from './kernel';
import type { Listener, Network } from './network';

export interface RobotOptions {
	name: string;
	slots: number;
	labels: Record<string, string>;
	/** As many as slots, or none. */
	clients: readonly string[];
	/** False = knows no kind of job. */
	able: boolean;
	heartbeatMs: number;
}

export interface RobotHooks extends ChildHooks {
	kernel: Kernel;
	network: Network;
	chance(): number;
	service(): Listener | undefined;
	/** Of every line of the agent's log. */
	logged(line: AgentLine): void;
	note(line: object): void;
	journal: JournalHooks;
}

type LoggedEnd = Omit<AgentLine, 'robot'>;

/** One key for each place in a world: to make one costs more than a whole day of a robot. */
const keys: { publicKey: string; sign(text: string): string }[] = [];

function keyOf(place: number): (typeof keys)[number] {
	return (keys[place] ??= (() => {
		const { publicKey, privateKey } = generateKeyPairSync('ed25519');
		return {
			publicKey: publicKey.export({ format: 'der', type: 'spki' }).toString('base64url'),
			sign: (text: string) => sign(null, Buffer.from(text), privateKey).toString('base64url'),
		};
	})());
}

export class Robot {
	readonly options: RobotOptions;
	readonly publicKey: string;
	readonly children: Children;
	readonly journal: JournalFile;
	readonly spool = new SpoolFolder();
	readonly machine: Process;
	robotId = '';
	hubId = '';
	/** Lost a journal in its life. */
	forgetful = false;
	agent: Process | undefined;
	/** Asked politely to stop, and at it. */
	stopping = false;
	/** Since when its line is live; while it is not, undefined. */
	liveSince: number | undefined;
	readonly #hooks: RobotHooks;
	readonly #sign: (text: string) => string;
	#runner: Runner | undefined;
	#link: Link | undefined;

	constructor(options: RobotOptions, place: number, hooks: RobotHooks) {
		this.options = options;
		this.#hooks = hooks;
		const key = keyOf(place);
		this.publicKey = key.publicKey;
		this.#sign = key.sign;
		this.machine = new Process(`${options.name} machine`);
		this.journal = new JournalFile(`journal of ${options.name}`);
		this.children = new Children(hooks.kernel, this.machine, hooks);
	}

	get name(): string {
		return this.options.name;
	}

	get held(): HeldAttempt[] {
		return this.#runner?.held ?? [];
	}

	start(): void {
		const { kernel, network } = this.#hooks;
		if (this.agent?.alive) return;
		const agent = new Process(`${this.name} agent`);
		agent.wallError = this.machine.wallError;
		agent.monotonicLag = this.machine.monotonicLag;
		agent.pausedUntil = this.machine.pausedUntil;
		this.agent = agent;
		this.#hooks.note({ robot: this.name, did: 'start' });
		const clock = this.#clock(agent);
		const log = this.#log(agent);
		const journal = new SimJournal(this.journal, kernel, agent, this.#hooks.journal);
		const runner = new Runner({
			journal: journal as unknown as Journal,
			spool: new SimSpool(this.spool) as unknown as Spool,
			ballast: { release: () => undefined } as unknown as Ballast,
			window: new Window(),
			clock,
			log,
			slots: this.options.slots,
			clients: this.options.clients.map((client) => ({ name: client, env: {} })),
			executors: this.options.able
				? new Map([['command', this.children.executor(agent)]])
				: new Map(),
			onShutdown: () => undefined,
		});
		this.#runner = runner;
		runner.resume();
		const membership = { robotId: this.robotId, hubId: this.hubId, name: this.name };
		const link = new Link({
			server: 'http://service',
			identity: { membership, sign: this.#sign } as unknown as Identity,
			self: {
				version: '0.0.0',
				journal_id: journal.id,
				boot_id: randomUUID(),
				features: [],
				slots: this.options.slots,
				clients: [...this.options.clients],
				labels: this.options.labels,
			},
			facts: { now: { capabilities: [], info: {} }, refresh: async () => undefined },
			vitals: { read: async () => ({ cpu_percent: 0, memory_percent: 0 }) } as VitalSigns,
			heartbeatMs: this.options.heartbeatMs,
			crew: {
				get held() {
					return runner.held;
				},
				get status() {
					return runner.status;
				},
				attach: (line, registered) => {
					this.liveSince = kernel.now;
					const verdicts = registered.verdicts.map(({ epoch, act }) => `${epoch} ${act}`);
					this.#hooks.note({ robot: this.name, did: 'live', verdicts });
					runner.attach(line, registered);
				},
				detach: (silentMs, heartbeatMs) => {
					this.liveSince = undefined;
					this.#hooks.note({ robot: this.name, did: 'detached' });
					runner.detach(silentMs, heartbeatMs);
				},
				receive: (message) => runner.receive(message),
				receiveFile: (frame) => runner.receiveFile(frame),
				tick: () => runner.tick(),
			},
			clock,
			log,
			onLive: () => undefined,
			canRejoin: () => false,
			dial: () =>
				network.dial(
					{ name: this.name, owner: agent },
					this.#hooks.service(),
				) as unknown as WebSocket,
		});
		this.#link = link;
		void link.run().catch((error: Error) => {
			this.#hooks.note({ robot: this.name, did: 'left for good', reason: error.message });
		});
	}

	/** kill -9 of the agent: its kernel closes the sockets, its children notice or not. */
	kill(): void {
		if (!this.#end('killed')) return;
		this.#hooks.network.died(this.agent!);
		this.children.orphan();
	}

	/** The whole machine: nobody on the other side hears of it. */
	powerCut(chance: () => number): void {
		this.#hooks.network.hush(this.name, { robot: true, service: true });
		if (this.#end('lost power')) this.#hooks.network.died(this.agent!);
		this.children.powerCut();
		this.spool.powerCut(chance);
	}

	/** Its disk was replaced: what it promised is forgotten, and nothing of it runs any more. */
	loseMemory(chance: () => number): void {
		this.powerCut(chance);
		this.journal.lose();
		this.spool.files.clear();
		this.forgetful = true;
		this.#hooks.note({ robot: this.name, did: 'lost its memory' });
	}

	/** SIGTERM, as agent/main.ts obeys it. */
	async stop(graceMs: number): Promise<void> {
		const { agent } = this;
		if (!agent?.alive || this.stopping) return;
		this.stopping = true;
		this.#hooks.note({ robot: this.name, did: 'stopping' });
		await this.#runner!.drain(graceMs);
		await this.#runner!.delivered(2_000);
		await this.#link!.close();
		if (agent === this.agent) this.kill();
	}

	/** A person at the service's desk pauses it, or lets it go on. */
	pause(paused: boolean): void {
		const action = paused ? 'pause' : 'resume';
		this.#runner?.receive({ type: 'control', id: '', payload: { action } });
	}

	/** The machine stands still; a suspend stops its monotonic clock too. */
	freeze(ms: number, suspend: boolean): void {
		const { now } = this.#hooks.kernel;
		if (this.machine.pausedUntil > now) return;
		for (const process of [this.machine, this.agent]) {
			if (!process) continue;
			process.pausedUntil = now + ms;
			if (suspend) process.monotonicLag += ms;
		}
	}

	setWallError(ms: number): void {
		this.machine.wallError = ms;
		if (this.agent) this.agent.wallError = ms;
	}

	#end(how: string): boolean {
		if (!this.agent?.alive) return false;
		this.#hooks.note({ robot: this.name, did: how });
		this.agent.alive = false;
		this.stopping = false;
		this.liveSince = undefined;
		this.#runner = undefined;
		return true;
	}

	#clock(agent: Process): Clock {
		const { kernel, chance } = this.#hooks;
		return {
			now: () => Math.floor(epochAt + kernel.now + agent.wallError),
			monotonic: () => kernel.now - agent.monotonicLag,
			sleep: (ms, signal) => kernel.sleep(ms, agent, signal),
			chance,
		};
	}

	#log(agent: Process): Log {
		const write = (facts: object, text: string) => {
			if (!agent.alive) return;
			if (text === 'job ended') this.#hooks.logged({ robot: this.name, ...(facts as LoggedEnd) });
			this.#hooks.note({ robot: this.name, log: text, ...repeatable(facts) });
		};
		return { debug: write, info: write, warn: write, error: write };
	}
}

/** The words of an internal error end in a number that no seed repeats. */
function repeatable(facts: object): object {
	return Object.fromEntries(
		Object.entries(facts).map(([name, value]: [string, unknown]) => [
			name,
			typeof value === 'string' ? value.replace(/ under [0-9a-f]{12}\.$/, '.') : value,
		]),
	);
}
