/**
 * `robot-fleet simulate`: robots that only pretend to work, for demos and soak tests. They come in by the robots' own
 * door; the label `simulated=true` keeps jobs away from them that do not ask for such robots.
 */
import { type Command, Option } from 'commander';
import { FleetClient } from '../../../client';
import type { ProgramWorld } from '../program';
import { addressOf, durationOf, json, listOf, plural, UsageMistake, wholeOf } from '../terminal';
import { httpSend } from '../transport';
import { countsOf, durationsOf, meanGapOf, type Range, shareOf, valuesOf } from './amounts';
import { count, showProgress, Speed, timeText } from './board';
import { usualLabels } from './cast';
import { leftBehind, removeRobots, SimulatedFleet } from './fleet';
import { addLoad } from './load';
import { drawnSeed, endOf, stageOf } from './stage';

interface Flags {
	robots: number;
	seed?: number;
	latency?: Range;
	duration: Range;
	failures: number;
	disconnects?: number;
	away: Range;
	slots: Range;
	label?: Record<string, string[]>;
	capability?: string[];
	name: string;
	takeAny?: boolean;
	keep?: boolean;
	for?: number;
	json?: boolean;
	data?: string;
}

const maxRobots = 10_000;

export function addSimulate(program: Command, world: ProgramWorld): void {
	const simulate = program
		.command('simulate')
		.summary('join robots that only play work, for demos and soak tests')
		.description(
			'Joins simulated robots to a running service: real keys, real connections, the real protocol; for a job they do nothing, for a while. They carry the label simulated=true and are given only jobs that ask for it (or for one of them by name). Ctrl+C ends them and removes them again.',
		)
		.option('--robots <count>', 'how many', wholeOf, 10)
		.option('--seed <number>', 'the same seed plays the same robots (default: drawn)', wholeOf)
		.option('--latency <range>', 'how long a message takes, each way: 20ms..200ms', durationsOf)
		.addOption(
			new Option('--duration <range>', 'how long a job takes: 1s..30s')
				.argParser(durationsOf)
				.default(durationsOf('1s..10s'), '1s..10s'),
		)
		.addOption(
			new Option('--failures <share>', 'share of jobs that fail: 5%')
				.argParser(shareOf)
				.default(0, 'none'),
		)
		.option('--disconnects <rate>', 'how often a robot loses its line: 1/10m', meanGapOf)
		.addOption(
			new Option('--away <range>', 'for how long each time')
				.argParser(durationsOf)
				.default(durationsOf('1s..30s'), '1s..30s'),
		)
		.addOption(
			new Option('--slots <range>', 'jobs of a robot at once: 1..4')
				.argParser(countsOf)
				.default(countsOf('1'), '1'),
		)
		.option(
			'--label <name=values>',
			'each gets one of the values: site=berlin,oslo (repeatable; default site, os and size)',
			valuesOf,
		)
		.option('--capability <name>', 'each offers it (repeatable)', listOf)
		.option('--name <text>', 'what their names begin with', 'sim')
		.option('--take-any', 'also take jobs that do not ask for simulated robots: they are not run!')
		.option('--keep', 'leave them registered, offline, instead of removing them')
		.option('--for <duration>', 'end by itself after: 10m, 24h', durationOf)
		.option('--json', 'print the summary as JSON')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText(
			'after',
			'\nExample:\n  $ robot-fleet simulate --robots 50 --seed 7\n  $ robot-fleet simulate --robots 200 --latency 20ms..200ms --duration 1s..30s --failures 5% --disconnects 1/10m\n  $ robot-fleet submit --label simulated=true --wait -- anything\n  $ robot-fleet simulate load --rate 5/s --for 10m',
		)
		.action((flags: Flags) => play(world, flags));
	addLoad(simulate, world);
	simulate
		.command('clear')
		.summary('remove simulated robots that a run left behind')
		.description(
			'Removes simulated robots that are not connected: those of a run that was killed, or of one with --keep.',
		)
		.option('--connected', 'those that are connected, too')
		.option('--json', 'print JSON')
		.option('--data <folder>', 'data folder of the service, to find its address and key')
		.addHelpText('after', '\nExample:\n  $ robot-fleet simulate clear')
		.action(async (flags: { connected?: boolean; json?: boolean; data?: string }) => {
			const client = new FleetClient(httpSend(addressOf(world, flags.data)));
			const found = leftBehind(await client.robots(), flags.connected === true);
			const left = await removeRobots(
				client,
				found.map(({ robotId }) => robotId),
			);
			const removed = found.length - left;
			world.out(flags.json ? json({ removed, left }) : `${plural(removed, 'robot')} removed\n`);
		});
}

async function play(world: ProgramWorld, flags: Flags): Promise<void> {
	const { robots, keep = false } = flags;
	if (robots < 1 || robots > maxRobots) {
		throw new UsageMistake(`--robots is ${robots}, it must be 1 to ${maxRobots}.`);
	}
	const stage = stageOf(world);
	const seed = flags.seed ?? drawnSeed(stage);
	const address = addressOf(world, flags.data);
	const client = new FleetClient(httpSend(address));
	const fleet = new SimulatedFleet({
		casting: {
			seed,
			robots,
			name: flags.name,
			slots: flags.slots,
			labels: flags.label ?? usualLabels,
			capabilities: flags.capability ?? [],
			takeAny: flags.takeAny === true,
		},
		play: { durations: flags.duration, failures: flags.failures },
		wire: { latency: flags.latency, cutEveryMs: flags.disconnects, away: flags.away },
		client,
		address,
		version: world.version,
		stage,
		now: () => world.now(),
	});
	const { tally } = fleet;
	const tell = flags.json ? world.err : world.out;
	const over = endOf(stage, flags.for);
	const from = stage.monotonic();
	let left: number;
	try {
		await fleet.join(over.signal);
		if (!over.signal.aborted) {
			const [first, last] = [fleet.robots[0]!.name, fleet.robots.at(-1)!.name];
			const names = first === last ? first : `${first} … ${last}`;
			tell(
				`${plural(robots, 'simulated robot')} joined (${names}), seed ${seed}; Ctrl+C ends this.\n`,
			);
		}
		const refused = () => over.abort();
		fleet.refused.addEventListener('abort', refused);
		if (fleet.refused.aborted) refused();
		const speed = new Speed();
		const line = (sinceMs: number) =>
			[
				`${tally.connected}/${robots} connected`,
				speed.perSecond(tally.total, sinceMs),
				`${count(tally.running)} running`,
				`${count(tally.ended.completed)} completed`,
				`${count(tally.ended.failed + tally.ended.timeout)} failed`,
				...(tally.cuts > 0 ? [plural(tally.cuts, 'cut')] : []),
			].join('   ');
		await showProgress(world, stage, line, over.signal);
	} finally {
		over.abort();
		left = await fleet.leave(keep);
	}
	fleet.refused.throwIfAborted();
	const tookMs = Math.round(stage.monotonic() - from);
	const summary = {
		seed,
		robots,
		tookMs,
		jobs: tally.total,
		...tally.ended,
		refused: tally.refused,
		jobsPerSecond: Number(((tally.total * 1_000) / Math.max(1, tookMs)).toFixed(2)),
		cuts: tally.cuts,
		linesLost: tally.losses,
		removed: keep ? 0 : robots - left,
		left: keep ? robots : left,
	};
	world.out(flags.json ? json(summary) : summaryText(summary, keep));
	if (left > 0) {
		world.err(
			`${plural(left, 'simulated robot')} could not be removed; when the service is there again: robot-fleet simulate clear\n`,
		);
	}
}

interface Summary extends Record<string, number> {
	jobs: number;
	tookMs: number;
	completed: number;
	failed: number;
	timeout: number;
	cancelled: number;
	refused: number;
	jobsPerSecond: number;
	cuts: number;
	linesLost: number;
	removed: number;
	left: number;
}

function summaryText(summary: Summary, keep: boolean): string {
	const { jobs, tookMs, completed, failed, timeout, cancelled, refused } = summary;
	const { jobsPerSecond, cuts, linesLost, removed, left } = summary;
	return [
		`${count(jobs)} jobs in ${timeText(tookMs)} (${jobsPerSecond}/s): ${count(completed)} completed, ${count(failed)} failed, ${count(timeout)} timed out, ${count(cancelled)} cancelled, ${count(refused)} refused\n`,
		`${plural(cuts, 'line')} cut on purpose, ${plural(linesLost, 'line')} lost; `,
		keep
			? `${plural(left, 'robot')} kept; remove them with: robot-fleet simulate clear\n`
			: `${plural(removed, 'robot')} removed\n`,
	].join('');
}
