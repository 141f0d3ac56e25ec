/**
 * What people type into a running job, and what its program asks. A robot takes input by byte offset and
 * says how far it is (`input_ack`); what is typed is kept here, in memory, only until then, and goes
 * nowhere else: no row, no event, no log line ever holds a byte of it.
 *
 *   typed ── waits ──> sent (a window of bytes) ── acknowledged ──> forgotten, the caller is answered
 *              ^─────────── a new line: from where the robot is ──┘
 *
 * A prompt belongs to its live attempt: it is memory, and a robot that comes back says it again.
 */
import {
	type InputAck,
	type InputAnswer,
	type InputRequest,
	isFinal,
	limits,
	Problem,
	type PromptAsked,
	type PromptMessage,
	type WaitingFor,
} from '../../protocol';
import type { Attempts } from './attempts';
import type { Context } from './context';
import { type Live, refOf, type Session } from './fleet';
import type { Jobs } from './jobs';

/** Kind of the event that announces a prompt, and what subscriptions find it by. */
const promptEvent = 'job.prompt';
/** A program that asks for ever must not make the row of its job endless. */
const maxPromptLines = 50;
/** Nor the events. Whoever looks at the job still sees what it asks. */
const maxPromptEvents = 1_000;
/** For how many parts it is remembered who filled them. */
const maxParts = 64;
/** Of one message to the robot: small enough to go between others. */
const pieceBytes = 16 * 1024;

interface Part {
	from: number;
	to: number;
	writer: string;
}

/** The input of one attempt. */
class Input {
	/** Taken by the robot. */
	have = 0;
	/** Told to the robot on this line. */
	sent = 0;
	state: InputAck['state'] = 'open';
	terminal = false;
	/** The line on which the robot said where it is; on another one nothing is sent. */
	session: Session | undefined;
	/** Not taken yet; begins at `have`. */
	waiting: Buffer[] = [];
	/** The input is to be closed after all of it. */
	eof = false;
	size: { cols: number; rows: number } | undefined;
	#parts: Part[] = [];

	get end(): number {
		return this.waiting.reduce((sum, piece) => sum + piece.length, this.have);
	}

	/** Whether somebody else filled a part of what this writer wants to fill. */
	isTaken(from: number, to: number, writer: string): boolean {
		return this.#parts.some((part) => part.writer !== writer && part.from < to && part.to > from);
	}

	add(data: Buffer, writer: string): void {
		const from = this.end;
		this.waiting.push(data);
		const last = this.#parts.at(-1);
		if (last?.writer === writer && last.to === from) last.to += data.length;
		else this.#parts.push({ from, to: from + data.length, writer });
		if (this.#parts.length > maxParts) this.#parts.shift();
	}

	taken(have: number): void {
		let left = have - this.have;
		while (left > 0 && this.waiting.length > 0) {
			const piece = this.waiting[0]!;
			// Nobody is to find it in memory that is given out again.
			piece.fill(0, 0, Math.min(left, piece.length));
			if (piece.length > left) this.waiting[0] = piece.subarray(left);
			else this.waiting.shift();
			left -= piece.length;
		}
		this.have = have;
	}

	/** At most one message's worth of what was not told yet. */
	next(): Buffer | undefined {
		let at = this.have;
		for (const piece of this.waiting) {
			if (at + piece.length > this.sent) {
				return piece.subarray(this.sent - at, this.sent - at + pieceBytes);
			}
			at += piece.length;
		}
		return undefined;
	}
}

export class Inputs {
	readonly #context: Context;
	readonly #jobs: Jobs;
	readonly #attempts: Attempts;
	readonly #inputs = new WeakMap<Live, Input>();
	readonly #promptLines = new WeakMap<Live, number>();

	constructor(context: Context, jobs: Jobs, attempts: Attempts) {
		this.#context = context;
		this.#jobs = jobs;
		this.#attempts = attempts;
	}

	/** Answers when the robot has taken all of it. */
	async type(jobId: string, request: InputRequest, signal?: AbortSignal): Promise<InputAnswer> {
		const data = dataOf(request);
		const { writer = '', eof = false, size } = request;
		const live = await this.#running(jobId);
		if (this.#session(live)?.sink.takesInput === false) throw new Problem('input-unsupported');
		const input = await this.#opened(live, signal);
		const from = request.from ?? input.end;
		const to = from + data.length;
		if (from > input.end) throw new Problem('input-gap', { have: input.end, from });
		if (input.isTaken(from, to, writer))
			throw new Problem('input-taken', { have: input.end, from });
		const fresh = data.subarray(Math.min(data.length, input.end - from));
		if (fresh.length > 0 && (input.eof || input.state !== 'open')) {
			throw new Problem('input-closed', { have: input.have });
		}
		const waiting = input.end - input.have;
		if (fresh.length > 0 && waiting + fresh.length > limits.maxWaitingInputBytes) {
			throw new Problem('input-full', { waiting });
		}
		if (fresh.length > 0) input.add(fresh, writer);
		if (eof) input.eof = true;
		if (size) this.#resize(live, input, size);
		this.#pump(live, input);
		await this.#until(
			live,
			() => input.state !== 'open' || (input.have >= to && !eof),
			signal,
			() => new Problem('input-late', { waitMs: limits.inputWaitMs, from }),
		);
		if (input.have < to) throw new Problem('input-closed', { have: input.have });
		return { have: input.have, open: input.state === 'open', terminal: input.terminal };
	}

	/** The robot says how far the input is: after each piece, and first of all on a new line. */
	acknowledged(robotId: string, session: Session, ack: InputAck): void {
		const live = this.#attempts.find(robotId, session, ack);
		if (!live) return;
		let input = this.#inputs.get(live);
		if (!input) this.#inputs.set(live, (input = new Input()));
		const fresh = input.session !== session;
		const moved = ack.have > input.have || ack.state !== input.state;
		// What we never sent, the service sent before our start: it was taken all the same.
		input.taken(Math.max(ack.have, input.have));
		// An acknowledgement that moves nothing says that what we sent last did not fit.
		if (fresh || !moved) input.sent = input.have;
		input.sent = Math.max(input.sent, input.have);
		Object.assign(input, { session, state: ack.state, terminal: ack.terminal });
		if (fresh && input.size) this.#resize(live, input, input.size);
		if (ack.state !== 'open') input.waiting = [];
		this.#pump(live, input);
		this.#context.watchers.hint('input', live.jobId);
	}

	prompted(robotId: string, session: Session, message: PromptMessage): void {
		const live = this.#attempts.find(robotId, session, message);
		if (!live) return;
		const { prompt } = message;
		const { watchers, clock, turns } = this.#context;
		const before = live.waitingFor;
		if (prompt === null) {
			if (before === undefined) return;
			delete live.waitingFor;
			return watchers.prompted(live.jobId);
		}
		const { kind, text, hidden, offset } = prompt;
		const askedAt = Date.parse(prompt.asked_at);
		const again = before?.text === text && before.offset === offset;
		if (again) return;
		live.waitingFor = {
			kind,
			text,
			hidden,
			askedAt: Number.isNaN(askedAt) ? clock.now() : askedAt,
			offset,
		};
		watchers.prompted(live.jobId);
		const lines = this.#promptLines.get(live) ?? 0;
		if (lines >= maxPromptEvents) return;
		this.#promptLines.set(live, lines + 1);
		const { jobId, number: attempt } = live;
		const data: PromptAsked = { jobId, attempt, robotId, kind, text, hidden, offset };
		const at = clock.now();
		void turns
			.deed('prompted', {
				jobId,
				number: attempt,
				epoch: live.epoch,
				reason: lines < maxPromptLines ? `asks: ${text}` : null,
				event: { at, type: promptEvent, subject: promptEvent, data: JSON.stringify(data) },
			})
			.then((noted) => {
				if (noted) watchers.hint('events', promptEvent);
			})
			// Not noted: the prompt itself is in memory, and its robot says it again.
			.catch(() => undefined);
	}

	/** What the program asks, once that is something else than `known`. */
	async asks(
		jobId: string,
		known: WaitingFor | null,
		signal: AbortSignal,
	): Promise<WaitingFor | null> {
		const { watchers, clock, fleet } = this.#context;
		return watchers.until(
			'prompt',
			[jobId],
			async () => fleet.live(jobId)?.waitingFor ?? null,
			(asks) => asks !== known,
			{ ms: limits.maxWaitMs, sleep: (ms, over) => clock.sleep(ms, over), signal },
		);
	}

	/** The live attempt of a job that takes input. */
	async #running(jobId: string): Promise<Live> {
		const { fleet } = this.#context;
		const job = await this.#jobs.read(jobId);
		const { interactive } = JSON.parse(job.spec) as { interactive?: unknown };
		if (interactive !== true) throw new Problem('not-interactive');
		const live = fleet.live(jobId);
		if (live && live.epoch === job.epoch) {
			if (!this.#session(live)) throw this.#away(live);
			return live;
		}
		throw new Problem(isFinal(job.state) ? 'not-running' : 'not-yet-running', { state: job.state });
	}

	/** Where its robot says the input is; a program that was just started says so in a moment. */
	async #opened(live: Live, signal: AbortSignal | undefined): Promise<Input> {
		await this.#until(
			live,
			() => this.#inputs.has(live),
			signal,
			() => new Problem('not-yet-running', { state: live.state }),
		);
		return this.#inputs.get(live)!;
	}

	/** Ends early when the attempt is over. A robot that goes has time to come back. */
	async #until(
		live: Live,
		done: () => boolean,
		signal: AbortSignal | undefined,
		late: () => Problem,
	): Promise<void> {
		const { watchers, clock, fleet } = this.#context;
		const over = () => fleet.live(live.jobId) !== live;
		await watchers.until(
			'input',
			[live.jobId],
			async () => undefined,
			() => done() || over(),
			{ ms: limits.inputWaitMs, sleep: (ms, ended) => clock.sleep(ms, ended), signal },
		);
		if (done()) return;
		if (over()) {
			const { state } = await this.#jobs.read(live.jobId);
			throw new Problem(isFinal(state) ? 'not-running' : 'not-yet-running', { state });
		}
		throw this.#session(live) ? late() : this.#away(live);
	}

	#pump(live: Live, input: Input): void {
		const session = this.#session(live);
		if (!session || session !== input.session || input.state !== 'open') return;
		for (;;) {
			const room = limits.inputWindowBytes - (input.sent - input.have);
			const data = room > 0 ? input.next() : undefined;
			if (!data) break;
			const last = input.sent + data.length === input.end;
			session.sink.input({
				...refOf(live),
				offset: input.sent,
				data_b64: data.toString('base64'),
				...(last && input.eof ? { eof: true } : {}),
			});
			input.sent += data.length;
		}
		// Nothing is under way that could carry it.
		if (input.eof && input.end === input.have) {
			session.sink.input({ ...refOf(live), offset: input.have, data_b64: '', eof: true });
		}
	}

	#resize(live: Live, input: Input, size: { cols: number; rows: number }): void {
		input.size = size;
		if (input.session === this.#session(live))
			input.session?.sink.resize({ ...refOf(live), ...size });
	}

	#away({ robotId }: Live): Problem {
		const robot = this.#context.fleet.get(robotId)?.stored.name ?? robotId;
		return new Problem('robot-away', { robot });
	}

	#session({ robotId }: Live): Session | undefined {
		return this.#context.fleet.get(robotId)?.session;
	}
}

function dataOf({ text, dataB64 }: InputRequest): Buffer {
	if (text !== undefined && dataB64 !== undefined) {
		throw new Problem('bad-field', { path: 'dataB64', reason: 'give text or dataB64, not both' });
	}
	const data = dataB64 === undefined ? Buffer.from(text ?? '') : Buffer.from(dataB64, 'base64');
	if (data.length > limits.maxInputBytes) {
		throw new Problem('too-large', { maxBytes: limits.maxInputBytes });
	}
	return data;
}
