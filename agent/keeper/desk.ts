/**
 * Does what an agent says, and tells it what happens, one agent at a time. News of output is only a
 * hint: it is gathered, and waits while the agent does not listen, so that a flood costs no memory.
 */
import { streams, type Stream } from '../../protocol/frames';
import type { Clock } from '../clock';
import { type ExitStatus, SpawnFailure } from '../drivers/process';
import type { SpoolState } from '../spool';
import type { Keep, KeepListener } from './keep';
import { type AgentWord, type End, keeperVersion, type KeeperWord, keyOf } from './words';

/** Between two pieces of news of the same flood. */
const newsMs = 20;

/** Says a word; false = it is taken, but no more may come until `drained`. */
export type Say = (word: KeeperWord) => boolean;

export class Desk implements KeepListener {
	readonly #keep: Keep;
	readonly #clock: Clock;
	readonly #complain: (text: string) => void;
	readonly #news = new Map<string, Set<Stream>>();
	#say: Say | undefined;
	#full = false;
	#quietUntil = 0;
	#planned = false;

	constructor(keep: Keep, clock: Clock, complain: (text: string) => void = () => undefined) {
		this.#keep = keep;
		this.#clock = clock;
		this.#complain = complain;
		keep.listener = this;
	}

	attach(say: Say): void {
		this.#say = say;
		this.#full = false;
		this.#news.clear();
		say({ say: 'welcome', version: keeperVersion, pid: process.pid, held: this.#keep.held });
	}

	detach(): void {
		this.#say = undefined;
		void this.#keep.harden();
	}

	drained(): void {
		this.#full = false;
		this.#plan();
	}

	/** Never throws: a word that cannot be followed must not take down those after it. */
	hear(word: AgentWord): void {
		try {
			this.#hear(word);
		} catch (error) {
			this.#cannot(word, error);
		}
	}

	#hear(word: AgentWord): void {
		switch (word.say) {
			case 'start':
				this.#start(word).catch((error: unknown) => this.#cannot(word, error));
				return;
			case 'input': {
				const { key, id, offset, data, secret } = word;
				this.#keep.input(key, offset, Buffer.from(data, 'base64'), secret).then(
					(have) => this.#tell({ say: 'have', key, id, have }),
					(error: unknown) => this.#cannotType(word, error),
				);
				return;
			}
			case 'end-input': {
				const { key, id, offset } = word;
				try {
					this.#tell({ say: 'have', key, id, have: this.#keep.endInput(key, offset) });
				} catch (error) {
					this.#cannotType(word, error);
				}
				return;
			}
			case 'resize':
				return this.#keep.resize(word.key, word.size);
			case 'give-up':
				return this.#keep.giveUp(word.key);
			case 'take':
				return this.#keep.take(word.key);
			default:
				return; // of a newer agent
		}
	}

	output(key: string, stream: Stream): void {
		const known = this.#news.get(key);
		if (known) known.add(stream);
		else this.#news.set(key, new Set([stream]));
		this.#plan();
	}

	exited(key: string, status: ExitStatus): void {
		this.#tell({ say: 'exited', key, status });
	}

	ended(key: string, end: End): void {
		this.#news.delete(key);
		this.#tell({ say: 'ended', key, end });
		if (this.#say === undefined) void this.#keep.harden();
	}

	async #start({ order }: AgentWord & { say: 'start' }): Promise<void> {
		const key = keyOf(order);
		try {
			this.#tell({ say: 'started', key, ...(await this.#keep.start(order)) });
		} catch (error) {
			// Whatever went wrong, somebody waits for the answer. Only a program that was certainly not called may be
			// reported as such.
			const { message } = error as Error;
			const why = error instanceof SpawnFailure ? 'spawn' : 'again';
			this.#tell({ say: 'not-started', key, why, message });
		}
	}

	/** Somebody waits for the answer: the same as for an unknown program, which takes nothing any more. */
	#cannotType(word: AgentWord & { say: 'input' | 'end-input' }, error: unknown): void {
		this.#cannot(word, error);
		this.#tell({ say: 'have', key: word.key, id: word.id, have: 0 });
	}

	#cannot({ say }: AgentWord, error: unknown): void {
		this.#complain(`"${say}" cannot be followed: ${(error as Error).message}`);
	}

	#tell(word: KeeperWord): void {
		if (this.#say !== undefined && !this.#say(word)) this.#full = true;
	}

	#plan(): void {
		if (this.#planned || this.#full || this.#say === undefined || this.#news.size === 0) return;
		this.#planned = true;
		const waitMs = this.#quietUntil - this.#clock.monotonic();
		const tell = (): void => {
			this.#planned = false;
			this.#tellNews();
		};
		if (waitMs <= 0) setImmediate(tell);
		else void this.#clock.sleep(waitMs).then(tell);
	}

	#tellNews(): void {
		this.#quietUntil = this.#clock.monotonic() + newsMs;
		for (const [key, changed] of this.#news) {
			if (this.#full) return;
			this.#news.delete(key);
			const state: Partial<SpoolState> = {};
			for (const stream of streams) {
				if (changed.has(stream)) state[stream] = this.#keep.stateOf(key, stream);
			}
			this.#tell({ say: 'output', key, state });
		}
	}
}
