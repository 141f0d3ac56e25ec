/**
 * A TCP proxy between robots and the service that behaves like a bad network. It can be deaf in one
 * direction or both (half-open: bytes and ends vanish, nobody is told), cut, or slow. Dammed up, it stops after
 * a given number of bytes, so that what is on its way stays there for as long as somebody looks.
 */
import { EventEmitter } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** `up` = towards the service. */
export type Direction = 'up' | 'down';

/** How much may pass, over all connections. */
class Dam {
	readonly #left = { up: Infinity, down: Infinity };
	readonly #held = new Set<Socket>();

	shut(direction: Direction, afterBytes: number): void {
		this.#left[direction] = afterBytes;
	}

	open(): void {
		this.#left.up = this.#left.down = Infinity;
		for (const socket of this.#held) socket.resume();
		this.#held.clear();
	}

	passed(direction: Direction, bytes: number, from: Socket): void {
		this.#left[direction] -= bytes;
		if (this.#left[direction] <= 0) this.#hold(from);
	}

	/** There is room again for what comes from there. */
	goOn(direction: Direction, from: Socket): void {
		if (this.#left[direction] > 0) from.resume();
		else this.#hold(from);
	}

	#hold(from: Socket): void {
		this.#held.add(from);
		from.pause();
	}
}

/** One connection of one robot. */
export class Strand {
	/** When each side gave it up: 'robot' and 'service', on the monotonic clock. */
	readonly leftAt: { robot?: number; service?: number } = {};
	readonly #robot: Socket;
	readonly #service: Socket;
	readonly #deaf = new Set<Direction>();
	readonly #changed = new EventEmitter();
	readonly #dam: Dam;
	/** How long bytes are under way. */
	delayMs = 0;

	constructor(robot: Socket, service: Socket, dam: Dam) {
		this.#dam = dam;
		this.#robot = robot;
		this.#service = service;
		for (const socket of [robot, service]) socket.setNoDelay(true).on('error', () => undefined);
		this.#pass(robot, service, 'up');
		this.#pass(service, robot, 'down');
		for (const event of ['end', 'close'] as const) {
			robot.once(event, () => this.#left('robot'));
			service.once(event, () => this.#left('service'));
		}
	}

	/** From now on nothing travels in these directions, not even the news that it ended. */
	blackhole(...directions: Direction[]): void {
		for (const direction of directions) this.#deaf.add(direction);
	}

	/** Ends both halves at once and without a goodbye. */
	cut(): void {
		this.#robot.resetAndDestroy();
		this.#service.resetAndDestroy();
	}

	/** Resolves when both sides have given it up, each by itself or because it was told. */
	async over(): Promise<void> {
		while (this.leftAt.robot === undefined || this.leftAt.service === undefined) {
			await new Promise((changed) => this.#changed.once('left', changed));
		}
	}

	#pass(from: Socket, to: Socket, direction: Direction): void {
		from.on('data', (bytes) => {
			if (this.#deaf.has(direction)) return;
			if (this.delayMs > 0) {
				setTimeout(() => to.write(bytes), this.delayMs).unref();
			} else if (!to.write(bytes)) {
				from.pause();
				to.once('drain', () => this.#dam.goOn(direction, from));
			}
			this.#dam.passed(direction, bytes.length, from);
		});
	}

	#left(side: 'robot' | 'service'): void {
		if (this.leftAt[side] !== undefined) return;
		this.leftAt[side] = performance.now();
		const [direction, other] =
			side === 'robot' ? (['up', this.#service] as const) : (['down', this.#robot] as const);
		if (!this.#deaf.has(direction)) other.end();
		this.#changed.emit('left');
	}
}

export class Wire implements AsyncDisposable {
	readonly #server: Server;
	readonly #sockets = new Set<Socket>();
	readonly #dam = new Dam();
	/** All connections there ever were. */
	readonly strands: Strand[] = [];

	private constructor(server: Server) {
		this.#server = server;
	}

	static async to(target: string): Promise<Wire> {
		const { hostname, port } = new URL(target);
		// A half that has ended may still be listened to: who ends is what we want to see.
		const server = createServer({ allowHalfOpen: true });
		const wire = new Wire(server);
		server.on('connection', (robot) => {
			const service = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
			for (const socket of [robot, service]) {
				wire.#sockets.add(socket);
				socket.once('close', () => wire.#sockets.delete(socket));
			}
			wire.strands.push(new Strand(robot, service, wire.#dam));
		});
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		return wire;
	}

	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	/** So many bytes more pass in this direction; then it stands still until it is opened. */
	dam(direction: Direction, bytes: number): void {
		this.#dam.shut(direction, bytes);
	}

	open(): void {
		this.#dam.open();
	}

	async close(): Promise<void> {
		for (const socket of this.#sockets) socket.destroy();
		await new Promise<void>((resolve) => this.#server.close(() => resolve()));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.close();
	}
}
