/** The agent and certificates: whom it talks to, whom not, and what it says then. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeCodes } from '../../../protocol';
import { authority, certificate } from '../../support/certificates';
import { ScriptedHub } from '../../support/scripted-hub';
import { AgentProcess, bundleAgent, newDataFolder, removeBundle } from './agent-process';

jest.setTimeout(60_000);

let data: string;
let hub: ScriptedHub;
let folder: string;
const agents: AgentProcess[] = [];

beforeAll(bundleAgent);
afterAll(removeBundle);
beforeEach(() => {
	data = newDataFolder();
	folder = mkdtempSync(join(tmpdir(), 'rf-agent-tls-'));
});
afterEach(async () => {
	await Promise.all(agents.splice(0).map((agent) => agent.stop()));
	await hub.close();
	for (const one of [data, folder]) rmSync(one, { recursive: true, force: true });
});

const startWith = (env: Record<string, string>, ...args: string[]) => {
	const agent = new AgentProcess(['--data', data, '--name', 'r1', ...args], { ...noProxy, ...env });
	agents.push(agent);
	return agent;
};
const start = (...args: string[]) => startWith({}, ...args);
/** Whatever the machine that runs the tests is behind. */
const noProxy = {
	HTTPS_PROXY: '',
	https_proxy: '',
	ALL_PROXY: '',
	all_proxy: '',
	NO_PROXY: '',
	no_proxy: '',
};

/** A real proxy for tunnels, which writes down what it was asked. */
class Proxy implements AsyncDisposable {
	readonly asked: { at: string | undefined; login: string }[] = [];
	readonly #server = createServer();
	readonly #sockets = new Set<Socket>();

	static async open(answer = 200): Promise<Proxy> {
		const proxy = new Proxy();
		proxy.#server.on('connect', (request, socket: Socket) => {
			const login = String(request.headers['proxy-authorization']).replace('Basic ', '');
			proxy.asked.push({ at: request.url, login: Buffer.from(login, 'base64').toString() });
			if (answer !== 200) return socket.end(`HTTP/1.1 ${answer} No\r\n\r\n`);
			const { hostname, port } = new URL(`http://${request.url}`);
			const there = connect(Number(port), hostname, () => {
				socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
				socket.pipe(there).pipe(socket);
			});
			for (const end of [socket, there]) {
				proxy.#sockets.add(end);
				end.on('error', () => end.destroy());
			}
		});
		await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
		return proxy;
	}

	get port(): number {
		return (this.#server.address() as AddressInfo).port;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const socket of this.#sockets) socket.destroy();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}
const tokenWith = (pin: string) => `rf1.0${agents.length}.secret.${pin}`;
const joined = /^connected as r1/m;
const identity = () => JSON.parse(readFileSync(join(data, 'identity.json'), 'utf8'));

/** A hub that takes any token, and shows this certificate. */
async function open(tls?: { cert: string; key: string }): Promise<void> {
	hub = await ScriptedHub.start(tls);
	hub.anyToken = true;
}

async function showing(tls: { cert: string; key: string }): Promise<void> {
	await hub.close();
	hub.tls = tls;
	await hub.open();
}

describe('a certificate that nobody but itself vouches for', () => {
	test('is trusted by its fingerprint in the token, whatever name it is for, and remembered', async () => {
		const pair = await certificate({ names: ['somebody.else'] });
		await open(pair);
		const first = start('--server', hub.url, '--token', tokenWith(pair.fingerprint));
		await first.untilPrinted(joined);
		expect(identity().pin).toBe(pair.fingerprint);
		await first.kill();
		// wss:// is another way to write it.
		await start('--server', hub.url.replace('https', 'wss')).untilPrinted(joined);
	});

	test('is refused with another fingerprint, and the token is not said to it', async () => {
		await open(await certificate());
		const agent = start('--server', hub.url, '--token', tokenWith('ab'.repeat(32)));
		expect(await agent.exit).toBe(3);
		expect(agent.stderr).toMatch(/^The service at \S+ does not show the certificate/m);
		expect(agent.stderr).toMatch(
			/robot-fleet doctor.*--fingerprint [0-9a-f]{64}, or with a new --token/,
		);
		expect(hub.requests).toBe(0);
	});

	test('that has changed is refused; the flag or a new token say that it is right', async () => {
		const [one, two, three] = [await certificate(), await certificate(), await certificate()];
		await open(one);
		const agent = start('--server', hub.url, '--token', tokenWith(one.fingerprint));
		await agent.untilPrinted(joined);
		await showing(two);
		await agent.untilPrinted(/^The service at \S+ does not show the certificate/m);
		expect(hub.hellos).toHaveLength(1);
		await agent.kill();

		const told = start('--server', hub.url, '--fingerprint', two.fingerprint);
		await told.untilPrinted(joined);
		await told.kill();
		await showing(three);
		const again = start('--server', hub.url, '--token', tokenWith(three.fingerprint));
		await again.untilPrinted(joined);
		expect(identity().pin).toBe(three.fingerprint);
		expect(hub.enrolments).toBe(1);
	});
});

describe('a certificate of an authority', () => {
	test('is checked by name and authority, and may be renewed without a word to the robot', async () => {
		const root = await authority();
		const ca = join(folder, 'ca.pem');
		writeFileSync(ca, root.cert);
		const address = ['127.0.0.1'];
		await open(await certificate({ authority: root, addresses: address }));
		const flags = ['--server', hub.url, '--ca', ca];
		const agent = start(...flags, '--token', tokenWith('-'));
		await agent.untilPrinted(joined);
		await showing(await certificate({ authority: root, addresses: address }));
		await hub.untilConnected();
		expect(hub.hellos).toHaveLength(2);
	});

	test.each<[string, { known: boolean; name: string; days: number }, string]>([
		[
			'of an unknown authority',
			{ known: false, name: '127.0.0.1', days: 30 },
			'unknown to this machine',
		],
		['for another name', { known: true, name: '127.0.0.9', days: 30 }, 'it is for another name'],
		['that has expired', { known: true, name: '127.0.0.1', days: -1 }, 'it has expired'],
	])('one %s is refused in one sentence, and the token is not said to it', async (_, harm, why) => {
		const root = await authority();
		const ca = join(folder, 'ca.pem');
		writeFileSync(ca, root.cert);
		await open(await certificate({ authority: root, addresses: [harm.name], days: harm.days }));
		const agent = start(
			...['--server', hub.url, '--token', tokenWith('-')],
			...(harm.known ? ['--ca', ca] : []),
		);
		expect(await agent.exit).toBe(3);
		expect(agent.stderr).toMatch(/^The certificate of the service at \S+ cannot be trusted/m);
		expect(agent.stderr).toContain(why);
		expect(hub.requests).toBe(0);
	});

	test('a file with the authority that is none, and a fingerprint that is none, are said together', async () => {
		await open();
		const agent = start('--server', hub.url, '--ca', '/nowhere', '--fingerprint', 'abc');
		expect(await agent.exit).toBe(2);
		expect(agent.stderr).toMatch(/--fingerprint must be the SHA-256/);
		expect(agent.stderr).toMatch(/--ca \/nowhere must be a file with a certificate/);
	});
});

describe('a proxy', () => {
	test('is gone through when HTTPS_PROXY says so; nothing but the address is said to it', async () => {
		const pair = await certificate();
		await open(pair);
		await using proxy = await Proxy.open();
		const args = ['--server', hub.url, '--token', tokenWith(pair.fingerprint)];
		const agent = startWith(
			{ HTTPS_PROXY: `http://me:pass%20word@127.0.0.1:${proxy.port}` },
			...args,
		);
		await agent.untilPrinted(joined);
		const at = new URL(hub.url).host;
		expect(proxy.asked).toEqual([
			// To enroll, and for the link.
			{ at, login: 'me:pass word' },
			{ at, login: 'me:pass word' },
		]);
		expect(agent.stderr).not.toContain('pass');
	});

	test('is left alone where NO_PROXY names the service', async () => {
		const pair = await certificate();
		await open(pair);
		const env = { HTTPS_PROXY: 'http://127.0.0.1:1', NO_PROXY: 'localhost, 127.0.0.1' };
		const args = ['--server', hub.url, '--token', tokenWith(pair.fingerprint)];
		await startWith(env, ...args).untilPrinted(joined);
	});

	test('that says no is named, and tried again', async () => {
		const pair = await certificate();
		await open(pair);
		await using proxy = await Proxy.open(407);
		const args = ['--server', hub.url, '--token', tokenWith(pair.fingerprint)];
		const agent = startWith({ https_proxy: `http://127.0.0.1:${proxy.port}` }, ...args);
		await agent.untilPrinted(/the proxy at 127\.0\.0\.1:\d+ answered 407/);
		expect(hub.requests).toBe(0);
	});
});

describe('an identity that is in use, or belongs, elsewhere', () => {
	test.each([
		[
			'on another machine',
			closeCodes.badMachine,
			/^The identity of "r1" belongs to another machine/m,
		],
		[
			'by another agent',
			closeCodes.tooMany,
			/^Another agent with the identity of "r1" is connected/m,
		],
	])(
		'%s: one sentence with the command, and a new token makes it a robot of its own',
		async (_, code, sentence) => {
			await open();
			const first = start('--server', hub.url, '--token', tokenWith('-'));
			await first.untilPrinted(joined);
			const token = tokenWith('-');
			await first.kill();
			hub.refuseHello = code;
			const held = start('--server', hub.url);
			await held.untilPrinted(sentence);
			expect(held.stderr).toContain(`robot-fleet-agent --server ${hub.url} --token TOKEN`);
			expect(held.stderr.match(new RegExp(sentence, 'gm'))).toHaveLength(1);
			await held.kill();
			const before = identity();
			const anew = start('--server', hub.url, '--token', token);
			await anew.untilPrinted(/enrolling anew/);
			hub.refuseHello = undefined;
			await hub.until('another identity', () => identity().privateKey !== before.privateKey);
			await hub.until('a second enrolment', () => hub.enrolments === 2);
		},
	);

	test('the token it has enrolled with already does not make it another robot', async () => {
		await open();
		const token = tokenWith('-');
		const first = start('--server', hub.url, '--token', token);
		await first.untilPrinted(joined);
		await first.kill();
		hub.refuseHello = closeCodes.tooMany;
		const back = start('--server', hub.url, '--token', token);
		await back.untilPrinted(/will try again/);
		expect(hub.enrolments).toBe(1);
	});

	test('nor does it in the very start in which it enrolls', async () => {
		await open();
		hub.refuseHello = closeCodes.tooMany;
		const agent = start('--server', hub.url, '--token', tokenWith('-'));
		await agent.untilPrinted(/will try again/);
		expect(hub.enrolments).toBe(1);
	});
});
