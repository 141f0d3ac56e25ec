/** One service, and robots when a test wants them, in a folder that is gone after a good end. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
	AgentProgram,
	type Bundles,
	builtPrograms,
	programEnv,
	quietPort,
	ServiceProgram,
} from '../support/programs';

export class OneService {
	readonly folder: string;
	readonly service: ServiceProgram;
	readonly #bundles: Bundles;
	readonly #others: { kill(): Promise<void> }[] = [];
	readonly #agents: AgentProgram[] = [];

	private constructor(
		folder: string,
		bundles: Bundles,
		port: number,
		env: Record<string, string> | undefined,
	) {
		this.folder = folder;
		this.#bundles = bundles;
		this.service = new ServiceProgram(bundles, join(folder, 'service'), port, env);
	}

	/** Runs `body` with a service that is ready; ends every process whatever happens. */
	static async use(
		body: (house: OneService) => Promise<void>,
		options: {
			env?: Record<string, string>;
			prepare?(data: string): () => void;
			/** Agents find what native code makes of terminals, as an installation does. */
			terminals?: boolean;
		} = {},
	): Promise<void> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-fault-'));
		const bundles = builtPrograms(folder);
		if (options.terminals) {
			symlinkSync(resolve('node_modules'), join(folder, 'programs', 'node_modules'));
		}
		const house = new OneService(folder, bundles, await quietPort(), options.env);
		let good = false;
		let undo: (() => void) | undefined;
		try {
			undo = options.prepare?.(house.service.data);
			house.service.start();
			await house.service.ready();
			await body(house);
			good = true;
		} finally {
			await Promise.all([house.service, ...house.#others].map((program) => program.kill()));
			for (const agent of house.#agents) agent.killKeeper();
			undo?.();
			if (good) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
			else process.stderr.write(`everything is kept in ${folder}\n`);
		}
	}

	/**
	 * As `use`, with a service that is started again whenever it dies: `first` holds for its first life
	 * alone. `body` begins at once, so whoever asks must be ready to ask again.
	 */
	static async useMortal(
		first: Record<string, string>,
		env: Record<string, string>,
		body: (house: OneService) => Promise<void>,
		died: () => void,
	): Promise<void> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-fault-'));
		const house = new OneService(folder, builtPrograms(folder), await quietPort(), env);
		let good = false;
		let over = false;
		const keepAlive = async () => {
			for (let extra = first; !over; extra = {}) {
				house.service.start(extra);
				const end = await house.service.exit;
				if (over) return;
				died();
				// Any other end than the one it was sentenced to is a failure of its own.
				if (end !== 'SIGKILL') throw new Error(`the service ended with ${end}`);
			}
		};
		const alive = keepAlive();
		try {
			await Promise.race([body(house), alive]);
			good = true;
		} finally {
			over = true;
			await Promise.all([house.service, ...house.#others].map((program) => program.kill()));
			for (const agent of house.#agents) agent.killKeeper();
			await alive.catch(() => undefined);
			if (good) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
			else process.stderr.write(`everything is kept in ${folder}\n`);
		}
	}

	/** A robot with this token; it connects when the service is there. */
	async robot(
		name: string,
		token: string,
		env: Record<string, string>,
		slots: number,
	): Promise<void> {
		const data = join(this.folder, name);
		const server = this.service.url;
		const agent = new AgentProgram(this.#bundles, server, { name, data, slots, env });
		this.#others.push(agent);
		this.#agents.push(agent);
		agent.start(token);
		await agent.connected();
	}

	/** A robot that is connected; `server` when it dials another address than the service's own. */
	async agent(
		name: string,
		env: Record<string, string> = {},
		slots = 1,
		server = this.service.url,
	): Promise<AgentProgram> {
		const { token } = await this.service.client.createToken({});
		const data = join(this.folder, name);
		const agent = new AgentProgram(this.#bundles, server, { name, data, slots, env });
		this.#others.push(agent);
		this.#agents.push(agent);
		agent.start(token);
		await agent.connected();
		return agent;
	}

	/** Kills every robot: their folders can be taken away. */
	async agentsGone(): Promise<void> {
		await Promise.all(this.#others.map((program) => program.kill()));
		for (const agent of this.#agents) agent.killKeeper();
	}

	get bundle(): string {
		return this.#bundles.service;
	}

	/** Runs one command of `robot-fleet` to its end. */
	cli(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
		return new Promise((resolve, reject) => {
			const child = spawn(process.execPath, [this.bundle, ...args], { env: programEnv() });
			const said = { out: '', err: '' };
			child.stdout.on('data', (text) => (said.out += text));
			child.stderr.on('data', (text) => (said.err += text));
			child.once('error', reject);
			child.once('close', (code) => resolve({ code, ...said }));
		});
	}

	/** A service with a data folder of its own, not yet started. */
	async another(name: string): Promise<ServiceProgram> {
		const other = new ServiceProgram(this.#bundles, join(this.folder, name), await quietPort());
		this.#others.push(other);
		return other;
	}

	/** A second service over the same data folder, not yet started. */
	async rival(): Promise<ServiceProgram> {
		const rival = new ServiceProgram(this.#bundles, this.service.data, await quietPort());
		this.#others.push(rival);
		return rival;
	}

	files(name: string): string[] {
		return readdirSync(join(this.folder, name));
	}

	read(name: string): string {
		return readFileSync(join(this.folder, name), 'utf8');
	}
}

/** Looks again and again; says what it waited for when the time is over. */
export async function eventually<T>(
	what: string,
	look: () => T | undefined | false | Promise<T | undefined | false>,
	deadlineMs = 30_000,
): Promise<T> {
	const until = performance.now() + deadlineMs;
	for (;;) {
		const found = await look();
		if (found !== undefined && found !== false) return found;
		if (performance.now() > until) throw new Error(`waited ${deadlineMs} ms for ${what}`);
		await sleep(20);
	}
}
