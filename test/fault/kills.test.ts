/**
 * Row 1, the sentence we promise, under SIGKILL. `npm test` runs 200 jobs; `npm run chaos` more of the same:
 *
 *   CHAOS_JOBS=1000 CHAOS_KILLS=250 SEED=7 LAYER=fault npx jest kills
 */
import { type Violation, violations } from '../support/history';
import { howMany, seed, thorough } from '../support/proof';
import { Chaos, type Figures } from './chaos';
import { eventually } from './one-service';

const kills = Number(process.env.CHAOS_KILLS ?? howMany(50, 1_000));
const jobs = Number(process.env.CHAOS_JOBS ?? kills * 4);
const deadlineMs = 45_000 + jobs * 100 + kills * 500;

jest.setTimeout(deadlineMs + 60_000);

test('through kills of the service and its robots no job is lost, none starts twice in one attempt, and each ends once', async () => {
	const chaos = await Chaos.prepare({ seed, jobs, kills, deadlineMs });
	let good = false;
	try {
		await chaos.run();
		const histories = await chaos.gather();
		const found = violations(histories);
		const figures = chaos.figures(histories);
		if (thorough || process.env.CHAOS_JOBS !== undefined || found.length > 0) {
			process.stdout.write(table(figures, found));
		}
		expect(found).toEqual([]);
		expect(chaos.strays('of jobs')).toEqual([]);
		// A look at the machine that had just begun ends with its agent, a moment later.
		await eventually('everything to end', () => chaos.strays().length === 0);
		expect(figures.jobs).toBe(jobs);
		expect(figures.serviceKills + figures.agentKills).toBeGreaterThanOrEqual(kills);
		// Harm that hits nothing proves nothing.
		expect(figures.serviceKills).toBeGreaterThan(0);
		expect(figures.outcomes['completed']).toBeGreaterThan(jobs / 4);
		expect(figures.agentKills).toBeGreaterThan(0);
		good = true;
	} finally {
		await chaos.close();
		if (good) chaos.remove();
		else process.stderr.write(`seed ${seed}: everything is kept in ${chaos.folder}\n`);
	}
});

function table(figures: Figures, found: Violation[]): string {
	const broken = (laws: string[]) => found.filter(({ law }) => laws.includes(law)).length;
	const { outcomes, attemptOutcomes, serviceKills, agentKills, ...rest } = figures;
	const list = (counts: Record<string, number>) =>
		Object.entries(counts)
			.map(([name, n]) => `${name} ${n}`)
			.join(', ');
	const rows: [string, string | number][] = [
		['seed', rest.seed],
		['jobs', rest.jobs],
		['kills of the service', serviceKills],
		['kills of robots', agentKills],
		['of these while starting', rest.killsWhileStarting],
		['jobs ended as', list(outcomes)],
		['unknowns', rest.unknowns],
		['attempts', rest.attempts],
		['attempts ended as', list(attemptOutcomes)],
		['starts', rest.starts],
		['retries', rest.retries],
		['answers lost', rest.lostAnswers],
		['submits answered as duplicate', rest.duplicates],
		['lost (I1, I2, I13)', broken(['I1', 'I2', 'I13'])],
		['doubles (I4, I8)', broken(['I4', 'I8'])],
		['second final states (I3)', broken(['I3'])],
		['other violations', broken(['I5', 'I6', 'I7', 'I10', 'I11', 'I15'])],
		['seconds', rest.seconds],
		['from the last kill to quiet', rest.quietAfterSeconds],
	];
	return `\n${rows.map(([name, value]) => `${name.padEnd(32)}${value}`).join('\n')}\n`;
}
