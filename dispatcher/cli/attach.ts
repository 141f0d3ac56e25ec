/**
 * `robot-fleet attach JOB`: the terminal of a running job, here. Shows its output from the first byte,
 * types in what is typed, and exits with its exit code. Leaving does not harm the job.
 *
 *   real terminal on the robot   every key goes there at once, Ctrl+C too; Ctrl+] leaves
 *   plain pipes                  whole lines go there; a secret is not shown; Ctrl+D closes, Ctrl+C leaves
 */
import type { Command } from 'commander';
import { FleetClient } from '../../client';
import { isFinal, type Job, type WaitingFor } from '../../protocol';
import type { Keyboard } from './keyboard';
import { exitCodeOf, finalJob, follow, sayEnd } from './follow';
import { addressOf, printable, type Terminal, UsageMistake } from './terminal';
import { type Address, httpSend } from './transport';
import { Typist } from './typist';

/** Ctrl+], as in telnet and many consoles: no program needs it. */
const leaveKey = 0x1d;
/** For sending what was typed just before leaving. */
const lastWordsMs = 2_000;
const interruptKey = 0x03;
const enterKeys = [0x0d, 0x0a];
const eraseKeys = [0x7f, 0x08];

interface Flags {
	tail?: boolean;
	input?: boolean;
	data?: string;
}

export function addAttach(
	program: Command,
	terminal: Terminal,
	exit: (code: number) => void,
): void {
	program
		.command('attach')
		.summary('the terminal of a running job, here')
		.description(
			'Prints what a job prints, from its first byte on, and types into it what you type. Ctrl+] leaves; the job goes on.',
		)
		.argument('<job>', 'id of the job')
		.option('--tail', 'print only what comes from now on')
		.option('--no-input', 'only watch')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText(
			'after',
			'\nPiped input is typed, too, and the end of the pipe closes the input of the job.\n\nExample:\n  $ robot-fleet submit --interactive --attach -- bash\n  $ robot-fleet attach 0190f6c2-…\n  $ echo yes | robot-fleet attach 0190f6c2-…',
		)
		.action(async (jobId: string, flags: Flags) => {
			exit(await attach(terminal, addressOf(terminal, flags.data), jobId, flags));
		});
}

/** Answers with the exit code of the job, or 0 if the person left before it ended. */
export async function attach(
	terminal: Terminal,
	address: Address,
	jobId: string,
	{ tail = false, input = true }: Pick<Flags, 'tail' | 'input'> = {},
): Promise<number> {
	const client = new FleetClient(httpSend(address));
	const job = await client.job(jobId);
	const left = new AbortController();
	const typing =
		input && takesInput(job) ? new Console(terminal, client, jobId, () => left.abort()) : undefined;
	try {
		typing?.open();
		await follow(terminal, address, jobId, {
			signal: left.signal,
			...(tail ? { lastId: `stdout=${job.output.stdout},stderr=${job.output.stderr}` } : {}),
			onPrompt: (asks) => typing?.asked(asks),
		});
	} catch (error) {
		if (!left.signal.aborted) throw error;
	} finally {
		typing?.close();
	}
	if (left.signal.aborted) {
		await Promise.race([typing!.sent(), terminal.sleep(lastWordsMs)]);
		typing!.stop();
		terminal.err(`\nYou left; the job goes on. Come back with: robot-fleet attach ${jobId}\n`);
		return 0;
	}
	const end = await finalJob(client, jobId, terminal);
	sayEnd(terminal, end);
	return exitCodeOf(end);
}

function takesInput({ state, spec }: Job): boolean {
	return !isFinal(state) && (spec as { interactive?: unknown }).interactive === true;
}

/** The keyboard of the person who is attached. */
class Console {
	readonly #terminal: Terminal;
	readonly #keyboard: Keyboard;
	readonly #typist: Typist;
	readonly #leave: () => void;
	/** The program has a terminal: keys are its own business. */
	#remote = false;
	/** What is typed while nothing must be shown. */
	#hidden: number[] | undefined;

	constructor(terminal: Terminal, client: FleetClient, jobId: string, leave: () => void) {
		if (!terminal.keyboard) throw new UsageMistake('There is no keyboard here; add --no-input.');
		this.#terminal = terminal;
		this.#keyboard = terminal.keyboard;
		this.#typist = new Typist(client, jobId, {
			sleep: (ms) => terminal.sleep(ms),
			failed: (error) => this.#complain(error),
		});
		this.#leave = leave;
	}

	open(): void {
		this.#keyboard.open({
			typed: (bytes) => this.#typed(bytes),
			ended: () => this.#typist.end(),
			resized: () => {
				if (this.#remote) this.#typist.resize(this.#keyboard.size);
			},
		});
		void this.#begin();
	}

	close(): void {
		this.#keyboard.close();
	}

	/** Resolves when all that was typed before leaving is sent. */
	sent(): Promise<void> {
		return this.#typist.sent();
	}

	/** Leaving does not wait for a robot that is away. */
	stop(): void {
		this.#typist.stop();
	}

	asked(asks: WaitingFor | null): void {
		if (this.#remote || !this.#keyboard.isTerminal) return;
		const hide = asks?.hidden === true;
		if (hide === (this.#hidden !== undefined)) return;
		this.#hidden = hide ? [] : undefined;
		this.#keyboard.raw(hide);
	}

	async #begin(): Promise<void> {
		try {
			const begun = await this.#typist.begin();
			if (!begun?.terminal) return;
			this.#remote = true;
			if (this.#keyboard.isTerminal) this.#keyboard.raw(true);
			this.#typist.resize(this.#keyboard.size);
		} catch (error) {
			this.#complain(error as Error);
		}
	}

	#complain(error: Error): void {
		this.#terminal.err(`\r\nNothing more is typed: ${printable(error.message)}\r\n`);
	}

	#typed(bytes: Uint8Array): void {
		const at = this.#keyboard.isTerminal ? bytes.indexOf(leaveKey) : -1;
		const typed = at < 0 ? bytes : bytes.subarray(0, at);
		if (this.#hidden) for (const byte of typed) this.#hide(byte);
		else if (typed.length > 0) this.#typist.type(typed);
		if (at >= 0) this.#leave();
	}

	/** A line that is not shown, with as much editing as people do blind. */
	#hide(byte: number): void {
		const line = this.#hidden;
		if (line === undefined) return this.#typist.type(Uint8Array.of(byte));
		if (byte === interruptKey) return this.#leave();
		if (eraseKeys.includes(byte)) line.pop();
		else if (!enterKeys.includes(byte)) line.push(byte);
		else {
			this.#typist.type(Uint8Array.from([...line, 0x0a]));
			this.#terminal.err('\n');
			this.#hidden = undefined;
			this.#keyboard.raw(false);
		}
	}
}
