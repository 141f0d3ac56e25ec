/** Disks that misbehave: one that is too small, and system calls that fail on demand. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../fault/one-service';

const can = (command: string, ...args: string[]) => spawnSync(command, args).status === 0;

/** Why this machine cannot have a small disk; undefined = it can. */
export function noSmallDisk(): string | undefined {
	const inNamespace = ['-m', 'sh', '-c', 'mount -t tmpfs -o size=1m tmpfs /mnt'];
	return can('unshare', ...inNamespace) ? undefined : 'mounting a tmpfs is not permitted here';
}

/** Why system calls cannot be made to fail here; undefined = they can. */
export function noTampering(): string | undefined {
	if (!can('strace', '-V')) return 'there is no strace here';
	return can('strace', '-e', 'inject=fsync:error=EIO', 'true')
		? undefined
		: 'tracing is not permitted here';
}

/** A disk of so many MiB, mounted at `folder`. */
export class SmallDisk {
	readonly folder: string;

	constructor(folder: string, mib: number) {
		this.folder = folder;
		mkdirSync(folder, { recursive: true });
		execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', folder]);
	}

	/** Leaves no byte free. */
	fill(): void {
		const file = openSync(join(this.folder, 'somebody-elses-data'), 'a');
		try {
			for (let bytes = 1024 * 1024; bytes >= 1; bytes = Math.floor(bytes / 4)) {
				const piece = Buffer.alloc(bytes, 1);
				for (;;) {
					try {
						if (writeSync(file, piece) < bytes) break;
					} catch (error) {
						if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
						break;
					}
				}
			}
		} finally {
			closeSync(file);
		}
	}

	empty(): void {
		rmSync(join(this.folder, 'somebody-elses-data'), { force: true });
	}

	close(): void {
		// Lazily: a process that died a moment ago may still hold it.
		spawnSync('umount', ['-l', this.folder]);
	}
}

/** Makes system calls of a running process fail, as `inject` says (see strace). */
export class Tampering {
	readonly #strace: ChildProcess;

	private constructor(strace: ChildProcess) {
		this.#strace = strace;
	}

	static async of(pid: number, inject: string): Promise<Tampering> {
		const [calls] = inject.split(':');
		const args = ['-f', '-e', `trace=${calls}`, '-e', `inject=${inject}`, '-p', String(pid)];
		const strace = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
		let said = '';
		strace.stderr!.setEncoding('utf8').on('data', (text: string) => (said += text));
		await eventually('strace to be attached', () => said.includes('attached'));
		return new Tampering(strace);
	}

	async stop(): Promise<void> {
		if (this.#strace.exitCode !== null || this.#strace.signalCode !== null) return;
		const gone = new Promise((done) => this.#strace.once('close', done));
		this.#strace.kill('SIGINT');
		await gone;
	}
}
