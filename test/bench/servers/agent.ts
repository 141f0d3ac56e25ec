/** The built agent as a process of its own, as a robot's owner would run it. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../machine/installed';
import { asUser, ended } from '../machine/spawned';
import { onExit } from '../machine/undo';

export interface RunningAgent {
	readonly pid: number;
	stop(): Promise<void>;
}

export interface AgentOptions {
	url: string;
	token: string;
	folder: string;
	name: string;
	slots: number;
}

/** Resolves when it is connected. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
	const { url, token, folder, name, slots } = options;
	const [program, ...args] = [
		...asUser(undefined),
		process.execPath,
		join(root, 'agent/dist/agent.js'),
		...['--server', url, '--token', token, '--data', folder, '--name', name],
		...['--slots', String(slots)],
	] as [string, ...string[]];
	const child = spawn(program, args, {
		stdio: ['ignore', 'pipe', 'inherit'],
		env: { ...process.env, LOG_LEVEL: 'error' },
	});
	const stop = onExit(() => ended(child, 'SIGTERM'));
	await new Promise<void>((resolve, reject) => {
		let text = '';
		child.once('error', reject);
		child.once('exit', (code) => reject(new Error(`the agent ended with ${code}: ${text}`)));
		child.stdout.on('data', (piece: Buffer) => {
			text += piece.toString();
			if (text.includes('connected as')) resolve();
		});
	});
	return { pid: child.pid!, stop };
}
