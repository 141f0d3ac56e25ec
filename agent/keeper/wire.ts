/**
 * The agent's line to whoever keeps the programs: a process of its own behind a socket, found or started
 * here, or, where there can be none, the same code inside the agent.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect as dial } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../clock';
import { Desk } from './desk';
import type { ExitFiles } from './exits';
import { Keep } from './keep';
import { places } from './places';
import { Voice } from './voice';
import { type AgentWord, keeperVersion, type KeeperWord, Lines, parse } from './words';

export interface Wire {
	/** The other end is another process, and outlives this one. */
	readonly apart: boolean;
	say(word: AgentWord): void;
	/** What was said is still heard. Resolves when it is on its way. */
	close(): Promise<void>;
}

export interface Ears {
	hear(word: KeeperWord, wire: Wire): void;
	/** Nothing more comes. Not called after `close`. */
	gone(wire: Wire): void;
}

/** Longer than a keeper waits for an agent that seems to be still there. */
const welcomeMs = 10_000;
const launchMs = 10_000;
/** The address of a socket has room for at least 104 bytes, its terminator included. */
const maxAddressBytes = 103;
/** What a keeper needs; programs get an environment of their own with each start. */
const environment = 'PATH HOME USER LANG TMPDIR TEMP TMP SystemRoot NODE_PATH'.split(' ');

/** Whoever hung up on us may have been leaving, and a moment later nobody listens there any more. */
const dials = 3;
const redialMs = 50;

type Found = 'live' | 'nobody' | 'mute';

/** Whether a keeper listens there and welcomed us; `mute` = somebody listens, but it did not. */
export async function connect(folder: string, clock: Clock, ears: Ears): Promise<Found> {
	for (let left = dials; ;) {
		const found = await knock(folder, clock, ears);
		if (found !== 'hung-up') return found;
		if ((left -= 1) === 0) return 'mute';
		await clock.sleep(redialMs);
	}
}

async function knock(folder: string, clock: Clock, ears: Ears): Promise<Found | 'hung-up'> {
	if (!existsSync(join(folder, places.socket))) return 'nobody';
	const welcomed = Promise.withResolvers<Found | 'hung-up'>();
	const address = addressIn(folder);
	if (address === undefined) return 'nobody';
	let answered = false;
	const socket = dial(address.path);
	let state: 'greeting' | 'live' | 'over' = 'greeting';
	const voice = new Voice((text) => socket.write(text), clock);
	const wire: Wire = {
		apart: true,
		say: (word) => void voice.say(word),
		async close() {
			if (state === 'over') return;
			state = 'over';
			voice.flush();
			await new Promise<void>((done) => socket.end(() => done()).once('close', () => done()));
		},
	};
	const lines = new Lines(Infinity, (line) => {
		const word = parse(line) as KeeperWord | undefined;
		if (word === undefined) return;
		if (state === 'greeting' && word.say === 'welcome') {
			state = 'live';
			welcomed.resolve('live');
		}
		if (state === 'live') ears.hear(word, wire);
	});
	socket.setEncoding('utf8');
	socket.on('data', (text: unknown) => lines.push(text as string));
	socket.on('error', () => undefined);
	socket.on('connect', () => {
		answered = true;
		try {
			const secret = readFileSync(join(folder, places.secret), 'utf8');
			wire.say({ say: 'hello', version: keeperVersion, secret });
		} catch {
			// Without the secret nobody is welcome.
			socket.destroy();
		}
	});
	socket.on('close', () => {
		const before = state;
		state = 'over';
		welcomed.resolve(answered ? 'hung-up' : 'nobody');
		if (before === 'live') ears.gone(wire);
	});
	const over = new AbortController();
	void clock.sleep(welcomeMs, over.signal).then((late) => {
		if (!late) return;
		if (answered) welcomed.resolve('mute');
		socket.destroy();
	});
	try {
		return await welcomed.promise;
	} finally {
		over.abort();
		address.close();
	}
}

/** Starts a keeper; rejects with the reason when it does not come to listen. */
export async function launch(folder: string, program: string, clock: Clock): Promise<void> {
	makeSecret(folder);
	const log = openSync(join(folder, places.log), 'w', 0o600);
	let child: ChildProcess;
	try {
		child = spawn(
			process.execPath,
			['--max-old-space-size=64', '--max-semi-space-size=1', program],
			{
				cwd: folder,
				env: Object.fromEntries(environment.map((name) => [name, process.env[name]])),
				// A group of its own: what stops the agent in its terminal does not reach it.
				detached: true,
				windowsHide: true,
				stdio: ['ignore', 'pipe', log],
			},
		);
	} finally {
		closeSync(log);
	}
	const said = Promise.withResolvers<string | undefined>();
	child.once('error', (error) => said.resolve(error.message));
	child.once('exit', (code, signal) => said.resolve(`it ended with ${code ?? signal}`));
	child.stdout!.once('data', () => said.resolve(undefined));
	const over = new AbortController();
	void clock.sleep(launchMs, over.signal).then((late) => {
		if (late) said.resolve('it does not say that it is ready');
	});
	const wrong = await said.promise;
	over.abort();
	child.stdout!.destroy();
	child.unref();
	if (wrong === undefined) return;
	child.kill('SIGKILL');
	throw new Error(wrong);
}

/** The same work inside this process. */
export function inside(
	exits: ExitFiles,
	clock: Clock,
	ears: Ears,
	complain: (text: string) => void,
): Wire {
	const desk = new Desk(new Keep(exits, clock), clock, complain);
	const wire: Wire = {
		apart: false,
		say: (word) => setImmediate(() => desk.hear(word)),
		close: async () => desk.detach(),
	};
	desk.attach((word) => {
		queueMicrotask(() => ears.hear(word, wire));
		return true;
	});
	return wire;
}

function makeSecret(folder: string): void {
	mkdirSync(folder, { recursive: true, mode: 0o700 });
	const path = join(folder, places.secret);
	if (existsSync(path)) return;
	writeFileSync(path, randomBytes(32).toString('hex'), { mode: 0o600, flush: true });
}

/** The socket's address. A long one is shortened on Linux; elsewhere there is none. */
function addressIn(folder: string): { path: string; close(): void } | undefined {
	const path = join(folder, places.socket);
	if (Buffer.byteLength(path) <= maxAddressBytes) return { path, close: () => undefined };
	if (process.platform !== 'linux') return undefined;
	const handle = openSync(folder, 'r');
	return { path: `/proc/self/fd/${handle}/${places.socket}`, close: () => closeSync(handle) };
}
