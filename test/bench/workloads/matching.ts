/**
 * W9: jobs that ask for many different sorts of robots, some for a lock too, beside as many that all ask for one sort and no lock. The
 * fleet, the load and the jobs for robots that are away are the same; what is left is the price of choosing. And whether
 * anybody starves by it.
 */
import type { FleetClient } from '../../../client';
import type { Submit } from '../../../protocol';
import { bulkSize, inParallel } from '../contenders/contender';
import { noop } from '../contenders/robot-fleet';
import { newFolder } from '../machine/folder';
import { Host } from '../machine/host';
import { cpuSeconds } from '../machine/processes';
import { median, percentile, ratioOf, seededChance } from '../report/statistics';
import { compare, limit, short, type Verdict } from '../report/verdicts';
import { type RunningService, startService } from '../servers/service';
import {
	everybody,
	fleetOf,
	type Given,
	type Labels,
	type Passing,
	passingOf,
	type Selector,
	selectorsOf,
	type SentJob,
	zipf,
} from './selectors';
import type { Bench, Outcome } from './workload';

const maxTimesOneSelector = 3;
const maxPassedSeconds = 1;
const loaders = 3;
/** Of the jobs, those for a robot that is away; and of the fleet, robots that are. */
const pinnedShare = 0.05;
const awayShare = 0.05;
/** Of the jobs of many selectors, those that take one of the locks. */
const lockedShare = 0.1;
const locks = 50;

interface Plan {
	fleet: Labels[];
	selectors: Selector[];
	jobs: Wanted[];
}

interface Wanted {
	/** Its number; −1 = the job is for a robot that is away. */
	selector: number;
	lock?: string;
}

interface Run extends Passing {
	cpuUs: number;
	perSecond: number;
	/** From the answer to the submit to the start. */
	waitP50Ms: number;
	waitP99Ms: number;
}

export async function matching({ sizes, chance, say }: Bench): Promise<Outcome> {
	// The same fleet and the same jobs in every run.
	const draw = seededChance(9);
	const fleet = fleetOf(sizes.matched, draw);
	const many = selectorsOf(fleet, sizes.selectors, draw);
	const next = zipf(many.length, draw);
	const jobs = Array.from({ length: sizes.jobs }, (): Wanted => {
		if (draw() < pinnedShare) return { selector: -1 };
		const lock = draw() < lockedShare ? { lock: `lock-${Math.floor(draw() * locks)}` } : {};
		return { selector: next(), ...lock };
	});
	const plain = jobs.map(({ selector }) => ({ selector: Math.min(selector, 0) }));
	const one = [{ labels: everybody, fits: fleet.map((_, number) => number) }];
	const rounds: { one: Run; many: Run }[] = [];
	for (let i = 0; i < Math.min(3, sizes.rounds); i += 1) {
		const ofOne = () => run({ fleet, selectors: one, jobs: plain });
		const ofMany = () => run({ fleet, selectors: many, jobs });
		// Whoever comes second meets another machine: they take turns.
		const round =
			i % 2 === 0
				? { one: await ofOne(), many: await ofMany() }
				: await (async () => {
						const first = await ofMany();
						return { one: await ofOne(), many: first };
					})();
		rounds.push(round);
		say(`one selector: ${line(round.one)}; ${many.length}: ${line(round.many)}`);
	}
	const sizesOf = many.map(({ fits }) => fits.length);
	return {
		verdicts: verdictsOf(rounds, many.length, chance),
		measured: { rounds, fitsP50: median(sizesOf), fitsMax: Math.max(...sizesOf) },
		tables: [
			{
				title: `W9: ${sizes.matched} robots, ${short(sizes.jobs)} jobs (${pinnedShare * 100} % for robots that are away); ${lockedShare * 100} % of those of many selectors take one of ${locks} locks; a selector fits ${Math.min(...sizesOf)} to ${Math.max(...sizesOf)} robots, half of them ${median(sizesOf)} or fewer`,
				columns: [
					'selectors',
					'service CPU, µs a job',
					'jobs/s',
					'wait p50 / p99, ms',
					'passed by younger ones',
					'longest so, ms',
				],
				rows: rounds.flatMap(({ one: few, many: all }) => [row(1, few), row(many.length, all)]),
			},
		],
	};
}

/** On a service of its own. */
async function run({ fleet, selectors, jobs }: Plan): Promise<Run> {
	const { folder, remove } = newFolder('matching');
	const service = await startService({ folder });
	const away = await absent(service, Math.ceil(fleet.length * awayShare));
	const host = await Host.start('robots');
	const { token } = await service.client.createToken({ uses: fleet.length, ttlMs: 3_600_000 });
	await host.call('growLabelled', service.url, token, fleet);
	await host.call('note');
	const wanted = jobs.filter(({ selector }) => selector >= 0).length;
	const recorded = await host.recorded(wanted);
	const cpuBefore = cpuSeconds([service.pid]);
	const from = performance.now();
	const sent = await load(service.client, jobs, ({ selector, lock }, i) =>
		jobOf(selector < 0 ? { robot: away[i % away.length]! } : selectors[selector]!, lock),
	);
	await recorded();
	const ms = performance.now() - from;
	const cpuUs = ((cpuSeconds([service.pid]) - cpuBefore) * 1e6) / jobs.length;
	const given = await host.call<Given[]>('noted');
	await host.stop();
	await service.stop();
	await remove();
	const inLineAt = new Map(sent.map((job) => [job.jobId, job.inLineAt]));
	const waits = given.map(({ jobId, at }) => Math.max(0, at - (inLineAt.get(jobId) ?? at)));
	return {
		...passingOf(selectors, sent, given),
		cpuUs,
		perSecond: (wanted / ms) * 1_000,
		waitP50Ms: percentile(waits, 0.5),
		waitP99Ms: percentile(waits, 0.99),
	};
}

function jobOf({ labels, robot }: { labels?: Labels; robot?: string }, lock?: string): Submit {
	return {
		...noop(),
		target: robot === undefined ? { labels } : { robot },
		...(lock === undefined ? {} : { locks: [{ name: lock }] }),
	};
}

/** Ids of robots that are enrolled and never come. */
async function absent({ client, url }: RunningService, count: number): Promise<string[]> {
	const host = await Host.start('robots');
	const { token } = await client.createToken({ uses: count });
	await host.call('enrol', url, token, count);
	await host.stop();
	return (await client.robots()).map(({ robotId }) => robotId);
}

/** Answers those that nothing but a free robot keeps from starting: not those of a robot that is away, nor those of a lock. */
async function load(
	client: FleetClient,
	jobs: readonly Wanted[],
	make: (job: Wanted, i: number) => Submit,
): Promise<SentJob[]> {
	const sent: SentJob[] = [];
	let next = 0;
	await inParallel(
		Math.ceil(jobs.length / bulkSize),
		async () => {
			const first = next;
			const those = jobs.slice(first, (next += bulkSize));
			const answers = await client.submitMany(those.map((one, i) => make(one, first + i)));
			const inLineAt = sharedMs();
			for (const [i, answer] of answers.entries()) {
				if ('error' in answer) throw new Error(`a job was refused: ${JSON.stringify(answer)}`);
				const { selector, lock } = those[i]!;
				if (selector >= 0 && lock === undefined)
					sent.push({ jobId: answer.jobId, selector, inLineAt });
			}
		},
		loaders,
	);
	return sent;
}

/** Of the clock that all processes of this machine share. */
const sharedMs = () => Number(process.hrtime.bigint()) / 1e6;

function verdictsOf(
	rounds: { one: Run; many: Run }[],
	selectors: number,
	chance: () => number,
): Verdict[] {
	const cpu = rounds.map(({ one, many }) => [many.cpuUs, one.cpuUs] as const);
	return [
		compare({
			workload: 'W9',
			figure: `service CPU a job, ${short(selectors)} selectors and ${locks} locks`,
			bar: { atMost: maxTimesOneSelector },
			unit: 'µs',
			ours: median(cpu.map(([many]) => many)),
			against: {
				name: 'one selector, no locks',
				value: median(cpu.map(([, one]) => one)),
				ratio: ratioOf(cpu, chance),
			},
		}),
		limit(
			'W9',
			'longest wait of an oldest eligible job, from when a robot that fits got a younger one',
			{ atMost: maxPassedSeconds },
			's',
			Math.max(...rounds.map(({ many }) => many.longestMs)) / 1_000,
		),
	];
}

function line({ cpuUs, perSecond, waitP99Ms, longestMs }: Run): string {
	return `${short(cpuUs)} µs a job, ${short(perSecond)} jobs/s, wait p99 ${short(waitP99Ms)} ms, passed for ${short(longestMs)} ms at most`;
}

function row(selectors: number, run: Run): (string | number)[] {
	return [
		short(selectors),
		short(run.cpuUs),
		short(run.perSecond),
		`${short(run.waitP50Ms)} / ${short(run.waitP99Ms)}`,
		run.passed,
		short(run.longestMs),
	];
}
