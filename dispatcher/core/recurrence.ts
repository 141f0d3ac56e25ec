/**
 * When a schedule is due. A rule speaks of the clock on the wall and knows no zone; `Recurrence` lays it
 * over the stretches of a zone, and is the one place that knows what happens when clocks are set:
 *
 * - A rule that runs in every hour of the day runs whenever the clock shows its minute: it has no time of
 *   day that could be missing, and an hour that comes twice is two hours.
 * - Any other rule names times of day. One in a gap is shifted to the first instant after it, or skipped;
 *   one in a fold runs the first time, or both.
 *
 * No instant is due twice. `once` and `interval` are instants, and no clock on a wall concerns them.
 */
import { type CronExpression, CronExpressionParser } from 'cron-parser';
import { type PlannedMark, weekdays, type When } from '../../protocol';
import { isNth } from './blackout';
import { isZone, type Stretch, type Zone, zoneOf } from './zone';

export interface Timing {
	when: When;
	timezone: string;
	gap: 'shift' | 'skip';
	fold: 'first' | 'both';
	/** From where intervals and every n-th day, week or month are counted. */
	anchorAt: number;
	startAt?: number;
	endAt?: number;
}

export interface Planned {
	at: number;
	mark: PlannedMark | null;
}

/** Wall times, one after the other. */
interface Rule {
	everyHour: boolean;
	/** The first one after `wall`. */
	next(wall: number): number | undefined;
}

const dayMs = 86_400_000;
/** A rule that is due more seldom has ended. */
const maxDays = 366 * 60;
/** Nothing that is planned for later than this is shown. */
export const horizonMs = maxDays * dayMs;
const maxStretches = 400;

export class Recurrence {
	/** False = this Node does not know the zone, though the one that stored it did: nothing comes due. */
	readonly knowsZone: boolean;
	readonly #timing: Timing;
	readonly #zone: Zone;
	readonly #rule: Rule | undefined;

	constructor(timing: Timing) {
		this.#timing = timing;
		this.knowsZone = isZone(timing.timezone);
		this.#zone = zoneOf(this.knowsZone ? timing.timezone : 'UTC');
		this.#rule = ruleOf(timing, this.#zone);
	}

	/** The first planned instant after `at`; `undefined` = there is none. */
	after(at: number): Planned | undefined {
		if (!this.knowsZone) return undefined;
		const { startAt, endAt } = this.#timing;
		const from = startAt === undefined ? at : Math.max(at, startAt - 1);
		const found = this.#rule ? this.#onTheWall(this.#rule, from) : this.#instant(from);
		return found && found.at <= (endAt ?? Infinity) ? found : undefined;
	}

	/** The next ones after `at`, at most `count`, up to `upTo`. */
	list(at: number, count: number, upTo = Infinity): Planned[] {
		const found: Planned[] = [];
		for (let last = at; found.length < count;) {
			const next = this.after(last);
			if (!next || next.at > upTo) break;
			found.push(next);
			last = next.at;
		}
		return found;
	}

	/**
	 * The latest planned instants with `after` < at ≤ `upTo`, oldest first, at most `max`; `older` = there
	 * are more before them. Looks back over windows that double, so that a long absence costs little.
	 */
	latest(after: number, upTo: number, max: number): { planned: Planned[]; older: boolean } {
		for (let window = 1_000; ; window *= 2) {
			const from = Math.max(after, upTo - window);
			const planned: Planned[] = [];
			let dropped = false;
			for (let last = from; ;) {
				const next = this.after(last);
				if (!next || next.at > upTo) break;
				planned.push(next);
				if (planned.length > max) dropped = planned.shift() !== undefined;
				last = next.at;
			}
			if (from === after) return { planned, older: dropped };
			if (dropped) return { planned, older: true };
		}
	}

	#instant(at: number): Planned | undefined {
		const { when, anchorAt } = this.#timing;
		if (when.frequency === 'once') {
			return when.at! > at ? { at: when.at!, mark: null } : undefined;
		}
		const every = when.everyMs!;
		const passed = Math.max(0, Math.floor((at - anchorAt) / every) + 1);
		return { at: anchorAt + passed * every, mark: null };
	}

	#onTheWall(rule: Rule, at: number): Planned | undefined {
		const { gap, fold } = this.#timing;
		let stretch = this.#zone.stretchAt(at);
		let wall = rule.next(at + stretch.offset);
		for (let i = 0; i < maxStretches && wall !== undefined; i += 1) {
			const again = this.#shownBefore(stretch);
			if (wall < again && !rule.everyHour && fold === 'first') {
				wall = rule.next(again - 1);
				if (wall === undefined) return undefined;
			}
			const found = wall - stretch.offset;
			if (found < stretch.to) return { at: found, mark: wall < again ? 'repeated' : null };
			const next = this.#zone.stretchAt(stretch.to);
			const ends = stretch.to + stretch.offset;
			const begins = stretch.to + next.offset;
			if (begins > ends && wall < begins) {
				// A gap, and the time is in it.
				if (!rule.everyHour && gap === 'shift' && stretch.to > at) {
					return { at: stretch.to, mark: 'shifted' };
				}
				wall = rule.next(begins - 1);
			} else if (begins < ends) {
				wall = rule.next(begins - 1);
			}
			stretch = next;
		}
		return undefined;
	}

	/** Up to this wall time the clock has already shown what it shows in this stretch. */
	#shownBefore({ from }: Stretch): number {
		return from + this.#zone.offsetAt(from - 1);
	}
}

function ruleOf(timing: Timing, zone: Zone): Rule | undefined {
	const { when, anchorAt } = timing;
	const every = when.every ?? 1;
	const anchor = Math.floor((anchorAt + zone.offsetAt(anchorAt)) / dayMs);
	switch (when.frequency) {
		case 'once':
		case 'interval':
			return undefined;
		case 'cron':
			return cronRule(when.cron!);
		case 'hourly': {
			const hours = Array.from({ length: 24 / every }, (_, i) => i * every);
			const times = hours.map((hour) => hour * 3_600_000 + (when.minute ?? 0) * 60_000);
			return { everyHour: every === 1, next: daysRule(() => true, times) };
		}
		case 'daily':
			return named(when, (day) => (day - anchor) % every === 0);
		case 'weekly': {
			const wanted = new Set(when.weekdays!.map((name) => weekdays.indexOf(name)));
			const first = weekOf(anchor);
			return named(
				when,
				(day) => wanted.has(weekdayOf(day)) && (weekOf(day) - first) % every === 0,
			);
		}
		case 'monthly': {
			const first = monthOf(dateOf(anchor));
			return named(when, (day) => {
				const date = dateOf(day);
				return (monthOf(date) - first) % every === 0 && isMonthly(when, date);
			});
		}
	}
}

function named(when: When, matches: (day: number) => boolean): Rule {
	const times = (when.times ?? ['00:00']).map((text) => timeOf(text)!).sort((a, b) => a - b);
	return { everyHour: false, next: daysRule(matches, times) };
}

/** `02:30` or `02:30:15` as milliseconds of the day. */
export function timeOf(text: string): number | undefined {
	const found = /^([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/.exec(text);
	if (!found) return undefined;
	const [hour = 0, minute = 0, second = 0] = found.slice(1).map((part) => Number(part ?? 0));
	return ((hour * 60 + minute) * 60 + second) * 1000;
}

/** Days are counted from 1970-01-01. */
function daysRule(matches: (day: number) => boolean, times: number[]): Rule['next'] {
	return (wall) => {
		const first = Math.floor(wall / dayMs);
		for (let day = first; day < first + maxDays; day += 1) {
			if (!matches(day)) continue;
			const time = times.find((one) => day * dayMs + one > wall);
			if (time !== undefined) return day * dayMs + time;
		}
		return undefined;
	};
}

const dateOf = (day: number) => new Date(day * dayMs);
const monthOf = (date: Date) => date.getUTCFullYear() * 12 + date.getUTCMonth();
/** 1970-01-01 was a Thursday. */
const weekdayOf = (day: number) => (((day + 4) % 7) + 7) % 7;
/** Weeks begin on Monday. */
const weekOf = (day: number) => Math.floor((day + 3) / 7);

function isMonthly({ days, nth }: When, date: Date): boolean {
	if (nth) return isNth(nth, date);
	const day = date.getUTCDate();
	const length = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
	return days!.some((wanted) => day === (wanted < 0 ? length : Math.min(wanted, length)));
}

/**
 * The calendar of cron is cron-parser's business; the wall is UTC to it. What an expression leaves to chance (`H`) is
 * the same whenever it is read: else a restart would move planned times, and runs would be lost.
 */
export function parsedCron(cron: string): CronExpression {
	return CronExpressionParser.parse(cron, { tz: 'UTC', hashSeed: cron });
}

function cronRule(cron: string): Rule {
	let expression: CronExpression;
	try {
		expression = parsedCron(cron);
	} catch {
		// Refused when it is put; one that an earlier version took never comes due again, and keeps no service from starting.
		return { everyHour: false, next: () => undefined };
	}
	return {
		everyHour: expression.fields.hour.values.length === 24,
		next(wall) {
			try {
				expression.reset(new Date(wall));
				return expression.next().getTime();
			} catch {
				// It gives up after a number of steps: never due.
				return undefined;
			}
		},
	};
}
