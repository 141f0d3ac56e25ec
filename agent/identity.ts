/**
 * Who this robot is: an Ed25519 key that never leaves the data folder, and the name the service
 * gave it. The key is on disk before anybody hears of it, so an enrolment whose answer got lost is
 * repeated by the same robot. Knows no network.
 */
import {
	createPrivateKey,
	createPublicKey,
	generateKeyPairSync,
	type KeyObject,
	sign,
} from 'node:crypto';
import {
	closeSync,
	copyFileSync,
	fsyncSync,
	openSync,
	readFileSync,
	renameSync,
	writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fingerprintOf, type OwnCertificate, ownCertificate } from './own-certificate';

interface IdentityFile {
	/** PKCS8 DER, base64url. */
	privateKey: string;
	/** Set together, by the answer to the enrolment. */
	robotId?: string;
	hubId?: string;
	name?: string;
	/** Fingerprint of the service's certificate; absent = it is checked in the usual way. */
	pin?: string;
	/** Id of the last token that was of use here; not its secret. */
	tokenId?: string;
	/** Fingerprint of the service that this robot lets dial it. */
	hub?: string;
}

/** The operator's last word on the service. */
export type Vouched = Pick<IdentityFile, 'pin' | 'tokenId'>;

/** What the service told us when it took us in. */
export interface Membership {
	robotId: string;
	hubId: string;
	name: string;
}

export class Identity {
	readonly #path: string;
	#key: KeyObject;
	#membership: Membership | undefined;
	#vouched: Vouched;
	#hub: string | undefined;

	private constructor(
		path: string,
		key: KeyObject,
		membership: Membership | undefined,
		vouched: Vouched = {},
		hub?: string,
	) {
		this.#path = path;
		this.#key = key;
		this.#membership = membership;
		this.#vouched = vouched;
		this.#hub = hub;
	}

	/** Reads DIR/identity.json, or makes a key and writes it. Throws when the file is damaged. */
	static open(folder: string): Identity {
		const path = join(folder, 'identity.json');
		let text: string;
		try {
			text = readFileSync(path, 'utf8');
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
			const identity = new Identity(path, newKey(), undefined);
			identity.#write();
			return identity;
		}
		const file = JSON.parse(text) as Partial<IdentityFile>;
		const key = createPrivateKey({
			key: Buffer.from(String(file.privateKey), 'base64url'),
			format: 'der',
			type: 'pkcs8',
		});
		const { robotId, hubId, name, pin, tokenId, hub } = file;
		const membership = robotId && hubId && name ? { robotId, hubId, name } : undefined;
		return new Identity(path, key, membership, { pin, tokenId }, hub);
	}

	/** Absent until the robot is enrolled. */
	get membership(): Membership | undefined {
		return this.#membership;
	}

	get vouched(): Vouched {
		return this.#vouched;
	}

	/** SPKI DER, base64url. */
	get publicKey(): string {
		return createPublicKey(this.#key).export({ format: 'der', type: 'spki' }).toString('base64url');
	}

	/** Of the public key: how others know this robot before it has a name. */
	get fingerprint(): string {
		return fingerprintOf(createPublicKey(this.#key).export({ format: 'der', type: 'spki' }));
	}

	/** What a listening agent shows. */
	get certificate(): OwnCertificate {
		return ownCertificate(this.#key);
	}

	/** The service that may dial this robot; absent until one has. */
	get hub(): string | undefined {
		return this.#hub;
	}

	/** The service that dialled proved to be the right one, and said who we are. */
	belongs(membership: Membership, hub: string): void {
		const { robotId, hubId, name } = this.#membership ?? {};
		const same =
			robotId === membership.robotId && hubId === membership.hubId && name === membership.name;
		if (same && hub === this.#hub) return;
		this.#membership = membership;
		this.#hub = hub;
		this.#write();
	}

	/** base64url. */
	sign(text: string): string {
		return sign(null, Buffer.from(text, 'utf8'), this.#key).toString('base64url');
	}

	enrolled(membership: Membership, vouched: Vouched = {}): void {
		this.#membership = membership;
		this.#vouched = vouched;
		this.#write();
	}

	/** The service proved to be the one it was said to be: from now on it must. */
	trusts(vouched: Vouched): void {
		if (vouched.pin === this.#vouched.pin && vouched.tokenId === this.#vouched.tokenId) return;
		this.#vouched = vouched;
		this.#write();
	}

	/** A service that refused the old key will not take it again; a copy stays, in case that was a mistake. */
	startAfresh(): void {
		copyFileSync(this.#path, `${this.#path}.refused`);
		this.#key = newKey();
		this.#membership = undefined;
		this.#vouched = {};
		this.#hub = undefined;
		this.#write();
	}

	#write(): void {
		const file: IdentityFile = {
			privateKey: this.#key.export({ format: 'der', type: 'pkcs8' }).toString('base64url'),
			...this.#membership,
			...this.#vouched,
			...(this.#hub !== undefined && { hub: this.#hub }),
		};
		// Whole or not at all: a half-written key would be a robot that has lost itself.
		const partial = `${this.#path}.new`;
		const handle = openSync(partial, 'w', 0o600);
		try {
			writeSync(handle, `${JSON.stringify(file, undefined, '\t')}\n`);
			fsyncSync(handle);
		} finally {
			closeSync(handle);
		}
		renameSync(partial, this.#path);
	}
}

function newKey(): KeyObject {
	return generateKeyPairSync('ed25519').privateKey;
}
