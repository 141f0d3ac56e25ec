/** Dead letters: what failed for good, until somebody has dealt with it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DeadLetterGroup } from '../../../protocol';
import { admin, exit, house, type House, type PlayedRobot, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let folder: string;
beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-dead-'));
	h = await house({ file: join(folder, 'store.db') });
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true });
});

const groups = async () => (await h.engine.deadLetters({ limit: 100 })).items;
const only = async (): Promise<DeadLetterGroup> => {
	const found = await groups();
	expect(found).toHaveLength(1);
	return found[0]!;
};

/** Jobs that failed on a robot, which then goes away. */
async function failures(
	count: number,
	message = (i: number) => `no order ${i}`,
): Promise<string[]> {
	const robot = await h.robot(`r${Math.random()}`, { slots: 50 });
	const ids: string[] = [];
	for (let i = 0; i < count; i += 1) ids.push(await h.submit());
	await settled();
	let ended = 0;
	while (ended < robot.assigned.length) {
		const given = robot.assigned.slice(ended);
		for (const assignment of given) {
			const result = { exit_code: 1, stderr: message(ended++) };
			robot.session.result(resultOf(assignment, { ...exit(1), result }));
		}
		await settled();
	}
	await robot.vanish();
	return ids;
}

test('jobs that fail alike are one group, and a success is none', async () => {
	const ids = await failures(30);
	const robot = await h.robot('good');
	await h.submit();
	await settled();
	await robot.end();
	expect(await only()).toMatchObject({
		kind: 'command',
		cause: 'exit_code',
		count: 30,
		message: expect.stringMatching(/^The command ended with exit code 1: no order \d+$/),
		jobIds: ids.slice(-5).reverse(),
	});
	const page = await h.engine.deadLetterJobs((await only()).fingerprint, { limit: 20 });
	expect(page.items.map(({ jobId }) => jobId)).toEqual(ids.slice(-20).reverse());
	const rest = await h.engine.deadLetterJobs((await only()).fingerprint, {
		limit: 20,
		cursor: page.cursor!,
	});
	expect(rest.items).toHaveLength(10);
	await expect(h.engine.deadLetterJobs('0000000000000000', { limit: 1 })).rejects.toMatchObject({
		code: 'no-such-dead-letter',
	});
});

test('groups are told with the largest first, then the latest, and when they began and ended', async () => {
	const began = h.clock.now();
	await failures(2, () => 'disk full');
	await h.clock.advance(5_000);
	await failures(3, () => 'no such host');
	await h.clock.advance(5_000);
	await failures(1, () => 'disk full');
	expect(await groups()).toMatchObject([
		{
			count: 3,
			message: expect.stringContaining('disk full'),
			firstAt: began,
			lastAt: began + 10_000,
		},
		{ count: 3, message: expect.stringContaining('no such host'), lastAt: began + 5_000 },
	]);
	await failures(1, () => 'no such host');
	expect((await groups()).map(({ count }) => count)).toEqual([4, 3]);
});

test('a queue time-out is a dead letter; what somebody decided is none', async () => {
	await h.submit({ timeouts: { queueMs: 1_000 } });
	await h.clock.advance(2_000);
	expect(await only()).toMatchObject({ cause: 'queue_timeout', count: 1 });
	const cancelled = await h.submit();
	await h.engine.cancel(cancelled, admin);
	const denied = await h.submit();
	await h.engine.moveJob(denied, 'failed', admin);
	expect((await h.engine.job(denied)).cause).toBe('denied');
	expect(await groups()).toHaveLength(1);
});

test('three losses and a refusal by all are dead letters', async () => {
	const robot = await h.robot('r1');
	const lost = await h.submit({ onLoss: { waitMs: 1, then: 'retry' } });
	for (let loss = 0; loss < 3; loss += 1) {
		await settled();
		await robot.accept();
		await robot.vanish();
		await h.clock.advance(100_000);
		await robot.connect();
	}
	expect(await h.engine.job(lost)).toMatchObject({ state: 'failed', cause: 'robot_lost' });
	const refused = await h.submit();
	await settled();
	await robot.reject('unsupported-kind', true);
	expect((await h.engine.job(refused)).cause).toBe('policy');
	expect((await groups()).map(({ cause }) => cause).sort()).toEqual(['policy', 'robot_lost']);
});

test('a preview counts and changes nothing', async () => {
	await failures(4);
	const { fingerprint } = await only();
	expect(await h.engine.replay({ fingerprint, dryRun: true }, admin)).toEqual({
		dryRun: true,
		matched: 4,
		changed: 4,
		skipped: 0,
		reasons: [],
		jobIds: expect.any(Array),
	});
	expect((await only()).count).toBe(4);
	expect((await h.engine.queueStats()).byState.queued).toBe(0);
});

test('a replay makes one new job of each dead letter and none of it twice', async () => {
	const ids = await failures(5);
	const { fingerprint } = await only();
	const [one, two] = await Promise.all([
		h.engine.replay({ fingerprint }, admin),
		h.engine.replay({ fingerprint }, admin),
	]);
	expect(one.changed + two.changed).toBe(5);
	expect(await groups()).toEqual([]);
	const { items } = await h.engine.jobs({ state: 'queued', limit: 100 });
	expect(items.map(({ retryOf }) => retryOf).sort()).toEqual([...ids].sort());
	const old = await h.engine.job(ids[0]!);
	expect(old).toMatchObject({ state: 'failed', dead: null });
	expect(items.find(({ retryOf }) => retryOf === ids[0])!.jobId).toBe(old.retriedAs);
	expect((await h.engine.timeline(ids[0]!)).at(-1)).toMatchObject({
		from: 'failed',
		to: 'failed',
		reason: `retried as ${old.retriedAs}`,
	});
	// What a replay leaves behind is not replayed by the next one.
	expect(await h.engine.replay({ all: true }, admin)).toMatchObject({ matched: 0, changed: 0 });
});

test('jobs that fail again while they are replayed are left for the next replay', async () => {
	await failures(3);
	const robot = await h.robot('bad');
	const failing = failAll(robot);
	const replayed = await h.engine.replay({ all: true }, admin);
	expect(replayed.changed).toBe(3);
	await failing();
	expect((await only()).count).toBe(3);
});

/** Fails what the robot is given from now on; the function waits until nothing more comes. */
function failAll(robot: PlayedRobot): () => Promise<void> {
	return async () => {
		for (let done = 0; done < robot.assigned.length; done += 1) {
			await robot.end(
				{ ...exit(1), result: { exit_code: 1, stderr: `no order ${done}` } },
				robot.assigned[done],
			);
		}
	};
}

test('a replay to other robots waits for those', async () => {
	const [id] = await failures(1);
	await h.engine.replay({ jobIds: [id!], target: { labels: { os: 'linux' } } }, admin);
	const { items } = await h.engine.jobs({ state: 'queued', limit: 1 });
	expect(items[0]).toMatchObject({ retryOf: id, target: { labels: { os: 'linux' } } });
	await expect(
		h.engine.replay({ all: true, target: { robot: 'nobody' } }, admin),
	).rejects.toMatchObject({ code: 'unknown-robot' });
});

test('ids that are no dead letters are skipped with the reason', async () => {
	const [id] = await failures(1);
	const alive = await h.submit();
	const answer = await h.engine.replay({ jobIds: [id!, alive, 'nobody', id!] }, admin);
	expect(answer).toMatchObject({ changed: 1, skipped: 2 });
	expect(answer.reasons).toEqual(
		expect.arrayContaining([
			{ reason: 'it is no dead letter any more', count: 1 },
			{ reason: 'no such job', count: 1 },
		]),
	);
});

test('exactly one way to say which', async () => {
	for (const request of [{}, { all: true as const, jobIds: ['x'] }]) {
		await expect(h.engine.dismiss(request, admin)).rejects.toMatchObject({ code: 'bad-field' });
	}
});

test('dismissed dead letters leave the list and stay as they ended', async () => {
	const [first] = await failures(3);
	expect(await h.engine.dismiss({ jobIds: [first!] }, admin)).toMatchObject({ changed: 1 });
	expect((await only()).count).toBe(2);
	expect(await h.engine.dismiss({ all: true }, admin)).toMatchObject({ matched: 2, changed: 2 });
	expect(await groups()).toEqual([]);
	expect(await h.engine.job(first!)).toMatchObject({
		state: 'failed',
		dead: null,
		retriedAs: null,
	});
	expect((await h.engine.timeline(first!)).at(-1)).toMatchObject({
		reason: 'dismissed',
		by: 'key:test',
	});
});

test('a job that is retried by hand is no dead letter any more, and may be retried again', async () => {
	const [id] = await failures(1);
	const first = await h.engine.retry(id!, admin);
	expect(await groups()).toEqual([]);
	expect((await h.engine.job(id!)).retriedAs).toBe(first.jobId);
	await h.engine.cancel(first.jobId, admin);
	const second = await h.engine.retry(id!, admin);
	expect(second.jobId).not.toBe(first.jobId);
	expect((await h.engine.job(id!)).retriedAs).toBe(second.jobId);
});

test('a replay goes on behind its limit where the call before ended', async () => {
	const ids = await failures(7);
	let cursor: string | undefined;
	const sizes: number[] = [];
	do {
		const answer = await h.engine.replay({ all: true, limit: 3, ...(cursor && { cursor }) }, admin);
		sizes.push(answer.changed);
		({ cursor } = answer);
	} while (cursor !== undefined);
	expect(sizes).toEqual([3, 3, 1]);
	const { items } = await h.engine.jobs({ state: 'queued', limit: 100 });
	expect(items.map(({ retryOf }) => retryOf).sort()).toEqual([...ids].sort());
	await expect(h.engine.replay({ all: true, cursor: 'rubbish' }, admin)).rejects.toMatchObject({
		code: 'bad-field',
	});
});

test('killed at any moment of a replay, each dead letter is either still there or is one new job', async () => {
	const ids = await failures(60);
	for (let kill = 0; kill < 45; kill += 1) {
		// Whoever asked is never answered when the service dies first.
		void h.engine.replay({ all: true, limit: 7 }, admin).catch(() => undefined);
		for (let i = 0; i < kill % 9; i += 1) await new Promise((resolve) => setImmediate(resolve));
		await h.restart();
		const dead = await h.engine.jobs({ dead: true, limit: 1_000 });
		const { items } = await h.engine.jobs({ state: 'queued', limit: 1_000 });
		const both = [...dead.items.map(({ jobId }) => jobId), ...items.map(({ retryOf }) => retryOf!)];
		expect(both.sort()).toEqual([...ids].sort());
	}
	await h.engine.replay({ all: true }, admin);
	expect(await groups()).toEqual([]);
	const { items } = await h.engine.jobs({ state: 'queued', limit: 1_000 });
	expect(items.map(({ retryOf }) => retryOf).sort()).toEqual([...ids].sort());
});
