/**
 * The one WebSocket to the service, carried by polls where there is no other way (dial.ts): dialled, proved,
 * kept alive, dialled again for ever.
 *
 *   dialling ── connected ──> greeted (hello sent) ── robot_registered ──> live ── closed ──┐
 *      ^──────────────── 1 s doubling to 60 s, full jitter; 30 s after a refusal ───────────┘
 *
 * Only a live line reaches the crew. Any frame counts as a sign of life; three heartbeats without
 * one and the line is cut, however healthy TCP believes it to be. Knows no job.
 */
import { randomUUID } from 'node:crypto';
import pRetry from 'p-retry';
import { type RawData, WebSocket } from 'ws';
import {
	chooseProtocol,
	closeCodes,
	type Connected,
	type Envelope,
	type Facts,
	type HeldAttempt,
	type Hello,
	helloProof,
	limits,
	paths,
	type ProtocolRange,
	protocolRange,
	rangeText,
	type RobotMessages,
	type RobotRegistered,
	type Transport,
} from '../protocol';
import {
	decodeFile,
	encodeFile,
	encodeOutput,
	type FileFrame,
	type OutputFrame,
	outputHeaderBytes,
} from '../protocol/frames';
import { backoffMs, type Clock } from './clock';
import type { WantedTransport } from './config';
import { type Barrier, dial, type Dialled, Transports } from './dial';
import type { VitalSigns } from './facts';
import { type HubMessage, readHubMessage } from './hub-messages';
import type { Identity } from './identity';
import type { Log } from './log';
import { NotTrusted, type Trust } from './trust';

/** Larger ones are allowed, but gain nothing, and each is in memory three times. */
const maxFrameBytes = 64 * 1024;
const slowRetryMs = 30_000;
const closeWaitMs = 1_000;

/** A live line. Words sent on one that has just died are lost, and said again on the next. */
export interface Line {
	send<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T], answers?: string): void;
	sendOutput(frame: OutputFrame): void;
	sendFile(frame: FileFrame): void;
	/** Most data bytes of one output frame. */
	readonly maxOutputBytes: number;
	/** A longer message ends the line. */
	readonly maxMessageBytes: number;
	/** What both sides can do. */
	readonly features: readonly string[];
}

/** Those on whose behalf the link speaks. */
export interface Crew {
	readonly held: HeldAttempt[];
	readonly status: { status: string; active_jobs: string[] };
	attach(line: Line, registered: RobotRegistered): void;
	/** `silentMs`: how long nothing had been heard by then. */
	detach(silentMs: number, heartbeatMs: number): void;
	receive(message: HubMessage): void;
	receiveFile(frame: FileFrame): void;
	/** Once a heartbeat. */
	tick(): void;
}

/** What is known about this machine; read at every connect. */
export interface FactsSource {
	readonly now: Facts;
	/** Looks again. */
	refresh(): Promise<void>;
}

export interface LinkParts {
	server: string;
	identity: Identity;
	/** Not used without TLS. */
	trust?: Trust;
	/** What hello says besides identity and proof. */
	self: Pick<
		Hello,
		| 'version'
		| 'journal_id'
		| 'boot_id'
		| 'machine_id'
		| 'features'
		| 'slots'
		| 'clients'
		| 'labels'
	>;
	facts: FactsSource;
	vitals: VitalSigns;
	/** The longest pause between heartbeats this robot's owner wants. */
	heartbeatMs: number | undefined;
	crew: Crew;
	clock: Clock;
	log: Log;
	/** How to reach the service; absent = auto. */
	transport?: WantedTransport;
	onLive(name: string, robotId: string, transport: Transport): void;
	/** There is no line, for this reason; said again with every try that fails. */
	onLost?(reason: string): void;
	/** What keeps the robot away is for its owner to fix. Said at each try. */
	onRefused?(sentence: string): void;
	/**
	 * Whether a token is at hand in case the identity does not fit. `elsewhere`: it is in use, or
	 * belongs, somewhere else, so that only a token made since then means this machine.
	 */
	canRejoin(why: 'refused' | 'elsewhere'): boolean;
	/** Opens the socket; over the real network unless another one is handed in. */
	dial?(url: string): WebSocket;
	/** When the service has dialled: says what is wrong with it, before it is told anything. */
	vouch?(connected: Connected, session: Session): Promise<string | undefined>;
	/** What the owner reads, by close code, where it differs from what a robot that dials is told. */
	refusals?: Readonly<Record<number, string>>;
}

/** The service does not take this robot as it is. The message is one sentence for the owner. */
export class LinkRefused extends Error {
	override readonly name = 'LinkRefused';
	/** True when waiting cannot help: the identity itself is not accepted, or a token is at hand. */
	readonly final: boolean;

	constructor(message: string, final = false) {
		super(message);
		this.final = final;
	}
}

/** What its owner reads, by close code. */
function refusalOf(code: number, { server, identity }: LinkParts): string | undefined {
	const name = identity.membership?.name ?? 'NAME';
	const anew = `make this machine a robot of its own: robot-fleet-agent --server ${server} --token TOKEN (made by: robot-fleet token create)`;
	switch (code) {
		case closeCodes.badKey:
			return 'The service does not accept the key of this robot (it was removed there, or the service has lost its data); enroll it again with --token TOKEN.';
		case closeCodes.badMachine:
			return `The identity of "${name}" belongs to another machine, its data folder was copied or moved here; ${anew}; or, if it moved for good, let the operator say: robot-fleet robots allow-move ${name}.`;
		case closeCodes.badProtocol:
			return 'The service does not speak the protocol of this agent; update the older of the two.';
		case closeCodes.notYours:
			return 'The service says that this identity is not one of its own; enroll this machine as a new robot.';
		case closeCodes.tooMany:
			return `Another agent with the identity of "${name}" is connected, so this data folder is a copy or its agent runs twice; stop the other one, or ${anew}. If there is no other one, this one is let in within a minute.`;
	}
	return undefined;
}

const update = {
	agent: 'update this agent: npm install -g robot-fleet-agent@latest',
	service: 'update the service, or install the agent of its version here',
};

function unlike(theirs: ProtocolRange): string {
	const older = theirs.min > protocolRange.max ? 'agent' : 'service';
	return `This agent speaks protocol ${rangeText(protocolRange)}, the service ${rangeText(theirs)}; ${update[older]}.`;
}

export class Link {
	readonly #parts: LinkParts;
	readonly #ending = new AbortController();
	#session: Session | undefined;

	constructor(parts: LinkParts) {
		this.#parts = parts;
	}

	/** Keeps the line up until `close`. Rejects with a final `LinkRefused` when the identity is not accepted. */
	async run(): Promise<void> {
		const { clock, log } = this.#parts;
		const { signal } = this.#ending;
		const transports = new Transports(this.#parts.transport ?? 'auto', clock);
		let failures = 0;
		let returnWithinMs: number | undefined;
		try {
			await pRetry(
				async () => {
					const transport = transports.next();
					const session = new Session(this.#parts, transport);
					this.#session = session;
					if (signal.aborted) session.close();
					try {
						await session.closed;
					} finally {
						this.#session = undefined;
						transports.ended(transport, session);
						if (session.wasLive) failures = 0;
						returnWithinMs = session.returnWithinMs;
					}
				},
				{
					retries: Infinity,
					signal,
					// Our own jitter below; the library's is neither full nor ours to test.
					minTimeout: 0,
					shouldRetry: ({ error }) => !(error instanceof LinkRefused && error.final),
					onFailedAttempt: async ({ error }) => {
						if (!signal.aborted) this.#parts.onLost?.(error.message);
						const refused = error instanceof LinkRefused;
						if (signal.aborted || (refused && error.final)) return;
						const { reconnectMinMs, reconnectMaxMs } = limits;
						const waitMs = refused
							? slowRetryMs
							: returnWithinMs !== undefined
								? Math.round(clock.chance() * returnWithinMs)
								: backoffMs(failures++, reconnectMinMs, reconnectMaxMs, clock.chance());
						if (refused) this.#parts.onRefused?.(error.message);
						log[refused ? 'error' : 'warn'](
							{ reason: error.message, waitMs },
							'no link to the service, will try again',
						);
						await clock.sleep(waitMs, signal);
					},
				},
			);
		} catch (error) {
			if (!signal.aborted) throw error;
		}
	}

	/** More is known about this machine than the service was told. */
	tellFacts(): void {
		this.#session?.tellFacts();
	}

	/** Says goodbye on the socket; `run` resolves. */
	async close(): Promise<void> {
		this.#ending.abort();
		const session = this.#session;
		if (session === undefined) return;
		session.close();
		const gone = new AbortController();
		void session.closed.catch(() => undefined).then(() => gone.abort());
		if (await this.#parts.clock.sleep(closeWaitMs, gone.signal))
			session.cut('closing takes too long');
	}
}

/** One socket, from dialling to its end. */
export class Session implements Line {
	/** Always rejects in the end: with the reason why there is no line any more. */
	readonly closed: Promise<never>;
	maxOutputBytes = maxFrameBytes - outputHeaderBytes;
	maxMessageBytes: number = limits.maxControlFrameBytes;
	features: readonly string[] = [];
	readonly #parts: LinkParts;
	readonly #transport: Transport;
	readonly #dialled: Dialled;
	readonly #socket: WebSocket;
	readonly #over = new AbortController();
	#stage: 'dialling' | 'judging' | 'greeted' | 'live' = 'dialling';
	#heartbeatMs: number = limits.heartbeatMs;
	#heardAt: number;
	#reason: string | undefined;
	#refusal: LinkRefused | undefined;
	#returnWithinMs: number | undefined;
	/** What the service knows about this machine. */
	#told = '';
	#takesFacts = false;
	/** The service speaks a newer protocol than we know. */
	#newer = false;
	#heard = false;
	/** When the heartbeats that have no answer yet were sent, and how long the last answer took. */
	readonly #beatsAt: number[] = [];
	#roundTripMs: number | undefined;

	constructor(parts: LinkParts, transport: Transport) {
		this.#parts = parts;
		this.#transport = transport;
		this.#heardAt = parts.clock.monotonic();
		const url = parts.server.replace(/^http/, 'ws') + paths.robotLink;
		this.#dialled = parts.dial
			? { socket: parts.dial(url), barrier: () => 0 }
			: dial(transport, parts);
		this.#socket = this.#dialled.socket;
		this.closed = new Promise((_, reject) => {
			this.#socket.once('close', (code, reason) => {
				this.#end();
				reject(this.#whyClosed(code, reason.toString('utf8')));
			});
		});
		this.#socket.on('error', (error) => {
			if (error instanceof NotTrusted) this.#refusal ??= new LinkRefused(error.message);
			this.#reason ??= error.message;
		});
		this.#socket.on('message', (data, isBinary) => this.#hear(data, isBinary));
		for (const event of ['ping', 'pong'] as const) this.#socket.on(event, () => this.#sign());
		void parts.clock.sleep(2 * limits.authenticateMs, this.#over.signal).then((late) => {
			if (late && this.#stage !== 'live') this.cut('the service did not greet in time');
		});
	}

	get wasLive(): boolean {
		return this.#stage === 'live';
	}

	/** The service has spoken. */
	get heard(): boolean {
		return this.#heard;
	}

	get barrier(): Barrier {
		return this.#dialled.barrier();
	}

	/** Set by a service that said goodbye: it will be back, and wants its robots spread over this time. */
	get returnWithinMs(): number | undefined {
		return this.#returnWithinMs;
	}

	send<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T], answers?: string): void {
		if (this.#socket.readyState !== WebSocket.OPEN) return;
		const envelope: Envelope<T, RobotMessages[T]> = {
			type,
			id: randomUUID(),
			timestamp: new Date(this.#parts.clock.now()).toISOString(),
			payload,
		};
		if (answers) envelope.correlation_id = answers;
		this.#socket.send(JSON.stringify(envelope));
	}

	/** With `answers` even if there is nothing new. */
	tellFacts(answers?: string): void {
		if (this.#stage !== 'live' || !this.#takesFacts) return;
		const facts = this.#parts.facts.now;
		const text = JSON.stringify(facts);
		if (text === this.#told && answers === undefined) return;
		this.#told = text;
		this.send('facts', facts, answers);
	}

	sendOutput(frame: OutputFrame): void {
		if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(encodeOutput(frame));
	}

	sendFile(frame: FileFrame): void {
		if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(encodeFile(frame));
	}

	close(): void {
		this.#reason ??= 'the agent closed it';
		this.#socket.close(closeCodes.goodbye, 'the agent is stopping');
	}

	cut(reason: string): void {
		this.#reason ??= reason;
		this.#socket.terminate();
	}

	#end(): void {
		this.#over.abort();
		if (this.#stage !== 'live') return;
		const silentMs = this.#parts.clock.monotonic() - this.#heardAt;
		this.#parts.crew.detach(silentMs, this.#heartbeatMs);
	}

	#whyClosed(code: number, reason: string): Error {
		if (this.#refusal !== undefined) return this.#refusal;
		const said = reason.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
		const refusal = this.#parts.refusals?.[code] ?? refusalOf(code, this.#parts);
		if (refusal !== undefined) {
			const elsewhere = code === closeCodes.badMachine || code === closeCodes.tooMany;
			const final = code === closeCodes.badKey || (elsewhere && this.#parts.canRejoin('elsewhere'));
			return new LinkRefused(said ? `${refusal} (${said})` : refusal, final);
		}
		return new Error(this.#reason ?? `the service closed the line (${code} ${said})`.trim());
	}

	#sign(): void {
		this.#heardAt = this.#parts.clock.monotonic();
	}

	#hear(data: RawData, isBinary: boolean): void {
		this.#sign();
		if (isBinary) return this.#hearFile(data as Buffer);
		const heard = readHubMessage(data.toString());
		if (!heard.ok) {
			// What a newer service says beyond the version we chose is not meant for us.
			if (this.#newer && heard.code === 'unknown-message') return;
			this.#parts.log.warn({ type: heard.type, reason: heard.reason }, 'message not understood');
			// Two sides that answer each other's complaints would never stop.
			if (heard.type !== 'error') this.#complain(heard.code, heard.reason, heard.id);
			return;
		}
		const { message } = heard;
		if (message.type === 'error') {
			const { code, text } = message.payload;
			this.#reason ??= this.#stage === 'live' ? undefined : `the service says: ${text}`;
			this.#parts.log.warn({ code, text }, 'the service reports an error');
		} else if (message.type === 'connected' && this.#stage === 'dialling') {
			if (this.#parts.vouch === undefined) this.#greet(message.payload);
			else void this.#judge(message.payload);
		} else if (message.type === 'robot_registered' && this.#stage === 'greeted') {
			this.#goLive(message.payload);
		} else if (this.#stage === 'live') {
			if (message.type === 'heartbeat') this.#answered();
			const control = message.type === 'control' ? message.payload : undefined;
			if (control?.action === 'refresh') void this.#refresh(message.id);
			else if (control?.action === 'goodbye') {
				const withinMs = control.reconnect_within_ms ?? limits.reconnectMinMs;
				this.#returnWithinMs = Math.min(withinMs, limits.reconnectMaxMs);
			} else this.#parts.crew.receive(message);
		}
	}

	#hearFile(data: Buffer): void {
		const frame = decodeFile(data);
		if (frame === undefined || this.#stage !== 'live') {
			return this.#complain('bad-message', 'this is not an intact frame of a file', undefined);
		}
		this.#parts.crew.receiveFile(frame);
	}

	#complain(
		code: 'bad-message' | 'unknown-message',
		text: string,
		answers: string | undefined,
	): void {
		this.send('error', { code, text, retry: false, details: {} }, answers);
	}

	async #judge(connected: Connected): Promise<void> {
		this.#stage = 'judging';
		let wrong: string | undefined;
		try {
			wrong = await this.#parts.vouch!(connected, this);
		} catch (error) {
			// Its identity cannot be written, perhaps.
			return this.cut((error as Error).message);
		}
		if (this.#over.signal.aborted) return;
		if (wrong === undefined) return this.#greet(connected);
		this.#refusal = new LinkRefused(wrong);
		this.#socket.close(closeCodes.notYours, 'another service is trusted here');
	}

	#greet(connected: Connected): void {
		this.#heard = true;
		const { identity, self, crew, facts, canRejoin, vouch } = this.#parts;
		const membership = identity.membership!;
		if (connected.hub_id !== membership.hubId) {
			const message =
				'The service that answers there is not the one this robot is enrolled with; enroll it there with --token TOKEN.';
			// It may be a proxy that points elsewhere for a while, or a service that was started without its data:
			// final only if there is something to do. The token that this robot enrolled with is of no use there.
			this.#refusal = new LinkRefused(message, canRejoin('elsewhere'));
			return this.cut(message);
		}
		const protocol = chooseProtocol(protocolRange, connected.protocol);
		if (protocol === undefined) {
			// Whoever updates one of the two need not touch the other: we look again now and then.
			this.#refusal = new LinkRefused(unlike(connected.protocol));
			return this.cut(this.#refusal.message);
		}
		this.#newer = connected.protocol.max > protocolRange.max;
		this.#stage = 'greeted';
		const known = facts.now;
		this.#told = JSON.stringify(known);
		this.send('hello', {
			...self,
			...known,
			robot_id: membership.robotId,
			protocol,
			protocol_range: protocolRange,
			signature: identity.sign(helloProof(membership.hubId, membership.robotId, connected.nonce)),
			attempts: crew.held,
			...(vouch && { public_key: identity.publicKey }),
		});
	}

	#goLive(registered: RobotRegistered): void {
		const { crew, onLive, heartbeatMs } = this.#parts;
		this.#stage = 'live';
		this.#takesFacts = registered.features?.includes('facts') ?? false;
		this.#heartbeatMs = Math.min(registered.heartbeat_interval * 1_000, heartbeatMs ?? Infinity);
		const maxFrame = Math.min(maxFrameBytes, registered.limits.max_output_frame);
		this.maxOutputBytes = Math.max(1, maxFrame - outputHeaderBytes);
		this.maxMessageBytes = registered.limits.max_control_frame;
		this.features = registered.features ?? [];
		crew.attach(this, registered);
		onLive(registered.name, registered.robot_id, this.#transport);
		// More may have been found since hello.
		this.tellFacts();
		void this.#keepAlive();
	}

	/** Beats, and cuts a silent line as soon as three heartbeats are over, not at the beat after them. */
	async #keepAlive(): Promise<void> {
		const { clock, crew } = this.#parts;
		const patienceMs = limits.missedHeartbeats * this.#heartbeatMs;
		// A random first beat: robots that came back together do not beat together.
		let beatAt = clock.monotonic() + this.#heartbeatMs * clock.chance();
		for (;;) {
			const nextAt = Math.min(beatAt, this.#heardAt + patienceMs);
			if (!(await clock.sleep(nextAt - clock.monotonic(), this.#over.signal))) return;
			const now = clock.monotonic();
			if (now >= this.#heardAt + patienceMs) {
				return this.cut('nothing was heard for three heartbeats');
			}
			if (now < beatAt) continue;
			await this.#beat();
			crew.tick();
			beatAt = now + this.#heartbeatMs;
		}
	}

	async #refresh(asked: string): Promise<void> {
		void this.#beat();
		await this.#parts.facts.refresh();
		this.tellFacts(asked);
	}

	async #beat(): Promise<void> {
		const { vitals, crew, clock } = this.#parts;
		const health = await vitals.read();
		const trip = this.#roundTripMs === undefined ? {} : { round_trip_ms: this.#roundTripMs };
		// Before it is sent: on a busy machine the answer may be there before this program runs again.
		this.#beatsAt.push(clock.monotonic());
		this.send('heartbeat', { ...crew.status, ...health, ...trip });
	}

	/** Each heartbeat gets one answer, in order. */
	#answered(): void {
		const sentAt = this.#beatsAt.shift();
		if (sentAt === undefined) return;
		this.#roundTripMs = Math.round((this.#parts.clock.monotonic() - sentAt) * 10) / 10;
	}
}
