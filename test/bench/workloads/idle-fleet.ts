/**
 * W4: robots that wait for work. What each costs in memory and all of them in time, beside a bare
 * WebSocket server with the same number of sockets and the same talk on them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { limits } from '../../../protocol';
import { startEcho } from '../machine/calibration';
import { newFolder } from '../machine/folder';
import { Host } from '../machine/host';
import { cpuSeconds, memoryBytes } from '../machine/processes';
import { compare, limit, short, type Verdict } from '../report/verdicts';
import { startService } from '../servers/service';
import type { Bench, Outcome } from './workload';

interface Level {
	robots: number;
	/** Of the server, above what it took with none, for each connection. */
	bytesEach: number;
	/** Of one core, for 1,000 connections, above what it took with none. */
	cpuPer1000: number;
	growMs: number;
}

/** A server with nobody connected, and the way to connect more to it. */
interface Idle {
	pid: number;
	grow(count: number): Promise<void>;
	beat(everyMs: number): Promise<void>;
	stop(): Promise<void>;
}

const maxTimesFloor = 2;
const maxCoreShare = 0.01;
const heartbeatMs = limits.heartbeatMs;

export async function idleFleet(bench: Bench): Promise<Outcome> {
	const floor = await levels(bench, 'bare ws', await bareSockets());
	const ours = await levels(bench, 'Robot Fleet', await service());
	const last = ours.at(-1)!;
	const floorLast = floor.at(-1)!;
	const verdicts: Verdict[] = [
		limit('W4', 'idle robots connected', { atLeast: bench.sizes.fleets.at(-1)! }, '', last.robots),
		compare({
			workload: 'W4',
			figure: 'memory of an idle robot (PSS)',
			bar: { atMost: maxTimesFloor },
			unit: 'KiB',
			ours: last.bytesEach / 1024,
			against: { name: 'a bare ws socket', value: floorLast.bytesEach / 1024 },
		}),
		limit(
			'W4',
			'CPU of 1,000 idle robots',
			{ atMost: maxCoreShare * 100 },
			'% of a core',
			last.cpuPer1000 * 100,
		),
	];
	return {
		verdicts,
		measured: {
			heartbeatMs,
			settleMs: bench.sizes.settleMs,
			'bare-ws': floor,
			'robot-fleet': ours,
		},
		tables: [
			{
				title: `W4: idle connections, a heartbeat every ${heartbeatMs / 1000} s, ${bench.sizes.settleMs / 1000} s after the last connect`,
				columns: [
					'Server',
					'connections',
					'KiB each (PSS)',
					'CPU of 1,000, % of a core',
					'connected in, s',
				],
				rows: [['bare ws', floor] as const, ['Robot Fleet', ours] as const].flatMap(([name, all]) =>
					all.map((level) => [
						name,
						level.robots,
						short(level.bytesEach / 1024),
						short(level.cpuPer1000 * 100),
						short(level.growMs / 1_000),
					]),
				),
			},
		],
	};
}

async function levels({ sizes, say }: Bench, name: string, idle: Idle): Promise<Level[]> {
	try {
		await sleep(Math.min(5_000, sizes.settleMs));
		const nobody = await look(idle.pid, sizes.settleMs / 4);
		const found: Level[] = [];
		await idle.beat(heartbeatMs);
		for (const robots of sizes.fleets) {
			const from = performance.now();
			await idle.grow(robots - (found.at(-1)?.robots ?? 0));
			const growMs = performance.now() - from;
			const some = await look(idle.pid, sizes.settleMs);
			found.push({
				robots,
				bytesEach: (some.memory - nobody.memory) / robots,
				cpuPer1000: ((some.share - nobody.share) * 1_000) / robots,
				growMs,
			});
			say(
				`${name}: ${robots} idle, ${short(found.at(-1)!.bytesEach / 1024)} KiB each, ${short(found.at(-1)!.cpuPer1000 * 100)} % of a core per 1,000`,
			);
		}
		return found;
	} finally {
		await idle.stop();
	}
}

/** Share of a core over the time, and memory at its end. */
async function look(pid: number, ms: number) {
	const before = cpuSeconds([pid]);
	const from = performance.now();
	await sleep(ms);
	const share = (cpuSeconds([pid]) - before) / ((performance.now() - from) / 1_000);
	return { share, memory: memoryBytes([pid]) };
}

async function bareSockets(): Promise<Idle> {
	const echo = await startEcho();
	const host = await Host.start('echo-clients');
	return {
		pid: echo.pid,
		grow: (count) => host.call('grow', echo.url, count),
		beat: (everyMs) => host.call('beat', everyMs),
		async stop() {
			await host.stop();
			await echo.stop();
		},
	};
}

async function service(): Promise<Idle> {
	const { folder, remove } = newFolder('fleet');
	const running = await startService({ folder });
	const { token } = await running.client.createToken({ uses: 100_000, ttlMs: 3_600_000 });
	const host = await Host.start('robots');
	return {
		pid: running.pid,
		grow: (count) => host.call('grow', running.url, token, count),
		beat: (everyMs) => host.call('beat', everyMs),
		async stop() {
			await host.stop();
			await running.stop();
			await remove();
		},
	};
}
