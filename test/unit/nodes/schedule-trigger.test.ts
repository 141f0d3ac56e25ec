import type { ITriggerResponse } from 'n8n-workflow';
import { ScheduleTrigger } from '../../../nodes/ScheduleTrigger/ScheduleTrigger.node';
import { FakeExecution, FakeTrigger, type Parameters } from './fake-n8n';
import { FakeService } from './fake-service';

const nightly: Parameters = { cron: '0 3 * * *' };
const open: ITriggerResponse[] = [];

function setup(parameters: Parameters = nightly) {
	const service = new FakeService();
	const trigger = new FakeTrigger(new FakeExecution(service), parameters);
	const activate = async () => {
		const response = await new ScheduleTrigger().trigger.call(trigger.asTrigger());
		open.push(response);
		return response;
	};
	return { service, trigger, activate };
}

/** Waits for a state, never for a time. */
async function eventually(what: string, holds: () => boolean) {
	for (let tries = 0; !holds(); tries += 1) {
		if (tries > 500) throw new Error(`waited in vain until ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}

const follows = (service: FakeService) =>
	service.calls(/\/events/, 'GET').some(({ path }) => path.includes('waitMs=30000'));
const idOf = (service: FakeService) => [...service.schedules.keys()][0]!;

afterEach(async () => {
	for (const { closeFunction } of open.splice(0)) await closeFunction!();
});

describe('Fleet Schedule Trigger', () => {
	test('stores the schedule in the time zone of the workflow and follows it', async () => {
		const { service, activate } = setup();
		await activate();
		await eventually('it follows', () => follows(service));
		expect([...service.schedules]).toEqual([
			[
				expect.stringMatching(/^n8n-[0-9a-f]{32}$/),
				{
					name: 'Nightly: Wait "a" }} b',
					cron: '0 3 * * *',
					timezone: 'America/New_York',
					enabled: true,
					catchUpMs: 3_600_000,
				},
			],
		]);
	});

	test('another n8n, workflow or node has a schedule of its own', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		trigger.execution.instanceId = 'instance-b';
		await activate();
		trigger.execution.node = { ...trigger.execution.node, id: 'copied' };
		await activate();
		expect(service.schedules.size).toBe(3);
	});

	test('an occurrence starts the workflow once and is acknowledged', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		await eventually('it follows', () => follows(service));
		service.fire(idOf(service), Date.UTC(2026, 0, 2, 3));
		await eventually('it is acknowledged', () => service.acknowledged === 1);
		expect(trigger.emitted).toEqual([
			{
				key: `${idOf(service)}:${Date.UTC(2026, 0, 2, 3)}`,
				json: expect.objectContaining({ timestamp: '2026-01-02T03:00:00.000Z', late: false }),
			},
		]);
	});

	test('an occurrence that n8n did not take comes again', async () => {
		const { service, trigger, activate } = setup();
		trigger.run = async () => {
			throw new Error('the database is away');
		};
		await activate();
		await eventually('it follows', () => follows(service));
		service.fire(idOf(service), 1_000);
		await eventually('it was tried', () => trigger.emitted.length === 1);
		trigger.run = async () => ({});
		await eventually('it is acknowledged', () => service.acknowledged === 1);
		expect(new Set(trigger.emitted.map(({ key }) => key)).size).toBe(1);
		expect(trigger.errors).toEqual([]);
	});

	test('a run of hours keeps the next occurrence back for a second at most', async () => {
		const { service, trigger, activate } = setup();
		trigger.run = async () => await new Promise(() => undefined);
		await activate();
		await eventually('it follows', () => follows(service));
		service.fire(idOf(service), 1_000);
		await eventually('it is acknowledged', () => service.acknowledged === 1);
		service.fire(idOf(service), 2_000);
		await eventually('the next one starts', () => trigger.emitted.length === 2);
	});

	test('a service that was away is found again, and nothing due is lost', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		await eventually('it follows', () => follows(service));
		service.drop();
		await new Promise((resolve) => setImmediate(resolve));
		service.events.push({
			cursor: 1,
			at: 0,
			type: 'schedule.due',
			data: { scheduleId: idOf(service), plannedAt: 5_000, origin: 'planned', late: false },
		});
		service.away = false;
		await eventually('it is acknowledged', () => service.acknowledged === 1);
		expect(trigger.emitted).toHaveLength(1);
		expect(trigger.errors).toEqual([]);
	});

	test.each([
		['init', 1],
		['activate', 0],
	])('of what piled up before "%s" %d run is made up', async (activation, runs) => {
		const { service, trigger, activate } = setup();
		trigger.activation = activation;
		for (const plannedAt of [1_000, 2_000, 3_000]) service.fire('x', plannedAt);
		await activate();
		await eventually('all is acknowledged', () => service.acknowledged === 3);
		expect(trigger.emitted.map(({ json }) => json.plannedAt)).toEqual([3_000].slice(0, runs));
	});

	test('lets go quietly when another consumer takes over', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		await eventually('it follows', () => follows(service));
		const subscriptions = () => service.calls(/\/subscriptions\/[^/]+$/, 'PUT').length;
		service.takeOver();
		await eventually('it has gone', () => service.epoch === 2);
		service.fire(idOf(service), 1_000);
		expect(subscriptions()).toBe(1);
		expect(trigger.emitted).toEqual([]);
		expect(trigger.errors).toEqual([]);
	});

	test('closing ends the long poll at once and may be done twice', async () => {
		const { service, trigger, activate } = setup();
		const { closeFunction } = await activate();
		await eventually('it follows', () => follows(service));
		await closeFunction!();
		await closeFunction!();
		service.fire(idOf(service), 1_000);
		expect(trigger.emitted).toEqual([]);
	});

	test('a wrong cron expression is said at activation', async () => {
		const { activate } = setup({ cron: 'daily' });
		await expect(activate()).rejects.toMatchObject({
			message: 'The cron expression is wrong: "daily" has too few fields',
		});
	});

	test('a test run starts once right away and leaves the stored schedule alone', async () => {
		const { service, trigger, activate } = setup();
		trigger.mode = 'manual';
		const { manualTriggerFunction, closeFunction } = await activate();
		expect(trigger.emitted).toEqual([]);
		await manualTriggerFunction!();
		await closeFunction!();
		expect(trigger.emitted).toHaveLength(1);
		expect(trigger.emitted[0]!.json.origin).toBe('manual');
		expect(service.requests).toEqual([]);
	});
});
