/** What expressions give is not always text: numbers count as text, what is no text is refused in words. */
import type { INodeExecutionData, INodeProperties, INodeType } from 'n8n-workflow';
import { DispatchToRobot } from '../../../nodes/DispatchToRobot/DispatchToRobot.node';
import { RobotFleet } from '../../../nodes/RobotFleet/RobotFleet.node';
import { SubmitJob } from '../../../nodes/SubmitJob/SubmitJob.node';
import { parseLabels } from '../../../nodes/shared/matching-fields';
import { wordsOf } from '../../../nodes/shared/text';
import type { Submit } from '../../../protocol';
import { FakeExecution, type Parameters } from './fake-n8n';
import { FakeService } from './fake-service';

const uname: Parameters = { commandType: 'program', program: 'uname' };

function setup(node: INodeType = new SubmitJob()) {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	const run = async (parameters: Parameters) =>
		(await node.execute!.call(execution.asExecute(parameters))) as INodeExecutionData[][];
	const submitted = () =>
		service.calls(/\/jobs$/).flatMap(({ body }) => (body as { jobs: Submit[] }).jobs);
	const submit = async (parameters: Parameters) => {
		await run({ ...uname, ...parameters });
		return submitted()[0]!;
	};
	return { service, run, submit };
}

describe('arguments', () => {
	test.each<[string, unknown, string[]]>([
		['a list in a line is several arguments', ['-a', ['b c', 7], true], ['-a', 'b c', '7', 'true']],
		['an empty list in a line is no argument', [[]], []],
		['an empty text is one', ['-m', ''], ['-m', '']],
		['one value instead of lines is one', 5, ['5']],
		['nothing instead of lines is none', null, []],
		['a date is its text', [new Date(0)], [String(new Date(0))]],
	])('%s', async (_what, args, expected) => {
		expect((await setup().submit({ args })).spec).toEqual({ command: 'uname', args: expected });
	});

	test.each<[unknown, string]>([
		[['-a', undefined], 'Argument 2 is nothing'],
		[[null], 'Argument 1 is nothing'],
		[['-a', ['b', null]], 'Argument 2 is nothing'],
		[[{ a: 1 }], 'Argument 1 is an object, not text'],
	])('%j are refused before anything is sent', async (args, message) => {
		const { run, service } = setup();
		await expect(run({ ...uname, args })).rejects.toMatchObject({ message });
		expect(service.requests).toEqual([]);
	});
});

describe('variables', () => {
	const env = (value: unknown) => ({ options: { env: { variable: [{ name: 'A', value }] } } });
	const variables = (value: unknown) => ({ variables: { variable: [{ name: 'A', value }] } });

	test('numbers are text, nothing is empty', async () => {
		expect(await setup().submit(variables(7))).toMatchObject({ variables: { A: '7' } });
		expect(await setup().submit(env(null))).toMatchObject({ spec: { env: { A: '' } } });
		const numbered = { variables: { variable: [{ name: 5, value: 'x' }] } };
		expect(await setup().submit(numbered)).toMatchObject({ variables: { 5: 'x' } });
	});

	test.each<[Parameters, string]>([
		[env({ a: 1 }), '"A" in "Environment Variables" is an object, not text'],
		[variables(['a', 'b']), '"A" in "Variables" is a list, not text'],
		[
			{ variables: { variable: [{ name: undefined, value: 'x' }] } },
			'"Variables" has no name in line 1',
		],
	])('%j is refused before anything is sent', async (parameters, message) => {
		const { run, service } = setup();
		await expect(run({ ...uname, ...parameters })).rejects.toMatchObject({ message });
		expect(service.requests).toEqual([]);
	});
});

describe('numbers and nothing where text is meant', () => {
	test('count as text, and as not said', async () => {
		const { submit } = setup();
		const job = await submit({
			runOn: 'matching',
			labels: 'rack=7',
			capabilities: 'gpu, camera',
			submission: { idempotencyKey: 20260501 },
			limits: {
				locks: { lock: [{ name: 7 }] },
				concurrency: { limit: { key: 8, max: 1 } },
				shareKey: 9,
			},
			options: {
				client: 5554,
				cwd: 0,
				stdin: 42,
				collect: [2026, undefined],
				files: { file: [{ file: 17, path: 18 }] },
			},
			matching: {
				affinityKey: 1,
				environment: 2,
				group: 3,
				pool: 4,
				tags: 5,
				exclude: 'r1, r2',
				prefer: { preference: [{ what: 6 }] },
			},
		});
		expect(job).toMatchObject({
			idempotencyKey: '20260501',
			locks: [{ name: '7' }],
			concurrency: { key: '8', max: 1 },
			shareKey: '9',
			affinityKey: '1',
			spec: {
				cwd: '0',
				stdin: '42',
				collect: ['2026'],
				files: [{ file: '17', path: '18' }],
			},
			target: {
				client: '5554',
				labels: { rack: '7' },
				capabilities: ['gpu', 'camera'],
				environment: '2',
				group: '3',
				pool: '4',
				tags: ['5'],
				exclude: ['r1', 'r2'],
				prefer: [{ robot: '6', weight: 1 }],
			},
		});
		const none = await setup().submit({
			runOn: 'any',
			labels: null,
			submission: { idempotencyKey: null },
			limits: { shareKey: null },
			options: { client: null, cwd: null, stdin: null, collect: null, env: null, files: null },
			matching: { affinityKey: null, environment: null, tags: null, exclude: null, prefer: null },
		});
		expect(none.spec).toEqual({ command: 'uname', args: [] });
		expect(none).not.toHaveProperty('target');
	});

	test.each<[string, Parameters, string]>([
		['a lock', { limits: { locks: { lock: [{ name: undefined }] } } }, '"Locks" has no name'],
		['a key', { limits: { rate: { limit: { key: null } } } }, '"Rate Limit" has no key'],
		['a file', { options: { files: { file: [{ file: null, path: 'a' }] } } }, '"Files" lacks'],
		[
			'a preference',
			{ matching: { prefer: { preference: [{ what: null }] } } },
			'A preference names no robot',
		],
	])('%s that is nothing is said in words', async (_what, parameters, message) => {
		await expect(setup().run({ ...uname, ...parameters })).rejects.toThrow(message);
	});

	test('words and labels are read from whatever an expression gives', () => {
		expect([undefined, null, '', 7, 'a, b', ['a', 'b']].map(wordsOf)).toEqual([
			[],
			[],
			[],
			['7'],
			['a', 'b'],
			['a', 'b'],
		]);
		expect([undefined, null].map(parseLabels)).toEqual([{}, {}]);
	});
});

test.each<[string, INodeType, Parameters]>([
	['Shell Text', new SubmitJob(), { commandType: 'shell', shell: { a: 1 } }],
	['Program', new SubmitJob(), { commandType: 'program', program: { a: 1 } }],
	['Text', new RobotFleet(), { resource: 'job', operation: 'sendInput', job: 'j', text: { a: 1 } }],
])(
	'an object in %s is run by no shell and typed into no program',
	async (name, node, parameters) => {
		const { run, service } = setup(node);
		const message = `"${name}" is an object, not text`;
		await expect(run(parameters)).rejects.toMatchObject({ message });
		expect(service.requests).toEqual([]);
	},
);

test('times that are nothing are not said, and are not no time at all; causes may come in one line', async () => {
	const job = await setup().submit({
		runOn: 'robot',
		robot: 'r1',
		whenAway: { forSeconds: null, lostSeconds: '', lostThen: 'fail' },
		retry: { firstDelaySeconds: null, longestDelaySeconds: '', causes: 'refused, robot_lost' },
	});
	expect(job).not.toHaveProperty('offline');
	expect(job.onLoss).toEqual({ then: 'fail' });
	expect(job.retry).toEqual({ on: ['refused', 'robot_lost', 'exit:75'] });
});

describe('a job of another kind', () => {
	const kind: Parameters = { commandType: 'kind', kind: 'probe' };

	test.each<[string, object]>([
		['Files', { files: { file: [{ file: 'f', path: 'p' }] } }],
		['Collect Files', { collect: ['out/*'] }],
		['Environment Variables', { env: { variable: [{ name: 'A', value: 'b' }] } }],
		['Standard Input', { stdin: 'x' }],
		['Interactive', { interactive: true }],
		['Working Folder', { cwd: '/tmp' }],
	])('has no %s, and says so instead of dropping it', async (name, options) => {
		const { run, service } = setup();
		await expect(run({ ...kind, options })).rejects.toMatchObject({
			message: `"${name}" counts only for a program or shell text`,
		});
		expect(service.requests).toEqual([]);
	});

	test('goes on with those that were added and left empty, and with all others', async () => {
		const empty = { files: {}, collect: [], env: {}, stdin: '', interactive: false, cwd: ' ' };
		const job = await setup().submit({ ...kind, options: { ...empty, runSeconds: 5 } });
		expect(job).toMatchObject({ kind: 'probe', spec: {}, timeouts: { runMs: 5_000 } });
	});
});

test('Dispatch to Robot offers Explain Waiting only where it does not wait', () => {
	const explain = (node: INodeType) =>
		(
			node.description.properties.find(({ name }) => name === 'submission')!
				.options as INodeProperties[]
		).find(({ name }) => name === 'explain')!;
	expect(explain(new DispatchToRobot()).displayOptions).toEqual({
		show: { '/waitForCompletion': [false] },
	});
	expect(explain(new SubmitJob()).displayOptions).toBeUndefined();
});
