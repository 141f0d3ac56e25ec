/**
 * A TCP proxy that cuts: it lets a given number of bytes of each connection through, counted in one direction,
 * and then ends both halves without a goodbye, in the middle of whatever was being said.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface Cut {
	/** `up` = towards the service. */
	direction: 'up' | 'down';
	afterBytes: number;
}

export class CuttingProxy {
	/** Connections that were cut where they should be. */
	cuts = 0;
	readonly #server: Server;
	readonly #sockets = new Set<Socket>();

	private constructor(server: Server) {
		this.#server = server;
	}

	/** `next` says where each new connection is cut; nothing = it is left alone. */
	static async start(target: string, next: () => Cut | undefined): Promise<CuttingProxy> {
		const { hostname, port } = new URL(target);
		const server = createServer();
		const proxy = new CuttingProxy(server);
		server.on('connection', (robot) => proxy.#join(robot, connect(Number(port), hostname), next()));
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		return proxy;
	}

	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	/** Every connection ends at once; not counted. */
	cutNow(): void {
		for (const socket of this.#sockets) socket.destroy();
	}

	async close(): Promise<void> {
		for (const socket of this.#sockets) socket.destroy();
		await new Promise<void>((resolve) => this.#server.close(() => resolve()));
	}

	#join(robot: Socket, service: Socket, cut: Cut | undefined): void {
		const end = (): void => {
			for (const socket of [robot, service]) socket.destroy();
		};
		for (const socket of [robot, service]) {
			this.#sockets.add(socket);
			socket.setNoDelay(true);
			socket.on('error', end);
			socket.on('close', () => {
				this.#sockets.delete(socket);
				end();
			});
		}
		const pass = (from: Socket, to: Socket, direction: Cut['direction']): void => {
			let left = cut?.direction === direction ? cut.afterBytes : Infinity;
			from.on('data', (bytes) => {
				const passed = bytes.subarray(0, left);
				left -= passed.length;
				if (left > 0) {
					if (!to.write(passed)) {
						from.pause();
						to.once('drain', () => from.resume());
					}
					return;
				}
				from.removeAllListeners('data');
				this.cuts += 1;
				// What was let through arrives, then nothing more in either direction.
				to.write(passed, end);
			});
		};
		pass(robot, service, 'up');
		pass(service, robot, 'down');
	}
}
