/**
 * W8: the program that people install. What it costs while it waits, beside a Node process that does
 * nothing; `sh -c true` through the whole system, beside a bare loop of spawns; and its memory while a job
 * prints 100 MB.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetClient } from '../../../client';
import type { Submit } from '../../../protocol';
import { newFolder } from '../machine/folder';
import { Host } from '../machine/host';
import { cpuSeconds, memoryBytes, peakMemoryBytes } from '../machine/processes';
import { ended } from '../machine/spawned';
import { onExit } from '../machine/undo';
import { median, percentile, ratioOf } from '../report/statistics';
import { compare, limit, short, type Verdict } from '../report/verdicts';
import { type RunningAgent, startAgent } from '../servers/agent';
import { type RunningService, startService } from '../servers/service';
import type { Bench, Outcome } from './workload';

const atOnce = 4;
const printedBytes = 100_000_000;
const patienceMs = 30_000;
const mib = 1024 * 1024;

const doNothing: Submit = { kind: 'command', spec: { command: 'sh', args: ['-c', 'true'] } };
const print: Submit = {
	kind: 'command',
	spec: { shell: `head -c ${printedBytes} /dev/zero | tr '\\0' 'x' | fold -w 100` },
};

interface Round {
	ours: number;
	bare: number;
	/** Milliseconds of processor time a job: service, agent with its keeper and the programs; all of the bare loop. */
	serviceCpuMs: number;
	agentCpuMs: number;
	bareCpuMs: number;
}

export async function realAgent(bench: Bench): Promise<Outcome> {
	const { sizes, say, chance } = bench;
	const service = newFolder('agent-service');
	const running = await startService({ folder: service.folder });
	const idle = await idleMemory(running, sizes.settleMs);
	say(
		`idle agent ${short(idle.agent / mib)} MiB, a bare Node process ${short(idle.bare / mib)} MiB`,
	);

	const agent = await join(running, 'worker', atOnce);
	const bare = await Host.start('spawn-loop');
	await through(running.client, sizes.commands / 4);
	await bare.call('loop', sizes.commands / 4, atOnce);
	const rounds: Round[] = [];
	for (let i = 0; i < Math.min(3, sizes.rounds); i += 1) {
		rounds.push(await round(running, agent, bare, sizes.commands));
		say(roundText(rounds.at(-1)!));
	}
	const oursMs = await oneByOne(running.client, sizes.commands / 4);
	const bareMs = await bare.call<number[]>('single', sizes.commands / 4);
	await bare.stop();
	await agent.stop();

	const printer = await join(running, 'printer', 1);
	const { jobId } = await running.client.submit(print);
	await endOf(running.client, jobId);
	const peak = peakMemoryBytes(printer.pid);
	say(`100 MB printed, the agent's peak ${short(peak / mib)} MiB`);
	await printer.stop();
	await running.stop();
	await service.remove();

	const ratio = ratioOf(
		rounds.map((one) => [one.ours, one.bare] as const),
		chance,
	);
	const verdicts: Verdict[] = [
		compare({
			workload: 'W8',
			figure: 'memory of an idle agent (PSS)',
			bar: { atMost: 1.5 },
			unit: 'MiB',
			ours: idle.agent / mib,
			against: { name: 'a bare Node process', value: idle.bare / mib },
		}),
		compare({
			workload: 'W8',
			figure: `sh -c true, ${atOnce} at a time`,
			bar: { atLeast: 0.8 },
			unit: '/s',
			ours: median(rounds.map((one) => one.ours)),
			against: { name: 'a bare spawn loop', value: median(rounds.map((one) => one.bare)), ratio },
		}),
		limit(
			'W8',
			'peak memory of an agent whose job prints 100 MB',
			{ atMost: 96 },
			'MiB',
			peak / mib,
		),
	];
	return {
		verdicts,
		measured: { idle, rounds, peak, oneByOne: { ours: spread(oursMs), bare: spread(bareMs) } },
		tables: [
			{
				title: `W8: sh -c true through service, agent and keeper, ${atOnce} at a time`,
				columns: ['', 'jobs/s', 'CPU a job, ms', 'one by one p50 / p99, ms'],
				rows: [
					[
						'Robot Fleet',
						short(median(rounds.map((one) => one.ours))),
						`${short(median(rounds.map((one) => one.serviceCpuMs)))} service, ${short(median(rounds.map((one) => one.agentCpuMs)))} agent, keeper and programs`,
						pairText(oursMs),
					],
					[
						'bare spawn loop',
						short(median(rounds.map((one) => one.bare))),
						short(median(rounds.map((one) => one.bareCpuMs))),
						pairText(bareMs),
					],
				],
			},
		],
	};
}

/** Both at the same moment: what several processes share is counted by how many they are. */
async function idleMemory(service: RunningService, settleMs: number) {
	const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1 << 30)'], {
		stdio: 'ignore',
	});
	const stop = onExit(() => ended(child, 'SIGTERM'));
	const agent = await join(service, 'idle', 1);
	await sleep(settleMs);
	const found = { agent: memoryBytes([agent.pid]), bare: memoryBytes([child.pid!]) };
	await agent.stop();
	await stop();
	return found;
}

async function join(service: RunningService, name: string, slots: number): Promise<RunningAgent> {
	const { folder, remove } = newFolder(`agent-${name}`);
	const { token } = await service.client.createToken({ uses: 1 });
	const agent = await startAgent({ url: service.url, token, folder, name, slots });
	return {
		pid: agent.pid,
		async stop() {
			await agent.stop();
			await service.client.removeRobot(name);
			await remove();
		},
	};
}

async function round(
	service: RunningService,
	agent: RunningAgent,
	bare: Host,
	count: number,
): Promise<Round> {
	const cpu = () => [[service.pid], [agent.pid], [bare.pid]].map(cpuSeconds);
	const start = cpu();
	const oursMs = await through(service.client, count);
	const bareMs = await bare.call<number>('loop', count, atOnce);
	const stop = cpu();
	const [serviceCpuMs, agentCpuMs, bareCpuMs] = stop.map(
		(seconds, i) => ((seconds - start[i]!) * 1_000) / count,
	) as [number, number, number];
	return {
		ours: (count / oursMs) * 1_000,
		bare: (count / bareMs) * 1_000,
		serviceCpuMs,
		agentCpuMs,
		bareCpuMs,
	};
}

/** Milliseconds from the first submit to the last end. */
async function through(client: FleetClient, count: number): Promise<number> {
	const from = performance.now();
	const answers = await client.submitMany(Array.from({ length: count }, () => doNothing));
	// They start in the order of their submits, so the last to end is among the last.
	for (const answer of answers.slice(-2 * atOnce)) {
		if ('error' in answer) throw new Error(`a job was refused: ${JSON.stringify(answer)}`);
		await endOf(client, answer.jobId);
	}
	return performance.now() - from;
}

async function oneByOne(client: FleetClient, count: number): Promise<number[]> {
	const times: number[] = [];
	for (let i = 0; i < count; i += 1) {
		const from = performance.now();
		const { jobId } = await client.submit(doNothing);
		await endOf(client, jobId);
		times.push(performance.now() - from);
	}
	return times;
}

async function endOf(client: FleetClient, jobId: string): Promise<void> {
	for (;;) {
		const { state, error } = await client.job(jobId, patienceMs);
		if (state === 'completed') return;
		if (state === 'failed' || state === 'timeout' || state === 'cancelled') {
			throw new Error(`job ${jobId} is ${state}: ${error?.message}`);
		}
	}
}

function spread(times: readonly number[]) {
	return { p50Ms: percentile(times, 0.5), p99Ms: percentile(times, 0.99) };
}

function pairText(times: readonly number[]): string {
	const { p50Ms, p99Ms } = spread(times);
	return `${short(p50Ms)} / ${short(p99Ms)}`;
}

function roundText({ ours, bare, serviceCpuMs, agentCpuMs, bareCpuMs }: Round): string {
	return `sh -c true: ${short(ours)}/s (CPU ${short(serviceCpuMs)} + ${short(agentCpuMs)} ms a job), bare ${short(bare)}/s (${short(bareCpuMs)} ms)`;
}
