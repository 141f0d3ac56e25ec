/**
 * The real service and a real robot in this process, over real sockets, with real children and real
 * files: for tests that need many connections in a short time, or want to look inside. The robot comes
 * back at once when its line is cut.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { systemClock } from '../../agent/clock';
import type { WantedTransport } from '../../agent/config';
import { openFolder } from '../../agent/data-folder';
import { enrol } from '../../agent/enrol';
import { commandExecutor } from '../../agent/executors/command';
import type { Executor } from '../../agent/executors/executor';
import { Keeper } from '../../agent/keeper/keeper';
import { VitalSigns } from '../../agent/facts';
import { Link } from '../../agent/link';
import { Runner } from '../../agent/runner';
import { Window } from '../../agent/window';
import { FleetClient } from '../../client';
import { httpSend } from '../../dispatcher/cli/transport';
import { readConfig } from '../../dispatcher/config';
import type { Log } from '../../dispatcher/engine/context';
import { type Service, startService } from '../../dispatcher/startup';
import { wireFeatures } from '../../protocol';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

export class WholeHouse implements AsyncDisposable {
	readonly folder: string;
	readonly service: Service;
	readonly client: FleetClient;
	readonly #key: string;
	readonly #robots: (() => Promise<void>)[] = [];

	private constructor(folder: string, service: Service) {
		this.folder = folder;
		this.service = service;
		this.#key = readFileSync(join(folder, 'service/admin.key'), 'utf8').trim();
		this.client = new FleetClient(httpSend({ url: service.url, key: this.#key }));
	}

	static async open(flags: Record<string, string> = {}, log: Log = silent): Promise<WholeHouse> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-whole-'));
		const service = await startService({
			config: readConfig({ flags: { data: join(folder, 'service'), port: '0', ...flags } }),
			log,
			onFatal: (error) => {
				throw error;
			},
		});
		return new WholeHouse(folder, service);
	}

	/** A robot that dials `url`, which is the service or something before it. */
	async robot(
		name: string,
		{
			url = this.service.url,
			maxBytes = 64 * 1024 * 1024,
			terminals = false,
			transport = 'auto' as WantedTransport,
			version = '0.0.0',
		} = {},
	): Promise<void> {
		const clock = { ...systemClock, chance: () => 0 };
		const data = join(this.folder, name);
		const opened = openFolder(data, clock, { maxBytes, reserveBytes: 0 });
		if (!opened.ok) throw new Error(opened.sentence);
		const { journal, identity, spool, workspaces, ballast } = opened;
		const { token } = await this.client.createToken({});
		const stopping = new AbortController();
		const server = this.service.url;
		await enrol({ server, token, name, identity, clock, log: silent, signal: stopping.signal });
		const keeper = new Keeper({
			folder: join(data, 'keeper'),
			program: undefined,
			spool: { folder: join(data, 'spool'), maxBytes, reserveBytes: 0 },
			clock,
			log: silent,
		});
		const executor = commandExecutor({
			env: process.env,
			secretEnvNames: [],
			keeper,
			terminals,
		});
		const runner = new Runner({
			journal,
			spool,
			workspaces,
			ballast,
			window: new Window(),
			clock,
			log: silent,
			executors: new Map([['command', executor as Executor]]),
			slots: 4,
			onShutdown: () => undefined,
		});
		const live = Promise.withResolvers<void>();
		const link = new Link({
			server: url,
			identity,
			self: {
				version,
				journal_id: journal.id,
				boot_id: name,
				features: [...wireFeatures],
				slots: 4,
				labels: {},
			},
			facts: { now: { capabilities: [], info: {} }, refresh: async () => undefined },
			transport,
			vitals: new VitalSigns(data, clock),
			heartbeatMs: undefined,
			crew: runner,
			clock,
			log: silent,
			onLive: () => live.resolve(),
			canRejoin: () => false,
		});
		const ran = link.run();
		this.#robots.push(async () => {
			runner.hurry();
			await runner.drain(0);
			await link.close();
			await ran;
			await keeper.close();
			journal.close();
		});
		await live.promise;
	}

	get address(): { url: string; key: string } {
		return { url: this.service.url, key: this.#key };
	}

	/** The stored bytes of a stream, without its holes, and what the answer says of it. */
	async output(jobId: string, stream: 'stdout' | 'stderr' = 'stdout') {
		const answer = await fetch(
			`${this.service.url}/api/v1/jobs/${jobId}/output?stream=${stream}&holes=omit`,
			{ headers: { authorization: `Bearer ${this.#key}` } },
		);
		return { bytes: Buffer.from(await answer.arrayBuffer()), headers: answer.headers };
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const leave of this.#robots.splice(0)) await leave();
		await this.service.close();
		rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
	}
}
