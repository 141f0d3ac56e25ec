/**
 * Programs in a real terminal. What makes one is native code that an installation may do without, so it is
 * loaded only when it is asked for. What a terminal shows is stdout; it has no stderr.
 */
import { constants } from 'node:os';
import { delimiter, join } from 'node:path';
import { accessSync, constants as access, statSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import type { IPty } from '@lydell/node-pty';
import { type ExitStatus, type Program, type RunningProgram, SpawnFailure } from './process';

export interface Size {
	columns: number;
	rows: number;
}

type StartInTerminal = (program: Program, size: Size) => Promise<RunningProgram>;

/** Undefined where there can be no terminals. */
export async function loadTerminals(): Promise<StartInTerminal | undefined> {
	try {
		const { spawn } = await import('@lydell/node-pty');
		return (program, size) => startInTerminal(spawn, program, size);
	} catch {
		return undefined;
	}
}

type Spawn = typeof import('@lydell/node-pty').spawn;

async function startInTerminal(
	spawn: Spawn,
	{ run, cwd, env }: Program,
	{ columns: cols, rows }: Size,
): Promise<RunningProgram> {
	const [file, args] = 'shell' in run ? shellFor(run.shell) : [run.command, [...run.args]];
	// The terminal is there before the program is: a missing one would look like one that failed.
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
	const ended = Promise.withResolvers<ExitStatus>();
	const stdout = new Readable({ read: () => pty.resume(), destroy: (_, done) => done(null) });
	// With no encoding they are bytes, whatever the types say.
	pty.onData((data: unknown) => {
		if (!stdout.destroyed && !stdout.push(data as Buffer)) pty.pause();
	});
	pty.onExit(({ exitCode, signal }) => {
		stdout.push(null);
		const name = signal ? signalName(signal) : undefined;
		ended.resolve(name ? { code: null, signal: name } : { code: exitCode, signal: null });
	});
	let inLine = false;
	const stdin = new Writable({
		write(chunk: Buffer, _encoding, done) {
			// Bytes are taken too, whatever the types say.
			pty.write(chunk as unknown as string);
			if (chunk.length > 0) inLine = !lineEnds.has(chunk.at(-1)!);
			done();
		},
		final(done) {
			// Behind half a line the first one only hands that over.
			pty.write(inLine ? endOfInput + endOfInput : endOfInput);
			done();
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
		accessSync(path, access.X_OK);
		return statSync(path).isFile();
	} catch {
		return false;
	}
}
