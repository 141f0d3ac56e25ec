/**
 * The lanes with something to do, found by the robots that may serve them. While there are few, a robot looks at all of
 * them. When there are many, most fit only some robots each, and are listed with those; what a robot costs then follows
 * the lanes that it may serve.
 */
import type { Lane } from './lanes';

/** Up to this many are quicker looked at than listed. */
const few = 32;

export class WaitingLanes {
	readonly #all = new Set<Lane>();
	/** Not listed by robots: every robot looks at these. */
	readonly #common = new Set<Lane>();
	readonly #byRobot = new Map<string, Set<Lane>>();
	/** How many of them are not for a single robot. */
	#shared = 0;

	get all(): ReadonlySet<Lane> {
		return this.#all;
	}

	/** `fleet` = robots there are. */
	add(lane: Lane, fleet: number): void {
		if (this.#all.has(lane)) return;
		this.#all.add(lane);
		const { robot } = lane.rule;
		if (robot !== undefined) return this.#list(lane, robot);
		this.#shared += 1;
		// A lane that most robots may serve would be in most lists.
		if (this.#shared <= few || 2 * lane.robots.size > fleet) this.#common.add(lane);
		else for (const robotId of lane.robots) this.#list(lane, robotId);
	}

	delete(lane: Lane): void {
		if (!this.#all.delete(lane)) return;
		const { robot } = lane.rule;
		if (robot !== undefined) return this.#strike(lane, robot);
		this.#shared -= 1;
		if (this.#common.delete(lane)) return;
		for (const robotId of lane.robots) this.#strike(lane, robotId);
	}

	/** The robot may serve the lane from now on. */
	joined(lane: Lane, robotId: string): void {
		if (this.#isListed(lane)) this.#list(lane, robotId);
	}

	left(lane: Lane, robotId: string): void {
		if (this.#isListed(lane)) this.#strike(lane, robotId);
	}

	/** Whether a look at its lanes could find anything. */
	mayServe(robotId: string): boolean {
		return this.#common.size > 0 || this.#byRobot.has(robotId);
	}

	*of(robotId: string): Generator<Lane, void> {
		for (const lane of this.#byRobot.get(robotId) ?? []) if (lane.robots.has(robotId)) yield lane;
		for (const lane of this.#common) if (lane.robots.has(robotId)) yield lane;
	}

	/** With the robots that fit it; one that is for a single robot stays with that. */
	#isListed(lane: Lane): boolean {
		return lane.rule.robot === undefined && this.#all.has(lane) && !this.#common.has(lane);
	}

	#list(lane: Lane, robotId: string): void {
		const lanes = this.#byRobot.get(robotId);
		if (lanes) lanes.add(lane);
		else this.#byRobot.set(robotId, new Set([lane]));
	}

	#strike(lane: Lane, robotId: string): void {
		const lanes = this.#byRobot.get(robotId);
		if (lanes?.delete(lane) && lanes.size === 0) this.#byRobot.delete(robotId);
	}
}
