/** Whatever a job makes of its result, it fits into one message, and the service takes it. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { fitted } from '../../../agent/result-size';
import { exitRecordOf } from '../../../agent/outcomes';
import { type JobResultMessage, limits } from '../../../protocol';
import { robots, validatorOf } from '../../../protocol/schemas';

const checked = validatorOf(robots.robotMessages.job_result, 'payload');
const digest = 'a'.repeat(64);
const whole: JobResultMessage = {
	job_id: randomUUID(),
	attempt: 1,
	epoch: 1,
	token: 't'.repeat(43),
	state: 'completed',
	cause: null,
	result: {
		exit_code: 0,
		signal: null,
		// What is not UTF-8 or no character to print takes six bytes each in JSON.
		stdout: '\0'.repeat(limits.maxTailBytes),
		stderr: '\0'.repeat(limits.maxTailBytes),
		truncated: true,
		outputs: { text: 'x'.repeat(limits.maxOutputsBytes - 20) },
		duration_ms: 1,
		error: null,
		process_gone: true,
		files: Array.from({ length: limits.maxCollectedFiles }, (_, i) => ({
			path: `${i}`.padEnd(limits.maxPathBytes, '"'),
			bytes: 1,
			sha256: digest,
			file_id: randomUUID(),
		})),
	},
	output: { stdout: 1e9, stderr: 1e9 },
	inline: {
		stdout: { offset: 0, data_b64: 'A'.repeat((limits.maxInlineOutputBytes * 4) / 3) },
	},
};
const bytesOf = (message: JobResultMessage) => Buffer.byteLength(JSON.stringify(message));

test('what fits is told as it is', () => {
	const { inline: _, ...small } = whole;
	expect(bytesOf(small)).toBeGreaterThan(900_000);
	const told = { ...small, result: { ...small.result, stdout: 'ok', stderr: '' } };
	expect(fitted(told, limits.maxControlFrameBytes)).toEqual(told);
});

test('what does not fit loses first what comes another way: outputs and files are all there', () => {
	expect(bytesOf(whole)).toBeGreaterThan(limits.maxControlFrameBytes);
	const told = fitted(whole, limits.maxControlFrameBytes);
	expect(bytesOf(told)).toBeLessThan(limits.maxControlFrameBytes);
	expect(told.inline).toBeUndefined();
	expect(told.result.outputs).toEqual(whole.result.outputs);
	expect(told.result.files).toEqual(whole.result.files);
});

test('whatever its parts are and whatever a line takes, it fits and is in order', () => {
	const text = (max: number) =>
		fc
			.tuple(fc.constantFrom('\0', 'x', '"', 'ü', '😀'), fc.nat(max))
			.map(([sign, length]) => sign.repeat(length));
	const parts = fc.record({
		stdout: text(limits.maxTailBytes),
		stderr: text(limits.maxTailBytes),
		output: text(limits.maxOutputsBytes / 4),
		error: text(limits.maxCommandBytes * 2),
		files: fc.nat(limits.maxCollectedFiles + limits.maxCollectPatterns),
		reason: text(250),
		max: fc.integer({ min: 20_000, max: 2 * limits.maxControlFrameBytes }),
	});
	fc.assert(
		fc.property(parts, ({ stdout, stderr, output, error, files, reason, max }) => {
			const message: JobResultMessage = {
				...whole,
				result: {
					...whole.result,
					stdout,
					stderr,
					outputs: { output },
					error: { type: 'unknown', message: error },
					files: whole.result.files!.slice(0, files).map((file) => ({ ...file, error: reason })),
				},
			};
			const told = fitted(message, max);
			expect(bytesOf(told)).toBeLessThan(max);
			expect(checked.mistake(told)).toBeUndefined();
			const { outputs, logs = [] } = told.result;
			expect('output' in outputs || /outputs .* left out/.test(logs.join())).toBe(true);
			expect(told.result.stdout).toBe(stdout.slice(stdout.length - told.result.stdout.length));
			expect(told.result.truncated).toBe(true);
		}),
		{ numRuns: 60 },
	);
});

test('an error that quotes a command of any length is cut where nobody reads on', () => {
	const outcome = {
		end: 'failed',
		cause: 'spawn_error',
		exitCode: null,
		signal: null,
		outputs: {},
		error: { type: 'spawn_error', message: `This robot has no program "${'x'.repeat(70_000)}".` },
		processGone: true,
	} as const;
	const printed = {
		lengths: { stdout: 0, stderr: 0 },
		stdout: '',
		stderr: '',
		truncated: false,
	};
	const record = exitRecordOf(outcome, undefined, { outputs: {}, logs: [] }, printed, 1);
	expect(record.result.error!.message).toMatch(/^This robot has no program "x{1900,}…$/);
	expect(record.result.error!.message).toHaveLength(2_000);
});
