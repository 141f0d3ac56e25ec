/** The count of what waits: never off, and the limit of each key. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Problem, priorities, type Submit } from '../../../protocol';
import type { Caller } from '../../../dispatcher/engine';
import { admin, exit, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let folder: string;
beforeEach(async () => {
	folder = mkdtempSync(join(tmpdir(), 'rf-backlog-'));
	h = await house();
});
afterEach(async () => {
	await h.close();
	rmSync(folder, { recursive: true, force: true });
});

const command = { kind: 'command', spec: { command: 'true' } };
const bob: Caller = { ...admin, keyId: 'b', name: 'bob' };

/** What the store says, counted plainly. */
async function recount(one: House) {
	const { jobs } = await one.store.read('waiting', { from: '', scan: 100_000 });
	const queued = jobs.filter(({ state }) => state === 'queued');
	const lanes = Map.groupBy(queued, ({ lane }) => lane);
	return {
		pending: jobs.length - queued.length,
		queued: queued.length,
		byPriority: Object.fromEntries(
			priorities.map((level) => [
				level,
				queued.filter(({ priority }) => priority === level).length,
			]),
		),
		lanes: [...lanes.values()].map(({ length }) => length).sort((a, b) => b - a),
	};
}

async function counted(one: House) {
	const { byState, byPriority, lanes } = await one.engine.queueStats();
	return {
		pending: byState.pending,
		queued: byState.queued,
		byPriority,
		lanes: lanes.map(({ queued }) => queued),
	};
}

test('the queue is told by state, priority and lane, with its longest wait', async () => {
	const robot = await h.robot('r1', { labels: { os: 'linux' } });
	await h.submit({ target: { robot: 'r1' } });
	await settled();
	await h.submit({ target: { robot: 'r1' }, priority: 'critical' });
	await h.clock.advance(7_000);
	await h.submit({ target: { labels: { os: 'mac' } } });
	await h.submit({ target: { labels: { os: 'mac' } }, priority: 'low' });
	await h.submit({ notBefore: h.clock.now() + 60_000 });
	expect(await h.engine.queueStats()).toEqual({
		total: 5,
		byState: {
			pending: 1,
			queued: 3,
			dispatched: 1,
			running: 0,
			completed: 0,
			failed: 0,
			timeout: 0,
			cancelled: 0,
		},
		byPriority: { critical: 1, high: 0, normal: 1, low: 1 },
		oldestQueuedMs: 7_000,
		lanes: [
			{ target: 'label os=mac', robotId: null, queued: 2, robots: 0 },
			{ target: 'robot r1', robotId: robot.robotId, queued: 1, robots: 1 },
		],
	});
});

test('at most twenty lanes are told, the longest', async () => {
	for (let lane = 0; lane < 25; lane += 1) {
		for (let i = 0; i <= lane; i += 1)
			await h.submit({ target: { labels: { lane: String(lane) } } });
	}
	const { lanes } = await h.engine.queueStats();
	expect(lanes.map(({ queued }) => queued)).toEqual(Array.from({ length: 20 }, (_, i) => 25 - i));
});

const wish = fc.record<Partial<Submit>>(
	{
		priority: fc.constantFrom(...priorities),
		shareKey: fc.constantFrom('a', 'b'),
		notBefore: fc.integer({ min: 0, max: 4e12 }),
		timeouts: fc.record({ queueMs: fc.integer({ min: 1, max: 20_000 }) }),
		target: fc.constantFrom(
			{},
			{ labels: { os: 'linux' } },
			{ labels: { os: 'mac' } },
			{ mode: 'all' as const },
			{ mode: { count: 2 } },
		),
		retry: fc.constant({ on: ['exit_code'], initialDelayMs: 500, otherRobot: true }),
		idempotencyKey: fc.constantFrom('k1', 'k2'),
		dedupe: fc.boolean(),
	},
	{ requiredKeys: [] },
);
const step = fc.oneof(
	{ weight: 4, arbitrary: fc.record({ do: fc.constant('submit' as const), wish }) },
	fc.record({
		do: fc.constantFrom(
			'cancel' as const,
			'hold' as const,
			'release' as const,
			'rank' as const,
			'retarget' as const,
			'byHand' as const,
		),
		job: fc.nat(),
	}),
	fc.record({
		do: fc.constantFrom('end' as const, 'fail' as const, 'reject' as const, 'vanish' as const),
		robot: fc.nat(1),
	}),
	fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 15_000 }) }),
	fc.record({ do: fc.constantFrom('restart' as const, 'replay' as const) }),
);

test('after any history the count in memory is the count of the store', async () => {
	let round = 0;
	await fc.assert(
		fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
			await h.close();
			h = await house({ file: join(folder, `${(round += 1)}.db`), maxWaitingJobs: 12 });
			const robots: PlayedRobot[] = [
				await h.robot('r1', { slots: 2 }),
				await h.robot('r2', { labels: { os: 'linux' } }),
			];
			const ids: string[] = [];
			const pick = (n: number) => ids[n % ids.length] ?? 'nobody';
			let racing: Promise<unknown>[] = [];
			for (const [i, next] of steps.entries()) {
				const robot = 'robot' in next ? robots[next.robot]! : robots[0]!;
				const change = (change: Parameters<House['engine']['change']>[1]) =>
					h.engine.change(pick((next as { job: number }).job), change, admin);
				const work = async (): Promise<unknown> => {
					switch (next.do) {
						case 'submit':
							return h.engine.submit([{ ...command, ...next.wish }], admin).then(([answer]) => {
								if (answer && !(answer instanceof Problem)) ids.push(answer.jobId);
							});
						case 'cancel':
							return h.engine.cancel(pick(next.job), admin);
						case 'hold':
							return change({ hold: true });
						case 'release':
							return change({ hold: false });
						case 'rank':
							return change({ priority: priorities[next.job % 4]! });
						case 'retarget':
							return change({ target: { labels: { os: 'linux' } } });
						case 'byHand':
							return h.engine.moveJob(pick(next.job), next.job % 2 ? 'pending' : 'queued', admin);
						case 'end':
							return robot.end();
						case 'fail':
							return robot.end(exit(1));
						case 'reject':
							return robot.reject('paused');
						case 'vanish':
							await robot.vanish();
							return robot.connect();
						case 'wait':
							return h.clock.advance(next.ms);
						case 'replay':
							return h.engine.replay({ all: true }, admin);
						case 'restart':
							await h.restart();
							for (const one of robots) await one.connect();
					}
				};
				if (next.do === 'restart') {
					// Who asked the life before is never answered.
					await work();
					racing = [];
					continue;
				}
				racing.push(work().catch(() => undefined));
				// Some of it at the same time.
				if (i % 3 === 0) continue;
				await Promise.all(racing);
				racing = [];
			}
			await Promise.all(racing);
			await settled();
			expect(await counted(h)).toEqual(await recount(h));
		}),
		{ numRuns: 20 },
	);
}, 120_000);

test('a count that runs while jobs move is not off by one of them', async () => {
	await h.close();
	h = await house({ file: join(folder, 'long.db') });
	for (let i = 0; i < 7; i += 1) {
		await h.engine.submit(
			Array.from({ length: 1_000 }, () => command),
			admin,
		);
	}
	const { items } = await h.engine.jobs({ limit: 1_000 });
	const old = await h.engine.jobs({ limit: 1_000, createdBefore: h.clock.now() + 1 });
	await h.restart();
	// Nothing is awaited: the count is under way all the while.
	const robot = h.robot('r1', { slots: 20 });
	const racing = [...items, ...old.items].flatMap(({ jobId }, i) =>
		i % 3 === 0
			? [h.engine.cancel(jobId, admin)]
			: [h.engine.change(jobId, { priority: 'high' }, admin).catch(() => undefined)],
	);
	racing.push(h.submit() as never, h.submit() as never);
	await Promise.all(racing);
	await robot;
	await settled();
	expect(await counted(h)).toEqual(await recount(h));
});

describe('what one key may have waiting', () => {
	/** Until then the limit is that of what was counted. */
	const allCounted = () => h.engine.queueStats();
	const answers = async (count: number, by: Caller, more: Partial<Submit> = {}) =>
		(
			await h.engine.submit(
				Array.from({ length: count }, () => ({ ...command, ...more })),
				by,
			)
		).map((answer) => (answer instanceof Problem ? answer.code : answer.state));

	beforeEach(async () => {
		await h.close();
		h = await house({ file: join(folder, 'limit.db'), maxWaitingJobs: 3, maxWaitingBytes: 1_000 });
		await allCounted();
	});

	test('the job above the limit is refused with a time to try again, others are not touched', async () => {
		expect(await answers(5, admin)).toEqual([
			'queued',
			'queued',
			'queued',
			'queue-full',
			'queue-full',
		]);
		const [refusal] = await h.engine.submit([command], admin);
		expect(refusal).toMatchObject({
			status: 429,
			retry: true,
			message:
				'The key "test" already has 3 jobs waiting, which is its limit; try again in 5000 ms, or cancel some of them.',
			details: { retryMs: 5_000 },
		});
		expect(await answers(1, bob)).toEqual(['queued']);
	});

	test('the limit is one of waiting jobs: what was given to a robot or ended makes room', async () => {
		const robot = await h.robot('r1');
		expect(await answers(5, admin)).toEqual([
			'dispatched',
			'queued',
			'queued',
			'queued',
			'queue-full',
		]);
		await robot.end();
		expect(await answers(2, admin)).toEqual(['queued', 'queue-full']);
		const { items } = await h.engine.jobs({ state: 'queued', limit: 1 });
		await h.engine.cancel(items[0]!.jobId, admin);
		expect(await answers(2, admin)).toEqual(['queued', 'queue-full']);
	});

	test('bytes of specs and variables count too', async () => {
		const big = { variables: { text: 'ä'.repeat(300) } };
		expect(await answers(2, admin, big)).toEqual(['queued', 'queue-full']);
		expect(await answers(2, admin)).toEqual(['queued', 'queued']);
	});

	test('submits that race do not pass the limit together', async () => {
		const all = await Promise.all(Array.from({ length: 20 }, () => answers(1, admin)));
		expect(all.flat().filter((state) => state === 'queued')).toHaveLength(3);
	});

	test('the limit holds after a restart', async () => {
		await answers(3, admin);
		await h.restart();
		await allCounted();
		expect(await answers(1, admin)).toEqual(['queue-full']);
	});

	test('a retried attempt always finds its place, a retried job needs room', async () => {
		const robot = await h.robot('r1');
		const id = await h.submit({ retry: { on: ['exit_code'] } });
		await settled();
		await answers(3, admin);
		await robot.end(exit(1));
		expect(await h.engine.job(id)).toMatchObject({ state: 'pending' });
		const other = robot.last.job_id;
		await h.engine.cancel(id, admin);
		await robot.end(exit(1));
		await answers(3, admin);
		await expect(h.engine.retry(other, admin)).rejects.toMatchObject({ code: 'queue-full' });
	});
});
