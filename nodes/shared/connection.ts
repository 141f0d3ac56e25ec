/** From the credential to a caller of the service. All that differs is how a request travels. */
import type {
	IAllExecuteFunctions,
	IExecuteFunctions,
	IHttpRequestOptions,
	ILoadOptionsFunctions,
	ITriggerFunctions,
	IWebhookFunctions,
} from 'n8n-workflow';
import {
	type AnswerHeaders,
	type Bytes,
	FleetClient,
	type Send,
	type SendAnswer,
	type SendRequest,
} from '../../client';
import { Problem } from '../../protocol';
import { callbackBase, sendEmbedded } from './embedded';
import { collector } from './embedded-collect';
import { asProblem, BadParameter } from './refusals';

export const credentialName = 'robotFleetApi';

export interface RobotFleetCredential {
	connection: 'embedded' | 'server';
	url?: string;
	apiKey?: string;
	/** Absent in older credentials = call. */
	reach?: 'call' | 'collect';
	callbackUrl?: string;
}

export interface Fleet {
	client: FleetClient;
	/** The resume URL as the service reaches it; n8n's own may only work from outside. */
	callback(resumeUrl: URL): URL;
	/** For where the service cannot reach n8n; throws if n8n cannot fetch its pokes either. */
	collect?(): Collecting;
}

export interface Collecting {
	/** Sent with the wait. */
	secret: string;
	/** Fetches pokes from now on, until none are left to come: call it when the wait is registered. */
	begin(): void;
}

export type FleetContext =
	IExecuteFunctions | ILoadOptionsFunctions | ITriggerFunctions | IWebhookFunctions;

/** Long enough for a busy service, short enough for a person who waits at the editor. */
const answerMs = 30_000;

export async function connect(context: FleetContext): Promise<Fleet> {
	const credential = await context.getCredentials<RobotFleetCredential>(credentialName);
	if (credential.connection !== 'server') {
		return {
			client: new FleetClient(sendEmbedded),
			callback: (resumeUrl) => rebase(resumeUrl, callbackBase()),
		};
	}
	const base = serverUrl(credential);
	const client = new FleetClient(sendToServer(context, base));
	if (credential.reach === 'collect') {
		const collect = () => {
			const collects = collector();
			return { secret: collects.secret, begin: () => collects.begin(base) };
		};
		return { client, callback: (resumeUrl) => resumeUrl, collect };
	}
	return { client, callback: (resumeUrl) => rebase(resumeUrl, credential.callbackUrl) };
}

/**
 * For a trigger, which calls the service for as long as it is active. n8n does not restart it when somebody changes its
 * credential, but sends the current key with each call: so the call must go where that credential says, and nowhere else.
 */
export function lastingClient(context: ITriggerFunctions): FleetClient {
	return new FleetClient(async (request) => {
		const credential = await context.getCredentials<RobotFleetCredential>(credentialName);
		const embedded = credential.connection !== 'server';
		const send = embedded ? sendEmbedded : sendToServer(context, serverUrl(credential));
		return await send(request);
	});
}

function sendToServer(context: FleetContext, base: string): Send {
	return sendThroughN8n(base, async (options) => {
		const { httpRequestWithAuthentication } = context.helpers;
		return await httpRequestWithAuthentication.call(
			context as IAllExecuteFunctions,
			credentialName,
			options,
		);
	});
}

export function serverUrl({ url = '' }: RobotFleetCredential): string {
	const base = url.trim().replace(/\/+$/, '');
	if (!/^https?:\/\/[^/]+/.test(base)) {
		throw new Problem('service-away', { url: base || '(empty)', reason: 'not a URL' });
	}
	return base;
}

/** `request` is n8n's helper: proxies, certificates and address rules of the instance apply. */
export function sendThroughN8n(
	base: string,
	request: (options: IHttpRequestOptions) => Promise<unknown>,
): Send {
	return async (sent: SendRequest): Promise<SendAnswer> => {
		const { method, path, body, bytes, stream, signal, waitMs = 0 } = sent;
		const options: IHttpRequestOptions = {
			method,
			url: `${base}${path}`,
			...(stream ? { encoding: 'stream' } : { json: true }),
			...(body === undefined ? {} : { body: body as IHttpRequestOptions['body'] }),
			...(bytes === undefined ? {} : asBody(bytes)),
			returnFullResponse: true,
			ignoreHttpStatusErrors: true,
			disableFollowRedirect: true,
			timeout: waitMs + answerMs,
			...(signal ? { abortSignal: signal } : {}),
		};
		let answer: { statusCode: number; body?: unknown; headers?: AnswerHeaders };
		try {
			answer = (await request(options)) as typeof answer;
			if (stream && !isBytes(answer)) answer.body = await parsed(answer.body as Bytes);
		} catch (error) {
			signal?.throwIfAborted();
			throw away(base, error);
		}
		const { statusCode: status, headers } = answer;
		if (stream && isBytes(answer)) return { status, body: answer.body, headers };
		return believable(base, { status, body: answer.body });
	};
}

/** A view of exactly these bytes: for other arrays n8n's helper sends the whole buffer behind them. */
function asBody({ buffer, byteOffset, length }: Uint8Array): Partial<IHttpRequestOptions> {
	return {
		body: Buffer.from(buffer, byteOffset, length),
		headers: { 'content-type': 'application/octet-stream' },
	};
}

/** The service sends all its bytes with this type; the page of a proxy has another. */
function isBytes({ statusCode, headers }: { statusCode: number; headers?: AnswerHeaders }) {
	return statusCode === 200 && headers?.['content-type'] === 'application/octet-stream';
}

/** Anything longer is not a refusal of the service. */
const maxRefusalBytes = 1024 * 1024;

async function parsed(bytes: Bytes): Promise<unknown> {
	const pieces: Uint8Array[] = [];
	let length = 0;
	for await (const piece of bytes) {
		pieces.push(piece);
		length += piece.length;
		if (length > maxRefusalBytes) break;
	}
	const text = Buffer.concat(pieces).toString('utf8');
	try {
		return JSON.parse(text) as unknown;
	} catch {
		// Whoever said it, it was not the service.
		return text;
	}
}

/**
 * A proxy with pages of its own may stand between us and the service. Only JSON objects come from
 * the service, and refusals only if they have a code of the catalogue.
 */
export function believable(base: string, { status, body }: SendAnswer): SendAnswer {
	const empty = body === undefined || body === null || body === '';
	const ours =
		status >= 400
			? Problem.fromBody(body) !== undefined
			: status < 300 && (empty || typeof body === 'object');
	if (!ours) {
		throw new Problem('service-away', { url: base, reason: `something else answered ${status}` });
	}
	return { status, body: empty ? undefined : body };
}

/** n8n rewords any text that contains the name of a system error, so we put it in words. */
const reasons: Record<string, string> = {
	ECONNREFUSED: 'connection refused',
	ECONNRESET: 'connection lost',
	ECONNABORTED: 'no answer in time',
	ETIMEDOUT: 'no answer in time',
	ENOTFOUND: 'unknown host',
	EAI_AGAIN: 'unknown host',
	EHOSTUNREACH: 'no route to it',
};

export function away(url: string, error: unknown): Problem {
	const known = asProblem(error);
	if (known) return known;
	const codes = [error, (error as { cause?: unknown } | null)?.cause].map(
		(each) => (each as { code?: string } | null | undefined)?.code ?? '',
	);
	const code = codes.find((each) => each in reasons);
	const reason =
		code === undefined
			? error instanceof Error
				? error.message
				: String(error)
			: (reasons[code] ?? code);
	return new Problem('service-away', { url, reason }, error);
}

/** `…/webhook-waiting/<execution>/<node>?signature=…` under another origin. */
export function rebase(resumeUrl: URL, base: string | undefined): URL {
	if (!base?.trim()) return resumeUrl;
	if (!URL.canParse(base.trim())) {
		throw new BadParameter(`"${base}" is not a URL`, 'Correct "URL of This n8n" in the credential');
	}
	const url = new URL(base.trim());
	// n8n listens at the root; a path of its public URL belongs to a proxy in front of it.
	const [endpoint, executionId, nodeId] = resumeUrl.pathname.split('/').slice(-3);
	url.pathname = [url.pathname.replace(/\/$/, ''), endpoint, executionId, nodeId].join('/');
	url.search = resumeUrl.search;
	return url;
}
