/**
 * Thousands of small worlds in which everything that may fail does. A seed is a world: what breaks a
 * law is repeated with `npm run simulate -- --seed N --trace`.
 */
import type { Harm } from './plan';
import { type Mutation, World } from './world';

jest.setTimeout(900_000);

/** The same ones every day, and some that no day repeats. */
const fixed = 1_000;
const rotating = 1_000;
const today = Math.floor(Date.now() / 86_400_000) * rotating;

async function broken(from: number, count: number): Promise<string[]> {
	const found: string[] = [];
	for (let seed = from; seed < from + count; seed += 1) {
		const { violations } = await new World(seed).live();
		for (const { law, jobId, text } of violations) {
			found.push(`seed ${seed}: ${law} ${jobId}: ${text}`);
		}
	}
	return found;
}

test('whatever dies, hangs, forgets or lies: all that was promised holds', async () => {
	expect(await broken(1, fixed)).toEqual([]);
});

test('it holds in worlds that nobody has seen before', async () => {
	expect(await broken(today, rotating)).toEqual([]);
});

test('the same seed is the same world, byte for byte', async () => {
	for (const seed of [7, 23, 98, 211, 685]) {
		const [once, twice] = [await new World(seed).live(), await new World(seed).live()];
		expect(twice.history.length).toBeGreaterThan(10);
		expect(twice.history.map((line) => JSON.stringify(line))).toEqual(
			once.history.map((line) => JSON.stringify(line)),
		);
	}
});

/** Nothing but this: jobs run, the service is gone before they end, and comes back so much later. */
function awayFor(awayMs: number, isRestarted: boolean): Mutation {
	return {
		plan(plan) {
			const at = (harm: Harm, atMs: number, forMs: number) => ({ harm, atMs, forMs, robot: 0 });
			plan.harms = new Set(['service-kill', ...(isRestarted ? ['agent-kill' as const] : [])]);
			plan.features = new Set(['output']);
			plan.robots = plan.robots.slice(0, 1).map((robot) => ({ ...robot, slots: 3, able: true }));
			plan.jobs = [0, 1, 75].map((code, i) => ({
				key: `job-${i}`,
				atMs: 0,
				submit: {
					kind: 'command',
					spec: { command: 'work' },
					variables: { key: `job-${i}` },
					timeouts: {},
					retry: { maxAttempts: 1 },
					idempotencyKey: `job-${i}`,
				},
				recipe: {
					key: `job-${i}`,
					pieces: [{ atMs: 450, stream: 'stdout', bytes: 40 }],
					runMs: 500,
					codes: [code],
					spawnErrors: 0,
					dieMs: 1,
					outlives: true,
				},
				retry: false,
				poll: false,
				wait: false,
			}));
			plan.commitFaults = new Map();
			plan.journalKills = [];
			plan.schedule = false;
			plan.latencyMs = 2;
			plan.commitMs = 0.5;
			plan.events = [
				at('service-kill', 300, awayMs),
				...(isRestarted ? [at('agent-kill', 300 + awayMs / 2, 100)] : []),
			];
			plan.harmEndsAt = 300 + awayMs;
		},
	};
}

const aways = {
	'a second': 1e3,
	'a minute': 6e4,
	'an hour': 3.6e6,
	'a day': 8.64e7,
	'a week': 6.048e8,
};

test.each(Object.entries(aways))(
	'row 9: results wait %s for a service that is away, through a restart of their agent too, and are recorded once',
	async (_name, awayMs) => {
		for (const isRestarted of [false, true]) {
			const world = new World(9, awayFor(awayMs, isRestarted));
			const { violations, history, tookMs } = await world.live();
			expect(violations).toEqual([]);
			expect(tookMs).toBeGreaterThan(awayMs);
			const ends = history.flatMap((line) => {
				const { at, to, jobId } = line as { at: number; to?: string; jobId?: string };
				if (to !== 'completed' && to !== 'failed') return [];
				expect(at).toBeGreaterThan(awayMs);
				return [`${jobId} ${to}`];
			});
			expect(ends.map((end) => end.split(' ')[1]).sort()).toEqual([
				'completed',
				'failed',
				'failed',
			]);
			expect(new Set(ends).size).toBe(3);
			// One start each: nobody ran anything again for want of an answer.
			const starts = world.commands.filter(({ event }) => event === 'start');
			expect(starts).toHaveLength(3);
		}
	},
);

test('worlds differ: every harm strikes, and most jobs come to their end', async () => {
	const struck = new Set<string>();
	let completed = 0;
	for (let seed = 1; seed <= 200; seed += 1) {
		const { history, struck: faults } = await new World(seed).live();
		for (const fault of Object.keys(faults)) struck.add(fault);
		completed += history.filter((line) => (line as { to?: string }).to === 'completed').length;
	}
	expect([...struck].sort()).toEqual(everyHarm);
	expect(completed).toBeGreaterThan(200);
});

const everyHarm = [
	'agent-clock',
	'agent-disk-full',
	'agent-kill',
	'agent-pause',
	'agent-stop',
	'agent-suspend',
	'answer-stall',
	'blackhole',
	'cut',
	'disk-full',
	'echo',
	'error-after',
	'error-before',
	'half-open',
	'journal-kill',
	'kill-after',
	'kill-before',
	'lies',
	'memory-loss',
	'power-cut',
	'rearranged',
	'refused',
	'robot-pause',
	'robot-removed',
	'service-clock',
	'service-kill',
	'service-pause',
	'service-stop',
	'service-suspend',
	'start-stall',
];
