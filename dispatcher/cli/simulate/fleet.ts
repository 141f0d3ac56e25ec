/**
 * The simulated robots of one run: they join a few at a time with one token, and are removed when the run is over. What a
 * killed run leaves behind carries the label `simulated`, and `simulate clear` removes it.
 */
import type { FleetClient } from '../../../client';
import { Problem, type Robot, simulatedLabel } from '../../../protocol';
import type { Address } from '../transport';
import { type Casting, castOf, marks } from './cast';
import { SimulatedRobot, type Wire } from './robot';
import type { Stage } from './stage';
import { Tally } from './tally';
import { Timetable } from './timetable';
import type { Play } from './work';

/** Calls under way at once. */
const together = 8;
const tokenMs = 3_600_000;
/** How long the service may take for the last results. */
const lastWordsMs = 15_000;
const lookMs = 50;

export interface FleetParts {
	casting: Casting;
	play: Play;
	wire: Wire;
	client: FleetClient;
	address: Address;
	version: string;
	stage: Stage;
	/** Wall time. */
	now(): number;
}

export class SimulatedFleet {
	readonly tally = new Tally();
	readonly robots: readonly SimulatedRobot[];
	readonly #parts: FleetParts;
	readonly #timetable: Timetable;
	/** Aborted, with the reason, when there is no point in going on. */
	readonly #refused = new AbortController();
	#changed = () => {};

	constructor(parts: FleetParts) {
		const { casting, play, wire, address, version, stage, now } = parts;
		this.#parts = parts;
		this.#timetable = new Timetable(stage);
		this.robots = castOf(casting).map(
			(role) =>
				new SimulatedRobot({
					role,
					seed: casting.seed,
					play,
					wire,
					address,
					version,
					takeAny: casting.takeAny,
					timetable: this.#timetable,
					tally: this.tally,
					now,
					onLive: () => this.#changed(),
					onRefused: (problem) => this.#refused.abort(problem),
				}),
		);
	}

	/** Aborted, with the reason, when the service does not take such robots. */
	get refused(): AbortSignal {
		return this.#refused.signal;
	}

	/** Enrols and connects all of them; resolves when each has been registered once, or when `over` ends it early. */
	async join(over: AbortSignal): Promise<void> {
		const { client, casting } = this.#parts;
		const token = await client.createToken({
			uses: this.robots.length,
			ttlMs: tokenMs,
			labels: marks(casting),
		});
		let enrolled = 0;
		try {
			await inParallel(this.robots, async (robot) => {
				if (over.aborted || this.refused.aborted) return;
				await robot.enrol(token.token);
				enrolled += 1;
				robot.dial();
			});
		} finally {
			// Nobody needs what is left of it.
			if (enrolled < this.robots.length) await quietly(client.revokeToken(token.tokenId));
		}
		await this.#all((robot) => robot.isLive, over);
		this.refused.throwIfAborted();
	}

	/**
	 * Ends what they do, waits a little for the service to take it, and removes them unless they are to stay. Answers how
	 * many could not be removed.
	 */
	async leave(keep: boolean): Promise<number> {
		const { client, stage } = this.#parts;
		for (const robot of this.robots) robot.leave();
		const until = stage.monotonic() + lastWordsMs;
		while (this.robots.some((robot) => !robot.isDone) && stage.monotonic() < until) {
			await stage.sleep(lookMs);
		}
		let left = 0;
		if (!keep) {
			const ids = this.robots.flatMap(({ robotId }) => robotId ?? []);
			left = await removeRobots(client, ids);
		}
		for (const robot of this.robots) robot.end();
		this.#timetable.clear();
		return left;
	}

	async #all(is: (robot: SimulatedRobot) => boolean, over: AbortSignal): Promise<void> {
		const stop = new Promise<void>((resolve) => {
			for (const signal of [over, this.refused]) {
				if (signal.aborted) resolve();
				else signal.addEventListener('abort', () => resolve(), { once: true });
			}
		});
		const seen = new Set<SimulatedRobot>();
		const here = new Promise<void>((resolve) => {
			this.#changed = () => {
				// A robot that was live before the others counts, even if its line has been cut by then.
				for (const robot of this.robots) if (is(robot)) seen.add(robot);
				if (seen.size === this.robots.length) resolve();
			};
			this.#changed();
		});
		await Promise.race([stop, here]);
		this.#changed = () => {};
	}
}

/** Robots that carry the mark; unless `connected`, only those that are away. */
export function leftBehind(robots: readonly Robot[], connected: boolean): Robot[] {
	return robots.filter(
		({ labels, connected: isHere }) => labels[simulatedLabel] === 'true' && (connected || !isHere),
	);
}

/** Answers how many are still there. */
export async function removeRobots(client: FleetClient, ids: readonly string[]): Promise<number> {
	let left = 0;
	await inParallel(ids, async (id) => {
		try {
			await client.removeRobot(id);
		} catch (error) {
			if (!(error instanceof Problem)) throw error;
			if (error.code !== 'no-such-robot') left += 1;
		}
	});
	return left;
}

/** Once one fails, no other is begun; those begun are over when this throws. */
async function inParallel<T>(items: readonly T[], deed: (item: T) => Promise<void>): Promise<void> {
	const left = items.values();
	const failures: unknown[] = [];
	const one = async () => {
		for (const item of left) {
			if (failures.length > 0) return;
			try {
				await deed(item);
			} catch (error) {
				failures.push(error);
			}
		}
	};
	await Promise.all(Array.from({ length: together }, one));
	if (failures.length > 0) throw failures[0];
}

async function quietly(deed: Promise<unknown>): Promise<void> {
	await deed.catch(() => undefined);
}
