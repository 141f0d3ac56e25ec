/** A rollout over five real agents, with real processes: canary, threshold, resume, and once more where it failed. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ProgramWorld, runProgram } from '../../../dispatcher/cli/program';
import { isFinal, type Job } from '../../../protocol';
import { WholeHouse } from '../../support/whole-house';

jest.setTimeout(60_000);

async function until(house: WholeHouse, id: string, is: (job: Job) => boolean): Promise<Job> {
	for (const late = Date.now() + 20_000; ;) {
		const job = await house.client.job(id);
		if (is(job)) return job;
		if (Date.now() > late) throw new Error(`still: ${job.state}, ${job.message}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

/** Runs one command of the CLI to its end. */
async function cli({ address }: WholeHouse, ...args: string[]) {
	const said = { out: '', err: '' };
	const world: ProgramWorld = {
		version: '0.0.0',
		env: { ROBOT_FLEET_URL: address.url, ROBOT_FLEET_KEY: address.key },
		out: (text) => void (said.out += String(text)),
		err: (text) => void (said.err += String(text)),
		now: () => 0,
		sleep: async () => undefined,
		nodeIsTooOld: () => false,
		sqliteIsSafe: () => true,
		serve: async () => 0,
		upkeep: {
			backup: () => Promise.reject(new Error('not here')),
			preview: () => {
				throw new Error('not here');
			},
			restore: () => Promise.reject(new Error('not here')),
		},
	};
	const code = await runProgram(args, world);
	return { code, ...said };
}

test('it goes out canary first, stops when two have failed, goes on when told, and is done again where it failed', async () => {
	await using house = await WholeHouse.open();
	for (let i = 0; i < 5; i += 1) await house.robot(`r${i}`);
	const log = join(house.folder, 'runs');
	const broken = join(house.folder, 'broken');
	const runs = () => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').length - 1 : 0);
	const flags = ['--all', '--batch', '50%', '--canary', '1', '--max-failures', '1'];
	const command = `echo run >> '${log}'; test ! -e '${broken}'`;
	const submitted = await cli(
		house,
		'submit',
		...flags,
		'--pause-between',
		'--shell',
		'--',
		command,
	);
	expect(submitted).toMatchObject({ code: 0, err: '' });
	const id = submitted.out.trim();

	const paused = await until(house, id, ({ rolledOut }) => rolledOut?.state === 'paused');
	expect(paused.message).toBe('paused: batch 1 of 3 is done; resume or cancel');
	expect(runs()).toBe(1);
	writeFileSync(broken, '');
	expect((await cli(house, 'jobs', 'resume', id, '--batch', '2')).out).toBe('batch 2 of 3\n');
	const stopped = await until(
		house,
		id,
		({ rolledOut, children }) => rolledOut?.state === 'stopped' && children!.failed === 2,
	);
	expect(stopped.message).toBe('stopped after 2 of 5 failed; resume or cancel');
	expect(runs()).toBe(3);

	const shown = (await cli(house, 'jobs', 'show', id)).out;
	expect(shown).toMatch(/^1 +1 +#{20} +1 completed$/m);
	expect(shown).toMatch(/^2 +2 +x{20} +2 failed$/m);
	expect(shown).toMatch(/^3 +2 +\.{20} +not let go yet$/m);
	expect(shown).toMatch(/^r\d +2 +failed +exit_code +1 /m);
	expect(shown).toContain(`robot-fleet jobs resume ${id}`);

	rmSync(broken);
	await cli(house, 'jobs', 'resume', id);
	const done = await until(house, id, ({ state }) => isFinal(state));
	expect(done).toMatchObject({ state: 'failed', children: { total: 5, completed: 3, failed: 2 } });
	expect(runs()).toBe(5);

	const again = (await cli(house, 'jobs', 'retry', '--only-failed', id)).out.trim();
	// Of two robots a batch of half is one; the canary goes before it.
	await until(house, again, ({ rolledOut }) => rolledOut?.state === 'paused');
	await cli(house, 'jobs', 'resume', again);
	expect(await until(house, again, ({ state }) => isFinal(state))).toMatchObject({
		state: 'completed',
		children: { total: 2, completed: 2 },
	});
	expect(runs()).toBe(7);
});
