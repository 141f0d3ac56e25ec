/** The real service dials real agents that listen: who gets in, who does not, and how it comes back. */
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket, WebSocketServer } from 'ws';
import { FleetClient } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { readConfig } from '../../../dispatcher/config';
import { fingerprintOfKey } from '../../../dispatcher/engine/hub-key';
import { type Service, startService } from '../../../dispatcher/startup';
import {
	type Connected,
	type Dial,
	type Dialled,
	dialProof,
	helloProof,
	nonceHeader,
	paths,
	type Robot,
} from '../../../protocol';
import { quietPort } from '../../support/programs';
import { seedConstellation } from '../../support/seed-constellation';
import { AgentProcess, bundleAgent, newDataFolder, removeBundle } from '../agent/agent-process';

jest.setTimeout(60_000);

beforeAll(bundleAgent);
afterAll(removeBundle);

let folder: string;
let service: Service | undefined;
let client: FleetClient;
let hub: string;
const undo: (() => Promise<unknown> | void)[] = [];

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-dialled-'));
	await start();
});
afterEach(async () => {
	for (const deed of undo.splice(0).reverse()) await deed();
	await service?.close();
	service = undefined;
	rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Over the same data folder each time; `file` = what stands in its settings. */
async function start(file?: object | string): Promise<void> {
	const path = join(folder, 'constellation_config.json');
	if (file !== undefined) {
		writeFileSync(path, typeof file === 'string' ? file : JSON.stringify(file));
	}
	service = await startService({
		config: readConfig({
			flags: { data: join(folder, 'service'), port: '0' },
			...(file !== undefined && { file: path }),
		}),
		log: silent,
		onFatal: (error) => {
			throw error;
		},
	});
	const key = readFileSync(join(folder, 'service/admin.key'), 'utf8').trim();
	client = new FleetClient(httpSend({ url: service.url, key }));
	hub = (await client.service()).hubFingerprint;
}

async function restart(file?: object | string): Promise<void> {
	await service!.close();
	await start(file);
}

interface Listening {
	agent: AgentProcess;
	fingerprint: string;
	/** As the service dials it. */
	url: string;
}

async function listen(
	args: string[] = [],
	{ data = newFolder(), at = '127.0.0.1:0', trusts = hub } = {},
): Promise<Listening> {
	const agent = new AgentProcess(
		['--listen', at, '--data', data, '--name', 'r1', '--stop-grace', '0', '--hub', trusts, ...args],
		{ ROBOT_FLEET_LISTEN: '', ROBOT_FLEET_HUB: '' },
	);
	undo.push(() => agent.stop());
	await agent.untilPrinted(/^listening on \S+$/m);
	const [, scheme, port] = /^listening on (wss?):\/\/\S+:(\d+)$/m.exec(agent.stdout)!;
	const fingerprint = /^fingerprint ([0-9a-f]{64})$/m.exec(agent.stdout)![1]!;
	return { agent, fingerprint, url: `${scheme}://127.0.0.1:${port}` };
}

function newFolder(): string {
	const data = newDataFolder();
	undo.push(() => rmSync(data, { recursive: true, force: true, maxRetries: 3 }));
	return data;
}

const fileOf = (devices: object[], more: object = {}) => ({
	constellation_id: 'lab',
	reconnect_delay: 0.05,
	devices,
	...more,
});
const deviceOf = ({ url, fingerprint }: Pick<Listening, 'url' | 'fingerprint'>, more = {}) => ({
	device_id: 'r1',
	server_url: url,
	fingerprint,
	...more,
});

/** Asks until it is so. */
async function until(
	what: string,
	good: (robot: Robot, dial: Dial | null) => boolean,
	name = 'r1',
): Promise<Robot> {
	const late = Date.now() + 20_000;
	for (;;) {
		const robot = await client.robot(name);
		if (good(robot, robot.device?.dial ?? null)) return robot;
		if (Date.now() > late) throw new Error(`waited for ${what}: ${JSON.stringify(robot)}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

const connected = () => until('a connection', (robot) => robot.connected);
const failed = () => until('the end of the tries', (_robot, dial) => dial?.state === 'failed');

async function runs(): Promise<void> {
	const { jobId } = await client.submit({
		kind: 'command',
		spec: { command: 'echo', args: ['here'] },
		target: { robot: 'r1' },
	});
	const job = await client.job(jobId, 20_000);
	expect(job).toMatchObject({ state: 'completed', result: { stdout: 'here\n' } });
}

describe('a robot that listens', () => {
	test('is dialled by the service whose file names it, and runs a job', async () => {
		const robot = await listen();
		await restart(fileOf([deviceOf(robot, { capabilities: ['bench'], metadata: { rack: '4' } })]));
		await robot.agent.untilPrinted(/^connected as r1 /m);
		expect(await connected()).toMatchObject({
			status: 'online',
			labels: { rack: '4' },
			device: { constellationId: 'lab', dial: { state: 'connected', reason: null } },
		});
		await runs();
	});

	test('has the clients that the file says, before it came and when it is there', async () => {
		const clients = { local_client_ids: ['work', 'home'] };
		const path = join(folder, 'device.json');
		writeFileSync(path, JSON.stringify(fileOf([{ device_id: 'r1', ...clients }])));
		const robot = await listen(['--config', path]);
		await restart(fileOf([deviceOf(robot, clients)]));
		const named = [{ name: 'work' }, { name: 'home' }];
		expect(await client.robot('r1')).toMatchObject({ clients: named });
		expect(await connected()).toMatchObject({ clients: named, slots: 2 });
	});

	test('speaks TLS to other machines, by its own key', async () => {
		const robot = await listen([], { at: '0.0.0.0:0' });
		expect(robot.url).toMatch(/^wss:/);
		await restart(fileOf([deviceOf(robot)]));
		await connected();
		await runs();
	});

	test('comes back after a kill, with what it ran; and after a restart of the service', async () => {
		const data = newFolder();
		const port = await quietPort();
		const first = await listen([], { data, at: `127.0.0.1:${port}` });
		await restart(fileOf([deviceOf(first)]));
		await connected();
		const { jobId } = await client.submit({
			kind: 'command',
			spec: { shell: 'touch up; while [ ! -e go ]; do sleep 0.05; done; echo done', cwd: data },
			target: { robot: 'r1' },
		});
		await until('a running program', () => existsSync(join(data, 'up')));
		await first.agent.kill();
		// By now it knows the service: --hub is said once.
		const again = new AgentProcess(['--listen', `127.0.0.1:${port}`, '--data', data]);
		undo.push(() => again.stop());
		await again.untilPrinted(/^connected as r1 /m);
		await connected();
		await restart(fileOf([deviceOf(first)]));
		await connected();
		writeFileSync(join(data, 'go'), '');
		expect(await client.job(jobId, 20_000)).toMatchObject({
			state: 'completed',
			attempt: 1,
			result: { stdout: 'done\n' },
		});
	});

	test('is given up after so many tries, with the reason, and heals when it is connected by hand', async () => {
		const port = await quietPort();
		const data = newFolder();
		const robot = await listen([], { data, at: `127.0.0.1:${port}` });
		await robot.agent.stop();
		await restart(fileOf([deviceOf(robot, { max_retries: 2 })]));
		expect((await failed()).device!.dial).toMatchObject({
			failures: 3,
			reason: expect.stringMatching(/nothing listens there/),
			nextTryAt: null,
		});
		const back = await listen([], { data, at: `127.0.0.1:${port}` });
		expect(await client.connectRobot('r1')).toMatchObject({ connected: true });
		await back.agent.untilPrinted(/^connected as r1 /m);
		await runs();
		expect((await client.robot('r1')).device!.dial).toMatchObject({ failures: 0, reason: null });
	});

	test('that does not connect by itself is listed, connects when asked, and stays away when told so', async () => {
		const robot = await listen();
		const made = await client.registerRobot({
			name: 'r1',
			serverUrl: robot.url,
			fingerprint: robot.fingerprint,
			autoConnect: false,
		});
		expect(made).toMatchObject({ connected: false, device: { dial: { state: 'off' } } });
		expect(await client.connectRobot('r1')).toMatchObject({ connected: true });
		await runs();
		expect(await client.disconnectRobot('r1')).toMatchObject({
			connected: false,
			device: { dial: { state: 'off' } },
		});
		await robot.agent.untilPrinted(/a connection has ended/);
		expect(await client.connectRobot('r1')).toMatchObject({ connected: true });
		await client.removeRobot('r1');
		expect(await client.robots()).toEqual([]);
	});
});

describe('somebody else', () => {
	test('who answers at the address with another key is refused in one sentence, and gets no job', async () => {
		const right = await listen();
		const wrong = await listen();
		const pinned = { url: wrong.url, fingerprint: right.fingerprint };
		await restart(fileOf([deviceOf(pinned, { max_retries: 0 })]));
		const { jobId } = await client.submit({
			kind: 'command',
			spec: { command: 'true' },
			target: { robot: 'r1' },
		});
		const { reason } = (await failed()).device!.dial!;
		// With TLS the service sees it before; without, the agent sees that it is not meant.
		expect(reason).toMatch(/^the agent there did not let this service in/);
		expect((await client.job(jobId)).state).toBe('queued');
		expect(wrong.agent.stdout).not.toMatch(/connected as/);
	});

	test('the same over TLS is told nothing at all', async () => {
		const wrong = await listen([], { at: '0.0.0.0:0' });
		const fingerprint = 'ab'.repeat(32);
		await restart(fileOf([deviceOf({ url: wrong.url, fingerprint }, { max_retries: 0 })]));
		const { reason } = (await failed()).device!.dial!;
		expect(reason).toBe(
			`Whoever answers for r1 has the key ${wrong.fingerprint}, not ${fingerprint}; compare it with the fingerprint that its agent prints, and register that one if it is right.`,
		);
		expect(wrong.agent.stderr).not.toMatch(/connected|connection/);
	});

	test('an impostor that plays the agent with a key of its own is refused before anything is sent to it', async () => {
		const fake = await impostor();
		await restart(
			fileOf([deviceOf({ url: fake.url, fingerprint: 'cd'.repeat(32) }, { max_retries: 0 })]),
		);
		await client.submit({ kind: 'command', spec: { command: 'secret' }, target: { robot: 'r1' } });
		const { reason } = (await failed()).device!.dial!;
		expect(reason).toBe(
			`Whoever answers for r1 has the key ${fake.fingerprint}, not ${'cd'.repeat(32)}; compare it with the fingerprint that its agent prints, and register that one if it is right.`,
		);
		expect(fake.heard.map(({ type }) => type)).toEqual(['connected', 'error']);
	});

	test('what is no agent at all is named as such', async () => {
		const server = createServer((_request, response) => response.end('hello'));
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		undo.push(() => new Promise((resolve) => server.close(resolve)));
		const { port } = server.address() as AddressInfo;
		const url = `ws://127.0.0.1:${port}`;
		await restart(fileOf([deviceOf({ url, fingerprint: 'ab'.repeat(32) }, { max_retries: 0 })]));
		expect((await failed()).device!.dial!.reason).toMatch(/Unexpected server response: 200/);
	});

	test('a service that is not the one it trusts is turned away by the agent, and nothing runs', async () => {
		const robot = await listen([], { trusts: 'ef'.repeat(32) });
		await restart(fileOf([deviceOf(robot, { max_retries: 0 })]));
		expect((await failed()).device!.dial!.reason).toMatch(
			/^the agent there did not let this service in/,
		);
		await robot.agent.untilPrinted(
			/^A service \([0-9a-f]{64}\) other than the one trusted here \(/m,
		);
		expect(robot.agent.stdout).not.toMatch(/connected as/);
	});

	test.each<[string, (stranger: Stranger) => Promise<object>]>([
		['says nothing of itself', async () => ({})],
		['has another key', async (stranger) => ({ dialled: stranger.proof() })],
		[
			'shows the key of the service without having it',
			async (stranger) => {
				const { hub_id, dialled } = await saidTo(await impostor());
				const { hub_key } = dialled;
				return { hub_id, dialled: { ...stranger.proof(), hub_key } };
			},
		],
		[
			'passes on what the service said to another robot',
			async ({ nonce }) => saidTo(await impostor(nonce)),
		],
	])('a stranger that connects and %s is refused, and runs nothing', async (_, more) => {
		const robot = await listen();
		const stranger = await Stranger.connect(robot);
		undo.push(() => stranger.socket.terminate());
		stranger.say('connected', {
			hub_id: randomUUID(),
			protocol: { min: 1, max: 2 },
			nonce: 'n',
			...(await more(stranger)),
		});
		stranger.say('robot_registered', {
			robot_id: 'x',
			name: 'x',
			hub_id: 'x',
			protocol: 1,
			heartbeat_interval: 15,
			limits: { max_output_frame: 1e5, max_control_frame: 1e5, output_window: 1e6 },
			verdicts: [],
		});
		const mark = join(folder, 'mark');
		stranger.say('job_assignment', {
			job_id: randomUUID(),
			attempt: 1,
			epoch: 1,
			token: 't',
			kind: 'command',
			spec: { command: 'touch', args: [mark] },
			variables: {},
			timeouts: { grace_ms: 1 },
			on_disconnect: 'continue',
		});
		expect(await stranger.closed).toBe(4003);
		expect(stranger.heard).not.toContain('hello');
		expect(robot.agent.stdout).not.toMatch(/connected as/);
		expect(() => readFileSync(mark)).toThrow();
		// The right one gets in all the same.
		await restart(fileOf([deviceOf(robot)]));
		await connected();
		await runs();
	});

	test('who passes on over TLS what the service said in plain, of this very robot, is refused', async () => {
		const robot = await listen([], { at: '0.0.0.0:0' });
		const stranger = await Stranger.connect(robot);
		undo.push(() => stranger.socket.terminate());
		const said = await saidTo(await impostor(stranger.nonce), robot.fingerprint);
		stranger.say('connected', { protocol: { min: 1, max: 2 }, nonce: 'n', ...said });
		expect(await stranger.closed).toBe(4003);
		expect(stranger.heard).not.toContain('hello');
	});

	test('a crowd of connections is not held open, and leaves the service its place', async () => {
		const robot = await listen();
		const { url: serverUrl, fingerprint } = robot;
		const { port } = new URL(serverUrl);
		await client.registerRobot({ name: 'r1', serverUrl, fingerprint, autoConnect: false });
		let closed = 0;
		const crowd: Socket[] = [];
		undo.push(() => crowd.forEach((socket) => socket.destroy()));
		for (let i = 0; i < 80; i += 1) {
			const socket = connect(Number(port), '127.0.0.1');
			socket
				.on('error', () => undefined)
				.on('close', () => (closed += 1))
				.resume();
			crowd.push(socket);
		}
		await until('the end of those beyond 64', () => closed >= 16);
		expect(closed).toBe(16);
		// Who says nothing is looked for every second, and sent away after ten.
		await until('the end of all that say nothing', () => closed === crowd.length);
		expect(await client.connectRobot('r1')).toMatchObject({ connected: true });
	});

	test('a web page and a foreign path get no socket', async () => {
		const robot = await listen();
		const status = (path: string, headers: Record<string, string> = {}) =>
			new Promise<number>((resolve, reject) => {
				const socket = new WebSocket(`${robot.url}${path}`, { headers });
				socket.on('unexpected-response', (_request, { statusCode }) => resolve(statusCode!));
				socket.on('error', reject);
				socket.on('open', () => reject(new Error('it was let in')));
			});
		expect(await status('/')).toBe(404);
		expect(await status(paths.robotLink, { origin: 'http://evil.test' })).toBe(404);
	});

	test('strangers that only wait do not keep the service out', async () => {
		const robot = await listen();
		const idle = await Promise.all(Array.from({ length: 10 }, () => Stranger.connect(robot)));
		undo.push(() => idle.forEach(({ socket }) => socket.terminate()));
		await restart(fileOf([deviceOf(robot)]));
		await connected();
	});
});

describe('what is refused at once', () => {
	test('the file of the seed is taken unchanged; who nobody could know is listed, and not dialled', async () => {
		await restart(seedConstellation);
		for (const name of ['windows_workstation', 'linux_server']) {
			const robot = await until('a reason', (_, dial) => dial?.state === 'failed', name);
			expect(robot).toMatchObject({ connected: false, status: 'offline' });
			expect(robot.device!.dial!.reason).toMatch(/start its agent with --listen/);
		}
	});

	test('an address inside a private network, of a key that is no admin', async () => {
		const { key } = await client.createKey({ name: 'o', scopes: ['operate', 'read'] });
		const operator = new FleetClient(httpSend({ url: service!.url, key }));
		const request = { name: 'd', fingerprint: 'ab'.repeat(32) };
		for (const serverUrl of ['ws://127.0.0.1:1', 'wss://192.168.1.1', 'ws://[::1]:1']) {
			await expect(operator.registerRobot({ ...request, serverUrl })).rejects.toMatchObject({
				code: 'address-refused',
			});
		}
		expect(await client.robots()).toEqual([]);
	});

	test('an agent that is told of no service prints who it is, and what to do', async () => {
		const agent = new AgentProcess(['--listen', '127.0.0.1:9765', '--data', newFolder()]);
		expect(await agent.exit).toBe(2);
		expect(agent.stdout).toMatch(/^fingerprint [0-9a-f]{64}$/m);
		const line = /^for the constellation file of the service: (.*)$/m.exec(agent.stdout)![1]!;
		expect(JSON.parse(line)).toMatchObject({ server_url: 'ws://127.0.0.1:9765' });
		expect(agent.stderr).toMatch(/start this agent once with --hub FINGERPRINT/);
	});

	test('both ways at once, and what is no address, are mistakes that are said together', async () => {
		const agent = new AgentProcess([
			'--listen',
			'here',
			'--hub',
			'abc',
			'--server',
			'http://127.0.0.1:1',
			'--data',
			newFolder(),
		]);
		expect(await agent.exit).toBe(2);
		expect(agent.stderr).toMatch(/--listen must be HOST:PORT/);
		expect(agent.stderr).toMatch(/--hub must be the fingerprint/);
		expect(agent.stderr).toMatch(/are two ways; leave one of them out/);
	});
});

/** Connects to a listening agent, and says what it likes. */
class Stranger {
	readonly socket: WebSocket;
	readonly nonce: string;
	readonly closed: Promise<number>;
	/** Types of what it was told. */
	readonly heard: string[] = [];
	readonly #robot: Listening;
	readonly #key = generateKeyPairSync('ed25519');

	private constructor(socket: WebSocket, nonce: string, robot: Listening) {
		this.socket = socket;
		this.nonce = nonce;
		this.#robot = robot;
		this.closed = new Promise((resolve) => socket.once('close', resolve));
		socket.on('message', (data) => this.heard.push(JSON.parse(String(data)).type));
	}

	static async connect(robot: Listening): Promise<Stranger> {
		const socket = new WebSocket(robot.url + paths.robotLink, { rejectUnauthorized: false });
		const nonce = await new Promise<string>((resolve, reject) => {
			socket.once('error', reject);
			socket.once('upgrade', ({ headers }) => {
				const said = String(headers[nonceHeader]);
				socket.once('open', () => resolve(said));
			});
		});
		return new Stranger(socket, nonce, robot);
	}

	/** Right in all but the key. */
	proof() {
		const hub_key = this.#key.publicKey
			.export({ format: 'der', type: 'spki' })
			.toString('base64url');
		const text = dialProof(randomUUID(), 'x', this.#robot.fingerprint, this.nonce, 'plain');
		const signature = sign(null, Buffer.from(text), this.#key.privateKey).toString('base64url');
		return { robot_id: 'x', name: 'x', hub_key, signature };
	}

	say(type: string, payload: object): void {
		const timestamp = '2026-01-01T00:00:00Z';
		this.socket.send(JSON.stringify({ type, id: randomUUID(), timestamp, payload }));
	}
}

async function impostor(nonce?: string): Promise<Impostor> {
	const opened = await Impostor.open(nonce);
	undo.push(() => opened.close());
	return opened;
}

/** What the service says for itself to a robot that is registered at this address. */
async function saidTo({ url, heard }: Impostor, fingerprint = '12'.repeat(32)): Promise<Said> {
	const name = 'decoy';
	await client.registerRobot({ name, serverUrl: url, fingerprint, maxRetries: 0 });
	await until('an answer', (_, dial) => dial?.state === 'failed', name);
	await client.removeRobot(name);
	const { hub_id, dialled } = heard[0]!.payload;
	return { hub_id, dialled };
}

type Said = Pick<Connected, 'hub_id'> & { dialled: Dialled };

/** Listens like an agent, believes every service, and has a key of its own. */
class Impostor {
	readonly heard: { type: string; payload: Said }[] = [];
	readonly #key = generateKeyPairSync('ed25519');
	readonly #server: Server = createServer();
	readonly #door = new WebSocketServer({ server: this.#server });

	static async open(nonce = 'n'.repeat(43)): Promise<Impostor> {
		const impostor = new Impostor();
		impostor.#door.on('headers', (headers) => headers.push(`${nonceHeader}: ${nonce}`));
		impostor.#door.on('connection', (socket) => {
			socket.on('message', (data) => {
				const message = JSON.parse(String(data));
				impostor.heard.push(message);
				if (message.type !== 'connected') return;
				const { hub_id: hubId, nonce: asked, dialled } = message.payload;
				const text = helloProof(hubId, dialled.robot_id, asked);
				socket.send(
					JSON.stringify({
						type: 'hello',
						id: '1',
						payload: {
							robot_id: dialled.robot_id,
							protocol: 1,
							features: [],
							version: '0',
							journal_id: 'j',
							boot_id: 'b',
							public_key: impostor.publicKey,
							signature: sign(null, Buffer.from(text), impostor.#key.privateKey).toString(
								'base64url',
							),
							slots: 1,
							labels: {},
							capabilities: [],
							info: {},
							attempts: [],
						},
					}),
				);
			});
		});
		await new Promise<void>((resolve) => impostor.#server.listen(0, '127.0.0.1', resolve));
		return impostor;
	}

	get publicKey(): string {
		return this.#key.publicKey.export({ format: 'der', type: 'spki' }).toString('base64url');
	}

	get fingerprint(): string {
		return fingerprintOfKey(this.publicKey);
	}

	get url(): string {
		return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	async close(): Promise<void> {
		for (const socket of this.#door.clients) socket.terminate();
		this.#door.close();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}
