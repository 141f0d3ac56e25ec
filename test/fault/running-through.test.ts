/**
 * Row 8: the service goes and comes, the line is cut, and the commands of a robot do not notice. No
 * process ends because of it, and every end and byte arrives.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { KeptJob, lives } from './kept-jobs';
import { OneService } from './one-service';

const restarts = howMany(4, 100);
const together = 4;

jest.setTimeout(120_000 + restarts * 15_000);

test('commands run through restarts of the service and of their agent, and nothing of them is lost', async () => {
	await OneService.use(async (house) => {
		const { service } = house;
		const draw = new Draw(seed);
		const agent = await house.agent('anna', {}, together);
		const wrong: string[] = [];
		let died = 0;
		for (let done = 0; done < restarts; done++) {
			const batch = Array.from(
				{ length: together },
				(_, i) => new KeptJob(house, `through-${done}-${i}`, draw),
			);
			for (const job of batch) await job.submit();
			const pids = await Promise.all(batch.map((job) => job.started()));
			await service.kill();
			const [first, ...rest] = batch;
			first!.go();
			if (draw.chance(0.5)) {
				await agent.kill();
				agent.start();
			}
			await sleep(draw.part(0, 1_000));
			for (const pid of pids.slice(1)) if (!lives(pid)) died += 1;
			service.start();
			await service.ready();
			if (draw.chance(0.5)) await agent.connected();
			for (const job of rest) job.go();
			for (const job of batch) wrong.push(...(await job.wrong()));
		}
		say(8, {
			'restarts of the service': restarts,
			commands: restarts * together,
			'ended by it': died,
			'lost or wrong': wrong.length,
		});
		expect([died, wrong]).toEqual([0, []]);
	});
});
