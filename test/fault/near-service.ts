/**
 * The whole service in this process, as n8n hosts it, with short heartbeats and without the 90 s that
 * a dispatcher waits after its start before it counts robots as lost. Its robots are real processes.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FleetClient } from '../../client';
import { httpSend } from '../../dispatcher/cli/transport';
import { readConfig } from '../../dispatcher/config';
import { type Service, startService } from '../../dispatcher/startup';
import { limits } from '../../protocol';
import { AgentProgram, type Bundles, builtPrograms } from '../support/programs';

export class NearService {
	readonly folder: string;
	readonly client: FleetClient;
	/** What it warned of and complained about. */
	readonly warnings: string[];
	readonly #service: Service;
	readonly #bundles: Bundles;
	readonly #agents: AgentProgram[] = [];

	private constructor(folder: string, service: Service, warnings: string[]) {
		this.folder = folder;
		this.#service = service;
		this.#bundles = builtPrograms(folder);
		this.warnings = warnings;
		const key = readFileSync(join(folder, 'service', 'admin.key'), 'utf8').trim();
		this.client = new FleetClient(httpSend({ url: service.url, key }));
	}

	/** Runs `body` with a service that is ready; ends it and its robots whatever happens. */
	static async use(heartbeatMs: number, body: (near: NearService) => Promise<void>): Promise<void> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-near-'));
		const grace = jest.replaceProperty(limits, 'recoveryGraceMs', 0 as never);
		const warnings: string[] = [];
		const quiet = () => undefined;
		const warn = (text: string) => void warnings.push(text);
		const { server, ...config } = readConfig({
			// Its robots are killed on purpose: none of them is put away for that.
			flags: { data: join(folder, 'service'), port: '0', quarantineAfter: '0' },
		});
		let near: NearService | undefined;
		let good = false;
		try {
			const service = await startService({
				config: { ...config, server: { ...server, heartbeatMs } },
				log: { debug: quiet, info: quiet, warn, error: warn },
				onFatal: (error) => warn(String(error)),
			});
			near = new NearService(folder, service, warnings);
			await body(near);
			good = true;
		} finally {
			grace.restore();
			if (near) await near.#close();
			if (good) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
			else process.stderr.write(`everything is kept in ${folder}\n`);
		}
	}

	async #close(): Promise<void> {
		await Promise.all(this.#agents.map((agent) => agent.kill()));
		for (const agent of this.#agents) agent.killKeeper();
		await this.#service.close();
	}

	get url(): string {
		return this.#service.url;
	}

	/** A robot that is connected; `server` when it dials another address. */
	async agent(name: string, options: { slots: number; server?: string }): Promise<AgentProgram> {
		const { token } = await this.client.createToken({});
		const { slots, server = this.url } = options;
		const data = join(this.folder, name);
		const agent = new AgentProgram(this.#bundles, server, { name, data, slots });
		this.#agents.push(agent);
		agent.start(token);
		await agent.connected();
		return agent;
	}
}
