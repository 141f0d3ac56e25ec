/** The floor: a bare `ws` server that sends back what it gets, and knows nothing else. */
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';

const server = new WebSocketServer({
	host: '127.0.0.1',
	port: 0,
	backlog: 4_096,
	perMessageDeflate: false,
	clientTracking: false,
});
server.on('connection', (socket) => {
	socket.on('error', () => undefined);
	socket.on('message', (data) => socket.send(data));
});
server.once('listening', () => process.send!({ port: (server.address() as AddressInfo).port }));
process.on('disconnect', () => process.exit());
