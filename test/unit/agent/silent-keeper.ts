/** A keeper's socket behind which a test decides what is said. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../../../agent/clock';
import { Keeper } from '../../../agent/keeper/keeper';
import { places } from '../../../agent/keeper/places';
import { type AgentWord, type Held, type KeeperWord, Lines } from '../../../agent/keeper/words';

export interface SilentKeeper {
	/** Of the agent. */
	readonly keeper: Keeper;
	/** Another one, that finds it in this folder. */
	agent(home: string): Keeper;
	/** What it is said to hold when an agent comes. */
	held: Held[];
	/** Resolves with the next word that was not read yet. */
	next(): Promise<AgentWord>;
	say(word: KeeperWord): void;
	/** The line breaks. */
	cut(): void;
	/** It is killed: nobody listens there any more. */
	die(): Promise<void>;
	close(): Promise<void>;
}

/** Welcomes an agent, and then says only what it is told to. */
export async function silentKeeper(folder: string): Promise<SilentKeeper> {
	const home = join(folder, 'silent');
	mkdirSync(home);
	writeFileSync(join(home, places.secret), 'secret');
	const words: AgentWord[] = [];
	let wake = (): void => undefined;
	let line: Socket | undefined;
	const server = createServer((socket) => {
		line = socket;
		const lines = new Lines(Infinity, (text) => {
			const word = JSON.parse(text) as AgentWord;
			if (word.say === 'hello') {
				return silent.say({ say: 'welcome', version: 1, pid: 1, held: silent.held });
			}
			words.push(word);
			wake();
		});
		socket.on('error', () => undefined);
		socket.setEncoding('utf8').on('data', (text: unknown) => void lines.push(text as string));
	});
	await new Promise<void>((done) => {
		server.listen(join(home, places.socket), done);
	});
	const agent = (at: string): Keeper =>
		new Keeper({
			folder: at,
			program: undefined,
			spool: { folder: join(folder, 'spool'), maxBytes: 1_000, reserveBytes: 0 },
			clock: systemClock,
			log: { info: () => undefined, warn: () => undefined },
		});
	const closed = () => new Promise<unknown>((done) => server.close(done));
	const silent: SilentKeeper = {
		keeper: agent(home),
		agent,
		held: [],
		async next() {
			while (words.length === 0) await new Promise<void>((resolve) => (wake = resolve));
			return words.shift()!;
		},
		say: (word) => void line!.write(`${JSON.stringify(word)}\n`),
		cut: () => void line!.destroy(),
		async die() {
			line!.destroy();
			await closed();
		},
		async close() {
			await silent.keeper.close();
			line?.destroy();
			if (server.listening) await closed();
		},
	};
	return silent;
}
