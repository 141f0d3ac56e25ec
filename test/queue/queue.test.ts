/**
 * Queue mode: what a worker executes and parks is resumed through the webhook process, on any worker. The
 * service runs beside n8n; inside one of several n8n processes it would be one of several.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../../scripts/n8n/until.mjs';
import { Fleet, nodeType } from '../n8n/fleet';
import { type Credential, Estate } from './estate';

const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const shell = (text: string) => ({ commandType: 'shell', shell: text });
const webhook = (path: string) => ({
	name: 'Webhook',
	type: 'n8n-nodes-base.webhook',
	typeVersion: 2,
	webhookId: path,
	parameters: { path, httpMethod: 'POST', responseMode: 'onReceived', options: {} },
});

interface Node {
	name: string;
	[field: string]: unknown;
}

describe('n8n in queue mode, with a service beside it', () => {
	let estate: Estate;

	beforeAll(async () => {
		estate = await Estate.start();
	}, 1_200_000);
	afterAll(async () => await estate?.stop(), 120_000);

	const ours = (
		name: string,
		type: string,
		parameters: object,
		more: object = {},
		credential: Credential = estate.server,
	): Node => ({
		name,
		type: nodeType(type),
		parameters,
		credentials: { robotFleetApi: credential },
		...more,
	});
	/** Published; the nodes one after the other, and those with an error output have `Bad` behind it. */
	const published = async (nodes: Node[]) => {
		const to = (name: string) => [{ node: name, type: 'main', index: 0 }];
		const connections = Object.fromEntries(
			nodes.slice(0, -1).map((node, at) => {
				const next = to(nodes[at + 1]!.name);
				return [node.name, { main: node['onError'] === undefined ? [next] : [next, to('Bad')] }];
			}),
		);
		const bad = nodes.some((node) => node['onError'] !== undefined) ? [noOp('Bad')] : [];
		const { id } = await estate.main.createWorkflow({
			nodes: [...nodes, ...bad],
			connections,
			settings: { executionOrder: 'v1' },
		});
		await estate.main.activate(id);
		return id;
	};
	/** The webhook process learns of a new path by the database: it may take a moment. */
	const call = async (path: string) => {
		let said = '';
		await until(
			async () => {
				const answer = await estate.webhooks.request('POST', `/webhook/${path}`, { body: {} });
				said = `${answer.status} ${answer.text}`;
				return answer.status === 200;
			},
			{ deadlineMs: 60_000, what: () => `the webhook ${path}; it said ${said}` },
		);
	};
	const ended = async (workflowId: string, deadlineMs = 180_000) =>
		await estate.main.waitForExecution(
			(each) => each.workflowId === workflowId && ['success', 'error'].includes(each.status),
			deadlineMs,
		);
	const parked = async (workflowId: string) =>
		await estate.main.waitForExecution(
			(each) => each.workflowId === workflowId && each.status === 'waiting',
			120_000,
		);

	test('the main process takes no webhooks, so pokes come through the webhook process', async () => {
		const { status } = await estate.main.request('POST', '/webhook-waiting/1/x');
		expect(status).toBe(404);
	});

	test('an execution of a worker is parked and goes on, once', async () => {
		const counter = join(estate.folder, 'starts');
		const id = await published([
			webhook('parks'),
			ours('Submit', 'submitJob', shell(`echo ran >> "${counter}"; sleep 14; echo far`)),
			ours('Wait', 'waitForExecution', {}),
			noOp('After'),
		]);
		await call('parks');
		await parked(id);
		const execution = await ended(id);
		expect(execution.status).toBe('success');
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({
			state: 'completed',
			stdout: 'far\n',
			robot: 'berlin-1',
		});
		expect(execution.data.resultData.runData.After).toHaveLength(1);
		expect(readFileSync(counter, 'utf8')).toBe('ran\n');
	}, 300_000);

	test.each([
		['within the grace', 0],
		['after a resume', 13],
	])(
		'a command that exits 3 %s goes to the error output',
		async (_when, seconds) => {
			const path = `fails-${seconds}`;
			const id = await published([
				webhook(path),
				ours('Submit', 'submitJob', shell(`sleep ${seconds}; echo broken >&2; exit 3`)),
				ours('Wait', 'waitForExecution', {}, { onError: 'continueErrorOutput' }),
				noOp('Good'),
			]);
			await call(path);
			const execution = await ended(id);
			expect(execution.status).toBe('success');
			expect(Fleet.output(execution, 'Good')).toEqual([]);
			expect(Fleet.output(execution, 'Bad')[0]!.json).toMatchObject({
				error: 'The command ended with exit code 3',
				details: { exitCode: 3, stderr: 'broken\n' },
			});
		},
		300_000,
	);

	test('Dispatch to Robot answers with the result, and stops the workflow when that is bad', async () => {
		const robot = { __rl: true, mode: 'id', value: 'berlin-1' };
		const good = await published([
			webhook('dispatches'),
			ours('Dispatch', 'dispatchToRobot', { robot, ...shell('sleep 12; echo here') }),
		]);
		const bad = await published([
			webhook('dispatches-badly'),
			ours('Dispatch', 'dispatchToRobot', { robot, ...shell('sleep 12; exit 3') }),
		]);
		await call('dispatches');
		await call('dispatches-badly');
		expect(Fleet.output(await ended(good), 'Dispatch')[0]!.json.job).toMatchObject({
			state: 'completed',
			stdout: 'here\n',
		});
		const execution = await ended(bad);
		expect(execution.status).toBe('error');
		expect(execution.data.resultData.error).toMatchObject({
			message: 'The command ended with exit code 3',
		});
	}, 300_000);

	/** Parked on a job that ends when the file it waits for is there. */
	const parkedOn = async (path: string) => {
		const file = join(estate.folder, path);
		const job = shell(`while [ ! -e "${file}" ]; do sleep 0.2; done; echo survived`);
		const id = await published([
			webhook(path),
			ours('Submit', 'submitJob', job),
			ours('Wait', 'waitForExecution', {}),
			noOp('After'),
		]);
		await call(path);
		const { data } = await parked(id);
		const jobId = Fleet.output({ data }, 'Submit')[0]!.json.jobId as string;
		const end = async () => {
			writeFileSync(file, '');
			await until(async () => (await estate.service.client.job(jobId)).state === 'completed', {
				deadlineMs: 120_000,
				what: () => 'the job to end',
			});
		};
		return { id, end };
	};
	const wentOn = async (id: string) => {
		const execution = await ended(id);
		expect(execution.status).toBe('success');
		expect(Fleet.output(execution, 'After')[0]!.json.job).toMatchObject({ stdout: 'survived\n' });
		expect(execution.data.resultData.runData.After).toHaveLength(1);
	};

	test('a worker is killed while an execution is parked, and its next life goes on, once', async () => {
		const { id, end } = await parkedOn('same-worker');
		await estate.worker.kill('SIGKILL');
		await estate.worker.start({ deadlineMs: 600_000 });
		await end();
		await wentOn(id);
	}, 900_000);

	test('a job ends while no worker is there, and the worker that replaces the killed one goes on, once', async () => {
		const { id, end } = await parkedOn('other-worker');
		await estate.worker.kill('SIGKILL');
		await end();
		await estate.replaceWorker();
		await wentOn(id);
	}, 900_000);

	test('a schedule fires through the leading main, each planned time once', async () => {
		const trigger = ours('Every two seconds', 'scheduleTrigger', { cron: '*/2 * * * * *' });
		const id = await published([trigger, noOp('After')]);
		const fired = await until(
			async () => {
				const all = await estate.main.executions({ workflowId: id, status: 'success' });
				return all.length >= 4 ? all : undefined;
			},
			{ deadlineMs: 120_000, what: () => 'four runs of the schedule' },
		);
		await estate.main.deactivate(id);
		const times = await Promise.all(
			fired.map(async (each) => {
				const [item] = Fleet.output(await estate.main.execution(each.id), 'Every two seconds');
				return item!.json.plannedAt as number;
			}),
		);
		expect(new Set(times).size).toBe(times.length);
		expect(times.every((time) => time % 2_000 === 0)).toBe(true);
	}, 240_000);

	test('the service inside n8n is refused, in one sentence that says what to do', async () => {
		const id = await published([
			webhook('embedded'),
			ours('Submit', 'submitJob', shell('true'), {}, estate.embedded),
		]);
		await call('embedded');
		const execution = await ended(id);
		expect(execution.status).toBe('error');
		const { message, description } = execution.data.resultData.error;
		expect(message).toMatch(/^"This n8n" works only in the main process of a regular n8n/);
		expect(`${message} ${description}`).toMatch(/robot-fleet serve/);
		const tested = await estate.main.rest('POST', '/credentials/test', {
			credentials: { ...estate.embedded, type: 'robotFleetApi', data: { connection: 'embedded' } },
		});
		expect(tested).toMatchObject({
			status: 'Error',
			message: expect.stringMatching(/queue mode.*robot-fleet serve/),
		});
	}, 240_000);
});
