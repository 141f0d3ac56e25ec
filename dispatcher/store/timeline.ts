/**
 * The moves of a job as text in its row: JSON lists joined by commas. Every move of every job appends to
 * it, so the moves that nearly all jobs make are one letter long.
 *
 *   ["q"]                                  submitted, queued at once ("p": pending); when and by whom is the job's
 *   [1763700000000,"a",1]                  one of `usual`, of attempt 1
 *   [1763700000000,"a",1,[…]]              the same, with how the robot was chosen (core/choice)
 *   [1763700000000,"failed","why","who",1] any other move
 */
import type { JobState } from '../../protocol';
import type { NewAttempt, StoredMove } from './store';

/** Who writes: 'robot' stands for the robot of the move's attempt. */
type Line = ['q' | 'p'] | Usual | Whole;
type Usual = [at: number, letter: string, attempt: number, choice?: unknown];
type Whole = [at: number, to: JobState, reason: string, by: string, attempt: number | null];

const usual: Record<string, Pick<StoredMove, 'to' | 'reason' | 'by'>> = {
	a: { to: 'dispatched', reason: 'assigned', by: 'dispatcher' },
	r: { to: 'running', reason: 'accepted', by: 'robot' },
	c: { to: 'completed', reason: 'completed', by: 'robot' },
	x: { to: 'failed', reason: 'exit_code', by: 'robot' },
};
const letters = new Map(
	Object.entries(usual).map(([letter, { to, reason, by }]) => [`${to} ${reason} ${by}`, letter]),
);

export function submittedLine(state: 'pending' | 'queued'): string {
	return state === 'queued' ? '["q"]' : '["p"]';
}

/** With the comma that joins it to what is there. */
export function moveLine(
	at: number,
	to: JobState,
	reason: string,
	by: string,
	attempt: number | null,
): string {
	const letter = attempt === null ? undefined : letters.get(`${to} ${reason} ${by}`);
	return letter === undefined
		? `,${JSON.stringify([at, to, reason, by, attempt])}`
		: `,[${at},"${letter}",${attempt}]`;
}

export function assignedLine({
	at,
	number,
	choice,
}: Pick<NewAttempt, 'at' | 'number' | 'choice'>): string {
	return choice === undefined ? `,[${at},"a",${number}]` : `,[${at},"a",${number},${choice}]`;
}

export function choicesOf(lines: string): { attempt: number; choice: string }[] {
	return (JSON.parse(`[${lines}]`) as Line[]).flatMap((line) =>
		line.length === 4 ? { attempt: line[2], choice: JSON.stringify(line[3]) } : [],
	);
}

export function movesOf(
	lines: string,
	job: { createdAt: number; createdBy: string },
	robotOf: (attempt: number) => string | undefined,
): StoredMove[] {
	let from: JobState | null = null;
	return (JSON.parse(`[${lines}]`) as Line[]).map((line) => {
		const move = { from, ...moveOf(line, job) };
		const robot = move.by === 'robot' && move.attempt !== null ? robotOf(move.attempt) : undefined;
		from = move.to;
		return robot === undefined ? move : { ...move, by: `robot:${robot}` };
	});
}

function moveOf(
	line: Line,
	job: { createdAt: number; createdBy: string },
): Omit<StoredMove, 'from'> {
	if (line.length === 1) {
		const to = line[0] === 'q' ? 'queued' : 'pending';
		return { at: job.createdAt, to, reason: 'submitted', by: job.createdBy, attempt: null };
	}
	if (line.length !== 5) return { at: line[0], ...usual[line[1]]!, attempt: line[2] };
	const [at, to, reason, by, attempt] = line;
	return { at, to, reason, by, attempt };
}
