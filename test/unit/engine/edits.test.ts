/** PATCH /jobs/{id}: jobs that wait are ranked anew, held, released, sent elsewhere. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { type JobChange, priorities } from '../../../protocol';
import { before } from '../../../dispatcher/core/rank';
import { admin, house, type House, type PlayedRobot, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const ana = { ...admin, name: 'ana' };
const state = async (id: string) => (await h.engine.job(id)).state;
const why = async (id: string) => (await h.engine.why(id)).text;

/** Ends whatever the robot is given, until it is given nothing more. */
async function endAll(robot: PlayedRobot): Promise<void> {
	for (let done = 0; done < robot.assigned.length;) {
		const given = robot.assigned.slice(done);
		done += given.length;
		for (const assignment of given) robot.session.result(resultOf(assignment));
		await settled();
	}
}

/** Lets one robot run everything that it may, and tells the order. */
async function order(name = 'r1'): Promise<string[]> {
	const robot = await h.robot(name);
	await settled();
	await endAll(robot);
	return robot.assigned.map(({ job_id }) => job_id);
}

test('a waiting job that is ranked anew goes to its new place, and its timeline says who did it', async () => {
	const [a, b, c] = [await h.submit(), await h.submit(), await h.submit()];
	await h.engine.change(c, { priority: 'critical' }, ana);
	await h.engine.change(a, { priority: 0 }, ana);
	expect(await h.engine.job(c)).toMatchObject({ state: 'queued', priority: 'critical' });
	expect((await h.engine.timeline(c)).at(-1)).toMatchObject({
		from: 'queued',
		to: 'queued',
		reason: 'priority normal → critical',
		by: 'key:ana',
	});
	expect(await order()).toEqual([c, b, a]);
});

test('a held job waits until it is released, and why says who holds it', async () => {
	const id = await h.submit();
	await h.engine.change(id, { hold: 'the licence server is down.' }, ana);
	expect(await h.engine.job(id)).toMatchObject({
		state: 'pending',
		hold: 'ana: the licence server is down.',
	});
	expect(await why(id)).toBe(
		`The job is held by ana: the licence server is down; release it with: robot-fleet jobs release ${id}.`,
	);
	const robot = await h.robot('r1');
	await h.clock.advance(30_000);
	expect(robot.assigned).toEqual([]);
	await h.engine.change(id, { hold: false }, ana);
	await settled();
	expect(robot.last.job_id).toBe(id);
	expect(await h.engine.job(id)).toMatchObject({ state: 'dispatched', hold: null });
});

test('a job held before its time is released to its time, not before', async () => {
	const id = await h.submit({ notBefore: h.clock.now() + 60_000 });
	await h.engine.change(id, { hold: true }, ana);
	await h.engine.change(id, { hold: false }, ana);
	const robot = await h.robot('r1');
	expect(await state(id)).toBe('pending');
	await h.clock.advance(61_000);
	expect(robot.last.job_id).toBe(id);
});

test.each([
	['queue limit', { timeouts: { queueMs: 5_000 } }, 'queue_timeout'],
	['deadline', {}, 'deadline'],
] as const)('a hold does not stop the %s', async (_name, more, cause) => {
	const deadlineAt = h.clock.now() + 5_000;
	const id = await h.submit(cause === 'deadline' ? { timeouts: { deadlineAt } } : more);
	await h.engine.change(id, { hold: true }, ana);
	await h.clock.advance(6_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'timeout', cause });
});

test('a held job can be cancelled, ranked anew and sent elsewhere', async () => {
	const [a, b] = [await h.submit(), await h.submit()];
	for (const id of [a, b]) await h.engine.change(id, { hold: true }, ana);
	await h.engine.cancel(a, ana);
	expect(await h.engine.job(a)).toMatchObject({ state: 'cancelled', hold: null });
	await h.engine.change(b, { priority: 'high', target: { labels: { os: 'linux' } } }, ana);
	expect(await h.engine.job(b)).toMatchObject({
		state: 'pending',
		priority: 'high',
		hold: 'ana',
		target: { labels: { os: 'linux' } },
	});
});

test('a job set to pending by hand is held, and set to queued it goes on', async () => {
	const id = await h.submit();
	await h.engine.moveJob(id, 'pending', ana);
	const robot = await h.robot('r1');
	await h.clock.advance(10_000);
	expect(robot.assigned).toEqual([]);
	expect((await h.engine.job(id)).hold).toBe('ana');
	await h.engine.moveJob(id, 'queued', ana);
	await settled();
	expect(robot.last.job_id).toBe(id);
});

test('a job with a new target leaves its lane, and robots that refused it are asked again', async () => {
	const robot = await h.robot('r1', { labels: { os: 'linux' } });
	const id = await h.submit();
	await settled();
	await robot.reject('paused');
	expect(await state(id)).toBe('queued');
	const count = robot.assigned.length;
	await h.engine.change(id, { target: { labels: { os: 'linux' } } }, ana);
	await settled();
	expect(robot.assigned).toHaveLength(count + 1);
	await robot.end();
	const other = await h.submit({ target: { robot: 'r1' } });
	await settled();
	expect(robot.last.job_id).toBe(other);
	const waiting = await h.submit({ target: { robot: 'r1' } });
	const second = await h.robot('r2');
	await h.engine.change(waiting, { target: { robot: 'r2' } }, ana);
	await settled();
	expect(second.last.job_id).toBe(waiting);
	await expect(h.engine.change(other, { target: { robot: 'nobody' } }, ana)).rejects.toMatchObject({
		code: 'unknown-robot',
	});
});

test('a job that runs or has ended is not changed, with one sentence', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	for (const change of [{ hold: true }, { hold: false }, { priority: 'low' as const }]) {
		await expect(h.engine.change(id, change, ana)).rejects.toThrow(
			'The job is dispatched; only a job that still waits (pending or queued) can be changed.',
		);
	}
	await robot.end();
	await expect(h.engine.change(id, { priority: 'low' }, ana)).rejects.toMatchObject({
		code: 'not-waiting',
		details: { state: 'completed' },
	});
	await expect(h.engine.change('nobody', { hold: true }, ana)).rejects.toMatchObject({
		code: 'no-such-job',
	});
});

test('a parent that waits is held, ranked and released like any job, and starts when it may', async () => {
	const robots = [await h.robot('r1'), await h.robot('r2')];
	const at = h.clock.now() + 10_000;
	const id = await h.submit({ target: { mode: 'all' }, notBefore: at });
	await h.engine.change(id, { hold: true, priority: 'high' }, ana);
	await h.clock.advance(20_000);
	expect(await state(id)).toBe('pending');
	await h.engine.change(id, { hold: false }, ana);
	await h.clock.advance(1_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'running', children: { total: 2 } });
	for (const robot of robots) await robot.end();
	expect(await state(id)).toBe('completed');
	expect((await h.engine.queueStats()).byState).toMatchObject({ pending: 0, queued: 0 });
});

test('a job for one robot does not become one for several, nor the other way round', async () => {
	await h.robot('r1');
	const parent = await h.submit({ target: { mode: 'all' }, notBefore: h.clock.now() + 10_000 });
	const one = await h.submit({ notBefore: h.clock.now() + 10_000 });
	for (const [id, target] of [
		[parent, {}],
		[one, { mode: 'all' as const }],
	] as const) {
		await expect(h.engine.change(id, { target }, ana)).rejects.toMatchObject({
			code: 'other-family',
		});
	}
	await h.engine.change(parent, { target: { mode: { count: 1 } } }, ana);
	expect(await h.engine.job(parent)).toMatchObject({ target: { mode: { count: 1 } } });
});

test('a part of a job for several robots keeps its robot, one by one and in bulk', async () => {
	const away = await h.robot('away', { clients: ['a', 'b'] });
	await away.vanish();
	const id = await h.submit({ target: { mode: 'all' } });
	const [child] = (await h.engine.cells(id, { limit: 1 })).items;
	const { jobId } = child!;
	await expect(h.engine.change(jobId, { target: {} }, ana)).rejects.toMatchObject({
		code: 'other-family',
	});
	const filter = { state: 'queued' } as const;
	expect(
		await h.engine.bulk({ action: 'retarget', filter, target: {}, expect: 1 }, ana),
	).toMatchObject({ matched: 1, changed: 0 });
	await h.engine.change(jobId, { target: { robot: 'away', client: 'b' } }, ana);
	await away.connect({ clients: ['a', 'b'] });
	expect(away.last).toMatchObject({ job_id: jobId, client: 'b' });
});

test('the same change twice is one line of the timeline', async () => {
	const id = await h.submit();
	for (let i = 0; i < 3; i += 1) await h.engine.change(id, { priority: 'high', hold: 'x' }, ana);
	expect(await h.engine.timeline(id)).toHaveLength(2);
});

test('changes, cancels and assignments that race leave one truth', async () => {
	const ids = await Promise.all(Array.from({ length: 40 }, () => h.submit()));
	const robot = await h.robot('r1', { slots: 8 });
	await Promise.all(
		ids.flatMap((id, i) => [
			h.engine.change(id, { priority: priorities[i % 4]! }, ana).catch(() => undefined),
			h.engine.change(id, { hold: true }, ana).catch(() => undefined),
			i % 3 === 0 ? h.engine.cancel(id, ana) : undefined,
			h.engine.change(id, { hold: false }, ana).catch(() => undefined),
		]),
	);
	// Whether a hold or a release came last is anyone's guess.
	await Promise.all(
		ids.map((id) => h.engine.change(id, { hold: false }, ana).catch(() => undefined)),
	);
	await settled();
	await endAll(robot);
	const jobs = await Promise.all(ids.map((id) => h.engine.job(id)));
	expect(jobs.filter(({ state }) => state !== 'completed' && state !== 'cancelled')).toEqual([]);
	const given = robot.assigned.map(({ job_id }) => job_id);
	expect(new Set(given).size).toBe(given.length);
});

const change = fc.oneof(
	fc.record<JobChange>({ priority: fc.constantFrom(...priorities) }),
	fc.record<JobChange>({ hold: fc.boolean() }),
	fc.record<JobChange>({
		target: fc.constantFrom({}, { labels: { os: 'linux' } }, { robot: 'r1' }),
	}),
);

/** What the store says, sorted plainly. */
async function sorted(one: House): Promise<string[]> {
	const { ids } = await one.store.read('scan', {
		query: { state: 'queued' },
		order: 'newest',
		after: null,
		scan: 10_000,
	});
	const jobs = await one.store.read('jobsById', { ids });
	return jobs.sort((a, b) => (before(a, b) ? -1 : 1)).map(({ id }) => id);
}

test('after any changes jobs are given away in the order of a plain sort', async () => {
	await fc.assert(
		fc.asyncProperty(
			fc.array(fc.record({ priority: fc.constantFrom(...priorities), gap: fc.nat(900_000) }), {
				minLength: 2,
				maxLength: 30,
			}),
			fc.array(fc.record({ job: fc.nat(), change, together: fc.boolean() }), { maxLength: 40 }),
			async (jobs, changes) => {
				await h.close();
				h = await house();
				const away = await h.robot('r1', { labels: { os: 'linux' } });
				await away.vanish();
				const ids: string[] = [];
				for (const { priority, gap } of jobs) {
					ids.push(await h.submit({ priority }));
					h.clock.jump(gap);
				}
				let racing: Promise<unknown>[] = [];
				for (const { job, change, together } of changes) {
					racing.push(h.engine.change(ids[job % ids.length]!, change, ana));
					if (together) continue;
					await Promise.all(racing);
					racing = [];
				}
				await Promise.all(racing);
				const plain = await sorted(h);
				await away.connect();
				await settled();
				await endAll(away);
				expect(away.assigned.map(({ job_id }) => job_id)).toEqual(plain);
			},
		),
		{ numRuns: 25 },
	);
}, 120_000);

test('a queue longer than memory keeps its order through changes, and through a restart', async () => {
	await h.close();
	const folder = mkdtempSync(join(tmpdir(), 'rf-edits-'));
	h = await house({ file: join(folder, 'store.db') });
	const answers = await h.engine.submit(
		Array.from({ length: 1_500 }, () => ({ kind: 'command', spec: { command: 'true' } })),
		admin,
	);
	const ids = answers.map((answer) => ('jobId' in answer ? answer.jobId : ''));
	// From behind the window to its front, from its front to behind it, and out of it.
	const pick = (i: number) => ids[(i * 7919) % ids.length]!;
	await Promise.all(
		Array.from({ length: 300 }, (_, i) =>
			h.engine.change(
				pick(i),
				i % 5 === 4 ? { hold: true } : { priority: priorities[i % 4]! },
				ana,
			),
		),
	);
	await h.restart();
	await Promise.all(
		Array.from({ length: 300 }, (_, i) =>
			h.engine.change(
				pick(i + 150),
				i % 7 === 6 ? { hold: false } : { priority: priorities[(i + 1) % 4]! },
				ana,
			),
		),
	);
	const plain = await sorted(h);
	const robot = await h.robot('r1', { slots: 20 });
	await endAll(robot);
	expect(robot.assigned.map(({ job_id }) => job_id)).toEqual(plain);
	await h.close();
	rmSync(folder, { recursive: true });
	h = await house();
}, 120_000);
