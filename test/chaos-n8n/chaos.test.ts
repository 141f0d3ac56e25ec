/**
 * The wait that cannot be lost, under SIGKILL. `npm run chaos:n8n -- --kills 300 --seed 7` runs all of it.
 * Two houses stand side by side: one with the service beside n8n, one with the service in it.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packedTarball, preparedRuntime } from '../support/n8n-runtime';
import { builtPrograms } from '../support/programs';
import { type Figures, House, type HouseOptions } from './house';
import { type History, type Violation, violations } from './laws';

const kills = Number(process.env.CHAOS_N8N_KILLS ?? 30);
const seed = Number(process.env.SEED ?? 1);
/** Last jobs, the longest pause between two pokes, and a machine that is busy with other things. */
const quietMs = Number(process.env.CHAOS_N8N_QUIET_MS ?? 600_000);
/** Only against standing still: a start of n8n under load, and its life between two kills. */
jest.setTimeout(600_000 + quietMs + kills * 60_000);

/** A third of the kills meet n8n, half of them with the service inside it. */
function split(all: number): Record<HouseOptions['kind'], HouseOptions['kills']> {
	const n8n = Math.ceil(all / 3);
	const service = Math.round(all * 0.36);
	const agents = all - n8n - service;
	return {
		standalone: { n8n: Math.floor(n8n / 2), service, agent: Math.ceil(agents / 2) },
		embedded: { n8n: Math.ceil(n8n / 2), service: 0, agent: Math.floor(agents / 2) },
	};
}

test('through kills of n8n, the service and the robots every parked execution goes on exactly once', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'robot-fleet-chaos-n8n-'));
	const runtime = preparedRuntime();
	mkdirSync(join(folder, 'package'));
	const tarball = packedTarball(join(folder, 'package'));
	const bundles = builtPrograms(folder);
	const plan = split(kills);
	const houses = await Promise.all(
		(['standalone', 'embedded'] as const).map((kind, at) =>
			House.prepare({
				kind,
				folder: join(folder, kind),
				seed: seed + at * 1_000_000,
				kills: plan[kind],
				runtime,
				tarball,
				bundles,
				quietMs,
			}),
		),
	);
	let good = false;
	try {
		// When one fails the other is ended, too: its processes must not outlive the test.
		await Promise.all(houses.map((house) => house.run()));
		const results = [];
		for (const house of houses) {
			const history = await house.gather();
			const figures = house.figures(history);
			results.push({ house, history, figures, found: violations(history) });
		}
		for (const { house, history, figures, found } of results) {
			process.stdout.write(table(house.kind, figures, history, found));
		}
		const found = results.flatMap((result) => result.found);
		process.stdout.write(
			summary(
				results.map(({ figures, history }) => ({ figures, history })),
				found,
			),
		);
		expect(found).toEqual([]);
		for (const { figures, history } of results) {
			// Harm that hits nothing proves nothing.
			expect(figures.kills.n8n).toBeGreaterThan(0);
			expect(
				history.executions.filter(({ status }) => status === 'success').length,
			).toBeGreaterThan(0);
			expect(figures.parkedWhenKilled).toBeGreaterThan(0);
		}
		good = true;
	} finally {
		await Promise.all(houses.map((house) => house.close()));
		if (good) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
		else process.stderr.write(`seed ${seed}: everything is kept in ${folder}\n`);
	}
});

const list = (counts: Record<string, number>) =>
	Object.entries(counts)
		.map(([name, times]) => `${name} ${times}`)
		.join(', ') || 'none';

/** Executions that were parked, and what became of them. */
function fates({ executions, parked }: History) {
	const were = executions.filter(({ id }) => parked.has(id));
	const resumed = were.filter(({ status }) => status === 'success').length;
	return { parked: were.length, resumed, crashed: were.length - resumed };
}

function table(kind: string, figures: Figures, history: History, found: Violation[]): string {
	const { kills, outcomes, waits, refusals, ...rest } = figures;
	const fate = fates(history);
	const rows: [string, string | number][] = [
		['kills', list(kills)],
		['of these while starting', rest.killsWhileStarting],
		['webhooks answered', rest.answered],
		['calls refused or unanswered', rest.unanswered],
		['executions', list(outcomes)],
		['parked', fate.parked],
		['parked while something was killed', rest.parkedWhenKilled],
		['parked, went on and succeeded', fate.resumed],
		['parked, went on, then killed with n8n', fate.crashed],
		['not parked: service away', rest.refused],
		['refusals', list(refusals)],
		['behind waits counted', rest.tallies],
		['jobs', rest.jobs],
		['waits', list(waits)],
		['violations', found.length],
		['seconds', rest.seconds],
		['from the last kill to quiet', rest.quietAfterSeconds],
	];
	const lines = rows.map(([name, value]) => `  ${name.padEnd(40)}${value}`);
	return `\n${kind}\n${lines.join('\n')}\n`;
}

function summary(results: { figures: Figures; history: History }[], found: Violation[]): string {
	const sum = (of: (figures: Figures, history: History) => number) =>
		results.reduce((total, { figures, history }) => total + of(figures, history), 0);
	const broken = (law: Violation['law']) =>
		found.filter((violation) => violation.law === law).length;
	const victims = (['n8n', 'service', 'agent'] as const).map((victim) =>
		sum((f) => f.kills[victim]),
	);
	const facts: Record<string, string | number> = {
		kills: `${victims.reduce((a, b) => a + b)} (n8n ${victims[0]}, service ${victims[1]}, robots ${victims[2]})`,
		executions: sum((_, { executions }) => executions.length),
		'of these crashed while n8n ran them (its own rule)': sum((f) => f.outcomes['crashed'] ?? 0),
		parked: sum((_, history) => fates(history).parked),
		'parked during a kill': sum((f) => f.parkedWhenKilled),
		jobs: sum((f) => f.jobs),
		lost: broken('lost') + broken('waits for ever'),
		'doubled resumes': broken('doubled'),
		'submitted twice': broken('submitted twice'),
		'started twice': broken('started twice'),
		'wrong results': broken('wrong result'),
	};
	const words = Object.entries(facts).map(([name, value]) => `${name} ${value}`);
	return `\nchaos:n8n: ${words.join(' · ')} · seed ${seed}\n`;
}
