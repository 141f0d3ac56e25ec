/**
 * The robots' door: WebSockets on /api/v1/robots/link, including those carried by requests
 * (poll-lines.ts), and one sweep over all of them.
 *
 * Whoever has not proved a key holds a seat for 10 s at most, and there are few such seats; whoever finds
 * none waits in line (seats.ts). One interval serves all sockets: it pings the quiet ones and ends those
 * whose machine has vanished without a word (half-open).
 */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { limits, paths, Problem } from '../../protocol';
import { addressOf } from './address';
import type { HostGate } from './app';
import type { House } from './door';
import { hangUp } from './hang-up';
import { isLoopback, robotsGate } from './host-gate';
import { PollLines } from './poll-lines';
import { type Expected, type LinkKeeper, RobotLink, RobotSocket } from './robot-link';
import { type Guest, Seats } from './seats';

/** How often all links are swept; at least ten times a heartbeat. */
const sweepMs = 1_000;
/** Over how long a fleet's return is spread: this much per robot, within these bounds. */
const returnMsEach = 5;
const minReturnMs = 1_000;
const maxReturnMs = 30_000;
/** How long a robot has to answer the close of its socket. */
const politeMs = 500;

/** Another door for WebSockets at the same listener. */
export interface UpgradeDoor {
	readonly path: string;
	take(request: IncomingMessage, socket: Duplex, head: Buffer, hostGate: HostGate): void;
}

export class RobotsDoor implements LinkKeeper {
	readonly #house: House;
	readonly #heartbeatMs: number;
	readonly #sweepMs: number;
	readonly #sockets = new WebSocketServer({
		noServer: true,
		perMessageDeflate: false,
		maxPayload: limits.maxControlFrameBytes,
		clientTracking: false,
		WebSocket: RobotSocket,
	});
	/** All links, each with its address until it has proved its key. */
	readonly #links = new Map<RobotLink, string | null>();
	/** Those that the service has dialled: they never had a seat. */
	readonly #dialled = new WeakSet<RobotLink>();
	/** Sockets opened so far. */
	#opened = 0;
	readonly #seats = new Seats({
		seats: 256,
		seatsPerAddress: 8,
		isTrusted: isLoopback,
		inLine: 16_384,
		// An agent gives up after `authenticateMs`; it hears from us before that.
		lineMs: 0.8 * limits.authenticateMs,
		perTurn: 32,
	});
	readonly #over = new AbortController();
	/** Where robots come in when no WebSocket gets through. */
	readonly polls: PollLines;

	constructor(house: House, heartbeatMs: number = limits.heartbeatMs) {
		this.#house = house;
		this.#heartbeatMs = heartbeatMs;
		this.#sweepMs = Math.min(sweepMs, heartbeatMs / 10);
		this.polls = new PollLines(house.clock);
		// The request that carries it has passed the gate of its own listener.
		this.attach(this.polls.handshakes, robotsGate);
		void this.#sweepUntilClosed();
	}

	/** Takes the WebSocket upgrades of one HTTP server. */
	attach(server: Server, hostGate: HostGate, others?: UpgradeDoor): void {
		server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
			// Without a listener an error of this raw socket would end the process.
			socket.on('error', destroy);
			if (others?.path === pathOf(request)) return others.take(request, socket, head, hostGate);
			try {
				this.#admit(request, hostGate);
			} catch (error) {
				return decline(socket, error as Problem);
			}
			this.#queue(request, socket, head);
		});
	}

	#queue(request: IncomingMessage, socket: Duplex, head: Buffer): void {
		const address = addressOf(request);
		const guest: Guest = {
			address,
			since: this.#house.clock.monotonic(),
			enter: () => {
				// Nothing of the line, nor of the request, stays with the robot.
				socket.off('close', gone);
				this.#upgrade(request, socket, head, address);
			},
			turnAway: () => decline(socket, crowded()),
		};
		const gone = () => this.#seats.goAway(guest);
		socket.on('close', gone);
		if (!this.#seats.ask(guest)) decline(socket, crowded());
	}

	#upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, address: string): void {
		let link: RobotLink | undefined;
		this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
			const number = ++this.#opened;
			link = new RobotLink(
				webSocket,
				socket,
				number,
				address,
				this.#house,
				this.#heartbeatMs,
				this,
			);
			this.#links.set(link, address);
		});
		// An invalid handshake has already been answered.
		if (!link) this.#seats.leave(address);
	}

	/** Takes a socket that the service has dialled: from here on it is like any other robot's. */
	take(webSocket: RobotSocket, wire: Duplex, address: string, expected: Expected): void {
		const number = ++this.#opened;
		const link = new RobotLink(
			webSocket,
			wire,
			number,
			address,
			this.#house,
			this.#heartbeatMs,
			this,
			expected,
		);
		this.#dialled.add(link);
		this.#links.set(link, address);
	}

	/** Says goodbye to all robots; they carry on and come back. Harmless when called twice. */
	close(): void {
		this.#over.abort();
		this.#seats.sweep(Infinity);
		// A fleet that comes back as one wave would find the service busy with nothing else.
		const withinMs = Math.min(maxReturnMs, Math.max(minReturnMs, this.#links.size * returnMsEach));
		for (const link of this.#links.keys()) link.goodbye('the service stops', withinMs);
	}

	/** After the goodbyes had their time. */
	terminate(): void {
		for (const link of this.#links.keys()) link.terminate();
		this.polls.close();
	}

	get open(): number {
		return this.#links.size;
	}

	#admit(request: IncomingMessage, hostGate: HostGate): void {
		const path = pathOf(request);
		if (path !== paths.robotLink) {
			throw new Problem('no-such-route', { method: 'GET', path: path.slice(0, 200) });
		}
		hostGate(request.headers.host, request.headers.origin, request.socket);
		if (this.#over.signal.aborted) throw new Problem('not-ready', { state: 'stopping' });
	}

	/** The link gives up its stranger's seat. Harmless when called twice. */
	proved(link: RobotLink): void {
		const address = this.#links.get(link);
		if (address === null || address === undefined) return;
		this.#links.set(link, null);
		if (!this.#dialled.has(link)) this.#seats.leave(address);
	}

	closed(link: RobotLink): void {
		this.proved(link);
		this.#links.delete(link);
	}

	async #sweepUntilClosed(): Promise<void> {
		const { clock } = this.#house;
		const { signal } = this.#over;
		let pingAt = clock.monotonic() + this.#heartbeatMs;
		let now = clock.monotonic();
		const lateMs = Math.min(limits.clockJumpMs, this.#heartbeatMs);
		while (!signal.aborted) {
			const before = now;
			await clock.sleep(this.#sweepMs, signal);
			if (signal.aborted) return;
			now = clock.monotonic();
			// We did not run for a while: what robots said meanwhile is still unread.
			if (now - before > this.#sweepMs + lateMs) this.#startAnew(now);
			const ping = now >= pingAt;
			if (ping) pingAt = now + this.#heartbeatMs;
			this.#sweep(now, ping);
		}
	}

	#startAnew(now: number): void {
		for (const link of this.#links.keys()) link.openedAt = link.seenAt = now;
	}

	#sweep(now: number, ping: boolean): void {
		this.#seats.sweep(now);
		this.polls.sweep(now);
		for (const [link, address] of this.#links) {
			// It was told why, and may not be listening.
			if (link.closingAt !== undefined && now - link.closingAt > politeMs) link.terminate();
			if (address !== null) {
				if (now - link.openedAt > limits.authenticateMs) link.terminate();
				continue;
			}
			if (link.isUnread) {
				// So that it hears we are here, and we notice when nobody is there any more.
				if (ping) link.ping();
				continue;
			}
			const silent = now - link.seenAt;
			// The next look would come after the three heartbeats that were promised.
			if (silent + this.#sweepMs > limits.missedHeartbeats * this.#heartbeatMs) link.terminate();
			else if (ping && silent >= this.#heartbeatMs) link.ping();
		}
	}
}

function destroy(this: Duplex): void {
	this.destroy();
}

const pathOf = (request: IncomingMessage) => (request.url ?? '').split('?', 1)[0]!;

const crowded = () =>
	new Problem('too-many', { what: 'robots that have not proved their key', retryMs: 10_000 });

export function decline(socket: Duplex, problem: Problem): void {
	const body = JSON.stringify({ error: problem.toBody() });
	const retryMs = Number(problem.details.retryMs ?? 10_000);
	const retry = problem.retry ? `retry-after: ${Math.ceil(retryMs / 1000)}\r\n` : '';
	hangUp(
		socket,
		`HTTP/1.1 ${problem.status} Refused\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${retry}connection: close\r\n\r\n${body}`,
	);
}
