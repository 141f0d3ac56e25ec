/**
 * The live socket (protocol/live.ts): who looks on, which channels, and the end of whoever does not keep up. What happens is
 * told by the engine's feed; here it only becomes frames. A viewer that does not read is cut off as soon as more than a
 * few megabytes wait for it, so that it costs neither memory nor anybody else's time. What it asks counts like calls of
 * its key, and who cannot prove one like anybody else who fails to.
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
import { demand } from '../core/may';
import type { LiveText, Viewer } from '../engine/feed';
import type { Caller } from '../engine';
import { type HostGate, refusalOf } from './app';
import type { House } from './door';
import { addressOf } from './address';
import { decline, type UpgradeDoor } from './robots';

const asks = validatorOf(liveAsk);
/** How often we check whether a viewer has read enough. */
const drainMs = 20;

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
		const address = addressOf(request);
		let key: string | undefined;
		let caller: Caller | undefined;
		try {
			hostGate(request.headers.host, request.headers.origin, request.socket);
			if (this.#over.signal.aborted) throw new Problem('not-ready', { state: 'stopping' });
			key = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(request.headers.authorization ?? '')?.[1];
			caller = key === undefined ? undefined : admit(this.#house, key, address);
			const strangers = [...this.#viewers].filter((viewer) => !viewer.isKnown).length;
			const crowded =
				this.#viewers.size >= liveLimits.viewers ||
				(key === undefined && strangers >= liveLimits.strangers);
			if (crowded) throw new Problem('too-many', { what: 'live sockets', retryMs: 10_000 });
			if (caller) this.#demandSeat(caller);
		} catch (error) {
			const where = { path: this.path, from: address };
			return decline(socket, refusalOf(this.#house, error, where, address));
		}
		this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
			const viewer = new LiveViewer(webSocket, this.#house, address, {
				enters: (one) => this.#demandSeat(one),
				left: (isGone) => {
					if (isGone) this.#viewers.delete(viewer);
					this.#count();
				},
			});
			this.#viewers.add(viewer);
			this.#count();
			if (caller) viewer.prove(caller, key!);
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

	/** Throws `too-many` when the key has all the sockets it may have. */
	#demandSeat({ keyId, name }: Caller): void {
		const held = [...this.#viewers].filter((viewer) => viewer.keyId === keyId).length;
		if (held < liveLimits.viewersOfKey) return;
		throw new Problem('too-many', { what: `live sockets of the key "${name}"`, retryMs: 10_000 });
	}

	#count(): void {
		const { traffic } = this.#house;
		if (traffic) traffic.viewers = [...this.#viewers].filter(({ isOver }) => !isOver).length;
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

/** Throws if the key may not look on. With an address, this counts as a call of the key. */
function admit({ engine, rates }: House, key: string, address?: string): Caller {
	const caller = engine.verifyKey(key);
	if (address !== undefined) rates?.key(caller.keyId, caller.name, address);
	demand(caller, 'read');
	return caller;
}

/** What a viewer asks and tells its door. */
interface Doorkeeper {
	/** It has shown this key by a message; throws when there is no seat for it. */
	enters(caller: Caller): void;
	/** Nothing more is told to it, or its socket is gone. */
	left(isGone: boolean): void;
}

class LiveViewer implements Viewer {
	readonly #socket: WebSocket;
	readonly #house: House;
	readonly #address: string;
	readonly #openedAt: number;
	/** By channel: how to leave it; absent while its snapshot is on the way. */
	readonly #channels = new Map<string, { leave?: () => void }>();
	/** Aborted when its key is revoked, or the server closes. */
	readonly #revoked = new AbortController();
	/** Its socket has closed. */
	readonly #gone = new AbortController();
	readonly #door: Doorkeeper;
	#key: string | undefined;
	#caller: Caller | undefined;
	#heardAt: number;
	#pingedAt: number;
	/** Bytes that it had not read at the last sweep. */
	#unsent = 0;
	#isOver = false;

	constructor(socket: WebSocket, house: House, address: string, door: Doorkeeper) {
		this.#socket = socket;
		this.#house = house;
		this.#address = address;
		this.#door = door;
		this.#openedAt = this.#heardAt = this.#pingedAt = house.clock.monotonic();
		socket.on('message', (data, isBinary) => this.#hear(data, isBinary));
		socket.on('pong', () => (this.#heardAt = house.clock.monotonic()));
		// Every error is followed by the close.
		socket.on('error', () => undefined);
		socket.on('close', () => {
			this.#gone.abort();
			this.#leave();
			door.left(true);
		});
		this.#revoked.signal.addEventListener('abort', () => {
			if (this.#revoked.signal.reason instanceof Problem) this.#turnOut();
			else this.close(liveCloseCodes.stopping, 'the service stops');
		});
	}

	get isKnown(): boolean {
		return this.#key !== undefined;
	}

	get keyId(): string | undefined {
		return this.#caller?.keyId;
	}

	/** Nothing more is told to it. */
	get isOver(): boolean {
		return this.#isOver;
	}

	prove(caller: Caller, key: string): void {
		this.#key = key;
		this.#caller = caller;
		this.#house.waiting.set(this.#revoked, caller.keyId);
		this.#say({ type: 'ready' });
	}

	take(messages: readonly LiveText[]): void {
		for (const { text } of messages) this.#send(text);
	}

	async ready(): Promise<boolean> {
		const { clock } = this.#house;
		while (!this.#isOver && this.#socket.bufferedAmount > liveLimits.pieceUnsentBytes) {
			await clock.sleep(drainMs, this.#gone.signal);
			if (this.#socket.bufferedAmount <= liveLimits.pieceUnsentBytes) {
				this.#heardAt = clock.monotonic();
			}
		}
		return !this.#isOver;
	}

	/** Says why, and cuts the line if that is not heard soon: it waits behind everything unread. */
	close(code: number, reason: string): void {
		if (this.#isOver) return;
		this.#leave();
		this.#door.left(false);
		this.#socket.close(code, reason);
		const { signal } = this.#gone;
		void this.#house.clock.sleep(liveLimits.partMs, signal).then(() => this.terminate());
	}

	terminate(): void {
		this.#socket.terminate();
	}

	sweep(): void {
		const now = this.#house.clock.monotonic();
		if (this.#isOver) return;
		if (this.#key === undefined) {
			if (now - this.#openedAt > limits.authenticateMs) {
				this.close(liveCloseCodes.badKey, 'no key was shown in time');
			}
			return;
		}
		// It may have expired.
		try {
			admit(this.#house, this.#key);
		} catch {
			return this.#turnOut();
		}
		// A viewer that reads is there, however long our ping waits behind what is unread.
		const unsent = this.#socket.bufferedAmount;
		if (unsent < this.#unsent) this.#heardAt = now;
		this.#unsent = unsent;
		if (now - this.#heardAt > 3 * liveLimits.pingMs) return this.terminate();
		if (now - this.#pingedAt < liveLimits.pingMs) return;
		this.#pingedAt = now;
		this.#socket.ping();
	}

	#leave(): void {
		this.#isOver = true;
		this.#house.waiting.delete(this.#revoked);
		for (const { leave } of this.#channels.values()) leave?.();
		this.#channels.clear();
	}

	#turnOut(): void {
		this.close(liveCloseCodes.badKey, 'this key was revoked or has expired');
	}

	#hear(data: RawData, isBinary: boolean): void {
		this.#heardAt = this.#house.clock.monotonic();
		if (this.#isOver) return;
		const ask = askOf(data, isBinary);
		const channel = !(ask instanceof Problem) && 'channel' in ask ? ask.channel : undefined;
		try {
			// Nonsense counts as a call, too.
			const caller = this.#caller;
			if (caller) this.#house.rates?.key(caller.keyId, caller.name, this.#address);
			if (ask instanceof Problem) throw ask;
		} catch (error) {
			this.#refuse(error, channel);
			// With a key, nonsense is merely counted.
			if (!this.isKnown) this.close(liveCloseCodes.badKey, 'show a key first');
			return;
		}
		if (ask.type === 'auth') return this.#authenticate(ask.key);
		if (this.#key === undefined) {
			this.#refuse(new Problem('no-key'));
			return this.close(liveCloseCodes.badKey, 'show a key first');
		}
		if (ask.type === 'ping') this.#say({ type: 'pong' });
		else if (ask.type === 'subscribe') void this.#subscribe(ask);
		else this.#unsubscribe(ask.channel);
	}

	#authenticate(key: string): void {
		try {
			const caller = admit(this.#house, key, this.#address);
			if (caller.keyId !== this.keyId) this.#door.enters(caller);
			this.prove(caller, key);
		} catch (error) {
			const { code } = this.#refuse(error);
			if (code === 'too-many') this.close(liveCloseCodes.tooMany, 'come back later');
			else this.close(liveCloseCodes.badKey, 'this key may not look on');
		}
	}

	/** A second subscription to the same channel takes the place of the first: a snapshot again. */
	async #subscribe({ channel, since }: LiveAsk & { type: 'subscribe' }): Promise<void> {
		this.#channels.get(channel)?.leave?.();
		this.#channels.delete(channel);
		if (this.#channels.size >= liveLimits.channels) {
			const what = 'channels of one live socket';
			this.#refuse(new Problem('too-many', { what, retryMs: 1_000 }), channel);
			return;
		}
		const seat: { leave?: () => void } = {};
		this.#channels.set(channel, seat);
		// A subscription given up while its snapshot was on the way is told nothing more.
		const isHere = () => this.#channels.get(channel) === seat;
		const viewer: Viewer = {
			take: (messages) => isHere() && this.take(messages),
			ready: async () => (await this.ready()) && isHere(),
		};
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

	#refuse(error: unknown, channel?: string): Problem {
		const problem = refusalOf(this.#house, error, { path: paths.live }, this.#address);
		this.#say({
			type: 'error',
			error: problem.toBody(),
			...(channel !== undefined && { channel }),
		});
		return problem;
	}

	#say(
		message:
			| { type: 'ready' | 'pong' }
			| { type: 'unsubscribed'; channel: string }
			| { type: 'error'; error: ProblemBody; channel?: string },
	): void {
		this.#send(JSON.stringify(message));
	}

	#send(text: string): void {
		if (this.#isOver) return;
		this.#socket.send(text);
		if (this.#socket.bufferedAmount <= liveLimits.maxUnsentBytes) return;
		if (this.#house.traffic) this.#house.traffic.slowViewers += 1;
		this.close(liveCloseCodes.tooSlow, 'more is unread than is kept; come back with since');
	}
}

function askOf(data: RawData, isBinary: boolean): LiveAsk | Problem {
	if (isBinary) return new Problem('bad-message', { reason: 'send text' });
	let value: unknown;
	try {
		value = JSON.parse(String(data));
	} catch {
		return new Problem('bad-message', { reason: 'it is not JSON' });
	}
	try {
		return asks.parse(value);
	} catch (error) {
		return error as Problem;
	}
}
