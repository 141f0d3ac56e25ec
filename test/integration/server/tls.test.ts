/** The doors that other machines may use: TLS, with whose certificate, and what is behind them. */
import {
	appendFileSync,
	mkdtempSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import type { ServerOptions } from '../../../dispatcher/server';
import { calls } from '../../../protocol';
import { authority, certificate, type Pair } from '../../support/certificates';
import { FakeClock } from '../../support/fake-clock';
import { openHouse, within } from './house';

/** Loopback for the kernel, any other address for us. */
const elsewhere = '::ffff:127.0.0.1';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'rf-tls-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const robots = (more: Partial<ServerOptions> = {}) => ({
	robotsListen: `[${elsewhere}]:0`,
	tls: { folder },
	...more,
});

function put(pair: Pair) {
	const files = { cert: join(folder, 'their.crt'), key: join(folder, 'their.key') };
	for (const name of ['cert', 'key'] as const) {
		// As careful programs do: the old file, then the new one, nothing in between.
		writeFileSync(`${files[name]}.new`, pair[name]);
		renameSync(`${files[name]}.new`, files[name]);
	}
	return files;
}

/** Shakes hands; resolves with the socket, or rejects with what went wrong. */
function shake(url: string, options: ConnectionOptions = {}): Promise<TLSSocket> {
	const { hostname, port } = new URL(url);
	return within(
		'the handshake',
		new Promise((resolve, reject) => {
			const socket = connect({
				host: hostname.replace(/^\[|\]$/g, ''),
				port: Number(port),
				rejectUnauthorized: false,
				...options,
			});
			socket.once('secureConnect', () => resolve(socket));
			socket.once('error', reject);
		}),
	);
}

async function shown(url: string): Promise<string> {
	const socket = await shake(url);
	const { fingerprint256 } = socket.getPeerCertificate();
	socket.destroy();
	return fingerprint256.replaceAll(':', '').toLowerCase();
}

function get(url: string, headers: Record<string, string> = {}): Promise<number> {
	return within(
		`an answer from ${url}`,
		new Promise((resolve, reject) => {
			const request = https.get(url, { rejectUnauthorized: false, agent: false, headers });
			request.on('error', reject);
			request.on('response', (response) => {
				response.resume();
				resolve(response.statusCode!);
			});
		}),
	);
}

describe('a door for robots of other machines', () => {
	test('speaks TLS 1.3 and nothing older, and no plain HTTP', async () => {
		await using house = await openHouse({}, robots());
		const url = house.server.robotsUrl!;
		expect(url).toMatch(/^https:/);
		const socket = await shake(url);
		expect(socket.getProtocol()).toBe('TLSv1.3');
		socket.destroy();
		await expect(shake(url, { maxVersion: 'TLSv1.2' })).rejects.toThrow(/version|alert/);
		await expect(fetch(url.replace('https', 'http'))).rejects.toThrow();
	});

	test('makes its certificate once, for this user alone, and tokens carry its fingerprint', async () => {
		const fingerprints: string[] = [];
		for (let start = 0; start < 2; start += 1) {
			await using house = await openHouse({}, robots());
			const { body } = await house.ask('POST', '/api/v1/tokens', { body: {} });
			expect(body.dial).toBe(house.server.robotsUrl);
			const [, , pin] = house.asked.find(({ call }) => call === 'createToken')!.args;
			expect(pin).toBe(await shown(house.server.robotsUrl!));
			fingerprints.push(pin as string);
		}
		expect(fingerprints[1]).toBe(fingerprints[0]);
		expect(statSync(join(folder, 'certificate.pem')).mode & 0o777).toBe(0o600);
		expect(readFileSync(join(folder, 'certificate.pem'), 'utf8')).toMatch(/BEGIN PRIVATE KEY/);
	});

	test('leaves out of tokens what an authority vouches for', async () => {
		const files = put(await certificate({ names: ['fleet.test'], authority: await authority() }));
		await using house = await openHouse({}, robots({ tls: { files, folder } }));
		await house.ask('POST', '/api/v1/tokens', { body: {} });
		const [, , pin] = house.asked.find(({ call }) => call === 'createToken')!.args;
		expect(pin).toBeUndefined();
	});

	test('opens what robots need, and none of the other calls', async () => {
		await using house = await openHouse({}, robots());
		const url = house.server.robotsUrl!;
		const open: string[] = [];
		for (const [name, { path }] of Object.entries(calls)) {
			const at = (path.startsWith('//') ? path.slice(1) : `/api/v1${path}`).replace(
				/\{\w+\}/g,
				'x',
			);
			for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
				const status = await new Promise<number>((resolve, reject) => {
					const request = https.request(url + at, {
						method,
						rejectUnauthorized: false,
						headers: { authorization: 'Bearer admin' },
					});
					request.on('error', reject);
					request.on('response', (response) => {
						response.resume();
						resolve(response.statusCode!);
					});
					request.end();
				});
				if (status !== 404) open.push(`${name} ${method}`);
			}
		}
		expect(open.sort()).toEqual(['robotEnrol POST', 'robotLink GET', 'robotPoll POST']);
	}, 60_000);
});

describe('the API on other addresses', () => {
	const api = (more: Partial<ServerOptions> = {}) => ({
		host: elsewhere,
		tls: { folder },
		...more,
	});

	test('is refused without a certificate that callers can check, with what to do instead', async () => {
		await expect(openHouse({}, api())).rejects.toMatchObject({
			code: 'needs-tls',
			message: expect.stringMatching(/--tls-cert FILE.*--robots-listen.*--insecure/),
		});
	});

	test('speaks TLS with the certificate of the operator, and is called by its names', async () => {
		const files = put(await certificate({ names: ['fleet.test'] }));
		await using house = await openHouse({}, api({ tls: { files, folder }, insecure: true }));
		const url = `${house.server.url}/healthz`;
		expect(url).toMatch(/^https:/);
		expect(await get(url, { host: 'localhost' })).toBe(200);
		expect(await get(url, { host: 'fleet.test' })).toBe(200);
		expect(await get(url, { host: 'evil.test' })).toBe(403);
		expect(house.server.certificate).toContain('BEGIN CERTIFICATE');
	});

	test('of a service inside n8n is for n8n alone', async () => {
		const files = put(await certificate());
		const refused = openHouse({}, api({ tls: { files, folder }, private: true }));
		await expect(refused).rejects.toMatchObject({
			code: 'needs-tls',
			message: expect.stringContaining('ROBOT_FLEET_ROBOTS_LISTEN='),
		});
	});

	test('goes without for who says --insecure', async () => {
		await using house = await openHouse({}, api({ insecure: true }));
		expect(house.server.url).toMatch(/^http:/);
	});
});

describe('the certificate of the operator', () => {
	test('is read anew by itself when its files change, and connections go on', async () => {
		const [before, after] = [await certificate(), await certificate()];
		const files = put(before);
		// Who has not proved a key is sent away after ten seconds of it.
		const clock = new FakeClock(Date.now());
		await using house = await openHouse({}, robots({ tls: { files, folder }, clock }));
		const url = house.server.robotsUrl!;
		expect(await shown(url)).toBe(before.fingerprint);
		await using link = await linked(url);
		put(after);
		await clock.advance(5_000);
		expect(await shown(url)).toBe(after.fingerprint);
		expect(link.socket.readyState).toBe(link.socket.OPEN);
		const stopped = house.server.close();
		await clock.advance(2_000);
		await stopped;
	});

	test('is read anew on demand; one that does not fit its key changes nothing', async () => {
		const [before, after] = [await certificate(), await certificate()];
		const files = put(before);
		await using house = await openHouse({}, robots({ tls: { files, folder } }));
		const url = house.server.robotsUrl!;
		writeFileSync(files.cert, after.cert);
		house.server.reload();
		expect(await shown(url)).toBe(before.fingerprint);
		expect(house.logged).toContainEqual({
			text: 'the certificate stays as it was',
			facts: { reason: expect.stringContaining('belongs to another certificate') },
		});
		writeFileSync(files.key, after.key);
		house.server.reload();
		expect(await shown(url)).toBe(after.fingerprint);
	});

	test('files that cannot even be looked at end nothing, and count again when they can', async () => {
		const [before, after] = [await certificate(), await certificate()];
		const files = put(before);
		await using house = await openHouse({}, robots({ tls: { files, folder } }));
		const url = house.server.robotsUrl!;
		// As root no folder is closed; a link to itself is as good.
		rmSync(files.key);
		symlinkSync('their.key', files.key);
		house.server.reload();
		expect(await shown(url)).toBe(before.fingerprint);
		put(after);
		house.server.reload();
		expect(await shown(url)).toBe(after.fingerprint);
	});

	test('what stands behind the certificate may be half written, too: nothing ends, and the whole one is taken', async () => {
		const [before, after, between] = [
			await certificate(),
			await certificate(),
			await certificate(),
		];
		const files = put(before);
		await using house = await openHouse({}, robots({ tls: { files, folder } }));
		const url = house.server.robotsUrl!;
		const chain = `${after.cert.trim()}\n${between.cert.trim()}\n`;
		put({ ...after, cert: chain.slice(0, -200) });
		house.server.reload();
		expect(await shown(url)).toBe(before.fingerprint);
		put({ ...after, cert: chain });
		house.server.reload();
		expect(await shown(url)).toBe(after.fingerprint);
	});

	test.each<[string, (files: { cert: string; key: string }) => void, RegExp]>([
		['is not there', ({ cert }) => rmSync(cert), /their\.crt .*it does not exist/],
		['is something else', ({ cert }) => writeFileSync(cert, 'hello'), /no certificate in PEM/],
		['has no key', ({ key }) => writeFileSync(key, 'hello'), /their\.key .*no private key/],
		[
			'is followed by half of another',
			({ cert }) => appendFileSync(cert, `\n${readFileSync(cert, 'utf8').slice(0, 200)}`),
			/their\.crt .*TLS does not take it/,
		],
	])('that %s is refused in one sentence', async (_, harm, sentence) => {
		const files = put(await certificate());
		harm(files);
		await expect(openHouse({}, robots({ tls: { files, folder } }))).rejects.toMatchObject({
			code: 'bad-certificate',
			message: expect.stringMatching(sentence),
		});
	});
});

async function linked(url: string) {
	const { WebSocket } = await import('ws');
	const socket = new WebSocket(`${url.replace('https', 'wss')}/api/v1/robots/link`, {
		rejectUnauthorized: false,
	});
	await within('the link', new Promise((resolve) => socket.once('message', resolve)));
	return {
		socket,
		async [Symbol.asyncDispose]() {
			socket.terminate();
		},
	};
}
