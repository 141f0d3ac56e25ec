/** The Fleet Schedule Trigger in a real n8n, and Submit Job's locks: what a builder sees of them. */
import { until } from '../../scripts/n8n/until.mjs';
import type { Schedule } from '../../protocol';
import { Fleet, nodeType } from './fleet';

const manual = { name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 };
const noOp = (name: string) => ({ name, type: 'n8n-nodes-base.noOp', typeVersion: 1 });
const byId = (value: string) => ({ __rl: true, mode: 'id', value });
const newest = { typeVersion: 1.1 };

describe('the Fleet Schedule Trigger and locks in a real n8n', () => {
	let fleet: Fleet;

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

	const trigger = (parameters: object, more: object = newest) =>
		fleet.ours('When due', 'scheduleTrigger', parameters, more);
	/** The items with which executions of a workflow began, oldest first. */
	const begun = async (workflowId: string) => {
		const all = await fleet.n8n.executions({ workflowId, status: 'success' });
		const items = await Promise.all(
			all.map(async ({ id }) => Fleet.output(await fleet.n8n.execution(id), 'When due')[0]!.json),
		);
		return items.sort((a, b) => a.plannedAt - b.plannedAt);
	};
	const eventually = async <T>(what: string, look: () => Promise<T | undefined>) =>
		await until(look, { deadlineMs: 60_000, what: () => what });

	test('it follows a schedule that is there, with the jobs of that schedule, and leaves it as it is', async () => {
		await fleet.service('PUT', '/schedules/backup', {
			name: 'Backup',
			cron: '0 3 1 1 *',
			job: { kind: 'command', spec: { command: 'true' } },
		});
		const before = await fleet.service<Schedule>('GET', '/schedules/backup');
		const { id } = await fleet.workflow([
			trigger({ source: 'existing', schedule: byId('backup') }),
			noOp('After'),
		]);
		await fleet.n8n.activate(id);
		const [item] = await eventually('a run by hand', async () => {
			await fleet.service('POST', '/schedules/backup/run', { overlap: 'allow' });
			const items = await begun(id);
			return items.length > 0 ? items : undefined;
		});
		await fleet.n8n.deactivate(id);
		expect(item).toMatchObject({
			scheduleId: 'backup',
			scheduleName: 'Backup',
			origin: 'manual',
			jobId: expect.any(String),
		});
		const { when, job, state } = await fleet.service<Schedule>('GET', '/schedules/backup');
		expect({ when, job, state }).toEqual({ when: before.when, job: before.job, state: 'active' });
	}, 120_000);

	test('a wrong setting is said in one sentence when the workflow is activated', async () => {
		for (const [parameters, sentence] of [
			[{ frequency: 'cron', cron: '0 25 * * *' }, /cron expression is wrong/i],
			[{ source: 'existing', schedule: byId('gone') }, /No schedule has the id gone/],
			[{ frequency: 'once', onceAt: '2020-01-01T00:00:00' }, /never runs/],
		] as const) {
			const { id } = await fleet.workflow([trigger(parameters), noOp('After')]);
			await expect(fleet.n8n.activate(id)).rejects.toThrow(sentence);
			await fleet.n8n.rest('POST', `/workflows/${id}/deactivate`, {});
		}
	}, 120_000);

	test('the editor lists schedules and shows the next runs', async () => {
		await fleet.service('PUT', '/schedules/listed', { cron: '0 3 1 1 *' });
		const asked = async (kind: string, methodName: string, parameters: object) =>
			await fleet.n8n.rest('POST', `/dynamic-node-parameters/${kind}`, {
				path: 'parameters.nextRuns',
				methodName,
				nodeTypeAndVersion: { name: nodeType('scheduleTrigger'), version: 1.1 },
				currentNodeParameters: parameters,
				credentials: { robotFleetApi: fleet.credential },
			});
		const { results } = await asked('resource-locator-results', 'searchSchedules', {});
		expect(results).toEqual(expect.arrayContaining([expect.objectContaining({ value: 'listed' })]));
		const runs = await asked('options', 'getNextRuns', {
			source: 'own',
			frequency: 'daily',
			times: '02:30',
			scheduleOptions: { timezone: 'Europe/Berlin' },
		});
		expect(runs[0].name).toMatch(/^1\. .* 02:30:00/);
	}, 60_000);

	test('a second job with the same lock waits, and its item says for what', async () => {
		const job = (name: string, shell: string) =>
			fleet.ours(name, 'submitJob', {
				commandType: 'shell',
				shell,
				limits: { locks: { lock: [{ name: 'db-prod', slots: 1 }] } },
				submission: { explain: true },
			});
		const { id } = await fleet.workflow([manual, job('First', 'sleep 30'), job('Second', 'true')]);
		await fleet.n8n.runManually(id, 'Manual');
		const execution = await fleet.n8n.waitForExecution(
			(each) => each.workflowId === id && ['success', 'error'].includes(each.status),
			60_000,
		);
		expect(execution.status).toBe('success');
		const [first] = Fleet.output(execution, 'First');
		const [second] = Fleet.output(execution, 'Second');
		expect(first!.json.whyWaiting).toBeNull();
		expect(second!.json.whyWaiting).toContain(
			`waits for lock db-prod, held by job ${first!.json.jobId}`,
		);
		await fleet.service('POST', `/jobs/${first!.json.jobId}/cancel`);
		await eventually('the second to run', async () => {
			const { state } = await fleet.job(second!.json.jobId as string);
			return state === 'completed' ? state : undefined;
		});
	}, 120_000);

	test('a job that no robot may run says so in its item and to the person at the editor', async () => {
		const { id } = await fleet.workflow([
			manual,
			fleet.ours('Submit', 'submitJob', {
				commandType: 'program',
				program: 'true',
				runOn: 'matching',
				labels: 'os=beos',
			}),
		]);
		await fleet.n8n.runManually(id, 'Manual');
		const execution = await fleet.n8n.waitForExecution(
			(each) => each.workflowId === id && ['success', 'error'].includes(each.status),
			60_000,
		);
		const [item] = Fleet.output(execution, 'Submit');
		expect(item!.json.whyWaiting).toContain('os=beos');
		expect(execution.data.resultData.runData.Submit.at(-1).hints).toEqual([
			expect.objectContaining({ message: expect.stringContaining('os=beos') }),
		]);
		await fleet.service('POST', `/jobs/${item!.json.jobId}/cancel`);
	}, 60_000);

	test('while an execution runs a time that comes is left out, when that is asked for', async () => {
		const { id } = await fleet.workflow([
			trigger({
				frequency: 'interval',
				intervalAmount: 1,
				intervalUnit: 'seconds',
				scheduleOptions: { whileRunning: 'skip' },
			}),
			{
				name: 'Busy',
				type: 'n8n-nodes-base.wait',
				typeVersion: 1.1,
				parameters: { amount: 5, unit: 'seconds' },
			},
		]);
		await fleet.n8n.activate(id);
		await eventually('times that came while an execution ran to be left out', async () => {
			const all = await begun(id);
			// A time that the service tells of late may come behind the end, and starts one as it should.
			return all.some((item, i) => i > 0 && item.plannedAt - all[i - 1].plannedAt >= 5_000)
				? true
				: undefined;
		});
		await fleet.n8n.deactivate(id);
	}, 120_000);

	test('of the times that passed while n8n was killed those are made up that the policy names', async () => {
		const dueAt = Date.now() + 25_000;
		const once = { frequency: 'once', onceAt: new Date(dueAt).toISOString() };
		const made = async (missed: string) =>
			await fleet.workflow([trigger({ ...once, scheduleOptions: { missed } }), noOp('After')]);
		const [all, none] = [await made('all'), await made('none')];
		for (const { id } of [all, none]) await fleet.n8n.activate(id);
		await fleet.n8n.kill('SIGKILL');
		expect(Date.now()).toBeLessThan(dueAt);
		// What is up to a minute late would be in time.
		await until(async () => Date.now() > dueAt + 62_000, {
			deadlineMs: 120_000,
			what: () => 'the planned time to be long over',
		});
		await fleet.n8n.start();
		await fleet.n8n.login();
		const [item] = await eventually('the late one to be made up', async () => {
			const items = await begun(all.id);
			return items.length > 0 ? items : undefined;
		});
		expect(item).toMatchObject({ plannedAt: dueAt, late: true, origin: 'planned' });
		const { items } = await fleet.service<{ items: Schedule[] }>('GET', '/schedules');
		const missed = items.find((one) => one.when.at === dueAt && one.missed === 'none');
		expect(missed).toMatchObject({ state: 'ended', counts: { runs: 0, missed: 1 } });
		expect(await begun(none.id)).toEqual([]);
	}, 300_000);

	test('a workflow made with the first version of the node goes on as it was', async () => {
		const { id } = await fleet.workflow([
			trigger({ cron: '*/2 * * * * *', missed: 'skip' }, { typeVersion: 1 }),
			noOp('After'),
		]);
		await fleet.n8n.activate(id);
		const items = await eventually('two executions', async () => {
			const found = await begun(id);
			return found.length >= 2 ? found : undefined;
		});
		await fleet.n8n.deactivate(id);
		expect(items[0]).toMatchObject({ origin: 'planned', cron: '*/2 * * * * *' });
		const { items: all } = await fleet.service<{ items: Schedule[] }>('GET', '/schedules');
		expect(all.find(({ cron }) => cron === '*/2 * * * * *')).toMatchObject({ catchUpMs: 0 });
	}, 120_000);
});
