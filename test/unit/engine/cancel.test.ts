/** A cancel against everything that may happen to the job at the same moment. */
import { admin, exit, heldAs, house, type House, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

/** A cancel looks at the job first: after this it stands in the next turn. */
const asked = async () => {
	for (let i = 0; i < 20; i += 1) await null;
};
const cancelled = { state: 'cancelled', cause: 'cancelled' } as const;

test('cancel and assignment in the same turn: the job is either cancelled or given away and then stopped', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	await robot.vanish();
	const ids = [await h.submit(), await h.submit()];
	const cancels = ids.map((id) => h.engine.cancel(id, admin));
	await robot.connect();
	await Promise.all(cancels);
	await settled();
	for (const id of ids) expect(await h.state(id)).toBe('cancelled');
	expect(robot.assigned).toHaveLength(0);
	expect((await h.engine.robot('r1')).held).toBe(0);
});

test('cancel and acceptance in the same turn: the job runs, is asked to stop, and its exit record decides', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const wish = h.engine.cancel(id, admin);
	await asked();
	await robot.accept();
	expect((await wish).cancelRequestedAt).not.toBeNull();
	expect(await h.state(id)).toBe('running');
	expect(robot.cancels).toEqual([{ jobId: id, reason: 'cancelled' }]);
	await robot.end(cancelled);
	expect(await h.path(id)).toBe('queued dispatched running cancelled');
});

test('a cancel that overtakes the acceptance does not lose it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await h.engine.cancel(id, admin);
	await robot.accept();
	expect(await h.state(id)).toBe('running');
});

test('cancel of an assignment that its robot never saw: the proof ends it', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await h.engine.cancel(id, admin);
	await robot.reject('not-started');
	expect(await h.path(id)).toBe('queued dispatched cancelled');
	expect(robot.assigned).toHaveLength(1);
});

test('cancel against a revoke under way: the answer to either ends the job, and it is not queued again', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await h.clock.advance(31_000);
	expect(robot.revokes).toEqual([id]);
	const wish = h.engine.cancel(id, admin);
	await asked();
	robot.session.rejected({
		...robot.last,
		reason: 'not-started',
		message: '',
		permanent: false,
	});
	await wish;
	await settled();
	expect(await h.path(id)).toBe('queued dispatched cancelled');
});

test('cancel against a requeue: whichever is first, the job ends cancelled and is given to nobody', async () => {
	for (const first of ['cancel', 'reject'] as const) {
		const robot = await h.robot(`robot-${first}`);
		const id = await h.submit({ target: { robot: `robot-${first}` } });
		await settled();
		const reject = () =>
			robot.session.rejected({ ...robot.last, reason: 'paused', message: '', permanent: false });
		if (first === 'reject') reject();
		const wish = h.engine.cancel(id, admin);
		await asked();
		if (first === 'cancel') reject();
		expect((await wish).cancelRequestedAt).not.toBeNull();
		await settled();
		expect(await h.state(id)).toBe('cancelled');
		await h.clock.advance(60_000);
		expect(robot.assigned).toHaveLength(1);
	}
});

test('cancel against a result: whichever is first in the turn, there is one final state', async () => {
	const robot = await h.robot('r1');
	for (const first of ['cancel', 'result'] as const) {
		const id = await h.submit();
		await settled();
		await robot.accept();
		const finish = () => robot.session.result(resultOf(robot.last));
		if (first === 'result') finish();
		const wish = h.engine.cancel(id, admin);
		await asked();
		if (first === 'cancel') finish();
		await wish;
		await settled();
		expect(await h.path(id)).toBe('queued dispatched running completed');
	}
});

test('cancel against a retryable failure: there is no other try', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	const wish = h.engine.cancel(id, admin);
	await asked();
	robot.session.result(resultOf(robot.last, exit(75)));
	await wish;
	await h.clock.advance(120_000);
	expect(await h.path(id)).toBe('queued dispatched running failed');
});

test('cancel during the back-off ends the job at once', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end(exit(75));
	expect(await h.state(id)).toBe('pending');
	expect(await h.engine.cancel(id, admin)).toMatchObject(cancelled);
	await h.clock.advance(10_000);
	expect(robot.assigned).toHaveLength(1);
});

test('cancel against ripening: the job is cancelled, whether it was queued by then or not', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ notBefore: h.clock.now() + 1_000 });
	await settled();
	const due = h.clock.advance(1_000);
	const wish = h.engine.cancel(id, admin);
	await due;
	const job = await wish;
	if (robot.assigned.length > 0) await robot.end(cancelled);
	expect(job.cancelRequestedAt).not.toBeNull();
	expect(await h.state(id)).toBe('cancelled');
});

test('a cancel is sent again until it is answered, whatever the wall clock does', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	await h.engine.cancel(id, admin);
	h.clock.jump(-86_400_000);
	await h.clock.advance(65_000);
	expect(robot.cancels).toEqual(Array(3).fill({ jobId: id, reason: 'cancelled' }));
	await robot.end(cancelled);
	await h.clock.advance(65_000);
	expect(robot.cancels).toHaveLength(3);
});

test('a job cancelled while its robot is away is stopped by the verdict when it comes back', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	await robot.vanish();
	expect(await h.engine.cancel(id, admin)).toMatchObject({ state: 'running' });
	const session = await robot.connect({ attempts: [heldAs('running', robot.last)] });
	expect(session.verdicts).toMatchObject([{ act: 'kill' }]);
	await robot.end(cancelled);
	expect(await h.state(id)).toBe('cancelled');
});

test('a cancel that nobody answers past waitMs ends with processGone false, and the kill order waits for the robot', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 10_000, then: 'retry' } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.engine.cancel(id, admin);
	await h.clock.advance(12_000);
	const job = await h.engine.job(id);
	expect(job).toMatchObject({ ...cancelled, result: { exitCode: null, processGone: false } });
	await h.restart();
	const session = await robot.connect({ attempts: [heldAs('running', robot.last)] });
	expect(session.verdicts).toMatchObject([{ act: 'kill' }]);
	await robot.end(cancelled);
	expect(robot.acks).toHaveLength(1);
	expect(await h.engine.job(id)).toEqual(job);
	expect((await h.engine.attempts(id))[0]!.lateResult).toMatchObject({ processGone: true });
});

test('a retry that is cancelled before anybody took it does not let the lost attempt run on', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 10_000, then: 'retry' } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.clock.advance(12_000);
	expect(await h.state(id)).toBe('queued');
	await h.engine.cancel(id, admin);
	const session = await robot.connect({ attempts: [heldAs('running', robot.last)] });
	expect(session.verdicts).toMatchObject([{ act: 'kill' }]);
});

test('twenty cancels of one job at the same moment are one', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	const jobs = await Promise.all(Array.from({ length: 20 }, () => h.engine.cancel(id, admin)));
	expect(new Set(jobs.map((job) => job.cancelRequestedAt)).size).toBe(1);
	expect(robot.cancels).toHaveLength(1);
});
