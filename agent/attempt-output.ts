/**
 * What one attempt prints: into its spool, on to the service, and past those who watch it. Either it is handed over
 * here, or a keeper writes the spool and reports how far it has got.
 */
import { limits, type OutputLengths } from '../protocol';
import { type Stream, streams } from '../protocol/frames';
import type { Clock } from './clock';
import type { Outcome } from './executors/executor';
import { Onlooker } from './onlooker';
import type { Printed } from './outcomes';
import type { AttemptSpool, SpoolState } from './spool';
import { Tail } from './tail';

export interface OutputParts {
	spool: AttemptSpool;
	clock: Pick<Clock, 'monotonic'>;
	/** Sees each byte, in order. */
	saw(stream: Stream, chunk: Uint8Array): void;
	/** The spool has grown by this many bytes. */
	grew(bytes: number): void;
	/** Something failed; the attempt goes on without it. */
	failed(error: unknown, text: string): void;
}

export class AttemptOutput {
	readonly #parts: OutputParts;
	readonly #spool: AttemptSpool;
	readonly #onlooker: Onlooker;
	readonly #tails = {
		stdout: new Tail(limits.maxTailBytes),
		stderr: new Tail(limits.maxTailBytes),
	};
	/** Somebody else writes the spool, or did. */
	#isKept = false;
	#lastAt = 0;

	constructor(parts: OutputParts) {
		this.#parts = parts;
		this.#spool = parts.spool;
		this.#onlooker = new Onlooker(parts.spool, parts.saw);
	}

	get lengths(): OutputLengths {
		return this.#spool.lengths;
	}

	/** Monotonic; when output last arrived. */
	get lastAt(): number {
		return this.#lastAt;
	}

	/** Await it before reading more: that is the back-pressure. */
	async append(stream: Stream, chunk: Uint8Array): Promise<void> {
		this.#lastAt = this.#parts.clock.monotonic();
		this.#parts.saw(stream, chunk);
		this.#tails[stream].push(chunk);
		await this.#spool.append(stream, chunk);
		this.#parts.grew(chunk.length);
	}

	/** An earlier life of this agent had it kept, and nobody reports how far it got. */
	wasKept(): void {
		this.#isKept = true;
	}

	/** The keeper has written this much: it is searched for markers and questions, and sent on. */
	isKept(state: Partial<SpoolState>): void {
		const before = total(this.#spool.lengths);
		this.#isKept = true;
		this.#spool.follow(state);
		// What an earlier life of this agent has sent on is looked at again: its watchers are gone.
		void this.look();
		const more = total(this.#spool.lengths) - before;
		if (more <= 0) return;
		this.#lastAt = this.#parts.clock.monotonic();
		this.#parts.grew(more);
	}

	/** Resolves when everything there is so far has been seen. */
	async look(): Promise<void> {
		try {
			await this.#onlooker.look();
		} catch (error) {
			this.#unreadable(error);
		}
	}

	/** Nothing more comes; resolves when everything there is has been seen. */
	async close(): Promise<void> {
		try {
			await this.#spool.sync();
			await this.#spool.close();
		} catch (error) {
			// It ran, whatever the disk says of its output: the end must be told, never as a refusal.
			this.#parts.failed(error, 'spool cannot be closed');
		}
		if (this.#isKept) await this.look();
	}

	/** What there is to deliver. `kept`: what the keeper knows about it. */
	async sum(kept: Outcome['kept']): Promise<Printed> {
		if (this.#isKept) {
			if (kept === undefined) this.#recollect();
			await this.#recallTails(kept?.tails);
		}
		const sha256 = kept?.sha256 ?? (await this.#digests());
		const holes: Printed['holes'] = {};
		for (const stream of streams) {
			const found = this.#spool.holes(stream);
			if (found.length > 0) holes[stream] = found;
		}
		const { stdout, stderr } = this.#tails;
		const hasHoles = Object.keys(holes).length > 0;
		return {
			lengths: this.#spool.lengths,
			...(hasHoles && { holes }),
			...(Object.keys(sha256).length > 0 && { sha256 }),
			stdout: stdout.text,
			stderr: stderr.text,
			truncated: stdout.cut || stderr.cut || hasHoles,
		};
	}

	remove(): Promise<void> {
		return this.#spool.remove();
	}

	#recollect(): void {
		try {
			this.#spool.recollect();
		} catch (error) {
			this.#unreadable(error);
		}
	}

	/** The tails of streams that somebody else wrote: those in `known`, the others read from the spool. */
	async #recallTails(known: Partial<Record<Stream, Buffer>> = {}): Promise<void> {
		try {
			for (const stream of streams) {
				const tail = this.#tails[stream];
				const length = this.#spool.lengths[stream];
				if (known[stream] !== undefined) {
					tail.push(known[stream]);
					tail.total = length;
					continue;
				}
				const from = Math.max(0, length - limits.maxTailBytes);
				for (let at = from; at < length;) {
					const { offset, data } = await this.#spool.read(stream, at, length - at);
					if (data.length === 0) break;
					tail.push(data);
					at = offset + data.length;
				}
				tail.total = length;
			}
		} catch (error) {
			this.#unreadable(error);
		}
	}

	/** Digests of what there is to deliver; without one, the service takes a stream as it comes. */
	async #digests(): Promise<NonNullable<Printed['sha256']>> {
		const sha256: Printed['sha256'] = {};
		for (const stream of streams) {
			try {
				const digest = await this.#spool.digest(stream);
				if (digest !== undefined) sha256[stream] = digest;
			} catch (error) {
				this.#unreadable(error);
			}
		}
		return sha256;
	}

	#unreadable(error: unknown): void {
		this.#parts.failed(error, 'output cannot be read from the spool');
	}
}

export function total({ stdout, stderr }: OutputLengths): number {
	return stdout + stderr;
}
