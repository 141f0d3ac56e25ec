/** Several robots of one n8n, real agent processes with labels of their own, that a test may lose one by one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Fleet } from './fleet';

const program = process.env.ROBOT_FLEET_AGENT_JS ?? join(__dirname, '../../agent/dist/agent.js');
const slots = 4;

export class Crew {
	readonly #fleet: Fleet;
	readonly #agents = new Map<string, ChildProcess>();

	constructor(fleet: Fleet) {
		this.#fleet = fleet;
	}

	/** Resolves when the service sees it. */
	async start(name: string, labels: Record<string, string>): Promise<void> {
		const { token } = await this.#fleet.service<{ token: string }>('POST', '/tokens', { labels });
		const server = `http://127.0.0.1:${this.#fleet.servicePort}`;
		const { HTTP_PROXY: _proxy, ...env } = process.env;
		const agent = spawn(
			process.execPath,
			[
				...[program, '--server', server, '--token', token, '--name', name],
				...['--slots', String(slots), '--data', join(this.#fleet.folder, name)],
			],
			{ env, stdio: 'ignore' },
		);
		this.#agents.set(name, agent);
		await this.#fleet.connected(name);
	}

	/** As by a power cut: it says no word to the service. */
	lose(name: string): void {
		this.#agents.get(name)?.kill('SIGKILL');
	}

	stop(): void {
		for (const agent of this.#agents.values()) agent.kill('SIGKILL');
	}
}
