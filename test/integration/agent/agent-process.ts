/** The real agent, bundled and started as a child process in a data folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

const root = resolve(__dirname, '../../..');
/** One bundle a test process; never agent/dist, which belongs to the build. */
export const agentBundle = join(tmpdir(), `robot-fleet-agent-test-${process.pid}`, 'agent.js');

export async function bundleAgent(): Promise<void> {
	await build({
		entryPoints: { agent: join(root, 'agent/main.ts'), keeper: join(root, 'agent/keeper/main.ts') },
		bundle: true,
		platform: 'node',
		target: 'node22',
		format: 'cjs',
		outdir: join(agentBundle, '..'),
		external: ['@lydell/node-pty'],
		logLevel: 'error',
	});
}

export function removeBundle(): void {
	rmSync(join(agentBundle, '..'), { recursive: true, force: true });
}

export function newDataFolder(): string {
	return mkdtempSync(join(tmpdir(), 'robot-fleet-agent-data-'));
}

export class AgentProcess {
	readonly child: ChildProcess;
	/** Resolves with the exit code, or the signal that ended it. */
	readonly exit: Promise<number | string>;
	stdout = '';
	stderr = '';
	#wake: (() => void)[] = [];
	/** Ended, and all that it printed was read. */
	#isOver = false;

	/** `stderr`: a file for it, instead of what is read here. */
	constructor(args: readonly string[], env: Record<string, string> = {}, stderr?: number) {
		const { SERVER_URL, API_KEY, HEARTBEAT_INTERVAL, LOG_LEVEL, ...clean } = process.env;
		this.child = spawn(process.execPath, [agentBundle, ...args], {
			env: { ...clean, ...env },
			stdio: ['ignore', 'pipe', stderr ?? 'pipe'],
		});
		for (const name of ['stdout', 'stderr'] as const) {
			this.child[name]?.setEncoding('utf8').on('data', (text: string) => {
				this[name] += text;
				for (const wake of this.#wake.splice(0)) wake();
			});
		}
		this.exit = new Promise((resolveExit) => {
			this.child.once('close', (code, signal) => {
				this.#isOver = true;
				resolveExit(code ?? signal!);
				for (const wake of this.#wake.splice(0)) wake();
			});
		});
	}

	get pid(): number {
		return this.child.pid!;
	}

	async untilPrinted(pattern: RegExp, deadlineMs = 15_000): Promise<void> {
		let late = false;
		const timer = setTimeout(() => {
			late = true;
			for (const wake of this.#wake.splice(0)) wake();
		}, deadlineMs);
		try {
			while (!pattern.test(this.stdout + this.stderr)) {
				if (late || this.#isOver) {
					throw new Error(`the agent never printed ${pattern}:\n${this.stdout}${this.stderr}`);
				}
				await new Promise<void>((wake) => this.#wake.push(wake));
			}
		} finally {
			clearTimeout(timer);
		}
	}

	signal(signal: NodeJS.Signals): void {
		this.child.kill(signal);
	}

	/** Ends it and every job it runs, at once. Harmless when it has already ended. */
	async stop(): Promise<void> {
		this.child.kill('SIGTERM');
		this.child.kill('SIGINT');
		await this.exit;
	}

	/** Ends it as a power cut would: its jobs live on. Harmless when it has already ended. */
	async kill(): Promise<void> {
		this.child.kill('SIGKILL');
		await this.exit;
	}
}

/** True while a process lives (a zombie does not). */
export function lives(pid: number): boolean {
	try {
		process.kill(pid, 0);
	} catch {
		return false;
	}
	try {
		const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
		return text.slice(text.lastIndexOf(')') + 2)[0] !== 'Z';
	} catch {
		return process.platform !== 'linux';
	}
}
