/**
 * One simulated robot on its line: a key of its own, a real enrolment, a real socket, the real protocol. Messages take time
 * in both directions, the line is cut now and then, and the robot comes back by itself, as an agent does.
 *
 *   enrolled ── dial ──> greeted ── hello, robot_registered ──> live ── cut, lost ──┐
 *                 ^────────────────────── a while later ────────────────────────────┘
 */
import { generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto';
import { WebSocket } from 'ws';
import { probeKind } from '../../../kinds/probe';
import {
	chooseProtocol,
	closeCodes,
	type Connected,
	type Control,
	type EnrolAnswer,
	enrolProof,
	helloProof,
	type HubMessages,
	limits,
	paths,
	Problem,
	protocolRange,
	rangeText,
	type RobotMessages,
	type RobotRegistered,
	simulatedFeature,
} from '../../../protocol';
import { UsageMistake } from '../terminal';
import { type Address, httpSend, trustOf } from '../transport';
import type { Range } from './amounts';
import type { Role } from './cast';
import { Dice } from './dice';
import type { Tally } from './tally';
import type { Planned, Timetable } from './timetable';
import { type Play, Work } from './work';

/** How lines behave. */
export interface Wire {
	/** How long a message takes, each way; absent = no added time. */
	latency?: Range;
	/** Mean time from one cut to the next, for one robot; absent = no cuts. */
	cutEveryMs?: number;
	/** How long a robot stays away after a cut. */
	away: Range;
}

export interface RobotParts {
	role: Role;
	seed: number;
	play: Play;
	wire: Wire;
	address: Address;
	version: string;
	takeAny: boolean;
	timetable: Timetable;
	tally: Tally;
	/** Wall time. */
	now(): number;
	/** Called each time it is registered. */
	onLive(): void;
	/** Called when it cannot go on, and neither can others like it. */
	onRefused(problem: Error): void;
}

/** An agent waits this long after a refusal that may pass. */
const slowRetryMs = 30_000;

export class SimulatedRobot {
	readonly work: Work;
	readonly #parts: RobotParts;
	readonly #dice: Dice;
	readonly #publicKey: string;
	readonly #privateKey: KeyObject;
	readonly #journalId = randomUUID();
	readonly #bootId = randomUUID();
	#membership: EnrolAnswer | undefined;
	#socket: WebSocket | undefined;
	#isLive = false;
	/** It is over: it stays away. */
	#gone = false;
	#heartbeatMs: number = limits.heartbeatMs;
	#heardAt = 0;
	#failures = 0;
	/** The service is stopping, and wants the return of its robots spread over this many milliseconds. */
	#returnWithinMs: number | undefined;
	#awayMs: number | undefined;
	/** Messages arrive in the order in which they were sent. */
	#lastIn = 0;
	#lastOut = 0;
	#beat: Planned | undefined;
	#cut: Planned | undefined;
	#alone: Planned | undefined;
	#ids = 0;

	constructor(parts: RobotParts) {
		const { role, seed, play, timetable, tally, now } = parts;
		this.#parts = parts;
		// Lines and jobs are drawn separately: how a job goes does not depend on cuts.
		this.#dice = new Dice(seed, 1_000_000 + role.number);
		this.work = new Work({
			name: role.name,
			slots: role.slots,
			play,
			dice: new Dice(seed, 2_000_000 + role.number),
			timetable,
			tally,
			now,
			say: (type, payload) => this.#say(type, payload),
		});
		const { publicKey, privateKey } = generateKeyPairSync('ed25519');
		this.#privateKey = privateKey;
		this.#publicKey = publicKey.export({ type: 'spki', format: 'der' }).toString('base64url');
	}

	/** Undefined until it is enrolled. */
	get robotId(): string | undefined {
		return this.#membership?.robotId;
	}

	/** As the service calls it. */
	get name(): string {
		return this.#membership?.name ?? this.#parts.role.name;
	}

	get isLive(): boolean {
		return this.#isLive;
	}

	/** It holds nothing that the service has not taken, or can no longer tell anybody. */
	get isDone(): boolean {
		return this.#gone || this.#membership === undefined || this.work.isEmpty;
	}

	async enrol(token: string): Promise<void> {
		const { address, role } = this.#parts;
		const body = {
			token,
			publicKey: this.#publicKey,
			signature: this.#proof(enrolProof(token, this.#publicKey)),
			name: role.name,
		};
		const send = httpSend({ ...address, key: '' });
		const answer = await send({ method: 'POST', path: paths.robotEnrol, body });
		if (answer.status !== 200) {
			throw Problem.fromBody(answer.body) ?? new Problem('internal', { reference: 'enrol' });
		}
		this.#membership = answer.body as EnrolAnswer;
	}

	dial(): void {
		if (this.#gone || this.#socket) return;
		const { url, certificate } = this.#parts.address;
		const socket = new WebSocket(url.replace(/^http/, 'ws') + paths.robotLink, {
			perMessageDeflate: false,
			handshakeTimeout: slowRetryMs,
			...(certificate === undefined ? {} : trustOf(certificate)),
		});
		this.#socket = socket;
		this.#heardAt = this.#lastIn = this.#lastOut = this.#parts.timetable.now();
		// Every error is followed by the close.
		socket.on('error', () => undefined);
		socket.on('ping', () => (this.#heardAt = this.#parts.timetable.now()));
		socket.on('message', (data, isBinary) => {
			this.#heardAt = this.#parts.timetable.now();
			if (!isBinary) this.#later('in', () => this.#hear(socket, String(data)));
		});
		socket.on('close', (code) => this.#closed(socket, code));
	}

	/** Ends what runs, takes nothing more, and says so; the line stays until what was done is taken. */
	leave(): void {
		const { timetable } = this.#parts;
		timetable.drop(this.#cut);
		this.#sayGoodbye();
		this.work.hurry();
		// Somebody waits for what it has to say.
		if (this.#membership && !this.work.isEmpty) this.dial();
	}

	/** It is over here. */
	end(): void {
		this.#gone = true;
		const { timetable } = this.#parts;
		for (const planned of [this.#beat, this.#cut, this.#alone]) timetable.drop(planned);
		this.#socket?.terminate();
	}

	#hear(socket: WebSocket, text: string): void {
		if (socket !== this.#socket) return;
		const { type, payload, id } = JSON.parse(text) as {
			[T in keyof HubMessages]: { type: T; payload: HubMessages[T]; id: string };
		}[keyof HubMessages];
		switch (type) {
			case 'connected':
				return this.#greet(payload);
			case 'robot_registered':
				return this.#registered(payload);
			case 'job_assignment':
				return this.work.assign(payload);
			case 'cancel_job':
				return this.work.cancel(payload);
			case 'revoke':
				return this.work.revoke(payload);
			case 'result_ack':
				return this.work.taken(payload);
			case 'control':
				return this.#control(payload, id);
			case 'error':
				// Refused before it was registered: the close says what to do about it.
				return;
		}
	}

	#greet({ hub_id, nonce, protocol: theirs, features = [] }: Connected): void {
		const { takeAny, role, onRefused, version } = this.#parts;
		const protocol = chooseProtocol(protocolRange, theirs);
		const { robotId, hubId } = this.#membership!;
		if (protocol === undefined) {
			const both = `${rangeText(protocolRange)}, the service ${rangeText(theirs)}`;
			return onRefused(
				new UsageMistake(`Simulated robots speak protocol ${both}; update the older of the two.`),
			);
		}
		if (hub_id !== hubId) {
			return onRefused(
				new UsageMistake('The service that answers there is not the one that was joined.'),
			);
		}
		// It would be given real jobs, and do nothing of them.
		if (!takeAny && !features.includes(simulatedFeature))
			return onRefused(new UsageMistake(tooOld));
		this.#say('hello', {
			robot_id: robotId,
			protocol,
			protocol_range: protocolRange,
			features: ['goodbye-within', 'kind:command', `kind:${probeKind}`],
			version,
			journal_id: this.#journalId,
			boot_id: this.#bootId,
			signature: this.#proof(helloProof(hubId, robotId, nonce)),
			slots: role.slots,
			labels: role.labels,
			capabilities: role.capabilities,
			info: { simulated: true, hostname: role.name, platform: role.labels['os'] ?? 'none' },
			attempts: this.work.held,
		});
	}

	#registered({ verdicts, heartbeat_interval }: RobotRegistered): void {
		const { timetable, tally, wire, onLive } = this.#parts;
		this.#isLive = true;
		this.#failures = 0;
		this.#heartbeatMs = heartbeat_interval * 1_000;
		tally.connected += 1;
		timetable.drop(this.#alone);
		if (this.work.stopping) this.#sayGoodbye();
		this.work.attached(verdicts);
		// A random first beat: robots that came together do not beat together.
		this.#beat = timetable.in(this.#dice.next() * this.#heartbeatMs, () => this.#keepAlive());
		if (wire.cutEveryMs !== undefined && !this.work.stopping) {
			this.#cut = timetable.in(this.#dice.gap(wire.cutEveryMs), () => this.#cutLine());
		}
		onLive();
	}

	#control({ action, reconnect_within_ms }: Control, id: string): void {
		switch (action) {
			case 'ping':
				return this.#say('control', { action: 'pong' }, id);
			case 'pause':
				this.work.paused = true;
				return;
			case 'resume':
				this.work.paused = false;
				return;
			case 'shutdown':
				this.leave();
				this.#gone = true;
				return this.#later('out', () => this.#socket?.close(closeCodes.goodbye));
			case 'goodbye':
				this.#returnWithinMs = reconnect_within_ms ?? limits.reconnectMinMs;
		}
	}

	/** It is given nothing more. */
	#sayGoodbye(): void {
		this.#say('control', { action: 'goodbye', text: 'the simulation ends' });
	}

	/** Sends a heartbeat, and cuts a line on which nothing was heard for three of them. */
	#keepAlive(): void {
		const { timetable, role } = this.#parts;
		const silentMs = timetable.now() - this.#heardAt;
		if (silentMs > limits.missedHeartbeats * this.#heartbeatMs) return this.#socket?.terminate();
		const running = this.work.running;
		const load = running.length / role.slots;
		const percent = (least: number, most: number) => Math.round(this.#dice.within({ least, most }));
		this.#say('heartbeat', {
			status: this.work.paused ? 'paused' : load >= 1 ? 'busy' : 'online',
			active_jobs: running,
			cpu_percent: percent(2, 10) + Math.round(load * percent(40, 85)),
			memory_percent: percent(30, 35) + Math.round(load * 20),
			disk_percent: 40,
		});
		this.work.tick();
		this.#beat = timetable.in(this.#heartbeatMs, () => this.#keepAlive());
	}

	/** Without a goodbye, as when a network fails. */
	#cutLine(): void {
		const { tally, wire } = this.#parts;
		tally.cuts += 1;
		this.#awayMs = this.#dice.within(wire.away);
		this.#socket?.terminate();
	}

	#closed(socket: WebSocket, code: number): void {
		if (socket !== this.#socket) return;
		const { timetable, tally, onRefused } = this.#parts;
		this.#socket = undefined;
		timetable.drop(this.#beat);
		timetable.drop(this.#cut);
		const wasLive = this.#isLive;
		if (wasLive) {
			this.#isLive = false;
			tally.connected -= 1;
		}
		if (this.#gone) return;
		if (wasLive) {
			const untilAlone = limits.missedHeartbeats * this.#heartbeatMs;
			this.#alone = timetable.in(untilAlone, () => this.work.alone());
			if (this.#awayMs === undefined) tally.losses += 1;
		}
		if (code === closeCodes.badKey) {
			this.#gone = true;
			return this.work.hurry();
		}
		if (code === closeCodes.badProtocol) {
			return onRefused(
				new UsageMistake('The service does not speak the protocol of this program.'),
			);
		}
		const ms = this.#pauseMs(code);
		this.#awayMs = this.#returnWithinMs = undefined;
		timetable.in(ms, () => this.dial());
	}

	#pauseMs(code: number): number {
		if (this.#awayMs !== undefined) return this.#awayMs;
		if (this.#returnWithinMs !== undefined) return this.#dice.next() * this.#returnWithinMs;
		const { badMachine, notYours, tooMany } = closeCodes;
		if (code === badMachine || code === notYours || code === tooMany) return slowRetryMs;
		const { reconnectMinMs, reconnectMaxMs } = limits;
		const step = Math.min(reconnectMaxMs, reconnectMinMs * 2 ** Math.min(this.#failures++, 30));
		return this.#dice.next() * step;
	}

	#say<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T], answers?: string): void {
		const socket = this.#socket;
		if (socket?.readyState !== WebSocket.OPEN) return;
		const text = JSON.stringify({
			type,
			id: String((this.#ids += 1)),
			timestamp: new Date(this.#parts.now()).toISOString(),
			payload,
			...(answers !== undefined && { correlation_id: answers }),
		});
		this.#later('out', () => {
			if (socket.readyState === WebSocket.OPEN) socket.send(text);
		});
	}

	/** A message on its way. */
	#later(way: 'in' | 'out', arrive: () => void): void {
		const { wire, timetable } = this.#parts;
		if (!wire.latency) return arrive();
		const before = way === 'in' ? this.#lastIn : this.#lastOut;
		const at = Math.max(before, timetable.now() + this.#dice.within(wire.latency));
		if (way === 'in') this.#lastIn = at;
		else this.#lastOut = at;
		timetable.at(at, arrive);
	}

	#proof(text: string): string {
		return sign(null, Buffer.from(text), this.#privateKey).toString('base64url');
	}
}

const tooOld =
	'This service would give real jobs to simulated robots, which would not run them. Update it, or say that this is meant: --take-any.';
