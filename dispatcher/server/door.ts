/**
 * The shape of a door: one entry per call of the API table. A door unwraps the request, calls the
 * engine and wraps the answer; no rule of the product lives in here.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Static, TSchema } from 'typebox';
import type { CallName, Doors } from '../../protocol';
import type { Caller, Engine } from '../engine';
import type { Clock } from '../engine/clock';
import type { Log } from '../engine/context';
import type { Rates } from './rates';
import type { Traffic } from './traffic';

/** A copy that is ready to be sent. */
export interface Backup {
	readonly fileName: string;
	readonly at: number;
	bytes(): AsyncIterable<Uint8Array>;
	discard(): void;
}

/** What every door may use. */
export interface House {
	readonly engine: Engine;
	readonly clock: Clock;
	readonly log: Log;
	/** Checks a robot's signature; a simulation does it within its own time. */
	proves?(publicKey: string, text: string, signature: string): Promise<boolean>;
	readonly version: string;
	/** Makes a checked copy of everything. */
	takeBackup(): Promise<Backup>;
	/** Effective settings for `GET /config`, secrets masked. */
	readonly settings: Record<string, unknown>;
	/** Where we can be reached. */
	doors(): Doors;
	/** The fingerprint by which robots know our certificate; absent when they need none. */
	pin(): string | undefined;
	/** Controllers of waiting answers, with the key each was asked under: its end, or the server's, aborts them. */
	readonly waiting: Map<AbortController, string | undefined>;
	/** Counts what is answered. */
	readonly traffic?: Traffic;
	/** Absent = callers may ask as often as they like. */
	readonly rates?: Rates;
	/** Calls that the operator has opened: they need no key. */
	readonly opened?: ReadonlySet<CallName>;
}

export interface Ask<Query, Body> {
	/** `{id}`, `{key}` or `{kind}` of the path; empty when the path has none. */
	readonly id: string;
	readonly kind: string;
	readonly query: Query;
	readonly body: Body;
	/** Who asks. Doors that need no key must not look. */
	readonly caller: Caller;
	readonly request: FastifyRequest;
	readonly reply: FastifyReply;
	/**
	 * Aborted when the caller hangs up or the server closes. Call it only where something waits. `forLong` = longer
	 * than a poll, so that it is aborted, too, when the key has expired.
	 */
	signal(forLong?: boolean): AbortSignal;
}

export interface Door<Q extends TSchema = TSchema, B extends TSchema = TSchema> {
	query?: Q;
	/** Absent = the call takes no body (an empty object is accepted). */
	body?: B;
	/** Of a JSON body; default `limits.maxBodyBytes`. What strangers send is kept before anybody knows who they are. */
	maxBodyBytes?: number;
	/** The body is bytes (application/octet-stream), at most so many, and so is the answer. */
	bytes?: number;
	/** Looks at a request before its body is read; throws to refuse it. */
	admit?(request: FastifyRequest): void;
	/** What OpenAPI shows when the body's own schema says less than the call takes. */
	bodyShown?: object;
	/** True = no body at all means `{}`. */
	bodyOptional?: boolean;
	/** The body is bytes as they come: `body` of the ask is a stream, or undefined when there are none. */
	stream?: boolean;
	/** Shape of the answer, for OpenAPI; absent = 204 without a body, or bytes. */
	answer?: TSchema;
	/** Default 200, or 204 when the answer is `undefined`. */
	status?: number;
	run(ask: Ask<Static<Q>, Static<B>>, house: House): unknown;
}

/** Ties the schemas of a door to the types its `run` sees. */
export function door<Q extends TSchema, B extends TSchema>(door: Door<Q, B>): Door {
	return door as unknown as Door;
}
