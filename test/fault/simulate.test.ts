/** A soak as people run it: the built program as fleet, as work for it, and as the service, which is killed under both. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { builtPrograms, programEnv, quietPort, ServiceProgram } from '../support/programs';

const jobs = 400;
const kills = 2;

jest.setTimeout(180_000);

function run(bundle: string, data: string, ...words: string[]) {
	const args = [bundle, 'simulate', ...words, '--json', '--data', data];
	const child: ChildProcess = spawn(process.execPath, args, {
		env: programEnv(),
		stdio: ['ignore', 'pipe', 'pipe'],
	});
	const said = { out: '', err: '' };
	child.stdout!.on('data', (piece: Buffer) => (said.out += piece));
	child.stderr!.on('data', (piece: Buffer) => (said.err += piece));
	const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) =>
		child.once('close', (code) => resolve({ code, ...said })),
	);
	return { child, said, ended };
}

async function until(what: string, is: () => Promise<boolean> | boolean): Promise<void> {
	for (const late = performance.now() + 60_000; !(await is());) {
		if (performance.now() > late) throw new Error(`waited 60 s for ${what}`);
		await sleep(20);
	}
}

test('under kills of the service a simulated fleet and its work go on: each job is made once and ends once', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-soak-'));
	const bundles = builtPrograms(folder);
	const data = join(folder, 'service');
	const service = new ServiceProgram(bundles, data, await quietPort());
	const begun: ChildProcess[] = [];
	try {
		service.start();
		await service.ready();
		const { client } = service;
		const count = async () => (await client.jobs({ limit: 1_000 })).items.length;
		const fleet = run(
			bundles.service,
			data,
			...['--robots', '4', '--slots', '4', '--seed', '5', '--duration', '5ms..50ms'],
		);
		begun.push(fleet.child);
		await until('the fleet to join', () => fleet.said.err.includes('joined'));
		const load = run(
			bundles.service,
			data,
			...['load', '--rate', '100/s', '--count', String(jobs), '--seed', '5', '--drain', '60s'],
		);
		begun.push(load.child);
		for (let kill = 1; kill <= kills; kill += 1) {
			const wanted = (jobs * kill) / (kills + 2);
			await until(`${wanted} jobs`, async () => (await count()) >= wanted);
			await service.kill();
			service.start();
			await service.ready();
		}
		const loaded = await load.ended;
		expect(loaded.code).toBe(0);
		expect(JSON.parse(loaded.out)).toMatchObject({
			sent: jobs,
			completed: jobs,
			open: 0,
			refused: 0,
		});
		expect(await count()).toBe(jobs);
		fleet.child.kill('SIGINT');
		const played = await fleet.ended;
		expect(played.code).toBe(0);
		expect(JSON.parse(played.out)).toMatchObject({ completed: jobs, removed: 4, left: 0 });
		expect(await client.robots()).toEqual([]);
	} finally {
		for (const child of begun) child.kill('SIGKILL');
		await service.kill();
		rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
	}
});
