/**
 * Installs a packed community package the way n8n itself does: unpacked below its user folder,
 * without development, peer and optional dependencies, with n8n's own npm flags. So what works here
 * works where a person types our name into n8n's settings.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { npm } from './npm.mjs';

const flagsOfN8n = [
	'--audit=false',
	'--fund=false',
	'--bin-links=false',
	'--install-strategy=shallow',
	'--ignore-scripts=true',
	'--package-lock=false',
];

/**
 * A running n8n notices at its next start.
 *
 * @param {object} options
 * @param {string} options.tarball
 * @param {string} options.userFolder
 * @param {string} options.node the Node that runs npm
 * @returns {Promise<{name: string, version: string, dir: string}>}
 */
export async function installCommunityPackage({ tarball, userFolder, node }) {
	const nodes = join(userFolder, '.n8n', 'nodes');
	const beside = join(nodes, `.new-${randomBytes(4).toString('hex')}`);
	await mkdir(beside, { recursive: true });
	try {
		const strip = ['-xzf', resolve(tarball), '-C', beside, '--strip-components=1'];
		await promisify(execFile)('tar', strip);
		const manifest = await readManifest(beside);
		const { devDependencies, peerDependencies, optionalDependencies, ...kept } = manifest;
		await writeManifest(beside, kept);
		await npm(['install', ...flagsOfN8n], { cwd: beside, node });
		const dir = join(nodes, 'node_modules', kept.name);
		await replace(beside, dir);
		await register(nodes, kept);
		return { name: kept.name, version: kept.version, dir };
	} finally {
		await rm(beside, { recursive: true, force: true });
	}
}

/** @param {string} beside @param {string} dir */
async function replace(beside, dir) {
	await mkdir(dirname(dir), { recursive: true });
	await rm(dir, { recursive: true, force: true, maxRetries: 3 });
	await rename(beside, dir);
}

/**
 * n8n keeps a list of what it installed, and removes what is not on it when it tidies up.
 *
 * @param {string} nodes
 * @param {{name: string, version: string}} manifest
 */
async function register(nodes, { name, version }) {
	const list = await readManifest(nodes).catch(() => ({ name: 'installed-nodes', private: true }));
	await writeManifest(nodes, { ...list, dependencies: { ...list.dependencies, [name]: version } });
}

/** @param {string} folder @returns {Promise<any>} */
async function readManifest(folder) {
	return JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
}

/** @param {string} folder @param {unknown} manifest */
function writeManifest(folder, manifest) {
	return writeFile(join(folder, 'package.json'), JSON.stringify(manifest, null, 2));
}
