import type { ITriggerResponse } from 'n8n-workflow';
import { Problem } from '../../../protocol';
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
			at: Date.now(),
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
		const at = Date.now() - 600_000;
		for (const plannedAt of [1_000, 2_000, 3_000]) service.fire('x', plannedAt, { at });
		await activate();
		await eventually('all is acknowledged', () => service.acknowledged === 3);
		expect(trigger.emitted.map(({ json }) => json.plannedAt)).toEqual([3_000].slice(0, runs));
	});

	test('goes to where its credential says by then that the service is', async () => {
		const { service, trigger } = setup();
		const context = trigger.asTrigger();
		const hosts: string[] = [];
		const call = context.helpers.httpRequestWithAuthentication;
		context.helpers.httpRequestWithAuthentication = async function (name, options) {
			hosts.push(new URL(options.url).host);
			return (await call.call(this, name, options)) as unknown;
		};
		open.push(await new ScheduleTrigger().trigger.call(context));
		await eventually('it follows', () => follows(service));
		trigger.execution.credential = { ...trigger.execution.credential, url: 'http://moved' };
		service.fire(idOf(service), 1_000);
		await eventually('it is acknowledged', () => service.acknowledged === 1);
		expect([hosts[0], hosts.at(-1)]).toEqual(['fleet', 'moved']);
		expect(trigger.errors).toEqual([]);
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

	test('after it gave up nothing was switched on: what lay there counts, and what was paused stays so', async () => {
		const { service, trigger, activate } = setup();
		const { closeFunction } = await activate();
		await eventually('it follows', () => follows(service));
		service.breakOff(new Problem('bad-key'));
		await eventually('it gave up', () => trigger.errors.length === 1);
		await closeFunction!();
		service.paused.add(idOf(service));
		service.fire(idOf(service), 1_000);
		// As n8n does it by itself: with what it knew the first time.
		await activate();
		await eventually('it has started', () => trigger.emitted.length === 1);
		expect(service.paused.size).toBe(1);
		await open.at(-1)!.closeFunction!();
		service.fire(idOf(service), 2_000);
		await activate();
		await eventually('all is acknowledged', () => service.acknowledged === 2);
		expect(trigger.emitted).toHaveLength(1);
		expect(service.paused.size).toBe(0);
	});

	test('a data folder that another process still holds is waited for', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		await eventually('it follows', () => follows(service));
		service.breakOff(new Problem('data-taken', { folder: '/data', owner: 'pid 7', variable: 'X' }));
		await eventually('it follows again', () => service.epoch === 2);
		expect(trigger.errors).toEqual([]);
	});

	test('a key that may only submit is enough, and what a person has paused stays so', async () => {
		const { service, trigger, activate } = setup();
		service.refuses = ({ method, path }) =>
			method === 'GET' && /schedules\/[^/]+$/.test(path)
				? new Problem('no-scope', { scope: 'read' })
				: undefined;
		await activate();
		service.paused.add(idOf(service));
		trigger.activation = 'init';
		await activate();
		expect(service.paused.size).toBe(1);
	});

	test('a service that is away is said at activation, and waited for at a start of n8n', async () => {
		const { service, trigger, activate } = setup();
		service.away = true;
		await expect(activate()).rejects.toThrow('does not answer');
		trigger.activation = 'init';
		await activate();
		const { closeFunction } = await activate();
		await closeFunction!();
		service.away = false;
		await eventually('it follows', () => follows(service));
		expect(service.schedules.size).toBe(1);
		expect(service.epoch).toBe(1);
		expect(trigger.errors).toEqual([]);
	});

	test('its own schedule that somebody removed is stored again', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		await eventually('it follows', () => follows(service));
		const id = idOf(service);
		service.schedules.delete(id);
		service.breakOff(new Problem('no-such-schedule', { id }));
		await eventually('it follows again', () => service.epoch === 2);
		expect(idOf(service)).toBe(id);
		expect(trigger.errors).toEqual([]);
	});

	test('its own schedule that somebody removed is not stored again when it is switched off by then', async () => {
		const { service, activate } = setup();
		const { closeFunction } = await activate();
		await eventually('it follows', () => follows(service));
		const id = idOf(service);
		service.schedules.delete(id);
		service.breakOff(new Problem('no-such-schedule', { id }));
		await new Promise((resolve) => setTimeout(resolve, 50));
		await closeFunction!();
		expect(service.schedules.size).toBe(0);
	});

	test('a schedule that a person has paused stays so until the workflow is switched on', async () => {
		const { service, trigger, activate } = setup();
		await activate();
		service.paused.add(idOf(service));
		trigger.activation = 'init';
		await activate();
		expect(service.paused.size).toBe(1);
		trigger.activation = 'activate';
		await activate();
		expect(service.paused.size).toBe(0);
	});
});

const version = (trigger: FakeTrigger, typeVersion: number) => {
	trigger.execution.node = { ...trigger.execution.node, typeVersion };
};

/** A trigger of the newest version. */
function newest(parameters: Parameters) {
	const made = setup(parameters);
	version(made.trigger, 1.1);
	return made;
}

describe('its newest version', () => {
	test.each<[string, Parameters, object]>([
		['a cron expression', { frequency: 'cron', cron: '0 3 * * *' }, { cron: '0 3 * * *' }],
		[
			'an interval',
			{ frequency: 'interval', intervalAmount: 90, intervalUnit: 'seconds' },
			{ everyMs: 90_000 },
		],
		['every sixth hour', { frequency: 'hourly', minute: 15, every: 6 }, { minute: 15, every: 6 }],
		['times of day', { frequency: 'daily', times: '02:30, 14:00' }, { times: ['02:30', '14:00'] }],
		[
			'weekdays',
			{ frequency: 'weekly', weekdays: ['mon', 'thu'], times: '06:00' },
			{ weekdays: ['mon', 'thu'], times: ['06:00'] },
		],
		[
			'days of the month',
			{ frequency: 'monthly', monthDays: '1, last', times: '06:00' },
			{ days: [1, -1], times: ['06:00'] },
		],
		[
			'the last Friday',
			{ frequency: 'monthly', monthlyOn: 'nth', nthWeek: -1, nthWeekday: 'fri', times: '06:00' },
			{ nth: { week: -1, weekday: 'fri' }, times: ['06:00'] },
		],
		[
			'one time, in the zone of the workflow',
			{ frequency: 'once', onceAt: '2030-01-02T03:04:05' },
			{ at: Date.UTC(2030, 0, 2, 8, 4, 5) },
		],
	])('stores %s', async (_what, parameters, when) => {
		const { service, activate } = newest(parameters);
		await activate();
		expect([...service.schedules.values()]).toEqual([
			{
				name: 'Nightly: Wait "a" }} b',
				when: { frequency: parameters.frequency, ...when },
				timezone: 'America/New_York',
				missed: 'last',
				catchUpMs: 3_600_000,
				catchUpMax: 100,
				enabled: true,
			},
		]);
	});

	test('every option reaches the service', async () => {
		const { service, activate } = newest({
			frequency: 'daily',
			times: '02:30',
			scheduleOptions: {
				name: ' Report ',
				timezone: ' Europe/Berlin ',
				blackouts: 'holidays, freeze',
				startAt: '2030-01-01',
				endAt: '2031-01-01',
				jitterSeconds: 30,
				catchUpSeconds: 600,
				catchUpMax: 5,
				maxRuns: 7,
				missed: 'all',
				fold: 'both',
				gap: 'skip',
				whileRunning: 'skip',
			},
		});
		await activate();
		expect([...service.schedules.values()]).toEqual([
			{
				name: 'Report',
				when: { frequency: 'daily', times: ['02:30'] },
				timezone: 'Europe/Berlin',
				blackouts: ['holidays', 'freeze'],
				startAt: Date.UTC(2030, 0, 1, 5),
				endAt: Date.UTC(2031, 0, 1, 5),
				jitterMs: 30_000,
				catchUpMs: 600_000,
				catchUpMax: 5,
				maxRuns: 7,
				missed: 'all',
				fold: 'both',
				gap: 'skip',
				enabled: true,
			},
		]);
	});

	test.each<[string, Parameters, string]>([
		['no schedule', { source: 'existing', schedule: '' }, 'No schedule is chosen'],
		['no time', { frequency: 'once', onceAt: '' }, 'No time is given'],
		['no date', { frequency: 'once', onceAt: 'soon' }, '"At" is not a date'],
		['no interval', { frequency: 'interval', intervalAmount: 0 }, 'The interval is not a time'],
		['no time of day', { frequency: 'daily', times: ' ' }, 'No time of day is given'],
		['no weekday', { frequency: 'weekly', times: '06:00' }, 'No weekday is chosen'],
		['no day', { frequency: 'monthly', monthDays: 'first' }, '"first" is not a day of a month'],
		['one that is gone', { source: 'existing', schedule: 'gone' }, 'No schedule has the id gone'],
	])('%s is said at activation', async (_what, parameters, message) => {
		const { activate } = newest(parameters);
		await expect(activate()).rejects.toMatchObject({ message });
	});

	describe('that follows a schedule which is there', () => {
		const nightly = { cron: '0 3 * * *', timezone: 'UTC', name: 'Nightly backup' };
		function attached(parameters: Parameters = {}) {
			const made = newest({
				source: 'existing',
				schedule: 'backup',
				times: '03:00',
				...parameters,
			});
			made.service.schedules.set('backup', nightly);
			return made;
		}

		test('leaves it as it is, and says its name in each item', async () => {
			const { service, trigger, activate } = attached();
			await activate();
			await eventually('it follows', () => follows(service));
			service.fire('backup', 5_000);
			await eventually('it has started', () => trigger.emitted.length === 1);
			expect(service.schedules.get('backup')).toBe(nightly);
			expect(trigger.emitted[0]!.json).toMatchObject({
				scheduleId: 'backup',
				scheduleName: 'Nightly backup',
				cron: '0 3 * * *',
			});
			expect(service.calls(/\/subscriptions\/[^/]+$/, 'PUT')[0]!.body).toEqual({
				filter: { scheduleId: 'backup' },
				from: 'now',
				backlogMs: 0,
			});
		});

		test('two workflows that follow it both start', async () => {
			const { service, trigger, activate } = attached();
			const keys = () =>
				new Set(service.calls(/\/subscriptions\/[^/]+$/, 'PUT').map(({ path }) => path)).size;
			await activate();
			trigger.execution.node = { ...trigger.execution.node, id: 'other' };
			await activate();
			await eventually('both follow', () => keys() === 2);
		});

		test('pauses the one that the node had of its own before', async () => {
			const { service, trigger, activate } = attached();
			const own = newest({ frequency: 'daily' });
			own.service.schedules.forEach((one, id) => service.schedules.set(id, one));
			trigger.parameters.source = 'own';
			await activate();
			const ownId = [...service.schedules.keys()].find((id) => id.startsWith('n8n-'))!;
			trigger.parameters.source = 'existing';
			await activate();
			expect([...service.paused]).toEqual([ownId]);
		});

		test('its own goes on when it is chosen again, and stays paused when a person pauses it then', async () => {
			const { service, trigger, activate } = attached();
			const publish = async (source: string) => {
				trigger.parameters.source = source;
				await activate();
			};
			await publish('own');
			trigger.activation = 'update';
			await publish('existing');
			expect(service.paused.size).toBe(1);
			await publish('own');
			expect(service.paused.size).toBe(0);
			const ownId = [...service.schedules.keys()].find((id) => id.startsWith('n8n-'))!;
			service.paused.add(ownId);
			await publish('own');
			expect([...service.paused]).toEqual([ownId]);
		});

		test('follows it also when the one that the node had before belongs to another key', async () => {
			const { service, activate } = attached();
			service.refuses = ({ path }) =>
				path.endsWith('/pause')
					? new Problem('not-your-schedule', { id: 'n8n-1', owner: 'the key old' })
					: undefined;
			await activate();
			await eventually('it follows', () => follows(service));
		});

		test('says that it was removed', async () => {
			const { service, trigger, activate } = attached();
			await activate();
			await eventually('it follows', () => follows(service));
			service.schedules.delete('backup');
			service.breakOff(new Problem('no-such-schedule', { id: 'backup' }));
			await eventually('it gave up', () => trigger.errors.length === 1);
			expect(trigger.errors[0]).toMatchObject({ message: 'No schedule has the id backup' });
		});

		test('a run by hand and a backfill of the same time start it once each', async () => {
			const { service, trigger, activate } = attached();
			await activate();
			await eventually('it follows', () => follows(service));
			service.fire('backup', 5_000);
			service.fire('backup', 5_000, { origin: 'backfill' });
			service.fire('backup', 5_000, { origin: 'backfill' });
			await eventually('all have started', () => trigger.emitted.length === 3);
			expect(new Set(trigger.emitted.map(({ key }) => key)).size).toBe(3);
		});
	});

	test.each<[string, Parameters, number[]]>([
		['the last one', {}, [3]],
		['all', { missed: 'all' }, [1, 2, 3]],
		['the newest two', { missed: 'all', catchUpMax: 2 }, [2, 3]],
		['none', { missed: 'none' }, []],
		['none that is too old', { missed: 'all', catchUpSeconds: 60 }, []],
	])('makes up %s of what piled up while n8n was off', async (_what, options, runs) => {
		const { service, trigger, activate } = newest({
			frequency: 'daily',
			times: '03:00',
			scheduleOptions: options,
		});
		trigger.activation = 'init';
		const at = Date.now() - 600_000;
		for (const plannedAt of [1, 2, 3]) service.fire('x', plannedAt, { at });
		await activate();
		await eventually('all is acknowledged', () => service.acknowledged === 3);
		expect(trigger.emitted.map(({ json }) => json.plannedAt)).toEqual(runs);
	});

	test('looks through a backlog of any length before it starts anything', async () => {
		const { service, trigger, activate } = newest({ frequency: 'daily', times: '03:00' });
		trigger.activation = 'init';
		const at = Date.now() - 600_000;
		for (let plannedAt = 1; plannedAt <= 250; plannedAt += 1) service.fire('x', plannedAt, { at });
		await activate();
		await eventually('all is acknowledged', () => service.acknowledged === 250);
		expect(trigger.emitted.map(({ json }) => json.plannedAt)).toEqual([250]);
	});

	test('of other times than before nothing that piled up counts', async () => {
		const { service, trigger, activate } = newest({ frequency: 'daily', times: '03:00' });
		await activate();
		await open.at(-1)!.closeFunction!();
		service.fire(idOf(service), 1, { at: Date.now() - 600_000 });
		trigger.parameters.times = '04:00';
		trigger.activation = 'update';
		await activate();
		await eventually('all is acknowledged', () => service.acknowledged === 1);
		expect(trigger.emitted).toEqual([]);
	});

	describe('while an execution runs', () => {
		/** The first occurrence has started an execution that runs until it is told to end; three more came meanwhile. */
		async function busy(whileRunning: string) {
			const made = newest({
				frequency: 'daily',
				times: '03:00',
				scheduleOptions: { whileRunning },
			});
			const { service, trigger, activate } = made;
			const ends: Array<() => void> = [];
			trigger.run = () => new Promise((resolve) => ends.push(() => resolve({})));
			await activate();
			await eventually('it follows', () => follows(service));
			service.fire(idOf(service), 1);
			await eventually('it has started', () => ends.length === 1);
			for (const plannedAt of [2, 3, 4]) service.fire(idOf(service), plannedAt);
			const end = async (which: number) => {
				await eventually(`number ${which} has started`, () => ends.length > which);
				ends[which]!();
			};
			const all = (count: number) =>
				eventually('all is dealt with', () => service.acknowledged === count);
			const started = () => trigger.emitted.map(({ json }) => json.plannedAt);
			return { ...made, end, all, started };
		}

		test('skip: what comes meanwhile is left out', async () => {
			const { service, end, all, started } = await busy('skip');
			await end(0);
			await all(4);
			service.fire(idOf(service), 5);
			await end(1);
			await all(5);
			expect(started()).toEqual([1, 5]);
		});

		test('queue one: one more follows, further ones are left out', async () => {
			const { end, all, started } = await busy('queue-one');
			await end(0);
			await end(1);
			await all(4);
			expect(started()).toEqual([1, 2]);
		});

		test('queue all: one after the other, and what waits lies in the service', async () => {
			const { service, end, all, started } = await busy('queue-all');
			await eventually('the first is acknowledged', () => service.acknowledged === 1);
			for (const which of [0, 1, 2, 3]) {
				expect(started()).toHaveLength(which + 1);
				await end(which);
				if (which < 3) {
					await eventually('the next has started', () => started().length === which + 2);
				}
			}
			await all(4);
			expect(started()).toEqual([1, 2, 3, 4]);
		});

		test('queue all: what waits outlives an interruption, however long it has waited', async () => {
			const { service, end, all, started } = await busy('queue-all');
			await all(1);
			for (const event of service.events.slice(1)) event.at -= 600_000;
			service.drop();
			await end(0);
			const gone = service.requests.length;
			await eventually('it was missed', () => service.requests.length > gone);
			service.away = false;
			for (const which of [1, 2, 3]) await end(which);
			await all(4);
			expect(started()).toEqual([1, 2, 3, 4]);
		});

		test('run both: nothing waits', async () => {
			const { all, started } = await busy('allow');
			await all(4);
			expect(started()).toEqual([1, 2, 3, 4]);
		});

		test('closing the trigger does not wait for it', async () => {
			const { all } = await busy('queue-all');
			await all(1);
			const before = performance.now();
			await open.at(-1)!.closeFunction!();
			expect(performance.now() - before).toBeLessThan(1_500);
		});
	});
});
