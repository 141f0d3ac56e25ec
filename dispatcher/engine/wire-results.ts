/** What a robot says of an attempt's end, in the words of the service. */
import {
	type Cause,
	causes,
	type CollectedFile,
	type JobError,
	type JobResult,
	type JobResultMessage,
	type WireCollectedFile,
} from '../../protocol';

export function fromWire({ result: wire, sha256 }: JobResultMessage): JobResult {
	return {
		exitCode: wire.exit_code,
		signal: wire.signal,
		stdout: wire.stdout,
		stderr: wire.stderr,
		truncated: wire.truncated,
		...(sha256 === undefined ? {} : { sha256 }),
		outputs: wire.outputs,
		durationMs: wire.duration_ms,
		error: wire.error,
		processGone: wire.process_gone,
		...(wire.logs === undefined || wire.logs.length === 0 ? {} : { logs: wire.logs }),
		...(wire.files === undefined ? {} : { files: wire.files.map(collectedOf) }),
	};
}

function collectedOf({ path, bytes, sha256, file_id, error }: WireCollectedFile): CollectedFile {
	return {
		path,
		bytes,
		sha256,
		...(file_id === undefined ? {} : { fileId: file_id }),
		...(error === undefined ? {} : { error }),
	};
}

/** A robot of another version may know causes we do not. */
export function causeOf(message: JobResultMessage): Cause | null {
	if (message.state === 'completed') return null;
	if (message.cause !== null && message.cause in causes) return message.cause as Cause;
	return message.state === 'cancelled' ? 'cancelled' : 'unknown';
}

export function defaultError(cause: Cause | null, result: JobResult): JobError {
	const type = cause ?? 'unknown';
	if (cause === 'exit_code') {
		const line = result.stderr.trimEnd().split('\n').at(-1);
		return {
			type,
			message: `The command ended with exit code ${result.exitCode}${line ? `: ${line}` : '.'}`,
		};
	}
	if (cause === 'signal') {
		return { type, message: `The command was ended by ${result.signal ?? 'a signal'}.` };
	}
	return { type, message: causes[type] };
}
