/** A robot comes back: what it holds is compared with what is stored, and each side is told. */
import { join } from 'node:path';
import { admin, exit, heldAs, house, type House, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { temporaryFolder } from '../agent/temporary-folder';

const nothing = { output: { stdout: 0, stderr: 0 } };

const folder = temporaryFolder();
let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const acts = (session: { verdicts: readonly { act: string }[] }) =>
	session.verdicts.map(({ act }) => act);

test('each attempt has its verdict: continue, send the result, forget, kill, hold', async () => {
	const robot = await h.robot('r1', { slots: 5 });
	for (let i = 0; i < 4; i += 1) await h.submit();
	await settled();
	const [goesOn, ended, taken, over] = robot.assigned;
	for (const job of robot.assigned) await robot.accept(job);
	await robot.end({}, taken);
	await h.engine.moveJob(over!.job_id, 'failed', admin);
	const stranger = {
		...heldAs('running', goesOn!),
		job_id: '019b76da-a800-7000-8000-000000000000',
	};
	const session = await robot.connect({
		attempts: [
			heldAs('running', goesOn!),
			heldAs('ended', ended!),
			heldAs('ended', taken!),
			heldAs('running', over!),
			stranger,
		],
	});
	expect(acts(session)).toEqual(['continue', 'send_result', 'forget', 'kill', 'hold']);
	expect(h.warnings.map(({ text }) => text)).toContain(
		'a robot holds an attempt that is not known here; the robot keeps it',
	);
});

test('a robot goes on with its output from where the store has it', async () => {
	const robot = await h.robot('r1');
	await h.submit();
	await settled();
	const { job_id: jobId, epoch } = robot.last;
	robot.session.output({ jobId, epoch, stream: 'stdout', offset: 0, data: Buffer.from('abc') });
	await settled();
	const held = heldAs('running', robot.last, { stdout: 10, stderr: 2 });
	const session = await robot.connect({ attempts: [held] });
	expect(session.verdicts).toMatchObject([{ act: 'continue', output: { stdout: 3, stderr: 0 } }]);
	const [chunk] = [{ offset: 3, data_b64: Buffer.from('defghij').toString('base64') }];
	await robot.end({ output: { stdout: 10, stderr: 2 }, inline: { stdout: chunk! } });
	const again = await robot.connect({ attempts: [{ ...held, state: 'ended' }] });
	expect(again.verdicts).toMatchObject([{ act: 'continue', output: { stdout: 10, stderr: 0 } }]);
});

test('a robot may hold two attempts of one job; each is judged for itself, in any order', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const id = await h.submit({ onLoss: { waitMs: 5_000, then: 'retry' } });
	await settled();
	await robot.accept();
	const first = robot.last;
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.clock.advance(7_000);
	await robot.connect({ attempts: [heldAs('running', first)] });
	const second = robot.last;
	expect(second).toMatchObject({ job_id: id, attempt: 2 });
	for (const order of [
		[heldAs('running', second), heldAs('running', first)],
		[heldAs('running', first), heldAs('running', second)],
	]) {
		const session = await robot.connect({ attempts: order });
		const byEpoch = new Map(session.verdicts.map(({ epoch, act }) => [epoch, act]));
		expect(byEpoch.get(first.epoch)).toBe('kill');
		expect(byEpoch.get(second.epoch)).toBe('continue');
		expect(await h.state(id)).toBe('running');
	}
	await robot.end({}, second);
	expect(await h.state(id)).toBe('completed');
});

test('a lost attempt is killed while its job waits for another robot, and heard out when the job is over', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const retried = await h.submit({ onLoss: { waitMs: 5_000, then: 'retry' } });
	const failed = await h.submit({ onLoss: { waitMs: 5_000 } });
	await settled();
	const [a, b] = robot.assigned;
	for (const job of [a!, b!]) await robot.accept(job);
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.clock.advance(7_000);
	expect(await h.state(retried)).toBe('queued');
	expect(await h.state(failed)).toBe('failed');
	const session = await robot.connect({ attempts: [heldAs('running', a!), heldAs('running', b!)] });
	expect(acts(session)).toEqual(['kill', 'continue']);
});

test('a claim with a wrong token is no memory: the attempt counts as lost, not as proved', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const forged = { ...heldAs('running', robot.last), token: 'guessed' };
	const session = await robot.connect({ attempts: [forged] });
	expect(acts(session)).toEqual(['hold']);
	await settled();
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
});

test('epochs lie above one that nobody knows here, and go on rising over a restart', async () => {
	await h.close();
	h = await house({ file: join(folder(), 'store.db') });
	const robot = await h.robot('r1', { slots: 3 });
	const stranger = (job_id: string, epoch: number) =>
		({ job_id, attempt: 1, epoch, token: 't', state: 'running', ...nothing }) as const;
	const highest = 5 * 2 ** 32 + 7;
	await robot.connect({ attempts: [stranger('a', highest), stranger('b', 3 * 2 ** 32)] });
	await settled();
	const given = async () => {
		await h.submit();
		await settled();
		return robot.last.epoch;
	};
	const before = await given();
	expect(before).toBeGreaterThan(highest);
	await h.restart();
	await robot.connect({ attempts: [] });
	expect(await given()).toBeGreaterThan(before);
});

test('what waits for a robot that names an epoch from after the store was put back is given above it, too', async () => {
	const robot = await h.robot('r1', { slots: 3 });
	await robot.vanish();
	const job_id = await h.submit();
	const epoch = h.store.term * 2 ** 32 + 1;
	await robot.connect({
		attempts: [{ job_id, attempt: 1, epoch, token: 't', state: 'running', ...nothing }],
	});
	expect(robot.last).toMatchObject({ job_id });
	expect(robot.last.epoch).toBeGreaterThan(epoch);
});

test('nobody learns of an attempt of another robot by claiming it', async () => {
	const robot = await h.robot('r1');
	await h.submit();
	await settled();
	const other = await h.robot('r2');
	const session = await other.connect({ attempts: [heldAs('ended', robot.last)] });
	expect(session.verdicts).toMatchObject([{ act: 'hold', output: { stdout: 0, stderr: 0 } }]);
});

test('of two hellos at the same moment the one on the newer socket wins', async () => {
	const robot = await h.robot('r1');
	const older = robot.connect();
	const newer = robot.connect();
	await expect(older).rejects.toMatchObject({ code: 'robot-elsewhere' });
	expect((await newer).robotId).toBe(robot.robotId);
	await h.submit();
	await settled();
	expect(robot.assigned).toHaveLength(1);
});

test('a hello that comes late, on a socket given up before, cannot pass for what the robot knows now', async () => {
	const robot = await h.robot('r1');
	const late = robot.dial();
	await robot.connect();
	const id = await h.submit();
	await settled();
	await expect(late()).rejects.toMatchObject({ code: 'robot-elsewhere' });
	await settled();
	expect(await h.outcomes(id)).toEqual([null]);
	expect(robot.assigned).toHaveLength(1);
	await robot.end();
	expect(await h.state(id)).toBe('completed');
});

test('a displaced session is closed, and nothing it says or suffers touches the new one', async () => {
	const robot = await h.robot('r1');
	const old = robot.session;
	await robot.connect();
	expect(robot.closedWith).toBe(1000);
	old.takesNoMore();
	old.closed();
	await settled();
	expect(await h.engine.robot('r1')).toMatchObject({ connected: true, status: 'online' });
	const id = await h.submit();
	await settled();
	old.rejected({ ...robot.last, reason: 'paused', message: '', permanent: true });
	await settled();
	expect(await h.state(id)).toBe('dispatched');
});

test('an agent that was started anew may take over from a silent one, not from a living one', async () => {
	const robot = await h.robot('r1');
	await h.clock.advance(20_000);
	await expect(robot.connect({ boot_id: 'new' })).rejects.toMatchObject({
		code: 'robot-elsewhere',
	});
	await h.clock.advance(11_000);
	await robot.connect({ boot_id: 'new' });
	expect((await h.engine.robot('r1')).connected).toBe(true);
});

test('an assignment under way while its robot changes sockets is either sent on the new one or proved unseen', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ target: { robot: 'r1' } });
	await robot.connect();
	await settled();
	const outcomes = await h.outcomes(id);
	expect(robot.assigned.at(-1)!.attempt).toBe(outcomes.length);
	expect(outcomes.slice(0, -1).every((outcome) => outcome === 'not-started')).toBe(true);
	await robot.end();
	expect(await h.state(id)).toBe('completed');
});

test('a robot that is back before its loss is written keeps its attempt', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 5_000 } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	h.store.full = true;
	await h.clock.advance(7_000);
	expect(await h.state(id)).toBe('running');
	h.store.full = false;
	const session = await robot.connect({ attempts: [heldAs('running', robot.last)] });
	expect(acts(session)).toEqual(['continue']);
	await h.clock.advance(20_000);
	expect(await h.state(id)).toBe('running');
	await robot.end();
	expect(await h.state(id)).toBe('completed');
});

test('a loss that a full disk refused is written when there is room again', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 5_000 } });
	await settled();
	await robot.accept();
	await h.clock.advance(95_000);
	await robot.vanish();
	h.store.full = true;
	await h.clock.advance(20_000);
	h.store.full = false;
	await h.clock.advance(2_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
});

test('an acceptance or a result that a full disk refused counts when it is said again', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	h.store.full = true;
	await robot.accept();
	await robot.end();
	expect(robot.acks).toHaveLength(0);
	h.store.full = false;
	expect(await h.state(id)).toBe('dispatched');
	await robot.accept();
	expect(await h.state(id)).toBe('running');
	await robot.end();
	expect(await h.path(id)).toBe('queued dispatched running completed');
	expect((await h.engine.robot('r1')).held).toBe(0);
});

test('an operator and a hello that speak of one robot at the same moment are both heard', async () => {
	const robot = await h.robot('r1');
	for (const first of ['hello', 'pause'] as const) {
		const journal = { journal_id: `journal ${first}`, labels: { seen: first } };
		const pause = () => h.engine.pauseRobot('r1', admin);
		const hello = () => robot.connect(journal);
		await Promise.all(first === 'hello' ? [hello(), pause()] : [pause(), hello()]);
		await settled();
		await h.restart();
		const stored = (await h.store.read('robots', null)).find(({ id }) => id === robot.robotId)!;
		expect(JSON.parse(stored.closed!)).toMatchObject({ as: 'paused', by: 'test' });
		expect(stored.journalId).toBe(journal.journal_id);
		expect(JSON.parse(stored.labels)).toEqual(journal.labels);
		await h.engine.resumeRobot('r1', admin);
	}
});

test('a robot removed while it says hello stays removed', async () => {
	const robot = await h.robot('r1');
	await robot.vanish();
	const [hello] = await Promise.allSettled([robot.connect(), h.engine.removeRobot('r1', admin)]);
	await settled();
	await h.restart();
	expect(await h.engine.robots()).toEqual([]);
	await expect(robot.connect()).rejects.toMatchObject({ code: 'robot-revoked' });
	expect(['fulfilled', 'rejected']).toContain(hello.status);
});

test('a robot removed while its new journal is noted stays removed, and no job waits for it', async () => {
	const robot = await h.robot('r1');
	await robot.vanish();
	const { store } = h;
	const commit = store.commit.bind(store);
	let removal: Promise<void> | undefined;
	store.commit = (deeds) => {
		store.commit = commit;
		removal = h.engine.removeRobot('r1', admin);
		return commit(deeds);
	};
	await robot.connect({ journal_id: 'another' });
	await removal;
	await settled();
	expect(await h.engine.robots()).toEqual([]);
	await expect(h.submit({ target: { robot: 'r1' } })).rejects.toMatchObject({
		code: 'unknown-robot',
	});
});

test('silence of a robot with a new journal proves nothing until its losses are on disk, through a crash too', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.vanish();
	const died = h.store.dieAt('settle', 'before');
	void robot.connect({ journal_id: 'another' });
	await died;
	await h.restart();
	await robot.connect({ journal_id: 'another' });
	await settled();
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(robot.assigned).toHaveLength(1);
	const next = await h.submit();
	await settled();
	await robot.vanish();
	await robot.connect({ journal_id: 'another' });
	expect(await h.outcomes(next)).toEqual(['not-started', null]);
});

test('words of a robot that was never given anything make no job move', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end(exit(3));
	const other = await h.robot('r2');
	const before = await h.engine.job(id);
	other.session.result(resultOf({ ...robot.last, job_id: 'no such job' }));
	other.session.status({ ...robot.last, progress: 1 });
	await settled();
	expect(await h.engine.job(id)).toEqual(before);
	expect(other.refusals).toHaveLength(1);
});
