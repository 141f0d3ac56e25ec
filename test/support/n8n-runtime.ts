/** The prepared n8n, and our packed package, for tests that start a real one. */
import { execFileSync, type StdioOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '../..');

export interface Runtime {
	dir: string;
	/** n8n's entry file, to be run with `node`. */
	bin: string;
	node: string;
	version: string;
}

/**
 * A program of its own: it waits at its top level, which the CommonJS of these tests cannot.
 *
 * @param version a folder of test/n8n/versions; the usual n8n without one
 */
export function preparedRuntime(version = process.env.ROBOT_FLEET_N8N_VERSION): Runtime {
	const prepare = join(root, 'scripts/n8n/prepare.mjs');
	const stdio: StdioOptions = ['ignore', 'pipe', 'inherit'];
	const args = [prepare, '--json', ...(version ? [version] : [])];
	const output = String(execFileSync(process.execPath, args, { stdio }));
	return JSON.parse(output.trim().split('\n').at(-1)!) as Runtime;
}

/** `npm run build` comes before; here it is only packed. */
export function packedTarball(folder: string): string {
	const given = process.env.ROBOT_FLEET_TARBALL;
	if (given) return given;
	if (!existsSync(join(root, 'dist/embedded/service.js'))) {
		throw new Error('There is no dist/: run "npm run build" first');
	}
	const args = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder];
	const name = String(execFileSync('npm', args, { cwd: root }))
		.trim()
		.split('\n')
		.at(-1)!;
	return join(folder, name);
}
