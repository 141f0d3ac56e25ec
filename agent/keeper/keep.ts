/**
 * Holds the programs of attempts: starts each once, reads its pipes into the spool, writes down how it
 * ended, and keeps all of that until somebody has taken it. The same in the keeper's process as inside an
 * agent that could have no keeper. Signals nobody: whoever wants a program ended finds its processes by
 * their group and mark. Knows no socket and no agent.
 */
import { limits } from '../../protocol';
import { type Stream, streams } from '../../protocol/frames';
import type { Clock } from '../clock';
import {
	birthOf,
	type ExitStatus,
	type RunningProgram,
	SpawnFailure,
	startProgram,
} from '../drivers/process';
import { loadTerminals } from '../drivers/terminal';
import { EchoGuard } from '../echo';
import { type AttemptSpool, Spool, type SpoolState } from '../spool';
import { Tail } from '../tail';
import { type ExitFiles, StartedBefore } from './exits';
import { Input } from './input';
import { Pipes } from './pipes';
import { type End, type Held, keyOf, type Order, type Started, type TerminalSize } from './words';

export interface KeepListener {
	output(key: string, stream: Stream): void;
	/** Not called when its output ends at the same time: then only `ended` is. */
	exited(key: string, status: ExitStatus): void;
	ended(key: string, end: End): void;
}

/** Short enough that nobody notices, long enough for a timer to keep. */
const paceMs = 10;

interface Ward {
	program: RunningProgram;
	birth: string | null;
	startedAt: number;
	spool: AttemptSpool;
	tails: Record<Stream, Tail>;
	input: Input;
	echo: EchoGuard;
	pipes: Pipes;
	givenUp: PromiseWithResolvers<ExitStatus>;
	exited?: ExitStatus;
	end?: End;
	/** Its end is synced. */
	hard: boolean;
}

export class Keep {
	readonly #exits: ExitFiles;
	readonly #clock: Clock;
	readonly #openSpool: (order: Order) => AttemptSpool;
	readonly #wards = new Map<string, Ward>();
	readonly #starting = new Set<Promise<unknown>>();
	#lastTurn = Promise.resolve();
	listener: KeepListener | undefined;

	constructor(exits: ExitFiles, clock: Clock, openSpool = spools()) {
		this.#exits = exits;
		this.#clock = clock;
		this.#openSpool = openSpool;
	}

	get held(): Held[] {
		return [...this.#wards].map(([key, ward]) => ({
			key,
			pid: ward.program.pid,
			birth: ward.birth,
			ageMs: this.#clock.monotonic() - ward.startedAt,
			output: stateOf(ward.spool),
			input: ward.input.have,
			terminal: ward.program.resize !== undefined,
			exited: ward.exited,
			end: ward.end,
		}));
	}

	/** Nothing is held that anybody could ask for. */
	get isEmpty(): boolean {
		return this.#wards.size + this.#starting.size === 0;
	}

	/** Some program has not ended. */
	get isBusy(): boolean {
		return [...this.#wards.values()].some(({ end }) => end === undefined);
	}

	/** Throws `SpawnFailure` when it was surely not called, `StartedBefore`, or what nobody foresaw: then it may have been. */
	async start(order: Order): Promise<Started> {
		const starting = this.#turn().then(() => this.#start(order));
		this.#starting.add(starting);
		try {
			return await starting;
		} finally {
			this.#starting.delete(starting);
		}
	}

	/** Resolves when everything that is about to start is held, or has failed to start. */
	async settled(): Promise<void> {
		await Promise.allSettled(this.#starting);
	}

	/**
	 * Calling a program blocks this thread until the program is there, a millisecond or more: so one after
	 * the other, and in between the thread sees what has ended meanwhile.
	 */
	#turn(): Promise<void> {
		const turn = this.#lastTurn;
		this.#lastTurn = turn.then(() => new Promise((next) => setImmediate(next)));
		return turn;
	}

	async #start(order: Order): Promise<Started> {
		const key = keyOf(order);
		try {
			this.#exits.begin(key);
		} catch (error) {
			if (error instanceof StartedBefore) throw error;
			const { message } = error as Error;
			throw new SpawnFailure(`This robot cannot write down that it starts the job (${message}).`);
		}
		let program: RunningProgram;
		let spool: AttemptSpool;
		let note: string | undefined;
		try {
			spool = this.#openSpool(order);
		} catch (error) {
			this.#exits.remove(key);
			const { message } = error as Error;
			throw new SpawnFailure(`This robot cannot keep what the job prints (${message}).`);
		}
		try {
			const terminal = order.terminal && (await loadTerminals());
			if (order.terminal && !terminal) note = 'this agent has no terminals, it runs with pipes';
			program = terminal
				? await terminal(order.program, order.terminal!, (ms) => this.#clock.sleep(ms))
				: await startProgram(order.program);
		} catch (error) {
			// After any other error nobody can say that the program was not called.
			if (error instanceof SpawnFailure) this.#exits.remove(key);
			throw error;
		}
		const tails = {
			stdout: new Tail(limits.maxTailBytes),
			stderr: new Tail(limits.maxTailBytes),
		};
		const echo = new EchoGuard();
		const pace = new Pace(this.#clock);
		const ward: Ward = {
			program,
			birth: birthOf(program.pid),
			startedAt: this.#clock.monotonic(),
			spool,
			tails,
			input: new Input(program.stdin),
			echo,
			pipes: new Pipes(program, async (stream, printed) => {
				const chunk = echo.pass(stream, printed);
				tails[stream].push(chunk);
				await spool.append(stream, chunk);
				this.listener?.output(key, stream);
				if (spool.overflows) await pace.read(chunk.length);
			}),
			givenUp: Promise.withResolvers(),
			hard: false,
		};
		if (order.stdin !== undefined || program.stdin !== null) {
			ward.input.begin(order.stdin ?? '', { more: order.interactive ?? false });
		}
		this.#wards.set(key, ward);
		void this.#follow(key, ward);
		return { pid: program.pid, birth: ward.birth, terminal: program.resize !== undefined, note };
	}

	stateOf(key: string, stream: Stream): SpoolState[Stream] | undefined {
		return this.#wards.get(key)?.spool.stateOf(stream);
	}

	async input(key: string, offset: number, data: Uint8Array, secret: boolean): Promise<number> {
		const ward = this.#wards.get(key);
		if (ward === undefined) return 0;
		// A piece that is said twice is typed once, and so it is guarded once.
		if (secret && offset === ward.input.have) ward.echo.typed(data);
		return await ward.input.take(offset, data);
	}

	endInput(key: string, offset: number): number {
		return this.#wards.get(key)?.input.end(offset) ?? 0;
	}

	resize(key: string, size: TerminalSize): void {
		const ward = this.#wards.get(key);
		// The handle of a terminal that has ended may be another file's by now.
		if (ward?.exited === undefined) ward?.program.resize?.(size);
	}

	/** It was killed and still does not end: reads no further and lets that be its end. */
	giveUp(key: string): void {
		const ward = this.#wards.get(key);
		if (ward === undefined || ward.exited !== undefined) return;
		ward.pipes.close();
		ward.givenUp.resolve({ code: null, signal: null });
	}

	/** Somebody has its end on disk. */
	take(key: string): void {
		if (this.#wards.get(key)?.end === undefined) return;
		this.#wards.delete(key);
	}

	/** Nobody is there to take what has ended: it may have to wait, so it must survive a power cut. */
	async harden(): Promise<void> {
		for (const [key, ward] of this.#wards) {
			if (ward.end === undefined || ward.hard) continue;
			ward.hard = true;
			await ward.spool.sync();
			await this.#exits.sync(key);
		}
	}

	async #follow(key: string, ward: Ward): Promise<void> {
		const { program, pipes, spool, tails } = ward;
		const status = await Promise.race([program.exit, ward.givenUp.promise]);
		const ranMs = this.#clock.monotonic() - ward.startedAt;
		ward.exited = status;
		await pipes.finish(
			(ms, signal) => this.#clock.sleep(ms, signal),
			() => this.listener?.exited(key, status),
		);
		ward.echo.forget();
		await spool.close();
		const end: End = { ...status, ranMs, output: stateOf(spool), sha256: {} };
		for (const stream of streams) {
			const digest = await spool.digest(stream).catch(() => undefined);
			if (digest !== undefined) end.sha256[stream] = digest;
			if (end.output[stream].lost.length === 0) continue;
			end.tails = { ...end.tails, [stream]: tails[stream].bytes.toString('base64') };
		}
		this.#exits.end(key, end);
		ward.end = end;
		this.listener?.ended(key, end);
	}
}

/** Holds a flood back: its program would take one processor and we another, for output of which nothing is kept. */
class Pace {
	readonly #clock: Clock;
	#bytes = 0;

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	async read(bytes: number): Promise<void> {
		this.#bytes += bytes;
		const ms = (this.#bytes / limits.floodBytesPerS) * 1_000;
		if (ms < paceMs) return;
		this.#bytes = 0;
		await this.#clock.sleep(ms);
	}
}

/** An agent asks for the same one with every job. */
function spools(): (order: Order) => AttemptSpool {
	let last: { asked: string; spool: Spool } | undefined;
	return ({ jobId, epoch, spool: { folder, ...kept } }) => {
		const asked = JSON.stringify([folder, kept]);
		if (last?.asked !== asked) last = { asked, spool: new Spool(folder, kept) };
		return last.spool.open(jobId, epoch, 'new');
	};
}

function stateOf(spool: AttemptSpool): SpoolState {
	return { stdout: spool.stateOf('stdout'), stderr: spool.stateOf('stderr') };
}
