/** Schedules fire once for each planned time, into durable consumers. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ScheduleDue } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let folder: string;

beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-schedules-'));
	h = await house({ file: join(folder, 'store.db') });
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true });
});

const everyMinute = { cron: '* * * * *' };
const follow = async (from: 'now' | 'start' = 'now') =>
	h.engine.subscribe('consumer', { filter: { scheduleId: 's' }, from }, admin);
const plannedTimes = async (epoch: number) =>
	(await due(epoch)).map(({ plannedAt }) => new Date(plannedAt).toISOString().slice(11, 19));
const due = async (epoch: number) =>
	(await h.engine.events('consumer', epoch, admin, 0)).map(({ data }) => data as ScheduleDue);

test('a schedule fires at its planned times, and each event stays until it is acknowledged', async () => {
	await h.engine.putSchedule('s', everyMinute, admin);
	const { epoch } = await follow();
	await h.clock.advance(121_000);
	const events = await h.engine.events('consumer', epoch, admin, 0);
	expect(await plannedTimes(epoch)).toEqual(['00:01:00', '00:02:00']);
	expect(await plannedTimes(epoch)).toEqual(['00:01:00', '00:02:00']);
	await h.engine.acknowledge('consumer', epoch, events[0]!.cursor, admin);
	expect(await plannedTimes(epoch)).toEqual(['00:02:00']);
});

test('waiting for events answers with the first', async () => {
	await h.engine.putSchedule('s', everyMinute, admin);
	const { epoch } = await follow();
	const waiting = h.engine.events('consumer', epoch, admin, 90_000);
	await settled();
	await h.clock.advance(61_000);
	expect(await waiting).toHaveLength(1);
});

test('whoever takes a subscription over goes on where the last one was, and shuts it out', async () => {
	await h.engine.putSchedule('s', everyMinute, admin);
	const first = await follow();
	await h.clock.advance(61_000);
	const waiting = h.engine.events('consumer', first.epoch, admin, 30_000);
	const second = await follow();
	expect(await plannedTimes(second.epoch)).toEqual(['00:01:00']);
	await waiting.catch(() => undefined);
	await expect(h.engine.events('consumer', first.epoch, admin, 0)).rejects.toMatchObject({
		code: 'stale-epoch',
	});
	await expect(h.engine.acknowledge('consumer', first.epoch, 1, admin)).rejects.toMatchObject({
		code: 'stale-epoch',
	});
});

test('the same definition put again does not start the clock anew', async () => {
	const before = await h.engine.putSchedule('s', { cron: '0 * * * *' }, admin);
	await h.clock.advance(30 * 60_000);
	expect((await h.engine.putSchedule('s', { cron: '0 * * * *' }, admin)).nextRunAt).toBe(
		before.nextRunAt,
	);
	const changed = await h.engine.putSchedule('s', { cron: '45 * * * *' }, admin);
	expect(new Date(changed.nextRunAt!).getUTCMinutes()).toBe(45);
});

test('a service that was away makes up the last occurrence only, and only a young one', async () => {
	await h.engine.putSchedule('s', everyMinute, admin);
	const { epoch } = await follow();
	await h.clock.advance(61_000);
	h.clock.jump(10.5 * 60_000);
	await h.restart();
	await h.clock.advance(2_000);
	expect(await plannedTimes(epoch)).toEqual(['00:01:00', '00:11:00']);
	expect((await due(epoch)).map(({ late }) => late)).toEqual([false, true]);
	await h.engine.putSchedule('s', { cron: '0 6 * * *' }, admin);
	h.clock.jump(26 * 3_600_000);
	await h.restart();
	await h.clock.advance(2_000);
	expect(await plannedTimes(epoch)).toHaveLength(2);
});

test('a schedule does not fire the same planned time again after a restart', async () => {
	await h.engine.putSchedule('s', everyMinute, admin);
	const { epoch } = await follow();
	await h.clock.advance(60_500);
	await h.restart();
	await h.clock.advance(3_000);
	expect(await plannedTimes(epoch)).toEqual(['00:01:00']);
});

test('a paused schedule does not fire, a resumed one fires from then on', async () => {
	await h.engine.putSchedule('s', everyMinute, admin);
	const { epoch } = await follow();
	await h.engine.pauseSchedule('s', admin);
	await h.clock.advance(180_000);
	expect(await plannedTimes(epoch)).toEqual([]);
	await h.engine.resumeSchedule('s', admin);
	await h.clock.advance(61_000);
	expect(await plannedTimes(epoch)).toHaveLength(1);
});

test('a wrong cron expression or zone is refused with the field that is wrong', async () => {
	const put = (cron: string, timezone = 'UTC') =>
		h.engine.putSchedule('x', { cron, timezone }, admin);
	await expect(put('* * *')).rejects.toThrow('it has 3 fields');
	await expect(put('0 25 * * *')).rejects.toThrow('hour "25" is not valid');
	await expect(put('0 9 * * 1-9')).rejects.toThrow('day of week "1-9" is not valid');
	await expect(put('0 9 * * *', 'Mars/Olympus')).rejects.toMatchObject({ code: 'bad-timezone' });
});
