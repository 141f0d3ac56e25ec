/**
 * The numbers by which attempts are told apart, ever rising. They begin with the store's term, which rises with every
 * opening: no two openings hand out the same one.
 */
import type { Turns } from './turns';

const perTerm = 2 ** 32;
/** A robot that makes numbers up must not use them all up. */
const maxSeen = 2 ** 52;

export class Epochs {
	readonly #turns: Pick<Turns, 'deed'>;
	/** The term of this opening. */
	readonly #opened: number;
	/** On disk, or on its way there. */
	#term: number;
	#last: number;

	constructor(term: number, turns: Pick<Turns, 'deed'>) {
		this.#opened = this.#term = term;
		this.#last = term * perTerm;
		this.#turns = turns;
	}

	next(): number {
		return (this.#last += 1);
	}

	/**
	 * A robot names this one. All from here on are above it, at once: the next turn may already give that robot the very
	 * job. The term rises on disk as if the store had been opened that often, so that the next opening begins higher too.
	 */
	seen(epoch: number): void {
		if (epoch >= maxSeen) return;
		if (epoch > this.#last) this.#last = (Math.floor(epoch / perTerm) + 1) * perTerm;
		const raised = Math.floor(this.#last / perTerm);
		if (raised <= this.#term) return;
		this.#term = raised;
		this.#turns
			.deed('setMeta', { key: 'term', value: String(raised) })
			// Not on disk: it is tried again when one is named again.
			.catch(() => (this.#term = this.#opened));
	}
}
