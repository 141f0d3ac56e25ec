/** The life of a job, race by race (docs/states.md). */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StoreFull } from '../../../dispatcher/store/open';
import { exit, house, type House, admin, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
let folder: string | undefined;

beforeEach(async () => {
	h = await house();
});
afterEach(async () => {
	await h.close();
	if (folder) rmSync(folder, { recursive: true });
	folder = undefined;
});

async function onDisk(): Promise<House> {
	await h.close();
	folder = mkdtempSync(join(tmpdir(), 'rf-engine-'));
	h = await house({ file: join(folder, 'store.db') });
	return h;
}

const state = async (jobId: string) => (await h.engine.job(jobId)).state;
const path = async (jobId: string) =>
	(await h.engine.timeline(jobId)).map(({ to }) => to).join(' ');

test('a job goes queued, dispatched, running, completed, and its timeline says who moved it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	expect(await state(id)).toBe('dispatched');
	await robot.accept();
	expect(await state(id)).toBe('running');
	await robot.end({ result: { stdout: 'hello\n' } });
	const job = await h.engine.job(id);
	expect(job).toMatchObject({ state: 'completed', cause: null, progress: 100, attempt: 1 });
	expect(job.result).toMatchObject({ exitCode: 0, stdout: 'hello\n' });
	expect(await path(id)).toBe('queued dispatched running completed');
	const timeline = await h.engine.timeline(id);
	expect(timeline.map(({ by }) => by)).toEqual([
		'key:test',
		'dispatcher',
		`robot:${robot.robotId}`,
		`robot:${robot.robotId}`,
	]);
});

test('a result that overtakes the acceptance makes both moves in one commit', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end();
	expect(await path(id)).toBe('queued dispatched running completed');
});

test('a quick result takes its acceptance along; a slow job is running a moment later', async () => {
	await h.close();
	h = await house({ acceptGatherMs: 10 });
	const robot = await h.robot('r1');
	const quick = await h.submit();
	await settled();
	await robot.accept();
	expect(await state(quick)).toBe('dispatched');
	await robot.end();
	expect(await path(quick)).toBe('queued dispatched running completed');
	const slow = await h.submit();
	await settled();
	await robot.accept();
	await h.clock.advance(10);
	expect(await state(slow)).toBe('running');
	await robot.end();
	expect(await path(slow)).toBe('queued dispatched running completed');
});

test('a robot with one slot gets one job at a time, the best first', async () => {
	const robot = await h.robot('r1');
	const first = await h.submit();
	const low = await h.submit({ priority: 'low' });
	const critical = await h.submit({ priority: 'critical' });
	const normal = await h.submit();
	await settled();
	for (const expected of [first, critical, normal, low]) {
		expect(robot.last.job_id).toBe(expected);
		expect(robot.assigned.map((a) => a.job_id).indexOf(expected)).toBe(robot.assigned.length - 1);
		await robot.end();
	}
	expect(robot.assigned).toHaveLength(4);
});

test('a job is given only to a robot that carries its labels and capabilities', async () => {
	const plain = await h.robot('plain');
	const id = await h.submit({ target: { labels: { site: 'berlin' }, capabilities: ['gpu'] } });
	await settled();
	expect(plain.assigned).toHaveLength(0);
	expect((await h.engine.why(id)).text).toBe(
		'None of the 1 robots matches label site=berlin, capability gpu (plain has no label site=berlin).',
	);
	const fit = await h.robot('fit', { labels: { site: 'berlin' }, capabilities: ['gpu', 'docker'] });
	await settled();
	expect(fit.last.job_id).toBe(id);
});

test('a job pinned to a robot that is away waits for it', async () => {
	const robot = await h.robot('r1');
	await h.robot('r2');
	await robot.vanish();
	const id = await h.submit({ target: { robot: 'r1' } });
	await settled();
	expect(await state(id)).toBe('queued');
	expect((await h.engine.why(id)).text).toBe('The job waits for robot r1, which is not connected.');
	await robot.connect();
	expect(robot.last.job_id).toBe(id);
});

test('an exit code other than 0 is final unless the job lists it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end(exit(3));
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'exit_code', attempt: 1 });
});

test('a retryable failure is tried again after its back-off, three times in all', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end(exit(75));
	expect(await state(id)).toBe('pending');
	await h.clock.advance(1_300);
	await robot.end(exit(75));
	await h.clock.advance(2_600);
	await robot.end(exit(75));
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'exit_code', attempt: 3 });
	expect((await h.engine.attempts(id)).map((a) => a.outcome)).toEqual([
		'failed',
		'failed',
		'failed',
	]);
	const epochs = robot.assigned.map((a) => a.epoch);
	expect([...epochs].sort((a, b) => a - b)).toEqual(epochs);
	expect(new Set(epochs).size).toBe(3);
});

test('an idempotent job is tried again whatever exit code it had', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ idempotent: true });
	await settled();
	await robot.end(exit(3));
	expect(await state(id)).toBe('pending');
});

test('a refusal sends the job elsewhere and costs no try', async () => {
	const first = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const second = await h.robot('r2');
	await first.reject('paused');
	expect(second.last.job_id).toBe(id);
	await second.end(exit(75));
	expect(await state(id)).toBe('pending');
	expect((await h.engine.attempts(id)).map((a) => a.outcome)).toEqual(['refused', 'failed']);
});

test('a robot that refused for now is asked again half a minute later', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.reject('paused');
	expect(await state(id)).toBe('queued');
	await h.clock.advance(29_000);
	expect(robot.assigned).toHaveLength(1);
	await h.clock.advance(2_500);
	expect(robot.assigned).toHaveLength(2);
});

test('a job that every fitting robot refused for good fails with cause policy', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.reject('unsupported-kind', true);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'policy' });
});

test('an assignment nobody answers is revoked, not requeued; the proof requeues it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await h.clock.advance(32_000);
	expect(robot.revokes).toEqual([id]);
	expect(await state(id)).toBe('dispatched');
	await robot.reject('not-started');
	expect(await state(id)).toBe('queued');
	expect((await h.engine.attempts(id)).map((a) => a.outcome)).toEqual(['not-started']);
});

test('a robot that had to be asked whether it started is passed over for half a minute', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await h.clock.advance(32_000);
	await robot.reject('not-started');
	await h.clock.advance(29_000);
	expect(robot.assigned).toHaveLength(1);
	const other = await h.robot('r2');
	expect(other.last).toMatchObject({ job_id: id, attempt: 2 });
	await other.reject('paused');
	await h.clock.advance(2_500);
	expect(robot.last).toMatchObject({ job_id: id, attempt: 3 });
});

test('a robot that comes back with the same journal and does not know the attempt never started it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.vanish();
	await robot.connect();
	await settled();
	expect((await h.engine.attempts(id)).map((a) => a.outcome)).toEqual(['not-started', null]);
	expect(robot.last).toMatchObject({ job_id: id, attempt: 2 });
});

test('a robot that comes back without its journal has lost its attempts: unknown, never run twice', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	await robot.vanish();
	await robot.connect({ journal_id: 'another' });
	await settled();
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(robot.assigned).toHaveLength(1);
});

/** From now on the disk takes everything but the ends of attempts. */
function refuseSettles(): () => void {
	const { store } = h;
	const commit = store.commit.bind(store);
	store.commit = (deeds) =>
		deeds.some((deed) => deed.do === 'settle')
			? Promise.reject(new StoreFull('database or disk is full'))
			: commit(deeds);
	return () => (store.commit = commit);
}

test('a new journal is believed only when its losses are on disk: a crash in between runs nothing twice', async () => {
	await onDisk();
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.vanish();
	refuseSettles();
	await robot.connect({ journal_id: 'another' });
	await h.restart();
	await robot.connect({ journal_id: 'another' });
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(robot.assigned).toHaveLength(1);
	// From here on the new journal is proof like any other.
	const next = await h.submit();
	await settled();
	await robot.vanish();
	await robot.connect({ journal_id: 'another' });
	expect((await h.engine.attempts(next)).map(({ outcome }) => outcome)).toEqual([
		'not-started',
		null,
	]);
});

test('who has lost its memory has no proof to give: its "not started" does not run the job again', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.vanish();
	const mend = refuseSettles();
	await robot.connect({ journal_id: 'another' });
	mend();
	await robot.reject('not-started');
	await h.clock.advance(2_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(robot.assigned).toHaveLength(1);
});

test('a loss that a full disk refused is written down as soon as there is room', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 10_000 } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	const mend = refuseSettles();
	await h.clock.advance(15_000);
	expect(await state(id)).toBe('running');
	mend();
	await h.clock.advance(2_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
});

test('a job that is held, and one that was let go again, still ends at its own limit', async () => {
	const held = await h.submit({ timeouts: { queueMs: 5_000 } });
	const freed = await h.submit({ timeouts: { deadlineAt: h.clock.now() + 6_000 } });
	await h.engine.moveJob(held, 'pending', admin);
	await h.engine.moveJob(freed, 'pending', admin);
	await h.engine.moveJob(freed, 'queued', admin);
	await h.clock.advance(4_000);
	expect([await state(held), await state(freed)]).toEqual(['pending', 'queued']);
	await h.clock.advance(3_000);
	expect(await h.engine.job(held)).toMatchObject({ state: 'timeout', cause: 'queue_timeout' });
	expect(await h.engine.job(freed)).toMatchObject({ state: 'timeout', cause: 'deadline' });
});

test('a short absence changes nothing: the robot goes on and its result counts', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	await robot.vanish();
	await h.clock.advance(60_000);
	const held = { ...robot.last, state: 'running' as const, output: { stdout: 0, stderr: 0 } };
	const session = await robot.connect({ attempts: [held] });
	expect(session.verdicts).toMatchObject([{ act: 'continue' }]);
	await robot.end();
	expect(await state(id)).toBe('completed');
});

test('a robot away longer than onLoss.waitMs: the job says unknown, and a late result is kept beside it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 60_000 } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.clock.advance(58_000);
	expect(await state(id)).toBe('running');
	await h.clock.advance(5_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
	const held = { ...robot.last, state: 'ended' as const, output: { stdout: 0, stderr: 0 } };
	const session = await robot.connect({ attempts: [held] });
	expect(session.verdicts).toMatchObject([{ act: 'send_result' }]);
	await robot.end({ result: { stdout: 'late' } });
	expect(await state(id)).toBe('failed');
	expect((await h.engine.attempts(id))[0]!.lateResult).toMatchObject({ stdout: 'late' });
	expect(robot.acks).toHaveLength(1);
});

test('onLoss retry gives the job to another robot, and the stale one is told to stop', async () => {
	const first = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 10_000, then: 'retry' } });
	await settled();
	await first.accept();
	await h.clock.advance(95_000);
	await first.vanish();
	const second = await h.robot('r2');
	await h.clock.advance(13_000);
	expect(second.last).toMatchObject({ job_id: id, attempt: 2 });
	const held = { ...first.last, state: 'running' as const, output: { stdout: 0, stderr: 0 } };
	const session = await first.connect({ attempts: [held] });
	expect(session.verdicts).toMatchObject([{ act: 'kill' }]);
	await first.end({}, first.last);
	expect(await state(id)).toBe('dispatched');
	await second.end();
	expect(await state(id)).toBe('completed');
});

test('a lost attempt that nobody followed may come to its end; one whose job went on without it may not', async () => {
	const robot = await h.robot('r1');
	const running = () => ({
		attempts: [{ ...robot.last, state: 'running' as const, output: { stdout: 0, stderr: 0 } }],
	});
	const lose = async (job: Parameters<typeof h.submit>[0]) => {
		const id = await h.submit(job);
		await settled();
		await robot.accept();
		await h.clock.advance(95_000);
		await robot.vanish();
		await h.clock.advance(13_000);
		return id;
	};
	await lose({ onLoss: { waitMs: 10_000 } });
	expect((await robot.connect(running())).verdicts).toMatchObject([{ act: 'continue' }]);
	await robot.end();

	// Another attempt has come to its end meanwhile.
	const retried = await lose({ onLoss: { waitMs: 10_000, then: 'retry' } });
	const second = await h.robot('r2');
	await settled();
	await second.end();
	expect(await state(retried)).toBe('completed');
	expect((await robot.connect(running())).verdicts).toMatchObject([{ act: 'kill' }]);
	await robot.end();
	await second.vanish();

	// It would run beside the next attempt.
	const waiting = await lose({ onLoss: { waitMs: 10_000, then: 'retry' } });
	expect(await state(waiting)).toBe('queued');
	const first = robot.last;
	expect((await robot.connect(running())).verdicts).toMatchObject([{ act: 'kill' }]);
	await robot.end({}, first);
	await robot.end();

	const cancelled = await h.submit({ onLoss: { waitMs: 10_000 } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.engine.cancel(cancelled, admin);
	await h.clock.advance(13_000);
	expect(await state(cancelled)).toBe('cancelled');
	expect((await robot.connect(running())).verdicts).toMatchObject([{ act: 'kill' }]);
});

test('loss time does not run until the service has been ready for 90 seconds', async () => {
	await onDisk();
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 10_000 } });
	await settled();
	await robot.accept();
	await h.restart();
	await h.clock.advance(95_000);
	expect(await state(id)).toBe('running');
	await h.clock.advance(12_000);
	expect(await state(id)).toBe('failed');
});

test('a service killed between assignment and acceptance finds the attempt again', async () => {
	await onDisk();
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const assignment = robot.last;
	await h.restart();
	const held = { ...assignment, state: 'running' as const, output: { stdout: 0, stderr: 0 } };
	await robot.connect({ attempts: [held] });
	expect(await state(id)).toBe('running');
	await robot.end({}, assignment);
	expect(await path(id)).toBe('queued dispatched running completed');
});

test('queued jobs survive a restart in their order', async () => {
	await onDisk();
	const ids = [];
	for (let i = 0; i < 5; i += 1) ids.push(await h.submit());
	const urgent = await h.submit({ priority: 'critical' });
	await h.restart();
	const robot = await h.robot('r1');
	await settled();
	for (const id of [urgent, ...ids]) {
		expect(robot.last.job_id).toBe(id);
		await robot.end();
	}
});

test('the same result twice gets the same acknowledgement and changes nothing', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const result = resultOf(robot.last, { result: { stdout: 'once' } });
	robot.session.result(result);
	robot.session.result(result);
	await settled();
	robot.session.result({ ...result, result: { ...result.result, stdout: 'twice' } });
	await settled();
	expect(robot.acks).toHaveLength(3);
	expect((await h.engine.job(id)).result!.stdout).toBe('once');
	expect(await path(id)).toBe('queued dispatched running completed');
});

test('a result with a wrong token, epoch or sender changes nothing', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const other = await h.robot('r2');
	robot.session.result({ ...resultOf(robot.last), token: 'guessed' });
	robot.session.result({ ...resultOf(robot.last), epoch: 1 });
	other.session.result(resultOf(robot.last));
	await settled();
	expect(await state(id)).toBe('dispatched');
	expect([...robot.acks, ...other.acks]).toHaveLength(0);
});

test('cancelling a queued job ends it at once, and twice is harmless', async () => {
	const id = await h.submit();
	expect((await h.engine.cancel(id, admin)).state).toBe('cancelled');
	expect((await h.engine.cancel(id, admin)).state).toBe('cancelled');
	const robot = await h.robot('r1');
	await settled();
	expect(robot.assigned).toHaveLength(0);
});

test('cancelling a running job is a wish until the robot answers; who finished first, finished', async () => {
	const robot = await h.robot('r1');
	const [a, b] = [await h.submit(), await h.submit()];
	await settled();
	await robot.accept();
	expect(await h.engine.cancel(a, admin)).toMatchObject({ state: 'running' });
	expect(robot.cancels).toEqual([{ jobId: a, reason: 'cancelled' }]);
	await robot.end({ state: 'cancelled', cause: 'cancelled' });
	expect(await state(a)).toBe('cancelled');
	await robot.accept();
	await h.engine.cancel(b, admin);
	await robot.end();
	expect(await state(b)).toBe('completed');
});

test('a cancelled job never becomes pending or queued again', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ idempotent: true });
	await settled();
	await robot.accept();
	await h.engine.cancel(id, admin);
	await robot.end(exit(75));
	expect(await state(id)).toBe('failed');
});

test('cancel and result in the same turn settle once', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	const cancelled = h.engine.cancel(id, admin);
	robot.session.result(resultOf(robot.last));
	await cancelled;
	await settled();
	expect(await state(id)).toBe('completed');
	expect(await path(id)).toBe('queued dispatched running completed');
});

test('notBefore holds a job back, then it starts under the same id', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ notBefore: h.clock.now() + 60_000 });
	await settled();
	expect(await state(id)).toBe('pending');
	await h.clock.advance(59_000);
	expect(robot.assigned).toHaveLength(0);
	await h.clock.advance(2_000);
	expect(robot.last.job_id).toBe(id);
});

test('a job nobody takes in time ends as timeout with cause queue_timeout', async () => {
	const id = await h.submit({ timeouts: { queueMs: 5_000 } });
	await h.clock.advance(6_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'timeout', cause: 'queue_timeout' });
});

test('a refused job keeps its queue time-out, a job that was tried has none', async () => {
	const robot = await h.robot('r1');
	const refused = await h.submit({ timeouts: { queueMs: 5_000 } });
	await settled();
	await robot.reject('paused');
	await h.clock.advance(6_000);
	expect(await h.engine.job(refused)).toMatchObject({ state: 'timeout', cause: 'queue_timeout' });
	const tried = await h.submit({ timeouts: { queueMs: 5_000 } });
	await settled();
	await h.clock.advance(10_000);
	await robot.end(exit(75));
	await h.clock.advance(2_000);
	expect(await h.engine.job(tried)).toMatchObject({ state: 'dispatched', attempt: 2 });
});

test('a deadline ends a waiting job, and stops a running one through its robot', async () => {
	const robot = await h.robot('r1');
	const running = await h.submit({ timeouts: { deadlineAt: h.clock.now() + 5_000 } });
	const waiting = await h.submit({ timeouts: { deadlineAt: h.clock.now() + 5_000 } });
	await settled();
	await robot.accept();
	await h.clock.advance(6_500);
	expect(await h.engine.job(waiting)).toMatchObject({ state: 'timeout', cause: 'deadline' });
	expect(robot.cancels).toEqual([{ jobId: running, reason: 'deadline' }]);
	expect(await state(running)).toBe('running');
});

test('who repeats a request gets the job it made, even when it would be refused by now', async () => {
	await h.robot('r1');
	await h.robot('r2');
	await h.engine.putGroup('night', { robots: ['r1'] }, admin);
	const base = { kind: 'command', spec: { command: 'true' } };
	const requests = [
		{ ...base, idempotencyKey: 'robot', target: { robot: 'r2' } },
		{ ...base, idempotencyKey: 'group', target: { group: 'night' } },
		{
			...base,
			...{ idempotencyKey: 'late', target: { robot: 'r1' } },
			offline: { until: h.clock.now() + 1_000 },
		},
	];
	const first = await h.engine.submit(requests, admin);
	await h.engine.removeRobot('r2', admin);
	await h.engine.removeGroup('night', admin);
	await h.clock.advance(2_000);
	const again = await h.engine.submit(requests, admin);
	expect(again).toMatchObject(
		first.map((one) => ({ jobId: (one as { jobId: string }).jobId, duplicate: true })),
	);
	const [other, fresh] = await h.engine.submit(
		[
			{ ...requests[0]!, priority: 'low' },
			{ ...requests[0]!, idempotencyKey: 'new' },
		],
		admin,
	);
	expect(other).toMatchObject({ code: 'key-conflict' });
	expect(fresh).toMatchObject({ code: 'unknown-robot' });
	expect((await h.engine.jobs({ limit: 10 })).items).toHaveLength(3);
});

test('the same idempotency key with the same request is the same job; with another it is a conflict', async () => {
	const request = { kind: 'command', spec: { command: 'true' }, idempotencyKey: 'once' };
	const [first] = await h.engine.submit([request], admin);
	const [again] = await h.engine.submit([request], admin);
	expect(again).toMatchObject({ jobId: (first as { jobId: string }).jobId, duplicate: true });
	const [other] = await h.engine.submit([{ ...request, priority: 'high' }], admin);
	expect(other).toMatchObject({
		code: 'key-conflict',
		details: { jobId: (first as { jobId: string }).jobId },
	});
	const [stranger] = await h.engine.submit([request], { ...admin, keyId: 'another' });
	expect(stranger).not.toHaveProperty('duplicate');
});

test('twenty callers with one key at the same moment make one job', async () => {
	const request = { kind: 'command', spec: { command: 'true' }, idempotencyKey: 'race' };
	const answers = await Promise.all(
		Array.from({ length: 20 }, () => h.engine.submit([request], admin)),
	);
	expect(new Set(answers.flat().map((a) => (a as { jobId: string }).jobId)).size).toBe(1);
	expect((await h.engine.jobs({ limit: 100 })).items).toHaveLength(1);
});

test('a job waits in the store when memory is not enough, and all of them run in order', async () => {
	const robot = await h.robot('r1', { slots: 7 });
	const jobs = Array.from({ length: 1_500 }, () => ({
		kind: 'command',
		spec: { command: 'true' },
	}));
	const answers = await h.engine.submit(jobs, admin);
	for (let ended = 0; ended < 1_500;) {
		await settled();
		for (const assignment of robot.assigned.slice(ended)) {
			robot.session.result(resultOf(assignment));
			ended += 1;
		}
	}
	await settled();
	expect(robot.assigned.map((a) => a.job_id)).toEqual(
		answers.map((a) => (a as { jobId: string }).jobId),
	);
	expect((await h.engine.queueStats()).byState.completed).toBe(1_500);
});

test('output is taken by offset only: repeats and gaps are answered with what is stored', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	const { job_id: jobId, epoch } = robot.last;
	const send = async (offset: number, text: string) => {
		robot.session.output({ jobId, epoch, stream: 'stdout', offset, data: Buffer.from(text) });
		await settled();
		return robot.outputAcks.at(-1)!.have;
	};
	expect(await send(0, 'hello ')).toBe(6);
	expect(await send(0, 'hello ')).toBe(6);
	expect(await send(9, 'gap')).toBe(6);
	expect(await send(6, 'world')).toBe(11);
	await robot.end({
		output: { stdout: 12, stderr: 0 },
		inline: { stdout: { offset: 11, data_b64: Buffer.from('!').toString('base64') } },
	});
	const chunk = await h.engine.output(id, 'stdout', 0, 100);
	expect(Buffer.from(chunk.data).toString()).toBe('hello world!');
	expect(chunk).toMatchObject({ have: 12, complete: true });
	expect(Buffer.from((await h.engine.output(id, 'stdout', 4, 3)).data).toString()).toBe('o w');
	expect(robot.acks.at(-1)!.output).toEqual({ stdout: 12, stderr: 0 });
});

test('the end of a job wakes who waits for it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const waiting = h.engine.job(id, 30_000);
	await robot.end();
	expect((await waiting).state).toBe('completed');
});

test('waiting for a job gives up when the time is over, and the job goes on', async () => {
	const id = await h.submit();
	const waiting = h.engine.job(id, 1_000);
	await settled();
	await h.clock.advance(1_100);
	expect((await waiting).state).toBe('queued');
});

test('retry makes a new job that names the old one, and only of a job that has ended', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await expect(h.engine.retry(id, admin)).rejects.toMatchObject({ code: 'not-final' });
	await robot.end(exit(1));
	const again = await h.engine.retry(id, admin);
	expect(again).toMatchObject({ retryOf: id });
	await settled();
	expect(robot.last.job_id).toBe(again.jobId);
});

test('a retry that is asked for again, or twice at once, is one job while it has not ended', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end(exit(1));
	const [one, two] = await Promise.all([h.engine.retry(id, admin), h.engine.retry(id, admin)]);
	expect(one.jobId).toBe(two.jobId);
	expect(await h.engine.retry(id, admin)).toMatchObject({
		jobId: one.jobId,
		duplicate: true,
		retryOf: id,
	});
	await settled();
	await robot.end(exit(1));
	expect((await h.engine.retry(id, admin)).jobId).not.toBe(one.jobId);
});

test('a robot whose clock was set may say what it likes of how long it took: the job began when it was given away, at most', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const { createdAt } = await h.engine.job(id);
	await robot.end({ result: { duration_ms: 1e16 } });
	const job = await h.engine.job(id);
	expect(job).toMatchObject({ state: 'completed', startedAt: createdAt });
	expect((await h.engine.jobs({ limit: 1 })).items).toMatchObject([{ jobId: id }]);
});

test('a move that the table does not know is refused and changes nothing', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end();
	await expect(h.engine.moveJob(id, 'running', admin)).rejects.toMatchObject({
		code: 'illegal-move',
	});
	expect(await state(id)).toBe('completed');
});

test('a second connection of the same robot is refused while the first lives', async () => {
	const robot = await h.robot('r1');
	await expect(robot.connect({ boot_id: 'clone' })).rejects.toMatchObject({
		code: 'robot-elsewhere',
	});
	await robot.connect();
	expect(robot.closedWith).toBe(1000);
});

test('an enrollment token is used up by its robots, and the same key is the same robot', async () => {
	const { token } = await h.engine.createToken({ uses: 1 }, admin);
	const first = await h.engine.enrol(token, 'key A', 'a');
	expect(await h.engine.enrol(token, 'key A', 'a')).toEqual(first);
	await expect(h.engine.enrol(token, 'key B', 'b')).rejects.toMatchObject({ code: 'bad-token' });
	const expired = await h.engine.createToken({ ttlMs: 1_000 }, admin);
	h.clock.jump(2_000);
	await expect(h.engine.enrol(expired.token, 'key C', 'c')).rejects.toMatchObject({
		code: 'bad-token',
	});
});

test('a removed robot is closed with 4001 and cannot come back', async () => {
	const robot = await h.robot('r1');
	await h.engine.removeRobot('r1', admin);
	expect(robot.closedWith).toBe(4001);
	await expect(robot.connect()).rejects.toMatchObject({ code: 'robot-revoked' });
});

test('a paused robot gets nothing new until it is resumed', async () => {
	const robot = await h.robot('r1');
	await h.engine.pauseRobot('r1', admin);
	const id = await h.submit();
	await settled();
	expect(robot.assigned).toHaveLength(0);
	await h.engine.resumeRobot('r1', admin);
	await settled();
	expect(robot.last.job_id).toBe(id);
});
