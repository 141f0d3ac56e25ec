/**
 * A keeper's socket. Only whoever knows the secret of the data folder is heard, and only one at a
 * time: an agent that comes while another one seems to be there waits until that line has ended, so
 * that nothing the old one said is done behind the new one's back.
 */
import { timingSafeEqual } from 'node:crypto';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../clock';
import type { Desk } from './desk';
import type { Keep } from './keep';
import { Voice } from './voice';
import { type AgentWord, Lines, parse } from './words';

const helloMs = 2_000;
const maxHelloLength = 4_096;
/** A start carries the environment and the input of a program. */
const maxLineLength = 64 * 1024 * 1024;
const oldGuestMs = 5_000;

export interface DoorParts {
	keep: Keep;
	desk: Desk;
	secret: string;
	clock: Clock;
	/** The agent has nothing more for this keeper. */
	onLeave(): void;
	complain(text: string): void;
}

export class Door {
	readonly #parts: DoorParts;
	readonly #sockets = new Set<Socket>();
	#server: Server | undefined;
	/** The one that is heard, until its line has ended. */
	#guest: { socket: Socket; left: Promise<void> } | undefined;
	/** Agents heard so far. */
	visits = 0;

	constructor(parts: DoorParts) {
		this.#parts = parts;
	}

	get isVisited(): boolean {
		return this.#guest !== undefined;
	}

	async listen(path: string): Promise<void> {
		const server = createServer((socket) => this.#open(socket));
		this.#server = server;
		if (process.platform !== 'win32') rmSync(path, { force: true });
		await new Promise<void>((resolve, reject) => {
			server.once('error', reject);
			server.listen(path, resolve);
		});
		if (process.platform !== 'win32') chmodSync(path, 0o600);
	}

	/** Hangs up on everybody. */
	async close(): Promise<void> {
		for (const socket of this.#sockets) socket.destroy();
		await new Promise<void>((done) => (this.#server ? this.#server.close(() => done()) : done()));
	}

	#open(socket: Socket): void {
		this.#sockets.add(socket);
		socket.once('close', () => this.#sockets.delete(socket));
		const { clock, desk } = this.#parts;
		let known = false;
		const over = new AbortController();
		const lines = new Lines(maxHelloLength, (line) => {
			if (socket.destroyed) return;
			const word = parse(line) as AgentWord | undefined;
			if (word === undefined) return refuse('a line that is no JSON');
			if (known) return word.say === 'leave' ? this.#parts.onLeave() : desk.hear(word);
			if (word.say !== 'hello' || !this.#isSecret(word.secret)) return refuse('a wrong secret');
			known = true;
			lines.maxLength = maxLineLength;
			over.abort();
			void this.#welcome(socket);
		});
		const refuse = (what: string): void => {
			this.#parts.complain(`refused: ${what}`);
			socket.destroy();
		};
		socket.setEncoding('utf8');
		socket.on('data', (text: unknown) => {
			if (!lines.push(text as string)) refuse('a line that is too long');
		});
		// The end is told by 'close', whatever the reason.
		socket.on('error', () => undefined);
		socket.once('close', () => over.abort());
		void clock.sleep(helloMs, over.signal).then((late) => {
			if (late) socket.destroy();
		});
	}

	async #welcome(socket: Socket): Promise<void> {
		const { desk, keep, clock } = this.#parts;
		const left = new Promise<void>((resolve) => socket.once('close', () => resolve()));
		for (let before = this.#guest; before; before = this.#guest) {
			const gone = new AbortController();
			void before.left.then(() => gone.abort());
			if (await clock.sleep(oldGuestMs, gone.signal)) before.socket.destroy();
			await before.left;
		}
		if (socket.destroyed) return;
		const guest = { socket, left };
		this.#guest = guest;
		this.visits += 1;
		void left.then(() => {
			this.#guest = undefined;
			desk.detach();
		});
		await keep.settled();
		if (socket.destroyed) return;
		socket.on('drain', () => desk.drained());
		const voice = new Voice((text) => socket.write(text), clock);
		desk.attach((word) => voice.say(word));
	}

	#isSecret(said: unknown): boolean {
		const secret = Buffer.from(this.#parts.secret);
		const guess = Buffer.from(String(said));
		return guess.length === secret.length && timingSafeEqual(guess, secret);
	}
}
