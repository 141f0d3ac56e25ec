/** `robot-fleet doctor` beside a real service with a real robot, in the states that a first hour comes through. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../../scripts/n8n/until.mjs';
import type { Finding } from '../../../dispatcher/cli/finding';
import { guide } from '../../../dispatcher/cli/doctor-guide';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { WholeHouse } from '../../support/whole-house';

const said = { out: '', err: '' };
function worldOf(more: Partial<ProgramWorld> = {}): ProgramWorld {
	return {
		version: '0.0.0',
		env: {},
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => Date.now(),
		sleep: async () => undefined,
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		serve: async () => 0,
		upkeep: {} as ProgramWorld['upkeep'],
		...more,
	};
}

async function run(folder: string, words: string[], more: Partial<ProgramWorld> = {}) {
	said.out = said.err = '';
	const code = await runProgram([...words, '--data', folder], worldOf(more));
	return { code, out: said.out };
}

async function findings(folder: string, more: Partial<ProgramWorld> = {}) {
	const { code, out } = await run(folder, ['doctor', '--json'], more);
	const all = JSON.parse(out) as Finding[];
	expect(code).toBe(all.every(({ ok }) => ok) ? 0 : 1);
	// Whatever is wrong carries the command that mends it.
	for (const { ok, mend, check } of all) if (!ok) expect([check, mend]).toEqual([check, mend || 1]);
	return {
		all,
		of: (check: string) => all.find((finding) => finding.check === check),
		wrong: all.filter(({ ok }) => !ok).map(({ check }) => check),
		open: all.filter(({ next }) => next !== undefined).map(({ check }) => check),
	};
}

describe('doctor goes through the first hour', () => {
	let house: WholeHouse;
	let folder: string;

	beforeAll(async () => {
		house = await WholeHouse.open();
		folder = join(house.folder, 'service');
	}, 60_000);
	afterAll(async () => await house?.[Symbol.asyncDispose](), 60_000);

	test('without a service it says how to start one, where n8n is one that n8n does', async () => {
		const empty = mkdtempSync(join(tmpdir(), 'rf-doctor-'));
		try {
			expect((await findings(empty)).of('service')).toMatchObject({
				ok: false,
				mend: 'robot-fleet serve',
			});
			writeFileSync(join(empty, 'autostart'), '0.1.0\n');
			const found = await findings(empty);
			expect(found.of('service')!.mend).toMatch(/^n8n start/);
			expect(found.of('n8n')).toMatchObject({ ok: true, text: expect.stringContaining('0.1.0') });
		} finally {
			rmSync(empty, { recursive: true });
		}
	});

	test('a new service lacks a robot and nothing else, and every step of the guide is looked at', async () => {
		const found = await findings(folder);
		expect(found.wrong).toEqual(['robots']);
		expect(found.open).toEqual(['n8n', 'jobs', 'schedules', 'files']);
		const checks = found.all.map(({ check }) => check);
		for (const check of Object.values(guide).flat()) expect(checks).toContain(check);
	});

	test('with a robot and a job all is well', async () => {
		const { version } = await house.client.service();
		await house.robot('r1', { version });
		const { jobId } = await house.client.submit({ kind: 'command', spec: { command: 'true' } });
		await house.client.job(jobId, 20_000);
		const found = await findings(folder);
		expect(found.wrong).toEqual([]);
		expect(found.of('robots')!.text).toBe('1 of 1 connected, 1 may get jobs');
		expect(found.of('jobs')!.text).toBe(`job ${jobId} completed within the last hour`);
	});

	test('marks and commands stand line by line for people', async () => {
		const { code, out } = await run(folder, ['doctor']);
		expect(code).toBe(0);
		expect(out).toMatch(/^✓ robots: 1 of 1 connected/m);
		expect(out).toMatch(
			/^○ schedules: there is none yet\n {4}go on with: robot-fleet schedules add /m,
		);
		expect(out).not.toContain('✗');
	});

	test('a paused robot is named, and the command that mends it does', async () => {
		await house.client.pauseRobot('r1');
		const { mend } = (await findings(folder)).of('robots')!;
		expect(mend).toBe('robot-fleet robots resume r1');
		await run(folder, mend!.split(' ').slice(1));
		expect((await findings(folder)).wrong).toEqual([]);
	});

	test('a job that no robot fits is named, and its reason can be asked for', async () => {
		const { jobId } = await house.client.submit({
			kind: 'command',
			spec: { command: 'true' },
			target: { labels: { site: 'mars' } },
		});
		const { text, mend } = (await findings(folder)).of('queue')!;
		expect(text).toBe('no robot fits 1 job for label site=mars');
		expect((await run(folder, mend!.split(' ').slice(1))).out).toContain('mars');
		await house.client.cancel(jobId);
		expect((await findings(folder)).wrong).toEqual([]);
	});

	test('a failure, a paused schedule and a file wait for somebody, and nothing is wrong', async () => {
		const { jobId } = await house.client.submit({ kind: 'command', spec: { shell: 'exit 3' } });
		await house.client.job(jobId, 20_000);
		await house.client.putSchedule('nightly', { cron: '0 3 * * *' });
		expect((await findings(folder)).of('schedules')!.text).toMatch(/^1 of 1 active/);
		await house.client.pauseSchedule('nightly');
		await house.client.createFile({ name: 'a.txt', bytes: 10 });
		const found = await findings(folder);
		expect(found.wrong).toEqual([]);
		expect(found.open).toEqual(['n8n', 'dead letters', 'schedules']);
		expect(found.of('files')!.text).toBe('1 kept, 1 still on their way');
	});

	test('a wrong key, a revoked key of n8n, a clock that is off and a folder open to others are each said', async () => {
		const env = { ROBOT_FLEET_URL: house.service.url, ROBOT_FLEET_KEY: 'rfk.wrong', HOME: folder };
		said.out = said.err = '';
		expect(await runProgram(['doctor', '--json'], worldOf({ env }))).toBe(1);
		const key = (JSON.parse(said.out) as Finding[]).find(({ check }) => check === 'key');
		expect(key).toMatchObject({ ok: false, mend: expect.stringContaining('ROBOT_FLEET_KEY') });

		const ahead = await findings(folder, { now: () => Date.now() + 60_000 });
		expect(ahead.wrong).toEqual(['clock']);

		chmodSync(folder, 0o755);
		const open = await findings(folder);
		expect(open.of('data folder')).toMatchObject({ ok: false, mend: `chmod 700 "${folder}"` });
		chmodSync(folder, 0o700);

		const n8n = (await house.client.keys()).find(({ name }) => name === 'n8n')!;
		await house.client.revokeKey(n8n.keyId);
		expect((await findings(folder)).of('n8n key')).toMatchObject({
			ok: false,
			mend: expect.stringContaining('robot-fleet key create --name n8n'),
		});
	});

	test('an agent of another version is named', async () => {
		await house.robot('old', { version: '0.0.1' });
		const { version } = await house.client.service();
		expect((await findings(folder)).of('versions')).toMatchObject({
			ok: false,
			text: `the service is ${version}, old has 0.0.1`,
		});
	});

	test('a drain somebody forgot is said, and undone by the command', async () => {
		await house.client.drain();
		const { mend } = (await findings(folder)).of('drain')!;
		await run(folder, mend!.split(' ').slice(1));
		expect((await findings(folder)).of('drain')).toMatchObject({ ok: true });
	});
});

test('a parked execution that n8n has forgotten is named, with the way to tell it again', async () => {
	const n8n = createServer((request, response) => {
		request.resume();
		response.writeHead(404, { 'content-type': 'application/json' });
		response.end(JSON.stringify({ message: 'The execution "7" does not exist.' }));
	});
	await new Promise<void>((resolve) => n8n.listen(0, '127.0.0.1', resolve));
	const n8nUrl = `http://127.0.0.1:${(n8n.address() as AddressInfo).port}`;
	const house = await WholeHouse.open({ n8nUrl });
	try {
		await house.robot('r1');
		const { jobId } = await house.client.submit({ kind: 'command', spec: { command: 'true' } });
		const { waitId } = await house.client.createWait({
			jobIds: [jobId],
			resumeUrl: `${n8nUrl}/webhook-waiting/7/node`,
			executionId: '7',
		});
		await until(async () => (await house.client.wait(waitId)).state === 'dead', {
			deadlineMs: 20_000,
			what: () => 'the wait to be given up',
		});
		expect((await findings(join(house.folder, 'service'))).of('callbacks')).toMatchObject({
			ok: true,
			text: expect.stringContaining(`${waitId} of execution 7 (The execution "7" does not exist.)`),
			next: `in n8n: Robot Fleet → Job → Retry Delivery, with the wait ID ${waitId}`,
		});
	} finally {
		await house[Symbol.asyncDispose]();
		n8n.close();
	}
}, 60_000);
