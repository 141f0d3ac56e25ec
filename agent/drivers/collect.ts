/**
 * Looks through the folder of a job that has ended for what it takes home. A link is never followed: neither one
 * that was there before, nor one that takes the place of a folder or file while we look. What is found but cannot
 * be taken is reported with its reason; nothing here changes how the job has ended.
 */
import { createHash } from 'node:crypto';
import { constants, type Dirent } from 'node:fs';
import { type FileHandle, lstat, open, opendir, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isPlainPath, patternEnters, patternFinds, pathMistake } from '../../kinds/files';
import { limits, type WireCollectedFile } from '../../protocol';

/** Looked at in one go: more are not worth the time. */
const maxEntries = 200_000;
const maxDepth = 64;
/** Compared with all patterns before others get their turn: that takes a millisecond, or much more with long names. */
const entriesAtOnce = 64;
const readBytes = 256 * 1024;
/** The longest file that is digested; how much it accepts, the service says itself. */
const maxDigestedBytes = 16 * limits.maxFileBytes;
/** Of a reason; a result with a longer one would be refused as a whole. */
const maxReasonLength = 500;
const givenUp = 'The job was over before it was sent.';
const noText = 'has a name that is not UTF-8';

export type Found = WireCollectedFile & { mode: number };

/** In the order of their paths; those that cannot be taken have an `error`. On the signal, the rest is not looked at. */
export async function collect(
	folder: string,
	patterns: readonly string[],
	signal: AbortSignal,
): Promise<Found[]> {
	const found: Found[] = [];
	const met = new Set<string>();
	let entries = 0;
	let unseen = false;
	const look = async (inside: string, depth: number): Promise<void> => {
		let names: Dirent[];
		try {
			names = await entriesOf(join(folder, inside), maxEntries + 1 - entries);
			if (!(await isInside(folder, inside))) return;
		} catch (error) {
			if (inside !== '' && found.length < limits.maxCollectedFiles) {
				const reason = `cannot be looked into (${codeOf(error)})`;
				found.push(failed(inside, isLostName(error, inside) ? noText : reason));
			}
			return;
		}
		names.sort((a, b) => (a.name < b.name ? -1 : 1));
		for (const entry of names) {
			if (signal.aborted) return;
			if (++entries > maxEntries) {
				unseen = true;
				return;
			}
			if (entries % entriesAtOnce === 0) await new Promise((next) => setImmediate(next));
			const path = inside === '' ? entry.name : `${inside}/${entry.name}`;
			const finders = patterns.filter((pattern) => patternFinds(pattern, path));
			if (entry.isDirectory()) {
				if (depth >= maxDepth) unseen = true;
				else if (patterns.some((pattern) => patternEnters(pattern, path))) {
					await look(path, depth + 1);
				}
				continue;
			}
			for (const pattern of finders) met.add(pattern);
			if (finders.length === 0) continue;
			if (found.length >= limits.maxCollectedFiles) unseen = true;
			else found.push(await described(folder, path, signal));
		}
	};
	await look('', 0);
	if (signal.aborted) return [...found, failed('**', givenUp)];
	for (const pattern of patterns) {
		if (met.has(pattern)) continue;
		// Keeps the message bounded: a list of files, and one word for each pattern.
		found.push(failed(pattern, isPlainPath(pattern) ? 'is not there' : 'finds nothing'));
	}
	if (unseen) {
		const most = `at most ${limits.maxCollectedFiles} files are taken, of the first ${maxEntries} entries`;
		found.push(failed('**', `finds more than is looked at: ${most}`));
	}
	return found;
}

/** No more of them than will be looked at: a program may have left millions. */
async function entriesOf(folder: string, most: number): Promise<Dirent[]> {
	const found: Dirent[] = [];
	for await (const entry of await opendir(folder, { bufferSize: 1_024 })) {
		found.push(entry);
		if (found.length >= most) break;
	}
	return found;
}

/** Opened so that nothing but a plain file inside the folder is read, whatever was put in its place. */
export async function openInside(folder: string, path: string): Promise<FileHandle> {
	// A pipe without a writer would keep us waiting; Windows has neither flag.
	const { O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;
	const file = await open(join(folder, path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	try {
		const stat = await file.stat();
		if (!stat.isFile()) throw new NotTaken('is no plain file');
		// A folder on the way may have become a link: then what was opened lies elsewhere.
		const there = await lstat(join(await placeOf(folder), path));
		const inside = await isInside(folder, path);
		if (!inside || there.ino !== stat.ino || there.dev !== stat.dev) {
			throw new NotTaken('leads out of the workspace');
		}
		return file;
	} catch (error) {
		await file.close();
		throw error;
	}
}

/** What keeps a file from being taken, as the end of a sentence. */
export class NotTaken extends Error {}

async function isInside(folder: string, path: string): Promise<boolean> {
	return (await realpath(join(folder, path))) === join(await placeOf(folder), path);
}

/** Where the workspace lies, whatever link has taken its place. */
export async function placeOf(folder: string): Promise<string> {
	return join(await realpath(dirname(folder)), basename(folder));
}

/** Length, digest and permissions of a file as it is now. */
export async function described(folder: string, path: string, signal: AbortSignal): Promise<Found> {
	const mistake = pathMistake(path);
	if (mistake !== undefined) return failed(path, mistake);
	let file: FileHandle | undefined;
	try {
		file = await openInside(folder, path);
		const { size, mode } = await file.stat();
		if (size > maxDigestedBytes) {
			return failed(path, `has ${size} bytes; no more than ${maxDigestedBytes} are looked through`);
		}
		const hash = createHash('sha256');
		const piece = Buffer.allocUnsafe(Math.min(readBytes, Math.max(1, size)));
		let at = 0;
		// Only as much as there was when we came: what still grows is not waited for.
		while (at < size) {
			if (signal.aborted) return failed(path, givenUp);
			const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, size - at), at);
			if (bytesRead === 0) break;
			hash.update(piece.subarray(0, bytesRead));
			at += bytesRead;
		}
		return { path, bytes: at, sha256: hash.digest('hex'), mode: mode & 0o777 };
	} catch (error) {
		if (error instanceof NotTaken) return failed(path, error.message);
		return failed(path, isLostName(error, path) ? noText : reasonOf(error));
	} finally {
		await file?.close();
	}
}

function failed(path: string, error: string): Found {
	return { path: sayable(path), bytes: 0, sha256: null, mode: 0, error: reasonFor(error) };
}

/** A reason that fits into a result, whatever a disk or a service said. */
export function reasonFor(error: string): string {
	return error.length <= maxReasonLength ? error : `${error.slice(0, maxReasonLength - 1)}…`;
}

/** A name that fits into a result: any program may have chosen it. */
function sayable(path: string): string {
	let told = path.replace(/[\u0000-\u001f\u007f]/g, '?');
	if (Buffer.byteLength(told) <= limits.maxPathBytes) return told;
	// Half a character becomes U+FFFD, which may be longer.
	told = Buffer.from(told)
		.subarray(0, limits.maxPathBytes - 6)
		.toString();
	return `${told}…`;
}

/** Bytes that are not UTF-8 were turned into U+FFFD, and no file has that name. */
function isLostName(error: unknown, path: string): boolean {
	return path.includes('\ufffd') && codeOf(error) === 'ENOENT';
}

function reasonOf(error: unknown): string {
	const code = codeOf(error);
	if (code === 'ELOOP') return 'is a symbolic link, which is not followed';
	if (code === 'EACCES' || code === 'EPERM') return 'may not be read by the agent';
	if (code === 'ENOENT') return 'is not there any more';
	return `cannot be read (${code})`;
}

function codeOf(error: unknown): string {
	const { code, message } = error as NodeJS.ErrnoException;
	return code ?? message;
}
