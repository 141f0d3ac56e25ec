/**
 * How the last tries of a robot came out, newest last, one letter each. A try counts when it came to an end of its own:
 * one that was refused, never started or asked to end has shown nothing.
 */
import type { Cause, RobotRecord } from '../../protocol';

const kept = 50;
const letters = { completed: 'c', failed: 'f', lost: 'l' } as const;
type Came = keyof typeof letters;

/** `outcome` as attempts have it. Undefined = it does not count. */
export function cameTo(outcome: string, cause: Cause | null): Came | undefined {
	switch (outcome) {
		case 'completed':
			return 'completed';
		case 'failed':
		case 'timeout':
			// Its robot itself says that nobody can know.
			return cause === 'unknown' ? 'lost' : 'failed';
		case 'lost':
			return 'lost';
		default:
			return undefined;
	}
}

export function withTry(recent: string, came: Came | undefined): string {
	return came === undefined ? recent : (recent + letters[came]).slice(-kept);
}

export function recordOf(recent: string): RobotRecord {
	const count = (came: Came) => recent.split(letters[came]).length - 1;
	const completed = count('completed');
	const successPercent =
		recent === '' ? null : Math.round((completed / recent.length) * 1_000) / 10;
	return { completed, failed: count('failed'), lost: count('lost'), successPercent };
}

/** What the store remembers of the last try of a job that has ended; nulls = it had none. */
export interface Ended {
	id: string;
	robotId: string | null;
	outcome: string | null;
	cause: Cause | null;
}

/**
 * By robot, newest last. Each list has the newest `limit` jobs of one final state, newest first. Past the point where
 * one of them was cut off, the others are ignored too: a share of completed jobs from another time than that of the
 * failed ones would be a lie.
 */
export function recentByRobot(lists: readonly Ended[][], limit: number): Map<string, string> {
	const from = lists
		.map((list) => (list.length < limit ? '' : list.at(-1)!.id))
		.reduce((latest, id) => (id > latest ? id : latest), '');
	const all = lists
		.flat()
		.filter(({ id }) => id >= from)
		.sort((a, b) => (a.id < b.id ? -1 : 1));
	const found = new Map<string, string>();
	for (const { robotId, outcome, cause } of all) {
		if (robotId === null || outcome === null) continue;
		found.set(robotId, withTry(found.get(robotId) ?? '', cameTo(outcome, cause)));
	}
	return found;
}
