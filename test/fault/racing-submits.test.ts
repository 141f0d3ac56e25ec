/**
 * Row 14: twenty clients race with the same idempotency keys, some of them with another body, while
 * the service is killed again and again. Whoever hears nothing asks again, as a careful caller does.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetClient } from '../../client';
import { Problem, type Submit } from '../../protocol';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { readRows } from './chaos';
import { OneService } from './one-service';

const submits = howMany(1_000, 100_000);
const kills = Math.max(5, Math.round(submits / 1_000));
const racers = 20;
/** So many ask with one key, on average. */
const sharing = 5;

jest.setTimeout(60_000 + kills * 5_000 + submits * 10);

interface Told {
	/** By body. */
	accepted: Map<string, Set<string>>;
	/** Jobs that a refusal named, by the body that was refused. */
	refused: Map<string, Set<string>>;
}

test('racing clients get one job a key through kills of the service, and another body is refused for ever', async () => {
	await OneService.use(async ({ service }) => {
		const draw = new Draw(seed);
		const questions = Array.from({ length: submits }, () => ({
			key: `key-${draw.whole(1, Math.ceil(submits / sharing))}`,
			body: draw.chance(0.2) ? 'other' : 'first',
		}));
		const told = new Map<string, Told>();
		const counts = { accepted: 0, refused: 0, duplicates: 0, lost: 0, kills: 0 };
		let answered = 0;

		const note = (
			{ key, body }: (typeof questions)[number],
			how: 'accepted' | 'refused',
			jobId: string,
		) => {
			const told_ = told.get(key) ?? { accepted: new Map(), refused: new Map() };
			told.set(key, told_);
			const ids = told_[how].get(body) ?? new Set();
			told_[how].set(body, ids.add(jobId));
			counts[how]++;
			answered++;
		};
		const ask = async (client: FleetClient, bunch: typeof questions): Promise<typeof questions> => {
			try {
				const answers = await client.submitMany(bunch.map(jobOf), AbortSignal.timeout(10_000));
				return bunch.filter((question, i) => {
					const answer = answers[i]!;
					if (!('error' in answer)) {
						if (answer.duplicate) counts.duplicates++;
						note(question, 'accepted', answer.jobId);
						return false;
					}
					const problem = Problem.fromBody(answer)!;
					if (problem.code !== 'key-conflict') return mayAskAgain(problem);
					note(question, 'refused', String(problem.details['jobId']));
					return false;
				});
			} catch (error) {
				mayAskAgain(error);
				counts.lost += bunch.length;
				await sleep(20);
				return bunch;
			}
		};
		let next = 0;
		const race = async (client: FleetClient) => {
			while (next < questions.length) {
				let bunch = questions.slice(next, (next += draw.whole(1, 4)));
				while (bunch.length > 0) bunch = await ask(client, bunch);
			}
		};
		const killer = async () => {
			for (; counts.kills < kills && next < questions.length; counts.kills++) {
				const from = (counts.kills / kills) * submits;
				while (answered < from && next < questions.length) await sleep(1);
				await sleep(draw.part(0, 15));
				await service.kill();
				service.start();
				await service.ready();
			}
		};
		const clients = Array.from({ length: racers }, () => service.client);
		const startedAt = performance.now();
		await Promise.all([killer(), ...clients.map(race)]);
		const seconds = (performance.now() - startedAt) / 1_000;

		const jobs = new Map(
			await allJobs(service.client).then((list) =>
				list.map((job) => [job.jobId, job.variables] as const),
			),
		);
		const broken: string[] = [];
		for (const [key, { accepted, refused }] of told) {
			const ids = new Set([...accepted.values(), ...refused.values()].flatMap((set) => [...set]));
			const [jobId] = ids;
			const stored = jobs.get(jobId!);
			if (ids.size !== 1) broken.push(`${key} is ${ids.size} jobs: ${[...ids].join(', ')}`);
			else if (stored?.['key'] !== key) broken.push(`${key}: ${jobId} is not in the store`);
			for (const body of accepted.keys()) {
				if (body !== stored?.['body']) broken.push(`${key}: accepted with the body "${body}"`);
			}
			for (const body of refused.keys()) {
				if (body === stored?.['body']) broken.push(`${key}: refused with its own body`);
			}
		}
		// Nobody minds the ended race: a key goes on meaning the same, and only the same.
		for (const [key] of [...told].slice(0, 50)) {
			for (const body of ['first', 'other']) {
				const again = await service.client
					.submit(jobOf({ key, body }))
					.catch((error: Problem) => error);
				const own = jobs.get(
					again instanceof Problem ? String(again.details['jobId']) : again.jobId,
				);
				if (own?.['key'] !== key || (own['body'] === body) === again instanceof Problem) {
					broken.push(`${key}: asked again with "${body}" it says ${JSON.stringify(again)}`);
				}
			}
		}
		say(14, {
			submits,
			clients: racers,
			kills: counts.kills,
			keys: told.size,
			'accepted first': counts.accepted - counts.duplicates,
			duplicates: counts.duplicates,
			'other body refused': counts.refused,
			'asked again': counts.lost,
			'keys with more than one job or body': broken.length,
			seconds: seconds.toFixed(1),
		});
		expect(broken).toEqual([]);
		expect(counts.accepted + counts.refused).toBe(submits);
		expect(counts.kills).toBe(kills);
		// Harm that hits nothing proves nothing.
		expect(counts.lost).toBeGreaterThan(kills);
		expect(counts.refused).toBeGreaterThan(0);
		await service.stop();
		const [rows] = readRows<{ jobs: number; keys: number }>(
			join(service.data, 'robot-fleet.db'),
			'SELECT (SELECT count(*) FROM jobs) AS jobs, (SELECT count(*) FROM idempotency) AS keys',
		);
		expect(rows).toEqual({ jobs: told.size, keys: told.size });
	});
});

function jobOf({ key, body }: { key: string; body: string }): Submit {
	return {
		kind: 'command',
		spec: { command: 'true' },
		variables: { key, body },
		idempotencyKey: key,
	};
}

/** Throws what no second try can mend. */
function mayAskAgain(error: unknown): true {
	const again = ['service-away', 'internal', 'not-ready', 'store-busy'];
	if (error instanceof Problem && again.includes(error.code)) return true;
	if ((error as Error).name === 'TimeoutError') return true;
	throw error as Error;
}

async function allJobs(client: FleetClient) {
	const jobs = [];
	for (let cursor: string | undefined; ;) {
		const page = await client.jobs({ limit: 1_000, cursor });
		jobs.push(...page.items);
		cursor = page.cursor;
		if (cursor === undefined) return jobs;
	}
}
