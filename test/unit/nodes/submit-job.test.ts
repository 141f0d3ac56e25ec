import type { IExecuteFunctions, INodeExecutionData } from 'n8n-workflow';
import { DispatchToRobot } from '../../../nodes/DispatchToRobot/DispatchToRobot.node';
import { SubmitJob } from '../../../nodes/SubmitJob/SubmitJob.node';
import type { SendRequest } from '../../../client';
import type { Submit } from '../../../protocol';
import { FakeExecution, type Parameters } from './fake-n8n';
import { FakeService } from './fake-service';

const uname: Parameters = { commandType: 'program', program: 'uname', args: ['-a'] };

function setup(items: INodeExecutionData[] = [{ json: { n: 1 } }]) {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	execution.items = items;
	const run = async (parameters: Parameters = uname) =>
		(await new SubmitJob().execute.call(execution.asExecute(parameters)))[0]!;
	const submitted = () =>
		service.calls(/\/jobs$/).flatMap(({ body }) => (body as { jobs: Submit[] }).jobs);
	return { service, execution, run, submitted };
}

describe('Submit Job', () => {
	test('each item makes one job, in one call, and keeps its own fields', async () => {
		const { run, service, submitted } = setup([{ json: { n: 1 } }, { json: { n: 2 } }]);
		const items = await run();
		expect(service.calls(/\/jobs$/)).toHaveLength(1);
		expect(submitted()).toHaveLength(2);
		expect(items.map(({ json }) => json.n)).toEqual([1, 2]);
		expect(items.map(({ pairedItem }) => pairedItem)).toEqual([{ item: 0 }, { item: 1 }]);
		expect(items[0]!.json).toMatchObject({ jobId: [...service.jobs.keys()][0] });
	});

	test('parameters are read for each item', async () => {
		const { run, submitted } = setup([{ json: { p: 'ls' } }, { json: { p: 'df' } }]);
		await run({ ...uname, program: (item: INodeExecutionData) => item.json.p });
		expect(submitted().map(({ spec }) => (spec as { command: string }).command)).toEqual([
			'ls',
			'df',
		]);
	});

	test('every field reaches the service', async () => {
		const { run, submitted } = setup();
		await run({
			commandType: 'shell',
			shell: 'df -h | tail -n +2',
			runOn: 'matching',
			labels: 'site=berlin, os = linux',
			capabilities: ['gpu'],
			priority: 'high',
			variables: { variable: [{ name: 'build', value: 7 }] },
			options: {
				cwd: '/tmp',
				env: { variable: [{ name: 'LANG', value: 'C' }] },
				stdin: 'hello',
				files: { file: [{ file: ' f-1 ', path: 'conf/app.json' }] },
				collect: ['report/**', ''],
				queueSeconds: 60,
				runSeconds: 1.5,
				silenceSeconds: 10,
				maxAttempts: 5,
				client: ' phone ',
				commandClass: 'compile',
				capMemoryMiB: 512,
				capCpuSeconds: 60,
				capOutputKiB: 64,
				capProcesses: 20,
				idleSeconds: 45,
				reportRunSeconds: 7200,
				reportSilenceSeconds: 0,
			},
		});
		expect(submitted()[0]).toEqual({
			kind: 'command',
			spec: {
				shell: 'df -h | tail -n +2',
				cwd: '/tmp',
				env: { LANG: 'C' },
				stdin: 'hello',
				files: [{ file: 'f-1', path: 'conf/app.json' }],
				collect: ['report/**'],
			},
			target: { labels: { site: 'berlin', os: 'linux' }, capabilities: ['gpu'], client: 'phone' },
			priority: 'high',
			variables: { build: '7' },
			timeouts: { queueMs: 60_000, runMs: 1_500, silenceMs: 10_000 },
			caps: {
				memoryBytes: 536_870_912,
				cpuSeconds: 60,
				processes: 20,
				outputBytes: 65_536,
			},
			watch: { class: 'compile', totalMs: 7_200_000, idleMs: 45_000 },
			retry: { maxAttempts: 5 },
			idempotencyKey: expect.stringMatching(/^n8n-[0-9a-f]{64}$/),
		});
	});

	test.each<[string, Parameters, Submit['target']]>([
		['all robots', { howMany: 'all' }, { mode: 'all' }],
		['two of any', { howMany: 'number', robotCount: 2 }, { mode: { count: 2 } }],
		[
			'all that match',
			{ runOn: 'matching', labels: 'os=linux', howMany: 'all' },
			{ labels: { os: 'linux' }, mode: 'all' },
		],
		['one of any', { howMany: 'one', robotCount: 5 }, undefined],
	])('%s can be asked for', async (_what, more, target) => {
		const { run, submitted } = setup();
		await run({ ...uname, ...more });
		expect(submitted()[0]!.target).toEqual(target);
	});

	test('a job for several robots goes out in batches, and leaves out who is away, when that is asked for', async () => {
		const { run, submitted } = setup();
		await run({
			...uname,
			howMany: 'all',
			rollout: {
				batch: ' 25% ',
				canary: 1,
				maxFailures: 2,
				pauseSeconds: 1.5,
				skipAway: true,
				staggerSeconds: 10,
			},
		});
		expect(submitted()[0]).toMatchObject({
			target: { mode: 'all', away: 'skip' },
			rollout: {
				batch: '25%',
				canary: 1,
				maxFailures: 2,
				pauseBetween: 1_500,
				staggerMs: 10_000,
			},
		});
		const one = setup();
		await one.run({ ...uname, howMany: 'one', rollout: { batch: '2' } });
		expect(one.submitted()[0]).not.toHaveProperty('rollout');
	});

	test('conditions and preferences become the target and the choice, for any robot and for those that match', async () => {
		const { run, submitted } = setup();
		const matching = {
			strategy: 'affinity',
			affinityKey: ' nightly ',
			preferWaitSeconds: 90,
			group: 'hall',
			pool: ' prod ',
			tags: 'gpu, ssd',
			environment: 'production',
			exclude: ['r9'],
			prefer: { preference: [{ what: 'disk=ssd, os=linux', weight: 10 }, { what: 'r1' }] },
		};
		await run({ ...uname, runOn: 'any', labels: 'left=over', matching });
		await run({ ...uname, runOn: 'matching', labels: 'os=linux', matching });
		await run({ ...uname, runOn: 'robot', robot: 'r1', matching });
		const [any, some, pinned] = submitted();
		const target = {
			group: 'hall',
			pool: 'prod',
			tags: ['gpu', 'ssd'],
			environment: 'production',
			exclude: ['r9'],
			prefer: [
				{ labels: { disk: 'ssd', os: 'linux' }, weight: 10 },
				{ robot: 'r1', weight: 1 },
			],
		};
		const choice = { strategy: 'affinity', affinityKey: 'nightly', preferWaitMs: 90_000 };
		expect(any).toMatchObject({ ...choice, target });
		expect(any!.target).toEqual(target);
		expect(some).toMatchObject({ ...choice, target: { ...target, labels: { os: 'linux' } } });
		expect(pinned!.target).toEqual({ robot: 'r1' });
		expect(pinned).not.toHaveProperty('strategy');
	});

	test('what was added under Matching and left empty asks for nothing', async () => {
		const { run, submitted } = setup();
		const matching = { strategy: '', group: ' ', tags: '', exclude: [], prefer: {} };
		await run({ ...uname, matching });
		expect(submitted()[0]).not.toHaveProperty('target');
		expect(submitted()[0]).not.toHaveProperty('strategy');
	});

	test.each<[string, Parameters, object]>([
		[
			'one for each value of a label',
			{ howMany: 'perLabel', perLabel: ' site ' },
			{ perLabel: 'site' },
		],
		['one for each group', { howMany: 'perGroup', perGroup: 'halls' }, { perGroup: 'halls' }],
		['these robots', { howMany: 'these', theseRobots: ['r1', 'r7'] }, { robots: ['r1', 'r7'] }],
		[
			'these by an expression',
			{ howMany: 'these', theseRobots: 'r1, r7' },
			{ robots: ['r1', 'r7'] },
		],
	])('%s can be asked for', async (_what, more, mode) => {
		const { run, submitted } = setup();
		await run({ ...uname, ...more });
		expect(submitted()[0]!.target).toEqual({ mode });
	});

	test('locks, limits, absence and retries reach the service', async () => {
		const { run, submitted } = setup();
		await run({
			...uname,
			limits: {
				locks: {
					lock: [
						{ name: ' db-prod ', slots: 1 },
						{ name: 'licence', slots: 2 },
					],
				},
				concurrency: { limit: { key: 'crm', max: 3 } },
				rate: { limit: { key: 'crm', max: 10, perSeconds: 1.5 } },
				slots: 2,
				shareKey: ' team-a ',
			},
			whenAway: {
				forSeconds: 7_200,
				then: 'other',
				lostSeconds: 60,
				lostThen: 'retry',
				onDisconnect: 'stop',
			},
			retry: {
				causes: ['robot_lost'],
				exitCodes: '3, 75',
				firstDelaySeconds: 2,
				longestDelaySeconds: 30,
				factor: 3,
				otherRobot: true,
				idempotent: true,
			},
			options: { maxAttempts: 5, interactive: true, inputSeconds: 30, onHang: 'stop' },
		});
		expect(submitted()[0]).toMatchObject({
			spec: { command: 'uname', args: ['-a'], interactive: true },
			locks: [{ name: 'db-prod' }, { name: 'licence', slots: 2 }],
			concurrency: { key: 'crm', max: 3 },
			rate: { key: 'crm', max: 10, perMs: 1_500 },
			slots: 2,
			shareKey: 'team-a',
			offline: { forMs: 7_200_000, then: 'other' },
			onLoss: { waitMs: 60_000, then: 'retry' },
			onDisconnect: 'stop',
			onHang: 'stop',
			timeouts: { inputMs: 30_000 },
			retry: {
				maxAttempts: 5,
				on: ['robot_lost', 'exit:3', 'exit:75'],
				initialDelayMs: 2_000,
				maxDelayMs: 30_000,
				factor: 3,
				otherRobot: true,
			},
			idempotent: true,
		});
	});

	test('one of both lists of what is worth a retry leaves the other as the service has it', async () => {
		const { run, submitted } = setup();
		await run({ ...uname, retry: { exitCodes: '111' } });
		await run({ ...uname, program: 'df', retry: { causes: ['signal'] } });
		expect(submitted().map(({ retry }) => retry?.on)).toEqual([
			['refused', 'spawn_error', 'infrastructure', 'exit:111'],
			['signal', 'exit:75'],
		]);
	});

	test('when it starts and ends, and what counts as the same, reach the service', async () => {
		const { run, submitted } = setup();
		await run({
			...uname,
			submission: {
				startAt: '2030-01-02T03:00:00',
				deadlineAt: '2030-01-02T04:00:00Z',
				dedupeSeconds: 300,
				idempotencyKey: ' deploy-1 ',
				strict: true,
			},
		});
		expect(submitted()[0]).toMatchObject({
			notBefore: Date.UTC(2030, 0, 2, 8),
			timeouts: { deadlineAt: Date.UTC(2030, 0, 2, 4) },
			dedupe: { windowMs: 300_000 },
			idempotencyKey: 'deploy-1',
			strict: true,
		});
	});

	test('a delay is the same for a step that n8n repeats, and new in each round of a loop', async () => {
		const { run, submitted, execution } = setup();
		const delayed = { ...uname, submission: { delaySeconds: 60 } };
		await run(delayed);
		await new Promise((resolve) => setTimeout(resolve, 5));
		await run(delayed);
		execution.runIndex = 1;
		await run(delayed);
		const [first, again, next] = submitted().map(({ notBefore }) => notBefore!);
		expect(again).toBe(first);
		expect(next).toBeGreaterThan(first!);
	});

	test('a delay counts anew when somebody retries the whole execution in n8n, with all that it remembered', async () => {
		const { run, submitted, execution } = setup();
		const delayed = { ...uname, submission: { delaySeconds: 60 } };
		await run(delayed);
		await new Promise((resolve) => setTimeout(resolve, 5));
		execution.id = '18';
		await run(delayed);
		const [first, retried] = submitted().map(({ notBefore }) => notBefore!);
		expect(retried).toBeGreaterThan(first!);
	});

	test('a job of another kind has the spec that its fields say', async () => {
		const { run, submitted } = setup();
		await run({
			commandType: 'kind',
			kind: 'navigation',
			program: 'left over',
			kindSpec: {
				mappingMode: 'defineBelow',
				value: { tree: 'home', steps: '["a", "b"]', depth: '3', note: '', at: null },
				schema: [
					{ id: 'tree', type: 'string' },
					{ id: 'steps', type: 'array' },
					{ id: 'depth', type: 'number' },
					{ id: 'note', type: 'string' },
				],
			},
		});
		expect(submitted()[0]).toMatchObject({
			kind: 'navigation',
			spec: { tree: 'home', steps: ['a', 'b'], depth: 3 },
		});
	});

	describe('why a job waits', () => {
		test('is said of each item that asks, and null where it was given away', async () => {
			const { run, service } = setup([{ json: {} }, { json: {} }]);
			const explained = { ...uname, submission: { explain: true } };
			service.why.text = 'The job waits for lock db-prod.';
			expect((await run(explained)).map(({ json }) => json.whyWaiting)).toEqual([
				'The job waits for lock db-prod.',
				'The job waits for lock db-prod.',
			]);
			service.submitState = 'dispatched';
			const free = setup();
			free.service.submitState = 'dispatched';
			expect((await free.run(explained))[0]!.json.whyWaiting).toBeNull();
			expect(free.service.calls(/why/, 'GET')).toEqual([]);
		});

		test('unasked it is said where no robot matches, with one look for all items and a hint', async () => {
			const { run, service, execution } = setup([{ json: {} }, { json: {} }]);
			service.why = { text: 'None of the 3 robots matches label os=beos.', matching: 0 };
			service.unmatched = true;
			const items = await run();
			expect(items.map(({ json }) => json.whyWaiting)).toEqual([
				'None of the 3 robots matches label os=beos.',
				'None of the 3 robots matches label os=beos.',
			]);
			expect(service.calls(/why/, 'GET')).toHaveLength(1);
			expect(execution.hints).toEqual([
				'The job waits until there is a robot that may run it. None of the 3 robots matches label os=beos.',
			]);
		});

		test('of a job that only waits for its turn nothing is said, and no failed look fails the step', async () => {
			const { run, service, execution } = setup();
			expect((await run())[0]!.json).not.toHaveProperty('whyWaiting');
			expect(execution.hints).toEqual([]);
			expect(service.calls(/why/, 'GET')).toEqual([]);
			service.unmatched = true;
			Object.defineProperty(service, 'why', {
				get() {
					throw new Error('no');
				},
			});
			expect((await run({ ...uname, program: 'df' }))[0]!.json.jobId).toBeDefined();
		});
	});

	test('the list of robots that match is loaded anew when any condition changes', () => {
		const { properties } = new SubmitJob().description;
		const field = properties.find(({ name }) => name === 'matchingRobots')!;
		expect(field.typeOptions!.loadOptionsDependsOn).toEqual(
			expect.arrayContaining(['runOn', 'labels', 'capabilities', 'matching.group']),
		);
	});

	test('a number of robots that is none is said before anything is submitted', async () => {
		const { run, service } = setup();
		await expect(run({ ...uname, howMany: 'number', robotCount: 0 })).rejects.toThrow(
			'The number of robots is not a number',
		);
		expect(service.calls(/\/jobs$/)).toEqual([]);
	});

	test('a step that n8n repeats submits nothing twice', async () => {
		const { run, service } = setup([{ json: {} }, { json: {} }]);
		const first = await run();
		const again = await run();
		expect(service.jobs.size).toBe(2);
		expect(again.map(({ json }) => json.jobId)).toEqual(first.map(({ json }) => json.jobId));
	});

	test('a tool that is called again because the answer got lost submits nothing twice, and later calls are new', async () => {
		const { run, service, execution } = setup();
		execution.node = { ...execution.node, type: 'n8n-nodes-robot-fleet.submitJobTool' };
		const call = async () => {
			execution.runIndex += 1;
			return (await run())[0]!.json.jobId;
		};
		const { send } = service;
		const losesAnswers = async (request: SendRequest) => {
			await send(request);
			throw new TypeError('cut off');
		};
		Object.assign(service, { send: losesAnswers });
		await expect(call()).rejects.toThrow('does not answer');
		await expect(call()).rejects.toThrow('does not answer');
		Object.assign(service, { send });
		const [first] = service.jobs.keys();
		expect(await call()).toBe(first);
		expect(service.jobs.size).toBe(1);
		expect(await call()).not.toBe(first);
		expect(service.jobs.size).toBe(2);
	});

	test.each([
		['submitJob', new SubmitJob()],
		['dispatchToRobot', new DispatchToRobot()],
	])(
		'%s as a tool of an MCP Server Trigger, which has no execution: each call is a job',
		async (name, node) => {
			const { service, execution } = setup();
			execution.node = { ...execution.node, type: `n8n-nodes-robot-fleet.${name}Tool` };
			service.onGrace = () => service.expire([...service.waits.keys()].at(-1)!);
			const context = Object.assign(execution.asExecute({ ...uname, robot: 'r1' }), {
				getExecutionId: () => undefined,
				getContext: () => {
					throw new Error('`executionData` is not initialized');
				},
				evaluateExpression: (text: string) =>
					text === '{{ $runIndex }}' ? 0 : 'https://n8n.example.com/webhook-waiting/__UNKNOWN__',
			}) as unknown as IExecuteFunctions;
			await node.execute.call(context);
			await node.execute.call(context);
			expect(service.jobs.size).toBe(2);
		},
	);

	test('a step that n8n repeats at another time has the jobs of the first time, and as they are now', async () => {
		const { service, execution } = setup([{ json: {} }, { json: {} }]);
		let at = Date.UTC(2030, 0, 2);
		const parameters = {
			...uname,
			waitForCompletion: false,
			robot: 'r1',
			submission: () => ({ deadlineAt: new Date((at += 60_000)).toISOString() }),
		};
		const run = async () =>
			(await new DispatchToRobot().execute.call(execution.asExecute(parameters)))[0]!;
		const first = await run();
		service.end(String(first[1]!.json.jobId), 'completed');
		const again = await run();
		expect(service.jobs.size).toBe(2);
		expect(again.map(({ json }) => json)).toMatchObject([
			{ jobId: first[0]!.json.jobId, state: 'queued' },
			{ jobId: first[1]!.json.jobId, state: 'completed' },
		]);
	});

	test('a key of the builder that was used for another job is refused, naming it', async () => {
		const { run, service } = setup();
		const submission = { idempotencyKey: 'deploy-1' };
		await run({ ...uname, submission });
		const [jobId] = service.jobs.keys();
		await expect(run({ ...uname, program: 'df', submission })).rejects.toThrow(
			`The idempotency key "deploy-1" was used for a different request, which is job ${jobId}`,
		);
	});

	test.each<[string, (execution: FakeExecution) => void]>([
		['n8n', (execution) => (execution.instanceId = 'instance-b')],
		['execution', (execution) => (execution.id = '18')],
		['execution with the same id after a reset', (execution) => (execution.token = 'token-2')],
		['node', (execution) => (execution.node = { ...execution.node, id: 'other' })],
		['round of a loop', (execution) => (execution.runIndex = 1)],
	])('another %s is another job', async (_what, change) => {
		const { run, service, execution } = setup();
		await run();
		change(execution);
		await run();
		expect(service.jobs.size).toBe(2);
	});

	test('more items than one call may carry go in several, still in order', async () => {
		const { run, service } = setup(Array.from({ length: 1_001 }, (_, n) => ({ json: { n } })));
		const items = await run();
		expect(service.calls(/\/jobs$/)).toHaveLength(2);
		expect(items.at(-1)!.json).toMatchObject({ n: 1000, jobId: [...service.jobs.keys()].at(-1) });
	});

	test('of an execution that somebody stops nothing more is submitted, and what was can be cancelled with it', async () => {
		const items = Array.from({ length: 1_001 }, (_, n) => ({ json: { n } }));
		const { run, service, execution } = setup(items);
		service.refuses = ({ path }) => {
			if (path.endsWith('/jobs')) execution.cancel.abort();
			return undefined;
		};
		await run({ ...uname, cancelOnStop: true });
		expect(service.jobs.size).toBe(1_000);
		expect(service.calls(/\/cancel$/).length).toBeGreaterThan(0);
	});

	test('a refused job stops the node and names its item and the way out', async () => {
		const { run, service } = setup([{ json: { p: 'ls' } }, { json: { p: 'rm' } }]);
		service.refuse = { command: 'rm', code: 'unknown-robot', details: { robot: 'r9' } };
		await expect(
			run({ ...uname, program: (item: INodeExecutionData) => item.json.p }),
		).rejects.toMatchObject({
			message: 'No robot has the id or name "r9"',
			description: 'List them with: robot-fleet robots list.',
			context: { itemIndex: 1 },
		});
	});

	test('with an error output only the refused item goes there', async () => {
		const { run, service, execution } = setup([{ json: { p: 'ls' } }, { json: { p: 'rm' } }]);
		execution.node = { ...execution.node, onError: 'continueErrorOutput' };
		service.refuse = { command: 'rm', code: 'unknown-robot', details: { robot: 'r9' } };
		const [good, bad] = await run({
			...uname,
			program: (item: INodeExecutionData) => item.json.p,
		});
		expect(good!.json.jobId).toBeDefined();
		expect(bad!.json).toEqual({
			error: 'No robot has the id or name "r9"',
			message: 'List them with: robot-fleet robots list.',
			details: { code: 'unknown-robot' },
		});
		expect(bad!.pairedItem).toEqual({ item: 1 });
	});

	test.each<[string, Parameters, string]>([
		['no program', { ...uname, program: ' ' }, 'No program is given'],
		['no shell text', { commandType: 'shell', shell: '' }, 'The shell text is empty'],
		['no robot', { ...uname, runOn: 'robot', robot: '' }, 'No robot is chosen'],
		[
			'a rollout without a size',
			{ ...uname, howMany: 'all', rollout: { canary: 1 } },
			'The rollout has no batch size',
		],
		[
			'a size that is none',
			{ ...uname, howMany: 'all', rollout: { batch: 'some' } },
			'"Batch Size" is neither a number nor a share',
		],
		[
			'a label without a value',
			{ ...uname, runOn: 'matching', labels: 'gpu' },
			'"gpu" is not a label',
		],
		['no kind', { commandType: 'kind', kind: '' }, 'No kind is chosen'],
		[
			'a list that is none',
			{
				commandType: 'kind',
				kind: 'navigation',
				kindSpec: { value: { steps: 'a, b' }, schema: [{ id: 'steps', type: 'array' }] },
			},
			'"steps" is no list',
		],
		[
			'no lock',
			{ ...uname, limits: { locks: { lock: [{ name: ' ' }] } } },
			'"Locks" has no name in line 1',
		],
		['no key', { ...uname, limits: { rate: { limit: { max: 3 } } } }, '"Rate Limit" has no key'],
		['an end without a time', { ...uname, whenAway: { then: 'ask' } }, '"Then" has no time'],
		['no exit code', { ...uname, retry: { exitCodes: 'all' } }, '"all" is not an exit code'],
		['no date', { ...uname, submission: { startAt: 'soon' } }, '"Start At" is not a date'],
		[
			'two times to start',
			{ ...uname, submission: { startAt: '2030-01-01', delaySeconds: 5 } },
			'The job has two times to start at',
		],
		['no label', { ...uname, howMany: 'perLabel', perLabel: '' }, 'No label is given'],
		['no robots', { ...uname, howMany: 'these', theseRobots: [] }, 'No robots are chosen'],
		[
			'a preference for nothing',
			{ ...uname, matching: { prefer: { preference: [{ what: ' ' }] } } },
			'A preference names no robot and no labels',
		],
		[
			'a variable without a name',
			{ ...uname, variables: { variable: [{ name: '', value: 'x' }] } },
			'"Variables" has no name in line 1',
		],
	])('%s is said before anything is sent', async (_what, parameters, message) => {
		const { run, service } = setup();
		await expect(run(parameters)).rejects.toMatchObject({ message, context: { itemIndex: 0 } });
		expect(service.requests).toHaveLength(0);
	});

	test('a service that does not answer is said in one sentence with what to do', async () => {
		const { run, service } = setup();
		service.away = true;
		await expect(run()).rejects.toMatchObject({
			message: 'The Robot Fleet service at http://fleet does not answer (refused)',
			description: 'Is it running?',
			httpCode: '503',
		});
	});
});
