/** How the service stops: under load, with jobs running, asked twice. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Problem } from '../../protocol';
import { howMany, say } from '../support/proof';
import { eventually, OneService } from './one-service';

const rounds = howMany(6, 100);
jest.setTimeout(240_000 + rounds * 10_000);
const quick = { kind: 'command', spec: { command: 'true' } };
const sleeper = (seconds: number) => ({
	kind: 'command',
	spec: { shell: `sleep ${seconds}; echo end` },
});
const untilFile = (go: string) => ({
	kind: 'command',
	spec: { shell: 'while [ ! -e "$GO" ]; do sleep 0.1; done', env: { GO: go } },
});

test('told to stop under more load than it can carry it ends in time, and every job it took is there afterwards', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		await house.agent('anna', {}, 4);
		const slow = await house.agent('slow');
		const go = join(house.folder, 'go');
		const long = await service.client.submit({ ...untilFile(go), target: { robot: 'slow' } });
		await eventually('it to run', async () => {
			return (await service.client.job(long.jobId)).state === 'running';
		});
		const taken: string[] = [];
		const ends: string[] = [];
		const exits: number[] = [];
		let kept = 0;
		for (let round = 0; round < rounds; round++) {
			const { client } = service;
			let answered = 0;
			const submitter = async () => {
				for (;;) {
					try {
						for (const answer of await client.submitMany(Array.from({ length: 20 }, () => quick))) {
							if ('jobId' in answer) taken.push(answer.jobId);
						}
						answered++;
					} catch (error) {
						if (!(error instanceof Problem)) throw error;
						ends.push(error.code);
						if (error.code === 'service-away') return;
					}
				}
			};
			const load = Array.from({ length: 12 }, submitter);
			await eventually('the load to be on', () => answered > 20 + 10 * (round % 10));
			const asked = performance.now();
			// One that takes longer than it may ends itself, with 1.
			expect(await service.stop()).toBe(0);
			exits.push(performance.now() - asked);
			await Promise.all(load);
			service.start();
			await service.ready();
			kept += taken.length;
			for (const id of taken.splice(0)) await service.client.job(id);
		}
		say(30, {
			stops: rounds,
			'slowest, ms': Math.round(Math.max(...exits)),
			'jobs taken': kept,
			lost: 0,
		});
		expect(new Set(ends)).toEqual(new Set(['draining', 'service-away']));
		// Whoever ran a job through all that was never touched.
		const job = await service.client.job(long.jobId);
		expect(job).toMatchObject({ state: 'running', attempt: 1 });
		expect(slow.logged().match(/"msg":"job taken"/g)).toHaveLength(1);
		expect(slow.logged()).not.toContain('"msg":"job ended"');
		writeFileSync(go, '');
		await eventually('it to end', async () => {
			return (await service.client.job(long.jobId)).state === 'completed';
		});
	});
});

test('robots are told to come back within a time, and do so at once when the service is back', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		const agent = await house.agent('anna');
		expect(await service.stop()).toBe(0);
		await eventually('the agent to notice', () => agent.logged().includes('will try again'));
		const line = agent
			.logged()
			.split('\n')
			.find((text) => text.includes('will try again'))!;
		expect(JSON.parse(line)).toMatchObject({
			reason: expect.stringContaining('the service stops'),
		});
		expect((JSON.parse(line) as { waitMs: number }).waitMs).toBeLessThanOrEqual(1_000);
		service.start();
		await service.ready();
		await eventually('it to be back', async () => (await service.client.robot('anna')).connected);
	});
});

test('--on-stop wait lets running jobs end first, takes none meanwhile, and a second signal ends it at once', async () => {
	await OneService.use(
		async (house) => {
			const { service } = house;
			await house.agent('anna');
			const go = join(house.folder, 'go');
			const running = await service.client.submit(untilFile(go));
			const queued = await service.client.submit(quick);
			await eventually('it to run', async () => {
				return (await service.client.job(running.jobId)).state === 'running';
			});
			const stopped = service.stop();
			await eventually('the drain', async () => {
				return (await fetch(`${service.url}/readyz`)).status === 503;
			});
			await expect(service.client.submit(quick)).rejects.toMatchObject({ code: 'draining' });
			writeFileSync(go, '');
			expect(await stopped).toBe(0);
			service.start();
			await service.ready();
			expect((await service.client.job(running.jobId)).state).toBe('completed');
			await eventually('what waited to run', async () => {
				return (await service.client.job(queued.jobId)).state === 'completed';
			});

			const long = await service.client.submit(sleeper(60));
			await eventually('it to run', async () => {
				return (await service.client.job(long.jobId)).state === 'running';
			});
			process.kill(service.pid!, 'SIGTERM');
			await eventually('the drain', async () => {
				return (await fetch(`${service.url}/readyz`)).status === 503;
			});
			// The code of one that ends at once: it would wait for the job otherwise.
			expect(await service.stop()).toBe(130);
			service.start();
			await service.ready();
			expect((await service.client.job(long.jobId)).state).toBe('running');
			await service.client.cancel(long.jobId);
		},
		{ env: { ROBOT_FLEET_ON_STOP: 'wait' } },
	);
});

test('--on-stop cancel ends all jobs, those that run and those that wait', async () => {
	await OneService.use(
		async (house) => {
			const { service } = house;
			await house.agent('anna');
			const running = await service.client.submit(sleeper(60));
			const waiting = await service.client.submitMany(Array.from({ length: 450 }, () => quick));
			await eventually('it to run', async () => {
				return (await service.client.job(running.jobId)).state === 'running';
			});
			expect(await service.stop()).toBe(0);
			service.start();
			await service.ready();
			expect(await service.client.job(running.jobId)).toMatchObject({
				state: 'cancelled',
				result: { processGone: true },
			});
			const { byState } = await service.client.queueStats();
			expect(byState).toMatchObject({ cancelled: 1 + waiting.length, queued: 0, running: 0 });
		},
		{ env: { ROBOT_FLEET_ON_STOP: 'cancel' } },
	);
});

test('robot-fleet drain holds the service back until it is undone', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		await house.agent('anna');
		const running = await service.client.submit(sleeper(1));
		await eventually('it to run', async () => {
			return (await service.client.job(running.jobId)).state === 'running';
		});
		const drained = await house.cli('drain', '--wait', '--data', service.data);
		expect(drained).toEqual({ code: 0, err: '', out: 'draining, 0 jobs are with robots\n' });
		expect((await service.client.job(running.jobId)).state).toBe('completed');
		await expect(service.client.submit(quick)).rejects.toMatchObject({ code: 'draining' });
		const undone = await house.cli('drain', '--undo', '--data', service.data);
		expect(undone.out).toContain('ready');
		await service.client.submit(quick);
		expect(
			(await house.cli('backup', join(house.folder, 'b.tar'), '--data', service.data)).code,
		).toBe(0);
	});
});
