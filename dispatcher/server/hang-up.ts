/** A last word on a connection that is no request any more, and its end. */
import type { Duplex } from 'node:stream';

/**
 * Left to itself such a socket stays half open for as long as the other side likes: nobody reads it, so that even the
 * other side's own end would not be seen.
 */
export function hangUp(socket: Duplex, lastWord: string): void {
	socket.once('finish', () => socket.destroy());
	socket.end(lastWord);
}
