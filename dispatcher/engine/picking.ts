/**
 * Chooses the robot for a job: of those of its lane that are free now, the one its strategy says. The robots are
 * looked at in place; one object looks for all jobs, since nothing is awaited on the way.
 */
import type { Strategy } from '../../protocol';
import { barred } from '../core/bars';
import { choiceText, figuresText, maxOthers } from '../core/choice';
import { choose, compare, type Tally, type View } from '../core/strategy';
import type { Context } from './context';
import { loadOf, type RobotEntry } from './fleet';
import type { Lane } from './lanes';

/** What of a job matters for the choice. */
export interface Wish {
	readonly bars: string | null;
	readonly affinity: string | null;
}

const nothingYet: Wish = { bars: null, affinity: null };

export class Picking implements View<RobotEntry> {
	readonly #context: Context;
	readonly #standard: Strategy;
	// The job that is looked at.
	#lane!: Lane;
	#wish: Wish = nothingYet;
	#now = 0;
	/** Of the last `pick`. */
	readonly #tally: Tally<RobotEntry> = { compared: 0, others: [] };
	#lastTold = { strategy: '', by: '', size: 0, compared: 0, load: 0, busy: 0, text: '' };
	/** By lane and affinity key: what was found while robots are served, during which none of it changes. */
	#favourites: Map<Lane, Map<string, boolean>> | undefined;

	constructor(context: Context) {
		this.#context = context;
		this.#standard = context.settings.strategy ?? 'least_loaded';
	}

	strategyOf({ rule }: Lane): Strategy {
		return rule.strategy ?? this.#standard;
	}

	/** Whether it matters which of the free robots gets a job of this lane. */
	isChoosy(lane: Lane): boolean {
		return (
			lane.rule.robot === undefined &&
			(lane.preferred !== undefined || this.strategyOf(lane) !== 'least_loaded')
		);
	}

	/** For a lane that is not one robot's own. */
	pick(lane: Lane, wish: Wish, now: number): RobotEntry | undefined {
		const { fleet, chance } = this.#context;
		this.#lane = lane;
		this.#wish = wish;
		this.#now = now;
		this.#tally.compared = this.#tally.others.length = 0;
		const choosy = lane.preferred !== undefined;
		return choose(this.strategyOf(lane), fleet.free, this, choosy, chance, this.#tally);
	}

	/**
	 * Why the robot gets a job of this lane, for the record: by the last `pick`, or because a slot of it came free for the
	 * first in line. Call it before the slot is taken.
	 */
	told(lane: Lane, entry: RobotEntry, by: 'job' | 'slot', picked: boolean): string {
		const { compared, others } = this.#tally;
		if (!picked) return this.#plain(lane, entry, by, 1);
		const strategy = this.strategyOf(lane);
		const plain = strategy === 'least_loaded' && lane.preferred === undefined;
		if (plain && others.length === 0) return this.#plain(lane, entry, by, compared);
		const rest = others.length === 0 ? '' : this.#others(strategy, entry, others);
		return choiceText(strategy, by, lane.robots.size, compared, this.#figures(entry), rest);
	}

	/** Only how the robot stands, which is mostly the same as for the job before. */
	#plain(lane: Lane, entry: RobotEntry, by: 'job' | 'slot', compared: number): string {
		const strategy = this.strategyOf(lane);
		const { size } = lane.robots;
		const load = percent(entry);
		const busy = this.busy(entry);
		const last = this.#lastTold;
		const same =
			last.strategy === strategy &&
			last.by === by &&
			last.size === size &&
			last.compared === compared &&
			last.load === load &&
			last.busy === busy;
		if (same) return last.text;
		const text = choiceText(strategy, by, size, compared, `${load},${busy * 10}`);
		this.#lastTold = { strategy, by, size, compared, load, busy, text };
		return text;
	}

	#others(strategy: Strategy, winner: RobotEntry, others: RobotEntry[]): string {
		const choosy = this.#lane.preferred !== undefined;
		return others
			.filter((other) => other !== winner)
			.sort((a, b) => compare(strategy, this, choosy, a, b))
			.slice(0, maxOthers)
			.map((other) => `,[${JSON.stringify(other.robotId)},${this.#figures(other)}]`)
			.join('');
	}

	#figures(entry: RobotEntry): string {
		return figuresText({
			load: percent(entry),
			cpu: this.busy(entry) * 10,
			preference: this.preference(entry),
			successes: this.strategyOf(this.#lane) === 'affinity' ? this.successes(entry) : 0,
		});
	}

	/**
	 * Until when the job leaves this robot to others, because one that it would rather have may become
	 * free; 0 = it does not. `since` = when it came to be in line.
	 */
	keepsAwayUntil(lane: Lane, wish: Wish, entry: RobotEntry, since: number, now: number): number {
		const { preferWaitMs = 0 } = lane.rule;
		const until = since + preferWaitMs;
		// Somebody turned the clock back: it would wait for longer than it was told to.
		if (until <= now || until - now > preferWaitMs) return 0;
		if (this.#isFavourite(lane, wish, entry.robotId, now)) return 0;
		return this.#hasFavourite(lane, wish, now) ? until : 0;
	}

	/** From here to `served`, all in one go, no robot comes or goes. */
	serving(): void {
		this.#favourites = new Map();
	}

	served(): void {
		this.#favourites = undefined;
	}

	#isFavourite(lane: Lane, { affinity }: Wish, robotId: string, now: number): boolean {
		if ((lane.preferred?.get(robotId) ?? 0) > 0) return true;
		return (
			affinity !== null &&
			this.strategyOf(lane) === 'affinity' &&
			this.#context.affinity.successes(affinity, robotId, now) > 0
		);
	}

	/** One that is connected, and takes work. */
	#hasFavourite(lane: Lane, wish: Wish, now: number): boolean {
		if (!this.#favourites || wish.bars !== null) return this.#findFavourite(lane, wish, now);
		const key = wish.affinity ?? '';
		let ofLane = this.#favourites.get(lane);
		if (!ofLane) this.#favourites.set(lane, (ofLane = new Map()));
		let found = ofLane.get(key);
		if (found === undefined) ofLane.set(key, (found = this.#findFavourite(lane, wish, now)));
		return found;
	}

	#findFavourite(lane: Lane, wish: Wish, now: number): boolean {
		for (const robotId of lane.preferred?.keys() ?? []) {
			if (this.#mayCome(lane, wish, robotId, now)) return true;
		}
		if (wish.affinity === null) return false;
		for (const robotId of this.#context.affinity.robots(wish.affinity)) {
			if (this.#mayCome(lane, wish, robotId, now)) return true;
		}
		return false;
	}

	#mayCome(lane: Lane, wish: Wish, robotId: string, now: number): boolean {
		const { fleet } = this.#context;
		const entry = lane.robots.has(robotId) ? fleet.get(robotId) : undefined;
		return (
			entry !== undefined &&
			fleet.isOpen(entry) &&
			!barred(wish.bars, robotId, now, lane.robots) &&
			this.#isFavourite(lane, wish, robotId, now)
		);
	}

	free(entry: RobotEntry): boolean {
		const { robots, rule } = this.#lane;
		if (!robots.has(entry.robotId)) return false;
		if (rule.slots !== undefined && !this.#context.fleet.fits(entry, rule.slots)) return false;
		if (rule.client !== undefined && !this.#context.fleet.hasClient(entry, rule.client))
			return false;
		const { bars } = this.#wish;
		return bars === null || !barred(bars, entry.robotId, this.#now, robots);
	}

	load(entry: RobotEntry): number {
		return loadOf(entry);
	}

	busy({ session }: RobotEntry): number {
		return session === undefined ? 0 : session.busy;
	}

	preference({ robotId }: RobotEntry): number {
		return this.#lane.preferred?.get(robotId) ?? 0;
	}

	turn(entry: RobotEntry): number {
		return entry.turn;
	}

	successes({ robotId }: RobotEntry): number {
		const { affinity } = this.#wish;
		if (affinity === null) return 0;
		return this.#context.affinity.successes(affinity, robotId, this.#now);
	}
}

const percent = (entry: RobotEntry) => Math.round(loadOf(entry) * 100);
