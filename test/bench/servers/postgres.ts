/**
 * A private PostgreSQL cluster, synced on every commit, with memory as an operator of this machine would
 * give it. It refuses to run as root; root runs it as the system's own database user.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { newFolder } from '../machine/folder';
import { asUser, freePort, spawnServer } from '../machine/spawned';
import { onExit } from '../machine/undo';

export interface RunningPostgres {
	readonly pid: number;
	readonly url: string;
	stop(): Promise<void>;
}

const mib = 1024 * 1024;

/** A quarter of the memory, as its manual advises, and no more than the work can ever fill. */
const sharedBuffersMib = Math.min(1024, Math.floor(totalmem() / 4 / mib));

const settings: Record<string, string> = {
	listen_addresses: '127.0.0.1',
	fsync: 'on',
	synchronous_commit: 'on',
	shared_buffers: `${sharedBuffersMib}MB`,
	effective_cache_size: `${sharedBuffersMib * 2}MB`,
	max_connections: '200',
	max_wal_size: '4GB',
	checkpoint_timeout: '30min',
	random_page_cost: '1.1',
	jit: 'off',
};

export const postgresSettings = `fsync on, synchronous_commit on, shared_buffers ${settings['shared_buffers']}, max_wal_size 4 GB, jit off`;

/** Where Debian keeps the programs; the newest version there is. Undefined when there is none. */
function programs(): string | undefined {
	const home = '/usr/lib/postgresql';
	const versions = existsSync(home) ? readdirSync(home).map(Number) : [];
	const newest = versions.sort((a, b) => b - a)[0];
	return newest === undefined ? undefined : join(home, String(newest), 'bin');
}

/** Empty when there is none. */
export function postgresVersion(): string {
	const bin = programs();
	if (bin === undefined) return '';
	const { stdout } = spawnSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' });
	return /\) (\S+)/.exec(stdout ?? '')?.[1] ?? '';
}

export async function startPostgres(): Promise<RunningPostgres> {
	const bin = programs()!;
	const user = process.getuid!() === 0 ? unprivileged() : undefined;
	const { folder, remove } = newFolder('postgres');
	const data = join(folder, 'data');
	mkdirSync(data, { mode: 0o700 });
	if (user) chownSync(data, user.uid, user.gid);
	const [program, ...args] = [
		...asUser(user?.name),
		join(bin, 'initdb'),
		...['-D', data, '-U', 'bench', '--auth=trust', '--encoding=UTF8', '--no-locale', '--no-sync'],
	] as [string, ...string[]];
	const made = spawnSync(program, args, { encoding: 'utf8', cwd: '/' });
	if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}${made.error ?? ''}`);
	const port = await freePort();
	const all = { ...settings, port: String(port), unix_socket_directories: data };
	const server = await spawnServer(
		[
			join(bin, 'postgres'),
			...['-D', data],
			...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
		],
		{
			ready: /ready to accept connections/,
			...(user ? { user: user.name } : {}),
		},
	);
	const stop = onExit(async () => {
		await server.stop('SIGINT');
		await remove();
	});
	return { pid: server.pid, url: `postgres://bench@127.0.0.1:${port}/postgres`, stop };
}

function unprivileged(): { name: string; uid: number; gid: number } {
	const users = readFileSync('/etc/passwd', 'utf8')
		.split('\n')
		.map((line) => line.split(':'));
	for (const name of ['postgres', 'nobody']) {
		const user = users.find(([known]) => known === name);
		if (user) return { name, uid: Number(user[2]), gid: Number(user[3]) };
	}
	throw new Error(
		'PostgreSQL refuses to run as root, and there is no user postgres or nobody here',
	);
}
