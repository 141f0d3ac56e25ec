/** What the owner of a listening agent takes to the service: who this robot is, and where. */
import { hostname } from 'node:os';
import type { AgentConfig } from './config';

export function deviceLines(
	{ listen, name }: Pick<AgentConfig, 'listen' | 'name'>,
	fingerprint: string,
	port: number,
): string {
	const { host, tls } = listen!;
	const everywhere = host === '0.0.0.0' || host === '::';
	const called = everywhere ? hostname() : host.includes(':') ? `[${host}]` : host;
	const device = {
		device_id: name ?? hostname(),
		server_url: `${tls ? 'wss' : 'ws'}://${called}:${port}`,
		fingerprint,
	};
	return `fingerprint ${fingerprint}\nfor the constellation file of the service: ${JSON.stringify(device)}\n`;
}
