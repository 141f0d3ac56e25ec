/**
 * Children of this machine: started in a process group of their own, found again by group and by a
 * mark in their environment, signalled as a whole. Everything the agent knows about pids is in this
 * file; a keeper process can take its place without anybody above noticing.
 *
 * "Gone" is only ever said after looking. On Linux /proc answers, and a zombie counts as gone; where
 * there is no /proc of ours only the group is asked, and what left its group cannot be seen.
 */
import { type ChildProcess, execFile, spawn, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';

export interface Program {
	/** A program and its arguments, or shell text. */
	run: { command: string; args: readonly string[] } | { shell: string };
	cwd: string;
	env: Record<string, string>;
	/** False = the program reads from /dev/null. */
	stdin: boolean;
}

export interface ExitStatus {
	code: number | null;
	signal: NodeJS.Signals | null;
}

export interface RunningProgram {
	/** Also the id of its process group. */
	pid: number;
	stdin: Writable | null;
	stdout: Readable;
	/** None in a terminal. */
	stderr?: Readable;
	/** The program itself ended; its own children and its pipes may live on. */
	exit: Promise<ExitStatus>;
	/** Only for one in a terminal. */
	resize?(size: { columns: number; rows: number }): void;
}

/** The program was never called. The message is one sentence for people. */
export class SpawnFailure extends Error {
	override readonly name = 'SpawnFailure';
}

const onWindows = process.platform === 'win32';

/**
 * Whether this /proc shows the processes that we know by number. In a bare chroot it is empty, and it may belong to
 * another namespace, where our numbers mean strangers.
 */
export function isOwnProc(proc: string): boolean {
	try {
		return readlinkSync(`${proc}/self`) === String(process.pid);
	} catch {
		return false;
	}
}

/** Every process of this machine can be looked at. */
export const seesProcesses = process.platform === 'linux' && isOwnProc('/proc');

/**
 * Our ends of terminals. The library leaves them open in every program that is started meanwhile, which could read and type
 * there whatever it likes; undefined = closed by now.
 */
export const openTerminals = new Set<{ readonly handle: number | undefined }>();

export async function startProgram(program: Program): Promise<RunningProgram> {
	const { run } = program;
	const handles = [...openTerminals].flatMap(({ handle }) => handle ?? []);
	let child: ChildProcess;
	let nowhere: number | undefined;
	try {
		const input = program.stdin ? 'pipe' : 'ignore';
		const stdio: Exclude<StdioOptions, string> = [input, 'pipe', 'pipe'];
		if (handles.length > 0) nowhere = openSync('/dev/null', 'r+');
		for (const handle of handles) {
			while (stdio.length < handle) stdio.push('ignore');
			stdio[handle] = nowhere;
		}
		child = spawn('shell' in run ? run.shell : run.command, 'shell' in run ? [] : run.args, {
			cwd: program.cwd,
			env: program.env,
			shell: 'shell' in run,
			detached: !onWindows,
			windowsHide: true,
			stdio,
		});
		if (child.pid === undefined) {
			const [error] = (await once(child, 'error').catch((thrown: Error) => [thrown])) as [Error];
			throw error;
		}
	} catch (error) {
		throw new SpawnFailure(await whyNot(program, error as NodeJS.ErrnoException), {
			cause: error,
		});
	} finally {
		if (nowhere !== undefined) closeSync(nowhere);
	}
	const exit = new Promise<ExitStatus>((resolve) => {
		child.once('exit', (code, signal) => resolve({ code, signal }));
	});
	// A later 'error' (a kill that failed) must not take the agent down.
	child.on('error', () => undefined);
	return {
		pid: child.pid,
		stdin: child.stdin,
		stdout: child.stdout!,
		stderr: child.stderr!,
		exit,
	};
}

async function whyNot(program: Program, error: NodeJS.ErrnoException): Promise<string> {
	const name = 'shell' in program.run ? 'the shell' : `"${program.run.command}"`;
	// To spawn, a missing folder looks like a missing program.
	const folder = await stat(program.cwd).then(
		(found) => (found.isDirectory() ? 'folder' : 'file'),
		(reason: NodeJS.ErrnoException) => reason.code ?? 'missing',
	);
	if (folder === 'file') return `"${program.cwd}" is not a folder on this robot.`;
	if (folder !== 'folder') {
		return `The folder "${program.cwd}" cannot be used on this robot (${folder}).`;
	}
	switch (error.code) {
		case 'ENOENT':
			return `This robot has no program ${name} (looked in PATH).`;
		case 'EACCES':
			return `${name} is not a program that the agent's user may run.`;
		case 'E2BIG':
			return `The arguments and environment of ${name} are too large for this robot.`;
		default:
			return `${name} could not be started: ${error.message}.`;
	}
}

/** What is known about the processes of one attempt. */
export interface Pack {
	/** Unguessable text in the environment of every one of them. */
	mark: string;
	/** Process group; null when unknown. */
	group: number | null;
}

/** Sleeps on the clock of the caller. True when the time is over. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<boolean>;

/** Sends a signal to the whole group at once, and then to what left it but still carries the mark. */
export async function signalPack(
	pack: Pack,
	signal: 'SIGTERM' | 'SIGKILL',
	sleep: Sleep,
): Promise<void> {
	if (onWindows) {
		if (pack.group === null) return;
		// taskkill without /F only asks windows to close, which a console program never hears.
		execFile('taskkill', ['/PID', String(pack.group), '/T', '/F'], () => undefined);
		return;
	}
	if (pack.group !== null) sendSignal(-pack.group, signal);
	for (const one of (await livingOf(pack, sleep)) ?? []) {
		if (one.group !== pack.group) sendSignal(one.pid, signal);
	}
}

/** Looks, and says whether anything of the pack may still be alive. */
export async function mayLive(pack: Pack, sleep: Sleep): Promise<boolean> {
	// Where nobody can look, it may.
	if (seesProcesses) return (await livingOf(pack, sleep))?.length !== 0;
	return pack.group === null || groupExists(pack.group);
}

/** A cheap look that may say yes for a zombie, but never no for anything in the group. */
export function groupExists(group: number): boolean {
	return sendSignal(onWindows ? group : -group, 0);
}

/** Some process has this number, even if it is a zombie. */
export function isThere(pid: number): boolean {
	return sendSignal(pid, 0);
}

/**
 * The group of a process that an earlier agent started, if it is still that one and not a stranger
 * with a reused number. Null also when this machine cannot tell.
 */
export function groupOf(trace: { pid: number | null; birth: string | null }): number | null {
	return trace.pid !== null && trace.birth !== null && birthOf(trace.pid) === trace.birth
		? trace.pid
		: null;
}

/** Tells a process from every other that ever had or will have its number. Linux only, else null. */
export function birthOf(pid: number): string | null {
	const ticks = seesProcesses ? readStat(pid)?.startTicks : undefined;
	return ticks === undefined || currentBoot() === null ? null : `${currentBoot()}:${ticks}`;
}

let boot: string | null | undefined;
/** Tells this boot of the machine from all others; null where it cannot be told. */
export function currentBoot(): string | null {
	return seesProcesses ? (boot ??= readBoot()) : null;
}

function readBoot(): string | null {
	try {
		return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
	} catch {
		return null; // a sandbox that hides it
	}
}

interface Living {
	pid: number;
	group: number;
	/** Of the attempt it belongs to. */
	mark: string | undefined;
}

/** Undefined when nobody can look, e.g. because too many files are open. */
async function livingOf(pack: Pack, sleep: Sleep): Promise<Living[] | undefined> {
	if (!seesProcesses) return [];
	return (await census(sleep))?.filter(
		({ group, mark }) => group === pack.group || mark === pack.mark,
	);
}

/**
 * All processes of this machine, counted after the call. A count costs tens of microseconds per
 * process and lets nothing else run, so everybody who asks within a moment shares one.
 */
let nextCensus: Promise<Living[] | undefined> | undefined;
const gatherMs = 50;

function census(sleep: Sleep): Promise<Living[] | undefined> {
	return (nextCensus ??= sleep(gatherMs).then(() => {
		nextCensus = undefined;
		return count();
	}));
}

function count(): Living[] | undefined {
	let entries: string[];
	try {
		entries = readdirSync('/proc');
	} catch {
		return undefined;
	}
	const found: Living[] = [];
	for (const entry of entries) {
		const pid = Number(entry);
		if (!Number.isInteger(pid)) continue;
		const facts = readStat(pid);
		if (facts === undefined || facts.state === 'Z' || facts.state === 'X') continue;
		const [, mark] = /(?:^|\0)ROBOT_FLEET_ATTEMPT_MARK=([^\0]*)\0/.exec(environmentOf(pid)) ?? [];
		found.push({ pid, group: facts.group, mark });
	}
	return found;
}

/** Longer than any such file; the kernel hands it out in one piece. */
const statBytes = Buffer.alloc(4_096);

function readStat(pid: number): { state: string; group: number; startTicks: string } | undefined {
	try {
		const file = openSync(`/proc/${pid}/stat`, 'r');
		let text: string;
		try {
			text = statBytes.toString('latin1', 0, readSync(file, statBytes));
		} finally {
			closeSync(file);
		}
		// The name is in brackets and may contain anything, brackets too.
		const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
		return { state: fields[0]!, group: Number(fields[2]), startTicks: fields[19]! };
	} catch {
		return undefined; // it ended while we looked
	}
}

function environmentOf(pid: number): string {
	try {
		return readFileSync(`/proc/${pid}/environ`, 'latin1');
	} catch {
		return ''; // another user's, or gone
	}
}

function sendSignal(target: number, signal: NodeJS.Signals | 0): boolean {
	try {
		process.kill(target, signal);
		return true;
	} catch (error) {
		// EPERM: it exists, but is not ours to signal.
		return (error as NodeJS.ErrnoException).code === 'EPERM';
	}
}
