/** The move out of the dead letters under SIGKILL of the real service (reliability row 26). */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetClient } from '../../client';
import type { Job, JobSelection } from '../../protocol';
import { howMany, say } from '../support/proof';
import { eventually, OneService } from './one-service';

const kills = howMany(12, 1_000);
const letters = 40 * kills;

jest.setTimeout(120_000 + kills * 4_000);

async function all(client: FleetClient, filter: JobSelection): Promise<Job[]> {
	const jobs: Job[] = [];
	for (let cursor: string | undefined, more = true; more;) {
		const page = await client.jobs({ ...filter, limit: 1_000, ...(cursor && { cursor }) });
		jobs.push(...page.items);
		({ cursor } = page);
		more = cursor !== undefined;
	}
	return jobs;
}

test('through kills in the middle of replays each dead letter is still one or is exactly one new job', async () => {
	await OneService.use(async ({ service }) => {
		for (let i = 0; i < letters; i += 500) {
			await service.client.submitMany(
				Array.from({ length: Math.min(500, letters - i) }, () => ({
					kind: 'command',
					spec: { command: 'true' },
					// Nobody takes it: it is a dead letter at once.
					timeouts: { queueMs: 1 },
				})),
			);
		}
		const groups = await eventually('all to be dead letters', async () => {
			const { items } = await service.client.deadLetters();
			return items[0]?.count === letters && items;
		});
		expect(groups).toHaveLength(1);
		const dead = (await all(service.client, { dead: true })).map(({ jobId }) => jobId).sort();
		expect(dead).toHaveLength(letters);
		let cutInTheMiddle = 0;
		for (let kill = 0; kill < kills; kill += 1) {
			const left = await firsts(service.client, dead);
			if (left.length === 0) break;
			// Replayed jobs become dead letters themselves; these are told apart by what they repeat.
			const replay = service.client.replay({ jobIds: left }).then(
				() => true,
				() => false,
			);
			await sleep((kill * 7) % 25);
			process.kill(service.pid!, 'SIGKILL');
			await service.exit;
			const answered = await replay;
			service.start();
			await service.ready();
			const found = await all(service.client, { kind: 'command' });
			const still = found.filter(({ dead, retryOf }) => dead !== null && retryOf === null);
			const retries = found.filter(({ retryOf }) => retryOf !== null && dead.includes(retryOf));
			const both = [...still.map(({ jobId }) => jobId), ...retries.map(({ retryOf }) => retryOf!)];
			expect(both.sort()).toEqual(dead);
			if (!answered && still.length > 0 && still.length < left.length) cutInTheMiddle += 1;
		}
		say(26, {
			kills,
			'with some replayed and some not': cutInTheMiddle,
			'lost, or in both places': 0,
		});
	});
});

/** Those of the first dead letters that still are. */
async function firsts(client: FleetClient, dead: string[]): Promise<string[]> {
	const now = new Set((await all(client, { dead: true })).map(({ jobId }) => jobId));
	return dead.filter((jobId) => now.has(jobId));
}
