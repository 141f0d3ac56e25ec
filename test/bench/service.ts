/** Runs the built service as a process of its own, as a user would. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface RunningService {
	url: string;
	pid: number;
	/** User and system time so far, from the kernel's own accounting. */
	cpuSeconds(): number;
	stop(): Promise<void>;
}

export async function spawnService(root: string, folder: string): Promise<RunningService> {
	const child = spawn(
		process.execPath,
		[join(root, 'dispatcher/dist/robot-fleet.js'), 'serve', '--data', folder, '--port', '0'],
		{ stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, LOG_LEVEL: 'warn' } },
	);
	const url = await new Promise<string>((resolve, reject) => {
		let text = '';
		child.stdout.on('data', (piece: Buffer) => {
			text += piece.toString();
			const ready = /ready (http:\S+)/.exec(text);
			if (ready) resolve(ready[1]!);
		});
		child.once('exit', (code) => reject(new Error(`the service ended with ${code}: ${text}`)));
	});
	return {
		url,
		pid: child.pid!,
		cpuSeconds() {
			const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
			return (Number(fields[11]) + Number(fields[12])) / 100;
		},
		async stop() {
			if (child.exitCode !== null) return;
			const gone = new Promise((resolve) => child.once('exit', resolve));
			child.kill('SIGTERM');
			await gone;
		},
	};
}
