/**
 * Brings the one n8n that our tests and `npm start` run onto this machine, once; or another version
 * that has a folder in test/n8n/versions.
 *
 * It is installed from the lock file in test/n8n/runtime into the user's cache folder, outside the
 * clone, so that a second clone pays nothing. It is built beside its place and renamed into it only
 * after its database driver has opened a database: what stands there is whole, whatever was killed.
 *
 *   node scripts/n8n/prepare.mjs [version] [--json]
 *
 * prepares it if need be, and prints the folder, or all of `Runtime`.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bringNode, nodeBrought } from './brought-node.mjs';
import { cacheFolder, openCache, partialFolder } from './cache.mjs';
import { buildDriver } from './driver.mjs';
import { findNode24 } from './node24.mjs';
import { npm, NpmError, quiet } from './npm.mjs';
import { createProgress } from './progress.mjs';

const usual = fileURLToPath(new URL('../../test/n8n/runtime', import.meta.url));
const versions = fileURLToPath(new URL('../../test/n8n/versions', import.meta.url));

/** @typedef {import('./node24.mjs').Node24} Node24 */

/**
 * @typedef {object} Runtime
 * @property {string} dir the folder it lies in
 * @property {string} bin n8n's entry file, to be run with `node`
 * @property {string} node a Node that n8n runs on
 * @property {string} version n8n's version
 */

/**
 * @param {object} [options]
 * @param {(line: string) => void} [options.log] receives whole lines; without it the terminal does
 * @param {string} [options.version] a folder of test/n8n/versions; without it the usual one
 * @returns {Promise<Runtime>}
 */
export async function prepareN8n({ log, version } = {}) {
	const manifestFolder = version === undefined ? usual : join(versions, version);
	if (!existsSync(manifestFolder)) {
		throw new Error(`There is no ${manifestFolder}; versions are ${otherVersions().join(', ')}.`);
	}
	const lock = readLock(manifestFolder);
	// An older n8n may want an older Node, which then lies in its folder and is nobody else's.
	const ownNode = wantedNode(manifestFolder);
	const usualNode = ownNode === undefined ? findNode24() : undefined;
	const major = usualNode?.major ?? Number.parseInt(String(ownNode), 10);
	const cache = cacheFolder();
	const dir = join(cache, folderName(lock, major));
	const runtime = {
		dir,
		bin: join(dir, 'node_modules/n8n/bin/n8n'),
		node: usualNode?.bin ?? nodeBrought(dir),
		version: lock.version,
	};
	if (existsSync(runtime.bin)) return runtime;

	const { say, step } = createProgress(log);
	say(`Preparing n8n ${lock.version} in ${dir} (once; a few minutes, 2.5 GB)`);
	await openCache(cache);
	const partial = partialFolder(cache);
	try {
		await copyManifest(manifestFolder, partial);
		const node = usualNode ?? (await bringNode(partial, String(ownNode)));
		await step('Downloading n8n', () => download(partial, node), countPackages(partial, lock));
		await step('Building its database driver', () => buildDriver(partial, node));
		await takePlace(partial, runtime);
		say(`n8n ${lock.version} is ready`);
		return runtime;
	} catch (error) {
		throw await explainFailure(error, cache);
	} finally {
		// Gone already if it became the runtime; if it cannot be removed, the next run tries again.
		await rm(partial, { recursive: true, force: true }).catch(() => {});
	}
}

/** The versions that have a manifest and a lock file, beside the usual one. */
export function otherVersions() {
	return existsSync(versions) ? readdirSync(versions).sort(byNumbers) : [];
}

/** @param {string} a @param {string} b */
function byNumbers(a, b) {
	return a.localeCompare(b, 'en', { numeric: true });
}

/**
 * The Node that this n8n wants instead of ours, as its manifest says under `config`.
 *
 * @param {string} manifestFolder
 * @returns {string | undefined}
 */
function wantedNode(manifestFolder) {
	const manifest = JSON.parse(readFileSync(join(manifestFolder, 'package.json'), 'utf8'));
	return manifest.config?.node;
}

/** @param {string} manifestFolder @param {string} partial */
async function copyManifest(manifestFolder, partial) {
	await mkdir(partial);
	for (const file of ['package.json', 'package-lock.json']) {
		await copyFile(join(manifestFolder, file), join(partial, file));
	}
}

/**
 * Scripts stay off: of the packages that have one n8n needs only sqlite3's, and another one's
 * download would fail the whole installation.
 *
 * @param {string} partial
 * @param {Node24} node
 */
function download(partial, node) {
	const args = ['ci', '--legacy-peer-deps', '--ignore-scripts', '--engine-strict=false', ...quiet];
	return npm(args, { cwd: partial, node: node.bin });
}

/**
 * Two preparations may run at once; the first to rename wins and the other's work is dropped.
 *
 * @param {string} partial
 * @param {Runtime} runtime
 */
async function takePlace(partial, { dir, bin }) {
	try {
		await rename(partial, dir);
	} catch (error) {
		if (existsSync(bin)) return;
		if (!existsSync(dir)) throw error;
		throw new Error(`${dir} is there, but is not whole: remove it and run this again.`);
	}
}

/**
 * A hint for the person who waits. npm reports nothing while it works, but each package's manifest
 * appears when the package is there.
 *
 * @param {string} partial
 * @param {Lock} lock
 * @returns {() => string}
 */
function countPackages(partial, lock) {
	let missing = lock.packages.map((folder) => join(partial, folder, 'package.json'));
	return () => {
		missing = missing.filter((manifest) => !existsSync(manifest));
		const there = lock.packages.length - missing.length;
		return there === 0 ? 'asking for packages' : `${there} of ${lock.packages.length} packages`;
	};
}

/**
 * @typedef {object} Lock
 * @property {string} version n8n's
 * @property {string} hash the first eight hex digits of the lock file's SHA-256
 * @property {string[]} packages the folders npm will fill on any platform
 */

/** @param {string} manifestFolder @returns {Lock} */
function readLock(manifestFolder) {
	// A clone on Windows may have other line endings; that does not make it another n8n.
	const text = readFileSync(join(manifestFolder, 'package-lock.json'), 'utf8').replaceAll('\r', '');
	const { packages } = JSON.parse(text);
	return {
		version: packages['node_modules/n8n'].version,
		hash: createHash('sha256').update(text).digest('hex').slice(0, 8),
		packages: Object.keys(packages).filter((folder) => folder !== '' && !packages[folder].optional),
	};
}

/** @param {Lock} lock @param {number} major Node's */
function folderName(lock, major) {
	const machine = `node${major}-${process.platform}-${process.arch}`;
	return `n8n-${lock.version}-${lock.hash}-${machine}`;
}

/** npm's last words go to a file; the person gets one sentence and the file's name. */
async function explainFailure(/** @type {unknown} */ error, /** @type {string} */ cache) {
	if (!(error instanceof NpmError)) return error;
	const file = join(cache, 'last-failure.log');
	await writeFile(file, `${error.output.join('\n')}\n`);
	return new Error(`n8n could not be prepared. ${error.message} (npm's own words: ${file})`);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
	try {
		const { values, positionals } = parseArgs({
			options: { json: { type: 'boolean' } },
			allowPositionals: true,
		});
		const runtime = await prepareN8n({ version: positionals[0] });
		console.log(values.json ? JSON.stringify(runtime) : runtime.dir);
	} catch (error) {
		console.error(error instanceof Error ? error.message : error);
		process.exitCode = 1;
	}
}
