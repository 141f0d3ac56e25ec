/** The pure rules: order, matching, retry, calendar. */
import fc from 'fast-check';
import {
	causes,
	finalStates,
	jobStates,
	moves,
	priorities,
	canMove,
	isFinal,
} from '../../../protocol';
import { describeRule, laneKey, laneRule, misfit, ruleOf } from '../../../dispatcher/core/matching';
import { nearest } from '../../../dispatcher/core/nearest';
import { priorityOf, rank, Shares } from '../../../dispatcher/core/rank';
import { resultOf, resultText } from '../../../dispatcher/core/result';
import {
	afterAttempt,
	afterLoss,
	delayMs,
	retryDefaults,
	type Policy,
} from '../../../dispatcher/core/retry';

const policy = (more: Partial<Policy> = {}): Policy => ({
	timeouts: { startMs: 30_000, runMs: 3_600_000 },
	retry: retryDefaults,
	onLoss: { waitMs: 300_000, then: 'unknown' },
	onDisconnect: 'continue',
	onHang: 'report',
	idempotent: false,
	...more,
});

test('final states have no way out, and every state can be reached', () => {
	for (const state of jobStates) {
		expect(isFinal(state)).toBe((finalStates as readonly string[]).includes(state));
	}
	const reachable = new Set<string>(['pending', 'queued']);
	for (let grown = true; grown;) {
		grown = false;
		for (const from of [...reachable] as (keyof typeof moves)[]) {
			for (const to of moves[from]) if (!reachable.has(to)) grown = !!reachable.add(to);
		}
	}
	expect([...reachable].sort()).toEqual([...jobStates].sort());
});

test('no sequence of rulings leaves the table of moves', () => {
	const ending = fc.record({
		state: fc.constantFrom(...finalStates),
		cause: fc.option(fc.constantFrom(...(Object.keys(causes) as (keyof typeof causes)[]))),
		exitCode: fc.option(fc.integer({ min: 0, max: 255 })),
	});
	fc.assert(
		fc.property(
			ending,
			fc.record({ tries: fc.nat(5), losses: fc.nat(5) }),
			fc.boolean(),
			fc.double({ min: 0, max: 1, noNaN: true }),
			(end, counts, cancelled, chance) => {
				const { tries } = counts;
				const next = afterAttempt(
					end,
					policy({ idempotent: tries % 2 === 0 }),
					counts,
					cancelled,
					chance,
				);
				expect(canMove('running', next.to)).toBe(true);
				if (cancelled) expect(isFinal(next.to)).toBe(true);
				const lost = afterLoss(policy({ onLoss: { waitMs: 0, then: 'retry' } }), tries, cancelled);
				expect(canMove('running', lost.to)).toBe(true);
			},
		),
	);
});

test('a higher priority goes first, and ten minutes of waiting are worth one level', () => {
	const at = 1_000_000_000;
	expect(rank(at, 'high')).toBeLessThan(rank(at, 'normal'));
	expect(rank(at - 600_001, 'low')).toBeLessThan(rank(at, 'normal'));
	expect(rank(at - 599_999, 'low')).toBeGreaterThan(rank(at, 'normal'));
});

test('nothing ever ages into critical', () => {
	fc.assert(
		fc.property(
			fc.nat(4e12),
			fc.nat(4e12),
			fc.constantFrom(...priorities.slice(1)),
			(a, b, priority) => {
				expect(rank(a, 'critical')).toBeLessThan(rank(b, priority));
			},
		),
	);
});

test('priorities are taken as names and as numbers 3…0', () => {
	expect([3, 2, 1, 0].map(priorityOf)).toEqual(priorities);
	expect(priorityOf(undefined)).toBe('normal');
});

test('equal wishes share a lane whatever order they were written in, and a lane gives its rule back', () => {
	const a = ruleOf(
		{ labels: { site: 'berlin', os: 'linux' }, capabilities: ['gpu', 'docker', 'gpu'] },
		undefined,
	);
	const b = ruleOf(
		{ capabilities: ['docker', 'gpu'], labels: { os: 'linux', site: 'berlin' } },
		undefined,
	);
	expect(laneKey(a)).toBe(laneKey(b));
	expect(laneRule(laneKey(a))).toEqual(a);
	expect(laneKey(ruleOf({}, 'robot'))).not.toBe(laneKey(ruleOf({}, undefined)));
});

test('a robot that does not fit is told apart by the rule that excludes it', () => {
	const robot = {
		robotId: 'r',
		labels: { site: 'berlin' },
		capabilities: ['docker'],
		clients: ['a'],
	};
	expect(misfit(ruleOf({ labels: { site: 'berlin' } }, undefined), robot)).toBeUndefined();
	expect(misfit(ruleOf({ labels: { site: 'rome' } }, undefined), robot)?.text).toBe(
		'has the label site=berlin, not site=rome',
	);
	expect(misfit(ruleOf({ labels: { os: 'linux' } }, undefined), robot)?.text).toBe(
		'has no label os=linux',
	);
	expect(misfit(ruleOf({ capabilities: ['gpu'] }, undefined), robot)?.text).toBe(
		'lacks the capability gpu',
	);
	expect(misfit(ruleOf({}, 'another'), robot)?.text).toBe('is another robot');
	expect(misfit(ruleOf({ client: 'a' }, undefined), robot)).toBeUndefined();
	expect(misfit(ruleOf({ client: 'b' }, 'r'), robot)?.text).toBe('has no client b');
});

test('jobs for one client have a lane of their own, and those for any keep the lane they had', () => {
	const one = ruleOf({ labels: { os: 'linux' }, client: 'a' }, 'r');
	expect(laneRule(laneKey(one))).toEqual(one);
	expect(laneKey(one)).not.toBe(laneKey(ruleOf({ labels: { os: 'linux' } }, 'r')));
	// As it lies in the stores of before.
	expect(laneKey(ruleOf({ labels: { os: 'linux' } }, 'r'))).toBe('["r",{"os":"linux"},[]]');
	expect(describeRule(one)).toBe('robot r, label os=linux, client a');
});

test('a slip of the hand is recognized, another word is not', () => {
	const known = ['phone', 'tablet', 'emulator-5554'];
	expect(nearest('fone', known)).toBeUndefined();
	expect(nearest('phnoe', ['phones', 'tablet'])).toBeUndefined();
	expect(nearest('phoneX', known)).toBe('phone');
	expect(nearest('Tablet', known)).toBe('tablet');
	expect(nearest('emulator-5556', known)).toBe('emulator-5554');
	expect(nearest('car', known)).toBeUndefined();
});

test('back-off doubles up to its limit, and jitter stays inside its share', () => {
	const steady = { ...retryDefaults, jitter: 0 };
	expect([1, 2, 3, 20].map((tries) => delayMs(steady, tries, 0.5))).toEqual([
		1_000, 2_000, 4_000, 60_000,
	]);
	expect(delayMs(retryDefaults, 1, 0)).toBe(800);
	expect(delayMs(retryDefaults, 1, 1)).toBe(1_200);
	const many = { ...steady, factor: 100 };
	expect(delayMs(many, 1_000, 0.5)).toBe(60_000);
	expect(delayMs({ ...many, initialDelayMs: 0 }, 1_000, 0.5)).toBe(0);
});

test('only listed causes and exit codes are tried again; an idempotent job is for any cause', () => {
	const end = (exitCode: number) => ({ state: 'failed', cause: 'exit_code', exitCode }) as const;
	expect(afterAttempt(end(75), policy(), { tries: 1, losses: 0 }, false, 0.5).to).toBe('pending');
	expect(afterAttempt(end(3), policy(), { tries: 1, losses: 0 }, false, 0.5).to).toBe('failed');
	expect(
		afterAttempt(end(3), policy({ idempotent: true }), { tries: 1, losses: 0 }, false, 0.5).to,
	).toBe('pending');
	expect(afterAttempt(end(75), policy(), { tries: 3, losses: 0 }, false, 0.5).to).toBe('failed');
	const unknown = { state: 'failed', cause: 'unknown', exitCode: null } as const;
	expect(afterAttempt(unknown, policy(), { tries: 1, losses: 0 }, false, 0.5)).toEqual({
		to: 'failed',
		cause: 'unknown',
	});
});

test('a job that was stopped at its deadline has ended, however it may be tried again', () => {
	const late = { state: 'timeout', cause: 'deadline', exitCode: null } as const;
	const listed = { retry: { ...retryDefaults, on: ['deadline'] } };
	for (const more of [{ idempotent: true }, listed]) {
		expect(afterAttempt(late, policy(more), { tries: 1, losses: 0 }, false, 0.5)).toEqual({
			to: 'timeout',
			cause: 'deadline',
		});
	}
});

test('an end that nobody can know is a loss, and the policy for losses decides', () => {
	const unknown = { state: 'failed', cause: 'unknown', exitCode: null } as const;
	const after = (more: Partial<Policy>, tries: number, losses: number) => {
		const next = afterAttempt(unknown, policy(more), { tries, losses }, false, 0.5);
		return next.to === 'pending' ? 'again' : next.cause;
	};
	const retry = { onLoss: { waitMs: 0, then: 'retry' } } as const;
	expect([1, 2, 3].map((losses) => after(retry, 0, losses))).toEqual([
		'again',
		'again',
		'robot_lost',
	]);
	expect(after({ onLoss: { waitMs: 0, then: 'fail' } }, 0, 1)).toBe('robot_lost');
	expect(after({}, 0, 1)).toBe('unknown');
	expect(after({ idempotent: true }, 0, 1)).toBe('again');
	expect(after({ idempotent: true }, 2, 1)).toBe('unknown');
	const listed = { retry: { ...retryDefaults, on: ['unknown'], maxAttempts: 1 } };
	expect(after(listed, 0, 1)).toBe('unknown');
	const cancelled = afterAttempt(unknown, policy(retry), { tries: 0, losses: 1 }, true, 0.5);
	expect(cancelled).toEqual({ to: 'failed', cause: 'unknown' });
});

test('three losses are enough', () => {
	const retry = policy({ onLoss: { waitMs: 0, then: 'retry' } });
	expect([1, 2, 3].map((losses) => afterLoss(retry, losses, false).to)).toEqual([
		'pending',
		'pending',
		'failed',
	]);
});

test('a result written as text is read back whole, and an ordinary one is short', () => {
	const text = fc.string();
	const results = fc.record({
		exitCode: fc.option(fc.integer()),
		signal: fc.option(text),
		stdout: text,
		stderr: text,
		truncated: fc.boolean(),
		outputs: fc.dictionary(fc.stringMatching(/^[a-z]+$/), fc.integer()),
		durationMs: fc.nat(),
		error: fc.option(fc.record({ type: text, message: text })),
		processGone: fc.boolean(),
	});
	fc.assert(fc.property(results, (result) => expect(resultOf(resultText(result))).toEqual(result)));
	expect(resultText({ ...resultOf('{}'), durationMs: 7 })).toBe('{"durationMs":7}');
});

test('share keys are served in turn however many jobs each has, and urgency still goes first', () => {
	const shares = new Shares();
	const queues = {
		crowd: Array.from({ length: 90 }, (_, i) => ({ id: `c${i}`, rank: i, shareKey: 'crowd' })),
		ana: Array.from({ length: 30 }, (_, i) => ({ id: `a${i}`, rank: 500 + i, shareKey: 'ana' })),
	};
	for (const key of Object.keys(queues)) shares.join(key);
	const served: string[] = [];
	while (queues.ana.length > 0) {
		const heads = [queues.crowd[0]!, queues.ana[0]!];
		const best = shares.before(heads[1]!, heads[0]!) ? heads[1]! : heads[0]!;
		served.push(best.shareKey);
		queues[best.shareKey as 'ana'].shift();
		shares.served(best.shareKey);
	}
	// Never more than one turn apart while both wait.
	for (let n = 1; n <= served.length; n += 1) {
		const ana = served.slice(0, n).filter((key) => key === 'ana').length;
		expect(Math.abs(n - 2 * ana)).toBeLessThanOrEqual(1);
	}
	const urgent = { id: 'u', rank: rank(0, 'critical'), shareKey: 'crowd' };
	expect(shares.before(urgent, { id: 'x', rank: rank(0, 'normal'), shareKey: 'ana' })).toBe(true);
});

test('who was away earns no credit: a share key that comes back starts level with the others', () => {
	const shares = new Shares();
	shares.join('busy');
	for (let i = 0; i < 100; i += 1) shares.served('busy');
	shares.join('back');
	shares.served('back');
	shares.served('back');
	expect(
		shares.before({ id: '1', rank: 9, shareKey: 'busy' }, { id: '2', rank: 1, shareKey: 'back' }),
	).toBe(true);
});
