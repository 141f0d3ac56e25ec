/**
 * Which of the occurrences that piled up in the service while nobody took them start the workflow after all. The rule is
 * that of docs/schedules.md for missed times. How late one is counts from when the service told of it: what the
 * service itself has made up late is not late a second time.
 */
import type { FleetEvent, Schedule } from '../../protocol';

export type CatchUp = Pick<Schedule, 'missed' | 'catchUpMs' | 'catchUpMax'>;

/** This late is still in time. */
const graceMs = 60_000;

export class Backlog {
	readonly #catchUp: CatchUp | 'drop';
	readonly #now: number;
	/** What comes after it did not pile up. */
	#horizon = 0;
	/** Asked for by a person: runs by hand, and backfills. */
	readonly #asked = new Set<number>();
	readonly #inTime: number[] = [];
	/** Oldest first, never more than may be made up. */
	readonly #late: number[] = [];

	/** `drop`: nothing of it starts anything. */
	constructor(catchUp: CatchUp | 'drop', now: number) {
		this.#catchUp = catchUp;
		this.#now = now;
	}

	get horizon(): number {
		return this.#horizon;
	}

	/** Events in their order. */
	add(events: readonly FleetEvent[]): void {
		for (const event of events) {
			this.#horizon = Math.max(this.#horizon, event.cursor);
			if (event.type !== 'schedule.due' || this.#catchUp === 'drop') continue;
			const { missed, catchUpMs, catchUpMax } = this.#catchUp;
			const lateMs = this.#now - event.at;
			if (event.data.origin !== 'planned') this.#asked.add(event.cursor);
			else if (lateMs <= graceMs) this.#inTime.push(event.cursor);
			else if (missed !== 'none' && lateMs <= catchUpMs) {
				this.#late.push(event.cursor);
				if (this.#late.length > (missed === 'all' ? catchUpMax : 1)) this.#late.shift();
			}
		}
	}

	/** Whether an event starts the workflow; true for all that came later. */
	wants({ cursor }: FleetEvent): boolean {
		if (cursor > this.#horizon || this.#asked.has(cursor)) return true;
		if (this.#catchUp === 'drop') return false;
		if (this.#inTime.includes(cursor)) return true;
		// The newest of all together: what is in time leaves less room for what is late.
		const most = this.#catchUp.missed === 'all' ? this.#catchUp.catchUpMax : 1;
		const room = Math.max(0, most - this.#inTime.length);
		return room > 0 && this.#late.slice(-room).includes(cursor);
	}
}
