/** Why a job waits, robot by robot; how its robot was chosen; what would become of one. In a real engine. */
import { Problem, type Submit } from '../../../protocol';
import { admin, house, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';

let h: House;
beforeEach(async () => {
	h = await house();
});
afterEach(() => h.close());

const job = { kind: 'command', spec: { command: 'true' } };
const submit = async (more: Partial<Submit>) => {
	const id = await h.submit(more);
	await settled();
	return id;
};
const preview = (more: Partial<Submit>) => h.engine.preview({ ...job, ...more }, admin);
const everything = async () => JSON.stringify((await h.engine.jobs({ limit: 99 })).items);

test('of a job that waits every robot is told with what keeps it away, a page at a time', async () => {
	const labels = { os: 'linux' };
	await h.robot('mac', { labels: { os: 'mac' } });
	await h.robot('busy', { labels });
	await (await h.robot('away', { labels })).vanish();
	await h.robot('paused', { labels });
	await h.engine.pauseRobot('paused', admin);
	await h.robot('not-me', { labels });
	await submit({ target: { robot: 'busy' } });
	const id = await submit({ target: { labels, exclude: ['not-me'] } });
	const { text, robots } = await h.engine.why(id, { limit: 10 });
	expect(text).toBe('3 of 5 robots match: 1 is busy, 1 is not connected, 1 is paused (by test).');
	expect(robots).toMatchObject({ robots: 5, matching: 3, free: 0 });
	expect(robots!.items.map(({ name, obstacle, text: it }) => [name, obstacle, it])).toEqual([
		['mac', 'label', 'has the label os=mac, not os=linux'],
		['busy', 'busy', 'is busy'],
		['away', 'offline', 'is not connected'],
		['paused', 'paused', 'is paused (by test)'],
		['not-me', 'excluded', 'is excluded by the job'],
	]);
	const first = (await h.engine.why(id, { limit: 2 })).robots!;
	expect(first.items).toHaveLength(2);
	const next = (await h.engine.why(id, { limit: 2, cursor: first.cursor! })).robots!;
	const last = (await h.engine.why(id, { limit: 2, cursor: next.cursor! })).robots!;
	expect([...first.items, ...next.items, ...last.items]).toEqual(robots!.items);
	expect(last.cursor).toBeUndefined();
	const matching = (await h.engine.why(id, { limit: 10, only: 'matching' })).robots!;
	expect(matching.items.map(({ name }) => name)).toEqual(['busy', 'away', 'paused']);
	// Not asked for: not told.
	expect(await h.engine.why(id)).toEqual({ text });
});

test('thousands of robots with as many reasons still make one short sentence', async () => {
	for (let i = 0; i < 12; i += 1) {
		await h.robot(`r${i}`, { clients: ['phone'] });
		await submit({ target: { robot: `r${i}` } });
	}
	const { text } = await h.engine.why(await submit({ target: { client: 'phone' } }));
	expect(text).toMatch(
		/^12 of 12 robots match: 1 has client phone busy with job .*, 7 something else\.$/,
	);
});

test('while the service is drained, that is what keeps a free robot from a job', async () => {
	await h.robot('r1');
	await h.engine.pauseRobot('r1', admin);
	const id = await submit({});
	await h.engine.drain(admin);
	await h.engine.resumeRobot('r1', admin);
	const { text, robots } = await h.engine.why(id, { limit: 1 });
	expect(text).toContain('1 is free, but the service gives out no jobs, because it is drained');
	expect(robots!.items).toMatchObject([{ obstacle: 'closed' }]);
});

test('an attempt knows how its robot was chosen, after a restart and a second try too', async () => {
	const small = await h.robot('small', { slots: 1 });
	const large = await h.robot('large', { slots: 4, labels: { disk: 'ssd' } });
	large.session.heartbeat({ cpu_percent: 42 });
	const plain = await submit({});
	expect(small.last.job_id).toBe(plain);
	expect((await h.engine.why(plain)).choice).toEqual({
		text: 'small was chosen by least_loaded out of 1 free that were compared (2 robots match): 0 % of its slots were in use, its processor at 0 %.',
		strategy: 'least_loaded',
		by: 'job',
		matching: 2,
		compared: 1,
		winner: { robotId: small.robotId, name: 'small', load: 0, cpu: 0 },
		others: [],
	});
	await small.reject('paused');
	const [first, second] = await h.engine.attempts(plain);
	expect(first).toMatchObject({ outcome: 'refused', choice: { winner: { name: 'small' } } });
	expect(second!.choice).toMatchObject({ by: 'slot', winner: { name: 'large', cpu: 40 } });
	const prefer = [{ labels: { disk: 'ssd' }, weight: 7 }];
	const picky = await submit({ target: { prefer } });
	const told = {
		by: 'job',
		compared: 2,
		winner: { name: 'large', load: 25, cpu: 40, preference: 7 },
		others: [{ name: 'small', load: 0, cpu: 0 }],
	};
	expect((await h.engine.why(picky)).choice).toMatchObject(told);
	const pinned = await submit({ target: { robot: 'large' } });
	expect((await h.engine.why(pinned)).choice).toBeUndefined();
	await h.restart();
	expect((await h.engine.why(picky)).choice).toMatchObject(told);
	expect(await h.path(picky)).toBe('queued dispatched');
});

test('who was chosen by affinity, or got a job that had waited, says so', async () => {
	const robots = [await h.robot('r1', { slots: 2 }), await h.robot('r2', { slots: 2 })];
	const affine = { strategy: 'affinity', affinityKey: 'k' } as const;
	const once = await submit(affine);
	const home = robots.find(({ assigned }) => assigned.at(-1)?.job_id === once)!;
	await home.end();
	const { choice } = await h.engine.why(await submit(affine));
	expect(choice!.winner).toMatchObject({ robotId: home.robotId, successes: 1 });
	expect(choice!.text).toContain('1 job of its key had gone well there');
	for (let i = 0; i < 3; i += 1) await submit({});
	const waits = await submit({});
	expect(await h.engine.why(waits)).not.toHaveProperty('choice');
	await robots[0]!.end();
	expect((await h.engine.why(waits)).choice).toMatchObject({
		by: 'slot',
		text: 'A slot of r1 came free, and the job was first in line for it; 2 robots match.',
	});
});

test('a preview says where a job would start, with its defaults and values, and changes nothing', async () => {
	await h.robot('r1', { labels: { os: 'linux' } });
	const before = await everything();
	const {
		accepted,
		state,
		text,
		picked,
		robots,
		clashes,
		job: written,
	} = await preview({
		spec: { command: 'echo', args: ['{{who}}'] },
		variables: { who: 'world' },
		target: { labels: { os: 'linux' } },
	});
	expect({ accepted, state, text, clashes }).toEqual({
		accepted: true,
		state: 'dispatched',
		text: 'It would start on r1 at once.',
		clashes: [],
	});
	expect(picked.map(({ name }) => name)).toEqual(['r1']);
	expect(robots).toMatchObject({ robots: 1, matching: 1, free: 1, items: [{ obstacle: null }] });
	expect(written).toMatchObject({
		spec: { command: 'echo', args: ['world'] },
		priority: 'normal',
		strategy: 'least_loaded',
		timeouts: { runMs: 3_600_000, startMs: 30_000 },
		retry: { maxAttempts: 3 },
		onLoss: { waitMs: 300_000, then: 'unknown' },
		onDisconnect: 'continue',
	});
	expect(await everything()).toBe(before);
	// What it says a submit does.
	expect(await h.state(await submit({}))).toBe('dispatched');
	expect(await preview({})).toMatchObject({
		state: 'queued',
		picked: [],
		text: 'It would wait in line. 1 of 1 robots match: 1 is busy.',
	});
	const later = h.clock.now() + 60_000;
	expect(await preview({ notBefore: later })).toMatchObject({ state: 'pending', picked: [] });
});

test('a preview tells what stands against a job', async () => {
	const labels = { os: 'linux' };
	await h.robot('build-01', { labels });
	await h.engine.putPool('p', { maxJobs: 0 }, admin);
	const codes = async (more: Partial<Submit>) => {
		const { accepted, clashes } = await preview(more);
		return [accepted, ...clashes.map(({ code }) => code)];
	};
	expect(await codes({ target: { robot: 'biuld-01' } })).toEqual([false, 'unknown-robot']);
	expect((await preview({ target: { robot: 'biuld-01' } })).text).toContain(
		'Did you mean build-01?',
	);
	expect(await codes({ target: { group: 'nowhere' } })).toEqual([false, 'no-such-group']);
	const nobody = { target: { labels: { os: 'linux2' } } };
	expect(await codes(nobody)).toEqual([true, 'no-robot-fits']);
	expect((await preview(nobody)).clashes[0]!.text).toContain('did you mean os=linux?');
	expect(await codes({ ...nobody, strict: true })).toEqual([false, 'no-robot-fits']);
	expect(await codes({ target: { pool: 'p' } })).toEqual([true, 'pool-full']);
	expect(await codes({ target: { mode: { count: 2 } } })).toEqual([false, 'too-few-robots']);
	expect(await codes({ spec: { command: 'cat', files: [{ file: 'gone', path: 'x' }] } })).toEqual([
		false,
		'file-unusable',
	]);
	const keyed = { idempotencyKey: 'k', dedupe: true };
	const first = await submit(keyed);
	expect(await preview(keyed)).toMatchObject({
		accepted: true,
		clashes: [{ code: 'same-request', text: expect.stringContaining(first) as string }],
	});
	expect(await codes({ ...keyed, priority: 'high' })).toEqual([false, 'key-conflict']);
	expect(await codes({ dedupe: true })).toEqual([false, 'duplicate-job']);
	await h.engine.drain(admin);
	expect(await codes({})).toEqual([false, 'draining']);
});

test('a preview of a job for several robots names them', async () => {
	await h.robot('r1');
	await h.robot('r2');
	const { state, text, picked } = await preview({ target: { mode: 'all' } });
	expect({ state, text }).toEqual({ state: 'running', text: 'It would run on 2 robots.' });
	expect(picked.map(({ name }) => name).sort()).toEqual(['r1', 'r2']);
	expect((await h.engine.jobs({ limit: 9 })).items).toEqual([]);
});

test('a strict job is refused when nobody could ever run it, and is like any other when somebody could', async () => {
	const robot = await h.robot('r1', { labels: { os: 'linux' } });
	await robot.vanish();
	const strict = { strict: true, target: { labels: { os: 'linux' } }, idempotencyKey: 'k' };
	const id = await submit(strict);
	expect(await h.state(id)).toBe('queued');
	const wrong = { ...strict, idempotencyKey: 'l', target: { labels: { os: 'linus' } } };
	await expect(submit(wrong)).rejects.toThrow('did you mean os=linux?');
	const answers = await h.engine.submit(
		[{ ...job, strict: true, target: { tags: ['gpu'] } }, { ...job, strict: true }, job],
		admin,
	);
	expect(answers.map((answer) => answer instanceof Problem && answer.code)).toEqual([
		'no-robot-fits',
		false,
		false,
	]);
	// Who repeats a request gets the job it made, even when nobody could run it any more.
	await h.engine.removeRobot('r1', admin);
	expect(await submit(strict)).toBe(id);
});

test('of a job on a robot that is away or was removed it says so, and what then', async () => {
	const robot = await h.robot('r1', { slots: 2 });
	const runs = await submit({ onLoss: { waitMs: 60_000 } });
	await robot.accept();
	const sent = await submit({});
	await robot.vanish();
	const why = async (id: string) => (await h.engine.why(id)).text;
	expect(await why(sent)).toBe(
		'The job was sent to r1, which is not connected; the service waits for it to come back.',
	);
	await h.engine.removeRobot('r1', admin);
	expect(await why(runs)).toBe(
		'The job was running on r1, which was removed and reports nothing more; the job’s onLoss decides now.',
	);
	expect(await why(sent)).toMatch(/^The job was sent to r1, which was removed/);
});

test('a group or pool that was removed is named, and a job that waits for it goes on when it is put again', async () => {
	const robot = await h.robot('r1');
	await h.engine.putGroup('hall', {}, admin);
	await h.engine.putPool('prod', { labels: { os: 'linux' } }, admin);
	const ids = [
		await submit({ target: { group: 'hall' } }),
		await submit({ target: { pool: 'prod', robot: 'r1' } }),
	];
	await h.engine.removeGroup('hall', admin);
	await h.engine.removePool('prod', admin);
	const why = await Promise.all(ids.map(async (id) => (await h.engine.why(id)).text));
	const what = 'which was removed: make it again, or give the job another target.';
	expect(why).toEqual([
		`The job is for the group hall, ${what}`,
		`The job is for the pool prod, ${what}`,
	]);
	await h.engine.putGroup('hall', { robots: ['r1'] }, admin);
	await settled();
	expect(robot.last.job_id).toBe(ids[0]);
});
