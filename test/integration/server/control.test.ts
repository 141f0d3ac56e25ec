/** Robots that are closed and jobs that ask, over real HTTP and with the real command line, on a real engine and store. */
import { FleetClient } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { admin, type House } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { type ServedHouse, servedHouse } from '../../support/served-house';
import { within } from './house';

let desk: ServedHouse;
let h: House;
let client: FleetClient;

beforeEach(async () => {
	desk = await servedHouse({ settings: { quarantineAfter: 1 } });
	({ h, client } = desk);
});
afterEach(() => desk.close());

const run = (...words: string[]) => desk.run(...words);

test('a robot is put into maintenance, listed as that with its reason, and resumed', async () => {
	await h.robot('kiosk-3');
	const until = new Date(h.clock.now() + 7_200_000).toISOString();
	expect(
		await run('robots', 'maintenance', 'kiosk-3', '--reason', 'disk swap', '--until', until),
	).toBe(
		'kiosk-3 gets no new jobs and holds none; maintenance until 2026-01-01 02:00:00 UTC: disk swap (by ana)\n',
	);
	expect(await run('robots', 'list')).toMatch(
		/^kiosk-3 +maintenance until 2026-01-01 02:00:00 UTC: disk swap \(by ana\) /m,
	);
	const jobId = await h.submit({ target: { robot: 'kiosk-3' } });
	expect(await run('jobs', 'why', jobId)).toContain(
		'is in maintenance until 2026-01-01 02:00 UTC: disk swap (by ana)',
	);
	expect(await run('robots', 'resume', 'kiosk-3')).toMatch(/^kiosk-3 is (online|busy)\n$/);
	expect(JSON.parse(await run('robots', 'show', 'kiosk-3', '--json'))).toMatchObject({
		closed: null,
		quarantine: null,
	});
});

test('all robots of a label are paused by one line, and a dry run says which', async () => {
	await h.robot('a', { labels: { site: 'berlin' } });
	await h.robot('b', { labels: { site: 'rome' } });
	const words = ['robots', 'pause', '--label', 'site=berlin', '--for', '2h', '--reason', 'move'];
	expect(await run(...words, '--dry-run')).toBe(
		'1 robot found, 1 would be paused\n  a\nNothing was changed: this was a dry run.\n',
	);
	expect((await client.robot('a')).closed).toBeNull();
	expect(await run(...words)).toBe('1 robot found, 1 paused\n  a\n');
	expect((await client.robot('a')).closed).toMatchObject({
		as: 'paused',
		reason: 'move',
		until: h.clock.now() + 7_200_000,
	});
	expect((await client.robot('b')).closed).toBeNull();
	expect(await run('robots', 'drain', 'b')).toMatch(/^b gets no new jobs and holds none; draining/);
});

test('a drain that has opened by itself while jobs ran on is not made anew', async () => {
	const robot = await h.robot('b');
	await h.submit({ target: { robot: 'b' } });
	await settled();
	await robot.accept();
	const asked = jest.spyOn(h.engine, 'drainRobot');
	const drained = run('robots', 'drain', 'b', '--for', '10s');
	// The second call waits for the jobs.
	while (asked.mock.calls.length < 2) await settled();
	await settled();
	await h.clock.advance(15_000);
	expect(await within('the end of the drain', drained)).toBe('b is busy\n');
	expect(asked).toHaveBeenCalledTimes(2);
	expect(await client.robot('b')).toMatchObject({ closed: null, held: 1 });
});

test('a robot in quarantine says why, and is probed and lifted by hand', async () => {
	const robot = await h.robot('r1');
	await h.submit({ retry: { maxAttempts: 1 } });
	await settled();
	await robot.accept();
	const error = { type: 'infrastructure', message: 'No space left.' };
	await robot.end({ state: 'failed', cause: 'infrastructure', result: { exit_code: null, error } });
	expect(await run('robots', 'list')).toMatch(
		/^r1 +quarantine, probed at 2026-01-01 00:01:00 UTC: a job failed for a reason/m,
	);
	expect(await run('robots', 'probe', 'r1')).toBe('r1 is probed\n');
	await settled();
	expect(robot.last.kind).toBe('probe');
	expect(await run('robots', 'resume', 'r1')).toMatch(/^r1 is /);
	expect(await run('robots', 'quarantine', 'r1', '--reason', 'smells of smoke')).toContain(
		'quarantine: smells of smoke',
	);
	expect(await client.robot('r1')).toMatchObject({
		quarantine: { by: 'ana', reason: 'smells of smoke', nextProbeAt: null },
	});
});

test('a job that asks is answered from the command line', async () => {
	const robot = await h.robot('r1');
	const other = await h.robot('r2');
	await h.clock.advance(90_000);
	await robot.vanish();
	const jobId = (
		await run(
			'submit',
			'--robot',
			'r1',
			'--offline-for',
			'2m',
			'--offline-then',
			'ask',
			'--',
			'true',
		)
	).trim();
	await h.clock.advance(122_000);
	expect(await run('jobs', 'why', jobId)).toContain(`robot-fleet jobs answer ${jobId}`);
	expect(await run('jobs', 'answer', jobId, 'other')).toBe('queued\n');
	await settled();
	expect(other.last.job_id).toBe(jobId);
	expect(await desk.call('jobs', 'answer', jobId, 'other')).toBe(1);
	expect(desk.said.err).toContain('[nothing-asked]');
});

test('a call that closes a robot needs the scope operate, an answer the scope cancel', async () => {
	await h.robot('r1');
	const jobId = await h.submit();
	const { key } = await h.engine.createKey({ name: 'ben', scopes: ['submit', 'read'] }, admin);
	const ben = new FleetClient(httpSend({ url: desk.server.url, key }));
	for (const call of [
		ben.maintainRobot('r1'),
		ben.quarantineRobot('r1', 'x'),
		ben.probeRobot('r1'),
		ben.changeRobots({ action: 'pause', filter: { robots: ['r1'] } }),
		ben.answer(jobId, { answer: 'wait' }),
	]) {
		await expect(call).rejects.toMatchObject({ code: 'no-scope' });
	}
	await expect(client.changeRobots({ action: 'pause', filter: {} })).rejects.toMatchObject({
		code: 'bad-field',
	});
});
