/** Small requests to n8n, or to a service: JSON both ways, no redirects, and limits on waiting and on listening. */
import { type RequestOptions, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Answer } from './readiness';

export interface SmallRequest {
	secure: boolean;
	/** Where to, and by which agent. */
	options: RequestOptions;
	/** A POST if there is a text, else a GET. */
	text: string | undefined;
	/** How long the other side may be silent. */
	silenceMs: number;
	/** A longer answer is cut, so that it is no longer JSON. */
	maxAnswerBytes: number;
}

/** The body is undefined when it is not JSON: a page of a proxy, or of an n8n that is starting. */
export function ask(asked: SmallRequest): Promise<Answer> {
	const { secure, options, text, silenceMs, maxAnswerBytes } = asked;
	const content =
		text === undefined
			? {}
			: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
	return new Promise((resolve, reject) => {
		const request = (secure ? httpsRequest : httpRequest)(
			{
				...options,
				method: text === undefined ? 'GET' : 'POST',
				headers: { ...options.headers, ...content },
				timeout: silenceMs,
			},
			(response) => {
				const pieces: Buffer[] = [];
				let bytes = 0;
				response.on('data', (piece: Buffer) => {
					bytes += piece.length;
					if (bytes > maxAnswerBytes) response.destroy();
					else pieces.push(piece);
				});
				response.on('error', reject);
				response.on('close', () =>
					resolve({ status: response.statusCode ?? 0, body: parsed(Buffer.concat(pieces)) }),
				);
			},
		);
		request.on('timeout', () => request.destroy(new Error(`no answer within ${silenceMs} ms`)));
		request.on('error', reject);
		request.end(text);
	});
}

function parsed(bytes: Buffer): unknown {
	try {
		return JSON.parse(bytes.toString('utf8'));
	} catch {
		return undefined;
	}
}
