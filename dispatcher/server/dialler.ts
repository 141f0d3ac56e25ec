/**
 * The service dials the robots that listen. Once the socket is open they are robots like any other
 * (robot-link.ts): the same messages, the same proof of the robot's key. Before that:
 *
 *   address resolved once ── TLS, whose certificate is the robot's key ── upgrade, answered with the robot's
 *   nonce ── `connected`, in which the service proves itself over that nonce ── `hello`
 *
 * No robot is dialled whose key is not known, and nothing is said to one that shows another key. On
 * loopback, or with `--insecure`, ws:// goes without TLS; the proofs of both keys are the same.
 *
 * One loop per robot: try, wait twice as long each time, give up after so many tries; once the robot has
 * been connected, the count starts over.
 */
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import {
	closeCodes,
	type Dial,
	dialProof,
	type Dialled,
	limits,
	nonceHeader,
	paths,
	Problem,
} from '../../protocol';
import { redialMs } from '../core/redial';
import type { Engine } from '../engine';
import type { Chance } from '../engine/clock';
import type { DialPlan } from '../engine/devices';
import { fingerprintOfKey } from '../engine/hub-key';
import type { House } from './door';
import { isLoopback } from './host-gate';
import { bare, resolveOnce } from './outbound';
import { RobotSocket } from './robot-link';
import type { RobotsDoor } from './robots';

export interface DiallerSettings {
	/** Before the first retry. */
	reconnectDelayMs: number;
	/** Plain ws:// to other machines is allowed. */
	insecure: boolean;
	chance: Chance;
}

export class Dialler {
	readonly #house: House;
	readonly #door: RobotsDoor;
	readonly #settings: DiallerSettings;
	/** By robot, of those that are kept connected. */
	readonly #loops = new Map<string, AbortController>();
	#closed = false;

	constructor(house: House, door: RobotsDoor, settings: DiallerSettings) {
		this.#house = house;
		this.#door = door;
		this.#settings = settings;
	}

	start(): void {
		const { dialling } = this.#house.engine;
		dialling.onChange((robotId) => this.#anew(robotId));
		for (const { robotId } of dialling.plans()) this.#anew(robotId);
	}

	/** Ends all tries; the door says goodbye to robots that are connected. Harmless when called twice. */
	close(): void {
		this.#closed = true;
		for (const loop of this.#loops.values()) loop.abort('leave');
		this.#loops.clear();
	}

	#anew(robotId: string): void {
		this.#loops.get(robotId)?.abort();
		this.#loops.delete(robotId);
		if (this.#closed || !this.#house.engine.dialling.plan(robotId)) return;
		const loop = new AbortController();
		this.#loops.set(robotId, loop);
		void this.#keep(robotId, loop.signal).catch((error: unknown) => {
			this.#house.log.error('dialling a robot ended unexpectedly', { robotId, error });
		});
	}

	async #keep(robotId: string, signal: AbortSignal): Promise<void> {
		const { clock, log, engine } = this.#house;
		const { reconnectDelayMs, chance } = this.#settings;
		let failures = 0;
		const fared = (dial: Omit<Dial, 'failures'>) => {
			if (!signal.aborted) engine.dialling.fared(robotId, { ...dial, failures });
		};
		for (;;) {
			const plan = engine.dialling.plan(robotId);
			if (!plan || signal.aborted) return;
			if (plan.fingerprint === null) {
				const { message } = new Problem('no-fingerprint', { robot: plan.name });
				return fared({ state: 'failed', reason: message, nextTryAt: null });
			}
			fared({ state: 'dialling', reason: null, nextTryAt: null });
			const call = new Call(this.#house, this.#door, plan, this.#settings.insecure, signal);
			const reason = await call.over(() => {
				failures = 0;
				fared({ state: 'connected', reason: null, nextTryAt: null });
			});
			if (signal.aborted) return;
			if (!call.wasLive) failures += 1;
			if (failures > plan.maxRetries) {
				return fared({ state: 'failed', reason, nextTryAt: null });
			}
			const waitMs = redialMs(failures, reconnectDelayMs, chance());
			const { name, url } = plan;
			log.warn('no connection to a robot that is dialled', { robotId, name, url, reason, waitMs });
			fared({ state: 'waiting', reason, nextTryAt: clock.now() + waitMs });
			await clock.sleep(waitMs, signal);
		}
	}
}

/** One try, and the connection that comes of it. */
class Call {
	/** The robot was registered on it. */
	wasLive = false;
	readonly #house: House;
	readonly #door: RobotsDoor;
	readonly #plan: DialPlan;
	readonly #insecure: boolean;
	readonly #signal: AbortSignal;

	constructor(
		house: House,
		door: RobotsDoor,
		plan: DialPlan,
		insecure: boolean,
		signal: AbortSignal,
	) {
		this.#house = house;
		this.#door = door;
		this.#plan = plan;
		this.#insecure = insecure;
		this.#signal = signal;
	}

	/** Resolves, with the reason, when there is no connection (any more). */
	async over(live: () => void): Promise<string> {
		let wire: Socket;
		try {
			wire = await this.#reach();
		} catch (error) {
			return (error as Error).message;
		}
		return new Promise((resolve) => this.#speak(wire, live, resolve));
	}

	/** A connection to whoever has the robot's key or, without TLS, to the right address. */
	async #reach(): Promise<Socket> {
		const { url: text, fingerprint, name, inside: allowed } = this.#plan;
		const url = new URL(text);
		const host = bare(url.hostname);
		const secure = /^(wss|https):$/.test(url.protocol);
		const where = `${url.hostname}:${portOf(url)}`;
		const { address, family, inside } = await resolveOnce(url).catch((error: unknown) => {
			throw new Error(`${host} is no known host`, { cause: error });
		});
		if (inside && !allowed) throw new Problem('address-refused', { origin: where });
		const tls = secure || !(isLoopback(host) || this.#insecure);
		const to = { host: address, family, port: portOf(url) };
		const socket = tls
			? connectTls({
					...to,
					...(isIP(host) === 0 && { servername: host }),
					minVersion: 'TLSv1.3',
					ALPNProtocols: ['http/1.1'],
					// The key itself is compared below: no authority says more.
					rejectUnauthorized: false,
				})
			: connectPlain(to);
		const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
		const hangUp = () => socket.destroy(new Error('it is no longer dialled'));
		const late = () => socket.destroy(new Error(`${where} did not answer in time`));
		const failed = (error: Error) => reject(explained(error, where));
		const gone = () => reject(new Error(`${where} closed the connection`));
		this.#signal.addEventListener('abort', hangUp, { once: true });
		socket.setTimeout(limits.authenticateMs);
		socket.on('timeout', late).on('error', failed).on('close', gone);
		socket.once(tls ? 'secureConnect' : 'connect', () => resolve());
		try {
			if (this.#signal.aborted) hangUp();
			await ready;
			if ('getPeerX509Certificate' in socket) {
				const shown = socket.getPeerX509Certificate()?.publicKey;
				const key = shown?.export({ format: 'der', type: 'spki' }).toString('base64url') ?? '';
				const found = fingerprintOfKey(key);
				if (found !== fingerprint) {
					throw new Problem('wrong-key', { name, found, expected: fingerprint });
				}
			}
		} catch (error) {
			socket.destroy();
			throw error;
		} finally {
			this.#signal.removeEventListener('abort', hangUp);
			socket.setTimeout(0);
		}
		// From here on others listen.
		socket.off('timeout', late).off('error', failed).off('close', gone);
		return socket;
	}

	#speak(wire: Socket, live: () => void, over: (reason: string) => void): void {
		const url = new URL(this.#plan.url);
		// TLS, if any, is already spoken by the wire; and an agent answers at its own path, whatever path the
		// address written for another program may have.
		const socket = new RobotSocket(`ws://${url.hostname}:${portOf(url)}${paths.robotLink}`, {
			createConnection: () => wire,
			perMessageDeflate: false,
			maxPayload: limits.maxControlFrameBytes,
			handshakeTimeout: limits.authenticateMs,
			followRedirects: false,
		});
		let reason: string | undefined;
		let nonce: string | undefined;
		const hangUp = () => {
			// A service that stops says goodbye to all its robots at once.
			if (this.#signal.reason === 'leave' && this.wasLive) return;
			if (socket.readyState === socket.OPEN) socket.close(closeCodes.goodbye, 'dialled no more');
			else socket.terminate();
		};
		if (this.#signal.aborted) hangUp();
		else this.#signal.addEventListener('abort', hangUp, { once: true });
		socket.on('upgrade', ({ headers }) => {
			const said = headers[nonceHeader];
			nonce = typeof said === 'string' && /^[\w-]{20,200}$/.test(said) ? said : undefined;
		});
		socket.on('error', (error) => (reason ??= explained(error, url.host).message));
		socket.once('close', (code, said) => {
			this.#signal.removeEventListener('abort', hangUp);
			over(reason ?? whyClosed(code, said.toString('utf8')));
		});
		socket.once('open', () => {
			const asked = nonce;
			if (asked === undefined) {
				reason = `what answers at ${url.host} is no agent that listens`;
				return socket.terminate();
			}
			void this.#greet(socket, wire, asked, live, (problem) => (reason ??= problem.message));
		});
	}

	/** From here on the robots' door has the socket. */
	async #greet(
		socket: RobotSocket,
		wire: Socket,
		nonce: string,
		live: () => void,
		refused: (problem: Error) => void,
	): Promise<void> {
		const { robotId, name, url } = this.#plan;
		const fingerprint = this.#plan.fingerprint!;
		try {
			const { engine } = this.#house;
			const over = wire instanceof TLSSocket ? 'tls' : 'plain';
			const greeting = await greetingOf(engine, this.#plan, nonce, over);
			if (socket.readyState !== socket.OPEN) return;
			this.#door.take(socket, wire, new URL(url).host, {
				robotId,
				name,
				fingerprint,
				greeting,
				live: () => {
					this.wasLive = true;
					live();
				},
				refused,
			});
		} catch (error) {
			refused(error as Error);
			socket.terminate();
		}
	}
}

/** The service proves itself, to this robot, on this connection. */
async function greetingOf(
	engine: Engine,
	{ robotId, name, fingerprint }: DialPlan,
	nonce: string,
	over: 'tls' | 'plain',
): Promise<Dialled> {
	const { publicKey, sign } = await engine.hubKey();
	const signature = sign(dialProof(engine.hubId, robotId, fingerprint!, nonce, over));
	return { robot_id: robotId, name, hub_key: publicKey, signature };
}

function portOf({ port, protocol }: URL): number {
	return port !== '' ? Number(port) : /^(wss|https):$/.test(protocol) ? 443 : 80;
}

function explained(error: NodeJS.ErrnoException, where: string): Error {
	const reasons: Record<string, string> = {
		ECONNREFUSED: 'nothing listens there',
		EHOSTUNREACH: 'there is no way there',
		ENETUNREACH: 'there is no way there',
		ECONNRESET: 'the connection was cut',
		EPROTO: 'it does not speak TLS 1.3',
	};
	const { code = '' } = error;
	const reason = reasons[code] ?? (code.startsWith('ERR_SSL_') ? reasons['EPROTO'] : undefined);
	return reason === undefined ? error : new Error(`${where}: ${reason}`, { cause: error });
}

function whyClosed(code: number, said: string): string {
	const text = said.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
	switch (code) {
		case closeCodes.notYours:
			return 'the agent there did not let this service in: it trusts another one (--hub, as robot-fleet doctor says it), or is not the robot with the fingerprint that is registered';
		case closeCodes.goodbye:
			return `the agent said goodbye${text === '' ? '' : ` (${text})`}`;
	}
	return `the agent closed the line (${code}${text === '' ? '' : ` ${text}`})`;
}
