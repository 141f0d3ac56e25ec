/**
 * The built programs as processes of their own, as a user would run them, with the one thing a user
 * does not do: they are killed, and started again over the same folder and port.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
	closeSync,
	copyFileSync,
	existsSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	readlinkSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { FleetClient } from '../../client';
import { httpSend } from '../../dispatcher/cli/transport';

const root = resolve(__dirname, '../..');
/** Names that would reach our programs from the shell that runs the tests. */
const ours = /^(ROBOT_FLEET_|ORCHESTRATOR_|SERVER_URL$|API_KEY$|HEARTBEAT_INTERVAL$|LOG_LEVEL$)/;

/** The environment of the tests, without what is meant for our programs. */
export function programEnv(): NodeJS.ProcessEnv {
	return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)));
}

export interface Bundles {
	service: string;
	agent: string;
}

/** Copies of both programs, so that a build beside the test does not change them half-way. */
export function builtPrograms(folder: string): Bundles {
	const copy = (given: string | undefined, built: string) => {
		const from = given ?? join(root, built);
		if (!existsSync(from)) throw new Error(`There is no ${from}: run "npx gulp programs" first`);
		const to = join(folder, 'programs', built.split('/').at(-1)!);
		mkdirSync(join(folder, 'programs'), { recursive: true });
		copyFileSync(from, to);
		return to;
	};
	const agent = copy(process.env.ROBOT_FLEET_AGENT_JS, 'agent/dist/agent.js');
	copy(process.env.ROBOT_FLEET_KEEPER_JS, 'agent/dist/keeper.js');
	return {
		service: copy(process.env.ROBOT_FLEET_SERVICE_JS, 'dispatcher/dist/robot-fleet.js'),
		agent,
	};
}

/** A copy of the service as n8n hosts it. */
export function builtHost(folder: string): string {
	const from = join(root, 'dist/embedded/service.js');
	if (!existsSync(from)) throw new Error(`There is no ${from}: run "npx gulp programs" first`);
	const to = join(folder, 'embedded.js');
	copyFileSync(from, to);
	return to;
}

/** Both workers of jest have ports of their own: the service that a neighbour has killed will want its port back. */
const portsEach = 5_000;
const firstPort = 20_000 + ((Number(process.env.JEST_WORKER_ID ?? 1) - 1) % 2) * portsEach;
/** Those that were given away here: whose they are may be dead as well. */
const given = new Set<number>();

/**
 * A port that nobody has, below those that the kernel gives to callers: while the service is dead its
 * port must not go to one of the robots that dial it.
 */
export async function quietPort(): Promise<number> {
	for (;;) {
		const port = firstPort + Math.floor(Math.random() * portsEach);
		if (given.has(port)) continue;
		given.add(port);
		const free = await new Promise<boolean>((done) => {
			const server = createServer();
			server.once('error', () => done(false));
			server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
		});
		if (free) return port;
	}
}

/** One program, one life at a time. What it writes to stderr is kept in a file over all lives. */
class Program {
	readonly log: string;
	/** What it is started through: a tracer that becomes a stranger, so that pid and signals stay its own. */
	through: readonly string[] = [];
	readonly #bundle: string;
	readonly #env: Record<string, string>;
	#child: ChildProcess | undefined;
	#exit: Promise<number | string> = Promise.resolve(0);
	#stdout = '';
	#wake: (() => void)[] = [];

	constructor(bundle: string, log: string, env: Record<string, string>) {
		this.#bundle = bundle;
		this.log = log;
		this.#env = env;
	}

	get pid(): number | undefined {
		return this.lives ? this.#child!.pid : undefined;
	}

	get lives(): boolean {
		const child = this.#child;
		return child !== undefined && child.exitCode === null && child.signalCode === null;
	}

	/** The exit code of this life, or the signal that ended it. */
	get exit(): Promise<number | string> {
		return this.#exit;
	}

	protected launch(args: readonly string[], env: Record<string, string> = {}): void {
		if (this.lives) throw new Error(`${this.#bundle} runs already`);
		const stderr = openSync(this.log, 'a');
		const [program, ...rest] = [...this.through, process.execPath, this.#bundle, ...args];
		const child = spawn(program!, rest, {
			env: { ...programEnv(), ...this.#env, ...env },
			stdio: ['ignore', 'pipe', stderr],
		});
		closeSync(stderr);
		this.#child = child;
		this.#stdout = '';
		child.stdout!.setEncoding('utf8').on('data', (text: string) => {
			this.#stdout += text;
			this.#awake();
		});
		this.#exit = new Promise((done) => {
			child.once('close', (code, signal) => {
				done(code ?? signal!);
				this.#awake();
			});
		});
	}

	/** Resolves with the match; rejects when this life ends or the time is over before. */
	async printed(pattern: RegExp, deadlineMs = 30_000): Promise<RegExpExecArray> {
		const child = this.#child;
		let late = false;
		const timer = setTimeout(() => {
			late = true;
			this.#awake();
		}, deadlineMs);
		try {
			for (;;) {
				const match = child === this.#child ? pattern.exec(this.#stdout) : null;
				if (match) return match;
				if (late || child !== this.#child || !this.lives) {
					throw new Error(
						`never printed ${pattern}: ${this.#stdout}\n${this.logged().slice(-3_000)}`,
					);
				}
				await new Promise<void>((wake) => this.#wake.push(wake));
			}
		} finally {
			clearTimeout(timer);
		}
	}

	/** Everything it has logged, in all its lives. */
	logged(): string {
		return existsSync(this.log) ? readFileSync(this.log, 'utf8') : '';
	}

	/** Sends SIGKILL now; resolves when it is gone. Harmless when it has already ended. */
	async kill(): Promise<void> {
		if (this.lives) this.#child!.kill('SIGKILL');
		await this.#exit;
	}

	/** Asks politely; after `graceMs` kills. Resolves with the exit code or the signal. */
	async stop(graceMs = 20_000): Promise<number | string> {
		const child = this.#child;
		if (this.lives) child!.kill('SIGTERM');
		const timer = setTimeout(() => child?.kill('SIGKILL'), graceMs);
		try {
			return await this.#exit;
		} finally {
			clearTimeout(timer);
		}
	}

	#awake(): void {
		for (const wake of this.#wake.splice(0)) wake();
	}
}

export class ServiceProgram extends Program {
	readonly data: string;
	readonly port: number;

	constructor(bundles: Bundles, data: string, port: number, env: Record<string, string> = {}) {
		// Its robots are killed and starved on purpose: none of them is put away for that.
		const robots = { ROBOT_FLEET_QUARANTINE_AFTER: '0' };
		super(bundles.service, `${data}.log`, { LOG_LEVEL: 'info', ...robots, ...env });
		this.data = data;
		this.port = port;
	}

	get url(): string {
		return `http://127.0.0.1:${this.port}`;
	}

	get adminKey(): string {
		return readFileSync(join(this.data, 'admin.key'), 'utf8').trim();
	}

	/** Which may do only what nodes do. */
	get n8nKey(): string {
		return readFileSync(join(this.data, 'n8n.key'), 'utf8').trim();
	}

	get client(): FleetClient {
		return new FleetClient(httpSend({ url: this.url, key: this.adminKey }));
	}

	/** With `env` for this life alone. */
	start(env: Record<string, string> = {}): void {
		this.launch(['serve', '--data', this.data, '--port', String(this.port)], env);
	}

	async ready(): Promise<void> {
		await this.printed(/^ready http:\S+$/m);
	}
}

export interface AgentOptions {
	name: string;
	data: string;
	slots: number;
	env?: Record<string, string>;
}

export class AgentProgram extends Program {
	readonly name: string;
	readonly data: string;
	readonly #args: readonly string[];

	constructor(bundles: Bundles, server: string, { name, data, slots, env }: AgentOptions) {
		super(bundles.agent, `${data}.log`, { LOG_LEVEL: 'info', ...env });
		this.name = name;
		this.data = data;
		this.#args = ['--server', server, '--name', name, '--data', data, '--slots', String(slots)];
	}

	/** The token is given once: later lives have to be the same robot without it. */
	start(token?: string): void {
		this.launch(token === undefined ? this.#args : [...this.#args, '--token', token]);
	}

	/** The process that holds its jobs, while there is one. */
	get keeper(): number | undefined {
		return readdirSync('/proc')
			.map(Number)
			.find((pid) => {
				if (!Number.isInteger(pid)) return false;
				try {
					return (
						readlinkSync(`/proc/${pid}/cwd`) === join(this.data, 'keeper') &&
						readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('keeper.js')
					);
				} catch {
					return false;
				}
			});
	}

	/** Its jobs have nobody then who would know how they end. */
	killKeeper(): void {
		if (this.keeper !== undefined) process.kill(this.keeper, 'SIGKILL');
	}

	/** Resolves with the robot's id. */
	async connected(): Promise<string> {
		return (await this.printed(/^connected as .* \((\S+)\)$/m))[1]!;
	}
}
