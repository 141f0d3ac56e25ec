/** Row 23: the disk of a robot runs full under its jobs. Their ends arrive all the same, through kills of the agent too. */
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { isFinal } from '../../protocol';
import { noSmallDisk, SmallDisk } from '../support/bad-disk';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { eventually, OneService } from './one-service';

const rounds = howMany(4, 50);
const together = 4;
const small = noSmallDisk();
const onSmallDisk = small === undefined ? test : test.skip;
if (small) process.stderr.write(`skipped: ${small}\n`);

jest.setTimeout(120_000 + rounds * 20_000);

onSmallDisk(
	'on a disk without a free byte every job still ends with its exit code, and its output with a marked hole',
	async () => {
		let disk: SmallDisk | undefined;
		const draw = new Draw(seed);
		await OneService.use(async (house) => {
			const { client } = house.service;
			disk = new SmallDisk(join(house.folder, 'anna'), 48);
			try {
				const agent = await house.agent('anna', {}, together);
				const wrong: string[] = [];
				let delivered = 0;
				let holes = 0;
				let kills = 0;
				for (let round = 0; round < rounds; round++) {
					const go = join(house.folder, `go-${round}`);
					const codes = Array.from({ length: together }, () => draw.whole(1, 70));
					const answers = await client.submitMany(
						codes.map((code) => ({
							kind: 'command',
							spec: {
								shell: `echo begun; until [ -e "$GO" ]; do sleep 0.05; done; head -c 9000000 /dev/zero; exit ${code}`,
								env: { GO: go },
							},
							retry: { maxAttempts: 1 },
						})),
					);
					const ids = answers.map((answer) => ('jobId' in answer ? answer.jobId : 'refused'));
					await eventually('all to have begun', async () => {
						const jobs = await Promise.all(ids.map((id) => client.job(id)));
						return jobs.every(({ output }) => output.stdout >= 6);
					});
					disk.fill();
					writeFileSync(go, '');
					if (draw.chance(0.5)) {
						await agent.kill();
						kills += 1;
						// An agent needs room for itself: somebody makes a little.
						disk.empty();
						agent.start();
						await agent.connected();
						disk.fill();
					}
					for (const [i, id] of ids.entries()) {
						const job = await eventually('the end', async () => {
							const found = await client.job(id);
							return isFinal(found.state) && found.output.complete && found;
						});
						if (job.result?.exitCode === codes[i]) delivered += 1;
						else wrong.push(`${id}: exit ${codes[i]}, told ${job.state}/${job.cause}`);
						if (job.output.stdout !== 9_000_006) wrong.push(`${id}: ${job.output.stdout} bytes`);
						if (job.output.holes?.stdout?.some(({ reason }) => reason === 'disk-full')) holes += 1;
					}
					disk.empty();
				}
				say(23, {
					jobs: rounds * together,
					'ends delivered': delivered,
					'with a hole that says so': holes,
					'kills of the agent': kills,
					wrong: wrong.length,
				});
				expect(wrong).toEqual([]);
				expect(holes).toBeGreaterThan(0);
			} finally {
				await house.agentsGone();
				disk.close();
			}
		});
	},
);
