/**
 * W1 and W3: ours and the peers on the same work, in turn, each round in another order. W1 is one job
 * at a time on an idle system; W3 is as many as it can, submitted in bulks and one by one.
 */
import type { Contender, Rig } from '../contenders/contender';
import { cpuSeconds } from '../machine/processes';
import { countSyncs, hasStrace } from '../machine/syncs';
import { median, percentile, type Ratio, ratioOf, shuffled } from '../report/statistics';
import { type Bar, compare, limit, short, type Verdict } from '../report/verdicts';
import type { Bench, Outcome, Table } from './workload';

interface Throughput {
	jobs: number;
	perSecond: number;
	/** Microseconds of CPU a job: of the queue's processes, and of those that do the work. */
	serverCpuUs: number;
	workerCpuUs: number;
	/** How much of one core the process that submits used. Near 1, it measured itself. */
	generatorShare: number;
}

interface Round {
	startP50Ms: number;
	startP99Ms: number;
	probes: number;
	bulk: Throughput;
	single: Throughput;
}

type Measured = Map<Contender, Round[]>;

/** Which workloads, and with how many robots, or jobs of the peer's at once. */
interface Which {
	w1: boolean;
	w3: boolean;
	workers: number;
}

/** Enough for a compiler that looks at what is called often. */
const warmUpJobs = 3_000;
const warmUpProbes = 1_000;
const syncJobs = 10_000;

export async function peers(
	bench: Bench,
	contenders: readonly Contender[],
	which: Which,
): Promise<Outcome> {
	const { sizes, chance, say } = bench;
	const { workers } = which;
	const measured: Measured = new Map(contenders.map((contender) => [contender, []]));
	say(`M = ${workers}`);
	for (let round = 1; round <= sizes.rounds; round += 1) {
		for (const contender of shuffled(contenders, chance)) {
			const figures = await measure(bench, contender, which);
			measured.get(contender)!.push(figures);
			say(`round ${round}/${sizes.rounds} ${contender.name.padEnd(24)} ${line(figures, which)}`);
		}
	}
	const syncs = which.w3 ? await syncsPerJob(bench, contenders, workers) : {};
	return {
		verdicts: verdictsOf(bench, measured, syncs, which),
		tables: tablesOf(measured, syncs, which),
		measured: {
			contenders: Object.fromEntries(
				[...measured].map(([{ name, version, settings }, rounds]) => [
					name,
					{ version, settings, rounds },
				]),
			),
			syncsPerJob: syncs,
		},
	};
}

async function measure({ sizes }: Bench, contender: Contender, which: Which): Promise<Round> {
	const rig = await contender.start(which.workers);
	try {
		const latencies = which.w1 ? await probe(rig, sizes.probes, sizes.pieceMs) : [];
		const bulk = which.w3 ? await throughput(rig, 'bulk', sizes) : nothing;
		const single = which.w3 ? await throughput(rig, 'single', sizes) : nothing;
		return {
			startP50Ms: percentile(latencies, 0.5),
			startP99Ms: percentile(latencies, 0.99),
			probes: latencies.length,
			bulk,
			single,
		};
	} finally {
		await rig.stop();
	}
}

const nothing: Throughput = {
	jobs: 0,
	perSecond: NaN,
	serverCpuUs: NaN,
	workerCpuUs: NaN,
	generatorShare: NaN,
};

async function probe(rig: Rig, count: number, maxMs: number): Promise<number[]> {
	for (let i = 0; i < warmUpProbes; i += 1) await rig.latency();
	const until = performance.now() + maxMs;
	const latencies: number[] = [];
	while (latencies.length < count && performance.now() < until) latencies.push(await rig.latency());
	return latencies;
}

/** The warm-up is thrown away, and says how many jobs fill the time. */
async function throughput(
	rig: Rig,
	how: 'bulk' | 'single',
	{ jobs, pieceMs }: { jobs: number; pieceMs: number },
): Promise<Throughput> {
	const warmUpFrom = performance.now();
	await rig[how](Math.min(warmUpJobs, jobs));
	const perMs = Math.min(warmUpJobs, jobs) / (performance.now() - warmUpFrom);
	const count = Math.min(jobs, Math.max(warmUpJobs, Math.round((perMs * pieceMs) / 1_000) * 1_000));
	const from = performance.now();
	const server = cpuSeconds(rig.serverPids);
	const worker = cpuSeconds(rig.workerPids);
	const own = process.cpuUsage();
	await rig[how](count);
	const seconds = (performance.now() - from) / 1_000;
	const { user, system } = process.cpuUsage(own);
	return {
		jobs: count,
		perSecond: count / seconds,
		serverCpuUs: ((cpuSeconds(rig.serverPids) - server) * 1e6) / count,
		workerCpuUs: ((cpuSeconds(rig.workerPids) - worker) * 1e6) / count,
		generatorShare: (user + system) / 1e6 / seconds,
	};
}

/** At saturation, in a run of its own that nobody times. */
async function syncsPerJob(
	{ sizes, say }: Bench,
	contenders: readonly Contender[],
	workers: number,
): Promise<Record<string, number | string>> {
	const counted: Record<string, number | string> = {};
	for (const contender of contenders) {
		if (!hasStrace()) {
			counted[contender.name] = 'no strace';
			continue;
		}
		const rig = await contender.start(workers);
		try {
			const jobs = Math.min(syncJobs, sizes.jobs);
			await rig.bulk(Math.min(warmUpJobs, jobs));
			const syncs = await countSyncs(rig.serverPids, () => rig.bulk(jobs));
			counted[contender.name] = syncs / jobs;
			say(`syncs per job: ${contender.name} ${short(syncs / jobs)}`);
		} catch (error) {
			counted[contender.name] = `not counted: ${(error as Error).message.slice(0, 200)}`;
		} finally {
			await rig.stop();
		}
	}
	return counted;
}

type Figure = (round: Round) => number;

const figures = {
	bulk: { name: 'jobs/s, submitted in bulks', unit: 'jobs/s', of: (r: Round) => r.bulk.perSecond },
	single: {
		name: 'jobs/s, submitted one by one',
		unit: 'jobs/s',
		of: (r: Round) => r.single.perSecond,
	},
	p50: { name: 'submit to start, p50', unit: 'ms', of: (r: Round) => r.startP50Ms },
	p99: { name: 'submit to start, p99', unit: 'ms', of: (r: Round) => r.startP99Ms },
} as const;

type Asked = readonly [keyof typeof figures, string, Bar];

/** What is asked of one robot, where each job waits for its own sync, and of a fleet: figure, peer, bar. */
const askedOfOne: readonly Asked[] = [
	['bulk', 'bullmq', { atLeast: 0.8 }],
	['p50', 'bullmq', { atMost: 1.2 }],
];
const askedOfFleet: readonly Asked[] = [
	['bulk', 'bullmq', { atLeast: 1.5 }],
	['single', 'bullmq', { atLeast: 0.8 }],
	['bulk', 'pg-boss', { atLeast: 3 }],
	['single', 'pg-boss', { atLeast: 3 }],
	['bulk', 'graphile-worker', { atLeast: 10 }],
	['single', 'graphile-worker', { atLeast: 10 }],
	['p50', 'bullmq', { atMost: 0.75 }],
	['p99', 'bullmq', { atMost: 0.8 }],
];
const maxShareOfLimit = 3;
const maxSyncsPerJob = 0.05;

function verdictsOf(
	{ calibration }: Bench,
	measured: Measured,
	syncs: Record<string, number | string>,
	which: Which,
): Verdict[] {
	const [us, ...others] = [...measured.keys()] as [Contender, ...Contender[]];
	const verdicts: Verdict[] = [];
	const fleet = which.workers > 1;
	const at = `, M = ${which.workers}`;
	for (const [id, name, bar] of fleet ? askedOfFleet : askedOfOne) {
		const workload = id === 'bulk' || id === 'single' ? 'W3' : 'W1';
		const peer = others.find((contender) => contender.name === name);
		if (!peer || !which[workload === 'W1' ? 'w1' : 'w3']) continue;
		const figure = figures[id];
		verdicts.push(
			compare({
				workload,
				figure: figure.name + at,
				bar,
				unit: figure.unit,
				ours: medianOf(measured, us, figure.of),
				against: {
					name: peer.title,
					value: medianOf(measured, peer, figure.of),
					ratio: ratioTo(measured, us, peer, figure.of),
				},
			}),
		);
	}
	if (which.w1 && fleet) {
		verdicts.push(
			compare({
				workload: 'W1',
				figure: figures.p50.name + at,
				bar: { atMost: maxShareOfLimit },
				unit: 'ms',
				ours: medianOf(measured, us, figures.p50.of),
				against: {
					name: '(two hops + two syncs of this machine)',
					value: 2 * calibration.hopP50Ms + 2 * calibration.syncP50Ms,
				},
			}),
		);
	}
	const ourSyncs = syncs[us.name];
	if (typeof ourSyncs === 'number' && fleet) {
		verdicts.push(
			limit('W3', 'syncs per job at saturation', { atMost: maxSyncsPerJob }, '', ourSyncs),
		);
	}
	return verdicts;
}

function tablesOf(
	measured: Measured,
	syncs: Record<string, number | string>,
	which: Which,
): Table[] {
	const us = [...measured.keys()][0]!;
	const cell = (contender: Contender, of: Figure) => short(medianOf(measured, contender, of));
	const against = (contender: Contender, of: Figure) =>
		contender === us ? '' : said(ratioTo(measured, us, contender, of));
	const tables: Table[] = [];
	if (which.w3) {
		for (const how of ['bulk', 'single'] as const) {
			tables.push({
				title: `W3: ${figures[how].name}, M = ${which.workers}`,
				columns: [
					'Contender',
					'jobs/s',
					'ours ÷ theirs (95 %)',
					'server CPU, µs a job',
					'workers’ CPU, µs a job',
					'generator, share of a core',
					'syncs a job',
				],
				rows: [...measured.keys()].map((contender) => [
					contender.title,
					cell(contender, figures[how].of),
					against(contender, figures[how].of),
					cell(contender, (round) => round[how].serverCpuUs),
					cell(contender, (round) => round[how].workerCpuUs),
					cell(contender, (round) => round[how].generatorShare),
					how === 'single' ? '' : shown(syncs[contender.name]),
				]),
			});
		}
	}
	if (which.w1) {
		tables.push({
			title: `W1: submit to start of one job on an idle system, M = ${which.workers}`,
			columns: ['Contender', 'p50, ms', 'ours ÷ theirs (95 %)', 'p99, ms', 'ours ÷ theirs (95 %)'],
			rows: [...measured.keys()].map((contender) => [
				contender.title,
				cell(contender, figures.p50.of),
				against(contender, figures.p50.of),
				cell(contender, figures.p99.of),
				against(contender, figures.p99.of),
			]),
		});
	}
	return tables;
}

function shown(value: number | string | undefined): string {
	return typeof value === 'number' ? short(value) : (value ?? '');
}

function said({ value, low, high, equal }: Ratio): string {
	return `${short(value)} (${short(low)} … ${short(high)})${equal ? ' equal' : ''}`;
}

function medianOf(measured: Measured, contender: Contender, of: Figure): number {
	return median(measured.get(contender)!.map(of));
}

function ratioTo(measured: Measured, us: Contender, peer: Contender, of: Figure): Ratio {
	const theirs = measured.get(peer)!;
	return ratioOf(measured.get(us)!.map((round, i) => [of(round), of(theirs[i]!)]));
}

function line(round: Round, { w1, w3 }: Which): string {
	const parts = [
		...(w1 ? [`start p50 ${short(round.startP50Ms)} ms, p99 ${short(round.startP99Ms)} ms`] : []),
		...(w3
			? [
					`bulk ${short(round.bulk.perSecond)}/s`,
					`single ${short(round.single.perSecond)}/s`,
					`server ${short(round.bulk.serverCpuUs)} µs a job`,
				]
			: []),
	];
	return parts.join(' · ');
}
