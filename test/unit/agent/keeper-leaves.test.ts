/** When a keeper leaves, and what an agent makes of one that leaves while it comes. */
import { createServer, type Server, type Socket } from 'node:net';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../../agent/clock';
import { places } from '../../../agent/keeper/places';
import { Idleness } from '../../../agent/keeper/process';
import { connect } from '../../../agent/keeper/wire';
import { temporaryFolder } from './temporary-folder';

test('a keeper leaves when nobody needed it at two looks', () => {
	const idleness = new Idleness();
	expect(idleness.seen({ needed: true, visits: 1 })).toBe(false);
	expect(idleness.seen({ needed: false, visits: 1 })).toBe(false);
	expect(idleness.seen({ needed: false, visits: 1 })).toBe(true);
});

test('a keeper stays for agents that come and go between its looks', () => {
	const idleness = new Idleness();
	for (let visits = 1; visits <= 5; visits += 1) {
		expect(idleness.seen({ needed: false, visits })).toBe(false);
	}
	expect(idleness.seen({ needed: false, visits: 5 })).toBe(true);
});

describe('an agent that dials', () => {
	const folder = temporaryFolder();
	const ears = { hear: () => undefined, gone: () => undefined };
	let server: Server | undefined;

	async function listen(visited: (socket: Socket) => void): Promise<string> {
		const home = folder();
		mkdirSync(home, { recursive: true });
		writeFileSync(join(home, places.secret), 'secret');
		const listening = createServer(visited);
		server = listening;
		await new Promise<void>((done) => {
			listening.listen(join(home, places.socket), done);
		});
		return home;
	}
	afterEach(async () => {
		const closing = server;
		if (closing?.listening) await new Promise((done) => closing.close(done));
	});

	test('knows that a keeper which left as it came is nobody', async () => {
		const home = await listen((socket) => {
			server!.close();
			socket.destroy();
		});
		expect(await connect(home, systemClock, ears)).toBe('nobody');
	});

	test('calls a keeper mute that hangs up again and again', async () => {
		let calls = 0;
		const home = await listen((socket) => {
			calls += 1;
			socket.destroy();
		});
		expect(await connect(home, systemClock, ears)).toBe('mute');
		expect(calls).toBe(3);
	});
});
