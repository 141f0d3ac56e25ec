/**
 * Robots behind a gateway that lets no WebSocket through, while the service is killed and started again and
 * connections break: what is promised of jobs and their output holds for them as for all others.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFinal } from '../../protocol';
import { Draw } from '../support/dice';
import { Gateway } from '../support/gateway';
import { howMany, seed } from '../support/proof';
import { eventually, OneService } from './one-service';

const kills = howMany(4, 100);

jest.setTimeout(120_000 + kills * 10_000);

const lines = 4_000;
const script = `echo "$ROBOT_FLEET_JOB_ID" >> "$NOTES"; i=0; while [ $i -lt ${lines} ]; do echo "$i $ROBOT_FLEET_JOB_ID"; i=$((i+1)); done; sleep 0.5`;

test('through kills of the service and cut connections each job of a robot that polls runs once, and all it printed arrives', async () => {
	await OneService.use(async (house) => {
		const { client } = house.service;
		const draw = new Draw(seed);
		const notes = join(house.folder, 'notes');
		const gateway = await Gateway.before(house.service.url, 403);
		const ids: string[] = [];
		try {
			await house.agent('anna', { NOTES: notes, ROBOT_FLEET_TRANSPORT: 'poll' }, 3, gateway.url);
			for (let n = 0; n < kills; n += 1) {
				for (let i = 0; i < 6; i += 1) {
					const { jobId } = await client.submit({ kind: 'command', spec: { shell: script } });
					ids.push(jobId);
				}
				await sleep(draw.part(100, 900));
				gateway.cutNow();
				await sleep(draw.part(0, 300));
				await house.service.kill();
				house.service.start();
				await house.service.ready();
				await eventually(
					'the robot to be back',
					async () => (await client.robot('anna')).connected,
				);
			}
			const jobs = await eventually(
				'all jobs to be final',
				async () => {
					const read = await Promise.all(ids.map((id) => client.job(id)));
					return read.every(({ state, output }) => isFinal(state) && output.complete) && read;
				},
				120_000,
			);
			expect(jobs.map(({ state }) => state)).toEqual(ids.map(() => 'completed'));
			expect((await client.robot('anna')).transport).toBe('poll');
			for (const { jobId, output } of jobs) {
				const whole = Array.from({ length: lines }, (_, i) => `${i} ${jobId}\n`).join('');
				expect([jobId, output.stdout]).toEqual([jobId, whole.length]);
				const answer = await fetch(
					`${house.service.url}/api/v1/jobs/${jobId}/output?stream=stdout`,
					{ headers: { authorization: `Bearer ${house.service.adminKey}` } },
				);
				expect((await answer.text()) === whole).toBe(true);
			}
			const starts = readFileSync(notes, 'utf8').trim().split('\n');
			expect([...starts].sort()).toEqual([...ids].sort());
			expect(gateway.asked).toBe(0);
		} finally {
			await gateway.close();
		}
	});
});
