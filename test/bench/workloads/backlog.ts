/**
 * W6: the same work behind a short queue and behind a long one. Loaded through the public API in bulk;
 * at each length submits, claims, throughput, memory, the API's own queries, and a start after kill -9.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FleetClient } from '../../../client';
import { httpSend } from '../../../dispatcher/cli/transport';
import { bulkSize, inParallel } from '../contenders/contender';
import { noop } from '../contenders/robot-fleet';
import { newFolder } from '../machine/folder';
import { Host } from '../machine/host';
import { memoryBytes } from '../machine/processes';
import { median, percentile } from '../report/statistics';
import { compare, limit, short, type Verdict } from '../report/verdicts';
import { type RunningService, startService } from '../servers/service';
import type { Bench, Outcome } from './workload';

interface Level {
	backlog: number;
	loadedPerSecond: number;
	submitP50Ms: number;
	submitP99Ms: number;
	claimP50Ms: number;
	claimP99Ms: number;
	perSecond: number;
	memoryBytes: number;
	storeBytes: number;
	/** `GET /queue/stats` and the first page of `GET /jobs?state=queued`. */
	statsMs: number;
	listMs: number;
	/** Spawn to ready after kill -9 with this backlog, and the memory it has then. */
	restartMs: number;
	restartedBytes: number;
}

const passes = 3;
const submitsAPass = 1_000;
const claimers = 10;
const claimsAPass = 2_000;
const crowd = 100;
const drained = 10_000;
const loaders = 3;

export async function backlog({ sizes, say }: Bench): Promise<Outcome> {
	const { folder, remove } = newFolder('backlog');
	const start = () => startService({ folder });
	let service = await start();
	const levels: Level[] = [];
	let queued = 0;
	for (const length of sizes.backlogs) {
		const from = performance.now();
		const missing = length - queued;
		await load(service, missing, await otherKey(service));
		const loadedPerSecond = (missing / (performance.now() - from)) * 1_000;
		await sleep(2_000);
		const level = await measure(service, length);
		queued = level.left;
		const bytes = memoryBytes([service.pid]);
		const storeBytes = sizeOf(join(folder, 'robot-fleet.db'));
		await service.stop('SIGKILL');
		service = await start();
		levels.push({
			...level.figures,
			loadedPerSecond,
			memoryBytes: bytes,
			storeBytes,
			restartMs: service.readyMs,
			restartedBytes: memoryBytes([service.pid]),
		});
		say(line(levels.at(-1)!));
	}
	await service.stop();
	await remove();
	return { verdicts: verdictsOf(levels), measured: { levels }, tables: [tableOf(levels)] };
}

/** As many as will be taken are put in before, so that the backlog stays as long as it is. */
async function measure(service: RunningService, length: number) {
	const submits: number[][] = [];
	const claims: number[][] = [];
	let left = length;
	for (let pass = 0; pass < passes; pass += 1) {
		const times: number[] = [];
		for (let i = 0; i < submitsAPass; i += 1) {
			const from = performance.now();
			await service.client.submit(noop());
			times.push(performance.now() - from);
		}
		submits.push(times);
		left += submitsAPass;
		await load(service, claimsAPass);
		left += claimsAPass;
		const { done, claimsMs } = await take(service, claimers, claimsAPass);
		claims.push(claimsMs);
		left -= done;
	}
	const perSecond: number[] = [];
	for (let pass = 0; pass < passes; pass += 1) {
		await load(service, drained);
		const { done, ms } = await take(service, crowd, drained);
		left += drained - done;
		perSecond.push((done / ms) * 1_000);
	}
	const of = (samples: number[][], share: number) =>
		median(samples.map((times) => percentile(times, share)));
	return {
		left,
		figures: {
			backlog: length,
			submitP50Ms: of(submits, 0.5),
			submitP99Ms: of(submits, 0.99),
			claimP50Ms: of(claims, 0.5),
			claimP99Ms: of(claims, 0.99),
			perSecond: median(perSecond),
			statsMs: await timed(() => service.client.queueStats()),
			listMs: await timed(() => service.client.jobs({ state: 'queued', limit: 100 })),
		},
	};
}

/** Robots that come, finish so many jobs, and go. */
async function take(service: RunningService, robots: number, count: number) {
	const host = await Host.start('robots');
	const { token } = await service.client.createToken({ uses: robots });
	await host.call('enrol', service.url, token, robots);
	const taken = await host.call<{ done: number; ms: number; claimsMs: number[] }>('take', count);
	await host.stop();
	return taken;
}

/** Behind a million of its own, a key could submit nothing more: what lies there is of another one. */
async function load(
	service: RunningService,
	count: number,
	client = service.client,
): Promise<void> {
	let left = count;
	await inParallel(
		Math.ceil(count / bulkSize),
		async () => {
			const size = Math.min(bulkSize, left);
			left -= size;
			const answers = await client.submitMany(Array.from({ length: size }, () => noop()));
			const refused = answers.find((answer) => 'error' in answer);
			if (refused) throw new Error(`a job was refused: ${JSON.stringify(refused)}`);
		},
		loaders,
	);
}

async function otherKey({ client, url }: RunningService): Promise<FleetClient> {
	const { key } = await client.createKey({ name: 'backlog', scopes: ['submit'] });
	return new FleetClient(httpSend({ url, key }));
}

async function timed(call: () => Promise<unknown>): Promise<number> {
	const times: number[] = [];
	for (let i = 0; i < 5; i += 1) {
		const from = performance.now();
		await call();
		times.push(performance.now() - from);
	}
	return median(times);
}

function sizeOf(file: string): number {
	return [file, `${file}-wal`].reduce(
		(sum, name) => sum + (statSync(name, { throwIfNoEntry: false })?.size ?? 0),
		0,
	);
}

const mib = 1024 * 1024;

function verdictsOf(levels: Level[]): Verdict[] {
	const [first, last] = [levels[0]!, levels.at(-1)!];
	const name = `behind ${short(first.backlog)}`;
	const held = (figure: string, unit: string, of: (level: Level) => number) => ({
		workload: 'W6',
		figure: `${figure} behind ${short(last.backlog)}`,
		unit,
		ours: of(last),
		against: { name, value: of(first) },
	});
	return [
		compare({ ...held('claim p99', 'ms', (l) => l.claimP99Ms), bar: { atMost: 1.5 } }),
		compare({ ...held('submit p99', 'ms', (l) => l.submitP99Ms), bar: { atMost: 1.5 } }),
		compare({ ...held('jobs/s', 'jobs/s', (l) => l.perSecond), bar: { atLeast: 0.85 } }),
		// Both ways: with the garbage of the same work, and just started.
		...(
			[
				['after the work', (level: Level) => level.memoryBytes],
				['just started', (level: Level) => level.restartedBytes],
			] as const
		).map(([when, of]) =>
			limit(
				'W6',
				`growth of memory from ${short(first.backlog)} to ${short(last.backlog)} queued jobs, ${when}`,
				{ atMost: 64 },
				'MiB',
				(of(last) - of(first)) / mib,
			),
		),
		limit(
			'W6',
			`start after kill -9 with ${short(last.backlog)} queued jobs`,
			{ atMost: 5 },
			's',
			last.restartMs / 1_000,
		),
	];
}

function tableOf(levels: Level[]) {
	return {
		title: `W6: behind a backlog (submit: one caller; claim: ${claimers} robots; jobs/s: ${crowd} robots)`,
		columns: [
			'queued',
			'loaded, jobs/s',
			'submit p50 / p99, ms',
			'claim p50 / p99, ms',
			'jobs/s',
			'memory, MiB',
			'store, MiB',
			'queue stats, ms',
			'job list, ms',
			'start after kill -9, s',
			'memory then, MiB',
		],
		rows: levels.map((level) => [
			short(level.backlog),
			short(level.loadedPerSecond),
			`${short(level.submitP50Ms)} / ${short(level.submitP99Ms)}`,
			`${short(level.claimP50Ms)} / ${short(level.claimP99Ms)}`,
			short(level.perSecond),
			short(level.memoryBytes / mib),
			short(level.storeBytes / mib),
			short(level.statsMs),
			short(level.listMs),
			short(level.restartMs / 1_000),
			short(level.restartedBytes / mib),
		]),
	};
}

function line(level: Level): string {
	return `${short(level.backlog)} queued: submit p99 ${short(level.submitP99Ms)} ms, claim p99 ${short(level.claimP99Ms)} ms, ${short(level.perSecond)} jobs/s, ${short(level.memoryBytes / mib)} MiB, start ${short(level.restartMs / 1e3)} s`;
}
