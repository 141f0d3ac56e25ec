/**
 * The network between robots and the service: connections as both ends see them. Frames arrive whole
 * and in order; a connection may be slow, end in the middle, or fall silent without ending, on one
 * side or on both. The ends are what the real links on both sides take for a WebSocket.
 */
import { EventEmitter } from 'node:events';
import type { RobotLink } from '../../dispatcher/server/robot-link';
import { limits } from '../../protocol';
import { type Kernel, Process } from './kernel';

export interface NetworkOptions {
	/** Milliseconds that a frame is under way. */
	latencyMs(): number;
	/** Hears every frame that a robot sends. */
	tap?(robotName: string, data: string | Buffer): void;
	/** What no socket takes was sent: its other end hangs up. */
	tooLong(robotName: string, bytes: number): void;
	/** What a robot says instead of it; undefined = nothing. */
	bend?(robotName: string, data: string | Buffer): string | Buffer | undefined;
}

const connecting = 0;
const open = 1;
const closing = 2;
const closed = 3;
/** Ended without a goodbye. */
const abnormal = 1006;

type Frame = { data: string | Buffer } | { ping: boolean } | { close: number; reason: string };

/** One end of a connection. */
export class End extends EventEmitter {
	readonly OPEN = open;
	readonly bufferedAmount = 0;
	readyState = connecting;
	/** Whose it is; nothing reaches the dead. */
	readonly owner: Process;
	other!: End;
	readonly #kernel: Kernel;
	readonly #wire: Wire;
	#arrivesAt = 0;
	/** What has arrived while nobody reads. */
	#unread: Frame[] | undefined;

	constructor(kernel: Kernel, wire: Wire, owner: Process) {
		super();
		this.#kernel = kernel;
		this.#wire = wire;
		this.owner = owner;
	}

	/** As RobotSocket does. */
	serve(link: RobotLink): void {
		this.on('message', (data, isBinary) => link.receive(data as Buffer, isBinary as boolean));
		this.on('pong', () => link.answered());
		this.on('ping', () => link.alive());
		this.on('close', () => link.closed());
		this.on('error', (error) => link.failed(error as Error));
	}

	send(data: string | Buffer): void {
		if (this.readyState !== open) return;
		const { robot, robotName, tap, bend, tooLong } = this.#wire;
		const bytes = Buffer.byteLength(data);
		if (bytes > limits.maxControlFrameBytes) {
			tooLong(robotName, bytes);
			return this.terminate();
		}
		if (this !== robot) return this.#transmit({ data });
		tap?.(robotName, data);
		const said = bend ? bend(robotName, data) : data;
		if (said !== undefined) this.#transmit({ data: said });
	}

	ping(): void {
		if (this.readyState === open) this.#transmit({ ping: true });
	}

	close(code = 1005, reason = ''): void {
		if (this.readyState === connecting) return this.terminate();
		if (this.readyState !== open) return;
		this.readyState = closing;
		this.#transmit({ close: code, reason });
	}

	/** Ends it here and now; the other end is told by the network, if that still works. */
	terminate(): void {
		if (this.readyState === closed) return;
		this.#transmit({ close: abnormal, reason: '' });
		this.readyState = closing;
		this.#kernel.after(0, this.owner, () => this.ended(abnormal, ''));
	}

	pause(): void {
		this.#unread ??= [];
	}

	resume(): void {
		const unread = this.#unread ?? [];
		this.#unread = undefined;
		for (const frame of unread) this.receive(frame);
	}

	opened(): void {
		if (this.readyState === connecting) this.readyState = open;
	}

	ended(code: number, reason: string): void {
		if (this.readyState === closed) return;
		this.readyState = closed;
		this.#wire.closed();
		this.emit('close', code, Buffer.from(reason));
	}

	failed(text: string): void {
		if (this.readyState === closed) return;
		this.emit('error', new Error(text));
		this.ended(abnormal, '');
	}

	#transmit(frame: Frame): void {
		if (this.#wire.silent.has(this) || this.#wire.cut) return;
		this.#arrivesAt = Math.max(this.#arrivesAt, this.#kernel.now + this.#wire.latencyMs());
		const { other } = this;
		this.#kernel.after(this.#arrivesAt - this.#kernel.now, other.owner, () => {
			if (!this.#wire.cut) other.receive(frame);
		});
	}

	receive(frame: Frame): void {
		if (this.readyState === closed) return;
		if (this.#unread) {
			this.#unread.push(frame);
			return;
		}
		if ('close' in frame) {
			if (frame.close !== abnormal && this.readyState === open) {
				this.readyState = closing;
				this.#transmit(frame);
			}
			return this.ended(frame.close, frame.reason);
		}
		if ('data' in frame) this.emit('message', frame.data, typeof frame.data !== 'string');
		else if (!frame.ping) this.emit('pong');
		else {
			if (this.readyState === open) this.#transmit({ ping: false });
			this.emit('ping');
		}
	}
}

export class Wire {
	readonly robot: End;
	readonly service: End;
	readonly robotName: string;
	/** Frames of these ends vanish on the way. */
	readonly silent = new Set<End>();
	cut = false;
	readonly latencyMs: () => number;
	readonly tap: NetworkOptions['tap'];
	readonly bend: NetworkOptions['bend'];
	readonly tooLong: NetworkOptions['tooLong'];
	readonly #gone: (wire: Wire) => void;

	constructor(
		kernel: Kernel,
		{ latencyMs, tap, bend, tooLong }: NetworkOptions,
		robot: { name: string; owner: Process },
		service: Process,
		gone: (wire: Wire) => void,
	) {
		this.latencyMs = latencyMs;
		this.tap = tap;
		this.bend = bend;
		this.tooLong = tooLong;
		this.#gone = gone;
		this.robotName = robot.name;
		this.robot = new End(kernel, this, robot.owner);
		this.service = new End(kernel, this, service);
		this.robot.other = this.service;
		this.service.other = this.robot;
	}

	closed(): void {
		if (this.robot.readyState === closed && this.service.readyState === closed) this.#gone(this);
	}
}

/** What happens to whoever dials. */
export type Weather = 'fair' | 'refused' | 'silent';

export interface Listener {
	process: Process;
	/** False = nothing listens. */
	accept(end: End): boolean;
}

export class Network {
	readonly wires = new Set<Wire>();
	/** By name of the robot; absent = fair. */
	readonly weather = new Map<string, Weather>();
	readonly #kernel: Kernel;
	readonly #options: NetworkOptions;
	/** Stands in for a service that does not run. */
	readonly #nobody = new Process('nobody');

	constructor(kernel: Kernel, options: NetworkOptions) {
		this.#kernel = kernel;
		this.#options = options;
	}

	dial(robot: { name: string; owner: Process }, service: Listener | undefined): End {
		const kernel = this.#kernel;
		const { latencyMs } = this.#options;
		const wire = new Wire(kernel, this.#options, robot, service?.process ?? this.#nobody, (gone) =>
			this.wires.delete(gone),
		);
		this.wires.add(wire);
		const weather = this.weather.get(robot.name) ?? 'fair';
		const { robot: caller, service: callee } = wire;
		if (weather === 'silent') {
			wire.silent.add(caller).add(callee);
			kernel.after(10_000, robot.owner, () => {
				this.wires.delete(wire);
				caller.failed('Opening handshake has timed out');
			});
			return caller;
		}
		kernel.after(2 * latencyMs(), robot.owner, () => {
			if (caller.readyState !== connecting) return;
			if (weather === 'refused' || !service?.process.alive || !service.accept(callee)) {
				this.wires.delete(wire);
				caller.failed('connect ECONNREFUSED');
				return;
			}
			// The first word of the service, said when it accepted, is already under way behind this.
			caller.opened();
		});
		return caller;
	}

	/** Ends the connections of a robot: frames under way are lost, both ends hear of it. */
	cut(robotName: string): number {
		return this.#each(robotName, (wire) => {
			if (wire.cut) return;
			for (const end of [wire.robot, wire.service]) {
				this.#kernel.after(this.#options.latencyMs(), end.owner, () => end.ended(abnormal, ''));
			}
			wire.cut = true;
		});
	}

	/** Makes the connections of a robot fall silent: nobody hears that they are gone. */
	hush(robotName: string, sides: { robot: boolean; service: boolean }): number {
		return this.#each(robotName, (wire) => {
			if (sides.robot) wire.silent.add(wire.robot);
			if (sides.service) wire.silent.add(wire.service);
		});
	}

	/** A process has died: the kernel of its machine ends its connections. */
	died(process: Process): void {
		for (const wire of [...this.wires]) {
			for (const end of [wire.robot, wire.service]) {
				if (end.owner !== process || end.readyState === closed) continue;
				end.terminate();
				end.readyState = closed;
				if (!end.other.owner.alive) this.wires.delete(wire);
			}
		}
	}

	/** A robot says something, on whatever line it has now. */
	say(robotName: string, data: string | Buffer): boolean {
		for (const { robot, robotName: name } of this.wires) {
			if (name !== robotName || robot.readyState !== open || !robot.owner.alive) continue;
			robot.send(data);
			return true;
		}
		return false;
	}

	/** The robot has a connection that works both ways. */
	isSound(robotName: string): boolean {
		for (const { robotName: name, robot, service, silent, cut } of this.wires) {
			if (name !== robotName || cut || silent.size > 0) continue;
			const bothAlive = robot.owner.alive && service.owner.alive;
			if (bothAlive && robot.readyState === open && service.readyState === open) return true;
		}
		return false;
	}

	#each(robotName: string, deed: (wire: Wire) => void): number {
		let found = 0;
		for (const wire of [...this.wires]) {
			if (wire.robotName !== robotName) continue;
			found += 1;
			deed(wire);
		}
		return found;
	}
}
