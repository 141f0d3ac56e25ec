/**
 * Brings the one n8n that our tests and `npm start` run onto this machine, once.
 *
 * It is installed from the lock file in test/n8n/runtime into the user's cache folder, outside the
 * clone, so that a second clone pays nothing. It is built beside its place and renamed into it only
 * after its database driver has opened a database: what stands there is whole, whatever was killed.
 *
 *   node scripts/n8n/prepare.mjs     prepares if need be, and prints the folder
 */
import { createHash, randomBytes } from 'node:crypto';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { cp, mkdir, readdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findHeaders, findNode24, headersPackage } from './node24.mjs';
import { npm, NpmError } from './npm.mjs';
import { createProgress } from './progress.mjs';

const manifestFolder = fileURLToPath(new URL('../../test/n8n/runtime', import.meta.url));
const bytesNeeded = 4 * 1024 ** 3;
const dayMs = 24 * 60 * 60 * 1000;
const quiet = ['--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error'];

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
 * @returns {Promise<Runtime>}
 */
export async function prepareN8n({ log } = {}) {
	const node = findNode24();
	const lock = readLock();
	const cache = cacheFolder();
	const dir = join(cache, folderName(lock, node));
	const runtime = {
		dir,
		bin: join(dir, 'node_modules/n8n/bin/n8n'),
		node: node.bin,
		version: lock.version,
	};
	if (existsSync(runtime.bin)) return runtime;

	const { say, step } = createProgress(log);
	say(`Preparing n8n ${lock.version} in ${dir} (once; a few minutes, 2.5 GB)`);
	await makeCache(cache);
	await removeAbandoned(cache);
	await demandSpace(cache);
	const partial = join(cache, partialName());
	try {
		await cp(manifestFolder, partial, { recursive: true });
		await step('Downloading n8n', () => download(partial, node), countPackages(partial, lock));
		await step('Building its database driver', () => buildDriver(partial, node));
		await takePlace(partial, runtime);
		say(`n8n ${lock.version} is ready`);
		return runtime;
	} catch (error) {
		throw await explainFailure(error, cache);
	} finally {
		await rm(partial, { recursive: true, force: true, maxRetries: 3 });
	}
}

/**
 * Scripts stay off: of the packages that have one n8n needs only sqlite3's, and another one's
 * download would fail the whole installation.
 *
 * @param {string} partial
 * @param {import('./node24.mjs').Node24} node
 */
function download(partial, node) {
	const args = ['ci', '--legacy-peer-deps', '--ignore-scripts', '--engine-strict=false', ...quiet];
	return npm(args, { cwd: partial, node: node.bin });
}

/**
 * sqlite3 fetches a ready-made binary where its makers' download site can be reached, else it is
 * compiled. A binary that does not open a database here (an older C library, say) is compiled too.
 *
 * @param {string} partial
 * @param {import('./node24.mjs').Node24} node
 */
async function buildDriver(partial, node) {
	const headers = findHeaders(node) ?? (await downloadHeaders(partial, node));
	const rebuild = (/** @type {string[]} */ ...more) =>
		npm(['rebuild', 'sqlite3', '--ignore-scripts=false', ...quiet, ...more], {
			cwd: partial,
			node: node.bin,
			env: headers ? { npm_config_nodedir: headers } : {},
		});
	await rebuild();
	try {
		await openDatabase(partial, node);
	} catch {
		await rebuild('--build-from-source');
		await openDatabase(partial, node);
	}
}

/**
 * The headers of exactly this Node, from the package registry. Where that has none for this
 * platform node-gyp is left to look for them itself.
 *
 * @param {string} partial
 * @param {import('./node24.mjs').Node24} node
 */
async function downloadHeaders(partial, node) {
	const folder = join(partial, '.headers');
	await mkdir(folder);
	await writeFile(join(folder, 'package.json'), '{}');
	const wanted = `${headersPackage()}@${node.version}`;
	try {
		await npm(['install', wanted, '--ignore-scripts', ...quiet], { cwd: folder, node: node.bin });
		return join(folder, 'node_modules', headersPackage());
	} catch (error) {
		if (error instanceof NpmError) return undefined;
		throw error;
	}
}

/** @param {string} partial @param {import('./node24.mjs').Node24} node */
async function openDatabase(partial, node) {
	const program = `
		const { Database } = require('sqlite3');
		const stop = (error) => { if (error) { console.error(error.message); process.exit(1); } };
		const database = new Database(':memory:', (error) => {
			stop(error);
			database.get('select 6 * 7 as answer', (error, row) => {
				stop(error ?? (row.answer === 42 ? null : new Error('sqlite3 cannot count')));
			});
		});`;
	await promisify(execFile)(node.bin, ['-e', program], { cwd: partial });
}

/**
 * Two preparations may run at once; the first to rename wins and the other's work is dropped.
 *
 * @param {string} partial
 * @param {Runtime} runtime
 */
async function takePlace(partial, { dir, bin }) {
	await rm(join(partial, '.headers'), { recursive: true, force: true });
	try {
		await rename(partial, dir);
	} catch (error) {
		if (existsSync(bin)) return;
		if (!existsSync(dir)) throw error;
		throw new Error(`${dir} is there, but is not whole: remove it and run this again.`);
	}
}

/** What killed preparations left behind: those of dead processes here, and very old ones. */
async function removeAbandoned(/** @type {string} */ cache) {
	for (const name of await readdir(cache)) {
		const [, host, pid] = /^\.partial-(.+)-(\d+)-[0-9a-f]+$/.exec(name) ?? [];
		if (!host) continue;
		const folder = join(cache, name);
		const { mtimeMs } = await stat(folder);
		// A cache may be shared between containers, which do not see each other's processes.
		const dead = host === hostKey() ? !isAlive(Number(pid)) : Date.now() - mtimeMs > dayMs;
		if (!dead) continue;
		// An npm that lost its parent may still write there: then it goes the next time.
		await rm(folder, { recursive: true, force: true }).catch(() => {});
	}
}

function partialName() {
	return `.partial-${hostKey()}-${process.pid}-${randomBytes(4).toString('hex')}`;
}

function hostKey() {
	return hostname().replaceAll(/[^\w.]/g, '_');
}

/** @param {number} pid */
function isAlive(pid) {
	try {
		process.kill(pid, 0);
		return true;
	} catch (error) {
		// Someone else's process: not ours to signal, but there.
		return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
	}
}

async function makeCache(/** @type {string} */ folder) {
	try {
		await mkdir(folder, { recursive: true });
	} catch (error) {
		throw new Error(
			`${folder} cannot be made: set ROBOT_FLEET_CACHE to a folder you may write to.`,
			{ cause: error },
		);
	}
}

async function demandSpace(/** @type {string} */ folder) {
	const { bavail, bsize } = await statfs(folder);
	const free = bavail * bsize;
	if (free >= bytesNeeded) return;
	const gib = (free / 1024 ** 3).toFixed(1);
	throw new Error(
		`n8n needs 4 GB of free disk and ${folder} has ${gib} GB: free some space, or set ` +
			'ROBOT_FLEET_CACHE to a folder on a larger disk.',
	);
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

/** @returns {Lock} */
function readLock() {
	// A clone on Windows may have other line ends; that is no other n8n.
	const text = readFileSync(join(manifestFolder, 'package-lock.json'), 'utf8').replaceAll('\r', '');
	const { packages } = JSON.parse(text);
	return {
		version: packages['node_modules/n8n'].version,
		hash: createHash('sha256').update(text).digest('hex').slice(0, 8),
		packages: Object.keys(packages).filter((folder) => folder !== '' && !packages[folder].optional),
	};
}

/** @param {Lock} lock @param {import('./node24.mjs').Node24} node */
function folderName(lock, node) {
	const machine = `node${node.major}-${process.platform}-${process.arch}`;
	return `n8n-${lock.version}-${lock.hash}-${machine}`;
}

function cacheFolder() {
	const base =
		process.env.ROBOT_FLEET_CACHE || process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
	return join(base, 'robot-fleet');
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
		console.log((await prepareN8n()).dir);
	} catch (error) {
		console.error(error instanceof Error ? error.message : error);
		process.exitCode = 1;
	}
}
