/**
 * Makes an HTTP app from the call table: every call goes through the same gates in the same order
 * (Host and Origin, key, scope, body, schema), and every refusal leaves in the same shape.
 *
 * A route that is not in the table cannot be added: what is not listed cannot be reached without
 * a key by oversight.
 */
import { randomBytes } from 'node:crypto';
import { maxHeaderSize, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import fastify, {
	type FastifyInstance,
	type FastifyReply,
	type FastifyRequest,
	type FastifyServerOptions,
} from 'fastify';
import { type CallName, calls, limits, paths, Problem } from '../../protocol';
import { id as idSchema, robotName } from '../../protocol/schemas/words';
import { noQuery, queryReader, validatorOf } from '../../protocol/schemas';
import { demand } from '../core/may';
import type { Caller } from '../engine';
import { failPoint } from '../store/fail-points';
import { addressOf } from './address';
import type { Door, House } from './door';
import { hangUp } from './hang-up';
import { Type } from 'typebox';

/** Says whether a request's Host and Origin are ours; throws `bad-host`. */
export type HostGate = (
	host: string | undefined,
	origin: string | undefined,
	socket: Socket,
) => void;

export interface AppOptions {
	house: House;
	doors: Partial<Record<CallName, Door>>;
	hostGate: HostGate;
	/** Absent = plain HTTP. */
	tls?: SecureContextOptions;
}

/** How long a request may take to arrive in full. */
const requestMs = 60_000;
/** How often the key of a long-running answer is checked again. */
const keyLookMs = 15_000;
const noBody = validatorOf(Type.Object({}, { additionalProperties: false }));
const idOf = validatorOf(idSchema('id'), 'id');
const robotOf = validatorOf(robotName('robot'), 'id');

export function createApp({ house, doors, hostGate, tls }: AppOptions): FastifyInstance {
	const options: FastifyServerOptions = {
		logger: false,
		bodyLimit: limits.maxBodyBytes,
		exposeHeadRoutes: false,
		// What was taken is answered; index.ts ends what takes too long.
		forceCloseConnections: 'idle',
		return503OnClosing: false,
		requestTimeout: requestMs,
		routerOptions: { maxParamLength: 4 * limits.maxIdBytes },
		frameworkErrors: (error, request, reply) =>
			refuse(house, error, request, reply as FastifyReply),
		clientErrorHandler: refuseGarbage,
	};
	// Nor do we wait for anybody who does not finish the handshake.
	const https = tls && { ...tls, handshakeTimeout: limits.authenticateMs };
	const app: FastifyInstance = https
		? (fastify({ ...options, https } as FastifyServerOptions) as FastifyInstance)
		: fastify(options);

	const listed = new Map(
		Object.values(calls).map((call) => [`${call.method} ${routeOf(call.path)}`, call]),
	);
	app.addHook('onRoute', (route) => {
		for (const method of [route.method].flat()) {
			// HEAD counts as listed where GET is.
			if (!listed.has(`${method === 'HEAD' ? 'GET' : method} ${route.url}`)) {
				throw new Error(`${method} ${route.url} is not in the call table (protocol/api.ts)`);
			}
		}
	});
	app.addHook('onRequest', (request, reply, done) => {
		reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
		hostGate(request.headers.host, request.headers.origin, request.raw.socket);
		// Before reading a body that nobody wants.
		if (request.is404) void nothingThere(house, request, reply);
		else done();
	});
	app.setErrorHandler((error, request, reply) => refuse(house, error, request, reply));
	// Only JSON is taken: a form or text/plain body is how another site's page would call us.
	app.removeAllContentTypeParsers();
	app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
		if (text === '') return done(null, undefined);
		try {
			done(null, JSON.parse(text as string));
		} catch (error) {
			done(new Problem('bad-json', { reason: reasonOf(error) }));
		}
	});
	// Bytes come as a stream, and only where they are wanted; elsewhere nobody should have to wait for them.
	app.addContentTypeParser('*', (request, payload, done) =>
		(request.routeOptions.config as { stream?: boolean }).stream === true
			? done(null, payload)
			: done(new Problem('bad-body')),
	);

	for (const [name, door] of Object.entries(doors)) {
		const { bytes } = door;
		if (bytes === undefined) addDoor(app, house, name as CallName, door);
		else {
			void app.register(async (part) => {
				part.addContentTypeParser(
					'application/octet-stream',
					{ parseAs: 'buffer', bodyLimit: bytes },
					(_request, body, done) => done(null, body),
				);
				addDoor(part, house, name as CallName, door);
			});
		}
	}
	return app;
}

function addDoor(app: FastifyInstance, house: House, name: CallName, door: Door): void {
	const { method, path } = calls[name];
	const scope = house.opened?.has(name) ? null : calls[name].scope;
	const readQuery = queryReader(door.query ?? noQuery);
	const body = door.body && validatorOf(door.body);
	const param = /\{(id|key)\}/.exec(path)?.[1] as 'id' | 'key' | undefined;
	const idOfPath = path.startsWith('/robots/') ? robotOf : idOf;

	app.route({
		method,
		url: routeOf(path),
		// Health checks often ask with HEAD.
		exposeHeadRoute: method === 'GET' && path.startsWith('//') && calls[name].scope === null,
		config: { stream: door.stream ?? false },
		bodyLimit: door.bytes ?? door.maxBodyBytes,
		onRequest: (request, _reply, done) => {
			if (scope !== null) {
				const caller = callerOf(house, request);
				// A call that the key may not make counts, too.
				house.rates?.key(caller.keyId, caller.name, addressOf(request.raw));
				demand(caller, scope);
				request.caller = caller;
			}
			door.admit?.(request);
			done();
		},
		onResponse: (request, reply, done) => {
			house.traffic?.answered(name, reply.statusCode, reply.elapsedTime, request.waited ?? false);
			done();
		},
		handler: async (request, reply) => {
			const params = request.params as { id?: string; key?: string; kind?: string };
			if (param) idOfPath.parse(params[param]);
			const query = readQuery(request.query);
			let value: unknown = request.body ?? undefined;
			if (body) {
				if (value === undefined && door.bodyOptional) value = {};
				if (value === undefined) throw new Problem('bad-body');
				body.parse(value);
			} else if (door.bytes !== undefined) {
				if (!Buffer.isBuffer(value)) throw new Problem('bad-message', { reason: 'send bytes' });
			} else if (value !== undefined && !door.stream) {
				noBody.parse(value);
			}
			let waits: AbortSignal | undefined;
			const mayStill = () => {
				if (scope !== null) demand(callerOf(house, request), scope);
			};
			const ask = {
				id: param ? params[param]! : '',
				kind: params.kind ?? '',
				query,
				body: value,
				caller: request.caller!,
				request,
				reply,
				signal: (forLong = false) => {
					// The key may have been revoked while the body came in.
					mayStill();
					request.waited = true;
					return (waits = signalOf(house, reply, request.caller, forLong ? mayStill : undefined));
				},
			};
			if (method !== 'GET') failPoint('door:heard');
			const answer = await door.run(ask, house);
			if (method !== 'GET') failPoint('door:done');
			if (reply.sent) return reply;
			if (waits?.reason instanceof Problem) throw waits.reason;
			if (answer === undefined) return reply.code(204).send();
			reply.code(door.status ?? 200);
			return answer;
		},
	});
}

declare module 'fastify' {
	interface FastifyRequest {
		caller?: Caller;
		/** Its answer was kept back until something happened. */
		waited?: boolean;
	}
}

function callerOf(house: House, request: FastifyRequest): Caller {
	const key = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(request.headers.authorization ?? '')?.[1];
	if (key === undefined) throw new Problem('no-key');
	return house.engine.verifyKey(key);
}

/** One for all: without a reason each request would make an error with a stack when it is over. */
const gone = new Error('The caller has gone');

function signalOf(
	house: House,
	reply: FastifyReply,
	caller: Caller | undefined,
	mayStill: (() => void) | undefined,
): AbortSignal {
	const controller = new AbortController();
	if (reply.raw.closed) {
		// The caller left before there was anything to wait for: no event will say so any more.
		controller.abort(gone);
		return controller.signal;
	}
	house.waiting.set(controller, caller?.keyId);
	reply.raw.once('close', () => {
		house.waiting.delete(controller);
		controller.abort(gone);
	});
	if (mayStill) void turnOutInTime(house, controller, mayStill);
	return controller.signal;
}

/** We hear of a key that is revoked, but not of one that expires. */
async function turnOutInTime(
	{ clock }: House,
	answer: AbortController,
	mayStill: () => void,
): Promise<void> {
	const { signal } = answer;
	for (;;) {
		await clock.sleep(keyLookMs, signal);
		if (signal.aborted) return;
		try {
			mayStill();
		} catch (problem) {
			return answer.abort(problem);
		}
	}
}

/** `/jobs/{id}` → `/api/v1/jobs/:id`, `//healthz` → `/healthz`. */
export function routeOf(path: string): string {
	const full = path.startsWith('//') ? path.slice(1) : paths.api + path;
	return full.replace(/\{(\w+)\}/g, ':$1');
}

function nothingThere(house: House, request: FastifyRequest, reply: FastifyReply) {
	house.traffic?.answered('none', 404, reply.elapsedTime, false);
	const path = request.url.split('?', 1)[0]!.slice(0, 200);
	return send(reply, new Problem('no-such-route', { method: request.method, path }));
}

/** The one place where a problem becomes an HTTP answer. */
function refuse(house: House, error: unknown, request: FastifyRequest, reply: FastifyReply) {
	if (reply.sent || reply.raw.destroyed) return;
	if ((error as { code?: string }).code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
		return send(reply, new Problem('too-large', { maxBytes: request.routeOptions.bodyLimit }));
	}
	const where = { method: request.method, path: request.url.split('?', 1)[0]!.slice(0, 200) };
	return send(reply, refusalOf(house, error, where, addressOf(request.raw)));
}

/** Counts refusals for want of a proof; when there are too many, that becomes the refusal. */
export function refusalOf(
	house: House,
	error: unknown,
	where: Record<string, unknown>,
	address: string,
): Problem {
	const problem = problemOf(house, error, where);
	if (problem.status !== 401) return problem;
	try {
		house.rates?.stranger(address);
		return problem;
	} catch (limited) {
		return problemOf(house, limited, where);
	}
}

function send(reply: FastifyReply, problem: Problem) {
	reply.code(problem.status);
	if (problem.status === 401) reply.header('www-authenticate', 'Bearer');
	if (problem.retry && problem.status !== 500) {
		const retryMs = Number(problem.details.retryMs ?? 1000);
		reply.header('retry-after', String(Math.max(1, Math.ceil(retryMs / 1000))));
	}
	return reply.send({ error: problem.toBody() });
}

/**
 * Anything thrown, as one of our problems. What we did not expect is logged in full under a
 * reference, and only the reference leaves the house.
 */
export function problemOf(house: House, error: unknown, where: Record<string, unknown>): Problem {
	if (error instanceof Problem) return error;
	const { code, name } = error as { code?: string; name?: string };
	switch (code) {
		case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
		case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
			return new Problem('bad-body');
		case 'FST_ERR_BAD_URL':
			return new Problem('no-such-route', {
				method: String(where.method),
				path: String(where.path),
			});
	}
	if (name === 'AbortError') return new Problem('not-ready', { state: 'stopping' });
	const reference = randomBytes(6).toString('hex');
	house.log.error('a call failed unexpectedly', { reference, ...where, error });
	return new Problem('internal', { reference });
}

/** Anything that is not a whole HTTP request gets one short answer, and its socket is closed. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
	if (!socket.writable) return void socket.destroy();
	const problem = garbageOf(error.code);
	const body = JSON.stringify({ error: problem.toBody() });
	hangUp(
		socket,
		`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
	);
}

function garbageOf(code: string | undefined): Problem {
	switch (code) {
		case 'ERR_HTTP_REQUEST_TIMEOUT':
			return new Problem('request-late', { waitMs: requestMs });
		case 'HPE_HEADER_OVERFLOW':
			return new Problem('header-too-large', { maxBytes: maxHeaderSize });
		default:
			return new Problem('bad-message', { reason: 'this is not valid HTTP' });
	}
}

/** V8 quotes the body in its message; a secret in it must not come back or reach a log. */
function reasonOf(error: unknown): string {
	const text = error instanceof Error ? error.message : '';
	const position = /position (\d+)/.exec(text)?.[1];
	if (position !== undefined) return `unexpected character at position ${position}`;
	return /end of JSON/.test(text) ? 'it ends too early' : 'unexpected character';
}
