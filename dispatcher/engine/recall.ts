/** What the engine remembers from before: its id, which attempts hold slots, how robots did, and whose turn it was. */
import { randomUUID } from 'node:crypto';
import { type JobHealth, limits } from '../../protocol';
import { recentByRobot } from '../core/record';
import type { Store } from '../store/store';
import { liveOf } from './assigning';
import { bytesOf } from './backlog';
import type { Context } from './context';

/** Names this service to its robots; made once. */
export async function hubIdOf(store: Store): Promise<string> {
	const known = await store.read('meta', { key: 'hub_id' });
	if (known !== undefined) return known;
	const hubId = randomUUID();
	await store.commit([{ do: 'setMeta', with: { key: 'hub_id', value: hubId } }]);
	return hubId;
}

/** Before anything is planned. */
export async function recall(context: Context): Promise<void> {
	await loadHolds(context);
	await loadRecords(context);
	await loadChoices(context);
}

/** Attempts that held a slot when the service ended still do: their robots will tell. */
async function loadHolds({ store, fleet, clock }: Context): Promise<void> {
	for (const { job, attempt } of await store.read('held', null)) {
		const given = { ...job, owner: job.createdBy, bytes: bytesOf(job) };
		const live = liveOf(given, { ...attempt, at: attempt.assignedAt }, clock);
		live.cancelRequestedAt = job.cancelRequestedAt;
		live.hangs = (JSON.parse(job.health ?? '[]') as JobHealth[]).at(-1)?.state === 'hanging';
		if (attempt.state === 'running') {
			live.state = 'running';
			live.startedAt = clock.monotonic();
		}
		fleet.hold(live);
	}
}

/** Enough for 50 of each robot of a small fleet, and read in a few milliseconds. */
const endedRead = 1_000;

/** How the last tries of the robots came out, as far as the newest jobs tell. */
async function loadRecords({ store, fleet }: Context): Promise<void> {
	const lists = await Promise.all(
		(['completed', 'failed', 'timeout'] as const).map((state) =>
			store.read('ended', { state, limit: endedRead }),
		),
	);
	for (const [robotId, recent] of recentByRobot(lists, endedRead)) {
		const robot = fleet.get(robotId);
		if (robot) robot.recent = recent;
	}
}

/** Whose turn it was last, and where jobs went well. */
async function loadChoices({ store, fleet, affinity }: Context): Promise<void> {
	for (const { robotId, epoch } of await store.read('turns', null)) {
		const robot = fleet.get(robotId);
		if (robot) robot.turn = epoch;
	}
	affinity.load(await store.read('affinities', { limit: limits.maxAffinities }));
}
