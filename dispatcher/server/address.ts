/** Where a request comes from, according to its socket; IPv4 is written as IPv4. */
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';

/** Says whose request it is, on a listener that is for our own process alone. */
export const fromHeader = 'x-robot-fleet-from';

/** Connections over which our own process passes on other people's requests and says whose they are. */
const relayed = new WeakSet<Socket>();

export function addressOf(request: IncomingMessage): string {
	const said = relayed.has(request.socket) ? request.headers[fromHeader] : undefined;
	const address = typeof said === 'string' ? said : (request.socket.remoteAddress ?? 'unknown');
	return address.startsWith('::ffff:') ? address.slice(7) : address;
}

/** On this listener the header counts: its gate lets in nobody but us. */
export function bringsOthers(server: Server): void {
	server.on('connection', (socket) => relayed.add(socket));
}
