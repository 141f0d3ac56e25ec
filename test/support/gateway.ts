/**
 * A gateway as networks have them in front of a service: it passes requests on and has its own idea of
 * WebSockets. What it saw of a robot's line is counted.
 */
import {
	createServer,
	type IncomingHttpHeaders,
	type IncomingMessage,
	request as ask,
	type Server,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { paths } from '../../protocol';

/**
 * What becomes of a handshake: it passes; it is answered with this status; it arrives as a plain request; or
 * nobody ever answers it.
 */
export type Handshakes = 'pass' | 'strip' | 'hang' | number;

export class Gateway {
	handshakes: Handshakes;
	/** Requests by which a line polls. */
	polls = 0;
	/** WebSocket handshakes that were asked for. */
	asked = 0;
	/** Answers polls itself with this status, as a gateway whose service is away. */
	away: number | undefined;
	/** Breaks off what is larger, as slow lines and small gateways do. */
	maxBodyBytes = Infinity;
	/** How often it did. */
	brokeOff = 0;
	readonly #server: Server;
	readonly #target: URL;
	readonly #secure: boolean;
	readonly #sockets = new Set<Socket>();

	private constructor(target: string, handshakes: Handshakes, tls?: { cert: string; key: string }) {
		this.#target = new URL(target);
		this.handshakes = handshakes;
		this.#secure = tls !== undefined;
		this.#server = tls ? createTlsServer(tls) : createServer();
		this.#server.on('connection', (socket: Socket) => this.#keep(socket));
		this.#server.on('request', (request, response) => {
			if (request.url === paths.robotPoll) {
				this.polls += 1;
				if (this.away !== undefined) {
					request.resume();
					return response.writeHead(this.away).end('<h1>Bad Gateway</h1>');
				}
			}
			if (Number(request.headers['content-length'] ?? 0) > this.maxBodyBytes) {
				this.brokeOff += 1;
				return request.socket.destroy();
			}
			const passed = this.#pass(request, request.headers);
			request.pipe(passed);
			passed.on('error', () => response.destroy());
			response.on('close', () => passed.destroy());
			passed.on('response', (answer) => {
				response.writeHead(answer.statusCode!, answer.headers);
				answer.pipe(response);
			});
		});
		this.#server.on('upgrade', (request, socket: Socket, head) => {
			this.asked += 1;
			socket.on('error', () => socket.destroy());
			this.#handshake(request, socket, head);
		});
	}

	static async before(
		target: string,
		handshakes: Handshakes,
		tls?: { cert: string; key: string },
	): Promise<Gateway> {
		const gateway = new Gateway(target, handshakes, tls);
		await new Promise<void>((resolve) => gateway.#server.listen(0, '127.0.0.1', resolve));
		return gateway;
	}

	get url(): string {
		const { port } = this.#server.address() as AddressInfo;
		return `${this.#secure ? 'https' : 'http'}://127.0.0.1:${port}`;
	}

	/** Every connection through it ends at once. */
	cutNow(): void {
		for (const socket of this.#sockets) socket.destroy();
	}

	async close(): Promise<void> {
		this.cutNow();
		await new Promise<void>((resolve) => this.#server.close(() => resolve()));
	}

	#keep(socket: Socket): void {
		this.#sockets.add(socket);
		socket.on('close', () => this.#sockets.delete(socket));
	}

	#pass({ method, url }: IncomingMessage, headers: IncomingHttpHeaders) {
		const { hostname, port } = this.#target;
		return ask({ host: hostname, port, method, path: url, headers, agent: false });
	}

	#handshake(request: IncomingMessage, socket: Socket, head: Buffer): void {
		const how = this.handshakes;
		if (how === 'hang') return;
		if (how === 'pass') {
			const there = connect(Number(this.#target.port), this.#target.hostname, () => {
				const lines = [`${request.method} ${request.url} HTTP/1.1`];
				for (let i = 0; i < request.rawHeaders.length; i += 2) {
					lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
				}
				there.write(`${lines.join('\r\n')}\r\n\r\n`);
				there.write(head);
				socket.pipe(there).pipe(socket);
			});
			this.#keep(there);
			for (const [end, other] of [
				[socket, there],
				[there, socket],
			] as const) {
				end.on('error', () => end.destroy());
				end.on('close', () => other.destroy());
			}
			return;
		}
		const say = (status: number, type: string, body: string) =>
			socket.end(
				`HTTP/1.1 ${status} Because\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
			);
		if (typeof how === 'number') return void say(how, 'text/html', '<h1>No sockets here</h1>');
		const { connection: _, upgrade: __, ...plain } = request.headers;
		const passed = this.#pass(request, plain);
		passed.on('error', () => socket.destroy());
		passed.on('response', async (answer) => {
			let body = '';
			for await (const part of answer.setEncoding('utf8')) body += part;
			say(answer.statusCode!, answer.headers['content-type'] ?? 'text/plain', body);
		});
		passed.end();
	}
}
