/**
 * The way out of a network that lets nobody out but through its proxy: a tunnel to the service (CONNECT),
 * in which TLS is spoken as it would be without one. The proxy sees where it leads, and nothing more.
 */
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { limits } from '../protocol';

type Env = Readonly<Record<string, string | undefined>>;

/** What HTTPS_PROXY and NO_PROXY say about this address, read the usual way; their lower-case names count, too. */
export function proxyFor(server: URL, env: Env): string | undefined {
	if (server.protocol !== 'https:') return undefined;
	const said = (name: string) => env[name.toLowerCase()] || env[name] || undefined;
	const proxy = said('HTTPS_PROXY') ?? said('ALL_PROXY');
	if (proxy === undefined) return undefined;
	const host = server.hostname.replace(/^\[|\]$/g, '').toLowerCase();
	const port = server.port || '443';
	const direct = (said('NO_PROXY') ?? '')
		.toLowerCase()
		.split(/[\s,]+/)
		.filter(Boolean)
		.some((entry) => {
			const [, name, only] = /^(.*?)(?::(\d+))?$/.exec(entry)!;
			if (only !== undefined && only !== port) return entry === host;
			const suffix = name!.replace(/^\*?\./, '');
			return name === '*' || host === suffix || host.endsWith(`.${suffix}`);
		});
	return direct ? undefined : proxy;
}

/** An open line to `host:port` through the proxy. */
export function tunnel(proxy: string, host: string, port: number): Promise<Socket> {
	const { protocol, hostname, port: proxyPort, username, password, host: shown } = new URL(proxy);
	const at = `${host.includes(':') ? `[${host}]` : host}:${port}`;
	const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
	return new Promise((resolve, reject) => {
		const request = (protocol === 'https:' ? https : http).request({
			host: hostname.replace(/^\[|\]$/g, ''),
			port: proxyPort || (protocol === 'https:' ? 443 : 80),
			method: 'CONNECT',
			path: at,
			agent: false,
			timeout: limits.authenticateMs,
			headers: {
				host: at,
				...(username !== '' && {
					'proxy-authorization': `Basic ${Buffer.from(login).toString('base64')}`,
				}),
			},
		});
		const fail = (reason: string) => {
			request.destroy();
			reject(new Error(`the proxy at ${shown} ${reason}`));
		};
		request.once('error', (error) => fail(`cannot be used (${error.message})`));
		request.once('timeout', () => fail('did not answer in time'));
		request.once('response', ({ statusCode }) => fail(`answered ${statusCode}`));
		request.once('connect', ({ statusCode }, socket: Socket) => {
			if (statusCode !== 200) return fail(`answered ${statusCode} to a tunnel to ${at}`);
			socket.setTimeout(0);
			resolve(socket);
		});
		request.end();
	});
}
