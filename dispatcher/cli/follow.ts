/** A job as seen from here: its output as it comes, how it ends, and what exit code that means. */
import type { FleetClient } from '../../client';
import { type Hole, holeText, isFinal, type Job, Problem, type WaitingFor } from '../../protocol';
import { printable, type Terminal } from './terminal';
import { type Address, outputEvents } from './transport';

/** A service that restarts is away for a while; the job goes on, and so do we, where we were. */
const comeBackTries = 60;

export interface FollowOptions {
	/** Only this one. */
	stream?: string;
	/** Begin after this event. */
	lastId?: string;
	signal?: AbortSignal;
	/** Each event as a line of JSON instead of the bytes. */
	json?: boolean;
	/** What the program asks; null = nothing any more. */
	onPrompt?(asks: WaitingFor | null): void;
}

export async function follow(
	terminal: Terminal,
	address: Address,
	jobId: string,
	{ stream, lastId: startId, signal, json = false, onPrompt }: FollowOptions = {},
): Promise<void> {
	const query = stream === undefined ? '' : `?stream=${stream}`;
	const path = `/api/v1/jobs/${encodeURIComponent(jobId)}/output${query}`;
	let lastId = startId;
	for (let tries = 0; ; tries++) {
		try {
			for await (const { event, id, data } of outputEvents(address, path, lastId, signal)) {
				tries = 0;
				if (json && event !== 'problem') {
					terminal.out(`${JSON.stringify({ event, ...(data as object) })}\n`);
				}
				if (event === 'end') return;
				if (event === 'problem') throw Problem.fromBody(data) ?? new Error('the stream failed');
				lastId = id;
				if (json) continue;
				if (event === 'prompt') onPrompt?.((data as { waitingFor: WaitingFor | null }).waitingFor);
				if (event === 'output') print(terminal, data);
				if (event === 'restart') sayRestart(terminal, data as { stream: string });
				if (event === 'hole') sayHole(terminal, data as Hole & { stream: string });
			}
		} catch (error) {
			if (!comesBack(error, tries)) throw error;
		}
		await terminal.sleep(1000);
	}
}

function comesBack(error: unknown, tries: number): boolean {
	return error instanceof Problem && error.retry && tries < comeBackTries;
}

function print(terminal: Terminal, data: unknown): void {
	const { stream, text, data_b64 } = data as { stream: string; text?: string; data_b64?: string };
	const bytes = text ?? Buffer.from(data_b64 ?? '', 'base64');
	if (stream === 'stderr') terminal.err(bytes);
	else terminal.out(bytes);
}

/** Beside the output, never in it: whoever keeps it keeps only what the job printed. */
function sayHole(terminal: Terminal, hole: Hole & { stream: string }): void {
	terminal.err(`\n${hole.stream}, from byte ${hole.from}: ${holeText(hole)}\n`);
}

/** What comes now is from another try, or is sent again: the two together are nobody's output. */
function sayRestart(terminal: Terminal, { stream }: { stream: string }): void {
	terminal.err(`\n${stream} starts again; what is above is from an earlier try, or was damaged\n`);
}

/** Says once each time that the job waits for a person before it goes on. */
export async function finalJob(
	client: FleetClient,
	jobId: string,
	terminal: Terminal,
): Promise<Job> {
	let said = '';
	for (let tries = 0; ; tries++) {
		try {
			const job = await client.job(jobId, 30_000);
			if (isFinal(job.state)) return job;
			const stuck = stuckText(job);
			if (stuck !== '' && stuck !== said) terminal.err(stuck);
			said = stuck;
			tries = 0;
		} catch (error) {
			if (!comesBack(error, tries)) throw error;
			await terminal.sleep(1000);
		}
	}
}

/** Empty while its rollout goes on by itself. */
function stuckText({ jobId, rolledOut }: Job): string {
	if (rolledOut?.state !== 'paused' && rolledOut?.state !== 'stopped') return '';
	const why = printable(rolledOut.reason ?? rolledOut.state);
	return `It is ${why}: robot-fleet jobs resume ${jobId}, or jobs cancel ${jobId}\n`;
}

export function sayEnd(terminal: Terminal, job: Job): void {
	if (job.state === 'completed' || job.cause === 'exit_code') return;
	const why = (job.error?.message ?? job.cause ?? job.state).replace(/\.$/, '');
	terminal.err(`The job ended: ${job.state} (${why}).\n`);
}

/** Like a shell: the exit code of the command, 128 + n after a signal, 1 when there is neither. */
export function exitCodeOf(job: Job): number {
	if (job.state === 'completed') return job.result?.exitCode ?? 0;
	const code = job.result?.exitCode;
	// A shell sees only the last eight bits of a longer number, as Windows has them: they must not look like success.
	if (code !== null && code !== undefined && code !== 0) return (code & 0xff) === 0 ? 1 : code;
	const signals: Record<string, number> = {
		SIGHUP: 1,
		SIGINT: 2,
		SIGQUIT: 3,
		SIGABRT: 6,
		SIGKILL: 9,
		SIGSEGV: 11,
		SIGTERM: 15,
	};
	const signal = signals[job.result?.signal ?? ''];
	return signal === undefined ? 1 : 128 + signal;
}
