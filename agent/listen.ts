/**
 * The agent of a robot that is dialled: it listens, its service connects. Once `connected` is proved, all is as
 * on a line that the agent has dialled (link.ts). Before that, nobody is told anything:
 *
 *   TLS with a certificate of the robot's own key (off loopback) ── upgrade, answered with a nonce ──
 *   `connected`, signed over it with the one key that is trusted here ── `hello`
 *
 * The newest proved service takes the place of the one before, which is gone or about to notice.
 */
import { createPublicKey, type KeyObject, randomBytes, verify } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { closeCodes, type Connected, dialProof, limits, nonceHeader, paths } from '../protocol';
import { type LinkParts, LinkRefused, Session } from './link';
import { fingerprintOf } from './own-certificate';

/** Connections that have not yet proved to be the service; more are turned away. */
const maxStrangers = 16;
/** Of any kind, even before an upgrade; more are closed at once. */
const maxConnections = 64;
/** How often to look for whoever is late. */
const lookMs = 1_000;
const closeWaitMs = 1_000;

export interface ListenParts extends Omit<LinkParts, 'server' | 'trust' | 'canRejoin' | 'dial'> {
	readonly host: string;
	/** 0 = any free port. */
	readonly port: number;
	/** Fingerprint of the service that is trusted. */
	readonly hub: string;
	/** Off only where nobody else can listen in. */
	readonly tls: boolean;
}

export class Listening {
	readonly #parts: ListenParts;
	readonly #sockets = new WebSocketServer({
		noServer: true,
		perMessageDeflate: false,
		maxPayload: limits.maxControlFrameBytes,
		clientTracking: false,
	});
	readonly #nonces = new WeakMap<IncomingMessage, string>();
	readonly #strangers = new Set<Session>();
	readonly #over = new AbortController();
	#server: Server | undefined;
	/** The connection of the service. */
	#service: Session | undefined;

	constructor(parts: ListenParts) {
		this.#parts = parts;
		this.#sockets.on('headers', (headers, request) => {
			headers.push(`${nonceHeader}: ${this.#nonces.get(request)!}`);
		});
	}

	/** Resolves with where it listens. */
	async open(): Promise<string> {
		const { identity, host, port, tls } = this.#parts;
		const server = tls
			? createTlsServer({
					...identity.certificate,
					minVersion: 'TLSv1.3',
					handshakeTimeout: limits.authenticateMs,
					connectionsCheckingInterval: lookMs,
				})
			: createServer({ connectionsCheckingInterval: lookMs });
		server.maxConnections = maxConnections;
		server.headersTimeout = limits.authenticateMs;
		server.maxHeadersCount = 50;
		server.on('request', (_request, response) => response.writeHead(404).end());
		server.on('upgrade', (request, socket, head) => this.#admit(request, socket, head));
		await new Promise<void>((resolve, reject) => {
			server.once('error', reject);
			server.listen({ host, port }, () => resolve());
		});
		this.#server = server as Server;
		if (this.#over.signal.aborted) server.close();
		const bound = (server.address() as AddressInfo).port;
		return `${tls ? 'wss' : 'ws'}://${host.includes(':') ? `[${host}]` : host}:${bound}`;
	}

	/** Resolves after `close`. */
	async run(): Promise<void> {
		const { signal } = this.#over;
		if (signal.aborted) return;
		await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
	}

	/** More is known about this machine than the service was told. */
	tellFacts(): void {
		this.#service?.tellFacts();
	}

	/** Stops listening, and says goodbye. */
	async close(): Promise<void> {
		const server = this.#server;
		const sessions = [...this.#strangers, ...(this.#service ? [this.#service] : [])];
		for (const session of sessions) session.close();
		server?.close();
		const gone = new AbortController();
		void Promise.allSettled(sessions.map(({ closed }) => closed)).then(() => gone.abort());
		if (await this.#parts.clock.sleep(closeWaitMs, gone.signal)) {
			for (const session of sessions) session.cut('closing takes too long');
		}
		server?.closeAllConnections();
		this.#over.abort();
	}

	#admit(request: IncomingMessage, socket: Duplex, head: Buffer): void {
		socket.on('error', () => socket.destroy());
		const path = (request.url ?? '').split('?', 1)[0]!;
		// A web page that a browser was led to has no business here.
		if (path !== paths.robotLink || request.headers.origin !== undefined)
			return turnAway(socket, 404);
		if (this.#strangers.size >= maxStrangers) return turnAway(socket, 503);
		const nonce = randomBytes(32).toString('base64url');
		this.#nonces.set(request, nonce);
		this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
			const from = request.socket.remoteAddress ?? 'unknown';
			this.#receive(
				new Session(
					{
						...this.#parts,
						server: from,
						canRejoin: () => false,
						dial: () => webSocket,
						vouch: (connected, session) => this.#judge(connected, nonce, session),
						refusals,
					},
					'websocket',
				),
				from,
			);
		});
	}

	#receive(session: Session, from: string): void {
		const { log, onLost, onRefused } = this.#parts;
		this.#strangers.add(session);
		session.closed.catch((error: Error) => {
			this.#strangers.delete(session);
			if (this.#over.signal.aborted) return;
			const wasService = this.#service === session;
			if (wasService) this.#service = undefined;
			if (error instanceof LinkRefused) onRefused?.(error.message);
			log.warn({ from, reason: error.message }, 'a connection has ended');
			// A stranger's visit is not the loss of the service.
			if (wasService) onLost?.(error.message);
		});
	}

	/** What is wrong with whoever claims to be the service; undefined = it is the one that is trusted here. */
	async #judge(
		{ hub_id: hubId, dialled }: Connected,
		nonce: string,
		session: Session,
	): Promise<string | undefined> {
		const { identity, hub, tls } = this.#parts;
		if (dialled === undefined) return 'The caller does not say who it is.';
		const { robot_id: robotId, name, hub_key: key, signature } = dialled;
		const publicKey = Buffer.from(key, 'base64url');
		const found = fingerprintOf(publicKey);
		if (found !== hub) {
			return `A service (${found}) other than the one trusted here (${hub}) has connected; if it is right, start this agent once with --hub ${found}.`;
		}
		const text = dialProof(hubId, robotId, identity.fingerprint, nonce, tls ? 'tls' : 'plain');
		if (!proves(publicKey, text, signature)) {
			return 'The caller cannot prove that it is the service trusted here; is the fingerprint registered there that of this robot?';
		}
		const { membership } = identity;
		if (membership !== undefined && membership.hubId !== hubId) {
			return 'The service that has connected is not the one this robot belongs to; give it a data folder of its own (--data), or remove this one.';
		}
		while (this.#service !== undefined) {
			const before = this.#service;
			before.cut('the service has connected anew');
			await before.closed.catch(() => undefined);
		}
		// It has gone meanwhile: nothing would ever remove it from its place again.
		if (!this.#strangers.has(session)) return 'The connection is gone.';
		this.#strangers.delete(session);
		this.#service = session;
		identity.belongs({ robotId, hubId, name }, hub);
		return undefined;
	}
}

/** What its owner reads, where it differs from what a robot that dials is told. */
const refusals = {
	[closeCodes.badKey]:
		'The service does not accept the key of this robot; compare the fingerprint that is registered there with the one that this agent printed.',
} as const;

function turnAway(socket: Duplex, status: number): void {
	socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\n\r\n`);
}

function proves(publicKey: Buffer, text: string, signature: string): boolean {
	let key: KeyObject;
	try {
		key = createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
	} catch {
		return false;
	}
	return (
		key.asymmetricKeyType === 'ed25519' &&
		verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'))
	);
}
