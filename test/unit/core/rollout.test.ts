/** The pure rules of rollouts: how many a batch has, and what is done when. */
import fc from 'fast-check';
import {
	batchesOf,
	eligible,
	nextStep,
	type Plan,
	planOf,
	type Progress,
	resumeStep,
	shareOf,
} from '../../../dispatcher/core/rollout';
import type { Rollout } from '../../../protocol';

const share = fc.oneof(
	fc.integer({ min: 1, max: 60 }),
	fc.integer({ min: 1, max: 100 }).map((percent) => `${percent}%`),
);
const rollouts: fc.Arbitrary<Rollout> = fc.record(
	{
		batch: share,
		canary: fc.nat(5),
		maxFailures: fc.oneof(fc.nat(5), fc.constantFrom('0%', '10%', '100%')),
		pauseBetween: fc.oneof(fc.boolean(), fc.integer({ min: 1, max: 1_000 })),
	},
	{ requiredKeys: ['batch'] },
);
const robots = fc.integer({ min: 1, max: 50 });

test('every robot is in one batch, none is empty, none but the canary is larger than was asked for', () => {
	fc.assert(
		fc.property(rollouts, robots, (rollout, count) => {
			const plan = planOf(rollout, count, {});
			const canary = Math.min(count, rollout.canary ?? 0);
			expect(plan.batches.reduce((sum, size) => sum + size, 0)).toBe(count);
			expect(Math.min(...plan.batches)).toBeGreaterThan(0);
			if (canary > 0) expect(plan.batches[0]).toBe(canary);
			const size = Math.max(1, shareOf(rollout.batch, count));
			for (const [i, batch] of plan.batches.slice(canary > 0 ? 1 : 0).entries()) {
				const last = i === plan.batches.length - (canary > 0 ? 2 : 1);
				if (last) expect(batch).toBeLessThanOrEqual(size);
				else expect(batch).toBe(size);
			}
			const each = batchesOf(plan);
			expect(each).toHaveLength(count);
			expect(each.toSorted((a, b) => a - b)).toEqual(each);
			expect(new Set(each).size).toBe(plan.batches.length);
		}),
	);
});

test('a share is rounded down, and a batch has one robot at least', () => {
	expect(planOf({ batch: '25%' }, 40, {}).batches).toEqual([10, 10, 10, 10]);
	expect(planOf({ batch: '25%' }, 7, {}).batches).toEqual([1, 1, 1, 1, 1, 1, 1]);
	expect(planOf({ batch: '25%', canary: 1 }, 9, {}).batches).toEqual([1, 2, 2, 2, 2]);
	expect(planOf({ batch: 100, canary: 3 }, 2, {}).batches).toEqual([2]);
	expect(planOf({ batch: 1, maxFailures: '10%' }, 39, {}).maxFailures).toBe(3);
	expect(planOf({ batch: 1 }, 39, {}).maxFailures).toBe(0);
});

/** Lives all of it: each child ends as the draw says; nobody but the draw resumes. */
function live(plan: Plan, fails: readonly boolean[], resumes: boolean) {
	const batchOf = batchesOf(plan);
	const children = batchOf.map((batch) => ({ batch, state: 'shut' as 'shut' | 'open' | 'over' }));
	const progress: Progress = { state: 'running', batch: 0, forgiven: 0 };
	const history: string[] = [];
	let failed = 0;
	const standing = () => ({
		failed,
		open: children.filter(({ state }) => state === 'open').length,
		next: children.find(({ state }) => state === 'shut')?.batch ?? null,
	});
	const perform = (step: ReturnType<typeof nextStep>) => {
		if (step === undefined) return;
		if (step.do === 'open') {
			for (const child of children) {
				if (child.batch === step.batch && child.state === 'shut') child.state = 'open';
			}
			progress.batch = Math.max(progress.batch, step.batch);
			history.push(`open ${step.batch}`);
		} else if (step.do === 'pause' || standing().next !== null) {
			progress.state = step.do === 'pause' ? 'paused' : 'stopped';
			history.push(progress.state);
		}
	};
	for (let round = 0; round < 1_000; round += 1) {
		perform(nextStep(plan, progress, standing()));
		const i = children.findIndex(({ state }) => state === 'open');
		if (i >= 0) {
			children[i]!.state = 'over';
			if (fails[i]) failed += 1;
			continue;
		}
		if (standing().next === null || !resumes) break;
		const now = standing();
		Object.assign(progress, { state: 'running', forgiven: failed });
		perform(resumeStep(progress, now));
	}
	return { history, failed, left: children.filter(({ state }) => state === 'shut').length };
}

test('without failures each batch goes once, in order; with a pause a person lets each but the first go', () => {
	fc.assert(
		fc.property(rollouts, robots, (rollout, count) => {
			const plan = planOf(rollout, count, {});
			const { history, left } = live(plan, [], true);
			expect(left).toBe(0);
			const opened = history.filter((step) => step.startsWith('open'));
			expect(opened).toEqual(plan.batches.map((_size, i) => `open ${i + 1}`));
			const pauses = history.filter((step) => step === 'paused').length;
			expect(pauses).toBe(plan.pause === true ? plan.batches.length - 1 : 0);
			expect(history).not.toContain('stopped');
		}),
	);
});

test('no batch goes once more have failed than may, and the canary may not fail at all', () => {
	const outcomes = fc.array(fc.boolean(), { minLength: 50, maxLength: 50 });
	fc.assert(
		fc.property(rollouts, robots, outcomes, (rollout, count, fails) => {
			const plan = planOf({ ...rollout, pauseBetween: false }, count, {});
			const { history, left } = live(plan, fails, false);
			const batchOf = batchesOf(plan);
			let failures = 0;
			let expected = 0;
			for (const batch of plan.batches.keys()) {
				expected = batch + 1;
				for (const [i, own] of batchOf.entries()) if (own === batch + 1 && fails[i]) failures += 1;
				const may = plan.canary && batch === 0 ? 0 : plan.maxFailures;
				if (failures > may) break;
			}
			expect(history.filter((step) => step.startsWith('open'))).toHaveLength(expected);
			expect(left > 0).toBe(history.at(-1) === 'stopped');
		}),
	);
});

test('a person who lets it go on each time brings it to its end', () => {
	const outcomes = fc.array(fc.boolean(), { minLength: 50, maxLength: 50 });
	fc.assert(
		fc.property(rollouts, robots, outcomes, (rollout, count, fails) => {
			const plan = planOf(rollout, count, {});
			expect(live(plan, fails, true).left).toBe(0);
		}),
	);
});

test('the same question twice is answered once: a batch that is under way opens no other', () => {
	const plan = planOf({ batch: 2 }, 6, {});
	const going: Progress = { state: 'running', batch: 1, forgiven: 0 };
	expect(nextStep(plan, going, { failed: 0, open: 1, next: 2 })).toBeUndefined();
	expect(nextStep(plan, going, { failed: 0, open: 0, next: 2 })).toEqual({
		do: 'open',
		batch: 2,
		waitMs: 0,
	});
	const gone: Progress = { ...going, batch: 2 };
	expect(nextStep(plan, gone, { failed: 0, open: 2, next: 3 })).toBeUndefined();
	for (const state of ['paused', 'stopped'] as const) {
		expect(nextStep(plan, { ...going, state }, { failed: 0, open: 0, next: 2 })).toBeUndefined();
	}
});

test('within a batch each is eligible so long after the one before, and has its time in the queue from then on', () => {
	const plan = planOf({ batch: 3, staggerMs: 10 }, 3, { queueMs: 100, deadlineAt: 1_125 });
	expect([0, 1, 2].map((place) => eligible(plan, place, 1_000, 1_000))).toEqual([
		{ state: 'queued', readyAt: 1_000, dueAt: 1_100 },
		{ state: 'pending', readyAt: 1_010, dueAt: 1_010 },
		{ state: 'pending', readyAt: 1_020, dueAt: 1_020 },
	]);
	const free = planOf({ batch: 3 }, 3, {});
	expect(eligible(free, 2, 1_000, 1_000)).toMatchObject({ state: 'queued', dueAt: null });
});

test('a spell with its robot away counts from when the child can start; an instant stays, and what was asked is not asked again', () => {
	const plan = planOf({ batch: 2, staggerMs: 10 }, 2, {});
	const offline = { until: 5, then: 'ask' as const, forMs: 100 };
	expect([0, 1].map((place) => eligible(plan, place, 1_000, 1_000, offline))).toMatchObject([
		{ dueAt: 1_100, offline: { ...offline, until: 1_100 } },
		{ dueAt: 1_010, offline: { ...offline, until: 1_110 } },
	]);
	const instant = { until: 1_050, then: 'ask' as const };
	expect(eligible(plan, 0, 1_000, 1_000, instant)).toMatchObject({
		dueAt: 1_050,
		offline: instant,
	});
	const asked = { ...offline, asked: true as const };
	expect(eligible(plan, 0, 1_000, 1_000, asked)).toMatchObject({ dueAt: null, offline: asked });
});
