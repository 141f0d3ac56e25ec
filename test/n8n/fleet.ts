/**
 * A real n8n with our packed tarball under its nodes folder, the service embedded in it, and a real
 * agent process beside it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { N8n } from '../../scripts/n8n/instance.mjs';
import { freePorts, request } from '../../scripts/n8n/loopback.mjs';
import { until } from '../../scripts/n8n/until.mjs';
import type { Job, Robot, Wait } from '../../protocol';
import { packedTarball, preparedRuntime } from '../support/n8n-runtime';

const root = join(__dirname, '../..');
/** Set to a folder, these keep what n8n and the agent printed. */
const logs = process.env.ROBOT_FLEET_TEST_LOGS;
const agentProgram = process.env.ROBOT_FLEET_AGENT_JS ?? join(root, 'agent/dist/agent.js');

export const nodeType = (name: string) => `n8n-nodes-robot-fleet.${name}`;

export class Fleet {
	readonly folder: string;
	readonly n8n: N8n;
	readonly servicePort: number;
	credential!: { id: string; name: string };
	readonly #agents: ChildProcess[] = [];
	#agentLines: string[] = [];

	private constructor(folder: string, n8n: N8n, servicePort: number) {
		this.folder = folder;
		this.n8n = n8n;
		this.servicePort = servicePort;
	}

	/** n8n runs, its owner and the credential are there; the service has not been used yet. */
	static async start(env: Record<string, string | undefined> = {}): Promise<Fleet> {
		const fleet = await Fleet.create(() => env);
		await fleet.n8n.installPackage(packedTarball(fleet.folder));
		await fleet.n8n.start();
		try {
			await fleet.n8n.setupOwner({ email: 'owner@example.com', password: 'Robots1234' });
		} catch (error) {
			await fleet.stop();
			throw error;
		}
		await fleet.useThisN8n();
		return fleet;
	}

	/** An n8n that was not started yet, and has no package. */
	static async create(
		envIn: (userFolder: string) => Record<string, string | undefined>,
	): Promise<Fleet> {
		const runtime = preparedRuntime();
		const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-n8n-'));
		const [port] = await freePorts(1);
		const userFolder = join(folder, 'n8n');
		const n8n = await N8n.create({
			runtime,
			userFolder,
			env: {
				ROBOT_FLEET_PORT: String(port),
				N8N_SECURE_COOKIE: 'false',
				...envIn(userFolder),
			},
			...(logs ? { logFile: join(logs, `n8n-${port}.log`) } : {}),
		});
		return new Fleet(folder, n8n, port!);
	}

	/** The package is there: its credential for the service in this n8n. */
	async useThisN8n(): Promise<void> {
		this.credential = await this.n8n.createCredential({
			name: 'This n8n',
			type: 'robotFleetApi',
			data: { connection: 'embedded' },
		});
	}

	/** As an update does; n8n notices at its next start. */
	async reinstall(): Promise<{ dir: string }> {
		return await this.n8n.installPackage(packedTarball(this.folder));
	}

	async stop(): Promise<void> {
		for (const agent of this.#agents) agent.kill('SIGKILL');
		await this.n8n.stop();
		rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
	}

	get dataFolder() {
		return join(this.folder, 'n8n', '.n8n', 'robot-fleet');
	}

	/** Enrolls a real agent and resolves when the service sees it. */
	async startAgent(
		name: string,
		slots = 4,
		server = `http://127.0.0.1:${this.servicePort}`,
	): Promise<Robot> {
		const { token } = await this.service<{ token: string }>('POST', '/tokens', {});
		const data = join(this.folder, name);
		const args = ['--server', server, '--token', token, '--name', name, '--slots', String(slots)];
		const { HTTP_PROXY: _proxy, ...env } = process.env;
		const agent = spawn(process.execPath, [agentProgram, ...args, '--data', data], { env });
		for (const stream of [agent.stdout, agent.stderr]) {
			stream.on('data', (chunk) => this.#agentLines.push(String(chunk)));
		}
		this.#agents.push(agent);
		return await this.connected(name);
	}

	/** The newest agent goes as a machine does that loses its power. Started again under its name it is the same robot. */
	async loseAgent(): Promise<void> {
		const agent = this.#agents.at(-1);
		if (!agent || agent.exitCode !== null || agent.signalCode !== null) return;
		const gone = new Promise((resolve) => agent.once('exit', resolve));
		agent.kill('SIGKILL');
		await gone;
	}

	async connected(name: string, deadlineMs = 60_000): Promise<Robot> {
		return await until(
			async () => {
				const { items } = await this.service<{ items: Robot[] }>('GET', '/robots');
				return items.find((robot) => robot.name === name && robot.connected);
			},
			{
				deadlineMs,
				what: () => `robot ${name}; the agent said:\n${this.#agentLines.slice(-20).join('')}`,
			},
		);
	}

	/** As an operator with the admin key asks the service; never through n8n. */
	async service<T>(method: string, path: string, body?: unknown): Promise<T> {
		const key = readFileSync(join(this.dataFolder, 'admin.key'), 'utf8').trim();
		const url = `http://127.0.0.1:${this.servicePort}/api/v1${path}`;
		const headers = { authorization: `Bearer ${key}` };
		const answer = await request(url, { method, body, headers });
		if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
		return (answer.text === '' ? undefined : JSON.parse(answer.text)) as T;
	}

	async serviceIsUp(): Promise<boolean> {
		try {
			const { status } = await request(`http://127.0.0.1:${this.servicePort}/readyz`);
			return status === 200;
		} catch {
			return false;
		}
	}

	async job(jobId: string): Promise<Job> {
		return await this.service<Job>('GET', `/jobs/${jobId}`);
	}

	async attempts(jobId: string): Promise<unknown[]> {
		return (await this.service<{ items: unknown[] }>('GET', `/jobs/${jobId}/attempts`)).items;
	}

	async wait(waitId: string): Promise<Wait> {
		return await this.service<Wait>('GET', `/waits/${waitId}`);
	}

	/** One of our nodes in a workflow, with the credential. */
	ours(name: string, type: string, parameters: object, more: object = {}) {
		const credentials = { robotFleetApi: this.credential };
		return { name, type: nodeType(type), parameters, credentials, ...more };
	}

	/** The nodes one after the other; a node may have a second output to another node. */
	async workflow(
		nodes: Array<{ name: string; [field: string]: unknown }>,
		errorOutput?: { from: string; to: string },
	) {
		const main = nodes.filter(({ name }) => name !== errorOutput?.to);
		const to = (name: string) => [{ node: name, type: 'main', index: 0 }];
		const connections: Record<string, { main: unknown[][] }> = {};
		main.forEach(({ name }, index) => {
			const next = main[index + 1]?.name;
			connections[name] = { main: [next === undefined ? [] : to(next)] };
		});
		if (errorOutput) connections[errorOutput.from]!.main[1] = to(errorOutput.to);
		const settings = { executionOrder: 'v1' };
		return await this.n8n.createWorkflow({ nodes, connections, settings });
	}

	/** A workflow of examples/, with the credential of this n8n. */
	example(file: string): { nodes: Array<{ name: string }> } {
		const text = readFileSync(join(root, 'examples', file), 'utf8');
		const {
			id: _id,
			active: _active,
			...workflow
		} = JSON.parse(text.replaceAll('robotFleetThisN8n', this.credential.id));
		return workflow;
	}

	/** What a node put out in an execution: items of one output, newest run. */
	static output(execution: { data: unknown }, name: string, output = 0) {
		const { resultData } = execution.data as {
			resultData: { runData: Record<string, Array<{ data?: { main: unknown[][] } }>> };
		};
		const items = resultData.runData[name]?.at(-1)?.data?.main[output] ?? [];
		// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what the test asserts on
		return items as Array<{ json: any; pairedItem?: unknown }>;
	}
}
