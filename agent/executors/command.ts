/**
 * Runs a `command`: one program without a shell, or one line of shell text. Output goes out as it
 * comes; an exit code other than 0 is a failure like any other, 75 too (the service knows which ones
 * are worth a retry). What the program leaves running in the background is left alone, and said
 * (`processGone` false), unless the job is stopped: then the whole pack goes.
 */
import { homedir } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { type CommandSpec, fillSpec, variableEnvName } from '../../kinds/command';
import type { Stream } from '../../protocol/frames';
import {
	birthOf,
	groupExists,
	groupOf,
	mayLive,
	type Pack,
	type Program,
	type RunningProgram,
	signalPack,
	SpawnFailure,
	startProgram,
} from '../drivers/process';
import type { Executor, InputPort, Outcome, RunContext, Stop } from './executor';

/** A background child may hold the pipe for ever: this long a silence after the exit ends reading. */
const quietPipeMs = 500;
/** …and this long in all. */
const maxDrainMs = 5_000;
/** How long a kill may take to show. */
const killShowsMs = 5_000;

export interface CommandHost {
	/** The environment a program starts from. Read at every start. */
	env: Readonly<Record<string, string | undefined>>;
	/** Names that never reach a program: the agent's own secrets. */
	secretEnvNames: readonly string[];
}

export function commandExecutor(host: CommandHost): Executor<CommandSpec> {
	return {
		kind: 'command',

		async run(spec, context) {
			if (context.signal.aborted) return stopped({ exitCode: null, signal: null, gone: true });
			const filled = fillSpec(spec, context.variables);
			let program: RunningProgram;
			try {
				program = await startProgram(programOf(filled, context, host));
			} catch (error) {
				if (!(error instanceof SpawnFailure)) throw error;
				return failed('spawn_error', error.message, { gone: true });
			}
			context.started(program.pid, birthOf(program.pid));
			return await follow(program, filled, context);
		},

		async cleanUp(trace, graceMs, context) {
			const pack: Pack = { mark: trace.mark, group: groupOf(trace) };
			// Without /proc nobody can tell whether that pid is still ours: touch nothing, promise nothing.
			if (pack.group === null && process.platform !== 'linux') return false;
			return await endPack(pack, graceMs, context);
		},
	};
}

async function follow(
	program: RunningProgram,
	spec: CommandSpec,
	context: RunContext,
): Promise<Outcome> {
	const pack: Pack = { mark: context.mark, group: program.pid };
	if (program.stdin !== null) {
		// A program that does not read its input closes the pipe; that is its right.
		program.stdin.on('error', () => undefined);
		if (spec.interactive) {
			program.stdin.write(spec.stdin ?? '');
			context.takesInput(pipeInput(program.stdin));
		} else program.stdin.end(spec.stdin ?? '');
	}
	const pipes = new Pipes(program, context);

	const ending = new AbortController();
	const exit = program.exit.finally(() => ending.abort());
	const first = await Promise.race([exit, aborted(context.signal, ending.signal)]);
	if (first === 'aborted') {
		const { graceMs } = context.signal.reason as Stop;
		const gone = await endPack(pack, graceMs, context);
		if (!gone) pipes.close();
		const status = gone ? await exit : { code: null, signal: null };
		await pipes.finish(context.sleep);
		return stopped({ exitCode: status.code, signal: status.signal, gone });
	}

	await pipes.finish(context.sleep);
	const gone = !groupExists(program.pid) || !(await mayLive(pack, context.sleep));
	if (first.signal !== null) {
		return failed('signal', `The command was ended by ${first.signal}.`, {
			gone,
			signal: first.signal,
		});
	}
	if (first.code !== 0) {
		return failed('exit_code', `The command ended with exit code ${first.code}.`, {
			gone,
			exitCode: first.code,
		});
	}
	return {
		end: 'done',
		cause: null,
		exitCode: 0,
		signal: null,
		outputs: {},
		error: null,
		processGone: gone,
	};
}

function programOf(spec: CommandSpec, context: RunContext, host: CommandHost): Program {
	const env: Record<string, string> = {};
	for (const [name, value] of Object.entries(host.env)) {
		if (value !== undefined && !host.secretEnvNames.includes(name)) env[name] = value;
	}
	Object.assign(env, spec.env);
	for (const [name, value] of Object.entries(context.variables)) {
		env[variableEnvName(name)] = String(value);
	}
	env.ROBOT_FLEET_JOB_ID = context.jobId;
	env.ROBOT_FLEET_ATTEMPT = String(context.attempt);
	env.ROBOT_FLEET_ATTEMPT_MARK = context.mark;
	return {
		run:
			spec.shell === undefined
				? { command: spec.command!, args: spec.args ?? [] }
				: { shell: spec.shell },
		cwd: spec.cwd ?? homedir(),
		env,
		stdin: spec.stdin !== undefined || spec.interactive === true,
	};
}

/** A pipe takes bytes at the speed at which the program reads. */
function pipeInput(stdin: Writable): InputPort {
	let have = 0;
	return {
		have,
		terminal: false,
		async write(_offset, data) {
			if (!stdin.writable) return have;
			const taken = await new Promise<boolean>((done) =>
				stdin.write(data, (error) => done(error === null || error === undefined)),
			);
			if (taken) have += data.length;
			return have;
		},
		async end() {
			stdin.end();
		},
		resize: () => undefined,
	};
}

/** Reads both pipes of a program into the spool, at the speed of the spool. */
class Pipes {
	readonly #program: RunningProgram;
	readonly #atEnd: Promise<unknown>;
	#chunks = 0;
	#writing = 0;

	constructor(program: RunningProgram, context: RunContext) {
		this.#program = program;
		this.#atEnd = Promise.all([
			this.#drain(program.stdout, 'stdout', context),
			this.#drain(program.stderr, 'stderr', context),
		]);
	}

	/** After the exit the pipes are normally at their end. If somebody else holds them, waits a little. */
	async finish(sleep: RunContext['sleep']): Promise<void> {
		const done = new AbortController();
		const finished = this.#atEnd.then(() => done.abort());
		let left = maxDrainMs;
		let seen = -1;
		while (left > 0 && seen !== this.#chunks) {
			seen = this.#chunks;
			if (!(await sleep(quietPipeMs, done.signal))) break;
			// A slow disk is no silence, and its time is not held against the pipe.
			if (this.#writing > 0) seen = -1;
			else left -= quietPipeMs;
		}
		if (!done.signal.aborted) this.close();
		await finished;
	}

	/** What was read is kept; who still writes gets SIGPIPE. */
	close(): void {
		this.#program.stdout.destroy();
		this.#program.stderr.destroy();
	}

	async #drain(pipe: Readable, stream: Stream, context: RunContext): Promise<void> {
		try {
			for await (const chunk of pipe) {
				this.#chunks++;
				this.#writing++;
				await context.output(stream, chunk as Buffer);
				this.#writing--;
			}
		} catch {
			// A pipe closed under us ends like one that is empty; what was read has been kept.
		}
	}
}

/** Polite, then not. True when nothing of the pack lives any more. */
async function endPack(
	pack: Pack,
	graceMs: number,
	{ sleep, hurry }: Pick<RunContext, 'sleep' | 'hurry'>,
): Promise<boolean> {
	if (!hurry.aborted) {
		await signalPack(pack, 'SIGTERM', sleep);
		if (await waitGone(pack, graceMs, sleep, hurry)) return true;
	}
	for (let left = killShowsMs; left > 0; left -= 1_000) {
		// Again and again: a process may fork between the look and the kill.
		await signalPack(pack, 'SIGKILL', sleep);
		if (await waitGone(pack, Math.min(left, 1_000), sleep)) return true;
	}
	return false;
}

async function waitGone(
	pack: Pack,
	ms: number,
	sleep: RunContext['sleep'],
	hurry?: AbortSignal,
): Promise<boolean> {
	const ending = new AbortController();
	let late = ms <= 0;
	// The time runs while we look, too: on a machine with many processes that is most of it.
	void sleep(ms, ending.signal).then((over) => (late ||= over));
	try {
		for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, 250)) {
			if (!(await mayLive(pack, sleep))) return true;
			if (late || hurry?.aborted) return false;
			await sleep(pauseMs, hurry);
		}
	} finally {
		ending.abort();
	}
}

async function aborted(signal: AbortSignal, ending: AbortSignal): Promise<'aborted'> {
	return await new Promise((resolve) => {
		if (signal.aborted) resolve('aborted');
		signal.addEventListener('abort', () => resolve('aborted'), { once: true, signal: ending });
	});
}

function stopped(facts: {
	exitCode: number | null;
	signal: string | null;
	gone: boolean;
}): Outcome {
	return {
		end: 'stopped',
		cause: null,
		exitCode: facts.exitCode,
		signal: facts.signal,
		outputs: {},
		error: null,
		processGone: facts.gone,
	};
}

function failed(
	cause: 'spawn_error' | 'exit_code' | 'signal',
	message: string,
	facts: { gone: boolean; exitCode?: number | null; signal?: string | null },
): Outcome {
	return {
		end: 'failed',
		cause,
		exitCode: facts.exitCode ?? null,
		signal: facts.signal ?? null,
		outputs: {},
		error: { type: cause, message },
		processGone: facts.gone,
	};
}
