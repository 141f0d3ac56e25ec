/**
 * How the link reaches the service: by WebSocket, or, where none comes through, by polling. The choice is made
 * anew for each line, and only from what was seen: a service that is not there is no reason to poll.
 */
import type { createConnection } from 'node:net';
import { WebSocket } from 'ws';
import { limits, paths, type Transport } from '../protocol';
import type { Clock } from './clock';
import type { WantedTransport } from './config';
import type { Log } from './log';
import { PollingSocket } from './polling-socket';
import { type Trust, TrustingAgent } from './trust';

/**
 * How strongly the end of a try speaks against WebSockets: somebody answered, but not as a WebSocket does, or never
 * answered (1); the connection broke off, which restarts cause too (½); or nobody was there to say anything (0).
 */
export type Barrier = 0 | 0.5 | 1;

export interface Dialled {
	readonly socket: WebSocket;
	/** Asked when the socket is closed, if the service was not heard on it. */
	barrier(): Barrier;
}

interface Dial {
	server: string;
	trust?: Trust;
	clock: Clock;
	log: Log;
}

export function dial(transport: Transport, to: Dial): Dialled {
	return transport === 'poll' ? dialByPolls(to) : dialWebSocket(to);
}

const options = {
	perMessageDeflate: false,
	maxPayload: limits.maxControlFrameBytes,
	followRedirects: false,
};

function dialWebSocket({ server, trust }: Dial): Dialled {
	let barrier: Barrier = 0;
	const socket = new WebSocket(server.replace(/^http/, 'ws') + paths.robotLink, {
		...options,
		handshakeTimeout: limits.authenticateMs,
		...(server.startsWith('https:') && {
			agent: new TrustingAgent(trust ?? { pin: undefined, ca: undefined }),
		}),
		finishRequest(request) {
			request.once('socket', (wire) => {
				// From here on silence is an answer, too.
				const reached = (): void => void (barrier = 1);
				if (wire.connecting) wire.once('connect', reached);
				else reached();
			});
			request.once('response', ({ statusCode, headers }) => {
				// The service itself is too busy, or stopping: the handshake did get through.
				const busy = statusCode === 503 && /json/.test(headers['content-type'] ?? '');
				if (statusCode === 429 || busy) barrier = 0;
			});
			request.end();
		},
	});
	const broke = (): void => void (barrier &&= 0.5);
	socket.once('open', broke);
	socket.once('error', ({ code }: NodeJS.ErrnoException) => {
		if (code === 'ECONNRESET' || code === 'EPIPE') broke();
	});
	return { socket, barrier: () => barrier };
}

function dialByPolls(to: Dial): Dialled {
	// The requests may go to an address with a path; the handshake inside them has none, and needs no TLS.
	const socket = new WebSocket(`ws://${new URL(to.server).host}${paths.robotLink}`, {
		...options,
		createConnection: (() => new PollingSocket(to)) as unknown as typeof createConnection,
	});
	return { socket, barrier: () => 0 };
}

/** With this much against WebSockets, in a row, polling is tried. */
const enough = 2;
/** After this many polling lines in a row that came to nothing, what was known about WebSockets is forgotten. */
const maxFailedPolls = 5;
/** Where polling works, a WebSocket is tried again at the first connect after this long. */
const tryAgainMs = 600_000;

/** Which way the next line goes. */
export class Transports {
	readonly #wanted: WantedTransport;
	readonly #clock: Clock;
	/** What speaks against WebSockets, from the tries since one last worked or nobody was there. */
	#against = 0;
	/** Polling has worked, and no WebSocket since. */
	#polls = false;
	#failedPolls = 0;
	/** Monotonic. */
	#triedAt = -Infinity;

	constructor(wanted: WantedTransport, clock: Clock) {
		this.#wanted = wanted;
		this.#clock = clock;
	}

	next(): Transport {
		if (this.#wanted !== 'auto') return this.#wanted;
		const now = this.#clock.monotonic();
		if (this.#polls ? now - this.#triedAt < tryAgainMs : this.#against >= enough) return 'poll';
		this.#triedAt = now;
		return 'websocket';
	}

	/** How a line ended: `heard` = the service spoke on it. */
	ended(transport: Transport, { heard, barrier }: { heard: boolean; barrier: Barrier }): void {
		if (transport === 'websocket') {
			if (heard) this.#polls = false;
			this.#against = heard || barrier === 0 ? 0 : this.#against + barrier;
			return;
		}
		this.#against = 0;
		this.#failedPolls = heard ? 0 : this.#failedPolls + 1;
		if (heard) this.#polls = true;
		else if (this.#failedPolls >= maxFailedPolls) this.#polls = false;
	}
}
