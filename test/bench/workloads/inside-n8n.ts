/**
 * W10: what the service costs the n8n that hosts it. How much n8n's own event loop is late by while 100 jobs a second go
 * to robots in another process, beside the same n8n with the same robots and no jobs; and what a step of a workflow takes
 * that submits one job, beside the plain call of the API from n8n's thread.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Host } from '../machine/host';
import { median, percentile } from '../report/statistics';
import { limit, short } from '../report/verdicts';
import { n8nVersion, type RunningN8n, startN8n } from '../servers/n8n';
import type { Bench, Outcome } from './workload';

const jobsPerSecond = 100;
const robots = 20;
const maxLagGrowthMs = 5;
const maxNodeMs = 5;
const settleMs = 2_000;

export async function insideN8n(bench: Bench): Promise<Outcome> {
	const { say, sizes } = bench;
	const it = await startN8n();
	try {
		const lag = await lagOf(it, sizes, say);
		const node = await nodeOf(it, sizes, say);
		return {
			verdicts: [
				limit(
					'W10',
					`growth of n8n's event-loop lag (p99) under ${jobsPerSecond} jobs/s`,
					{ atMost: maxLagGrowthMs },
					'ms',
					median(lag.map(({ idle, busy }) => busy - idle)),
				),
				limit(
					'W10',
					'jobs done meanwhile',
					{ atLeast: 0.95 * jobsPerSecond },
					'jobs/s',
					median(lag.map(({ rate }) => rate)),
				),
				limit(
					'W10',
					'the node Submit Job above the plain call (p50)',
					{ atMost: maxNodeMs },
					'ms',
					median(node.map(({ node: inNode, plain }) => inNode - plain)),
				),
			],
			measured: { n8n: n8nVersion(), jobsPerSecond, robots, lag, node },
			tables: [
				{
					title: `W10: inside n8n ${n8nVersion()}, windows of ${sizes.lagMs / 1_000} s; n8n counts a step in whole ms`,
					columns: [
						'Round',
						'lag p99 idle, ms',
						'lag p99 busy, ms',
						'jobs/s',
						'node p50, ms',
						'plain call p50, ms',
						'empty step p50, ms',
					],
					rows: lag.map(({ idle, busy, rate }, at) => [
						at + 1,
						short(idle),
						short(busy),
						short(rate),
						short(node[at]!.node),
						short(node[at]!.plain),
						short(node[at]!.nothing),
					]),
				},
			],
		};
	} finally {
		await it.stop();
	}
}

async function lagOf(it: RunningN8n, { lagRounds, lagMs }: Bench['sizes'], say: Bench['say']) {
	const { token } = await it.client.createToken({ uses: robots, ttlMs: 3_600_000 });
	const host = await Host.start('robots');
	try {
		await host.call('grow', it.url, token, robots);
		await host.call('work');
		await sleep(settleMs);
		const rounds: { idle: number; busy: number; rate: number }[] = [];
		while (rounds.length < lagRounds) {
			const idle = await window(it, () => sleep(lagMs));
			let rate = 0;
			const busy = await window(it, async () => {
				rate = await load(it, host, lagMs);
			});
			rounds.push({ idle, busy, rate });
			say(`lag p99 ${short(idle)} ms idle, ${short(busy)} ms at ${short(rate)} jobs/s`);
		}
		return rounds;
	} finally {
		await host.stop();
	}
}

/** Each look at n8n's figures begins them anew. */
async function window(it: RunningN8n, work: () => Promise<unknown>): Promise<number> {
	await it.lagP99Ms();
	await work();
	return await it.lagP99Ms();
}

/** Submits evenly, from this process; answers how many a second were done. */
async function load(it: RunningN8n, host: Host, ms: number): Promise<number> {
	const count = Math.round((jobsPerSecond * ms) / 1_000);
	const done = await host.recorded(count);
	const from = performance.now();
	const submits: Promise<unknown>[] = [];
	while (submits.length < count) {
		const due = from + (submits.length * 1_000) / jobsPerSecond;
		const early = due - performance.now();
		if (early > 0) await sleep(early);
		submits.push(it.client.submit({ kind: 'command', spec: { command: 'true' } }));
	}
	await Promise.all(submits);
	await done();
	return (count * 1_000) / (performance.now() - from);
}

/** No robot is connected any more: what is submitted waits, whoever submits it. */
async function nodeOf(it: RunningN8n, { lagRounds, nodeRuns }: Bench['sizes'], say: Bench['say']) {
	const { id } = await it.n8n.createWorkflow(oneAtATime(it, nodeRuns));
	const rounds: { node: number; nothing: number; plain: number }[] = [];
	// The first round warms both up.
	for (let round = 0; round <= lagRounds; round += 1) {
		const plain = percentile(await it.plain(nodeRuns), 0.5);
		const steps = await stepsOf(it, id);
		const [node, nothing] = [percentile(steps.node, 0.5), percentile(steps.nothing, 0.5)];
		if (round > 0) rounds.push({ node, nothing, plain });
		say(
			`Submit Job ${short(node)} ms, plain call ${short(plain)} ms, a step that does nothing ${short(nothing)} ms`,
		);
	}
	return rounds;
}

/** What n8n says each of its steps took, the requests for parameters and credentials included. */
async function stepsOf(it: RunningN8n, workflowId: string) {
	const { executionId } = await it.n8n.runManually(workflowId, 'Manual');
	const execution = await it.n8n.waitForExecution(
		(each) => each.id === executionId && ['success', 'error'].includes(each.status),
		120_000,
	);
	if (execution.status !== 'success') {
		throw new Error(`the workflow failed: ${JSON.stringify(execution.data.resultData.error)}`);
	}
	const timesOf = (name: string) => {
		const runs = execution.data.resultData.runData[name] as { executionTime: number }[];
		return runs.map(({ executionTime }) => executionTime);
	};
	return { node: timesOf('Submit'), nothing: timesOf('Nothing') };
}

function oneAtATime({ credential }: RunningN8n, runs: number): object {
	const items = Array.from({ length: runs }, (_, n) => n);
	const to = (node: string) => [{ node, type: 'main', index: 0 }];
	return {
		settings: { executionOrder: 'v1' },
		nodes: [
			{ name: 'Manual', type: 'n8n-nodes-base.manualTrigger', typeVersion: 1 },
			{
				name: 'Numbers',
				type: 'n8n-nodes-base.set',
				typeVersion: 3.4,
				parameters: { mode: 'raw', jsonOutput: JSON.stringify({ items }), options: {} },
			},
			{
				name: 'Split',
				type: 'n8n-nodes-base.splitOut',
				typeVersion: 1,
				parameters: { fieldToSplitOut: 'items', options: {} },
			},
			{
				name: 'Loop',
				type: 'n8n-nodes-base.splitInBatches',
				typeVersion: 3,
				parameters: { batchSize: 1, options: {} },
			},
			{
				name: 'Submit',
				type: 'n8n-nodes-robot-fleet.submitJob',
				typeVersion: 1,
				parameters: { commandType: 'program', program: 'true' },
				credentials: { robotFleetApi: credential },
			},
			// What a step costs n8n before it does anything.
			{ name: 'Nothing', type: 'n8n-nodes-base.noOp', typeVersion: 1 },
			{ name: 'Done', type: 'n8n-nodes-base.noOp', typeVersion: 1 },
		],
		connections: {
			Manual: { main: [to('Numbers')] },
			Numbers: { main: [to('Split')] },
			Split: { main: [to('Loop')] },
			Loop: { main: [to('Done'), to('Nothing')] },
			Nothing: { main: [to('Submit')] },
			Submit: { main: [to('Loop')] },
		},
	};
}
