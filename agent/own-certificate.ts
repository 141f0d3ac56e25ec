/**
 * The certificate that a listening agent shows. It is made from the robot's own key, so that whoever dials
 * can tell by the fingerprint of that key that it is this robot, before a word is said. Nobody else vouches
 * for it, and nothing in it is stored or expires: the same key gives the same certificate.
 *
 * X.509 (RFC 5280) with Ed25519 (RFC 8410), written down field by field: a library that makes every sort of
 * certificate would be a good part of the whole agent. Key and signature are Node's.
 */
import { createHash, createPublicKey, type KeyObject, sign } from 'node:crypto';

export interface OwnCertificate {
	/** PEM. */
	readonly cert: string;
	/** PEM. */
	readonly key: string;
}

export function ownCertificate(privateKey: KeyObject): OwnCertificate {
	const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
	const name = sequence(set(sequence(commonName, utf8('Robot Fleet agent'))));
	const toBeSigned = sequence(
		tagged(0xa0, tagged(0x02, Buffer.from([2]))), // version 3
		serialOf(publicKey),
		ed25519,
		name,
		sequence(utcTime('240101000000Z'), generalizedTime('99991231235959Z')),
		name,
		publicKey,
	);
	const signature = sign(null, toBeSigned, privateKey);
	const whole = sequence(toBeSigned, ed25519, bitString(signature));
	return {
		cert: pem('CERTIFICATE', whole),
		key: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
	};
}

/** SHA-256 of a public key in SPKI DER, 64 hex digits. */
export function fingerprintOf(publicKey: Uint8Array): string {
	return createHash('sha256').update(publicKey).digest('hex');
}

function tagged(tag: number, ...parts: Uint8Array[]): Buffer {
	const body = Buffer.concat(parts);
	return Buffer.concat([Buffer.from([tag, ...lengthOf(body.length)]), body]);
}

/** Short form, or the number of the bytes that follow. */
function lengthOf(length: number): number[] {
	if (length < 0x80) return [length];
	return length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
}

const sequence = (...parts: Uint8Array[]) => tagged(0x30, ...parts);
const set = (...parts: Uint8Array[]) => tagged(0x31, ...parts);
const utf8 = (text: string) => tagged(0x0c, Buffer.from(text));
const utcTime = (text: string) => tagged(0x17, Buffer.from(text));
const generalizedTime = (text: string) => tagged(0x18, Buffer.from(text));
/** No bit of the last byte is unused. */
const bitString = (bytes: Uint8Array) => tagged(0x03, Buffer.from([0]), bytes);
/** 1.3.101.112 */
const ed25519 = sequence(tagged(0x06, Buffer.from([0x2b, 0x65, 0x70])));
/** 2.5.4.3 */
const commonName = tagged(0x06, Buffer.from([0x55, 0x04, 0x03]));

/** Positive, and never with a leading zero. */
function serialOf(publicKey: Uint8Array): Buffer {
	const bytes = createHash('sha256').update(publicKey).digest().subarray(0, 8);
	bytes[0] = (bytes[0]! & 0x7f) | 0x40;
	return tagged(0x02, bytes);
}

function pem(label: string, der: Buffer): string {
	const lines = der.toString('base64').replace(/(.{64})(?=.)/g, '$1\n');
	return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
