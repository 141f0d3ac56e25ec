import { spawn } from 'node:child_process';
import fs, { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import os, { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { systemClock } from '../../../agent/clock';
import { currentBoot } from '../../../agent/drivers/process';
import { commandExecutor } from '../../../agent/executors/command';
import type { Outcome, RunContext, Stop } from '../../../agent/executors/executor';
import { ExitFiles } from '../../../agent/keeper/exits';
import { Keeper } from '../../../agent/keeper/keeper';
import { places } from '../../../agent/keeper/places';
import { Spool } from '../../../agent/spool';
import type { CommandSpec } from '../../../kinds/command';
import { streams, type Variables } from '../../../protocol';
import { until } from '../../../scripts/n8n/until.mjs';
import { silentKeeper } from './silent-keeper';
import { temporaryFolder } from './temporary-folder';

const folder = temporaryFolder();

interface Run {
	ended: Promise<Outcome>;
	stdout: string;
	stderr: string;
	stop(why: Stop['why'], graceMs: number): void;
	hurry(): void;
	/** Resolves when stdout matches. */
	printed(pattern: RegExp): Promise<void>;
}

let epoch = 0;

function run(spec: CommandSpec, variables: Variables = {}, env: Record<string, string> = {}): Run {
	epoch += 1;
	const stopping = new AbortController();
	const hurrying = new AbortController();
	let wake = (): void => undefined;
	const spool = { folder: join(folder(), 'spool'), maxBytes: 1_000_000, reserveBytes: 0 };
	const kept = new Spool(spool.folder, spool).open('job', epoch);
	let reading = Promise.resolve();
	const read = async (): Promise<void> => {
		for (const stream of streams) {
			const { data } = await kept.read(stream, running[stream].length, 1_000_000);
			running[stream] += data.toString('latin1');
		}
		wake();
	};
	const context: RunContext = {
		jobId: 'job',
		attempt: 2,
		epoch,
		mark: `mark-${Math.random()}`,
		variables,
		signal: stopping.signal,
		hurry: hurrying.signal,
		output: async () => undefined,
		outputKept(state) {
			kept.follow(state);
			reading = reading.then(read);
		},
		takesInput: () => undefined,
		report: () => undefined,
		started: () => undefined,
		sleep: (ms, signal) => systemClock.sleep(ms, signal),
	};
	const keeper = new Keeper({
		folder: join(folder(), 'keeper'),
		program: undefined,
		spool,
		clock: systemClock,
		log: { info: () => undefined, warn: () => undefined },
	});
	const executor = commandExecutor({
		env: { PATH: process.env.PATH, API_KEY: 'secret', ...env },
		secretEnvNames: ['API_KEY'],
		keeper,
	});
	const runToItsEnd = async (): Promise<Outcome> => {
		const outcome = await executor.run(spec, context);
		await reading;
		await keeper.close();
		return outcome;
	};
	const running: Run = {
		ended: runToItsEnd(),
		stdout: '',
		stderr: '',
		stop: (why, graceMs) => stopping.abort({ why, graceMs } satisfies Stop),
		hurry: () => hurrying.abort(),
		async printed(pattern) {
			while (!pattern.test(running.stdout)) {
				await new Promise<void>((resolve) => {
					wake = resolve;
				});
			}
		},
	};
	return running;
}

test('a program gets its arguments as they are, without a shell', async () => {
	const job = run(
		{ command: 'printf', args: ['%s|', '$HOME', '{{who}}', '; id'] },
		{ who: "it's" },
	);
	expect(await job.ended).toMatchObject({
		end: 'done',
		exitCode: 0,
		error: null,
		processGone: true,
	});
	expect(job.stdout).toBe("$HOME|it's|; id|");
});

test('shell text is run by a shell, with values only in its environment', async () => {
	const job = run({ shell: 'echo "$ROBOT_FLEET_VAR_NAME" | tr a-z A-Z >&2' }, { name: '`id`' });
	await job.ended;
	expect(job.stderr).toBe('`ID`\n');
});

test('the environment is that of the agent without its secrets, and names the attempt', async () => {
	const job = run({ command: 'env', env: { A: '{{x}}', PATH: '/usr/bin:/bin' } }, { x: 1 });
	await job.ended;
	const lines = job.stdout.trim().split('\n');
	expect(lines).toEqual(
		expect.arrayContaining([
			'A=1',
			'PATH=/usr/bin:/bin',
			'ROBOT_FLEET_VAR_X=1',
			'ROBOT_FLEET_JOB_ID=job',
			'ROBOT_FLEET_ATTEMPT=2',
			expect.stringMatching(/^ROBOT_FLEET_ATTEMPT_MARK=mark-/),
		]),
	);
	expect(job.stdout).not.toContain('secret');
});

test('stdin is written and closed; without it there is nothing to read', async () => {
	const fed = run({ command: 'cat', stdin: 'hello {{x}}' }, { x: 'you' });
	await fed.ended;
	expect(fed.stdout).toBe('hello you');
	expect(await run({ command: 'cat' }).ended).toMatchObject({ end: 'done' });
});

test('a program that does not read its input is no failure', async () => {
	const job = run({ command: 'true', stdin: 'x'.repeat(60_000) });
	expect(await job.ended).toMatchObject({ end: 'done' });
});

test('the folder is the home of the user unless the job names one', async () => {
	const home = run({ command: 'pwd' });
	await home.ended;
	expect(home.stdout).toBe(`${homedir()}\n`);
	const named = run({ command: 'pwd', cwd: '{{where}}' }, { where: folder() });
	await named.ended;
	expect(named.stdout).toBe(`${folder()}\n`);
});

test('a folder that is not absolute lies in that one, and an empty one is that one', async () => {
	const pwd = async (cwd: string, variables: Variables = {}) => {
		const working = run({ command: 'pwd', cwd }, variables);
		await working.ended;
		return working.stdout.trim();
	};
	const home = fs.realpathSync(homedir());
	expect(await pwd('')).toBe(home);
	expect(await pwd('.')).toBe(home);
	expect(await pwd('{{dir}}', { dir: '' })).toBe(home);
	expect(await pwd('..')).toBe(dirname(home));
});

test('where nobody knows a home, it is the root', async () => {
	const { HOME } = process.env;
	const homeless = jest.spyOn(os, 'homedir');
	try {
		homeless.mockImplementation(() => {
			throw new Error('uv_os_homedir returned ENOENT');
		});
		const working = run({ command: 'pwd' });
		expect(await working.ended).toMatchObject({ end: 'done' });
		expect(working.stdout).toBe('/\n');
		homeless.mockImplementation(() => '');
		const other = run({ command: 'pwd' });
		await other.ended;
		expect(other.stdout).toBe('/\n');
	} finally {
		homeless.mockRestore();
		process.env.HOME = HOME;
	}
});

test.each([1, 75, 255])('exit code %d is a failure of its own', async (code) => {
	expect(await run({ shell: `exit ${code}` }).ended).toMatchObject({
		end: 'failed',
		cause: 'exit_code',
		exitCode: code,
	});
});

test('a signal from elsewhere is a failure of its own', async () => {
	expect(await run({ shell: 'kill -SEGV $$' }).ended).toMatchObject({
		end: 'failed',
		cause: 'signal',
		signal: 'SIGSEGV',
		exitCode: null,
	});
});

test('what cannot be started says why in one sentence', async () => {
	const notAProgram = join(folder(), 'plain');
	writeFileSync(notAProgram, 'x');
	chmodSync(notAProgram, 0o644);
	mkdirSync(join(folder(), 'sub'));
	const cases: [CommandSpec, RegExp][] = [
		[{ command: 'no-such-program' }, /^This robot has no program "no-such-program"/],
		[
			{ command: 'true', cwd: '/no/such/folder' },
			/^The folder "\/no\/such\/folder" cannot be used/,
		],
		[{ command: 'true', cwd: notAProgram }, /is not a folder/],
		[{ command: notAProgram }, /may run/],
		[{ command: 'true', args: ['x'.repeat(4_000_000)] }, /too large/],
		[{ command: 'true', args: ['a\0b'] }, /could not be started/],
	];
	for (const [spec, sentence] of cases) {
		const outcome = await run(spec).ended;
		expect(outcome).toMatchObject({ end: 'failed', cause: 'spawn_error', processGone: true });
		expect(outcome.error!.message).toMatch(sentence);
	}
});

test('a polite stop lets the program clean up', async () => {
	const job = run({ shell: `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done` });
	await job.printed(/up/);
	job.stop('cancelled', 5_000);
	expect(await job.ended).toMatchObject({ end: 'stopped', processGone: true });
	expect(job.stdout).toBe('up\nbye\n');
});

test('a child that left the group is found by its mark and stopped too', async () => {
	const job = run({ shell: `setsid sh -c 'trap "" TERM; echo up; sleep 60' & sleep 60` });
	await job.printed(/up/);
	job.stop('cancelled', 100);
	expect(await job.ended).toMatchObject({ end: 'stopped', processGone: true });
});

test('no politeness when there is no time', async () => {
	const job = run({ shell: `trap '' TERM; echo up; while :; do sleep 0.05; done` });
	await job.printed(/up/);
	job.stop('agent-stop', 3_600_000);
	job.hurry();
	expect(await job.ended).toMatchObject({ end: 'stopped', signal: 'SIGKILL', processGone: true });
});

test('a stop that comes before the start starts nothing', async () => {
	const job = run({ command: 'true' });
	const early = run({ shell: 'echo ran' });
	early.stop('cancelled', 0);
	await job.ended;
	expect((await early.ended).end).toBe('stopped');
});

test('what has ended before its agent finds it again has ended so, whoever wants it stopped by then', async () => {
	const keeper = new Keeper({
		folder: join(folder(), 'keeper'),
		program: undefined,
		spool: { folder: join(folder(), 'spool'), maxBytes: 1_000, reserveBytes: 0 },
		clock: systemClock,
		log: { info: () => undefined, warn: () => undefined },
	});
	const attempt = { jobId: 'job', epoch: 1 };
	const env = { PATH: process.env.PATH! };
	const program = { run: { command: 'true', args: [] }, cwd: '/', env, stdin: false };
	await (
		await keeper.start({ ...attempt, program })
	).ended;
	const mark = `mark-${process.pid}-before`;
	const context = {
		...attempt,
		mark,
		signal: AbortSignal.abort({ why: 'over', graceMs: 0 } satisfies Stop),
		hurry: new AbortController().signal,
		outputKept: () => undefined,
		started: () => undefined,
		sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms, signal),
	} as Partial<RunContext> as RunContext;
	const executor = commandExecutor({ env: {}, secretEnvNames: [], keeper });
	const trace = { mark, pid: null, birth: null };
	const rejoined = await executor.rejoin!({ command: 'true' }, context, trace);
	expect(await rejoined?.outcome).toMatchObject({ end: 'done', exitCode: 0 });
	await keeper.close();
});

test('a background child that holds the pipe does not hold the job, and is told of', async () => {
	const job = run({ shell: 'sleep 60 & echo $!' });
	const outcome = await job.ended;
	expect(outcome).toMatchObject({ end: 'done', processGone: false });
	process.kill(Number(job.stdout), 'SIGKILL');
});

test('how a program ended is told also when nobody can look whether something of it lives on', async () => {
	const job = run({ shell: 'sleep 60 & echo $!; exit 3' });
	await job.printed(/\d\n/);
	const blind = jest.spyOn(fs, 'readdirSync').mockImplementation(() => {
		throw new Error('EMFILE: too many open files, scandir');
	});
	try {
		expect(await job.ended).toMatchObject({ exitCode: 3, processGone: false });
	} finally {
		blind.mockRestore();
		process.kill(Number(job.stdout), 'SIGKILL');
	}
});

describe('a keeper that is silent', () => {
	async function cancelled(begun: boolean) {
		const place = folder();
		const silent = await silentKeeper(place);
		const { keeper, next } = silent;
		const stopping = new AbortController();
		const waits: number[] = [];
		const context = {
			jobId: 'job',
			epoch: 1,
			attempt: 1,
			mark: `mark-${process.pid}-silent`,
			variables: {},
			signal: stopping.signal,
			hurry: new AbortController().signal,
			async sleep(ms: number, signal?: AbortSignal) {
				waits.push(ms);
				// Of the wait for an answer only the length is of interest.
				return ms === 10_000 || (await systemClock.sleep(ms, signal));
			},
		} as RunContext;
		const executor = commandExecutor({ env: {}, secretEnvNames: [], keeper });
		const ended = executor.run({ command: 'true' }, context);
		expect(await next()).toMatchObject({ say: 'start' });
		// What a keeper makes before it calls the program.
		const file = join(place, 'silent', places.exits, 'job-1');
		if (begun) writeFileSync(file, '');
		stopping.abort({ why: 'cancelled', graceMs: 0 } satisfies Stop);
		const outcome = await ended;
		expect(waits).toEqual([10_000]);
		return { ...silent, outcome, file };
	}

	test('costs a job that is to stop no slot for ever, and finds that it may not start it any more', async () => {
		const { keeper, say, close, outcome, file } = await cancelled(false);
		expect(outcome).toMatchObject({ end: 'stopped', processGone: true });
		keeper.forgotten({ jobId: 'job', epoch: 1 });
		expect(() => new ExitFiles(dirname(file)).begin('job-1')).toThrow('started before');
		say({ say: 'not-started', key: 'job-1', why: 'again', message: 'started before' });
		await until(() => !existsSync(file) || undefined, {
			deadlineMs: 10_000,
			what: () => 'the file to go',
		});
		await close();
	});

	test('which may have begun leaves it unknown; what it starts after all is ended', async () => {
		const { say, close, outcome } = await cancelled(true);
		expect(outcome).toMatchObject({ end: 'failed', cause: 'unknown', processGone: false });
		const late = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
		const gone = new Promise((resolve) => late.once('exit', (_code, signal) => resolve(signal)));
		say({ say: 'started', key: 'job-1', pid: late.pid!, birth: null, terminal: false });
		expect(await gone).toMatch(/SIG(TERM|KILL)/);
		await close();
	});

	async function killed(begun: boolean): Promise<Outcome> {
		const place = folder();
		const { keeper, next, die, close } = await silentKeeper(place);
		const context = {
			jobId: 'job',
			epoch: 1,
			attempt: 1,
			mark: `mark-${process.pid}-killed`,
			variables: {},
			signal: new AbortController().signal,
			hurry: new AbortController().signal,
			sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms, signal),
		} as Partial<RunContext> as RunContext;
		const executor = commandExecutor({ env: {}, secretEnvNames: [], keeper });
		const ended = executor.run({ command: 'true' }, context);
		// It may fail before we look.
		ended.catch(() => undefined);
		expect(await next()).toMatchObject({ say: 'start' });
		if (begun) writeFileSync(join(place, 'silent', places.exits, 'job-1'), '');
		await die();
		return await ended.finally(close);
	}

	test('and is killed before it comes to a start has not started it', async () => {
		expect(await killed(false)).toMatchObject({ cause: 'infrastructure', processGone: true });
	});

	test('and is killed when it may have begun leaves it unknown', async () => {
		await expect(killed(true)).rejects.toThrow('was killed');
	});

	test.each([
		['has not begun finds, when it comes to it, that it must not any more', 'infrastructure'],
		['may have begun leaves it unknown', undefined],
	])('to the next agent: a start that it %s', async (_what, cause) => {
		const begun = cause === undefined;
		const home = join(folder(), 'mute');
		mkdirSync(join(home, places.exits), { recursive: true });
		writeFileSync(join(home, places.secret), 'secret');
		const mute = createServer((socket) => socket.destroy());
		await new Promise<void>((done) => void mute.listen(join(home, places.socket), done));
		const keeper = new Keeper({
			folder: home,
			program: undefined,
			spool: { folder: join(folder(), 'spool'), maxBytes: 1_000, reserveBytes: 0 },
			clock: systemClock,
			log: { info: () => undefined, warn: () => undefined },
		});
		const exits = new ExitFiles(join(home, places.exits));
		if (begun) exits.begin('job-1');
		const executor = commandExecutor({ env: {}, secretEnvNames: [], keeper });
		const trace = { mark: 'mark', pid: null, birth: currentBoot() };
		const context = { jobId: 'job', epoch: 1 } as RunContext;
		const rejoined = await executor.rejoin!({ command: 'true' }, context, trace);
		expect((await rejoined?.outcome)?.cause).toBe(cause);
		executor.forgotten!({ jobId: 'job', epoch: 1 });
		keeper.sweep([]);
		await keeper.find({ jobId: 'job', epoch: 1 });
		expect(() => exits.begin('job-1')).toThrow('started before');
		await keeper.close();
		await new Promise((done) => void mute.close(done));
	});
});
