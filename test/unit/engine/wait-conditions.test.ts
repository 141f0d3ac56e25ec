/** Waits for some of their jobs, of executions that are stopped, and those whose pokes are fetched. */
import type { WaitRequest } from '../../../protocol';
import { admin, house, type House, type PlayedRobot, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';

type Answer = { status: number; body?: unknown } | Error;

let h: House;
let pokes: string[];
let answers: Answer[];

const url = 'http://127.0.0.1:5678/webhook-waiting/7/node?signature=s';
const taken = { status: 200, body: { resumed: true } };
const still = { status: 200, body: { resumed: false, reason: 'the wait is not over' } };
const stopped = { status: 409, body: { message: 'The execution "7" has finished with error.' } };
const deleted = { status: 404, body: { message: 'The execution "7" does not exist.' } };
const day = 86_400_000;

beforeEach(async () => {
	pokes = [];
	answers = [];
	h = await house({
		callbacks: {
			check: () => undefined,
			post: async (_url, body) => {
				pokes.push((body as { waitId: string }).waitId);
				const answer = answers.shift() ?? taken;
				if (answer instanceof Error) throw answer;
				return answer as { status: number; body: unknown };
			},
		},
	});
});
afterEach(() => h.close());

const park = async (jobIds: string[], more: Partial<WaitRequest> = {}) =>
	(await h.engine.createWait({ jobIds, resumeUrl: url, ...more }, admin)).waitId;
const stateOf = async (waitId: string) => (await h.engine.wait(waitId)).state;

/** A robot with room for all of them. */
async function running(count: number): Promise<{ robot: PlayedRobot; jobs: string[] }> {
	const robot = await h.robot('r1', { slots: count });
	const jobs: string[] = [];
	for (let i = 0; i < count; i++) jobs.push(await h.submit());
	await settled();
	for (const job of robot.assigned) await robot.accept(job);
	return { robot, jobs };
}

const end = (robot: PlayedRobot, jobId: string, exitCode = 0) => {
	const job = robot.assigned.find(({ job_id }) => job_id === jobId)!;
	return robot.end(
		exitCode === 0 ? {} : { state: 'failed', cause: 'exit_code', result: { exit_code: exitCode } },
		job,
	);
};

describe('some of the jobs', () => {
	test('a wait for two of three is due with the second; the third runs on', async () => {
		const { robot, jobs } = await running(3);
		const waitId = await park(jobs, { until: { count: 2 } });
		await end(robot, jobs[2]!);
		expect(await stateOf(waitId)).toBe('open');
		await end(robot, jobs[0]!, 3);
		const wait = await h.engine.wait(waitId);
		expect(wait).toMatchObject({ state: 'due', met: true, timedOut: false });
		expect(wait.jobs.map(({ state }) => state)).toEqual(['failed', 'running', 'completed']);
		await h.clock.advance(1_000);
		expect(robot.cancels).toEqual([]);
	});

	test('the others are cancelled when that was asked for, before n8n goes on', async () => {
		const { robot, jobs } = await running(2);
		const queued = await h.submit();
		const waitId = await park([...jobs, queued], { until: 'any', cancelRest: true });
		await end(robot, jobs[0]!);
		expect(robot.cancels).toContainEqual({ jobId: jobs[1], reason: 'cancelled' });
		const wait = await h.engine.wait(waitId);
		expect(wait.jobs[1]).toMatchObject({ state: 'running', cancelRequestedAt: h.clock.now() });
		const other = await h.engine.timeline(queued);
		// The slot of the first may have started it; then it is asked to stop like any other.
		if (wait.jobs[2]!.state === 'cancelled') expect(other.at(-1)!.by).toBe(`wait:${waitId}`);
		else expect(wait.jobs[2]!.cancelRequestedAt).not.toBeNull();
	});

	test('a service that died between the end of the job and the cancelling does it when it is back', async () => {
		const { robot, jobs } = await running(2);
		const waitId = await park(jobs, { until: 'any', cancelRest: true });
		const { store } = h;
		const commit = store.commit.bind(store);
		store.commit = (deeds) =>
			deeds.some((deed) => deed.do === 'requestCancel') ? new Promise(() => {}) : commit(deeds);
		await end(robot, jobs[0]!);
		expect(await stateOf(waitId)).toBe('open');
		await h.restart();
		await settled();
		expect(await stateOf(waitId)).toBe('due');
		expect((await h.engine.job(jobs[1]!)).cancelRequestedAt).not.toBeNull();
	});

	test('who may not cancel jobs cannot have a wait do it', async () => {
		const { jobs } = await running(1);
		const waiter = { keyId: 'w', name: 'waiter', scopes: ['submit', 'read'] as const };
		for (const wish of [{ cancelRest: true }, { cancelOnStop: true }]) {
			const made = h.engine.createWait({ jobIds: jobs, until: 'any', ...wish }, waiter);
			await expect(made).rejects.toMatchObject({ code: 'no-scope', details: { scope: 'cancel' } });
		}
		await h.engine.createWait({ jobIds: jobs }, waiter);
	});

	test('who may not read waits for their own jobs, and is shown no others', async () => {
		const submits = { keyId: 's', name: 'submits', scopes: ['submit'] as const };
		const { jobs } = await running(1);
		const made = h.engine.createWait({ jobIds: jobs }, submits);
		await expect(made).rejects.toMatchObject({ code: 'no-scope', details: { scope: 'read' } });
		const [own] = await h.engine.submit([{ kind: 'command', spec: { command: 'id' } }], submits);
		await h.engine.createWait({ jobIds: [(own as { jobId: string }).jobId] }, submits);
	});

	test('when only the time is over nothing is cancelled', async () => {
		const { robot, jobs } = await running(2);
		const waitId = await park(jobs, {
			until: { count: 2 },
			counts: 'completed',
			cancelRest: true,
			deadlineAt: h.clock.now() + 5_000,
		});
		await h.clock.advance(6_000);
		expect(await h.engine.wait(waitId)).toMatchObject({ timedOut: true, met: false });
		expect(robot.cancels).toEqual([]);
	});

	test('completed ones only: over as soon as so many cannot complete any more', async () => {
		const { robot, jobs } = await running(3);
		const waitId = await park(jobs, {
			until: { count: 2 },
			counts: 'completed',
			cancelRest: true,
		});
		await end(robot, jobs[0]!, 1);
		expect(await stateOf(waitId)).toBe('open');
		await end(robot, jobs[1]!, 1);
		expect(await h.engine.wait(waitId)).toMatchObject({ state: 'due', met: false });
		expect(robot.cancels).toEqual([{ jobId: jobs[2], reason: 'cancelled' }]);
	});

	test('a job for several robots counts as one for each of them, if that is asked for', async () => {
		const robots = [await h.robot('a'), await h.robot('b'), await h.robot('c')];
		const parent = await h.submit({ target: { mode: 'all' } });
		await settled();
		const each = await park([parent], { until: { count: 2 }, eachRobot: true });
		const whole = await park([parent]);
		await robots[0]!.end();
		expect(await stateOf(each)).toBe('open');
		await robots[1]!.end();
		expect(await h.engine.wait(each)).toMatchObject({
			state: 'due',
			met: true,
			jobs: [{ jobId: parent, state: 'running', children: { total: 3, completed: 2 } }],
		});
		expect(await stateOf(whole)).toBe('open');
		await robots[2]!.end();
		expect(await stateOf(whole)).toBe('due');
	});

	test('a job for several robots that has not started has nobody to count yet', async () => {
		await h.robot('a');
		await h.robot('b');
		const parent = await h.submit({
			target: { mode: 'all' },
			notBefore: h.clock.now() + day,
		});
		const waitId = await park([parent], { until: { count: 3 }, eachRobot: true });
		expect(await stateOf(waitId)).toBe('open');
		await h.engine.cancel(parent, admin);
		await settled();
		expect(await stateOf(waitId)).toBe('due');
	});

	test('a thousand jobs that end together are read together, not a thousand times over', async () => {
		const { robot, jobs } = await running(200);
		const waitId = await park(jobs);
		let read = 0;
		const { store } = h;
		const ask = store.read.bind(store);
		store.read = ((name: never, input: never) => {
			if (name === 'outcomes') read += (input as { ids: string[] }).ids.length;
			return ask(name, input);
		}) as typeof store.read;
		for (const job of robot.assigned) robot.session.result(resultOf(job, {}));
		await settled();
		expect(await stateOf(waitId)).toBe('due');
		// Each once for the wait, and all of them once for the look at it above.
		expect(read).toBeLessThanOrEqual(2 * jobs.length + 200);
	});
});

describe('an execution that somebody stopped', () => {
	test.each([
		['stopped', stopped],
		['deleted', deleted],
	])('and that was %s takes its jobs along within five minutes', async (_how, answer) => {
		const { robot, jobs } = await running(1);
		const queued = await h.submit();
		const waitId = await park([...jobs, queued], { cancelOnStop: true });
		answers = [still, answer];
		await h.clock.advance(250_000);
		expect([pokes.length, robot.cancels.length]).toEqual([1, 0]);
		await h.clock.advance(250_000);
		expect(robot.cancels).toEqual([{ jobId: jobs[0], reason: 'cancelled' }]);
		expect(await h.state(queued)).toBe('cancelled');
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('nobody is asked, and nothing cancelled, unless the wait says so', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs);
		await h.clock.advance(3_600_000);
		expect(pokes).toEqual([]);
		expect(robot.cancels).toEqual([]);
		expect(await stateOf(waitId)).toBe('open');
	});

	test('one that runs, an n8n that is away, and strange answers cancel nothing and are asked again', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { cancelOnStop: true });
		answers = [
			{ status: 409, body: { message: 'The execution "7" is running already.' } },
			new Error('connect ECONNREFUSED'),
			{ status: 200 },
			{ status: 404, body: { message: 'no Route matched' } },
			{ status: 401, body: { error: 'login' } },
			still,
		];
		await h.clock.advance(600_000);
		expect(pokes).toHaveLength(6);
		expect(robot.cancels).toEqual([]);
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('it is asked again after a restart of the service, too', async () => {
		const { jobs } = await running(1);
		const waitId = await park(jobs, { cancelOnStop: true });
		await h.clock.advance(200_000);
		await h.restart();
		answers = [stopped];
		await h.clock.advance(60_000);
		expect(await stateOf(waitId)).toBe('closed');
		expect((await h.engine.job(jobs[0]!)).cancelRequestedAt).not.toBeNull();
	});

	test('who is in a hurry need not wait those minutes', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { cancelOnStop: true });
		answers = [still, stopped];
		await h.engine.deliverWait(waitId);
		await h.engine.deliverWait(waitId);
		await h.clock.advance(1_000);
		await h.engine.deliverWait(waitId);
		await h.clock.advance(1_000);
		expect(robot.cancels).toHaveLength(1);
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('one that went on without us is left alone, and so are its jobs', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { cancelOnStop: true });
		answers = [{ status: 409, body: { message: 'The execution "7 has finished already.' } }];
		await h.clock.advance(250_000);
		expect(await stateOf(waitId)).toBe('closed');
		expect(robot.cancels).toEqual([]);
	});
});

describe('delivery', () => {
	test('a wait whose jobs took weeks is delivered like any other', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs);
		await h.clock.pause(20 * day);
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		expect(pokes).toEqual([waitId]);
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('nobody took it for a week: a dead letter, which can be listed and delivered', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs);
		const away = new Error('connect ECONNREFUSED');
		answers = Array.from({ length: 20_000 }, () => away);
		await end(robot, jobs[0]!);
		for (let i = 0; i < 8; i++) await h.clock.pause(day);
		await h.clock.advance(1_000);
		const { items } = await h.engine.waits({ state: 'dead', limit: 10 });
		expect(items).toMatchObject([{ waitId, jobIds: jobs, lastError: away.message }]);
		answers = [];
		await h.engine.deliverWait(waitId);
		await h.clock.advance(1_000);
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('an execution that waits for something else is believed after a while, not at once', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs);
		const stale = { status: 200, body: { resumed: false, stale: true, reason: 'another' } };
		answers = [stale, stale, stale];
		await end(robot, jobs[0]!);
		await h.clock.advance(10_000);
		expect(await stateOf(waitId)).toBe('closed');
		const second = await park(jobs);
		answers = Array.from({ length: 20 }, () => stale);
		for (let i = 0; i < 60; i++) await h.clock.advance(1_000);
		expect(await h.engine.wait(second)).toMatchObject({ state: 'dead', lastError: 'another' });
	});

	test('a list has pages, newest first', async () => {
		const { jobs } = await running(1);
		const made = [await park(jobs), await park(jobs), await park(jobs)].reverse();
		const first = await h.engine.waits({ limit: 2 });
		expect(first.items.map(({ waitId }) => waitId)).toEqual(made.slice(0, 2));
		const next = await h.engine.waits({ limit: 2, cursor: first.cursor! });
		expect(next.items.map(({ waitId }) => waitId)).toEqual(made.slice(2));
		expect(next.cursor).toBeUndefined();
	});
});

describe('where the service cannot reach n8n', () => {
	const secret = 's'.repeat(43);
	const collected = async (waitId: string, answer: { status: number; body?: unknown }) =>
		await h.engine.collected(secret, [{ waitId, ...answer }]);

	test('its poke is handed to whoever knows the secret, once, and closed by what n8n answered', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { collector: secret });
		const polling = h.engine.collect(secret, 25_000);
		await settled();
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		expect(await polling).toMatchObject({ open: 1, pokes: [{ resumeUrl: url, poke: { waitId } }] });
		expect(pokes).toEqual([]);
		expect(await h.engine.collect(secret, 0)).toEqual({ open: 1, pokes: [] });
		const next = h.engine.collect(secret, 25_000);
		await settled();
		await collected(waitId, taken);
		// Nothing is left to wait for, and that is said at once.
		expect(await next).toEqual({ open: 0, pokes: [] });
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('a poke of which nothing is heard is handed out again; one that failed, after a while', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { collector: secret });
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		expect((await h.engine.collect(secret, 0)).pokes).toHaveLength(1);
		const polling = h.engine.collect(secret, 120_000);
		await h.clock.advance(91_000);
		expect((await polling).pokes).toHaveLength(1);
		await collected(waitId, { status: 0 });
		expect((await h.engine.collect(secret, 0)).pokes).toHaveLength(0);
		await h.clock.advance(1_000);
		expect((await h.engine.collect(secret, 0)).pokes).toHaveLength(1);
		await collected(waitId, taken);
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('nobody else gets it, or ends it', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { collector: secret });
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		const other = 'o'.repeat(43);
		expect(await h.engine.collect(other, 25_000)).toEqual({ open: 0, pokes: [] });
		await h.engine.collected(other, [{ waitId, ...taken }]);
		expect(await stateOf(waitId)).toBe('due');
		expect(JSON.stringify(await h.store.read('liveWaits', null))).not.toContain(secret);
	});

	test('who has hung up is given nothing', async () => {
		const { robot, jobs } = await running(1);
		await park(jobs, { collector: secret });
		const gone = new AbortController();
		const polling = h.engine.collect(secret, 25_000, gone.signal);
		await settled();
		gone.abort();
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		expect((await polling).pokes).toEqual([]);
		expect((await h.engine.collect(secret, 0)).pokes).toHaveLength(1);
	});

	test('a service that was killed hands the pokes out again', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { collector: secret });
		await end(robot, jobs[0]!);
		await h.clock.advance(1_000);
		expect((await h.engine.collect(secret, 0)).pokes).toHaveLength(1);
		await h.restart();
		expect((await h.engine.collect(secret, 0)).pokes).toMatchObject([{ poke: { waitId } }]);
	});

	test('whether an execution was stopped is asked the same way', async () => {
		const { robot, jobs } = await running(1);
		const waitId = await park(jobs, { collector: secret, cancelOnStop: true });
		const polling = h.engine.collect(secret, 300_000);
		await h.clock.advance(241_000);
		expect((await polling).pokes).toMatchObject([{ poke: { waitId } }]);
		await collected(waitId, stopped);
		expect(robot.cancels).toHaveLength(1);
		expect(await stateOf(waitId)).toBe('closed');
	});

	test('no address is checked: the service never calls it', async () => {
		const { jobs } = await running(1);
		await h.close();
		h = await house({
			callbacks: {
				check: () => {
					throw new Error('was looked at');
				},
				post: () => Promise.reject(new Error('was called')),
			},
		});
		expect(jobs).toHaveLength(1);
		const id = await h.submit();
		await park([id], { collector: secret });
	});
});
