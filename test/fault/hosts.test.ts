/**
 * Robots on other machines: hosts that are network namespaces, each with an address and a machine-id of
 * its own. What a person does and reads (docs/second-machine.md) is done and read here word for word.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FleetClient } from '../../client';
import { isFinal } from '../../protocol';
import { Draw } from '../support/dice';
import { type Host, Network, noHosts } from '../support/hosts';
import { Portal } from '../support/portal';
import {
	AgentProgram,
	builtHost,
	type Bundles,
	builtPrograms,
	programEnv,
	ServiceProgram,
} from '../support/programs';
import { howMany, say, seed } from '../support/proof';
import { eventually } from './one-service';

const missing = noHosts();
if (missing !== undefined) {
	process.stderr.write(`LEFT OUT: robots on other hosts, because ${missing}.\n`);
}
const onHosts = missing === undefined ? test : test.skip;

const jobs = howMany(60, 2_000);
/** Three slots, half a second each, and what the cuts take. */
jest.setTimeout(240_000 + jobs * 1_000);

const port = 8765;
const robotsPort = 8766;

/** Some hosts, and on the first of them a service. Whatever happens, nothing is left. */
class Site implements AsyncDisposable {
	readonly folder = mkdtempSync(join(tmpdir(), 'robot-fleet-hosts-'));
	readonly bundles: Bundles = builtPrograms(this.folder);
	readonly network: Network;
	readonly service: ServiceProgram;
	readonly #programs: { kill(): Promise<void> }[] = [];
	readonly #portals: Portal[] = [];

	constructor(hosts: number, env: Record<string, string> = {}) {
		this.network = Network.make(hosts);
		const { hub } = this.network;
		this.service = new ServiceProgram(this.bundles, join(this.folder, 'service'), port, {
			ROBOT_FLEET_ROBOTS_LISTEN: `${hub.address}:${robotsPort}`,
			...env,
		});
		this.service.through = hub.through;
		this.#programs.push(this.service);
	}

	/** The API on the hub, as a program there sees it. */
	async client(data = this.service.data): Promise<FleetClient> {
		const socket = join(this.folder, `portal-${this.#portals.length}`);
		const portal = await Portal.open(this.network.hub, port, socket);
		this.#portals.push(portal);
		return new FleetClient(portal.send(() => readFileSync(join(data, 'admin.key'), 'utf8').trim()));
	}

	/** A command of `robot-fleet`, typed on the hub. */
	cli(...args: string[]): Promise<{ out: string; err: string }> {
		const { hub } = this.network;
		const [program, ...rest] = [...hub.through, process.execPath, this.bundles.service, ...args];
		return new Promise((resolve, reject) => {
			const env = { ...programEnv(), ROBOT_FLEET_DATA: this.service.data };
			const child = spawn(program!, rest, { env });
			const said = { out: '', err: '' };
			child.stdout.on('data', (text) => (said.out += text));
			child.stderr.on('data', (text) => (said.err += text));
			child.once('error', reject);
			child.once('close', (code) =>
				code === 0 ? resolve(said) : reject(new Error(said.err || `exit code ${code}`)),
			);
		});
	}

	agent(
		host: Host,
		name: string,
		{ data = name, env = {}, server = this.robotsUrl } = {},
	): AgentProgram {
		const agent = new AgentProgram(this.bundles, server, {
			name,
			data: join(this.folder, data),
			slots: 2,
			env,
		});
		agent.through = host.through;
		this.#programs.push(agent);
		return agent;
	}

	get robotsUrl(): string {
		return `https://${this.network.hub.address}:${robotsPort}`;
	}

	keep(program: { kill(): Promise<void> }): void {
		this.#programs.push(program);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await Promise.all([
			...this.#programs.map((one) => one.kill()),
			...this.#portals.map((one) => one.close()),
		]);
		this.network[Symbol.dispose]();
		rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
	}
}

/** What curl would say from there: a status, or why there is none. */
function asked(host: Host, url: string): string {
	return host
		.run(
			process.execPath,
			'-e',
			`process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
			process.removeAllListeners('warning');
			fetch(process.argv[1])
				.then((answer) => console.log(answer.status), (error) => console.log(error.cause?.code ?? error.name));`,
			url,
		)
		.trim();
}

onHosts(
	'a robot on another host joins by the command that was printed, and runs a job there',
	async () => {
		await using site = new Site(1);
		const { hub, hosts } = site.network;
		site.service.start();
		await site.service.ready();
		const { out, err } = await site.cli('token', 'create');
		const token = out.trim();
		expect(token).toMatch(/^rf1\.[0-9a-f]+\.[\w-]+\.[0-9a-f]{64}$/);
		expect(err).toContain(`robot-fleet-agent --server ${site.robotsUrl} --token ${token}`);
		const agent = site.agent(hosts[0]!, 'r1');
		agent.start(token);
		await agent.connected();
		const submitted = await site.cli('submit', '--wait', '--', 'cat', '/etc/machine-id');
		expect(submitted.out.trim()).toBe(hosts[0]!.run('cat', '/etc/machine-id').trim());

		// The API is for the hub alone.
		expect(asked(hosts[0]!, `http://${hub.address}:${port}/healthz`)).toBe('ECONNREFUSED');
		expect(asked(hosts[0]!, `${site.robotsUrl}/api/v1/jobs`)).toBe('404');
		const doctor = await site.cli('doctor');
		expect(doctor.out).toContain(`robots dial ${site.robotsUrl}`);
		expect(doctor.out).toContain(token.split('.')[3]);
	},
);

onHosts(
	'a copied data folder is held off on another host, told what to do, and may become a robot of its own',
	async () => {
		await using site = new Site(2);
		const [home, elsewhere] = site.network.hosts;
		site.service.start();
		await site.service.ready();
		const client = await site.client();
		const original = site.agent(home!, 'r1');
		original.start((await client.createToken({})).token);
		await original.connected();
		cpSync(original.data, join(site.folder, 'copy'), { recursive: true });

		const copy = site.agent(elsewhere!, 'r1', { data: 'copy' });
		copy.start();
		await eventually('the sentence', () =>
			/belongs to another machine.*robot-fleet-agent --server \S+ --token TOKEN.*allow-move r1/.test(
				copy.logged(),
			),
		);
		const { out } = await site.cli('robots', 'show', 'r1');
		expect(out).toMatch(
			new RegExp(`another machine presented its identity .*from ${elsewhere!.address}\\)`),
		);
		expect((await client.robot('r1')).connected).toBe(true);
		await copy.kill();
		copy.start((await client.createToken({})).token);
		await copy.connected();
		const robots = await client.robots();
		expect(robots.map(({ name, connected }) => ({ name, connected }))).toEqual(
			expect.arrayContaining([
				{ name: 'r1', connected: true },
				{ name: 'r1-2', connected: true },
			]),
		);
	},
);

onHosts(
	'a certificate that has changed is refused until the owner says which one is right',
	async () => {
		await using site = new Site(1);
		site.service.start();
		await site.service.ready();
		const client = await site.client();
		const agent = site.agent(site.network.hosts[0]!, 'r1');
		agent.start((await client.createToken({})).token);
		await agent.connected();
		await site.service.stop();
		rmSync(join(site.service.data, 'certificate.pem'));
		site.service.start();
		await site.service.ready();
		const [, found] = await eventually(
			'the sentence',
			() =>
				/does not show the certificate that this robot trusts \(found ([0-9a-f]{64})/.exec(
					agent.logged(),
				) ?? undefined,
			60_000,
		);
		expect((await client.service()).doors.certificate?.fingerprint).toBe(found);
		expect(agent.lives).toBe(true);
		await agent.kill();
		const told = site.agent(site.network.hosts[0]!, 'r1', {
			env: { ROBOT_FLEET_AGENT_FINGERPRINT: found! },
		});
		told.start();
		await told.connected();
		await told.kill();
		// Said once: from now on it is what this robot trusts.
		agent.start();
		await agent.connected();
	},
);

onHosts(
	'three robots on three hosts: cut lines, slow lines, a killed service, and every job ends exactly once',
	async () => {
		const draw = new Draw(seed);
		await using site = new Site(3, { HEARTBEAT_INTERVAL: '1' });
		const { hosts } = site.network;
		site.service.start();
		await site.service.ready();
		const client = await site.client();
		const notes = hosts.map((_, n) => join(site.folder, `notes-${n}`));
		for (const [n, host] of hosts.entries()) {
			writeFileSync(notes[n]!, '');
			const agent = site.agent(host, `r${n + 1}`, { env: { NOTES: notes[n]! } });
			agent.start((await client.createToken({})).token);
			await agent.connected();
		}
		const ids: string[] = [];
		for (let n = 0; n < jobs; n += 1) {
			const { jobId } = await client.submit({
				kind: 'command',
				spec: {
					shell:
						'echo "$ROBOT_FLEET_JOB_ID" >> "$NOTES"; sleep 0.4; head -c 20000 /dev/zero | tr "\\0" x; echo; echo "end of $ROBOT_FLEET_JOB_ID"',
				},
			});
			ids.push(jobId);
		}
		const ended = async () => {
			try {
				const all = await Promise.all(ids.map((id) => client.job(id)));
				return all.every(({ state }) => isFinal(state)) ? all : undefined;
			} catch {
				return undefined; // the service is down at the moment
			}
		};
		let over = false;
		let cuts = 0;
		let slow = '';
		const harm = (async () => {
			for (let round = 0; !over; round += 1) {
				const host = draw.pick(hosts);
				if (round % 3 === 2) {
					slow = host.slowDown();
					await sleep(draw.part(500, 2_000));
					host.speedUp();
				} else {
					cuts += 1;
					host.unplug();
					// Some cuts are over before anybody notices, some last longer than three heartbeats.
					await sleep(draw.part(200, 5_000));
					host.plugIn();
				}
				await sleep(draw.part(100, 600));
			}
		})();
		const restarts = 2;
		for (let n = 0; n < restarts; n += 1) {
			await sleep(2_000);
			await site.service.kill();
			site.service.start();
			await site.service.ready();
		}
		let all;
		try {
			all = await eventually('all jobs to end', ended, 60_000 + jobs * 1_000);
		} finally {
			over = true;
			await harm;
		}
		const starts = notes.map((file) =>
			readFileSync(file, 'utf8').trim().split('\n').filter(Boolean),
		);
		expect(all.filter(({ state }) => state !== 'completed')).toEqual([]);
		expect(starts.flat().sort()).toEqual([...ids].sort());
		for (const job of all) {
			const robot = Number((await client.robot(job.robotId!)).name.slice(1));
			expect(starts[robot - 1]).toContain(job.jobId);
			expect(job.result?.stdout.endsWith(`end of ${job.jobId}\n`)).toBe(true);
		}
		say(8, { hosts: 3, jobs, cuts, restarts, 'slow lines were': slow, 'started twice': 0 });
	},
);

onHosts('a robot on another host joins the service that n8n hosts', async () => {
	await using site = new Site(1);
	const { hub, hosts } = site.network;
	const dataFolder = join(site.folder, 'n8n/robot-fleet');
	const [program, ...rest] = [
		...hub.through,
		process.execPath,
		'-e',
		`const { startHost } = require(process.argv[1]);
		startHost({
			dataFolder: process.argv[2],
			host: '127.0.0.1',
			port: ${port},
			robotsListen: '${hub.address}:${robotsPort}',
			callbackUrl: 'http://127.0.0.1:5678',
			log: (level, text, facts) => console.error(level, text, JSON.stringify(facts ?? {})),
		}).then((host) => {
			console.log('ready ' + host.url);
			// n8n's own work keeps its process alive.
			setInterval(() => undefined, 1000);
		}, (error) => { console.error(error); process.exit(1); });`,
		builtHost(site.folder),
		dataFolder,
	];
	const n8n = spawn(program!, rest, { env: programEnv(), stdio: ['ignore', 'pipe', 'ignore'] });
	const gone = new Promise<void>((resolve) => n8n.once('exit', () => resolve()));
	site.keep({
		kill: async () => {
			n8n.kill('SIGKILL');
			await gone;
		},
	});
	await new Promise<void>((resolve, reject) => {
		n8n.stdout!.once('data', () => resolve());
		n8n.once('exit', (code) => reject(new Error(`the host ended with ${code}`)));
	});
	const client = await site.client(dataFolder);
	const { token, dial } = await client.createToken({});
	expect(dial).toBe(site.robotsUrl);
	const agent = site.agent(hosts[0]!, 'r1', { server: dial });
	agent.start(token);
	await agent.connected();
	const { jobId } = await client.submit({
		kind: 'command',
		spec: { command: 'cat', args: ['/etc/machine-id'] },
	});
	const job = await eventually('the job to end', async () => {
		const one = await client.job(jobId);
		return isFinal(one.state) && one;
	});
	expect(job.result?.stdout.trim()).toBe(hosts[0]!.run('cat', '/etc/machine-id').trim());
});
