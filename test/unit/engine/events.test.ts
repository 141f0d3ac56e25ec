/** Durable consumers: which events there are, who is handed which, and that none is lost. */
import {
	type EventFilter,
	type FleetEvent,
	leftText,
	type SubscriptionRequest,
} from '../../../protocol';
import { admin, exit, house, type House, type HouseOptions } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
const open = async (options?: HouseOptions) => (h = await house(options));
beforeEach(() => open());
afterEach(() => h.close());

class Follower {
	epoch = 0;
	constructor(readonly key: string) {}

	async take(filter: EventFilter, more: Partial<SubscriptionRequest> = {}): Promise<this> {
		this.epoch = (await h.engine.subscribe(this.key, { filter, ...more }, admin)).epoch;
		return this;
	}
	events = () => h.engine.events(this.key, this.epoch, admin, 0);
	async done(): Promise<FleetEvent[]> {
		const events = await this.events();
		const last = events.at(-1);
		if (last) await h.engine.acknowledge(this.key, this.epoch, last.cursor, admin);
		return events;
	}
	data = async () => (await this.done()).map(({ data }) => data);
	types = async () => (await this.done()).map(({ type }) => type);
}
const echo = { kind: 'command', spec: { command: 'echo' } };
const follow = (filter: EventFilter, key = 'k') => new Follower(key).take(filter);

test('who names not exactly one of schedule, event and events is refused', async () => {
	const both: EventFilter = { event: 'job.prompt', events: ['job.ended'] };
	for (const filter of [{}, both, { scheduleId: 's', event: 'job.prompt' } as EventFilter]) {
		await expect(follow(filter)).rejects.toMatchObject({ code: 'bad-field' });
	}
});

test('who may not read follows the times of a schedule, and nothing that tells of others', async () => {
	const submits = { ...admin, scopes: ['submit' as const] };
	const filters: EventFilter[] = [
		{ event: 'robot.lost' },
		{ events: ['job.ended'], robots: ['r1'] },
	];
	for (const filter of filters) {
		await expect(h.engine.subscribe('k', { filter }, submits)).rejects.toMatchObject({
			code: 'no-scope',
			details: { scope: 'read' },
		});
	}
	await h.engine.putSchedule('s', { cron: '0 0 1 1 *' }, submits);
	await h.engine.subscribe('k', { filter: { scheduleId: 's' } }, submits);
	const reads = { ...admin, scopes: ['submit' as const, 'read' as const] };
	const { epoch } = await h.engine.subscribe('k', { filter: filters[0]! }, reads);

	// Nor does it help to know the key of who does.
	const refused = { code: 'no-scope', details: { scope: 'read' } };
	await expect(h.engine.events('k', epoch, submits, 0)).rejects.toMatchObject(refused);
	await expect(h.engine.acknowledge('k', epoch, 1, submits)).rejects.toMatchObject(refused);
	await expect(h.engine.unsubscribe('k', submits)).rejects.toMatchObject(refused);
	const taken = h.engine.subscribe('k', { filter: { scheduleId: 's' }, backlogMs: 0 }, submits);
	await expect(taken).rejects.toMatchObject(refused);
	await expect(h.engine.events('k', epoch, reads, 0)).resolves.toEqual([]);
});

test('a schedule with the name of a kind of event is followed by its times, and that kind by its events', async () => {
	const submits = { ...admin, scopes: ['submit' as const] };
	await h.engine.putSchedule('job.ended', { cron: '0 0 1 1 *' }, submits);
	const filter = { scheduleId: 'job.ended' };
	const { epoch } = await h.engine.subscribe('times', { filter }, submits);
	const ends = await follow({ event: 'job.ended' });
	const robot = await h.robot('r1');
	await h.submit();
	await settled();
	await robot.end();
	expect(await h.engine.events('times', epoch, submits, 0)).toEqual([]);
	await h.engine.runSchedule('job.ended', {}, submits);
	expect(await h.engine.events('times', epoch, submits, 0)).toMatchObject([
		{ type: 'schedule.due', data: { scheduleId: 'job.ended' } },
	]);
	expect(await ends.types()).toEqual(['job.ended']);
});

describe('the end of a job', () => {
	test('is told to who followed it then, with robot, cause and times, and wakes who waits', async () => {
		const robot = await h.robot('r1');
		await h.submit();
		await robot.end();
		const follower = await follow({ events: ['job.ended'] });
		expect(await follower.events()).toEqual([]);
		const jobId = await h.submit({ shareKey: 'team' });
		await robot.accept();
		const waited = h.engine.events('k', follower.epoch, admin, 30_000);
		await settled();
		await robot.end(exit(3));
		const told = {
			jobId,
			kind: 'command',
			state: 'failed',
			cause: 'exit_code',
			robotId: robot.robotId,
			robot: 'r1',
			attempt: 1,
			parentId: null,
			parts: null,
			scheduleId: null,
			shareKey: 'team',
			dead: true,
			createdBy: 'key:test',
			createdAt: expect.any(Number),
			startedAt: expect.any(Number),
			endedAt: expect.any(Number),
		};
		expect(await waited).toMatchObject([{ type: 'job.ended', data: told }]);
		expect(await follower.data()).toEqual([told]);
		expect(await follower.done()).toEqual([]);
	});

	test('of a job that never ran, and of a job for several robots once beside its parts, is told too', async () => {
		const follower = await follow({ events: ['job.ended'] });
		const whole = await follow({ events: ['job.ended'], ended: { whole: true } }, 'whole');
		const waits = await h.submit();
		await h.engine.cancel(waits, admin);
		const robots = [await h.robot('r1'), await h.robot('r2')];
		const parent = await h.submit({ target: { mode: 'all' } });
		await settled();
		for (const robot of robots) await robot.end();
		const told = await follower.done();
		expect(told).toHaveLength(4);
		expect(told[0]).toMatchObject({ data: { jobId: waits, state: 'cancelled', robot: null } });
		expect(told.at(-1)).toMatchObject({ data: { jobId: parent, parts: 2, state: 'completed' } });
		expect(told[1]).toMatchObject({ data: { parentId: parent } });
		expect(await whole.data()).toMatchObject([{ jobId: waits }, { jobId: parent }]);
	});

	test('is handed to whom it concerns: by ending, cause, kind, share key, robot, label, dead letters', async () => {
		const filters: Record<string, EventFilter> = {
			completed: { event: 'job.ended', ended: { states: ['completed'] } },
			failed: { event: 'job.ended', ended: { states: ['failed', 'timeout'] } },
			exit: { event: 'job.ended', ended: { causes: ['exit_code'] } },
			probe: { event: 'job.ended', ended: { kinds: ['probe'] } },
			command: { event: 'job.ended', ended: { kinds: ['command'] } },
			shared: { event: 'job.ended', ended: { shareKey: 's' } },
			dead: { event: 'job.ended', ended: { dead: true } },
			byName: { event: 'job.ended', robots: ['r2'] },
			byLabel: { event: 'job.ended', labels: { site: 'berlin' } },
			schedule: { event: 'job.ended', schedules: ['nightly'] },
		};
		for (const [key, filter] of Object.entries(filters)) await follow(filter, key);
		const r1 = await h.robot('r1', { labels: { site: 'berlin' } });
		const r2 = await h.robot('r2');
		const good = await h.submit({ target: { robot: 'r1' }, shareKey: 's' });
		await r1.end();
		const bad = await h.submit({ target: { robot: 'r2' } });
		await r2.end(exit(3));
		const found: Record<string, string[]> = {};
		for (const key of Object.keys(filters)) {
			const events = await h.engine.events(key, 1, admin, 0);
			found[key] = events.map(({ data }) => (data as { jobId: string }).jobId);
		}
		expect(found).toEqual({
			completed: [good],
			failed: [bad],
			exit: [bad],
			probe: [],
			command: [good, bad],
			shared: [good],
			dead: [bad],
			byName: [bad],
			byLabel: [good],
			schedule: [],
		});
	});

	test('is handed to who follows its robot by name, also after that was removed', async () => {
		const follower = await follow({ event: 'job.ended', robots: ['r1'] });
		const robot = await h.robot('r1');
		const jobId = await h.submit();
		await robot.end();
		await h.engine.removeRobot('r1', admin);
		expect(await follower.data()).toMatchObject([{ jobId, robot: 'r1' }]);
	});

	test('that is wanted is found behind a thousand that are not, and no other is asked to be acknowledged', async () => {
		const robot = await h.robot('r1', { slots: 50 });
		const follower = await follow({ event: 'job.ended', ended: { states: ['failed'] } });
		for (let i = 0; i < 1_100; i += 1) {
			await h.submit();
			await robot.end();
		}
		expect(await follower.events()).toEqual([]);
		const bad = await h.submit();
		await robot.end(exit(3));
		expect(await follower.events()).toMatchObject([{ data: { jobId: bad } }]);
		await h.restart();
		expect(await follower.data()).toMatchObject([{ jobId: bad }]);
		expect(await follower.events()).toEqual([]);
	}, 60_000);
});

describe('a consumer', () => {
	test('goes on with what it had not acknowledged, unless it begins from now, or wants only what is recent', async () => {
		const robot = await h.robot('r1');
		const end = async () => {
			await h.submit();
			await robot.end();
		};
		const follower = await follow({ event: 'job.ended' });
		await end();
		await h.restart();
		await robot.reconnectable(() => h.engine).connect();
		await follower.take({ event: 'job.ended' });
		expect(await follower.events()).toHaveLength(1);
		await h.clock.advance(60_000);
		await follower.take({ event: 'job.ended' }, { backlogMs: 120_000 });
		expect(await follower.events()).toHaveLength(1);
		await follower.take({ event: 'job.ended' }, { backlogMs: 30_000 });
		expect(await follower.events()).toEqual([]);
	});

	test('with another filter is handed what that one wants, of what it had not acknowledged too', async () => {
		const robot = await h.robot('r1');
		const follower = await follow({ event: 'job.ended', ended: { states: ['completed'] } });
		await h.submit();
		await robot.end();
		expect(await follower.events()).toHaveLength(1);
		await follower.take({ events: ['job.ended'], ended: { states: ['failed'] } });
		expect(await follower.events()).toEqual([]);
		const bad = await h.submit();
		await robot.end(exit(3));
		expect(await follower.data()).toMatchObject([{ jobId: bad }]);
	});

	test('that is taken over, or forgotten, is told so while it waits', async () => {
		const first = await follow({ event: 'robot.lost' });
		const waits = h.engine.events('k', first.epoch, admin, 30_000);
		const second = await follow({ event: 'robot.lost' });
		await expect(waits).rejects.toMatchObject({ code: 'stale-epoch' });
		const gone = expect(h.engine.events('k', second.epoch, admin, 30_000)).rejects.toMatchObject({
			code: 'no-such-subscription',
		});
		await settled();
		await h.engine.unsubscribe('k', admin);
		await h.engine.unsubscribe('k', admin);
		await gone;
	});

	test('is forgotten when nobody has asked for as long as events are kept, and not while somebody does', async () => {
		await h.close();
		await open({ retention: { eventsMs: 400_000 } });
		const asks = await follow({ event: 'job.ended' }, 'asks');
		const left = await follow({ event: 'job.ended' }, 'left');
		for (let times = 0; times < 5; times += 1) {
			await h.clock.advance(90_000);
			expect(await asks.events()).toEqual([]);
		}
		const purged = h.engine.purge(false);
		await h.clock.advance(2_000);
		expect(await purged).toMatchObject({ subscriptions: 1 });
		await expect(left.events()).rejects.toMatchObject({ code: 'no-such-subscription' });
		expect(await asks.events()).toEqual([]);
	});

	test('takes a schedule without a job along, which waits for it to come back', async () => {
		await h.close();
		await open({ retention: { eventsMs: 400_000 } });
		const yearly = { cron: '0 0 1 1 *' };
		await h.engine.putSchedule('left', yearly, admin);
		await h.engine.putSchedule('works', { ...yearly, job: echo }, admin);
		await h.engine.putSchedule('alone', yearly, admin);
		for (const id of ['left', 'works']) await follow({ scheduleId: id }, id);
		await h.clock.advance(450_000);
		const purged = h.engine.purge(false);
		await h.clock.advance(2_000);
		expect(await purged).toMatchObject({ subscriptions: 2 });
		expect(await h.engine.schedule('left')).toMatchObject({ state: 'paused', reason: leftText });
		for (const id of ['works', 'alone']) {
			expect(await h.engine.schedule(id)).toMatchObject({ state: 'active' });
		}
		await follow({ scheduleId: 'left' }, 'another');
		expect(await h.engine.schedule('left')).toMatchObject({ state: 'active', reason: null });
	});

	test('does not take a schedule along that others follow, nor wakes one that a person has paused', async () => {
		await h.close();
		await open({ retention: { eventsMs: 400_000 } });
		await h.engine.putSchedule('shared', { cron: '0 0 1 1 *' }, admin);
		await follow({ scheduleId: 'shared' }, 'shared');
		await h.clock.advance(300_000);
		const other = await follow({ scheduleId: 'shared' }, 'other');
		await h.clock.advance(150_000);
		const purged = h.engine.purge(false);
		await h.clock.advance(2_000);
		expect(await purged).toMatchObject({ subscriptions: 1 });
		expect(await h.engine.schedule('shared')).toMatchObject({ state: 'active' });
		expect(await other.events()).toEqual([]);
		await h.engine.pauseSchedule('shared', admin);
		await follow({ scheduleId: 'shared' }, 'other');
		expect(await h.engine.schedule('shared')).toMatchObject({ state: 'paused' });
	});

	test('is told when its schedule is removed, once it has had all that came before', async () => {
		await h.engine.putSchedule('s', { cron: '0 0 1 1 *' }, admin);
		const follower = await follow({ scheduleId: 's' });
		await h.engine.runSchedule('s', {}, admin);
		const gone = { code: 'no-such-schedule' };
		await h.engine.removeSchedule('s', admin);
		const [event] = await follower.events();
		const ahead = [0, undefined, event!.cursor] as const;
		expect(await h.engine.events('k', follower.epoch, admin, ...ahead)).toEqual([]);
		expect(await follower.types()).toEqual(['schedule.due']);
		await expect(follower.events()).rejects.toMatchObject(gone);
		await h.engine.putSchedule('s', { cron: '0 0 1 1 *' }, admin);
		const waited = h.engine.events('k', follower.epoch, admin, 30_000);
		await settled();
		await h.engine.removeSchedule('s', admin);
		await expect(waited).rejects.toMatchObject(gone);
	});

	test('can look ahead of what it has acknowledged, and loses nothing by it', async () => {
		await h.engine.putSchedule('s', { cron: '0 0 1 1 *' }, admin);
		const follower = await follow({ scheduleId: 's' });
		for (let times = 0; times < 3; times += 1) await h.engine.runSchedule('s', {}, admin);
		const all = await follower.events();
		expect(all).toHaveLength(3);
		const ahead = (after: number) =>
			h.engine.events('k', follower.epoch, admin, 0, undefined, after);
		expect(await ahead(all[1]!.cursor)).toEqual(all.slice(2));
		expect(await ahead(all[2]!.cursor)).toEqual([]);
		expect(await follower.done()).toEqual(all);
		expect(await follower.events()).toEqual([]);
	});
});

describe('a robot', () => {
	const presence = { events: ['robot.connected', 'robot.lost', 'robot.back'] } as EventFilter;

	test('is told of when it first comes, when it has been away for 45 s, and when it is back; blips are not', async () => {
		const follower = await follow(presence);
		const robot = await h.robot('r1', { labels: { site: 'berlin' } });
		await h.clock.advance(100_000);
		const labels = { site: 'berlin' };
		const about = { robotId: robot.robotId, name: 'r1', labels };
		expect(await follower.done()).toMatchObject([
			{ type: 'robot.connected', data: { ...about, awaySince: null } },
		]);
		await robot.vanish();
		await h.clock.advance(40_000);
		await robot.connect();
		await h.clock.advance(60_000);
		expect(await follower.events()).toEqual([]);
		const wentAt = h.clock.now();
		await robot.vanish();
		await h.clock.advance(47_000);
		expect(await follower.done()).toMatchObject([
			{ type: 'robot.lost', data: { ...about, awaySince: wentAt } },
		]);
		await h.clock.advance(600_000);
		await robot.connect();
		await h.clock.advance(2_000);
		expect(await follower.done()).toMatchObject([
			{ type: 'robot.back', data: { ...about, awaySince: wentAt } },
		]);
	});

	test('has time to come back after a start of the service, and is told of once when it does not', async () => {
		const stays = await h.robot('stays');
		await h.robot('goes');
		await h.clock.advance(2_000);
		const follower = await follow(presence);
		await h.restart();
		await h.clock.advance(80_000);
		await stays.reconnectable(() => h.engine).connect();
		await h.clock.advance(200_000);
		expect(await follower.data()).toMatchObject([{ name: 'goes', awaySince: expect.any(Number) }]);
		await h.restart();
		await stays.reconnectable(() => h.engine).connect();
		await h.clock.advance(200_000);
		expect(await follower.events()).toEqual([]);
	});

	test('is followed by name, id or label; and one that was removed is not lost', async () => {
		const r1 = await h.robot('r1', { labels: { site: 'berlin' } });
		const r2 = await h.robot('r2');
		const byName = await follow({ ...presence, robots: ['r1'] }, 'name');
		const byId = await follow({ ...presence, robots: [r2.robotId] }, 'id');
		const byLabel = await follow({ ...presence, labels: { site: 'berlin' } }, 'label');
		await h.clock.advance(100_000);
		for (const one of [byName, byId, byLabel]) await one.done();
		await r1.vanish();
		await r2.vanish();
		await h.clock.advance(10_000);
		await h.engine.removeRobot('r2', admin);
		await h.clock.advance(60_000);
		expect(await byName.data()).toMatchObject([{ name: 'r1' }]);
		expect(await byId.types()).toEqual([]);
		expect(await byLabel.data()).toMatchObject([{ name: 'r1' }]);
	});
});

test('a question of a job whose robot was removed is handed to who follows that by its name or labels', async () => {
	await (await h.robot('r1', { labels: { site: 'berlin' } })).vanish();
	const byName = await follow({ event: 'job.asks', robots: ['r1'] }, 'name');
	const byLabel = await follow({ event: 'job.asks', labels: { site: 'berlin' } }, 'label');
	const other = await follow({ event: 'job.asks', labels: { site: 'ulm' } }, 'other');
	const target = { robot: 'r1' };
	const jobId = await h.submit({ target, offline: { forMs: 60_000, then: 'ask' } });
	await h.engine.removeRobot('r1', admin);
	await h.clock.advance(2_000);
	expect(await byName.data()).toMatchObject([{ jobId }]);
	await h.restart();
	expect(await byLabel.data()).toMatchObject([{ jobId }]);
	expect(await other.data()).toEqual([]);
});

describe('a schedule', () => {
	const gone: EventFilter = { events: ['schedule.missed', 'schedule.skipped'] };
	const minutely = (more: object = {}) =>
		h.engine.putSchedule(
			's',
			{ name: 'Minutely', cron: '* * * * *', timezone: 'UTC', catchUpMs: 0, ...more } as never,
			admin,
		);

	test('whose times were missed is told of once, with how many', async () => {
		const follower = await follow(gone);
		await minutely();
		h.store.die();
		h.clock.jump(600_000);
		await h.restart();
		await h.clock.advance(2_000);
		expect(await follower.done()).toMatchObject([
			{
				type: 'schedule.missed',
				data: { scheduleId: 's', name: 'Minutely', state: 'missed', count: expect.any(Number) },
			},
		]);
	});

	test('whose run is skipped because the one before it runs is told of, to those who follow it', async () => {
		const follower = await follow({ ...gone, schedules: ['s'] });
		const other = await follow({ ...gone, schedules: ['t'] }, 'other');
		await h.robot('r1');
		await minutely({ overlap: 'skip', job: { kind: 'command', spec: { command: 'true' } } });
		await h.clock.advance(121_000);
		expect(await follower.done()).toMatchObject([
			{
				type: 'schedule.skipped',
				data: {
					scheduleId: 's',
					state: 'skipped',
					count: 1,
					reason: expect.stringContaining('overlap'),
				},
			},
		]);
		expect(await other.events()).toEqual([]);
	});
});
