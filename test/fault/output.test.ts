/** Output under harm: kills of the service, floods, full disks. Programs are the built ones. */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal, type Job } from '../../protocol';
import { howMany, say } from '../support/proof';
import { eventually, OneService } from './one-service';

const MiB = 1024 * 1024;
const floodS = howMany(10, 60);
jest.setTimeout(180_000 + floodS * 3_000);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function complete(house: OneService, jobId: string, deadlineMs = 60_000): Promise<Job> {
	return await eventually(
		'the end and all output',
		async () => {
			const job = await house.service.client.job(jobId);
			return isFinal(job.state) && job.output.complete && job;
		},
		deadlineMs,
	);
}

async function stored({ service }: OneService, jobId: string): Promise<Buffer> {
	const answer = await fetch(`${service.url}/api/v1/jobs/${jobId}/output?holes=omit`, {
		headers: { authorization: `Bearer ${service.adminKey}` },
	});
	return Buffer.from(await answer.arrayBuffer());
}

function memory(pid: number): { now: number; peak: number } {
	const text = readFileSync(`/proc/${pid}/status`, 'utf8');
	const of = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(text)![1]) * 1024;
	return { now: of('VmRSS'), peak: of('VmHWM') };
}

test('100 MB of output are stored byte by byte equal through kill -9 of the service', async () => {
	await OneService.use(
		async (house) => {
			const { service, folder } = house;
			await house.agent('anna', { ROBOT_FLEET_AGENT_MAX_OUTPUT: '128' });
			const printed = randomBytes(100_000_000);
			writeFileSync(join(folder, 'printed'), printed);
			// So much at a time that no kill comes when all of it is stored, however slow a start is.
			const go = (part: number) => writeFileSync(join(folder, `go-${part}`), '');
			const { jobId } = await service.client.submit({
				kind: 'command',
				spec: {
					shell: `for i in $(seq 0 99); do [ $((i % 14)) -ne 0 ] || until [ -e go-$((i / 14)) ]; do sleep 0.02; done; tail -c +$((i * 1000000 + 1)) printed | head -c 1000000; sleep 0.05; done`,
					cwd: folder,
				},
			});
			const cutAt: number[] = [];
			for (let kills = 0; kills < 6; kills += 1) {
				go(kills);
				const before = cutAt.at(-1) ?? 0;
				await eventually('more output to be stored', async () => {
					const { stdout } = (await service.client.job(jobId)).output;
					return stdout > before + 3_000_000 && cutAt.push(stdout);
				});
				await service.kill();
				service.start();
				await service.ready();
			}
			for (const part of [6, 7]) go(part);
			const job = await complete(house, jobId);
			expect(cutAt.every((have) => have < printed.length)).toBe(true);
			expect(job).toMatchObject({
				state: 'completed',
				attempt: 1,
				output: { stdout: printed.length, stderr: 0, complete: true },
			});
			expect(job.output.holes).toBeUndefined();
			expect([sha256(await stored(house, jobId)), job.result!.sha256!.stdout]).toEqual([
				sha256(printed),
				sha256(printed),
			]);
		},
		{ env: { ROBOT_FLEET_MAX_OUTPUT: '128' } },
	);
});

test('row 22: a job that prints as fast as it can harms neither its robot nor anybody else', async () => {
	await OneService.use(async (house) => {
		const { service, folder } = house;
		const anna = await house.agent('anna');
		await house.agent('bert');
		const starts = async (count: number): Promise<number[]> => {
			const times: number[] = [];
			for (let i = 0; i < count; i += 1) {
				const { jobId } = await service.client.submit({
					kind: 'command',
					spec: { command: 'true' },
					target: { robot: 'bert' },
				});
				const job = await service.client.job(jobId, 10_000);
				times.push(job.startedAt! - job.createdAt);
			}
			return times.sort((a, b) => a - b);
		};
		await starts(30);
		const quiet = await starts(100);
		const idle = { agent: memory(anna.pid!), service: memory(service.pid!) };
		const { jobId } = await service.client.submit({
			kind: 'command',
			spec: {
				shell: `yes a line that is printed for ever & sleep ${floodS}; until [ -e enough ]; do sleep 0.05; done; kill -PIPE $!; wait; exit 3`,
				cwd: folder,
			},
			target: { robot: 'anna' },
		});
		await eventually(
			'more output than is kept',
			async () => (await service.client.job(jobId)).output.stdout > 64 * MiB,
		);
		const busy = await starts(100);
		let spool = 0;
		const job = await eventually(
			'the end',
			async () => {
				const files = join(anna.data, 'spool');
				const sizes = readdirSync(files).map(
					(name) => statSync(join(files, name), { throwIfNoEntry: false })?.size ?? 0,
				);
				spool = Math.max(
					spool,
					sizes.reduce((sum, size) => sum + size, 0),
				);
				const read = await service.client.job(jobId);
				// A flood: far more than is kept, however slow the machine is today.
				if (read.output.stdout > 2 * 64 * MiB) writeFileSync(join(folder, 'enough'), '');
				return isFinal(read.state) && read;
			},
			floodS * 1_000 + 30_000,
		);
		expect(job).toMatchObject({ state: 'failed', cause: 'exit_code', result: { exitCode: 3 } });
		const { output } = await complete(house, jobId);
		const peak = { agent: memory(anna.pid!).peak, service: memory(service.pid!).peak };
		expect(output.holes).toEqual({
			stdout: [{ from: 8 * MiB, to: output.stdout - 56 * MiB, reason: 'limit' }],
		});
		const bytes = await stored(house, jobId);
		const line = 'a line that is printed for ever\n';
		const whole = Buffer.alloc(64 * MiB + line.length, line);
		expect(bytes.subarray(0, 8 * MiB).equals(whole.subarray(0, 8 * MiB))).toBe(true);
		const phase = (output.stdout - 56 * MiB) % line.length;
		expect(bytes.subarray(8 * MiB).equals(whole.subarray(phase, phase + 56 * MiB))).toBe(true);

		const growth = {
			agent: peak.agent - idle.agent.now,
			service: peak.service - idle.service.now,
		};
		const inMiB = (bytes: number) => Math.round(bytes / MiB);
		say(22, {
			seconds: floodS,
			'MiB printed': inMiB(output.stdout),
			'MiB in the spool': inMiB(spool),
			'MiB the agent grew by': inMiB(growth.agent),
			'and the service': inMiB(growth.service),
			'agent at most, MiB': inMiB(peak.agent),
			"others' submit to start p50 before and meanwhile, ms": `${quiet[50]} ${busy[50]}`,
			p99: `${quiet[98]} ${busy[98]}`,
		});
		expect(spool).toBeLessThanOrEqual(64 * MiB + 3 * 4 * MiB);
		expect(growth.agent).toBeLessThanOrEqual(40 * MiB);
		expect(growth.service).toBeLessThanOrEqual(64 * MiB);
	});
});

/** A disk of its own for a robot, where this machine lets us make one. */
function smallDisk(folder: string): boolean {
	mkdirSync(folder);
	try {
		execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', folder], { stdio: 'ignore' });
		return true;
	} catch {
		process.stderr.write('no disk can be mounted here: the test of the full disk did not run\n');
		return false;
	}
}

test('on a full disk the exit code is delivered, and the output says where it is cut', async () => {
	await OneService.use(async (house) => {
		const disk = join(house.folder, 'anna');
		if (!smallDisk(disk)) return;
		try {
			const agent = await house.agent('anna');
			const run = async (shell: string) => {
				const { jobId } = await house.service.client.submit({
					kind: 'command',
					spec: { shell, cwd: disk },
				});
				return { jobId, job: await complete(house, jobId) };
			};
			const printed = `yes 0123456789abcde | head -c 60000000; exit 7`;
			const { jobId, job } = await run(printed);
			expect(job).toMatchObject({ state: 'failed', result: { exitCode: 7, truncated: true } });
			expect(job.output).toMatchObject({ stdout: 60_000_000, complete: true });
			const [hole] = job.output.holes!.stdout!;
			expect(hole).toMatchObject({ to: 60_000_000, reason: 'disk-full' });
			const bytes = await stored(house, jobId);
			expect(bytes.equals(Buffer.alloc(hole!.from, '0123456789abcde\n'))).toBe(true);
			// What is left was left for the others.
			expect(hole!.from).toBeLessThan(24 * MiB);

			// A job that fills the disk itself, to its last byte.
			const full = await run(`cat /dev/zero > all 2> /dev/null; echo lost; rm all; exit 5`);
			expect(full.job).toMatchObject({
				state: 'failed',
				result: { exitCode: 5, stdout: 'lost\n' },
			});
			const keeps = await run(`cat /dev/zero > all 2> /dev/null; yes | head -c 300000; exit 6`);
			expect(keeps.job).toMatchObject({ state: 'failed', result: { exitCode: 6 } });
			expect(keeps.job.output).toMatchObject({ stdout: 300_000, complete: true });
			expect(agent.lives).toBe(true);
			await agent.stop();
		} finally {
			await house.agentsGone();
			execFileSync('umount', ['-l', disk]);
		}
	});
});
