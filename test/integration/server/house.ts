/**
 * A real server on port 0 with a small whole engine behind it: the far end is faked, the sockets are
 * real. What the engine was asked is written down; what it answers can be replaced call by call.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { WebSocket } from 'ws';
import type { Caller, Engine, RobotSession } from '../../../dispatcher/engine';
import { systemClock } from '../../../dispatcher/engine/clock';
import { type Server, startServer, type ServerOptions } from '../../../dispatcher/server';
import {
	type Envelope,
	type Hello,
	helloProof,
	type Job,
	Problem,
	type Scope,
} from '../../../protocol';

export const jobOf = (more: Partial<Job> = {}): Job => ({
	jobId: 'job-1',
	kind: 'command',
	state: 'queued',
	cause: null,
	attempt: 0,
	robotId: null,
	client: null,
	priority: 'normal',
	progress: 0,
	message: null,
	waitingFor: null,
	result: null,
	error: null,
	createdAt: 1_700_000_000_000,
	startedAt: null,
	endedAt: null,
	cancelRequestedAt: null,
	retryOf: null,
	retriedAs: null,
	parentId: null,
	cell: null,
	children: null,
	shareKey: null,
	hold: null,
	dead: null,
	spec: { command: 'uname' },
	variables: {},
	target: {},
	timeouts: {},
	notBefore: null,
	output: { stdout: 0, stderr: 0, complete: false },
	createdBy: 'key:test',
	...more,
});

/** What came over the wire; the test says what it expects of it. */
export type Said = ReturnType<typeof JSON.parse>;

export interface Asked {
	call: string;
	args: unknown[];
}

/** Nobody but a door that speaks TLS looks there. */
const noFolder = '/nowhere';

/** Keys are called like their scopes: `read` reads, `read+cancel` does both. */
export function fakeEngine(more: Partial<Engine> = {}): { engine: Engine; asked: Asked[] } {
	const asked: Asked[] = [];
	const base: Partial<Engine> = {
		hubId: 'hub-1',
		readiness: 'ready',
		verifyKey(key): Caller {
			if (key === 'bad') throw new Problem('bad-key');
			return { keyId: key, name: key, scopes: key.split('+') as Scope[] };
		},
		job: async () => jobOf(),
		// Nothing is asked: it waits for as long as somebody listens.
		asks: (_jobId, known, over) =>
			new Promise((resolve) => {
				over.addEventListener('abort', () => resolve(known), { once: true });
			}),
		...more,
	};
	const engine = new Proxy(base, {
		get(target, name: keyof Engine) {
			const own = target[name] as unknown;
			if (name === 'hubId' || name === 'readiness' || name === 'verifyKey') return own;
			return (...args: unknown[]) => {
				asked.push({ call: name, args });
				if (typeof own === 'function') return (own as (...args: unknown[]) => unknown)(...args);
				return Promise.resolve(
					name === 'submit'
						? (args[0] as unknown[]).map((_job, i) => ({ jobId: `job-${i + 1}`, state: 'queued' }))
						: { answered: name },
				);
			};
		},
	}) as Engine;
	return { engine, asked };
}

export interface House extends AsyncDisposable {
	server: Server;
	asked: Asked[];
	logged: { text: string; facts?: object }[];
	ask(
		method: string,
		path: string,
		options?: { key?: string; body?: unknown; raw?: string; headers?: Record<string, string> },
	): Promise<{ status: number; body: Said; headers: Headers }>;
}

export async function openHouse(
	engineMore: Partial<Engine> = {},
	options: Partial<ServerOptions> = {},
): Promise<House> {
	const { engine, asked } = fakeEngine(engineMore);
	const logged: House['logged'] = [];
	const log = (text: string, facts?: object) => void logged.push({ text, facts });
	const server = await startServer({
		engine,
		clock: systemClock,
		log: { debug: () => undefined, info: log, warn: log, error: log },
		version: '0.0.0',
		host: '127.0.0.1',
		port: 0,
		settings: { port: 0 },
		tls: { folder: noFolder },
		takeBackup: async () => ({
			fileName: 'backup.tar',
			at: 0,
			async *bytes() {
				yield Buffer.from('a piece');
			},
			discard: () => undefined,
		}),
		...options,
	});
	return {
		server,
		asked,
		logged,
		async ask(method, path, { key = 'admin', body, raw, headers } = {}) {
			const text = raw ?? (body === undefined ? undefined : JSON.stringify(body));
			const answer = await fetch(server.url + path, {
				method,
				headers: {
					...(key === '' ? {} : { authorization: `Bearer ${key}` }),
					...(text === undefined ? {} : { 'content-type': 'application/json' }),
					...headers,
				},
				body: text,
			});
			const said = await answer.text();
			let parsed: unknown = said;
			try {
				parsed = said === '' ? undefined : JSON.parse(said);
			} catch {
				// Not JSON: the test looks at the text.
			}
			return { status: answer.status, body: parsed, headers: answer.headers };
		},
		[Symbol.asyncDispose]: () => server.close(),
	};
}

/**
 * Fails with what it waited for instead of hanging. Its time goes by in small pieces: while this process, which is
 * also what is waited for, does not run, it stands still but for one of them.
 */
export async function within<T>(what: string, promise: Promise<T>, ms = 5_000): Promise<T> {
	const patience = new AbortController();
	const late = async (): Promise<never> => {
		for (let left = ms; left > 0; left -= 20) {
			await systemClock.sleep(Math.min(left, 20), patience.signal);
			if (patience.signal.aborted) return undefined as never;
		}
		throw new Error(`waited ${ms} ms for ${what}`);
	};
	try {
		return await Promise.race([promise, late()]);
	} finally {
		patience.abort();
	}
}

export interface FakeRobot {
	robotId: string;
	publicKey: string;
	privateKey: KeyObject;
}

export function makeRobot(robotId = 'robot-1'): FakeRobot {
	const { publicKey, privateKey } = generateKeyPairSync('ed25519');
	return {
		robotId,
		publicKey: publicKey.export({ format: 'der', type: 'spki' }).toString('base64url'),
		privateKey,
	};
}

export const signText = (key: KeyObject, text: string) =>
	sign(null, Buffer.from(text), key).toString('base64url');

export function helloOf(
	robot: FakeRobot,
	nonce: string,
	more: Partial<Hello> = {},
	hubId = 'hub-1',
): Hello {
	return {
		robot_id: robot.robotId,
		protocol: 1,
		features: [],
		version: '0.1.0',
		journal_id: 'journal-1',
		boot_id: 'boot-1',
		signature: signText(robot.privateKey, helloProof(hubId, robot.robotId, nonce)),
		slots: 1,
		labels: {},
		capabilities: [],
		info: {},
		attempts: [],
		...more,
	};
}

/** A raw WebSocket with a queue of what it heard. */
export class RawLink implements AsyncDisposable {
	readonly socket: WebSocket;
	readonly closed: Promise<{ code: number; reason: string }>;
	readonly #heard: Envelope<string, Said>[] = [];
	#wake: () => void = () => undefined;
	#id = 0;

	/** `socket`: one that was opened in another way. */
	constructor(url: string, headers: Record<string, string> = {}, socket?: WebSocket) {
		this.socket =
			socket ?? new WebSocket(`${url.replace(/^http/, 'ws')}/api/v1/robots/link`, { headers });
		this.socket.on('error', () => undefined);
		this.socket.on('message', (data) => {
			this.#heard.push(JSON.parse(String(data)));
			this.#wake();
		});
		this.closed = new Promise((resolve) =>
			this.socket.once('close', (code, reason) => resolve({ code, reason: String(reason) })),
		);
	}

	async next(type?: string): Promise<Envelope<string, Said>> {
		const take = async () => {
			while (this.#heard.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
			return this.#heard.shift()!;
		};
		const message = await within(`a message ${type ?? ''}`, take());
		if (type !== undefined) expect(message).toMatchObject({ type });
		return message;
	}

	/** `answers` = the id of what it answers. */
	say(type: string, payload: unknown, answers?: string): string {
		const id = `m${++this.#id}`;
		const timestamp = '2026-01-01T00:00:00Z';
		this.socket.send(JSON.stringify({ type, id, timestamp, payload, correlation_id: answers }));
		return id;
	}

	async register(robot: FakeRobot): Promise<Envelope<string, Said>> {
		const { payload } = await this.next('connected');
		this.say('hello', helloOf(robot, payload.nonce));
		return this.next('robot_registered');
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.socket.terminate();
	}
}

/** A session that writes down what it was told. */
export function fakeSession(robotId = 'robot-1'): {
	session: RobotSession;
	told: [string, unknown][];
	wait(call: string): Promise<unknown>;
} {
	const told: [string, unknown][] = [];
	let wake: () => void = () => undefined;
	const tell = (call: string) => (message?: unknown) => {
		told.push([call, message]);
		wake();
	};
	return {
		told,
		async wait(call) {
			const find = async () => {
				for (;;) {
					const found = told.find(([name]) => name === call);
					if (found) return found[1];
					await new Promise<void>((resolve) => (wake = resolve));
				}
			};
			return within(`the session to be told ${call}`, find());
		},
		session: {
			robotId,
			name: 'build-01',
			verdicts: [],
			seen: () => undefined,
			accepted: tell('accepted'),
			rejected: tell('rejected'),
			result: tell('result'),
			status: tell('status'),
			inputAck: tell('inputAck'),
			prompt: tell('prompt'),
			output: tell('output'),
			fileRead: tell('fileRead'),
			fileOffer: tell('fileOffer'),
			fileBytes: tell('fileBytes'),
			heartbeat: tell('heartbeat'),
			facts: tell('facts'),
			pong: tell('pong'),
			takesNoMore: tell('takesNoMore'),
			takenUp: async () => undefined,
			closed: tell('closed'),
		},
	};
}
