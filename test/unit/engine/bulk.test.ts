/** The same deed for all jobs that a filter finds. */
import type { BulkRequest, BulkResult, Cause, JobState } from '../../../protocol';
import type { BulkOrder, JobFilter } from '../../../dispatcher/engine';
import { admin, exit, house, type House, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const preview = (order: BulkOrder) => h.engine.bulk(order, admin);
/** As people do it: look first, then do it to what was seen. */
async function bulk(order: BulkOrder): Promise<BulkResult> {
	const { matched } = await preview(order);
	return h.engine.bulk({ ...order, expect: matched }, admin);
}
const submit = (count: number, more: Parameters<House['submit']>[0] = {}) =>
	Promise.all(Array.from({ length: count }, () => h.submit(more)));
const states = async (ids: string[]) =>
	(await Promise.all(ids.map((id) => h.engine.job(id)))).map(({ state }) => state);

test('without a count it is a preview, and a preview changes nothing', async () => {
	const ids = await submit(3);
	const order = { action: 'cancel', filter: { state: 'queued' } } as const;
	const seen = await preview(order);
	expect(seen).toEqual({
		dryRun: true,
		matched: 3,
		changed: 3,
		skipped: 0,
		reasons: [],
		jobIds: expect.any(Array),
	});
	expect([...seen.jobIds].sort()).toEqual([...ids].sort());
	expect(await states(ids)).toEqual(['queued', 'queued', 'queued']);
	expect(await h.engine.bulk({ ...order, expect: 3, dryRun: true }, admin)).toMatchObject({
		dryRun: true,
	});
	expect(await states(ids)).toEqual(['queued', 'queued', 'queued']);
	await expect(h.engine.bulk({ ...order, dryRun: false }, admin)).rejects.toThrow(
		'expect: is missing: ask for a preview first, and send the count it gives.',
	);
});

test('it is refused when far more match than were seen', async () => {
	const ids = await submit(30);
	await expect(
		h.engine.bulk({ action: 'cancel', filter: { kind: 'command' }, expect: 2 }, admin),
	).rejects.toMatchObject({ code: 'bulk-grown', details: { expect: 2, matched: 30 } });
	expect(new Set(await states(ids))).toEqual(new Set(['queued']));
});

test('cancel reaches waiting and running jobs and tells why it left others out', async () => {
	const robot = await h.robot('r1');
	const ended = await h.submit();
	await settled();
	await robot.end();
	const running = await h.submit();
	const waiting = await submit(5);
	await settled();
	const answer = await bulk({ action: 'cancel', filter: { kind: 'command' } });
	expect(answer).toMatchObject({
		matched: 7,
		changed: 6,
		skipped: 1,
		reasons: [{ reason: 'it is completed', count: 1 }],
	});
	expect(robot.cancels.map(({ jobId }) => jobId)).toEqual([running]);
	expect(new Set(await states(waiting))).toEqual(new Set(['cancelled']));
	expect(await states([ended])).toEqual(['completed']);
	expect(await bulk({ action: 'cancel', filter: { state: 'dispatched' } })).toMatchObject({
		changed: 0,
		reasons: [{ reason: 'its cancel is under way', count: 1 }],
	});
});

test('retry takes each failed job once, and completed ones only when they were asked for', async () => {
	const robot = await h.robot('r1');
	for (const ending of [exit(1), exit(2), {}]) {
		await h.submit();
		await settled();
		await robot.end(ending);
	}
	await robot.vanish();
	const retry = { action: 'retry', filter: { kind: 'command', createdBefore: 9e12 } } as const;
	const first = await bulk(retry);
	expect(first).toMatchObject({
		matched: 3,
		changed: 2,
		reasons: [{ reason: 'it completed', count: 1 }],
	});
	expect(first.retries).toHaveLength(2);
	const again = await bulk({ action: 'retry', filter: { state: 'failed' } });
	expect(again).toMatchObject({
		changed: 0,
		reasons: [{ reason: 'it was retried already', count: 2 }],
	});
	expect(
		await bulk({
			action: 'retry',
			filter: { state: 'completed' },
			target: { labels: { os: 'mac' } },
		}),
	).toMatchObject({
		changed: 1,
	});
	const { items } = await h.engine.jobs({ state: 'queued', limit: 10 });
	expect(items.map(({ target }) => target)).toEqual([{ labels: { os: 'mac' } }, {}, {}]);
	expect((await h.engine.deadLetters({ limit: 10 })).items).toEqual([]);
});

test('two retries of the same jobs at once make one of each', async () => {
	const robot = await h.robot('r1', { slots: 50 });
	await submit(20);
	await settled();
	await Promise.all(robot.assigned.map((job) => robot.end(exit(1), job)));
	await robot.vanish();
	const order = { action: 'retry', filter: { state: 'failed' }, expect: 20 } as const;
	const [a, b] = await Promise.all([h.engine.bulk(order, admin), h.engine.bulk(order, admin)]);
	expect(a.changed + b.changed).toBe(20);
	expect((await h.engine.queueStats()).byState.queued).toBe(20);
});

test('hold, release, retarget and priority do what they say', async () => {
	const ids = await submit(4, { shareKey: 'team-a' });
	const [other] = await submit(1, { shareKey: 'team-b' });
	const filter = { shareKey: 'team-a' };
	expect(await bulk({ action: 'hold', filter, reason: 'audit' })).toMatchObject({ changed: 4 });
	expect(await bulk({ action: 'hold', filter })).toMatchObject({
		changed: 0,
		reasons: [{ reason: 'it is so already', count: 4 }],
	});
	expect((await h.engine.job(ids[0]!)).hold).toBe('test: audit');
	expect(await bulk({ action: 'priority', filter, priority: 3 })).toMatchObject({ changed: 4 });
	expect(
		await bulk({ action: 'retarget', filter, target: { labels: { os: 'mac' } } }),
	).toMatchObject({
		changed: 4,
	});
	expect(await bulk({ action: 'release', filter: { kind: 'command' } })).toMatchObject({
		changed: 4,
		reasons: [{ reason: 'it is not held', count: 1 }],
	});
	const mac = await h.robot('mac', { labels: { os: 'mac' } });
	const seen = [];
	for (let i = 0; i < 5; i += 1) {
		await settled();
		seen.push(mac.last.job_id);
		await mac.end();
	}
	expect(seen).toEqual([...ids, other]);
});

test.each<[BulkRequest['action'], string]>([
	['retarget', 'target'],
	['priority', 'priority'],
])('%s says what it cannot do without', async (action, path) => {
	await expect(preview({ action, filter: { state: 'queued' } })).rejects.toMatchObject({
		code: 'bad-field',
		details: { path },
	});
});

test.each<JobState>(['queued', 'pending'])(
	'a call changes at most its limit of %s jobs, and the next goes on behind it',
	async (state) => {
		const ids = await submit(25, state === 'pending' ? { notBefore: h.clock.now() + 1e6 } : {});
		const filter = { state };
		let cursor: string | undefined;
		let changed = 0;
		for (let calls = 0; calls === 0 || cursor !== undefined; calls += 1) {
			const answer = await h.engine.bulk(
				// Each job moves in the very index that is walked.
				{
					action: 'priority',
					priority: 'low',
					filter,
					expect: 25,
					limit: 10,
					...(cursor && { cursor }),
				},
				admin,
			);
			expect(answer.changed).toBeLessThanOrEqual(10);
			changed += answer.changed;
			({ cursor } = answer);
			expect(calls).toBeLessThan(5);
		}
		expect(changed).toBe(25);
		const jobs = await Promise.all(ids.map((id) => h.engine.job(id)));
		expect(new Set(jobs.map(({ priority }) => priority))).toEqual(new Set(['low']));
	},
);

test('a cursor of a call for other jobs is refused by name', async () => {
	await submit(3);
	const change = { action: 'priority', priority: 'low', limit: 1 } as const;
	const { cursor } = await h.engine.bulk(
		{ ...change, filter: { state: 'queued' }, expect: 3 },
		admin,
	);
	for (const state of ['pending', 'failed'] as const) {
		const other = { ...change, filter: { state }, expect: 0, cursor: cursor! };
		await expect(h.engine.bulk(other, admin)).rejects.toMatchObject({
			code: 'bad-field',
			details: { path: 'cursor' },
		});
	}
});

test('so is one whose place has as many parts, but not such as these jobs have', async () => {
	const robot = await h.robot('r1');
	for (const id of await submit(2)) {
		await robot.end(exit(1));
		await settled();
		expect(await h.state(id)).toBe('failed');
	}
	const retry = { action: 'retry', limit: 1, filter: { dead: true }, expect: 2 } as const;
	const { cursor } = await h.engine.bulk(retry, admin);
	await submit(3, { notBefore: h.clock.now() + 60_000 });
	const cancel = { action: 'cancel', filter: { state: 'pending' }, expect: 3 } as const;
	await expect(h.engine.bulk({ ...cancel, cursor: cursor! }, admin)).rejects.toMatchObject({
		details: { path: 'cursor' },
	});
});

test('jobs keep flowing while many are changed', async () => {
	await submit(3_000, { target: { labels: { os: 'mac' } } });
	const robot = await h.robot('r1');
	const bulking = bulk({ action: 'priority', filter: { state: 'queued' }, priority: 'high' });
	let done = false;
	void bulking.then(() => (done = true));
	let through = 0;
	for (; !done; through += 1) {
		const id = await h.submit();
		expect(robot.last.job_id).toBe(id);
		robot.session.result(resultOf(robot.last));
		await h.engine.job(id, 1_000);
	}
	expect((await bulking).changed).toBeGreaterThanOrEqual(3_000);
	expect(through).toBeGreaterThan(3);
});

test('a list finds by every filter, alone and together, with a cursor', async () => {
	const robot = await h.robot('r1');
	const fail = async (more: Parameters<House['submit']>[0]) => {
		const id = await h.submit(more);
		await settled();
		await robot.end({ ...exit(1), result: { exit_code: 1, stderr: 'boom' } });
		return id;
	};
	const started = h.clock.now();
	const old = await fail({ shareKey: 'a' });
	await h.clock.advance(10_000);
	const young = await fail({ shareKey: 'b', priority: 'high' });
	await robot.vanish();
	const queued = await h.submit({ shareKey: 'a', priority: 'low' });
	const { dead } = await h.engine.job(old);
	const find = async (filter: Partial<JobFilter>) =>
		(await h.engine.jobs({ limit: 10, ...filter })).items.map(({ jobId }) => jobId);
	const cases: [Partial<JobFilter>, string[]][] = [
		[{}, [queued, young, old]],
		[{ cause: 'exit_code' as Cause }, [young, old]],
		[{ shareKey: 'a' }, [queued, old]],
		[{ priority: 'high' }, [young]],
		[{ dead: true }, [young, old]],
		[{ fingerprint: dead! }, [young, old]],
		[{ createdAfter: started + 1 }, [queued, young]],
		[{ createdBefore: started + 1 }, [old]],
		[{ robotId: robot.robotId }, [young, old]],
		[{ parentId: 'nobody' }, []],
		[{ state: 'failed', shareKey: 'a', dead: true }, [old]],
		[{ state: 'queued', cause: 'exit_code' as Cause }, []],
	];
	for (const [filter, ids] of cases) {
		expect([filter, await find(filter)]).toEqual([filter, ids]);
		// Page by page it is the same.
		const paged: string[] = [];
		for (let cursor: string | undefined, more = true; more;) {
			const page = await h.engine.jobs({ limit: 1, ...filter, ...(cursor && { cursor }) });
			paged.push(...page.items.map(({ jobId }) => jobId));
			({ cursor } = page);
			more = cursor !== undefined;
		}
		expect(paged).toEqual(ids);
		// So is the walk of a bulk call.
		const { limit: _, cursor: __, ...query } = { limit: 0, cursor: '', ...filter };
		expect(await preview({ action: 'cancel', filter: query })).toMatchObject({
			matched: ids.length,
		});
	}
});
