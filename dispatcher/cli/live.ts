/** The client side of the live socket: messages of some channels, for as long as the connection lasts. */
import { WebSocket } from 'ws';
import { limits, liveLimits, type LiveMessage, paths, Problem } from '../../protocol';
import { type Address, trustOf } from './transport';

/** Ends with a problem when the service refuses or goes away. `since` = the last event known of a channel. */
export async function* liveMessages(
	{ url, key, certificate }: Address,
	channels: readonly string[],
	since: (channel: string) => number | undefined,
	signal?: AbortSignal,
	/** The service pings: hearing nothing for this long means that the line is gone. */
	silentMs = 3 * liveLimits.pingMs,
): AsyncGenerator<LiveMessage> {
	const socket = new WebSocket(url.replace(/^http/, 'ws') + paths.live, {
		headers: { authorization: `Bearer ${key}` },
		perMessageDeflate: false,
		handshakeTimeout: limits.authenticateMs,
		...(certificate === undefined ? {} : trustOf(certificate)),
	});
	const heard: (LiveMessage | Error)[] = [];
	let wake = () => {};
	const hear = (what: LiveMessage | Error) => {
		heard.push(what);
		wake();
	};
	const away = (reason: string) => hear(new Problem('service-away', { url, reason }));
	socket.on('message', (data) => {
		const said = JSON.parse(String(data)) as LiveMessage | { type: string; error?: unknown };
		if ('channel' in said && 'event' in said) return hear(said as LiveMessage);
		if ('error' in said) return hear(Problem.fromBody(said) ?? new Problem('internal'));
		if ((said as { type: string }).type !== 'ready') return;
		for (const channel of channels) {
			socket.send(JSON.stringify({ type: 'subscribe', channel, since: since(channel) }));
		}
	});
	socket.on('unexpected-response', (_request, response) => {
		let text = '';
		response.setEncoding('utf8');
		response.on('data', (piece: string) => (text += piece));
		response.on('end', () => hear(refusalOf(text) ?? new Problem('internal')));
	});
	socket.on('upgrade', ({ socket: wire }) => {
		socket.once('open', () => wire.setTimeout(silentMs, () => socket.terminate()));
	});
	socket.on('error', (error) => away(error.message));
	socket.on('close', (code, reason) => away(String(reason) || `the socket was closed (${code})`));
	const stop = () => wake();
	signal?.addEventListener('abort', stop);
	try {
		while (!signal?.aborted) {
			const next = heard.shift();
			if (next instanceof Error) throw next;
			if (next) yield next;
			else await new Promise<void>((resolve) => (wake = resolve));
		}
	} finally {
		signal?.removeEventListener('abort', stop);
		socket.terminate();
	}
}

function refusalOf(text: string): Problem | undefined {
	try {
		return Problem.fromBody(JSON.parse(text));
	} catch {
		return undefined;
	}
}
