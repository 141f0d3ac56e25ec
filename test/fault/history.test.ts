/** The checker of the fault tests finds every violation that is planted in a clean history. */
import type { Attempt, Job, TimelineEntry } from '../../protocol';
import {
	type CommandLine,
	type Histories,
	seenOf,
	type StoredTruth,
	violations,
} from '../support/history';

/** One job that completed at its second attempt, one that was cancelled before it started. */
function clean(): Histories {
	const done = truth('a', 'completed', [
		attempt(1, { outcome: 'failed', cause: 'exit_code', result: result(75) }),
		attempt(2, { outcome: 'completed', result: result(0) }),
	]);
	done.timeline = moves(
		'queued dispatched running pending queued dispatched running completed'.split(' '),
	);
	done.job.output = { stdout: 10, stderr: 0, complete: true };
	done.output.stdout = Buffer.from('a/2 output');
	const cancelled = truth('b', 'cancelled', []);
	cancelled.timeline = moves(['pending', 'cancelled']);
	cancelled.job.cancelRequestedAt = 5;
	const line = { robot: 'anna', pid: 7, job: 'a' };
	return {
		submitter: [
			{ at: 1, op: 'submit', type: 'invoke', key: 'key-a' },
			{ at: 2, op: 'submit', type: 'info', key: 'key-a', text: 'nobody answered' },
			{ at: 3, op: 'submit', type: 'invoke', key: 'key-a' },
			{ at: 4, op: 'submit', type: 'ok', key: 'key-a', jobId: 'a' },
			{ at: 4, op: 'submit', type: 'invoke', key: 'key-b' },
			{ at: 4, op: 'submit', type: 'ok', key: 'key-b', jobId: 'b' },
			{ at: 5, op: 'cancel', type: 'invoke', key: 'key-b' },
			{ at: 6, op: 'cancel', type: 'ok', key: 'key-b', jobId: 'b', cancelRequested: true },
		],
		commands: [
			{ ...line, attempt: 1, event: 'start', code: 75 },
			{ ...line, attempt: 1, event: 'end', code: 75 },
			{ ...line, attempt: 2, event: 'start', code: 0 },
			{ ...line, attempt: 2, event: 'end', code: 0 },
		],
		agents: [
			{ robot: 'anna', job: 'a', attempt: 1, epoch: 10, state: 'failed', cause: 'exit_code' },
			{ robot: 'anna', job: 'a', attempt: 2, epoch: 20, state: 'completed', cause: null },
		],
		seen: [
			{ ...seenOf({ ...done.job, state: 'running', endedAt: null, result: null, attempt: 1 }, 5) },
			{ ...seenOf(done.job, 90) },
		],
		store: [done, cancelled],
		attemptRows: [
			{ jobId: 'a', number: 1, epoch: 10, state: 'ended', hold: 0, results: 1, lateResults: 0 },
			{ jobId: 'a', number: 2, epoch: 20, state: 'ended', hold: 0, results: 1, lateResults: 0 },
		],
		journalRows: [
			{ robot: 'anna', jobId: 'a', epoch: 10, fate: 'over' },
			{ robot: 'anna', jobId: 'a', epoch: 20, fate: 'over' },
		],
		robots: new Map([['robot-1', 'anna']]),
		keyOf: (job) => job.variables['key'] as string | undefined,
		printed: (job, number) => ({
			stdout: Buffer.from(`${job.jobId}/${number} output`),
			stderr: Buffer.alloc(0),
		}),
	};
}

function truth(jobId: string, state: Job['state'], attempts: Attempt[]): StoredTruth {
	const job = {
		jobId,
		state,
		cause: state === 'cancelled' ? 'cancelled' : null,
		attempt: attempts.length,
		parentId: null,
		children: null,
		endedAt: 80,
		cancelRequestedAt: null,
		variables: { key: `key-${jobId}` },
		result: attempts.at(-1)?.result ?? null,
		output: { stdout: 0, stderr: 0, complete: true },
	} as unknown as Job;
	const output = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
	return { job, attempts, timeline: [], output };
}

function attempt(number: number, more: Partial<Attempt>): Attempt {
	return {
		number,
		robotId: 'robot-1',
		client: null,
		epoch: number * 10,
		state: 'ended',
		outcome: 'completed',
		cause: null,
		assignedAt: number * 20,
		startedAt: number * 20 + 1,
		endedAt: number * 20 + 10,
		result: null,
		lateResult: null,
		...more,
	};
}

function result(exitCode: number): Attempt['result'] {
	return {
		exitCode,
		signal: null,
		stdout: '',
		stderr: '',
		truncated: false,
		outputs: {},
		durationMs: 1,
		error: null,
		processGone: true,
	};
}

function moves(states: string[]): TimelineEntry[] {
	return states.map((to, i) => ({
		at: i,
		from: (states[i - 1] ?? null) as TimelineEntry['from'],
		to: to as TimelineEntry['to'],
		reason: '',
		by: 'dispatcher',
		attempt: null,
	}));
}

test('a clean history breaks no law', () => {
	expect(violations(clean())).toEqual([]);
});

const first = (histories: Histories) => histories.store[0]!;
const again = (histories: Histories, more: Partial<CommandLine> = {}) =>
	histories.commands.push({ ...histories.commands[2]!, ...more });

const plants: [law: string, what: string, plant: (histories: Histories) => void][] = [
	['I1', 'an acknowledged job that is not there', ({ store }) => void store.pop()],
	['I1', 'a submit that never got an answer', ({ submitter }) => void submitter.splice(3, 1)],
	[
		'I1',
		'a submit that was refused',
		({ submitter }) => void submitter.push({ ...submitter[0]!, type: 'fail', text: 'no' }),
	],
	['I2', 'a job that nobody submitted', ({ submitter }) => void submitter.splice(4, 4)],
	[
		'I2',
		'a command of a job that is not there',
		(histories) => again(histories, { job: 'c', attempt: 1 }),
	],
	['I13', 'two jobs of one key', ({ store }) => void (store[1]!.job.variables = { key: 'key-a' })],
	[
		'I13',
		'two answers to one key',
		({ submitter }) => void submitter.push({ ...submitter[3]!, jobId: 'b' }),
	],
	[
		'I13',
		'an answer that names another job',
		({ submitter }) => {
			submitter[3]!.jobId = 'b';
			submitter[5]!.jobId = 'a';
		},
	],
	[
		'I3',
		'a final state that was seen and changed',
		({ seen }) => void Object.assign(seen[1]!, { state: 'failed', cause: 'unknown' }),
	],
	['I3', 'a final job that was seen alive again', ({ seen }) => void seen.push(seen[0]!)],
	['I3', 'a result that changed', ({ seen }) => void (seen[1]!.result = 'another')],
	['I3', 'a job that never ended', (all) => void first(all).timeline.pop()],
	[
		'I3',
		'two final moves',
		(all) => {
			const last = first(all).timeline.at(-1)!;
			first(all).timeline.push({ ...last, from: 'completed', to: 'completed' });
		},
	],
	[
		'I3',
		'a state that its last move does not tell',
		(all) => void (first(all).job.state = 'failed'),
	],
	['I11', 'an illegal move', (all) => void first(all).timeline.splice(5, 1)],
	[
		'I11',
		'a move from a final state',
		(all) => {
			first(all).timeline[3]!.to = 'failed';
			first(all).timeline[4]!.from = 'failed';
		},
	],
	['I4', 'two starts of one attempt', (all) => again(all)],
	['I4', 'two starts on two robots', (all) => again(all, { robot: 'bert' })],
	['I4', 'a start that the store does not know', (all) => again(all, { attempt: 3 })],
	[
		'I4',
		'a start of an attempt that counts as not started',
		(all) => Object.assign(first(all).attempts[0]!, { outcome: 'not-started', cause: null }),
	],
	[
		'I4',
		'a start that its robot denies',
		(all) => {
			const cause = 'infrastructure';
			Object.assign(first(all).attempts[0]!, { outcome: 'failed', cause });
			Object.assign(all.agents[0]!, { state: 'failed', cause });
		},
	],
	['I5', 'an epoch that does not rise', (all) => void (first(all).attempts[1]!.epoch = 10)],
	['I5', 'an epoch that does not rise in the file', (all) => void (all.attemptRows[1]!.epoch = 9)],
	['I5', 'a missing attempt', (all) => void first(all).attempts.shift()],
	['I5', 'an attempt that was seen and is gone', ({ seen }) => void (seen[0]!.attempt = 3)],
	['I8', 'two attempts at a time', (all) => void (first(all).attempts[1]!.assignedAt = 25)],
	['I8', 'an attempt that is not over', (all) => void (first(all).attempts[1]!.state = 'running')],
	['I8', 'a live attempt in the file', (all) => void (all.attemptRows[0]!.state = 'running')],
	['I8', 'a slot held for ever', (all) => void (all.attemptRows[1]!.hold = 1)],
	['I8', 'an attempt that is not in the file', (all) => void all.attemptRows.pop()],
	[
		'I8',
		'a process that was reported gone and writes on',
		({ commands }) => void commands.splice(1, 2, commands[2]!, commands[1]!),
	],
	[
		'I6',
		'a robot that does not know although its commands were kept',
		(all) => {
			all.kept = true;
			Object.assign(first(all).attempts[0]!, { outcome: 'failed', cause: 'unknown' });
			Object.assign(all.agents[0]!, { state: 'failed', cause: 'unknown' });
		},
	],
	['I6', 'a completed job that came to no end', ({ commands }) => void commands.pop()],
	['I6', 'another exit code than the command wrote', (all) => void (all.commands[1]!.code = 3)],
	['I6', 'an end without a start', ({ commands }) => void commands.splice(2, 1)],
	['I6', 'another end than the robot recorded', ({ agents }) => void (agents[1]!.state = 'failed')],
	[
		'I6',
		'two ends recorded for one attempt',
		({ agents }) => void agents.push({ ...agents[1]!, state: 'failed', cause: 'unknown' }),
	],
	[
		'I6',
		'a result and a late one',
		(all) => void (first(all).attempts[0]!.lateResult = result(75)),
	],
	['I6', 'two results in the file', (all) => void (all.attemptRows[0]!.lateResults = 1)],
	[
		'I6',
		'a completed job whose last attempt did not complete',
		(all) => void (first(all).attempts[1]!.outcome = 'failed'),
	],
	[
		'I7',
		'output that never became complete',
		(all) => void (first(all).job.output.complete = false),
	],
	[
		'I7',
		'output that lacks its end',
		(all) => {
			first(all).output.stdout = Buffer.from('a/2 outpu');
			first(all).job.output.stdout = 9;
		},
	],
	[
		'I7',
		'output of another attempt',
		(all) => void (first(all).output.stdout = Buffer.from('a/1 output')),
	],
	['I7', 'bytes that are counted and not there', (all) => void (first(all).job.output.stderr = 1)],
	[
		'I10',
		'a job that was cancelled before it started and ran',
		(all) => again(all, { job: 'b', attempt: 1 }),
	],
	['I10', 'an attempt after the cancel', (all) => void (first(all).job.cancelRequestedAt = 30)],
	[
		'I10',
		'a cancel that was acknowledged and forgotten',
		({ store }) => void (store[1]!.job.cancelRequestedAt = null),
	],
	[
		'I15',
		'a result that its robot still keeps',
		(all) => void (all.journalRows[1]!.fate = 'ended'),
	],
	['I15', 'a result that its robot knows nothing of', (all) => void all.journalRows.pop()],
	[
		'I15',
		'an attempt that its robot never forgets',
		({ journalRows }) =>
			void journalRows.push({ robot: 'anna', jobId: 'a', epoch: 10, fate: 'running' }),
	],
	[
		'I15',
		'an attempt that only a robot knows',
		({ journalRows }) =>
			void journalRows.push({ robot: 'anna', jobId: 'c', epoch: 1, fate: 'over' }),
	],
	[
		'I15',
		'an attempt in the journal of another robot',
		(all) => void (all.journalRows[0]!.robot = 'bert'),
	],
];

test('a job that was asked for once, without a key, need not be there when nobody answered', () => {
	const histories = clean();
	const asked = { at: 7, op: 'submit', key: 'key-c', once: true } as const;
	histories.submitter.push({ ...asked, type: 'invoke' }, { ...asked, type: 'info' });
	expect(violations(histories)).toEqual([]);
});

test('a job that was refused with good reason need not be there', () => {
	const histories = clean();
	const line = { at: 7, op: 'submit', key: 'key-c' } as const;
	const refused = { ...line, type: 'fail', text: 'no such robot' } as const;
	histories.submitter.push({ ...line, type: 'invoke' }, { ...refused, once: true });
	expect(violations(histories)).toEqual([]);
	histories.submitter.push(refused);
	expect(violations(histories).map(({ law }) => law)).toEqual(['I1']);
});

test('children come of their parents, and what a program asked is no move', () => {
	const histories = clean();
	const [child] = clean().store;
	Object.assign(child!.job, { jobId: 'c', parentId: 'b' });
	for (const one of child!.attempts) one.epoch += 100;
	const asked = { from: 'running', to: 'running', attempt: 2, reason: 'asks: Go on?' } as const;
	histories.store[0]!.timeline.splice(-1, 0, { ...histories.store[0]!.timeline[0]!, ...asked });
	const before = violations(histories).length;
	histories.store.push(child!);
	expect(before).toBe(0);
	expect(violations(histories).filter(({ law }) => law === 'I13' || law === 'I2')).toEqual([]);
});

test('a robot that lost its journal need not know what it once recorded', () => {
	const histories = clean();
	histories.journalRows = [];
	expect(violations(histories).map(({ law }) => law)).toContain('I15');
	expect(violations({ ...histories, forgetful: new Set(['anna']) })).toEqual([]);
});

test.each(plants)('%s: the checker finds %s', (law, _what, plant) => {
	const histories = clean();
	plant(histories);
	expect(violations(histories).map((violation) => violation.law)).toContain(law);
});
