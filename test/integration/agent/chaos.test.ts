import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type HubAttempt, ScriptedHub } from '../../support/scripted-hub';
import { AgentProcess, bundleAgent, newDataFolder, removeBundle } from './agent-process';

jest.setTimeout(90_000);

beforeAll(bundleAgent);
afterAll(removeBundle);

/** A small generator with a seed, so that a bad day can be repeated. */
function dice(seed: number): () => number {
	let state = seed;
	return () => {
		state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
		return state / 2 ** 32;
	};
}

test('through kills and cuts no attempt runs twice, and every one ends in an honest answer', async () => {
	const seed = Number(process.env.SEED ?? 7);
	const chance = dice(seed);
	const hub = await ScriptedHub.start();
	hub.heartbeatS = 1;
	const data = newDataFolder();
	const ran = join(data, 'ran');
	mkdirSync(ran);
	const args = ['--server', hub.url, '--data', data, '--token', hub.token, '--slots', '4'];
	let agent = new AgentProcess(args);
	try {
		const jobs: HubAttempt[] = [];
		const hellosBefore = new Map<HubAttempt, number>();
		for (let round = 0; round < 12; round++) {
			await hub.untilConnected();
			for (let n = 0; n < 4; n++) {
				const size = Math.floor(chance() * 200_000);
				const job = hub.assign({
					shell: `echo x >> "${ran}/$ROBOT_FLEET_JOB_ID"; head -c ${size} /dev/zero; sleep ${(chance() * 0.2).toFixed(2)}; echo end`,
				});
				jobs.push(job);
				hellosBefore.set(job, hub.hellos.length);
				if (chance() < 0.3) hub.send('job_assignment', job.assignment);
				if (chance() < 0.15) hub.revoke(job);
			}
			// Somewhere in the middle of it all.
			const heard = hub.said.length + Math.floor(chance() * 8);
			await hub.until('some words', () => hub.said.length >= heard, 3_000).catch(() => undefined);
			const harm = chance();
			if (harm < 0.5) {
				await agent.kill();
				const untilBack = hub.nextRobot();
				agent = new AgentProcess(args);
				await untilBack();
			} else if (harm < 0.9) hub.cut();
		}
		await hub.untilConnected();
		hub.cut();
		await hub.untilConnected();
		// A robot that came back with its journal and does not know the attempt never had it.
		const unknown = (job: HubAttempt): boolean =>
			hub.hellos.length > hellosBefore.get(job)! &&
			hub.hellos.every(({ attempts }) =>
				attempts.every(({ job_id }) => job_id !== job.assignment.job_id),
			);
		const answered = (job: HubAttempt): boolean =>
			job.result !== undefined ||
			job.said.includes('job_rejected') ||
			(job.said.length === 0 && unknown(job));
		await hub.until('an answer for every job', () => jobs.every(answered), 30_000);
		await hub.until(
			'all output',
			() =>
				jobs.every(
					({ result, output }) =>
						result === undefined || output.stdout.length === result.output.stdout,
				),
			30_000,
		);

		for (const job of jobs) {
			const file = join(ran, job.assignment.job_id);
			const times = existsSync(file) ? readFileSync(file, 'utf8').length / 2 : 0;
			const tale = `seed ${seed}, ran ${times} times: ${job.said.join(', ')}`;
			if (job.result?.state === 'completed') {
				expect([tale, times]).toEqual([tale, 1]);
				expect(job.output.stdout.subarray(-4).toString()).toBe('end\n');
			} else if (job.result !== undefined) {
				// What keeps it was never killed, so there is nothing to be unsure of.
				expect([tale, job.result.cause]).toEqual([tale, 'infrastructure']);
				expect([tale, times]).toEqual([tale, 0]);
			} else {
				expect([tale, times]).toEqual([tale, 0]);
			}
		}
		expect(jobs.some((job) => job.result?.state === 'completed')).toBe(true);
	} finally {
		await agent.stop();
		await hub.close();
		rmSync(data, { recursive: true, force: true });
	}
});
