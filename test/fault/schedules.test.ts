/** Rows 37 and 38: schedules follow their written rules, in every zone, through outages and SIGKILL. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { FleetClient } from '../../client';
import type { Job, Occurrence } from '../../protocol';
import { dice } from '../support/dice';
import { livedThrough, type OutagePlan } from '../support/outages';
import { howMany, say, seed, thorough } from '../support/proof';
import { transitionsOf } from '../support/wall-oracle';
import { disagreements, patterns, zones } from '../support/wall-patterns';
import { OneService } from './one-service';

const hourMs = 3_600_000;
const outagesEach = 10;
const kills = howMany(6, 200);

jest.setTimeout(2 * hourMs);

test('row 37: in every zone, at every change of its clock from 2020 to 2037, 40 patterns follow the written rule', () => {
	const wrong: object[] = [];
	let looked = 0;
	for (const [i, zone] of zones().entries()) {
		if (!thorough && i % 5 !== 0) continue;
		const transitions = transitionsOf(zone, 2020, 2038);
		for (const [j, transition] of transitions.entries()) {
			if (!thorough && j !== (i + seed) % transitions.length) continue;
			looked += 1;
			wrong.push(...disagreements(patterns, zone, transition));
		}
	}
	say(37, {
		zones: zones().length,
		'changes of clocks': looked,
		patterns: patterns.length,
		wrong: wrong.length,
	});
	expect(wrong).toEqual([]);
	expect(looked).toBeGreaterThan(thorough ? 2_000 : 10);
});

test('row 38: through random outages what ran, was made up and was missed is exactly what the policy says', async () => {
	const plans: fc.Arbitrary<OutagePlan> = fc.record({
		everyMinutes: fc.constantFrom(1, 2, 5, 15),
		missed: fc.constantFrom('none', 'last', 'all'),
		catchUpMs: fc.constantFrom(0, 90_000, 600_000, hourMs),
		catchUpMax: fc.constantFrom(1, 3, 50),
		outages: fc.array(
			fc.record({
				upMs: fc.integer({ min: 1, max: 400_000 }),
				awayMs: fc.integer({ min: 1, max: 3 * hourMs }),
			}),
			{ minLength: outagesEach, maxLength: outagesEach },
		),
	});
	const outages = howMany(200, 1_000);
	let times = 0;
	await fc.assert(
		fc.asyncProperty(plans, async (plan) => {
			const { told, expected } = await livedThrough(plan);
			times += Object.keys(expected).length;
			expect(told).toEqual(expected);
		}),
		{ numRuns: Math.ceil(outages / outagesEach), seed },
	);
	say(38, { outages, 'planned times': times, wrong: 0 });
});

test('row 38: through kills of the service each second of a schedule is exactly one job', async () => {
	await OneService.use(async ({ service }) => {
		await service.client.putSchedule('tick', {
			cron: '* * * * * *',
			job: { kind: 'command', spec: { command: 'true' } },
			missed: 'all',
			catchUpMax: 1_000,
			overlap: 'allow',
		});
		const throwDice = dice(seed);
		for (let kill = 0; kill < kills; kill += 1) {
			await sleep(200 + Math.floor(throwDice() * 1_300));
			process.kill(service.pid!, 'SIGKILL');
			await service.exit;
			service.start();
			await service.ready();
		}
		await service.client.pauseSchedule('tick');
		const told = (await occurrences(service.client)).sort((a, b) => a.plannedAt - b.plannedAt);
		const jobs = await allJobs(service.client);
		const gaps = told.filter((one, i) => i > 0 && one.plannedAt - told[i - 1]!.plannedAt !== 1_000);
		const late = told.filter(({ state }) => state === 'made_up').length;
		say(38, {
			kills,
			seconds: told.length,
			'made up': late,
			jobs: jobs.length,
			'seconds without or with two': gaps.length,
		});
		expect(gaps).toEqual([]);
		expect(told.every(({ state }) => state === 'ran' || state === 'made_up')).toBe(true);
		expect(jobs.map(({ jobId }) => jobId).sort()).toEqual(told.map(({ jobId }) => jobId).sort());
	});
});

async function occurrences(client: FleetClient): Promise<Occurrence[]> {
	return pages((cursor) => client.occurrences('tick', { limit: 1_000, ...cursor }));
}

async function allJobs(client: FleetClient): Promise<Job[]> {
	return pages((cursor) => client.jobs({ limit: 1_000, ...cursor }));
}

async function pages<T>(
	read: (cursor: { cursor?: string }) => Promise<{ items: T[]; cursor?: string }>,
): Promise<T[]> {
	const all: T[] = [];
	for (let cursor: string | undefined; ;) {
		const page = await read(cursor === undefined ? {} : { cursor });
		all.push(...page.items);
		cursor = page.cursor;
		if (cursor === undefined) return all;
	}
}
