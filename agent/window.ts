/**
 * How much output this robot may have under way, unacknowledged, for all its attempts together. The service
 * sets the size and may change it; 0 = it throws away what comes, so nothing is sent until it allows more,
 * and then all of that is sent again. Attempts that want more share it in equal parts.
 */

/** One who sends. */
export interface Sender {
	/** Sent and not acknowledged, in bytes. */
	readonly underWay: number;
	/** There may be room again. */
	pump(): void;
	/** What is under way was thrown away: begin again at what was acknowledged. */
	rewind(): void;
}

export class Window {
	readonly #senders = new Set<Sender>();
	/** Those that found no room. */
	readonly #waiting = new Set<Sender>();
	#size = 0;

	join(sender: Sender): void {
		this.#senders.add(sender);
	}

	leave(sender: Sender): void {
		this.#senders.delete(sender);
		this.#waiting.delete(sender);
		this.freed();
	}

	/** A new line: nothing is under way on it. */
	open(size: number): void {
		this.#size = size;
	}

	/** The service says how much it takes from now on. */
	credit(size: number): void {
		const shut = this.#size === 0;
		this.#size = size;
		if (shut && size > 0) for (const sender of this.#senders) sender.rewind();
		this.freed();
	}

	get shut(): boolean {
		return this.#size === 0;
	}

	/** Bytes that this sender may send now; when there are none it is pumped later. */
	roomFor(sender: Sender): number {
		let underWay = 0;
		let others = 0;
		for (const one of this.#senders) {
			underWay += one.underWay;
			if (one !== sender && (one.underWay > 0 || this.#waiting.has(one))) others += 1;
		}
		const share = Math.floor(this.#size / (1 + others)) - sender.underWay;
		const room = Math.min(share, this.#size - underWay);
		if (room > 0) return room;
		this.#waiting.add(sender);
		return 0;
	}

	/** Something was acknowledged. */
	freed(): void {
		const waiting = [...this.#waiting];
		this.#waiting.clear();
		for (const sender of waiting) sender.pump();
	}
}
