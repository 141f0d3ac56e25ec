/**
 * The doors to files. Bytes pass through as they come, both ways, one piece at a time; a slow reader or
 * writer is waited for, while one that is gone ends its call, and the next call carries on from there.
 */
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { type FileRecord, Problem } from '../../protocol';
import {
	answers,
	fileRequest,
	filesQuery,
	fileUploadQuery,
	fileWriteQuery,
} from '../../protocol/schemas';
import { rangeOf } from '../core/range';
import type { Incoming } from '../engine';
import { type Ask, type Door, door, type House } from './door';

export const fileDoors = {
	fileCreate: door({
		body: fileRequest,
		answer: answers.file,
		run: ({ body, caller }, { engine }) => engine.createFile(body, caller),
	}),
	fileUpload: door({
		query: fileUploadQuery,
		stream: true,
		answer: answers.file,
		run: (ask, { engine }) => {
			const length = ask.request.headers['content-length'];
			if (length === undefined || !/^\d{1,15}$/.test(length)) throw new Problem('bad-bytes');
			return taking(ask, (body) =>
				engine.uploadFile(ask.query.name, Number(length), body, ask.caller),
			);
		},
	}),
	fileWrite: door({
		query: fileWriteQuery,
		stream: true,
		answer: answers.file,
		run: (ask, { engine }) => taking(ask, (body) => engine.writeFile(ask.id, ask.query.from, body)),
	}),
	files: door({
		query: filesQuery,
		answer: answers.pageOf(answers.file),
		run: ({ query: { job, limit = 100, cursor } }, { engine }) =>
			engine.files({
				limit,
				...(job === undefined ? {} : { jobId: job }),
				...(cursor === undefined ? {} : { cursor }),
			}),
	}),
	file: door({ answer: answers.file, run: ({ id }, { engine }) => engine.file(id) }),
	fileContent: door({ run: sendFile }),
	fileRemove: door({ run: ({ id, caller }, { engine }) => engine.removeFile(id, caller) }),
} as const satisfies Record<string, Door>;

async function taking(
	{ body, request, reply }: Ask<unknown, unknown>,
	take: (body: Incoming) => Promise<FileRecord>,
): Promise<FileRecord> {
	const stream = body as Readable | undefined;
	if (stream !== undefined && typeof stream.pipe !== 'function') throw new Problem('bad-bytes');
	try {
		return await take({
			pieces: stream ?? nothing(),
			cut: () => void request.raw.destroy(),
		});
	} catch (error) {
		// The unread part of the body must not be taken for the next request.
		reply.header('connection', 'close');
		throw error;
	}
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

async function sendFile({ id, request, reply, signal }: Ask<unknown, unknown>, { engine }: House) {
	const file = await engine.file(id);
	const { bytes, sha256 } = file;
	const tag = `"${sha256}"`;
	const { range, 'if-none-match': known, 'if-range': only } = request.headers;
	const wanted = only === undefined || only === tag ? rangeOf(range, bytes) : 'whole';
	if (wanted === 'outside' && file.state === 'ready') {
		reply.header('content-range', `bytes */${bytes}`);
		throw new Problem('bad-range', { bytes });
	}
	const { from, to } = typeof wanted === 'object' ? wanted : { from: 0, to: bytes };
	const pieces = await engine.fileBytes(id, from, to);
	const gone = signal();
	const unchanged = known !== undefined && known.split(',').some((one) => one.trim() === tag);
	reply.hijack();
	const out = reply.raw;
	const headers = {
		etag: tag,
		'accept-ranges': 'bytes',
		'cache-control': 'private, no-cache',
		'x-content-type-options': 'nosniff',
	};
	if (unchanged) {
		out.writeHead(304, headers).end();
		return;
	}
	out.writeHead(typeof wanted === 'object' ? 206 : 200, {
		...headers,
		'content-type': 'application/octet-stream',
		'content-length': to - from,
		'content-disposition': dispositionOf(file.name),
		...(typeof wanted === 'object' && { 'content-range': `bytes ${from}-${to - 1}/${bytes}` }),
	});
	try {
		for await (const piece of pieces) {
			if (gone.aborted || out.destroyed) throw new Error('the reader went away');
			if (!out.write(piece)) await once(out, 'drain', { signal: gone });
		}
		out.end();
	} catch {
		// The headers have been sent: cutting the connection is the only honest way left to say "not all of it".
		out.destroy();
	}
}

/** The file is saved, never shown; and its name is data, whatever it contains. */
function dispositionOf(name: string): string {
	const plain = name.replace(/[^\x20-\x7e]|["\\%]/g, '_');
	const full = encodeURIComponent(name.replace(/\p{Surrogate}/gu, '_')).replace(/['()*]/g, percent);
	return `attachment; filename="${plain}"; filename*=UTF-8''${full}`;
}

const percent = (character: string) =>
	`%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
