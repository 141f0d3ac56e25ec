/**
 * Where one keeper sits: its socket in the folder, the line to it, and when another may be started there. To
 * call a program stops a keeper for a moment, so an agent that calls many has some of them. They share the files of
 * ends, so an attempt is started once, whichever of them is asked.
 */
import type { Clock } from '../clock';
import { seatOf } from './places';
import { connect, type Ears, launch, type Wire } from './wire';
import type { KeeperWord } from './words';

/** A machine that could start none is not asked again with every job. */
const relaunchMs = 60_000;

export interface SeatParts {
	folder: string;
	/** The file of the keeper's program; undefined = there can be none. */
	program: string | undefined;
	clock: Clock;
	log: Record<'info' | 'warn', (facts: object, text: string) => void>;
}

export class Seat implements Ears {
	readonly #parts: SeatParts;
	readonly #number: number;
	readonly #ears: Ears;
	/** When something was last started there; monotonic. */
	usedAt = -Infinity;
	#wire: Wire | undefined;
	#mute = false;
	#launchAt = -Infinity;
	#launchFailed = false;

	constructor(parts: SeatParts, number: number, ears: Ears) {
		this.#parts = parts;
		this.#number = number;
		this.#ears = ears;
	}

	/** To whoever sits there. */
	get wire(): Wire | undefined {
		return this.#wire;
	}

	/** Somebody listens there and does not answer: what it may still do is unknown. */
	get isMute(): boolean {
		return this.#mute;
	}

	/** There should be somebody, and nobody could be started. */
	get hasFailed(): boolean {
		return this.#launchFailed;
	}

	/** Looks whether an earlier agent left somebody there. */
	async connect(): Promise<void> {
		const { folder, clock, log } = this.#parts;
		const found = await connect(folder, seatOf(this.#number), clock, this);
		this.#mute = found === 'mute';
		if (found === 'live') log.info({}, 'keeper found');
		if (this.#mute) log.warn({}, 'the keeper of an earlier agent does not answer');
	}

	/** Starts one there, unless somebody is or it failed a moment ago. */
	async launch(): Promise<void> {
		const { folder, program, clock, log } = this.#parts;
		const now = clock.monotonic();
		if (this.#wire !== undefined || program === undefined || now < this.#launchAt) return;
		const seat = seatOf(this.#number);
		try {
			await launch(folder, seat, program, clock);
			if ((await connect(folder, seat, clock, this)) !== 'live') {
				throw new Error('it cannot be reached');
			}
			this.#launchFailed = false;
		} catch (error) {
			this.#launchAt = now + relaunchMs;
			this.#launchFailed = true;
			const reason = (error as Error).message;
			log.warn({ reason }, 'there can be no keeper, so jobs will not outlive this agent');
		}
	}

	/** It may leave, if it holds nothing. */
	async close({ leave }: { leave: boolean }): Promise<void> {
		const wire = this.#wire;
		this.#wire = undefined;
		if (leave) wire?.say({ say: 'leave' });
		await wire?.close();
	}

	hear(word: KeeperWord, wire: Wire): void {
		if (word.say === 'welcome') this.#wire = wire;
		this.#ears.hear(word, wire);
	}

	gone(wire: Wire): void {
		if (wire !== this.#wire) return;
		this.#wire = undefined;
		this.#ears.gone(wire);
	}
}
