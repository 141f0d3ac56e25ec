/** Where a request comes from, as its socket says; IPv4 is written as such. */
import type { IncomingMessage } from 'node:http';

export function addressOf(request: IncomingMessage): string {
	const address = request.socket.remoteAddress ?? 'unknown';
	return address.startsWith('::ffff:') ? address.slice(7) : address;
}
