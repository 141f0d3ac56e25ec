/**
 * The certificate of the doors that other machines may use: the operator's, read again when its files
 * change, or one that the service makes for itself, once, and keeps in its data folder.
 *
 * Robots are told the fingerprint of a self-signed certificate; one from an authority they check as
 * everybody does, so that it can be renewed without telling them.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:https';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { type CertificateFacts, Problem } from '../../protocol';
import type { Clock } from '../engine/clock';
import type { Log } from '../engine/context';

export interface CertificateFiles {
	/** PEM, followed by any intermediate authorities. */
	cert: string;
	/** PEM, without a passphrase. */
	key: string;
}

export interface CertificateParts {
	/** The operator's; absent = the service's own. */
	files?: CertificateFiles;
	/** Where the service keeps its own. */
	folder: string;
	clock: Clock;
	log: Log;
	/** Called after another certificate has taken its place. */
	onChange?: () => void;
}

/** How often the operator's files are checked. */
const lookMs = 5_000;
const dayMs = 86_400_000;
const selfMadeDays = 3_650;
/** Clocks of robots may be behind ours. */
const earlierDays = 1;

export class Certificate {
	readonly #parts: CertificateParts;
	readonly #files: CertificateFiles;
	readonly #servers = new Set<Server>();
	readonly #over = new AbortController();
	#pair: Pair;
	/** How the files looked when they were read last. */
	#stamp: string;

	private constructor(parts: CertificateParts, files: CertificateFiles) {
		this.#parts = parts;
		this.#files = files;
		this.#stamp = stampOf(files);
		this.#pair = readPair(files);
	}

	/** Reads or makes it; throws `bad-certificate`. */
	static async open(parts: CertificateParts): Promise<Certificate> {
		const own = join(parts.folder, 'certificate.pem');
		if (parts.files === undefined && !existsSync(own)) await makeOwn(own, parts.clock.now());
		const certificate = new Certificate(parts, parts.files ?? { cert: own, key: own });
		if (parts.files) void certificate.#watch();
		return certificate;
	}

	/** What the doors show, with the key to it. */
	get context(): SecureContextOptions {
		return { cert: this.#pair.cert, key: this.#pair.key, minVersion: 'TLSv1.3' };
	}

	/** PEM, without the key. */
	get shown(): string {
		return this.#pair.x509.toString();
	}

	/** What a robot must find; absent when an authority vouches for the certificate. */
	get pin(): string | undefined {
		return vouchesForItself(this.#pair.x509) ? fingerprintOf(this.#pair.x509) : undefined;
	}

	/** A name that the certificate is for, if it says one. */
	get name(): string | undefined {
		const names = this.#pair.x509.subjectAltName ?? '';
		return /(?:^|, )DNS:([A-Za-z0-9.-]+)/.exec(names)?.[1];
	}

	/** Whether the certificate proves who we are to a caller that used this name. */
	covers(name: string): boolean {
		return this.#pair.x509.checkHost(name) !== undefined;
	}

	get facts(): CertificateFacts {
		const { x509 } = this.#pair;
		return {
			file: this.#files.cert,
			selfMade: this.#parts.files === undefined,
			fingerprint: fingerprintOf(x509),
			expiresAt: x509.validToDate.getTime(),
		};
	}

	/** From now on the server shows whatever certificate is the latest. */
	serve(server: Server): void {
		this.#servers.add(server);
		server.once('close', () => this.#servers.delete(server));
	}

	/** Rereads the files. If they cannot be used, the certificate stays as it was. */
	reload(): void {
		const { log, onChange } = this.#parts;
		const before = this.#pair.x509;
		this.#stamp = stampOf(this.#files);
		try {
			this.#pair = readPair(this.#files);
		} catch (error) {
			// Half written, perhaps: the next change of the files is another chance.
			log.warn('the certificate stays as it was', { reason: (error as Error).message });
			return;
		}
		for (const server of this.#servers) server.setSecureContext(this.context);
		if (fingerprintOf(before) === fingerprintOf(this.#pair.x509)) return;
		const { file, fingerprint, expiresAt } = this.facts;
		log.info('the certificate was read anew', {
			file,
			fingerprint,
			expires: new Date(expiresAt).toISOString(),
		});
		if (this.pin !== undefined) {
			log.warn(
				'no authority vouches for the new certificate: robots that trust another one refuse it until they are started with --fingerprint, or with a new token',
				{ fingerprint },
			);
		}
		onChange?.();
	}

	close(): void {
		this.#over.abort();
	}

	async #watch(): Promise<void> {
		const { signal } = this.#over;
		for (;;) {
			await this.#parts.clock.sleep(lookMs, signal);
			if (signal.aborted) return;
			if (stampOf(this.#files) !== this.#stamp) this.reload();
		}
	}
}

interface Pair {
	cert: string;
	key: string;
	x509: X509Certificate;
}

function readPair({ cert: certFile, key: keyFile }: CertificateFiles): Pair {
	const cert = read(certFile);
	const key = read(keyFile);
	let x509: X509Certificate;
	try {
		x509 = new X509Certificate(cert);
	} catch (error) {
		throw bad(certFile, 'it holds no certificate in PEM form', error);
	}
	let privateKey: KeyObject;
	try {
		privateKey = createPrivateKey(key);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		const reason =
			code === 'ERR_MISSING_PASSPHRASE'
				? 'its key needs a passphrase, which nobody could type at a restart'
				: 'it holds no private key in PEM form';
		throw bad(keyFile, reason, error);
	}
	if (!x509.checkPrivateKey(privateKey)) {
		throw bad(certFile, `the key in ${keyFile} belongs to another certificate`);
	}
	try {
		// What follows the certificate must be good, too, and TLS must take the key.
		createSecureContext({ cert, key });
	} catch (error) {
		throw bad(certFile, `TLS does not take it: ${(error as Error).message}`, error);
	}
	return { cert, key, x509 };
}

function read(file: string): string {
	try {
		return readFileSync(file, 'utf8');
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		const reasons: Record<string, string> = {
			ENOENT: 'it does not exist',
			EACCES: 'this user may not read it',
			EISDIR: 'it is a folder',
		};
		throw bad(file, reasons[code ?? ''] ?? String(code), error);
	}
}

function bad(file: string, reason: string, cause?: unknown): Problem {
	return new Problem('bad-certificate', { file, reason }, cause);
}

/** Key and certificate share one file, so that they always match. */
async function makeOwn(file: string, now: number): Promise<void> {
	// Loaded when it is needed, once in the life of a data folder.
	const { generate } = await import('selfsigned');
	const made = await generate([{ name: 'commonName', value: 'Robot Fleet' }], {
		keyType: 'ec',
		curve: 'P-256',
		algorithm: 'sha256',
		notBeforeDate: new Date(now - earlierDays * dayMs),
		notAfterDate: new Date(now + selfMadeDays * dayMs),
		extensions: [
			{ name: 'basicConstraints', cA: false, critical: true },
			{ name: 'keyUsage', digitalSignature: true, critical: true },
			{ name: 'extKeyUsage', serverAuth: true },
			{
				name: 'subjectAltName',
				altNames: [...new Set(['localhost', hostname()])].map((value) => ({ type: 2, value })),
			},
		],
	});
	const draft = `${file}.${process.pid}.tmp`;
	rmSync(draft, { force: true });
	writeFileSync(draft, `${made.private.trim()}\n${made.cert.trim()}\n`, {
		mode: 0o600,
		flag: 'wx',
		flush: true,
	});
	renameSync(draft, file);
}

/** SHA-256 over the whole certificate, as `openssl x509 -fingerprint -sha256` says it, without colons. */
function fingerprintOf(x509: X509Certificate): string {
	return x509.fingerprint256.replaceAll(':', '').toLowerCase();
}

function vouchesForItself(x509: X509Certificate): boolean {
	return x509.issuer === x509.subject && x509.verify(x509.publicKey);
}

/** Differs whenever one of the files was written or replaced. */
function stampOf({ cert, key }: CertificateFiles): string {
	return [cert, key]
		.map((file) => {
			try {
				const { ino, mtimeMs, size } = statSync(file);
				return `${ino}/${mtimeMs}/${size}`;
			} catch (error) {
				// Not there, or in a folder that was closed meanwhile.
				return String((error as NodeJS.ErrnoException).code);
			}
		})
		.join(' ');
}
