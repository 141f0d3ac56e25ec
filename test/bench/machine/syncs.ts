/** Counts how often servers force their writes to the disk; proves what class of durability is compared. */
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { newFolder } from './folder';
import { treeOf } from './processes';
import { ended } from './spawned';
import { onExit } from './undo';

export function hasStrace(): boolean {
	return spawnSync('strace', ['-V'], { stdio: 'ignore' }).status === 0;
}

/** Syncs of the trees while `work` ran. It slows them down: nothing else may be measured meanwhile. */
export async function countSyncs(
	pids: readonly number[],
	work: () => Promise<void>,
): Promise<number> {
	const { folder, remove } = newFolder('strace');
	const file = join(folder, 'syncs');
	const targets = pids.flatMap(treeOf).flatMap((pid) => ['-p', String(pid)]);
	const calls = 'trace=fsync,fdatasync,sync_file_range,msync,syncfs,sync';
	const strace = spawn('strace', ['-f', '-e', calls, '-o', file, ...targets], {
		stdio: ['ignore', 'ignore', 'pipe'],
	});
	const stop = onExit(() => ended(strace, 'SIGINT'));
	await new Promise<void>((resolve, reject) => {
		let text = '';
		let attached = 0;
		strace.once('error', reject);
		strace.once('exit', () => reject(new Error(`strace: ${text}`)));
		strace.stderr.on('data', (piece: Buffer) => {
			text += piece.toString();
			attached = text.split('attached').length - 1;
			if (attached >= targets.length / 2) resolve();
		});
	});
	await work();
	await stop();
	const lines = readFileSync(file, 'utf8').split('\n');
	await remove();
	// A call that another thread interrupted has two lines; only the first has an opening parenthesis.
	return lines.filter((line) => /^\d+\s+\w*sync\w*\(/.test(line)).length;
}
