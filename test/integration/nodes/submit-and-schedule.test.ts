/** Submit Job, the results per robot, and the Fleet Schedule Trigger against the real service with a real robot. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { INodeExecutionData } from 'n8n-workflow';
import type { Send } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { RobotFleet } from '../../../nodes/RobotFleet/RobotFleet.node';
import { ScheduleTrigger } from '../../../nodes/ScheduleTrigger/ScheduleTrigger.node';
import { getKindFields, getKinds } from '../../../nodes/shared/kind-fields';
import { getNextRuns } from '../../../nodes/shared/schedules';
import { SubmitJob } from '../../../nodes/SubmitJob/SubmitJob.node';
import { WaitForExecution } from '../../../nodes/WaitForExecution/WaitForExecution.node';
import { WholeHouse } from '../../support/whole-house';
import { FakeExecution, FakeTrigger, type Parameters } from '../../unit/nodes/fake-n8n';

jest.setTimeout(60_000);

let house: WholeHouse;
let send: Send;
beforeAll(async () => {
	house = await WholeHouse.open();
	await house.robot('anna');
	send = httpSend(house.address);
});
afterAll(() => house[Symbol.asyncDispose]());

let steps = 0;

/** One step of an execution of its own. */
function step(items: INodeExecutionData[] = [{ json: {} }]) {
	const execution = new FakeExecution({ send });
	execution.items = items;
	execution.id = `${(steps += 1)}`;
	return execution;
}

const shell = (text: string, more: Parameters = {}): Parameters => ({
	commandType: 'shell',
	shell: text,
	...more,
});

async function submitted(parameters: Parameters, execution = step()) {
	const [item] = (await new SubmitJob().execute.call(execution.asExecute(parameters)))[0]!;
	return { ...(item!.json as { jobId: string; whyWaiting?: string | null }), execution };
}

const ended = async (jobId: string) => await house.client.job(jobId, 30_000);

async function until<T>(what: string, look: () => Promise<T | false | undefined> | T | false) {
	const lateAt = Date.now() + 20_000;
	for (;;) {
		const found = await look();
		if (found) return found;
		if (Date.now() > lateAt) throw new Error(`there never was ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

describe('Submit Job', () => {
	test('with a lock the second job waits, and says for what', async () => {
		const limits = { locks: { lock: [{ name: 'db-prod' }] } };
		const submission = { explain: true };
		const first = await submitted(shell('sleep 30', { limits, submission }));
		expect(first.whyWaiting).toBeNull();
		const second = await submitted(shell('true', { limits, submission }));
		expect(second.whyWaiting).toContain(`waits for lock db-prod, held by job ${first.jobId}`);
		await house.client.cancel(first.jobId);
		expect((await ended(second.jobId)).state).toBe('completed');
	});

	test('for robots that nobody is, it says so unasked, or refuses when that is asked for', async () => {
		const beos = { runOn: 'matching', labels: 'os=beos' };
		const { jobId, whyWaiting, execution } = await submitted(shell('true', beos));
		expect(whyWaiting).toMatch(/^None of the 1 robots matches label os=beos/);
		expect(execution.hints).toHaveLength(1);
		await house.client.cancel(jobId);
		await expect(
			submitted(shell('true', { ...beos, submission: { strict: true } })),
		).rejects.toThrow('os=beos');
	});

	test('a delayed job has its ID at once, and a repeated step no second one', async () => {
		const execution = step();
		const delayed = shell('true', { submission: { delaySeconds: 3_600, explain: true } });
		const first = await submitted(delayed, execution);
		const again = await submitted(delayed, execution);
		expect(again.jobId).toBe(first.jobId);
		expect(first.whyWaiting).toMatch(/^The job is not eligible before /);
		expect(await house.client.job(first.jobId)).toMatchObject({ state: 'pending' });
		await house.client.cancel(first.jobId);
	});

	test('a step that n8n repeats with a deadline from now on has the job of the first time', async () => {
		const execution = step();
		const until = (at: number) =>
			shell('true', { submission: { deadlineAt: new Date(at).toISOString() } });
		const at = Date.now() + 3_600_000;
		const { jobId } = await submitted(until(at), execution);
		expect((await submitted(until(at + 1_000), execution)).jobId).toBe(jobId);
	});

	test('an own key makes one job of two workflows, a repetition within the window is refused', async () => {
		const keyed = shell('echo keyed', { submission: { idempotencyKey: 'deploy-1' } });
		expect((await submitted(keyed)).jobId).toBe((await submitted(keyed)).jobId);
		const once = shell('echo once', { submission: { dedupeSeconds: 60 } });
		const { jobId } = await submitted(once);
		await expect(submitted(once)).rejects.toThrow(jobId);
	});

	test('an exit code that is worth it is tried again, as often as is said', async () => {
		const { jobId } = await submitted(
			shell('exit 3', {
				retry: { exitCodes: '3', firstDelaySeconds: 0 },
				options: { maxAttempts: 2 },
			}),
		);
		expect(await ended(jobId)).toMatchObject({ state: 'failed', attempt: 2 });
	});

	test('every option of a job is one that the service takes', async () => {
		const { jobId } = await submitted(
			shell('true', {
				runOn: 'robot',
				robot: 'anna',
				limits: {
					concurrency: { limit: { key: 'crm', max: 3 } },
					rate: { limit: { key: 'crm', max: 10, perSeconds: 60 } },
					slots: 2,
					shareKey: 'team-a',
				},
				whenAway: {
					forSeconds: 7_200,
					then: 'ask',
					lostSeconds: 60,
					lostThen: 'fail',
					onDisconnect: 'stop',
				},
				retry: { causes: ['robot_lost'], factor: 3, otherRobot: true, idempotent: true },
				options: { inputSeconds: 30, onHang: 'stop', interactive: true },
				submission: { deadlineAt: Date.now() + 3_600_000 },
			}),
		);
		expect((await ended(jobId)).state).toBe('completed');
	});

	test('kinds are listed with their fields, and a job of another one runs', async () => {
		const lists = (parameters: Parameters) => step().asLoadOptions(parameters);
		const kinds = await getKinds.call(lists({}));
		expect(kinds.map(({ name }) => name)).toEqual(expect.arrayContaining(['command', 'probe']));
		const { fields } = await getKindFields.call(lists({ kind: 'command' }));
		expect(fields.find(({ id }) => id === 'args')).toMatchObject({ type: 'array' });
		const { jobId } = await submitted({
			commandType: 'kind',
			kind: 'command',
			kindSpec: {
				value: { command: 'echo', args: '["of", "a kind"]' },
				schema: fields,
			},
		});
		expect(await ended(jobId)).toMatchObject({ result: { stdout: 'of a kind\n' } });
	});
});

test('the results of a job for several robots come one item per robot, with what was printed', async () => {
	await house.robot('berta');
	const { jobId } = await submitted(shell('echo here', { howMany: 'all' }));
	await ended(jobId);
	const results = async (parameters: Parameters) =>
		(
			await new RobotFleet().execute.call(
				step().asExecute({
					resource: 'job',
					operation: 'getCells',
					job: jobId,
					returnAll: true,
					...parameters,
				}),
			)
		)[0]!.map(({ json }) => json);
	const all = await results({});
	expect(all.map(({ robot }) => robot).sort()).toEqual(['anna', 'berta']);
	expect(all).toMatchObject([
		{ state: 'completed', exitCode: 0, stdout: 'here\n' },
		{ state: 'completed', exitCode: 0, stdout: 'here\n' },
	]);
	expect((await results({ includeOutput: false }))[0]).not.toHaveProperty('stdout');
});

describe('the example that deploys in waves', () => {
	const text = readFileSync(join(__dirname, '../../../examples/deploy-in-waves.json'), 'utf8');
	const { nodes } = JSON.parse(text) as { nodes: { name: string; parameters: Parameters }[] };
	const parametersOf = (name: string) => nodes.find((node) => node.name === name)!.parameters;

	async function deploy(script: string) {
		const { jobId } = await submitted({ ...parametersOf('Deploy'), shell: script, variables: {} });
		const execution = step([{ json: { jobId } }]);
		execution.node = { ...execution.node, onError: 'continueErrorOutput' };
		const parameters = { ...parametersOf('All have it'), limitWaitTime: true, jobId };
		const [items] = await new WaitForExecution().execute.call(execution.asExecute(parameters));
		// It told within the grace of ten seconds, and parked nothing.
		expect(execution.waitTill).toBeUndefined();
		return { json: items![0]!.json, jobId };
	}

	test('goes on when all robots have it', async () => {
		const { json } = await deploy('true');
		expect(json).toMatchObject({ job: { children: { completed: 2, total: 2 } } });
	});

	test('tells at once that a wave failed, though the job waits for a person', async () => {
		const { json, jobId } = await deploy('exit 1');
		expect(json).toMatchObject({
			error: 'The job completed on 0 of 2 robots',
			details: { id: jobId, children: { completed: 0, failed: 1, total: 2 } },
		});
		expect(await house.client.job(jobId)).toMatchObject({ state: 'running' });
		await house.client.cancel(jobId);
	});
});

describe('Fleet Schedule Trigger', () => {
	const open: (() => Promise<void>)[] = [];
	afterEach(async () => {
		for (const close of open.splice(0)) await close();
	});

	function trigger(parameters: Parameters, activation = 'activate') {
		const made = new FakeTrigger(step(), parameters);
		made.execution.node = { ...made.execution.node, typeVersion: 1.1 };
		made.activation = activation;
		const activate = async () => {
			const { closeFunction } = await new ScheduleTrigger().trigger.call(made.asTrigger());
			open.push(closeFunction!);
		};
		return { made, activate };
	}

	const everySecond = { frequency: 'interval', intervalAmount: 1, intervalUnit: 'seconds' };

	test('of its own: it starts at its times, and after a restart goes on where it was', async () => {
		const { made, activate } = trigger(everySecond);
		await activate();
		await until('a start', () => made.emitted.length > 0);
		await open.pop()!();
		const before = made.emitted.length;
		made.activation = 'init';
		await activate();
		await until('another start', () => made.emitted.length > before + 1);
		const times = made.emitted.map(({ json }) => json.plannedAt as number);
		expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
		const [own] = (await house.client.schedules()).filter(({ when }) => when.everyMs === 1_000);
		expect(own).toMatchObject({ name: 'Nightly: Wait "a" }} b', timezone: 'America/New_York' });
		await house.client.removeSchedule(own!.scheduleId);
	});

	test('follows a schedule with a job: its runs by hand start it, with the ID of their job', async () => {
		await house.client.putSchedule('backup', {
			name: 'Backup',
			cron: '0 3 1 1 *',
			job: { kind: 'command', spec: { command: 'true' } },
		});
		const { made, activate } = trigger({ source: 'existing', schedule: 'backup' });
		await activate();
		await until('a consumer', async () => {
			await house.client.runSchedule('backup', { overlap: 'allow' });
			return made.emitted.length > 0;
		});
		const { json } = made.emitted[0]!;
		expect(json).toMatchObject({ scheduleId: 'backup', scheduleName: 'Backup', origin: 'manual' });
		expect((await ended(json.jobId as string)).state).toBe('completed');
	});

	test('what is backfilled starts it, however old it is', async () => {
		await house.client.putSchedule('hourly', { cron: '0 * * * *', timezone: 'UTC' });
		const { made, activate } = trigger({ source: 'existing', schedule: 'hourly' });
		await activate();
		await until('a consumer', async () => {
			await house.client.runSchedule('hourly');
			return made.emitted.length > 0;
		});
		const from = Date.now() - 3 * 3_600_000;
		const { plannedAt } = await house.client.backfill('hourly', { from });
		await house.client.backfill('hourly', { from, expect: plannedAt.length });
		await until('all starts', () => {
			const backfilled = made.emitted.filter(({ json }) => json.origin === 'backfill');
			return backfilled.length === plannedAt.length;
		});
	});

	test.each<[string, Parameters, RegExp]>([
		['a wrong field', { frequency: 'cron', cron: '0 25 * * *' }, /cron expression is wrong.*hour/],
		['a wrong zone', { frequency: 'hourly', scheduleOptions: { timezone: 'Mars/X' } }, /Mars\/X/],
		[
			'a calendar that is none',
			{ frequency: 'hourly', scheduleOptions: { blackouts: 'no-such' } },
			/no-such/,
		],
		['a time that is over', { frequency: 'once', onceAt: '2020-01-01' }, /never runs/],
		['a schedule that is gone', { source: 'existing', schedule: 'gone' }, /id gone/],
	])('%s is said at activation', async (_what, parameters, message) => {
		await expect(trigger(parameters).activate()).rejects.toThrow(message);
	});

	test('the editor shows the next runs, and what they do when clocks are set', async () => {
		const lists = (parameters: Parameters) => getNextRuns.call(step().asLoadOptions(parameters));
		const berlin = await lists({
			frequency: 'daily',
			times: '02:30',
			scheduleOptions: { timezone: 'Europe/Berlin' },
		});
		expect(berlin).toHaveLength(7);
		expect(berlin[0]).toMatchObject({ name: expect.stringMatching(/^1\. .* 02:30:00/), value: '' });
		expect(berlin.at(-1)!.name).toMatch(/^Clock set (forward|back) on /);
		expect(await lists({ frequency: 'once', onceAt: '2020-01-01' })).toEqual([
			{ name: 'it never runs', value: '' },
		]);
		await house.client.putSchedule('shown', { cron: '0 3 * * *', timezone: 'UTC' });
		const shown = await lists({ source: 'existing', schedule: 'shown' });
		expect(shown[0]!.name).toMatch(/^1\. .* 03:00 UTC$/);
	});
});
