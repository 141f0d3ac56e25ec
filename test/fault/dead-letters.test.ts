/** The move out of the dead letters under SIGKILL of the real service (reliability row 26). */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetClient } from '../../client';
import type { Job, JobSelection } from '../../protocol';
import { Draw } from '../support/dice';
import { howMany, say, seed } from '../support/proof';
import { eventually, OneService } from './one-service';

const kills = howMany(12, 1_000);
/** Three batches of a replay. */
const letters = 600;

jest.setTimeout(120_000 + kills * 10_000);

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
	const draw = new Draw(seed);
	await OneService.use(async ({ service }) => {
		await service.client.submitMany(
			Array.from({ length: letters }, () => ({
				kind: 'command',
				spec: { command: 'true' },
				// Nobody takes it: it is a dead letter at once, and so is what repeats it.
				timeouts: { queueMs: 1 },
			})),
		);
		const dead = async () =>
			(await all(service.client, { dead: true })).map(({ jobId }) => jobId).sort();
		const allDead = async () =>
			await eventually('all to be dead letters', async () => {
				const found = await dead();
				return found.length === letters && found;
			});
		let tookMs = 20;
		let inTheMiddle = 0;
		let done = 0;
		for (; done < kills || inTheMiddle === 0; done += 1) {
			const before = await allDead();
			const createdAfter = Date.now() - 1;
			const from = performance.now();
			const replay = service.client.replay({ jobIds: before }).then(
				() => performance.now() - from,
				() => undefined,
			);
			await sleep(draw.part(0, 1.2 * tookMs));
			process.kill(service.pid!, 'SIGKILL');
			await service.exit;
			const answered = await replay;
			service.start();
			await service.ready();
			const still = new Set(await dead());
			const retries = (await all(service.client, { createdAfter })).flatMap(({ retryOf }) =>
				retryOf === null ? [] : [retryOf],
			);
			const left = before.filter((jobId) => still.has(jobId));
			expect([...left, ...retries].sort()).toEqual(before);
			if (left.length > 0 && retries.length > 0) inTheMiddle += 1;
			// The kills keep to where it happens, however fast the machine is.
			tookMs = answered ?? (left.length > 0 ? tookMs * 1.2 : tookMs);
		}
		say(26, {
			kills: done,
			'with some replayed and some not': inTheMiddle,
			'lost, or in both places': 0,
		});
	});
});
