/** Results: once, twice, late, from the wrong robot, on the wrong socket, of another term. */
import { admin, exit, heldAs, house, type House, ref, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

async function lose(jobId: string, robot: Awaited<ReturnType<House['robot']>>): Promise<void> {
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.clock.advance(13_000);
	expect((await h.outcomes(jobId))[0]).toBe('lost');
}

test('a result sent 1 to 50 times, before and after a restart, is recorded once and acknowledged each time', async () => {
	const robot = await h.robot('r1');
	for (const times of [1, 2, 7, 50]) {
		const id = await h.submit();
		await settled();
		const job = robot.last;
		const said = robot.acks.length;
		for (let i = 0; i < times; i += 1) {
			robot.session.result(resultOf(job, { result: { stdout: String(i) } }));
		}
		await settled();
		expect(robot.acks.length - said).toBe(times);
		await h.restart();
		await robot.connect({ attempts: [heldAs('ended', job)] });
		await robot.end({ result: { stdout: 'after' } }, job);
		expect(robot.acks.length - said).toBe(times + 1);
		expect(await h.path(id)).toBe('queued dispatched running completed');
		const [attempt] = await h.engine.attempts(id);
		expect(attempt).toMatchObject({ result: { stdout: '0' }, lateResult: null });
	}
});

test('results of a hundred jobs in any order, each several times, settle each job once', async () => {
	const robot = await h.robot('r1', { slots: 100 });
	const ids = await Promise.all(Array.from({ length: 100 }, () => h.submit()));
	await settled();
	const results = robot.assigned.flatMap((job, i) =>
		Array.from({ length: 1 + (i % 5) }, (_, n) => resultOf(job, n === 0 ? {} : exit(n))),
	);
	// A fixed shuffle: neighbours end up far apart, and later words come before earlier ones.
	const mixed = results.map((_, i) => results[(i * 37) % results.length]!);
	expect(new Set(mixed).size).toBe(results.length);
	for (const result of mixed) robot.session.result(result);
	await settled();
	for (const id of ids) {
		expect((await h.engine.timeline(id)).filter(({ to }) => to !== 'queued')).toHaveLength(3);
	}
	expect(robot.acks).toHaveLength(results.length);
	expect((await h.engine.robot('r1')).held).toBe(0);
});

test('a result against a revoke: the result counts', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await h.clock.advance(31_000);
	expect(robot.revokes).toEqual([id]);
	await robot.end();
	expect(await h.path(id)).toBe('queued dispatched running completed');
});

test('a refusal after the acceptance, or after the result, takes neither back', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ idempotent: true });
	await settled();
	robot.session.accepted({ ...ref(robot.last), started_at: '' });
	await robot.reject('not-started');
	expect(await h.state(id)).toBe('running');
	robot.session.result(resultOf(robot.last));
	await robot.reject('paused');
	expect(await h.path(id)).toBe('queued dispatched running completed');
	expect(robot.assigned).toHaveLength(1);
});

test('acceptance and refusal gathered in one moment: the acceptance was first, and stands', async () => {
	await h.close();
	h = await house({ acceptGatherMs: 10 });
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	robot.session.accepted({ ...ref(robot.last), started_at: '' });
	await robot.reject('paused');
	await h.clock.advance(20);
	expect(await h.state(id)).toBe('running');
});

test('a result of a limit against a good result: who is first is told, and the other is late', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	robot.session.result(resultOf(robot.last, { state: 'timeout', cause: 'run_timeout' }));
	robot.session.result(resultOf(robot.last));
	await settled();
	expect(await h.engine.job(id)).toMatchObject({ state: 'timeout', cause: 'run_timeout' });
	expect(await h.path(id)).toBe('queued dispatched running timeout');
	expect(robot.acks).toHaveLength(2);
});

test('a result against the loss of its attempt: recorded once, as the result or as a late one', async () => {
	for (const first of ['result', 'loss'] as const) {
		const robot = await h.robot(`robot-${first}`);
		const id = await h.submit({
			target: { robot: `robot-${first}` },
			onLoss: { waitMs: 10_000 },
		});
		await settled();
		await robot.accept();
		await h.clock.advance(95_000);
		if (first === 'loss') await lose(id, robot);
		else await robot.vanish();
		const session = await robot.connect({ attempts: [heldAs('ended', robot.last)] });
		expect(session.verdicts).toMatchObject([{ act: 'send_result' }]);
		await robot.end();
		const [attempt] = await h.engine.attempts(id);
		expect([attempt!.result, attempt!.lateResult].filter((one) => one !== null)).toHaveLength(1);
		expect(await h.state(id)).toBe(first === 'loss' ? 'failed' : 'completed');
	}
});

test('a late result is kept beside its attempt, acknowledged, announced, and never changes the state', async () => {
	const robot = await h.robot('r1');
	const { epoch } = await h.engine.subscribe(
		'evidence',
		{ filter: { event: 'job.late-result' } },
		admin,
	);
	const id = await h.submit({ onLoss: { waitMs: 10_000 } });
	await settled();
	await robot.accept();
	await lose(id, robot);
	const before = await h.engine.job(id);
	const news = h.engine.events('evidence', epoch, admin, 30_000);
	await robot.connect({ attempts: [heldAs('ended', robot.last)] });
	await robot.end({ result: { stdout: 'late' } });
	await robot.end({ result: { stdout: 'later' } });
	expect(await h.engine.job(id)).toEqual(before);
	expect((await h.engine.attempts(id))[0]!.lateResult).toMatchObject({ stdout: 'late' });
	expect(robot.acks).toHaveLength(2);
	expect(await news).toMatchObject([
		{
			type: 'job.late-result',
			data: { jobId: id, attempt: 1, robotId: robot.robotId, state: 'completed', cause: null },
		},
	]);
	expect(await h.engine.events('evidence', epoch, admin, 0)).toHaveLength(1);
});

test('a late result after the retry has started, and one after it has ended, change nothing of it', async () => {
	const first = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 10_000, then: 'retry' } });
	await settled();
	await first.accept();
	await lose(id, first);
	const second = await h.robot('r2');
	await second.accept();
	await first.connect({ attempts: [heldAs('running', first.last)] });
	await first.end(exit(1), first.last);
	expect(await h.state(id)).toBe('running');
	await second.end({ result: { stdout: 'second' } });
	await first.end({ result: { stdout: 'first, again' } }, first.last);
	expect(await h.engine.job(id)).toMatchObject({
		state: 'completed',
		attempt: 2,
		result: { stdout: 'second' },
	});
	expect(await h.engine.attempts(id)).toMatchObject([
		{ outcome: 'lost', lateResult: { exitCode: 1 } },
		{ outcome: 'completed', lateResult: null },
	]);
});

test('a result of an attempt that another robot was given is refused, told and logged', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const other = await h.robot('r2');
	other.session.accepted({ ...ref(robot.last), started_at: '' });
	other.session.result(resultOf(robot.last));
	robot.session.result({ ...resultOf(robot.last), token: 'guessed' });
	robot.session.result({ ...resultOf(robot.last), attempt: 2 });
	robot.session.result({ ...resultOf(robot.last), epoch: 7 });
	await settled();
	expect(await h.state(id)).toBe('dispatched');
	expect([...robot.acks, ...other.acks]).toHaveLength(0);
	const words = [...other.refusals, ...robot.refusals];
	expect(words.map(({ code }) => code)).toEqual(Array(5).fill('not-your-attempt'));
	const logged = h.warnings.filter(({ text }) => text.includes('not its own'));
	expect(logged).toHaveLength(5);
	expect(logged[0]!.facts).toMatchObject({ robotId: other.robotId, jobId: id });
});

test('what a robot said is taken up when it is planned; a robot that has said nothing new waits for nobody', async () => {
	const robot = await h.robot('r1');
	await h.submit();
	await settled();
	await robot.end();
	let takenUp = 0;
	const asks = () => void robot.session.takenUp().then(() => (takenUp += 1));
	const rounds = async () => {
		for (let i = 0; i < 10; i += 1) await Promise.resolve();
	};
	asks();
	await rounds();
	expect(takenUp).toBe(1);
	// More than a turn carries.
	for (let i = 0; i < 600; i += 1) robot.session.result(resultOf(robot.last));
	asks();
	await rounds();
	expect(takenUp).toBe(1);
	await settled();
	expect(takenUp).toBe(2);
	expect(robot.acks).toHaveLength(601);
});

test('a result of another robot is refused after the end too', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const other = await h.robot('r2');
	await robot.end();
	other.session.result(resultOf(robot.last, exit(1)));
	await settled();
	expect(await h.state(id)).toBe('completed');
	expect(other.refusals).toMatchObject([{ code: 'not-your-attempt' }]);
	expect((await h.engine.attempts(id))[0]!.lateResult).toBeNull();
});

test('whoever speaks of attempts of others without end is told so each time, and logged in few lines', async () => {
	const robot = await h.robot('r1');
	await h.submit();
	await settled();
	await robot.accept();
	const other = await h.robot('r2');
	const logged = () => h.warnings.filter(({ text }) => text.includes('not its own'));
	for (let i = 0; i < 100; i += 1) other.session.accepted({ ...ref(robot.last), started_at: '' });
	expect(other.refusals).toHaveLength(100);
	expect(logged()).toHaveLength(20);
	await h.clock.advance(60_000);
	await other.accept(robot.last);
	expect(logged()).toHaveLength(21);
	expect(logged().at(-1)!.facts).toMatchObject({ robotId: other.robotId, leftOut: 80 });
});

test('output of an attempt that another robot was given is refused', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const other = await h.robot('r2');
	const { job_id: jobId, epoch } = robot.last;
	other.session.output({ jobId, epoch, stream: 'stdout', offset: 0, data: Buffer.from('forged') });
	await settled();
	expect((await h.engine.job(id)).output.stdout).toBe(0);
	expect(other.refusals).toMatchObject([{ code: 'not-your-attempt' }]);
});

test('a result on the old socket after a new session counts for nothing; said on the new one, it counts', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.accept();
	const old = robot.session;
	await robot.connect({ attempts: [heldAs('running', robot.last)] });
	old.result(resultOf(robot.last, exit(1)));
	old.accepted({ ...ref(robot.last), started_at: '' });
	await settled();
	expect(await h.state(id)).toBe('running');
	expect(robot.acks).toHaveLength(0);
	await robot.end();
	expect(await h.state(id)).toBe('completed');
});

test('an epoch of an older term stays good for its attempt, and is never handed out again', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const kept = await h.submit();
	await settled();
	const job = robot.last;
	await h.restart();
	await robot.connect({ attempts: [heldAs('running', job)] });
	const fresh = await h.submit();
	await settled();
	expect(robot.last.epoch).toBeGreaterThan(job.epoch + 1_000);
	robot.session.result({ ...resultOf(robot.last), epoch: job.epoch });
	await settled();
	expect(await h.state(fresh)).toBe('dispatched');
	await robot.end({}, job);
	await robot.end();
	expect(await h.state(kept)).toBe('completed');
	expect(await h.state(fresh)).toBe('completed');
});

test('progress of an attempt that is over does not touch the one that lives', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const first = robot.last;
	await robot.end(exit(75));
	await h.clock.advance(1_500);
	await robot.accept();
	robot.session.status({ ...ref(first), progress: 90, message: 'old' });
	await settled();
	expect(await h.engine.job(id)).toMatchObject({ attempt: 2, progress: 0, message: null });
	robot.session.status({ ...ref(robot.last), progress: 10 });
	await settled();
	expect((await h.engine.job(id)).progress).toBe(10);
});
