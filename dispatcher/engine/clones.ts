/**
 * Who else came with a robot's key. A key is proved by whoever has a copy of the data folder, so two
 * machines, or two agents, may prove the same one: the robot that was there first stays, the newcomer is
 * turned away, and people are told. Nothing is guessed: a robot that came back before the service knew
 * that it was gone is no clone.
 *
 * - `moved`  it came from another machine than the one the identity belongs to
 * - `twin`   it came while the robot was connected, which then answered
 */
import type { Clone } from '../../protocol';
import type { Context } from './context';
import type { RobotEntry } from './fleet';

export interface StoredClone extends Clone {
	/** The newcomer's, if it named one. */
	machine?: string;
}

export function cloneOf(stored: string | null): StoredClone | null {
	return stored === null ? null : (JSON.parse(stored) as StoredClone);
}

/** Notes that somebody came; kept over restarts. */
export function noteClone(
	{ fleet, turns, clock, log }: Context,
	{ robotId, stored }: RobotEntry,
	seen: Pick<StoredClone, 'how' | 'address' | 'machine'>,
): void {
	const before = cloneOf(stored.clone);
	const now = clock.now();
	const clone = JSON.stringify({
		...seen,
		firstAt: before?.firstAt ?? now,
		lastAt: now,
		times: (before?.times ?? 0) + 1,
	} satisfies StoredClone);
	fleet.put({ ...stored, clone });
	const { how, address } = seen;
	log.warn('somebody else came with the key of a robot: its data folder was copied', {
		robotId,
		name: stored.name,
		how,
		address,
	});
	turns
		.deed('changeRobot', { id: robotId, clone })
		.catch((error: unknown) => log.warn('a clone could not be recorded', { robotId, error }));
}
