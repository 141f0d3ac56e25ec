/**
 * What was said and seen during a run with harm, and the laws it must obey. Three parties write:
 * the submitter (what it asked and what it was told), the robots (what their commands and agents
 * did), the store (what can be read of it, during the run and after). `violations` compares them;
 * it is pure, so every law has a test that breaks it.
 */
import { createHash } from 'node:crypto';
import { canMove, isFinal, type Attempt, type Job, type TimelineEntry } from '../../protocol';

/** The submitter: `invoke` before it asks, then `ok` with what it was told, or `info` when nobody answered. */
export interface SubmitterLine {
	at: number;
	/** `retry` makes a job too; `move` is one by hand. */
	op: 'submit' | 'cancel' | 'retry' | 'move';
	type: 'invoke' | 'ok' | 'info' | 'fail';
	key: string;
	/**
	 * Asked only once, because it has no idempotency key: without an answer nobody can know. Of a refusal: it is right,
	 * and is not asked again.
	 */
	once?: true;
	jobId?: string;
	/** Of an answered cancel: the job will not be started any more. */
	cancelRequested?: boolean;
	text?: string;
}

/** Written by the command itself: one synced line when it starts, one before it ends. */
export interface CommandLine {
	job: string;
	attempt: number;
	pid: number;
	robot: string;
	event: 'start' | 'end';
	/** The exit code that follows an `end`. */
	code: number;
}

/** The agent's log: how it saw an attempt end, after it was journalled and before it was told. */
export interface AgentLine {
	robot: string;
	job: string;
	attempt: number;
	epoch: number;
	state: string;
	cause: string | null;
}

/** One look at a job through the API during the run. */
export interface SeenLine {
	at: number;
	jobId: string;
	state: Job['state'];
	cause: string | null;
	attempt: number;
	endedAt: number | null;
	/** Digest of the result. */
	result: string | null;
}

/** What is stored of a job when all is quiet. */
export interface StoredTruth {
	job: Job;
	attempts: Attempt[];
	timeline: TimelineEntry[];
	output: { stdout: Buffer; stderr: Buffer };
}

/** The attempts table, read from the file. */
export interface AttemptRow {
	jobId: string;
	number: number;
	epoch: number;
	state: string;
	hold: number;
	results: number;
	lateResults: number;
}

/** A robot's journal, read from the file. */
export interface JournalRow {
	robot: string;
	jobId: string;
	epoch: number;
	fate: string;
}

export interface Histories {
	submitter: SubmitterLine[];
	commands: CommandLine[];
	agents: AgentLine[];
	seen: SeenLine[];
	store: StoredTruth[];
	attemptRows: AttemptRow[];
	journalRows: JournalRow[];
	/** Names of robots by id. */
	robots: Map<string, string>;
	/** Names of robots that lost a journal: what it held they cannot know. */
	forgetful?: ReadonlySet<string>;
	/** Robots were killed, but never what keeps their commands: then no robot may be unsure. */
	kept?: boolean;
	/** The key that a stored job was submitted with. */
	keyOf(job: Job): string | undefined;
	/** What the command of this job prints in this attempt when it comes to its end. */
	printed(job: Job, attempt: number): { stdout: Buffer; stderr: Buffer };
}

export interface Violation {
	/** Number of the invariant in the reliability notes, section 10. */
	law: string;
	jobId: string;
	text: string;
}

export function violations(histories: Histories): Violation[] {
	const found: Violation[] = [];
	const breaks = (law: string, jobId: string, text: string) => found.push({ law, jobId, text });
	const startsOf = group(
		histories.commands.filter(({ event }) => event === 'start'),
		({ job, attempt }) => `${job}/${attempt}`,
	);
	const endsOf = group(
		histories.commands.filter(({ event }) => event === 'end'),
		({ job, attempt }) => `${job}/${attempt}`,
	);
	const context = { histories, breaks, startsOf, endsOf };
	promisesOfSubmit(context);
	finalOnce(context);
	startedOnce(context);
	for (const truth of histories.store) {
		legalTimeline(truth, context);
		risingAttempts(truth, context);
		resultAsRecorded(truth, context);
		cancelledStays(truth, context);
		wholeOutput(truth, context);
	}
	settledBooks(context);
	return found;
}

interface Context {
	histories: Histories;
	breaks(law: string, jobId: string, text: string): void;
	/** By `job/attempt`. */
	startsOf: Map<string, CommandLine[]>;
	endsOf: Map<string, CommandLine[]>;
}

/** I1, I2, I13: what was acknowledged is there, what is there was asked for, one job a key. */
function promisesOfSubmit({ histories, breaks }: Context): void {
	const { submitter, store, keyOf } = histories;
	const stored = new Set(store.map(({ job }) => job.jobId));
	const asked = new Map<string, { once: boolean }>();
	const told = new Map<string, string>();
	for (const { op, type, key, jobId, text, once = false } of submitter) {
		if (op !== 'submit' && op !== 'retry') continue;
		if (type === 'invoke') asked.set(key, { once });
		if (type === 'fail' && once) asked.set(key, { once });
		else if (type === 'fail') breaks('I1', '-', `submit ${key} was refused: ${text}`);
		if (type !== 'ok') continue;
		if (!stored.has(jobId!)) breaks('I1', jobId!, `acknowledged for ${key}, but not in the store`);
		const before = told.get(key) ?? jobId!;
		if (before !== jobId) breaks('I13', jobId!, `${key} was first acknowledged as ${before}`);
		told.set(key, before);
	}
	for (const [key, { once }] of asked) {
		if (!told.has(key) && !once) breaks('I1', '-', `submit ${key} was never acknowledged`);
	}
	// Children come of their parents.
	const submitted = store.filter(({ job }) => job.parentId === null);
	const madeOf = group(submitted, ({ job }) => keyOf(job) ?? '');
	for (const [key, made] of madeOf) {
		if (!asked.has(key)) {
			for (const { job } of made) breaks('I2', job.jobId, 'nobody submitted it');
		} else if (made.length > 1) {
			const ids = made.map(({ job }) => job.jobId).join(', ');
			breaks('I13', made[0]!.job.jobId, `${key} made ${made.length} jobs: ${ids}`);
		} else if (told.get(key) !== undefined && told.get(key) !== made[0]!.job.jobId) {
			breaks('I13', made[0]!.job.jobId, `${key} was acknowledged as ${told.get(key)}`);
		}
	}
	const known = new Set(store.map(({ job }) => job.jobId));
	for (const { job } of histories.commands) {
		if (!known.has(job)) breaks('I2', job, 'a command ran for a job that is not in the store');
	}
}

/** I3: nobody who saw a final state ever sees another one, not even after a crash. */
function finalOnce({ histories, breaks }: Context): void {
	const last = new Map<string, SeenLine>();
	const ends = histories.store.map(({ job }) => seenOf(job, Infinity));
	for (const line of [...histories.seen, ...ends]) {
		const before = last.get(line.jobId);
		last.set(line.jobId, line);
		if (!before) continue;
		if (line.attempt < before.attempt) {
			breaks('I5', line.jobId, `attempt ${before.attempt} was seen, then ${line.attempt}`);
		}
		if (!isFinal(before.state)) continue;
		const facts = ({ state, cause, attempt, endedAt }: SeenLine) =>
			`${state}/${cause} of attempt ${attempt} at ${endedAt}`;
		if (facts(line) !== facts(before)) {
			breaks('I3', line.jobId, `seen as ${facts(before)}, later as ${facts(line)}`);
		} else if (line.result !== before.result) {
			breaks('I3', line.jobId, `its result changed after it was ${line.state}`);
		}
	}
}

/** I4: at most one start for each attempt, on all machines together, and only where it was sent. */
function startedOnce({ histories, breaks, startsOf }: Context): void {
	const attemptsOf = new Map(
		histories.store.flatMap(({ job, attempts }) =>
			attempts.map((attempt): [string, Attempt] => [`${job.jobId}/${attempt.number}`, attempt]),
		),
	);
	for (const [key, starts] of startsOf) {
		const { job, attempt: number } = starts[0]!;
		if (starts.length > 1) {
			const where = starts.map(({ robot, pid }) => `${robot} pid ${pid}`).join(', ');
			breaks('I4', job, `attempt ${number} started ${starts.length} times: ${where}`);
		}
		const attempt = attemptsOf.get(key);
		if (!attempt) {
			breaks('I4', job, `attempt ${number} started, but the store does not know it`);
			continue;
		}
		const robot = histories.robots.get(attempt.robotId);
		for (const start of starts) {
			if (start.robot === robot) continue;
			breaks('I4', job, `attempt ${number} was sent to ${robot} and started on ${start.robot}`);
		}
		if (attempt.outcome === 'not-started' || attempt.outcome === 'refused') {
			breaks('I4', job, `attempt ${number} counts as ${attempt.outcome}, but it started`);
		}
	}
}

/** What a person did to a job, or its program asked, beside its moves. */
function isNote({ from, to, reason, attempt }: TimelineEntry): boolean {
	return from === to && ((attempt === null && notes.test(reason)) || reason.startsWith('asks: '));
}
const notes = /^(retried as |dismissed$|priority \w+ → |new target|held by |released|restored)/;

/** I3, I11: legal moves only, each from where the last one ended, one final move, and it is the last. */
function legalTimeline({ job, timeline: lines }: StoredTruth, { breaks }: Context): void {
	const timeline = lines.filter((line) => !isNote(line));
	const tale = timeline.map(({ to }) => to).join(' → ');
	if (timeline[0]?.from !== null) breaks('I11', job.jobId, `it does not begin at nothing: ${tale}`);
	for (const [i, { from, to }] of timeline.entries()) {
		if (i === 0) continue;
		if (from !== timeline[i - 1]!.to) {
			breaks(
				'I11',
				job.jobId,
				`a move from ${from} follows one to ${timeline[i - 1]!.to}: ${tale}`,
			);
		}
		if (from === null || !canMove(from, to)) {
			breaks('I11', job.jobId, `${from} → ${to} is no legal move: ${tale}`);
		}
	}
	const finals = timeline.filter(({ to }) => isFinal(to)).length;
	if (finals !== 1) breaks('I3', job.jobId, `${finals} final moves: ${tale}`);
	if (timeline.at(-1)?.to !== job.state) {
		breaks('I3', job.jobId, `the job is ${job.state}, its last move says ${tale}`);
	}
	if (!isFinal(job.state)) breaks('I3', job.jobId, `it never ended: ${tale}`);
}

/** I5, I8: numbers and epochs rise, and an attempt begins only after the one before is over. */
function risingAttempts({ job, attempts }: StoredTruth, { histories, breaks }: Context): void {
	for (const [i, attempt] of attempts.entries()) {
		const before = attempts[i - 1];
		if (attempt.number !== i + 1) {
			breaks('I5', job.jobId, `attempt ${attempt.number} stands where ${i + 1} belongs`);
		}
		if (attempt.state !== 'ended') breaks('I8', job.jobId, `attempt ${attempt.number} is not over`);
		if (!before) continue;
		if (attempt.epoch <= before.epoch) {
			breaks('I5', job.jobId, `epoch ${attempt.epoch} follows ${before.epoch}`);
		}
		if (before.endedAt === null || attempt.assignedAt < before.endedAt) {
			breaks('I8', job.jobId, `attempt ${attempt.number} began before ${before.number} was over`);
		}
	}
	if (job.attempt !== attempts.length) {
		breaks('I5', job.jobId, `the job is at attempt ${job.attempt}, there are ${attempts.length}`);
	}
	// A process that was reported gone must not write after the next attempt has begun to.
	let latest = 0;
	for (const line of histories.commands) {
		if (line.job !== job.jobId) continue;
		const result = attempts[line.attempt - 1]?.result;
		if (line.attempt < latest && result?.processGone === true) {
			breaks('I8', job.jobId, `attempt ${line.attempt} still wrote after ${latest} had started`);
		}
		latest = Math.max(latest, line.attempt);
	}
}

/** I6: what is stored is what the robot recorded, and what it recorded is what the command did. */
function resultAsRecorded(
	{ job, attempts }: StoredTruth,
	{ histories, breaks, startsOf, endsOf }: Context,
): void {
	for (const attempt of attempts) {
		const key = `${job.jobId}/${attempt.number}`;
		const starts = startsOf.get(key) ?? [];
		const ends = endsOf.get(key) ?? [];
		const named = `attempt ${attempt.number}`;
		if (ends.length > starts.length) breaks('I6', job.jobId, `${named} ended more than it started`);
		if (attempt.outcome === 'completed' || attempt.cause === 'exit_code') {
			const code = attempt.outcome === 'completed' ? 0 : attempt.result?.exitCode;
			if (ends.length !== 1 || ends[0]!.code !== code) {
				const wrote = ends.map((end) => end.code).join(', ') || 'nothing';
				breaks('I6', job.jobId, `${named} is stored with exit code ${code}, it wrote ${wrote}`);
			}
			if (attempt.result?.exitCode !== code) {
				breaks('I6', job.jobId, `${named}: exit code ${attempt.result?.exitCode} in the result`);
			}
		}
		if (attempt.lateResult !== null && attempt.result !== null) {
			breaks('I6', job.jobId, `${named} has a result and a late one`);
		}
		const said = histories.agents.filter(
			(line) => line.job === job.jobId && line.epoch === attempt.epoch,
		);
		for (const { state, cause, robot } of said) {
			const late = attempt.lateResult !== null;
			if (histories.kept && cause === 'unknown') {
				breaks('I6', job.jobId, `${named}: ${robot} does not know, though all was kept`);
			}
			if (cause === 'infrastructure' && starts.length > 0) {
				breaks('I4', job.jobId, `${named}: ${robot} says it never started, but it did`);
			}
			if (attempt.result === null && histories.forgetful?.has(robot)) continue;
			if (late || (state === attempt.outcome && cause === attempt.cause)) continue;
			breaks(
				'I6',
				job.jobId,
				`${named}: ${robot} recorded ${state}/${cause}, stored is ${attempt.outcome}/${attempt.cause}`,
			);
		}
	}
	const last = attempts.at(-1);
	if (job.state === 'completed' && job.children === null && last?.outcome !== 'completed') {
		breaks('I6', job.jobId, `completed, but its last attempt is ${last?.outcome}`);
	}
}

/** I10: cancelled before it started means that it never does; an answered cancel is not forgotten. */
function cancelledStays(
	{ job, attempts, timeline }: StoredTruth,
	{ histories, breaks, startsOf }: Context,
): void {
	const neverSent = !timeline.some(({ to }) => to === 'dispatched');
	const started = [...startsOf.values()].some(([start]) => start!.job === job.jobId);
	if (neverSent && started) breaks('I10', job.jobId, `${job.state} without an attempt, but it ran`);
	if (job.cancelRequestedAt !== null) {
		for (const { number, assignedAt } of attempts) {
			if (assignedAt <= job.cancelRequestedAt) continue;
			breaks('I10', job.jobId, `attempt ${number} was assigned after the cancel`);
		}
	}
	const promised = histories.submitter.some(
		({ op, type, jobId, cancelRequested }) =>
			op === 'cancel' && type === 'ok' && jobId === job.jobId && cancelRequested,
	);
	if (promised && job.cancelRequestedAt === null) {
		breaks('I10', job.jobId, 'a cancel was acknowledged and is not on record');
	}
}

/** I7: what is stored is a prefix of what was printed, and all of it when the command came to its end. */
function wholeOutput({ job, attempts, output }: StoredTruth, { histories, breaks }: Context): void {
	const last = attempts.at(-1);
	// Nobody reported: nobody can know how much there was.
	if (last && last.result === null && last.outcome === 'lost') return;
	// What a robot had not delivered when it lost its journal nobody has any more.
	const gone = last && histories.forgetful?.has(histories.robots.get(last.robotId) ?? '');
	if (!job.output.complete && !gone) {
		breaks('I7', job.jobId, 'its output never became complete');
	}
	if (!last) return;
	const printed = histories.printed(job, last.number);
	const toItsEnd = !gone && (last.outcome === 'completed' || last.cause === 'exit_code');
	for (const stream of ['stdout', 'stderr'] as const) {
		const stored = output[stream];
		if (stored.length !== job.output[stream]) {
			breaks('I7', job.jobId, `${job.output[stream]} bytes of ${stream}, ${stored.length} came`);
		}
		const whole = printed[stream];
		if (toItsEnd ? stored.equals(whole) : stored.equals(whole.subarray(0, stored.length))) continue;
		const at = stored.findIndex((byte, i) => byte !== whole[i]);
		breaks(
			'I7',
			job.jobId,
			`${stream} of attempt ${last.number}: ${stored.length} bytes stored of ${whole.length} printed, first difference at ${at < 0 ? 'the end' : at}`,
		);
	}
}

/** I8, I15: the books on disk are closed, and the service and its robots tell the same of each attempt. */
function settledBooks({ histories, breaks }: Context): void {
	const { attemptRows, journalRows, store, robots } = histories;
	for (const [jobId, rows] of group(attemptRows, (row) => row.jobId)) {
		const live = rows.filter(({ state }) => state !== 'ended').length;
		if (live > 0) breaks('I8', jobId, `${live} attempts are not over in the file`);
		for (const { number, hold, results, lateResults } of rows) {
			if (hold !== 0) breaks('I8', jobId, `attempt ${number} still holds its slot`);
			if (results > 1 || lateResults > 1 || results + lateResults > 1) {
				breaks('I6', jobId, `attempt ${number} has ${results} results, ${lateResults} late`);
			}
		}
		const epochs = rows.map(({ epoch }) => epoch);
		if (epochs.some((epoch, i) => i > 0 && epoch <= epochs[i - 1]!)) {
			breaks('I5', jobId, `epochs do not rise in the file: ${epochs.join(', ')}`);
		}
	}
	const inFile = new Set(attemptRows.map(({ jobId, number }) => `${jobId}/${number}`));
	for (const { job, attempts } of store) {
		for (const { number } of attempts) {
			if (!inFile.has(`${job.jobId}/${number}`)) {
				breaks('I8', job.jobId, `attempt ${number} is told, but not in the file`);
			}
		}
	}
	const fates = new Map(journalRows.map((row) => [`${row.jobId}/${row.epoch}`, row]));
	for (const { job, attempts } of store) {
		for (const { number, epoch, outcome, result, robotId } of attempts) {
			const row = fates.get(`${job.jobId}/${epoch}`);
			fates.delete(`${job.jobId}/${epoch}`);
			const named = `attempt ${number}`;
			if (row && row.robot !== robots.get(robotId)) {
				breaks('I15', job.jobId, `${named} stands in the journal of ${row.robot}`);
			}
			const forgot = row === undefined && histories.forgetful?.has(robots.get(robotId) ?? '');
			if (result !== null && row?.fate !== 'over' && !forgot) {
				breaks('I15', job.jobId, `${named} has its result, its robot says ${row?.fate}`);
			}
			const proved = outcome === 'not-started' || outcome === 'refused';
			if (proved && row !== undefined && row.fate !== 'never') {
				breaks('I15', job.jobId, `${named} is ${outcome}, its robot says ${row.fate}`);
			}
		}
	}
	for (const { jobId, robot, fate } of journalRows) {
		if (fate === 'over' || fate === 'never') continue;
		breaks('I15', jobId, `all is quiet, and ${robot} still says ${fate}`);
	}
	for (const { jobId, robot, fate } of fates.values()) {
		breaks('I15', jobId, `${robot} knows an attempt (${fate}) that the store does not`);
	}
}

/** What one look at a job shows. */
export function seenOf(job: Job, at: number): SeenLine {
	const { jobId, state, cause, attempt, endedAt, result } = job;
	const digest = createHash('sha256').update(JSON.stringify(result)).digest('base64url');
	return { at, jobId, state, cause, attempt, endedAt, result: result === null ? null : digest };
}

function group<T>(list: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
	const groups = new Map<string, T[]>();
	for (const one of list) {
		const key = keyOf(one);
		const known = groups.get(key);
		if (known) known.push(one);
		else groups.set(key, [one]);
	}
	return groups;
}
