/** What operators do to jobs, over real HTTP and with the real command line, on a real engine and store. */
import type { FleetClient } from '../../../client';
import type { Problem } from '../../../protocol';
import { exit, type House, resultOf } from '../../support/engine';
import { settled } from '../../support/fake-clock';
import { type ServedHouse, servedHouse } from '../../support/served-house';

let desk: ServedHouse;
let h: House;
let client: FleetClient;

beforeEach(async () => {
	desk = await servedHouse({ maxWaitingJobs: 50 });
	({ h, client } = desk);
	await h.engine.queueStats();
});
afterEach(() => desk.close());

const submit = (more = {}) =>
	client.submit({ kind: 'command', spec: { command: 'true' }, ...more }).then(({ jobId }) => jobId);
/** One command line: its exit code and what it printed. */
async function run(...args: string[]): Promise<string> {
	const code = await desk.call(...args);
	return code === 0 ? desk.said.out : `exit ${code}: ${desk.said.err}`;
}
/** Jobs that a robot failed, which then goes away. */
async function failures(count: number): Promise<string[]> {
	const robot = await h.robot('r1', { slots: 50 });
	const ids: string[] = [];
	for (let i = 0; i < count; i += 1) ids.push(await submit());
	await settled();
	for (const [i, job] of robot.assigned.entries()) {
		robot.session.result(
			resultOf(job, { ...exit(2), result: { exit_code: 2, stderr: `row ${i}` } }),
		);
	}
	await settled();
	await robot.vanish();
	return ids;
}

test('PATCH changes a waiting job, and refuses what makes no sense in one sentence', async () => {
	const id = await submit({ shareKey: 'team-a' });
	expect(await client.change(id, { priority: 3, hold: 'audit' })).toMatchObject({
		state: 'pending',
		priority: 'critical',
		hold: 'ana: audit',
		shareKey: 'team-a',
	});
	expect(await client.why(id)).toMatchObject({
		text: expect.stringContaining('held by ana: audit'),
	});
	expect(await client.change(id, { hold: false })).toMatchObject({ state: 'queued', hold: null });
	const refusal = (change: object) =>
		client.change(id, change).then(
			() => 'nothing',
			(problem: Problem) => `${problem.code}: ${problem.message}`,
		);
	expect(await refusal({})).toBe(
		'bad-field: body: must have at least one of priority, hold, target.',
	);
	expect(await refusal({ prio: 1 })).toContain('unknown-field');
	expect(await refusal({ hold: 'two\nlines' })).toBe(
		'bad-field: hold: must be one line without control characters.',
	);
	expect(await refusal({ priority: 7 })).toContain('bad-field');
	await client.cancel(id);
	expect(await refusal({ priority: 1 })).toBe(
		'not-waiting: The job is cancelled; only a job that still waits (pending or queued) can be changed.',
	);
});

test('a bulk call looks first, then changes what was seen', async () => {
	const ids = [await submit(), await submit({ priority: 'low' })];
	const request = { action: 'cancel', filter: { state: 'queued' } } as const;
	expect(await client.bulk(request)).toMatchObject({ dryRun: true, matched: 2, changed: 2 });
	expect(await client.bulk({ ...request, expect: 2 })).toMatchObject({ dryRun: false, changed: 2 });
	expect((await client.jobs({ state: 'cancelled' })).items.map(({ jobId }) => jobId)).toEqual(
		ids.reverse(),
	);
	await expect(client.bulk({ ...request, filter: {} })).rejects.toMatchObject({
		code: 'bad-field',
	});
	await expect(client.bulk({ ...request, filter: { robot: 'nobody' } })).rejects.toMatchObject({
		code: 'no-such-robot',
	});
});

test('dead letters are listed, replayed and dismissed', async () => {
	const ids = await failures(3);
	const { items } = await client.deadLetters();
	expect(items).toMatchObject([{ kind: 'command', cause: 'exit_code', count: 3 }]);
	const { fingerprint } = items[0]!;
	expect((await client.deadLetterJobs(fingerprint)).items.map(({ dead }) => dead)).toEqual([
		fingerprint,
		fingerprint,
		fingerprint,
	]);
	expect((await client.jobs({ dead: true, limit: 2 })).items).toHaveLength(2);
	expect((await client.jobs({ fingerprint })).items).toHaveLength(3);
	expect(await client.replay({ fingerprint, dryRun: true })).toMatchObject({ matched: 3 });
	const one = await client.replay({ jobIds: [ids[0]!], target: { labels: { os: 'mac' } } });
	expect(one.retries).toEqual([{ jobId: expect.any(String), retryOf: ids[0] }]);
	expect(await client.job(one.retries![0]!.jobId)).toMatchObject({
		target: { labels: { os: 'mac' } },
	});
	expect(await client.dismiss({ fingerprint })).toMatchObject({ changed: 2 });
	expect((await client.deadLetters()).items).toEqual([]);
	await expect(client.deadLetterJobs(fingerprint)).rejects.toMatchObject({
		code: 'no-such-dead-letter',
	});
	await expect(client.dismiss({})).rejects.toMatchObject({ code: 'bad-field' });
});

test('a duplicate is 409 with the job it repeats, a full queue is 429 with a time', async () => {
	const first = await submit({ dedupe: { windowMs: 60_000 } });
	await expect(submit({ dedupe: true })).rejects.toMatchObject({
		code: 'duplicate-job',
		details: { jobId: first },
	});
	for (let i = 1; i < 50; i += 1) await submit();
	const answer = await fetch(`${desk.server.url}/api/v1/jobs`, {
		method: 'POST',
		headers: {
			'content-type': 'application/json',
			authorization: `Bearer ${desk.key}`,
		},
		body: JSON.stringify({ kind: 'command', spec: { command: 'true' } }),
	});
	expect(answer.status).toBe(429);
	expect(answer.headers.get('retry-after')).toBe('5');
	expect(await answer.json()).toMatchObject({ error: { code: 'queue-full', retry: true } });
});

test('the queue tells its lanes and its longest wait', async () => {
	await submit({ target: { labels: { os: 'mac' } } });
	await h.clock.advance(3_000);
	expect(await client.queueStats()).toMatchObject({
		oldestQueuedMs: 3_000,
		lanes: [{ target: 'label os=mac', queued: 1, robots: 0 }],
	});
	expect(await run('queue', 'stats')).toMatch(
		/longest wait +3 s[\s\S]*QUEUED +ROBOTS +FOR\n1 +0 +label os=mac/,
	);
});

describe('the command line', () => {
	test('jobs are submitted with a share and without a twin', async () => {
		const id = (await run('submit', '--share', 'team-a', '--dedupe', '--', 'uname')).trim();
		expect(await client.job(id)).toMatchObject({ shareKey: 'team-a' });
		expect(await run('submit', '--dedupe', '10m', '--', 'uname')).toContain('duplicate-job');
	});

	test('a dry run says what would be, the same line without it does it', async () => {
		const [a, b] = [await submit(), await submit({ priority: 'high' })];
		expect(await run('jobs', 'cancel', '--state', 'queued', '--dry-run')).toBe(
			'2 jobs found, 2 would be cancelled\nNothing was changed: this was a dry run.\n',
		);
		expect((await client.job(a)).state).toBe('queued');
		expect(await run('jobs', 'cancel', '--state', 'queued', '--priority', 'high')).toBe(
			'1 job found, 1 cancelled\n',
		);
		expect((await client.job(a)).state).toBe('queued');
		expect((await client.job(b)).state).toBe('cancelled');
		expect(await run('jobs', 'cancel', '--kind', 'command')).toBe(
			'2 jobs found, 1 cancelled\n  skipped 1: it is cancelled\n',
		);
	});

	test('jobs are held, released, ranked and sent elsewhere, by id and by filter', async () => {
		const [a, b] = [await submit(), await submit()];
		expect(await run('jobs', 'hold', a, '--reason', 'audit')).toBe('pending\n');
		expect(await run('jobs', 'why', a)).toContain(`robot-fleet jobs release ${a}`);
		expect(await run('jobs', 'hold', '--state', 'queued')).toBe('1 job found, 1 held\n');
		expect(await run('jobs', 'release', a, b)).toBe(`${a} queued\n${b} queued\n`);
		expect(await run('jobs', 'rank', 'critical', '--created-after', '1h')).toBe(
			'2 jobs found, 2 ranked anew\n',
		);
		expect(await run('jobs', 'retarget', '--state', 'queued', '--to-label', 'os=mac')).toBe(
			'2 jobs found, 2 retargeted\n',
		);
		expect(await client.job(a)).toMatchObject({
			priority: 'critical',
			target: { labels: { os: 'mac' } },
		});
		expect(await run('jobs', 'list', '--priority', 'critical')).toContain(a);
		expect(await run('jobs', 'list', '--created-before', '1h')).not.toContain(a);
	});

	test('dead letters have their own commands', async () => {
		const ids = await failures(3);
		const list = await run('dead', 'list');
		expect(list).toMatch(
			/FINGERPRINT +COUNT +KIND +CAUSE +LAST +MESSAGE\n[0-9a-f]{16} +3 +command +exit_code/,
		);
		const fingerprint = /^[0-9a-f]{16}/m.exec(list)![0];
		expect(await run('dead', 'show', fingerprint)).toContain(ids[0]);
		expect(await run('dead', 'replay', fingerprint, '--dry-run')).toContain('3 would be replayed');
		expect(await run('dead', 'replay', '--job', ids[0]!, '--to-robot', 'r1')).toBe(
			'1 job found, 1 replayed\n',
		);
		expect(await run('jobs', 'retry', '--state', 'failed')).toBe(
			'3 jobs found, 2 submitted again\n  skipped 1: it was retried already\n',
		);
		expect(await run('dead', 'dismiss', '--all')).toBe('0 jobs found, 0 dismissed\n');
	});

	test.each([
		[['jobs', 'cancel']],
		[['jobs', 'cancel', 'x', '--state', 'queued']],
		[['jobs', 'retarget', 'x']],
		[['jobs', 'rank', 'urgent', 'x']],
		[['jobs', 'list', '--created-after', 'yesterday']],
		[['dead', 'replay']],
		[['dead', 'replay', '0123456789abcdef', '--all']],
	])('%j is a mistake of use', async (args) => {
		expect(await run(...args)).toMatch(/^exit 2: ./);
	});
});
