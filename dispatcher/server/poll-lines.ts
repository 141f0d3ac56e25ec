/**
 * Lines of robots that no WebSocket reaches: requests and answers that carry the bytes of one
 * (protocol/poll.ts). What they carry is served as any other connection: its handshake goes through the
 * same gate and line of seats, its WebSocket has the same link. Here is only what makes requests into
 * a connection, and ends one whose robot is gone.
 *
 * Nobody is known by his line before he has proved his key on it: what a stranger can have is a handshake.
 */
import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';
import { limits, Problem } from '../../protocol';
import {
	CarriedStream,
	decodePoll,
	encodePoll,
	type PollBody,
	pollHeadBytes,
} from '../../protocol/poll';
import type { Clock } from '../engine/clock';
import { type Door, door } from './door';

/** Lines on which no handshake was said yet; honest robots say it in the request that opens. */
const maxSilent = 256;
/** Of a request that opens: the handshake, however many headers it has. */
const maxOpeningBytes = pollHeadBytes + 8 * 1024;

/** The connection that the requests of one line stand for. */
export class PolledSocket extends CarriedStream {
	readonly remoteAddress: string | undefined;
	/** A handshake was said on it: from then on others see to its end. */
	asked = false;
	readonly #clock: Clock;
	readonly #openedAt: number;
	/** The request that waits is answered. */
	#answer: (() => void) | undefined;
	/** Over which it came, or the one before it. */
	#wire: Socket | undefined;
	/** When that closed, and nothing was heard since. */
	#brokenAt: number | undefined;
	/** Our last word was in an answer. */
	#toldEnd = false;
	/** When it was seen that we have said our last word. */
	#endedAt: number | undefined;

	constructor(clock: Clock, remoteAddress: string | undefined) {
		super();
		this.#clock = clock;
		this.remoteAddress = remoteAddress;
		this.#openedAt = clock.monotonic();
	}

	/** What is answered, now or when there is something to say; undefined when the line is over. */
	async exchange(body: PollBody, wire: Socket): Promise<Buffer | undefined> {
		this.#brokenAt = undefined;
		if (!this.arrived(body.have)) {
			this.destroy();
			return undefined;
		}
		this.receive(body);
		await this.room();
		const waits = body.waitMs > 0;
		if (waits) {
			this.#watch(wire);
			await this.#news(Math.min(body.waitMs, limits.pollWaitMs));
			if (this.destroyed) return undefined;
		}
		const piece = waits ? this.piece(limits.pollPieceBytes) : this.silence;
		const answer = encodePoll({ opens: false, waitMs: 0, have: this.have, ...piece });
		this.#toldEnd ||= piece.ends;
		// Both have said their last word: nobody comes to say that ours has arrived.
		if (this.#toldEnd && this.over) this.arrived(this.total);
		return answer;
	}

	/** Nobody will come any more. */
	isLost(now: number): boolean {
		if (!this.asked) return now - this.#openedAt > limits.authenticateMs;
		if (this.writableEnded) this.#endedAt ??= now;
		const since = Math.min(this.#brokenAt ?? Infinity, this.#endedAt ?? Infinity);
		return now - since > limits.pollReturnMs;
	}

	override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
		super._destroy(error, done);
		this.#wire?.off('close', this.#broke);
		this.#answer?.();
	}

	protected override said(): void {
		this.#answer?.();
	}

	/** Where a robot is killed its connections are closed, whether it waits on them just now or not. */
	#watch(wire: Socket): void {
		if (this.#wire === wire) return;
		this.#wire?.off('close', this.#broke);
		this.#wire = wire;
		// A gateway may bring many lines over one connection.
		wire.setMaxListeners(0).on('close', this.#broke);
		if (wire.destroyed) this.#broke();
	}

	readonly #broke = (): void => {
		this.#brokenAt = this.#clock.monotonic();
		this.#answer?.();
	};

	async #news(waitMs: number): Promise<void> {
		// It asks anew, so it does not wait for the older answer any more.
		this.#answer?.();
		if (this.hasNews || this.destroyed) return;
		const over = new AbortController();
		const answer = (): void => over.abort();
		this.#answer = answer;
		await this.#clock.sleep(waitMs, over.signal);
		if (this.#answer === answer) this.#answer = undefined;
	}
}

export class PollLines {
	/** Hears the handshakes that are said on lines. It never listens. */
	readonly handshakes: Server = createServer();
	/** Of `POST /robots/link/poll`. */
	readonly door: Door;
	readonly #clock: Clock;
	/** By the name that the robot made up. */
	readonly #lines = new Map<string, PolledSocket>();
	#silent = 0;

	constructor(clock: Clock) {
		this.#clock = clock;
		// Lines are for WebSockets; everything else has doors of its own.
		this.handshakes.on('request', ({ socket }) => socket.destroy());
		this.handshakes.on('clientError', (_error, socket) => socket.destroy());
		this.handshakes.on('upgrade', (_request, socket) => this.#asked(socket));
		this.door = door({
			bytes: pollHeadBytes + limits.pollPieceBytes,
			admit: (request) => this.#admit(request),
			run: async ({ body, request }) => {
				const said = decodePoll(body as Buffer);
				if (!said) throw new Problem('bad-message', { reason: 'this is not the body of a poll' });
				const name = nameIn(request);
				const line = this.#lines.get(name) ?? (said.opens ? this.#open(name, request) : undefined);
				if (!line || line.destroyed) throw new Problem('no-such-line');
				const answer = await line.exchange(said, request.raw.socket);
				if (!answer) throw new Problem('no-such-line');
				return answer;
			},
		});
	}

	/** Ends lines whose robots are gone; call it now and then. */
	sweep(now: number): void {
		for (const line of this.#lines.values()) if (line.isLost(now)) line.destroy();
	}

	/** Ends all of them. Harmless when called twice. */
	close(): void {
		for (const line of this.#lines.values()) line.destroy();
	}

	/** Before the body is read: whoever has no line may only bring what opens one. */
	#admit(request: FastifyRequest): void {
		if (this.#lines.has(nameIn(request))) return;
		const bytes = Number(request.headers['content-length'] ?? Infinity);
		if (!(bytes <= maxOpeningBytes)) throw new Problem('no-such-line');
	}

	#open(name: string, request: FastifyRequest): PolledSocket {
		if (this.#silent >= maxSilent) {
			throw new Problem('too-many', { what: 'lines without a handshake', retryMs: 10_000 });
		}
		const line = new PolledSocket(this.#clock, request.raw.socket.remoteAddress);
		this.#lines.set(name, line);
		this.#silent += 1;
		line.on('error', () => undefined);
		line.once('close', () => {
			this.#lines.delete(name);
			this.#asked(line);
		});
		this.handshakes.emit('connection', line as unknown as Socket);
		return line;
	}

	/** Harmless when called twice. */
	#asked(socket: unknown): void {
		const line = socket as PolledSocket;
		if (!line.asked) this.#silent -= 1;
		line.asked = true;
	}
}

function nameIn({ headers }: FastifyRequest): string {
	const name = /^Bearer +([\w-]{43})$/i.exec(headers.authorization ?? '')?.[1];
	if (name === undefined) {
		throw new Problem('bad-message', {
			reason: 'a line is named by 32 random bytes (base64url) in Authorization: Bearer',
		});
	}
	return name;
}
