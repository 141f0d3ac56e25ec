/** The progress line: redrawn in place for a person, written now and then to a file. */
import type { Terminal } from '../terminal';
import type { Stage } from './stage';

const drawMs = 1_000;
const writeMs = 30_000;
const back = '\r';
const restOfLine = '\u001b[K';

/** Runs until it is over; `line` is given the milliseconds since it was last asked. */
export async function showProgress(
	{ err, isTerminal = false }: Pick<Terminal, 'err' | 'isTerminal'>,
	stage: Pick<Stage, 'monotonic' | 'sleep'>,
	line: (sinceMs: number) => string,
	over: AbortSignal,
): Promise<void> {
	for (let before = stage.monotonic(); ;) {
		await stage.sleep(isTerminal ? drawMs : writeMs, over);
		if (over.aborted) break;
		const now = stage.monotonic();
		const text = line(now - before);
		before = now;
		err(isTerminal ? `${back}${text}${restOfLine}` : `${text}\n`);
	}
	if (isTerminal) err(`${back}${restOfLine}`);
}

/** Says how fast something has grown since it was last asked. */
export class Speed {
	#before = 0;

	perSecond(total: number, sinceMs: number): string {
		const grown = total - this.#before;
		this.#before = total;
		return `${(sinceMs > 0 ? (grown * 1_000) / sinceMs : 0).toFixed(1)} jobs/s`;
	}
}

/** `90 s`, `12 min`, `3.5 h`. */
export function timeText(ms: number): string {
	const seconds = ms / 1_000;
	if (seconds < 120) return `${round(seconds)} s`;
	return seconds < 7_200 ? `${round(seconds / 60)} min` : `${round(seconds / 3_600)} h`;
}

/** Three significant digits. */
function round(value: number): string {
	return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** Grouped by thousands. */
export const count = (value: number) => value.toLocaleString('en-US');
