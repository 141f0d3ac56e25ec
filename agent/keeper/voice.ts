/**
 * Says words on a line, one JSON object each. Every piece of text wakes the other side, so what nobody waits
 * for travels with the next word, or a moment later.
 */
import type { Clock } from '../clock';
import { type AgentWord, type KeeperWord, patientWords } from './words';

/** How long a patient word waits for company. */
const patienceMs = 5;

export class Voice {
	readonly #write: (text: string) => boolean;
	readonly #clock: Clock;
	#waiting = '';
	#planned = false;

	/** `write`: false = it is taken, but no more may come until the line has drained. */
	constructor(write: (text: string) => boolean, clock: Clock) {
		this.#write = write;
		this.#clock = clock;
	}

	/** Answers as `write` does. */
	say(word: AgentWord | KeeperWord): boolean {
		this.#waiting += `${JSON.stringify(word)}\n`;
		if (!patientWords.has(word.say)) return this.flush();
		if (this.#planned) return true;
		this.#planned = true;
		void this.#clock.sleep(patienceMs).then(() => {
			this.#planned = false;
			this.flush();
		});
		return true;
	}

	/** Sends what waits. */
	flush(): boolean {
		const text = this.#waiting;
		this.#waiting = '';
		return text === '' || this.#write(text);
	}
}
