/** A disk that is full, and a disk that fails, under the real service with a real robot. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FleetClient } from '../../client';
import { type Job, Problem } from '../../protocol';
import { noSmallDisk, noTampering, SmallDisk, Tampering } from '../support/bad-disk';
import { howMany, say } from '../support/proof';
import { eventually, OneService } from './one-service';

const rounds = howMany(6, 50);
jest.setTimeout(240_000 + rounds * 20_000);
const small = noSmallDisk();
const tamper = noTampering();
const onSmallDisk = small === undefined ? test : test.skip;
const tampered = tamper === undefined ? test : test.skip;
for (const reason of [small, tamper]) if (reason) process.stderr.write(`skipped: ${reason}\n`);

const quick = { kind: 'command', spec: { command: 'true' } };
const untilFile = (go: string) => ({
	kind: 'command',
	spec: { shell: 'while [ ! -e "$GO" ]; do sleep 0.05; done; echo done', env: { GO: go } },
});

/** The refusal that comes sooner or later, and every job acknowledged before it. */
async function submitUntilRefused(client: FleetClient): Promise<{ ids: string[]; code: string }> {
	const ids: string[] = [];
	for (let i = 0; i < 20_000; i++) {
		try {
			ids.push((await client.submit(quick)).jobId);
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
			return { ids, code: error.code };
		}
	}
	throw new Error('nothing was refused');
}

const isState = (client: FleetClient, jobId: string, state: Job['state']) => async () => {
	const job = await client.job(jobId);
	return job.state === state && job;
};

onSmallDisk(
	'on a full disk no job is taken and none given away, results are stored all the same, and with room again all goes on',
	async () => {
		let disk: SmallDisk | undefined;
		await OneService.use(
			async (house) => {
				const { service, folder } = house;
				const { client } = service;
				await house.agent('anna');
				const all: string[] = [];
				for (let round = 0; round < rounds; round++) {
					const go = join(folder, `go-${round}`);
					const { jobId: running } = await client.submit(untilFile(go));
					await eventually('it to run', isState(client, running, 'running'));
					const { jobId: waiting } = await client.submit(quick);
					disk!.fill();
					const refused = await submitUntilRefused(client);
					expect(refused.code).toBe('store-full');
					all.push(running, waiting, ...refused.ids);
					const answer = await fetch(`${service.url}/api/v1/jobs`, {
						method: 'POST',
						headers: {
							authorization: `Bearer ${service.adminKey}`,
							'content-type': 'application/json',
						},
						body: JSON.stringify(quick),
					});
					expect(answer.status).toBe(503);
					expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
					expect((await fetch(`${service.url}/readyz`)).status).toBe(503);

					const backup = join(folder, 'backup.tar');
					const copied = await house.cli('backup', backup, '--data', service.data);
					expect(copied).toMatchObject({ code: 1, err: expect.stringContaining('no-room') });

					writeFileSync(go, '');
					const ended = await eventually(
						'the result to be stored on the full disk',
						isState(client, running, 'completed'),
					);
					expect(ended.result!.stdout).toBe('done\n');
					// The slot is free, and stays so.
					expect((await client.job(waiting)).state).toBe('queued');
					if (round % 2) {
						await service.kill();
						service.start();
						await service.ready();
						expect((await client.job(running)).state).toBe('completed');
					}
					disk!.empty();
					await eventually('work to be taken again', async () => {
						const answer = await fetch(`${service.url}/readyz`);
						return answer.status === 200;
					});
					await eventually('what waited to be given away', isState(client, waiting, 'completed'));
					expect((await client.service()).disk.level).toBe('ample');
				}
				for (const id of all) {
					await eventually(`${id} to end`, isState(client, id, 'completed'));
				}
				say(4, { 'full disks': rounds, 'jobs acknowledged before them': all.length, lost: 0 });
				expect(await service.stop()).toBe(0);
			},
			{
				prepare(data) {
					disk = new SmallDisk(data, 96);
					return () => disk!.close();
				},
				env: { ROBOT_FLEET_MIN_FREE: '0B' },
			},
		);
	},
);

test('with less free room than wanted new jobs are refused with a time to come back, and results are taken', async () => {
	await OneService.use(
		async ({ service }) => {
			await expect(service.client.submit(quick)).rejects.toMatchObject({
				code: 'store-full',
				retry: true,
				details: { retryMs: 10_000 },
			});
			const { disk, readiness } = await service.client.service();
			expect(disk).toMatchObject({ level: 'low', minFreeBytes: 1e15 });
			expect(readiness).toBe('short of disk');
			// Everything else is as usual.
			await service.client.createToken({});
			await service.client.jobs();
		},
		{ env: { ROBOT_FLEET_MIN_FREE: '1000000GB' } },
	);
});

tampered(
	'a disk that fails to sync: nothing is acknowledged that is not on it, the service says so and ends, and comes back from the file',
	async () => {
		await OneService.use(async (house) => {
			const { service } = house;
			const acknowledged: string[] = [];
			for (let round = 0; round < rounds; round++) {
				const { client } = service;
				const logged = service.logged().length;
				const bad = await Tampering.of(
					service.pid!,
					round % 2
						? `fsync,fdatasync:error=EIO:when=${round + 2}+`
						: `pwrite64:error=EIO:when=${3 * round + 2}+`,
				);
				let failed = false;
				const submitter = async () => {
					for (;;) {
						try {
							acknowledged.push((await client.submit(quick)).jobId);
							// An acknowledgement after the failure would be a lie.
							expect(failed).toBe(false);
						} catch (error) {
							if (!(error instanceof Problem)) throw error;
							if (error.code === 'store-failed') failed = true;
							return error.code;
						}
					}
				};
				const ends = await Promise.all([1, 2, 3, 4].map(submitter));
				for (const end of ends)
					expect(['store-failed', 'service-away', 'not-ready']).toContain(end);
				expect(await service.exit).toBe(1);
				await bad.stop();
				const said = service.logged().slice(logged);
				expect(said).toMatch(
					/^The disk under the store failed \(.*\); .* it recovers from the file\.$/m,
				);
				service.start();
				await service.ready();
			}
			expect(acknowledged.length).toBeGreaterThan(rounds);
			for (const id of acknowledged) expect((await service.client.job(id)).state).toBe('queued');
			say(4, { 'failed writes and syncs': rounds, 'acknowledged and lost': 0 });
			expect(await service.stop()).toBe(0);
			const integrity = await house.cli(
				'backup',
				join(house.folder, 'look.tar'),
				'--data',
				service.data,
			);
			expect(integrity.code).toBe(0);
		});
	},
);

tampered(
	'an agent whose disk fails to sync promises nothing more, says so and ends; started again it ends every job once',
	async () => {
		await OneService.use(async (house) => {
			const { client } = house.service;
			const agent = await house.agent('anna', {}, 4);
			const seen = join(house.folder, 'seen');
			// Which attempt ran, written by the program itself.
			const mark = {
				kind: 'command',
				spec: {
					shell: 'echo "$ROBOT_FLEET_JOB_ID $ROBOT_FLEET_ATTEMPT" >> "$SEEN"',
					env: { SEEN: seen },
				},
				idempotent: true,
			};
			const ids: string[] = [];
			for (let round = 0; round < rounds; round++) {
				const { jobId: first } = await client.submit(mark);
				await eventually('the first to end', isState(client, first, 'completed'));
				const logged = agent.logged().length;
				// Counted for each thread that syncs.
				const bad = await Tampering.of(agent.pid!, `fdatasync:error=EIO:when=${1 + (round % 3)}+`);
				for (let i = 0; i < 40 && agent.lives; i++) {
					const { jobId } = await client.submit(mark);
					ids.push(jobId);
					// It may be the one that the agent dies with.
					if (i % 4 === 3) await client.job(jobId, 2_000);
				}
				await eventually('the agent to end', () => !agent.lives);
				expect(await agent.exit).toBe(1);
				await bad.stop();
				expect(agent.logged().slice(logged)).toMatch(
					/^The agent ends, because the disk failed to sync the journal \(EIO.*\); look at the disk of .*$/m,
				);
				agent.start();
				await agent.connected();
				for (const id of ids) await eventually(`${id} to end`, isState(client, id, 'completed'));
			}
			const attempts = readFileSync(seen, 'utf8').trim().split('\n');
			expect(new Set(attempts).size).toBe(attempts.length);
			for (const id of ids) expect(attempts.some((line) => line.startsWith(id))).toBe(true);
			say(4, { 'failed syncs of a journal': rounds, 'started twice or never': 0 });
			expect(await agent.stop()).toBe(0);
		});
	},
);

tampered(
	'writes that find no room, here and there: what was acknowledged is stored, the rest is told to try again, and the service lives',
	async () => {
		await OneService.use(
			async ({ service }) => {
				const { client } = service;
				const acknowledged: string[] = [];
				let refused = 0;
				for (let round = 0; round < rounds; round++) {
					const bad = await Tampering.of(service.pid!, `pwrite64:error=ENOSPC:when=${round + 2}+3`);
					for (let i = 0; i < 60; i++) {
						try {
							acknowledged.push((await client.submit(quick)).jobId);
						} catch (error) {
							expect(error).toMatchObject({ code: 'store-full', retry: true });
							refused++;
						}
					}
					await bad.stop();
					await eventually('work to be taken again', async () => {
						return (await client.service()).readiness === 'ready';
					});
				}
				expect(refused).toBeGreaterThan(0);
				await service.kill();
				service.start();
				await service.ready();
				for (const id of acknowledged) expect((await client.job(id)).state).toBe('queued');
				say(4, { 'writes without room, times': rounds, refused, 'acknowledged and lost': 0 });
			},
			{ env: { ROBOT_FLEET_MIN_FREE: '0B' } },
		);
	},
);
