/** Row 25: a job that takes its agent down with it is given up after three agents, and harms nobody else. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { howMany, say } from '../support/proof';
import type { AgentProgram } from '../support/programs';
import { eventually, OneService } from './one-service';

const poisons = howMany(2, 100);
jest.setTimeout(120_000 + poisons * 30_000);

test('a job that takes agent after agent down is a dead letter after three of them, and the others go on', async () => {
	await OneService.use(async (house) => {
		const { client } = house.service;
		const victims = new Map<string, AgentProgram>();
		for (const name of ['a', 'b', 'c', 'd']) victims.set(name, await house.agent(name));
		const robots = await client.robots();
		const nameOf = (robotId: string | null) =>
			robots.find((robot) => robot.robotId === robotId)!.name;
		const calm = await house.agent('calm', {}, 2);

		// What everybody else does meanwhile, on a robot of its own.
		let isOver = false;
		const ended: string[] = [];
		const others = (async () => {
			while (!isOver) {
				const { jobId } = await client.submit({
					kind: 'command',
					spec: { command: 'true' },
					target: { robot: 'calm' },
				});
				const job = await client.job(jobId, 20_000);
				expect(job).toMatchObject({ state: 'completed', attempt: 1 });
				ended.push(jobId);
			}
		})();

		let agentsLost = 0;
		for (let n = 0; n < poisons; n += 1) {
			const starts = join(house.folder, `poison-${n}`);
			const { jobId } = await client.submit({
				kind: 'command',
				spec: { shell: `echo "$ROBOT_FLEET_ATTEMPT" >> '${starts}'; exec sleep 600` },
				target: { exclude: ['calm'] },
				onLoss: 'retry',
				retry: { maxAttempts: 10 },
			});
			const fallen = new Set<string>();
			for (let attempt = 1; attempt <= 3; attempt += 1) {
				const { robotId } = await eventually(`attempt ${attempt} to run`, async () => {
					const job = await client.job(jobId);
					return job.state === 'running' && job.attempt === attempt && job;
				});
				// Taken is not begun: what was proved not to have begun is no loss.
				await eventually('its program to begin', () => {
					return readFileSync(starts, { encoding: 'utf8', flag: 'a+' }).endsWith(`${attempt}\n`);
				});
				const victim = victims.get(nameOf(robotId))!;
				fallen.add(victim.name);
				const { keeper } = victim;
				await victim.kill();
				process.kill(keeper!, 'SIGKILL');
				victim.start();
				await victim.connected();
				agentsLost += 1;
			}
			const job = await eventually('it to be given up', async () => {
				const read = await client.job(jobId);
				return read.state === 'failed' && read;
			});
			expect(job).toMatchObject({ cause: 'robot_lost', attempt: 3 });
			expect(job.dead).not.toBeNull();
			expect(fallen.size).toBe(3);
			expect(readFileSync(starts, 'utf8')).toBe('1\n2\n3\n');
		}
		isOver = true;
		await others;
		expect(ended.length).toBeGreaterThan(poisons);
		// Nothing of them holds a slot, and each robot works again.
		await eventually('everybody to be free', async () =>
			(await client.robots()).every(({ held, connected }) => connected && held === 0),
		);
		expect(calm.lives).toBe(true);
		say(25, {
			'poisonous jobs': poisons,
			'agents lost': agentsLost,
			'jobs of others meanwhile': ended.length,
			'of them not completed at the first try': 0,
		});
	});
});
