/**
 * The robot's end of a line that polls (protocol/poll.ts): a socket made of requests. One of them waits at the
 * service for what it has to say, another one brings what we say. A request that fails is repeated as it
 * stands, for the offsets in it make that harmless; when none gets through for a while, or the service does
 * not know the line, the socket is cut, and whoever uses it dials anew.
 */
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { limits, paths, Problem } from '../protocol';
import {
	CarriedStream,
	decodePoll,
	encodePoll,
	type Piece,
	type PollBody,
	pollHeadBytes,
} from '../protocol/poll';
import type { Clock } from './clock';
import type { Log } from './log';
import { NotTrusted, type Trust, TrustingAgent } from './trust';

/** How much longer an answer may take than was asked for. */
const slackMs = 10_000;
/** How long a piece of ours may be on its way: the line may be slow. */
const sendMs = 45_000;
/** Pieces begin small, and grow while they go through quickly: not every line takes the largest ones. */
const firstPieceBytes = 16 * 1024;
const leastPieceBytes = 2 * 1024;
const quickMs = 1_000;
const slowMs = 5_000;
/** Quick ones in a row after one that failed, before a larger one is tried. */
const quickOnes = 16;
/** Failing for this long = cut. */
const patienceMs = 10_000;
/** Before a repetition; the first comes at once, within `pollReturnMs`. */
const pausesMs = [0, 200, 500, 1_000, 2_000] as const;
/**
 * Once somebody on the way has ended a waiting request earlier than asked, shorter waits are asked for, but none
 * shorter than this.
 */
const leastWaitMs = 1_000;
const maxAnswerBytes = pollHeadBytes + limits.pollPieceBytes;

/** The line is over; repeating a request cannot help. */
class LineOver extends Error {}

export interface PollingParts {
	server: string;
	trust?: Trust;
	clock: Clock;
	log: Log;
}

export class PollingSocket extends CarriedStream {
	readonly #parts: PollingParts;
	readonly #agent: http.Agent;
	/** Nobody can guess it: whoever knows it could speak on this line. */
	readonly #name = randomBytes(32).toString('base64url');
	readonly #cut = new AbortController();
	#stage: 'new' | 'opening' | 'open' = 'new';
	#speaking = false;
	/** How long a waiting request may wait. */
	#waitMs: number = limits.pollWaitMs;
	/** How much of what is to be said goes into one request. */
	#pieceBytes = firstPieceBytes;
	/** Quick pieces still needed before a larger one is tried. */
	#quickLeft = 0;

	constructor(parts: PollingParts) {
		super();
		this.#parts = parts;
		const { server, trust } = parts;
		this.#agent = server.startsWith('https:')
			? new TrustingAgent(trust ?? { pin: undefined, ca: undefined }, { keepAlive: true })
			: new http.Agent({ keepAlive: true });
	}

	override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
		this.#cut.abort();
		this.#agent.destroy();
		super._destroy(error, done);
	}

	protected override said(): void {
		if (this.#stage === 'open') void this.#speak();
		else if (this.#stage === 'new') void this.#live();
	}

	/** From the first request to the last word of the service. */
	async #live(): Promise<void> {
		this.#stage = 'opening';
		try {
			// Not repeated: whoever dials has pauses of its own.
			await this.#exchange({ opens: true, waitMs: limits.authenticateMs, ...this.#next() });
			this.#stage = 'open';
			void this.#speak();
			while (!this.over && !this.destroyed) {
				await this.#untilDone(() => this.#listen());
				await this.room();
			}
		} catch (error) {
			this.destroy(error as Error);
		}
	}

	/** Sends all there is to say, one request at a time. */
	async #speak(): Promise<void> {
		if (this.#speaking) return;
		this.#speaking = true;
		try {
			while (this.hasNews && !this.destroyed) {
				await this.#untilDone(() => this.#bring());
			}
		} catch (error) {
			this.destroy(error as Error);
		} finally {
			this.#speaking = false;
		}
	}

	/** Only whole pieces count: one that is too large for the line would never get through. */
	async #bring(): Promise<void> {
		const { clock } = this.#parts;
		const from = clock.monotonic();
		const piece = this.#next();
		try {
			await this.#exchange({ opens: false, waitMs: 0, ...piece });
		} catch (error) {
			this.#smaller(piece.data.length);
			throw error;
		}
		const tookMs = clock.monotonic() - from;
		if (tookMs > slowMs) this.#smaller(piece.data.length);
		else if (tookMs < quickMs && piece.data.length === this.#pieceBytes) {
			this.#quickLeft -= 1;
			if (this.#quickLeft <= 0) {
				this.#pieceBytes = Math.min(2 * this.#pieceBytes, limits.pollPieceBytes);
			}
		}
	}

	/** Makes pieces smaller than this one, which was perhaps too large. */
	#smaller(bytes: number): void {
		if (bytes <= leastPieceBytes) return;
		this.#quickLeft = quickOnes;
		const half = Math.max(leastPieceBytes, Math.floor(bytes / 2));
		this.#pieceBytes = Math.min(this.#pieceBytes, half);
	}

	async #listen(): Promise<void> {
		const { clock } = this.#parts;
		const from = clock.monotonic();
		try {
			await this.#exchange({ opens: false, waitMs: this.#waitMs, ...this.silence });
		} catch (error) {
			const waitedMs = clock.monotonic() - from;
			// One that broke off at once says nothing about how long it might have waited.
			if (waitedMs >= leastWaitMs && waitedMs < this.#waitMs) {
				this.#waitMs = Math.max(leastWaitMs, Math.floor(0.7 * waitedMs));
			}
			throw error;
		}
	}

	#next(): Piece {
		return this.piece(this.#pieceBytes);
	}

	/** Repeats it until it works, the line is over, or patience is. */
	async #untilDone(request: () => Promise<void>): Promise<void> {
		const { clock, log } = this.#parts;
		let failedAt: number | undefined;
		for (let failures = 0; !this.destroyed; failures += 1) {
			const from = clock.monotonic();
			try {
				return await request();
			} catch (error) {
				if (this.destroyed || error instanceof LineOver || error instanceof NotTrusted) throw error;
				const now = clock.monotonic();
				// A request that waited for long before it broke was not failing until then.
				failedAt ??= from + slackMs < now ? now : from;
				if (now - failedAt > patienceMs) throw error;
				log.debug({ reason: (error as Error).message, failures }, 'a poll is repeated');
				await clock.sleep(pausesMs[Math.min(failures, pausesMs.length - 1)]!, this.#cut.signal);
			}
		}
	}

	async #exchange(body: Omit<PollBody, 'have'>): Promise<void> {
		const { status, bytes } = await this.#post(
			encodePoll({ ...body, have: this.have }),
			body.data.length > 0 && body.waitMs === 0 ? sendMs : body.waitMs + slackMs,
		);
		const answer = status === 200 ? decodePoll(bytes) : undefined;
		if (answer === undefined) throw whyNot(status, bytes);
		if (!this.arrived(answer.have)) throw new LineOver('the service mixes up its lines');
		this.receive(answer);
	}

	#post(body: Buffer, patience: number): Promise<{ status: number; bytes: Buffer }> {
		const { server } = this.#parts;
		return new Promise((resolve, reject) => {
			const request = (server.startsWith('https:') ? https : http).request(
				server + paths.robotPoll,
				{
					method: 'POST',
					agent: this.#agent,
					headers: {
						authorization: `Bearer ${this.#name}`,
						'content-type': 'application/octet-stream',
						'content-length': body.length,
					},
					timeout: patience,
					signal: this.#cut.signal,
				},
			);
			request.on('timeout', () => request.destroy(new Error('no answer came in time')));
			request.on('error', reject);
			request.on('response', (response) => {
				const parts: Buffer[] = [];
				let length = 0;
				response.on('data', (part: Buffer) => {
					parts.push(part);
					length += part.length;
					if (length > maxAnswerBytes) response.destroy(new Error('the answer does not end'));
				});
				response.on('error', reject);
				response.on('end', () =>
					resolve({ status: response.statusCode!, bytes: Buffer.concat(parts) }),
				);
			});
			request.end(body);
		});
	}
}

/** A refusal of the service in its own words, or something that somebody on the way has said. */
function whyNot(status: number, bytes: Buffer): Error {
	let problem: Problem | undefined;
	try {
		problem = Problem.fromBody(JSON.parse(bytes.toString('utf8')));
	} catch {
		// A page of some gateway.
	}
	if (problem === undefined) {
		return new Error(`a poll was answered ${status}, which is no answer of a Robot Fleet service`);
	}
	return problem.retry ? problem : new LineOver(problem.message, { cause: problem });
}
