/**
 * The one call that turns an enrollment token into an identity. Tries for ever while the service
 * is away; a service that says no is an `EnrolRefused` with one sentence for the owner. The token
 * appears in no log.
 */
import http from 'node:http';
import https from 'node:https';
import pRetry from 'p-retry';
import {
	enrolProof,
	type EnrolAnswer,
	type EnrolRequest,
	limits,
	paths,
	Problem,
} from '../protocol';
import { backoffMs, type Clock } from './clock';
import type { Identity } from './identity';
import type { Log } from './log';
import { NotTrusted, readToken, type Trust, TrustingAgent } from './trust';

/** The service understood the call and said no: trying again cannot help. */
export class EnrolRefused extends Error {
	override readonly name = 'EnrolRefused';
}

export interface EnrolCall {
	server: string;
	token: string;
	name: string;
	identity: Identity;
	trust?: Trust;
	clock: Clock;
	log: Log;
	signal: AbortSignal;
}

export async function enrol(call: EnrolCall): Promise<void> {
	const { identity, token, trust, clock, log, signal } = call;
	await pRetry(
		async () => {
			const { robotId, hubId, name } = await ask(call);
			identity.enrolled(
				{ robotId, hubId, name },
				{ pin: trust?.pin, tokenId: readToken(token).id },
			);
		},
		{
			retries: Infinity,
			signal,
			// Our own jitter below; the library's is neither full nor ours to test.
			minTimeout: 0,
			shouldRetry: ({ error }) => !(error instanceof EnrolRefused),
			onFailedAttempt: async ({ error, attemptNumber }) => {
				if (error instanceof EnrolRefused) return;
				const waitMs = backoffMs(
					attemptNumber - 1,
					limits.reconnectMinMs,
					limits.reconnectMaxMs,
					clock.chance(),
				);
				log.warn({ reason: reasonOf(error), waitMs }, 'enrolment failed, will try again');
				await clock.sleep(waitMs, signal);
			},
		},
	);
}

async function ask(call: EnrolCall): Promise<EnrolAnswer> {
	const { server, token, name, identity } = call;
	const publicKey = identity.publicKey;
	const body: EnrolRequest = {
		token,
		publicKey,
		signature: identity.sign(enrolProof(token, publicKey)),
		name,
	};
	let response: Response;
	try {
		response = await post(call, JSON.stringify(body));
	} catch (error) {
		// Nobody has seen the token, and a person is at hand who can say what is right.
		if (error instanceof NotTrusted) throw new EnrolRefused(error.message, { cause: error });
		throw new Error(`no answer from ${server}`, { cause: error });
	}
	const { status, answer } = response;
	if (status === 200 && isEnrolAnswer(answer)) return answer;
	const problem = Problem.fromBody(answer);
	// Only a refusal in our own words is final: a proxy in front may say 404 or 403 for a while.
	if (problem !== undefined && !problem.retry && status < 500) {
		throw new EnrolRefused(problem.message, { cause: problem });
	}
	throw new Error(
		problem?.message ?? `${server} answered ${status}, which is no answer of a Robot Fleet service`,
	);
}

interface Response {
	status: number;
	/** Parsed; undefined when it is not JSON. */
	answer: unknown;
}

/** More than any answer of ours. */
const maxAnswerBytes = 64 * 1024;

function post({ server, trust, signal }: EnrolCall, body: string): Promise<Response> {
	const secure = server.startsWith('https:');
	return new Promise((resolve, reject) => {
		const request = (secure ? https : http).request(server + paths.robotEnrol, {
			method: 'POST',
			headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
			signal: AbortSignal.any([signal, AbortSignal.timeout(limits.authenticateMs)]),
			...(secure && { agent: new TrustingAgent(trust ?? { pin: undefined, ca: undefined }) }),
		});
		request.on('error', reject);
		request.on('response', (response) => {
			let text = '';
			response.setEncoding('utf8');
			response.on('data', (piece: string) => {
				text += piece;
				if (text.length > maxAnswerBytes) response.destroy(new Error('it does not end'));
			});
			response.on('error', reject);
			response.on('end', () => resolve({ status: response.statusCode!, answer: parsed(text) }));
		});
		request.end(body);
	});
}

function parsed(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined; // some proxy's page
	}
}

function isEnrolAnswer(answer: unknown): answer is EnrolAnswer {
	const { robotId, name, hubId } = (answer ?? {}) as Partial<EnrolAnswer>;
	return [robotId, name, hubId].every((text) => typeof text === 'string' && text !== '');
}

function reasonOf(error: Error): string {
	const cause = error.cause as { message?: string; cause?: { message?: string } } | undefined;
	return [error.message, cause?.message, cause?.cause?.message].filter(Boolean).join(': ');
}
