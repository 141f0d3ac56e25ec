/**
 * A registry of packages on loopback with nothing but ours in it, so that n8n itself installs and updates it. n8n
 * names its registry on npm's command line: an `npm` before the real one on the PATH puts ours in its place.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { delimiter, dirname, join } from 'node:path';

export interface Registry {
	/** Adds our package under another version; answers it. */
	publish(version: string): void;
	close(): Promise<void>;
}

export const packageName = 'n8n-nodes-robot-fleet';

/** `folder` takes what it makes; `tarball` is our package, packed. */
export async function openRegistry(folder: string, tarball: string): Promise<Registry> {
	const tarballs = new Map<string, string>();
	const server = createServer((request, response) => {
		const url = `http://127.0.0.1:${portOf(server)}`;
		const version = /^\/tarballs\/(.+)\.tgz$/.exec(request.url!)?.[1];
		if (version !== undefined) return response.end(readFileSync(tarballs.get(version)!));
		if (request.url!.split('?', 1)[0] !== `/${packageName}`)
			return response.writeHead(404).end('{}');
		const versions = [...tarballs.keys()].map((each) => [
			each,
			{ name: packageName, version: each, dist: { tarball: `${url}/tarballs/${each}.tgz` } },
		]);
		const latest = [...tarballs.keys()].at(-1);
		response.setHeader('content-type', 'application/json');
		response.end(
			JSON.stringify({
				name: packageName,
				'dist-tags': { latest },
				versions: Object.fromEntries(versions),
			}),
		);
	});
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	const bin = binIn(folder);
	mkdirSync(bin);
	const npm = String(execFileSync('sh', ['-c', 'command -v npm'])).trim();
	writeFileSync(
		join(bin, 'npm'),
		`#!/bin/sh
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy npm_config_proxy npm_config_https_proxy
for arg; do
	shift
	case "$arg" in --registry=*) arg=--registry=http://127.0.0.1:${portOf(server)} ;; esac
	set -- "$@" "$arg"
done
exec '${npm}' "$@" --cache='${join(folder, 'npm-cache')}' --fetch-retries=0
`,
	);
	chmodSync(join(bin, 'npm'), 0o755);
	return {
		publish(version) {
			const unpacked = join(folder, `package-${version}`);
			mkdirSync(unpacked);
			execFileSync('tar', ['-xzf', tarball, '-C', unpacked]);
			const manifest = join(unpacked, 'package/package.json');
			const whole = JSON.parse(readFileSync(manifest, 'utf8')) as object;
			writeFileSync(manifest, JSON.stringify({ ...whole, version }));
			const packed = join(folder, `${packageName}-${version}.tgz`);
			execFileSync('tar', ['-czf', packed, '-C', unpacked, 'package']);
			tarballs.set(version, packed);
		},
		async close() {
			server.closeAllConnections();
			await new Promise((resolve) => server.close(resolve));
		},
	};
}

const binIn = (folder: string) => join(folder, 'npm-of-the-test');

/** The PATH of an n8n that shall use the registry which is opened in this folder. */
export const pathWithRegistry = (folder: string) =>
	[binIn(folder), dirname(process.execPath), process.env.PATH].join(delimiter);

const portOf = (server: Server) => (server.address() as AddressInfo).port;
