/**
 * Reads what somebody else writes into the spool, for those who watch the output: in order, each byte once,
 * a piece at a time, so that a flood waits on disk and not in memory. From the beginning, in a later life of
 * the agent too: what it learned before was in memory.
 */
import type { OutputLengths } from '../protocol';
import { type Stream, streams } from '../protocol/frames';
import type { AttemptSpool } from './spool';

const pieceBytes = 64 * 1024;

export class Onlooker {
	readonly #spool: Pick<AttemptSpool, 'lengths' | 'read'>;
	readonly #saw: (stream: Stream, chunk: Uint8Array) => void;
	readonly #seen: OutputLengths = { stdout: 0, stderr: 0 };
	#isLooking = false;
	/** Who waits, and until how much has been seen. */
	#waiting: { lengths: OutputLengths; seen: PromiseWithResolvers<void> }[] = [];

	constructor(
		spool: Pick<AttemptSpool, 'lengths' | 'read'>,
		saw: (stream: Stream, chunk: Uint8Array) => void,
	) {
		this.#spool = spool;
		this.#saw = saw;
	}

	/**
	 * There is more. Resolves when all there is now has been seen, whatever a flood brings after it; rejects when
	 * it cannot be read.
	 */
	look(): Promise<void> {
		const seen = Promise.withResolvers<void>();
		this.#waiting.push({ lengths: { ...this.#spool.lengths }, seen });
		if (!this.#isLooking) void this.#look();
		return seen.promise;
	}

	async #look(): Promise<void> {
		this.#isLooking = true;
		try {
			for (let behind = true; behind;) {
				behind = false;
				for (const stream of streams) {
					const from = this.#seen[stream];
					const length = Math.min(pieceBytes, this.#spool.lengths[stream] - from);
					if (length <= 0) continue;
					const { offset, data } = await this.#spool.read(stream, from, length);
					const seen = offset + data.length;
					this.#seen[stream] = seen;
					// Empty when it fell into a hole, or the disk does not give it yet.
					if (data.length > 0) this.#saw(stream, data);
					behind ||= seen > from;
				}
				if (behind) this.#tellThoseWhoSawAll();
			}
			this.#isLooking = false;
			for (const { seen } of this.#waiting.splice(0)) seen.resolve();
		} catch (error) {
			this.#isLooking = false;
			for (const { seen } of this.#waiting.splice(0)) seen.reject(error);
		}
	}

	#tellThoseWhoSawAll(): void {
		this.#waiting = this.#waiting.filter(({ lengths, seen }) => {
			if (streams.some((stream) => this.#seen[stream] < lengths[stream])) return true;
			seen.resolve();
			return false;
		});
	}
}
