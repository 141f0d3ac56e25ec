/**
 * Rows 6 and 7: kill -9 of the agent under its jobs. They go on, and the agent that comes after it knows
 * all they did: every byte, the exit code or signal, and that they were started once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { KeptJob, lives } from './kept-jobs';
import { eventually, OneService } from './one-service';

const kills = howMany(12, 1_000);
const together = 4;

jest.setTimeout(120_000 + kills * 10_000);

test('jobs live on through every kill of their agent, and arrive whole with the end they came to', async () => {
	await OneService.use(async (house) => {
		const draw = new Draw(seed);
		const agent = await house.agent('anna', {}, together);
		const wrong: string[] = [];
		let done = 0;
		let survived = 0;
		let jobs = 0;
		while (done < kills) {
			const batch = Array.from(
				{ length: together },
				(_, i) => new KeptJob(house, `kill-${done}-${i}`, draw),
			);
			for (const job of batch) await job.submit();
			const pids = await Promise.all(batch.map((job) => job.started()));
			jobs += batch.length;
			// Some end while there is an agent, some while there is none, some see several come and go.
			const waiting = [...batch];
			for (let left = draw.whole(1, 3); left > 0 && done < kills; left--) {
				await sleep(draw.part(0, 150));
				await agent.kill();
				done += 1;
				for (const [i, pid] of pids.entries()) {
					if (!waiting.includes(batch[i]!)) continue;
					if (lives(pid)) survived += 1;
					else wrong.push(`process ${pid} died with its agent (kill ${done})`);
				}
				const whileAway = draw.chance(0.5) ? waiting.pop() : undefined;
				whileAway?.go();
				if (draw.chance(0.3)) await sleep(draw.part(0, 300));
				agent.start();
				// Now and then it is hit again before it has come up.
				if (draw.chance(0.7)) await agent.connected();
				waiting.splice(0, draw.whole(0, 1)).forEach((job) => job.go());
			}
			for (const job of waiting) job.go();
			for (const job of batch) wrong.push(...(await job.wrong()));
		}
		say(7, {
			kills: done,
			jobs,
			'found alive after a kill': survived,
			'lost, doubled, cut or ended otherwise': wrong.length,
		});
		expect(wrong).toEqual([]);
		expect(survived).toBeGreaterThan(done);
	});
});

test('an agent killed anywhere between taking a job and telling its end starts it once at most, and guesses nothing', async () => {
	await OneService.use(async (house) => {
		const draw = new Draw(seed + 1);
		const agent = await house.agent('anna', {}, together);
		const wrong: string[] = [];
		const found = { true: 0, 'known not to have started': 0 };
		for (let done = 0; done < kills; done++) {
			const batch = Array.from(
				{ length: together },
				(_, i) => new KeptJob(house, `spot-${done}-${i}`, draw),
			);
			for (const job of batch) job.go();
			const submitting = Promise.all(batch.map((job) => job.submit('anna')));
			await sleep(draw.part(0, 120));
			await agent.kill();
			await submitting;
			agent.start();
			await agent.connected();
			for (const job of batch) {
				const { state, cause, result } = await job.ended();
				if (job.starts.length > 0) {
					const lies = await job.wrong();
					wrong.push(...lies);
					if (lies.length === 0) found.true += 1;
				} else if (cause === 'infrastructure') found['known not to have started'] += 1;
				else wrong.push(`never started, but ${state}/${cause}: ${JSON.stringify(result)}`);
			}
		}
		say(6, { kills, jobs: kills * together, ...found, 'doubled or wrong': wrong.length });
		expect(wrong).toEqual([]);
		expect(found.true).toBeGreaterThan(0);
	});
});

test('with its keeper killed a job is unknown, nothing of it lives on, and the next one runs', async () => {
	await OneService.use(async (house) => {
		const draw = new Draw(seed + 2);
		const agent = await house.agent('anna', {}, 2);
		for (const agentToo of [false, true]) {
			const job = new KeptJob(house, `lost-${agentToo}`, draw);
			await job.submit();
			const pid = await job.started();
			const keeper = agent.keeper!;
			if (agentToo) await agent.kill();
			process.kill(keeper, 'SIGKILL');
			await eventually('the keeper to be gone', () => !lives(keeper));
			if (agentToo) {
				agent.start();
				await agent.connected();
			}
			expect(await job.ended()).toMatchObject({
				state: 'failed',
				cause: 'unknown',
				result: { processGone: true },
			});
			expect(lives(pid)).toBe(false);
			const next = new KeptJob(house, `next-${agentToo}`, draw);
			next.go();
			await next.submit();
			expect(await next.wrong()).toEqual([]);
		}
	});
});

test('an end that a keeper wrote down before it was killed with its agent is no guess', async () => {
	await OneService.use(async (house) => {
		const agent = await house.agent('anna');
		const job = new KeptJob(house, 'written-down', new Draw(seed + 3));
		await job.submit();
		const pid = await job.started();
		await agent.kill();
		job.go();
		await eventually('the job to end', () => !lives(pid));
		const written = () =>
			house.read(`anna/keeper/attempts/${house.files('anna/keeper/attempts')[0]}`);
		await eventually('its end to be written down', () => written().includes('"digest"'));
		agent.killKeeper();
		agent.start();
		expect(await job.wrong()).toEqual([]);
		await eventually('nothing to be kept any more', () => {
			return house.files('anna/keeper/attempts').length === 0;
		});
	});
});
