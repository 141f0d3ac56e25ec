/**
 * Folders on a real disk: a sync into memory costs nothing and would flatter everybody. All of a
 * run's folders lie beside each other, so that every contender and the calibration meet the same disk.
 */
import { chmodSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onExit } from './undo';

const memoryFileSystems = new Set([0x01021994, 0x858458f6]);

export const diskFolder: string = (() => {
	const asked = process.env['BENCH_FOLDER'];
	if (asked !== undefined) return asked;
	return memoryFileSystems.has(statfsSync(tmpdir()).type) ? '/var/tmp' : tmpdir();
})();

export function newFolder(name: string): { folder: string; remove: () => Promise<void> } {
	const folder = mkdtempSync(join(diskFolder, `rf-bench-${name}-`));
	// A server that refuses to run as root runs as another user, who must get to its own folder.
	chmodSync(folder, 0o711);
	return { folder, remove: onExit(() => rmSync(folder, { recursive: true, force: true })) };
}
