/**
 * Tells of robots that come and go. Sockets break and agents restart all day; what is told is only that one came for
 * the first time, that it has been away for a while, and that it is back. What was last told is in the robot's row and
 * changes in the commit of its event, so a restart of the service tells nothing twice.
 *
 *   never came → here → lost → here → …
 *   connected    lost   back
 */
import type { RobotPresence } from '../../protocol';
import type { Context } from './context';
import type { Look } from './duties';
import type { RobotEntry } from './fleet';
import { robotEvent, stand } from './standing';

/** As long as a silent robot is taken for connected. */
const lostMs = 45_000;
/** How many are told of in one look: a network that is away takes all of them with it. */
const maxALook = 500;

/** What was last told of a robot. */
interface Presence {
	is: 'here' | 'lost';
	/** When that began, on the wall. */
	since: number;
}

type Told = Parameters<typeof robotEvent>[0];

export class Presences implements Look {
	readonly #context: Context;

	constructor(context: Context) {
		this.#context = context;
	}

	look(_now: number, readyAt: number): null {
		const { clock, fleet, settings } = this.#context;
		const mono = clock.monotonic();
		// As for losses: after a start, or a sleep, robots have time to come back.
		const counts = mono >= readyAt + settings.recoveryGraceMs;
		let left = maxALook;
		for (const entry of fleet.all()) {
			const { session, awaySince, stored } = entry;
			if (session) {
				if (isHere(stored.presence)) continue;
				this.#tell(entry);
			} else {
				if (!counts || mono - awaySince < lostMs || !isHere(stored.presence)) continue;
				this.#tell(entry);
			}
			if ((left -= 1) === 0) break;
		}
		return null;
	}

	/** By the time the turn is planned it may have come or gone. */
	#tell(entry: RobotEntry): void {
		const { clock, fleet, turns } = this.#context;
		turns.push({
			plan: (turn) => {
				if (fleet.get(entry.robotId) !== entry) return;
				const { session, stored, awaySince, labels, robotId } = entry;
				const before = presenceOf(stored.presence);
				if ((session !== undefined) === (before?.is === 'here')) return;
				const awayMs = clock.monotonic() - awaySince;
				if (!session && awayMs < lostMs) return;
				// One that nobody has seen since the start of the service was last seen before it.
				const wentAt = awaySince > 0 ? Math.round(turn.now - awayMs) : null;
				const since = session ? turn.now : (wentAt ?? stored.lastSeenAt ?? turn.now);
				const presence: Presence = { is: session ? 'here' : 'lost', since };
				const type: Told = !session ? 'robot.lost' : before ? 'robot.back' : 'robot.connected';
				const data: RobotPresence = {
					robotId,
					name: stored.name,
					labels,
					awaySince: session ? (before?.since ?? null) : since,
				};
				const event = robotEvent(type, turn.now, data);
				stand(this.#context, turn, entry, { presence: JSON.stringify(presence) }, event);
			},
			// The next look shows that nobody was told.
			fail: () => undefined,
		});
	}
}

/** For thousands of robots, once a second: makes no object of each. */
const isHere = (stored: string | null) => stored !== null && stored.startsWith('{"is":"here"');

function presenceOf(stored: string | null): Presence | undefined {
	return stored === null ? undefined : (JSON.parse(stored) as Presence);
}
