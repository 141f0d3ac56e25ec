/** An engine of its own behind a real HTTP door, and the real command line beside it. */
import { FleetClient } from '../../client';
import { type ProgramWorld, runProgram } from '../../dispatcher/cli/program';
import { httpSend } from '../../dispatcher/cli/transport';
import { systemClock } from '../../dispatcher/engine/clock';
import { type Server, startServer } from '../../dispatcher/server';
import { admin, house, type House } from './engine';

export interface ServedHouse {
	h: House;
	server: Server;
	/** A key with the scope admin. */
	key: string;
	client: FleetClient;
	world: ProgramWorld;
	/** What the last command line printed. */
	said: { out: string; err: string };
	/** One command line: its exit code. */
	call(...words: string[]): Promise<number>;
	/** The same for one that must succeed, without a word on stderr: what it printed. */
	run(...words: string[]): Promise<string>;
	close(): Promise<void>;
}

export async function servedHouse(options?: Parameters<typeof house>[0]): Promise<ServedHouse> {
	const h = await house(options);
	const { key } = await h.engine.createKey({ name: 'ana', scopes: ['admin'] }, admin);
	const server = await startServer({
		engine: h.engine,
		clock: systemClock,
		log: { debug() {}, info() {}, warn() {}, error() {} },
		version: '0.0.0',
		host: '127.0.0.1',
		port: 0,
		settings: {},
		tls: { folder: '/nowhere' },
		takeBackup: () => Promise.reject(new Error('nobody asks for one')),
	});
	const said = { out: '', err: '' };
	const world: ProgramWorld = {
		version: '0.0.0',
		env: { ROBOT_FLEET_URL: server.url, ROBOT_FLEET_KEY: key },
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => h.clock.now(),
		sleep: async () => undefined,
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		serve: async () => 0,
		upkeep: {} as ProgramWorld['upkeep'],
	};
	const call = (...words: string[]): Promise<number> => {
		said.out = said.err = '';
		return runProgram(words, world);
	};
	return {
		h,
		server,
		key,
		client: new FleetClient(httpSend({ url: server.url, key })),
		world,
		said,
		call,
		async run(...words) {
			const code = await call(...words);
			expect([code, said.err]).toEqual([0, '']);
			return said.out;
		},
		async close() {
			await server.close();
			await h.close();
		},
	};
}
