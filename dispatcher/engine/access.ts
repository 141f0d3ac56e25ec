/**
 * Who may come in: API keys, enrollment tokens, robots' identities. Secrets are shown once and kept as
 * hashes; they are long and random, so a plain hash is enough. Keys live in memory too, so that every
 * request is checked without a read and a revoked one ends with its commit.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import {
	closeCodes,
	type EnrolAnswer,
	type KeyRecord,
	type KeyRequest,
	Problem,
	type Robot,
	scopes,
	type Scope,
	type TokenRecord,
	type TokenRequest,
} from '../../protocol';
import { demand } from '../core/may';
import type { StoredKey, StoredToken } from '../store/store';
import { blankRobot } from './blank-robot';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import { fingerprintOfKey } from './hub-key';
import type { Caller } from './index';
import { cloneOf } from './clones';
import { robotView } from './views';

const defaultTokenTtlMs = 15 * 60_000;

export class Access {
	readonly #context: Context;
	readonly #keys = new Map<string, StoredKey & { caller: Caller; used: boolean }>();
	/** Names of robots that are being enrolled. */
	readonly #promised = new Set<string>();

	constructor(context: Context) {
		this.#context = context;
	}

	async load(): Promise<void> {
		const { store, fleet, lanes } = this.#context;
		for (const key of await store.read('keys', null)) this.#remember(key);
		for (const robot of await store.read('robots', null)) {
			if (robot.removedAt === null) lanes.putRobot(fleet.put(robot));
			else fleet.gone(robot);
		}
	}

	async createKey(request: KeyRequest, by: Caller): Promise<KeyRecord & { key: string }> {
		const { clock, turns, log } = this.#context;
		// Nobody hands out more than they have.
		for (const scope of request.scopes) demand(by, scope);
		const id = randomBytes(6).toString('hex');
		const secret = randomBytes(24).toString('base64url');
		const stored: StoredKey = {
			id,
			hash: hash(secret),
			name: request.name,
			scopes: JSON.stringify(request.scopes),
			createdAt: clock.now(),
			expiresAt: request.expiresAt ?? null,
			revokedAt: null,
			lastUsedAt: null,
		};
		await turns.deed('putKey', stored);
		this.#remember(stored);
		log.info('key created', { keyId: id, name: request.name, by: by.name });
		return { ...keyView(stored), key: `rfk_${id}_${secret}` };
	}

	async keys(): Promise<KeyRecord[]> {
		return [...this.#keys.values()].map(keyView);
	}

	async revokeKey(keyId: string, by: Caller): Promise<void> {
		const key = this.#keys.get(keyId);
		if (!key) throw new Problem('no-such-key', { id: keyId });
		const at = this.#context.clock.now();
		await this.#context.turns.deed('revokeKey', { id: keyId, at });
		key.revokedAt ??= at;
		this.#context.log.info('key revoked', { keyId, by: by.name });
	}

	verifyKey(text: string): Caller {
		const [, id, secret] = /^rfk_([0-9a-f]+)_([\w-]+)$/.exec(text) ?? [];
		const key = id === undefined ? undefined : this.#keys.get(id);
		const now = this.#context.clock.now();
		if (
			!key ||
			!sameHash(key.hash, secret!) ||
			key.revokedAt !== null ||
			(key.expiresAt !== null && key.expiresAt <= now)
		) {
			throw new Problem('bad-key');
		}
		key.lastUsedAt = now;
		key.used = true;
		return key.caller;
	}

	/** Writes down which keys were used since the last time. */
	async noteUsed(): Promise<void> {
		const used = [...this.#keys.values()].filter((key) => key.used);
		if (used.length === 0) return;
		for (const key of used) key.used = false;
		const keys = used.map(({ id, lastUsedAt }) => ({ id, at: lastUsedAt! }));
		await this.#context.turns.deed('keysUsed', { keys });
	}

	async createToken(
		request: TokenRequest,
		by: Caller,
		pin = '-',
	): Promise<TokenRecord & { token: string }> {
		const { clock, turns, log } = this.#context;
		const now = clock.now();
		const id = randomBytes(6).toString('hex');
		const secret = randomBytes(24).toString('base64url');
		const stored: StoredToken = {
			id,
			hash: hash(secret),
			uses: request.uses ?? 1,
			used: 0,
			labels: JSON.stringify(request.labels ?? {}),
			createdAt: now,
			expiresAt: now + (request.ttlMs ?? defaultTokenTtlMs),
			revokedAt: null,
		};
		await turns.deed('putToken', stored);
		log.info('token created', { tokenId: id, uses: stored.uses, by: by.name });
		return { ...tokenView(stored), token: `rf1.${id}.${secret}.${pin}` };
	}

	async tokens(): Promise<TokenRecord[]> {
		return (await this.#context.store.read('tokens', null)).map(tokenView);
	}

	async revokeToken(tokenId: string, by: Caller): Promise<void> {
		const { clock, turns, log } = this.#context;
		const revoked = await turns.deed('revokeToken', { id: tokenId, at: clock.now() });
		if (!revoked) throw new Problem('no-such-token', { id: tokenId });
		log.info('token revoked', { tokenId, by: by.name });
	}

	async enrol(token: string, publicKey: string, wanted: string | undefined): Promise<EnrolAnswer> {
		const { clock, turns, fleet, lanes, ids, hubId, log } = this.#context;
		const [, id, secret] = /^rf1\.([0-9a-f]+)\.([\w-]+)\./.exec(token) ?? [];
		if (id === undefined) throw new Problem('bad-token');
		const awaited = this.#awaited(wanted, publicKey);
		if (awaited) {
			const at = clock.now();
			const robot = { ...awaited.stored, publicKey, tokenId: id };
			const asked = { hash: hash(secret!), at, robot, awaited: fingerprintOfKey(publicKey) };
			const taken = await turns.deed('enrolRobot', asked);
			if (taken && taken.robotId === robot.id && taken.lockedLabels !== null) {
				const { lockedLabels } = taken;
				lanes.putRobot(fleet.put({ ...awaited.stored, publicKey, tokenId: id, lockedLabels }));
				log.info('registered robot enrolled', { robotId: robot.id, name: robot.name, tokenId: id });
				return { robotId: robot.id, name: robot.name, hubId };
			}
			// Somebody else was faster, or the token is no good: it is judged like any other.
		}
		const name = this.#freeName(wanted ?? 'robot');
		const robot = { ...blankRobot(ids.next(), name, clock.now()), publicKey, tokenId: id };
		this.#promised.add(name);
		try {
			const at = clock.now();
			const enrolled = await turns.deed('enrolRobot', { hash: hash(secret!), at, robot });
			if (!enrolled) throw new Problem('bad-token');
			const { robotId, lockedLabels } = enrolled;
			if (lockedLabels === null) {
				// Removed while we asked: the next call finds it gone.
				const known = fleet.get(robotId)?.stored.name;
				if (known === undefined) throw new Problem('bad-token');
				return { robotId, name: known, hubId };
			}
			lanes.putRobot(fleet.put({ ...robot, lockedLabels }));
			log.info('robot enrolled', { robotId, name, tokenId: id });
			return { robotId, name, hubId };
		} finally {
			this.#promised.delete(name);
		}
	}

	async robotKey(robotId: string): Promise<string> {
		const entry = this.#context.fleet.get(robotId);
		if (entry) return entry.stored.publicKey;
		// Anybody may ask this: it must cost no more than a look.
		const wasThere = await this.#context.store.read('isRobot', { id: robotId });
		throw new Problem(wasThere ? 'robot-revoked' : 'bad-proof');
	}

	async removeRobot(robot: string, by: Caller): Promise<void> {
		const { turns, fleet, lanes, clock, log } = this.#context;
		const entry = this.find(robot);
		await turns.deed('changeRobot', { id: entry.robotId, removedAt: clock.now() });
		const { session } = entry;
		entry.session = undefined;
		entry.awaySince = clock.monotonic();
		fleet.remove(entry.robotId);
		lanes.removeRobot(entry.robotId);
		for (const tell of session?.waiting?.values() ?? []) tell('gone');
		session?.sink.close(closeCodes.badKey, 'this robot was removed');
		log.info('robot removed', { robotId: entry.robotId, by: by.name });
	}

	async allowMove(robot: string, by: Caller): Promise<Robot> {
		const { turns, fleet, log } = this.#context;
		const entry = this.find(robot);
		const { robotId, stored } = entry;
		const machine = cloneOf(stored.clone)?.machine;
		if (machine === undefined || machine === stored.machine) {
			throw new Problem('not-moved', { name: stored.name });
		}
		await turns.deed('changeRobot', { id: robotId, machine, clone: null });
		this.#stillThere(entry);
		fleet.put({ ...entry.stored, machine, clone: null });
		log.info('robot may move', { robotId, by: by.name });
		return this.view(entry);
	}

	find(robot: string): RobotEntry {
		const found = this.#context.fleet.find(robot);
		if (found === 'ambiguous') throw new Problem('ambiguous-robot', { robot });
		if (!found) throw new Problem('no-such-robot', { id: robot });
		return found;
	}

	/** After a wait: a robot that was removed meanwhile must not come back by being put. */
	#stillThere(entry: RobotEntry): void {
		if (this.#context.fleet.get(entry.robotId) === entry) return;
		throw new Problem('no-such-robot', { id: entry.stored.name });
	}

	view(entry: RobotEntry): Robot {
		const { clock } = this.#context;
		return robotView(entry, clock.monotonic(), clock.now());
	}

	/** No robot has this name, and only the caller's may get it until the returned function is called. */
	promise(name: string): () => void {
		if (this.#freeName(name) !== name) throw new Problem('robot-taken', { name });
		this.#promised.add(name);
		return () => void this.#promised.delete(name);
	}

	/** A robot that was registered under this name, and whose agent has not come yet. */
	#awaited(name: string | undefined, publicKey: string): RobotEntry | undefined {
		for (const entry of this.#context.fleet.all()) {
			if (entry.stored.name !== name || entry.stored.publicKey !== '' || !entry.device) continue;
			const { fingerprint } = entry.device.stored;
			if (fingerprint === null || fingerprint === fingerprintOfKey(publicKey)) return entry;
		}
		return undefined;
	}

	#freeName(wanted: string): string {
		const taken = new Set(this.#promised);
		for (const { stored } of this.#context.fleet.all()) taken.add(stored.name);
		if (!taken.has(wanted)) return wanted;
		for (let n = 2; ; n += 1) if (!taken.has(`${wanted}-${n}`)) return `${wanted}-${n}`;
	}

	#remember(key: StoredKey): void {
		const granted = JSON.parse(key.scopes) as Scope[];
		const caller: Caller = {
			keyId: key.id,
			name: key.name,
			scopes: granted.includes('admin') ? scopes : granted,
		};
		this.#keys.set(key.id, { ...key, caller, used: false });
	}
}

function hash(secret: string): string {
	return createHash('sha256').update(secret).digest('base64url');
}

function sameHash(known: string, secret: string): boolean {
	const a = Buffer.from(known);
	const b = Buffer.from(hash(secret));
	return a.length === b.length && timingSafeEqual(a, b);
}

function keyView(key: StoredKey): KeyRecord {
	return {
		keyId: key.id,
		name: key.name,
		scopes: JSON.parse(key.scopes) as Scope[],
		createdAt: key.createdAt,
		expiresAt: key.expiresAt,
		revokedAt: key.revokedAt,
		lastUsedAt: key.lastUsedAt,
	};
}

function tokenView(token: StoredToken): TokenRecord {
	return {
		tokenId: token.id,
		uses: token.uses,
		used: token.used,
		expiresAt: token.expiresAt,
		labels: JSON.parse(token.labels) as Record<string, string>,
		createdAt: token.createdAt,
		revokedAt: token.revokedAt,
	};
}
