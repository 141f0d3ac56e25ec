/** Carries the client's calls over node:http(s), and reads one kind of long answer: output events. */
import { X509Certificate } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { Send } from '../../client';
import { Problem } from '../../protocol';

/** The service is never silent for this long on a line where it has something to say now and then. */
export const silentMs = 60_000;
/** What the service may need beyond the time it was asked to wait. */
const marginMs = 30_000;

export interface Address {
	/** `http://host:port`, without a path. */
	url: string;
	key: string;
	/** PEM of the one certificate trusted there, under whatever name; absent = the usual rules. */
	certificate?: string;
}

export function httpSend(address: Address): Send {
	const { url } = address;
	return async ({ method, path, body, bytes, stream, signal, waitMs = 0 }) => {
		const text = body === undefined ? undefined : JSON.stringify(body);
		const response = await open(address, path, {
			method,
			text,
			bytes,
			signal,
			timeoutMs: waitMs + marginMs,
			accept: stream ? '*/*' : 'application/json',
		});
		const status = response.statusCode!;
		if (stream && status === 200) return { status, body: response, headers: response.headers };
		const answer = await textOf(response, url);
		try {
			return { status, body: answer === '' ? undefined : JSON.parse(answer) };
		} catch {
			throw new Problem('service-away', { url, reason: 'the answer is not from Robot Fleet' });
		}
	};
}

/** The bytes of a long answer; a refusal is thrown as the problem it names. */
export async function* download(
	address: Address,
	method: string,
	path: string,
	/** `from`: begins there, where the service supports ranges. `timeoutMs`: a longer silence ends the line. */
	{ from = 0, timeoutMs }: { from?: number; timeoutMs?: number } = {},
): AsyncGenerator<Uint8Array> {
	const response = await open(address, path, { method, accept: '*/*', from, timeoutMs });
	if (response.statusCode !== (from > 0 ? 206 : 200)) {
		const text = await textOf(response, address.url);
		throw (
			Problem.fromBody(parsed(text)) ??
			new Problem('internal', { reference: `HTTP ${response.statusCode}` })
		);
	}
	try {
		for await (const piece of response) yield piece as Uint8Array;
	} catch (error) {
		const reason = reasonOf(error as NodeJS.ErrnoException);
		throw new Problem('service-away', { url: address.url, reason }, error);
	} finally {
		response.destroy();
	}
}

/** The headers that the service sends before a body. */
export async function headersOf(address: Address, path: string): Promise<http.IncomingHttpHeaders> {
	const response = await open(address, path, { method: 'GET', accept: '*/*', timeoutMs: marginMs });
	response.resume();
	return response.headers;
}

/** One event of the output stream, as the service said it. */
export interface OutputEvent {
	event: string;
	/** Give it back to go on after it. */
	id: string;
	data: unknown;
}

/** Events until the service ends the stream; a connection that is cut, or dead, ends it too, without an `end` event. */
export async function* outputEvents(
	address: Address,
	path: string,
	lastId?: string,
	signal?: AbortSignal,
	timeoutMs = silentMs,
): AsyncGenerator<OutputEvent> {
	const response = await open(address, path, {
		method: 'GET',
		signal,
		accept: 'text/event-stream',
		lastId,
		timeoutMs,
	});
	if (response.statusCode !== 200) {
		const text = await textOf(response, address.url);
		throw (
			Problem.fromBody(parsed(text)) ??
			new Problem('internal', { reference: `HTTP ${response.statusCode}` })
		);
	}
	response.setEncoding('utf8');
	let rest = '';
	try {
		for await (const piece of response) {
			rest += piece as string;
			for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
				const event = eventOf(rest.slice(0, end));
				rest = rest.slice(end + 2);
				if (event) yield event;
			}
		}
	} catch (error) {
		// The caller knows from the missing `end` that the connection was cut, and comes back.
		if (signal?.aborted) throw error;
	} finally {
		response.destroy();
	}
}

function eventOf(block: string): OutputEvent | undefined {
	const fields = new Map<string, string>();
	for (const line of block.split('\n')) {
		const colon = line.indexOf(': ');
		if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
	}
	const data = fields.get('data');
	if (data === undefined) return undefined;
	return {
		event: fields.get('event') ?? 'message',
		id: fields.get('id') ?? '',
		data: parsed(data),
	};
}

interface OpenOptions {
	method: string;
	accept: string;
	text?: string;
	/** A body that is not JSON. */
	bytes?: Uint8Array;
	/** First byte wanted. */
	from?: number;
	signal?: AbortSignal;
	timeoutMs?: number;
	lastId?: string;
}

function open(
	{ url, key, certificate }: Address,
	path: string,
	options: OpenOptions,
): Promise<http.IncomingMessage> {
	const { method, text, bytes, from = 0, signal, timeoutMs, accept, lastId } = options;
	return new Promise((resolve, reject) => {
		const away = (reason: string) => reject(new Problem('service-away', { url, reason }));
		const headers: http.OutgoingHttpHeaders = { accept };
		if (key !== '') headers['authorization'] = `Bearer ${key}`;
		if (lastId !== undefined) headers['last-event-id'] = lastId;
		if (from > 0) headers['range'] = `bytes=${from}-`;
		if (bytes !== undefined) {
			headers['content-type'] = 'application/octet-stream';
			headers['content-length'] = bytes.length;
		}
		if (text !== undefined) {
			headers['content-type'] = 'application/json';
			headers['content-length'] = Buffer.byteLength(text);
		}
		const { ask, hostname, port } = placeOf(url);
		const trust = certificate === undefined ? {} : trustOf(certificate);
		const request = ask({ hostname, port, path, method, signal, headers, ...trust }, resolve);
		if (timeoutMs !== undefined) {
			request.setTimeout(timeoutMs, () => {
				away('no answer in time');
				request.destroy();
			});
		}
		request.on('error', (error: NodeJS.ErrnoException) => {
			if (signal?.aborted) reject(error);
			else away(reasonOf(error));
		});
		request.end(bytes ?? text);
	});
}

/** The certificate itself is trusted: who issued it, and for what name, adds nothing. */
export function trustOf(certificate: string): https.RequestOptions {
	const { fingerprint256 } = new X509Certificate(certificate);
	return {
		ca: certificate,
		allowPartialTrustChain: true,
		checkServerIdentity: (_host, { fingerprint256: found }) =>
			found === fingerprint256 ? undefined : new Error('another certificate than its own'),
	};
}

interface Place {
	ask: typeof http.request;
	hostname: string;
	port: string;
}

let lastPlace: (Place & { url: string }) | undefined;

/** Most callers use one service, so its URL is parsed once. */
function placeOf(url: string): Place {
	if (lastPlace?.url === url) return lastPlace;
	const { protocol, hostname, port } = new URL(url);
	const ask = protocol === 'https:' ? https.request : http.request;
	lastPlace = { url, ask, hostname: hostname.replace(/^\[(.*)\]$/, '$1'), port };
	return lastPlace;
}

function textOf(response: http.IncomingMessage, url: string): Promise<string> {
	return new Promise((resolve, reject) => {
		let text = '';
		response.setEncoding('utf8');
		response.on('data', (piece: string) => (text += piece));
		response.on('end', () => resolve(text));
		response.on('error', (error: NodeJS.ErrnoException) =>
			reject(new Problem('service-away', { url, reason: reasonOf(error) })),
		);
	});
}

const ownCa = 'name that of your own with NODE_EXTRA_CA_CERTS=FILE';

function reasonOf(error: NodeJS.ErrnoException): string {
	const reasons: Record<string, string> = {
		ECONNREFUSED: 'nothing listens there',
		ENOTFOUND: 'no such host',
		ECONNRESET: 'the connection was cut',
		EPROTO: 'it does not speak TLS; use http://',
		CERT_HAS_EXPIRED: 'its certificate has expired',
		ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
		DEPTH_ZERO_SELF_SIGNED_CERT: `nobody vouches for its certificate; ${ownCa}`,
		SELF_SIGNED_CERT_IN_CHAIN: `its certificate is of an unknown authority; ${ownCa}`,
		UNABLE_TO_VERIFY_LEAF_SIGNATURE: `its certificate is of an unknown authority; ${ownCa}`,
		UNABLE_TO_GET_ISSUER_CERT_LOCALLY: `its certificate is of an unknown authority; ${ownCa}`,
	};
	return reasons[error.code ?? ''] ?? error.code ?? error.message;
}

function parsed(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}
