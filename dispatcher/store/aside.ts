/**
 * What a restore replaces is put aside, next to it. The store is swapped last, by one rename: until then both of its names
 * lead to the same file, which tells a restore that was killed from a complete one.
 */
import { existsSync, linkSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

function namesFor(store: string) {
	const folder = dirname(store);
	return {
		output: join(folder, 'output'),
		storeAside: join(folder, 'robot-fleet.before-restore.sqlite'),
		outputAside: join(folder, 'output.before-restore'),
	};
}

/**
 * Gives the store that is to be replaced a second name, and returns it. What an earlier restore put aside goes first: from
 * here on, output that lies aside is this store's.
 */
export function setStoreAside(store: string): string {
	const { storeAside, outputAside } = namesFor(store);
	undoHalfRestore(store);
	rmSync(outputAside, { recursive: true, force: true });
	rmSync(storeAside, { force: true });
	linkSync(store, storeAside);
	return storeAside;
}

/** The output of the replaced store goes aside with it, and the output that the restored one knows takes its place. */
export function swapOutput(store: string, restored: string): void {
	const { output, outputAside } = namesFor(store);
	if (existsSync(output)) {
		rmSync(outputAside, { recursive: true, force: true });
		renameSync(output, outputAside);
	}
	if (existsSync(restored)) renameSync(restored, output);
}

/**
 * After a restore that was killed before its last step, the store is still the old one, so its output must be, too: the store
 * cuts and drops segments it does not know. Call only under the store's lock; harmless when there is nothing to undo.
 */
export function undoHalfRestore(store: string): void {
	const { output, storeAside, outputAside } = namesFor(store);
	if (!isSameFile(store, storeAside)) return;
	if (existsSync(outputAside)) {
		rmSync(output, { recursive: true, force: true });
		renameSync(outputAside, output);
	}
	rmSync(storeAside);
}

function isSameFile(a: string, b: string): boolean {
	const [one, other] = [a, b].map((path) =>
		statSync(path, { bigint: true, throwIfNoEntry: false }),
	);
	return one !== undefined && one.dev === other?.dev && one.ino === other.ino;
}
