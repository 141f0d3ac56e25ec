/** Where Linux counts what this process uses. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The folders of its group and of those around it, innermost first; a container sees its own group at the root,
 * whatever path it is told. `root` is where the system's own files are.
 */
export async function cgroupFolders(root: string, controller: 'cpu' | 'memory'): Promise<string[]> {
	let lines: string;
	try {
		lines = await readFile(join(root, 'proc/self/cgroup'), 'utf8');
	} catch {
		return [];
	}
	const v1 = new RegExp(`^\\d+:(?:[^:]*,)?${controller}(?:,[^:]*)?:(.*)$`, 'm').exec(lines)?.[1];
	const path = v1 ?? /^0::(.*)$/m.exec(lines)?.[1] ?? '';
	const mount = join(root, 'sys/fs/cgroup', v1 === undefined ? '' : controller);
	const folders = [mount];
	for (const name of path.split('/').filter(Boolean)) folders.unshift(join(folders[0]!, name));
	// Part of a path that is not ours may exist all the same: Docker in a container names its groups
	// like those outside.
	return existsSync(folders[0]!) ? folders : [mount];
}
