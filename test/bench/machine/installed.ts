/** Versions of what is compared, as it is installed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The root of the project: what is measured is built and installed there. */
export const root = process.env['BENCH_ROOT']!;

export function versionOf(name: string): string {
	const file = join(root, 'node_modules', name, 'package.json');
	return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
