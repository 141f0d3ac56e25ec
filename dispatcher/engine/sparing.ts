/** What we log because of one robot’s words: few lines a minute, however much it says, and how many were left out. */
const linesPerMinute = 20;
/** How much of a text that it says goes into one line. */
export const maxLoggedChars = 500;
const minuteMs = 60_000;

export class Sparing {
	#since = -Infinity;
	#lines = 0;
	#leftOut = 0;

	/** What to add to a line that may be written now; undefined = none may. `now` is monotonic. */
	line(now: number): { leftOut?: number } | undefined {
		if (now - this.#since >= minuteMs) {
			this.#since = now;
			this.#lines = 0;
		}
		if (this.#lines >= linesPerMinute) {
			this.#leftOut += 1;
			return undefined;
		}
		this.#lines += 1;
		const leftOut = this.#leftOut;
		this.#leftOut = 0;
		return leftOut === 0 ? {} : { leftOut };
	}
}
