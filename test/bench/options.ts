/** What was asked on the command line and in the environment. */
import { parseArgs } from 'node:util';
import type { Sizes } from './workloads/workload';

export const workloadNames = ['w1', 'w3', 'w4', 'w5', 'w6', 'w8', 'w9', 'w10'] as const;
export type WorkloadName = (typeof workloadNames)[number];

export interface Options {
	only: ReadonlySet<WorkloadName>;
	sizes: Sizes;
	installPeers: boolean;
	/** Beginnings of the names of peers; none = all. */
	peers: readonly string[];
	/** Everything, in full size: the run that may become docs/bench/latest.json. */
	whole: boolean;
}

export const help = `npm run bench [-- OPTIONS]

  --only w1,w3        only these: w1 submit to start, w3 throughput (both against the peers), w4 idle robots,
                      w5 reconnect storm, w6 backlog, w8 the real agent, w9 matching,
                      w10 inside n8n
  --quick             small sizes: shows that everything works, measures nothing
  --install-peers     first installs redis-server, postgresql and strace with apt where they are missing
  --help

  BENCH_ROUNDS=3      rounds of w1 and w3
  BENCH_JOBS=100000   most jobs of one timed piece of w3, and those of w9
  BENCH_ROBOTS=1,100  robots (workers) of w1 and w3, one after the other
  BENCH_PEERS=bullmq  only these peers beside ours: bullmq, pg-boss, graphile-worker
  BENCH_FOLDER=DIR    where all stores lie; a real disk`;

export function optionsOf(argv: readonly string[], env: NodeJS.ProcessEnv): Options | 'help' {
	const { values } = parseArgs({
		args: [...argv],
		options: {
			only: { type: 'string' },
			quick: { type: 'boolean', default: false },
			'install-peers': { type: 'boolean', default: false },
			help: { type: 'boolean', default: false },
		},
	});
	if (values.help) return 'help';
	const only = (values.only?.split(',') ?? [...workloadNames]).map(workloadNamed);
	const sizes = values.quick ? quickSizes : fullSizes;
	const given = {
		...(env['BENCH_ROUNDS'] ? { rounds: countIn('BENCH_ROUNDS', env) } : {}),
		...(env['BENCH_ROBOTS'] ? { workers: countsIn('BENCH_ROBOTS', env) } : {}),
		...(env['BENCH_JOBS'] ? { jobs: countIn('BENCH_JOBS', env) } : {}),
	};
	return {
		only: new Set(only),
		sizes: { ...sizes, ...given },
		installPeers: values['install-peers'],
		peers: env['BENCH_PEERS']?.toLowerCase().split(',') ?? [],
		whole:
			!values.quick &&
			values.only === undefined &&
			Object.keys(given).length === 0 &&
			!env['BENCH_PEERS'],
	};
}

const fullSizes: Sizes = {
	rounds: 3,
	workers: [1, 100],
	jobs: 100_000,
	pieceMs: 15_000,
	probes: 3_000,
	fleets: [1_000, 10_000],
	settleMs: 60_000,
	storm: 5_000,
	holding: 500,
	backlogs: [1_000, 100_000, 1_000_000],
	matched: 1_000,
	selectors: 10_000,
	commands: 1_000,
	lagRounds: 5,
	lagMs: 20_000,
	nodeRuns: 200,
};

const quickSizes: Sizes = {
	rounds: 1,
	workers: [20],
	jobs: 2_000,
	pieceMs: 1_000,
	probes: 100,
	fleets: [100, 300],
	settleMs: 4_000,
	storm: 300,
	holding: 30,
	backlogs: [1_000, 20_000],
	matched: 100,
	selectors: 500,
	commands: 100,
	lagRounds: 1,
	lagMs: 3_000,
	nodeRuns: 20,
};

function workloadNamed(text: string): WorkloadName {
	const name = workloadNames.find((known) => known === text.trim().toLowerCase());
	if (!name) throw new Error(`--only knows ${workloadNames.join(', ')}, not "${text}"`);
	return name;
}

function countsIn(name: string, env: NodeJS.ProcessEnv): number[] {
	return env[name]!.split(',').map((text) => countIn(name, { [name]: text }));
}

function countIn(name: string, env: NodeJS.ProcessEnv): number {
	const count = Number(env[name]);
	if (!Number.isInteger(count) || count < 1) throw new Error(`${name} must be a whole number`);
	return count;
}
