/**
 * A TCP proxy between robots and the service that behaves like a bad network. It can be deaf in one
 * direction or both (half-open: bytes and ends vanish, nobody is told), cut, or slow.
 */
import { EventEmitter } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** `up` = towards the service. */
export type Direction = 'up' | 'down';

/** One connection of one robot. */
export class Strand {
	/** When each side gave it up: 'robot' and 'service', on the monotonic clock. */
	readonly leftAt: { robot?: number; service?: number } = {};
	readonly #robot: Socket;
	readonly #service: Socket;
	readonly #deaf = new Set<Direction>();
	readonly #changed = new EventEmitter();
	/** How long bytes are under way. */
	delayMs = 0;

	constructor(robot: Socket, service: Socket) {
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
				to.once('drain', () => from.resume());
			}
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

export class Wire {
	readonly #server: Server;
	readonly #sockets = new Set<Socket>();
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
			wire.strands.push(new Strand(robot, service));
		});
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		return wire;
	}

	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	async close(): Promise<void> {
		for (const socket of this.#sockets) socket.destroy();
		await new Promise<void>((resolve) => this.#server.close(() => resolve()));
	}
}
