/**
 * What people and the program of one attempt say to each other while it runs: what is typed goes in by
 * byte offset, prompts and progress come out.
 *
 *   output ──> markers ──> status_update (at most one a second, the last one always), result.outputs
 *          └─> last line, silence ──> prompt ──> answered · the program went on · nobody answers: stop
 *   input ──> taken when offset is what we have ──> typed ──> input_ack
 *
 * What was typed is kept nowhere. Knows no spool and no journal.
 */
import {
	type AttemptRef,
	type InputAck,
	type InputMessage,
	limits,
	type Resize,
	type StatusUpdate,
	type WirePrompt,
} from '../protocol';
import type { Stream } from '../protocol/frames';
import { type Clock, enough } from './clock';
import type { InputPort, Stop } from './executors/executor';
import type { Line } from './link';
import { Markers } from './markers';
import { LastLine, questionIn } from './prompts';

const statusMs = 1_000;
/** Anything shorter does not count as silence. */
const leastQuietMs = 300;

export interface InteractionParts {
	ref: AttemptRef;
	timeouts: { input_ms?: number | null; grace_ms: number };
	clock: Clock;
	/** Nobody answers. */
	stop(stop: Stop): void;
	/** Resolves when what was printed so far has been seen. */
	caughtUp(): Promise<void>;
}

export class Interaction {
	readonly #parts: InteractionParts;
	readonly #clock: Clock;
	readonly #over = new AbortController();
	readonly #markers: Markers;
	readonly #lastLine = new LastLine();
	#line: Line | undefined;
	#port: InputPort | undefined;
	#have = 0;
	#state: InputAck['state'] = 'open';
	/** Pieces are typed one after the other, at the speed of the program. */
	#typing: Promise<void> = Promise.resolve();
	#typingBytes = 0;
	#typedAt = -Infinity;
	#prompt: WirePrompt | undefined;
	#askedAt = 0;
	#printedAt = 0;
	#watching = false;
	#status: Pick<StatusUpdate, 'progress' | 'message'> | undefined;
	#statusUntold = false;
	#statusResting = false;

	constructor(parts: InteractionParts) {
		this.#parts = parts;
		this.#clock = parts.clock;
		this.#markers = new Markers({
			progress: (progress, message) =>
				this.report({ progress, ...(message === undefined ? {} : { message }) }),
		});
	}

	/** The program waits for a person: its silence is theirs. */
	get asks(): boolean {
		return this.#prompt !== undefined;
	}

	/** Monotonic. */
	get typedAt(): number {
		return this.#typedAt;
	}

	/** The program printed this. */
	saw(stream: Stream, chunk: Uint8Array): void {
		this.#markers.push(stream, chunk);
		if (this.#port === undefined) return;
		if (this.#lastLine.push(stream, chunk)) this.#ask(undefined);
		this.#printedAt = this.#clock.monotonic();
		if (!this.#watching) void this.#watchSilence();
	}

	/** The program can be typed into from now on. */
	open(port: InputPort): void {
		this.#port = port;
		this.#have = port.have;
		this.#acknowledge();
	}

	take(message: InputMessage): void {
		const data = Buffer.from(message.data_b64, 'base64');
		// More than a service ever has under way: it will say it again.
		if (this.#typingBytes + data.length > 2 * limits.inputWindowBytes) return;
		this.#typingBytes += data.length;
		this.#typing = this.#typing
			.then(() => this.#type(message.offset, data, message.eof === true))
			.catch(() => {
				// Whoever held the program is gone, and nobody else can be asked.
				this.#state = 'closed';
				this.#acknowledge();
			})
			.finally(() => {
				data.fill(0);
				this.#typingBytes -= data.length;
			});
	}

	resize({ cols, rows }: Resize): void {
		this.#port?.resize({ columns: cols, rows });
	}

	/** Throttled: of many steps in a second only the last is reported. */
	report(step: Pick<StatusUpdate, 'progress' | 'message'>): void {
		this.#status = { ...this.#status, ...step };
		this.#statusUntold = true;
		if (!this.#statusResting) this.#tellStatus();
	}

	/** What was said on an earlier line may have been lost with it. */
	attach(line: Line): void {
		this.#line = line;
		if (this.#over.signal.aborted) return;
		if (this.#status !== undefined) line.send('status_update', this.#named(this.#status));
		if (this.#port === undefined) return;
		this.#acknowledge();
		this.#tellPrompt();
	}

	detach(): void {
		this.#line = undefined;
	}

	/** The program has ended; what it left for the result. */
	end(): { outputs: Record<string, unknown>; logs: string[] } {
		this.#markers.finish();
		if (this.#statusUntold) this.#tellStatus();
		this.#over.abort(enough);
		return { outputs: this.#markers.outputs, logs: this.#markers.logs };
	}

	async #type(offset: number, data: Buffer, eof: boolean): Promise<void> {
		const port = this.#port;
		if (port === undefined || this.#over.signal.aborted) return;
		await this.#parts.caughtUp();
		if (offset === this.#have && this.#state === 'open') {
			// Whoever knows the program may be quicker than the silence that makes a line a question.
			const secret = (this.#prompt ?? questionIn(this.#lastLine.text))?.hidden ?? false;
			// A word that is still being typed is no answer yet. Done before writing: the program may be quick.
			if (eof || data.includes(10) || data.includes(13)) {
				this.#ask(undefined);
				this.#lastLine.restart();
			}
			if (data.length > 0) this.#have = await port.write(offset, data, secret);
			if (this.#have < offset + data.length) this.#state = 'closed';
			else if (eof) {
				await port.end(this.#have);
				this.#state = 'ended';
			}
			this.#typedAt = this.#clock.monotonic();
		}
		this.#acknowledge();
	}

	#acknowledge(): void {
		const { terminal = false } = this.#port ?? {};
		this.#say('input_ack', this.#named({ have: this.#have, state: this.#state, terminal }));
	}

	/** Looks when the program has been silent for long enough, and not again until it prints. */
	async #watchSilence(): Promise<void> {
		this.#watching = true;
		try {
			for (;;) {
				const silentMs = this.#clock.monotonic() - this.#printedAt;
				const question = silentMs < leastQuietMs ? undefined : questionIn(this.#lastLine.text);
				const wantedMs = silentMs < leastQuietMs ? leastQuietMs : (question?.quietMs ?? 0);
				if (silentMs < wantedMs) {
					if (!(await this.#clock.sleep(wantedMs - silentMs, this.#over.signal))) return;
					continue;
				}
				// The echo of half an answer changes the line, but not what is asked.
				if (question === undefined && this.#typedAt >= this.#askedAt) return;
				if (this.#state !== 'open') return;
				return this.#ask(question);
			}
		} finally {
			this.#watching = false;
		}
	}

	#ask(question: ReturnType<typeof questionIn>): void {
		const before = this.#prompt;
		if (question === undefined) {
			this.#prompt = undefined;
			if (before !== undefined) this.#tellPrompt();
			return;
		}
		const { kind, text, hidden } = question;
		if (before?.text === text && before.offset === this.#have) return;
		const asked_at = new Date(this.#clock.now()).toISOString();
		const prompt = { kind, text, hidden, asked_at, offset: this.#have };
		this.#prompt = prompt;
		this.#askedAt = this.#clock.monotonic();
		this.#tellPrompt();
		void this.#awaitAnswer(prompt);
	}

	async #awaitAnswer(prompt: WirePrompt): Promise<void> {
		const { timeouts, stop } = this.#parts;
		const inputMs = timeouts.input_ms ?? limits.inputMs;
		for (;;) {
			const since = Math.max(this.#askedAt, this.#typedAt);
			const left = since + inputMs - this.#clock.monotonic();
			if (this.#prompt !== prompt) return;
			if (left <= 0) return stop({ why: 'input_timeout', graceMs: timeouts.grace_ms });
			if (!(await this.#clock.sleep(left, this.#over.signal))) return;
		}
	}

	#tellPrompt(): void {
		this.#say('prompt', this.#named({ prompt: this.#prompt ?? null }));
	}

	#tellStatus(): void {
		this.#statusUntold = false;
		this.#line?.send('status_update', this.#named(this.#status!));
		this.#statusResting = true;
		void this.#clock.sleep(statusMs, this.#over.signal).then((rested) => {
			this.#statusResting = false;
			if (rested && this.#statusUntold) this.#tellStatus();
		});
	}

	/** Only to a service that knows about input. */
	#say<T extends 'input_ack' | 'prompt'>(type: T, payload: Parameters<Line['send']>[1]): void {
		if (this.#line?.features.includes('input')) this.#line.send(type, payload as never);
	}

	#named<Rest>(rest: Rest): AttemptRef & Rest {
		return { ...this.#parts.ref, ...rest };
	}
}
