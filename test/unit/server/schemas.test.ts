import fc from 'fast-check';
import { submitMistake } from '../../../dispatcher/server/job-doors';
import { Problem } from '../../../protocol';
import {
	facadeExecute,
	keyRequest,
	queryReader,
	robots,
	scheduleRequest,
	validatorOf,
	waitRequest,
	jobsQuery,
} from '../../../protocol/schemas';

const job = { kind: 'command', spec: { command: 'uname' } };
const say = (value: unknown) => submitMistake(value)?.message;

test('a full submit is taken', () => {
	expect(
		say({
			...job,
			target: {
				robot: 'build-01',
				labels: { os: 'linux' },
				capabilities: ['docker'],
				mode: { count: 3 },
			},
			priority: 0,
			variables: { a: 1, b: 'x', c: null, d: true },
			timeouts: { queueMs: 1000, deadlineAt: 1_900_000_000_000 },
			retry: { maxAttempts: 5, on: ['exit:75', 'robot_lost'], jitter: 0.5 },
			onLoss: 'retry',
			onDisconnect: 'stop',
			idempotent: true,
			idempotencyKey: 'deploy 2026/05',
			notBefore: 0,
		}),
	).toBeUndefined();
	expect(say({ ...job, onLoss: { waitMs: 1, then: 'fail' } })).toBeUndefined();
});

test.each([
	['nothing at all', undefined, 'body: must be an object, not nothing.'],
	['a list', [], 'body: must be an object, not a list.'],
	['no kind', { spec: {} }, 'kind: is missing.'],
	['no spec', { kind: 'command' }, 'spec: is missing.'],
	[
		'a misspelt field',
		{ ...job, prority: 'high' },
		/^prority is not a field of this call; known fields are kind, spec, target, /,
	],
	[
		'a misspelt field within',
		{ ...job, target: { foo: 1 } },
		'target.foo is not a field of this call; known fields are robot, labels, capabilities, client, group, pool, tags, environment, exclude, prefer, mode, away.',
	],
	[
		'a wrong priority',
		{ ...job, priority: 'urgent' },
		'priority: must be "critical", "high", "normal", "low", 0, 1, 2 or 3.',
	],
	[
		'a wrong member of a union',
		{ ...job, onLoss: { then: 'pray' } },
		'onLoss.then: must be "unknown", "retry" or "fail".',
	],
	[
		'an unknown field in a union',
		{ ...job, onLoss: { wait: 3 } },
		'onLoss.wait is not a field of this call; known fields are waitMs, then.',
	],
	[
		'no member of a union',
		{ ...job, onLoss: 7 },
		'onLoss: must be an object, "unknown", "retry" or "fail".',
	],
	[
		'a wrong word of a union',
		{ ...job, onLoss: 'pray' },
		'onLoss: must be an object, "unknown", "retry" or "fail".',
	],
	[
		'an entry of a list',
		{ ...job, target: { capabilities: ['ok', 7] } },
		'target.capabilities[1]: must be text, not a number.',
	],
	[
		'a value of a map',
		{ ...job, variables: { a: {} } },
		'variables.a: must be text, a number, true or false or null.',
	],
	[
		'a name of a map',
		{ ...job, variables: { '1x': 1 } },
		/^variables\.1x: a variable name may hold/,
	],
	['a fraction', { ...job, notBefore: 1.5 }, 'notBefore: must be a whole number, not 1.5.'],
	[
		'seconds for milliseconds',
		{ ...job, timeouts: { runMs: -1 } },
		'timeouts.runMs: must be at least 1.',
	],
	[
		'a cause that does not exist',
		{ ...job, retry: { on: ['rain'] } },
		'retry.on[0]: must be a cause such as robot_lost, or exit:N with an exit code.',
	],
	['an empty key', { ...job, idempotencyKey: '' }, 'idempotencyKey: must not be empty.'],
	[
		'a key that is too long',
		{ ...job, idempotencyKey: 'x'.repeat(257) },
		'idempotencyKey: must have at most 256 characters.',
	],
	[
		'a newline in a robot name',
		{ ...job, target: { robot: 'a\nb' } },
		/^target\.robot: may hold letters/,
	],
	[
		'an unknown kind',
		{ ...job, kind: 'dance' },
		'No job kind is called "dance"; known kinds are command, probe.',
	],
	[
		'a misspelt spec',
		{ ...job, spec: { cmd: 'x' } },
		/^spec\.cmd is not a field of this call; known fields are command, args, shell/,
	],
	[
		'a wrong spec',
		{ ...job, spec: { command: 'x', args: 'y' } },
		'spec.args: must be a list, not text.',
	],
	['a spec that is none', { ...job, spec: null }, 'spec: must be an object, not null.'],
])('%s is told in one sentence', (_name, value, sentence) => {
	const said = say(value);
	if (sentence instanceof RegExp) expect(said).toMatch(sentence);
	else expect(said).toBe(sentence);
});

test('a wait may be as long as people say, a thousand years too', () => {
	const wait = { jobIds: ['0192ffff-0000-7000-8000-000000000001'], limitMs: 365_000 * 86_400_000 };
	expect(validatorOf(waitRequest).mistake(wait)).toBeUndefined();
	expect(validatorOf(waitRequest).mistake({ ...wait, limitMs: 1e15 })).toBeInstanceOf(Problem);
});

test('keys that would change an object’s prototype are refused everywhere', () => {
	for (const text of [
		'{"kind":"command","spec":{"command":"x"},"__proto__":{}}',
		'{"kind":"command","spec":{"command":"x"},"variables":{"__proto__":1}}',
		'{"kind":"command","spec":{"command":"x"},"target":{"labels":{"__proto__":"1"}}}',
	]) {
		expect([text, submitMistake(JSON.parse(text))]).toEqual([text, expect.any(Problem)]);
	}
});

test('no value at all makes validation throw anything but a Problem, or leaves a no without a sentence', () => {
	const validators = [
		...[waitRequest, scheduleRequest, keyRequest, facadeExecute].map((schema) =>
			validatorOf(schema),
		),
		...Object.values(robots.robotMessages).map((schema) => validatorOf(schema)),
	];
	fc.assert(
		fc.property(fc.anything(), (value) => {
			for (const validator of validators) {
				const mistake = validator.mistake(value);
				if (mistake) expect(mistake.message).toMatch(/\.$/);
			}
			expect(submitMistake(value)).toBeInstanceOf(Problem);
		}),
		{ numRuns: 300 },
	);
});

test('a sentence stays short, whatever a hostile name holds', () => {
	expect(say({ ...job, [`\u001b[31m${'x'.repeat(100_000)}`]: 1 })!.length).toBeLessThan(400);
});

test('a query’s digits become numbers, and nothing else does', () => {
	const read = queryReader(jobsQuery);
	expect(read({ limit: '10', cursor: '10' })).toEqual({ limit: 10, cursor: '10' });
	for (const limit of ['1e3', '0x10', ' 10', '', '9'.repeat(30), '-1']) {
		expect(() => read({ limit })).toThrow(Problem);
	}
});

test('robots may say more than we know, and not less', () => {
	const heartbeat = validatorOf(robots.heartbeat);
	expect(heartbeat.mistake({ cpu_percent: 1, gpu_percent: 2 })).toBeUndefined();
	expect(heartbeat.mistake({ cpu_percent: 'hot' })?.message).toBe(
		'cpu_percent: must be a number, not text.',
	);
	const ref = { job_id: 'j', attempt: 1, epoch: 1, token: 't' };
	expect(
		validatorOf(robots.jobAccepted).mistake({ ...ref, epoch: 2 ** 60, started_at: '' })?.message,
	).toMatch(/^epoch/);
});
