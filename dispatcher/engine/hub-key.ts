/**
 * The key by which dialled robots recognize the service. It is made once and lies in the store, so it is in every
 * backup: a restored service is the one that they trust.
 */
import {
	createHash,
	createPrivateKey,
	createPublicKey,
	generateKeyPairSync,
	sign,
} from 'node:crypto';
import type { Context } from './context';

export interface HubKey {
	/** Ed25519, SPKI, base64url of the DER. */
	readonly publicKey: string;
	/** What the owner of a robot tells its agent (`--hub`). */
	readonly fingerprint: string;
	/** base64url. */
	sign(text: string): string;
}

const metaKey = 'hub_key';

/** Reads the key, or makes it: on disk before anybody hears of it. */
export async function hubKeyOf({ store, turns }: Context): Promise<HubKey> {
	let text = await store.read('meta', { key: metaKey });
	if (text === undefined) {
		const { privateKey } = generateKeyPairSync('ed25519');
		text = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64url');
		await turns.deed('setMeta', { key: metaKey, value: text });
	}
	const der = Buffer.from(text, 'base64url');
	const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
	const publicKey = createPublicKey(key)
		.export({ format: 'der', type: 'spki' })
		.toString('base64url');
	return {
		publicKey,
		fingerprint: fingerprintOfKey(publicKey),
		sign: (said) => sign(null, Buffer.from(said), key).toString('base64url'),
	};
}

/** SHA-256 of a public key (SPKI DER, base64url), 64 hex digits. */
export function fingerprintOfKey(publicKey: string): string {
	return createHash('sha256').update(Buffer.from(publicKey, 'base64url')).digest('hex');
}
