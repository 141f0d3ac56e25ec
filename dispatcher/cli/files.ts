/**
 * `robot-fleet files …`: send a file to the service, fetch one, look after them. Both ways go on where they
 * were cut off, and neither holds more than a piece of the file in memory.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, fsyncSync, openSync, closeSync, renameSync } from 'node:fs';
import { type FileHandle, open, stat, truncate } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { FleetClient } from '../../client';
import { type FileRecord, limits, paths, Problem } from '../../protocol';
import {
	addressOf,
	card,
	clientOf,
	json,
	table,
	type Terminal,
	UsageMistake,
	wholeOf,
	when,
} from './terminal';
import { type Address, download, httpSend, silentMs } from './transport';

/** Sent in one call: what a cut can cost, and what is held in memory. */
const pieceBytes = 8 * 1024 * 1024;
const tries = 5;
const pauseMs = 1_000;

interface Flags {
	json?: boolean;
	data?: string;
}

export function addFiles(program: Command, terminal: Terminal): void {
	const files = program
		.command('files')
		.summary('send, fetch and remove files')
		.description(
			'Files that jobs bring along (submit --file) or have taken home (submit --collect).',
		);
	const command = (usage: string, summary: string, example: string) =>
		files
			.command(usage)
			.summary(summary)
			.description(`${summary[0]!.toUpperCase()}${summary.slice(1)}.`)
			.option('--json', 'print JSON')
			.option('--data <folder>', 'data folder of the service, to find its address and key')
			.addHelpText('after', `\nExample:\n  $ robot-fleet files ${example}`);

	command('put <path>', 'send a file, resuming where it was cut off; prints its id', 'put app.json')
		.option('--name <name>', 'what it is called there (default: as here)')
		.action(async (path: string, flags: Flags & { name?: string }) => {
			const address = addressOf(terminal, flags.data);
			const file = await putFile(terminal, address, path, flags.name);
			terminal.out(flags.json ? json(file) : `${file.fileId}\n`);
		});
	command('get <id>', 'fetch a file, resuming where it was cut off', 'get ID --out report.html')
		.option('--out <path>', 'where to; - is standard output (default: its own name, here)')
		.action(async (id: string, flags: Flags & { out?: string }) => {
			const address = addressOf(terminal, flags.data);
			const file = await clientOf(terminal, flags.data).file(id);
			if (flags.out === '-') {
				for await (const piece of download(address, 'GET', contentPath(id))) terminal.out(piece);
				return;
			}
			const own = basename(file.name);
			if (flags.out === undefined && existsSync(own)) {
				throw new UsageMistake(
					`${own} is here already, and its name was given by whoever made the file; say where it goes with --out.`,
				);
			}
			const path = await getFile(terminal, address, file, flags.out ?? own);
			terminal.out(flags.json ? json({ ...file, savedAs: path }) : `${path}\n`);
		});
	command('list', 'list files, newest first', 'list --job ID')
		.option('--job <id>', 'only those that this job has taken home')
		.option('--limit <number>', 'at most so many (default 100)', wholeOf)
		.action(async (flags: Flags & { job?: string; limit?: number }) => {
			const { job, limit } = flags;
			const page = await clientOf(terminal, flags.data).files({
				...(job === undefined ? {} : { job }),
				...(limit === undefined ? {} : { limit }),
			});
			terminal.out(
				flags.json
					? json(page)
					: table(
							['FILE', 'NAME', 'BYTES', 'STATE', 'FROM JOB', 'MADE'],
							page.items.map((file) => [
								file.fileId,
								file.path ?? file.name,
								file.state === 'open' ? `${file.have} of ${file.bytes}` : file.bytes,
								file.state,
								file.jobId,
								when(file.createdAt),
							]),
						),
			);
		});
	command('show <id>', 'show one file', 'show ID').action(async (id: string, flags: Flags) => {
		const file = await clientOf(terminal, flags.data).file(id);
		const { createdAt, usedAt, ...rest } = file;
		terminal.out(
			flags.json ? json(file) : card({ ...rest, made: when(createdAt), used: when(usedAt) }),
		);
	});
	command('delete <id>', 'remove a file that no open job needs', 'delete ID').action(
		async (id: string, flags: Flags) => {
			await clientOf(terminal, flags.data).removeFile(id);
			terminal.out(flags.json ? json({ removed: id }) : `${id} is removed.\n`);
		},
	);
}

export const contentPath = (id: string) => `${paths.api}/files/${encodeURIComponent(id)}/content`;

/** Sends a file that is not there yet; one that is there is recognized by its digest. */
export async function putFile(
	terminal: Terminal,
	address: Address,
	path: string,
	name = basename(resolve(path)),
): Promise<FileRecord> {
	const client = new FleetClient(httpSend(address));
	const file = await openFile(path);
	try {
		const { size: bytes } = await file.stat();
		const sha256 = await digestOf(path);
		let record = await client.createFile({ name, bytes, sha256 });
		let failures = 0;
		let told = record.have;
		while (record.state !== 'ready') {
			const { have, fileId } = record;
			const piece = Buffer.allocUnsafe(Math.min(pieceBytes, bytes - have));
			if (!(await fill(file, piece, have))) {
				throw new Problem('file-not-ready', { id: fileId, have, bytes });
			}
			try {
				record = await client.writeFile(fileId, have, piece);
				failures = 0;
			} catch (error) {
				const again = error instanceof Problem && (error.retry || error.code === 'file-offset');
				if (!again || ++failures >= tries) throw error;
				await terminal.sleep(pauseMs);
				record = await client.file(fileId);
				if (record.have > have) failures = 0;
			}
			if (terminal.isTerminal && record.have - told >= bytes / 20) {
				told = record.have;
				terminal.err(`${name}: ${Math.floor((100 * told) / bytes)} %\n`);
			}
		}
		return record;
	} finally {
		await file.close();
	}
}

/** Into `path`, by way of `path.part`, which a later call resumes. Only what has the right digest gets its name. */
export async function getFile(
	terminal: Terminal,
	address: Address,
	file: FileRecord,
	path: string,
): Promise<string> {
	if (file.state === 'lost') throw new Problem('file-lost', { id: file.fileId });
	const part = `${path}.part`;
	let wrong = 0;
	let had = 0;
	for (let failures = 0; ;) {
		let from = existsSync(part) ? (await stat(part)).size : 0;
		if (from > had) failures = 0;
		had = from;
		if (from > file.bytes) {
			await truncate(part, 0);
			from = 0;
		}
		const out = await open(part, 'a', 0o644);
		try {
			if (from < file.bytes) {
				const rest = { from, timeoutMs: silentMs };
				for await (const piece of download(address, 'GET', contentPath(file.fileId), rest)) {
					await out.write(piece);
				}
			}
			await out.sync();
		} catch (error) {
			if (!(error instanceof Problem && error.retry) || ++failures >= tries) throw error;
			await terminal.sleep(pauseMs);
			continue;
		} finally {
			await out.close();
		}
		const { size } = await stat(part);
		const found = await digestOf(part);
		if (size === file.bytes && found === file.sha256) break;
		// Cut off without a word: go on. A file that is whole but wrong is started over, once.
		if (size >= file.bytes) {
			await truncate(part, 0);
			wrong += 1;
		}
		if (size > from) failures = 0;
		if (wrong > 1 || ++failures >= tries) {
			throw new Problem('file-differs', { found, wanted: file.sha256 });
		}
	}
	renameSync(part, path);
	syncFolder(resolve(path, '..'));
	return path;
}

function syncFolder(folder: string): void {
	if (process.platform === 'win32') return;
	const handle = openSync(folder, 'r');
	try {
		fsyncSync(handle);
	} finally {
		closeSync(handle);
	}
}

async function fill(file: FileHandle, piece: Buffer, from: number): Promise<boolean> {
	for (let at = 0; at < piece.length;) {
		const { bytesRead } = await file.read(piece, at, piece.length - at, from + at);
		if (bytesRead === 0) return false;
		at += bytesRead;
	}
	return true;
}

async function openFile(path: string): Promise<FileHandle> {
	let file: FileHandle;
	try {
		file = await open(path, 'r');
	} catch (error) {
		throw new UsageMistake(`The file cannot be read: ${(error as Error).message}.`);
	}
	if ((await file.stat()).isFile()) return file;
	await file.close();
	throw new UsageMistake(`${path} is not a file; send a folder as an archive.`);
}

async function digestOf(path: string): Promise<string> {
	const hash = createHash('sha256');
	for await (const piece of createReadStream(path, { highWaterMark: 4 * limits.filePieceBytes })) {
		hash.update(piece as Buffer);
	}
	return hash.digest('hex');
}
