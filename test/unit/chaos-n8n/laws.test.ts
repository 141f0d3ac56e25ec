/** A checker that finds nothing proves nothing: each law is broken once, by hand. */
import { type History, violations } from '../../chaos-n8n/laws';

/** Two executions that were parked and went on, one with two waits; one that n8n was killed under. */
function good(): History {
	const tally = (execution: string, step: string, job: string) => ({
		execution,
		step,
		job,
		state: 'completed',
		error: null,
	});
	const job = (jobId: string, execution: string, step: string) => ({
		jobId,
		execution,
		step,
		state: 'completed',
	});
	const done = { status: 'success', error: null, runs: { 'Wait a': 1 } };
	return {
		steps: { one: ['a'], two: ['a', 'b'] },
		executions: [
			{ id: '1', workflow: 'one', ...done },
			{ id: '2', workflow: 'two', ...done },
			{ id: '3', workflow: 'one', status: 'crashed', error: 'n8n stopped', runs: {} },
		],
		tallies: [tally('1', 'a', 'j1'), tally('2', 'a', 'j2'), tally('2', 'b', 'j3')],
		jobs: [job('j1', '1', 'a'), job('j2', '2', 'a'), job('j3', '2', 'b'), job('j4', '3', 'a')],
		waits: [{ waitId: 'w1', execution: '1', state: 'closed', tries: 1, lastError: null }],
		starts: [
			{ jobId: 'j1', attempt: 1 },
			{ jobId: 'j1', attempt: 2 },
			{ jobId: 'j2', attempt: 1 },
		],
		parked: new Set(['1', '2']),
		runningWhenKilled: new Set(['3']),
	};
}

test('a history in which all is well breaks no law', () => {
	expect(violations(good())).toEqual([]);
});

const faults: [string, string, (history: History) => void][] = [
	['an execution that went on twice', 'doubled', (h) => h.tallies.push({ ...h.tallies[0]! })],
	['a node that has two results', 'doubled', (h) => (h.executions[0]!.runs['Wait a'] = 2)],
	['a wait that was dropped', 'waits for ever', (h) => (h.executions[0]!.status = 'waiting')],
	['an execution that skipped its second wait', 'lost', (h) => h.tallies.pop()],
	['a parked execution that ended as an error', 'lost', (h) => (h.executions[0]!.status = 'error')],
	[
		'a crash while nothing ran',
		'lost',
		(h) => Object.assign(h, { runningWhenKilled: new Set<string>() }),
	],
	['an execution whose row is gone', 'lost', (h) => h.executions.splice(0, 1)],
	['a job that was submitted twice', 'submitted twice', (h) => h.jobs.push({ ...h.jobs[3]! })],
	['an attempt that was started twice', 'started twice', (h) => h.starts.push(h.starts[0]!)],
	['a job that never ends', 'waits for ever', (h) => (h.jobs[3]!.state = 'running')],
	['a wait that nobody takes', 'waits for ever', (h) => (h.waits[0]!.state = 'due')],
	['the job of another execution', 'wrong result', (h) => (h.tallies[0]!.job = 'j2')],
	['a job that was not over', 'wrong result', (h) => (h.tallies[0]!.state = 'running')],
];

test.each(faults)('%s is found', (_what, law, harm) => {
	const history = good();
	harm(history);
	expect(violations(history).map((violation) => violation.law)).toContain(law);
});
