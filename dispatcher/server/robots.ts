/**
 * The robots' door: WebSockets on /api/v1/robots/link, and one sweep over all of them.
 *
 * Who has not proved a key holds a seat for 10 s at most, and there are few such seats; so strangers
 * cannot crowd out robots. One interval serves all sockets: it pings the quiet ones and ends those
 * whose machine is gone without a word (half-open).
 */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { limits, paths, Problem } from '../../protocol';
import type { HostGate } from './app';
import type { House } from './door';
import { isLoopback } from './host-gate';
import { RobotLink } from './robot-link';

const maxStrangers = 256;
/** Loopback is excepted: proxies, tunnels and simulated fleets all come from there. */
const maxStrangersPerAddress = 8;
/** Looked at so often, and at least ten times a heartbeat. */
const sweepMs = 1_000;
/** How long the return of a fleet is spread: so much a robot, within these bounds. */
const returnMsEach = 5;
const minReturnMs = 1_000;
const maxReturnMs = 30_000;

export class RobotsDoor {
	readonly #house: House;
	readonly #heartbeatMs: number;
	readonly #sweepMs: number;
	readonly #sockets = new WebSocketServer({
		noServer: true,
		perMessageDeflate: false,
		maxPayload: limits.maxControlFrameBytes,
		clientTracking: false,
	});
	/** All links, and of those not yet proved the address. */
	readonly #links = new Map<RobotLink, string | null>();
	readonly #strangersAt = new Map<string, number>();
	#strangers = 0;
	/** Sockets there ever were. */
	#opened = 0;
	readonly #over = new AbortController();

	constructor(house: House, heartbeatMs: number = limits.heartbeatMs) {
		this.#house = house;
		this.#heartbeatMs = heartbeatMs;
		this.#sweepMs = Math.min(sweepMs, heartbeatMs / 10);
		void this.#sweepUntilClosed();
	}

	/** Takes the WebSocket upgrades of one HTTP server. */
	attach(server: Server, hostGate: HostGate): void {
		server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
			// Without a listener an error of this raw socket would end the process.
			socket.on('error', () => socket.destroy());
			try {
				this.#admit(request, hostGate);
			} catch (error) {
				return decline(socket, error as Problem);
			}
			const address = addressOf(request);
			this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
				const number = ++this.#opened;
				const link = new RobotLink(webSocket, socket, number, this.#house, this.#heartbeatMs, () =>
					this.#proved(link),
				);
				this.#links.set(link, address);
				this.#count(address, 1);
				webSocket.once('close', () => {
					this.#proved(link);
					this.#links.delete(link);
				});
			});
		});
	}

	/** Says goodbye to all robots; they carry on and come back. Harmless when called twice. */
	close(): void {
		this.#over.abort();
		// A fleet that comes back as one wave would find the service busy with nothing else.
		const withinMs = Math.min(maxReturnMs, Math.max(minReturnMs, this.#links.size * returnMsEach));
		for (const link of this.#links.keys()) link.goodbye('the service stops', withinMs);
	}

	/** After the goodbyes had their time. */
	terminate(): void {
		for (const link of this.#links.keys()) link.terminate();
	}

	get open(): number {
		return this.#links.size;
	}

	#admit(request: IncomingMessage, hostGate: HostGate): void {
		const path = (request.url ?? '').split('?', 1)[0]!;
		if (path !== paths.robotLink) {
			throw new Problem('no-such-route', { method: 'GET', path: path.slice(0, 200) });
		}
		hostGate(request.headers.host, request.headers.origin, request.socket);
		if (this.#over.signal.aborted) throw new Problem('not-ready', { state: 'stopping' });
		const address = addressOf(request);
		const here = isLoopback(address) ? 0 : (this.#strangersAt.get(address) ?? 0);
		if (this.#strangers >= maxStrangers || here >= maxStrangersPerAddress) {
			throw new Problem('too-many', {
				what: 'robots that have not proved their key',
				retryMs: 10_000,
			});
		}
	}

	/** The link gives its stranger's seat back. Harmless when called twice. */
	#proved(link: RobotLink): void {
		const address = this.#links.get(link);
		if (address === null || address === undefined) return;
		this.#links.set(link, null);
		this.#count(address, -1);
	}

	#count(address: string, by: 1 | -1): void {
		this.#strangers += by;
		const here = (this.#strangersAt.get(address) ?? 0) + by;
		if (here > 0) this.#strangersAt.set(address, here);
		else this.#strangersAt.delete(address);
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
			// We did not run: what robots said meanwhile is still to be read.
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
		for (const [link, address] of this.#links) {
			if (address !== null) {
				if (now - link.openedAt > limits.authenticateMs) link.terminate();
				continue;
			}
			const silent = now - link.seenAt;
			// The next look would come after the three heartbeats that were promised.
			if (silent + this.#sweepMs > limits.missedHeartbeats * this.#heartbeatMs) link.terminate();
			else if (ping && silent >= this.#heartbeatMs) link.ping();
		}
	}
}

function addressOf(request: IncomingMessage): string {
	const address = request.socket.remoteAddress ?? 'unknown';
	return address.startsWith('::ffff:') ? address.slice(7) : address;
}

function decline(socket: Duplex, problem: Problem): void {
	const body = JSON.stringify({ error: problem.toBody() });
	const retry = problem.retry ? 'retry-after: 10\r\n' : '';
	socket.end(
		`HTTP/1.1 ${problem.status} Refused\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${retry}connection: close\r\n\r\n${body}`,
	);
}
