import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:tls';
import { fingerprintOf, ownCertificate } from '../../../agent/own-certificate';

test('it is a certificate of the key itself, and the same each time', () => {
	for (let i = 0; i < 50; i += 1) {
		const { privateKey, publicKey } = generateKeyPairSync('ed25519');
		const { cert, key } = ownCertificate(privateKey);
		const x509 = new X509Certificate(cert);
		expect(x509.verify(publicKey)).toBe(true);
		expect(x509.checkPrivateKey(privateKey)).toBe(true);
		expect(x509.subject).toBe('CN=Robot Fleet agent');
		expect(x509.issuer).toBe(x509.subject);
		expect(Date.parse(x509.validTo)).toBeGreaterThan(Date.parse('9999-01-01'));
		const shown = x509.publicKey.export({ format: 'der', type: 'spki' });
		expect(fingerprintOf(shown)).toBe(
			fingerprintOf(publicKey.export({ format: 'der', type: 'spki' })),
		);
		expect(ownCertificate(privateKey)).toEqual({ cert, key });
	}
});

test('TLS 1.3 is spoken with it, and whoever dials sees the key', async () => {
	const { privateKey } = generateKeyPairSync('ed25519');
	const server = createServer({ ...ownCertificate(privateKey), minVersion: 'TLSv1.3' });
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	try {
		const { port } = server.address() as AddressInfo;
		const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
		await new Promise<void>((resolve, reject) => {
			socket.once('secureConnect', resolve).once('error', reject);
		});
		const key = socket.getPeerX509Certificate()!.publicKey;
		expect(key.equals(createPublicKey(privateKey))).toBe(true);
		expect(socket.getProtocol()).toBe('TLSv1.3');
		socket.destroy();
	} finally {
		await new Promise((resolve) => server.close(resolve));
	}
});
