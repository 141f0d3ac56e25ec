/**
 * Makes a result fit into one message. A longer one cuts the line, and since a result is sent until it is taken, it
 * would do so for ever. What can be had elsewhere goes first: output that flows in frames, then all but the last of
 * the tails, then words about files; what the job hands out goes last. The result says what is missing.
 */
import type { JobResultMessage, WireResult } from '../protocol';

/** Of an error; a service refuses far longer ones, and nobody reads them. */
export const maxErrorLength = 2_000;
/** Of the envelope around it: names, id, time. */
const envelopeBytes = 512;
const shortTail = 8_192;
const shortestTail = 256;
const shortReason = 60;

const tooLong = 'the result was too long for one message';

type Shorten = (message: JobResultMessage) => JobResultMessage;

const steps: readonly Shorten[] = [
	({ inline: _, ...message }) => message,
	(message) => changed(message, (result) => withTails(result, shortTail)),
	(message) => changed(message, (result) => withTails(result, shortestTail)),
	(message) =>
		changed(message, ({ files }) => ({
			...(files && {
				files: files.map((file) =>
					file.error === undefined ? file : { ...file, error: firstOf(file.error, shortReason) },
				),
			}),
		})),
	(message) =>
		changed(message, ({ outputs, logs = [] }) =>
			Object.keys(outputs).length === 0
				? {}
				: { outputs: {}, logs: [...logs, `The outputs of the job are left out: ${tooLong}.`] },
		),
	(message) =>
		changed(message, ({ files }) => ({
			...(files && {
				files: [
					{
						path: '**',
						bytes: 0,
						sha256: null,
						error: `${files.length} files and words about them are not listed here: ${tooLong}`,
					},
				],
			}),
		})),
	(message) =>
		changed(message, ({ error, logs }) => ({
			error: error && { ...error, message: firstOf(error.message, shortestTail) },
			...(logs && { logs: logs.slice(-1) }),
		})),
];

/** As it is, if it takes no more than `maxBytes` on the line; else shortened, step by step. */
export function fitted(message: JobResultMessage, maxBytes: number): JobResultMessage {
	// An error from an older agent may be long.
	let told = changed(message, ({ error }) => ({
		error: error && { ...error, message: firstOf(error.message, maxErrorLength) },
	}));
	for (const shorten of steps) {
		if (Buffer.byteLength(JSON.stringify(told)) + envelopeBytes <= maxBytes) break;
		told = shorten(told);
	}
	return told;
}

/** The first characters of a text, with a sign that there are more. */
export function firstOf(text: string, length: number): string {
	return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

function changed(
	message: JobResultMessage,
	change: (result: WireResult) => Partial<WireResult>,
): JobResultMessage {
	return { ...message, result: { ...message.result, ...change(message.result) } };
}

function withTails({ stdout, stderr, truncated }: WireResult, length: number): Partial<WireResult> {
	const cut = stdout.length > length || stderr.length > length;
	return {
		stdout: lastOf(stdout, length),
		stderr: lastOf(stderr, length),
		truncated: truncated || cut,
	};
}

/** Never begins with half a character. */
function lastOf(text: string, length: number): string {
	return text.slice(-length).replace(/^[\udc00-\udfff]/, '');
}
