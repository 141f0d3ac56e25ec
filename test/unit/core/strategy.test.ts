/** Strategies as pure rules, against slow and obvious ones. */
import fc from 'fast-check';
import { Affinity } from '../../../dispatcher/core/affinity';
import {
	laneKey,
	laneRule,
	laneWith,
	misfit,
	preferenceOf,
	ruleOf,
} from '../../../dispatcher/core/matching';
import { busyOf, choose, type View } from '../../../dispatcher/core/strategy';
import { limits, strategies } from '../../../protocol';

interface Facts {
	id: number;
	free: boolean;
	load: number;
	busy: number;
	preference: number;
	turn: number;
	successes: number;
}

const view: View<Facts> = {
	free: ({ free }) => free,
	load: ({ load }) => load,
	busy: ({ busy }) => busy,
	preference: ({ preference }) => preference,
	turn: ({ turn }) => turn,
	successes: ({ successes }) => successes,
};

const robots = fc
	.array(
		fc.record({
			free: fc.boolean(),
			load: fc.constantFrom(0, 0.25, 0.5),
			busy: fc.integer({ min: 0, max: 2 }),
			preference: fc.integer({ min: -1, max: 2 }),
			turn: fc.integer({ min: 0, max: 3 }),
			successes: fc.integer({ min: 0, max: 2 }),
		}),
		{ maxLength: 8 },
	)
	.map((list) => list.map((one, id) => ({ ...one, id })));

test('each strategy chooses what sorting all robots by its rule would put first', () => {
	const keys = {
		least_loaded: ({ load, busy }: Facts) => [load, busy],
		round_robin: ({ turn }: Facts) => [turn],
		affinity: ({ successes, load, busy }: Facts) => [-successes, load, busy],
	};
	fc.assert(
		fc.property(robots, fc.boolean(), (all, choosy) => {
			for (const strategy of ['least_loaded', 'round_robin', 'affinity'] as const) {
				const key = (one: Facts) => [choosy ? -one.preference : 0, ...keys[strategy](one)];
				const [first] = all
					.filter(({ free }) => free)
					.sort((a, b) => {
						const [ka, kb] = [key(a), key(b)];
						return ka.map((value, i) => value - kb[i]!).find((d) => d !== 0) ?? a.id - b.id;
					});
				expect(choose(strategy, all, view, choosy, () => 0.5)).toBe(first);
			}
		}),
	);
});

test('random chooses each of the free robots that are preferred most, equally often, and the same by the same dice', () => {
	const idle = { free: true, load: 0, busy: 0, turn: 0, successes: 0 };
	const all = [0, 1, 2, 3, 4].map((id) => ({ ...idle, id, preference: id === 0 ? 0 : 1 }));
	let state = 1;
	const dice = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
	const counts = new Map<number, number>();
	for (let i = 0; i < 8_000; i += 1) {
		const { id } = choose('random', all, view, true, dice)!;
		counts.set(id, (counts.get(id) ?? 0) + 1);
	}
	expect([...counts.keys()].sort()).toEqual([1, 2, 3, 4]);
	for (const count of counts.values()) expect(Math.abs(count - 2_000)).toBeLessThan(200);
});

test('nobody is chosen when nobody is free', () => {
	for (const strategy of strategies) {
		expect(choose(strategy, [], view, true, () => 0)).toBeUndefined();
	}
});

test('robots whose processors differ a little count as equally busy', () => {
	expect([undefined, 0, 9.9, 10, 55].map((cpu) => busyOf(cpu))).toEqual([0, 0, 0, 1, 5]);
});

test('affinity counts successes until the last one is too old, and forgets the keys unused for longest', () => {
	const affinity = new Affinity(3);
	affinity.succeeded('a', 'r1', 0);
	affinity.succeeded('a', 'r1', 10);
	expect(affinity.successes('a', 'r1', 10 + limits.affinityMs)).toBe(2);
	expect(affinity.successes('a', 'r1', 11 + limits.affinityMs)).toBe(0);
	affinity.succeeded('a', 'r1', 11 + limits.affinityMs);
	expect(affinity.successes('a', 'r1', 11 + limits.affinityMs)).toBe(1);
	affinity.succeeded('b', 'r1', 20 + limits.affinityMs);
	affinity.succeeded('a', 'r2', 20 + limits.affinityMs);
	affinity.succeeded('c', 'r1', 20 + limits.affinityMs);
	const now = 20 + limits.affinityMs;
	expect(['a', 'b', 'c'].map((key) => affinity.successes(key, 'r1', now))).toEqual([1, 0, 1]);
	expect(affinity.successes('a', 'r2', now)).toBe(1);
});

test('affinity keeps so many successes at most, however they are spread over keys and robots', () => {
	fc.assert(
		fc.property(
			fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 9 }))),
			(done) => {
				const affinity = new Affinity(6);
				for (const [at, [key, robot]] of done.entries()) {
					affinity.succeeded(`k${key}`, `r${robot}`, at);
				}
				const known = [0, 1, 2, 3, 4].flatMap((key) => [...affinity.robots(`k${key}`)]);
				expect(known.length).toBeLessThanOrEqual(6);
				const last = done.at(-1);
				if (last) expect([...affinity.robots(`k${last[0]}`)]).toContain(`r${last[1]}`);
			},
		),
	);
});

test('of thousands of idle robots that are all busy with something else only some are asked', () => {
	let asked = 0;
	const all = Array.from({ length: 5_000 }, (_, id) => ({
		...{ id, free: true, load: 0, busy: 5, preference: 0, turn: 0, successes: 0 },
	}));
	const counting = { ...view, busy: (robot: Facts) => ((asked += 1), view.busy(robot)) };
	expect(choose('least_loaded', all, counting, false, () => 0)).toBe(all[0]);
	expect(asked).toBeLessThan(20);
});

test('tags, environment, excluded and preferred robots are part of the lane, whatever order they came in', () => {
	const ids = (robot: string) => `id of ${robot}`;
	const a = ruleOf(
		{
			labels: { os: 'linux' },
			environment: 'test',
			tags: ['gpu', 'ssd'],
			exclude: ['x', 'y'],
			prefer: [{ robot: 'z', weight: 5 }, { labels: { b: '1', a: '2' } }],
		},
		undefined,
		ids,
	);
	const b = ruleOf(
		{
			environment: 'test',
			labels: { os: 'linux' },
			prefer: [
				{ labels: { a: '2', b: '1' }, weight: 1 },
				{ robot: 'z', weight: 5 },
			],
			exclude: ['y', 'x', 'x'],
			tags: ['ssd', 'gpu'],
		},
		undefined,
		ids,
	);
	expect(laneKey(a)).toBe(laneKey(b));
	expect(laneRule(laneKey(a))).toEqual(a);
	const robot = {
		robotId: 'id of z',
		labels: { os: 'linux', environment: 'test', gpu: '', ssd: '1', a: '2', b: '1' },
		capabilities: [],
		clients: [],
	};
	expect(misfit(a, robot)).toBeUndefined();
	expect(preferenceOf(a, robot)).toBe(6);
	expect(misfit(a, { ...robot, robotId: 'id of x' })?.text).toBe('is excluded by the job');
	const { gpu: _, ...untagged } = robot.labels;
	expect(misfit(a, { ...robot, labels: untagged })?.text).toBe('has no label gpu');
});

test('a lane without any of these is called as it always was, and strategies are lanes of their own', () => {
	const plain = laneKey(ruleOf({ labels: { os: 'linux' }, client: 'a' }, undefined));
	expect(plain).toBe('["",{"os":"linux"},[],"a"]');
	expect(laneWith(plain, {})).toBe(plain);
	const random = laneWith(plain, { strategy: 'random', preferWaitMs: 5 });
	expect(laneRule(random)).toEqual({
		labels: { os: 'linux' },
		capabilities: [],
		client: 'a',
		strategy: 'random',
		preferWaitMs: 5,
	});
	expect(laneWith(random, { strategy: 'random', preferWaitMs: 5 })).toBe(random);
	const pinned = laneKey(ruleOf({}, 'r'));
	expect(laneWith(pinned, { strategy: 'random' })).toBe(pinned);
});

const word = fc.constantFrom('a', 'b', 'c');
const some = fc.uniqueArray(word, { maxLength: 2 });
const labelled = fc.dictionary(word, fc.constantFrom('1', '2'), { maxKeys: 2 });
const targets = fc.record(
	{
		labels: labelled,
		tags: some,
		capabilities: some,
		client: word,
		group: word,
		pool: word,
		exclude: some,
		environment: fc.constantFrom('1', '2'),
	},
	{ requiredKeys: [] },
);
const anyRobot = fc.record({
	robotId: word,
	labels: fc
		.tuple(labelled, fc.option(fc.constantFrom('1', '2'), { nil: undefined }))
		.map(([labels, environment]) => ({
			...labels,
			...(environment === undefined ? {} : { environment }),
		})),
	capabilities: some,
	clients: some,
	groups: some,
	pools: some,
});

test('a robot fits a lane exactly when all that the target names holds, term by term', () => {
	fc.assert(
		fc.property(targets, anyRobot, (target, robot) => {
			const labels: Record<string, string> = robot.labels;
			const holds =
				Object.entries(target.labels ?? {}).every(([name, value]) => labels[name] === value) &&
				(target.tags ?? []).every((name) => labels[name] !== undefined) &&
				(target.capabilities ?? []).every((name) => robot.capabilities.includes(name)) &&
				(target.client === undefined || robot.clients.includes(target.client)) &&
				(target.group === undefined || robot.groups.includes(target.group)) &&
				(target.pool === undefined || robot.pools.includes(target.pool)) &&
				!(target.exclude ?? []).includes(robot.robotId) &&
				(target.environment === undefined || labels['environment'] === target.environment);
			// Through its text, as it lies in the store.
			const rule = laneRule(laneKey(ruleOf(target, undefined)));
			expect(misfit(rule, robot) === undefined).toBe(holds);
		}),
	);
});
