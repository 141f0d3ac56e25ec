/** Jobs that go out in batches, in a real engine: canaries, thresholds, pauses, people, and deaths of the service. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Job, LiveMessage, Rollout, Submit } from '../../../protocol';
import { Problem } from '../../../protocol';
import {
	admin,
	exit,
	heldAs,
	house,
	type House,
	type PlayedRobot,
	resultOf,
} from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
const folders: string[] = [];
beforeEach(async () => {
	h = await house();
});
afterEach(async () => {
	await h.close();
	for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** So many, in the order in which they go out. */
async function robots(count: number): Promise<PlayedRobot[]> {
	const all = [];
	for (let i = 0; i < count; i += 1) all.push(await h.robot(`r${i}`));
	return all;
}
const rollOut = async (rollout: Rollout, more: Partial<Submit> = {}) => {
	const id = await h.submit({ target: { mode: 'all' }, rollout, ...more });
	await settled();
	return id;
};
const job = (id: string) => h.engine.job(id);
/** State of each child, by batch, in the order in which they go out. */
const standing = async (id: string) => {
	const { items } = await h.engine.cells(id, { limit: 1_000 });
	return items.map(({ batch, state }) => `${batch} ${state}`);
};
const got = (all: PlayedRobot[]) => all.map(({ assigned }) => assigned.length).join('');
const childOf = async (id: string, robot: PlayedRobot) =>
	(await h.engine.cells(id, { limit: 1_000 })).items.find(({ cell }) => cell === robot.robotId)!
		.jobId;
const refusal = async (more: Partial<Submit>) => {
	const submit = { kind: 'command', spec: { command: 'true' }, ...more };
	const [answer] = await h.engine.submit([submit], admin);
	return answer instanceof Problem ? { code: answer.code, text: answer.message } : answer;
};
/** Ends whatever they hold. */
const endAll = async (all: PlayedRobot[], how?: ReturnType<typeof exit>) => {
	for (const robot of all) await robot.end(how);
};

describe('batches', () => {
	test('the canary goes first and alone, then batch after batch, each when the one before is done', async () => {
		const all = await robots(6);
		const id = await rollOut({ batch: 2, canary: 1 });
		expect(got(all)).toBe('100000');
		expect(await standing(id)).toEqual([
			'1 dispatched',
			'2 pending',
			'2 pending',
			'3 pending',
			'3 pending',
			'4 pending',
		]);
		expect(await job(id)).toMatchObject({
			state: 'running',
			message: 'batch 1 of 4',
			rolledOut: {
				state: 'running',
				batches: [1, 2, 2, 1],
				batch: 1,
				maxFailures: 0,
				reason: null,
			},
			rollout: { batch: 2, canary: 1 },
			children: { total: 6, pending: 5, dispatched: 1 },
		});
		await all[0]!.end();
		expect(got(all)).toBe('111000');
		await all[2]!.end();
		expect(got(all)).toBe('111000');
		await all[1]!.end();
		expect(got(all)).toBe('111110');
		await endAll(all.slice(3, 5));
		expect(got(all)).toBe('111111');
		await all[5]!.end();
		const done = await job(id);
		expect(done).toMatchObject({
			state: 'completed',
			children: { total: 6, completed: 6 },
			rolledOut: { state: 'over', batch: 4 },
		});
		expect(
			(done.result!.outputs['cells'] as { batch: number }[]).map(({ batch }) => batch),
		).toEqual(expect.arrayContaining([1, 2, 3, 4]));
		const told = (await h.engine.timeline(id)).map(({ reason }) => reason);
		expect(told).toEqual([
			'submitted',
			'started with 6 children',
			'batch 1 of 4',
			'batch 2 of 4',
			'batch 3 of 4',
			'batch 4 of 4',
			'all children completed',
		]);
	});

	test('why says for which batch a child waits, and which one is under way', async () => {
		const all = await robots(3);
		const id = await rollOut({ batch: 1 });
		expect(await h.engine.why(await childOf(id, all[2]!))).toEqual({
			text: 'The job waits for batch 3 of 3; batch 1 of 3 is under way.',
		});
		expect(await h.engine.why(id)).toEqual({
			text: 'The job waits for 3 of its 3 children: 2 pending, 1 dispatched. Batch 1 of 3 is under way.',
		});
	});

	test('a share is of all robots, and who comes later gets none', async () => {
		const all = await robots(8);
		const id = await rollOut({ batch: '25%' });
		const late = await h.robot('late');
		expect(got(all)).toBe('11000000');
		for (let i = 0; i < 8; i += 2) await endAll(all.slice(i, i + 2));
		expect((await job(id)).state).toBe('completed');
		expect(late.assigned).toEqual([]);
	});

	test('within a batch one starts after the other', async () => {
		const all = await robots(4);
		const id = await rollOut({ batch: 3, staggerMs: 10_000 });
		expect(got(all)).toBe('1000');
		await h.clock.advance(10_500);
		expect(got(all)).toBe('1100');
		await endAll(all.slice(0, 2));
		await h.clock.advance(5_000);
		expect(got(all)).toBe('1100');
		expect(await standing(id)).toEqual(['1 completed', '1 completed', '1 pending', '2 pending']);
		await h.clock.advance(5_000);
		await all[2]!.end();
		expect(got(all)).toBe('1111');
	});

	test('a child that is tried again keeps the next batch back', async () => {
		const all = await robots(2);
		await rollOut({ batch: 1 });
		await all[0]!.end(exit(75));
		expect(got(all)).toBe('10');
		await h.clock.advance(2_000);
		expect(got(all)).toBe('20');
		await all[0]!.end();
		expect(got(all)).toBe('21');
	});

	test('a child of the next batch whose robot is away is waited for, from when its batch goes', async () => {
		const all = await robots(3);
		await all[1]!.vanish();
		const id = await rollOut({ batch: 1, maxFailures: 1 }, { timeouts: { queueMs: 60_000 } });
		await h.clock.advance(90_000);
		expect(await standing(id)).toEqual(['1 dispatched', '2 pending', '3 pending']);
		await all[0]!.end();
		await h.clock.advance(50_000);
		// Who is here goes before who is away.
		expect(await standing(id)).toEqual(['1 completed', '2 dispatched', '3 pending']);
		await all[2]!.end();
		await h.clock.advance(59_000);
		expect(await standing(id)).toEqual(['1 completed', '2 completed', '3 queued']);
		await h.clock.advance(2_000);
		expect(await job(id)).toMatchObject({
			state: 'failed',
			children: { timeout: 1, completed: 2 },
		});
	});

	test('the time in the queue is said as it was given, and another try has all of it', async () => {
		const all = await robots(2);
		await all[1]!.vanish();
		const id = await rollOut({ batch: 1 }, { timeouts: { queueMs: 60_000 } });
		const away = await childOf(id, all[1]!);
		await h.clock.advance(90_000);
		// Kept back again before it could start, and let go once more.
		await all[0]!.end();
		await h.clock.advance(30_000);
		await h.engine.pauseRollout(id, admin);
		await h.clock.advance(90_000);
		expect(await standing(id)).toEqual(['1 completed', '2 pending']);
		await h.engine.resumeRollout(id, {}, admin);
		await h.clock.advance(59_000);
		expect((await job(away)).state).toBe('queued');
		await h.clock.advance(2_000);
		const over = await job(away);
		expect(over).toMatchObject({ state: 'timeout', cause: 'queue_timeout' });
		expect(over.error!.message).toMatch(/^No robot took the job within 60000 ms;/);
		const { jobId } = await h.engine.retry(away, admin);
		await h.clock.advance(59_000);
		expect((await job(jobId)).state).toBe('queued');
		await h.clock.advance(2_000);
		expect((await job(jobId)).state).toBe('timeout');
	});

	test('another try of a child that was never let go has its time in the queue', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 }, { timeouts: { queueMs: 60_000 } });
		const kept = await childOf(id, all[1]!);
		await h.engine.cancel(kept, admin);
		await all[1]!.vanish();
		const { jobId } = await h.engine.retry(kept, admin);
		await h.clock.advance(61_000);
		expect(await job(jobId)).toMatchObject({ state: 'timeout', cause: 'queue_timeout' });
	});

	test('a batch whose robot stays away is over when its time has passed, and the next one goes', async () => {
		const all = await robots(2);
		await h.clock.advance(90_000);
		await all[0]!.vanish();
		const offline = { forMs: 600_000 };
		const id = await rollOut({ batch: 1, maxFailures: 1 }, { offline });
		const here = all[1]!;
		// Who is here goes before who is away.
		await here.end();
		await h.clock.advance(599_000);
		expect(await standing(id)).toEqual(['1 completed', '2 queued']);
		await h.clock.advance(2_001);
		expect(await job(id)).toMatchObject({
			state: 'failed',
			children: { completed: 1, timeout: 1 },
		});
	});

	test('a child that goes later has all of its time with its robot away, from then on', async () => {
		const all = await robots(3);
		await h.clock.advance(90_000);
		for (const robot of all.slice(1)) await robot.vanish();
		const rollout = { batch: 2, maxFailures: 2, staggerMs: 120_000 };
		const id = await rollOut(rollout, { offline: { forMs: 60_000 } });
		await h.clock.advance(150_000);
		await all[0]!.end();
		expect(await standing(id)).toEqual(['1 completed', '1 queued', '2 pending']);
		await h.clock.advance(29_000);
		expect(await standing(id)).toEqual(['1 completed', '1 queued', '2 pending']);
		await h.clock.advance(2_001);
		expect(await standing(id)).toEqual(['1 completed', '1 timeout', '2 queued']);
		await h.clock.advance(57_000);
		expect(await standing(id)).toEqual(['1 completed', '1 timeout', '2 queued']);
		await h.clock.advance(4_001);
		expect(await standing(id)).toEqual(['1 completed', '1 timeout', '2 timeout']);
	});

	test('a deadline ends what was not let go as well, and so the job', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 }, { timeouts: { deadlineAt: h.clock.now() + 5_000 } });
		await all[0]!.accept();
		await h.clock.advance(6_000);
		expect(await standing(id)).toEqual(['1 running', '2 timeout']);
		await all[0]!.end({ state: 'timeout', cause: 'deadline' });
		expect(await job(id)).toMatchObject({ state: 'failed', children: { timeout: 2 } });
	});

	test('one that is not eligible yet goes out when its time has come', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 }, { notBefore: h.clock.now() + 60_000 });
		expect(await job(id)).toMatchObject({ state: 'pending', rollout: { batch: 1 } });
		expect((await job(id)).rolledOut).toBeUndefined();
		await h.clock.advance(61_000);
		expect(got(all)).toBe('10');
	});

	test('one that has not begun cannot be paused, and says how it is kept back', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 }, { notBefore: h.clock.now() + 60_000 });
		await expect(h.engine.pauseRollout(id, admin)).rejects.toMatchObject({
			code: 'rollout-not-begun',
		});
		await h.engine.change(id, { hold: true }, admin);
		await h.clock.advance(61_000);
		expect(got(all)).toBe('00');
	});

	test('all that is told live, and the queue is counted right', async () => {
		const all = await robots(3);
		const events: Exclude<LiveMessage, { event: 'snapshot' }>[] = [];
		const take = (messages: readonly { text: string }[]) => {
			for (const { text } of messages) {
				const message = JSON.parse(text) as LiveMessage;
				if (message.event !== 'snapshot') events.push(message);
			}
		};
		const ready = () => Promise.resolve(true);
		const leave = await h.engine.look('jobs:default', undefined, { take, ready });
		const id = await rollOut({ batch: 1 });
		const second = await childOf(id, all[1]!);
		expect((await h.engine.queueStats()).byState).toMatchObject({ pending: 2, dispatched: 1 });
		await all[0]!.end();
		await h.clock.advance(100);
		expect((await h.engine.queueStats()).byState).toMatchObject({ pending: 1, dispatched: 1 });
		expect(events.map(({ data }) => data)).toEqual(
			expect.arrayContaining([
				{ jobId: id, message: 'batch 1 of 3' },
				{ jobId: id, message: 'batch 2 of 3' },
				{ jobId: second, state: 'queued' },
			]),
		);
		leave();
	});
});

describe('a threshold', () => {
	test('one failure more than may be stops it: what runs ends, the rest waits for a person', async () => {
		const all = await robots(8);
		const id = await rollOut({ batch: 4, maxFailures: 1 });
		await all[0]!.end(exit(1));
		expect((await job(id)).rolledOut).toMatchObject({ state: 'running' });
		await all[1]!.end(exit(1));
		const stopped = {
			state: 'running',
			message: 'stopped after 2 of 8 failed; resume or cancel',
			rolledOut: { state: 'stopped', batch: 1, reason: 'stopped after 2 of 8 failed' },
		};
		expect(await job(id)).toMatchObject(stopped);
		await endAll(all.slice(2, 4));
		await h.clock.advance(3_600_000);
		expect(got(all)).toBe('11110000');
		expect(await job(id)).toMatchObject({ ...stopped, children: { completed: 2, failed: 2 } });
		const last = await childOf(id, all[7]!);
		expect((await h.engine.why(last)).text).toBe(
			`The job waits for batch 2 of 2; job ${id} is stopped after 2 of 8 failed. Look at it, and resume it with: robot-fleet jobs resume ${id}, or end it with: robot-fleet jobs cancel ${id}.`,
		);
		expect((await h.engine.why(id)).text).toMatch(
			/ It is stopped after 2 of 8 failed; resume it with/,
		);
	});

	test('resumed it goes on with the rest; the failures that were seen count no more', async () => {
		const all = await robots(6);
		const id = await rollOut({ batch: 2, maxFailures: 1 });
		await endAll(all.slice(0, 2), exit(1));
		expect(got(all)).toBe('110000');
		expect(await h.engine.resumeRollout(id, {}, admin)).toMatchObject({
			message: 'batch 2 of 3',
			rolledOut: { state: 'running', batch: 2 },
		});
		await settled();
		expect(got(all)).toBe('111100');
		await all[2]!.end(exit(1));
		await all[3]!.end();
		expect(got(all)).toBe('111111');
		await endAll(all.slice(4), exit(1));
		// All of it has started: nothing is left to be stopped.
		expect(await job(id)).toMatchObject({
			state: 'failed',
			children: { completed: 1, failed: 5 },
			rolledOut: { state: 'over', reason: null },
		});
	});

	test('a canary must not fail, whatever may fail later', async () => {
		const all = await robots(4);
		const id = await rollOut({ batch: 3, canary: 1, maxFailures: '100%' });
		await all[0]!.end(exit(1));
		expect((await job(id)).rolledOut).toMatchObject({ state: 'stopped', batch: 1 });
		await h.engine.resumeRollout(id, {}, admin);
		await settled();
		expect(got(all)).toBe('1111');
		await endAll(all.slice(1), exit(1));
		expect((await job(id)).state).toBe('failed');
	});

	test('what of the batch has not started is kept back too, also when its robot comes', async () => {
		const all = await robots(3);
		await all[2]!.vanish();
		const id = await rollOut({ batch: 3 });
		expect(await standing(id)).toEqual(['1 dispatched', '1 dispatched', '1 queued']);
		await all[0]!.end(exit(1));
		expect(await standing(id)).toEqual(['1 failed', '1 dispatched', '1 pending']);
		await all[2]!.connect();
		await h.clock.advance(120_000);
		expect(got(all)).toBe('110');
		expect((await h.engine.queueStats()).byState).toMatchObject({ pending: 1, queued: 0 });
		await all[1]!.end();
		expect((await job(id)).state).toBe('running');
		await h.engine.resumeRollout(id, {}, admin);
		await settled();
		expect(got(all)).toBe('111');
		await all[2]!.end();
		expect(await job(id)).toMatchObject({ state: 'failed', children: { completed: 2, failed: 1 } });
	});

	test('one that was with its robot and did not start there does not start elsewhere in time either', async () => {
		const all = await robots(3);
		const id = await rollOut({ batch: 2 });
		await all[0]!.end(exit(1));
		await all[1]!.reject('paused');
		expect(await standing(id)).toEqual(['1 failed', '1 pending', '2 pending']);
		await h.clock.advance(60_000);
		expect(got(all)).toBe('110');
		await h.engine.resumeRollout(id, {}, admin);
		await settled();
		expect(got(all)).toBe('120');
	});

	test('a child that somebody cancels is no failure', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 });
		await h.engine.cancel(await childOf(id, all[0]!), admin);
		await all[0]!.end({ state: 'cancelled', cause: 'cancelled' });
		expect(got(all)).toBe('11');
	});

	test('a batch whose children were all cancelled before it went is passed over', async () => {
		const all = await robots(3);
		const id = await rollOut({ batch: 1 });
		await h.engine.cancel(await childOf(id, all[1]!), admin);
		await all[0]!.end();
		expect(got(all)).toBe('101');
		expect((await job(id)).rolledOut).toMatchObject({ batch: 3 });
		await all[2]!.end();
		expect((await job(id)).state).toBe('failed');
	});
});

describe('people', () => {
	test('a pause between batches waits for a person, and a call that is repeated lets one batch go', async () => {
		const all = await robots(3);
		const id = await rollOut({ batch: 1, pauseBetween: true });
		await all[0]!.end();
		await h.clock.advance(3_600_000);
		expect(got(all)).toBe('100');
		expect(await job(id)).toMatchObject({
			message: 'paused: batch 1 of 3 is done; resume or cancel',
			rolledOut: { state: 'paused', batch: 1 },
		});
		await h.engine.resumeRollout(id, { batch: 2 }, admin);
		await h.engine.resumeRollout(id, { batch: 2 }, admin);
		await settled();
		expect(got(all)).toBe('110');
		await all[1]!.end();
		// The same call once more, late: its batch went long ago.
		await h.engine.resumeRollout(id, { batch: 2 }, admin);
		await settled();
		expect(got(all)).toBe('110');
		await h.engine.resumeRollout(id, {}, admin);
		await settled();
		await all[2]!.end();
		expect((await job(id)).state).toBe('completed');
		expect((await h.engine.resumeRollout(id, {}, admin)).state).toBe('completed');
		const said = (await h.engine.timeline(id)).filter(({ by }) => by === 'key:test');
		expect(said.map(({ reason }) => reason)).toEqual(['submitted', 'batch 2 of 3', 'batch 3 of 3']);
	});

	test('a pause of so long goes by itself, and can be cut short', async () => {
		const all = await robots(3);
		const id = await rollOut({ batch: 1, pauseBetween: 60_000 });
		await all[0]!.end();
		await h.clock.advance(59_000);
		expect(got(all)).toBe('100');
		await h.clock.advance(1_500);
		expect(got(all)).toBe('110');
		await all[1]!.end();
		await h.engine.pauseRollout(id, admin);
		await h.clock.advance(120_000);
		expect(got(all)).toBe('110');
		await h.engine.resumeRollout(id, {}, admin);
		await settled();
		expect(got(all)).toBe('111');
	});

	test('paused by hand nothing more starts, of the batch under way either; resumed it goes on', async () => {
		const all = await robots(4);
		await all[1]!.vanish();
		const id = await rollOut({ batch: 3, staggerMs: 1_000 });
		await settled();
		const paused = await h.engine.pauseRollout(id, admin);
		expect(paused).toMatchObject({
			message: 'paused by test before batch 1 of 2; resume or cancel',
			rolledOut: { state: 'paused', reason: 'paused by test before batch 1 of 2' },
		});
		expect(await h.engine.pauseRollout(id, admin)).toEqual(paused);
		await all[1]!.connect();
		await h.clock.advance(60_000);
		expect(got(all)).toBe('1000');
		await all[0]!.end();
		expect((await job(id)).state).toBe('running');
		await h.engine.resumeRollout(id, {}, admin);
		await h.clock.advance(3_000);
		expect(await standing(id)).toEqual([
			'1 completed',
			'1 dispatched',
			'1 dispatched',
			'2 pending',
		]);
	});

	test('one that has all gone out, or goes out at once, cannot be paused', async () => {
		const all = await robots(1);
		const id = await rollOut({ batch: 1 });
		await all[0]!.accept();
		expect((await h.engine.pauseRollout(id, admin)).rolledOut).toMatchObject({ state: 'running' });
		const plain = await h.submit({ target: { mode: 'all' } });
		for (const act of [
			() => h.engine.pauseRollout(plain, admin),
			() => h.engine.resumeRollout(plain, {}, admin),
		]) {
			await expect(act()).rejects.toMatchObject({ code: 'no-rollout' });
		}
	});

	test('cancelled it lets nothing more go', async () => {
		const all = await robots(4);
		const id = await rollOut({ batch: 2 });
		await all[0]!.end();
		await h.engine.cancel(id, admin);
		expect(await standing(id)).toEqual([
			'1 completed',
			'1 dispatched',
			'2 cancelled',
			'2 cancelled',
		]);
		await h.engine.resumeRollout(id, {}, admin);
		await all[1]!.end({ state: 'cancelled', cause: 'cancelled' });
		expect(got(all)).toBe('1100');
		expect((await job(id)).state).toBe('cancelled');
	});

	test('a stopped one is cancelled like any other', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 });
		await all[0]!.end(exit(1));
		expect(await h.engine.cancel(id, admin)).toMatchObject({
			state: 'cancelled',
			children: { failed: 1, cancelled: 1 },
		});
	});

	test('no release, change or move by hand lets a child go before its batch', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 });
		const child = await childOf(id, all[1]!);
		await h.engine.change(child, { hold: true }, admin);
		await h.engine.change(child, { hold: false }, admin);
		await h.engine.change(child, { priority: 'critical' }, admin);
		await expect(h.engine.moveJob(child, 'queued', admin)).rejects.toMatchObject({
			code: 'waits-for-batch',
		});
		await h.clock.advance(20_000);
		expect(got(all)).toBe('10');
		await all[0]!.end();
		expect(got(all)).toBe('11');
	});

	test('a child that is held is let go by its batch, and goes when it is released', async () => {
		const all = await robots(2);
		const id = await rollOut({ batch: 1 });
		const child = await childOf(id, all[1]!);
		await h.engine.change(child, { hold: 'not now' }, admin);
		await all[0]!.end();
		expect(got(all)).toBe('10');
		expect(await job(child)).toMatchObject({ state: 'pending', hold: 'test: not now' });
		await h.engine.change(child, { hold: false }, admin);
		await settled();
		expect(got(all)).toBe('11');
	});

	test('run again where it failed it is a new job for those robots alone', async () => {
		const all = await robots(4);
		const id = await rollOut({ batch: 4, maxFailures: 4 }, { priority: 'high' });
		await endAll(all.slice(0, 2));
		await endAll(all.slice(2), exit(1));
		const again = await h.engine.retry(id, admin, { only: 'failed' });
		await settled();
		expect(again).toMatchObject({ retryOf: id, state: 'running' });
		expect(got(all)).toBe('1122');
		expect(await job(again.jobId)).toMatchObject({
			priority: 'high',
			rollout: { batch: 4 },
			children: { total: 2 },
		});
		await endAll(all.slice(2));
		await expect(h.engine.retry(again.jobId, admin, { only: 'failed' })).rejects.toMatchObject({
			code: 'nothing-failed',
		});
		const single = await h.submit({ target: { robot: 'r0' } });
		await settled();
		await all[0]!.end(exit(1));
		await expect(h.engine.retry(single, admin, { only: 'failed' })).rejects.toMatchObject({
			code: 'not-a-parent',
		});
	});
});

test('run again where it failed it goes without a robot that it excluded, and that was removed since', async () => {
	const all = await robots(3);
	const id = await h.submit({ target: { mode: 'all', exclude: ['r2'] } });
	await settled();
	await all[0]!.end();
	await all[1]!.end(exit(1));
	await h.engine.removeRobot('r2', admin);
	expect(await h.engine.retry(id, admin, { only: 'failed' })).toMatchObject({ retryOf: id });
	await settled();
	expect(got(all)).toBe('120');
});

describe('which robots', () => {
	test('those that are away are skipped on wish, and the result names them', async () => {
		const all = await robots(3);
		await all[1]!.vanish();
		const id = await h.submit({ target: { mode: 'all', away: 'skip' } });
		await settled();
		expect(got(all)).toBe('101');
		expect((await h.engine.cells(id, { limit: 10 })).skipped).toEqual([
			{ robotId: all[1]!.robotId, robot: 'r1' },
		]);
		await endAll([all[0]!, all[2]!]);
		expect((await job(id)).result!.outputs).toMatchObject({
			children: { total: 2, completed: 2 },
			skipped: [all[1]!.robotId],
		});
		expect(await refusal({ target: { mode: { count: 3 }, away: 'skip' } })).toEqual({
			code: 'too-few-here',
			text: '2 of the 3 robots that match (any robot) are connected, but target.mode asks for 3; leave target.away out to wait for the others.',
		});
	});

	test('one for each value of a label, the free one of several', async () => {
		const at = (site: string) => ({ labels: { site } });
		const berlin = await h.robot('b1', at('berlin'));
		await h.submit({ target: { robot: 'b1' } });
		const other = await h.robot('b2', at('berlin'));
		const rome = await h.robot('rome', at('rome'));
		const none = await h.robot('none');
		const id = await h.submit({ target: { mode: { perLabel: 'site' } } });
		await settled();
		expect([berlin, other, rome, none].map(({ assigned }) => assigned.length)).toEqual([
			1, 1, 1, 0,
		]);
		expect((await job(id)).children).toMatchObject({ total: 2 });
		expect(await refusal({ target: { mode: { perLabel: 'disk' } } })).toEqual({
			code: 'too-few-robots',
			text: '0 of 4 robots match (any robot), but target.mode asks for one for each value of the label disk; see what they offer with: robot-fleet robots list.',
		});
	});

	test('one for each group in a group', async () => {
		const all = await robots(4);
		await h.engine.putGroup('site', {}, admin);
		await h.engine.putGroup('hall-1', { parent: 'site', robots: ['r0', 'r1'] }, admin);
		await h.engine.putGroup('hall-2', { parent: 'site' }, admin);
		await h.engine.putGroup('row', { parent: 'hall-2', robots: ['r2'] }, admin);
		await h.engine.putGroup('empty', { parent: 'site' }, admin);
		const id = await h.submit({ target: { mode: { perGroup: 'site' } } });
		await settled();
		expect(got(all)).toBe('1010');
		expect((await job(id)).children).toMatchObject({ total: 2 });
		expect(await refusal({ target: { mode: { perGroup: 'nowhere' } } })).toMatchObject({
			code: 'no-such-group',
		});
	});

	test('exactly those that are named, once each', async () => {
		const all = await robots(3);
		await h.submit({ target: { mode: { robots: ['r2', all[0]!.robotId, 'r2'] } } });
		await settled();
		expect(got(all)).toBe('101');
		expect(await refusal({ target: { mode: { robots: ['r9'] } } })).toMatchObject({
			code: 'unknown-robot',
		});
		expect(
			await refusal({ target: { mode: { robots: ['r0'] }, labels: { site: 'rome' } } }),
		).toMatchObject({ code: 'too-few-robots' });
	});

	test('batches and away are of jobs for several robots', async () => {
		await robots(1);
		const say = 'is for jobs on several robots: give target.mode, as in "all" or {"count": 3}.';
		expect(await refusal({ rollout: { batch: 1 } })).toEqual({
			code: 'bad-field',
			text: `rollout: ${say}`,
		});
		expect(await refusal({ target: { away: 'skip' } })).toEqual({
			code: 'bad-field',
			text: `target.away: ${say}`,
		});
		const plain = await h.submit({});
		await expect(h.engine.cells(plain, { limit: 1 })).rejects.toMatchObject({
			code: 'not-a-parent',
		});
	});

	test('all cells are shown page by page, with the numbers of each batch', async () => {
		const all = await robots(5);
		const id = await rollOut({ batch: 2, maxFailures: 1 });
		await all[0]!.end(exit(3));
		await all[1]!.end();
		const first = await h.engine.cells(id, { limit: 3 });
		expect(first).toMatchObject({
			jobId: id,
			state: 'running',
			progress: 40,
			children: { total: 5, failed: 1, completed: 1, dispatched: 2, pending: 1 },
			rolledOut: { batch: 2, batches: [2, 2, 1] },
			batches: [
				{ batch: 1, children: { total: 2, failed: 1, completed: 1 } },
				{ batch: 2, children: { total: 2, dispatched: 2 } },
				{ batch: 3, children: { total: 1, pending: 1 } },
			],
			skipped: [],
		});
		expect(first.items[0]).toMatchObject({
			robot: 'r0',
			cell: all[0]!.robotId,
			state: 'failed',
			cause: 'exit_code',
			exitCode: 3,
			batch: 1,
		});
		const rest = await h.engine.cells(id, { limit: 3, cursor: first.cursor! });
		expect(rest.cursor).toBeUndefined();
		expect([...first.items, ...rest.items].map(({ robot }) => robot)).toEqual(
			all.map((_robot, i) => `r${i}`),
		);
	});
});

describe('a service that is killed', () => {
	async function onDisk(): Promise<void> {
		await h.close();
		const folder = mkdtempSync(join(tmpdir(), 'rf-rollouts-'));
		folders.push(folder);
		h = await house({ file: join(folder, 'store.db') });
	}

	test.each(['before', 'after'] as const)(
		'%s the commit that ends the last child of a batch lets the next one go once',
		async (moment) => {
			await onDisk();
			const all = await robots(4);
			const id = await rollOut({ batch: 2 });
			await all[0]!.end();
			const died = h.store.dieAt('settle', moment);
			all[1]!.session.result(resultOf(all[1]!.last));
			await died;
			await h.restart();
			const settledThen = moment === 'after';
			expect(await standing(id)).toEqual([
				'1 completed',
				settledThen ? '1 completed' : '1 dispatched',
				settledThen ? '2 queued' : '2 pending',
				settledThen ? '2 queued' : '2 pending',
			]);
			const held = heldAs('ended', all[1]!.last);
			await all[1]!.connect({ attempts: [held] });
			await all[1]!.end({}, all[1]!.last);
			// The same result once more opens nothing.
			await all[1]!.end({}, all[1]!.last);
			for (const robot of [all[0]!, all[2]!, all[3]!]) await robot.connect();
			expect(got(all)).toBe('1111');
			expect((await job(id)).rolledOut).toMatchObject({ batch: 2, state: 'running' });
			await endAll(all.slice(2));
			expect((await job(id)).state).toBe('completed');
			const opened = (await h.engine.timeline(id)).filter(({ reason }) => /^batch/.test(reason));
			expect(opened.map(({ reason }) => reason)).toEqual(['batch 1 of 2', 'batch 2 of 2']);
		},
	);

	test('at any moment of a stop and a resume goes on with them', async () => {
		await onDisk();
		const all = await robots(3);
		const id = await rollOut({ batch: 1 });
		await all[0]!.end(exit(1));
		await h.restart();
		for (const robot of all) await robot.connect();
		await h.clock.advance(3_600_000);
		expect(got(all)).toBe('100');
		expect((await job(id)).rolledOut).toMatchObject({ state: 'stopped' });
		const died = h.store.dieAt('resumeRollout', 'after');
		void h.engine.resumeRollout(id, { batch: 2 }, admin);
		await died;
		await h.restart();
		for (const robot of all) await robot.connect();
		// The caller got no answer, so it asks again.
		await h.engine.resumeRollout(id, { batch: 2 }, admin);
		await settled();
		expect(got(all)).toBe('110');
	});

	test('between two that start one after the other starts the second at its time', async () => {
		await onDisk();
		const all = await robots(2);
		await rollOut({ batch: 2, staggerMs: 30_000 });
		await h.restart();
		const [first] = all as [PlayedRobot];
		await first.connect({ attempts: [heldAs('running', first.last)] });
		await all[1]!.connect();
		await h.clock.advance(29_000);
		expect(got(all)).toBe('10');
		await h.clock.advance(2_000);
		expect(got(all)).toBe('11');
	});
});

test('a full disk at a step loses nothing: the result is said again, and then the batch goes', async () => {
	const all = await robots(2);
	const id = await rollOut({ batch: 1 });
	h.store.fullAt('settle', 0);
	await all[0]!.end();
	expect(got(all)).toBe('10');
	await all[0]!.end();
	expect(got(all)).toBe('11');
	await all[1]!.end();
	const done: Job = await job(id);
	expect(done.state).toBe('completed');
});
