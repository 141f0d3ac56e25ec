/**
 * Robots that were registered before their agents came: by the constellation file at each start, or by a call.
 * What they are is in the store; how dialling them goes is only here. The server's dialler opens the sockets:
 * it asks what is wanted, is told when that changes, and says how it fared.
 */
import {
	type Constellation,
	constellationDefaults,
	type Device,
	type Dial,
	hexFingerprint,
	Problem,
	type Robot,
	type RobotRequest,
} from '../../protocol';
import type { StoredDevice, StoredRobot } from '../store/store';
import type { Access } from './access';
import { blankRobot } from './blank-robot';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import { fingerprintOfKey, type HubKey, hubKeyOf } from './hub-key';
import type { Caller } from './index';

/** A device in memory. */
export interface KnownDevice {
	readonly stored: StoredDevice;
	readonly constellationId: string | null;
	readonly capabilities: readonly string[];
	/** The part of its metadata that can be labels. */
	readonly labels: Readonly<Record<string, string>>;
	/** Null = it is not dialled. */
	dial: Dial | null;
	/** It is to be connected. */
	wanted: boolean;
}

/** A robot that is to be dialled. */
export interface DialPlan {
	readonly robotId: string;
	readonly name: string;
	readonly url: string;
	readonly fingerprint: string | null;
	readonly maxRetries: number;
	/** An operator or admin named the address: it may lie inside a private network. */
	readonly inside: boolean;
}

/** What the dialler needs of the engine. */
export interface Dialling {
	/** Undefined = it is not to be dialled (any more). */
	plan(robotId: string): DialPlan | undefined;
	plans(): DialPlan[];
	/** Called whenever what is wanted of a robot has changed. */
	onChange(tell: (robotId: string) => void): void;
	fared(robotId: string, dial: Dial): void;
	/** Its key has the fingerprint that was registered, and was proved. */
	proved(robotId: string, publicKey: string): Promise<void>;
}

/** The caller when the service's settings name one. */
const settings: Caller = { keyId: 'config', name: 'config-file', scopes: ['admin'] };
/** How long a call that connects waits for the outcome. */
const answerMs = 15_000;
const off: Dial = { state: 'off', reason: null, failures: 0, nextTryAt: null };

export class Devices implements Dialling {
	readonly #context: Context;
	readonly #access: Access;
	/** One after the other: of two that register the same name, the second finds the first. */
	#last: Promise<unknown> = Promise.resolve();
	#tell: (robotId: string) => void = () => undefined;
	#hubKey: Promise<HubKey> | undefined;
	/** Who waits for the outcome of a try. */
	readonly #waiting = new Map<string, (() => void)[]>();

	constructor(context: Context, access: Access) {
		this.#context = context;
		this.#access = access;
	}

	async load(): Promise<void> {
		const { store, fleet, lanes, turns } = this.#context;
		for (const stored of await store.read('devices', null)) {
			const entry = fleet.get(stored.robotId);
			// Its robot was removed, and the service died before the device was dropped too.
			if (!entry) await turns.deed('dropDevice', { robotId: stored.robotId });
			else {
				fleet.putDevice(entry, knownOf(stored));
				lanes.putRobot(entry);
			}
		}
	}

	hubKey(): Promise<HubKey> {
		return (this.#hubKey ??= hubKeyOf(this.#context));
	}

	register(request: RobotRequest, by: Caller): Promise<Robot> {
		return this.#inTurn(() => this.#register(request, by, 'api'));
	}

	/** The file as it is now: its devices, and none that an earlier one named. Call it once, at the start. */
	async settle(constellation: Constellation | undefined): Promise<void> {
		const { fleet, log } = this.#context;
		if (constellation) fleet.limit(constellation.constellationId, constellation.maxConcurrentTasks);
		const named = new Set(constellation?.devices.map(({ deviceId }) => deviceId));
		for (const entry of [...fleet.all()]) {
			if (entry.device?.stored.origin === 'file' && !named.has(entry.stored.name)) {
				await this.#letGo(entry);
			}
		}
		for (const { deviceId: name, serverUrl, fingerprint, ...rest } of constellation?.devices ??
			[]) {
			try {
				await this.#inTurn(() =>
					this.#register(
						{
							name,
							...rest,
							constellationId: constellation!.constellationId,
							...(serverUrl !== null && { serverUrl }),
							...(fingerprint !== null && { fingerprint }),
						},
						settings,
						'file',
					),
				);
			} catch (error) {
				if (!(error instanceof Problem)) throw error;
				log.error('a device in the config file was not registered', {
					name,
					reason: error.message,
				});
			}
		}
	}

	/** Dials it now, whatever was before; answers with how the first try went. */
	async connect(robot: string, by: Caller): Promise<Robot> {
		const { clock, log } = this.#context;
		const entry = this.#access.find(robot);
		const { device, stored } = entry;
		if (!device || device.stored.serverUrl === null) {
			throw new Problem('not-dialled', { robot: stored.name });
		}
		if (device.stored.fingerprint === null) {
			throw new Problem('no-fingerprint', { robot: stored.name });
		}
		if (!entry.session) {
			device.wanted = true;
			device.dial = { ...off, state: 'dialling' };
			const over = new AbortController();
			const waiting = this.#waiting.get(entry.robotId) ?? [];
			this.#waiting.set(entry.robotId, [...waiting, () => over.abort()]);
			log.info('robot is dialled', { robotId: entry.robotId, name: stored.name, by: by.name });
			this.#tell(entry.robotId);
			await clock.sleep(answerMs, over.signal);
			if (this.#context.fleet.get(entry.robotId) !== entry) {
				throw new Problem('no-such-robot', { id: robot });
			}
		}
		return this.#access.view(entry);
	}

	/** A person ended the connection: it stays ended until somebody connects it, or the service starts anew. */
	leaveAlone(robot: string): void {
		const entry = this.#access.find(robot);
		if (!entry.device?.dial) return;
		entry.device.wanted = false;
		entry.device.dial = off;
		this.#tell(entry.robotId);
	}

	/** Its robot was removed. */
	async forget(robotId: string): Promise<void> {
		this.#tell(robotId);
		this.#answer(robotId);
		await this.#context.turns.deed('dropDevice', { robotId });
	}

	plan(robotId: string): DialPlan | undefined {
		const entry = this.#context.fleet.get(robotId);
		const { device, stored } = entry ?? {};
		if (!device?.wanted || device.stored.serverUrl === null) return undefined;
		const { serverUrl: url, fingerprint, maxRetries, inside } = device.stored;
		return { robotId, name: stored!.name, url, fingerprint, maxRetries, inside: inside === 1 };
	}

	plans(): DialPlan[] {
		return [...this.#context.fleet.all()].flatMap(({ robotId }) => this.plan(robotId) ?? []);
	}

	onChange(tell: (robotId: string) => void): void {
		this.#tell = tell;
	}

	fared(robotId: string, dial: Dial): void {
		const entry = this.#context.fleet.get(robotId);
		if (!entry?.device?.dial) return;
		const before = entry.device.dial.state;
		entry.device.dial = dial;
		const { state, reason, failures } = dial;
		if (state === 'failed' && before !== state) {
			const { name } = entry.stored;
			this.#context.log.error('a robot is no longer dialled', { robotId, name, reason, failures });
		}
		if (state !== 'dialling') this.#answer(robotId);
	}

	/** Whoever has asked for a connection hears how it went. */
	#answer(robotId: string): void {
		for (const tell of this.#waiting.get(robotId) ?? []) tell();
		this.#waiting.delete(robotId);
	}

	proved(robotId: string, publicKey: string): Promise<void> {
		// In turn: a key that is just being replaced must not become valid again.
		return this.#inTurn(() => this.#proved(robotId, publicKey));
	}

	async #proved(robotId: string, publicKey: string): Promise<void> {
		const { fleet, turns } = this.#context;
		const entry = fleet.get(robotId);
		if (!entry) throw new Problem('robot-revoked');
		const found = fingerprintOfKey(publicKey);
		const expected = entry.device?.stored.fingerprint ?? keyOf(entry);
		if (expected === undefined) throw new Problem('robot-revoked');
		if (found !== expected) {
			throw new Problem('wrong-key', { name: entry.stored.name, found, expected });
		}
		if (entry.stored.publicKey === publicKey) return;
		await turns.deed('changeRobot', { id: robotId, publicKey });
		if (fleet.get(robotId) !== entry) throw new Problem('robot-revoked');
		fleet.put({ ...entry.stored, publicKey });
	}

	async #register(request: RobotRequest, by: Caller, origin: 'file' | 'api'): Promise<Robot> {
		const named = [...this.#context.fleet.all()].filter(
			({ stored }) => stored.name === request.name,
		);
		if (named.length > 1) throw new Problem('ambiguous-robot', { robot: request.name });
		const [known] = named;
		if (known) return this.#write(known, undefined, request, by, origin);
		// Nobody else enrolls under the name meanwhile.
		const release = this.#access.promise(request.name);
		try {
			const robot = this.#newRobot(request.name, request.clientIds ?? []);
			return await this.#write(undefined, robot, request, by, origin);
		} finally {
			release();
		}
	}

	/** Of a robot that is `known`, or a new one. */
	async #write(
		known: RobotEntry | undefined,
		robot: StoredRobot | undefined,
		request: RobotRequest,
		by: Caller,
		origin: 'file' | 'api',
	): Promise<Robot> {
		const { fleet, lanes, turns, log } = this.#context;
		const fingerprint = fingerprintIn(request);
		const isAdmin = by.scopes.includes('admin');
		const key = keyOf(known);
		const replacesKey = key !== undefined && fingerprint !== undefined && key !== fingerprint;
		if (replacesKey && !(isAdmin && known!.device)) {
			throw new Problem('robot-taken', { name: request.name });
		}
		if (!isAdmin) mayBeSaidBy(known, fingerprint, request.serverUrl);
		const robotId = known?.robotId ?? robot!.id;
		// A call changes what it names; the file says all there is.
		const kept = origin === 'api' ? known?.device?.stored : undefined;
		const listOr = (said: unknown, otherwise: string) =>
			said === undefined ? otherwise : JSON.stringify(said);
		const serverUrl = request.serverUrl ?? kept?.serverUrl ?? null;
		const inside = isAdmin || (kept?.inside === 1 && kept.serverUrl === serverUrl);
		const device: StoredDevice = {
			robotId,
			constellation: request.constellationId ?? kept?.constellation ?? null,
			origin: known?.device?.stored.origin === 'file' ? 'file' : origin,
			serverUrl,
			fingerprint: fingerprint ?? key ?? kept?.fingerprint ?? null,
			clientIds: listOr(request.clientIds, kept?.clientIds ?? '[]'),
			capabilities: listOr(request.capabilities, kept?.capabilities ?? '[]'),
			metadata: listOr(request.metadata, kept?.metadata ?? '{}'),
			autoConnect: Number(request.autoConnect ?? kept?.autoConnect !== 0),
			maxRetries: request.maxRetries ?? kept?.maxRetries ?? constellationDefaults.maxRetries,
			inside: Number(inside),
		};
		const before = known?.device;
		if (before && !replacesKey && JSON.stringify(before.stored) === JSON.stringify(device)) {
			fleet.putDevice(known!, before);
			return this.#access.view(known!);
		}
		this.#onlyOneDialled(device, origin, fingerprint !== undefined);
		await turns.deed('putDevice', {
			device,
			...(robot && { robot }),
			...(replacesKey && { forgetsKey: true }),
		});
		if (known && fleet.get(robotId) !== known) {
			// It was removed meanwhile.
			await turns.deed('dropDevice', { robotId });
			throw new Problem('no-such-robot', { id: request.name });
		}
		// It has enrolled meanwhile, and what is said of it is judged by its key.
		if (known && keyOf(known) !== key) return this.#register(request, by, origin);
		if (replacesKey) this.#forgetKey(known!, fingerprint);
		const entry = known ?? fleet.put(robot!);
		const dialsTheSame = before !== undefined && dialText(before.stored) === dialText(device);
		fleet.putDevice(entry, knownOf(device, dialsTheSame ? before : undefined));
		lanes.putRobot(entry);
		turns.nudge();
		log.info('device registered', { robotId, name: request.name, origin, by: by.name });
		if (!dialsTheSame) this.#tell(robotId);
		return this.#access.view(entry);
	}

	/** An admin said that a device has another key than the one it has proved; that is written down already. */
	#forgetKey(entry: RobotEntry, fingerprint: string): void {
		const { fleet, log } = this.#context;
		const { robotId, stored } = entry;
		fleet.put({ ...stored, publicKey: '', machine: null, clone: null });
		entry.session?.sink.close(1001, 'this robot has another key from now on');
		log.warn('a device has another key from now on', { robotId, name: stored.name, fingerprint });
	}

	/** Two that are dialled by one key would take the one agent from each other for ever. */
	#onlyOneDialled(device: StoredDevice, origin: 'file' | 'api', fingerprintSaid: boolean): void {
		const { serverUrl, fingerprint, robotId } = device;
		if (serverUrl === null || fingerprint === null) return;
		for (const { stored, device: other } of this.#context.fleet.all()) {
			if (!other || other.stored.robotId === robotId || other.stored.serverUrl === null) continue;
			if (other.stored.fingerprint !== fingerprint) continue;
			// The file itself names no key twice: the other one is about to hear of its new one.
			if (origin === 'file' && fingerprintSaid && other.stored.origin === 'file') continue;
			throw new Problem('key-taken', { name: stored.name });
		}
	}

	/** With what was said of it, until its agent says more. */
	#newRobot(name: string, clients: readonly string[]): StoredRobot {
		const { ids, clock } = this.#context;
		const blank = blankRobot(ids.next(), name, clock.now());
		return { ...blank, clients: JSON.stringify(clients) };
	}

	/** The file no longer names it: it is a robot like any other, or, if its agent never came, none at all. */
	async #letGo(entry: RobotEntry): Promise<void> {
		const { fleet, lanes, turns, log } = this.#context;
		const { robotId, stored } = entry;
		await turns.deed('dropDevice', { robotId });
		fleet.putDevice(entry, undefined);
		lanes.putRobot(entry);
		this.#tell(robotId);
		log.info('the config file no longer names a device', { robotId, name: stored.name });
		if (stored.publicKey === '') await this.#access.removeRobot(robotId, settings);
	}

	#inTurn<T>(deed: () => Promise<T>): Promise<T> {
		const done = this.#last.then(deed);
		this.#last = done.catch(() => undefined);
		return done;
	}
}

export function deviceView({ stored, dial }: KnownDevice): Device {
	return {
		constellationId: stored.constellation,
		serverUrl: stored.serverUrl,
		fingerprint: stored.fingerprint,
		clientIds: JSON.parse(stored.clientIds) as string[],
		metadata: JSON.parse(stored.metadata) as Record<string, unknown>,
		autoConnect: stored.autoConnect === 1,
		maxRetries: stored.maxRetries,
		dial,
	};
}

/** `before`: the same device, which goes on being dialled as it was. */
function knownOf(stored: StoredDevice, before?: KnownDevice): KnownDevice {
	const wanted = before?.wanted ?? stored.autoConnect === 1;
	const dial: Dial = before?.dial ?? { ...off, state: wanted ? 'waiting' : 'off' };
	return {
		stored,
		constellationId: stored.constellation,
		capabilities: JSON.parse(stored.capabilities) as string[],
		labels: labelsOf(JSON.parse(stored.metadata) as Record<string, unknown>),
		dial: stored.serverUrl === null ? null : dial,
		wanted,
	};
}

const isLabelName = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;

/** Jobs find a device by what its owner wrote down of it. */
function labelsOf(metadata: Record<string, unknown>): Record<string, string> {
	return Object.fromEntries(
		Object.entries(metadata).flatMap(([name, value]) => {
			const text = ['string', 'number', 'boolean'].includes(typeof value) ? String(value) : '';
			return isLabelName.test(name) && text !== '' && text.length <= 256 ? [[name, text]] : [];
		}),
	);
}

/**
 * Which machine may get jobs is for admins to say: they make the tokens, and the same goes for keys and for dialled
 * addresses. An operator describes devices, and may change the address of one that has proved its key.
 */
function mayBeSaidBy(
	known: RobotEntry | undefined,
	fingerprint: string | undefined,
	serverUrl: string | undefined,
): void {
	const { stored: device } = known?.device ?? {};
	const key = keyOf(known);
	const expected = key ?? device?.fingerprint ?? undefined;
	const pins = fingerprint !== undefined && fingerprint !== expected;
	const dials = serverUrl !== undefined && serverUrl !== device?.serverUrl && key === undefined;
	if (pins || dials) throw new Problem('no-scope', { scope: 'admin' });
}

/** What the dialler goes by. */
function dialText({ serverUrl, fingerprint, autoConnect, maxRetries, inside }: StoredDevice) {
	return JSON.stringify([serverUrl, fingerprint, autoConnect, maxRetries, inside]);
}

/** Fingerprint of the key that the robot has proved. */
function keyOf(entry: RobotEntry | undefined): string | undefined {
	return entry?.stored.publicKey ? fingerprintOfKey(entry.stored.publicKey) : undefined;
}

function fingerprintIn({ fingerprint }: RobotRequest): string | undefined {
	if (fingerprint === undefined) return undefined;
	const digits = hexFingerprint(fingerprint);
	if (digits !== undefined) return digits;
	const reason = 'must be the 64 hex digits that robot-fleet-agent --listen prints';
	throw new Problem('bad-field', { path: 'fingerprint', reason });
}
