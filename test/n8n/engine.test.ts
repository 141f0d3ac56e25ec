/**
 * Our nodes in the engine of the real n8n, without its server: the real service, a real robot and real
 * commands, hundreds of milliseconds a case. Waits park at once, as behind the ten seconds that a node
 * waits in memory, so that each case goes the long way: text in a database, a poke, and the engine again.
 *
 * @jest-environment ./test/support/n8n-environment.cjs
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IDataObject, INode } from 'n8n-workflow';
import { eventually } from '../fault/one-service';
import { EngineHost, installBuilt, type TestNode, type TestWorkflow } from '../support/n8n-engine';
import { HastyDoor } from '../support/hasty-door';
import { WholeHouse } from '../support/whole-house';

jest.setTimeout(60_000);

let folder: string;
let n8n: EngineHost;
let house: WholeHouse;
let door: HastyDoor;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), 'robot-fleet-package-'));
	n8n = await EngineHost.open(installBuilt(folder));
	house = await WholeHouse.open({ n8nUrl: n8n.url });
	await house.robot('anna');
	door = await HastyDoor.before(house.service.url);
	n8n.credential = { connection: 'server', url: door.url, apiKey: house.address.key };
}, 120_000);
afterAll(async () => {
	await n8n?.[Symbol.asyncDispose]();
	await door?.[Symbol.asyncDispose]();
	await house?.[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

// ---------------------------------------------------------------------------- workflows

const fleet = (
	name: string,
	type: string,
	parameters: object = {},
	more: object = {},
): TestNode => ({
	name,
	type: `n8n-nodes-robot-fleet.${type}`,
	parameters: parameters as INode['parameters'],
	...more,
});
const start: TestNode = { name: 'Start', type: 'n8n-nodes-base.manualTrigger' };
const noOp = (name: string): TestNode => ({ name, type: 'n8n-nodes-base.noOp' });

/** Says of each item which one of the start it comes from, by n8n's item linking. */
const linked = (name: string): TestNode => ({
	name,
	type: 'n8n-nodes-base.set',
	typeVersion: 3.4,
	parameters: {
		mode: 'manual',
		includeOtherFields: true,
		options: {},
		assignments: {
			assignments: [
				{ id: 'a', name: 'from', type: 'number', value: "={{ $('Start').item.json.n }}" },
			],
		},
	} as unknown as INode['parameters'],
});

/** One after the other; items with an error go from `last` to a second branch. */
function line(nodes: TestNode[], branchOf?: string): TestWorkflow {
	const good = linked('Good');
	const bad = linked('Bad');
	const names = [...nodes.map(({ name }) => name), 'Good'];
	const connections = Object.fromEntries(
		names
			.slice(0, -1)
			.map((name, at) => [
				name,
				name === branchOf ? [[names[at + 1]!], ['Bad']] : [[names[at + 1]!]],
			]),
	);
	return { nodes: [...nodes, good, ...(branchOf === undefined ? [] : [bad])], connections };
}

const shell = (text: string) => ({ commandType: 'shell', shell: text });

/** A command that ends when the test says so. */
let gates = 0;
function gated(exitCode = 0) {
	const file = join(house.folder, `gate-${(gates += 1)}`);
	return {
		command: shell(
			`until [ -e "${file}" ]; do sleep 0.05; done; echo "n is $ROBOT_FLEET_VAR_N"; exit ${exitCode}`,
		),
		open: () => writeFileSync(file, ''),
	};
}
const n = { variables: { variable: [{ name: 'n', value: '={{ $json.n }}' }] } };
const three: IDataObject[] = [{ n: 0 }, { n: 1 }, { n: 2 }];
const jsons = (items: Array<{ json: IDataObject }>) => items.map(({ json }) => json);

// ---------------------------------------------------------------------------- parked and resumed

describe('an execution that waits', () => {
	test('is parked as text, and goes on when its jobs have ended, item by item, in order', async () => {
		const gate = gated();
		const id = n8n.start(
			line([
				start,
				fleet('Submit', 'submitJob', { ...gate.command, ...n }),
				fleet('Wait', 'waitForExecution'),
			]),
			three,
		);
		const { data, waitTill } = await n8n.parked(id);
		expect(waitTill.getTime()).toBeGreaterThan(Date.now() + 3_600_000 + 100_000);
		expect(data.resultData.lastNodeExecuted).toBe('Wait');
		gate.open();
		const ended = await n8n.ended(id);
		expect(ended.error).toBeUndefined();
		expect(jsons(ended.items('Good'))).toMatchObject(
			[0, 1, 2].map((n) => ({ n, from: n, job: { state: 'completed', stdout: `n is ${n}\n` } })),
		);
		expect(ended.runs('Good')).toBe(1);
		expect(n8n.pokes.filter(({ executionId }) => executionId === id)).toMatchObject([
			{ status: 200, answer: { resumed: true } },
		]);
	});

	test('goes on when the time of the service is up, and says so', async () => {
		const gate = gated();
		const limit = { limitWaitTime: true, waitAmount: 1, waitUnit: 'seconds' };
		const id = n8n.start(
			line([
				start,
				fleet('Dispatch', 'dispatchToRobot', { robot: 'anna', ...gate.command, ...n, ...limit }),
			]),
			[{ n: 0 }],
		);
		// Parked or not, and however far its robot is: the second may be over before that.
		const ended = await n8n.ended(id);
		expect(jsons(ended.items('Good'))).toMatchObject([
			{
				n: 0,
				from: 0,
				job: { timedOut: true, state: expect.stringMatching(/^(queued|dispatched|running)$/) },
			},
		]);
		gate.open();
	});

	test('that n8n itself takes up at its own deadline passes its input on, without a job', async () => {
		const gate = gated();
		const id = n8n.start(
			line([
				start,
				fleet('Submit', 'submitJob', { ...gate.command, ...n }),
				fleet('Wait', 'waitForExecution'),
			]),
			three,
		);
		await n8n.parked(id);
		n8n.resumeAtDeadline(id);
		const ended = await n8n.ended(id);
		expect(ended.status).toBe('success');
		// No node is asked, so what is missing is the sign: a wait that ended always has "job".
		expect(jsons(ended.items('Good')).map(({ job, from }) => [job, from])).toEqual([
			[undefined, 0],
			[undefined, 1],
			[undefined, 2],
		]);
		gate.open();
	});

	test('is resumed once by many pokes at the same time, and not by forged ones', async () => {
		const gate = gated();
		const id = n8n.start(
			line([start, fleet('Dispatch', 'dispatchToRobot', { robot: 'anna', ...gate.command, ...n })]),
			[{ n: 0 }],
		);
		const { data } = await n8n.parked(id);
		const { waitId } = JSON.parse(
			(data.executionData!.contextData['node:Dispatch'] as { robotFleetWait: string })
				.robotFleetWait,
		) as { waitId: string };
		for (const body of [{}, { waitId: 'forged' }, { waitId }]) {
			expect(await n8n.poke(id, body)).toMatchObject({ status: 200, answer: { resumed: false } });
		}
		expect(n8n.status(id)).toBe('waiting');
		gate.open();
		await house.client.wait(waitId, 20_000);
		const answers = await Promise.all(Array.from({ length: 20 }, () => n8n.poke(id, { waitId })));
		const ended = await n8n.ended(id);
		expect(ended.runs('Good')).toBe(1);
		expect(answers.filter(({ status }) => ![200, 409, 500].includes(status))).toEqual([]);
		const resumed = n8n.pokes.filter(
			({ executionId, answer }) =>
				executionId === id && (answer as { resumed?: boolean }).resumed === true,
		);
		expect(resumed).toHaveLength(1);
	});

	test('waits again in each round of a loop', async () => {
		const loop: TestNode = {
			name: 'Loop',
			type: 'n8n-nodes-base.splitInBatches',
			typeVersion: 3,
			parameters: { batchSize: 1, options: {} },
		};
		const gate = join(house.folder, `gate-${(gates += 1)}`);
		const command = shell(
			`until [ -e "${gate}-$ROBOT_FLEET_VAR_N" ]; do sleep 0.05; done; echo "n is $ROBOT_FLEET_VAR_N"`,
		);
		const id = n8n.start(
			{
				nodes: [
					start,
					loop,
					fleet('Dispatch', 'dispatchToRobot', { robot: 'anna', ...command, ...n }),
					noOp('Done'),
				],
				connections: { Start: [['Loop']], Loop: [['Done'], ['Dispatch']], Dispatch: [['Loop']] },
			},
			three,
		);
		for (const round of [0, 1, 2]) {
			await eventually(`round ${round} to be parked`, async () => {
				const { data } = await n8n.parked(id);
				const [waiting] = data.executionData!.nodeExecutionStack;
				return waiting!.data.main![0]![0]!.json.n === round;
			});
			writeFileSync(`${gate}-${round}`, '');
		}
		const ended = await n8n.ended(id);
		expect(ended.error).toBeUndefined();
		expect(jsons(ended.items('Done'))).toMatchObject(
			[0, 1, 2].map((n) => ({ n, job: { stdout: `n is ${n}\n` } })),
		);
		const resumed = n8n.pokes.filter(
			({ executionId, answer }) =>
				executionId === id && (answer as { resumed?: boolean }).resumed === true,
		);
		expect(resumed).toHaveLength(3);
	});

	test('is over when somebody stops it while the node still waits in memory', async () => {
		n8n.credential = { ...n8n.credential, url: house.service.url };
		try {
			const gate = gated();
			const id = n8n.start(
				line([
					start,
					fleet('Dispatch', 'dispatchToRobot', { robot: 'anna', ...gate.command, ...n }),
				]),
				[{ n: 0 }],
			);
			const lateAt = Date.now() + 20_000;
			for (;;) {
				const [job] = (await house.client.jobs({ limit: 1 })).items;
				if (job?.state === 'running') break;
				if (Date.now() > lateAt) throw new Error(`the job is ${job?.state}, not running`);
			}
			n8n.stop(id);
			// n8n calls it canceled by the words of the error: one "l".
			expect(await n8n.ended(id)).toMatchObject({
				status: 'canceled',
				error: { message: 'The wait was canceled' },
			});
			gate.open();
		} finally {
			n8n.credential = { ...n8n.credential, url: door.url };
		}
	});
});

// ---------------------------------------------------------------------------- On Error

const onErrors = {
	stop: { onError: 'stopWorkflow' },
	continue: { onError: 'continueRegularOutput' },
	output: { onError: 'continueErrorOutput' },
} as const;

describe.each(['in memory', 'after a resume'] as const)('a command that exits 3 %s', (when) => {
	/** Of three items the second one fails. */
	async function run(onError: keyof typeof onErrors) {
		const file = join(house.folder, `gate-${(gates += 1)}`);
		const wait = when === 'in memory' ? 'true' : `until [ -e "${file}" ]; do sleep 0.05; done`;
		const command = shell(`${wait}; echo broken >&2; [ "$ROBOT_FLEET_VAR_N" != 1 ] || exit 3`);
		const nodes = [
			start,
			fleet('Submit', 'submitJob', { ...command, ...n }),
			// A job that has ended needs no wait.
			...(when === 'in memory'
				? [
						fleet('Before', 'robotFleet', {
							resource: 'job',
							operation: 'get',
							job: { __rl: true, mode: 'id', value: '={{ $json.jobId }}' },
						}),
					]
				: []),
			fleet(
				'Wait',
				'waitForExecution',
				{
					jobId: when === 'in memory' ? "={{ $('Submit').item.json.jobId }}" : '={{ $json.jobId }}',
				},
				onErrors[onError],
			),
		];
		const id = n8n.start(line(nodes, onError === 'output' ? 'Wait' : undefined), three);
		if (when === 'after a resume') {
			await n8n.parked(id);
			writeFileSync(file, '');
		}
		return await n8n.ended(id);
	}

	test('stops the workflow, with what it printed last', async () => {
		const ended = await run('stop');
		expect(ended).toMatchObject({
			status: 'error',
			lastNode: 'Wait',
			error: {
				name: 'NodeOperationError',
				message: 'The command ended with exit code 3',
				description: expect.stringContaining('broken'),
			},
		});
		expect(ended.runs('Good')).toBe(0);
	});

	test('goes on like any other, linked to its item', async () => {
		const ended = await run('continue');
		expect(ended.status).toBe('success');
		expect(
			jsons(ended.items('Good')).map(({ from, job }) => [from, (job as IDataObject).exitCode]),
		).toEqual([
			[0, 0],
			[1, 3],
			[2, 0],
		]);
	});

	test('goes to the error output, linked to its item, and only this one', async () => {
		const ended = await run('output');
		expect(ended.status).toBe('success');
		expect(jsons(ended.items('Good')).map(({ from }) => from)).toEqual([0, 2]);
		expect(jsons(ended.items('Bad'))).toMatchObject([
			{
				from: 1,
				error: 'The command ended with exit code 3',
				details: { exitCode: 3, state: 'failed' },
			},
		]);
	});
});

test('a line of arguments that gives a list is as many arguments, also none', async () => {
	const node = { commandType: 'program', program: 'echo', args: ['={{ $json.list }}'] };
	const items = [
		{ n: 0, list: [] },
		{ n: 1, list: ['a', 'b c'] },
	];
	const ended = await n8n.ended(
		n8n.start(
			line([start, fleet('Dispatch', 'dispatchToRobot', { robot: 'anna', ...node })]),
			items,
		),
	);
	expect(jsons(ended.items('Good'))).toMatchObject([
		{ job: { stdout: '\n' } },
		{ job: { stdout: 'a b c\n' } },
	]);
});

test('what a job has collected comes home by Download File with nothing set', async () => {
	const collecting = { ...shell('echo kept > out.txt'), options: { collect: ['out.txt'] } };
	const ended = await n8n.ended(
		n8n.start(
			line([
				start,
				fleet('Submit', 'submitJob', collecting),
				fleet('Wait', 'waitForExecution'),
				fleet('Download', 'robotFleet', { resource: 'job', operation: 'downloadFile' }),
			]),
			[{ n: 0 }],
		),
	);
	expect(ended.error).toBeUndefined();
	expect(jsons(ended.items('Wait'))).toMatchObject([
		{ job: { files: [{ path: 'out.txt', fileId: expect.any(String) }] } },
	]);
	expect(ended.items('Download')).toMatchObject([
		{ json: { path: 'out.txt' }, binary: { data: { fileName: 'out.txt' } } },
	]);
});

describe('what keeps a node from its work as a whole', () => {
	const jobId = '019f2b1c-7d3e-7a10-9c55-0d4c8a1b2e3f';
	const program = { commandType: 'program', program: 'true' };
	const cases: Array<[string, TestNode]> = [
		['Submit Job', fleet('Node', 'submitJob', program)],
		['Dispatch to Robot', fleet('Node', 'dispatchToRobot', { robot: 'anna', ...program })],
		['Wait for Execution', fleet('Node', 'waitForExecution', { jobId })],
	];
	const away = async <T>(run: () => Promise<T>) => {
		const { credential } = n8n;
		n8n.credential = { ...credential, url: 'http://127.0.0.1:9' };
		try {
			return await run();
		} finally {
			n8n.credential = credential;
		}
	};

	test.each(cases)(
		'goes from %s to the error output, and nothing by the other',
		async (_, node) => {
			const ended = await away(async () => {
				const id = n8n.start(line([start, { ...node, ...onErrors.output }], 'Node'), three);
				return await n8n.ended(id);
			});
			expect(ended.status).toBe('success');
			expect(ended.runs('Good')).toBe(0);
			expect(jsons(ended.items('Bad'))).toMatchObject(
				[0, 1, 2].map((n) => ({ n, from: n, details: { code: 'service-away' } })),
			);
		},
	);

	test.each(cases)('is said by each item that goes on from %s', async (_, node) => {
		const ended = await away(async () => {
			const id = n8n.start(line([start, { ...node, ...onErrors.continue }]), three);
			return await n8n.ended(id);
		});
		expect(jsons(ended.items('Good'))).toMatchObject(
			[0, 1, 2].map((n) => ({ n, from: n, error: expect.stringContaining('does not answer') })),
		);
	});
});

describe('items stay linked', () => {
	const good = { commandType: 'program', program: '={{ $json.n === 1 ? $json.program : "true" }}' };
	const robot = (value: string) => ({ __rl: true, mode: 'id', value });
	const cases: Array<[string, TestNode]> = [
		['Submit Job', fleet('Node', 'submitJob', good)],
		[
			'Dispatch to Robot that does not wait',
			fleet('Node', 'dispatchToRobot', { robot: robot('anna'), waitForCompletion: false, ...good }),
		],
		['Dispatch to Robot', fleet('Node', 'dispatchToRobot', { robot: robot('anna'), ...good })],
		[
			'Wait for Execution',
			fleet('Node', 'waitForExecution', {
				jobId: '={{ $json.n === 1 ? $json.program : $json.jobId }}',
			}),
		],
		[
			'Robot Fleet',
			fleet('Node', 'robotFleet', {
				resource: 'robot',
				operation: 'get',
				robot: robot('={{ $json.n === 1 ? $json.program || "ghost" : "anna" }}'),
			}),
		],
	];
	const before = (node: TestNode) =>
		node.type.endsWith('waitForExecution')
			? [start, fleet('Before', 'submitJob', { commandType: 'program', program: 'true' })]
			: [start];

	test.each(cases)(
		'by %s when the second item is refused and the others go on',
		async (_, node) => {
			const items = [{ n: 0 }, { n: 1, program: '' }, { n: 2 }];
			const id = n8n.start(line([...before(node), { ...node, ...onErrors.output }], 'Node'), items);
			const ended = await n8n.ended(id);
			expect(ended.error).toBeUndefined();
			expect(jsons(ended.items('Good')).map(({ from }) => from)).toEqual([0, 2]);
			expect(jsons(ended.items('Bad'))).toMatchObject([{ from: 1, error: expect.any(String) }]);
		},
	);

	test.each(cases)('by %s when a refused item goes on with the others', async (_, node) => {
		const items = [{ n: 0 }, { n: 1, program: '' }, { n: 2 }];
		const id = n8n.start(line([...before(node), { ...node, ...onErrors.continue }]), items);
		const ended = await n8n.ended(id);
		expect(jsons(ended.items('Good')).map(({ from, error }) => [from, typeof error])).toEqual([
			[0, 'undefined'],
			[1, 'string'],
			[2, 'undefined'],
		]);
	});

	test.each(cases)('by %s until the second item stops the workflow', async (_, node) => {
		const items = [{ n: 0 }, { n: 1, program: '' }, { n: 2 }];
		const id = n8n.start(line([...before(node), { ...node, ...onErrors.stop }]), items);
		const ended = await n8n.ended(id);
		expect(ended).toMatchObject({ status: 'error', lastNode: 'Node' });
		expect(ended.error?.message).not.toMatch(/\bundefined\b/);
		expect((ended.error as { context?: { itemIndex?: number } }).context?.itemIndex).toBe(1);
	});

	test('by Robot Fleet when one item becomes many', async () => {
		const many = fleet('Node', 'robotFleet', {
			resource: 'robot',
			operation: 'getAll',
			returnAll: true,
		});
		const ended = await n8n.ended(n8n.start(line([start, many]), three));
		expect(jsons(ended.items('Good'))).toMatchObject(
			[0, 1, 2].map((n) => ({ from: n, name: 'anna' })),
		);
	});
});
