/** A line that has died without a word looks like one on which nothing happens: the command line gives it up. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';
import { follow } from '../../../dispatcher/cli/follow';
import { liveMessages } from '../../../dispatcher/cli/live';
import type { Terminal } from '../../../dispatcher/cli/terminal';
import { download, outputEvents } from '../../../dispatcher/cli/transport';

const timeoutMs = 100;
let server: Server;
let answer: (response: ServerResponse) => void;
let address: { url: string; key: string };

beforeEach(async () => {
	answer = () => undefined;
	server = createServer((_request, response) => answer(response));
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	address = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: 'k' };
});
afterEach(async () => {
	server.closeAllConnections();
	await new Promise((resolve) => server.close(resolve));
});

const event = (name: string, id: string, data: object) =>
	`event: ${name}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`;

test('events end without an end: whoever follows comes back where he was', async () => {
	answer = (response) => {
		response.writeHead(200, { 'content-type': 'text/event-stream' });
		response.write(event('output', 'stdout=2,stderr=0', { stream: 'stdout', text: 'hi' }));
	};
	const heard = [];
	for await (const one of outputEvents(address, '/', undefined, undefined, timeoutMs)) {
		heard.push(one.id);
	}
	expect(heard).toEqual(['stdout=2,stderr=0']);
});

test('a service that takes the call and says nothing is away', async () => {
	const events = outputEvents(address, '/', undefined, undefined, timeoutMs);
	await expect(events.next()).rejects.toMatchObject({ code: 'service-away', retry: true });
});

test('a file that stops coming is worth another try from there', async () => {
	answer = (response) => {
		response.writeHead(200, { 'content-length': 10 });
		response.write('half');
	};
	const pieces = download(address, 'GET', '/', { timeoutMs });
	expect(String((await pieces.next()).value)).toBe('half');
	await expect(pieces.next()).rejects.toMatchObject({ code: 'service-away', retry: true });
});

test('whoever looks on hears that nobody is there any more', async () => {
	const sockets = new WebSocketServer({ server });
	sockets.on('connection', (socket) => socket.send('{"type":"ready"}'));
	const messages = liveMessages(address, [], () => undefined, undefined, timeoutMs);
	await expect(messages.next()).rejects.toMatchObject({ code: 'service-away' });
	for (const socket of sockets.clients) socket.terminate();
});

test('as JSON each event is a line, and nothing else is printed', async () => {
	answer = (response) => {
		response.writeHead(200, { 'content-type': 'text/event-stream' });
		response.write(event('output', 'stdout=2,stderr=0', { stream: 'stdout', text: 'hi' }));
		response.end(event('end', 'stdout=2,stderr=0', { stdout: 2, stderr: 0 }));
	};
	let out = '';
	const terminal = { out: (text: string) => void (out += text) } as Terminal;
	await follow(terminal, address, 'j1', { json: true });
	expect(
		out
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line)),
	).toEqual([
		{ event: 'output', stream: 'stdout', text: 'hi' },
		{ event: 'end', stdout: 2, stderr: 0 },
	]);
});

test('output that begins anew is told beside it', async () => {
	const at = 'stdout=0,stderr=0';
	answer = (response) => {
		response.writeHead(200, { 'content-type': 'text/event-stream' });
		response.write(event('output', at, { stream: 'stdout', text: 'half\n' }));
		response.write(event('restart', at, { stream: 'stdout' }));
		response.write(event('output', at, { stream: 'stdout', text: 'half\nwhole\n' }));
		response.end(event('end', at, { stdout: 11, stderr: 0 }));
	};
	const said = { out: '', err: '' };
	const terminal = {
		out: (text: string) => void (said.out += text),
		err: (text: string) => void (said.err += text),
	} as Terminal;
	await follow(terminal, address, 'j1');
	expect(said.out).toBe('half\nhalf\nwhole\n');
	expect(said.err).toMatch(/^\nstdout starts again; /);
});
