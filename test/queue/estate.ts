/**
 * n8n as it runs where one process is not enough: a main, a worker and a webhook process over PostgreSQL and
 * Redis, and the service as a program of its own beside them, with a robot.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { N8n } from '../../scripts/n8n/instance.mjs';
import { freePorts } from '../../scripts/n8n/loopback.mjs';
import { startPostgres } from '../bench/servers/postgres';
import { startRedis } from '../bench/servers/redis';
import { packedTarball, preparedRuntime } from '../support/n8n-runtime';
import { AgentProgram, builtPrograms, ServiceProgram } from '../support/programs';

/** n8n under load takes its time; this only guards against standing still for ever. */
const startMs = 600_000;
/** Set to a folder, this keeps what the n8ns printed. */
const logs = process.env.ROBOT_FLEET_TEST_LOGS;

type Command = 'start' | 'worker' | 'webhook';

export interface Credential {
	id: string;
	name: string;
}

export class Estate {
	readonly folder: string;
	/** Editor, triggers, leader. Takes no calls of webhooks. */
	readonly main: N8n;
	/** Runs the executions. */
	worker: N8n;
	/** Takes calls of webhooks, and pokes. */
	readonly webhooks: N8n;
	readonly service: ServiceProgram;
	readonly robot: AgentProgram;
	/** For the service, and for a service inside n8n. */
	server!: Credential;
	embedded!: Credential;
	readonly #stops: (() => Promise<unknown>)[];
	readonly #n8n: (command: Command, port: number, name?: string) => Promise<N8n>;
	readonly #tarball: string;

	private constructor(parts: {
		folder: string;
		tarball: string;
		n8n: (command: Command, port: number, name?: string) => Promise<N8n>;
		n8ns: [N8n, N8n, N8n];
		service: ServiceProgram;
		robot: AgentProgram;
		stops: (() => Promise<unknown>)[];
	}) {
		this.folder = parts.folder;
		this.#tarball = parts.tarball;
		this.#n8n = parts.n8n;
		[this.main, this.worker, this.webhooks] = parts.n8ns;
		this.service = parts.service;
		this.robot = parts.robot;
		this.#stops = parts.stops;
	}

	static async start(): Promise<Estate> {
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-queue-'));
		const stops: (() => Promise<unknown>)[] = [];
		try {
			const runtime = preparedRuntime();
			const bundles = builtPrograms(folder);
			const postgres = await startPostgres();
			stops.push(() => postgres.stop());
			const redis = await startRedis();
			stops.push(() => redis.stop());
			const ports = await freePorts(4);
			const callsAt = `http://127.0.0.1:${ports[2]}`;
			const env = {
				EXECUTIONS_MODE: 'queue',
				QUEUE_BULL_REDIS_HOST: redis.connection.host,
				QUEUE_BULL_REDIS_PORT: String(redis.port),
				...postgresEnv(postgres.url),
				N8N_ENCRYPTION_KEY: 'the same in all three',
				N8N_DISABLE_PRODUCTION_MAIN_PROCESS: 'true',
				WEBHOOK_URL: `${callsAt}/`,
			};
			const n8n = async (command: Command, port: number, name: string = command) => {
				const made = await N8n.create({
					runtime,
					command,
					port,
					userFolder: join(folder, name),
					env,
					...(logs ? { logFile: join(logs, `queue-${name}.log`) } : {}),
				});
				stops.push(() => made.stop());
				return made;
			};
			const n8ns: [N8n, N8n, N8n] = [
				await n8n('start', ports[0]!),
				await n8n('worker', ports[1]!),
				await n8n('webhook', ports[2]!),
			];
			const service = new ServiceProgram(bundles, join(folder, 'service'), ports[3]!, {
				ROBOT_FLEET_N8N_URL: callsAt,
			});
			const data = join(folder, 'robot');
			const robot = new AgentProgram(bundles, service.url, { name: 'berlin-1', data, slots: 4 });
			stops.push(async () => {
				await robot.stop();
				await service.stop();
			});
			const tarball = packedTarball(folder);
			const estate = new Estate({ folder, tarball, n8n, n8ns, service, robot, stops });
			await estate.#furnish();
			return estate;
		} catch (error) {
			await stopAll(stops, folder);
			throw error;
		}
	}

	async stop(): Promise<void> {
		await stopAll(this.#stops, this.folder);
	}

	/** A new container, as an orchestrator starts one in the place of one that was killed. */
	async replaceWorker(): Promise<void> {
		const [port] = await freePorts(1);
		this.worker = await this.#n8n('worker', port!, `worker-${port}`);
		await this.worker.installPackage(this.#tarball);
		await this.worker.start({ deadlineMs: startMs });
	}

	async #furnish(): Promise<void> {
		const { main, worker, webhooks, service, robot } = this;
		service.start();
		await service.ready();
		const { token } = await service.client.createToken({});
		robot.start(token);
		await robot.connected();
		// Containers of their own: each installs the package for itself. The main migrates the database.
		for (const each of [main, worker, webhooks]) {
			await each.installPackage(this.#tarball);
			await each.start({ deadlineMs: startMs });
		}
		await main.setupOwner({ email: 'owner@example.com', password: 'Robots1234' });
		this.server = await main.createCredential({
			name: 'Server',
			type: 'robotFleetApi',
			data: { connection: 'server', url: service.url, apiKey: service.n8nKey },
		});
		this.embedded = await main.createCredential({
			name: 'This n8n',
			type: 'robotFleetApi',
			data: { connection: 'embedded' },
		});
	}
}

function postgresEnv(url: string): Record<string, string> {
	const { hostname, port, username, pathname } = new URL(url);
	return {
		DB_TYPE: 'postgresdb',
		DB_POSTGRESDB_HOST: hostname,
		DB_POSTGRESDB_PORT: port,
		DB_POSTGRESDB_USER: username,
		DB_POSTGRESDB_DATABASE: pathname.slice(1),
		DB_POSTGRESDB_PASSWORD: '',
	};
}

/** Last started, first stopped; one that does not stop keeps no other from it. */
async function stopAll(stops: (() => Promise<unknown>)[], folder: string): Promise<void> {
	const failures: unknown[] = [];
	for (const stop of stops.splice(0).reverse()) {
		await stop().catch((error: unknown) => failures.push(error));
	}
	rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
	if (failures.length > 0) throw new AggregateError(failures, 'not everything could be stopped');
}
