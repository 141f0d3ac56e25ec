/**
 * The service's side of the robots' door, scripted: a real HTTP and WebSocket server that enrols,
 * checks proofs, hands out assignments and stores output by the rules of the protocol. It has no
 * store, no matching and no policy; the test tells it what to do wrong.
 */
import { createPublicKey, randomBytes, randomUUID, verify } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import {
	type AttemptRef,
	type Connected,
	enrolProof,
	type EnrolRequest,
	type HeldAttempt,
	type Hole,
	type Hello,
	helloProof,
	type HubMessages,
	type JobAssignment,
	type JobResultMessage,
	limits,
	paths,
	Problem,
	type ProblemCode,
	type ProtocolRange,
	protocolRange,
	type RobotMessages,
	type RobotRegistered,
	type Verdict,
} from '../../protocol';
import { decodeOutput, type Stream, streams } from '../../protocol/frames';
import { quietPort } from './programs';

export type Said = {
	[T in keyof RobotMessages]: {
		type: T;
		id: string;
		payload: RobotMessages[T];
		correlation_id?: string;
	};
}[keyof RobotMessages];

export interface HubAttempt {
	assignment: JobAssignment;
	/** Everything the robot said about it, in order. */
	said: string[];
	/** Holes are filled with zeros. */
	output: Record<Stream, Buffer>;
	holes: Record<Stream, Hole[]>;
	result: JobResultMessage | undefined;
	/** How often the result came. */
	results: number;
	/** Frames of output that came. */
	frames: number;
}

type Truthy<T> = Exclude<T, false | undefined | null | 0 | ''>;

export class ScriptedHub {
	readonly hubId = randomUUID();
	readonly token = `rf1.${randomBytes(4).toString('hex')}.${randomBytes(12).toString('hex')}.-`;
	/** Robot id by public key: the same key is the same robot. */
	readonly robots = new Map<string, { robotId: string; name: string }>();
	readonly attempts = new Map<string, HubAttempt>();
	/** Everything every robot said, hellos included. */
	readonly said: Said[] = [];
	readonly hellos: Hello[] = [];
	/** What it says it speaks. */
	protocol: ProtocolRange = protocolRange;
	heartbeatS = 15;
	ackResults = true;
	ackOutput = true;
	/** Answers heartbeats; false = plays dead on an open socket. */
	alive = true;
	maxOutputFrame: number = limits.maxOutputFrameBytes;
	outputWindow: number = limits.outputWindowBytes;
	/** Refuse the next enrolments with this problem. */
	refuseEnrolment: ProblemCode | undefined;
	/** Loses the answer of so many enrolments after taking them. */
	loseEnrolAnswers = 0;
	/** Close a hello with this code instead of answering it. */
	refuseHello: number | undefined;
	/** How often somebody enrolled. */
	enrolments = 0;
	/** Called for every attempt in a hello; default: what an honest hub says. */
	verdict: (held: HeldAttempt) => Verdict['act'] | undefined = () => undefined;
	/** Called for every output frame; false = drop it without a word. */
	takeFrame: (attempt: HubAttempt, stream: Stream, offset: number) => boolean = () => true;

	/** Shows this certificate from the next `open` on; undefined = speaks plain HTTP. */
	tls: { cert: string; key: string } | undefined;
	/** Takes every token. */
	anyToken = false;
	/** Calls that were heard, whatever they asked for. */
	requests = 0;

	readonly #changed = new EventEmitter().setMaxListeners(0);
	readonly #sockets = new Set<WebSocket>();
	#server: Server | undefined;
	#live: WebSocket | undefined;
	/** How often a robot was registered. */
	#registrations = 0;
	#port = 0;
	#epoch = 0;

	static async start(tls?: { cert: string; key: string }): Promise<ScriptedHub> {
		const hub = new ScriptedHub();
		hub.tls = tls;
		await hub.open();
		return hub;
	}

	get url(): string {
		return `${this.tls ? 'https' : 'http'}://127.0.0.1:${this.#port}`;
	}

	/** Listens, on the same port as before if there was one: while it is closed the kernel gives that to nobody. */
	async open(): Promise<void> {
		this.#port ||= await quietPort();
		const answer = (request: IncomingMessage, response: ServerResponse) => {
			this.requests += 1;
			void this.#answer(request, response);
		};
		const server = this.tls ? createTlsServer(this.tls, answer) : createServer(answer);
		const door = new WebSocketServer({ server, path: paths.robotLink, perMessageDeflate: false });
		door.on('connection', (socket) => this.#welcome(socket));
		await new Promise<void>((resolve, reject) => {
			server.once('error', reject);
			server.listen(this.#port, '127.0.0.1', resolve);
		});
		this.#port = (server.address() as AddressInfo).port;
		this.#server = server;
	}

	/** Stops listening and cuts every socket. */
	async close(): Promise<void> {
		const server = this.#server;
		this.#server = undefined;
		this.cut();
		server?.closeAllConnections();
		await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
	}

	/** Reads nothing any more, not even a goodbye; ends with the socket. */
	turnDeaf(): void {
		for (const socket of this.#sockets) socket.pause();
	}

	/** Cuts every socket without a goodbye. */
	cut(): void {
		for (const socket of this.#sockets) socket.terminate();
		this.#sockets.clear();
		this.#live = undefined;
	}

	/**
	 * Resolves with the first value that is not falsy; looks again whenever a robot did something,
	 * and now and then, for what shows only on disk.
	 */
	async until<T>(what: string, look: () => T, deadlineMs = 15_000): Promise<Truthy<T>> {
		return await new Promise((resolve, reject) => {
			const check = (): void => {
				const found = look();
				if (!found) return;
				clearTimeout(timer);
				clearInterval(again);
				this.#changed.off('change', check);
				resolve(found as Truthy<T>);
			};
			const again = setInterval(check, 25);
			const timer = setTimeout(() => {
				clearInterval(again);
				this.#changed.off('change', check);
				reject(new Error(`waited ${deadlineMs} ms for: ${what}; heard ${this.#summary()}`));
			}, deadlineMs);
			this.#changed.on('change', check);
			check();
		});
	}

	async untilConnected(): Promise<void> {
		await this.until('a live robot', () => this.#live);
	}

	/** A robot that comes from now on: the line of one that was just killed may still look alive. */
	nextRobot(): () => Promise<void> {
		const before = this.#registrations;
		return async () => {
			await this.until('a new robot', () => this.#registrations > before && this.#live);
		};
	}

	/** A new attempt of a new job, sent if a robot is there. */
	assign(spec: unknown, more: Partial<JobAssignment> = {}): HubAttempt {
		const assignment: JobAssignment = {
			job_id: randomUUID(),
			attempt: 1,
			epoch: ++this.#epoch,
			token: randomBytes(8).toString('hex'),
			kind: 'command',
			spec,
			variables: {},
			timeouts: { grace_ms: 500 },
			on_disconnect: 'continue',
			...more,
		};
		const attempt: HubAttempt = {
			assignment,
			said: [],
			output: { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) },
			holes: { stdout: [], stderr: [] },
			result: undefined,
			results: 0,
			frames: 0,
		};
		this.attempts.set(keyOf(assignment), attempt);
		this.send('job_assignment', assignment);
		return attempt;
	}

	async untilResult(attempt: HubAttempt, deadlineMs?: number): Promise<JobResultMessage> {
		return await this.until('a result', () => attempt.result, deadlineMs);
	}

	async untilSaid(attempt: HubAttempt, type: string): Promise<void> {
		await this.until(type, () => attempt.said.includes(type));
	}

	/** Waits until all output that the result announced is stored. */
	async untilComplete(attempt: HubAttempt, deadlineMs?: number): Promise<JobResultMessage> {
		return await this.until(
			'a result with all of its output',
			() =>
				attempt.result &&
				streams.every((one) => attempt.output[one].length === attempt.result!.output[one]) &&
				attempt.result,
			deadlineMs,
		);
	}

	cancel(attempt: HubAttempt, graceMs = 300): void {
		const { job_id, epoch, attempt: number, token } = attempt.assignment;
		this.send('cancel_job', {
			job_id,
			epoch,
			attempt: number,
			token,
			reason: 'cancelled',
			grace_ms: graceMs,
		});
	}

	revoke(attempt: HubAttempt): void {
		const { job_id, epoch, attempt: number, token } = attempt.assignment;
		this.send('revoke', { job_id, epoch, attempt: number, token });
	}

	/** False when no robot is there. */
	send<T extends keyof HubMessages>(type: T, payload: HubMessages[T]): boolean {
		return this.sendRaw(envelope(type, payload));
	}

	sendRaw(data: string | Buffer): boolean {
		this.#live?.send(data);
		return this.#live !== undefined;
	}

	async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
		const chunks: Buffer[] = [];
		for await (const chunk of request) chunks.push(chunk as Buffer);
		const refuse = (code: ProblemCode): void => {
			const problem = new Problem(code, { method: request.method!, path: request.url! });
			response.writeHead(problem.status, { 'content-type': 'application/json' });
			response.end(JSON.stringify({ error: problem.toBody() }));
		};
		if (request.url !== paths.robotEnrol) return refuse('no-such-route');
		const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as EnrolRequest;
		if (this.refuseEnrolment) return refuse(this.refuseEnrolment);
		if (body.token !== this.token && !this.anyToken) return refuse('bad-token');
		const proof = enrolProof(body.token, body.publicKey);
		if (!isSigned(body.publicKey, proof, body.signature)) return refuse('bad-proof');
		this.enrolments++;
		let robot = this.robots.get(body.publicKey);
		if (!robot) {
			robot = { robotId: randomUUID(), name: body.name ?? 'robot' };
			this.robots.set(body.publicKey, robot);
		}
		this.#changed.emit('change');
		if (this.loseEnrolAnswers > 0) {
			this.loseEnrolAnswers--;
			request.socket.destroy();
			return;
		}
		response.writeHead(200, { 'content-type': 'application/json' });
		response.end(JSON.stringify({ ...robot, hubId: this.hubId }));
	}

	#welcome(socket: WebSocket): void {
		this.#sockets.add(socket);
		const nonce = randomBytes(16).toString('base64url');
		const connected: Connected = { hub_id: this.hubId, protocol: this.protocol, nonce };
		socket.on('message', (data, isBinary) => {
			const bytes = data as Buffer;
			if (isBinary) this.#store(socket, bytes);
			else this.#hear(socket, JSON.parse(bytes.toString('utf8')) as Said, nonce);
			this.#changed.emit('change');
		});
		socket.on('close', () => {
			this.#sockets.delete(socket);
			if (this.#live === socket) this.#live = undefined;
			this.#changed.emit('change');
		});
		socket.on('error', () => undefined);
		socket.send(envelope('connected', connected));
	}

	#hear(socket: WebSocket, said: Said, nonce: string): void {
		this.said.push(said);
		if (said.type === 'hello') return this.#register(socket, said.payload, nonce);
		if (said.type === 'heartbeat' && this.alive) socket.send(envelope('heartbeat', {}));
		const named = said.payload as Partial<AttemptRef>;
		if (named.job_id === undefined) return;
		const attempt = this.attempts.get(keyOf(named as AttemptRef));
		if (attempt === undefined || attempt.assignment.token !== named.token) return;
		attempt.said.push(said.type);
		if (said.type !== 'job_result') return;
		attempt.results++;
		attempt.result = said.payload;
		for (const stream of streams) {
			const rest = said.payload.inline?.[stream];
			if (rest) this.#keep(attempt, stream, rest.offset, Buffer.from(rest.data_b64, 'base64'));
		}
		if (this.ackResults) this.ackResult(attempt, socket);
	}

	ackResult(attempt: HubAttempt, socket = this.#live): void {
		const { job_id, epoch } = attempt.assignment;
		const output = lengthsOf(attempt);
		const complete = streams.every((one) => output[one] === attempt.result?.output[one]);
		socket?.send(envelope('result_ack', { job_id, epoch, output, complete }));
	}

	#register(socket: WebSocket, hello: Hello, nonce: string): void {
		this.hellos.push(hello);
		const [publicKey, robot] =
			[...this.robots].find(([, known]) => known.robotId === hello.robot_id) ?? [];
		const proof = helloProof(this.hubId, hello.robot_id, nonce);
		if (this.refuseHello !== undefined) return socket.close(this.refuseHello, 'scripted');
		if (!robot || !isSigned(publicKey!, proof, hello.signature)) {
			return socket.close(4001, 'bad key');
		}
		const registered: RobotRegistered = {
			robot_id: robot.robotId,
			name: robot.name,
			hub_id: this.hubId,
			protocol: hello.protocol,
			heartbeat_interval: this.heartbeatS,
			limits: {
				max_output_frame: this.maxOutputFrame,
				max_control_frame: limits.maxControlFrameBytes,
				output_window: this.outputWindow,
			},
			verdicts: hello.attempts.map((held) => this.#judge(held)),
		};
		socket.send(envelope('robot_registered', registered));
		this.#live = socket;
		this.#registrations += 1;
	}

	#judge(held: HeldAttempt): Verdict {
		const attempt = this.attempts.get(keyOf(held));
		const { job_id, epoch } = held;
		if (attempt === undefined) {
			return { job_id, epoch, act: 'hold', output: { stdout: 0, stderr: 0 } };
		}
		const act = this.verdict(held) ?? (held.state === 'ended' ? 'send_result' : 'continue');
		return { job_id, epoch, act, output: lengthsOf(attempt) };
	}

	#store(socket: WebSocket, bytes: Buffer): void {
		const frame = decodeOutput(bytes);
		if (!frame) throw new Error('a robot sent a broken output frame');
		const attempt = this.attempts.get(keyOf({ job_id: frame.jobId, epoch: frame.epoch }));
		if (!attempt || !this.takeFrame(attempt, frame.stream, frame.offset)) return;
		attempt.frames++;
		const { gap } = frame;
		const had = attempt.output[frame.stream];
		if (gap && gap.from <= had.length && had.length < frame.offset) {
			const { reason } = gap;
			attempt.holes[frame.stream].push({ from: had.length, to: frame.offset, reason });
			attempt.output[frame.stream] = Buffer.concat([had, Buffer.alloc(frame.offset - had.length)]);
		}
		this.#keep(attempt, frame.stream, frame.offset, frame.data);
		if (!this.ackOutput) return;
		const { job_id, epoch } = attempt.assignment;
		const have = attempt.output[frame.stream].length;
		socket.send(envelope('output_ack', { job_id, epoch, stream: frame.stream, have }));
		if (attempt.result && this.ackResults) this.ackResult(attempt, socket);
	}

	/** The receiver's rule: only what begins where we are. */
	#keep(attempt: HubAttempt, stream: Stream, offset: number, data: Uint8Array): void {
		if (offset !== attempt.output[stream].length) return;
		attempt.output[stream] = Buffer.concat([attempt.output[stream], data]);
	}

	#summary(): string {
		const last = this.said.slice(-12).map((said) => said.type);
		return last.length > 0 ? last.join(', ') : 'nothing';
	}
}

function lengthsOf(attempt: HubAttempt): Record<Stream, number> {
	return { stdout: attempt.output.stdout.length, stderr: attempt.output.stderr.length };
}

function keyOf({ job_id, epoch }: Pick<AttemptRef, 'job_id' | 'epoch'>): string {
	return `${job_id}/${epoch}`;
}

function envelope<T extends keyof HubMessages>(type: T, payload: HubMessages[T]): string {
	const timestamp = new Date().toISOString();
	return JSON.stringify({ type, id: randomUUID(), timestamp, payload });
}

function isSigned(publicKey: string, text: string, signature: string): boolean {
	const key = createPublicKey({
		key: Buffer.from(publicKey, 'base64url'),
		format: 'der',
		type: 'spki',
	});
	return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'));
}
