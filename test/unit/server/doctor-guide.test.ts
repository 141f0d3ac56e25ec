/** The first hour: its page and doctor tell the same steps, and doctor sees what goes wrong in each. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
	callbacksFound,
	deadLettersFound,
	filesFound,
	guide,
	jobsFound,
	queueFound,
	robotsFound,
	schedulesFound,
	versionsFound,
	type WaitFacts,
} from '../../../dispatcher/cli/doctor-guide';
import type { DeadLetterGroup, Job, QueueStats, Robot, Schedule } from '../../../protocol';

const page = readFileSync(join(__dirname, '../../../docs/first-hour.md'), 'utf8');
const sections = page.split(/^## /m).slice(1);

test('the page and doctor have the same steps, in the same order, with the same checks', () => {
	const told = sections.map((section) => {
		const [, step] = /^\d+\. (.+)$/m.exec(section)!;
		const check = section.split('\n').find((line) => line.startsWith('**Check:**'))!;
		const [, behind] = /`robot-fleet doctor` → (.*)$/.exec(check)!;
		const [names] = /^`[^.(]*`/.exec(behind!)!;
		return [step, [...names.matchAll(/`([^`]+)`/g)].map(([, name]) => name)];
	});
	expect(told).toEqual(Object.entries(guide));
});

test('each step of the page says what should be seen', () => {
	for (const section of sections) expect(section).toMatch(/^\*\*You should see\*\* /m);
});

const now = 1_800_000_000_000;
const robot = (name: string, more: Partial<Robot> = {}) =>
	({ name, connected: true, status: 'online', agentVersion: '1.4.0', ...more }) as Robot;

test('a robot that may get jobs is enough, and one that was closed is named', () => {
	expect(robotsFound([robot('a'), robot('b', { connected: false })])).toEqual({
		ok: true,
		text: '1 of 2 connected, 1 may get jobs',
	});
	expect(robotsFound([robot('a', { status: 'paused' })])).toEqual({
		ok: false,
		text: '1 of 1 connected, 0 may get jobs; a is paused',
		mend: 'robot-fleet robots resume a',
	});
	expect(robotsFound([])).toMatchObject({
		ok: false,
		mend: expect.stringContaining('token create'),
	});
});

test('an agent of another minor version is named, one of another patch is not', () => {
	expect(versionsFound([robot('a'), robot('b', { agentVersion: '1.4.9' })], '1.4.2').ok).toBe(true);
	expect(versionsFound([robot('a', { agentVersion: '1.2.0' })], '1.4.2')).toMatchObject({
		ok: false,
		text: 'the service is 1.4.2, a has 1.2.0',
		mend: expect.stringContaining('on a: '),
	});
	const away = robot('a', { agentVersion: '1.2.0', connected: false });
	expect(versionsFound([away], '1.4.2').ok).toBe(true);
});

test('the last job that completed is told, and where to go on without one', () => {
	const job = { jobId: 'j1', endedAt: now - 5 * 60_000 } as Job;
	expect(jobsFound(job, now)).toEqual({ ok: true, text: 'job j1 completed within the last hour' });
	expect(jobsFound({ ...job, endedAt: now - 86_400_000 }, now).text).toMatch(/completed on 2027-/);
	expect(jobsFound(undefined, now).next).toContain('robot-fleet submit');
});

test('an n8n that cannot be reached is wrong; what nobody took can be delivered again', () => {
	const wait = (more: Partial<WaitFacts>): WaitFacts => ({
		waitId: 'w1',
		state: 'due',
		executionId: '7',
		tries: 1,
		lastError: null,
		...more,
	});
	expect(callbacksFound([wait({})]).ok).toBe(true);
	expect(callbacksFound([wait({ tries: 9, lastError: 'nothing listens there' })])).toMatchObject({
		ok: false,
		text: 'n8n cannot be told that jobs have ended: w1 of execution 7 (nothing listens there)',
		mend: expect.stringContaining('ROBOT_FLEET_N8N_URL'),
	});
	expect(callbacksFound([wait({ state: 'dead', lastError: 'gone' })])).toMatchObject({
		ok: true,
		next: 'in n8n: Robot Fleet → Job → Retry Delivery, with the wait ID w1',
	});
});

test('failures wait for somebody, the most frequent one first', () => {
	expect(deadLettersFound([])).toEqual({ ok: true, text: 'no failure is waiting for anybody' });
	const group = { fingerprint: 'f1', count: 3, message: 'exit code 3', cause: 'exit_code' };
	expect(deadLettersFound([group as DeadLetterGroup])).toMatchObject({
		ok: true,
		text: '3 jobs failed for good, most of them: exit code 3',
		next: expect.stringContaining('robot-fleet dead show f1'),
	});
});

test('a schedule that is late is wrong, a paused one waits for somebody', () => {
	const schedule = (more: Partial<Schedule>) =>
		({ scheduleId: 's1', name: 'nightly', state: 'active', reason: null, ...more }) as Schedule;
	const soon = schedule({ nextRunAt: now + 1000 });
	expect(schedulesFound([soon], now)).toMatchObject({
		ok: true,
		text: expect.stringMatching(/^1 of 1 active, the next run is 2027-/),
	});
	expect(schedulesFound([schedule({ nextRunAt: now - 3_600_000 })], now)).toMatchObject({
		ok: false,
		mend: expect.stringContaining('robot-fleet schedules show s1'),
	});
	const held = schedule({ nextRunAt: null, reason: 'nothing runs' });
	expect(schedulesFound([soon, held], now)).toMatchObject({
		ok: false,
		text: 'nightly: nothing runs',
	});
	const paused = schedule({ state: 'paused', nextRunAt: null, reason: '3 failures' });
	expect(schedulesFound([paused], now)).toMatchObject({
		ok: true,
		next: 'robot-fleet schedules resume s1',
	});
	expect(schedulesFound([], now).next).toContain('robot-fleet schedules add');
});

test('a job that no robot fits is wrong, a long line is worth a look', () => {
	const stats = (more: Partial<QueueStats>) =>
		({ byState: { queued: 2 }, oldestQueuedMs: 1000, lanes: [], ...more }) as QueueStats;
	const job = { jobId: 'j1' } as Job;
	expect(queueFound(stats({}), job)).toEqual({ ok: true, text: '2 jobs in line' });
	const lanes = [{ target: 'label site=mars', robotId: null, queued: 2, robots: 0 }];
	expect(queueFound(stats({ lanes }), job)).toEqual({
		ok: false,
		text: 'no robot fits 2 jobs for label site=mars',
		mend: 'robot-fleet why j1 --robots',
	});
	expect(queueFound(stats({ oldestQueuedMs: 3_600_000 }), job)).toMatchObject({
		ok: true,
		text: '2 jobs in line, the first for 60 minutes',
		next: 'robot-fleet why j1 --robots',
	});
});

test('files need a disk with room', () => {
	expect(filesFound({ items: [] }, 'ample').next).toContain('--file');
	expect(filesFound({ items: [] }, 'low')).toMatchObject({ ok: false });
});
