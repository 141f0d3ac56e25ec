/** Looks for bytes on a disk while programs work on it. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Paths, below the folder, of every file that holds the text. */
export function filesWith(folder: string, text: string): string[] {
	return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
		contentOf(join(folder, name)).includes(text),
	);
}

/** A file may be taken away between the look and the reading. */
function contentOf(path: string): Buffer {
	const nothing = Buffer.alloc(0);
	if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return nothing;
	try {
		return readFileSync(path);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return nothing;
		throw error;
	}
}
