/**
 * One robot's socket, from the first byte to the last.
 *
 *   new ── hello ──> proving ── robot_registered ──> registered
 *    └──────────┴────────── closed ─────────────────────┘
 *
 * It knows frames, signatures and close codes; what a message means for a job is the session's.
 * Thousands of small messages a second pass here: one parse, one compiled check, one call; answers
 * are glued from a prefix and one `JSON.stringify`, with ids from a counter.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { type RawData, WebSocket } from 'ws';
import {
	chooseProtocol,
	type CancelJob,
	closeCodes,
	type Control,
	type FileInfo,
	type FileKept,
	type FileRefused,
	type FileWant,
	type Dialled,
	type Hello,
	helloProof,
	type HubMessages,
	type InputMessage,
	type JobAssignment,
	limits,
	type OutputAck,
	type OutputCredit,
	Problem,
	protocolRange,
	rangeText,
	type Resize,
	type ResultAck,
	type Revoke,
	type RobotMessages,
	type RobotRegistered,
	sharedFeatures,
	simulatedFeature,
	type Transport,
	wireFeatures,
} from '../../protocol';
import { kinds } from '../../kinds';
import {
	decodeFile,
	decodeOutput,
	encodeFile,
	type FileFrame,
	isFileFrame,
} from '../../protocol/frames';
import { robots, validatorOf, type Validator } from '../../protocol/schemas';
import type { RobotSession, RobotSink } from '../engine';
import { fingerprintOfKey } from '../engine/hub-key';
import { maxLoggedChars, Sparing } from '../engine/sparing';
import { failPoint } from '../store/fail-points';
import { problemOf } from './app';
import type { House } from './door';
import { proves } from './fleet-doors';
import { PolledSocket } from './poll-lines';

const validators = Object.fromEntries(
	Object.entries(robots.robotMessages).map(([type, schema]) => [
		type,
		validatorOf(schema, 'payload'),
	]),
) as unknown as { [T in keyof RobotMessages]: Validator<RobotMessages[T]> };

/** A robot names the kinds it can do; we name those we know, and the features of the wire. */
const hubFeatures = [
	...wireFeatures,
	simulatedFeature,
	...[...kinds.keys()].map((kind) => `kind:${kind}`),
];

/**
 * What a robot may have said that the engine has not taken up yet, in portions of this many messages or bytes: enough
 * work for several turns. Beyond that we stop reading from it, so that it neither holds up others nor fills our memory.
 */
const portionMessages = 256;
const portionBytes = 1024 * 1024;
const maxPortions = 4;

/** A robot that does not read its socket is as good as gone, and must not fill our memory. */
const maxUnsentBytes = 16 * 1024 * 1024;

/** How often somebody who has proved nothing may be refused: nonsense costs us as much as sense. */
const maxNonsense = 8;
/** And how often per minute a robot may be: some of its nonsense may be another version's sense. */
const maxNonsensePerMinute = 1_000;
const minuteMs = 60_000;

/** The door that keeps all links. */
export interface LinkKeeper {
	/** The robot has proved its key. */
	proved(link: RobotLink): void;
	closed(link: RobotLink): void;
}

/** The robot that the service has dialled: only this one will do. */
export interface Expected {
	readonly robotId: string;
	readonly name: string;
	/** SHA-256 of its public key. */
	readonly fingerprint: string;
	/** What the hub says for itself. */
	readonly greeting: Dialled;
	/** The robot has proved its key and is registered. */
	live(): void;
	/** It was turned away, for this. */
	refused(problem: Problem): void;
}

/**
 * A socket that knows its link, so that all sockets share the same few listeners: thousands are idle,
 * and closures of their own would be a good part of what each costs.
 */
export class RobotSocket extends WebSocket {
	link: RobotLink | undefined;

	/** From now on the link hears what comes. */
	serve(link: RobotLink): void {
		this.link = link;
		this.on('message', heard);
		this.on('pong', answered);
		this.on('ping', alive);
		this.on('close', closed);
		this.on('error', failed);
	}
}

const linkOf = (socket: WebSocket) => (socket as RobotSocket).link;

function heard(this: WebSocket, data: RawData, isBinary: boolean): void {
	linkOf(this)?.receive(data, isBinary);
}

function alive(this: WebSocket): void {
	linkOf(this)?.alive();
}

function answered(this: WebSocket): void {
	linkOf(this)?.answered();
}

function closed(this: WebSocket): void {
	linkOf(this)?.closed();
}

function failed(this: WebSocket, error: Error): void {
	linkOf(this)?.failed(error);
}

export class RobotLink implements RobotSink {
	readonly #socket: RobotSocket;
	/** What lies below the socket, so that several messages can leave as one packet. */
	readonly #wire: Duplex;
	#corked = false;
	/** Its place in the order in which sockets were opened. */
	readonly #number: number;
	readonly #house: House;
	readonly #keeper: LinkKeeper;
	readonly #expected: Expected | undefined;
	readonly #heartbeatMs: number;
	/** Good for one proof. */
	#nonce = randomBytes(32).toString('base64url');
	readonly #idPrefix = randomBytes(6).toString('base64url');
	/** The agent speaks a newer version than we do. */
	#newer = false;
	/** What both can do. */
	#features: string[] = [];
	/** For logging what it says about itself. */
	#lines: Sparing | undefined;
	#state: 'new' | 'proving' | 'registered' | 'closed' = 'new';
	#session: RobotSession | undefined;
	/** Holds what the engine says until the robot has heard `robot_registered`. */
	#early: string[] | undefined = [];
	#lastId = 0;
	#nonsense = 0;
	/** Since when it is counted. */
	#nonsenseSince = -Infinity;
	#stampAt = 0;
	#stamp = '';
	/** Called when a ping is answered. */
	#answered: (() => void) | undefined;
	readonly #address: string;
	/** Monotonic; read by the sweep. */
	seenAt: number;
	openedAt: number;
	/** When it was told to go: from then on we are deaf to it, and give it up soon after. */
	closingAt: number | undefined;
	/** Said since the last portion. */
	#messages = 0;
	#bytes = 0;
	/** Portions that the engine has not taken up yet. */
	#portions = 0;

	constructor(
		socket: RobotSocket,
		wire: Duplex,
		number: number,
		address: string,
		house: House,
		heartbeatMs: number,
		keeper: LinkKeeper,
		expected?: Expected,
	) {
		this.#socket = socket;
		this.#wire = wire;
		this.#number = number;
		this.#address = address;
		this.#house = house;
		this.#heartbeatMs = heartbeatMs;
		this.#keeper = keeper;
		this.#expected = expected;
		this.openedAt = this.seenAt = house.clock.monotonic();
		socket.serve(this);
		this.#say('connected', {
			hub_id: house.engine.hubId,
			protocol: protocolRange,
			features: [...hubFeatures],
			nonce: this.#nonce,
			...(expected && { dialled: expected.greeting }),
		});
	}

	get proved(): boolean {
		return this.#state === 'registered';
	}

	close(code: number, reason: string): void {
		this.closingAt ??= this.#house.clock.monotonic();
		this.#socket.close(code, reason.slice(0, 120));
	}

	/** The robot carries on, and comes back at a time of its own choosing within this span. */
	goodbye(text: string, withinMs: number): void {
		if (this.#state === 'registered') {
			const spread = this.#features.includes('goodbye-within');
			this.#say('control', {
				action: 'goodbye',
				text,
				...(spread ? { reconnect_within_ms: withinMs } : {}),
			});
		}
		this.close(closeCodes.goodbye, text);
	}

	/** We are not reading from it for now, so its silence means nothing. */
	get isUnread(): boolean {
		return this.#portions >= maxPortions;
	}

	/** Without a goodbye: for sockets whose other end no longer answers. */
	terminate(): void {
		this.#socket.terminate();
	}

	ping(then?: () => void): void {
		this.#answered ??= then;
		this.#socket.ping();
	}

	answered(): void {
		this.alive();
		const then = this.#answered;
		this.#answered = undefined;
		then?.();
	}

	alive(): void {
		this.seenAt = this.#house.clock.monotonic();
		this.#session?.seen();
	}

	/** Counts by portions, so that a single message costs no promise. */
	#count(bytes: number, session: RobotSession): void {
		this.#messages += 1;
		this.#bytes += bytes;
		if (this.#messages < portionMessages && this.#bytes < portionBytes) return;
		this.#messages = this.#bytes = 0;
		this.#portions += 1;
		// What has already arrived still comes through.
		if (this.#portions === maxPortions) this.#socket.pause();
		void session.takenUp().then(() => {
			this.#portions -= 1;
			if (this.#portions !== maxPortions - 1) return;
			this.alive();
			this.#socket.resume();
		});
	}

	receive(data: RawData, isBinary: boolean): void {
		if (this.closingAt !== undefined) return;
		this.alive();
		// Output and files have bounds of their own.
		if (!isBinary && this.#session) this.#count((data as Buffer).length, this.#session);
		let id: string | undefined;
		try {
			if (isBinary) return this.#takeBytes(data as Buffer);
			const { type, payload, id: given, answers } = envelopeOf((data as Buffer).toString('utf8'));
			id = given;
			const validator = Object.hasOwn(validators, type)
				? validators[type as keyof RobotMessages]
				: undefined;
			if (!validator) {
				// What a newer agent says beyond the version we chose is not meant for us.
				if (this.#newer) return;
				throw new Problem('unknown-message', { type: type.slice(0, 64) });
			}
			const mistake = validator.mistake(payload);
			if (mistake && this.#newer && type === 'control') return;
			if (mistake)
				throw new Problem('bad-message', {
					reason: `${type}: ${mistake.message.replace(/\.$/, '')}`,
				});
			this.#route(type as keyof RobotMessages, payload, id, answers);
		} catch (error) {
			const problem = this.#refuse(error, id);
			if (this.#hasPatience()) return;
			const { code } = problem;
			if (this.#session) {
				const { robotId } = this.#session;
				this.#house.log.warn('a robot that sends nonsense is disconnected', { robotId, code });
			}
			this.close(closeCodeOf(problem), code);
		}
	}

	/** Counts one more piece of nonsense; false = that was too many. */
	#hasPatience(): boolean {
		if (!this.proved) return ++this.#nonsense < maxNonsense;
		const now = this.#house.clock.monotonic();
		if (now - this.#nonsenseSince >= minuteMs) {
			this.#nonsenseSince = now;
			this.#nonsense = 0;
		}
		return ++this.#nonsense < maxNonsensePerMinute;
	}

	#route(
		type: keyof RobotMessages,
		payload: unknown,
		id: string | undefined,
		answers: string | undefined,
	): void {
		if (type === 'hello') {
			if (this.#state !== 'new')
				throw new Problem('bad-message', { reason: 'hello was already said' });
			this.#state = 'proving';
			void this.#register(payload as Hello, id);
			return;
		}
		const session = this.#session;
		if (this.#state !== 'registered' || !session) {
			throw new Problem('bad-message', { reason: 'say hello first and wait for robot_registered' });
		}
		switch (type) {
			case 'heartbeat':
				session.heartbeat(metricsOf(payload as RobotMessages['heartbeat']));
				return this.#say('heartbeat', {}, id);
			case 'job_accepted':
				failPoint('link:accepted');
				return session.accepted(payload as RobotMessages['job_accepted']);
			case 'job_rejected':
				return session.rejected(payload as RobotMessages['job_rejected']);
			case 'job_result':
				failPoint('link:result');
				return session.result(payload as RobotMessages['job_result']);
			case 'status_update':
				return session.status(payload as RobotMessages['status_update']);
			case 'input_ack':
				return session.inputAck(payload as RobotMessages['input_ack']);
			case 'prompt':
				return session.prompt(payload as RobotMessages['prompt']);
			case 'facts':
				return session.facts(payload as RobotMessages['facts'], answers);
			case 'file_read':
				return session.fileRead(payload as RobotMessages['file_read']);
			case 'file_offer':
				return session.fileOffer(payload as RobotMessages['file_offer']);
			case 'control':
				return this.#control(payload as RobotMessages['control'], session, id, answers);
			case 'error':
				return this.#log('warn', 'a robot reports a problem', session, () => {
					const said = JSON.stringify(payload);
					return {
						problem: said.length > maxLoggedChars ? said.slice(0, maxLoggedChars) : payload,
					};
				});
		}
	}

	#log(level: 'info' | 'warn', text: string, { robotId }: RobotSession, facts: () => object): void {
		const line = (this.#lines ??= new Sparing()).line(this.#house.clock.monotonic());
		if (line) this.#house.log[level](text, { robotId, ...facts(), ...line });
	}

	#control(
		{ action, text }: RobotMessages['control'],
		session: RobotSession,
		id: string | undefined,
		answers: string | undefined,
	): void {
		if (action === 'pong' && answers !== undefined) return session.pong(answers);
		if (action === 'ping') return this.#say('control', { action: 'pong' }, id);
		if (action === 'goodbye' || action === 'pause' || action === 'shutdown')
			return session.takesNoMore();
		if (action === 'note') {
			const said = text?.slice(0, maxLoggedChars);
			this.#log('info', 'a robot notes', session, () => ({ text: said }));
		}
	}

	#takeBytes(data: Buffer): void {
		if (this.#state !== 'registered' || !this.#session) {
			throw new Problem('bad-message', { reason: 'say hello first and wait for robot_registered' });
		}
		if (data.length > limits.maxOutputFrameBytes + 64) {
			throw new Problem('bad-message', {
				reason: `an output frame may have at most ${limits.maxOutputFrameBytes} bytes`,
			});
		}
		if (isFileFrame(data)) {
			const piece = decodeFile(data);
			if (!piece)
				throw new Problem('bad-message', { reason: 'this is not an intact frame of a file' });
			return this.#session.fileBytes(piece);
		}
		const frame = decodeOutput(data);
		if (!frame) throw new Problem('bad-message', { reason: 'this is not an intact output frame' });
		failPoint('link:output');
		this.#session.output(frame);
	}

	async #register(hello: Hello, id: string | undefined): Promise<void> {
		try {
			const theirs = hello.protocol_range ?? { min: hello.protocol, max: hello.protocol };
			const protocol = chooseProtocol(protocolRange, theirs);
			if (protocol === undefined) {
				throw new Problem('protocol-version', {
					theirs: rangeText(theirs),
					ours: rangeText(protocolRange),
					older: theirs.max < protocolRange.min ? 'agent' : 'service',
				});
			}
			this.#newer = theirs.max > protocolRange.max;
			this.#features = sharedFeatures(hubFeatures, hello.features);
			const { engine } = this.#house;
			const expected = this.#expected;
			const key = expected ? keyOf(expected, hello) : await engine.robotKey(hello.robot_id);
			const text = helloProof(engine.hubId, hello.robot_id, this.#nonce);
			this.#nonce = '';
			const check = this.#house.proves ?? proves;
			if (!(await check(key, text, hello.signature))) throw new Problem('bad-proof');
			if (this.#isClosed()) return;
			if (expected) await engine.dialling.proved(expected.robotId, key);
			const session = await engine.connect(hello, this, this.#number, this.#address);
			// The socket may have closed while the engine opened the session.
			if (this.#isClosed()) return session.closed();
			this.#session = session;
			this.#state = 'registered';
			this.#keeper.proved(this);
			expected?.live();
			failPoint('link:registered');
			this.#sayRegistered(session, protocol, id);
		} catch (error) {
			if (this.#isClosed()) return;
			const problem = this.#refuse(error, id);
			this.#expected?.refused(problem);
			this.close(closeCodeOf(problem), problem.code);
		}
	}

	#isClosed(): boolean {
		return this.#state === 'closed';
	}

	#sayRegistered(session: RobotSession, protocol: number, id: string | undefined): void {
		const early = this.#early ?? [];
		this.#early = undefined;
		this.#say(
			'robot_registered',
			{
				robot_id: session.robotId,
				name: session.name,
				hub_id: this.#house.engine.hubId,
				protocol,
				features: this.#features,
				heartbeat_interval: this.#heartbeatMs / 1000,
				limits: {
					max_output_frame: limits.maxOutputFrameBytes,
					max_control_frame: limits.maxControlFrameBytes,
					output_window: limits.outputWindowBytes,
				},
				verdicts: session.verdicts,
			} satisfies RobotRegistered,
			id,
		);
		for (const text of early) this.#send(text);
	}

	// The engine's voice. Never blocks and never throws: a dead socket shows by closing.

	assign(assignment: JobAssignment): void {
		failPoint('link:assigning');
		this.#sayOrKeep('job_assignment', assignment);
		failPoint('link:assigned');
	}

	cancel(cancel: CancelJob): void {
		failPoint('link:cancelling');
		this.#sayOrKeep('cancel_job', cancel);
	}

	revoke(revoke: Revoke): void {
		this.#sayOrKeep('revoke', revoke);
	}

	resultAck(ack: ResultAck): void {
		failPoint('link:acknowledging');
		this.#sayOrKeep('result_ack', ack);
		failPoint('link:acknowledged');
	}

	outputAck(ack: OutputAck): void {
		this.#sayOrKeep('output_ack', ack);
		failPoint('link:output-acknowledged');
	}

	outputCredit(credit: OutputCredit): void {
		this.#sayOrKeep('output_credit', credit);
	}

	get transport(): Transport {
		return this.#wire instanceof PolledSocket ? 'poll' : 'websocket';
	}

	get takesInput(): boolean {
		return this.#features.includes('input');
	}

	input(input: InputMessage): void {
		this.#sayOrKeep('input', input);
	}

	resize(resize: Resize): void {
		this.#sayOrKeep('resize', resize);
	}

	fileInfo(info: FileInfo): void {
		this.#sayOrKeep('file_info', info);
	}

	fileWant(want: FileWant): void {
		this.#sayOrKeep('file_want', want);
	}

	fileKept(kept: FileKept): void {
		this.#sayOrKeep('file_kept', kept);
	}

	fileRefused(refused: FileRefused): void {
		this.#sayOrKeep('file_refused', refused);
	}

	fileBytes(frame: FileFrame): Promise<void> {
		return new Promise((resolve) => {
			if (this.#socket.readyState !== this.#socket.OPEN) resolve();
			else this.#socket.send(encodeFile(frame), { binary: true }, () => resolve());
		});
	}

	control(order: Control): string {
		return this.#sayOrKeep('control', order);
	}

	refuse(problem: Problem): void {
		this.#sayOrKeep('error', problem.toBody());
	}

	/** Answers the id of the message. */
	#sayOrKeep<T extends keyof HubMessages>(type: T, payload: HubMessages[T]): string {
		const text = this.#encode(type, payload);
		if (this.#early) this.#early.push(text);
		else this.#send(text);
		return `${this.#idPrefix}-${this.#lastId}`;
	}

	#say<T extends keyof HubMessages>(type: T, payload: HubMessages[T], answerTo?: string): void {
		this.#send(this.#encode(type, payload, answerTo));
	}

	#encode<T extends keyof HubMessages>(
		type: T,
		payload: HubMessages[T],
		answerTo?: string,
	): string {
		const now = this.#house.clock.now();
		if (now !== this.#stampAt) {
			this.#stampAt = now;
			this.#stamp = new Date(now).toISOString();
		}
		const answers = answerTo === undefined ? '' : `,"correlation_id":${JSON.stringify(answerTo)}`;
		return `{"type":"${type}","id":"${this.#idPrefix}-${++this.#lastId}","timestamp":"${this.#stamp}"${answers},"payload":${JSON.stringify(payload)}}`;
	}

	#send(text: string): void {
		if (this.#socket.readyState !== this.#socket.OPEN) return;
		if (this.#socket.bufferedAmount > maxUnsentBytes) return this.terminate();
		// A commit often brings an acknowledgement and the next job for the same robot.
		if (!this.#corked) {
			this.#corked = true;
			this.#wire.cork();
			process.nextTick(() => {
				this.#corked = false;
				this.#wire.uncork();
			});
		}
		this.#socket.send(text);
	}

	#refuse(error: unknown, id: string | undefined): Problem {
		const problem = problemOf(this.#house, error, {
			door: 'robots',
			robotId: this.#session?.robotId,
		});
		this.#say('error', problem.toBody(), id);
		return problem;
	}

	/** Every error of a socket is followed by its close; there is nothing to add. */
	failed(error: Error): void {
		this.#house.log.debug('a robot’s socket failed', { error });
	}

	closed(): void {
		this.#state = 'closed';
		this.#early = undefined;
		this.#session?.closed();
		this.#keeper.closed(this);
	}
}

/** The key that a dialled robot has to prove: the one whose fingerprint was registered. */
function keyOf({ robotId, name, fingerprint }: Expected, hello: Hello): string {
	const key = hello.public_key ?? '';
	const found = fingerprintOfKey(key);
	if (hello.robot_id !== robotId || found !== fingerprint) {
		throw new Problem('wrong-key', { name, found, expected: fingerprint });
	}
	return key;
}

function envelopeOf(text: string): {
	type: string;
	id: string | undefined;
	/** Id of the message of ours that it answers. */
	answers: string | undefined;
	payload: unknown;
} {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		throw new Problem('bad-message', { reason: 'it is not JSON' });
	}
	const { type, id, payload, correlation_id: answered } = (value ?? {}) as Record<string, unknown>;
	const answers = typeof answered === 'string' ? answered : undefined;
	if (typeof type !== 'string') throw new Problem('bad-message', { reason: 'type is missing' });
	if (id !== undefined && (typeof id !== 'string' || id.length > limits.maxIdBytes)) {
		throw new Problem('bad-message', {
			reason: `id must be text of at most ${limits.maxIdBytes} characters`,
		});
	}
	return { type, id, answers, payload };
}

function metricsOf(payload: RobotMessages['heartbeat']): Record<string, number> {
	const metrics: Record<string, number> = {};
	for (const name of [
		'cpu_percent',
		'memory_percent',
		'disk_percent',
		'round_trip_ms',
		'agent_busy_percent',
	] as const) {
		const value = payload[name];
		if (value !== undefined) metrics[name] = value;
	}
	if (payload.keeper_missing !== undefined) {
		metrics['keeper_missing'] = payload.keeper_missing ? 1 : 0;
	}
	return metrics;
}

function closeCodeOf(problem: Problem): number {
	switch (problem.code) {
		case 'bad-proof':
		case 'wrong-key':
		case 'robot-revoked':
			return closeCodes.badKey;
		case 'protocol-version':
			return closeCodes.badProtocol;
		case 'robot-moved':
			return closeCodes.badMachine;
		case 'robot-elsewhere':
			return closeCodes.tooMany;
		default:
			// Our fault, not the robot's: it should come back.
			return 1013;
	}
}
