/**
 * A Node of another version than ours, for an n8n that wants it: from the package registry, into the
 * folder of that n8n, headers included.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { headersPackage } from './node24.mjs';
import { npm, quiet } from './npm.mjs';

/** @typedef {import('./node24.mjs').Node24} Node24 */

/** @param {string} dir where n8n's packages are @returns {string} the executable, there or not */
export function nodeBrought(dir) {
	const home = join(dir, '.node', 'node_modules', headersPackage(), 'bin');
	return join(home, process.platform === 'win32' ? 'node.exe' : 'node');
}

/**
 * @param {string} dir where n8n's packages are
 * @param {string} version
 * @returns {Promise<Node24>}
 */
export async function bringNode(dir, version) {
	const folder = join(dir, '.node');
	await mkdir(folder);
	await writeFile(join(folder, 'package.json'), '{}');
	await npm(['install', `${headersPackage()}@${version}`, '--ignore-scripts', ...quiet], {
		cwd: folder,
		node: process.execPath,
	});
	return { bin: nodeBrought(dir), version, major: Number.parseInt(version, 10) };
}
