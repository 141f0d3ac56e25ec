/** What a robot tells of its attempts when something of its own goes wrong. */
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { Ballast } from '../../../agent/ballast';
import { systemClock } from '../../../agent/clock';
import type { Executor } from '../../../agent/executors/executor';
import { Journal } from '../../../agent/journal';
import type { Line } from '../../../agent/link';
import { Runner, type RunnerParts } from '../../../agent/runner';
import { Spool } from '../../../agent/spool';
import { Workspaces } from '../../../agent/workspaces';
import { Window } from '../../../agent/window';
import type {
	AttemptHealth,
	JobAssignment,
	JobResultMessage,
	RobotMessages,
} from '../../../protocol';
import { limits } from '../../../protocol';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();
const newSpool = () =>
	new Spool(join(folder(), 'spool'), { maxBytes: limits.maxOutputBytes, reserveBytes: 0 });
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** A live line that keeps what was said on it. */
class Ear implements Line {
	readonly maxOutputBytes = 100_000;
	maxMessageBytes: number = limits.maxControlFrameBytes;
	features: readonly string[] = [];
	readonly said: { type: keyof RobotMessages; payload: unknown }[] = [];
	#wake: (() => void)[] = [];

	send<T extends keyof RobotMessages>(type: T, payload: RobotMessages[T]): void {
		this.said.push({ type, payload });
		for (const wake of this.#wake.splice(0)) wake();
	}

	sendOutput(): void {}

	sendFile(): void {}

	async until<T extends keyof RobotMessages>(type: T): Promise<RobotMessages[T]> {
		for (;;) {
			const found = this.said.find((one) => one.type === type);
			if (found) return found.payload as RobotMessages[T];
			await new Promise<void>((wake) => this.#wake.push(wake));
		}
	}
}

const assignment = (): JobAssignment => ({
	job_id: randomUUID(),
	attempt: 1,
	epoch: 1,
	token: 'token',
	kind: 'command',
	spec: { command: 'true' },
	variables: {},
	timeouts: { grace_ms: 100 },
	on_disconnect: 'continue',
});

async function withRunner(
	parts: {
		run: Executor['run'];
		cleanUp?: Executor['cleanUp'];
		spool?: Spool;
		watching?: RunnerParts['watching'];
		workspaces?: Workspaces;
	},
	body: (runner: Runner, ear: Ear, journal: Journal) => Promise<void>,
): Promise<void> {
	const journal = Journal.open(join(folder(), 'journal.db'), systemClock);
	const { run, cleanUp = async () => true } = parts;
	const executor: Executor = { kind: 'command', run, cleanUp };
	const runner = new Runner({
		journal,
		spool: parts.spool ?? newSpool(),
		clock: systemClock,
		watching: parts.watching,
		workspaces: parts.workspaces,
		log: silent,
		executors: new Map([['command', executor]]),
		slots: 1,
		ballast: new Ballast(join(folder(), 'ballast'), 1_000),
		window: new Window(),
		onShutdown: () => undefined,
	});
	const ear = new Ear();
	const registered = { verdicts: [], limits: {} } as unknown as Parameters<Runner['attach']>[1];
	try {
		runner.attach(ear, registered);
		await body(runner, ear, journal);
	} finally {
		journal.close();
	}
}

const done = {
	end: 'done',
	cause: null,
	exitCode: 0,
	signal: null,
	outputs: {},
	error: null,
	processGone: true,
} as const;

const take = (runner: Runner, payload: JobAssignment) =>
	runner.receive({ type: 'job_assignment', id: '1', payload });

test('a handler that throws ends in a result that says nobody can know, and its slot is free', async () => {
	let calls = 0;
	const run = async () => {
		calls += 1;
		if (calls === 1) throw new Error('a bug in the handler');
		return done;
	};
	await withRunner({ run }, async (runner, ear) => {
		const job = assignment();
		take(runner, job);
		const result: JobResultMessage = await ear.until('job_result');
		expect(result).toMatchObject({ job_id: job.job_id, state: 'failed', cause: 'unknown' });
		expect(result.result.error!.message).toContain('a bug in the handler');
		expect(runner.status).toEqual({ status: 'online', active_jobs: [] });
		ear.said.splice(0);
		take(runner, assignment());
		expect(await ear.until('job_result')).toMatchObject({ state: 'completed' });
	});
});

test('an attempt that is revoked in time leaves nothing behind', async () => {
	const joined = jest.spyOn(Window.prototype, 'join');
	const left = jest.spyOn(Window.prototype, 'leave');
	try {
		await withRunner({ run: async () => done }, async (runner, ear) => {
			const job = assignment();
			take(runner, job);
			runner.receive({ type: 'revoke', id: '2', payload: job });
			expect(await ear.until('job_rejected')).toMatchObject({ reason: 'not-started' });
			expect(joined).toHaveBeenCalledTimes(1);
			expect(left).toHaveBeenCalledTimes(1);
		});
	} finally {
		joined.mockRestore();
		left.mockRestore();
	}
});

test('what is left of a program that nobody keeps any more is looked for by its number, too', async () => {
	const run: Executor['run'] = async (_spec, context) => {
		context.started(4_711, 'birth');
		throw new Error('the process that kept it was killed');
	};
	const looked: unknown[] = [];
	const cleanUp: Executor['cleanUp'] = async (trace) => {
		looked.push(trace);
		return false;
	};
	await withRunner({ run, cleanUp }, async (runner, ear) => {
		take(runner, assignment());
		const { result } = await ear.until('job_result');
		expect(result).toMatchObject({ process_gone: false });
		expect(looked).toEqual([{ mark: expect.any(String), pid: 4_711, birth: 'birth' }]);
	});
});

test('an agent that is stopped while files are looked through keeps the end on record; its next life looks again', async () => {
	const workspaces = new Workspaces(join(folder(), 'work'), 0);
	const job = { ...assignment(), spec: { command: 'true', collect: ['out'] } };
	const place = workspaces.of(job.job_id, 1);
	const leaving = Promise.withResolvers<void>();
	const run: Executor['run'] = async () => {
		writeFileSync(join(place.folder, 'out'), 'text');
		leaving.resolve();
		await turn();
		return done;
	};
	await withRunner({ run, workspaces }, async (runner, ear, journal) => {
		take(runner, job);
		await leaving.promise;
		runner.hurry();
		await runner.drain(0);
		expect(ear.said.some(({ type }) => type === 'job_result')).toBe(false);
		expect(journal.held()).toMatchObject([
			{ exit: null, files: { stage: 'sending', found: null, exit: { state: 'completed' } } },
		]);
	});
	const again = async () => {
		throw new Error('it was run twice');
	};
	await withRunner({ run: again, workspaces }, async (runner, ear) => {
		runner.resume();
		const verdict = { job_id: job.job_id, epoch: 1, act: 'send_result' };
		const output = { stdout: 0, stderr: 0 };
		const registered = { verdicts: [{ ...verdict, output }], limits: {} };
		ear.features = ['files'];
		runner.attach(ear, registered as never);
		expect(await ear.until('file_offer')).toMatchObject({ path: 'out', bytes: 4 });
		const { epoch, job_id } = job;
		const kept = { job_id, epoch, transfer: 0, file_id: 'id' };
		runner.receive({ type: 'file_kept', id: '1', payload: kept });
		expect(await ear.until('job_result')).toMatchObject({
			state: 'completed',
			result: { files: [{ path: 'out', file_id: 'id' }] },
		});
	});
});

describe('a job that hangs', () => {
	const health: AttemptHealth = {
		state: 'hanging',
		cpu_percent: 0,
		memory_bytes: 1,
		processes: 1,
		quiet_ms: 31_000,
		output_bytes: 0,
	};
	/** Sees it hang as soon as it runs. */
	const watching: RunnerParts['watching'] = {
		begin: (_assignment, _mark, tell) => ({
			heard: () => undefined,
			started: () => tell(health),
			end: () => undefined,
		}),
	};
	/** Runs until it is stopped. */
	const run: Executor['run'] = async (_spec, { started, signal }) => {
		started(1, null);
		if (!signal.aborted) await new Promise((stop) => signal.addEventListener('abort', stop));
		return { ...done, end: 'stopped', exitCode: null };
	};

	test('is reported, and runs on', async () => {
		await withRunner({ run, watching }, async (runner, ear) => {
			const job = assignment();
			take(runner, job);
			expect(await ear.until('status_update')).toMatchObject({ job_id: job.job_id, health });
			expect(runner.status.active_jobs).toEqual([job.job_id]);
			runner.hurry();
			expect(await ear.until('job_result')).toMatchObject({ cause: 'signal' });
		});
	});

	test('is stopped when it wants that, and says why', async () => {
		await withRunner({ run, watching }, async (runner, ear) => {
			take(runner, { ...assignment(), on_hang: 'stop' });
			const result = await ear.until('job_result');
			expect(result).toMatchObject({ state: 'timeout', cause: 'silence_timeout' });
			expect(result.result.error!.message).toContain('neither printed nor computed');
		});
	});

	test('without a line it is told on the next one', async () => {
		await withRunner({ run, watching }, async (runner, ear) => {
			runner.detach(0, 15_000);
			const job = assignment();
			take(runner, job);
			await systemClock.sleep(0);
			const verdict = { job_id: job.job_id, epoch: 1, act: 'continue' } as const;
			while (runner.held[0]?.state !== 'running') await systemClock.sleep(1);
			runner.attach(ear, {
				verdicts: [{ ...verdict, output: { stdout: 0, stderr: 0 } }],
				limits: {},
			} as unknown as Parameters<Runner['attach']>[1]);
			expect(await ear.until('status_update')).toMatchObject({ health });
			runner.hurry();
			await ear.until('job_result');
		});
	});
});

test('a spool that cannot be closed never makes a refusal of a job that ran', async () => {
	const spool = newSpool();
	const open = spool.open.bind(spool);
	spool.open = (jobId, epoch) => {
		const attempt = open(jobId, epoch);
		attempt.close = () => Promise.reject(new Error('EIO: i/o error, close'));
		return attempt;
	};
	await withRunner({ run: async () => done, spool }, async (runner, ear, journal) => {
		const job = assignment();
		take(runner, job);
		expect(await ear.until('job_result')).toMatchObject({ state: 'completed' });
		expect(ear.said.map(({ type }) => type)).toEqual(['job_accepted', 'job_result']);
		expect(journal.fate(job.job_id, job.epoch)).toBe('ended');
	});
});

test('a result is never longer than what the line takes', async () => {
	const run: Executor['run'] = async (_spec, { output }) => {
		await output('stdout', Buffer.alloc(limits.maxInlineOutputBytes));
		return { ...done, outputs: { version: '1.4.2' } };
	};
	await withRunner({ run }, async (runner, ear) => {
		ear.maxMessageBytes = 100_000;
		take(runner, assignment());
		const result = await ear.until('job_result');
		expect(JSON.stringify(result).length).toBeLessThan(100_000);
		expect(result.result).toMatchObject({ outputs: { version: '1.4.2' }, truncated: true });
	});
});

describe('a disk that fails after the start', () => {
	test('takes the output, and not the end, when its folder is gone', async () => {
		const run: Executor['run'] = async (_spec, { outputKept }) => {
			outputKept({ stdout: { length: 5, pieces: [[0, 5]], lost: [] } });
			rmSync(join(folder(), 'spool'), { recursive: true });
			return done;
		};
		await withRunner({ run }, async (runner, ear, journal) => {
			const job = assignment();
			take(runner, job);
			expect(await ear.until('job_result')).toMatchObject({ state: 'completed' });
			expect(ear.said.map(({ type }) => type)).toEqual(['job_accepted', 'job_result']);
			expect(journal.fate(job.job_id, job.epoch)).toBe('ended');
		});
	});

	test('ends the job as one that ran, whatever it is that fails', async () => {
		const spool = newSpool();
		const open = spool.open.bind(spool);
		spool.open = (...asked) => {
			const attempt = open(...asked);
			attempt.holes = () => {
				throw new Error('EIO: i/o error, read');
			};
			return attempt;
		};
		await withRunner({ run: async () => done, spool }, async (runner, ear) => {
			take(runner, assignment());
			const result = await ear.until('job_result');
			expect(result).toMatchObject({ state: 'failed', cause: 'unknown' });
			expect(result.result.error!.message).toContain('EIO');
			expect(ear.said.map(({ type }) => type)).toEqual(['job_accepted', 'job_result']);
			expect(runner.status.active_jobs).toEqual([]);
		});
	});
});

test('files that cannot be sent any more do not keep the end of their job back', async () => {
	const workspaces = new Workspaces(join(folder(), 'work'), 0);
	const job = { ...assignment(), spec: { command: 'true', collect: ['out'] } };
	const place = workspaces.of(job.job_id, 1);
	const ran = Promise.withResolvers<void>();
	const run: Executor['run'] = async () => {
		writeFileSync(join(place.folder, 'out'), 'text');
		ran.resolve();
		await turn();
		return done;
	};
	await withRunner({ run, workspaces }, async (runner) => {
		take(runner, job);
		await ran.promise;
		runner.hurry();
		await runner.drain(0);
	});
	// The next life of the agent has no folder for them.
	await withRunner({ run }, async (runner, ear) => {
		runner.resume();
		const verdict = { job_id: job.job_id, epoch: 1, act: 'send_result' };
		const output = { stdout: 0, stderr: 0 };
		runner.attach(ear, { verdicts: [{ ...verdict, output }], limits: {} } as never);
		expect(await ear.until('job_result')).toMatchObject({
			state: 'completed',
			result: { files: [{ path: '**', error: expect.stringContaining('no folder for files') }] },
		});
	});
});
