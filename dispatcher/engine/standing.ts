/**
 * Whether a robot gets jobs: changed in memory when the turn is planned and undone when its commit fails, so that the
 * same turn gives nothing more to a robot that it closes, and memory follows the order of the commits.
 */
import { type EventKind, Problem } from '../../protocol';
import type { StoredEvent, StoredRobot } from '../store/store';
import type { Context } from './context';
import type { RobotEntry } from './fleet';
import type { Turn } from './turns';

export type Standing = Pick<StoredRobot, 'closed' | 'quarantine' | 'strikes' | 'presence'>;

/** A kind of event is also what subscriptions find it by. */
export function robotEvent<D extends object>(
	type: Extract<EventKind, `robot.${string}`>,
	at: number,
	data: D,
): Omit<StoredEvent, 'cursor'> {
	return { at, type, subject: type, data: JSON.stringify(data) };
}

export function stand(
	{ fleet, watchers }: Context,
	turn: Turn,
	entry: RobotEntry,
	change: Partial<Standing>,
	event: Omit<StoredEvent, 'cursor'> | undefined,
	done: () => void = () => undefined,
): void {
	const before: Partial<Standing> = {};
	for (const name of Object.keys(change) as (keyof Standing)[]) before[name] = entry.stored[name];
	const put = (values: Partial<Standing>) => {
		entry.stored = { ...entry.stored, ...values };
		if (fleet.get(entry.robotId) === entry) fleet.review(entry);
	};
	put(change);
	turn.undo.push(() => put(before));
	turn.add('changeRobot', { id: entry.robotId, ...change, ...(event && { event }) }, () => {
		if (event) watchers.hint('events', event.type);
		watchers.hint('robot', entry.robotId);
		done();
	});
}

/** One piece of work on a robot that is, and stays, enrolled; answers when what it did is on disk. */
export async function onRobot(
	{ fleet, turns }: Context,
	entry: RobotEntry,
	work: (turn: Turn, done: () => void) => void,
): Promise<void> {
	const isThere = () => fleet.get(entry.robotId) === entry;
	await new Promise<void>((resolve, reject) => {
		turns.push({
			plan: (turn) => {
				if (isThere()) work(turn, resolve);
				else resolve();
			},
			fail: reject,
		});
	});
	if (!isThere()) throw new Problem('no-such-robot', { id: entry.stored.name });
}
