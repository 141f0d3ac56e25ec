/**
 * How this robot makes sure that it talks to its own service, and to nobody on the way there. Either it
 * knows the one certificate that it must find (its fingerprint came with the token, and stays), or it
 * checks what it finds as everybody does: name, dates, and an authority that this machine trusts.
 *
 * Nothing is sent before that is settled: a token is a secret.
 */
import { Agent, type RequestOptions } from 'node:https';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { limits } from '../protocol';
import type { Vouched } from './identity';
import { tunnel } from './proxy';

export interface Trust {
	/** SHA-256 of the one certificate that is trusted, 64 hex digits; absent = the usual checks. */
	readonly pin: string | undefined;
	/** PEM of the authority that vouches for the service; absent = those this machine knows. */
	readonly ca: string | undefined;
	/** The proxy to reach the service through; absent = directly. */
	readonly proxy?: string | undefined;
}

/** Whoever answers may be somebody else. The message is one sentence for the owner. */
export class NotTrusted extends Error {
	override readonly name = 'NotTrusted';
}

/** What a token says without its secret. Nothing when it is not one of ours: the service will say so. */
export function readToken(token: string): { id?: string; pin?: string } {
	const [, id, last] = /^rf1\.([0-9a-f]+)\.[\w-]+\.(.*)$/.exec(token) ?? [];
	const pin = fingerprintIn(last ?? '');
	return { ...(id !== undefined && { id }), ...(pin !== undefined && { pin }) };
}

/** As people copy it: with colons or without, in lower or upper case. */
export function fingerprintIn(text: string): string | undefined {
	const digits = text.replaceAll(':', '').toLowerCase();
	return /^[0-9a-f]{64}$/.test(digits) ? digits : undefined;
}

/**
 * The operator's latest word on the service: the flag, else a token that has not been used here yet,
 * else what was remembered. `isNew`: there is such a token.
 */
export function latestWord(
	{ fingerprint, token = '' }: { fingerprint?: string; token?: string },
	before: Vouched,
): { vouched: Vouched; isNew: boolean } {
	const told = readToken(token);
	const isNew = token !== '' && told.id !== before.tokenId;
	const pin = fingerprint ?? (isNew ? told.pin : before.pin);
	return {
		vouched: { pin: pin === 'none' ? undefined : pin, tokenId: told.id ?? before.tokenId },
		isNew,
	};
}

/** Connections that are checked before anything is written; for one request each, unless they are kept alive. */
export class TrustingAgent extends Agent {
	readonly #trust: Trust;

	constructor(trust: Trust, { keepAlive = false } = {}) {
		// A resumed session would show no certificate to check.
		super({ keepAlive, maxCachedSessions: 0 });
		this.#trust = trust;
	}

	override createConnection(
		{ host, port }: RequestOptions,
		done?: (error: Error | null, socket: Duplex) => void,
	): undefined {
		open(host ?? 'localhost', Number(port ?? 443), this.#trust).then(
			(socket) => done?.(null, socket),
			// With an error no socket is looked at.
			(error: Error) => (done as ((error: Error) => void) | undefined)?.(error),
		);
	}
}

async function open(host: string, port: number, trust: Trust): Promise<TLSSocket> {
	const { pin, ca, proxy } = trust;
	const through = proxy === undefined ? {} : { socket: await tunnel(proxy, host, port) };
	const where = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
	return new Promise((resolve, reject) => {
		const socket = connect({
			host,
			port,
			...through,
			...(isIP(host) === 0 && { servername: host }),
			...(ca !== undefined && { ca }),
			minVersion: 'TLSv1.3',
			ALPNProtocols: ['http/1.1'],
			// With a pin the certificate itself is compared, below.
			rejectUnauthorized: pin === undefined,
		});
		socket.setTimeout(limits.authenticateMs, () =>
			socket.destroy(new Error(`${where} did not answer in time`)),
		);
		socket.once('error', (error) => reject(explained(error, where)));
		socket.once('secureConnect', () => {
			const found = fingerprintIn(socket.getPeerCertificate().fingerprint256 ?? '');
			if (pin !== undefined && found !== pin) {
				socket.destroy();
				return reject(new NotTrusted(changed(where, pin, found)));
			}
			socket.setTimeout(0);
			socket.removeAllListeners('error');
			resolve(socket);
		});
	});
}

function changed(where: string, pin: string, found = 'none'): string {
	return `The service at ${where} does not show the certificate that this robot trusts (found ${found}, trusted is ${pin}): it was changed there, or somebody stands in between; compare with "robot-fleet doctor" on the service’s machine, then start this agent once with --fingerprint ${found}, or with a new --token.`;
}

const reasons: Record<string, string> = {
	CERT_HAS_EXPIRED: 'it has expired',
	CERT_NOT_YET_VALID: 'it is not valid yet; is the clock of this machine right?',
	ERR_TLS_CERT_ALTNAME_INVALID: 'it is for another name',
	DEPTH_ZERO_SELF_SIGNED_CERT: 'nobody but itself vouches for it',
	SELF_SIGNED_CERT_IN_CHAIN: 'its authority is unknown to this machine',
	UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its authority is unknown to this machine',
	UNABLE_TO_GET_ISSUER_CERT: 'its authority is unknown to this machine',
	UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its authority is unknown to this machine',
};

function explained(error: NodeJS.ErrnoException, where: string): Error {
	const reason = reasons[error.code ?? ''];
	if (reason !== undefined) {
		return new NotTrusted(
			`The certificate of the service at ${where} cannot be trusted (${reason}); name its authority with --ca FILE, or use a token that carries the fingerprint (robot-fleet token create).`,
			{ cause: error },
		);
	}
	if (error.code === 'EPROTO' || error.code?.startsWith('ERR_SSL_')) {
		return new Error(`${where} does not speak TLS 1.3 (${error.code})`, { cause: error });
	}
	return error;
}
