/**
 * Carries the output of one attempt from its spool to the service: at most every 50 ms while it
 * trickles, at once when there is much, never more than a window ahead of what is acknowledged. An
 * acknowledgement that does not move asks for a repeat from there. Forgets nothing over a
 * reconnect: the service says how much it has and sending goes on from that byte.
 */
import { type InlineOutput, limits } from '../protocol';
import { type Stream, streams } from '../protocol/frames';
import type { Clock } from './clock';
import type { Line } from './link';
import type { Log } from './log';
import type { AttemptSpool, Lengths } from './spool';

const flushMs = 50;
const flushBytes = 64 * 1024;
const windowBytes = 1024 * 1024;

export type Remainder = Partial<Record<Stream, InlineOutput>>;

interface Flow {
	/** Stored at the service, as it said. */
	have: number;
	/** Handed to the current line. */
	sent: number;
	/** A repeat was already started from `have`; the answers to what is still under way are not new. */
	repeated: boolean;
	/** `have` at the last tick. */
	hadAtTick: number;
}

export class Outflow {
	readonly #jobId: string;
	readonly #epoch: number;
	readonly #spool: AttemptSpool;
	readonly #clock: Clock;
	readonly #log: Log;
	readonly #flows: Record<Stream, Flow> = { stdout: newFlow(), stderr: newFlow() };
	#line: Line | undefined;
	/** Whether the last result carried all that was left. */
	#restInline = false;
	#gathered = 0;
	#flushPlanned = false;
	#pumping = false;
	#pumpAgain = false;

	constructor(jobId: string, epoch: number, spool: AttemptSpool, clock: Clock, log: Log) {
		this.#jobId = jobId;
		this.#epoch = epoch;
		this.#spool = spool;
		this.#clock = clock;
		this.#log = log;
	}

	/** A new line: what was under way on the old one counts for nothing. */
	attach(line: Line, have: Lengths): void {
		this.#line = line;
		for (const stream of streams) {
			const flow = this.#flows[stream];
			flow.have = have[stream];
			flow.sent = have[stream];
			flow.repeated = false;
		}
	}

	detach(): void {
		this.#line = undefined;
	}

	/** The spool got so many bytes more. */
	grew(bytes: number): void {
		this.#gathered += bytes;
		if (this.#line === undefined) return;
		if (this.#gathered >= flushBytes) {
			this.pump();
		} else if (!this.#flushPlanned) {
			this.#flushPlanned = true;
			void this.#clock.sleep(flushMs).then(() => {
				this.#flushPlanned = false;
				this.pump();
			});
		}
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
	}

	/** What the answer to a result says. */
	acknowledgedWithResult(have: Lengths): void {
		for (const stream of streams) {
			const flow = this.#flows[stream];
			if (this.#restInline) {
				// Nothing was under way behind that result, so this is exact.
				flow.have = have[stream];
				flow.sent = have[stream];
				flow.repeated = false;
			} else if (have[stream] > flow.have) {
				flow.have = have[stream];
				flow.sent = Math.max(flow.sent, flow.have);
			}
		}
		this.pump();
	}

	/** Called with every heartbeat: a flow that stands still although bytes are under way is repeated. */
	tick(): void {
		for (const stream of streams) {
			const flow = this.#flows[stream];
			if (flow.sent > flow.have && flow.have === flow.hadAtTick) flow.sent = flow.have;
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
		void this.#conclude(send).catch((error: unknown) => this.#complain(error));
	}

	async #conclude(send: (line: Line, rest: Remainder | undefined) => void): Promise<void> {
		for (;;) {
			const line = this.#line;
			if (line === undefined) return;
			const { lengths } = this.#spool;
			const from = { stdout: this.#flows.stdout.sent, stderr: this.#flows.stderr.sent };
			const left = streams.reduce((sum, one) => sum + Math.max(0, lengths[one] - from[one]), 0);
			if (left > limits.maxInlineOutputBytes) {
				this.#restInline = false;
				send(line, undefined);
				this.pump();
				return;
			}
			const rest: Remainder = {};
			for (const stream of streams) {
				const data = await this.#spool.read(stream, from[stream], left);
				if (data.length > 0) {
					rest[stream] = { offset: from[stream], data_b64: data.toString('base64') };
				}
			}
			// While we read, the line may have changed or an acknowledgement may have come: look again.
			if (line !== this.#line) continue;
			if (streams.some((stream) => this.#flows[stream].sent !== from[stream])) continue;
			for (const stream of streams) {
				this.#flows[stream].sent = Math.max(from[stream], lengths[stream]);
			}
			this.#restInline = true;
			send(line, rest);
			return;
		}
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
				this.#pumping = false;
			}
		})();
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
			const wanted = Math.min(
				line.maxOutputBytes,
				lengths[stream] - offset,
				windowBytes - (offset - flow.have),
			);
			if (wanted <= 0) continue;
			const data = await this.#spool.read(stream, offset, wanted);
			if (line !== this.#line || flow.sent !== offset) return true;
			if (data.length === 0) continue;
			flow.sent += data.length;
			line.sendOutput({ jobId: this.#jobId, epoch: this.#epoch, stream, offset, data });
			return true;
		}
		return false;
	}
}

function newFlow(): Flow {
	return { have: 0, sent: 0, repeated: false, hadAtTick: 0 };
}
