/**
 * The defects that the systems before this one had (requirements, section 9), each shown not to be here.
 * What only a real agent or socket can show is in test/integration/agent/defects.test.ts.
 */
import { admin, exit, heldAs, house, type House, ref } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

test('defect 1: a job popped before its device is known to be connected is lost — it waits for it', async () => {
	const robot = await h.robot('r1');
	await robot.vanish();
	const id = await h.submit({ target: { robot: 'r1' } });
	await h.clock.advance(60_000);
	expect(await h.state(id)).toBe('queued');
	await h.restart();
	await robot.connect();
	expect(robot.last.job_id).toBe(id);
	// Sent, and the line was cut before it arrived.
	await robot.vanish();
	await robot.connect();
	expect(robot.last).toMatchObject({ job_id: id, attempt: 2 });
	await robot.end();
	expect(await h.state(id)).toBe('completed');
});

test('defect 2: a busy device is sent a second command — it gets as many as it has slots', async () => {
	for (const slots of [1, 3]) {
		const robot = await h.robot(`slots ${slots}`, { slots });
		const ids = await Promise.all(
			Array.from({ length: 5 }, () => h.submit({ target: { robot: `slots ${slots}` } })),
		);
		await settled();
		for (let done = 0; done < 5; done += 1) {
			expect(robot.assigned).toHaveLength(Math.min(5, slots + done));
			expect((await h.engine.robot(robot.robotId)).held).toBe(Math.min(slots, 5 - done));
			await robot.end({}, robot.assigned[done]);
		}
		for (const id of ids) expect(await h.state(id)).toBe('completed');
	}
});

test('defect 4: an old socket that closes takes the new connection with it — it does not', async () => {
	const robot = await h.robot('r1');
	const old = robot.session;
	await robot.connect();
	old.closed();
	await settled();
	expect(await h.engine.robot('r1')).toMatchObject({ connected: true, status: 'online' });
	const id = await h.submit();
	await settled();
	expect(robot.last.job_id).toBe(id);
});

test('defect 5: a job is marked running without being sent — it runs when its robot says so', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	expect(robot.last.job_id).toBe(id);
	await h.clock.advance(20_000);
	expect(await h.engine.job(id)).toMatchObject({ state: 'dispatched', startedAt: null });
	await robot.accept();
	expect(await h.state(id)).toBe('running');
});

test('defect 6: a cancel never reaches the device and its slot is never freed — both happen', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	const next = await h.submit();
	await settled();
	await robot.accept();
	await h.engine.cancel(id, admin);
	expect(robot.cancels).toEqual([{ jobId: id, reason: 'cancelled' }]);
	expect((await h.engine.robot('r1')).held).toBe(1);
	await robot.end({ state: 'cancelled', cause: 'cancelled' });
	expect(await h.state(id)).toBe('cancelled');
	expect(robot.last.job_id).toBe(next);
});

test('defect 7: a late result flips a cancelled task back to running — it does not', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ onLoss: { waitMs: 5_000 } });
	await settled();
	await robot.accept();
	await h.engine.cancel(id, admin);
	await h.clock.advance(95_000);
	await robot.vanish();
	await h.clock.advance(7_000);
	expect(await h.state(id)).toBe('cancelled');
	await robot.connect({ attempts: [heldAs('running', robot.last)] });
	robot.session.status({ ...ref(robot.last), progress: 50 });
	await robot.accept();
	await robot.end();
	expect(await h.engine.job(id)).toMatchObject({ state: 'cancelled', progress: 0 });
	expect(await h.path(id)).toBe('queued dispatched running cancelled');
});

test('defect 9: deduplication eats scheduled runs — every planned time fires, and equal submits are jobs of their own', async () => {
	await h.engine.putSchedule('s', { cron: '* * * * *' }, admin);
	const { epoch } = await h.engine.subscribe('k', { filter: { scheduleId: 's' } }, admin);
	const robot = await h.robot('r1');
	const request = { kind: 'command', spec: { command: 'backup' } };
	const ids = new Set<string>();
	for (let minute = 0; minute < 5; minute += 1) {
		await h.clock.advance(60_000);
		const [event] = await h.engine.events('k', epoch, admin, 0);
		const { plannedAt } = event!.data as { plannedAt: number };
		// As a trigger does: the same work, one key for each planned time, sent twice for safety.
		for (let sent = 0; sent < 2; sent += 1) {
			const idempotencyKey = `s ${plannedAt}`;
			const [answer] = await h.engine.submit([{ ...request, idempotencyKey }], admin);
			ids.add((answer as { jobId: string }).jobId);
		}
		await h.engine.acknowledge('k', epoch, event!.cursor, admin);
		await settled();
		await robot.end();
	}
	expect(ids.size).toBe(5);
	for (const id of ids) expect(await h.state(id)).toBe('completed');
	await h.engine.submit([request, request], admin);
	expect((await h.engine.jobs({ limit: 100 })).items).toHaveLength(7);
});

test('defect 10: a job for later fires under another id — it keeps its own, over a restart too', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ notBefore: h.clock.now() + 60_000 });
	await h.clock.advance(30_000);
	await h.restart();
	await robot.connect();
	await h.clock.advance(31_000);
	expect(robot.assigned.map(({ job_id }) => job_id)).toEqual([id]);
	await robot.end();
	expect((await h.engine.jobs({ limit: 10 })).items).toMatchObject([
		{ jobId: id, state: 'completed' },
	]);
});

test('defect 14: a lost device is reported idle, and a connected one is missing from the list — each is told as it is', async () => {
	const robot = await h.robot('r1', { slots: 1 });
	await h.robot('r2');
	await h.submit({ target: { robot: 'r1' } });
	await settled();
	const list = async () =>
		(await h.engine.robots()).map(
			({ name, status, connected }) => `${name} ${status} ${connected}`,
		);
	expect(await list()).toEqual(['r1 busy true', 'r2 online true']);
	await robot.vanish();
	expect(await list()).toEqual(['r1 offline false', 'r2 online true']);
	expect(await h.engine.robot('r1')).toMatchObject({ held: 1 });
});

test('defect 15: without a fitting device an unfit one gets the job — it waits, and says for what', async () => {
	const plain = await h.robot('plain');
	const id = await h.submit({ target: { capabilities: ['gpu'] } });
	await h.clock.advance(60_000);
	expect(plain.assigned).toHaveLength(0);
	expect(await h.state(id)).toBe('queued');
	expect((await h.engine.why(id)).text).toContain('plain lacks the capability gpu');
});

test('defect 16: a result of the wrong sender is accepted — it is refused, told and logged', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	const forger = await h.robot('r2');
	await forger.end({ result: { stdout: 'forged' } }, robot.last);
	expect(forger.refusals).toMatchObject([{ code: 'not-your-attempt' }]);
	expect(h.warnings.map(({ text }) => text)).toContain(
		'a robot spoke of an attempt that is not its own',
	);
	await robot.end({ result: { stdout: 'true' } });
	expect((await h.engine.job(id)).result).toMatchObject({ stdout: 'true' });
});

test('defect 20: execution records are lost on restart — each is there, with its attempts, timeline and output', async () => {
	const robot = await h.robot('r1');
	const id = await h.submit({ retry: { initialDelayMs: 1 } });
	await settled();
	await robot.end(exit(75));
	await h.clock.advance(1_500);
	const { job_id: jobId, epoch } = robot.last;
	robot.session.output({ jobId, epoch, stream: 'stdout', offset: 0, data: Buffer.from('hello') });
	await robot.end({ output: { stdout: 5, stderr: 0 }, result: { stdout: 'hello' } });
	const all = async () => ({
		job: await h.engine.job(id),
		attempts: await h.engine.attempts(id),
		timeline: await h.engine.timeline(id),
		output: Buffer.from((await h.engine.output(id, 'stdout', 0, 100)).data).toString(),
	});
	const before = await all();
	expect(before.output).toBe('hello');
	await h.restart();
	expect(await all()).toEqual(before);
});
