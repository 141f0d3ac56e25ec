/** Jobs that wait: how they are changed, ranked anew, and kept from robots. */
import fc from 'fast-check';
import { afterTry, barred, barsOf, noneLeft } from '../../../dispatcher/core/bars';
import { grown } from '../../../dispatcher/core/bulk';
import { inLineSince, rank, rerank } from '../../../dispatcher/core/rank';
import { lossDefaults, type Policy, retryDefaults } from '../../../dispatcher/core/retry';
import { type Change, changed, never, waitEndsAt } from '../../../dispatcher/core/waiting';
import { canMove, priorities } from '../../../protocol';

const policyWith = (timeouts: Partial<Policy['timeouts']> = {}): Policy => ({
	timeouts: { startMs: 1, runMs: 1, ...timeouts },
	retry: retryDefaults,
	onLoss: lossDefaults,
	onDisconnect: 'continue',
	onHang: 'report',
	idempotent: false,
});
const at = 1_700_000_000_000;
const job = (more: Partial<Parameters<typeof changed>[0]> = {}) => ({
	state: 'queued' as const,
	cause: null,
	priority: 'normal' as const,
	rank: rank(at, 'normal'),
	lane: 'a',
	target: '{}',
	bars: '{"r":null}',
	hold: null,
	readyAt: at,
	createdAt: at,
	tries: 0,
	children: null,
	...more,
});

test('a new priority gives the place that the job would have had with it from the start', () => {
	const priority = fc.constantFrom(...priorities);
	fc.assert(
		fc.property(
			fc.nat(4e12),
			fc.array(priority, { minLength: 1 }),
			priority,
			(readyAt, path, last) => {
				let [now, stored] = [path[0]!, rank(readyAt, path[0]!)];
				for (const next of [...path, last]) {
					stored = rerank(stored, now, next);
					now = next;
				}
				expect(stored).toBe(rank(readyAt, last));
				expect(inLineSince(stored, last)).toBe(readyAt);
			},
		),
	);
});

test('no change leads to a move the table does not know, nor past the limits of the wait', () => {
	const change = fc.record<Change>(
		{
			priority: fc.constantFrom(...priorities),
			hold: fc.option(fc.record({ by: fc.constant('ana'), why: fc.constant('x') })),
			target: fc.record({ lane: fc.constantFrom('a', 'b'), target: fc.constant('{}') }),
		},
		{ requiredKeys: [] },
	);
	const waiting = fc.record({
		state: fc.constantFrom('pending' as const, 'queued' as const),
		readyAt: fc.integer({ min: at - 1_000, max: at + 1_000 }),
		hold: fc.option(fc.constant('bob')),
		tries: fc.nat(1),
	});
	const limits = fc.record(
		{
			queueMs: fc.integer({ min: 1, max: 5_000 }),
			deadlineAt: fc.integer({ min: at, max: at + 5_000 }),
		},
		{ requiredKeys: [] },
	);
	fc.assert(
		fc.property(waiting, limits, change, (more, timeouts, wish) => {
			fc.pre(!(more.state === 'queued' && more.hold !== null));
			const policy = policyWith(timeouts);
			const before = job(more);
			const to = changed(before, wish, policy, at);
			if (!to) return;
			expect(to.state === before.state || canMove(before.state, to.state)).toBe(true);
			if (to.hold !== null) expect(to.state).toBe('pending');
			if (to.state === 'queued' && before.state === 'pending') expect(before.hold).not.toBeNull();
			const ends = waitEndsAt(policy, before);
			const end = Math.min(ends.queueEndsAt, ends.deadlineAt);
			expect(to.dueAt ?? Infinity).toBeLessThanOrEqual(end);
			// What waits for time or a person is found by its due instant.
			if (to.state === 'pending') expect(to.dueAt).not.toBeNull();
			// The same once more changes nothing.
			const { reason: _, ...fields } = to;
			expect(changed({ ...before, ...fields }, wish, policy, at)).toBeUndefined();
		}),
	);
});

test('a hold keeps the job pending for ever, a release lets it go when its time has come', () => {
	const held = changed(job(), { hold: { by: 'ana', why: 'no licence' } }, policyWith(), at)!;
	expect(held).toMatchObject({ state: 'pending', hold: 'ana: no licence', dueAt: never });
	const { reason: _, ...fields } = held;
	const before = { ...job(), ...fields };
	expect(changed(before, { hold: null }, policyWith(), at)).toMatchObject({
		state: 'queued',
		hold: null,
		dueAt: null,
	});
	expect(changed({ ...before, readyAt: at + 9 }, { hold: null }, policyWith(), at)).toMatchObject({
		state: 'pending',
		dueAt: at + 9,
	});
	// A hold without a reason leaves the reason that is there.
	expect(changed(before, { hold: { by: 'bob' } }, policyWith(), at)).toBeUndefined();
});

test('a held job that came back from a backup is not let go by a release', () => {
	const before = job({ state: 'pending', hold: 'ana', cause: 'restored' });
	expect(changed(before, { hold: null }, policyWith(), at)).toMatchObject({
		state: 'pending',
		hold: null,
		dueAt: never,
	});
});

test('a child of a later batch is let go neither by a release nor by a new priority', () => {
	const before = job({ state: 'pending', hold: 'ana', shut: 1 });
	const kept = { state: 'pending', hold: null, dueAt: never };
	expect(changed(before, { hold: null }, policyWith(), at)).toMatchObject(kept);
	const waits = job({ state: 'pending', shut: 1 });
	expect(changed(waits, { priority: 'high' }, policyWith(), at)).toMatchObject(kept);
});

test('a new target forgets who refused the job, the same target changes nothing', () => {
	expect(
		changed(job(), { target: { lane: 'b', target: '{"robot":"b"}' } }, policyWith(), at),
	).toMatchObject({ lane: 'b', target: '{"robot":"b"}', bars: null });
	expect(changed(job(), { target: { lane: 'a', target: '{}' } }, policyWith(), at)).toBeUndefined();
});

describe('bars', () => {
	const robots = ['a', 'b', 'c', 'd'];

	test('a try bars its robot only while there is another to ask', () => {
		const bars = afterTry(null, 'a', ['a', 'b']);
		expect(barred(bars, 'a', at, ['a', 'b'])).toBe(true);
		expect(barred(bars, 'b', at, ['a', 'b'])).toBe(false);
		// b was removed, or refuses for good.
		expect(barred(bars, 'a', at, ['a'])).toBe(false);
		expect(barred(JSON.stringify({ ...barsOf(bars), b: null }), 'a', at, ['a', 'b'])).toBe(false);
		expect(noneLeft(bars, ['a'])).toBe(false);
	});

	test('when all have tried it, all but the last may again', () => {
		let bars = afterTry(null, 'a', ['a', 'b', 'c']);
		bars = afterTry(bars, 'b', ['a', 'b', 'c']);
		expect(['a', 'b', 'c'].map((id) => barred(bars, id, at, ['a', 'b', 'c']))).toEqual([
			true,
			true,
			false,
		]);
		bars = afterTry(bars, 'c', ['a', 'b', 'c']);
		expect(['a', 'b', 'c'].map((id) => barred(bars, id, at, ['a', 'b', 'c']))).toEqual([
			false,
			false,
			true,
		]);
	});

	test('tries never leave a job without a robot, and the next one is another if there is one', () => {
		const step = fc.record({
			robot: fc.constantFrom(...robots),
			refuses: fc.boolean(),
		});
		fc.assert(
			fc.property(fc.subarray(robots, { minLength: 1 }), fc.array(step), (fitting, steps) => {
				let bars: string | null = null;
				const willing = new Set(fitting);
				for (const { robot, refuses } of steps) {
					if (!willing.has(robot) || barred(bars, robot, at, fitting)) continue;
					if (refuses) {
						bars = JSON.stringify({ ...barsOf(bars), [robot]: null });
						willing.delete(robot);
					} else bars = afterTry(bars, robot, fitting);
					const open = [...willing].filter((id) => !barred(bars, id, at, fitting));
					expect(open.length > 0).toBe(willing.size > 0);
					if (!refuses && willing.size > 1) expect(open).not.toContain(robot);
				}
			}),
		);
	});
});

test('a bulk call is refused when far more jobs match than were seen', () => {
	expect([grown(0, 10), grown(0, 11)]).toEqual([false, true]);
	expect([grown(100, 110), grown(100, 111)]).toEqual([false, true]);
	expect([grown(1_000, 1_100), grown(1_000, 1_101)]).toEqual([false, true]);
	expect(grown(1_000, 3)).toBe(false);
});
