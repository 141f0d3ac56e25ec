/**
 * Stored output on its way out: as raw bytes, or as events that follow a job until nothing more will
 * come. Both read the store in bounded pieces and wait for slow readers, so a reader costs one piece of
 * memory, however much the job printed.
 *
 *   event: output   data: {"stream":"stdout","offset":0,"text":"…"}   (data_b64 when it is not UTF-8)
 *   event: hole     data: {"stream":"stdout","from":9,"to":99,"reason":"limit"}  these bytes are not there
 *   event: restart  data: {"stream":"stdout"}                         a new attempt, or bytes that came wrong: offsets begin at 0 again
 *   event: prompt   data: {"waitingFor":{"text":"Password: ",…}}      what the program asks now; null = nothing any more
 *   event: end      data: {"stdout":12,"stderr":0}                    all of it was sent
 *   event: problem  data: {"error":{…}}                               and the stream ends
 */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import {
	type Hole,
	holeText,
	Problem,
	type Stream,
	streams,
	type WaitingFor,
} from '../../protocol';
import { problemOf } from './app';
import type { Ask, House } from './door';

type OutputAsk = Ask<{ stream?: Stream; from?: number; holes?: 'mark' | 'omit' }, unknown>;

const pieceBytes = 256 * 1024;
/** Proxies cut streams that are silent for a minute. */
const keepAliveMs = 15_000;

/**
 * Everything stored so far, from `from` on. What is missing is marked by a line in its place
 * (`holes=omit` leaves it out) and in X-Output-Holes, in true offsets of the stream.
 */
export async function sendOutput({ id, query, reply, signal }: OutputAsk, { engine }: House) {
	const stream = query.stream ?? 'stdout';
	const first = await engine.output(id, stream, query.from ?? 0, pieceBytes);
	const complete = first.complete || (await engine.output(id, stream, first.have, 0)).complete;
	const gone = signal();
	reply.hijack();
	const out = reply.raw;
	out.writeHead(200, {
		'content-type': 'application/octet-stream',
		'cache-control': 'no-store',
		'x-content-type-options': 'nosniff',
		'x-output-from': String(first.from),
		'x-output-have': String(first.have),
		'x-output-complete': String(complete),
		...(first.holes.length > 0 && { 'x-output-holes': holesHeader(first.holes) }),
	});
	let piece = first;
	let at = first.from;
	try {
		while (at < first.have) {
			// A new attempt, or the stream is being sent again: otherwise stored bytes never become fewer.
			if (piece.attempt !== first.attempt || piece.have < first.have) {
				throw new Error('what was asked for is not here any more');
			}
			if (piece.hole) {
				if (query.holes !== 'omit') await write(out, `\n${holeText(piece.hole)}\n`, gone);
				at = piece.hole.to;
			} else if (piece.data.length > 0) {
				await write(out, piece.data, gone);
				at += piece.data.length;
			} else throw new Error('there is nothing, and no hole says why');
			if (at < first.have) piece = await engine.output(id, stream, at, pieceBytes);
		}
		out.end();
	} catch {
		// The headers have been sent: cutting the connection is the only honest way left to say "not all of it".
		out.destroy();
	}
}

function holesHeader(holes: readonly Hole[]): string {
	return holes.map(({ from, to, reason }) => `${from}-${to};${reason}`).join(', ');
}

export async function followOutput({ id, query, request, reply, signal }: OutputAsk, house: House) {
	const { engine, clock } = house;
	const wanted = query.stream === undefined ? streams : [query.stream];
	const start = startOf(query, request.headers['last-event-id']);
	// Before the headers: an unknown job is a plain 404.
	await engine.output(id, wanted[0]!, start[wanted[0]!], 0);
	const gone = signal(true);
	reply.hijack();
	const out = reply.raw;
	out.writeHead(200, {
		'content-type': 'text/event-stream; charset=utf-8',
		'cache-control': 'no-store',
		'x-accel-buffering': 'no',
	});
	out.flushHeaders();

	const at = { ...start };
	/** Stored bytes never become fewer, unless they are sent again; a new attempt begins with none, and may have more by now. */
	const seen = { stdout: 0, stderr: 0 };
	const attempts = { stdout: 0, stderr: 0 };
	const say = (event: string, data: unknown) =>
		write(
			out,
			`event: ${event}\nid: stdout=${at.stdout},stderr=${at.stderr}\ndata: ${JSON.stringify(data)}\n\n`,
			gone,
		);
	const follow = async (stream: Stream) => {
		while (!gone.aborted) {
			const piece = await engine.output(id, stream, at[stream], pieceBytes);
			const isNew = piece.attempt !== attempts[stream] && seen[stream] > 0;
			attempts[stream] = piece.attempt;
			if (isNew || piece.have < seen[stream]) {
				at[stream] = seen[stream] = 0;
				await say('restart', { stream });
				continue;
			}
			seen[stream] = piece.have;
			if (piece.data.length > 0) {
				at[stream] = piece.from + piece.data.length;
				await say('output', { stream, offset: piece.from, ...bodyOf(piece.data) });
			} else if (piece.hole) {
				const { from, to, reason } = piece.hole;
				at[stream] = to;
				await say('hole', { stream, from: Math.max(from, piece.from), to, reason });
			} else if (piece.complete) {
				return;
			} else {
				await engine.outputGrew(id, stream, piece.have, gone);
			}
		}
	};
	const over = new AbortController();
	const ending = AbortSignal.any([gone, over.signal]);
	void keepAlive(out, clock, ending);
	void sayPrompts(house, id, ending, (waitingFor) => say('prompt', { waitingFor }));
	try {
		await Promise.all(wanted.map(follow));
		if (!gone.aborted) await say('end', at);
	} catch (error) {
		if (!gone.aborted) {
			const problem = problemOf(house, error, { call: 'jobOutput', jobId: id });
			await say('problem', { error: problem.toBody() }).catch(() => undefined);
		}
	} finally {
		over.abort();
		out.end();
	}
}

async function keepAlive(out: ServerResponse, clock: House['clock'], over: AbortSignal) {
	while (!over.aborted) {
		await clock.sleep(keepAliveMs, over);
		if (!over.aborted) out.write(': still here\n\n');
	}
}

async function sayPrompts(
	{ engine }: House,
	id: string,
	over: AbortSignal,
	say: (asks: WaitingFor | null) => Promise<void>,
) {
	let told: WaitingFor | null = null;
	while (!over.aborted) {
		const asks = await engine.asks(id, told, over);
		if (asks === told || over.aborted) continue;
		told = asks;
		// If the reader has gone, writing its output will notice.
		await say(asks).catch(() => undefined);
	}
}

/** A browser that comes back sends `Last-Event-ID`, and carries on where it was. */
function startOf(query: { from?: number; stream?: Stream }, lastId: unknown) {
	const match = /^stdout=(\d{1,15}),stderr=(\d{1,15})$/.exec(String(lastId ?? ''));
	if (match) return { stdout: Number(match[1]), stderr: Number(match[2]) };
	const from = query.from ?? 0;
	if (query.stream === undefined && from > 0) {
		throw new Problem('bad-field', {
			path: 'from',
			reason: 'needs "stream": each stream has offsets of its own',
		});
	}
	return { stdout: from, stderr: from };
}

function bodyOf(data: Uint8Array): { text: string } | { data_b64: string } {
	try {
		return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data) };
	} catch {
		return { data_b64: Buffer.from(data.buffer, data.byteOffset, data.length).toString('base64') };
	}
}

async function write(out: ServerResponse, data: string | Uint8Array, gone: AbortSignal) {
	if (gone.aborted || out.destroyed) throw new Error('the reader went away');
	if (!out.write(data)) await once(out, 'drain', { signal: gone });
}
