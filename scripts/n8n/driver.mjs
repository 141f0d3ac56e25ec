/**
 * Makes n8n's database driver work on this machine: sqlite3 is the one part of n8n that is neither
 * JavaScript nor comes ready-made in its package.
 */
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findHeaders, headersPackage } from './node24.mjs';
import { npm, NpmError, quiet } from './npm.mjs';

/** @typedef {import('./node24.mjs').Node24} Node24 */

const compilerNeeded =
	'sqlite3 has to be compiled here, and that failed: it takes a C++ compiler, make and Python 3 ' +
	'(Debian, Ubuntu: "apt-get install build-essential python3"; macOS: "xcode-select --install"; ' +
	'Alpine: "apk add build-base python3"); install them and run this again.';

/**
 * sqlite3 fetches a ready-made binary where its makers' download site can be reached, else it is
 * compiled. A binary that does not open a database here (an older C library, say) is compiled too.
 *
 * @param {string} dir where n8n's packages are
 * @param {Node24} node
 */
export async function buildDriver(dir, node) {
	const headers = findHeaders(node) ?? (await downloadHeaders(dir, node));
	/** @type {Record<string, string>} */
	const nodedir = headers ? { npm_config_nodedir: headers } : {};
	const rebuild = (/** @type {Record<string, string>} */ more = {}) =>
		npm(['rebuild', 'sqlite3', '--ignore-scripts=false', ...quiet], {
			cwd: dir,
			node: node.bin,
			env: { ...nodedir, ...more },
		});
	try {
		await rebuild();
		if (await opensDatabase(dir, node)) return;
		await rebuild({ npm_config_build_from_source: 'true' });
	} catch (error) {
		throw error instanceof NpmError ? new NpmError(compilerNeeded, error.output) : error;
	} finally {
		await rm(downloadedHeaders(dir), { recursive: true, force: true });
	}
	if (await opensDatabase(dir, node)) return;
	throw new Error(`sqlite3 was built, but opens no database with ${node.bin}.`);
}

/**
 * The headers of exactly this Node, from the package registry. Where that has none for this
 * platform node-gyp is left to look for them itself.
 *
 * @param {string} dir
 * @param {Node24} node
 */
async function downloadHeaders(dir, node) {
	const folder = downloadedHeaders(dir);
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

/** @param {string} dir */
function downloadedHeaders(dir) {
	return join(dir, '.headers');
}

/** @param {string} dir @param {Node24} node */
async function opensDatabase(dir, node) {
	const program = `
		const { Database } = require('sqlite3');
		const database = new Database(':memory:', (error) => {
			if (error) throw error;
			database.get('select 6 * 7 as answer', (error, row) => {
				if (error) throw error;
				process.stdout.write(String(row.answer));
			});
		});`;
	try {
		const { stdout } = await promisify(execFile)(node.bin, ['-e', program], { cwd: dir });
		return stdout === '42';
	} catch {
		return false;
	}
}
