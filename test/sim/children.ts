/**
 * The commands of simulated jobs: processes of a machine, not of its agent. What a command does is
 * written in its recipe. Some outlive their agent, some ignore a polite signal; each writes a line
 * when it starts and one before it ends, as the commands of the real kill tests do.
 */
import { SpawnFailure } from '../../agent/drivers/process';
import type { Executor, Outcome, RunContext, Stop } from '../../agent/executors/executor';
import { started } from '../../agent/executors/starting';
import type { Stream } from '../../protocol/frames';
import type { Kernel, Process, Timer } from './kernel';

/** What a job does, planned with the world. */
export interface Recipe {
	key: string;
	/** What it prints, and when after its start. */
	pieces: readonly { atMs: number; stream: Stream; bytes: number }[];
	runMs: number;
	/** Exit codes by attempt; the last one is that of all further attempts. */
	codes: readonly number[];
	/** So many first attempts find no program to start. */
	spawnErrors: number;
	/** How long after a polite signal it ends; never = it must be killed. */
	dieMs: number;
	/** Goes on when its agent is gone. */
	outlives: boolean;
	/** Of what it hands out when it succeeds. */
	outputsBytes?: number;
}

export interface Child {
	readonly pid: number;
	readonly jobId: string;
	readonly attempt: number;
	readonly mark: string;
	readonly bornAt: number;
	alive: boolean;
	/** When somebody first wanted it to end. */
	askedAt?: number;
	goneAt?: number;
}

/** One line of a command, and one of a process that ended otherwise. */
export interface ChildHooks {
	wrote(child: Child, event: 'start' | 'end', code: number): void;
	gone(child: Child): void;
	/** The plan of a job, by the key in its variables. */
	recipe(key: string): Recipe;
}

interface Script {
	child: Child;
	recipe: Recipe;
	timers: Timer[];
	/** Aborted when it is gone. */
	gone: AbortController;
	/** The agent that reads its pipes, while there is one. */
	reader:
		{ print(stream: Stream, chunk: Buffer): void; ended(code: number | null): void } | undefined;
}

/** How long a program takes to start, and a killed one to go. */
const spawnMs = 1;
const killMs = 1;

export class Children {
	readonly alive = new Set<Child>();
	readonly #kernel: Kernel;
	/** The machine: it lives on when its agent dies. */
	readonly #machine: Process;
	readonly #hooks: ChildHooks;
	readonly #scripts = new Map<Child, Script>();
	/** Attempts that were started, or must not be any more; as the files of the keeper. */
	readonly #begun = new Set<string>();
	/** Whose start was asked for and not answered. */
	readonly #starting = new Map<string, Timer>();
	/** Of these, who was forgotten meanwhile. */
	readonly #forgotten = new Set<string>();
	#stall: { until: number; before: 'start' | 'answer' } = { until: 0, before: 'start' };
	#lastPid = 0;

	constructor(kernel: Kernel, machine: Process, hooks: ChildHooks) {
		this.#kernel = kernel;
		this.#machine = machine;
		this.#hooks = hooks;
	}

	/** What the agent runs jobs with, for one life of it. */
	executor(agent: Process): Executor {
		return {
			kind: 'command',
			run: (_spec, context) => this.#run(agent, context),
			rejoin: async (_spec, context) => {
				if (!this.#starting.has(keyOf(context)) || !this.preclude(keyOf(context))) return undefined;
				const message = 'The agent ended before the program was called.';
				const outcome = Promise.resolve(failed('infrastructure', message, null));
				return { ageMs: 0, outcome };
			},
			forgotten: (attempt) => {
				const key = keyOf(attempt);
				// Whoever is only now coming to its start has to find it.
				if (this.#starting.has(key)) this.#forgotten.add(key);
				else this.#begun.delete(key);
			},
			cleanUp: async (trace, graceMs, context) => {
				const left = [...this.alive].filter(({ mark }) => mark === trace.mark);
				for (const child of left) await this.#stop(child, graceMs, context.sleep, context.hurry);
				return true;
			},
		};
	}

	/** Who starts programs stands still for so long: before it comes to a start, or before it says so. */
	stall(ms: number, before: 'start' | 'answer'): void {
		this.#stall = { until: this.#kernel.now + ms, before };
	}

	get stalledUntil(): number {
		return this.#stall.until;
	}

	/** It was asked for, and nobody has said yet what came of it. */
	isStarting(attempt: { jobId: string; epoch: number }): boolean {
		return this.#starting.has(keyOf(attempt));
	}

	/** From now on nobody starts it; false when somebody has. */
	preclude(key: string): boolean {
		if (this.#begun.has(key)) return false;
		this.#begun.add(key);
		return true;
	}

	/** The agent is dead: nobody reads any more. Some go on writing into the void, some do not survive it. */
	orphan(): void {
		for (const script of [...this.#scripts.values()]) {
			script.reader = undefined;
			if (!script.recipe.outlives) this.#end(script, null);
		}
	}

	powerCut(): void {
		for (const timer of this.#starting.values()) this.#kernel.cancel(timer);
		this.#starting.clear();
		for (const script of [...this.#scripts.values()]) {
			script.reader = undefined;
			this.#end(script, null);
		}
	}

	async #run(agent: Process, context: RunContext): Promise<Outcome> {
		const recipe = this.#hooks.recipe(String(context.variables['key']));
		if (context.signal.aborted) return stopped(null);
		const ended = Promise.withResolvers<number | null>();
		const starting = this.#ask(agent, context, recipe, ended.resolve);
		let child: Child;
		try {
			const answer = await started(starting, context, {
				preclude: () => this.preclude(keyOf(context)),
				unwanted: (late) => this.#stop(late, 0, context.sleep, context.hurry),
			});
			if (answer === 'never') return stopped(null);
			if (answer === 'unknown') return this.#leave(context);
			child = answer;
		} catch (error) {
			if (!(error instanceof SpawnFailure)) throw error;
			return failed('spawn_error', error.message, null);
		}
		context.started(child.pid, `born ${child.bornAt}`);
		const over = new AbortController();
		const exit = ended.promise.finally(() => over.abort());
		const first = await Promise.race([exit, aborted(context.signal, over.signal)]);
		if (first === 'stop') {
			const { graceMs } = context.signal.reason as Stop;
			await this.#stop(child, graceMs, context.sleep, context.hurry);
			return stopped(await exit);
		}
		if (!agent.alive) return new Promise(() => undefined);
		if (first === null) return failed('signal', 'The command was ended by SIGKILL.', null);
		if (first !== 0)
			return failed('exit_code', `The command ended with exit code ${first}.`, first);
		return {
			end: 'done',
			cause: null,
			exitCode: 0,
			signal: null,
			outputs: handedOut(recipe),
			error: null,
			processGone: true,
		};
	}

	/** As a keeper does it: in its own time, whoever has asked for it lives or not, and once. */
	#ask(
		agent: Process,
		context: RunContext,
		recipe: Recipe,
		ended: (code: number | null) => void,
	): Promise<Child> {
		const key = keyOf(context);
		const { until, before } = this.#stall;
		const stallMs = Math.max(0, until - this.#kernel.now);
		return new Promise((resolve, reject) => {
			const answered = (answer: () => void) => {
				this.#starting.delete(key);
				if (this.#forgotten.delete(key)) this.#begun.delete(key);
				if (agent.alive) answer();
			};
			const start = () => {
				if (context.attempt <= recipe.spawnErrors) {
					return answered(() => reject(new SpawnFailure('There is no such program.')));
				}
				if (!this.preclude(key)) return answered(() => reject(new Error('It was started before.')));
				const child = this.#start(recipe, context, ended);
				if (!agent.alive) this.#scripts.get(child)!.reader = undefined;
				const tell = () => answered(() => resolve(child));
				if (before === 'start' || stallMs === 0) tell();
				else this.#starting.set(key, this.#kernel.after(stallMs, this.#machine, tell));
			};
			const startMs = before === 'start' ? spawnMs + stallMs : spawnMs;
			this.#starting.set(key, this.#kernel.after(startMs, this.#machine, start));
		});
	}

	/** Nobody says whether it was started; what it prints from now on nobody reads. */
	#leave({ jobId, attempt }: RunContext): Outcome {
		for (const script of this.#scripts.values()) {
			const { child } = script;
			if (child.jobId === jobId && child.attempt === attempt) script.reader = undefined;
		}
		const message = 'Nobody says whether the program was started.';
		return { ...failed('unknown', message, null), processGone: false };
	}

	#start(recipe: Recipe, context: RunContext, ended: (code: number | null) => void): Child {
		const child: Child = {
			pid: (this.#lastPid += 1),
			jobId: context.jobId,
			attempt: context.attempt,
			mark: context.mark,
			bornAt: this.#kernel.now,
			alive: true,
		};
		const script: Script = {
			child,
			recipe,
			timers: [],
			gone: new AbortController(),
			reader: {
				print: (stream, chunk) => void context.output(stream, chunk),
				ended,
			},
		};
		this.alive.add(child);
		this.#scripts.set(child, script);
		const { codes, runMs, pieces } = recipe;
		const code = codes[Math.min(context.attempt, codes.length) - 1]!;
		this.#hooks.wrote(child, 'start', code);
		for (const { atMs, stream, bytes, at } of offsets(pieces)) {
			const whole = printedBy(recipe, context.attempt, stream);
			script.timers.push(
				this.#kernel.after(atMs, this.#machine, () =>
					script.reader?.print(stream, whole.subarray(at, at + bytes)),
				),
			);
		}
		script.timers.push(
			this.#kernel.after(runMs, this.#machine, () => {
				this.#hooks.wrote(child, 'end', code);
				this.#end(script, code);
			}),
		);
		return child;
	}

	/** Polite, then not. Resolves when it is gone. */
	async #stop(
		child: Child,
		graceMs: number,
		sleep: RunContext['sleep'],
		hurry: AbortSignal,
	): Promise<void> {
		const script = this.#scripts.get(child);
		if (!script) return;
		child.askedAt ??= this.#kernel.now;
		const { dieMs } = script.recipe;
		const { signal } = script.gone;
		const hurried = () => script.gone.abort();
		hurry.addEventListener('abort', hurried, { once: true, signal });
		if (!hurry.aborted && graceMs > 0) {
			if (dieMs < graceMs) {
				script.timers.push(this.#kernel.after(dieMs, this.#machine, () => this.#end(script, null)));
			}
			await sleep(Math.min(dieMs, graceMs), signal);
		}
		if (child.alive) {
			await sleep(killMs);
			this.#end(script, null);
		}
	}

	#end(script: Script, code: number | null): void {
		const { child } = script;
		if (!child.alive) return;
		child.alive = false;
		child.goneAt = this.#kernel.now;
		for (const timer of script.timers) this.#kernel.cancel(timer);
		this.alive.delete(child);
		this.#scripts.delete(child);
		this.#hooks.gone(child);
		script.gone.abort();
		script.reader?.ended(code);
	}
}

/** All that a command prints on one stream when it comes to its end. */
export function printedBy({ key, pieces }: Recipe, attempt: number, stream: Stream): Buffer {
	const length = pieces.reduce((sum, one) => sum + (one.stream === stream ? one.bytes : 0), 0);
	return length === 0 ? Buffer.alloc(0) : Buffer.alloc(length, `${key}/${attempt} ${stream} `);
}

/** What it hands out. */
export function handedOut({ outputsBytes }: Recipe): Record<string, unknown> {
	return outputsBytes === undefined ? {} : { filler: 'y'.repeat(outputsBytes) };
}

function offsets(pieces: Recipe['pieces']) {
	const at = { stdout: 0, stderr: 0 };
	return pieces.map((piece) => {
		const begins = at[piece.stream];
		at[piece.stream] += piece.bytes;
		return { ...piece, at: begins };
	});
}

function keyOf({ jobId, epoch }: { jobId: string; epoch: number }): string {
	return `${jobId}/${epoch}`;
}

async function aborted(signal: AbortSignal, over: AbortSignal): Promise<'stop'> {
	return await new Promise((resolve) => {
		if (signal.aborted) resolve('stop');
		signal.addEventListener('abort', () => resolve('stop'), { once: true, signal: over });
	});
}

function stopped(exitCode: number | null): Outcome {
	return {
		end: 'stopped',
		cause: null,
		exitCode,
		signal: exitCode === null ? 'SIGTERM' : null,
		outputs: {},
		error: null,
		processGone: true,
	};
}

function failed(
	cause: 'spawn_error' | 'exit_code' | 'signal' | 'infrastructure' | 'unknown',
	message: string,
	exitCode: number | null,
): Outcome {
	return {
		end: 'failed',
		cause,
		exitCode,
		signal: cause === 'signal' ? 'SIGKILL' : null,
		outputs: {},
		error: { type: cause, message },
		processGone: true,
	};
}
