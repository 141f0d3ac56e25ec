/**
 * The folder below the user's cache where prepared n8ns lie, and the unfinished ones beside them.
 *
 * An unfinished one is named `.partial-<host>-<process>-<random>`, so that the next run can tell a
 * preparation under way from one that was killed.
 */
import { randomBytes } from 'node:crypto';
import { access, constants, mkdir, readdir, rm, stat, statfs } from 'node:fs/promises';
import { homedir, hostname } from 'node:os';
import { join } from 'node:path';

const bytesNeeded = 4 * 1024 ** 3;
const dayMs = 24 * 60 * 60 * 1000;
const host = hostname().replaceAll(/[^\w.]/g, '_');

export function cacheFolder() {
	const base =
		process.env.ROBOT_FLEET_CACHE || process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
	return join(base, 'robot-fleet');
}

/**
 * Makes the cache fit to prepare an n8n in, or says what is in the way.
 *
 * @param {string} cache
 */
export async function openCache(cache) {
	const otherFolder = 'set ROBOT_FLEET_CACHE to a folder';
	try {
		await mkdir(cache, { recursive: true });
		await access(cache, constants.W_OK);
	} catch (cause) {
		const text = `${cache} is not a folder we may write to: ${otherFolder} that is.`;
		throw new Error(text, { cause });
	}
	await removeAbandoned(cache);
	const { bavail, bsize } = await statfs(cache);
	if (bavail * bsize >= bytesNeeded) return;
	const free = ((bavail * bsize) / 1024 ** 3).toFixed(1);
	throw new Error(
		`n8n needs 4 GB of free disk and ${cache} has ${free} GB: free some space, or ${otherFolder} ` +
			'on a larger disk.',
	);
}

/** @param {string} cache @returns {string} a folder of our own in it, not made yet */
export function partialFolder(cache) {
	return join(cache, `.partial-${host}-${process.pid}-${randomBytes(4).toString('hex')}`);
}

/** @param {string} cache */
async function removeAbandoned(cache) {
	for (const name of await readdir(cache)) {
		const [, itsHost, pid] = /^\.partial-(.+)-(\d+)-[0-9a-f]+$/.exec(name) ?? [];
		if (!pid) continue;
		const folder = join(cache, name);
		// A cache may be shared between containers, which do not see each other's processes.
		const dead = itsHost === host ? !isAlive(Number(pid)) : await isOld(folder);
		// An npm that lost its parent may still write there: then the folder goes the next time.
		if (dead) await rm(folder, { recursive: true, force: true }).catch(() => {});
	}
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

/** @param {string} folder */
async function isOld(folder) {
	const { mtimeMs } = await stat(folder);
	return Date.now() - mtimeMs > dayMs;
}
