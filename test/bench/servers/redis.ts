/** A private Redis that syncs every write before it acknowledges it. */
import { spawnSync } from 'node:child_process';
import { newFolder } from '../machine/folder';
import { freePort, spawnServer } from '../machine/spawned';
import { onExit } from '../machine/undo';

export interface RunningRedis {
	readonly pid: number;
	readonly port: number;
	readonly connection: { host: string; port: number };
	stop(): Promise<void>;
}

/** Empty when there is none. */
export function redisVersion(): string {
	const { stdout } = spawnSync('redis-server', ['--version'], { encoding: 'utf8' });
	return /v=(\S+)/.exec(stdout ?? '')?.[1] ?? '';
}

export async function startRedis(): Promise<RunningRedis> {
	const { folder, remove } = newFolder('redis');
	const port = await freePort();
	const settings = {
		port: String(port),
		bind: '127.0.0.1',
		dir: folder,
		appendonly: 'yes',
		appendfsync: 'always',
		save: '',
		'maxmemory-policy': 'noeviction',
	};
	const server = await spawnServer(
		['redis-server', ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])],
		{ ready: /Ready to accept connections/ },
	);
	const stop = onExit(async () => {
		await server.stop('SIGTERM');
		await remove();
	});
	return { pid: server.pid, port, connection: { host: '127.0.0.1', port }, stop };
}
