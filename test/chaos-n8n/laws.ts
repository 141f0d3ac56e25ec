/**
 * What must be so after n8n, the service and the robots were killed at will: every execution that was
 * parked went on exactly once, and no job was submitted or started twice. Pure: it judges what all
 * sides have written down.
 *
 * n8n itself ends what it was *running* when it was killed as `crashed` and never runs it again. That
 * is its rule, not ours, so such executions are counted apart; but only those may be.
 */

export interface Execution {
	id: string;
	workflow: string;
	/** n8n's: success, error, crashed, canceled; new, running and waiting are not over. */
	status: string;
	/** Why it ended, when it did not succeed. */
	error: string | null;
	/** How often each node's result stands in its run data. */
	runs: Record<string, number>;
}

/** The node behind a wait was executed. */
export interface Tally {
	execution: string;
	step: string;
	/** Null when there was nothing to wait for: the wait was refused. */
	job: string | null;
	state: string | null;
	error: string | null;
}

export interface JobOfAll {
	jobId: string;
	execution: string;
	step: string;
	state: string;
}

export interface WaitOfAll {
	waitId: string;
	execution: string | null;
	state: string;
	tries: number;
	lastError: string | null;
}

export interface History {
	/** The steps that an execution of a workflow goes through, each one wait. */
	steps: Record<string, readonly string[]>;
	executions: Execution[];
	tallies: Tally[];
	jobs: JobOfAll[];
	waits: WaitOfAll[];
	/** One entry for each start of a command. */
	starts: { jobId: string; attempt: number }[];
	/** Executions that stood as `waiting` in n8n's database at some time. */
	parked: ReadonlySet<string>;
	/** Executions that stood as new or running there when n8n was killed. */
	runningWhenKilled: ReadonlySet<string>;
}

export interface Violation {
	law: 'lost' | 'doubled' | 'submitted twice' | 'started twice' | 'waits for ever' | 'wrong result';
	text: string;
}

const finalStates = new Set(['completed', 'failed', 'timeout', 'cancelled']);
const over = new Set(['success', 'error', 'crashed', 'canceled']);

export function violations(history: History): Violation[] {
	return [
		...history.executions.flatMap((execution) => ofExecution(execution, history)),
		...strangers(history),
		...ofJobs(history),
		...ofWaits(history),
	];
}

function ofExecution(execution: Execution, history: History): Violation[] {
	const { id, workflow, status, error } = execution;
	const name = `execution ${id} of ${workflow}`;
	const found: Violation[] = [];
	const steps = history.steps[workflow] ?? [];
	const tallies = history.tallies.filter((tally) => tally.execution === id);
	for (const step of steps) {
		const counted = tallies.filter((tally) => tally.step === step);
		if (counted.length > 1) {
			found.push({ law: 'doubled', text: `${name} went on ${counted.length} times at ${step}` });
		}
		if (status === 'success' && counted.length === 0) {
			found.push({ law: 'lost', text: `${name} succeeded without ${step}` });
		}
		for (const { job, state } of counted) {
			if (job === null) continue;
			const known = history.jobs.find(({ jobId }) => jobId === job);
			if (known?.execution !== id || known.step !== step) {
				found.push({ law: 'wrong result', text: `${name} got job ${job} at ${step}` });
			} else if (state !== known.state || !finalStates.has(known.state)) {
				const text = `${name} was told ${state} at ${step}; job ${job} is ${known.state}`;
				found.push({ law: 'wrong result', text });
			}
		}
	}
	for (const [node, runs] of Object.entries(execution.runs)) {
		if (runs > 1) found.push({ law: 'doubled', text: `${name} has ${runs} results of ${node}` });
	}
	if (!over.has(status)) {
		found.push({ law: 'waits for ever', text: `${name} is still ${status}` });
	}
	if (status === 'crashed' && !history.runningWhenKilled.has(id)) {
		found.push({ law: 'lost', text: `${name} crashed, but nobody killed n8n while it ran` });
	}
	if ((status === 'error' || status === 'canceled') && history.parked.has(id)) {
		found.push({ law: 'lost', text: `${name} was parked and ended as ${status}: ${error}` });
	}
	return found;
}

/** Somebody counted for an execution that n8n does not know: its row is gone. */
function strangers({ executions, tallies }: History): Violation[] {
	const known = new Set(executions.map(({ id }) => id));
	return tallies
		.filter(({ execution }) => !known.has(execution))
		.map(({ execution, step }) => ({
			law: 'lost',
			text: `execution ${execution} was at ${step}, and n8n does not know it`,
		}));
}

function ofJobs({ jobs, starts }: History): Violation[] {
	const found: Violation[] = [];
	for (const [place, same] of grouped(jobs, (job) => `${job.execution} at ${job.step}`)) {
		if (same.length < 2) continue;
		found.push({ law: 'submitted twice', text: `execution ${place}: ${same.length} jobs` });
	}
	for (const job of jobs) {
		if (finalStates.has(job.state)) continue;
		found.push({ law: 'waits for ever', text: `job ${job.jobId} is still ${job.state}` });
	}
	for (const [attempt, same] of grouped(starts, (start) => `${start.jobId}/${start.attempt}`)) {
		if (same.length < 2) continue;
		found.push({ law: 'started twice', text: `attempt ${attempt}: ${same.length} starts` });
	}
	return found;
}

function ofWaits({ waits }: History): Violation[] {
	return waits
		.filter(({ state }) => state === 'open' || state === 'due')
		.map(({ waitId, execution, state, tries, lastError }) => ({
			law: 'waits for ever',
			text: `wait ${waitId} of execution ${execution} is ${state} after ${tries} tries: ${lastError}`,
		}));
}

function grouped<T>(list: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
	const groups = new Map<string, T[]>();
	for (const one of list) {
		const group = groups.get(keyOf(one));
		if (group) group.push(one);
		else groups.set(keyOf(one), [one]);
	}
	return groups;
}
