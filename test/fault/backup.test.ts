/** Backup and restore as an operator does them: the built programs, a real robot, kill -9 in between. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal } from '../../protocol';
import { readRows } from './chaos';
import { eventually, OneService } from './one-service';

jest.setTimeout(180_000);

const untilFile = (go: string) => ({
	kind: 'command',
	spec: {
		shell: 'echo begin; while [ ! -e "$GO" ]; do sleep 0.05; done; echo end',
		env: { GO: go },
	},
});

test('a backup taken under load is whole, and restored elsewhere it has every job that was acknowledged before it', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		await house.agent('anna');
		const before = await service.client.submitMany(
			Array.from({ length: 500 }, () => ({ kind: 'command', spec: { command: 'true' } })),
		);
		let going = true;
		const load = (async () => {
			while (going) {
				await service.client.submitMany(
					Array.from({ length: 20 }, () => ({ kind: 'command', spec: { command: 'true' } })),
				);
			}
		})();
		const file = join(folder, 'backup.tar');
		const taken = await house.cli('backup', file, '--data', service.data);
		going = false;
		await load;
		expect(taken).toMatchObject({ code: 0, err: '' });
		expect(taken.out).toContain('all digests right');
		expect(readdirSync(service.data).filter((name) => name.startsWith('backup-'))).toEqual([]);
		const { lastBackup } = await service.client.service();
		expect(lastBackup!.bytes).toBeGreaterThan(100_000);

		const looked = await house.cli('restore', file, '--dry-run', '--json');
		const { store } = JSON.parse(looked.out) as { store: { jobs: Record<string, number> } };
		const jobs = Object.values(store.jobs).reduce((sum, n) => sum + n, 0);
		expect(jobs).toBeGreaterThanOrEqual(500);

		// On another machine: the key of the backup opens it, and every job is there.
		await service.kill();
		const elsewhere = await house.another('elsewhere');
		expect((await house.cli('restore', file, '--data', elsewhere.data)).code).toBe(0);
		elsewhere.start();
		await elsewhere.ready();
		for (const answer of before) {
			if (!('jobId' in answer)) throw new Error(JSON.stringify(answer));
			const job = await elsewhere.client.job(answer.jobId);
			expect(isFinal(job.state) || job.cause === 'restored').toBe(true);
		}
		expect(await elsewhere.stop()).toBe(0);
	});
});

test('a job that ran while its service was restored runs once: its result is kept, and nothing starts unasked', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		const agent = await house.agent('anna');
		const file = join(folder, 'backup.tar');
		const go = join(folder, 'go');
		const known = await service.client.submit(untilFile(go));
		await eventually(
			'it to run',
			async () => (await service.client.job(known.jobId)).state === 'running',
		);
		const waiting = await service.client.submit({ kind: 'command', spec: { command: 'true' } });
		expect((await house.cli('backup', file, '--data', service.data)).code).toBe(0);
		await service.kill();
		expect((await house.cli('restore', file, '--data', service.data)).err).toContain(
			'data-not-empty',
		);
		const restored = await house.cli('restore', file, '--data', service.data, '--force');
		expect(restored.code).toBe(0);
		expect(restored.out).toContain('robot-fleet jobs release --all');
		service.start();
		await service.ready();
		for (const { jobId } of [known, waiting]) {
			expect(await service.client.job(jobId)).toMatchObject({
				state: 'pending',
				cause: 'restored',
			});
		}
		writeFileSync(go, '');
		await eventually('the robot to be back', async () => {
			return (await service.client.robot('anna')).connected;
		});
		const attempt = await eventually('the result of the attempt of before', async () => {
			const [first] = await service.client.attempts(known.jobId);
			return first!.lateResult !== null && first;
		});
		expect(attempt).toMatchObject({ number: 1, outcome: 'restored' });
		expect(attempt.lateResult).toMatchObject({ exitCode: 0, stdout: 'begin\nend\n' });
		const released = await house.cli('jobs', 'release', '--all', '--data', service.data);
		expect(released.out).toContain(`kept ${known.jobId}: robot anna has reported its result`);
		expect(released.out).toContain('1 released, 1 kept');
		await eventually(
			'the released job to end',
			async () => (await service.client.job(waiting.jobId)).state === 'completed',
		);
		const [first] = await service.client.attempts(waiting.jobId);
		expect(first!.epoch).toBeGreaterThan(attempt.epoch);
		expect(
			agent.logged().split(`"job":"${known.jobId}","attempt":1,"msg":"job taken"`),
		).toHaveLength(2);
		expect((await service.client.job(known.jobId)).state).toBe('pending');
	});
});

test('a job the backup has never heard of goes on at its robot, which keeps its result', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		const agent = await house.agent('anna');
		const file = join(folder, 'backup.tar');
		expect((await house.cli('backup', file, '--data', service.data)).code).toBe(0);
		const go = join(folder, 'go');
		const { jobId } = await service.client.submit({
			kind: 'command',
			spec: { shell: 'while [ ! -e "$GO" ]; do sleep 0.05; done', env: { GO: go } },
		});
		await eventually(
			'it to run',
			async () => (await service.client.job(jobId)).state === 'running',
		);
		await service.kill();
		expect((await house.cli('restore', file, '--data', service.data, '--force')).code).toBe(0);
		service.start();
		await service.ready();
		await eventually('the robot to be back', async () => {
			return (await service.client.robot('anna')).connected;
		});
		await expect(service.client.job(jobId)).rejects.toMatchObject({ code: 'no-such-job' });
		writeFileSync(go, '');
		await eventually('it to end', () => agent.logged().includes('"msg":"job ended"'));
		expect(agent.logged()).not.toContain('stopping');
		expect(await agent.stop()).toBe(0);
		const rows = readRows<{ exit_record: string }>(
			join(agent.data, 'journal.db'),
			'SELECT * FROM attempts',
		);
		expect(rows).toEqual([expect.objectContaining({ job_id: jobId, fate: 'ended' })]);
		expect(rows[0]!.exit_record).toContain('"exit_code":0');
	});
});

test('a restore that is killed leaves the store of before or the restored one, and can be run again', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		const submit = (n: number) =>
			service.client.submitMany(
				Array.from({ length: n }, () => ({ kind: 'command', spec: { command: 'true' } })),
			);
		for (let i = 0; i < 20; i++) await submit(1_000);
		const file = join(folder, 'backup.tar');
		expect((await house.cli('backup', file, '--data', service.data)).code).toBe(0);
		await submit(1);
		await service.stop();
		// How long a whole one takes here, so that the kills fall into it.
		const scratch = join(folder, 'scratch');
		const begun = performance.now();
		expect((await house.cli('restore', file, '--data', scratch)).code).toBe(0);
		let wholeMs = performance.now() - begun;
		const seen = { before: 0, restored: 0 };
		for (let i = 0; i < 12 || seen.before === 0; i++) {
			rmSync(join(scratch, 'robot-fleet.db'), { force: true });
			mkdirSync(scratch, { recursive: true });
			spawnSync('cp', [join(service.data, 'robot-fleet.db'), join(scratch, 'robot-fleet.db')]);
			const from = performance.now();
			const child = spawn(
				process.execPath,
				[house.bundle, 'restore', file, '--data', scratch, '--force'],
				{ stdio: 'ignore' },
			);
			const gone = new Promise((resolve) => child.once('close', resolve));
			const killAt = wholeMs * (0.2 + (0.8 * (i % 12)) / 12);
			const timer = setTimeout(() => child.kill('SIGKILL'), killAt);
			await gone;
			clearTimeout(timer);
			// The kills keep to where it happens, however slow the first one was.
			if (child.exitCode === 0) wholeMs = Math.min(wholeMs, performance.now() - from);
			expect(existsSync(join(scratch, 'robot-fleet.db'))).toBe(true);
			const found = await house.cli(
				'backup',
				join(folder, `look-${i}.tar`),
				'--data',
				scratch,
				'--json',
			);
			expect(found).toMatchObject({ code: 0 });
			const { store } = JSON.parse(found.out) as { store: { jobs: Record<string, number> } };
			const jobs = store.jobs['queued'];
			expect([20_000, 20_001]).toContain(jobs);
			seen[jobs === 20_000 ? 'restored' : 'before']++;
		}
		const again = await house.cli('restore', file, '--data', scratch, '--force');
		expect(again.code).toBe(0);
		expect(readdirSync(scratch)).not.toContain('restoring');
		expect(readFileSync(join(scratch, 'admin.key'), 'utf8').trim()).toBe(service.adminKey);
	});
});
