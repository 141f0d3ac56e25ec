/** Robots that are away, mute or without memory; clocks that jump; what a hold waits for. */
import { admin, exit, heldAs, house, type House, type PlayedRobot } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const graceMs = 90_000;

/** A running job on a robot of its own, in a service that has been ready for long enough. */
async function running(
	job: Parameters<House['submit']>[0],
	name = 'r1',
): Promise<{ id: string; robot: PlayedRobot }> {
	const robot = await h.robot(name);
	const id = await h.submit({ target: { robot: name }, ...job });
	await settled();
	await robot.accept();
	if (h.clock.monotonic() < graceMs) await h.clock.advance(graceMs + 2_000);
	return { id, robot };
}

test('a robot may stay away for exactly as long as the job says, however close to a look it left', async () => {
	const { id, robot } = await running({ onLoss: { waitMs: 2_000 } });
	await h.clock.advance(999);
	await robot.vanish();
	await h.clock.advance(1_990);
	expect(await h.state(id)).toBe('running');
	await h.clock.advance(1_100);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
});

test('absences do not add up: a robot that came back has its whole time again', async () => {
	const { id, robot } = await running({ onLoss: { waitMs: 10_000 } });
	for (let i = 0; i < 3; i += 1) {
		await robot.vanish();
		await h.clock.advance(8_000);
		await robot.connect({ attempts: [heldAs('running', robot.last)] });
	}
	await robot.end();
	expect(await h.state(id)).toBe('completed');
});

test('the policy for losses is the job’s own: unknown, fail or retry; a bare word sets it', async () => {
	const jobs = [];
	for (const then of ['unknown', 'fail', 'retry'] as const) {
		jobs.push(await running({ onLoss: then }, then));
	}
	for (const { robot } of jobs) await robot.vanish();
	await h.clock.advance(299_000);
	for (const { id } of jobs) expect(await h.state(id)).toBe('running');
	await h.clock.advance(3_000);
	const ends = await Promise.all(jobs.map(async ({ id }) => h.engine.job(id)));
	expect(ends.map(({ state, cause }) => `${state} ${cause}`)).toEqual([
		'failed unknown',
		'failed robot_lost',
		'queued null',
	]);
});

test('three losses are a dead letter, however many tries are left', async () => {
	const first = await running({
		target: { labels: {} },
		onLoss: { waitMs: 5_000, then: 'retry' },
		retry: { maxAttempts: 100 },
	});
	let robot = first.robot;
	for (const name of ['r2', 'r3']) {
		await robot.vanish();
		await h.clock.advance(7_000);
		robot = await h.robot(name);
		await robot.accept();
	}
	await robot.vanish();
	await h.clock.advance(7_000);
	expect(await h.engine.job(first.id)).toMatchObject({
		state: 'failed',
		cause: 'robot_lost',
		attempt: 3,
	});
	expect(await h.outcomes(first.id)).toEqual(['lost', 'lost', 'lost']);
});

test('losses are counted apart from failures: a job that was lost twice still has all its tries', async () => {
	const { id, robot } = await running({ onLoss: { waitMs: 5_000, then: 'retry' } });
	for (let i = 0; i < 2; i += 1) {
		await robot.vanish();
		await h.clock.advance(7_000);
		await robot.connect();
		await robot.accept();
	}
	for (let i = 0; i < 3; i += 1) {
		await robot.end(exit(75));
		await h.clock.advance(5_000);
	}
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'exit_code', attempt: 5 });
});

test('loss time does not run for 90 seconds after a pause of the service, and starts anew', async () => {
	const { id, robot } = await running({ onLoss: { waitMs: 10_000 } });
	await robot.vanish();
	await h.clock.advance(8_000);
	await h.clock.pause(3_600_000);
	await h.clock.advance(graceMs + 8_000);
	expect(await h.state(id)).toBe('running');
	await h.clock.advance(4_000);
	expect(await h.state(id)).toBe('failed');
});

test.each([-3_650, -1, 1, 3_650])(
	'a wall clock set by %i days costs nobody anything: absence starts anew',
	async (days) => {
		const { id, robot } = await running({ onLoss: { waitMs: 10_000 } });
		await robot.vanish();
		await h.clock.advance(8_000);
		h.clock.jump(days * 86_400_000);
		await h.clock.advance(graceMs + 8_000);
		expect(await h.state(id)).toBe('running');
		await robot.connect({ attempts: [heldAs('running', robot.last)] });
		await robot.end();
		expect(await h.state(id)).toBe('completed');
	},
);

test('a wall clock set back in the last moments of the service makes no retry wait longer', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ notBefore: h.clock.now() + 500 });
	const later = await h.submit({ notBefore: h.clock.now() + 60_000 });
	await h.clock.advance(2_000);
	await robot.accept();
	await robot.end(exit(75));
	expect(await h.state(id)).toBe('pending');
	h.clock.jump(-86_400_000);
	await h.restart();
	await robot.connect();
	expect(await h.state(id)).toBe('pending');
	await h.clock.advance(2_500);
	expect(await h.state(id)).toBe('dispatched');
	// An instant that somebody named stays.
	await robot.end();
	await h.clock.advance(120_000);
	expect(await h.state(later)).toBe('pending');
});

test('small steps of the wall clock are no jump', async () => {
	const { id, robot } = await running({ onLoss: { waitMs: 10_000 } });
	await robot.vanish();
	for (let i = 0; i < 12; i += 1) {
		h.clock.jump(i % 2 === 0 ? 500 : -500);
		await h.clock.advance(1_000);
	}
	expect(await h.state(id)).toBe('failed');
});

test('a wall clock set forward does not end a running job before its deadline, nor one set back prolong it', async () => {
	for (const days of [-1, 1]) {
		const name = `robot ${days}`;
		const { id, robot } = await running(
			{ timeouts: { deadlineAt: h.clock.now() + 200_000 } },
			name,
		);
		const spent = h.clock.monotonic() < 100_000 ? 92_000 : 0;
		h.clock.jump(days * 86_400_000);
		await h.clock.advance(198_000 - spent);
		expect(robot.cancels).toEqual([]);
		await h.clock.advance(4_000);
		expect(robot.cancels).toEqual([{ jobId: id, reason: 'deadline' }]);
	}
});

test('a refusal for now is over after half a minute, even when somebody sets the clock back', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.reject('paused');
	h.clock.jump(-86_400_000);
	await h.clock.advance(32_000);
	expect(robot.last).toMatchObject({ job_id: id, attempt: 2 });
});

test.each([-30, 30])(
	'a back-off is as long as it was, though the clock is set by %i days',
	async (days) => {
		const robot = await h.robot('r1');
		const id = await h.submit({ retry: { initialDelayMs: 20_000 } });
		await settled();
		await robot.end(exit(75));
		h.clock.jump(days * 86_400_000);
		await h.clock.advance(18_000);
		expect(await h.state(id)).toBe('pending');
		await h.clock.advance(3_000);
		expect(robot.last).toMatchObject({ job_id: id, attempt: 2 });
	},
);

test('an instant that a person named stays, though the clock is set', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ notBefore: h.clock.now() + 3_600_000 });
	await settled();
	h.clock.jump(3_590_000);
	await h.clock.advance(5_000);
	expect(await h.state(id)).toBe('pending');
	await h.clock.advance(6_000);
	expect(robot.last.job_id).toBe(id);
});

test('after a pause of the service a second agent cannot take the place of one that had no chance to speak', async () => {
	const robot = await h.robot('r1');
	await h.clock.pause(120_000);
	await expect(robot.connect({ boot_id: 'clone' })).rejects.toMatchObject({
		code: 'robot-elsewhere',
	});
});

test('while a robot is away no limit of a running or dispatched job ends it', async () => {
	const timeouts = { startMs: 1_000, runMs: 5_000, silenceMs: 1_000 };
	const soon = h.clock.now() + graceMs + 30_000;
	const robot = await h.robot('r1', { slots: 2 });
	const onLoss = { waitMs: 3_600_000 };
	const ran = await h.submit({ onLoss, timeouts: { ...timeouts, deadlineAt: soon } });
	await settled();
	await robot.accept();
	const sent = await h.submit({ onLoss, timeouts: { ...timeouts, queueMs: 1_000 } });
	await settled();
	await robot.vanish();
	await h.clock.advance(graceMs + 600_000);
	expect(await h.state(ran)).toBe('running');
	expect(await h.state(sent)).toBe('dispatched');
	const [a, b] = robot.assigned;
	await robot.connect({ attempts: [heldAs('running', a!), heldAs('running', b!)] });
	await h.clock.advance(1_000);
	expect(robot.cancels).toEqual([{ jobId: ran, reason: 'deadline' }]);
	expect(await h.path(sent)).toBe('queued dispatched running');
	await robot.end({ state: 'timeout', cause: 'deadline' }, a);
	expect(await h.engine.job(ran)).toMatchObject({ state: 'timeout', cause: 'deadline' });
});

test('a robot that is here but never says whether it started falls under the policy for losses, and is stopped', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 120_000 } });
	await settled();
	await h.clock.advance(62_000);
	expect(robot.revokes).toEqual([id, id]);
	expect(await h.state(id)).toBe('dispatched');
	await h.clock.advance(graceMs + 62_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'unknown' });
	expect(robot.cancels).toEqual([{ jobId: id, reason: 'over' }]);
	expect(robot.assigned).toHaveLength(1);
});

test('an acceptance after many revokes ends the asking', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 120_000 } });
	await settled();
	await h.clock.advance(graceMs + 60_000);
	await robot.accept();
	const asked = robot.revokes.length;
	await h.clock.advance(300_000);
	expect(await h.state(id)).toBe('running');
	expect(robot.revokes).toHaveLength(asked);
});

test('an acceptance after its revoke was answered loses: the proof stands', async () => {
	const robot = await h.robot('r1');
	const other = await h.robot('r2');
	const id = await h.submit({ target: { robot: 'r1' } });
	await settled();
	const first = robot.last;
	await h.clock.advance(31_000);
	await robot.reject('not-started');
	await robot.accept(first);
	expect(await h.state(id)).toBe('queued');
	await robot.end({}, first);
	expect(await h.state(id)).toBe('queued');
	expect(other.assigned).toHaveLength(0);
	await h.clock.advance(32_000);
	expect(robot.last).toMatchObject({ job_id: id, attempt: 2 });
});

test('a job that cost an agent its memory is not given to that robot again', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: 'retry' });
	await settled();
	await robot.accept();
	const other = await h.robot('r2', { slots: 2 });
	await robot.end({ state: 'failed', cause: 'unknown', result: { exit_code: null } });
	expect(other.last).toMatchObject({ job_id: id, attempt: 2 });
	expect(await h.outcomes(id)).toEqual(['failed', null]);
	await other.reject('paused');
	await h.clock.advance(40_000);
	expect(robot.assigned).toHaveLength(1);
	expect(other.last).toMatchObject({ job_id: id, attempt: 3 });
});

test('a poisonous job is a dead letter after three agents, and the other jobs go on', async () => {
	const fleet = await Promise.all(['a', 'b', 'c', 'd'].map((name) => h.robot(name)));
	const poison = await h.submit({ onLoss: 'retry' });
	const others = await Promise.all(Array.from({ length: 12 }, () => h.submit()));
	for (let round = 0; round < 12; round += 1) {
		await settled();
		for (const robot of fleet) {
			const job = robot.last;
			const crash = { state: 'failed', cause: 'unknown', result: { exit_code: null } } as const;
			await robot.end(job.job_id === poison ? crash : {}, job);
		}
	}
	expect(await h.engine.job(poison)).toMatchObject({
		state: 'failed',
		cause: 'robot_lost',
		attempt: 3,
	});
	const victims = (await h.engine.attempts(poison)).map(({ robotId }) => robotId);
	expect(new Set(victims).size).toBe(3);
	for (const id of others) expect(await h.state(id)).toBe('completed');
});

test('when no other robot may run a poisonous job, it ends and says so', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: 'retry' });
	await settled();
	await robot.end({ state: 'failed', cause: 'unknown', result: { exit_code: null } });
	const job = await h.engine.job(id);
	expect(job).toMatchObject({ state: 'failed', cause: 'robot_lost' });
	expect(job.error!.message).toContain('no other may run it');
});

test('a job that stopped itself with its link, as onDisconnect says, tells so when it is back', async () => {
	const { id, robot } = await running({ onDisconnect: 'stop' });
	expect(robot.last.on_disconnect).toBe('stop');
	await robot.vanish();
	await h.clock.advance(60_000);
	await robot.connect({ attempts: [heldAs('ended', robot.last)] });
	await robot.end({ state: 'failed', cause: 'robot_lost', result: { exit_code: null } });
	expect(await h.engine.job(id)).toMatchObject({ state: 'failed', cause: 'robot_lost' });
});

test('a hold ends with its attempt: by result, proof, refusal, loss or force; never before', async () => {
	const robot = await h.robot('r1', { slots: 5 });
	const onLoss = { waitMs: 5_000 };
	const ids = await Promise.all(Array.from({ length: 5 }, () => h.submit({ onLoss })));
	await settled();
	const held = async () => (await h.engine.robot('r1')).held;
	const [result, proof, refusal, force, loss] = ids.map((id) =>
		robot.assigned.find((job) => job.job_id === id)!,
	);
	expect(await held()).toBe(5);
	await h.engine.cancel(result!.job_id, admin);
	expect(await held()).toBe(5);
	await robot.end({}, result);
	expect(await held()).toBe(4);
	await h.engine.pauseRobot('r1', admin);
	await robot.reject('not-started', false, proof);
	expect(await held()).toBe(3);
	await robot.reject('paused', false, refusal);
	expect(await held()).toBe(2);
	await h.engine.moveJob(force!.job_id, 'failed', admin);
	expect(robot.cancels.at(-1)).toEqual({ jobId: force!.job_id, reason: 'over' });
	expect(await held()).toBe(1);
	await h.clock.advance(graceMs + 1_000);
	await robot.vanish();
	expect(await held()).toBe(1);
	await h.clock.advance(7_000);
	expect(await h.state(loss!.job_id)).toBe('failed');
	expect(await held()).toBe(0);
});

test('what a removed robot held falls under the policy for losses at once: it will not come back', async () => {
	const { id } = await running({ target: {}, onLoss: { waitMs: 600_000 } });
	await h.engine.removeRobot('r1', admin);
	await h.clock.advance(2_000);
	expect(await h.engine.job(id)).toMatchObject({
		state: 'failed',
		cause: 'unknown',
		error: { message: expect.stringMatching(/^The robot was removed \(robot r1\); /) },
	});
});

test('a job that is cancelled on a robot which was removed does not wait for an answer', async () => {
	const { id } = await running({ onLoss: { waitMs: 86_400_000 } });
	await h.engine.removeRobot('r1', admin);
	await h.engine.cancel(id, admin);
	await h.clock.advance(2_000);
	const { state, error } = await h.engine.job(id);
	expect({ state, error }).toMatchObject({
		state: 'cancelled',
		error: {
			message: 'The robot was removed (robot r1); nobody can know how far the job came.',
		},
	});
});

test('what is given to a robot that a commit ahead removes was never sent, and goes to another one', async () => {
	const first = await h.robot('r1', { slots: 60 });
	const { store } = h;
	const commit = store.commit.bind(store);
	let go = () => {};
	let last: Promise<unknown> = new Promise<void>((resolve) => (go = resolve));
	store.commit = (deeds) => {
		const done = last.then(() => commit(deeds));
		last = done;
		return done;
	};
	const removal = h.engine.removeRobot('r1', admin);
	await settled();
	// As many as make another turn worth it while that one syncs.
	const submits = Array.from({ length: 50 }, () => h.submit());
	await settled();
	go();
	await removal;
	const [id] = await Promise.all(submits);
	await settled();
	expect(first.assigned).toEqual([]);
	expect(await h.outcomes(id!)).toEqual(['not-started']);
	const next = await h.robot('r2', { slots: 60 });
	expect(next.assigned).toHaveLength(50);
});

test('the deadline does not wait for a back-off', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({
		timeouts: { deadlineAt: h.clock.now() + 5_000 },
		retry: { initialDelayMs: 60_000 },
	});
	await settled();
	await robot.end(exit(75));
	expect(await h.state(id)).toBe('pending');
	await h.clock.advance(6_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'timeout', cause: 'deadline' });
});

test('a deadline against an assignment: the job ends once, by the queue or through its robot', async () => {
	const robot = await h.robot('r1');
	await robot.vanish();
	const deadlineAt = h.clock.now() + 5_000;
	const ids = [
		await h.submit({ timeouts: { deadlineAt } }),
		await h.submit({ timeouts: { deadlineAt } }),
	];
	await h.clock.advance(4_990);
	const due = h.clock.advance(10);
	await robot.connect();
	await due;
	await h.clock.advance(1_500);
	for (const job of robot.assigned) await robot.end({ state: 'timeout', cause: 'deadline' }, job);
	for (const id of ids) {
		expect(await h.engine.job(id)).toMatchObject({ state: 'timeout', cause: 'deadline' });
		expect((await h.engine.timeline(id)).filter(({ to }) => to === 'timeout')).toHaveLength(1);
	}
});
