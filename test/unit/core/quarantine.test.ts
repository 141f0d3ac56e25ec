import {
	blameOf,
	countOf,
	excused,
	mayPutAway,
	oneLine,
	probeAfterMs,
	reasonOf,
	type Strike,
	withStrike,
} from '../../../dispatcher/core/quarantine';
import { limits } from '../../../protocol';

const strike = (work: string, more: Partial<Strike> = {}): Strike => ({
	work,
	at: 0,
	cause: 'infrastructure',
	text: `${work} failed`,
	...more,
});

test('what a program does is no fault of its robot: it shows that the robot can work', () => {
	for (const cause of [null, 'exit_code', 'signal', 'run_timeout', 'policy'] as const) {
		expect(blameOf(cause, 'whatever')).toBe('works');
	}
});

test('what keeps a robot from starting programs, or loses them, is its own fault', () => {
	expect(blameOf('infrastructure', 'no keeper')).toEqual({
		cause: 'infrastructure',
		text: 'no keeper',
	});
	expect(blameOf('unknown', 'lost sight')).toMatchObject({ cause: 'unknown' });
	for (const code of ['EAGAIN', 'ENOMEM', 'ENOSPC', 'EMFILE']) {
		expect(blameOf('spawn_error', `"sh" could not be started: spawn ${code}.`)).toMatchObject({
			cause: 'spawn_error',
		});
	}
});

test('a program or a folder that is not there is the mistake of the job, and says nothing of its robot', () => {
	expect(
		blameOf('spawn_error', 'This robot has no program "sl" (looked in PATH).'),
	).toBeUndefined();
	expect(
		blameOf('spawn_error', 'The folder "/x" cannot be used on this robot (ENOENT).'),
	).toBeUndefined();
	for (const cause of ['cancelled', 'invalid', 'deadline', 'denied', 'robot_lost'] as const) {
		expect(blameOf(cause, '')).toBeUndefined();
	}
});

test('a job counts once, however often it is tried', () => {
	let strikes: Strike[] = [];
	for (let i = 0; i < 5; i += 1) strikes = withStrike(strikes, strike('a'));
	expect(countOf(strikes)).toBe(1);
	expect(countOf(withStrike(strikes, strike('b')))).toBe(2);
});

test('what struck elsewhere, too, does not count', () => {
	const strikes = [strike('a'), strike('b')];
	const left = excused(strikes, 'a')!;
	expect(countOf(left)).toBe(1);
	expect(excused(left, 'a')).toBeUndefined();
	expect(excused(left, 'never seen')).toBeUndefined();
});

test('at most half of the robots are put away, and one at least', () => {
	expect([1, 2, 3, 4, 9].map((robots) => mayPutAway(robots, 0))).toEqual(Array(5).fill(true));
	expect([1, 2, 3].map((robots) => mayPutAway(robots, 1))).toEqual([false, false, false]);
	expect([4, 5].map((robots) => mayPutAway(robots, 1))).toEqual([true, true]);
	expect([4, 5, 6].map((robots) => mayPutAway(robots, 2))).toEqual([false, false, true]);
});

test('probes come at growing intervals, up to an hour', () => {
	const intervals = [0, 1, 2, 3, 10, 1_000].map(probeAfterMs);
	expect(intervals).toEqual([60_000, 120_000, 240_000, 480_000, 3_600_000, 3_600_000]);
	expect(Math.max(...intervals)).toBe(limits.probeMaxMs);
});

test('a reason is one line, and not endless', () => {
	const text = oneLine(`first\nsecond\t ${'x'.repeat(500)}.`);
	expect(text).toMatch(/^first second x+…$/);
	expect(text).toHaveLength(300);
	expect(reasonOf([strike('a'), strike('b', { text: 'no space left on device.' })])).toBe(
		"2 jobs in a row failed for reasons of the robot's own, the last one: no space left on device",
	);
});
