/**
 * Carries the output of one attempt from its spool to the service: at most every 50 ms while it
 * trickles, at once when there is much, never more than the window of the robot allows ahead of what is
 * acknowledged. An acknowledgement that does not move asks for a repeat from there. Forgets nothing
 * over a reconnect: the service says how much it has and sending goes on from that byte. What is no longer
 * in the spool is reported as a gap.
 */
import { type InlineOutput, limits, type OutputLengths } from '../protocol';
import { type Stream, streams } from '../protocol/frames';
import type { Clock } from './clock';
import type { Line } from './link';
import type { Log } from './log';
import type { AttemptSpool } from './spool';
import type { Sender, Window } from './window';

const flushMs = 50;
const flushBytes = 64 * 1024;
/** For a job that prints more than is kept, while it runs: enough for people who watch. */
const maxBytesPerMs = (4 * 1024 * 1024) / 1000;

export type Remainder = Partial<Record<Stream, InlineOutput>>;

interface Flow {
	/** Stored at the service, as it said. */
	have: number;
	/** Handed to the current line. */
	sent: number;
	/** The last gap that was reported; its bytes are not under way. */
	gap: { from: number; to: number };
	/** A repeat was already started from `have`; the answers to what is still under way are not new. */
	repeated: boolean;
	/** `have` at the last tick. */
	hadAtTick: number;
}

export class Outflow implements Sender {
	readonly #jobId: string;
	readonly #epoch: number;
	readonly #spool: AttemptSpool;
	readonly #window: Window;
	readonly #clock: Clock;
	readonly #log: Log;
	readonly #flows: Record<Stream, Flow> = { stdout: newFlow(), stderr: newFlow() };
	#line: Line | undefined;
	/** Whether the last result carried all that was left. */
	#restInline = false;
	/** Nothing more is produced. */
	#ended = false;
	#gathered = 0;
	#flushPlanned = false;
	/** Monotonic; until then a job that prints too much sends nothing. */
	#pacedUntil = 0;
	#pumping = false;
	#pumpAgain = false;
	/** Bytes being read in order to be sent: the room they need may not go to anybody else. */
	#reading = 0;

	constructor(
		jobId: string,
		epoch: number,
		spool: AttemptSpool,
		parts: { window: Window; clock: Clock; log: Log },
	) {
		this.#jobId = jobId;
		this.#epoch = epoch;
		this.#spool = spool;
		this.#window = parts.window;
		this.#clock = parts.clock;
		this.#log = parts.log;
	}

	/** A new line: what was under way on the old one counts for nothing. */
	attach(line: Line, have: OutputLengths): void {
		this.#line = line;
		for (const stream of streams) {
			this.#flows[stream] = { ...newFlow(), have: have[stream], sent: have[stream] };
		}
		this.#window.join(this);
	}

	detach(): void {
		this.#line = undefined;
		this.#window.leave(this);
	}

	get underWay(): number {
		return this.#underWay('stdout') + this.#underWay('stderr') + this.#reading;
	}

	rewind(): void {
		for (const stream of streams) this.#flows[stream].sent = this.#flows[stream].have;
		this.pump();
	}

	/** The spool has grown by this many bytes. */
	grew(bytes: number): void {
		this.#gathered += bytes;
		if (this.#line === undefined) return;
		if (this.#gathered >= flushBytes) this.pump();
		else this.#pumpIn(flushMs);
	}

	acknowledged(stream: Stream, have: number): void {
		const flow = this.#flows[stream];
		if (have === flow.have) {
			if (flow.sent > have && !flow.repeated) {
				flow.sent = have;
				flow.repeated = true;
			}
		} else {
			// Less than before: the service has lost bytes and says so.
			if (have < flow.have) flow.sent = have;
			flow.have = have;
			flow.sent = Math.max(flow.sent, have);
			flow.repeated = false;
		}
		this.pump();
		this.#window.freed();
	}

	/** What the answer to a result says. */
	acknowledgedWithResult(have: OutputLengths): void {
		for (const stream of streams) {
			const flow = this.#flows[stream];
			if (this.#restInline) {
				// Nothing was under way after that result, so this is exact.
				flow.have = have[stream];
				flow.sent = have[stream];
				flow.repeated = false;
			} else if (have[stream] > flow.have) {
				flow.have = have[stream];
				flow.sent = Math.max(flow.sent, flow.have);
			}
		}
		this.#restInline = false;
		this.pump();
		this.#window.freed();
	}

	/** Called with every heartbeat: a flow that stands still although bytes are under way is repeated. */
	tick(): void {
		for (const stream of streams) {
			const flow = this.#flows[stream];
			const still = flow.sent > flow.have && flow.have === flow.hadAtTick;
			if (still && !this.#window.shut) flow.sent = flow.have;
			flow.hadAtTick = flow.have;
		}
		this.pump();
	}

	/** The service has every byte there is so far. */
	get settled(): boolean {
		const { lengths } = this.#spool;
		return streams.every((stream) => this.#flows[stream].have >= lengths[stream]);
	}

	/**
	 * Once nothing more is produced: calls `send` with the rest, if it is small enough to travel
	 * inside the result, else without it and lets it flow. Does nothing when the line is lost first.
	 */
	conclude(send: (line: Line, rest: Remainder | undefined) => void): void {
		this.#ended = true;
		void this.#conclude(send).catch((error: unknown) => this.#complain(error));
	}

	async #conclude(send: (line: Line, rest: Remainder | undefined) => void): Promise<void> {
		for (;;) {
			const line = this.#line;
			if (line === undefined) return;
			const { lengths } = this.#spool;
			const from = { stdout: this.#flows.stdout.sent, stderr: this.#flows.stderr.sent };
			const rest = await this.#remainder(from, lengths);
			// While we read, the line may have changed or an acknowledgement may have come: look again.
			if (line !== this.#line) continue;
			if (streams.some((stream) => this.#flows[stream].sent !== from[stream])) continue;
			this.#restInline = rest !== undefined;
			if (rest !== undefined) {
				for (const stream of streams) {
					this.#flows[stream].sent = Math.max(from[stream], lengths[stream]);
				}
			}
			send(line, rest);
			this.pump();
			return;
		}
	}

	/** What was not sent yet, if it is little and has no gap. */
	async #remainder(from: OutputLengths, to: OutputLengths): Promise<Remainder | undefined> {
		const left = streams.reduce((sum, one) => sum + Math.max(0, to[one] - from[one]), 0);
		if (left > limits.maxInlineOutputBytes) return undefined;
		const rest: Remainder = {};
		for (const stream of streams) {
			const parts: Buffer[] = [];
			for (let at = from[stream]; at < to[stream];) {
				const { data, gap } = await this.#spool.read(stream, at, to[stream] - at);
				if (gap !== undefined || data.length === 0) return undefined;
				parts.push(data);
				at += data.length;
			}
			if (parts.length > 0) {
				rest[stream] = {
					offset: from[stream],
					data_b64: Buffer.concat(parts).toString('base64'),
				};
			}
		}
		return rest;
	}

	/** Sends what the window allows. One at a time; a call during another makes that one look again. */
	pump(): void {
		this.#pumpAgain = true;
		if (this.#pumping) return;
		this.#pumping = true;
		void (async () => {
			try {
				while (this.#pumpAgain) {
					this.#pumpAgain = false;
					this.#gathered = 0;
					while (await this.#sendOne());
				}
			} catch (error) {
				this.#complain(error);
			} finally {
				this.#reading = 0;
				this.#pumping = false;
			}
		})();
	}

	#pumpIn(ms: number): void {
		if (this.#flushPlanned) return;
		this.#flushPlanned = true;
		void this.#clock.sleep(ms).then(() => {
			this.#flushPlanned = false;
			this.pump();
		});
	}

	/** The spool cannot be read. The next heartbeat tries again; the result itself does not depend on it. */
	#complain(error: unknown): void {
		this.#log.error({ err: error, job: this.#jobId }, 'output cannot be read from the spool');
	}

	/** True when it is worth looking again at once. */
	async #sendOne(): Promise<boolean> {
		const { lengths } = this.#spool;
		for (const stream of streams) {
			const line = this.#line;
			if (line === undefined) return false;
			const flow = this.#flows[stream];
			const offset = flow.sent;
			if (lengths[stream] <= offset) continue;
			const waitMs = this.#pacedUntil - this.#clock.monotonic();
			if (waitMs > 0 && !this.#ended) {
				this.#pumpIn(waitMs);
				return false;
			}
			const room = this.#window.roomFor(this);
			if (room === 0) return false;
			const wanted = Math.min(line.maxOutputBytes, lengths[stream] - offset, room);
			this.#reading = wanted;
			const { offset: at, data, gap } = await this.#spool.read(stream, offset, wanted);
			this.#reading = 0;
			const moved = line !== this.#line || flow !== this.#flows[stream] || flow.sent !== offset;
			const nothing = data.length === 0 && gap === undefined;
			if (!moved && !nothing) {
				flow.sent = at + data.length;
				if (gap) flow.gap = { from: offset, to: at };
				this.#pace(data.length);
				const frame = { jobId: this.#jobId, epoch: this.#epoch, stream, offset: at, data };
				line.sendOutput(gap ? { ...frame, gap } : frame);
			}
			// Others may have found no room because of what was not sent after all.
			if (moved || data.length < wanted) this.#window.freed();
			if (moved || !nothing) return true;
		}
		return false;
	}

	#pace(bytes: number): void {
		if (!this.#spool.overflows) return;
		const from = Math.max(this.#pacedUntil, this.#clock.monotonic());
		this.#pacedUntil = from + bytes / maxBytesPerMs;
	}

	#underWay(stream: Stream): number {
		const { sent, have, gap } = this.#flows[stream];
		// After a rewind the gap lies ahead of us again.
		const skipped = Math.max(0, Math.min(gap.to, sent) - Math.max(gap.from, have));
		return Math.max(0, sent - have - skipped);
	}
}

function newFlow(): Flow {
	return { have: 0, sent: 0, gap: { from: 0, to: 0 }, repeated: false, hadAtTick: 0 };
}
