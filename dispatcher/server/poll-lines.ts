/**
 * Lines of robots where no WebSocket gets through: requests and answers that carry the bytes of one
 * (protocol/poll.ts). What they carry is served like any other connection: its handshake passes the same
 * gate and line of seats, its WebSocket has the same link. This file only turns requests into a
 * connection, and ends one whose robot is gone.
 *
 * A line says nothing about who is on it until a key is proved there: all that a stranger can have is a handshake. The
 * request that opens a line brings it whole, so no line waits anywhere but in the line of seats.
 */
import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';
import { limits, Problem } from '../../protocol';
import {
	CarriedStream,
	decodePoll,
	encodePoll,
	type Piece,
	type PollBody,
	pollHeadBytes,
} from '../../protocol/poll';
import { type Clock, enough } from '../engine/clock';
import { addressOf } from './address';
import { type Door, door } from './door';

/** Of a request that opens: the handshake, however many headers it has. */
const maxOpeningBytes = pollHeadBytes + 8 * 1024;

/** The connection that the requests of one line stand for. */
export class PolledSocket extends CarriedStream {
	readonly remoteAddress: string | undefined;
	/** A handshake came over it: from then on others see to its end. */
	asked = false;
	/** The last look found it lost. */
	doubted = false;
	readonly #clock: Clock;
	/** Answers the request that waits. */
	#answer: (() => void) | undefined;
	/** Answers the request whose data waits until there is room for it. */
	#giveWay: (() => void) | undefined;
	/** The connection that brought the latest waiting request. */
	#wire: Socket | undefined;
	/** When that closed, if nothing has been heard since. */
	#brokenAt: number | undefined;
	/** Our last word was in an answer. */
	#toldEnd = false;
	/** When a sweep first saw that we have said our last word. */
	#endedAt: number | undefined;

	constructor(clock: Clock, remoteAddress: string | undefined) {
		super();
		this.#clock = clock;
		this.remoteAddress = remoteAddress;
	}

	/**
	 * The answer, now or when there is something to say; undefined when the line is over. `once` = the wire is closed after
	 * this answer, whether the robot lives or not.
	 */
	async exchange(body: PollBody, wire: Socket, once = false): Promise<Buffer | undefined> {
		this.#brokenAt = undefined;
		if (!this.arrived(body.have)) {
			this.destroy();
			return undefined;
		}
		// What it brings is taken only when there is room, so that no number of requests fills our memory.
		if (!(await this.#roomFor(body)))
			return this.destroyed ? undefined : this.#answerOf(this.silence);
		this.receive(body);
		const waits = body.waitMs > 0;
		if (waits) {
			this.#watch(wire);
			await this.#news(Math.min(body.waitMs, limits.pollWaitMs));
			if (once && this.#wire === wire) {
				wire.off('close', this.#broke);
				this.#wire = undefined;
			}
			if (this.destroyed) return undefined;
		}
		const piece = waits ? this.piece(limits.pollPieceBytes) : this.silence;
		const answer = this.#answerOf(piece);
		this.#toldEnd ||= piece.ends;
		// Both sides have said their last word: nobody will come to confirm that ours has arrived.
		if (this.#toldEnd && this.over) this.arrived(this.total);
		return answer;
	}

	/** Nobody has come for a while, and nobody will. */
	isLost(now: number): boolean {
		if (this.writableEnded) this.#endedAt ??= now;
		const since = Math.min(this.#brokenAt ?? Infinity, this.#endedAt ?? Infinity);
		return now - since > limits.pollReturnMs;
	}

	override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
		super._destroy(error, done);
		this.#wire?.off('close', this.#broke);
		this.#answer?.();
		this.#giveWay?.();
	}

	protected override said(): void {
		this.#answer?.();
	}

	#answerOf(piece: Piece): Buffer {
		return encodePoll({ opens: false, waitMs: 0, have: this.have, ...piece });
	}

	/** False: a newer request brings the same, or the line is over. At most one stands here. */
	async #roomFor({ data, ends }: PollBody): Promise<boolean> {
		if (data.length === 0 && !ends) return true;
		this.#giveWay?.();
		const older = Promise.withResolvers<false>();
		const giveWay = (): void => older.resolve(false);
		this.#giveWay = giveWay;
		const goesOn = await Promise.race([this.room().then(() => true), older.promise]);
		if (this.#giveWay === giveWay) this.#giveWay = undefined;
		return goesOn && !this.destroyed;
	}

	/** When a robot is killed, its connections close, whether or not it is waiting on them. */
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
		// It asks again, so it no longer waits for the older answer.
		this.#answer?.();
		if (this.hasNews || this.destroyed) return;
		const over = new AbortController();
		const answer = (): void => over.abort(enough);
		this.#answer = answer;
		await this.#clock.sleep(waitMs, over.signal);
		if (this.#answer === answer) this.#answer = undefined;
	}
}

export class PollLines {
	/** Hears the handshakes that come over lines. It never listens on a port. */
	readonly handshakes: Server = createServer();
	/** Of `POST /robots/link/poll`. */
	readonly door: Door;
	readonly #clock: Clock;
	/** By the name that the robot made up. */
	readonly #lines = new Map<string, PolledSocket>();

	constructor(clock: Clock) {
		this.#clock = clock;
		// Lines are for WebSockets; everything else has doors of its own.
		this.handshakes.on('request', ({ socket }) => socket.destroy());
		this.handshakes.on('clientError', (_error, socket) => socket.destroy());
		this.handshakes.on('upgrade', (_request, socket) => {
			(socket as unknown as PolledSocket).asked = true;
		});
		this.door = door({
			bytes: pollHeadBytes + limits.pollPieceBytes,
			admit: (request) => this.#admit(request),
			run: async ({ body, request }) => {
				const said = decodePoll(body as Buffer);
				if (!said) throw new Problem('bad-message', { reason: 'this is not the body of a poll' });
				const name = nameIn(request);
				const line =
					this.#lines.get(name) ?? (said.opens ? this.#open(name, said, request) : undefined);
				if (!line || line.destroyed) throw new Problem('no-such-line');
				// The wait is the robot's choice, and says nothing about us.
				request.waited = said.waitMs > 0;
				const once = request.headers.connection?.toLowerCase() === 'close';
				const answer = await line.exchange(said, request.raw.socket, once);
				if (!answer) throw new Problem('no-such-line');
				return answer;
			},
		});
	}

	/**
	 * Ends lines whose robots are gone; call it now and then. If we ourselves did not run for a while, they may have
	 * come without being heard yet: only those still missing at the next look are gone.
	 */
	sweep(now: number): void {
		for (const line of this.#lines.values()) {
			const lost = line.isLost(now);
			if (lost && line.doubted) line.destroy();
			line.doubted = lost;
		}
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

	#open(name: string, said: PollBody, request: FastifyRequest): PolledSocket {
		if (!carriesHandshake(said)) {
			throw new Problem('bad-message', {
				reason: 'the request that opens a line carries a whole handshake, of 8 KiB at most',
			});
		}
		const line = new PolledSocket(this.#clock, addressOf(request.raw));
		this.#lines.set(name, line);
		line.on('error', () => undefined);
		line.once('close', () => this.#lines.delete(name));
		this.handshakes.emit('connection', line as unknown as Socket);
		// By then what it brought has been read: it is in the line of seats, or has no business there.
		setImmediate(() => {
			if (!line.asked) line.destroy();
		});
		return line;
	}
}

function carriesHandshake({ from, data, ends }: PollBody): boolean {
	if (from !== 0 || ends || data.length > maxOpeningBytes - pollHeadBytes) return false;
	return /^GET [^\r\n]+\r\n[^]*\r\n\r\n/.test(data.toString('latin1'));
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
