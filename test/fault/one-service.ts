/** One service, and robots when a test wants them, in a folder that is gone after a good end. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
	AgentProgram,
	type Bundles,
	builtPrograms,
	quietPort,
	ServiceProgram,
} from '../support/programs';

export class OneService {
	readonly folder: string;
	readonly service: ServiceProgram;
	readonly #bundles: Bundles;
	readonly #others: { kill(): Promise<void> }[] = [];

	private constructor(folder: string, bundles: Bundles, port: number, env: Record<string, string>) {
		this.folder = folder;
		this.#bundles = bundles;
		this.service = new ServiceProgram(bundles, join(folder, 'service'), port, env);
	}

	/** Runs `body` with a service that is ready; ends every process whatever happens. */
	static async use(
		body: (house: OneService) => Promise<void>,
		env: Record<string, string> = {},
	): Promise<void> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-fault-'));
		const house = new OneService(folder, builtPrograms(folder), await quietPort(), env);
		let good = false;
		try {
			house.service.start();
			await house.service.ready();
			await body(house);
			good = true;
		} finally {
			await Promise.all([house.service, ...house.#others].map((program) => program.kill()));
			if (good) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
			else process.stderr.write(`everything is kept in ${folder}\n`);
		}
	}

	/** A robot that is connected. */
	async agent(name: string, env: Record<string, string> = {}): Promise<AgentProgram> {
		const { token } = await this.service.client.createToken({});
		const data = join(this.folder, name);
		const agent = new AgentProgram(this.#bundles, this.service.url, { name, data, slots: 1, env });
		this.#others.push(agent);
		agent.start(token);
		await agent.connected();
		return agent;
	}

	/** A second service over the same data folder, not yet started. */
	async rival(): Promise<ServiceProgram> {
		const rival = new ServiceProgram(this.#bundles, this.service.data, await quietPort());
		this.#others.push(rival);
		return rival;
	}

	/** Kills every robot: their folders can be taken away. */
	async agentsGone(): Promise<void> {
		await Promise.all(this.#others.map((program) => program.kill()));
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
