/** How attempts end: what is made of an outcome, and what a stop is called in the result. */
import type { OutputLengths } from '../protocol';
import type { Outcome, Stop } from './executors/executor';
import type { Interaction } from './interaction';
import type { ExitRecord } from './journal';
import { firstOf, maxErrorLength } from './result-size';

/** All that was printed, when it has ended. */
export interface Printed extends Pick<ExitRecord, 'holes' | 'sha256'> {
	lengths: OutputLengths;
	/** The last of each, as text. */
	stdout: string;
	stderr: string;
	/** More was printed than that. */
	truncated: boolean;
}

/** The program was surely not called. */
export function notBegun(message: string): Outcome {
	return {
		end: 'failed',
		cause: 'infrastructure',
		exitCode: null,
		signal: null,
		outputs: {},
		error: { type: 'infrastructure', message },
		processGone: true,
	};
}

/** It started, and nobody can know how it ended. */
export function lostSight(message: string, processGone: boolean): Outcome {
	return {
		end: 'failed',
		cause: 'unknown',
		exitCode: null,
		signal: null,
		outputs: {},
		error: { type: 'unknown', message },
		processGone,
	};
}

/** What is journalled and reported about an attempt that has ended. */
export function exitRecordOf(
	outcome: Outcome,
	/** Why it was stopped, if it was. */
	stop: Stop | undefined,
	told: ReturnType<Interaction['end']>,
	{ lengths, holes, sha256, stdout, stderr, truncated }: Printed,
	tookMs: number,
): ExitRecord {
	const end = outcome.end === 'stopped' ? endOf(stop!) : undefined;
	const error = end === undefined ? outcome.error : { type: end.cause, message: end.message };
	return {
		state: end?.state ?? (outcome.end === 'done' ? 'completed' : 'failed'),
		cause: end?.cause ?? outcome.cause,
		output: lengths,
		...(holes && { holes }),
		...(sha256 && { sha256 }),
		result: {
			exit_code: outcome.exitCode,
			signal: outcome.signal,
			stdout,
			stderr,
			truncated,
			outputs: { ...told.outputs, ...outcome.outputs },
			duration_ms: Math.max(0, Math.round(outcome.kept?.ranMs ?? tookMs)),
			// It may quote a command of any length.
			error: error && { ...error, message: firstOf(error.message, maxErrorLength) },
			process_gone: outcome.processGone,
			...(told.logs.length > 0 ? { logs: told.logs } : {}),
		},
	};
}

interface End {
	state: ExitRecord['state'];
	cause:
		| 'cancelled'
		| 'run_timeout'
		| 'silence_timeout'
		| 'deadline'
		| 'robot_lost'
		| 'policy'
		| 'signal';
	message: string;
}

/** What a stop is called in the result. */
function endOf(stop: Stop): End {
	switch (stop.why) {
		case 'cancelled':
			return { state: 'cancelled', cause: 'cancelled', message: 'The job was cancelled.' };
		case 'over':
			return {
				state: 'cancelled',
				cause: 'cancelled',
				message: 'The service had cancelled the job, or given this attempt up, and it was stopped.',
			};
		case 'run_timeout':
			return {
				state: 'timeout',
				cause: 'run_timeout',
				message: 'The job ran longer than it may and was stopped.',
			};
		case 'silence_timeout':
			return {
				state: 'timeout',
				cause: 'silence_timeout',
				message: 'The job was silent longer than it may be and was stopped.',
			};
		case 'input_timeout':
			return {
				state: 'timeout',
				cause: 'silence_timeout',
				message:
					'The program asked for input and nobody answered in time (timeouts.inputMs); it was stopped.',
			};
		case 'hanging':
			return {
				state: 'timeout',
				cause: 'silence_timeout',
				message: 'The job neither printed nor computed any more and was stopped, as onHang says.',
			};
		case 'cap':
			return { state: 'failed', cause: 'policy', message: `${stop.text}, and was stopped.` };
		case 'deadline':
			return {
				state: 'timeout',
				cause: 'deadline',
				message: 'The job did not end before its deadline and was stopped.',
			};
		case 'link-lost':
			return {
				state: 'failed',
				cause: 'robot_lost',
				message:
					'The robot lost the link to the service and stopped the job, as onDisconnect says.',
			};
		// Not `infrastructure`: that is retried by default, but this command ran half-way.
		case 'agent-stop':
			return {
				state: 'failed',
				cause: 'signal',
				message: 'The job was stopped because the agent on the robot was stopped.',
			};
	}
}
