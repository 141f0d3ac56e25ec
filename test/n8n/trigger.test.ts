/** Robot Fleet Trigger in a real n8n, with the service inside it: each event starts each workflow once, whatever happens. */
import { until } from '../../scripts/n8n/until.mjs';
import type { Job } from '../../protocol';
import { Fleet } from './fleet';

const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const jobLocator = (value: string) => ({ __rl: true, mode: 'id', value });

describe('Robot Fleet Trigger in a real n8n', () => {
	let fleet: Fleet;
	/** A workflow that starts for every job that ends, and has so often. */
	let every: string;
	let ran = 0;

	beforeAll(async () => {
		fleet = await Fleet.start();
		const { credential, n8n } = fleet;
		const { data } = await n8n.rest('GET', `/credentials/${credential.id}?includeData=true`);
		await n8n.rest('POST', '/credentials/test', {
			credentials: { ...credential, type: 'robotFleetApi', data },
		});
		await fleet.startAgent('berlin-1');
	}, 600_000);
	afterAll(async () => await fleet?.stop(), 60_000);

	const trigger = (parameters: object) => fleet.ours('Event', 'robotFleetTrigger', parameters);
	const submit = async (shell: string, more: object = {}) =>
		(
			await fleet.service<{ jobId: string }>('POST', '/jobs', {
				kind: 'command',
				spec: { shell, ...more },
			})
		).jobId;
	const ended = async (jobId: string) =>
		await fleet.service<Job>('GET', `/jobs/${jobId}?waitMs=30000`);
	const started = async (parameters: object, ...more: Array<{ name: string }>) => {
		const { id } = await fleet.workflow([trigger(parameters), ...more, noOp('After')]);
		await fleet.n8n.activate(id);
		return id;
	};
	const over = ['success', 'error', 'crashed', 'canceled'];
	/** Exactly so many executions, all of them over, and none more a moment later. */
	const executions = async (workflowId: string, count: number, deadlineMs = 60_000) => {
		let seen: Array<{ id: string; status: string }> = [];
		await until(
			async () => {
				seen = await fleet.n8n.executions({ workflowId });
				return seen.length >= count && seen.every(({ status }) => over.includes(status));
			},
			{
				deadlineMs,
				what: () => `${count} executions; there are ${seen.map(({ status }) => status).join(', ')}`,
			},
		);
		expect(seen).toHaveLength(count);
		return seen;
	};
	const items = async (workflowId: string, count: number, deadlineMs?: number) => {
		const all = await executions(workflowId, count, deadlineMs);
		return await Promise.all(
			all.map(async ({ id }) => Fleet.output(await fleet.n8n.execution(id), 'Event')[0]?.json),
		);
	};

	test('a job that ended starts every workflow that wants it, once, with what came of it', async () => {
		every = await started({ events: ['job.ended'] });
		const failures = await started({
			events: ['job.ended'],
			states: ['failed'],
			robots: ['berlin-1'],
			options: { output: true },
		});
		const good = await submit('echo fine');
		await ended(good);
		const bad = await submit('echo broken >&2; exit 3');
		await ended(bad);
		const all = await items(every, (ran = 2));
		expect(all.map(({ job }) => job.id).sort()).toEqual([good, bad].sort());
		expect(all.find(({ job }) => job.id === good)).toMatchObject({
			event: 'job.ended',
			at: expect.stringMatching(/^20.*Z$/),
			job: { state: 'completed', exitCode: 0, robot: 'berlin-1', kind: 'command' },
		});
		expect(all[0].job).not.toHaveProperty('stdout');
		const [failed] = await items(failures, 1);
		expect(failed.job).toMatchObject({ id: bad, cause: 'exit_code', stderr: 'broken\n' });
		await fleet.n8n.deactivate(failures);
	}, 120_000);

	test('a filter that narrows none of the events that are chosen is refused when the workflow is published', async () => {
		const parameters = { events: ['robot.lost'], filters: { causes: ['signal'] } };
		await expect(started(parameters)).rejects.toThrow(
			'"Causes" only filters the event Job Ended, which is not chosen',
		);
	}, 60_000);

	test('a program that asks starts a workflow that answers it', async () => {
		const id = await started(
			{ events: ['job.prompt'] },
			fleet.ours('Answer', 'robotFleet', {
				resource: 'job',
				operation: 'sendInput',
				job: jobLocator('={{ $json.job.id }}'),
				text: '={{ "for " + $json.prompt.text.trim() }}',
			}),
		);
		const jobId = await submit('printf "Name? "; read name; echo "got $name"', {
			interactive: true,
		});
		const job = await ended(jobId);
		expect(job.result?.stdout).toContain('got for Name?');
		const [item] = await items(id, 1);
		expect(item).toMatchObject({
			event: 'job.prompt',
			job: { id: jobId, robot: 'berlin-1', state: 'running' },
			prompt: { text: expect.stringContaining('Name?'), hidden: false },
		});
		await fleet.n8n.deactivate(id);
		await executions(every, (ran += 1));
	}, 120_000);

	test('switched off and on, and published anew again and again, it starts once for each event; what ended while it was off counts not', async () => {
		for (let round = 0; round < 3; round += 1) {
			await fleet.n8n.deactivate(every);
			await ended(await submit('true'));
			await fleet.n8n.activate(every);
			const { nodes, ...workflow } = await fleet.n8n.rest('GET', `/workflows/${every}`);
			nodes[0].parameters.options = { runsAtOnce: 10 + round };
			const { name, connections, settings, versionId } = workflow;
			const changed = { name, nodes, connections, settings, versionId };
			await fleet.n8n.rest('PATCH', `/workflows/${every}`, changed);
			await fleet.n8n.activate(every);
		}
		const jobId = await submit('true');
		await ended(jobId);
		const all = await items(every, (ran += 1));
		expect(all.filter(({ job }) => job.id === jobId)).toHaveLength(1);
	}, 240_000);

	test('a test run waits for the next event, and leaves the published workflow alone', async () => {
		const { id } = await fleet.workflow([trigger({ events: ['job.ended'] }), noOp('After')]);
		const { executionId } = await fleet.n8n.runManually(id, 'Event');
		const test = await until(
			async () => {
				await ended(await submit('true'));
				ran += 1;
				const execution = await fleet.n8n.execution(executionId!);
				return execution.status === 'success' ? execution : undefined;
			},
			{ deadlineMs: 60_000, what: () => 'the end of the test run' },
		);
		expect(Fleet.output(test, 'Event')[0]!.json).toMatchObject({ event: 'job.ended' });
		await executions(every, ran);
	}, 120_000);

	test('n8n killed with kill -9 while events pass: after its restart each has started the workflow once', async () => {
		const jobs = 40;
		const ids = await Promise.all(Array.from({ length: jobs }, () => submit('sleep 0.2')));
		await until(async () => (await fleet.n8n.executions({ workflowId: every })).length >= ran + 5, {
			deadlineMs: 60_000,
			what: () => 'some of the executions',
		});
		await fleet.n8n.kill('SIGKILL');
		await fleet.n8n.start();
		await fleet.n8n.login();
		await until(() => fleet.serviceIsUp(), { deadlineMs: 60_000, what: () => 'the service' });
		await fleet.connected('berlin-1');
		for (const jobId of ids) expect((await ended(jobId)).state).toBe('completed');
		const all = await items(every, (ran += jobs), 120_000);
		// What was running when it was killed is there, and has no data.
		const told = all.flatMap((item) => (ids.includes(item?.job.id) ? [item.job.id] : []));
		expect(new Set(told).size).toBe(told.length);
		expect(told.length).toBeGreaterThan(jobs / 2);
	}, 300_000);

	test('a robot that is lost, and comes back, starts the workflow once each', async () => {
		const id = await started({ events: ['robot.lost', 'robot.back'], robots: ['berlin-1'] });
		await fleet.loseAgent();
		const [lost] = await items(id, 1, 200_000);
		expect(lost).toMatchObject({
			event: 'robot.lost',
			robot: { name: 'berlin-1', awaySince: expect.stringMatching(/Z$/) },
		});
		await fleet.startAgent('berlin-1');
		const both = await items(id, 2);
		expect(both.map(({ event }) => event).sort()).toEqual(['robot.back', 'robot.lost']);
	}, 400_000);
});
