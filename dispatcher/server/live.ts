/**
 * The live socket (protocol/live.ts): who looks on, which channels, and the end of whoever does not keep up. What happens is
 * told by the engine's feed; here it only becomes frames. A viewer that does not read is cut off as soon as more than a
 * few megabytes wait for it, so that it costs neither memory nor anybody else's time.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import {
	type LiveAsk,
	liveCloseCodes,
	liveLimits,
	limits,
	paths,
	Problem,
	type ProblemBody,
} from '../../protocol';
import { liveAsk, validatorOf } from '../../protocol/schemas';
import type { LiveText, Viewer } from '../engine/feed';
import { type HostGate, problemOf } from './app';
import type { House } from './door';
import { addressOf } from './address';
import { decline, type UpgradeDoor } from './robots';

const asks = validatorOf(liveAsk);

export class LiveDoor implements UpgradeDoor {
	readonly path = paths.live;
	readonly #house: House;
	readonly #viewers = new Set<LiveViewer>();
	readonly #over = new AbortController();
	readonly #sockets = new WebSocketServer({
		noServer: true,
		perMessageDeflate: false,
		maxPayload: liveLimits.maxMessageBytes,
		clientTracking: false,
	});

	constructor(house: House) {
		this.#house = house;
		void this.#sweepUntilClosed();
	}

	take(request: IncomingMessage, socket: Duplex, head: Buffer, hostGate: HostGate): void {
		let key: string | undefined;
		try {
			hostGate(request.headers.host, request.headers.origin, request.socket);
			if (this.#over.signal.aborted) throw new Problem('not-ready', { state: 'stopping' });
			key = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(request.headers.authorization ?? '')?.[1];
			if (key !== undefined) admit(this.#house, key);
			const strangers = [...this.#viewers].filter((viewer) => !viewer.isKnown).length;
			const crowded =
				this.#viewers.size >= liveLimits.viewers ||
				(key === undefined && strangers >= liveLimits.strangers);
			if (crowded) throw new Problem('too-many', { what: 'live sockets', retryMs: 10_000 });
		} catch (error) {
			const where = { path: this.path, from: addressOf(request) };
			return decline(socket, problemOf(this.#house, error, where));
		}
		this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
			const viewer = new LiveViewer(webSocket, this.#house, () => {
				this.#viewers.delete(viewer);
				this.#count();
			});
			this.#viewers.add(viewer);
			this.#count();
			if (key !== undefined) viewer.prove(key);
		});
	}

	/** Harmless when called twice. */
	close(): void {
		this.#over.abort();
		for (const viewer of this.#viewers) viewer.close(liveCloseCodes.stopping, 'the service stops');
	}

	terminate(): void {
		for (const viewer of this.#viewers) viewer.terminate();
	}

	#count(): void {
		if (this.#house.traffic) this.#house.traffic.viewers = this.#viewers.size;
	}

	async #sweepUntilClosed(): Promise<void> {
		const { clock } = this.#house;
		for (;;) {
			await clock.sleep(liveLimits.pingMs / 3, this.#over.signal);
			if (this.#over.signal.aborted) return;
			for (const viewer of this.#viewers) viewer.sweep();
		}
	}
}

/** The key may look on; throws what keeps it from it. */
function admit({ engine }: House, key: string) {
	const caller = engine.verifyKey(key);
	const may = caller.scopes as readonly string[];
	if (!may.includes('read') && !may.includes('admin')) {
		throw new Problem('no-scope', { scope: 'read' });
	}
	return caller;
}

class LiveViewer implements Viewer {
	readonly #socket: WebSocket;
	readonly #house: House;
	readonly #openedAt: number;
	/** By channel: how to leave it; absent while its snapshot is on the way. */
	readonly #channels = new Map<string, { leave?: () => void }>();
	/** Aborted when its key is revoked, or the server closes. */
	readonly #revoked = new AbortController();
	#key: string | undefined;
	#heardAt: number;
	#pingedAt: number;
	#isOver = false;

	constructor(socket: WebSocket, house: House, gone: () => void) {
		this.#socket = socket;
		this.#house = house;
		this.#openedAt = this.#heardAt = this.#pingedAt = house.clock.monotonic();
		socket.on('message', (data, isBinary) => this.#hear(data, isBinary));
		socket.on('pong', () => (this.#heardAt = house.clock.monotonic()));
		// Every error is followed by the close.
		socket.on('error', () => undefined);
		socket.on('close', () => {
			this.#isOver = true;
			house.waiting.delete(this.#revoked);
			for (const { leave } of this.#channels.values()) leave?.();
			this.#channels.clear();
			gone();
		});
		this.#revoked.signal.addEventListener('abort', () => {
			if (this.#revoked.signal.reason instanceof Problem) this.#turnOut();
			else this.close(liveCloseCodes.stopping, 'the service stops');
		});
	}

	get isKnown(): boolean {
		return this.#key !== undefined;
	}

	prove(key: string): void {
		try {
			const { keyId } = admit(this.#house, key);
			this.#key = key;
			this.#house.waiting.set(this.#revoked, keyId);
			this.#say({ type: 'ready' });
		} catch (error) {
			this.#refuse(error);
			this.close(liveCloseCodes.badKey, 'this key may not look on');
		}
	}

	take(messages: readonly LiveText[]): void {
		for (const { text } of messages) {
			if (this.#isOver) return;
			this.#socket.send(text);
		}
		if (this.#socket.bufferedAmount <= liveLimits.maxUnsentBytes) return;
		if (this.#house.traffic) this.#house.traffic.slowViewers += 1;
		// The close waits in the same line as all the rest; a moment later it is cut.
		this.close(liveCloseCodes.tooSlow, 'more is unread than is kept; come back with since');
		this.terminate();
	}

	close(code: number, reason: string): void {
		this.#isOver = true;
		this.#socket.close(code, reason);
	}

	terminate(): void {
		this.#socket.terminate();
	}

	sweep(): void {
		const now = this.#house.clock.monotonic();
		if (this.#key === undefined) {
			if (now - this.#openedAt > limits.authenticateMs) {
				this.close(liveCloseCodes.badKey, 'no key was shown in time');
				this.terminate();
			}
			return;
		}
		// It may have expired.
		try {
			admit(this.#house, this.#key);
		} catch {
			return this.#turnOut();
		}
		if (now - this.#heardAt > 3 * liveLimits.pingMs) return this.terminate();
		if (now - this.#pingedAt < liveLimits.pingMs) return;
		this.#pingedAt = now;
		this.#socket.ping();
	}

	#turnOut(): void {
		this.close(liveCloseCodes.badKey, 'this key was revoked or has expired');
	}

	#hear(data: RawData, isBinary: boolean): void {
		this.#heardAt = this.#house.clock.monotonic();
		if (this.#isOver) return;
		let ask: LiveAsk;
		try {
			if (isBinary) throw new Problem('bad-message', { reason: 'send text' });
			ask = asks.parse(jsonOf(data));
		} catch (error) {
			return this.#refuse(error);
		}
		if (ask.type === 'auth') return this.prove(ask.key);
		if (this.#key === undefined) {
			this.#refuse(new Problem('no-key'));
			return this.close(liveCloseCodes.badKey, 'show a key first');
		}
		if (ask.type === 'ping') this.#say({ type: 'pong' });
		else if (ask.type === 'subscribe') void this.#subscribe(ask);
		else this.#unsubscribe(ask.channel);
	}

	/** A second subscription to the same channel takes the place of the first: a snapshot again. */
	async #subscribe({ channel, since }: LiveAsk & { type: 'subscribe' }): Promise<void> {
		this.#channels.get(channel)?.leave?.();
		this.#channels.delete(channel);
		if (this.#channels.size >= liveLimits.channels) {
			const what = 'channels of one live socket';
			return this.#refuse(new Problem('too-many', { what, retryMs: 1_000 }), channel);
		}
		const seat: { leave?: () => void } = {};
		this.#channels.set(channel, seat);
		// What was given up while its snapshot was on the way is told nothing more.
		const isHere = () => this.#channels.get(channel) === seat;
		const viewer: Viewer = { take: (messages) => isHere() && this.take(messages) };
		try {
			const leave = await this.#house.engine.look(channel, since, viewer);
			if (isHere()) seat.leave = leave;
			else leave();
		} catch (error) {
			if (!isHere()) return;
			this.#channels.delete(channel);
			this.#refuse(error, channel);
		}
	}

	#unsubscribe(channel: string): void {
		this.#channels.get(channel)?.leave?.();
		this.#channels.delete(channel);
		this.#say({ type: 'unsubscribed', channel });
	}

	#refuse(error: unknown, channel?: string): void {
		const problem = problemOf(this.#house, error, { path: paths.live });
		this.#say({
			type: 'error',
			error: problem.toBody(),
			...(channel !== undefined && { channel }),
		});
	}

	#say(
		message:
			| { type: 'ready' | 'pong' }
			| { type: 'unsubscribed'; channel: string }
			| { type: 'error'; error: ProblemBody; channel?: string },
	): void {
		if (!this.#isOver) this.#socket.send(JSON.stringify(message));
	}
}

function jsonOf(data: RawData): unknown {
	try {
		return JSON.parse(String(data));
	} catch {
		throw new Problem('bad-message', { reason: 'it is not JSON' });
	}
}
