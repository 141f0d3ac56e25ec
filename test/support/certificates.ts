/** Certificates as operators have them: from an authority of their own, or self-signed. */
import { X509Certificate } from 'node:crypto';
import { generate } from 'selfsigned';

export interface Pair {
	/** PEM. */
	cert: string;
	/** PEM. */
	key: string;
	/** SHA-256, 64 hex digits. */
	fingerprint: string;
}

const dayMs = 86_400_000;

/** For these names and addresses; of `authority`, else vouching for itself. */
export async function certificate({
	names = ['localhost'],
	addresses = [],
	authority,
	days = 30,
}: {
	names?: string[];
	addresses?: string[];
	authority?: Pair;
	/** Below 0 = it ended so long ago. */
	days?: number;
} = {}): Promise<Pair> {
	const until = Date.now() + days * dayMs;
	const made = await generate([{ name: 'commonName', value: names[0] ?? 'test' }], {
		keyType: 'ec',
		algorithm: 'sha256',
		notBeforeDate: new Date(until - 60 * dayMs),
		notAfterDate: new Date(until),
		...(authority && { ca: { key: authority.key, cert: authority.cert } }),
		extensions: [
			{ name: 'basicConstraints', cA: false, critical: true },
			{ name: 'keyUsage', digitalSignature: true },
			{
				name: 'subjectAltName',
				altNames: [
					...names.map((value) => ({ type: 2 as const, value })),
					...addresses.map((ip) => ({ type: 7 as const, ip })),
				],
			},
		],
	});
	return pairOf(made.cert, made.private);
}

export async function authority(): Promise<Pair> {
	const made = await generate([{ name: 'commonName', value: 'An Authority' }], {
		keyType: 'ec',
		algorithm: 'sha256',
		extensions: [
			{ name: 'basicConstraints', cA: true, critical: true },
			{ name: 'keyUsage', keyCertSign: true, digitalSignature: true },
		],
	});
	return pairOf(made.cert, made.private);
}

function pairOf(cert: string, key: string): Pair {
	const { fingerprint256 } = new X509Certificate(cert);
	return { cert, key, fingerprint: fingerprint256.replaceAll(':', '').toLowerCase() };
}
