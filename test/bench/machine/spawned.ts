/** Server programs as plain foreground processes, which end with the benchmark whatever happens to it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';

const hasSetpriv = spawnSync('setpriv', ['--version'], { stdio: 'ignore' }).status === 0;

export interface Spawned {
	readonly pid: number;
	/** Sends the signal and waits for the end; kills it when it does not end in time. */
	stop(signal: NodeJS.Signals): Promise<void>;
}

/** `user`: whom to run as, for those that refuse root. Resolves when `ready` was seen in its output. */
export async function spawnServer(
	command: readonly string[],
	{ ready, user }: { ready: RegExp; user?: string },
): Promise<Spawned> {
	const [program, ...args] = [...asUser(user), ...command] as [string, ...string[]];
	const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
	let text = '';
	await new Promise<void>((resolve, reject) => {
		child.once('error', reject);
		child.once('exit', (code) => reject(new Error(`${command[0]} ended with ${code}:\n${text}`)));
		for (const stream of [child.stdout, child.stderr]) {
			stream.on('data', (piece: Buffer) => {
				if (text.length > 100_000) return;
				text += piece.toString();
				if (ready.test(text)) resolve();
			});
		}
	});
	return { pid: child.pid!, stop: (signal) => ended(child, signal) };
}

/** The words before a command that make it this user's, and let it die with us. */
export function asUser(user: string | undefined): string[] {
	if (!hasSetpriv) return user === undefined ? [] : ['runuser', '-u', user, '--'];
	const who = user === undefined ? [] : [`--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
	return ['setpriv', ...who, '--pdeathsig', 'TERM', '--'];
}

export async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const gone = new Promise((resolve) => child.once('exit', resolve));
	child.kill(signal);
	const late = setTimeout(() => child.kill('SIGKILL'), 20_000);
	await gone;
	clearTimeout(late);
}

/**
 * A free port below those that the kernel gives to callers: while a server is down its port must not
 * go to one of those who dial it.
 */
export async function freePort(): Promise<number> {
	for (;;) {
		const port = 20_000 + Math.floor(Math.random() * 10_000);
		const free = await new Promise<boolean>((resolve) => {
			const server = createServer();
			server.once('error', () => resolve(false));
			server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
		});
		if (free) return port;
	}
}
