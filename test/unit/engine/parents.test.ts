/** Jobs for several robots: a parent and its children, race by race. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Job, Submit } from '../../../protocol';
import { limits, Problem } from '../../../protocol';
import { StoreFull } from '../../../dispatcher/store/open';
import { admin, exit, house, type House, type PlayedRobot, resultOf } from '../../support/engine';
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

async function onDisk(): Promise<void> {
	await h.close();
	const folder = mkdtempSync(join(tmpdir(), 'rf-parents-'));
	folders.push(folder);
	h = await house({ file: join(folder, 'store.db') });
}

const robots = (...names: string[]) => Promise.all(names.map((name) => h.robot(name)));
const onAll = (more: Partial<Submit> = {}) => h.submit({ target: { mode: 'all' }, ...more });
const job = (id: string) => h.engine.job(id);
const path = async (id: string) => (await h.engine.timeline(id)).map(({ to }) => to).join(' ');
const childrenOf = async (parentId: string) =>
	(await h.engine.jobs({ parentId, limit: 1_000 })).items.reverse();
const statesOf = async (parentId: string) =>
	Object.fromEntries((await childrenOf(parentId)).map(({ cell, state }) => [cell, state]));
const refusal = async (more: Partial<Submit>) => {
	const submit = { kind: 'command', spec: { command: 'true' }, ...more };
	const [answer] = await h.engine.submit([submit], admin);
	return answer instanceof Problem ? { code: answer.code, text: answer.message } : answer;
};

describe('who gets a child', () => {
	test('every robot that matches gets one, in the commit of the submit; who is away finds it later', async () => {
		await onDisk();
		const [a, b, away] = (await robots('a', 'b', 'away')) as [
			PlayedRobot,
			PlayedRobot,
			PlayedRobot,
		];
		await away.vanish();
		await h.robot('other', { labels: { site: 'rome' } });
		const id = await h.submit({ target: { mode: 'all', capabilities: [] }, priority: 'high' });
		// Killed right behind the answer: whatever was promised is there.
		await h.restart();
		const children = await childrenOf(id);
		expect(children).toHaveLength(4);
		expect(children.every(({ parentId }) => parentId === id)).toBe(true);
		expect(await statesOf(id)).toMatchObject({
			[a.robotId]: 'dispatched',
			[b.robotId]: 'dispatched',
			[away.robotId]: 'queued',
		});
		expect(children[0]).toMatchObject({
			spec: { command: 'true' },
			priority: 'high',
			target: { robot: children[0]!.cell },
			children: null,
			createdBy: 'key:test',
		});
		await away.connect();
		expect(away.last.job_id).toBe(children.find(({ cell }) => cell === away.robotId)!.jobId);
	});

	test('only those that match are chosen, and the choice is frozen: who comes later gets none', async () => {
		const berlin = await h.robot('berlin', { labels: { site: 'berlin' } });
		const rome = await h.robot('rome', { labels: { site: 'rome' } });
		const id = await onAll({ target: { mode: 'all', labels: { site: 'berlin' } } });
		const late = await h.robot('late', { labels: { site: 'berlin' } });
		await settled();
		expect(Object.keys(await statesOf(id))).toEqual([berlin.robotId]);
		expect([...rome.assigned, ...late.assigned]).toEqual([]);
		await berlin.end();
		expect((await job(id)).state).toBe('completed');
	});

	test('a count takes that many different robots: free ones, then the least loaded, then who is away', async () => {
		const busy = await h.robot('busy', { slots: 2 });
		await h.submit({ target: { robot: 'busy' } });
		const full = await h.robot('full');
		await h.submit({ target: { robot: 'full' } });
		const [free, away] = (await robots('free', 'away')) as [PlayedRobot, PlayedRobot];
		await away.vanish();
		const chosen = async (count: number) =>
			(await childrenOf(await h.submit({ target: { mode: { count } } }))).map(({ cell }) => cell);
		expect(await chosen(1)).toEqual([free.robotId]);
		await free.end();
		expect(await chosen(2)).toEqual([free.robotId, busy.robotId]);
		await free.end();
		await busy.end();
		expect(await chosen(4)).toEqual([free, busy, full, away].map(({ robotId }) => robotId));
	});

	test('a job for one robot is no parent, said or not', async () => {
		const robot = await h.robot('r');
		const id = await h.submit({ target: { mode: 'one' } });
		await settled();
		expect(robot.last.job_id).toBe(id);
		expect((await job(id)).children).toBeNull();
	});

	test('no robot or too few that match is refused with how many there are', async () => {
		await robots('a', 'b');
		expect(await refusal({ target: { mode: 'all', labels: { site: 'berlin' } } })).toEqual({
			code: 'too-few-robots',
			text: '0 of 2 robots match (label site=berlin), but target.mode asks for all; see what they offer with: robot-fleet robots list.',
		});
		expect(await refusal({ target: { mode: { count: 3 } } })).toMatchObject({
			code: 'too-few-robots',
			text: expect.stringMatching(/^2 of 2 robots match \(any robot\), but .* asks for 3;/),
		});
		expect((await h.engine.jobs({ limit: 10 })).items).toEqual([]);
	});

	test('more than a store can bear is refused', async () => {
		const stdin = 'x'.repeat(limits.maxJobBytes - 1_000);
		const enough = Math.ceil(limits.maxChildrenBytes / stdin.length);
		await robots(...Array.from({ length: enough }, (_, i) => `r${i}`));
		expect(
			await refusal({ target: { mode: 'all' }, spec: { command: 'cat', stdin } }),
		).toMatchObject({ code: 'too-many-children' });
		expect(
			await refusal({ target: { mode: { count: 1 } }, spec: { command: 'cat', stdin } }),
		).toMatchObject({ state: 'running' });
	});

	test('many at once share no commit that would keep others waiting', async () => {
		await robots(...Array.from({ length: 300 }, (_, i) => `r${i}`));
		const commits = jest.spyOn(h.store, 'commit');
		const all = { kind: 'command', spec: { command: 'true' }, target: { mode: 'all' as const } };
		const answers = await h.engine.submit(
			Array.from({ length: 10 }, () => all),
			admin,
		);
		for (const answer of answers) expect(answer).toMatchObject({ state: 'running' });
		const children = commits.mock.calls.map(([deeds]) =>
			deeds.reduce(
				(sum, deed) => sum + (deed.do === 'startParent' ? deed.with.children.length : 0),
				0,
			),
		);
		expect(children.reduce((sum, each) => sum + each, 0)).toBe(3_000);
		expect(Math.max(...children)).toBeLessThanOrEqual(1_200);
	});

	test('its children count where the queue is full', async () => {
		await h.close();
		h = await house({ maxWaitingJobs: 3 });
		await robots('a', 'b', 'c', 'd');
		expect(await refusal({ target: { mode: 'all' } })).toMatchObject({ code: 'queue-full' });
		expect(await refusal({ target: { mode: { count: 3 } } })).toMatchObject({ state: 'running' });
	});

	test('keeps its place among the jobs of one call', async () => {
		const [robot] = await robots('a');
		const job = { kind: 'command', spec: { command: 'true' } };
		await h.engine.submit([job, { ...job, target: { mode: 'all' as const } }], admin);
		const [first] = robot!.assigned;
		expect((await h.engine.job(first!.job_id)).parentId).toBeNull();
	});

	test('one that is asked for again is known, though there would be no room for another', async () => {
		await h.close();
		h = await house({ maxWaitingJobs: 2 });
		await robots('a', 'b');
		const request = { target: { mode: 'all' as const }, idempotencyKey: 'once' };
		const first = await refusal(request);
		await h.submit({ target: { labels: { no: 'where' } } });
		expect(await refusal({ ...request, idempotencyKey: 'other' })).toMatchObject({
			code: 'queue-full',
		});
		expect(await refusal(request)).toMatchObject({ ...first, duplicate: true });
	});

	test('the same idempotency key is the same parent, even when its robots are gone by now', async () => {
		const robot = await h.robot('r');
		const request = { target: { mode: 'all' as const }, idempotencyKey: 'once' };
		const first = await refusal(request);
		expect(await refusal(request)).toMatchObject({ ...first, duplicate: true });
		await h.engine.removeRobot('r', admin);
		expect(await refusal(request)).toMatchObject({ ...first, duplicate: true });
		expect(await refusal({ ...request, priority: 'low' })).toMatchObject({ code: 'key-conflict' });
		expect(await refusal({ ...request, idempotencyKey: 'other' })).toMatchObject({
			code: 'too-few-robots',
		});
		expect(robot.assigned).toHaveLength(1);
		expect((await h.engine.jobs({ limit: 10 })).items).toHaveLength(2);
	});

	test('a repeated submit gives the slots back that it had reserved', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		await onAll({ idempotencyKey: 'once' });
		await settled();
		await Promise.all([a.end(), b.end()]);
		await onAll({ idempotencyKey: 'once' });
		const next = await h.submit({ target: { robot: 'a' } });
		await settled();
		expect(a.last.job_id).toBe(next);
	});
});

describe('how a parent ends', () => {
	test('it runs while a child is open and completes with the last, with every child in its result', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		const id = await onAll();
		await settled();
		expect(await job(id)).toMatchObject({
			state: 'running',
			attempt: 0,
			robotId: null,
			progress: 0,
			children: { total: 2, dispatched: 2, running: 0 },
		});
		await a.accept();
		await a.end();
		expect(await job(id)).toMatchObject({
			state: 'running',
			progress: 50,
			children: { total: 2, dispatched: 1, completed: 1 },
		});
		await b.end();
		const done = await job(id);
		expect(done).toMatchObject({
			state: 'completed',
			cause: null,
			error: null,
			progress: 100,
			children: { total: 2, completed: 2, unknown: 0 },
			output: { complete: true },
		});
		expect(done.result).toMatchObject({ exitCode: null, stdout: '' });
		const children = await childrenOf(id);
		expect(done.result!.outputs).toEqual({
			children: done.children,
			cells: children
				.map(({ cell, jobId, state, cause, robotId, startedAt, endedAt }) => ({
					cell,
					jobId,
					state,
					cause,
					robotId,
					startedAt,
					endedAt,
				}))
				.sort((x, y) => (x.cell! < y.cell! ? -1 : 1)),
			cellsLeftOut: 0,
		});
		expect(await path(id)).toBe('queued running completed');
		expect(await h.engine.attempts(id)).toEqual([]);
	});

	test('a child that fails makes it fail, after the others, with the numbers and what failed first', async () => {
		const [a, b, c] = (await robots('a', 'b', 'c')) as PlayedRobot[] as [
			PlayedRobot,
			PlayedRobot,
			PlayedRobot,
		];
		const id = await onAll();
		await settled();
		await b.end(exit(3));
		expect((await job(id)).state).toBe('running');
		await a.end();
		await c.end();
		const failed = await job(id);
		expect(failed).toMatchObject({
			state: 'failed',
			cause: 'dependency',
			error: {
				type: 'dependency',
				message: 'Not all children completed: 2 completed, 1 failed.',
			},
		});
		expect((failed.result!.outputs.cells as object[])[0]).toMatchObject({
			cell: b.robotId,
			state: 'failed',
		});
	});

	test('a child that is tried again keeps it open', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		const id = await onAll();
		await settled();
		await a.end(exit(75));
		await b.end();
		expect(await job(id)).toMatchObject({
			state: 'running',
			children: { pending: 1, completed: 1 },
		});
		expect((await h.engine.why(id)).text).toBe('The job waits for 1 of its 2 children: 1 pending.');
		await h.clock.advance(1_300);
		await a.end();
		expect((await job(id)).state).toBe('completed');
	});

	test('a child whose robot is lost is unknown, and counted apart', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		const id = await onAll({ onLoss: { waitMs: 10_000 } });
		await settled();
		await a.accept();
		await b.end(exit(1));
		await h.clock.advance(95_000);
		await a.vanish();
		await h.clock.advance(13_000);
		expect(await job(id)).toMatchObject({
			state: 'failed',
			cause: 'dependency',
			error: { message: 'Not all children completed: 1 failed, 1 unknown.' },
			children: { total: 2, failed: 2, unknown: 1 },
		});
	});

	test('children that nobody takes in time end it; of the time in the queue they get what was left', async () => {
		const robot = await h.robot('r');
		await robot.vanish();
		const notBefore = h.clock.now() + 4_000;
		const id = await onAll({ timeouts: { queueMs: 6_000 }, notBefore });
		await h.clock.advance(4_500);
		expect((await job(id)).state).toBe('running');
		await h.clock.advance(2_000);
		expect((await childrenOf(id))[0]).toMatchObject({
			state: 'timeout',
			cause: 'queue_timeout',
			// As it was asked for: a retry has all of it.
			timeouts: { queueMs: 6_000 },
		});
		expect(await job(id)).toMatchObject({
			state: 'failed',
			cause: 'dependency',
			error: { message: 'Not all children completed: 1 timeout.' },
		});
	});

	test('a deadline ends the waiting children, stops the running ones, and so ends it', async () => {
		const [a, away] = (await robots('a', 'away')) as [PlayedRobot, PlayedRobot];
		await away.vanish();
		const id = await onAll({ timeouts: { deadlineAt: h.clock.now() + 5_000 } });
		await settled();
		await a.accept();
		await h.clock.advance(6_500);
		expect(await statesOf(id)).toEqual({ [a.robotId]: 'running', [away.robotId]: 'timeout' });
		expect(a.cancels).toMatchObject([{ reason: 'deadline' }]);
		await a.end({ state: 'timeout', cause: 'deadline' });
		expect(await job(id)).toMatchObject({ state: 'failed', cause: 'dependency' });
	});

	test('the last two children that end in one turn end it once', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		const id = await onAll();
		await settled();
		const ended = h.engine.job(id, 30_000);
		a.session.result(resultOf(a.last));
		b.session.result(resultOf(b.last));
		await settled();
		expect((await ended).state).toBe('completed');
		expect(await path(id)).toBe('queued running completed');
		expect([a.acks, b.acks].map(({ length }) => length)).toEqual([1, 1]);
	});

	test('it wakes the waits on it', async () => {
		const robot = await h.robot('r');
		const id = await onAll();
		const { waitId } = await h.engine.createWait({ jobIds: [id] }, admin);
		await settled();
		await robot.end();
		expect(await h.engine.wait(waitId)).toMatchObject({
			state: 'due',
			jobs: [{ jobId: id, state: 'completed' }],
		});
	});
});

describe('a parent that is not eligible yet', () => {
	test('chooses its robots when its time has come', async () => {
		const early = await h.robot('early');
		const id = await onAll({ notBefore: h.clock.now() + 60_000 });
		expect(await job(id)).toMatchObject({ state: 'pending', children: { total: 0 }, progress: 0 });
		const late = await h.robot('late');
		await h.clock.advance(61_000);
		expect(Object.keys(await statesOf(id)).sort()).toEqual([early.robotId, late.robotId].sort());
		expect([early, late].map(({ assigned }) => assigned.length)).toEqual([1, 1]);
		await Promise.all([early.end(), late.end()]);
		expect(await path(id)).toBe('pending queued running completed');
	});

	test('fails when too few robots are left by then', async () => {
		await robots('a', 'b');
		const id = await onAll({ target: { mode: { count: 2 } }, notBefore: h.clock.now() + 60_000 });
		await h.engine.removeRobot('b', admin);
		const ended = h.engine.job(id, 120_000);
		await h.clock.advance(61_000);
		expect(await ended).toMatchObject({
			state: 'failed',
			cause: 'dependency',
			error: {
				type: 'dependency',
				message: expect.stringMatching(
					/^The job could not start\. 1 of 1 robots match \(any robot\), /,
				),
			},
		});
	});

	test('is cancelled at once, and never starts', async () => {
		const robot = await h.robot('r');
		const id = await onAll({ notBefore: h.clock.now() + 60_000 });
		expect((await h.engine.cancel(id, admin)).state).toBe('cancelled');
		await h.clock.advance(61_000);
		expect(robot.assigned).toEqual([]);
		expect(await childrenOf(id)).toEqual([]);
	});

	test('starts early when somebody moves it to queued by hand', async () => {
		const robot = await h.robot('r');
		const id = await onAll({ notBefore: h.clock.now() + 60_000 });
		expect((await h.engine.moveJob(id, 'queued', admin)).state).toBe('running');
		await settled();
		expect(robot.assigned).toHaveLength(1);
		await h.clock.advance(61_000);
		expect(await childrenOf(id)).toHaveLength(1);
	});
});

describe('cancelling a parent', () => {
	test('ends the waiting children at once and asks the others; it ends after them', async () => {
		const [a, b, away] = (await robots('a', 'b', 'away')) as [
			PlayedRobot,
			PlayedRobot,
			PlayedRobot,
		];
		await away.vanish();
		const id = await onAll();
		await settled();
		await a.accept();
		const cancelled = await h.engine.cancel(id, admin);
		expect(cancelled).toMatchObject({ state: 'running', cancelRequestedAt: h.clock.now() });
		expect(await statesOf(id)).toEqual({
			[a.robotId]: 'running',
			[b.robotId]: 'dispatched',
			[away.robotId]: 'cancelled',
		});
		expect([a, b].map(({ cancels }) => cancels.length)).toEqual([1, 1]);
		expect((await h.engine.why(id)).text).toBe(
			'The job was cancelled and waits for 2 of its 3 children: 1 dispatched, 1 running.',
		);
		await a.end({ state: 'cancelled', cause: 'cancelled' });
		await b.reject('not-started');
		expect(await job(id)).toMatchObject({
			state: 'cancelled',
			cause: 'cancelled',
			error: { type: 'cancelled', message: expect.stringContaining('3 cancelled') },
		});
		expect(await path(id)).toBe('queued running cancelled');
	});

	test('on a full disk cancels its children as soon as there is room, though nobody asks again', async () => {
		await onDisk();
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		const id = await onAll();
		await settled();
		h.store.fullAt('requestCancel', 1);
		await expect(h.engine.cancel(id, admin)).rejects.toThrow('full');
		expect([...a.cancels, ...b.cancels]).toEqual([]);
		await h.clock.advance(2_000);
		expect([a, b].map(({ cancels }) => cancels.length)).toEqual([1, 1]);
	});

	test('is final at once when no child has started, and harmless twice', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		await Promise.all([a.vanish(), b.vanish()]);
		const id = await onAll();
		expect((await h.engine.cancel(id, admin)).state).toBe('cancelled');
		expect((await h.engine.cancel(id, admin)).state).toBe('cancelled');
		const timeline = await h.engine.timeline((await childrenOf(id))[0]!.jobId);
		expect(timeline.at(-1)).toMatchObject({ to: 'cancelled', by: 'key:test' });
	});

	test('comes too late for children that all complete: who finished first, finished', async () => {
		const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
		const id = await onAll();
		await settled();
		await h.engine.cancel(id, admin);
		await a.end();
		await b.end();
		expect(await job(id)).toMatchObject({ state: 'completed', error: null });
	});

	test('leaves no child behind that was about to be tried again', async () => {
		const robot = await h.robot('r');
		const id = await onAll();
		await settled();
		await robot.end(exit(75));
		expect((await childrenOf(id))[0]!.state).toBe('pending');
		await h.engine.cancel(id, admin);
		expect(await job(id)).toMatchObject({ state: 'cancelled', children: { cancelled: 1 } });
	});

	test('that met a full disk half-way is finished by the next cancel', async () => {
		const all = await robots('a', 'b');
		await Promise.all(all.map((robot) => robot.vanish()));
		const id = await onAll();
		const commit = h.store.commit.bind(h.store);
		h.store.commit = (deeds) =>
			deeds.some((deed) => deed.do === 'moveJob')
				? Promise.reject(new StoreFull('the disk is full'))
				: commit(deeds);
		await expect(h.engine.cancel(id, admin)).rejects.toMatchObject({ code: 'store-full' });
		expect(await job(id)).toMatchObject({ state: 'running', children: { queued: 2 } });
		h.store.commit = commit;
		expect(await h.engine.cancel(id, admin)).toMatchObject({ state: 'cancelled' });
	});

	// The result of a child may come before, in, or behind any commit of the cancel.
	test.each([0, 1, 2, 3, 4, 5])(
		'and a child that ends %i rounds later settle it once, by what was stored first',
		async (rounds) => {
			const [a, b] = (await robots('a', 'b')) as [PlayedRobot, PlayedRobot];
			const id = await onAll();
			await settled();
			await b.end();
			const cancelling = h.engine.cancel(id, admin);
			for (let i = 0; i < rounds; i += 1) await new Promise((resolve) => setImmediate(resolve));
			a.session.result(resultOf(a.last, exit(1)));
			await cancelling;
			await settled();
			const { state, cancelRequestedAt } = await job(id);
			expect(state).toBe(cancelRequestedAt === null ? 'failed' : 'cancelled');
			expect(await path(id)).toBe(`queued running ${state}`);
			expect(await statesOf(id)).toEqual({ [a.robotId]: 'failed', [b.robotId]: 'completed' });
		},
	);
});

describe('a service that is killed', () => {
	/** Ends whatever a robot holds, as an agent does that comes back. */
	async function finish(robot: PlayedRobot): Promise<void> {
		const last = robot.assigned.at(-1);
		const ended = last && { ...last, state: 'ended' as const, output: { stdout: 0, stderr: 0 } };
		const session = await robot.connect(ended ? { attempts: [ended] } : {});
		if (session.verdicts.some(({ act }) => act === 'send_result')) await robot.end({}, last);
		while (robot.assigned.at(-1) !== last) {
			const next = robot.last;
			await robot.end({}, next);
			if (robot.last === next) return;
		}
	}

	const rounds = [0, 1, 2, 3, 4, 6, 8, 12];

	test.each(rounds)(
		'%i rounds into the life of a parent leaves it whole: it ends once, after all its children',
		async (round) => {
			await onDisk();
			const [a, b, c] = (await robots('a', 'b', 'c')) as [PlayedRobot, PlayedRobot, PlayedRobot];
			await c.vanish();
			const request = { kind: 'command', spec: { command: 'true' }, idempotencyKey: 'once' };
			const submit = () => h.engine.submit([{ ...request, target: { mode: 'all' } }], admin);
			const life = async () => {
				await submit();
				a.session.result(resultOf(a.last));
				b.session.result(resultOf(b.last));
			};
			void life().catch(() => undefined);
			for (let i = 0; i < round; i += 1) await new Promise((resolve) => setImmediate(resolve));
			await h.restart();
			// The caller got no answer, so it asks again.
			const [answer] = await submit();
			const { jobId } = answer as { jobId: string };
			await settled();
			for (const robot of [a, b, c]) await finish(robot);
			expect(await job(jobId)).toMatchObject({
				state: 'completed',
				children: { total: 3, completed: 3 },
			});
			expect(await path(jobId)).toBe('queued running completed');
			expect((await h.engine.jobs({ limit: 100 })).items).toHaveLength(4);
		},
	);

	test.each(rounds)(
		'%i rounds into a cancel forgets no child, and the cancel goes on by itself',
		async (round) => {
			await onDisk();
			const all = await robots('a', 'b', 'c', 'd');
			await all[0]!.vanish();
			await all[1]!.vanish();
			const id = await onAll();
			await settled();
			void h.engine.cancel(id, admin).catch(() => undefined);
			for (let i = 0; i < round; i += 1) await new Promise((resolve) => setImmediate(resolve));
			const wished = (await job(id)).cancelRequestedAt !== null;
			await h.restart();
			const { children } = await job(id);
			expect(children).toMatchObject({ cancelled: wished ? 2 : 0, queued: wished ? 0 : 2 });
			if (!wished) return;
			for (const robot of all.slice(2)) {
				const held = { ...robot.last, state: 'running' as const, output: { stdout: 0, stderr: 0 } };
				const session = await robot.connect({ attempts: [held] });
				expect(session.verdicts).toMatchObject([{ act: 'kill' }]);
				await robot.end({ state: 'cancelled', cause: 'cancelled' });
			}
			expect(await job(id)).toMatchObject({ state: 'cancelled', children: { cancelled: 4 } });
			expect(await path(id)).toBe('queued running cancelled');
		},
	);

	test('while a parent waits for its time starts it once', async () => {
		await onDisk();
		const robot = await h.robot('r');
		const id = await onAll({ notBefore: h.clock.now() + 60_000 });
		await h.restart();
		await robot.connect();
		await h.clock.advance(61_000);
		expect(robot.assigned).toHaveLength(1);
		await h.restart();
		await h.clock.advance(1_000);
		expect(await childrenOf(id)).toHaveLength(1);
		await finish(robot);
		expect((await job(id)).state).toBe('completed');
	});
});

describe('by hand', () => {
	test('a parent with open children cannot be ended, a child can, and ends it', async () => {
		const robot = await h.robot('r');
		const id = await onAll();
		await settled();
		for (const to of ['completed', 'failed', 'timeout'] as const) {
			await expect(h.engine.moveJob(id, to, admin)).rejects.toMatchObject({
				code: 'open-children',
				details: { open: 1 },
			});
		}
		await expect(h.engine.moveJob(id, 'pending', admin)).rejects.toMatchObject({
			code: 'illegal-move',
		});
		const [child] = (await childrenOf(id)) as [Job];
		await h.engine.moveJob(child.jobId, 'failed', admin);
		await settled();
		expect(await job(id)).toMatchObject({ state: 'failed', cause: 'dependency' });
		expect(robot.cancels).toHaveLength(1);
	});

	test('a waiting child that is ended ends it too', async () => {
		const robot = await h.robot('r');
		await robot.vanish();
		const id = await onAll();
		const [child] = (await childrenOf(id)) as [Job];
		await h.engine.moveJob(child.jobId, 'failed', admin);
		expect((await job(id)).state).toBe('failed');
	});

	test('only a parent goes from queued to running without a robot', async () => {
		const id = await h.submit();
		await expect(h.engine.moveJob(id, 'running', admin)).rejects.toMatchObject({
			code: 'illegal-move',
		});
	});

	test('to try it again is a new parent, which chooses its robots anew', async () => {
		const a = await h.robot('a');
		const id = await onAll({ priority: 'high' });
		await settled();
		await expect(h.engine.retry(id, admin)).rejects.toMatchObject({ code: 'not-final' });
		await a.end(exit(1));
		const b = await h.robot('b');
		const again = await h.engine.retry(id, admin);
		expect(again).toMatchObject({ retryOf: id, state: 'running' });
		expect(Object.keys(await statesOf(again.jobId)).sort()).toEqual([a.robotId, b.robotId].sort());
		expect(await childrenOf(id)).toHaveLength(1);
		expect(await job(again.jobId)).toMatchObject({ priority: 'high', retryOf: id });
	});

	test('to try a child again is a job of its own: its parent has ended', async () => {
		const robot = await h.robot('r');
		const id = await onAll();
		await settled();
		await robot.end(exit(1));
		const [child] = (await childrenOf(id)) as [Job];
		const again = await h.engine.retry(child.jobId, admin);
		await settled();
		await robot.end();
		expect(await job(again.jobId)).toMatchObject({
			state: 'completed',
			parentId: null,
			cell: null,
			retryOf: child.jobId,
		});
		expect(await job(id)).toMatchObject({ state: 'failed', children: { total: 1 } });
	});
});

test('a thousand children come, wait for their robots, and are cancelled in bulk', async () => {
	await Promise.all(
		Array.from({ length: 1_000 }, async (_, i) => {
			const { token } = await h.engine.createToken({}, admin);
			await h.engine.enrol(token, `key ${i}`, `robot-${i}`);
		}),
	);
	const id = await onAll();
	expect((await job(id)).children).toMatchObject({ total: 1_000, queued: 1_000 });
	expect((await h.engine.cancel(id, admin)).state).toBe('cancelled');
	const { result } = await job(id);
	expect(result!.outputs).toMatchObject({ children: { cancelled: 1_000 }, cellsLeftOut: 0 });
});
