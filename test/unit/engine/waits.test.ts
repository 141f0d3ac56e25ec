/** Parked executions: the service pokes until the node has taken the outcome. */
import { StoreFull } from '../../../dispatcher/store/open';
import { admin, heldAs, house, type House, type HouseOptions } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { MortalStore } from '../../support/mortal-store';

type Answer = { status: number; body: unknown } | Error;

let h: House;
let pokes: { url: string; body: { waitId: string; nonce: string } }[];
let answers: Answer[];

async function open(more: HouseOptions = {}): Promise<void> {
	pokes = [];
	answers = [];
	h = await house({
		...more,
		callbacks: {
			check: () => undefined,
			post: async (url, body) => {
				pokes.push({ url, body: body as never });
				const answer = answers.shift() ?? { status: 200, body: { resumed: true } };
				if (answer instanceof Error) throw answer;
				return answer;
			},
		},
	});
}
afterEach(() => h.close());

const url = 'http://127.0.0.1:5678/webhook-waiting/7/node?signature=s';

async function parked(jobIds: string[], more: object = {}) {
	return h.engine.createWait(
		{ jobIds, resumeUrl: url, executionId: '7', nodeId: 'node', ...more },
		admin,
	);
}

test('a wait becomes due when all its jobs have ended, is poked once, and closes when the node took it', async () => {
	await open();
	const robot = await h.robot('r1', { slots: 2 });
	const jobs = [await h.submit(), await h.submit()];
	const { waitId, state } = await parked(jobs);
	expect(state).toBe('open');
	await robot.end({}, robot.assigned[0]);
	await h.clock.advance(1_000);
	expect(pokes).toHaveLength(0);
	await robot.end({}, robot.assigned[1]);
	await h.clock.advance(1_000);
	expect(pokes).toMatchObject([{ url, body: { waitId } }]);
	const wait = await h.engine.wait(waitId);
	expect(wait).toMatchObject({
		state: 'closed',
		timedOut: false,
		executionId: '7',
		nodeId: 'node',
	});
	expect(wait.jobs.map(({ jobId }) => jobId)).toEqual(jobs);
});

test('a wait tells what became of its jobs, not what they were to do', async () => {
	await open();
	const robot = await h.robot('r1');
	const spec = { shell: `echo ${'long '.repeat(10_000)}` };
	const variables = { note: 'much '.repeat(10_000) };
	const { waitId } = await parked([await h.submit({ spec, variables })]);
	await robot.end();
	await settled();
	const wait = await h.engine.wait(waitId);
	expect(wait.jobs).toMatchObject([{ state: 'completed', result: { exitCode: 0 } }]);
	expect(JSON.stringify(wait).length).toBeLessThan(4_000);
});

test('an n8n that was moved since the execution was parked is poked where it is now', async () => {
	const settings = { callbackBase: 'http://n8n.old:5678' };
	await open({ settings });
	const robot = await h.robot('r1');
	await parked([await h.submit()]);
	settings.callbackBase = 'https://n8n.new';
	await h.restart();
	const again = robot.reconnectable(() => h.engine);
	await again.connect({ attempts: [heldAs('running', robot.last)] });
	await again.end({}, robot.last);
	await h.clock.advance(1_000);
	expect(pokes).toMatchObject([{ url: 'https://n8n.new/webhook-waiting/7/node?signature=s' }]);
});

test('a wait for any of its jobs is due with the first', async () => {
	await open();
	const robot = await h.robot('r1');
	const jobs = [await h.submit(), await h.submit()];
	const { waitId } = await parked(jobs, { until: 'any' });
	await settled();
	await robot.end();
	expect((await h.engine.wait(waitId)).state).toBe('due');
});

test('a wait for jobs that have all ended is due at once', async () => {
	await open();
	const robot = await h.robot('r1');
	const id = await h.submit();
	await settled();
	await robot.end();
	expect((await parked([id])).state).toBe('due');
});

test('jobs come back in the order asked for, repeats included', async () => {
	await open();
	const [a, b] = [await h.submit(), await h.submit()];
	const { waitId } = await parked([b, a, b]);
	expect((await h.engine.wait(waitId)).jobs.map(({ jobId }) => jobId)).toEqual([b, a, b]);
});

test('a poke that n8n cannot take yet is tried again: not suspended, starting, down', async () => {
	await open();
	const robot = await h.robot('r1');
	const id = await h.submit();
	const { waitId } = await parked([id]);
	await settled();
	answers = [
		{ status: 409, body: { message: 'The execution "7" is running already.' } },
		{ status: 200, body: undefined },
		{ status: 404, body: undefined },
		new Error('connect ECONNREFUSED'),
		{ status: 200, body: { resumed: false, reason: 'not ready' } },
	];
	await robot.end();
	await h.clock.advance(60_000);
	expect(pokes).toHaveLength(6);
	expect(await h.engine.wait(waitId)).toMatchObject({ state: 'closed', tries: 5 });
});

test('an execution that has ended closes its wait; one that was deleted leaves a dead letter', async () => {
	await open();
	const robot = await h.robot('r1', { slots: 2 });
	const [a, b] = [await h.submit(), await h.submit()];
	const first = await parked([a]);
	await settled();
	answers = [{ status: 409, body: { message: 'The execution "7" has finished already.' } }];
	await robot.end({}, robot.assigned[0]);
	await h.clock.advance(1_000);
	expect((await h.engine.wait(first.waitId)).state).toBe('closed');
	const second = await parked([b]);
	answers = [{ status: 404, body: { message: 'The execution "7" does not exist.' } }];
	await robot.end({}, robot.assigned[1]);
	await h.clock.advance(1_000);
	expect(await h.engine.wait(second.waitId)).toMatchObject({
		state: 'dead',
		lastError: 'The execution "7" does not exist.',
	});
	await h.engine.deliverWait(second.waitId);
	await h.clock.advance(1_000);
	expect((await h.engine.wait(second.waitId)).state).toBe('closed');
});

test('a wait that is closed while it is asked to deliver stays closed, and pokes no more', async () => {
	await open();
	const robot = await h.robot('r1');
	// However far the one has come when the other begins.
	for (let rounds = 0; rounds < 12; rounds += 1) {
		const id = await h.submit();
		const { waitId } = await parked([id]);
		answers = Array<Answer>(20).fill(new Error('connection refused'));
		await settled();
		await robot.end();
		await h.clock.advance(1_000);
		expect((await h.engine.wait(waitId)).state).toBe('due');
		const delivered = h.engine.deliverWait(waitId);
		for (let round = 0; round < rounds; round += 1) await new Promise(setImmediate);
		await Promise.all([delivered, h.engine.closeWait(waitId)]);
		const poked = pokes.length;
		await h.clock.advance(600_000);
		expect((await h.engine.wait(waitId)).state).toBe('closed');
		expect(pokes).toHaveLength(poked);
	}
});

test('a wait ends when its time is over, and the job goes on', async () => {
	await open();
	const robot = await h.robot('r1');
	const id = await h.submit();
	const { waitId } = await parked([id], { deadlineAt: h.clock.now() + 10_000 });
	await settled();
	await h.clock.advance(11_500);
	expect(await h.engine.wait(waitId)).toMatchObject({ timedOut: true });
	expect(pokes).toHaveLength(1);
	expect((await h.engine.job(id)).state).toBe('dispatched');
	await robot.end();
	expect((await h.engine.job(id)).state).toBe('completed');
});

test('a limit is counted by the clock of the service; of a limit and a deadline the earlier counts', async () => {
	await open();
	const id = await h.submit();
	const now = h.clock.now();
	const endsAt = async (more: object) => {
		const { waitId } = await parked([id], more);
		return (await h.engine.wait(waitId)).deadlineAt;
	};
	expect(await endsAt({})).toBeNull();
	expect(await endsAt({ limitMs: 10_000 })).toBe(now + 10_000);
	expect(await endsAt({ limitMs: 10_000, deadlineAt: now + 5_000 })).toBe(now + 5_000);
	expect(await endsAt({ limitMs: 10_000, deadlineAt: now + 20_000 })).toBe(now + 10_000);
	const { waitId } = await parked([id], { limitMs: 10_000 });
	await h.clock.advance(11_500);
	expect(await h.engine.wait(waitId)).toMatchObject({ timedOut: true });
});

test('a long poll of a wait is answered when it is due', async () => {
	await open();
	const robot = await h.robot('r1');
	const id = await h.submit();
	const { waitId } = await parked([id]);
	const waiting = h.engine.wait(waitId, 10_000);
	await settled();
	await robot.end();
	expect((await waiting).state).toBe('due');
});

test('a full disk does not end the service through a parked execution, which is due when there is room', async () => {
	await open();
	const robot = await h.robot('r1');
	const id = await h.submit();
	const { waitId } = await parked([id]);
	const { store } = h;
	const commit = store.commit.bind(store);
	store.commit = (deeds) =>
		deeds.some((deed) => deed.do === 'moveWait')
			? Promise.reject(new StoreFull('database or disk is full'))
			: commit(deeds);
	await robot.end();
	await h.clock.advance(5_000);
	expect(pokes).toHaveLength(0);
	store.commit = commit;
	await h.clock.advance(2_000);
	expect(pokes).toHaveLength(1);
	expect((await h.engine.wait(waitId)).state).toBe('closed');
});

test('a wait that a full disk does not take keeps no other duty from its work', async () => {
	await open();
	const [robot] = [await h.robot('r1'), await h.robot('r2')];
	await parked([await h.submit({ target: { robot: 'r1' } })]);
	await h.engine.pauseRobot('r2', admin, { forMs: 3_000 });
	const { store } = h;
	const commit = store.commit.bind(store);
	store.commit = (deeds) =>
		deeds.some((deed) => deed.do === 'moveWait')
			? Promise.reject(new StoreFull('database or disk is full'))
			: commit(deeds);
	await robot.end();
	await h.clock.advance(5_000);
	expect(await h.engine.robot('r2')).toMatchObject({ closed: null });
	store.commit = commit;
	await h.clock.advance(2_000);
	expect(pokes).toHaveLength(1);
});

test('a service that comes back to a full disk starts all the same, and pokes when there is room', async () => {
	await open();
	const robot = await h.robot('r1');
	await parked([await h.submit()]);
	h.store.fullAt('moveWait', 0);
	await robot.end();
	const full = new StoreFull('database or disk is full');
	const writes = jest.spyOn(MortalStore.prototype, 'commit').mockRejectedValue(full);
	await h.restart().finally(() => writes.mockRestore());
	expect(pokes).toHaveLength(0);
	await h.clock.advance(2_000);
	expect(pokes).toHaveLength(1);
});

test('a wait for a job nobody knows is refused', async () => {
	await open();
	await expect(parked(['nobody'])).rejects.toMatchObject({ code: 'no-such-job' });
});
