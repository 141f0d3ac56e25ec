/** Many lanes, many robots: what is found by lists is what a look at everything would find. */
import { laneKey, misfit, type Rule, type Terms } from '../../../dispatcher/core/matching';
import { nothing } from '../../../dispatcher/core/needs';
import { Gates } from '../../../dispatcher/engine/gates';
import { Lanes } from '../../../dispatcher/engine/lanes';
import { Draw } from '../../support/dice';
import { FakeClock } from '../../support/fake-clock';

const headOf = (id: number) => ({
	id: `job-${String(id).padStart(6, '0')}`,
	rank: id,
	priority: 'normal' as const,
	owner: 'k',
	bytes: 1,
	affinity: null,
	bars: null,
	attempt: 0,
});

const labelsOf = (draw: Draw, most: number): Record<string, string> =>
	Object.fromEntries(
		Array.from({ length: draw.whole(0, most) }, () => [
			`k${draw.whole(0, 5)}`,
			`v${draw.whole(0, 2)}`,
		]),
	);

test.each([1, 2, 3, 4, 5, 6])(
	'in a random life (%i) a robot finds the lanes that it may serve, and no other',
	(seed) => {
		const draw = new Draw(seed);
		const lanes = new Lanes(new Gates(new FakeClock()));
		const robots = new Map<string, Terms>();
		const queued = new Map<string, { rule: Rule; ids: string[] }>();
		let ids = 0;
		const termsOf = (robotId: string, labels: Record<string, string>) => ({
			robotId,
			labels,
			capabilities: [],
			clients: [],
		});
		const check = () => {
			for (const [robotId, terms] of robots) {
				const found = [...lanes.waitingFor(robotId)].map(({ key }) => key).sort();
				const wanted = [...queued]
					.filter(([, { rule }]) => misfit(rule, terms) === undefined)
					.map(([key]) => key)
					.sort();
				expect(found).toEqual(wanted);
				if (wanted.length > 0) expect(lanes.mayServe(robotId)).toBe(true);
			}
			expect([...lanes.waiting].map(({ key }) => key).sort()).toEqual([...queued.keys()].sort());
		};
		for (let step = 0; step < 1_500; step += 1) {
			const act = draw.next();
			if (act < 0.15 || robots.size === 0) {
				// Comes, or comes with other labels.
				const robotId = `r${draw.whole(0, 299)}`;
				robots.set(robotId, termsOf(robotId, labelsOf(draw, 6)));
				lanes.putRobot(robots.get(robotId)!);
			} else if (act < 0.2) {
				const robotId = draw.pick([...robots.keys()]);
				robots.delete(robotId);
				lanes.removeRobot(robotId);
			} else if (act < 0.65 || queued.size === 0) {
				const pinned = draw.chance(0.2) ? { robot: `r${draw.whole(0, 320)}` } : {};
				const rule = { ...pinned, labels: labelsOf(draw, 2), capabilities: [] };
				const key = laneKey(rule);
				const head = headOf((ids += 1));
				lanes.push({ lane: key, shareKey: '', needs: nothing }, head);
				const known = queued.get(key) ?? { rule, ids: [] as string[] };
				known.ids.push(head.id);
				queued.set(key, known);
			} else {
				const [key, { ids: waiting }] = draw.pick([...queued]);
				const id = waiting.shift()!;
				if (draw.chance(0.5)) lanes.drop({ lane: key, shareKey: '', needs: nothing }, id);
				else lanes.take(lanes.get(key).queues.get('')!, 0);
				if (waiting.length === 0) queued.delete(key);
			}
			if (step % 50 === 0) check();
		}
		check();
	},
);

test('a queue that runs low is read again, once at a time, however it came to be low', () => {
	const lanes = new Lanes(new Gates(new FakeClock()));
	const queue = { lane: laneKey({ labels: {}, capabilities: [] }), shareKey: '', needs: nothing };
	const heads = (count: number) => Array.from({ length: count }, (_, i) => headOf(i));
	expect(lanes.low()).toEqual([]);
	lanes.doubt(queue);
	expect(lanes.low()).toHaveLength(1);
	expect(lanes.low()).toEqual([]);
	// It could not be read: it is asked for again.
	lanes.refill(queue, undefined, 512);
	expect(lanes.low()).toHaveLength(1);
	lanes.refill(queue, heads(512), 512);
	const window = () => lanes.get(queue.lane).queues.get('')!;
	for (let left = 512; left > 128; left -= 1) {
		expect(lanes.low()).toEqual([]);
		lanes.take(window(), 0);
	}
	lanes.drop(queue, window().heads[0]!.id);
	expect(lanes.low()).toHaveLength(1);
	// Fewer than asked for: that is all there is.
	lanes.refill(queue, heads(3), 512);
	expect(lanes.low()).toEqual([]);
	for (let left = 3; left > 0; left -= 1) lanes.take(window(), 0);
	expect(lanes.waiting.size).toBe(0);
});
