/** What a key keeps in the memory of the service has an end: schedules, executions that wait, consumers. */
import { limits } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';

const other = { ...admin, keyId: 'other', name: 'other' };

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(async () => {
	jest.restoreAllMocks();
	await h.close();
});

const full = (what: string) => ({ code: 'key-full', details: { key: admin.name, what } });

test('schedules: one more than a key may have is refused, what is there changes, and others are not concerned', async () => {
	const most = jest.replaceProperty(limits as { maxSchedules: number }, 'maxSchedules', 2);
	const put = (id: string, by = admin) => h.engine.putSchedule(id, { cron: '0 * * * *' }, by);
	await put('a');
	await put('b');
	await expect(put('c')).rejects.toMatchObject(full('2 schedules'));
	await h.engine.pauseSchedule('a', admin);
	// As of a time when there was no such limit: none is added.
	most.replaceValue(1);
	await h.engine.changeSchedule('b', { cron: '15,30,45 * * * *' }, admin);
	most.replaceValue(2);
	await put('c', other);
	await h.engine.removeSchedule('a', admin);
	await put('d');
	await h.restart();
	await expect(put('e')).rejects.toMatchObject({ code: 'key-full' });
});

test('schedules: the jobs that they submit take no more room than a key may have', async () => {
	jest.replaceProperty(limits as { maxScheduleBytes: number }, 'maxScheduleBytes', 1024 * 1024);
	const job = { kind: 'command', spec: { command: 'true', args: ['x'.repeat(60_000)] } };
	const put = (id: string) => h.engine.putSchedule(id, { cron: '0 * * * *', job }, admin);
	let made = 0;
	await expect(
		(async () => {
			for (; made < 200; made += 1) await put(`s${made}`);
		})(),
	).rejects.toMatchObject(full('schedules of 1 MiB'));
	expect(made).toBe(17);
});

test('executions that wait: no more than a key may have at once, nor for more jobs', async () => {
	jest.replaceProperty(limits as { maxLiveWaits: number }, 'maxLiveWaits', 2);
	jest.replaceProperty(limits as { maxWaitedJobs: number }, 'maxWaitedJobs', 3);
	const jobs = [await h.submit(), await h.submit()];
	const wait = (jobIds: string[], by = admin) => h.engine.createWait({ jobIds }, by);
	const { waitId } = await wait(jobs);
	await expect(wait(jobs)).rejects.toMatchObject({
		code: 'queue-full',
		details: { what: 'executions for 3 jobs' },
	});
	await wait(jobs, other);
	await wait([jobs[0]!]);
	await h.restart();
	await expect(wait([jobs[0]!])).rejects.toMatchObject({
		code: 'queue-full',
		details: { what: '2 executions' },
	});
	await h.engine.closeWait(waitId);
	await wait(jobs);
});

test('executions that wait: one that is closed twice at the same time gives its room back once', async () => {
	jest.replaceProperty(limits as { maxLiveWaits: number }, 'maxLiveWaits', 2);
	const jobIds = [await h.submit()];
	const wait = async () => (await h.engine.createWait({ jobIds }, admin)).waitId;
	const waitId = await wait();
	await wait();
	await Promise.all([h.engine.closeWait(waitId), h.engine.closeWait(waitId)]);
	await wait();
	await expect(wait()).rejects.toMatchObject({ code: 'queue-full' });
});

test('consumers: one more than a key may have is refused, and those that are there are taken over', async () => {
	jest.replaceProperty(limits as { maxSubscriptions: number }, 'maxSubscriptions', 1);
	const filter = { event: 'job.ended' } as const;
	await h.engine.subscribe('a', { filter }, admin);
	await expect(h.engine.subscribe('b', { filter }, admin)).rejects.toMatchObject(
		full('1 consumers'),
	);
	await h.engine.subscribe('a', { filter }, admin);
	await h.engine.subscribe('b', { filter }, other);
});
