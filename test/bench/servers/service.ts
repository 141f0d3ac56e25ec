/** The built service as a process of its own, as a user would run it; with a probe in it when asked. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FleetClient } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { root } from '../machine/installed';
import { asUser, ended } from '../machine/spawned';
import { onExit } from '../machine/undo';
import type { LoopDelay } from '../hosts/service-probe';

export interface RunningService {
	readonly url: string;
	readonly pid: number;
	/** From spawn to the line that says ready. */
	readonly readyMs: number;
	/** Knocks on the public door with the admin's key. */
	readonly client: FleetClient;
	/** Only with the probe: the event loop's delay between the two calls. */
	watchLoop(): void;
	loopDelay(): Promise<LoopDelay>;
	stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface ServiceOptions {
	folder: string;
	port?: number;
	probe?: boolean;
}

export async function startService(options: ServiceOptions): Promise<RunningService> {
	const { folder, port = 0, probe = false } = options;
	const [program, ...args] = [
		...asUser(undefined),
		process.execPath,
		...(probe ? ['--import', join(import.meta.dirname, 'hosts/service-probe.mjs')] : []),
		join(root, 'dispatcher/dist/robot-fleet.js'),
		...['serve', '--data', folder, '--port', String(port)],
	] as [string, ...string[]];
	const from = performance.now();
	const child = spawn(program, args, {
		stdio: ['ignore', 'pipe', 'inherit', probe ? 'ipc' : 'ignore'],
		env: { ...process.env, LOG_LEVEL: 'error' },
	});
	const stop = onExit(() => ended(child, 'SIGTERM'));
	const url = await readyUrl(child);
	const readyMs = performance.now() - from;
	const key = readFileSync(join(folder, 'admin.key'), 'utf8').trim();
	return {
		url,
		pid: child.pid!,
		readyMs,
		client: new FleetClient(httpSend({ url, key }), { gather: true }),
		watchLoop: () => void child.send('watch'),
		loopDelay: () =>
			new Promise((resolve) => {
				child.once('message', (delay) => resolve(delay as LoopDelay));
				child.send('report');
			}),
		async stop(signal = 'SIGTERM') {
			await ended(child, signal);
			await stop();
		},
	};
}

function readyUrl(child: ChildProcess): Promise<string> {
	return new Promise((resolve, reject) => {
		let text = '';
		child.once('error', reject);
		child.once('exit', (code) => reject(new Error(`the service ended with ${code}: ${text}`)));
		child.stdout!.on('data', (piece: Buffer) => {
			text += piece.toString();
			const ready = /ready (http:\S+)/.exec(text);
			if (ready) resolve(ready[1]!);
		});
	});
}
