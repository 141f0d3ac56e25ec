/**
 * Runs a `command`: one program without a shell, or one line of shell text. A keeper holds it, reads what
 * it prints and knows how it ended, so it goes on when this agent ends, and the next one finds it again.
 * An exit code other than 0 is a failure like any other, even 75 (the service knows which ones are worth a
 * retry). What the program leaves running in the background is left alone and reported (`processGone`
 * false), unless the job is stopped: then the whole pack goes.
 */
import { homedir } from 'node:os';
import { isAbsolute, resolve } from 'node:path';
import { type CommandSpec, fillSpec, variableEnvName } from '../../kinds/command';
import { streams } from '../../protocol/frames';
import { enough } from '../clock';
import {
	currentBoot,
	groupExists,
	groupOf,
	mayLive,
	type Pack,
	type Program,
	seesProcesses,
	signalPack,
	SpawnFailure,
} from '../drivers/process';
import { type Keeper, KeeperGone, type Ward } from '../keeper/keeper';
import type { End } from '../keeper/words';
import type { Executor, InputPort, Outcome, RunContext, Stop } from './executor';
import { aborted, started, unlessStopped } from './starting';

/** How long a kill may take to show. */
const killShowsMs = 5_000;
const noAnswer = 'The keeper of programs on the robot does not say whether it started this one.';
const neverCalled =
	'The keeper of programs on the robot ended before it called this one, so nothing has started.';
/** Of a terminal, until somebody looks at it. */
const firstSize = { columns: 80, rows: 24 };

export interface CommandHost {
	/** The environment a program starts from. */
	env: Readonly<Record<string, string | undefined>>;
	/** Names that never reach a program: the agent's own secrets. */
	secretEnvNames: readonly string[];
	keeper: Keeper;
	/** False = interactive programs get plain pipes. */
	terminals?: boolean;
}

export function commandExecutor(host: CommandHost): Executor<CommandSpec> {
	const { keeper } = host;
	const base = baseEnvironment(host);
	return {
		kind: 'command',

		prepare: () => keeper.ready(),

		async run(spec, context) {
			if (!keeper.isReady) await unlessStopped(keeper.ready(), context.signal);
			// Nothing was said to any keeper yet, so nothing can start.
			if (context.signal.aborted) return stopped({ exitCode: null, signal: null, gone: true });
			const filled = fillSpec(spec, context.variables);
			const { jobId, epoch } = context;
			let ward: Ward;
			try {
				const program = programOf(filled, context, base);
				const interactive = filled.interactive ?? false;
				const terminal = interactive && host.terminals !== false ? firstSize : undefined;
				const { stdin } = filled;
				const order = { jobId, epoch, program, stdin, terminal, interactive };
				const starting = keeper.start(order, context.maxOutputBytes);
				const answer = await started(starting, context, {
					preclude: () => keeper.preclude(context),
					async unwanted(late) {
						await endPack({ mark: context.mark, group: late.pid }, 0, context);
						await late.ended;
						keeper.settled(context);
					},
				});
				if (answer === 'never') return stopped({ exitCode: null, signal: null, gone: true });
				if (answer === 'unknown') return failed('unknown', noAnswer, { gone: false });
				ward = answer;
			} catch (error) {
				if (error instanceof SpawnFailure) {
					return failed('spawn_error', error.message, { gone: true });
				}
				// A keeper writes down what it is about to call, so it is known when it had not got that far.
				if (!(error instanceof KeeperGone) || !keeper.neverStarted(context)) throw error;
				return failed('infrastructure', neverCalled, { gone: true });
			}
			return await follow(ward, filled, context, keeper);
		},

		async rejoin(spec, context, trace) {
			const ward = await keeper.find(context);
			if (ward !== undefined) {
				return { ageMs: ward.ageMs, outcome: follow(ward, spec, context, keeper) };
			}
			const end = keeper.lastEnd(context);
			if (end === undefined) {
				const sameBoot = trace.birth !== null && trace.birth === currentBoot();
				if (!sameBoot || trace.pid !== null || !keeper.neverStarted(context)) return undefined;
				const message = 'The agent ended before it called the program, so nothing has started.';
				const outcome = failed('infrastructure', message, { gone: true });
				return { ageMs: 0, outcome: Promise.resolve(outcome) };
			}
			const pack: Pack = { mark: context.mark, group: null };
			return { ageMs: end.ranMs, outcome: outcomeOf(end, pack, context) };
		},

		settled: (attempt) => keeper.settled(attempt),

		forgotten: (attempt) => keeper.forgotten(attempt),

		async cleanUp(trace, graceMs, context) {
			const pack: Pack = { mark: trace.mark, group: groupOf(trace) };
			// Without /proc nobody can tell whether that pid is still ours: touch nothing, promise nothing.
			if (pack.group === null && !seesProcesses) return false;
			return await endPack(pack, graceMs, context);
		},
	};
}

/** Rejects with `KeeperGone` when nobody can know how it ended. */
async function follow(
	ward: Ward,
	spec: CommandSpec,
	context: RunContext,
	keeper: Keeper,
): Promise<Outcome> {
	const pack: Pack = { mark: context.mark, group: ward.pid };
	context.started(ward.pid, ward.birth);
	ward.follow((state) => context.outputKept(state));
	if (spec.interactive) context.takesInput(portOf(ward));
	try {
		const ending = new AbortController();
		const stopping = aborted(context.signal, ending.signal);
		// In this order: what ended while no agent was there keeps its own end, and its number may be a
		// stranger's by now.
		const first = await Promise.race([ward.exited, stopping]).finally(() => ending.abort(enough));
		if (first !== 'aborted') return await outcomeOf(await ward.ended, pack, context);

		const { graceMs } = context.signal.reason as Stop;
		const gone = await endPack(pack, graceMs, context);
		if (!gone) ward.giveUp();
		const end = await ward.ended;
		context.outputKept(end.output);
		return { ...stopped({ exitCode: end.code, signal: end.signal, gone }), kept: keptOf(end) };
	} catch (error) {
		const end = error instanceof KeeperGone ? keeper.lastEnd(context) : undefined;
		if (end === undefined) throw error;
		// It had ended, and the keeper wrote that down before it was killed.
		return await outcomeOf(end, pack, context);
	}
}

/** What the end of a program means when nobody stopped it. */
async function outcomeOf(end: End, pack: Pack, context: RunContext): Promise<Outcome> {
	context.outputKept(end.output);
	if (end.code === null && end.signal === null) {
		throw new Error('it could not be ended, and nobody looks after it any more');
	}
	const kept = keptOf(end);
	const mayBeLeft = pack.group === null || groupExists(pack.group);
	const gone = !mayBeLeft || !(await mayLive(pack, context.sleep));
	if (end.signal !== null) {
		const facts = { gone, signal: end.signal };
		return { ...failed('signal', `The command was ended by ${end.signal}.`, facts), kept };
	}
	if (end.code !== 0) {
		const facts = { gone, exitCode: end.code };
		const message = `The command ended with exit code ${end.code}.`;
		return { ...failed('exit_code', message, facts), kept };
	}
	return {
		end: 'done',
		cause: null,
		exitCode: 0,
		signal: null,
		outputs: {},
		error: null,
		processGone: gone,
		kept,
	};
}

function portOf(ward: Ward): InputPort {
	return {
		have: ward.typed,
		terminal: ward.terminal,
		write: (offset, data, secret) => ward.input(offset, data, secret),
		end: async (offset) => void (await ward.endInput(offset)),
		resize: (size) => ward.resize(size),
	};
}

function keptOf({ ranMs, sha256, tails = {} }: End): Outcome['kept'] {
	const bytes: NonNullable<Outcome['kept']>['tails'] = {};
	for (const stream of streams) {
		const text = tails[stream];
		if (text !== undefined) bytes[stream] = Buffer.from(text, 'base64');
	}
	return { ranMs, sha256, tails: bytes };
}

function baseEnvironment(host: CommandHost): Readonly<Record<string, string>> {
	const env: Record<string, string> = {};
	for (const [name, value] of Object.entries(host.env)) {
		if (value !== undefined && !host.secretEnvNames.includes(name)) env[name] = value;
	}
	// If the agent runs as a job itself, the client of that job is not meant.
	delete env.ROBOT_FLEET_CLIENT;
	return env;
}

function programOf(
	spec: CommandSpec,
	context: RunContext,
	base: Readonly<Record<string, string>>,
): Program {
	const env: Record<string, string> = { ...base, ...context.client?.env, ...spec.env };
	for (const [name, value] of Object.entries(context.variables)) {
		env[variableEnvName(name)] = String(value);
	}
	env.ROBOT_FLEET_JOB_ID = context.jobId;
	env.ROBOT_FLEET_ATTEMPT = String(context.attempt);
	env.ROBOT_FLEET_ATTEMPT_MARK = context.mark;
	if (context.workspace !== undefined) env.ROBOT_FLEET_WORKSPACE = context.workspace;
	if (context.client !== undefined) env.ROBOT_FLEET_CLIENT = context.client.name;
	return {
		run:
			spec.shell === undefined
				? { command: spec.command!, args: spec.args ?? [] }
				: { shell: spec.shell },
		cwd: folderOf(spec, context),
		env,
		stdin: spec.stdin !== undefined || spec.interactive === true,
	};
}

/** A relative folder must not be resolved against the keeper's working directory, which is its own folder. */
function folderOf({ cwd = '' }: CommandSpec, { workspace }: RunContext): string {
	return isAbsolute(cwd) ? cwd : resolve(workspace ?? home(), cwd);
}

/** The root when there is none: for a user without an entry, as in many containers, and without HOME. */
function home(): string {
	try {
		return resolve('/', homedir());
	} catch {
		return resolve('/');
	}
}

/** Politely, then not. True when nothing of the pack is alive any more. */
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
	// The clock runs while we look, too: on a machine with many processes looking takes most of the time.
	void sleep(ms, ending.signal).then((over) => (late ||= over));
	try {
		for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, 250)) {
			if (!(await mayLive(pack, sleep))) return true;
			if (late || hurry?.aborted) return false;
			await sleep(pauseMs, hurry);
		}
	} finally {
		ending.abort(enough);
	}
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
	cause: 'spawn_error' | 'exit_code' | 'signal' | 'infrastructure' | 'unknown',
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
