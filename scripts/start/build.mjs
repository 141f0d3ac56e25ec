/**
 * The package as it would be published: built only when its sources changed, packed by npm. The packed
 * file's hash tells whether n8n has it already.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findNode24 } from '../n8n/node24.mjs';
import { npm, quiet } from '../n8n/npm.mjs';
import { readJson, writeJson } from './state.mjs';
import { runToItsEnd } from './processes.mjs';

const sources = [
	'gulpfile.js',
	'package.json',
	'package-lock.json',
	'tsconfig.json',
	'tsconfig.nodes.json',
	'protocol',
	'kinds',
	'client',
	'dispatcher',
	'agent',
	'nodes',
	'credentials',
];
const outputs = ['dist', 'agent/dist/agent.js'];

/** @typedef {import('../n8n/progress.mjs').Progress} Progress */

/**
 * @param {string} root
 * @param {string} noteFile where we keep what was built last
 * @param {Progress} progress
 */
export async function buildIfChanged(root, noteFile, { step }) {
	const now = async () => ({
		sources: await hashAll(root, sources),
		outputs: await hashAll(root, outputs),
	});
	const wanted = await now();
	const built = await readJson(noteFile);
	if (built?.sources === wanted.sources && built.outputs === wanted.outputs) return;
	const gulp = join(root, 'node_modules/gulp/bin/gulp.js');
	await step('Building', () =>
		runToItsEnd(findNode24().bin, [gulp, 'build'], { cwd: root, what: 'The build' }),
	);
	await writeJson(noteFile, { ...(await now()), sources: wanted.sources });
}

/**
 * @template T
 * @param {string} root
 * @param {(tarball: string, hash: string) => Promise<T>} use the tarball is gone afterwards
 * @returns {Promise<T>}
 */
export async function withTarball(root, use) {
	const folder = await mkdtemp(join(tmpdir(), 'robot-fleet-pack-'));
	try {
		const args = ['pack', '--ignore-scripts', '--pack-destination', folder, ...quiet];
		await npm(args, { cwd: root, node: findNode24().bin });
		const tarball = join(folder, /** @type {string} */ ((await readdir(folder))[0]));
		return await use(tarball, hash(await readFile(tarball)));
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

/** @param {string} root @param {string[]} places files and folders below root */
async function hashAll(root, places) {
	const lists = await Promise.all(places.map((place) => filesOf(root, place)));
	const lines = await Promise.all(
		lists.flat().map(async (file) => `${file} ${hash(await readFile(join(root, file)))}`),
	);
	return hash(lines.sort().join('\n'));
}

/** @param {string} root @param {string} place @returns {Promise<string[]>} */
async function filesOf(root, place) {
	if (!existsSync(join(root, place))) return [];
	const entries = await readdir(join(root, place), { withFileTypes: true }).catch(() => undefined);
	if (!entries) return [place];
	const inner = entries
		// What a build made inside a folder of sources is not a source.
		.filter(({ name }) => name !== 'node_modules' && name !== 'dist')
		.map(({ name }) => filesOf(root, join(place, name)));
	return (await Promise.all(inner)).flat();
}

/** @param {string | Buffer} bytes */
export function hash(bytes) {
	return createHash('sha256').update(bytes).digest('hex');
}
