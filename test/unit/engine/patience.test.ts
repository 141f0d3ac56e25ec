/** Jobs for one robot while that robot is away: how long they wait, and what then. */
import { awayMs } from '../../../dispatcher/core/patience';
import type { Submit } from '../../../protocol';
import { admin, heldAs, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const graceMs = 90_000;
/** Long enough to be away, and no longer: each second of it is looked at. */
const spell = 300_000;

/** A robot that has gone, in a service that has been ready for long enough. */
async function gone(name: string, hello = {}) {
	const robot = await h.robot(name, hello);
	await h.clock.advance(graceMs);
	await robot.vanish();
	return robot;
}

const pinned = (offline: Submit['offline'], target = {}) => ({
	target: { robot: 'r1', ...target },
	offline,
});

test('a job waits for its robot as long as it says, and then ends as a time-out', async () => {
	await gone('r1');
	const id = await h.submit(pinned({ forMs: spell }));
	expect((await h.engine.job(id)).offline).toEqual({
		until: h.clock.now() + spell,
		then: 'expire',
	});
	expect((await h.engine.why(id)).text).toMatch(
		/^The job waits for robot r1, which is not connected; it waits until .* UTC, then it ends\.$/,
	);
	await h.clock.advance(spell - 1);
	expect(await h.state(id)).toBe('queued');
	await h.clock.advance(1_001);
	const job = await h.engine.job(id);
	expect(job).toMatchObject({ state: 'timeout', cause: 'queue_timeout' });
	expect(job.error!.message).toMatch(/^The job was not started in time: robot r1 was away at /);
	expect((await h.engine.deadLetters({ limit: 5 })).items).toHaveLength(1);
});

test('a robot that comes back in time gets it', async () => {
	const robot = await gone('r1');
	const id = await h.submit(pinned({ forMs: spell }));
	await h.clock.advance(spell - 1);
	await robot.connect();
	expect(robot.last.job_id).toBe(id);
	await robot.accept();
	await h.clock.advance(spell);
	expect(await h.state(id)).toBe('running');
});

test('with other, any robot that the rest of the target allows may do it then', async () => {
	await gone('r1', { labels: { os: 'linux' } });
	const right = await h.robot('r2', { labels: { os: 'linux' } });
	const wrong = await h.robot('r3', { labels: { os: 'mac' } });
	const id = await h.submit(pinned({ forMs: spell, then: 'other' }, { labels: { os: 'linux' } }));
	await h.clock.advance(spell + 1_001);
	expect(right.last.job_id).toBe(id);
	expect(wrong.assigned).toHaveLength(0);
	expect((await h.engine.job(id)).target).toEqual({ labels: { os: 'linux' } });
	expect(await h.engine.timeline(id)).toContainEqual(
		expect.objectContaining({
			by: 'dispatcher',
			reason: expect.stringMatching(/^robot r1 was away at .*: another one may do it$/),
		}),
	);
});

test('with other, its own robot may still be the first that comes', async () => {
	const robot = await gone('r1');
	const id = await h.submit(pinned({ forMs: spell, then: 'other' }));
	await h.clock.advance(2 * spell);
	expect(await h.state(id)).toBe('queued');
	await robot.connect();
	await settled();
	expect(robot.last.job_id).toBe(id);
	await robot.accept();
	await h.clock.advance(spell);
	expect(await h.state(id)).toBe('running');
});

test('with ask it is held with a question, and goes nowhere before somebody answers', async () => {
	const robot = await gone('r1');
	const other = await h.robot('r2');
	const id = await h.submit(pinned({ forMs: spell, then: 'ask' }));
	await h.clock.advance(spell + 1_001);
	expect(await h.engine.job(id)).toMatchObject({
		state: 'pending',
		offline: { then: 'ask', asked: true },
		hold: expect.stringMatching(/^dispatcher: robot r1 was away at /),
	});
	const { epoch } = await h.engine.subscribe(
		'k',
		{ filter: { event: 'job.asks' }, from: 'start' },
		admin,
	);
	expect((await h.engine.events('k', epoch, admin, 0)).map(({ data }) => data)).toEqual([
		{
			jobId: id,
			robotId: robot.robotId,
			text: expect.stringMatching(/wait on, let another one do it, or end it\?$/),
		},
	]);
	await robot.connect();
	await h.clock.advance(3 * spell);
	expect(robot.assigned).toHaveLength(0);
	expect((await h.engine.why(id)).text).toMatch(
		/^The job asks: robot r1 was away at .*; wait on, let another one do it, or end it\? \(r1 is back\) Answer with: robot-fleet jobs answer/,
	);
	await h.engine.answer(id, { answer: 'other' }, admin);
	await settled();
	// Both are free and fit; one of them has it.
	expect(robot.assigned.length + other.assigned.length).toBe(1);
	await expect(h.engine.answer(id, { answer: 'other' }, admin)).rejects.toMatchObject({
		code: 'nothing-asked',
	});
});

test('the answers: end it, wait on for good, or wait and ask again', async () => {
	const robot = await gone('r1');
	const submit = () => h.submit(pinned({ forMs: spell, then: 'ask' }));
	const [ends, waits, again] = [await submit(), await submit(), await submit()];
	await h.clock.advance(spell + 1_001);
	expect(await h.engine.answer(ends, { answer: 'expire' }, admin)).toMatchObject({
		state: 'timeout',
		cause: 'queue_timeout',
	});
	expect(await h.engine.answer(waits, { answer: 'wait' }, admin)).toMatchObject({
		state: 'queued',
		hold: null,
	});
	const until = h.clock.now() + spell;
	expect(await h.engine.answer(again, { answer: 'wait', forMs: spell }, admin)).toMatchObject({
		state: 'queued',
		offline: { until, then: 'ask' },
	});
	await h.clock.advance(spell + 1_001);
	expect(await h.state(waits)).toBe('queued');
	expect(await h.state(again)).toBe('pending');
	await robot.connect();
	await settled();
	expect(robot.last.job_id).toBe(waits);
	for (const wrong of [{ until, forMs: 1 }, { until: 1 }]) {
		await expect(h.engine.answer(again, { answer: 'wait', ...wrong }, admin)).rejects.toMatchObject(
			{
				code: 'bad-field',
			},
		);
	}
	await expect(h.engine.answer(again, { answer: 'expire', forMs: 1 }, admin)).rejects.toMatchObject(
		{ code: 'bad-field' },
	);
});

test('two answers at once: one counts, and nothing is asked any more', async () => {
	await gone('r1');
	const id = await h.submit(pinned({ forMs: spell, then: 'ask' }));
	await h.clock.advance(spell + 1_001);
	const said = await Promise.allSettled([
		h.engine.answer(id, { answer: 'expire' }, admin),
		h.engine.answer(id, { answer: 'wait' }, admin),
	]);
	expect(said.some(({ status }) => status === 'fulfilled')).toBe(true);
	expect((await h.path(id)).split(' ').filter((state) => state === 'timeout').length).toBe(1);
});

test('a plain release is an answer, too: it waits on, and asks no more', async () => {
	await gone('r1');
	const id = await h.submit(pinned({ forMs: spell, then: 'ask' }));
	await h.clock.advance(spell + 1_001);
	await h.engine.change(id, { hold: false }, admin);
	expect(await h.state(id)).toBe('queued');
	await h.clock.advance(3 * spell);
	expect(await h.state(id)).toBe('queued');
	// Held by a person it asks nothing.
	await h.engine.change(id, { hold: 'not today' }, admin);
	expect((await h.engine.why(id)).text).toContain('held by test: not today');
});

test('a robot that is there is waited for, however busy; when it goes away later, its time is over', async () => {
	const robot = await h.robot('r1');
	await h.clock.advance(graceMs);
	const first = await h.submit({ target: { robot: 'r1' } });
	await settled();
	await robot.accept();
	const id = await h.submit(pinned({ forMs: spell }));
	await h.clock.advance(3 * spell);
	expect(await h.state(id)).toBe('queued');
	expect((await h.engine.timeline(id)).length).toBe(1);
	await robot.vanish();
	await h.clock.advance(awayMs - 1_000);
	expect(await h.state(id)).toBe('queued');
	await h.clock.advance(62_000);
	expect(await h.state(id)).toBe('timeout');
	expect(await h.state(first)).toBe('running');
});

test('a robot that blinks at that moment is not away', async () => {
	const robot = await h.robot('r1', { slots: 1 });
	await h.clock.advance(graceMs);
	const first = await h.submit({ target: { robot: 'r1' } });
	await settled();
	await robot.accept();
	const id = await h.submit(pinned({ forMs: spell }));
	await h.clock.advance(spell - 5_000);
	await robot.vanish();
	await h.clock.advance(10_000);
	expect(await h.state(id)).toBe('queued');
	await robot.connect({
		attempts: [heldAs('running', robot.last)],
	});
	await robot.end();
	expect(await h.state(first)).toBe('completed');
	expect(robot.last.job_id).toBe(id);
});

test('after a restart robots get their time to come back first', async () => {
	const robot = await gone('r1');
	const id = await h.submit(pinned({ forMs: spell }));
	h.store.die();
	await h.clock.pause(2 * spell);
	await h.restart();
	await h.clock.advance(graceMs - 2_000);
	expect(await h.state(id)).toBe('queued');
	await robot.connect();
	await settled();
	expect(robot.last.job_id).toBe(id);
});

test('after a restart a job whose robot stays away ends all the same', async () => {
	await gone('r1');
	const id = await h.submit(pinned({ forMs: spell }));
	h.store.die();
	await h.clock.pause(2 * spell);
	await h.restart();
	await h.clock.advance(graceMs + 2_000);
	expect(await h.state(id)).toBe('timeout');
});

test('a robot that comes back at the very moment: the job is its own or over, never both', async () => {
	for (let lead = -3; lead <= 3; lead += 1) {
		const own = await house();
		const robot = await own.robot('r1');
		await own.clock.advance(graceMs);
		await robot.vanish();
		const id = await own.submit(pinned({ forMs: spell }));
		await own.clock.advance(spell - 2);
		const back = lead < 0 ? robot.connect() : undefined;
		const passed = own.clock.advance(1_004);
		for (let i = 0; i < lead; i += 1) await new Promise((resolve) => setImmediate(resolve));
		await (back ?? robot.connect());
		await passed;
		await settled();
		const state = await own.state(id);
		expect(['dispatched', 'timeout']).toContain(state);
		expect(robot.assigned).toHaveLength(state === 'dispatched' ? 1 : 0);
		await own.close();
	}
});

test.each(['before', 'after'] as const)(
	'a service that dies %s the commit does it once',
	async (moment) => {
		await gone('r1');
		const other = await h.robot('r2');
		const id = await h.submit(pinned({ forMs: spell, then: 'other' }));
		const died = h.store.dieAt('changeJob', moment);
		await h.clock.advance(spell + 1_001);
		await died;
		await h.restart();
		await other.connect();
		await h.clock.advance(graceMs + 2_000);
		expect(other.assigned.filter((job) => job.job_id === id)).toHaveLength(1);
		const moved = (await h.engine.timeline(id)).filter(({ reason }) => /another one/.test(reason));
		expect(moved).toHaveLength(1);
	},
);

test('the time counts from when the job could start, and only while it is queued', async () => {
	await gone('r1');
	const notBefore = h.clock.now() + spell;
	const id = await h.submit({ ...pinned({ forMs: spell }), notBefore });
	await h.clock.advance(2 * spell - 1_000);
	expect(await h.state(id)).toBe('queued');
	await h.clock.advance(2_001);
	expect(await h.state(id)).toBe('timeout');
	const held = await h.submit(pinned({ forMs: spell }));
	await h.engine.change(held, { hold: true }, admin);
	await h.clock.advance(5 * spell);
	expect(await h.state(held)).toBe('pending');
	await h.engine.change(held, { hold: false }, admin);
	await h.clock.advance(1_001);
	expect(await h.state(held)).toBe('timeout');
});

test('each child of a parent waits for its own robot', async () => {
	await gone('r1');
	const here = await h.robot('r2');
	const id = await h.submit({ target: { mode: 'all' }, offline: { forMs: spell } });
	await settled();
	await here.accept();
	await here.end();
	await h.clock.advance(spell + 1_001);
	const job = await h.engine.job(id);
	expect(job).toMatchObject({ state: 'failed', children: { completed: 1, timeout: 1 } });
});

test('a child that asks is not for another robot: that has its own', async () => {
	await gone('r1');
	await h.robot('r2');
	const id = await h.submit({
		target: { mode: 'all' },
		offline: { forMs: spell, then: 'ask' },
	});
	await h.clock.advance(spell + 1_001);
	const children = (await h.engine.jobs({ parentId: id, limit: 5 })).items;
	const asking = children.find(({ hold }) => hold !== null)!;
	expect((await h.engine.why(asking.jobId)).text).toMatch(
		/ UTC; wait on, or end it\? Answer with: robot-fleet jobs answer .* wait\|expire\.$/,
	);
	await expect(h.engine.answer(asking.jobId, { answer: 'other' }, admin)).rejects.toMatchObject({
		code: 'bad-field',
	});
	expect(await h.engine.answer(asking.jobId, { answer: 'expire' }, admin)).toMatchObject({
		state: 'timeout',
	});
});

describe('a job whose robot was removed', () => {
	/** Seconds in which nobody can do it. */
	const soon = () => h.clock.advance(2_000);

	test('ends, says why, and can be replayed on another one', async () => {
		const robot = await gone('r1');
		const id = await h.submit({ target: { robot: 'r1' } });
		await h.engine.removeRobot('r1', admin);
		await soon();
		expect(await h.engine.job(id)).toMatchObject({
			state: 'failed',
			cause: 'policy',
			error: {
				type: 'policy',
				message: `The job is for robot r1 (${robot.robotId}), which was removed. Retry it with another target.`,
			},
		});
		const [group] = (await h.engine.deadLetters({ limit: 5 })).items;
		expect(group).toMatchObject({ count: 1 });
	});

	test('is retried on the robot that has its name by then, if it asked for it by name', async () => {
		const { robotId } = await gone('r1');
		const ids = await Promise.all(
			['r1', robotId].map((robot) => h.submit({ target: { robot }, slots: 1 })),
		);
		await h.engine.removeRobot('r1', admin);
		await soon();
		const next = await h.robot('r1');
		for (const id of ids) await h.engine.retry(id, admin);
		await settled();
		expect(next.assigned).toHaveLength(1);
		await soon();
		const retries = (await h.engine.jobs({ limit: 2 })).items;
		expect(retries.map(({ state }) => state).sort()).toEqual(['dispatched', 'failed']);
	});

	test('does what it says of a robot that stays away, and at once', async () => {
		await gone('r1');
		const [other, asks, expires] = await Promise.all(
			(['other', 'ask', 'expire'] as const).map((then) => h.submit(pinned({ forMs: spell, then }))),
		);
		await h.engine.removeRobot('r1', admin);
		const next = await h.robot('r2');
		await soon();
		expect(next.last.job_id).toBe(other);
		expect((await h.engine.why(asks!)).text).toMatch(
			/ was removed; let another one do it, or end it\? Answer with: robot-fleet jobs answer .* other\|expire\.$/,
		);
		// Else whoever answers so by rote is asked again a moment later, for ever.
		await expect(
			h.engine.answer(asks!, { answer: 'wait', forMs: spell }, admin),
		).rejects.toMatchObject({ code: 'bad-field' });
		expect((await h.engine.why(asks!)).text).toMatch(/^The job asks: /);
		expect(await h.engine.job(expires!)).toMatchObject({ state: 'timeout' });
	});

	test('waits no longer when its time comes only then, when it is released, and after a restart', async () => {
		await gone('r1');
		const late = await h.submit({
			target: { robot: 'r1' },
			notBefore: h.clock.now() + 60_000,
		});
		const held = await h.submit({ target: { robot: 'r1' } });
		await h.engine.change(held, { hold: 'for now' }, admin);
		const waits = await h.submit({ target: { robot: 'r1' } });
		await h.engine.removeRobot('r1', admin);
		await h.restart();
		await soon();
		expect(await h.state(waits)).toBe('failed');
		expect(await h.state(late)).toBe('pending');
		expect(await h.state(held)).toBe('pending');
		await h.engine.change(held, { hold: false }, admin);
		await h.clock.advance(60_000);
		await soon();
		expect(await h.state(late)).toBe('failed');
		expect(await h.state(held)).toBe('failed');
	});

	test('does not keep its siblings from their end', async () => {
		const robots = [await gone('r1'), await h.robot('r2')];
		const parent = await h.submit({ target: { mode: 'all' } });
		await robots[1]!.end();
		await h.engine.removeRobot('r1', admin);
		await soon();
		expect(await h.engine.job(parent)).toMatchObject({
			state: 'failed',
			children: { completed: 1, failed: 1 },
		});
	});

	test('however many there are, in a line that is longer than memory looks', async () => {
		await gone('r1');
		const many = await Promise.all(
			Array.from({ length: 1_200 }, () => h.submit({ target: { robot: 'r1' } })),
		);
		await h.engine.removeRobot('r1', admin);
		await soon();
		for (const id of many) expect(await h.state(id)).toBe('failed');
	});
});

test('what makes no sense is refused', async () => {
	await h.robot('r1');
	const say = async (job: Partial<Submit>) =>
		(await h.engine.submit([{ kind: 'command', spec: { command: 'true' }, ...job }], admin))[0];
	for (const job of [
		{ offline: { forMs: 1 } },
		pinned({}),
		pinned({ until: h.clock.now() }),
		{ target: { mode: 'all' as const }, offline: { forMs: 1, then: 'other' as const } },
	]) {
		expect(await say(job)).toMatchObject({ code: 'bad-field' });
	}
});

test('another try by hand waits as long once more', async () => {
	await gone('r1');
	const id = await h.submit(pinned({ forMs: spell }));
	await h.clock.advance(spell + 1_001);
	const { jobId } = await h.engine.retry(id, admin);
	expect((await h.engine.job(jobId)).offline).toEqual({
		until: h.clock.now() + spell,
		then: 'expire',
	});
});
