/**
 * Programs in a real terminal. Making one takes native code that an installation may do without, so it is
 * loaded only when asked for. What a terminal shows is stdout; it has no stderr.
 */
import { constants } from 'node:os';
import { delimiter, join } from 'node:path';
import { accessSync, closeSync, constants as files, openSync, statSync, writeSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import type { IPty } from '@lydell/node-pty';
import {
	type ExitStatus,
	isThere,
	openTerminals,
	type Program,
	type RunningProgram,
	type Sleep,
	SpawnFailure,
} from './process';

export interface Size {
	columns: number;
	rows: number;
}

type StartInTerminal = (program: Program, size: Size, sleep: Sleep) => Promise<RunningProgram>;

/**
 * How often to look at a program that waits for its reader. Its terminal is closed 200 ms after its end, even if not
 * all was read.
 */
const lookMs = 40;
/** Pause before a full terminal is tried again. */
const fullMs = 10;

/** Undefined where there can be no terminals. */
export async function loadTerminals(): Promise<StartInTerminal | undefined> {
	try {
		const { spawn } = await import('@lydell/node-pty');
		return (program, size, sleep) => startInTerminal(spawn, program, size, sleep);
	} catch {
		return undefined;
	}
}

type Spawn = typeof import('@lydell/node-pty').spawn;

async function startInTerminal(
	spawn: Spawn,
	{ run, cwd, env }: Program,
	{ columns: cols, rows }: Size,
	sleep: Sleep,
): Promise<RunningProgram> {
	const [file, args] = 'shell' in run ? shellFor(run.shell) : [run.command, [...run.args]];
	// The terminal is there before the program: a missing program would look like one that failed.
	checkFolder(cwd);
	checkProgram(file, cwd, env);
	let pty: IPty;
	try {
		const term = { TERM: 'xterm-256color', ...env };
		pty = spawn(file, args, { name: term.TERM, cols, rows, cwd, env: term, encoding: null });
	} catch (error) {
		const { message } = error as Error;
		throw new SpawnFailure(`"${file}" could not be started in a terminal: ${message}.`);
	}
	const release = hold(pty);
	const ours = {
		get handle() {
			const { fd, _socket } = pty as IPty & { fd?: number; _socket?: { destroyed: boolean } };
			return _socket?.destroyed === false ? fd : undefined;
		},
	};
	if (process.platform !== 'win32') openTerminals.add(ours);
	const ended = Promise.withResolvers<ExitStatus>();
	let waits = false;
	let looks = false;
	const resume = (): void => {
		waits = false;
		pty.resume();
	};
	const stdout = new Readable({ read: resume, destroy: (_, done) => done(null) });
	const wait = async (): Promise<void> => {
		waits = true;
		pty.pause();
		if (looks) return;
		looks = true;
		while (waits) {
			await sleep(lookMs);
			// The program has ended: the last of its output, a terminal full at most, is kept here; there
			// it would be lost.
			if (waits && !isThere(pty.pid)) resume();
		}
		looks = false;
	};
	// With no encoding they are bytes, whatever the types say.
	pty.onData((data: unknown) => {
		if (!stdout.destroyed && !stdout.push(data as Buffer) && isThere(pty.pid)) void wait();
	});
	pty.onExit(({ exitCode, signal }) => {
		release();
		openTerminals.delete(ours);
		stdout.push(null);
		const name = signal ? signalName(signal) : undefined;
		// A real-time signal has no name, and the code beside it is 0: reported the way shells do.
		const code = signal ? 128 + signal : exitCode;
		ended.resolve(name ? { code: null, signal: name } : { code, signal: null });
	});
	const type = typist(pty, () => stdout.destroyed, sleep);
	let inLine = false;
	const stdin = new Writable({
		write(chunk: Buffer, _encoding, done) {
			if (chunk.length > 0) inLine = !lineEnds.has(chunk.at(-1)!);
			type(chunk).then(() => done(), done);
		},
		final(done) {
			// After half a line, the first one only hands that over.
			type(Buffer.from(inLine ? endOfInput + endOfInput : endOfInput)).then(() => done(), done);
		},
	});
	return {
		pid: pty.pid,
		stdin,
		stdout,
		exit: ended.promise,
		resize({ columns, rows: lines }) {
			try {
				pty.resize(columns, lines);
			} catch {
				// It has just ended, and nobody looks at it any more.
			}
		},
	};
}

/**
 * A program that closes its terminal a moment before it ends, as `cat` does, would be the last to have it open: the
 * terminal would be gone, and the program hung up on, whatever it was about to end with. So we have it open, too.
 */
function hold(pty: IPty & { ptsName?: string }): () => void {
	const { O_RDWR, O_NOCTTY } = files;
	try {
		const file = openSync(pty.ptsName!, O_RDWR | O_NOCTTY);
		return () => closeSync(file);
	} catch {
		return () => undefined; // Windows has no such thing
	}
}

/**
 * Types at the speed of the program. The library's own way blocks this process, and all that it holds, until the
 * program has read everything: for ever, if the program waits for us to read what it prints.
 */
function typist(
	pty: IPty & { fd?: number; _socket?: { destroyed: boolean } },
	isOver: () => boolean,
	sleep: Sleep,
): (bytes: Buffer) => Promise<void> {
	return async (bytes) => {
		// Windows uses pipes here, which are written like any pipe.
		if (process.platform === 'win32') return pty.write(bytes as unknown as string);
		for (let at = 0; at < bytes.length;) {
			// Once the terminal is closed, the handle may be another file's.
			if (isOver() || pty._socket?.destroyed !== false) throw new Error('the terminal is closed');
			try {
				at += writeSync(pty.fd!, bytes, at);
			} catch (error) {
				if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
				await sleep(fullMs);
			}
		}
	};
}

/** What Ctrl+D types. */
const endOfInput = '\x04';
const lineEnds: ReadonlySet<number> = new Set([10, 13]);

function shellFor(text: string): [string, string[]] {
	return process.platform === 'win32'
		? [process.env.ComSpec ?? 'cmd.exe', ['/d', '/s', '/c', text]]
		: ['/bin/sh', ['-c', text]];
}

function signalName(number: number): NodeJS.Signals | undefined {
	const found = Object.entries(constants.signals).find(([, value]) => value === number);
	return found?.[0] as NodeJS.Signals | undefined;
}

function checkFolder(cwd: string): void {
	let isFolder: boolean;
	try {
		isFolder = statSync(cwd).isDirectory();
	} catch (error) {
		const { code, message } = error as NodeJS.ErrnoException;
		throw new SpawnFailure(
			`The folder "${cwd}" cannot be used on this robot (${code ?? message}).`,
			{ cause: error },
		);
	}
	if (!isFolder) throw new SpawnFailure(`"${cwd}" is not a folder on this robot.`);
}

function checkProgram(file: string, cwd: string, env: Record<string, string>): void {
	if (process.platform === 'win32') return;
	const places = file.includes('/')
		? [join(file.startsWith('/') ? '' : cwd, file)]
		: (env.PATH ?? '/usr/bin:/bin').split(delimiter).map((folder) => join(folder, file));
	if (places.some(isProgram)) return;
	throw new SpawnFailure(`This robot has no program "${file}" (looked in PATH).`);
}

function isProgram(path: string): boolean {
	try {
		accessSync(path, files.X_OK);
		return statSync(path).isFile();
	} catch {
		return false;
	}
}
