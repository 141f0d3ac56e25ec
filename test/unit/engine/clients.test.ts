/** Clients of robots: who gets which, who waits for one, and what is said of that. */
import { house, type House, heldAs } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;

beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const twoClients = { slots: 2, clients: ['a', 'b'] };
const submit = async (client?: string, more = {}) => {
	const id = await h.submit({ target: { ...(client && { client }), ...more } });
	await settled();
	return id;
};
const clientOf = async (jobId: string) => (await h.engine.job(jobId)).client;

test('a job gets the client it names, and one that names none any that is free', async () => {
	const robot = await h.robot('r1', twoClients);
	const named = await submit('b');
	const any = await submit();
	expect(robot.assigned.map(({ job_id, client }) => [job_id, client])).toEqual([
		[named, 'b'],
		[any, 'a'],
	]);
	expect(await h.engine.robot('r1')).toMatchObject({
		status: 'busy',
		clients: [
			{ name: 'a', jobId: any },
			{ name: 'b', jobId: named },
		],
	});
	expect(await clientOf(named)).toBe('b');
	await robot.end({}, robot.assigned[0]);
	expect(await h.engine.job(named)).toMatchObject({ state: 'completed', client: 'b' });
	expect(await h.engine.attempts(named)).toMatchObject([{ number: 1, client: 'b' }]);
	expect(await h.engine.robot('r1')).toMatchObject({ status: 'online' });
});

test('jobs for one client go one at a time, and stop nobody who wants another', async () => {
	const robot = await h.robot('r1', twoClients);
	const [first, second, third] = [await submit('a'), await submit('a'), await submit('a')];
	const other = await submit();
	const pinned = await submit('b', { robot: 'r1' });
	expect(robot.assigned.map(({ job_id }) => job_id)).toEqual([first, other]);
	expect(await h.state(pinned!)).toBe('queued');
	await robot.end({}, robot.assigned[1]);
	expect(robot.last).toMatchObject({ job_id: pinned, client: 'b' });
	for (const next of [second, third]) {
		const running = robot.assigned.findLast(({ client }) => client === 'a')!;
		expect(await h.state(next!)).toBe('queued');
		await robot.end({}, running);
		expect(robot.last).toMatchObject({ job_id: next, client: 'a' });
	}
});

test('a robot has room for as many jobs as it has slots, and for as many as it has clients', async () => {
	const few = await h.robot('few slots', { slots: 1, clients: ['a', 'b'] });
	const many = await h.robot('many slots', { slots: 5, clients: ['c', 'd'] });
	for (let i = 0; i < 6; i += 1) await submit();
	expect(few.assigned).toHaveLength(1);
	expect(many.assigned.map(({ client }) => client).sort()).toEqual(['c', 'd']);
	expect((await h.engine.queueStats()).byState.queued).toBe(3);
});

test('robots without clients are told of none, and never get a job that wants one', async () => {
	const robot = await h.robot('plain', { slots: 2 });
	const any = await submit();
	const named = await submit('a');
	expect(robot.assigned).toHaveLength(1);
	expect(robot.last).not.toHaveProperty('client');
	expect(await h.engine.job(any)).toMatchObject({ state: 'dispatched', client: null });
	expect(await h.state(named)).toBe('queued');
	expect((await h.engine.why(named)).text).toBe(
		'No robot announces client a; an agent announces one with: --client NAME.',
	);
	await h.robot('with', { clients: ['a'] });
	expect(await clientOf(named)).toBe('a');
});

test('a job that waits says for which client, and who has it', async () => {
	const robot = await h.robot('r1', twoClients);
	const first = await submit('a');
	const second = await submit('a');
	const busy = `The job waits: client a of robot r1 is busy with job ${first}.`;
	expect((await h.engine.why(second)).text).toBe(busy);
	const pinned = await submit('a', { robot: 'r1' });
	expect((await h.engine.why(pinned)).text).toBe(busy);
	await h.robot('r2', { clients: ['a'] });
	await settled();
	const third = await submit('a');
	expect((await h.engine.why(third)).text).toBe(
		`2 of 2 robots match: 1 has client a busy with job ${first}, 1 has client a busy with job ${second}.`,
	);
	expect((await h.engine.why(await submit('bb'))).text).toBe(
		'No robot announces client bb; did you mean b?',
	);
	expect((await h.engine.why(await submit('phone'))).text).toBe(
		'No robot announces client phone; known ones are a, b.',
	);
	expect((await h.engine.why(await submit('phone', { robot: 'r1' }))).text).toBe(
		'Robot r1 announces no client phone; known ones are a, b.',
	);
	await robot.vanish();
	expect((await h.engine.why(pinned)).text).toBe(
		'The job waits for robot r1, which is not connected.',
	);
});

test('clients of a robot that is away are known, and its jobs wait for them', async () => {
	const robot = await h.robot('r1', twoClients);
	await robot.vanish();
	const job = await submit('b');
	expect((await h.engine.why(job)).text).toBe('1 of 1 robots match: 1 is not connected.');
	await h.restart();
	expect(await h.engine.robot('r1')).toMatchObject({
		clients: [
			{ name: 'a', jobId: null },
			{ name: 'b', jobId: null },
		],
	});
	await robot.reconnectable(() => h.engine).connect();
	expect(await h.engine.job(job)).toMatchObject({ state: 'dispatched', client: 'b' });
});

test('a restarted service knows which clients are taken', async () => {
	const robot = await h.robot('r1', twoClients);
	const running = await submit('a');
	await robot.accept();
	const waiting = await submit('a');
	await h.restart();
	const back = robot.reconnectable(() => h.engine);
	await back.connect({ attempts: [heldAs('running', robot.last)] });
	const other = await submit();
	expect(back.assigned.map(({ job_id, client }) => [job_id, client])).toEqual([[other, 'b']]);
	expect(await h.state(waiting)).toBe('queued');
	await back.end({}, robot.last);
	expect(back.last).toMatchObject({ job_id: waiting, client: 'a' });
	expect(await h.state(running)).toBe('completed');
});

test('a job that is tried again gets a client anew', async () => {
	const robot = await h.robot('r1', twoClients);
	const job = await h.submit({ retry: { on: ['exit:7'], initialDelayMs: 1_000, jitter: 0 } });
	await settled();
	expect(robot.last.client).toBe('a');
	await robot.end({ state: 'failed', cause: 'exit_code', result: { exit_code: 7 } });
	expect(await clientOf(job)).toBeNull();
	await submit('a');
	await h.clock.advance(1_500);
	expect(robot.last).toMatchObject({ job_id: job, attempt: 2, client: 'b' });
	expect((await h.engine.attempts(job)).map(({ client }) => client)).toEqual(['a', 'b']);
});

test('a client that its agent names no more is gone when its job has ended', async () => {
	const robot = await h.robot('r1', twoClients);
	const job = await submit('a');
	await robot.accept();
	await robot.vanish();
	await robot.connect({ clients: ['b'], attempts: [heldAs('running', robot.last)] });
	expect(await h.engine.robot('r1')).toMatchObject({
		held: 1,
		clients: [{ name: 'b', jobId: null }],
	});
	await robot.end();
	expect(await h.engine.job(job)).toMatchObject({ state: 'completed', client: 'a' });
	expect(await h.state(await submit('a'))).toBe('queued');
});

test('each robot that has the client gets a child for it', async () => {
	const one = await h.robot('r1', twoClients);
	const two = await h.robot('r2', { clients: ['a'] });
	const other = await h.robot('r3', { clients: ['c'] });
	const parent = await submit('a', { mode: 'all' });
	expect(one.last.client).toBe('a');
	expect(two.last.client).toBe('a');
	expect(other.assigned).toHaveLength(0);
	await one.end();
	await two.end();
	expect(await h.state(parent)).toBe('completed');
});

test('a full disk gives no client away twice, and loses none', async () => {
	const robot = await h.robot('r1', { slots: 1, clients: ['a'] });
	const first = await submit('a');
	const second = await submit('a');
	h.store.full = true;
	await robot.end();
	expect(await h.engine.robot('r1')).toMatchObject({ clients: [{ name: 'a', jobId: first }] });
	h.store.full = false;
	await robot.end({}, robot.assigned[0]);
	expect(await h.state(first)).toBe('completed');
	expect(await h.engine.job(second)).toMatchObject({ state: 'dispatched', client: 'a' });
	expect(robot.assigned).toHaveLength(2);
});
