/**
 * The robots' door on somebody else's listener: n8n's own port, where the hook is installed. It runs in
 * n8n's main thread and knows nothing: bytes go to the service thread and back, and there they meet the
 * gates, seats and limits of the robots' own door.
 *
 * The threads are joined by connections over loopback. The service thread takes only those that show the
 * secret of this start, and believes them about whose request it is.
 */
import { Agent, type IncomingMessage, request as ask, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { Problem } from '../../protocol';
import { fromHeader } from './address';
import { hangUp } from './hang-up';

/** Where the service thread listens for what we bring. */
export interface Relay {
	port: number;
	/** Shown as the Host. */
	secret: string;
}

export interface FrontOptions {
	/** How to get to the service as it runs now; rejects while it does not. */
	relay(): Promise<Relay>;
	/** How many proxies before us put an address into X-Forwarded-For (n8n's N8N_PROXY_HOPS). */
	proxyHops?: number;
}

/** Headers that concern this connection alone, that are ours to set, or that are nobody's business behind this door. */
const notPassedOn =
	/^(host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|expect|cookie|forwarded|x-forwarded-.*|x-robot-fleet-.*)$/i;
/** A WebSocket needs these two repeated. */
const ofUpgrades = /^(connection|upgrade)$/i;
const noHurryMs = 10_000;

export class Front {
	readonly #options: FrontOptions;
	/** One connection per request, so that the service sees what becomes of a robot's line. */
	readonly #agent = new Agent({ keepAlive: false });

	constructor(options: FrontOptions) {
		this.#options = options;
	}

	/** `path` as the service knows it. */
	async request(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
		response.on('error', () => undefined);
		let relay: Relay;
		try {
			relay = await this.#options.relay();
		} catch (error) {
			return refuse(response, error);
		}
		if (response.destroyed) return;
		const inner = ask({
			host: '127.0.0.1',
			port: relay.port,
			method: request.method,
			path,
			agent: this.#agent,
			headers: this.#headers(request, relay, notPassedOn),
			setHost: false,
		});
		inner.on('error', (error) => {
			if (response.headersSent) response.destroy();
			else refuse(response, error);
		});
		inner.on('response', (answer) => {
			const kept = pairsOf(answer).filter(([name]) => !notPassedOn.test(name));
			response.writeHead(answer.statusCode ?? 502, kept.flat());
			answer.on('error', () => response.destroy());
			answer.pipe(response);
		});
		// The robot is gone: the service notices, as it would at its own door.
		response.on('close', () => inner.destroy());
		request.on('error', () => inner.destroy());
		request.pipe(inner);
	}

	async upgrade(
		request: IncomingMessage,
		socket: Duplex,
		head: Buffer,
		path: string,
	): Promise<void> {
		// Without a listener an error of this raw socket would end n8n.
		socket.on('error', () => socket.destroy());
		let relay: Relay;
		try {
			relay = await this.#options.relay();
		} catch (error) {
			return decline(socket, error);
		}
		if (socket.destroyed) return;
		const keep = (name: string) => !notPassedOn.test(name) || ofUpgrades.test(name);
		const headers = this.#headers(request, relay, { test: (name) => !keep(name) });
		const lines = headers.flatMap((value, at) =>
			at % 2 === 0 ? [`${value}: ${headers[at + 1]}`] : [],
		);
		const inner = connect({ host: '127.0.0.1', port: relay.port, noDelay: true });
		let joined = false;
		inner.on('error', (error) => (joined ? socket.destroy() : decline(socket, error)));
		inner.on('close', () => joined && socket.destroy());
		socket.on('close', () => inner.destroy());
		inner.setTimeout(noHurryMs, () => inner.destroy(new Error('no answer in time')));
		inner.once('connect', () => {
			joined = true;
			inner.setTimeout(0);
			inner.write(`${request.method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1');
			if (head.length > 0) inner.write(head);
			inner.pipe(socket);
			socket.pipe(inner);
		});
	}

	/** Name, value, name, value, as they came; and who it is from. */
	#headers(request: IncomingMessage, relay: Relay, drop: Pick<RegExp, 'test'>): string[] {
		const kept = pairsOf(request).filter(([name]) => !drop.test(name));
		return ['Host', relay.secret, fromHeader, this.#addressOf(request), ...kept.flat()];
	}

	/** As n8n itself counts: this many proxies are trusted, and each has noted who called it. */
	#addressOf(request: IncomingMessage): string {
		const hops = this.#options.proxyHops ?? 0;
		const said = hops > 0 ? [request.headers['x-forwarded-for'] ?? []].flat().join(',') : '';
		const callers = said
			.split(',')
			.map((each) => each.trim())
			.filter(Boolean);
		const address = callers.at(-Math.min(hops, callers.length)) ?? '';
		if (hops > 0 && /^[0-9a-fA-F:.]+$/.test(address)) return address;
		return request.socket.remoteAddress ?? 'unknown';
	}
}

function pairsOf({ rawHeaders }: IncomingMessage): [string, string][] {
	return rawHeaders.flatMap((name, at) =>
		at % 2 === 0 ? [[name, rawHeaders[at + 1]!] as [string, string]] : [],
	);
}

function refuse(response: ServerResponse, error: unknown): void {
	if (response.headersSent || response.destroyed) return;
	const { status, body, headers } = refusalOf(error);
	response.writeHead(status, headers).end(body);
}

function decline(socket: Duplex, error: unknown): void {
	if (socket.destroyed) return;
	const { status, body, headers } = refusalOf(error);
	const lines = Object.entries({ ...headers, connection: 'close' });
	hangUp(
		socket,
		`HTTP/1.1 ${status} Refused\r\n${lines.map(([name, value]) => `${name}: ${value}`).join('\r\n')}\r\n\r\n${body}`,
	);
}

/** Agents try again for ever: it is always "not now". */
function refusalOf(error: unknown) {
	const problem =
		error instanceof Problem && error.retry ? error : new Problem('not-ready', { state: 'away' });
	const body = JSON.stringify({ error: problem.toBody() });
	return {
		status: problem.status,
		body,
		headers: {
			'content-type': 'application/json',
			'content-length': String(Buffer.byteLength(body)),
			'retry-after': '10',
		},
	};
}
