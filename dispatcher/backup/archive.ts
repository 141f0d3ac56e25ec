/**
 * A backup is one tar file, so that anybody can look into it: the store first, then what else belongs
 * to the data folder, and last `manifest.json` with the digest of every file and one over itself. What
 * is cut short has no manifest.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { type BackupManifest, Problem } from '../../protocol';

/** A file on disk, and its name inside. Of a file that grows only the first `bytes` are taken. */
export interface ArchiveFile {
	name: string;
	path: string;
	bytes: number;
}

const blockBytes = 512;
const pieceBytes = 256 * 1024;
const manifestName = 'manifest.json';
/** Names that are taken from an archive; anything else could point out of the data folder. */
const knownName =
	/^(robot-fleet\.db|admin\.key|n8n\.key|certificate\.pem|output\/[A-Za-z0-9][A-Za-z0-9._-]*)$/;

/** By these the service knows its callers, and its robots know the service. */
export const secretFiles: readonly string[] = ['admin.key', 'n8n.key', 'certificate.pem'];

/** The bytes of an archive, one piece at a time. */
export async function* writeArchive(
	files: readonly ArchiveFile[],
	facts: Omit<BackupManifest, 'format' | 'files'>,
): AsyncGenerator<Uint8Array, BackupManifest> {
	const listed: BackupManifest['files'] = [];
	for (const { name, path, bytes } of files) {
		yield headerOf(name, bytes, facts.at);
		const hash = createHash('sha256');
		for (const piece of piecesOf(path, bytes)) {
			hash.update(piece);
			yield piece;
		}
		yield padding(bytes);
		listed.push({ name, bytes, sha256: hash.digest('hex') });
	}
	const manifest: BackupManifest = { format: 1, ...facts, files: listed };
	const text = Buffer.from(manifestText(manifest));
	yield headerOf(manifestName, text.length, facts.at);
	yield text;
	yield padding(text.length);
	yield Buffer.alloc(2 * blockBytes);
	return manifest;
}

/**
 * Reads an archive from end to end and checks every digest; throws `bad-backup`. `take` is given each
 * file's bytes as they come, before they are known to be right: write them where nobody looks yet.
 */
export function readArchive(
	file: string,
	take: (name: string) => { write(piece: Uint8Array): void; end(): void } | undefined = () =>
		undefined,
): BackupManifest {
	const bad = (reason: string) => new Problem('bad-backup', { file, reason });
	const reader = new Reader(file, bad);
	try {
		const seen = new Map<string, { bytes: number; sha256: string }>();
		for (;;) {
			const header = reader.header();
			if (header.name === manifestName) {
				const manifest = manifestOf(reader.whole(header.bytes), bad);
				for (const { name, bytes, sha256 } of manifest.files) {
					const found = seen.get(name);
					if (!found) throw bad(`${name} is missing`);
					if (found.bytes !== bytes || found.sha256 !== sha256) throw bad(`${name} was changed`);
				}
				if (manifest.files.length !== seen.size) throw bad('it holds files nobody listed');
				return manifest;
			}
			if (!knownName.test(header.name) || seen.has(header.name)) {
				throw bad('it holds a file that does not belong there');
			}
			const sink = take(header.name);
			const hash = createHash('sha256');
			try {
				reader.body(header.bytes, hash, sink);
			} finally {
				sink?.end();
			}
			seen.set(header.name, { bytes: header.bytes, sha256: hash.digest('hex') });
		}
	} finally {
		reader.close();
	}
}

class Reader {
	readonly #file: number;
	readonly #bad: (reason: string) => Problem;
	readonly #piece = Buffer.alloc(pieceBytes);

	constructor(file: string, bad: (reason: string) => Problem) {
		try {
			this.#file = openSync(file, 'r');
		} catch (error) {
			throw bad((error as NodeJS.ErrnoException).code ?? 'it cannot be read');
		}
		this.#bad = bad;
	}

	close(): void {
		closeSync(this.#file);
	}

	header(): { name: string; bytes: number } {
		const block = this.#read(blockBytes);
		if (block.toString('latin1', 257, 262) !== 'ustar') throw this.#bad('it is not a backup');
		if (octal(block, 148, 8) !== sumOf(block)) throw this.#bad('a header was changed');
		return { name: textAt(block, 0, 100), bytes: sizeAt(block) };
	}

	body(bytes: number, hash: Hash, sink: { write(piece: Uint8Array): void } | undefined): void {
		for (let left = bytes; left > 0;) {
			const piece = this.#read(Math.min(left, pieceBytes));
			hash.update(piece);
			sink?.write(piece);
			left -= piece.length;
		}
		this.#read(padding(bytes).length);
	}

	whole(bytes: number): Buffer {
		if (bytes > 64 * 1024 * 1024) throw this.#bad('its list of files is too large');
		const text = Buffer.from(this.#readAll(bytes));
		this.#read(padding(bytes).length);
		return text;
	}

	#readAll(bytes: number): Buffer {
		const pieces: Buffer[] = [];
		for (let left = bytes; left > 0;) {
			const piece = Buffer.from(this.#read(Math.min(left, pieceBytes)));
			pieces.push(piece);
			left -= piece.length;
		}
		return Buffer.concat(pieces);
	}

	/** Exactly so many bytes, in a buffer that the next read uses again. */
	#read(bytes: number): Buffer {
		const piece = this.#piece.subarray(0, bytes);
		for (let at = 0; at < bytes;) {
			const got = readSync(this.#file, piece, at, bytes - at, null);
			if (got === 0) throw this.#bad('it is cut short');
			at += got;
		}
		return piece;
	}
}

function* piecesOf(path: string, bytes: number): Generator<Buffer> {
	const file = openSync(path, 'r');
	try {
		for (let at = 0; at < bytes;) {
			const piece = Buffer.allocUnsafe(Math.min(pieceBytes, bytes - at));
			const got = readSync(file, piece, 0, piece.length, at);
			if (got === 0) throw new Error(`${path} became shorter while it was read`);
			yield piece.subarray(0, got);
			at += got;
		}
	} finally {
		closeSync(file);
	}
}

function manifestText(manifest: BackupManifest): string {
	const sealed = { ...manifest, sha256: digestOf(JSON.stringify(manifest)) };
	return `${JSON.stringify(sealed, null, 2)}\n`;
}

function manifestOf(text: Buffer, bad: (reason: string) => Problem): BackupManifest {
	let sealed: BackupManifest & { sha256?: string };
	try {
		sealed = JSON.parse(text.toString('utf8')) as typeof sealed;
	} catch {
		throw bad('its list of files was changed');
	}
	const { sha256, ...manifest } = sealed;
	if (sha256 !== digestOf(JSON.stringify(manifest))) throw bad('its list of files was changed');
	if (manifest.format !== 1) throw bad('it is of a newer format; use a newer version');
	return manifest;
}

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');

/** POSIX ustar; a size that does not fit into octal digits is written in base 256, as GNU does. */
function headerOf(name: string, bytes: number, at: number): Buffer {
	const block = Buffer.alloc(blockBytes);
	block.write(name, 0, 100, 'utf8');
	block.write('0000600\0', 100, 'latin1');
	block.write('0000000\0'.repeat(2), 108, 'latin1');
	if (bytes < 8 ** 11) block.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
	else {
		block[124] = 0x80;
		block.writeBigUInt64BE(BigInt(bytes), 128);
	}
	const seconds = Math.floor(at / 1000);
	block.write(`${seconds.toString(8).padStart(11, '0')}\0`, 136, 'latin1');
	block.write('0', 156, 'latin1');
	block.write('ustar\u000000', 257, 'latin1');
	block.write(`${sumOf(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
	return block;
}

/** All bytes of the header, its own place counted as blanks. */
function sumOf(block: Buffer): number {
	let sum = 0;
	for (const [i, byte] of block.entries()) sum += i >= 148 && i < 156 ? 0x20 : byte;
	return sum;
}

function sizeAt(block: Buffer): number {
	return block[124] === 0x80 ? Number(block.readBigUInt64BE(128)) : octal(block, 124, 12);
}

const octal = (block: Buffer, at: number, length: number) =>
	Number.parseInt(textAt(block, at, length), 8);

function textAt(block: Buffer, at: number, length: number): string {
	return block.toString('utf8', at, at + length).replace(/[\0 ].*$/s, '');
}

const padding = (bytes: number) => Buffer.alloc((blockBytes - (bytes % blockBytes)) % blockBytes);
