/**
 * W5: a whole fleet comes back at once. First with the service alive, all connections cut in the same
 * moment; then after a kill -9 of the service, with the pauses that agents make. Some robots hold a
 * job all along, and no job may be lost.
 */
import { noop } from '../contenders/robot-fleet';
import { startEcho } from '../machine/calibration';
import { newFolder } from '../machine/folder';
import { Host } from '../machine/host';
import { memoryBytes, peakMemoryBytes } from '../machine/processes';
import { freePort } from '../machine/spawned';
import { percentile } from '../report/statistics';
import { limit, short } from '../report/verdicts';
import { startService } from '../servers/service';
import type { LoopDelay } from '../hosts/service-probe';
import type { Bench, Outcome } from './workload';

interface Storm {
	what: string;
	/** Milliseconds until half, 99 % and all of the robots were registered again. */
	t50Ms: number;
	t99Ms: number;
	t100Ms: number;
	loop: LoopDelay;
	/** Peak of the service's memory over what it had in peace. */
	peakShare: number;
}

const maxBackMs = 15_000;
const maxLoopDelayMs = 200;

export async function reconnectStorm({ sizes, say }: Bench): Promise<Outcome> {
	const floorMs = await bareStorm(sizes.storm);
	const { folder, remove } = newFolder('storm');
	const port = await freePort();
	const start = () => startService({ folder, port, probe: true });
	let service = await start();
	const host = await Host.start('robots');
	const { token } = await service.client.createToken({ uses: sizes.storm, ttlMs: 3_600_000 });
	await host.call('grow', service.url, token, sizes.storm);

	const holding = host.call('hold', sizes.holding);
	const answers = await service.client.submitMany(
		Array.from({ length: sizes.holding }, () => noop()),
	);
	const jobIds = answers.map((answer) => ('jobId' in answer ? answer.jobId : ''));
	await holding;

	const peace = memoryBytes([service.pid]);
	service.watchLoop();
	const cut = await host.call<number[]>('storm');
	const storms: Storm[] = [
		summed('all connections cut and dialled at once', cut, await service.loopDelay(), {
			peak: peakMemoryBytes(service.pid),
			peace,
		}),
	];
	say(line(storms[0]!));

	const back = host.call<number[]>('comeBack');
	await service.stop('SIGKILL');
	service = await start();
	service.watchLoop();
	const returned = await back;
	storms.push(
		summed('service killed and started, agents’ own pauses', returned, await service.loopDelay(), {
			peak: peakMemoryBytes(service.pid),
			peace,
		}),
	);
	say(line(storms[1]!));

	await host.call('release');
	const lost = await jobsLost(service.client, jobIds);
	await host.stop();
	await service.stop();
	await remove();

	return {
		verdicts: [
			...storms.map(({ what, t100Ms }) =>
				limit(
					'W5',
					`${sizes.storm} robots back: ${what}`,
					{ atMost: maxBackMs / 1e3 },
					's',
					t100Ms / 1e3,
				),
			),
			...storms.map(({ what, loop }) =>
				limit('W5', `event-loop delay, p99: ${what}`, { atMost: maxLoopDelayMs }, 'ms', loop.p99Ms),
			),
			limit('W5', `jobs lost of ${sizes.holding} that were running`, { atMost: 0 }, '', lost),
		],
		measured: { robots: sizes.storm, holding: sizes.holding, lost, storms, bareWsT100Ms: floorMs },
		tables: [
			{
				title: `W5: ${sizes.storm} robots, ${sizes.holding} of them with a running job (the same number of bare sockets: ${short(floorMs / 1000)} s)`,
				columns: [
					'Storm',
					'half back, s',
					'99 %, s',
					'all, s',
					'loop p99, ms',
					'loop max, ms',
					'peak memory ÷ peace',
				],
				rows: storms.map(({ what, t50Ms, t99Ms, t100Ms, loop, peakShare }) => [
					what,
					...[t50Ms, t99Ms, t100Ms].map((ms) => short(ms / 1_000)),
					short(loop.p99Ms),
					short(loop.maxMs),
					short(peakShare),
				]),
			},
		],
	};
}

function summed(
	what: string,
	times: number[],
	loop: LoopDelay,
	{ peak, peace }: { peak: number; peace: number },
): Storm {
	return {
		what,
		t50Ms: percentile(times, 0.5),
		t99Ms: percentile(times, 0.99),
		t100Ms: percentile(times, 1),
		loop,
		peakShare: peak / peace,
	};
}

/** Whatever is not completed by its first attempt. */
async function jobsLost(
	client: { job(id: string): Promise<{ state: string; attempt: number }> },
	jobIds: string[],
): Promise<number> {
	let lost = 0;
	for (const id of jobIds) {
		const job = await client.job(id);
		if (job.state !== 'completed' || job.attempt !== 1) lost += 1;
	}
	return lost;
}

async function bareStorm(count: number): Promise<number> {
	const echo = await startEcho();
	const host = await Host.start('echo-clients');
	const times = await host.call<number[]>('storm', echo.url, count);
	await host.stop();
	await echo.stop();
	return percentile(times, 1);
}

function line({ what, t50Ms, t100Ms, loop }: Storm): string {
	return `${what}: half ${short(t50Ms / 1e3)} s, all ${short(t100Ms / 1e3)} s, loop p99 ${short(loop.p99Ms)} ms, max ${short(loop.maxMs)} ms`;
}
