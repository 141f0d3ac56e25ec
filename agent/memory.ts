/** The memory that a robot may use, and how much of that is in use: the machine's, or what its container or unit is limited to. */
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { cgroupFolders } from './cgroup';

/** Bytes. */
export function memoryLimit(): number {
	return Math.min(os.totalmem(), process.constrainedMemory() || Infinity);
}

/** 0 … 1; `root` is where the system's own files are. */
export async function memoryShare(root = '/'): Promise<number> {
	const limit = memoryLimit();
	if (limit >= os.totalmem()) return 1 - os.freemem() / limit;
	return 1 - (process.availableMemory() + (await droppableBytes(root))) / limit;
}

/**
 * Files that were read and are still cached: they count as used against a limit, but the kernel drops them as soon as
 * somebody needs the room. If they counted, a container that has copied a large file would look full for ever.
 */
export async function droppableBytes(root: string): Promise<number> {
	for (const folder of await cgroupFolders(root, 'memory')) {
		try {
			const stat = await readFile(join(folder, 'memory.stat'), 'utf8');
			// Version 1 has a name of its own for the sum of all groups below.
			const [, bytes] =
				/^total_inactive_file (\d+)$/m.exec(stat) ?? /^inactive_file (\d+)$/m.exec(stat) ?? [];
			if (bytes !== undefined) return Number(bytes);
		} catch {
			// Not every path that a container knows exists.
		}
	}
	return 0;
}
