/**
 * `npm run bench`: ours and the peers on the same work in one run, and ours against the floors of this
 * machine. Nothing fails here because of a figure: a benchmark prints.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { bullmq } from './contenders/bullmq';
import { graphileWorker, graphileWorkerBatched } from './contenders/graphile-worker';
import type { Contender } from './contenders/contender';
import { pgBoss } from './contenders/pg-boss';
import { robotFleet } from './contenders/robot-fleet';
import { type Calibration, calibrate, drift } from './machine/calibration';
import { diskFolder } from './machine/folder';
import { root } from './machine/installed';
import { hasStrace } from './machine/syncs';
import { undoAll, undoOnSignals } from './machine/undo';
import { help, type Options, optionsOf } from './options';
import { markdownOf, type Report } from './report/report';
import { seededChance } from './report/statistics';
import { short } from './report/verdicts';
import { postgresVersion } from './servers/postgres';
import { redisVersion } from './servers/redis';
import { backlog } from './workloads/backlog';
import { idleFleet } from './workloads/idle-fleet';
import { insideN8n } from './workloads/inside-n8n';
import { matching } from './workloads/matching';
import { peers } from './workloads/peers';
import { realAgent } from './workloads/real-agent';
import { reconnectStorm } from './workloads/reconnect-storm';
import type { Bench, Outcome } from './workloads/workload';

const maxLoad = 0.3;
const maxDrift = 0.1;
/** Below this a disk only says that it has synced. */
const minHonestSyncMs = 0.02;
const comparesAlone = (contender: Contender) => contender === robotFleet || contender === bullmq;
const allContenders = [robotFleet, bullmq, pgBoss, graphileWorker, graphileWorkerBatched];

undoOnSignals();
try {
	const options = optionsOf(process.argv.slice(2), process.env);
	if (options === 'help') console.log(help);
	else await run(options);
} catch (error) {
	console.error((error as Error).stack);
	process.exitCode = 1;
} finally {
	await undoAll();
}

async function run(options: Options): Promise<void> {
	const { only, sizes } = options;
	const contenders = contendersOf(options);
	if (options.installPeers) installPeers();
	const needsPeers = only.has('w1') || only.has('w3');
	if (needsPeers && (redisVersion() === '' || postgresVersion() === '')) {
		throw new Error('the peers need Redis and PostgreSQL: npm run bench -- --install-peers');
	}
	const began = performance.now();
	const load = loadavg()[0]!;
	const say = (text: string) => console.log(`${clock(performance.now() - began)}  ${text}`);
	const before = await calibrate();
	say(
		`W0: sync ${short(before.syncP50Ms)} ms (p99 ${short(before.syncP99Ms)}), hop ${short(before.hopP50Ms)} ms, JSON ${short(before.jsonUs)} µs; load ${short(load)}`,
	);
	const bench: Bench = { sizes, calibration: before, chance: seededChance(Date.now()), say };
	const outcomes: Outcome[] = [];
	const measured: Record<string, unknown> = {};
	const failures: string[] = [];
	const measure = async (name: string, work: () => Promise<Outcome>) => {
		say(name);
		try {
			const outcome = await work();
			outcomes.push(outcome);
			measured[name] = outcome.measured;
		} catch (error) {
			// What was measured before it took half an hour: it is written down, and so is this.
			console.error((error as Error).stack);
			failures.push(`${name} failed: ${(error as Error).message}`);
		}
	};
	if (needsPeers) {
		const which = { w1: only.has('w1'), w3: only.has('w3') };
		for (const workers of sizes.workers) {
			// The others wait for a poll or for a connection: one of them alone says nothing about us.
			const those = workers > 1 ? contenders : contenders.filter(comparesAlone);
			await measure(`W1, W3 at M = ${workers}`, () => peers(bench, those, { ...which, workers }));
		}
	}
	if (only.has('w4')) await measure('W4', () => idleFleet(bench));
	if (only.has('w5')) await measure('W5', () => reconnectStorm(bench));
	if (only.has('w6')) await measure('W6', () => backlog(bench));
	if (only.has('w8')) await measure('W8', () => realAgent(bench));
	if (only.has('w9')) await measure('W9', () => matching(bench));
	if (only.has('w10')) await measure('W10', () => insideN8n(bench));
	const after = await calibrate();

	const settings = settingsOf(options);
	const report: Report = {
		at: new Date().toISOString(),
		...validity(options, load, before, after, failures),
		tookMs: performance.now() - began,
		settings,
		settingsHash: createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 12),
		machine: machineOf(load),
		calibration: { before, after },
		verdicts: outcomes.flatMap((outcome) => outcome.verdicts),
		tables: outcomes.flatMap((outcome) => outcome.tables),
		measured,
	};
	const folder = join(root, options.whole ? 'docs/bench' : '.robot-fleet/bench');
	mkdirSync(folder, { recursive: true });
	writeFileSync(join(folder, 'latest.json'), `${JSON.stringify(report, null, '\t')}\n`);
	writeFileSync(join(folder, 'latest.md'), markdownOf(report));
	console.log(`\n${markdownOf(report)}\nwritten to ${folder}/latest.json and latest.md`);
}

/** Whether anything may be concluded from the run. */
function validity(
	options: Options,
	load: number,
	before: Calibration,
	after: Calibration,
	failures: readonly string[],
) {
	const loadAfter = loadavg()[0]!;
	const moved = drift(before, after);
	const warnings = [
		...failures,
		...(options.whole ? [] : ['It is not the whole bench in full size.']),
		...(load > maxLoad
			? [`The machine was busy before it: load ${short(load)}, at most ${maxLoad} is asked.`]
			: []),
		...(moved > maxDrift
			? [
					`The machine changed under it: W0 differs by ${short(moved * 100)} % (load after it ${short(loadAfter)}).`,
				]
			: []),
		...(before.syncP50Ms < minHonestSyncMs
			? [`This disk says it has synced after ${short(before.syncP50Ms * 1e3)} µs; it cannot have.`]
			: []),
	];
	for (const warning of warnings) console.warn(`WARNING: ${warning}`);
	return { valid: warnings.length === 0, warnings };
}

/** Ours, and the peers that are wanted. */
function contendersOf({ peers: wanted }: Options): typeof allContenders {
	return allContenders.filter(
		({ name }) =>
			name === robotFleet.name ||
			wanted.length === 0 ||
			wanted.some((peer) => name.startsWith(peer)),
	);
}

function settingsOf(options: Options): Record<string, unknown> {
	const { only, sizes } = options;
	const peersOfRun = only.has('w1') || only.has('w3') ? contendersOf(options) : [robotFleet];
	return {
		workloads: [...only].join(', '),
		...sizes,
		...Object.fromEntries(
			peersOfRun.map(({ title, version, settings }) => [title, `${version}; ${settings}`]),
		),
	};
}

function machineOf(load: number): Record<string, string | number> {
	const text = (command: string, ...args: string[]) =>
		spawnSync(command, args, { encoding: 'utf8' }).stdout?.trim() ?? '';
	return {
		cpu: cpus()[0]!.model,
		cores: cpus().length,
		'memory, GiB': Math.round(totalmem() / 1024 ** 3),
		kernel: release(),
		node: process.version,
		disk: text('findmnt', '-no', 'FSTYPE,OPTIONS', '--target', diskFolder).replace(/\s+/g, ' '),
		governor: governor(),
		'open files': text('bash', '-c', 'ulimit -n'),
		'load before': short(load),
		strace: hasStrace() ? 'yes' : 'no',
		commit: text('git', '-C', root, 'describe', '--always', '--dirty'),
	};
}

function governor(): string {
	try {
		return readFileSync('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor', 'utf8').trim();
	} catch {
		return 'unknown';
	}
}

function installPeers(): void {
	const missing = [
		...(redisVersion() === '' ? ['redis-server'] : []),
		...(postgresVersion() === '' ? ['postgresql'] : []),
		...(hasStrace() ? [] : ['strace']),
	];
	if (missing.length === 0) return;
	for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...missing]]) {
		spawnSync('apt-get', args, {
			stdio: 'inherit',
			env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
		});
	}
}

function clock(ms: number): string {
	const seconds = Math.floor(ms / 1_000);
	return `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`;
}
