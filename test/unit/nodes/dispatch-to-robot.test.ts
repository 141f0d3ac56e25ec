import { DispatchToRobot } from '../../../nodes/DispatchToRobot/DispatchToRobot.node';
import { Problem, type Submit } from '../../../protocol';
import { FakeExecution, type Parameters } from './fake-n8n';
import { FakeService, robots } from './fake-service';

const uname: Parameters = {
	commandType: 'program',
	program: 'uname',
	robot: robots[0]!.robotId,
	waitForCompletion: true,
};

function setup(type = 'n8n-nodes-robot-fleet.dispatchToRobot') {
	const service = new FakeService();
	const execution = new FakeExecution(service);
	execution.node = { ...execution.node, type };
	execution.items = [{ json: { n: 1 } }, { json: { n: 2 } }];
	const endAll = () => {
		for (const jobId of service.jobs.keys()) {
			service.end(jobId, 'completed', null, { stdout: `out of ${jobId}` });
		}
	};
	const run = async (parameters: Parameters = uname) =>
		(await new DispatchToRobot().execute.call(execution.asExecute(parameters)))[0]!;
	return { service, execution, endAll, run };
}

describe('Dispatch to Robot', () => {
	test('runs on the robot chosen and answers with the result of each item', async () => {
		const { service, endAll, run } = setup();
		service.onGrace = endAll;
		const items = await run();
		const [request] = service.calls(/\/jobs$/);
		expect((request!.body as { jobs: Submit[] }).jobs[0]!.target).toEqual({
			robot: robots[0]!.robotId,
		});
		const ids = [...service.jobs.keys()];
		expect(items.map(({ json }) => json)).toMatchObject([
			{ n: 1, job: { id: ids[0], stdout: `out of ${ids[0]}` } },
			{ n: 2, job: { id: ids[1], stdout: `out of ${ids[1]}` } },
		]);
	});

	test('parks the execution when the jobs take longer, and resumes it by a poke', async () => {
		const { service, execution, endAll, run } = setup();
		await run();
		expect(execution.waitTill).toBeDefined();
		endAll();
		const [waitId] = service.waits.keys();
		const answer = await new DispatchToRobot().webhook.call(execution.asWebhook({ waitId }));
		expect(answer.workflowData![0]).toMatchObject([
			{ json: { n: 1, job: { state: 'completed' } } },
			{ json: { n: 2, job: { state: 'completed' } } },
		]);
	});

	test('answers with the job ID at once when it shall not wait', async () => {
		const { service, execution, run } = setup();
		const items = await run({ ...uname, waitForCompletion: false });
		expect(items[0]!.json).toMatchObject({ n: 1, jobId: [...service.jobs.keys()][0] });
		expect(service.waits.size).toBe(0);
		expect(execution.waitTill).toBeUndefined();
	});

	test('as a tool it never parks: when its time is up it says that the job goes on', async () => {
		const { service, execution, run } = setup('n8n-nodes-robot-fleet.dispatchToRobotTool');
		service.onGrace = () => service.expire([...service.waits.keys()][0]!);
		const items = await run();
		expect(execution.waitTill).toBeUndefined();
		expect([...service.waits.values()][0]!.request.resumeUrl).toBeUndefined();
		expect(items[0]!.json.job).toMatchObject({
			id: [...service.jobs.keys()][0],
			state: 'queued',
			timedOut: true,
			hint: expect.stringContaining('do not submit it again'),
		});
	});

	test.each([
		[32.2, 32_200],
		[-1, 0],
	])('as a tool it waits %p s, whatever a model says', async (toolWaitSeconds, limitMs) => {
		const { service, run } = setup('n8n-nodes-robot-fleet.dispatchToRobotTool');
		service.onGrace = () => service.expire([...service.waits.keys()][0]!);
		await run({ ...uname, toolWaitSeconds });
		expect([...service.waits.values()][0]!.request.limitMs).toBe(limitMs);
	});

	test('as a tool it answers with what a command printed that failed, and does not fail itself', async () => {
		const { service, run } = setup('n8n-nodes-robot-fleet.dispatchToRobotTool');
		const result = { exitCode: 1, stdout: '2 of 3 tests', stderr: 'one failed' };
		service.onGrace = () => {
			for (const jobId of service.jobs.keys()) service.end(jobId, 'failed', 'exit_code', result);
		};
		const items = await run();
		expect(items[0]!.json.job).toMatchObject({
			id: [...service.jobs.keys()][0],
			state: 'failed',
			...result,
		});
	});

	test('as a tool that cannot hear of its job it says which one it is: a failure would be tried again', async () => {
		for (const path of [/\/waits$/, /\/waits\/[^/]+\?/]) {
			const { service, run } = setup('n8n-nodes-robot-fleet.dispatchToRobotTool');
			service.refuses = (request) =>
				path.test(request.path)
					? new Problem('service-away', { url: 'http://fleet', reason: 'gone' })
					: undefined;
			const items = await run();
			expect(service.jobs.size).toBe(2);
			expect(items.map(({ json }) => json.job)).toMatchObject(
				[...service.jobs.keys()].map((id) => ({
					id,
					state: null,
					timedOut: true,
					error: { message: expect.stringContaining('does not answer') },
					hint: expect.stringContaining('do not submit it again'),
				})),
			);
		}
	});
});
