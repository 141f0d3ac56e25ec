/** A schedule, from the command line to the exit code of a real program, with no n8n anywhere. */
import type { Occurrence, Schedule } from '../../../protocol';
import { runProgram } from '../../../dispatcher/cli/program';
import { systemClock } from '../../../dispatcher/engine/clock';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(60_000);

let house: WholeHouse;

beforeAll(async () => {
	house = await WholeHouse.open();
	await house.robot('kiosk-1');
});
afterAll(() => house[Symbol.asyncDispose]());

/** What a user types, and what is printed; their clock may be so much ahead. */
async function cli(
	...all: (string | { now: number })[]
): Promise<{ code: number; out: string; err: string }> {
	const args = all.filter((one) => typeof one === 'string');
	const { now: ahead } = all.find((one) => typeof one !== 'string') ?? { now: 0 };
	const said = { out: '', err: '' };
	const { url, key } = house.address;
	const code = await runProgram(args, {
		version: '0.0.0',
		env: { ROBOT_FLEET_URL: url, ROBOT_FLEET_KEY: key },
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => Date.now() + ahead,
		sleep: (ms) => systemClock.sleep(ms),
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		upkeep: {} as never,
		serve: async () => 0,
	});
	return { code, ...said };
}
const json = async <T>(...args: string[]) => JSON.parse((await cli(...args, '--json')).out) as T;

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
	for (const end = performance.now() + 20_000; performance.now() < end;) {
		const found = await look();
		if (found !== undefined) return found;
		await systemClock.sleep(50);
	}
	throw new Error(`waited 20 s for ${what}`);
}

test('a schedule runs a real program on a real robot, and tells how each run ended', async () => {
	const added = await cli(
		'schedules',
		'add',
		'tick',
		...[
			'--every',
			'1s',
			'--robot',
			'kiosk-1',
			'--max-runs',
			'2',
			'--var',
			'site=berlin',
			'--shell',
		],
		...['--', 'echo "at $ROBOT_FLEET_VAR_SITE"'],
	);
	expect(added).toMatchObject({ code: 0, err: '' });
	expect(added.out).toMatch(/state +active/);
	const ended = await until('the end of the schedule', async () => {
		const one = await json<Schedule>('schedules', 'show', 'tick');
		return one.counts.succeeded === 2 ? one : undefined;
	});
	expect(ended).toMatchObject({ state: 'ended', reason: 'it has run 2 times' });
	const { items } = await json<{ items: Occurrence[] }>('schedules', 'occurrences', 'tick');
	// Where a run takes longer than a second the next time is left out, and said; that is none of the two.
	const ran = items.filter(({ state }) => state === 'ran');
	expect(ran.map(({ outcome }) => outcome)).toEqual(['completed', 'completed']);
	const { bytes } = await house.output(ran[0]!.jobId!);
	expect(bytes.toString()).toBe('at berlin\n');
	expect((await cli('schedules', 'occurrences', 'tick')).out).toContain('completed');
});

test('run now, upcoming, forecast, backfill and preview answer a person at the keyboard', async () => {
	const nightly = ['--daily', '02:30', '--zone', 'Europe/Berlin', '--', 'true'];
	const preview = await cli('schedules', 'add', 'nightly', '--preview', ...nightly);
	expect(preview.out).toContain('T02:30:00+01:00');
	expect(preview.out).toContain('the clock is set forward from 02:00:00 to 03:00:00');
	await cli('schedules', 'add', 'nightly', ...nightly);
	expect(await cli('schedules', 'add', 'nightly', ...nightly)).toMatchObject({ code: 2 });
	expect((await cli('schedules', 'update', 'nightly', '--daily', '3:30')).out).toContain('03:30');
	const ran = await cli('schedules', 'run', 'nightly');
	const job = await house.client.job(ran.out.trim(), 20_000);
	expect(job).toMatchObject({ state: 'completed', createdBy: 'schedule:nightly' });
	expect((await cli('schedules', 'upcoming')).out).toContain('T03:30:00');
	expect((await cli('schedules', 'forecast')).out).toContain('everything fits');
	const past = await cli('schedules', 'backfill', 'nightly', '--from', '3d');
	expect(past.out).toContain('3 runs; run them with --yes');
	const filled = await cli('schedules', 'backfill', 'nightly', '--from', '3d', '--yes');
	expect(filled.out).toBe('3 runs started\n');
	await until('the backfill', async () => {
		const { items } = await house.client.occurrences('nightly');
		const done = items.filter((one) => one.origin === 'backfill' && one.outcome === 'completed');
		return done.length === 3 ? done : undefined;
	});
	expect((await cli('schedules', 'pause', '--all')).out).toBe('1 schedule paused\n');
	expect((await cli('schedules', 'resume', '--all')).out).toBe('1 schedule resumed\n');
	expect((await cli('schedules', 'list')).out).toContain('nightly');
	expect((await cli('schedules', 'remove', 'nightly')).out).toBe('nightly is removed\n');
});

test('an update changes what it names, of the job too, and leaves the rest', async () => {
	const job = async () => (await house.client.schedule('pinned')).job!;
	const added = ['--daily', '02:30', '--robot', 'kiosk-1', '--var', 'site=a', '--env', 'A=1'];
	const caps = ['--cap', 'memory=64M', '--watch', 'class=compile', '--timeout', '1m'];
	await cli('schedules', 'add', 'pinned', ...added, ...caps, '--', 'backup', '--all');
	const before = await job();
	expect(before).toMatchObject({ caps: { memoryBytes: 2 ** 26 }, watch: { class: 'compile' } });
	const update = (...args: string[]) => cli('schedules', 'update', 'pinned', ...args);
	// A new command goes where the old one went.
	expect(await update('--', 'newcmd')).toMatchObject({ code: 0 });
	const { args: _, ...spec } = before.spec as Record<string, unknown>;
	expect(await job()).toEqual({ ...before, spec: { ...spec, command: 'newcmd', args: [] } });
	expect(await update('--var', 'team=b', '--cap', 'cpu=10s')).toMatchObject({ code: 0 });
	expect(await job()).toMatchObject({
		spec: { command: 'newcmd', env: { A: '1' } },
		target: { robot: 'kiosk-1' },
		variables: { site: 'a', team: 'b' },
		caps: { memoryBytes: 2 ** 26, cpuSeconds: 10 },
	});
	await update('--priority', 'high', '--shell', '--', 'echo hi');
	expect(await job()).toMatchObject({
		priority: 'high',
		spec: { shell: 'echo hi', env: { A: '1' } },
	});
	expect((await job()).spec).not.toHaveProperty('command');
	expect((await update('--robot', 'nobody')).err).toContain('[unknown-robot]');
	const other = await update('--job', '/dev/null', '--robot', 'kiosk-1');
	expect(other).toMatchObject({ code: 2 });
	expect(other.err).toContain('--robot goes with a command');
	expect((await update('--shell')).code).toBe(2);
	await house.client.putSchedule('told', { cron: '0 0 1 1 *' });
	expect((await cli('schedules', 'update', 'told', '--robot', 'kiosk-1')).err).toContain(
		'no job yet',
	);
	await house.client.removeSchedule('told');
	await house.client.removeSchedule('pinned');
});

test('a run that is left out ends with 1 and its reason', async () => {
	await cli('schedules', 'add', 'slow', '--daily', '02:30', '--', 'sleep', '30');
	const first = await cli('schedules', 'run', 'slow', '--overlap', 'queue-one');
	expect((await cli('schedules', 'run', 'slow')).err).toContain('[schedule-busy]');
	const waits = await cli('schedules', 'run', 'slow', '--overlap', 'queue-one');
	expect(waits).toMatchObject({ code: 0, out: expect.stringMatching(/^waiting/) });
	const third = await cli('schedules', 'run', 'slow', '--overlap', 'queue-one');
	expect(third).toMatchObject({
		code: 1,
		out: '',
		err: expect.stringMatching(/^skipped: overlap/),
	});
	const told = await cli('schedules', 'run', 'slow', '--overlap', 'queue-one', '--json');
	expect(told.code).toBe(1);
	expect(JSON.parse(told.out)).toMatchObject({ state: 'skipped' });
	await house.client.removeSchedule('slow');
	await house.client.cancel(first.out.trim());
});

test('a backfill without an end goes up to now by the clock of the service, whatever the caller’s says', async () => {
	await cli('schedules', 'add', 'past', '--daily', '02:30', '--', 'true');
	const ahead = await cli('schedules', 'backfill', 'past', '--from', '3d', { now: 3_600_000 });
	expect(ahead).toMatchObject({ code: 0, err: '' });
	expect(ahead.out).toMatch(/[23] runs; run them/);
	await house.client.removeSchedule('past');
});

test("the record has the seed's names for those who ask", async () => {
	const job = {
		kind: 'command',
		spec: { command: 'true' },
		target: { robot: 'kiosk-1' },
		variables: { siteName: 'a' },
	};
	const timezone = 'Europe/Berlin';
	await house.client.putSchedule('seed', { cron: '0 9 * * 1-5', timezone, job });
	const answer = await fetch(`${house.address.url}/api/v1/schedules/seed?names=seed`, {
		headers: { authorization: `Bearer ${house.address.key}` },
	});
	expect(await answer.json()).toMatchObject({
		schedule_id: 'seed',
		frequency: 'cron',
		cron_expression: '0 9 * * 1-5',
		timezone,
		enabled: true,
		next_run: expect.stringMatching(/T0[78]:00:00/),
		last_run: null,
		variables: { siteName: 'a' },
		robot_id: 'kiosk-1',
	});
	await house.client.removeSchedule('seed');
});

test('mistakes are told in one sentence each', async () => {
	const add = (...args: string[]) => cli('schedules', 'add', 'x', ...args);
	expect((await add('--', 'true')).err).toContain('Say when');
	expect((await add('--daily', '02:30')).err).toContain('Say what');
	expect((await add('--daily', '02:30', '--every', '1s', '--', 'true')).err).toContain('only one');
	expect((await add('--daily', '25:00', '--', 'true')).err).toContain('when.times: "25:00"');
	expect((await add('--cron', '* * *', '--', 'true')).err).toContain('[bad-cron]');
	const body = { cron: '* * * * *', job: { kind: 'command', spec: { comand: 'true' } } };
	await expect(house.client.putSchedule('x', body)).rejects.toMatchObject({
		code: 'unknown-field',
		message: expect.stringContaining('job.spec.comand'),
	});
});
