/** Two turns at once: what one of them has read of a queue meets what the other does. */
import { laneKey } from '../../../dispatcher/core/matching';
import { nothing } from '../../../dispatcher/core/needs';
import { Gates } from '../../../dispatcher/engine/gates';
import { Lanes } from '../../../dispatcher/engine/lanes';
import { Turns } from '../../../dispatcher/engine/turns';
import type { Deed, Head, Store } from '../../../dispatcher/store/store';
import { FakeClock, settled } from '../../support/fake-clock';

const head: Head = {
	id: 'job-1',
	rank: 1,
	priority: 'normal',
	owner: 'k',
	bytes: 1,
	affinity: null,
	bars: null,
	attempt: 0,
};

/** A store in which one job waits; the test lets its answers out one by one, in order. */
function slowStore() {
	const open: (() => void)[] = [];
	const later = <T>(answer: T) => new Promise<T>((resolve) => open.push(() => resolve(answer)));
	const store = {
		commit: (deeds: Deed[]) => later(deeds.map(() => true)),
		read: () => later([head]),
	} as unknown as Store;
	const answer = async () => {
		open.shift()?.();
		await settled();
	};
	return { store, answer };
}

test('a job that a later turn only looks at stays in line, though its queue was read meanwhile', async () => {
	const clock = new FakeClock();
	const lanes = new Lanes(new Gates(clock));
	const queue = { lane: laneKey({ labels: {}, capabilities: [] }), shareKey: '', needs: nothing };
	const { store, answer } = slowStore();
	const fail = (error: Error) => {
		throw error;
	};
	const turns = new Turns(store, {
		begin: () => undefined,
		fill: () => undefined,
		low: () => lanes.low(),
		refilled: (of, heads, limit) => lanes.refill(of, heads, limit),
		fatal: fail,
		now: () => clock.now(),
		monotonic: () => clock.monotonic(),
		committed: () => undefined,
		settled: () => undefined,
	});
	lanes.doubt(queue);
	turns.nudge();
	await settled();
	// Enough for a turn of its own, while the first one waits for what it reads.
	turns.push({ plan: (turn) => void turn.touch(head.id), fail });
	for (let i = 0; i < 100; i += 1) void turns.deed('robotsSeen', { ids: [], at: 0 });
	await settled();
	await answer();
	await answer();
	await answer();
	expect(lanes.get(queue.lane).queues.get('')?.heads).toEqual([head]);
});
