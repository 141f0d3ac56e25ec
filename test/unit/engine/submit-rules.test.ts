/** What a submit may ask for beside the work: a share, no duplicates, another robot for each try. */
import { limits, Problem, type Submit } from '../../../protocol';
import type { Caller } from '../../../dispatcher/engine';
import { admin, exit, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const tell = async (job: Partial<Submit>, by: Caller = admin) => {
	const [answer] = await h.engine.submit(
		[{ kind: 'command', spec: { command: 'deploy', args: ['a'] }, ...job }],
		by,
	);
	return answer instanceof Problem ? answer.code : answer!.state;
};

test('jobs of share keys take turns, and the view tells the key', async () => {
	const many = await Promise.all([1, 2, 3].map(() => h.submit({ shareKey: 'team-a' })));
	const one = await h.submit({ shareKey: 'team-b' });
	expect((await h.engine.job(one)).shareKey).toBe('team-b');
	expect((await h.engine.job(await h.submit())).shareKey).toBeNull();
	const robot = await h.robot('r1');
	for (let i = 0; i < 3; i += 1) await robot.end();
	const order = robot.assigned.slice(0, 3).map(({ job_id }) => job_id);
	expect(order).toContain(one);
	expect(order.slice(0, 2)).toEqual([many[0], one]);
});

test('a job that fits into no frame is refused, and the largest one that is taken fits', async () => {
	const variables = (bytes: number) =>
		Object.fromEntries(
			Array.from({ length: 24 }, (_, i) => [`v${i}`, 'x'.repeat(Math.floor(bytes / 24) - 9)]),
		);
	expect(await tell({ variables: variables(limits.maxJobBytes + 100) })).toBe('job-too-large');
	const robot = await h.robot('r1');
	const large = variables(limits.maxJobBytes - 100);
	expect(await tell({ variables: large, timeouts: { runMs: 1_000 } })).toBe('dispatched');
	const bytes = Buffer.byteLength(JSON.stringify({ type: 'job_assignment', payload: robot.last }));
	expect(bytes).toBeGreaterThan(limits.maxJobBytes - 10_000);
	expect(bytes).toBeLessThan(limits.maxControlFrameBytes);
});

test('the answer tells of a job that waits because no robot may run it, and of no other', async () => {
	const robot = await h.robot('r1', { labels: { site: 'berlin' } });
	const told = async (more: Partial<Submit> = {}) =>
		(await h.engine.submit([{ kind: 'command', spec: { command: 'true' }, ...more }], admin))[0];
	const nobody = { target: { labels: { site: 'paris' } } };
	expect(await told(nobody)).toMatchObject({ state: 'queued', unmatched: true });
	expect(await told(nobody)).toMatchObject({ state: 'queued', unmatched: true });
	expect(await told({ ...nobody, notBefore: h.clock.now() + 60_000 })).toEqual({
		jobId: expect.any(String),
		state: 'pending',
	});
	const plain = { jobId: expect.any(String), state: 'dispatched' };
	expect(await told()).toEqual(plain);
	// It waits for its turn, and then for a robot that is away.
	expect(await told()).toEqual({ ...plain, state: 'queued' });
	await robot.vanish();
	for (const target of [{}, { robot: 'r1' }, { labels: { site: 'berlin' } }]) {
		expect(await told({ target })).toEqual({ ...plain, state: 'queued' });
	}
	await h.restart();
	expect(await told({ target: { labels: { site: 'berlin' } } })).not.toHaveProperty('unmatched');
	expect(await told(nobody)).toHaveProperty('unmatched');
});

describe('duplicate suppression', () => {
	test('the same job within the window is refused, naming the earlier one', async () => {
		const first = await h.submit({ dedupe: true });
		const [refusal] = await h.engine.submit(
			[{ kind: 'command', spec: { command: 'true' }, dedupe: true }],
			admin,
		);
		expect(refusal).toMatchObject({
			code: 'duplicate-job',
			status: 409,
			details: { jobId: first },
		});
		expect((refusal as Problem).message).toContain(first);
		await h.clock.advance(300_000);
		expect(await tell({ spec: { command: 'true' }, dedupe: true })).toBe('queued');
	});

	test('kind, spec, target, variables and key make the same job; nothing else does', async () => {
		const dedupe = { windowMs: 1_000 };
		const wish = {
			dedupe,
			variables: { a: 1, b: 2 },
			target: { labels: { os: 'linux', site: 'x' } },
		};
		expect(await tell(wish)).toBe('queued');
		// Written in another order, more urgent, with other limits: the same.
		expect(
			await tell({
				dedupe: true,
				target: { labels: { site: 'x', os: 'linux' } },
				variables: { b: 2, a: 1 },
				priority: 'high',
				timeouts: { runMs: 5 },
			}),
		).toBe('duplicate-job');
		expect(await tell({ ...wish, variables: { a: 1 } })).toBe('queued');
		expect(await tell({ ...wish, target: {} })).toBe('queued');
		expect(await tell({ ...wish, spec: { command: 'deploy' } })).toBe('queued');
		expect(await tell(wish, { ...admin, keyId: 'other' })).toBe('queued');
		expect(await tell({ ...wish, dedupe: false })).toBe('queued');
		await h.clock.advance(1_000);
		expect(await tell(wish)).toBe('queued');
	});

	test('a refused duplicate does not use up its idempotency key, and a repeated key is no duplicate', async () => {
		const keyed = { dedupe: true, idempotencyKey: 'one' };
		expect(await tell(keyed)).toBe('queued');
		const [again] = await h.engine.submit(
			[{ kind: 'command', spec: { command: 'deploy', args: ['a'] }, ...keyed }],
			admin,
		);
		expect(again).toMatchObject({ duplicate: true });
		const other = { dedupe: true, idempotencyKey: 'two' };
		expect(await tell(other)).toBe('duplicate-job');
		await h.clock.advance(300_000);
		expect(await tell(other)).toBe('queued');
	});

	test('a retry is never a duplicate', async () => {
		const robot = await h.robot('r1');
		const id = await h.submit({ dedupe: true });
		await settled();
		await robot.end(exit(1));
		expect((await h.engine.retry(id, admin)).retryOf).toBe(id);
	});

	test('two at once: one is taken', async () => {
		const told = await Promise.all([tell({ dedupe: true }), tell({ dedupe: true })]);
		expect(told.sort()).toEqual(['duplicate-job', 'queued']);
	});

	test('what is past its window is swept', async () => {
		for (let i = 0; i < 20; i += 1) await tell({ dedupe: { windowMs: 1_000 }, variables: { i } });
		await h.clock.advance(70_000);
		const swept = await h.store.commit([
			{ do: 'sweepDuplicates', with: { at: h.clock.now(), limit: 100 } },
		]);
		expect(swept).toEqual([0]);
	});
});

describe('retry on another robot', () => {
	const retry = { on: ['exit_code'], initialDelayMs: 0, otherRobot: true, maxAttempts: 4 };

	test('the next try is for another robot, which is waited for when it is away', async () => {
		const [a, b] = [await h.robot('a'), await h.robot('b')];
		const id = await h.submit({ retry });
		await settled();
		const [first, second] = a.assigned.length > 0 ? [a, b] : [b, a];
		await second.vanish();
		await first.end(exit(1));
		await h.clock.advance(5_000);
		expect((await h.engine.job(id)).state).toBe('queued');
		expect(first.assigned).toHaveLength(1);
		expect((await h.engine.why(id)).text).toContain(
			'1 has tried this job, which asks for another robot',
		);
		await second.connect();
		await settled();
		expect(second.last.job_id).toBe(id);
		// Both have tried it now: the one that did so last is left out.
		await second.end(exit(1));
		await h.clock.advance(2_000);
		expect(first.assigned).toHaveLength(2);
		await first.end();
		const attempts = await h.engine.attempts(id);
		expect(attempts.map(({ robotId }) => robotId)).toEqual([
			first.robotId,
			second.robotId,
			first.robotId,
		]);
	});

	test('many that wait for another robot keep theirs from nobody behind them who can wait for a better one', async () => {
		const a = await h.robot('a', { slots: 64 });
		const b = await h.robot('b');
		await b.vanish();
		for (let i = 0; i < 64; i += 1) await h.submit({ retry, preferWaitMs: 1 });
		await settled();
		for (const job of [...a.assigned]) await a.end(exit(1), job);
		await h.clock.advance(2_000);
		expect(a.assigned).toHaveLength(64);
		const behind = await h.submit({ preferWaitMs: 1 });
		await h.clock.advance(2_000);
		expect(a.last.job_id).toBe(behind);
	});

	test('with no other robot the same one is allowed again', async () => {
		const robot = await h.robot('a');
		await h.robot('b', { labels: { os: 'mac' } });
		const id = await h.submit({ retry, target: { robot: 'a' } });
		await settled();
		await robot.end(exit(1));
		await h.clock.advance(2_000);
		expect(robot.assigned).toHaveLength(2);
		await robot.end();
		expect((await h.engine.job(id)).state).toBe('completed');
	});

	test('a robot that is removed gives the job back to the one that tried it', async () => {
		const [a, b] = [await h.robot('a'), await h.robot('b')];
		await h.submit({ retry });
		await settled();
		const [first, second] = a.assigned.length > 0 ? [a, b] : [b, a];
		await second.vanish();
		await first.end(exit(1));
		await h.clock.advance(2_000);
		expect(first.assigned).toHaveLength(1);
		await h.engine.removeRobot(second.robotId, admin);
		await h.clock.advance(2_000);
		expect(first.assigned).toHaveLength(2);
	});

	test('a lost try counts as one, too', async () => {
		const [a, b] = [await h.robot('a'), await h.robot('b')];
		const id = await h.submit({ retry, onLoss: { waitMs: 1, then: 'retry' } });
		await settled();
		const [first, second] = a.assigned.length > 0 ? [a, b] : [b, a];
		await first.accept();
		await first.vanish();
		await h.clock.advance(100_000);
		expect(second.last.job_id).toBe(id);
	});
});
