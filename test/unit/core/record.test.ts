import {
	cameTo,
	type Ended,
	recentByRobot,
	recordOf,
	withTry,
} from '../../../dispatcher/core/record';

test('tries count by how they came out, and those that showed nothing do not count', () => {
	expect(cameTo('completed', null)).toBe('completed');
	expect(cameTo('failed', 'exit_code')).toBe('failed');
	expect(cameTo('timeout', 'run_timeout')).toBe('failed');
	expect(cameTo('failed', 'unknown')).toBe('lost');
	expect(cameTo('lost', 'robot_lost')).toBe('lost');
	for (const outcome of ['cancelled', 'refused', 'not-started', 'forced', 'restored']) {
		expect(cameTo(outcome, null)).toBeUndefined();
	}
});

test('the share is of all that counted, and only the last fifty do', () => {
	expect(recordOf('')).toEqual({ completed: 0, failed: 0, lost: 0, successPercent: null });
	let recent = '';
	for (const came of ['completed', 'completed', 'failed', 'lost', undefined] as const) {
		recent = withTry(recent, came);
	}
	expect(recordOf(recent)).toEqual({ completed: 2, failed: 1, lost: 1, successPercent: 50 });
	for (let i = 0; i < 49; i += 1) recent = withTry(recent, 'failed');
	expect(recordOf(recent)).toEqual({ completed: 0, failed: 49, lost: 1, successPercent: 0 });
});

test('after a start the record is that of the newest jobs, from one time for all states', () => {
	const ended = (id: number, outcome: string | null, robotId: string | null = 'r'): Ended => ({
		id: `0${id}`,
		robotId,
		outcome,
		cause: null,
	});
	// Cut off at three: what failed before job 5 is known, what completed before it is not.
	const completed = [ended(9, 'completed'), ended(7, 'completed', 's'), ended(5, 'completed')];
	const failed = [ended(8, 'failed'), ended(2, 'failed')];
	const found = recentByRobot([completed, failed, [ended(6, null, null)]], 3);
	expect(Object.fromEntries(found)).toEqual({ r: 'cfc', s: 'c' });
	const all = recentByRobot([completed, failed], 4);
	expect(Object.fromEntries(all)).toEqual({ r: 'fcfc', s: 'c' });
});
