/**
 * The one call that turns an enrollment token into an identity. Tries for ever while the service
 * is away; a service that says no is an `EnrolRefused` with one sentence for the owner. The token
 * appears in no log.
 */
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

/** The service understood the call and said no: trying again cannot help. */
export class EnrolRefused extends Error {
	override readonly name = 'EnrolRefused';
}

export interface EnrolCall {
	server: string;
	token: string;
	name: string;
	identity: Identity;
	clock: Clock;
	log: Log;
	signal: AbortSignal;
}

export async function enrol(call: EnrolCall): Promise<void> {
	const { identity, clock, log, signal } = call;
	await pRetry(
		async () => {
			const answer = await ask(call);
			identity.enrolled({ robotId: answer.robotId, hubId: answer.hubId, name: answer.name });
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

async function ask({ server, token, name, identity, signal }: EnrolCall): Promise<EnrolAnswer> {
	const publicKey = identity.publicKey;
	const body: EnrolRequest = {
		token,
		publicKey,
		signature: identity.sign(enrolProof(token, publicKey)),
		name,
	};
	let response: Response;
	try {
		response = await fetch(server + paths.robotEnrol, {
			method: 'POST',
			headers: { 'content-type': 'application/json' },
			body: JSON.stringify(body),
			redirect: 'error',
			signal: AbortSignal.any([signal, AbortSignal.timeout(limits.authenticateMs)]),
		});
	} catch (error) {
		// A plain Error: p-retry takes an unknown TypeError for a bug and would give up.
		throw new Error(`no answer from ${server}`, { cause: error });
	}
	const answer: unknown = await response.json().catch(() => undefined);
	if (response.ok && isEnrolAnswer(answer)) return answer;
	const problem = Problem.fromBody(answer);
	// Only a refusal in our own words is final: a proxy in front may say 404 or 403 for a while.
	if (problem !== undefined && !problem.retry && response.status < 500) {
		throw new EnrolRefused(problem.message, { cause: problem });
	}
	throw new Error(
		problem?.message ??
			`${server} answered ${response.status}, which is no answer of a Robot Fleet service`,
	);
}

function isEnrolAnswer(answer: unknown): answer is EnrolAnswer {
	const { robotId, name, hubId } = (answer ?? {}) as Partial<EnrolAnswer>;
	return [robotId, name, hubId].every((text) => typeof text === 'string' && text !== '');
}

function reasonOf(error: Error): string {
	const cause = error.cause as { message?: string; cause?: { message?: string } } | undefined;
	return [error.message, cause?.message, cause?.cause?.message].filter(Boolean).join(': ');
}
