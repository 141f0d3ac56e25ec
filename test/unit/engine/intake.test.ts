/** Whether new work comes in and waiting work goes out: a drain, a disk that runs full. */
import type { Disk } from '../../../dispatcher/engine/intake';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

const reserveBytes = 1_000;
/** Free room that the test sets; the reserve takes its share of it. */
class PlayedDisk implements Disk {
	free = 1e6;
	readonly reserve = {
		held: true,
		bytes: reserveBytes,
		hold: () => (this.reserve.held = this.free >= reserveBytes),
	};
	freeBytes = () => this.free;
	storeBytes = () => 0;
}

let disk: PlayedDisk;
let h: House;
beforeEach(async () => {
	disk = new PlayedDisk();
	h = await house({ disk });
});
afterEach(() => h.close());

const state = async (jobId: string) => (await h.engine.job(jobId)).state;
const level = async () => (await h.engine.service()).disk.level;

test('below the wanted free room new jobs are refused, what waits is given away, and with room again all is well', async () => {
	const waiting = await h.submit();
	disk.free = 999;
	await h.clock.advance(1_000);
	expect(await level()).toBe('low');
	expect(h.engine.readiness).toBe('short of disk');
	await expect(h.submit()).rejects.toMatchObject({
		code: 'store-full',
		details: { retryMs: 10_000 },
	});
	const robot = await h.robot('r1');
	expect(robot.last.job_id).toBe(waiting);
	await robot.end();
	expect(await state(waiting)).toBe('completed');
	await expect(h.engine.retry(waiting, admin)).rejects.toMatchObject({ code: 'store-full' });
	disk.free = 1e6;
	await h.clock.advance(1_000);
	expect(h.engine.readiness).toBe('ready');
	await h.submit();
});

test('with the reserve given up nothing is given away and no output is taken, but results are', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const running = await h.submit();
	await settled();
	await robot.accept();
	disk.free = 0;
	disk.reserve.held = false;
	await h.clock.advance(1_000);
	expect(await level()).toBe('full');
	const { job_id: jobId, epoch } = robot.last;
	const output = { jobId, epoch, stream: 'stdout', offset: 0, data: Buffer.from('hello') } as const;
	robot.session.output(output);
	await settled();
	expect(robot.outputAcks).toEqual([]);
	await robot.end();
	expect(await state(running)).toBe('completed');
	expect(robot.assigned).toHaveLength(1);
	// Room for the reserve alone is not room.
	disk.free = reserveBytes;
	await h.clock.advance(1_000);
	expect(await level()).toBe('full');
	disk.free = 2 * reserveBytes;
	await h.clock.advance(1_000);
	expect(await level()).toBe('ample');
	const next = await h.submit();
	await settled();
	expect(robot.last.job_id).toBe(next);
});

test('a drained service takes no jobs and gives none away; what runs ends, and work is taken again when asked', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const running = await h.submit();
	await settled();
	await robot.accept();
	const waiting = await h.submit({ notBefore: h.clock.now() + 500 });
	await settled();
	await h.engine.drain(admin);
	expect(h.engine.readiness).toBe('draining');
	await expect(h.submit()).rejects.toMatchObject({ code: 'draining', retry: true });
	await h.clock.advance(5_000);
	expect(await state(waiting)).toBe('queued');
	await robot.end();
	expect(await state(running)).toBe('completed');
	expect(robot.assigned).toHaveLength(1);
	// Robots that come meanwhile are welcome, and get nothing either.
	const other = await h.robot('r2');
	await h.clock.advance(5_000);
	expect(other.assigned).toEqual([]);
	expect((await h.engine.service()).attempts).toBe(0);
	await h.engine.takeWork(admin);
	await settled();
	expect(h.engine.readiness).toBe('ready');
	expect(robot.assigned.length + other.assigned.length).toBe(2);
});
