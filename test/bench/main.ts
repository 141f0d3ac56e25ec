/**
 * `npm run bench`: ours and BullMQ on the same work, in turn, in one run. Figures of different runs
 * must not be compared; the ratios may. Nothing fails here: a benchmark prints.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { measureBullmq } from './bullmq';
import { type Figures, median, type Size } from './figures';
import { measureOurs } from './ours';

const root = process.env['BENCH_ROOT']!;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3);
const jobs = Number(process.env['BENCH_JOBS'] ?? 20_000);
const sizes: Size[] = [
	{ robots: 1, jobs: Math.round(jobs / 4) },
	{ robots: 100, jobs },
];
const contenders = { ours: measureOurs, bullmq: measureBullmq };
type Contender = keyof typeof contenders;

if (process.argv.includes('--install-peers')) {
	spawnSync('apt-get', ['update'], { stdio: 'inherit' });
	spawnSync('apt-get', ['install', '-y', 'redis-server'], { stdio: 'inherit' });
}
const redis = spawnSync('redis-server', ['--version'], { encoding: 'utf8' });
if (redis.status !== 0) {
	console.error('BullMQ needs Redis; run: npm run bench -- --install-peers');
	process.exit(2);
}

const results: { robots: number; jobs: number; rounds: Record<Contender, Figures>[] }[] = [];
for (const size of sizes) {
	const measured: Record<Contender, Figures>[] = [];
	for (let round = 0; round < rounds; round += 1) {
		// In turn, and not always in the same order: the machine's speed drifts.
		const order = (round % 2 ? ['bullmq', 'ours'] : ['ours', 'bullmq']) as Contender[];
		const figures = {} as Record<Contender, Figures>;
		for (const name of order) {
			figures[name] = await contenders[name](root, size);
			console.log(`M=${size.robots} round ${round + 1} ${name.padEnd(7)} ${line(figures[name])}`);
		}
		measured.push(figures);
	}
	results.push({ ...size, rounds: measured });
}

const metrics = ['bulkPerSecond', 'singlePerSecond', 'startP50Ms', 'startP99Ms'] as const;
const table = results.flatMap(({ robots, rounds: measured }) =>
	metrics.map((metric) => ({
		robots,
		metric,
		ours: median(measured.map(({ ours }) => ours[metric])),
		bullmq: median(measured.map(({ bullmq }) => bullmq[metric])),
		ratio: median(measured.map(({ ours, bullmq }) => ours[metric] / bullmq[metric])),
	})),
);
const report = {
	at: new Date().toISOString(),
	machine: {
		cpu: cpus()[0]!.model,
		cores: cpus().length,
		load: loadavg()[0],
		node: process.version,
	},
	peers: { redis: redis.stdout.trim(), bullmq: '5.81.5, appendfsync always' },
	durability: 'D2: synced before it is acknowledged, both',
	table,
	results,
};
mkdirSync(join(root, 'docs/bench'), { recursive: true });
writeFileSync(join(root, 'docs/bench/latest.json'), `${JSON.stringify(report, null, '\t')}\n`);
console.log(`\n${markdown()}\nwritten to docs/bench/latest.json`);

function line(figures: Figures): string {
	return `bulk ${Math.round(figures.bulkPerSecond)}/s · single ${Math.round(figures.singlePerSecond)}/s · start p50 ${figures.startP50Ms.toFixed(2)} ms, p99 ${figures.startP99Ms.toFixed(2)} ms${figures.serviceCpuPerJobUs ? ` · service ${Math.round(figures.serviceCpuPerJobUs)} µs of CPU a job` : ''}`;
}

function markdown(): string {
	return [
		'| Robots | Figure | Robot Fleet | BullMQ | Ratio |',
		'|---|---|---|---|---|',
		...table.map(
			({ robots, metric, ours, bullmq, ratio }) =>
				`| ${robots} | ${metric} | ${ours.toFixed(2)} | ${bullmq.toFixed(2)} | ${ratio.toFixed(2)} |`,
		),
	].join('\n');
}
